"""STI-Bench, SPAR-Bench and Video-MMMU, tiny."""

from pathlib import Path

import numpy as np

from samples.square import COLOURS, FPS, FRAMES, clip, encoded, picture
from spacer_lib.benchmarks import spar, sti, videommmu
from spacer_lib.benchmarks.schema import write_parquet


def write_sti(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``qa.parquet`` and ``video/``: one question of each task on each video.

    The last row's answer is none of its candidates, as in a few published rows.
    """
    rows = []
    names = [
        f"{i + 1:06d}.mp4" if i % 2 else f"scene{i:04d}_00.mp4" for i in range(videos)
    ]
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, index])
        clip(folder / "video" / name, _colour(rng))
        for number, task in enumerate(sti.TASKS):
            right = int(rng.integers(4))
            texts = [f"{1 + (i - right) % 4} m" for i in range(4)]
            rows.append(
                {
                    "Video": name,
                    "Source": "ScanNet" if index % 2 == 0 else "Omni6DPose",
                    "Task": task,
                    "QType": "Single Choice",
                    "Question": "How far does the square move?",
                    "Prompt": "",
                    "time_start": 0.0,
                    "time_end": FRAMES / FPS,
                    "Candidates": dict(zip("ABCDE", [*texts, None], strict=True)),
                    "Answer": "ABCD"[right],
                    "Answer Detail": texts[right],
                    "ID": number,
                    "scene": "indoor" if index % 2 == 0 else "desktop",
                }
            )
    rows[-1]["Candidates"] = dict.fromkeys("ABCDE") | {"A": "1 m 2 m 3 m 4 m"}
    rows[-1]["Answer"] = "B"
    write_parquet(folder / "qa.parquet", rows)
    return folder


def write_spar(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``data/test-*-of-00002.parquet``: ``videos`` questions of each of twenty tasks.

    Pictures are PNG bytes, three for tasks over several views, else one.
    """
    rows = []
    for task, (_, kind) in spar.TASKS.items():
        several = task.endswith("_mv") or kind == "motion" or "_matching" in task
        for index in range(videos):
            rng = np.random.default_rng([seed, len(rows)])
            question, answer = _ask_spar(kind, rng)
            count = 3 if several else 1
            rows.append(
                {
                    "id": len(rows),
                    "task": task,
                    "question": question,
                    "answer": answer,
                    "img_type": "multi_view" if several else "single_view",
                    "format_type": "select" if kind == "choice" else "fill",
                    "source": ("scannet", "scannetpp", "structured3d")[index % 3],
                    "image": [_image("red", 8 * i) for i in range(count)],
                }
            )
    half = len(rows) // 2
    for part, mine in enumerate((rows[:half], rows[half:])):
        write_parquet(folder / f"data/test-0000{part}-of-00002.parquet", mine)
    return folder


def _ask_spar(kind, rng):
    if kind == "number":
        return "How deep is the square, in meters?", f"{rng.uniform(0.5, 4):.1f}"
    if kind == "motion":
        metres, degrees = f"{rng.uniform(0.1, 2):.1f}", int(rng.integers(5, 60))
        question = "How does the camera move? Write move_right:…,rotate_left:…"
        return question, f"move_right:{metres},move_up:0.2,rotate_left:{degrees}"
    lines = [
        "Where is the square?",
        "A. left, above",
        "B. right, below",
        "C. left, below",
        "D. right, above",
        "Your answer can only include one option.",
    ]
    return "\n".join(lines), "ABCD"[rng.integers(4)]


def write_videommmu(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``{Track}/test-00000-of-00001.parquet`` and videos in their disciplines' folders.

    Every second adaptation question is open, the next one's type is ``None``.
    """
    tables = {track: [] for track in videommmu.TRACKS}
    shelves = [
        (shelf, subject)
        for shelf, subjects in videommmu.DISCIPLINES.values()
        for subject in subjects.split()
    ]
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        shelf, subject = shelves[index % len(shelves)]
        name = f"validation_{subject}_{index + 1}"
        colour = _colour(rng)
        clip(folder / shelf / f"{name}.mp4", colour)
        options = [str(c) for c in rng.permutation(COLOURS)]
        for track, rows in tables.items():
            kind = "multiple-choice"
            if track == "Adaptation":
                kind = (kind, "open", "None")[index % 3]
            row = {
                "id": name,
                "question": "Which colour has the square?",
                "options": [] if kind == "open" else options,
                "answer": "ABCD"[options.index(colour)],
                "question_type": kind,
                "qa_type": "OCR",
                "link_selected": "https://example.org",
            }
            if kind == "open":
                row |= {"question": "How many squares are there?", "answer": "1"}
            if track == "Adaptation":
                row["image"] = _image(colour, 0)
            rows.append(row)
    for track, rows in tables.items():
        write_parquet(folder / track / "test-00000-of-00001.parquet", rows)
    return folder


def _colour(rng):
    return COLOURS[rng.integers(len(COLOURS))]


def _image(colour, left):
    return {"bytes": encoded(picture(colour, left)), "path": f"{left}.png"}


WRITERS = {"sti": write_sti, "spar": write_spar, "videommmu": write_videommmu}
