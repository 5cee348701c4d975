"""What preparing data consists of: distances, areas, questions, videos, reading."""

import contextlib
import dataclasses
import functools
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import alphashape
import cv2
import numpy as np
from scipy.optimize import lsq_linear
from scipy.spatial.distance import cdist

from benches.timing import BenchRow, compare, main, parser, rows_as_they_come
from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms.decoders import read
from spacer_lib.rooms.frames import FPS, sample_indices
from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    box_distances_m,
    closest_distance_m,
    sampled_box_points,
)
from spacer_lib.rooms.scannet.sens import SensReader
from spacer_lib.rooms.scans import read_scenes, synthetic_meta
from spacer_lib.rooms.scene import ObjectInstance
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene
from spacer_lib.rooms.synthetic.write import write_scan
from spacer_lib.rooms.video import (
    EXACT_READING,
    EXACT_WRITING,
    KEYFRAME_EVERY,
    encode_jpegs,
    encode_sens,
    probe,
)

ALPHA_M = 0.5
ENCODERS_KEYFRAME_EVERY = 250  # x264's default
SAMPLED_FRAMES = 32
PASSES = 5  # 200 recorded frames, there and back, are a video of about 1,000
# Mean |difference| in grey levels of 255. Two encodings of one frame of the walk are
# about 2 apart, a frame and the next one 3 to 11, and the worst of 32 counts.
SAME_PICTURE_LEVELS = 3.0


def distance_row(
    runs: int,
    lengths_m: Sequence[Sequence[float]] = ((1.2, 0.8, 0.75), (1.9, 0.9, 0.8)),
) -> BenchRow:
    """Closest points of two sampled boxes, by default a table's and a sofa's."""
    instances, x_m = [], 0.0
    for number, size in enumerate(np.array(lengths_m)):
        center, axes = np.array([x_m, 0.3 * number, size[2] / 2]), np.eye(3).ravel()
        corners = tuple(center - size / 2), tuple(center + size / 2)
        box = ObjectInstance(
            number, "box", tuple(center), tuple(size), tuple(axes), *corners
        )
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


def box_row(runs: int, room_seed: int = 0) -> BenchRow:
    """Exact distances of all pairs of boxes in a furnished room."""
    instances = to_scene(draw_room(room_seed, "furnished")).instances
    pairs = list(itertools.combinations(instances, 2))
    firsts, seconds = zip(*pairs, strict=True)
    return compare(
        "box distances",
        ("all pairs at once", lambda: box_distances_m(firsts, seconds)),
        ("least squares", lambda: [_solved_distance_m(*pair) for pair in pairs]),
        runs=runs,
        tolerance=1e-5,
        note=f"{len(pairs)} pairs, same distances",
    )


def _solved_distance_m(first: ObjectInstance, second: ObjectInstance) -> float:
    """The closest points of two boxes as bounded least squares."""
    A = np.hstack([first.axes_matrix.T, -second.axes_matrix.T])
    offset = np.subtract(second.centroid_m, first.centroid_m)
    bound = np.concatenate([first.axes_lengths_m, second.axes_lengths_m]) / 2
    solved = lsq_linear(A, offset, (-bound, bound), method="bvls")
    return float(np.sqrt(2 * solved.cost))


def questions_row(runs: int, rooms: int = 1201, recipe: str = "sr91k") -> BenchRow:
    """A question set with two worker processes and with none beside this one.

    By default as many rooms as ScanNet has training scans.
    """
    with tempfile.TemporaryDirectory(prefix="spacer_bench_") as folder:
        scenes = read_scenes(synthetic_meta(Path(folder, "meta.json"), rooms))

        def build(workers: int) -> bytes:
            out = Path(folder, f"{workers}")
            shutil.rmtree(out, ignore_errors=True)  # or it would only be read again
            build_dataset(scenes, out, recipe, workers=workers)
            return (out / "train.jsonl").read_bytes()

        return compare(
            f"recipe {recipe} on {rooms:,} rooms",
            ("2 workers", lambda: build(2)),
            ("1 worker", lambda: build(1)),
            runs=runs,
            tolerance=0,
            gap=lambda two, one: float(two != one),
            note="same bytes",
        )


