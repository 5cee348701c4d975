"""The ``.sens`` reader against recordings built byte by byte from the format."""

import itertools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from support import refused

from spacer_lib.rooms.scannet.sens import IMU_BYTES, SensReader

LOST = np.full((4, 4), -np.inf)
DEPTH = np.arange(12, dtype="<u2").reshape(3, 4) * 500  # 4 wide, 3 high


def pose(x):
    T = np.eye(4)
    T[0, 3] = x
    return T


def recording(
    frames,
    *,
    version=4,
    color=2,
    depth=1,
    sizes=(6, 4, 4, 3),
    shift=1000.0,
    count=None,
):
    """Bytes of a recording; ``frames`` holds (pose, jpeg bytes, depth bytes)."""
    data = struct.pack("<I", version) + struct.pack("<Q", 4) + b"test"
    for scale in (1.0, 2.0, 3.0, 4.0):
        data += struct.pack("<16f", *(scale * np.eye(4)).ravel())
    data += struct.pack("<ii", color, depth) + struct.pack("<IIII", *sizes)
    data += struct.pack("<f", shift)
    data += struct.pack("<Q", len(frames) if count is None else count)
    for number, (T, jpeg, image) in enumerate(frames):
        data += struct.pack("<16f", *T.ravel()) + struct.pack("<QQ", number, 7)
        data += struct.pack("<QQ", len(jpeg), len(image)) + jpeg + image
    return data + struct.pack("<Q", 0)


FRAMES = [
    (pose(0.0), b"first", zlib.compress(DEPTH.tobytes())),
    (LOST, b"second!", zlib.compress(DEPTH.tobytes())),
    (pose(2.0), b"3", zlib.compress(DEPTH[::-1].tobytes())),
]


@pytest.fixture
def sens(tmp_path):
    """Write bytes as a recording and return its path."""

    def write(data):
        path = tmp_path / "scene0000_00.sens"
        path.write_bytes(data)
        return path

    return write


def drain(path):
    with SensReader(path) as reader:
        return [(frame, frame.depth_m()) for frame in reader]


def test_header(sens):
    with SensReader(sens(recording(FRAMES))) as reader:
        assert reader.sensor_name == "test"
        assert reader.color_size == (6, 4) and reader.depth_size == (4, 3)
        assert reader.depth_shift == 1000 and reader.frame_count == 3
        for scale, matrix in enumerate(
            (
                reader.color_intrinsic,
                reader.color_extrinsic,
                reader.depth_intrinsic,
                reader.depth_extrinsic,
            ),
            start=1,
        ):
            np.testing.assert_array_equal(matrix, scale * np.eye(4))


def test_frames_come_in_order_and_lost_poses_stay(sens):
    with SensReader(sens(recording(FRAMES))) as reader:
        frames = list(reader)
        assert [f.index for f in frames] == [0, 1, 2]
        assert [f.jpeg for f in frames] == [b"first", b"second!", b"3"]
        assert [f.color_time_us for f in frames] == [0, 1, 2]
        assert [f.depth_time_us for f in frames] == [7, 7, 7]
        assert frames[1].T_scan_from_camera is None
        np.testing.assert_array_equal(frames[2].T_scan_from_camera, pose(2.0))
        # 500 units of a millimetre each: row 0 is 0, 0.5, 1, 1.5 m.
        depth = frames[0].depth_m()
        assert depth.dtype == np.float32 and depth.shape == (3, 4)
        np.testing.assert_allclose(depth[0], [0, 0.5, 1, 1.5])
        # A second pass starts over.
        assert [f.jpeg for f in reader] == [b"first", b"second!", b"3"]


@pytest.mark.parametrize("bad", [np.full((4, 4), np.nan), np.diag([0.0, 1, 1, 1])])
def test_other_invalid_poses(sens, bad):
    path = sens(recording([(bad, b"x", FRAMES[0][2])]))
    assert drain(path)[0][0].T_scan_from_camera is None


def test_raw_depth(sens):
    path = sens(recording([(pose(0), b"x", DEPTH.tobytes())], depth=0))
    np.testing.assert_allclose(drain(path)[0][1], DEPTH / 1000)


def test_poses_come_without_their_images(sens):
    data = recording([(T, b"jpeg", b"not zlib") for T, *_ in FRAMES])
    with SensReader(sens(data)) as reader:
        poses = list(reader.poses())
        assert [index for index, _ in poses] == [0, 1, 2]
        assert poses[1][1] is None
        np.testing.assert_array_equal(poses[2][1], pose(2.0))
        # Two passes at once do not disturb each other.
        pairs = list(zip(reader, reader.poses(), strict=True))
        assert [(f.index, f.jpeg) for f, _ in pairs] == [(i, b"jpeg") for i in range(3)]


def peak_bytes(path, walk):
    """Peak memory of a pass, and the number of its frames."""
    with SensReader(path) as reader:
        tracemalloc.start()
        count = sum(1 for _ in walk(reader))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, count


@pytest.mark.parametrize("walk", [iter, SensReader.poses])
def test_memory_does_not_grow_with_the_recording(sens, walk):
    peaks = []
    for count in (40, 400):  # 2 and 20 MB
        frames = [(pose(0), bytes(50_000), FRAMES[0][2])] * count
        path = sens(recording(frames, sizes=(320, 240, 4, 3)))
        peak, met = peak_bytes(path, walk)
        assert met == count and peak < 500_000
        peaks.append(peak)
    # Python keeps some freed tuples for reuse: far less than the 18 MB in between.
    assert abs(peaks[1] - peaks[0]) < 200_000


