"""Encoding, probing, sampling and decoding."""

import concurrent.futures
import importlib.util
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from support import refused

from spacer_lib.errors import SpacerError
from spacer_lib.rooms import confined, decoders, decoding, video
from spacer_lib.rooms.frames import Sampler, sample_indices
from spacer_lib.rooms.scannet.sens import (
    COLOR_JPEG,
    COLOR_PNG,
    DEPTH_RAW,
    FRAME,
    HEADER,
    OPENING,
    SensReader,
)
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import render_frames
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.video import (
    FrameTime,
    VideoInfo,
    encode_jpegs,
    encode_sens,
    frame_times_path,
    probe,
    read_frame_times,
    read_frames,
)


def jpegs(count, width=64, height=48, first=0):
    """Flat grey pictures: frame i has brightness ``first + 6 i``."""
    for index in range(count):
        image = np.full((height, width, 3), first + 6 * index, np.uint8)
        done, data = cv2.imencode(".jpg", image)
        assert done
        yield data.tobytes()


def write_sens(path, count, lost=(), pictures=None):
    """A recording of ``pictures``; the stamps of frame i are 7 i and 9 i."""
    data = OPENING.pack(4, 0)
    data += HEADER.pack(
        *np.tile(np.eye(4), (4, 1, 1)).ravel(),
        COLOR_JPEG,
        DEPTH_RAW,
        64,
        48,
        1,
        1,
        1000.0,
        count,
    )
    with path.open("wb") as stream:
        stream.write(data)
        for index, jpeg in enumerate(pictures or jpegs(count)):
            pose = np.full(16, -np.inf) if index in lost else np.eye(4).ravel()
            stream.write(FRAME.pack(*pose, 7 * index, 9 * index, len(jpeg), 2))
            stream.write(jpeg + bytes(2))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("a folder") / "clip.mp4"
    encode_jpegs(jpegs(30), path)
    return path


# --- encoding


def test_every_frame_arrives_in_order(clip):
    assert probe(clip) == VideoInfo(30, 24.0, 64, 48)
    frames, indices, total, fps = read_frames(clip, 30)
    assert indices == tuple(range(30)) and (total, fps) == (30, 24.0)
    assert frames.shape == (30, 48, 64, 3) and frames.dtype == np.uint8
    brightness = frames.mean(axis=(1, 2, 3))
    assert np.abs(brightness - 6 * np.arange(30)).max() < 3


@pytest.mark.parametrize("count", [1, 2, 13])
def test_short_videos_keep_their_length(tmp_path, count):
    info = encode_jpegs(jpegs(count), tmp_path / "a.mp4", fps=10.0)
    assert (info.frame_count, info.fps) == (count, 10.0)


def test_odd_sides_are_padded(tmp_path):
    info = encode_jpegs(jpegs(3, width=33, height=21), tmp_path / "odd.mp4")
    assert (info.width, info.height) == (34, 22)


def test_the_file_is_one_that_players_and_browsers_take(clip):
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams"]
    done = subprocess.run(
        [*command, "-of", "json", str(clip)], capture_output=True, check=True
    )
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    assert (stream["nb_read_frames"], stream["r_frame_rate"]) == ("30", "24/1")


def test_the_index_comes_before_the_pictures(clip):
    data, at, atoms = clip.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        assert size >= 8  # neither 64-bit sizes nor "to the end"
        atoms.append(name.decode())
        at += size
    assert at == len(data)
    assert atoms.index("moov") < atoms.index("mdat")


def test_keyframes_are_close(clip):
    command = ["ffprobe", "-v", "error", "-show_entries", "packet=pts_time,flags"]
    done = subprocess.run(
        [*command, "-of", "csv=p=0", str(clip)], capture_output=True, check=True
    )
    packets = sorted(line.split(",") for line in done.stdout.decode().split())
    keys = [n for n, (_, flags) in enumerate(packets) if "K" in flags]
    assert len(packets) == 30
    assert keys[0] == 0 and max(np.diff([*keys, 30])) <= video.KEYFRAME_EVERY


