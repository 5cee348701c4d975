"""SITE-Bench: six categories of spatial intelligence, on pictures and on videos.

Tables ``image_test`` and ``video_test`` (Parquet, JSON or JSON lines) with ``question,
options, answer, category, dataset, visual``. ``visual`` are paths from the folder.
``<image>`` in a question stands for a picture; here it becomes "(picture 1)", since all
pictures come before the text.

``official`` is the authors' ``parse_multi_choice_response``: a letter in brackets, else
between spaces, else before a full stop, else beside a colon; of several the last that
stands between spaces, else the first. Where it finds none, the authors draw a letter at
random; here it is a failure. ``aggregate`` has their chance-adjusted accuracy, the sum
of (score - 1/n) over the sum of (1 - 1/n) with n options. Overall is the mean over
rows.

Source: Wang et al., "SITE", https://arxiv.org/abs/2505.05456;
github.com/wenqi-wang20/SITE-Bench.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.schema import (
    Benchmark,
    Record,
    Verdict,
    check_choice,
    check_paths,
    find_file,
    lettered,
    read_table,
)
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import Prediction, Question

TABLES = ("image_test", "video_test")
COLUMNS: dict[str, Any] = {
    "question": str,
    "options": list,
    "answer": str,
    "category": str,
    "dataset": str,
    "visual": list,
}


def read_rows(path: PathLike) -> list[Question]:
    """Questions of SITE-Bench.

    Parameters
    ----------
    path : path
        The published folder, of which both tables are read, or one table.

    Raises
    ------
    SpacerError
        If a table is missing or not as published.
    """
    if Path(path).is_file():
        file = Path(path)
        table = TABLES["video" in f"{file.parent.name}/{file.name}"]
        inside = file.parent.name == table
        return _rows(file, file.parent.parent if inside else file.parent, table)
    rows = []
    for table in TABLES:
        kinds = ("parquet", "jsonl", "json")
        places = itertools.product((f"{table}/*", f"{table}*", f"*/{table}*"), kinds)
        file = find_file(path, [f"{name}.{kind}" for name, kind in places])
        rows += _rows(file, Path(path), table)
    return rows


def _rows(file: Path, root: Path, table: str) -> list[Question]:
    records = read_table(file, COLUMNS)
    return [_row(record, file, root, table, i) for i, record in enumerate(records, 1)]


def _row(record: Record, file: Path, root: Path, table: str, number: int) -> Question:
    where, names = f"{file} row {number}", record["visual"]
    options = lettered(record["options"])
    check_choice(f"{where}: answer", options, record["answer"])
    check_paths(f"{where}: visual", names)
    counter = itertools.count(1)
    question, *options = [
        re.sub("<image>", lambda _: f"(picture {next(counter)})", text)
        for text in (record["question"].strip(), *options)
    ]
    paths = [str(root / name) for name in names]
    row: Question = {
        "id": f"{table}|{number - 1}",  # the tables name none
        "dataset": record["dataset"],
        "scene_name": names[0],
        "question_type": record["category"],
        "problem_type": "multiple choice",
        "question": question,
        "options": options,
        "ground_truth": record["answer"],
        "groups": {"media": table.partition("_")[0], "dataset": record["dataset"]},
    }
    if table == "image_test":
        row["image"] = paths
    else:
        row["video"] = paths[0]
    return row


def official(text: str, row: Question) -> Verdict:
    """The published rule, without the random letter."""
    letters = list(labelled_options(row["options"] or []))
    text = f" {text.strip()} "
    forms: tuple[tuple[str, ...], ...] = (
        ("({})",),
        (" {} ",),
        ("{}.",),
        ("{}:", ":{}", ": {}"),
    )
    for form in forms:
        found = [c for c in letters if any(f.format(c) in text for f in form)]
        if found:
            letter = max(found, key=lambda c: text.rfind(f" {c} "))
            return Verdict(float(letter == row["ground_truth"]), letter)
    return Verdict(0.0, None, "no_letter")


def aggregate(predictions: Iterable[Prediction]) -> dict[str, float]:
    """The authors' chance-adjusted accuracy."""
    above = below = 0.0
    for made in predictions:
        chance = 1 / len(made["options"] or [None])
        above += made["score"] - chance
        below += 1 - chance
    return {"chance_adjusted": above / below if below else 0.0}


def benchmark() -> Benchmark:
    """SITE-Bench."""
    return Benchmark(
        "site",
        "SITE-Bench",
        source="huggingface.co/datasets/franky-veteran/SITE-Bench",
        read=read_rows,
        official=official,
        aggregate=aggregate,
    )