# --- broken files


def test_a_missing_file(tmp_path):
    with refused("rooms.no-recording", says="nowhere.sens"):
        drain(tmp_path / "nowhere.sens")


@pytest.mark.parametrize(
    ("change", "fault", "says"),
    [
        ({"version": 3}, "version", "version 3"),
        ({"depth": 2}, "compression", "frame 0, depth: got compression 2"),
        ({"sizes": (0, 4, 4, 3)}, "sides", "(0, 4, 4, 3)"),
        ({"sizes": (6, 4, 2**31, 3)}, "sides", "16384"),
        ({"shift": 0.0}, "depth-shift", "0.0"),
        ({"shift": np.nan}, "depth-shift", "nan"),
    ],
)
def test_wrong_headers(sens, change, fault, says):
    with refused(f"rooms.sens-{fault}", says=says) as caught:
        drain(sens(recording(FRAMES, **change)))
    assert "scene0000_00.sens" in str(caught.value)


def test_a_hostile_name_length(sens):
    path = sens(struct.pack("<IQ", 4, 2**62))
    with refused("rooms.sens-name", says="4611686018427387904 bytes"):
        drain(path)


def test_truncation_anywhere_is_one_clear_error(sens):
    data = recording(FRAMES)
    without_imu = len(data) - 8
    for length in range(0, without_imu, 5):
        with refused("rooms.sens-truncated", says="scene0000_00.sens"):
            drain(sens(data[:length]))
    assert len(drain(sens(data[:without_imu]))) == 3


@pytest.mark.parametrize("motion", [0, 2])
@pytest.mark.parametrize("stated", [4, 30, 2**60])
def test_a_header_that_states_too_many_frames(sens, stated, motion):
    data = recording(FRAMES, count=stated)[:-8]
    data += struct.pack("<Q", motion) + b"\x3f" * (IMU_BYTES * motion)
    for tail in (0, 8 + IMU_BYTES * motion):  # without and with the motion sensor's
        path = sens(data[: len(data) - tail])
        with SensReader(path) as reader:
            assert (reader.frame_count, reader.stated_count) == (3, stated)
            assert f"states {stated} frames, 3 are there" in reader.notes[0]
            assert len(list(reader)) == len(list(reader.poses())) == 3


def test_a_tenth_of_the_frames_may_be_cut_off(sens):
    data = recording(FRAMES[:1] * 20)[:-8]
    for lost, kept in ((5, 19), (2 * 130, 18)):
        with SensReader(sens(data[:-lost])) as reader:
            assert len(list(reader)) == reader.frame_count == kept
            assert f"{20 - kept} left out" in reader.notes[0]
    with refused("rooms.sens-truncated", says="frame 17 of 20"):
        drain(sens(data[: -3 * 130]))


def test_compressions_that_are_not_decoded(sens):
    with SensReader(sens(recording(FRAMES, depth=2))) as reader:
        assert not reader.has_depth and "depth compression 2" in reader.notes[0]
        assert [frame.jpeg for frame in reader][0] == b"first"
    for color in (-1, 0, 1):
        with SensReader(sens(recording(FRAMES, color=color))) as reader:
            assert reader.color_format == color and len(list(reader.poses())) == 3


def test_truncation_names_frame_and_bytes(sens):
    data = recording([(pose(0), b"abcdefgh", FRAMES[0][2])])
    cut = data.index(b"abcdefgh") + 3
    with refused("rooms.sens-truncated", says="frame 0 of 1, colour") as caught:
        drain(sens(data[:cut]))
    assert (caught.value.got, caught.value.expected) == ("3 bytes", "8 bytes")


@pytest.mark.parametrize(("kind", "offset"), [("colour", 80), ("depth", 88)])
def test_absurd_image_sizes_are_refused_before_reading(sens, kind, offset):
    data = bytearray(recording(FRAMES))
    start = 4 + 8 + 4 + 256 + 8 + 16 + 4 + 8
    data[start + offset : start + offset + 8] = struct.pack("<Q", 2**40)
    with refused("rooms.sens-huge-image", says=f"frame 0 of 3, {kind}") as caught:
        drain(sens(bytes(data)))
    assert caught.value.got == "1099511627776 bytes"


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (b"not zlib", "Error -3"),
        (zlib.compress(DEPTH.tobytes())[:-12], ""),
        (zlib.compress(bytes(22)), "22 bytes"),
        # A megabyte in a kilobyte: decompression stops one byte after the limit.
        (zlib.compress(bytes(2**20)), "25 bytes"),
    ],
    ids=["garbage", "cut", "short", "bomb"],
)
def test_broken_depth(sens, image, got):
    path = sens(recording([(pose(0), b"x", image)]))
    with refused("rooms.sens-depth", says="frame 0, depth") as caught:
        drain(path)
    assert caught.value.got.startswith(got) and "24 bytes" in caught.value.expected


def test_colour_survives_broken_depth(sens):
    path = sens(recording([(pose(0), b"x", b"not zlib"), FRAMES[0]]))
    with SensReader(path) as reader:
        assert [f.jpeg for f in itertools.islice(reader, 2)] == [b"x", b"first"]
