"""Small synthetic benchmarks: the published files and folders, with true answers.

Each video shows a coloured square that crosses a grey picture, so that the questions
can be answered from it; VSI-Bench's are synthetic rooms. For tests, demonstrations and
dry runs of a harness.
"""

from pathlib import Path

import cv2
import numpy as np

from spacer_lib.artifacts import write_json
from spacer_lib.benchmarks import held_out, samples_spatial
from spacer_lib.benchmarks.longvideobench import PLACES
from spacer_lib.benchmarks.schema import write_parquet
from spacer_lib.benchmarks.tempcompass import FORMATS
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.video import encode_jpegs

FRAMES, FPS, SIDE_PX, SQUARE_PX = 16, 8.0, 112, 24
_COLOURS_RGB = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (230, 210, 50),
}
_WAYS = ("left to right", "right to left")
_LETTERS = "ABCDE"


def write_sample(name, folder, *, videos=2, seed=0):
    """Write a tiny synthetic benchmark as its authors publish the real one.

    Parameters
    ----------
    name : str
        A key of ``WRITERS``.
    folder : path
        Made if absent.
    videos : int
    seed : int
        The same seed gives the same files.

    Returns
    -------
    Path
        The folder, for the benchmark's ``read``.

    Raises
    ------
    SpacerError
        For a name without a writer, or no video.
    """
    if name not in WRITERS:
        raise SpacerError("sample of", got=name, expected=", ".join(WRITERS))
    if videos < 1:
        raise SpacerError("sample videos", got=videos, expected="1 or more")
    folder = Path(folder)
    WRITERS[name](folder, videos=videos, seed=seed)
    return folder


def _write_videomme(folder, videos, seed):
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        colour, way = _scene(rng)
        name, number = f"sample{index:05d}", f"{index + 1:03d}"
        _clip(folder / "data" / f"{name}.mp4", colour, way)
        asked = (
            (
                "Attribute Perception",
                "What colour is the square?",
                colour,
                _COLOURS_RGB,
            ),
            (
                "Action Recognition",
                "How does the square move?",
                way,
                (*_WAYS, "top to bottom", "It stands still"),
            ),
            (
                "Counting Problem",
                "How many squares are there?",
                "1",
                ("1", "2", "3", "4"),
            ),
        )
        for place, (task, question, answer, options) in enumerate(asked, start=1):
            options, letter = _shuffled(rng, options, answer)
            rows.append(
                {
                    "video_id": number,
                    "duration": ("short", "medium", "long")[index % 3],
                    "domain": ("Knowledge", "Life Record")[index % 2],
                    "sub_category": ("Geography", "Daily Life")[index % 2],
                    "url": f"https://example.org/watch?v={name}",
                    "videoID": name,
                    "question_id": f"{number}-{place}",
                    "task_type": task,
                    "question": question,
                    "options": [f"{o}." for o in options],
                    "answer": letter,
                }
            )
    write_parquet(folder / "videomme/test-00000-of-00001.parquet", rows)


