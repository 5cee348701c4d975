"""Runs → tables for a paper: scores, paired differences, groups, failures.

A run is a folder with ``predictions.jsonl`` and, if the runner wrote it,
``evaluation.json``. All runs of a report answer the same questions of one benchmark.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from spacer_lib.artifacts import (
    PathLike,
    json_lines,
    make_folder,
    read_record,
    write_text,
)
from spacer_lib.benchmarks import named, rules_of
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.evaluation.bootstrap import FEW_CLUSTERS, FEW_MARK
from spacer_lib.evaluation.chain import check_answers, edits_in, refuse_cut_off
from spacer_lib.evaluation.floors import FLOORS, Strongest, counted, strongest
from spacer_lib.evaluation.predictions import UNREADABLE_MEDIA, reason
from spacer_lib.evaluation.statistics import compare, pooled, summarize
from spacer_lib.markup import csv_text, latex_table, markdown_table, markdown_text
from spacer_lib.rows import Prediction

STRONGEST = "strongest floor"  # what tables call the best floor of each task
NEEDED = ("id", "scene_name", "question_type", "score", "failure")
# VSI-Bench's tasks as papers print them.
_PRINTED = {
    "obj_appearance_order": "order",
    "object_abs_distance": "abs.*dist",
    "object_counting": "count",
    "object_rel_direction": "rel.*dir",
    "object_rel_distance": "rel.*dist",
    "object_size_estimation": "obj.*size",
    "room_size_estimation": "room",
    "route_planning": "route",
}


@dataclass(frozen=True)
class Run:
    """Predictions of one model and condition, of one seed or of several.

    Attributes
    ----------
    name : str
    parts : list of list of Prediction
        One list per seed.
    about : dict
        Content of ``evaluation.json``, of the first part.
    edited : tuple of str
        What was edited in its files after they were written, and accepted.
    """

    name: str
    parts: list[list[Prediction]]
    about: dict[str, Any] = field(default_factory=dict)
    edited: tuple[str, ...] = ()

    @property
    def floor(self) -> bool:
        """Whether the questions were answered without the video."""
        return self.condition == "blind" or self.counted is not None

    @property
    def condition(self) -> str:
        """What was shown; ``""`` if the run does not say."""
        said = self.about.get("condition") or self.parts[0][0].get("condition")
        return str(said or "")

    @property
    def counted(self) -> str | None:
        """Where a counted floor counts its answers, such as ``training rows``."""
        backend = self.about.get("backend")
        backend = backend if isinstance(backend, dict) else {}
        for word in (backend.get("floor"), self.condition):
            kind, _, where = str(word or "").partition(" of ")
            if kind in FLOORS and where:
                return where
        return None

    @property
    def title(self) -> str:
        """The name as a heading."""
        seeds = len(self.parts)
        return self.name if seeds == 1 else f"{self.name} ({seeds} seeds)"

    @property
    def records(self) -> list[Prediction]:
        """All predictions in one list; ids are made distinct if there are seeds."""
        return self.parts[0] if len(self.parts) == 1 else _seeds(self.parts)


@dataclass(frozen=True)
class Table:
    """One table twice: as numbers, and as it is shown."""

    caption: str
    tidy: pd.DataFrame
    shown: pd.DataFrame


@dataclass(frozen=True)
class Report:
    """The content of a report, for ``write_report`` and ``figures.report_figures``.

    Attributes
    ----------
    benchmark : Benchmark
    reference : str or None
        Name of the run that differences are counted from.
    summaries : dict
        ``{run: summarize(…)}`` of all runs but the floors.
    floors : dict
        The same of the floors, ``strongest floor`` included.
    differences : dict
        ``{run: compare(reference, run)}`` of all runs but the floors.
    tables : dict
        ``{name: Table}``: scores, floors, deltas, groups, failures, published,
        missing_media; empty ones are left out.
    edited : tuple of str
        Of all runs, see ``Run``.
    """

    benchmark: Benchmark
    reference: str | None
    summaries: dict[str, pd.DataFrame]
    floors: dict[str, pd.DataFrame]
    differences: dict[str, pd.DataFrame]
    tables: dict[str, Table]
    edited: tuple[str, ...] = ()


# ---------------------------------------------------------------- runs


def read_run(
    path: PathLike, name: str | None = None, *, accept_edited: bool = False
) -> Run:
    """A run from its folder, or from its file of predictions.

    Raises
    ------
    SpacerError
        If a line is not a scored prediction, with the line and the missing key; if
        there is no line; if the file was edited after it was written, unless
        ``accept_edited``; if it ends within a line.
    """
    path = Path(path)
    folder, file = path, path / "predictions.jsonl"
    if path.is_file():
        folder, file = path.parent, path
    if file.is_file():
        refuse_cut_off(file)
    records: list[Prediction] = []
    for line, record in json_lines(file):
        lacking = [key for key in NEEDED if key not in record]
        if lacking:
            raise SpacerError(
                f"{line}: {lacking[0]} is missing",
                kind="evaluation.not-scored",
                got=", ".join(record)[:120],
                expected="a scored prediction",
                remedy="evaluate, or score it with `spacer score`",
            )
        records.append(cast(Prediction, record))
    if not records:
        raise SpacerError(
            file,
            kind="evaluation.no-predictions",
            got="no rows",
            expected="predictions",
        )
    header = folder / "evaluation.json"
    about = read_record(header) if header.exists() else {}
    found = check_answers(file, records, accept_edited=accept_edited)
    edited = tuple(f"{file}: {one}" for one in [*edits_in(folder), found] if one)
    return Run(name or folder.resolve().name, [records], about, edited)


def pool_runs(name: str, runs: Sequence[Run]) -> Run:
    """Runs of one arm, such as its seeds, as one: the mean over them.

    Intervals resample rooms with all their seeds together. They hold for these seeds
    only: three are too few to say more.
    """
    _same_questions(runs)
    parts = [part for run in runs for part in run.parts]
    edited = tuple(one for run in runs for one in run.edited)
    return Run(name, parts, runs[0].about, edited)


def _same_questions(runs: Sequence[Run]) -> None:
    """Refuse runs that do not all ask the same questions, once each."""
    first = runs[0].parts[0]
    asked = {str(record["id"]) for record in first}
    for run in runs:
        for part in run.parts:
            ids = {str(record["id"]) for record in part}
            if len(ids) < len(part) or ids != asked:
                raise SpacerError(
                    f"questions of {run.name}",
                    kind="evaluation.other-questions",
                    got=f"{len(part)}, {len(ids & asked)} of them also in "
                    f"{runs[0].name}",
                    expected=f"the same {len(asked)}, once each",
                    remedy="evaluate all runs on the same rows",
                )


# ---------------------------------------------------------------- tables


def make_report(
    runs: Sequence[Run],
    *,
    benchmark: str | None = None,
    reference: str | None = None,
    published: Mapping[str, pd.DataFrame] | None = None,
) -> Report:
    """Tables of several runs.

    Parameters
    ----------
    runs : list of Run
        With distinct names.
    benchmark : str, optional
        Instead of the one in ``evaluation.json``.
    reference : str, optional
        Name of the run that differences are counted from.
    published : dict, optional
        ``{name of a table: DataFrame}``: models by printed columns, in per cent.

    Returns
    -------
    Report

    Raises
    ------
    SpacerError
        For an unknown benchmark or reference; for runs of several benchmarks, of the
        same name, or with different questions.
    """
    chosen = _benchmark(runs, benchmark)
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpacerError(
            "runs",
            kind="evaluation.name-twice",
            got=f"two named {twice}",
            expected="distinct names",
        )
    if reference is not None and reference not in names:
        raise SpacerError(
            "reference",
            kind="evaluation.unknown-reference",
            got=reference,
            expected=", ".join(names),
            remedy=nearest(reference, names),
        )
    _same_questions(runs)
    summaries = {run.name: summarize(run.records) for run in runs}
    floors = {run.name: summaries.pop(run.name) for run in runs if run.floor}
    best = _strongest(runs, chosen)
    base = next((run for run in runs if run.name == reference), None)
    differences = {
        run.name: compare(*_paired(base, run))
        for run in runs
        if base is not None and run is not base and not run.floor
    }
    lines = [
        (summaries | floors)[run.name].assign(
            run=run.name, title=run.title, floor=run.floor, seeds=len(run.parts)
        )
        for run in runs
    ]
    if best is not None:
        floors[STRONGEST] = best.table
        about = {"run": STRONGEST, "title": STRONGEST, "floor": True, "seeds": 1}
        lines.append(best.table.assign(**about))
    everything = pd.concat(lines, ignore_index=True)
    seeds = {run.name: len(run.parts) for run in runs}
    made = {
        "scores": _scores(everything, chosen),
        "floors": _against_floors(runs, best),
        "deltas": _deltas(differences, reference, seeds),
        "groups": _grouped(everything),
        "failures": _failures(runs),
        "published": _beside(everything, published, chosen),
        "missing_media": _missing(runs),
    }
    tables = {k: t for k, t in made.items() if t is not None and len(t.tidy)}
    edited = tuple(one for run in runs for one in run.edited)
    return Report(chosen, reference, summaries, floors, differences, tables, edited)


def _strongest(runs: Sequence[Run], benchmark: Benchmark) -> Strongest | None:
    """The best floor of each task: of the runs, and counted on the rows themselves.

    Nothing is counted if one of the runs is a floor that was counted on training rows.
    """
    shown = [run for run in runs if run.floor or run.condition == "other"]
    parts = {run.name: run.parts[0] for run in shown}
    if not any(run.counted == "training rows" for run in runs):
        extraction = str(runs[0].about.get("extraction") or "strict")
        rule = rules_of(benchmark)[extraction.removesuffix("+fallback")]
        known = {run.about.get("name") for run in shown}
        made = counted(runs[0].parts[0], rule)
        parts |= {name: part for name, part in made.items() if name not in known}
    return strongest(parts) if parts else None


def _benchmark(runs: Sequence[Run], name: str | None) -> Benchmark:
    said = {run.about["benchmark"] for run in runs if run.about.get("benchmark")}
    if name is None and len(said) != 1:
        raise SpacerError(
            "benchmark of the runs",
            kind="evaluation.which-benchmark",
            got=", ".join(sorted(said)) or "none is named",
            expected="one",
            remedy="report one at a time, or name it with --benchmark",
        )
    return named(name or said.pop())


def _paired(base: Run, run: Run) -> list[list[Prediction]]:
    """Both sides' predictions; a single reference is paired with each seed."""
    first, second = base.parts, run.parts
    seeds = max(len(first), len(second))
    if {len(first), len(second)} - {1, seeds}:
        raise SpacerError(
            f"{run.name} against {base.name}",
            kind="evaluation.uneven-seeds",
            got=f"{len(second)} and {len(first)} seeds",
            expected="the same number, or one",
        )
    return [_seeds(p if len(p) == seeds else p * seeds) for p in (first, second)]


