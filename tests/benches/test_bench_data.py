"""Timings side by side: what is compared and how, but not how long it takes."""

import dataclasses
import itertools

import numpy as np
import pytest
from support import refused

from benches import data, timing
from benches.timing import BenchRow, compare
from spacer_lib import cli
from spacer_lib.artifacts import read_json
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms import video
from spacer_lib.rooms.scannet.sens import SensReader


@pytest.mark.parametrize(
    "ours_s, other_s, times, verdict",
    [
        (0.0036, 0.41, "one 3.6 ms, two 410.0 ms", "114x faster"),
        (0.5, 1.25, "one 500.0 ms, two 1.25 s", "2.5x faster"),
        (2.0, 1.0, "one 2.00 s, two 1.00 s", "2.0x slower"),
        (3.6e-6, 4.9e-5, "one 3.6 µs, two 49.0 µs", "14x faster"),
    ],
)
def test_a_row_is_one_line(ours_s, other_s, times, verdict):
    ratio = other_s / ours_s
    row = BenchRow("thing", "one", "two", ours_s, other_s, ratio, 3, "why")
    assert row.line() == f"thing: {times}: {verdict} (why)"
    assert dataclasses.replace(row, note="").line() == f"thing: {times}: {verdict}"


class Machine:
    """A clock that each call of a side moves on by the next of its durations."""

    def __init__(self, **durations):
        self.now, self.calls = 0.0, []
        self.left = {name: iter(values) for name, values in durations.items()}

    def side(self, name, result):
        def work():
            self.calls.append(name)
            self.now += next(self.left[name])
            return result

        return name, work


def test_sides_take_turns_and_medians_are_compared():
    # The first call of each side is the check: its 100 s are not counted.
    machine = Machine(ours=[100, 1, 50, 2], other=[100, 8, 6, 900])
    sides = machine.side("ours", 1.0), machine.side("other", 1.05)
    clock = lambda: machine.now  # noqa: E731
    row = compare("x", *sides, runs=3, tolerance=0.1, note="n", clock=clock)
    assert machine.calls == ["ours", "other"] * 4
    assert row == BenchRow("x", "ours", "other", 2, 8, 4.0, 3, "n")


@pytest.mark.parametrize("other", [1.2, np.nan, [1.0, 1.0]])
def test_nothing_is_timed_when_results_differ(other):
    machine = Machine(ours=[1], other=[1])
    sides = machine.side("ours", 1.0), machine.side("other", other)
    with refused("benches.results-differ", says="ours and other"):
        compare("x", *sides, runs=3, tolerance=0.1)
    assert machine.calls == ["ours", "other"]


def cheap_rows():
    return [
        data.distance_row(1, ((0.4, 0.4, 0.5), (0.6, 0.4, 0.5))),
        data.box_row(1),
        data.area_row(1, 400),
    ]


@pytest.mark.filterwarnings("ignore:the matrix subclass")  # inside alphashape
def test_cheap_rows_check_both_sides_first(monkeypatch):
    gaps = []

    def watched(*results, gap=timing.largest_gap):
        gaps.append(gap(*results))
        return gaps[-1]

    monkeypatch.setitem(data.compare.__kwdefaults__, "gap", watched)
    rows = cheap_rows()
    assert len(gaps) == 3 and gaps[0] < 1e-9 and gaps[1] < 1e-5 and gaps[2] < 0.01
    for row in rows:
        assert row.runs == 1 and row.ours_s > 0 and row.other_s > 0
        assert row.ratio == row.other_s / row.ours_s


@pytest.mark.parametrize(
    "name", ["closest_distance_m", "box_distances_m", "alpha_shape_area_m2"]
)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_wrong_answer_of_ours_is_seen(monkeypatch, name):
    monkeypatch.setattr(data, name, lambda *_: 1.2345)
    with refused("benches.results-differ"):
        cheap_rows()


def test_workers_are_compared_on_the_same_questions(monkeypatch):
    built = []

    def watched(scenes, out, recipe, *, workers):
        built.append(workers)
        assert not out.exists()
        return build_dataset(scenes, out, recipe, workers=workers)

    monkeypatch.setattr(data, "build_dataset", watched)
    row = data.questions_row(1, rooms=2, recipe="demo")
    assert built == [2, 1, 2, 1] and "on 2 rooms" in row.name


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return data.write_recording(folder, frames=14, size=(320, 240))


def jpegs_of(path):
    with SensReader(path) as reader:
        return [frame.jpeg for frame in reader]


def test_video_rows_on_a_small_recording(recording):
    encode = data.encode_row(1, recording)
    assert "14 frames of 320x240" in encode.note
    seek = data.seek_row(1, recording)
    assert seek.name == "32 of 65 frames" and "MB" in seek.note
    assert video.probe(recording.with_name("sparse.mp4")).frame_count == 65


def test_both_encoders_have_the_same_settings(recording, tmp_path):
    jpegs = jpegs_of(recording)
    video.encode_jpegs(jpegs, tmp_path / "a.mp4")
    source = ["-f", "image2pipe", "-c:v", "mjpeg"]
    data.encode_with_ffmpeg(jpegs, tmp_path / "b.mp4", source, video.KEYFRAME_EVERY)
    # x264 writes its settings into the file.
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_videos_of_other_length_or_pictures_are_no_match():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    brighter = frames + np.array([0, 9], np.uint8).reshape(2, 1, 1, 1)
    assert data.picture_gap((5, frames), (5, frames)) == 0
    assert data.picture_gap((5, frames), (5, brighter)) == 9
    assert data.picture_gap((5, frames), (6, frames)) == np.inf
    assert data.picture_gap((5, frames), (5, frames[:, :2])) == np.inf


def test_without_ffmpeg_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused("benches.no-ffmpeg"):
        data.encode_with_ffmpeg([b"x"], tmp_path / "x.mp4", [], 250)


def test_ffmpegs_complaint_is_passed_on(tmp_path):
    source, frames = ["-f", "image2pipe", "-c:v", "mjpeg"], itertools.repeat(b"x", 9)
    with refused("benches.ffmpeg-failed", says="x.mp4: got "):
        data.encode_with_ffmpeg(frames, tmp_path / "x.mp4", source, 250)


def test_each_row_is_printed_as_it_comes_and_written(capsys, tmp_path):
    row = BenchRow("thing", "one", "two", 1.0, 2.0, 2.0, 3)
    options = timing.parser("x").parse_args(["--json", str(tmp_path / "rows.json")])

    def work(given):
        assert given.runs == 5
        return timing.rows_as_they_come([row, row])

    assert timing.main(work, options) == 0
    assert capsys.readouterr().out == f"{row.line()}\n" * 2
    assert read_json(options.json)["rows"][1]["ratio"] == 2


def test_a_mistake_is_one_line(capsys):
    options = timing.parser("x").parse_args(["--runs", "0"])
    assert timing.main(lambda given: pytest.fail("timed"), options) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_bench_is_refused(capsys):
    assert cli.main(["bench", "nonsense"]) == 2
    line = capsys.readouterr().err.strip()
    assert "nonsense" in line and "data" in line and "\n" not in line