def test_the_same_pictures_give_the_same_bytes_under_load_and_on_any_number_of_cpus(
    tmp_path,
):
    """Ten encodings, five at a time; half of them see one CPU, as in a container."""
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one CPU: the number cannot change")
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    pictures = [cv2.resize(np.roll(noise, shift, 1), (320, 240)) for shift in range(30)]
    jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]

    def encode(number):
        # Of this thread and of what it starts.
        os.sched_setaffinity(0, {min(cpus)} if number % 2 else cpus)
        encode_jpegs(jpegs, tmp_path / f"{number}.mp4")
        return (tmp_path / f"{number}.mp4").read_bytes()

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        (data,) = set(pool.map(encode, range(10)))
    assert b"Lavf" not in data  # nor does ffmpeg name its version


def test_colours_survive(tmp_path):
    # One saturated colour a frame: BGR for the encoder, RGB from the decoder.
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], np.uint8)
    stills = [np.tile(color[::-1], (48, 64, 1)) for color in colors]
    data = [cv2.imencode(".jpg", still)[1].tobytes() for still in stills]
    encode_jpegs(data, tmp_path / "a.mp4")
    frames = read_frames(tmp_path / "a.mp4", 4)[0]
    assert np.abs(frames.mean(axis=(1, 2)) - colors).max() < 12


