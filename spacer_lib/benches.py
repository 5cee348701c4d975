"""Timings side by side: what this library does, and the other way of doing it.

Ratios travel between machines, seconds do not. Both sides first have to agree on the
result; then they take turns, so that a machine that slows down slows both, and the
median of each is compared.
"""

import ast
import contextlib
import cProfile
import dataclasses
import functools
import itertools
import json
import math
import pstats
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import alphashape
import cv2
import decord
import numpy as np
from scipy.spatial.distance import cdist

from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.mixture import PROBLEM_TYPES
from spacer_lib.rewards.config import get_preset
from spacer_lib.rewards.score import score_batch
from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    closest_distance_m,
    sampled_box_points,
)
from spacer_lib.rooms.scannet import SensReader
from spacer_lib.rooms.scans import synthetic_ids
from spacer_lib.rooms.scene import ObjectInstance
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import FPS, VIEWS, to_scene
from spacer_lib.rooms.synthetic.write import write_scan
from spacer_lib.rooms.video import (
    KEYFRAME_EVERY,
    encode_jpegs,
    encode_sens,
    probe,
    sample_indices,
)

ALPHA_M = 0.5
ENCODERS_KEYFRAME_EVERY = 250  # x264's default
SAMPLED_FRAMES = 32
PASSES = 5  # 200 recorded frames, there and back, are a video of about 1,000
# Mean |difference| in grey levels of 255. Two encodings of one frame of the walk are
# about 2 apart, a frame and the next one 3 to 11, and the worst of 32 counts.
SAME_PICTURE_LEVELS = 3.0


@dataclass(frozen=True)
class BenchRow:
    """One comparison; ``ours`` and ``other`` name the two ways.

    ``ours_s`` and ``other_s`` are medians over ``runs``; ``ratio`` is
    ``other_s / ours_s``: above 1, ours is faster.
    """

    name: str
    ours: str
    other: str
    ours_s: float
    other_s: float
    ratio: float
    runs: int
    note: str = ""

    def line(self):
        """The row in one printable line."""
        slower = self.ratio < 1
        factor = 1 / self.ratio if slower else self.ratio
        text = (
            f"{self.name}: {self.ours} {_duration(self.ours_s)}, "
            f"{self.other} {_duration(self.other_s)}: "
            f"{factor:.{0 if factor >= 10 else 1}f}x {'slower' if slower else 'faster'}"
        )
        return f"{text} ({self.note})" if self.note else text