def _write_tempcompass(folder, videos, seed):
    """Every second video is the one before, reversed: a conflicting pair."""
    tables = {name: [] for name in FORMATS}
    for index in range(videos):
        rng = np.random.default_rng([seed, index // 2])
        colour, way = _scene(rng)
        if index % 2:
            way = _WAYS[1 - _WAYS.index(way)]
        name = f"{1000000 + index // 2}{'_reverse' * (index % 2)}"
        _clip(folder / "videos" / f"{name}.mp4", colour, way)
        for dim, truth, options in (
            ("direction", f"move from {way}", [f"move from {way}" for way in _WAYS]),
            ("action", "slide", ["slide", "jump", "spin"]),
        ):
            row = {"video_id": name, "dim": dim}
            for kind, asked in _tempcompass_questions(rng, dim, truth, options):
                tables[kind].append(row | asked)
    for name, rows in tables.items():
        write_parquet(folder / name / "test-00000-of-00001.parquet", rows)


def _tempcompass_questions(rng, dim, truth, options):
    """(format, question and answer): one fact in all four formats."""
    wrong = next(option for option in options if option != truth)
    lines, letter = _shuffled(rng, options, truth)
    right = lines[_LETTERS.index(letter)]
    lettered = "\n".join(["What does the square do?", *lines])
    yield "multi-choice", {"question": lettered, "answer": right}
    for option, answer in ((truth, "yes"), (wrong, "no")):
        question = f"Does the square {option}?"
        yield "yes_no", {"question": question, "answer": answer}
    for stem, labels in (
        ("Which caption fits the video better?", ("Caption A", "Caption B")),
        ("Which description fits the video better?", ("Option 1", "Option 2")),
    ):
        pair = rng.permutation([truth, wrong]).tolist()
        captions = [
            f"{label}: A square is seen to {option}."
            for label, option in zip(labels, pair, strict=True)
        ]
        answer = captions[pair.index(truth)]
        question = "\n".join([stem, *captions])
        yield "caption_matching", {"question": question, "answer": answer}
    facts = [
        f"Information {line[0]}: {{'subject': 'square', '{dim}': '{line[3:]}'}}"
        for line in lines
    ]
    yield (
        "captioning",
        {
            "question": "\n".join(
                ["Write a caption that fits the video.", *facts, "Generated Caption:"]
            ),
            "answer": right,
            "mc_question": lettered,
            "mc_answer": right,
        },
    )


def _write_longvideobench(folder, videos, seed):
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        colour, way = _scene(rng)
        name = f"sample{index:05d}"
        _clip(folder / "videos" / f"{name}.mp4", colour, way)
        write_json(folder / "subtitles" / f"{name}_en.json", [])
        for place, (category, question, answer, options) in enumerate(
            (
                (
                    "S2A",
                    "On a grey ground, what colour is the square?",
                    colour,
                    (*_COLOURS_RGB, "purple"),
                ),
                (
                    "E2O",
                    "A shape moves over the ground. Which is it?",
                    "a square",
                    ("a square", "a circle", "a triangle", "a star"),
                ),
            )
        ):
            options, letter = _shuffled(rng, options, answer)
            rows.append(
                {
                    "video_id": name,
                    "question": question,
                    "question_wo_referring_query": question.split(". ")[-1],
                    "candidates": [option[3:] for option in options],
                    "correct_choice": _LETTERS.index(letter),
                    "position": [0, FRAMES - 1],
                    "topic_category": ("KA-Knowledge-Art", "NP-News-Programs")[
                        index % 2
                    ],
                    "question_category": category,
                    "level": "L1-Perception",
                    "id": f"{name}_{place}",
                    "video_path": f"{name}.mp4",
                    "subtitle_path": f"{name}_en.json",
                    "duration_group": (15, 60, 600, 3600)[index % 4],
                    "starting_timestamp_for_subtitles": 0.0,
                    "duration": FRAMES / FPS,
                    "view_count": 0,
                }
            )
    write_json(folder / "lvb_val.json", rows)
    tidy = []
    for row in rows:
        options = [*row["candidates"], *["N/A"] * len(PLACES)]
        kept = {key: row[key] for key in row if key not in _ONLY_IN_JSON}
        tidy.append(kept | dict(zip(PLACES, options, strict=False)))
    write_parquet(folder / "validation-00000-of-00001.parquet", tidy)


_ONLY_IN_JSON = (
    "candidates",
    "position",
    "question_wo_referring_query",
    "level",
    "view_count",
)


def _write_rooms(folder, videos, seed):
    first = held_out.FIRST_SEED + 100 * seed
    held_out.write(folder, rooms=videos, videos=True, first_seed=first)


def _scene(rng):
    """(colour, way): what a clip shows."""
    return str(rng.choice(list(_COLOURS_RGB))), str(rng.choice(_WAYS))


def _shuffled(rng, options, answer):
    """Options in random order as "A. …", and the letter of the answer."""
    texts = [str(text) for text in rng.permutation(list(options))]
    lines = [f"{_LETTERS[i]}. {text}" for i, text in enumerate(texts)]
    return lines, _LETTERS[texts.index(answer)]


def _clip(path, colour, way):
    """An mp4 of two seconds: a square crosses from one side to the other."""
    starts = np.linspace(0, SIDE_PX - SQUARE_PX, FRAMES).astype(int)
    jpegs, top = [], (SIDE_PX - SQUARE_PX) // 2
    for left in starts if way == _WAYS[0] else starts[::-1]:
        frame = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
        frame[top : top + SQUARE_PX, left : left + SQUARE_PX] = _COLOURS_RGB[colour]
        encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1]
        jpegs.append(encoded.tobytes())
    encode_jpegs(jpegs, path, FPS)


WRITERS = {
    "videomme": _write_videomme,
    "tempcompass": _write_tempcompass,
    "longvideobench": _write_longvideobench,
    "vsi": _write_rooms,
    **samples_spatial.WRITERS,
}