@pytest.mark.parametrize("data", [[], [b"not a jpeg"] * 3])
def test_no_picture_is_an_error_and_leaves_no_file(tmp_path, data):
    with refused("rooms.encoding-failed", says="a.mp4"):
        encode_jpegs(data, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_picture_among_whole_ones_is_an_error(tmp_path):
    data = [*jpegs(4), b"\xff\xd8 broken", *jpegs(4)]
    with pytest.raises(SpacerError) as caught:
        encode_jpegs(data, tmp_path / "a.mp4")
    # Which one depends on the version of ffmpeg.
    assert caught.value.kind in ("rooms.frames-lost", "rooms.encoding-failed")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_passes_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def failing():
        yield from jpegs(2)
        raise SpacerError("frame 2 is broken", kind="test.frame")

    with refused("test.frame"):
        encode_jpegs(failing(), path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_without_ffmpeg_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused("rooms.no-ffmpeg", says="apt install ffmpeg"):
        encode_jpegs(jpegs(2), tmp_path / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with refused("artifacts.unwritable", says="a.mp4"):
        encode_jpegs(jpegs(2), tmp_path / "a.mp4")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "videos").write_text("")
    with refused("artifacts.unwritable", says="videos"):
        encode_jpegs(jpegs(2), tmp_path / "videos" / "a.mp4")


# --- recordings and their frame tables


def test_a_recording_becomes_a_video_and_its_frame_table(tmp_path, monkeypatch):
    sens = write_sens(tmp_path / "a.sens", 26, lost=(3,))
    passes = []
    iterate = SensReader.__iter__
    monkeypatch.setattr(
        SensReader, "__iter__", lambda self: passes.append(self) or iterate(self)
    )
    info = encode_sens(sens, tmp_path / "videos" / "a.mp4")
    assert (info.frame_count, info.fps, len(passes)) == (26, 24.0, 1)
    table = frame_times_path(tmp_path / "videos" / "a.mp4")
    assert table == tmp_path / "videos" / "a.frames.csv"
    times = read_frame_times(table)
    assert [row.frame for row in times] == list(range(26))
    assert [row.time_s for row in times] == pytest.approx(np.arange(26) / 24, abs=1e-6)
    assert times[3] == FrameTime(3, 0.125, 21, 27, has_pose=False)
    assert [row.frame for row in times if not row.has_pose] == [3]
    assert table.read_text().splitlines()[:2] == [
        "frame,time_s,color_time_us,depth_time_us,has_pose",
        "0,0.000000,0,0,1",
    ]


def test_a_rate_of_ones_own_moves_the_times(tmp_path):
    encode_sens(write_sens(tmp_path / "a.sens", 3), tmp_path / "a.mp4", fps=10.0)
    times = read_frame_times(tmp_path / "a.frames.csv")
    assert [row.time_s for row in times] == [0, 0.1, 0.2]


@pytest.mark.parametrize("broken", ["cut", "version"])
def test_a_broken_recording_keeps_the_older_video_and_table(tmp_path, broken):
    path, sens = tmp_path / "a.mp4", write_sens(tmp_path / "a.sens", 5)
    encode_sens(sens, path)
    before = {p: p.read_bytes() for p in (path, frame_times_path(path))}
    data = sens.read_bytes()
    sens.write_bytes(data[:-10] if broken == "cut" else b"\x03" + data[1:])
    kind, says = {
        "cut": ("rooms.sens-truncated", "frame 4 of 5, colour"),
        "version": ("rooms.sens-version", "version 3"),
    }[broken]
    with refused(kind, says=says):
        encode_sens(sens, path)
    assert {p: p.read_bytes() for p in before} == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("bad", [[0], [1, 2], [9], [0, 1]])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_broken_image_is_replaced_by_its_neighbour(tmp_path, bad, damage):
    whole = list(jpegs(20))
    broken = {"empty": b"", "cut": whole[9][:-40], "noise": b"\x07" * 900}[damage]
    pictures = [broken if k in bad else jpeg for k, jpeg in enumerate(whole)]
    sens = write_sens(tmp_path / "a.sens", 20, pictures=pictures)
    info = encode_sens(sens, tmp_path / "a.mp4")
    assert info.frame_count == probe(tmp_path / "a.mp4").frame_count == 20
    named = ", ".join(map(str, bad))
    assert f"{len(bad)} of 20" in info.note and f"(frame {named})" in info.note
    frames, *_ = read_frames(tmp_path / "a.mp4", 20)
    shown = [2 if 0 in bad and 1 in bad else 1] if 0 in bad else [bad[0] - 1]
    assert abs(frames[bad[0]].mean() - 6 * shown[0]) < 4


def test_a_recording_of_png_images(tmp_path):
    pictures = [b""] * 20
    for index in range(20):
        image = np.full((48, 64, 3), 6 * index, np.uint8)
        pictures[index] = cv2.imencode(".png", image)[1].tobytes()
    pictures[4] = pictures[4][:-20]
    sens = write_sens(tmp_path / "a.sens", 20, pictures=pictures)
    data = bytearray(sens.read_bytes())
    at = OPENING.size + 256
    data[at : at + 4] = COLOR_PNG.to_bytes(4, "little")
    sens.write_bytes(bytes(data))
    info = encode_sens(sens, tmp_path / "a.mp4")
    assert info.frame_count == 20 and "(frame 4)" in info.note
    frames, *_ = read_frames(tmp_path / "a.mp4", 20)
    assert [abs(frames[k].mean() - 6 * k) < 4 for k in (3, 5, 19)] == [True] * 3
    data[at : at + 4] = bytes(4)
    sens.write_bytes(bytes(data))
    with refused("rooms.color-compression", says="compression 0"):
        encode_sens(sens, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_more_broken_images_than_a_tenth_cost_the_video(tmp_path):
    pictures = [b"" if k < 3 else jpeg for k, jpeg in enumerate(jpegs(20))]
    sens = write_sens(tmp_path / "a.sens", 20, pictures=pictures)
    with refused("rooms.broken-frames", says="3 of 20"):
        encode_sens(sens, tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.sens"]


def test_a_corrupt_recording_makes_no_video(tmp_path):
    (tmp_path / "a.sens").write_bytes(b"\x04\x00\x00\x00")
    with refused("rooms.sens-truncated", says="a.sens, header: got 4 bytes"):
        encode_sens(tmp_path / "a.sens", tmp_path / "a.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.sens"]


def test_without_ffmpeg_no_table_is_left(tmp_path, monkeypatch):
    sens = write_sens(tmp_path / "a.sens", 3)
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused("rooms.no-ffmpeg"):
        encode_sens(sens, tmp_path / "out" / "a.mp4")
    assert list((tmp_path / "out").iterdir()) == []


def test_encoding_a_recording_takes_no_more_memory_for_a_longer_one(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    assert len(jpeg) > 10_000
    peaks = []
    for count in (40, 400):  # at least 3.6 MB in between
        sens = write_sens(tmp_path / "a.sens", count, pictures=[jpeg] * count)
        tracemalloc.start()
        assert encode_sens(sens, tmp_path / "a.mp4").frame_count == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 200_000, peaks


HEAD = "frame,time_s,color_time_us,depth_time_us,has_pose\n"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("", "not-a-frame-table", "a.frames.csv"),
        ("frame,time\n0,0\n", "not-a-frame-table", "got frame,time;"),
        (HEAD + "0,0.0,1,1,1\n2,0.1,1,1,1\n", "frame-table-row", "line 3: got 2,"),
        (HEAD + "0,0.0,1,1\n", "frame-table-row", "line 2: got 0,0.0,1,1;"),
        (HEAD + "0,soon,1,1,1\n", "frame-table-row", "line 2: got 0,soon"),
        (HEAD + "0,0.0,1,1,yes\n", "frame-table-row", "line 2: got 0,0.0,1,1,yes"),
    ],
)
def test_broken_frame_tables(tmp_path, text, kind, says):
    path = tmp_path / "a.frames.csv"
    path.write_text(text)
    with refused(f"rooms.{kind}", says=says):
        read_frame_times(path)


def test_a_missing_frame_table(tmp_path):
    with refused("rooms.no-frame-table", says="a.frames.csv"):
        read_frame_times(tmp_path / "a.frames.csv")


# --- sampling


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [
        (10, 4, (0, 3, 6, 9)),
        (5, 1, (0,)),
        (2, 4, (0, 0, 1, 1)),
        # 0, 1.5, 3: halves go to the even number.
        (4, 3, (0, 2, 3)),
        (6, 3, (0, 2, 5)),
    ],
)
def test_sample_indices(total, count, expected):
    assert sample_indices(total, count) == expected


@pytest.mark.parametrize(
    ("sampler", "total", "count", "expected"),
    [
        # SpaceR's evaluation: whole seconds at 1 fps, rounded down.
        (Sampler("floor", fps=1, whole_seconds=True), 100, 32, (0, 33, 66, 99)),
        (Sampler("floor", fps=1, whole_seconds=True), 12, 32, (0,)),
        # Video-R1: 2 fps, 4 to 16 frames, an even number.
        (Sampler(fps=2, min_frames=4, multiple=2), 36, 16, (0, 12, 23, 35)),
        (Sampler(fps=2, min_frames=4, multiple=2), 2400, 16, None),
        (Sampler("tail"), 10, 4, (0, 3, 6, 9)),
        (Sampler("inner"), 10, 4, (2, 4, 6, 8)),
        (Sampler(), 10, 4, (0, 3, 6, 9)),
    ],
)
def test_samplers_of_published_systems(sampler, total, count, expected):
    found = sampler.indices(total, count, 24.0)
    assert len(found) == count if expected is None else found == expected


def test_a_room_shows_the_frames_that_its_sampler_picks():
    address = "room://seen/3"
    *_, total, fps = read_frames(address, 4, 28)
    frames, indices, *_ = read_frames(address, 4, 28, Sampler("inner"))
    assert indices == Sampler("inner").indices(total, 4, fps)
    assert len(frames) == 4 and indices[0] > 0


@pytest.mark.parametrize(
    "given", [{"rule": "best"}, {"fps": 0.0}, {"min_frames": 0}, {"multiple": 0}]
)
def test_a_sampler_out_of_range_is_refused(given):
    with refused("rooms.sampler"):
        Sampler(**given)


@pytest.mark.parametrize(("total", "count"), [(0, 4), (4, 0), (-1, 2)])
def test_nothing_to_sample(total, count):
    with refused("rooms.no-frames", says=f"{count} of {total} frames"):
        sample_indices(total, count)


# --- reading


def test_sampled_and_resized(clip):
    frames, indices, total, _ = read_frames(str(clip), 4, size=16)
    assert frames.shape == (4, 16, 16, 3) and total == 30
    assert indices == (0, 10, 19, 29)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - 6 * np.array(indices)).max() < 3


def test_resizing_averages_areas(tmp_path):
    # Columns black, white, black, white …: by area all is grey, by sampling it is not.
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 1::2] = 255
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    encode_jpegs([data], tmp_path / "a.mp4")
    frames = read_frames(tmp_path / "a.mp4", 1, size=8)[0]
    assert np.abs(frames.astype(float) - 127.5).max() < 15


