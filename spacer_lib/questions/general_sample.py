"""A small general set in Video-R1's raw format: drawn pictures with known answers.

It replaces the 60,000 general questions of SpaceR-151k in runs without downloads.
``mixture.read_video_r1`` reads it like the real rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spacer_lib.artifacts import (
    Manifest,
    PathLike,
    atomic_path,
    config_hash,
    sole_writer,
    write_json,
)
from spacer_lib.questions.generators import LETTERS

CELL_PX = 64  # a picture has 4 x 3 cells, with one shape in each at most
_COLOURS = ("red", "green", "blue", "orange", "purple", "black")
_SIDES = {"circle": 0, "square": 4, "triangle": 3}
_SHAPES = tuple(_SIDES)
_WORDS = ("north", "lamp", "seven", "river", "door", "apple", "stone", "train", "quiet")


def synthetic_general(count: int, out_dir: PathLike, seed: int) -> Path:
    """Draw ``count`` pictures with a question each, in Video-R1's raw format.

    The problem types take turns: words to read, a bar to measure, shapes to count, a
    colour to choose, a scene to describe. Row i depends on ``seed`` and i alone.

    Returns
    -------
    Path
        ``general.json`` in ``out_dir``, for ``read_video_r1(path, out_dir)``. The
        pictures are in folders beside it.
    """
    with sole_writer(out_dir):
        return _draw_all(count, Path(out_dir), seed)


def _draw_all(count: int, out_dir: Path, seed: int) -> Path:
    listing, raws = out_dir / "general.json", []
    files = [listing.name]
    for index in range(count):
        kind, folder, ask = _ASKED[index % len(_ASKED)]
        picture = Image.new("RGB", (4 * CELL_PX, 3 * CELL_PX), "white")
        rng = np.random.default_rng([seed, index])
        problem, options, answer = ask(ImageDraw.Draw(picture), rng)
        name = f"{folder}/{index:06d}.png"
        with atomic_path(listing.parent / name) as temporary:
            picture.save(temporary)
        files.append(f"./{name}")
        raws.append(
            {
                "problem_id": index,
                "problem": problem,
                "data_type": "image",
                "problem_type": kind,
                "options": options,
                "solution": f"<answer>{answer}</answer>",
                "path": f"./{name}",
                "data_source": "synthetic",
            }
        )
    write_json(listing, raws)
    with Manifest(out_dir) as manifest:
        manifest.record("general", config_hash([count, seed]), files)
    return listing


Asked = tuple[str, list[str], str]  # problem, options, answer


def _put(draw: ImageDraw.ImageDraw, cell: int, shape: str, colour: str) -> None:
    """Draw one shape into cell 0 … 11, counted along the rows."""
    x, y = (cell % 4 + 0.5) * CELL_PX, (cell // 4 + 0.5) * CELL_PX
    if _SIDES[shape]:
        draw.regular_polygon((x, y, 26), _SIDES[shape], fill=colour)
    else:
        draw.circle((x, y), 22, fill=colour)


def _pick(
    rng: np.random.Generator, names: Sequence[str], count: int, replace: bool = True
) -> list[str]:
    return [str(name) for name in rng.choice(names, count, replace)]


def _ask_words(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> Asked:
    words = _pick(rng, _WORDS, 3, replace=False)
    draw.text((20, 20), "\n".join(words), fill="black", font=ImageFont.load_default(36))
    return "What does the sign say?", [], " ".join(words)


def _ask_value(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> Asked:
    value, left, unit_px = int(rng.integers(5, 96)), 28, 2
    draw.rectangle((left, 60, left + unit_px * value, 110), fill="blue")
    for mark in range(0, 101, 10):
        x = left + unit_px * mark
        draw.line((x, 111, x, 120), fill="black")
        draw.text((x, 124), str(mark), fill="black", anchor="ma")
    return "At which value of the scale does the bar end?", [], str(value)


def _ask_count(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> Asked:
    cells = rng.choice(12, rng.integers(3, 11), replace=False)
    shapes = _pick(rng, _SHAPES, len(cells))
    for cell, shape in zip(cells, shapes, strict=True):
        _put(draw, cell, shape, *_pick(rng, _COLOURS, 1))
    problem = f"How many shapes of this kind are there: {shapes[0]}?"
    return problem, [], str(shapes.count(shapes[0]))


def _ask_colour(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> Asked:
    cells = rng.choice(12, len(_SHAPES), replace=False)
    colours = _pick(rng, _COLOURS, 4, replace=False)
    for cell, shape, colour in zip(cells, _SHAPES, colours[:-1], strict=True):
        _put(draw, cell, shape, colour)
    offered = _pick(rng, colours, 4, replace=False)
    options = [f"{LETTERS[i]}. {colour}" for i, colour in enumerate(offered)]
    asked = int(rng.integers(len(_SHAPES)))
    right = LETTERS[offered.index(colours[asked])]
    return f"Which colour is the {_SHAPES[asked]}?", options, right


def _ask_scene(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> Asked:
    shapes, colours = _pick(rng, _SHAPES, 2), _pick(rng, _COLOURS[:3], 2)
    for side, shape, colour in zip((0, 2), shapes, colours, strict=True):
        cell = int(side + 4 * rng.integers(3) + rng.integers(2))
        _put(draw, cell, shape, colour)
    things = [f"{c} {s}" for c, s in zip(colours, shapes, strict=True)]
    answer = f"There is a {things[0]} to the left of a {things[1]}."
    return "Describe the shapes and how they lie in one sentence.", [], answer


# Problem type as Video-R1 spells it, one of its folders, and the function that draws.
_ASKED: tuple[
    tuple[str, str, Callable[[ImageDraw.ImageDraw, np.random.Generator], Asked]], ...
] = (
    ("OCR", "OCR", _ask_words),
    ("regression", "Chart", _ask_value),
    ("numerical", "Math", _ask_count),
    ("multiple choice", "General", _ask_colour),
    ("free-form", "General", _ask_scene),
)
