"""Encoding, probing, sampling and decoding."""

import os

import cv2
import numpy as np
import pytest

from spacer_lib import video
from spacer_lib.errors import SpacerError
from spacer_lib.synthetic.light import VIEWS, render_frames
from spacer_lib.synthetic.rooms import draw_room
from spacer_lib.video import (
    VideoInfo,
    encode_jpegs,
    encode_sens,
    probe,
    read_frames,
    sample_indices,
)


def jpegs(count, width=64, height=48, first=0):
    """Flat grey pictures: frame i has brightness ``first + 6 i``."""
    for index in range(count):
        image = np.full((height, width, 3), first + 6 * index, np.uint8)
        done, data = cv2.imencode(".jpg", image)
        assert done
        yield data.tobytes()


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


def test_keyframes_are_close(clip):
    keys = video.decord.VideoReader(str(clip)).get_key_indices()
    assert keys[0] == 0 and max(np.diff([*keys, 30])) <= video.KEYFRAME_EVERY


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
    with pytest.raises(SpacerError, match="a.mp4: ffmpeg could not encode"):
        encode_jpegs(data, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_picture_among_whole_ones_is_an_error(tmp_path):
    data = [*jpegs(4), b"\xff\xd8 broken", *jpegs(4)]
    with pytest.raises(SpacerError, match="lost frames|could not encode"):
        encode_jpegs(data, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_passes_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def failing():
        yield from jpegs(2)
        raise SpacerError("frame 2 is broken")

    with pytest.raises(SpacerError, match="frame 2 is broken"):
        encode_jpegs(failing(), path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_without_ffmpeg_there_is_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpacerError, match="no ffmpeg .* apt install ffmpeg"):
        encode_jpegs(jpegs(2), tmp_path / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SpacerError, match="cannot write"):
        encode_jpegs(jpegs(2), tmp_path / "a.mp4")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "videos").write_text("")
    with pytest.raises(SpacerError, match="cannot create folder"):
        encode_jpegs(jpegs(2), tmp_path / "videos" / "a.mp4")


def test_a_corrupt_recording_makes_no_video(tmp_path):
    (tmp_path / "a.sens").write_bytes(b"\x04\x00\x00\x00")
    with pytest.raises(SpacerError, match="a.sens, header: got 4 bytes"):
        encode_sens(tmp_path / "a.sens", tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


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


@pytest.mark.parametrize(("total", "count"), [(0, 4), (4, 0), (-1, 2)])
def test_nothing_to_sample(total, count):
    with pytest.raises(SpacerError, match="frame sampling"):
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
    monkeypatch.setattr(video, "_CACHE", type(video._CACHE)())
    monkeypatch.setattr(video, "CACHE_BYTES", 3 * 8 * 8 * 3)
    for count in (1, 2, 3):
        read_frames(clip, count, size=8)
    assert [entry[0].shape[0] for entry in video._CACHE.values()] == [3]


def test_room_addresses_are_rendered():
    frames, indices, total, fps = read_frames("room://seen/3", 4, size=32)
    view = VIEWS["seen"]
    expected = render_frames(draw_room(3, "dollhouse"), view, indices, 32)
    np.testing.assert_array_equal(frames, expected)
    assert (indices, total, fps) == (sample_indices(view.frames, 4), view.frames, 24.0)
    frames[:] = 0
    np.testing.assert_array_equal(read_frames("room://seen/3", 4, size=32)[0], expected)


@pytest.mark.parametrize(
    ("source", "count", "size", "message"),
    [
        ("room://seen/3", 4, None, "got no size"),
        ("room://seen/3", 0, 32, "frame sampling"),
        ("room://attic/3", 4, 32, "synthetic video address"),
        ("room://seen/x", 4, 32, "synthetic video address"),
        ("nowhere.mp4", 4, 32, "nowhere.mp4 is missing"),
    ],
)
def test_bad_sources(source, count, size, message):
    with pytest.raises(SpacerError, match=message):
        read_frames(source, count, size)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_broken_videos(tmp_path, clip, share):
    path, data = tmp_path / "broken.mp4", clip.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    for read in (probe, lambda source: read_frames(source, 30)):
        with pytest.raises(SpacerError, match="broken.mp4 cannot be decoded"):
            read(path)