def test_reads_are_cached_and_callers_cannot_spoil_them(clip, monkeypatch):
    first = read_frames(clip, 3, size=8)[0]
    kept = first.copy()
    monkeypatch.setattr(video, "_decode", None)  # a second decoding would fail
    first[:] = 0
    np.testing.assert_array_equal(read_frames(clip, 3, size=8)[0], kept)


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.mp4"
    encode_jpegs(jpegs(5), path)
    before = read_frames(path, 2)[0]
    encode_jpegs(jpegs(9, first=100), path)
    after, _, total, _ = read_frames(path, 2)
    assert total == 9 and after.mean() > before.mean() + 50


def test_the_cache_is_bounded(clip, monkeypatch):
    cache = video.RecentlyUsed(video._clip_bytes, 3 * 8 * 8 * 3)
    monkeypatch.setattr(video, "_CACHE", cache)
    for count in (1, 2, 3):
        read_frames(clip, count, size=8)
    assert [entry[0].shape[0] for entry in video._CACHE.values()] == [3]


@pytest.mark.parametrize("name", ["seen", "through"])
def test_room_addresses_are_rendered(name):
    address, view = f"room://{name}/3", VIEWS[name]
    frames, indices, total, fps = read_frames(address, 4, size=32)
    expected = render_frames(draw_room(3, view.style), view, indices, 32)
    np.testing.assert_array_equal(frames, expected)
    assert (indices, total, fps) == (sample_indices(view.frames, 4), view.frames, 24.0)
    frames[:] = 0
    np.testing.assert_array_equal(read_frames(address, 4, size=32)[0], expected)