def _duration(seconds):
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def largest_gap(first, second):
    """Largest absolute difference of two numbers or arrays; other shapes: infinite."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape:
        return np.inf
    return float(np.abs(first - second).max())


def compare(
    name,
    ours,
    other,
    *,
    runs,
    tolerance,
    gap=largest_gap,
    note="",
    clock=time.perf_counter,
):
    """Time two ways to one result, in turns.

    Parameters
    ----------
    name : str
    ours, other : (str, callable)
        A label and the work, without arguments. Each is called once more than
        ``runs``: the first results are compared, not timed.
    runs : int
    tolerance : float
        Largest ``gap(ours, other)`` that counts as the same result.
    gap : callable
    note : str
    clock : callable
        Seconds.

    Returns
    -------
    BenchRow

    Raises
    ------
    SpacerError
        If the results differ: nothing is timed then.
    """
    labels, works = zip(ours, other, strict=True)
    difference = gap(*[work() for work in works])
    if not difference <= tolerance:
        raise SpacerError(
            f"bench {name}: {labels[0]} and {labels[1]} differ",
            got=f"{difference:.3g}",
            expected=f"at most {tolerance:.3g}",
            remedy="find out which is wrong before comparing their speed",
        )
    seconds = ([], [])
    for _ in range(runs):
        for work, spent in zip(works, seconds, strict=True):
            start = clock()
            work()
            spent.append(clock() - start)
    ours_s, other_s = map(statistics.median, seconds)
    return BenchRow(name, *labels, ours_s, other_s, other_s / ours_s, runs, note)


def distance_row(runs, lengths_m=((1.2, 0.8, 0.75), (1.9, 0.9, 0.8))):
    """Closest points of two sampled boxes, by default a table's and a sofa's."""
    instances, x_m = [], 0.0
    for number, size in enumerate(np.array(lengths_m)):
        center, axes = np.array([x_m, 0.3 * number, size[2] / 2]), np.eye(3).ravel()
        low, high = center - size / 2, center + size / 2
        box = ObjectInstance(number, "box", center, size, tuple(axes), low, high)
        instances.append(box)
        x_m += 2.5
    # Sampled once and kept: the search alone is timed, on the same points.
    sets = [sampled_box_points(instance) for instance in instances]
    return compare(
        "closest point",
        ("k-d tree", lambda: closest_distance_m(*instances)),
        ("all pairs (cdist)", lambda: cdist(*sets).min()),
        runs=runs,
        tolerance=1e-9,
        note="{} and {} points, same distance".format(*map(len, sets)),
    )


def area_row(runs, count=10_000):
    """Area of the floor points of an L-shaped room of 27 m2."""
    points = np.random.default_rng(0).uniform(0, 6, (2 * count, 2))
    points = points[(points < 3).any(axis=1)][:count]
    return compare(
        "room area",
        ("one Delaunay filter", lambda: alpha_shape_area_m2(points, ALPHA_M)),
        ("alphashape", lambda: alphashape.alphashape(points, 1 / ALPHA_M).area),
        runs=runs,
        tolerance=0.01,
        note=f"{len(points)} points, areas within 0.01 m2; the filter is used: an area "
        "needs no outline, which the package builds; it stays the tests' oracle",
    )


def encode_row(runs, sens_path):
    """``.sens`` to mp4: stored JPEGs passed on, or decoded and piped as raw frames."""
    sens_path = Path(sens_path)
    piped, raw = (sens_path.with_name(f"{n}.mp4") for n in ("piped", "raw"))
    with SensReader(sens_path) as recording:
        (width, height), count = recording.color_size, recording.frame_count

    def pass_through():
        encode_sens(sens_path, piped)
        return piped

    def decode_and_encode():
        source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}"]
        with SensReader(sens_path) as recording:
            pixels = (
                cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
                for frame in recording
            )
            encode_with_ffmpeg(pixels, raw, source, KEYFRAME_EVERY)
        probe(raw)  # as ours does, at its end
        return raw

    return compare(
        ".sens to mp4",
        ("stored JPEGs piped", pass_through),
        ("decoded, then encoded", decode_and_encode),
        runs=runs,
        tolerance=SAME_PICTURE_LEVELS,
        gap=lambda *paths: picture_gap(
            *(read_uncached(path, SAMPLED_FRAMES) for path in paths)
        ),
        note=f"{count} frames of {width}x{height}, same x264 settings",
    )


def seek_row(runs, sens_path):
    """Sparse reading: a keyframe every 12 frames against the encoder's 250."""
    sens_path = Path(sens_path)
    with SensReader(sens_path) as recording:
        jpegs = [frame.jpeg for frame in recording]
    # There and back again: a longer walk without cuts, which would add keyframes.
    turns = [jpegs[:-1] if k % 2 == 0 else jpegs[:0:-1] for k in range(PASSES)]
    jpegs = list(itertools.chain(*turns))
    dense, sparse = (sens_path.with_name(f"{n}.mp4") for n in ("dense", "sparse"))
    encode_jpegs(jpegs, dense)
    source = ["-f", "image2pipe", "-c:v", "mjpeg"]
    encode_with_ffmpeg(jpegs, sparse, source, ENCODERS_KEYFRAME_EVERY)
    sizes = [path.stat().st_size for path in (dense, sparse)]
    return compare(
        f"{SAMPLED_FRAMES} of {len(jpegs)} frames",
        (
            f"keyframe every {KEYFRAME_EVERY}",
            functools.partial(read_uncached, dense, SAMPLED_FRAMES),
        ),
        (
            f"every {ENCODERS_KEYFRAME_EVERY}",
            functools.partial(read_uncached, sparse, SAMPLED_FRAMES),
        ),
        runs=runs,
        tolerance=SAME_PICTURE_LEVELS,
        gap=picture_gap,
        note="{:.2f} and {:.2f} MB, {:+.0%}; no cache".format(
            *(size / 1e6 for size in sizes), sizes[0] / sizes[1] - 1
        ),
    )


