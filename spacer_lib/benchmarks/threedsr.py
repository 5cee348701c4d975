"""3DSRBench: where things are in space, each question asked in several forms.

``3dsrbench_v1_vlmevalkit_circular.tsv`` with ``index, qid, question, A, B, C, D,
answer, category, image`` in any order. ``image`` is base64 text, copied once to
``.images``. ``XXXXXXXX-flip`` is a question on the mirrored picture, and a number at
the end of an id (``-1``) marks its options in another order.

``official`` is VLMEvalKit's exact matching, on which the authors' script builds: one
single option letter among the last words, or "answer is B", else the only option whose
text occurs. A failure is where they would ask a language model. ``aggregate`` has the
means over groups of forms that must all be right: ``circular`` (the authors' script:
options in all orders), ``flip`` and ``flip_circular`` as VLMEvalKit computes them, and
four means over categories. ``overall`` is the mean over rows.

Source: Ma et al., "3DSRBench", https://arxiv.org/abs/2412.07825;
huggingface.co/datasets/ccvl/3DSRBench.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.pictures import paired, tsv_cells, unpack
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    find_file,
    read_table,
)
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Prediction, Question

CATEGORIES = {
    "height_higher": "height",
    "location_above": "location",
    "location_closer_to_camera": "location",
    "location_next_to": "location",
    "orientation_in_front_of": "orientation",
    "orientation_on_the_left": "orientation",
    "orientation_viewpoint": "orientation",
    "multi_object_closer_to": "multi_object",
    "multi_object_facing": "multi_object",
    "multi_object_viewpoint_towards_object": "multi_object",
    "multi_object_parallel": "multi_object",
    "multi_object_same_direction": "multi_object",
}
COLUMNS = dict.fromkeys(
    ("qid", "question", "A", "B", "C", "D", "answer", "category"), str
)


def read_rows(path: PathLike) -> list[Question]:
    """Questions of 3DSRBench; its pictures are unpacked.

    Parameters
    ----------
    path : path
        The published folder, or its TSV file.

    Raises
    ------
    SpacerError
        If the file is not as published, or a picture cannot be written.
    """
    names = ["3dsrbench_v1_vlmevalkit_circular.tsv", "3dsrbench*.tsv", "3DSRBench.tsv"]
    file = find_file(path, names)
    records = read_table(file, COLUMNS, skip=["image"])
    images = unpack(file, lambda: tsv_cells(file))
    return [
        _row(record, paths, file, number)
        for number, (record, paths) in enumerate(paired(file, records, images), 1)
    ]


def _row(record: Record, images: list[str], file: Path, number: int) -> Question:
    where, category = f"{file} row {number}", record["category"]
    if category not in CATEGORIES:
        raise SpacerError(
            f"{where}: category",
            kind="benchmarks.unknown-task",
            got=category,
            expected=", ".join(CATEGORIES),
        )
    # An empty cell is no option; pandas wrote some of them as "nan".
    options = [
        f"{letter}. {record[letter]}"
        for letter in "ABCD"
        if record[letter].lower() not in ("", "nan")
    ]
    check_choice(f"{where}: answer", options, record["answer"])
    return {
        "id": record["qid"],
        "dataset": "3dsr",
        "scene_name": record["qid"][:8],
        "question_type": category,
        "problem_type": "multiple choice",
        "question": record["question"],
        "options": options,
        "ground_truth": record["answer"],
        "image": images,
        "groups": {"category": CATEGORIES[category]},
    }


_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_PHRASE = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def official(text: str, row: Question) -> Verdict:
    """VLMEvalKit's exact matching."""
    options = labelled_options(row["options"] or [])
    letter = _letter(text, options) or _by_text(text, options)
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    if letter == "Z":
        return Verdict(0.0, None, "refused_by_model")
    return Verdict(float(letter == row["ground_truth"]), letter)


def _letter(text: str, options: dict[str, str]) -> str | None:
    """The single option letter of a text; ``Z`` for a refusal."""
    if "Failed to obtain answer via API" in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return "Z"
    words = text.translate(_MARKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and "Z" in words:
        return "Z"
    phrase = _PHRASE.search(text)
    said = phrase[1].upper() if phrase else None
    return said if said in options else None


def _by_text(text: str, options: dict[str, str]) -> str | None:
    """The only option whose text occurs in a text that is not much longer."""
    if len(text.lower()) > 2 * sum(map(len, options.values())):
        return None
    said = [k for k, option in options.items() if option.lower() in text.lower()]
    return said[0] if len(said) == 1 else None


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """Shares of groups in which every form is right, and ``circular`` by category."""
    made = list(predictions)
    circular = _all_right(made, lambda name: re.sub(r"-\d$", "", name))
    parts = {
        part: _share({k: v for k, v in circular.items() if CATEGORIES[k[1]] == part})
        for part in dict.fromkeys(CATEGORIES.values())
    }
    return {
        "circular": _share(circular),
        "flip": _share(_all_right(made, lambda name: name.replace("-flip", ""))),
        "flip_circular": _share(_all_right(made, lambda name: name[:8])),
        **{f"circular {name}": share for name, share in parts.items() if share >= 0},
    }


def _all_right(
    predictions: list[Prediction], key: Callable[[str], str]
) -> dict[tuple[str, str], bool]:
    """(group, category of its first row) → whether every row of it is right."""
    first: dict[str, str] = {}
    wrong: Counter[str] = Counter()
    for made in predictions:
        group = key(made["id"])
        first.setdefault(group, made["question_type"])
        wrong[group] += made["score"] < 1
    return {(group, kind): not wrong[group] for group, kind in first.items()}


def _share(groups: dict[tuple[str, str], bool]) -> float:
    return sum(groups.values()) / len(groups) if groups else -1.0


def benchmark() -> Benchmark:
    """3DSRBench."""
    return Benchmark(
        "3dsr",
        "3DSRBench",
        source="huggingface.co/datasets/ccvl/3DSRBench",
        read=read_rows,
        official=official,
        aggregate=aggregate,
    )