def area_row(runs: int, count: int = 10_000) -> BenchRow:
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


def encode_row(runs: int, sens_path: PathLike) -> BenchRow:
    """``.sens`` to mp4: stored JPEGs passed on, or decoded and piped as raw frames."""
    sens_path = Path(sens_path)
    piped, raw = (sens_path.with_name(f"{n}.mp4") for n in ("piped", "raw"))
    with SensReader(sens_path) as recording:
        (width, height), count = recording.color_size, recording.frame_count

    def pass_through() -> Path:
        encode_sens(sens_path, piped)
        return piped

    def decode_and_encode() -> Path:
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


def seek_row(runs: int, sens_path: PathLike) -> BenchRow:
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


def encode_with_ffmpeg(
    frames: Iterable[Any],
    path: PathLike,
    source: Sequence[str],
    keyframe_every: int,
    fps: float = FPS,
) -> None:
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
            kind="benches.no-ffmpeg",
            got="no ffmpeg on the PATH",
            expected="ffmpeg with libx264",
            remedy="apt install ffmpeg (or conda install ffmpeg)",
        )
    command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error", *EXACT_READING]
    command += [*source, "-framerate", str(fps), "-i", "-"]
    command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"]
    command += ["-g", str(keyframe_every), "-movflags", "+faststart"]
    command += [*EXACT_WRITING, str(path)]
    with tempfile.TemporaryFile() as complaints:
        with (
            contextlib.suppress(BrokenPipeError),  # the exit status follows
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=complaints
            ) as process,
        ):
            assert process.stdin is not None
            for frame in frames:
                process.stdin.write(frame)
        if process.returncode:
            complaints.seek(0)
            words = complaints.read().decode(errors="replace").strip().splitlines()
            raise SpacerError(
                f"bench: ffmpeg could not encode {Path(path).name}",
                kind="benches.ffmpeg-failed",
                got=words[0] if words else f"exit status {process.returncode}",
                remedy="check ffmpeg's libx264 and the space on the disk",
            )


def read_uncached(path: PathLike, count: int) -> tuple[int, np.ndarray]:
    """``video.read_frames`` without its cache.

    Returns
    -------
    total : int
        Frames of the video.
    frames : (count, height, width, 3) uint8
    """
    frames, facts = read(
        Path(path), lambda total, _: sample_indices(total, count), lambda frame: frame
    )
    return facts["total"], frames


def picture_gap(first: tuple[int, np.ndarray], second: tuple[int, np.ndarray]) -> float:
    """Largest mean difference of two readings' frames, in grey levels of 255.

    Infinite if the videos differ in their frame counts or sizes.
    """
    (total, frames), (other_total, other_frames) = first, second
    if total != other_total or frames.shape != other_frames.shape:
        return np.inf
    return max(map(_mean_difference, frames, other_frames))


def _mean_difference(frame: np.ndarray, other: np.ndarray) -> float:
    return float(cv2.absdiff(frame, other).mean())


def data_rows(runs: int) -> Iterator[BenchRow]:
    """Distances, areas, videos, sparse reading and questions, one row at a time.

    Raises
    ------
    SpacerError
        If two ways disagree, or ffmpeg is absent.
    """
    yield distance_row(runs)
    yield box_row(runs)
    yield area_row(runs)
    with tempfile.TemporaryDirectory(prefix="spacer_bench_") as folder:
        sens_path = write_recording(folder)
        yield encode_row(runs, sens_path)
        yield seek_row(runs, sens_path)
    yield questions_row(1)  # once: it takes a minute


def write_recording(
    folder: PathLike, frames: int = 200, size: tuple[int, int] = (640, 480)
) -> Path:
    """A synthetic walk as ``.sens``; returns its path."""
    room = draw_room(0, "furnished", "scene10000_00")
    view = dataclasses.replace(VIEWS["walk"], frames=frames)
    scan = write_scan(room, folder, view, size=size)
    return scan / f"{scan.name}.sens"


if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    sys.exit(main(lambda given: rows_as_they_come(data_rows(given.runs)), options))