@pytest.mark.parametrize(
    ("source", "count", "size", "kind"),
    [
        ("room://seen/3", 4, None, "rooms.no-size"),
        ("room://seen/3", 0, 32, "rooms.no-frames"),
        ("room://attic/3", 4, 32, "rooms.bad-address"),
        ("room://seen/x", 4, 32, "rooms.bad-address"),
        ("nowhere.mp4", 4, 32, "rooms.no-video"),
    ],
)
def test_bad_sources(source, count, size, kind):
    with refused(kind, says=source if count else None):
        read_frames(source, count, size)


def test_a_header_that_states_more_frames_than_decode(tmp_path):
    clip, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (150, 48, 64, 3), np.uint8)
    encode_jpegs([cv2.imencode(".jpg", image)[1].tobytes() for image in noise], clip)
    data = clip.read_bytes()
    whole, *_ = read_frames(clip, 4)
    total = probe(clip).frame_count
    for share in (0.99, 0.96, 0.93):  # the index comes before the pictures
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.warns(
            UserWarning, match=f"{cut}: the header states {total} frames"
        ):
            frames, indices, there, fps = read_frames(cut, 4)
        assert 0.9 * total <= there < total and indices == sample_indices(there, 4)
        assert fps == probe(clip).fps
        assert np.abs(frames[0].astype(int) - whole[0]).mean() < 2
    cut.write_bytes(data[: len(data) // 2])
    with refused("rooms.undecodable-video", says="cut.mp4"):
        read_frames(cut, 4)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_broken_videos(tmp_path, clip, share):
    path, data = tmp_path / "broken.mp4", clip.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    for read in (probe, lambda source: read_frames(source, 30)):
        with refused("rooms.undecodable-video", says="broken.mp4"):
            read(path)


# ---------------------------------------------------------------- the decoder's time


@pytest.fixture
def own_decoder(tmp_path, monkeypatch):
    """Write the module that child processes of this test import as decord."""
    decoding.stop_idle()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))

    def write(text):
        head = (
            "class DECORDError(Exception): pass\nclass logging:\n    QUIET = INFO = 0\n"
        )
        head += "    set_level = staticmethod(lambda level: None)\n"
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "decord.py").write_text(head + text)

    yield write
    decoding.stop_idle()


