"""Our own benchmark for the embedded default: rooms that no training run has seen.

The files are VSI-Bench's (``test.parquet`` with its columns, videos in
``{dataset}/{scene_name}.mp4``) with two more columns: the true map and the question's
categories, as JSON text, so that drawn maps can be scored. Rooms come from the seeds
kept for tests (``curriculum.SEEDS``), eight or nine questions each. Without ``videos``
a column ``video`` holds each room's ``room://`` address: its frames are rendered, as in
training, and not encoded.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks import vsi
from spacer_lib.benchmarks.schema import Benchmark, Record, write_parquet
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.video import encode_jpegs, read_frames

# Among the test rooms (``curriculum.SEEDS``), beyond those that studies ask about.
FIRST_SEED = 9_500_000
FRAME_PX = 224  # side of an encoded frame


def write(
    folder: PathLike,
    *,
    rooms: int = 130,
    view: str = "turn",
    videos: bool = False,
    first_seed: int = FIRST_SEED,
) -> Path:
    """Write the benchmark; the same rooms give the same file.

    Parameters
    ----------
    folder : path
    rooms : int
        Seeds to try: of ten, some six give a room that can be shown.
    view : str
        A key of ``rooms.synthetic.views.VIEWS``; ``turn`` is the one that the warm
        start has demonstrations of.
    videos : bool
        Encode each room as an mp4 where VSI-Bench has its videos.
    first_seed : int
        Of the rooms, counted upwards.

    Returns
    -------
    Path
        ``folder/test.parquet``.
    """
    # Imported late: the curriculum loads torch, and scoring needs none.
    from spacer_lib.tiny.curriculum import draw_row, tasks_of

    seeds = range(first_seed, first_seed + rooms)
    drawn = (draw_row(seed, view, task) for seed in seeds for task in tasks_of(view))
    rows = []
    for row in filter(None, drawn):
        address = str(row["video"])
        mp4 = Path(folder, str(row["dataset"]), f"{row['scene_name']}.mp4")
        if videos and not mp4.exists():
            encode_jpegs(map(_jpeg, _frames(address)), mp4)
        record: Record = {**row}
        rows.append(
            {
                **{name: record[name] for name in vsi.COLUMNS},
                "video": None if videos else address,
                "map": json.dumps(row["map"]),
                "categories": json.dumps(row["categories"]),
            }
        )
    file = Path(folder) / "test.parquet"
    write_parquet(file, rows)
    return file


def _frames(address: str) -> np.ndarray:
    """All frames of a room, (n, h, w, 3) uint8."""
    *_, total, _ = read_frames(address, 1, 28)
    return read_frames(address, total, FRAME_PX)[0]


def _jpeg(frame: np.ndarray) -> bytes:
    quality: Sequence[int] = [cv2.IMWRITE_JPEG_QUALITY, 95]
    found, data = cv2.imencode(".jpg", frame[..., ::-1], quality)
    if not found:
        raise SpacerError(
            "JPEG of a rendered frame", kind="benchmarks.no-jpeg", got="no bytes"
        )
    return data.tobytes()


def benchmark() -> Benchmark:
    """The held-out rooms."""
    return Benchmark(
        "held-out",
        "held-out synthetic rooms",
        source="written by this repository",
        read=vsi.read_rows,
        official=vsi.official,
        overall="macro",
        mode="tiny",
    )
