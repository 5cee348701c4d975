"""VSI-Bench: eight tasks in rooms, and its debiased subset.

``id, dataset, scene_name, question_type, question, options, ground_truth`` in
``test*.parquet`` (or JSON lines); videos in ``{dataset}/{scene_name}.mp4``. A file
with a column ``pruned`` holds the full set and marks the rows outside the debiased
subset. ``official`` compares floats without a tolerance, as the published evaluator
does.

Source: Yang et al., "Thinking in Space", and its published evaluator.
"""

from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike, parse_json
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
from spacer_lib.language.numbers import read_number
from spacer_lib.rewards.metrics import float_accuracy
from spacer_lib.rows import Question

CHOICE = (
    "object_rel_direction_easy",
    "object_rel_direction_medium",
    "object_rel_direction_hard",
    "object_rel_distance",
    "route_planning",
    "obj_appearance_order",
)
NUMBER = (
    "object_abs_distance",
    "object_counting",
    "object_size_estimation",
    "room_size_estimation",
)
COLUMNS: dict[str, Any] = {
    "id": (int, str),
    "dataset": str,
    "scene_name": (int, str),
    "question_type": str,
    "question": str,
    "ground_truth": str,
    "options": (list, type(None)),
}


def read_rows(path: PathLike, *, debiased: bool = False) -> list[Question]:
    """Questions of VSI-Bench.

    Parameters
    ----------
    path : path
        The published folder, or one file of it.
    debiased : bool
        Only the debiased subset: ``test_debiased.parquet``, or the rows of the full
        file that are not marked as pruned.

    Raises
    ------
    SpacerError
        If the file is not as published, or does not mark the subset.
    """
    names = ["test*.parquet", "*.parquet", "*.jsonl"]
    file = find_file(path, ["*debiased*.parquet", *names] if debiased else names)
    records = read_table(file, COLUMNS)
    if debiased and "pruned" in records[0]:
        records = [record for record in records if not record["pruned"]]
    elif debiased and "debiased" not in file.name:
        raise SpacerError(
            f"{file}: the debiased subset",
            kind="benchmarks.no-debiased-subset",
            got="no column pruned",
            expected="that column, or a file test_debiased.parquet",
        )
    return [_row(record, file, number) for number, record in enumerate(records, 1)]


def _row(record: Record, file: Path, number: int) -> Question:
    kind = record["question_type"]
    if kind not in (*CHOICE, *NUMBER):
        raise SpacerError(
            f"{file} row {number}: question_type",
            kind="benchmarks.unknown-task",
            got=kind,
            expected=", ".join((*CHOICE, *NUMBER)),
        )
    scene, dataset = str(record["scene_name"]), record["dataset"]
    is_choice = kind in CHOICE
    if is_choice:
        where = f"{file} row {number}: options"
        check_choice(where, record.get("options") or [], record["ground_truth"])
    elif not read_number(record["ground_truth"])[0]:
        raise SpacerError(
            f"{file} row {number}: ground_truth",
            kind="benchmarks.answer-not-a-number",
            got=record["ground_truth"],
            expected="a number other than 0: the rule divides by it",
        )
    row: Question = {
        "id": str(record["id"]),
        "published_id": record["id"],
        "dataset": dataset,
        "scene_name": scene,
        "question_type": kind,
        "problem_type": "multiple choice" if is_choice else "numerical",
        "question": record["question"],
        "options": list(record["options"]) if is_choice else None,
        "ground_truth": record["ground_truth"],
        "video": record.get("video") or str(file.parent / dataset / f"{scene}.mp4"),
        "groups": {
            "dataset": dataset,
            "source": "ScanNet" if dataset == "scannet" else "not ScanNet",
        },
    }
    # Our own files also have these two columns, as JSON text.
    if "map" in record:
        row["map"] = _json(record, "map", file, number)
    if "categories" in record:
        row["categories"] = _json(record, "categories", file, number)
    if "pruned" in record:
        row["pruned"] = record["pruned"]
    return row


def _json(record: Record, name: str, file: Path, number: int) -> Any:
    if not isinstance(record[name], str):  # JSON lines hold the value itself
        return record[name]
    try:
        return parse_json(record[name])
    except ValueError as error:
        raise SpacerError(
            f"{file} row {number}: column {name}",
            kind="benchmarks.column-not-json",
            got=repr(record[name])[:80],
            expected="JSON text",
        ) from error


def official(text: str, row: Question) -> Verdict:
    """The published rule: the text up to the first space, without full stops.

    A letter must equal the truth up to case. A number is what ``float`` reads; its
    score is the mean relative accuracy over ten confidences.
    """
    word = text.split(" ")[0].rstrip(".").strip()
    truth = row["ground_truth"]
    if row["question_type"] in CHOICE:
        named = word.upper() in labelled_options(row["options"] or [])
        return Verdict(
            float(word.lower() == truth.lower()),
            word if named else None,
            None if named else "not_an_option",
        )
    try:
        return Verdict(float_accuracy(float(word), float(truth)), word)
    except ValueError:
        return Verdict(0.0, None, "no_number")


def benchmark(
    name: str = "vsi", title: str = "VSI-Bench", debiased: bool = False
) -> Benchmark:
    """VSI-Bench or its debiased subset."""
    return Benchmark(
        name,
        title,
        source="huggingface.co/datasets/nyu-visionx/VSI-Bench",
        read=lambda path: read_rows(path, debiased=debiased),
        official=official,
        overall="macro",
        mode="think_map",
        whole=read_rows if debiased else None,
    )
