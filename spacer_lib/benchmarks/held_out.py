"""Our own benchmark for the embedded default: rooms that no training run has seen.

The files are VSI-Bench's (``test.parquet`` with its columns, videos in
``{dataset}/{scene_name}.mp4``); two columns more hold the true map and the question's
categories, as JSON text, so that drawn maps can be scored. Rooms come from the seeds
kept for tests (``curriculum.SEEDS``), about six questions to a room. Without
``videos`` a column ``video`` names each room's frames by a ``room://`` address, which
are the pixels the tiny model was trained on, without a codec between.
"""

import json
from pathlib import Path

import cv2

from spacer_lib.benchmarks import vsi
from spacer_lib.benchmarks.schema import Benchmark, write_parquet
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.video import encode_jpegs, read_frames

# Of the test rooms (``curriculum.SEEDS``) those beyond the studies' own questions.
FIRST_SEED = 9_500_000
FRAME_PX = 224  # of an encoded room


def write(folder, *, rooms=120, view="new", videos=False, first_seed=FIRST_SEED):
    """Write the benchmark; the same rooms give the same file.

    Parameters
    ----------
    folder : path
    rooms : int
        About 5.5 questions each.
    view : str
        ``new``: camera angles without demonstrations; ``seen``: demonstrated ones.
    videos : bool
        Encode each room as an mp4 where VSI-Bench has its videos.
    first_seed : int

    Returns
    -------
    Path
        ``folder/test.parquet``.
    """
    # Imported late: the curriculum loads torch, and scoring needs none.
    from spacer_lib.tiny.curriculum import TINY_TASKS, draw_row

    seeds = range(first_seed, first_seed + rooms)
    drawn = (draw_row(seed, view, task) for seed in seeds for task in TINY_TASKS)
    rows = []
    for row in filter(None, drawn):
        mp4 = Path(folder) / row["dataset"] / f"{row['scene_name']}.mp4"
        if videos and not mp4.exists():
            encode_jpegs(map(_jpeg, _frames(row["video"])), mp4)
        rows.append(
            {
                **{name: row[name] for name in vsi.COLUMNS},
                "video": None if videos else row["video"],
                **{name: json.dumps(row[name]) for name in vsi.OURS},
            }
        )
    file = Path(folder) / "test.parquet"
    write_parquet(file, rows)
    return file


def _frames(address):
    *_, total, _ = read_frames(address, 1, 28)
    return read_frames(address, total, FRAME_PX)[0]


def _jpeg(frame):
    found, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    if not found:
        raise SpacerError("JPEG of a rendered frame", got="no bytes")
    return data.tobytes()


def benchmark():
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
