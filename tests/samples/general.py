"""Video-MME, TempCompass and LongVideoBench, tiny."""

from pathlib import Path

import numpy as np

from samples.square import COLOURS, FPS, FRAMES, WAYS, clip
from spacer_lib.artifacts import write_json
from spacer_lib.benchmarks.longvideobench import PLACES
from spacer_lib.benchmarks.schema import write_parquet
from spacer_lib.benchmarks.tempcompass import FORMATS

_LETTERS = "ABCDE"


def write_videomme(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """``videomme/test-*.parquet`` and ``data/``: three questions a video."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        colour, way = _scene(rng)
        name, number = f"sample{index:05d}", f"{index + 1:03d}"
        clip(folder / "data" / f"{name}.mp4", colour, way)
        asked = (
            ("Attribute Perception", "What colour is the square?", colour, COLOURS),
            (
                "Action Recognition",
                "How does the square move?",
                way,
                (*WAYS, "top to bottom", "It stands still"),
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
    return folder


def write_tempcompass(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """Every second video is the one before, reversed: a conflicting pair."""
    tables = {name: [] for name in FORMATS}
    for index in range(videos):
        rng = np.random.default_rng([seed, index // 2])
        colour, way = _scene(rng)
        if index % 2:
            way = WAYS[1 - WAYS.index(way)]
        name = f"{1000000 + index // 2}{'_reverse' * (index % 2)}"
        clip(folder / "videos" / f"{name}.mp4", colour, way)
        for dim, truth, options in (
            ("direction", f"move from {way}", [f"move from {way}" for way in WAYS]),
            ("action", "slide", ["slide", "jump", "spin"]),
        ):
            row = {"video_id": name, "dim": dim}
            for kind, asked in _tempcompass_questions(rng, dim, truth, options):
                tables[kind].append(row | asked)
    for name, rows in tables.items():
        write_parquet(folder / name / "test-00000-of-00001.parquet", rows)
    return folder


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


def write_longvideobench(folder: Path, *, videos: int = 2, seed: int = 0) -> Path:
    """Both files of the validation split, and ``videos/``: two questions a video."""
    rows = []
    for index in range(videos):
        rng = np.random.default_rng([seed, index])
        colour, way = _scene(rng)
        name = f"sample{index:05d}"
        clip(folder / "videos" / f"{name}.mp4", colour, way)
        write_json(folder / "subtitles" / f"{name}_en.json", [])
        for place, (category, question, answer, options) in enumerate(
            (
                (
                    "S2A",
                    "On a grey ground, what colour is the square?",
                    colour,
                    (*COLOURS, "purple"),
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
    return folder


_ONLY_IN_JSON = (
    "candidates",
    "position",
    "question_wo_referring_query",
    "level",
    "view_count",
)


def _scene(rng):
    """(colour, way): what a clip shows."""
    return str(rng.choice(COLOURS)), str(rng.choice(WAYS))


def _shuffled(rng, options, answer):
    """Options in random order as "A. …", and the letter of the answer."""
    texts = [str(text) for text in rng.permutation(list(options))]
    lines = [f"{_LETTERS[i]}. {text}" for i, text in enumerate(texts)]
    return lines, _LETTERS[texts.index(answer)]


WRITERS = {
    "videomme": write_videomme,
    "tempcompass": write_tempcompass,
    "longvideobench": write_longvideobench,
}