def test_a_decoder_that_hangs_is_stopped_and_its_file_named(
    own_decoder, clip, tmp_path, monkeypatch
):
    own_decoder("import time\ndef VideoReader(*a, **k): time.sleep(600)\n")
    monkeypatch.setenv(decoding.SECONDS_VARIABLE, "3")
    start = time.monotonic()
    for read in (probe, lambda path: read_frames(path, 7, 9)):
        with refused("rooms.decoding-time", says=str(clip)) as caught:
            read(clip)
        assert "after 3 s" in str(caught.value)
    assert time.monotonic() - start < 30
    # The next video gets a decoder of its own.
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.delenv(decoding.SECONDS_VARIABLE)
    assert probe(clip).frame_count == 30


def test_a_decoder_that_dies_costs_its_video(own_decoder, clip):
    own_decoder("import os\ndef VideoReader(*a, **k): os.abort()\n")
    with refused("rooms.undecodable-video", says="status -6"):
        probe(clip)


def test_what_a_decoder_prints_is_no_reply(own_decoder, clip):
    own_decoder("def VideoReader(*a, **k):\n    print('x')\n    raise DECORDError('y')")
    with refused("rooms.undecodable-video", says="got y"):
        probe(clip)


LIMITS = {
    decoding.SECONDS_VARIABLE: "rooms.decode-seconds",
    confined.MEMORY_VARIABLE: "rooms.decode-memory",
}


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_is_none(clip, monkeypatch, name, text):
    decoding.stop_idle()  # memory is limited when a process starts
    monkeypatch.setenv(name, text)
    with refused(LIMITS[name], says=repr(text)):
        probe(clip)


def test_threads_decode_side_by_side(clip):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda k: read_frames(clip, k, 8)[0], range(1, 7)))
    assert [len(frames) for frames in found] == [1, 2, 3, 4, 5, 6]
    for frames in found:
        np.testing.assert_array_equal(frames, read_frames(clip, len(frames), 8)[0])


# --- what decodes without an error


def _pictures(count):
    """JPEGs with detail that moves, so that no frame is empty."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (320, 240))
    for k in range(count):
        yield cv2.imencode(".jpg", np.roll(picture, 3 * k, axis=1))[1].tobytes()


@pytest.mark.parametrize("damaged", [0, 1, 3])
def test_damaged_frames_are_counted(tmp_path, recwarn, damaged):
    path = tmp_path / "v.mp4"
    encode_jpegs(_pictures(72), path)
    data = bytearray(path.read_bytes())
    # A keyframe begins every 12 frames; x264's are the largest samples of the file.
    start, spread = data.find(b"mdat") + 3000, len(data) // 6
    for k in range(damaged):
        at = start + k * spread
        data[at : at + 6] = b"\xff\x13\x37\x00\xa5\x5a"
    path.write_bytes(data)
    read_frames(path, 72)
    said = [str(one.message) for one in recwarn if "damaged" in str(one.message)]
    assert len(said) == bool(damaged)
    if damaged:
        found = re.search(r"v.mp4: (\d+) or more of the frames read are", said[0])
        assert 1 <= int(found[1]) <= damaged  # those that FFmpeg words alike are one


def test_frames_that_are_shown_repeatedly_are_told(tmp_path):
    path = tmp_path / "one.mp4"
    encode_jpegs(jpegs(1), path)
    with pytest.warns(UserWarning, match="16 frames are shown of 1, some of them rep"):
        frames, indices, total, _ = read_frames(path, 16)
    assert (len(frames), set(indices), total) == (16, {0}, 1)


# ---------------------------------------------------------------- what it may use


def test_a_video_that_needs_too_much_memory_costs_itself(tmp_path, monkeypatch):
    path = tmp_path / "large.mp4"
    stills = list(jpegs(42, width=1280, height=720)) * 3
    encode_jpegs(stills, path)  # 348 MB of frames
    decoding.stop_idle()
    monkeypatch.setenv(confined.MEMORY_VARIABLE, "0.4")
    with pytest.raises(SpacerError, match="large.mp4") as caught:
        read_frames(path, 126)
    # What decord says of it differs: some of its calls end the process.
    assert caught.value.kind in ("rooms.decoding-memory", "rooms.undecodable-video")
    assert read_frames(path, 8)[0].shape == (8, 720, 1280, 3)
    decoding.stop_idle()


REACHES = """
import os, socket
def VideoReader(path, **k):
    said = []
    for what in (write, connect):
        try:
            what()
            said.append(what.__name__)
        except OSError as error:
            said.append(type(error).__name__)
    raise DECORDError(' '.join(said))