def _seeds(parts: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    return pooled(dict(enumerate(parts)))


_PAIRED = ["n", "spaces", "before", "after", "delta", "low", "high", "verdict"]
COLUMNS = [
    "run",
    "seeds",
    "floor",
    "level",
    "name",
    "n",
    "spaces",
    "score",
    "score_low",
    "score_high",
]
HITS = ["hits", "hits_low", "hits_high"]  # where maps were drawn


def _scores(everything: pd.DataFrame, benchmark: Benchmark) -> Table:
    levels = ("question_type", "kind", "macro", "overall")
    rows = everything[everything["level"].isin(levels)]
    labels = rows["name"].replace("overall", "micro")
    rows = rows.assign(label=labels.replace(benchmark.overall, f"{benchmark.overall}*"))
    caption = (
        f"{benchmark.title}: score in per cent with its 95% interval over rooms or "
        "videos; * marks the published aggregate"
    )
    floors = rows.loc[rows["floor"], "run"].unique()
    caption += f"; floors: {', '.join(floors)}" if len(floors) else ""
    body = rows[rows["level"] != "question_type"]
    shown = _side_by_side(body, "task")
    if "strongest" in body:
        names = body.dropna(subset="strongest").set_index("label")["strongest"]
        shown["which floor"] = shown["task"].map(names)
    columns = [*COLUMNS, *(k for k in HITS if k in rows), "wrong", "failures"]
    return Table(caption + _few(body), rows[columns], shown)


def _against_floors(runs: Sequence[Run], best: Strongest | None) -> Table | None:
    """Each run minus the strongest floor, question by question."""
    asked = [run for run in runs if not run.floor and run.condition != "other"]
    if best is None or not asked:
        return None
    floor = best.table[best.table["level"].isin(("kind", "macro", "overall"))]
    tables, shown = [], floor[["name", "strongest"]].reset_index(drop=True)
    shown["name"] = shown["name"].replace("overall", "micro")
    shown.insert(1, STRONGEST, _cells(floor, "score", "score_low", "score_high"))
    for run in asked:
        pair = _seeds([best.records] * len(run.parts)), _seeds(run.parts)
        table = compare(*pair)
        table = table[table["measure"] == "score"].merge(
            floor[["level", "name", "strongest"]], on=["level", "name"]
        )
        cells = _cells(table, "delta", "low", "high", sign="+")
        words = table["verdict"].tolist()
        shown[f"{run.title} minus floor"] = [
            f"{cell} {word}" for cell, word in zip(cells, words, strict=True)
        ]
        tables.append(table.assign(run=run.name, seeds=len(run.parts)))
    caption = "against the strongest floor of each task: percentage points, 95%"
    columns = ["run", "seeds", "level", "name", "strongest", *_PAIRED]
    tidy = pd.concat(tables, ignore_index=True)[columns]
    return Table(caption + _few(floor), tidy, shown)


def _grouped(everything: pd.DataFrame) -> Table:
    rows = everything[everything["level"].str.contains(" ")]  # "<axis> macro"
    way = rows["level"].str.replace("overall", "micro").str.rsplit(n=1)
    label = way.str[0] + ": " + rows["name"].astype(str) + ", " + way.str[1]
    shown = _side_by_side(rows.assign(label=label), "group")
    caption = "score in per cent by group, with its 95% interval" + _few(rows)
    return Table(caption, rows[COLUMNS], shown)


def _side_by_side(rows: pd.DataFrame, first: str) -> pd.DataFrame:
    """Tasks as rows, runs as columns, each cell a score with its interval."""
    cells: dict[str, dict[str, Any]] = {}
    for line in rows.itertuples():
        row = cells.setdefault(line.label, {first: line.label, "n": 0})
        row["n"] = max(row["n"], line.n // line.seeds)
        few = line.spaces < FEW_CLUSTERS
        row[line.title] = _cell(line.score, line.score_low, line.score_high, few=few)
    return pd.DataFrame(cells.values()).fillna("–")


def _cell(
    value: float, low: float, high: float, sign: str = "", few: bool = False
) -> str:
    """``45.6 [43.1, 48.0]`` in per cent; a single room has no interval."""
    mean, least, most = (f"{100 * number:{sign}.1f}" for number in (value, low, high))
    interval = f"{mean} [{least}, {most}]{FEW_MARK if few else ''}"
    return mean if least.endswith("nan") else interval


def _cells(rows: pd.DataFrame, *columns: str, sign: str = "") -> list[str]:
    """``_cell`` of each row: its columns of a value and of the two ends."""
    few = rows["spaces"] < FEW_CLUSTERS
    values = rows[list(columns)].to_numpy(float)
    return [
        _cell(value, low, high, sign, mark)
        for (value, low, high), mark in zip(values, few, strict=True)
    ]


def _few(rows: pd.DataFrame) -> str:
    """What a caption says of intervals of few rooms."""
    if not rows["spaces"].between(2, FEW_CLUSTERS - 1).any():
        return ""
    return (
        f"; {FEW_MARK} of fewer than {FEW_CLUSTERS} rooms or videos: may be too narrow"
    )


def _deltas(
    differences: Mapping[str, pd.DataFrame],
    reference: str | None,
    seeds: Mapping[str, int],
) -> Table | None:
    if reference is None or not differences:
        return None
    tidy = pd.concat(
        [
            table[table["measure"] == "score"].assign(
                run=name,
                reference=reference,
                seeds=max(seeds[name], seeds[reference]),
            )
            for name, table in differences.items()
        ],
        ignore_index=True,
    )
    columns = [
        "run",
        "reference",
        "seeds",
        "level",
        "name",
        "n",
        "before",
        "after",
        "delta",
        "low",
        "high",
        "verdict",
    ]
    body = tidy[tidy["level"].isin(("kind", "macro", "overall"))]
    shown = pd.DataFrame(
        {
            "run": body["run"],
            "task": body["name"].replace("overall", "micro"),
            "n": body["n"] // body["seeds"],
            "reference": [f"{100 * value:.1f}" for value in body["before"]],
            "score": [f"{100 * value:.1f}" for value in body["after"]],
            "difference": _cells(body, "delta", "low", "high", sign="+"),
            "verdict": body["verdict"],
        }
    )
    caption = f"against {reference}, question by question: percentage points, 95%"
    return Table(caption + _few(body), tidy[columns], shown)


def _failures(runs: Sequence[Run]) -> Table:
    counts = [
        {"run": run.name, "failure": why, "rows": count}
        for run in runs
        for why, count in _reasons(run).most_common()
    ]
    tidy = pd.DataFrame(counts, columns=["run", "failure", "rows"])
    shown = pd.DataFrame(
        [
            {
                "failure": why,
                **{run.name: 0 for run in runs},
                **dict(zip(part["run"], part["rows"], strict=True)),
            }
            for why, part in tidy.groupby("failure")
        ],
    )
    return Table("rows without an answer that could be read, all wrong", tidy, shown)


def _reasons(run: Run) -> Counter[str]:
    return Counter(reason(r["failure"]) for r in run.records if r["failure"])


def _missing(runs: Sequence[Run]) -> Table:
    tidy = pd.DataFrame(
        [
            {"run": run.name, "id": record["id"], "failure": record["failure"]}
            for run in runs
            for record in run.records
            if str(record["failure"] or "").startswith(UNREADABLE_MEDIA)
        ]
    )
    shown = tidy.head(20).astype(str)
    more = f"; the first 20 of {len(tidy)}" if len(tidy) > 20 else ""
    return Table(f"rows whose media could not be read, all wrong{more}", tidy, shown)


def _beside(
    everything: pd.DataFrame,
    published: Mapping[str, pd.DataFrame] | None,
    benchmark: Benchmark,
) -> Table | None:
    """Models as rows as papers print them, ours first, in per cent."""
    if not published:
        return None
    whole = {"macro": "macro", "micro": "overall"}[benchmark.overall]
    ours = []
    for name, table in everything.groupby("title", sort=False):
        kinds = table[table["level"] == "kind"].set_index("name")["score"]
        overall = table.loc[table["level"] == whole, "score"].iloc[0]
        ours.append(
            {"model": name, "source": "ours", **100 * kinds, "overall": 100 * overall}
        )
    theirs = []
    for source, paper in published.items():
        tasks = {column: _task_of(str(column), benchmark) for column in paper.columns}
        tasks = {column: task for column, task in tasks.items() if task}
        if not tasks:
            raise SpacerError(
                f"published table {source}",
                kind="evaluation.no-column-of-tasks",
                got=", ".join(map(str, paper.columns)),
                expected=f"columns of {benchmark.title}'s tasks, or of its title",
            )
        for model, row in paper[list(tasks)].rename(columns=tasks).iterrows():
            theirs.append({"model": str(model), "source": source, **row})
    tidy = pd.DataFrame(ours + theirs)
    # Only what a paper prints, in our order of tasks.
    kept = [column for column in tidy if any(column in line for line in theirs)]
    tidy = tidy[kept].dropna(how="all", subset=kept[2:])
    numbers = tidy[kept[2:]].map(lambda v: "–" if np.isnan(v) else f"{v:.1f}")
    shown = tidy.assign(**numbers)
    return Table(f"{benchmark.title} beside published rows, in per cent", tidy, shown)


def _task_of(column: str, benchmark: Benchmark) -> str | None:
    if re.fullmatch(r"avg\.?|overall( acc.*)?", column, re.IGNORECASE) or column in (
        benchmark.title,
        f"{benchmark.title} Overall",
    ):
        return "overall"
    for task, pattern in _PRINTED.items():
        if re.search(pattern, column, re.IGNORECASE):
            return task
    return None


# ---------------------------------------------------------------- files


def write_report(
    report: Report, out: PathLike, figures: Sequence[PathLike] = ()
) -> list[Path]:
    """Every table as CSV (numbers), Markdown and LaTeX, and all of them in report.md.

    Parameters
    ----------
    report : Report
    out : path
    figures : sequence of path
        Pictures in ``out``; report.md shows the SVG ones.

    Returns
    -------
    list of Path
    """
    folder = make_folder(out)
    paths: list[Path] = []
    text = [f"# {report.benchmark.title}"]
    text += [
        f"Edited after it was written, and accepted: {markdown_text(edit)}"
        for edit in report.edited
    ]
    pictures = [Path(path) for path in figures if Path(path).suffix == ".svg"]
    text += [f"![{path.stem}]({path.name})" for path in pictures]
    for name, table in report.tables.items():
        body = markdown_table(table.shown.columns, table.shown.itertuples(index=False))
        text.append(f"{markdown_text(table.caption)}\n\n{body.rstrip()}")
        for suffix, content in (
            ("csv", csv_text(table.tidy)),
            ("md", body),
            ("tex", latex_table(table.shown, table.caption)),
        ):
            paths.append(folder / f"{name}.{suffix}")
            write_text(paths[-1], content)
    paths.append(folder / "report.md")
    write_text(paths[-1], "\n\n".join(text) + "\n")
    return paths