def encode_with_ffmpeg(frames, path, source, keyframe_every, fps=FPS):
    """Pipe frames to x264 with the settings of ``video.encode_jpegs``.

    A test holds the two to the same bytes.

    Parameters
    ----------
    frames : iterable of bytes or array
    path : path
    source : list of str
        ffmpeg's words for what the frames are.
    keyframe_every : int
    fps : float

    Raises
    ------
    SpacerError
        If ffmpeg is absent or fails.
    """
    if shutil.which("ffmpeg") is None:
        raise SpacerError(
            "bench: cannot encode",
            got="no ffmpeg on the PATH",
            expected="ffmpeg with libx264",
            remedy="apt install ffmpeg (or conda install ffmpeg)",
        )
    command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error"]
    command += [*source, "-framerate", str(fps), "-i", "-"]
    command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    command += ["-g", str(keyframe_every), "-movflags", "+faststart", str(path)]
    with tempfile.TemporaryFile() as complaints:
        with (
            contextlib.suppress(BrokenPipeError),  # the exit status follows
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=complaints
            ) as process,
        ):
            for frame in frames:
                process.stdin.write(frame)
        if process.returncode:
            complaints.seek(0)
            words = complaints.read().decode(errors="replace").strip().splitlines()
            raise SpacerError(
                f"bench: ffmpeg could not encode {Path(path).name}",
                got=words[0] if words else f"exit status {process.returncode}",
                remedy="check ffmpeg's libx264 and the space on the disk",
            )


def read_uncached(path, count):
    """``video.read_frames`` without its cache.

    Returns
    -------
    total : int
        Frames of the video.
    frames : (count, height, width, 3) uint8
    """
    reader = decord.VideoReader(str(path), num_threads=1)
    indices = list(sample_indices(len(reader), count))
    return len(reader), reader.get_batch(indices).asnumpy()


def picture_gap(first, second):
    """Largest mean difference of two readings' frames, in grey levels of 255.

    Infinite if the videos differ in their frame counts or sizes.
    """
    (total, frames), (other_total, other_frames) = first, second
    if total != other_total or frames.shape != other_frames.shape:
        return np.inf
    return max(map(_mean_difference, frames, other_frames))


def _mean_difference(frame, other):
    return float(cv2.absdiff(frame, other).mean())


def data_suite(runs=5, on_row=lambda row: None):
    """What preparing data is made of: distances, areas, videos, sparse reading.

    Parameters
    ----------
    runs : int
        At least 1; medians are over so many.
    on_row : callable
        Given each row as soon as it is measured.

    Returns
    -------
    list of BenchRow

    Raises
    ------
    SpacerError
        If two ways disagree, or ffmpeg is absent.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="spacer_bench_") as folder:
        for row in _data_rows(runs, folder):
            on_row(row)
            rows.append(row)
    return rows


def _data_rows(runs, folder):
    yield distance_row(runs)
    yield area_row(runs)
    sens_path = write_recording(folder)
    yield encode_row(runs, sens_path)
    yield seek_row(runs, sens_path)


def write_recording(folder, frames=200, size=(640, 480)):
    """A synthetic walk as ``.sens``; returns its path."""
    room = draw_room(0, "furnished", "scene10000_00")
    view = dataclasses.replace(VIEWS["walk"], frames=frames)
    scan = write_scan(room, folder, view, size=size)
    return scan / f"{scan.name}.sens"


# ---------------------------------------------------------------- rewards

REWARD_PRESET = "spacer-paper"
GROUP = 8  # completions per question


def reward_row(runs, count=10_000):
    """Rewards of mixed completions: this library against the plain way."""
    texts, items, tokens = reward_cases(count)
    config = get_preset(REWARD_PRESET)

    def ours():
        return [b.total for b in score_batch(texts, items, config, tokens)]

    def plain():
        return list(map(plain_reward, texts, items, tokens))

    return compare(
        "rewards",
        ("this library", ours),
        ("plain, sample by sample", plain),
        runs=runs,
        tolerance=1e-9,
        note=f"{count} mixed completions, {REWARD_PRESET}, same totals; ours also "
        "scores maps behind a shut gate and counts their hits; of its time "
        + profile_shares(lambda: score_batch(texts, items, config, tokens), "_score"),
    )


def profile_shares(work, caller, most=3):
    """Where a function's time goes: its costliest callees, in words."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler).stats
    total = sum(row[3] for (_, _, name), row in stats.items() if name == caller)
    spent = {
        f"{Path(file).stem}.{name}": callers[key][3] / total
        for (file, _, name), (*_, callers) in stats.items()
        for key in callers
        if key[2] == caller
    }
    costliest = sorted(spent, key=spent.get, reverse=True)[:most]
    return ", ".join(f"{spent[name]:.0%} {name}" for name in costliest)