def write():
    with open({file!r}, 'w') as file:
        file.write('x')
def connect():
    socket.create_connection(('127.0.0.1', {port}), 5).close()
"""


def test_a_decoder_writes_no_file_and_reaches_no_server(own_decoder, clip, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = REACHES.format(file=str(tmp_path / "x"), port=server.getsockname()[1])
        own_decoder(text)
        with refused("rooms.undecodable-video") as caught:
            probe(clip)
    wrote, connected = str(caught.value.got).split()
    assert wrote == "OSError" and (tmp_path / "x").read_bytes() == b""
    leaves = "from spacer_lib.rooms import confined; print(confined.leave_network())"
    done = subprocess.run([sys.executable, "-c", leaves], capture_output=True)
    if done.stdout.strip() != b"True":
        pytest.skip("this system lets its users keep no process from the network")
    assert connected == "OSError"


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n", "ffconcat version 1.0\n"]
)
def test_a_playlist_is_no_video(tmp_path, text):
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with refused("rooms.video-is-text", says="list.mp4"):
        read_frames(path, 4)


# ---------------------------------------------------------------- two libraries


@pytest.fixture
def library(monkeypatch):
    """Decode with a library from now on; skips where it is not installed."""

    def use(name):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        decoding.stop_idle()
        monkeypatch.setenv(decoders.DECODER_VARIABLE, name)

    yield use
    decoding.stop_idle()


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A walk through a room, filmed and encoded as all videos here are."""
    path = tmp_path_factory.mktemp("a folder") / "walk.mp4"
    view = VIEWS["walk"]
    images = render_frames(draw_room(3, "furnished"), view, range(60), 96)
    encode_jpegs(
        (cv2.imencode(".jpg", i[..., ::-1])[1].tobytes() for i in images), path
    )
    return path


@pytest.mark.parametrize(
    ("codec", "apart"),
    [("copy", 0), ("mpeg4", 2)],
)
@pytest.mark.parametrize("count", [None, 7, 60])
def test_both_libraries_decode_the_same(library, walk, tmp_path, codec, apart, count):
    path = tmp_path / "walk.mp4"
    command = ["ffmpeg", "-v", "error", "-i", str(walk), "-c:v", codec, str(path)]
    subprocess.run(command, check=True)
    made = {}
    for name in decoders.DECODERS:
        library(name)
        made[name] = decoding.decode(path, count)
    (frames, facts), (others, other_facts) = made.values()
    assert facts == other_facts and facts["total"] == 60
    assert np.abs(frames.astype(int) - others).max() <= apart


@pytest.mark.parametrize("name", decoders.DECODERS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.97])
def test_each_library_names_a_broken_video(library, walk, tmp_path, name, share):
    library(name)
    path, data = tmp_path / "broken.mp4", walk.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    if share < 0.9:
        with refused("rooms.undecodable-video", says="broken.mp4"):
            read_frames(path, 30)
    else:
        with pytest.warns(UserWarning, match="states 60 frames"):
            assert 54 <= read_frames(path, 30)[2] < 60


def test_without_decord_pyav_reads(monkeypatch):
    there = {"av"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: n in there or None)
    monkeypatch.delenv(decoders.DECODER_VARIABLE, raising=False)
    assert decoders.decoder_name() == "av"
    there.add("decord")
    assert decoders.decoder_name() == "decord"
    monkeypatch.setenv(decoders.DECODER_VARIABLE, "av")
    assert decoders.decoder_name() == "av"
    there.clear()
    with refused("rooms.no-decoder", says="pip install av"):
        decoders.decoder_name()
    monkeypatch.setenv(decoders.DECODER_VARIABLE, "vlc")
    with refused("rooms.unknown-decoder", says="'vlc'"):
        decoders.decoder_name()
