"""VSI-Bench: eight tasks in rooms, and its debiased subset.

``id, dataset, scene_name, question_type, question, options, ground_truth`` in
``test*.parquet`` (or JSON lines); videos in ``{dataset}/{scene_name}.mp4``. A file
with a column ``pruned`` is the full set with the debiased subset marked in it.

Source: Yang et al., "Thinking in Space", and its published evaluator; the released
one compares floats without a tolerance, and so does ``official``.
"""

import json

import numpy as np

from spacer_lib.benchmarks.schema import Benchmark, Verdict, find_file, read_table
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options
from spacer_lib.language.numbers import read_number

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
COLUMNS = {
    "id": (int, str),
    "dataset": str,
    "scene_name": (int, str),
    "question_type": str,
    "question": str,
    "ground_truth": str,
    "options": (list, type(None)),
}
# Columns that only files of ours have, JSON text in a Parquet file: the true map, and
# the categories that are asked about.
OURS = ("map", "categories")
_CONFIDENCES = np.linspace(0.5, 0.95, 10)


def read_rows(path, *, debiased=False):
    """Rows of VSI-Bench.

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
            got="no column pruned",
            expected="that column, or a file test_debiased.parquet",
        )
    return [_row(record, file, number) for number, record in enumerate(records, 1)]


def _row(record, file, number):
    kind = record["question_type"]
    if kind not in (*CHOICE, *NUMBER):
        raise SpacerError(
            f"{file} row {number}: question_type",
            got=kind,
            expected=", ".join((*CHOICE, *NUMBER)),
        )
    scene, dataset = str(record["scene_name"]), record["dataset"]
    is_choice = kind in CHOICE
    if not is_choice and not read_number(record["ground_truth"])[0]:
        raise SpacerError(
            f"{file} row {number}: ground_truth",
            got=record["ground_truth"],
            expected="a number other than 0: the rule divides by it",
        )
    return {
        **record,
        **{name: _json(record, name, file, number) for name in OURS if name in record},
        "id": str(record["id"]),
        "published_id": record["id"],
        "scene_name": scene,
        "problem_type": "multiple choice" if is_choice else "numerical",
        "options": list(record["options"]) if is_choice else None,
        "video": record.get("video") or str(file.parent / dataset / f"{scene}.mp4"),
        "groups": {
            "dataset": dataset,
            "source": "ScanNet" if dataset == "scannet" else "not ScanNet",
        },
    }


def _json(record, name, file, number):
    if not isinstance(record[name], str):  # JSON lines hold it as it is
        return record[name]
    try:
        return json.loads(record[name])
    except ValueError as error:
        raise SpacerError(
            f"{file} row {number}: column {name}",
            got=repr(record[name])[:80],
            expected="JSON text",
        ) from error


def official(text, row):
    """The published rule: the text up to the first space, without full stops.

    A letter must equal the truth up to case; a number is whatever ``float`` reads,
    scored by mean relative accuracy over ten confidences.
    """
    word = text.split(" ")[0].rstrip(".").strip()
    truth = row["ground_truth"]
    if row["question_type"] in CHOICE:
        named = word.upper() in labelled_options(row["options"])
        return Verdict(
            float(word.lower() == truth.lower()),
            word if named else None,
            None if named else "not_an_option",
        )
    try:
        error = abs(float(word) - float(truth)) / float(truth)
    except ValueError:
        return Verdict(0.0, None, "no_number")
    return Verdict(float((error <= 1 - _CONFIDENCES).mean()), word)


def benchmark(name="vsi", title="VSI-Bench", debiased=False):
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