def reward_cases(count, seed=0):
    """Completions of all kinds, in groups of ``GROUP`` to a question.

    Returns
    -------
    texts : list of str
    items : list of dict
        The question of each; one object per group.
    tokens : list of int
    """
    rng = np.random.default_rng(seed)
    questions = _bench_questions(rng)
    texts, items, tokens = [], [], []
    for group in range(-(-count // GROUP)):
        item = {**questions[group % len(questions)], "id": str(group)}
        for _ in range(GROUP):
            texts.append(_bench_completion(item, rng))
            items.append(item)
            tokens.append(int(rng.integers(100, 700)))
    return texts[:count], items[:count], tokens[:count]


def _bench_questions(rng, rooms=24):
    """Questions mixed as SpaceR-151k is: 91 spatial to 60 general, of five types."""
    rows = []
    for seed, name in synthetic_ids(rooms, 0):
        scene = to_scene(draw_room(seed, "furnished", name), VIEWS["walk"])
        rows += question_rows(scene, 0)[0]
    words = "north lamp seven river door apple stone train quiet running tables".split()
    for number in range(len(rows) * 60 // 91):
        kind = PROBLEM_TYPES[number % len(PROBLEM_TYPES)]
        options, truth = None, " ".join(rng.choice(words, int(rng.integers(3, 31))))
        if kind == "multiple choice":
            options, truth = ["A. red", "B. green", "C. blue"], "B"
        elif kind in ("numerical", "regression"):
            truth = str(rng.integers(1, 400) / 4)
        rows.append({"problem_type": kind, "options": options, "ground_truth": truth})
    rng.shuffle(rows)
    return rows


def _bench_completion(item, rng):
    answer = _bench_answer(item, rng)
    drawn = ""
    if item.get("map"):
        moved = {
            name: np.clip(spots + rng.integers(-2, 3, (len(spots), 2)), 0, 9).tolist()
            for name, spots in item["map"].items()
        }
        written = map_to_text(moved)
        python = written.replace('"', "'")
        off_grid = written.replace("[[", "[[1", 1)
        drawn = rng.choice([written] * 6 + [python, off_grid, "", "{'bed': ["])
        drawn = f"<map>{drawn}</map>" if drawn else ""
    shapes = ["<think>{0} so I look again</think><answer>{1}</answer>"] * 7 + [
        "<think>so I look again</think>\n{0}\n<answer>{1}</answer>\n",
        "<answer>{1}</answer>",
        "<think>{0} and on",
        "<think>{0}</think><answer>{1}</answer><answer>{1}</answer>",
    ]
    return str(rng.choice(shapes)).format(drawn, answer)


def _bench_answer(item, rng):
    kind, truth = item["problem_type"], item["ground_truth"]
    if kind == "multiple choice":
        full = str(rng.choice(item["options"]))
        letter, text = full[0], full[3:]
        forms = [truth, truth, letter, f"{letter}.", f"({letter})", full, text]
        return str(rng.choice([*forms, f"Probably {letter}"]))
    if kind in ("numerical", "regression"):
        near = f"{float(truth) * rng.uniform(0.4, 1.6):.2f}"
        forms = [truth, truth, near, near, f"about {near}", "two", f"{near} or 9999"]
        return str(rng.choice([*forms, "none"]))
    words = truth.split()
    dropped = [word for word in words if rng.random() < 0.8]
    return " ".join(rng.choice([truth, " ".join(dropped or words)], 1))


def plain_reward(text, item, token_count):
    """SpaceR's reward as one would first write it, for ``REWARD_PRESET``.

    Written apart from the library: patterns tried in turn, Python's own literal
    reader, loops over pairs and a table of edits. It reads what ``reward_cases``
    writes, and no more.
    """
    answers = re.findall("<answer>(.*?)</answer>", text, re.DOTALL)
    answer = answers[0].strip() if len(answers) == 1 else ""
    pattern = r"\s*<think>.*?</think>\s*(<map>.*?</map>\s*)?<answer>.*?</answer>\s*"
    total = float(len(answers) == 1 and bool(re.fullmatch(pattern, text, re.DOTALL)))
    task = _plain_task(answer, item) if answer else 0.0
    total += task
    if task == 1 and item.get("map"):
        total += _plain_map_score(re.search("<map>(.*?)</map>", text), item["map"])
    if task == 1 and 360 <= token_count <= 512:
        total += 0.2
    return total


def _plain_task(answer, item):
    kind, truth = item["problem_type"], item["ground_truth"]
    if kind == "multiple choice":
        letters = [option[0] for option in item["options"]]
        for pattern in (r"([A-Z])", r"([A-Z])\.", r"\(([A-Z])\)"):
            found = re.fullmatch(pattern, answer)
            if found:
                return float(found[1] == truth and found[1] in letters)
        for option in item["options"]:
            if answer in (option, option[3:]):
                return float(option[0] == truth)
        return 0.0
    if kind in ("numerical", "regression"):
        numbers = [float(n) for n in re.findall(r"\d+\.?\d*", answer)]
        numbers = numbers or [{"two": 2.0}[w] for w in answer.split() if w == "two"]
        if len(numbers) != 1:
            return 0.0
        error = abs(numbers[0] - float(truth)) / abs(float(truth))
        if kind == "regression":
            return 1 - min(1.0, error)
        passed = 0
        for step in range(10):
            if error <= 1 - (0.5 + 0.05 * step) + 1e-9:
                passed += 1
        return passed / 10
    if kind == "ocr":
        return max(0.0, 1 - _plain_edits(truth.split(), answer.split()))
    from rouge_score.rouge_scorer import RougeScorer  # slow to load, as in metrics

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    return sum(part.fmeasure for part in scorer.score(truth, answer).values()) / 3


def _plain_edits(reference, words):
    """Word edits over the reference's words."""
    table = [
        [i + j if not i * j else 0 for j in range(len(words) + 1)]
        for i in range(len(reference) + 1)
    ]
    for i in range(1, len(reference) + 1):
        for j in range(1, len(words) + 1):
            same = reference[i - 1] == words[j - 1]
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (not same),
            )
    return table[-1][-1] / len(reference)


def _plain_map_score(found, true):
    if not found:
        return 0.0
    try:
        drawn = json.loads(found[1])
    except ValueError:
        try:
            drawn = ast.literal_eval(found[1])
        except (ValueError, SyntaxError):
            return 0.0
    if any(not 0 <= v < 10 for spots in drawn.values() for cell in spots for v in cell):
        return 0.0
    earned, count = 0.0, 0
    for name, spots in true.items():
        count += len(spots)
        mine = drawn.get(name, [])
        pairs = []
        for i, cell in enumerate(sorted(mine)):  # of equal distances, the first cells
            for j, spot in enumerate(sorted(spots)):
                pairs.append((math.dist(cell, spot), i, j))
        used_mine, used_true, worth = set(), set(), 0.0
        for distance, i, j in sorted(pairs):
            if i not in used_mine and j not in used_true:
                used_mine.add(i)
                used_true.add(j)
                worth += max(0.0, 1 - distance / (10 * math.sqrt(2)))
        if mine:
            earned += len(spots) * worth / max(len(mine), len(spots))
    return earned / count


def rewards_suite(runs=5, on_row=lambda row: None):
    """Scoring completions; parameters and result as ``data_suite``."""
    row = reward_row(runs)
    on_row(row)
    return [row]


SUITES = {"data": data_suite, "rewards": rewards_suite}
