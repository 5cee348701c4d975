"""Whole figures: of a question set, of a report, and of the papers' tables.

The data figures of the SpaceR paper are redrawn from the files of any question folder:
Figure 1, examples and the map; 2, sources and tasks; 5, question templates; 6, video
durations. Tables of the papers are drawn from ``published``.
"""

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from spacer_lib import published
from spacer_lib.artifacts import (
    PathLike,
    atomic_path,
    read_record,
    sole_writer,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.report import Report
from spacer_lib.language.tags import read_completion
from spacer_lib.pictures import (
    behind,
    evaluation_plots,
    map_plots,
    question_plots,
    room_plots,
    tables,
    training_plots,
)
from spacer_lib.pictures.style import legend_above, short_name, use_house_style
from spacer_lib.rooms.video import read_frames
from spacer_lib.rows import Prediction, Question, read_questions

_SETTINGS = ("billion parameters", "frames")  # units of settings, not of results
# Names of the placeholders of Figure 5, by question type.
_ROLES = {
    "object_abs_distance": ("object 1", "object 2"),
    "object_rel_distance": (
        "target object",
        "object a",
        "object b",
        "object c",
        "object d",
    ),
    "obj_appearance_order": ("choice a", "choice b", "choice c", "choice d"),
} | dict.fromkeys(
    (f"object_rel_direction_{level}" for level in ("easy", "medium", "hard")),
    ("positioning object", "orienting object", "querying object"),
)


# A dollar sign in a room's or a run's name is no formula.
PLAIN = {"text.parse_math": False}
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def dataset_figures(folder: PathLike) -> list[Path]:
    """Draw ``figures/*.svg`` in the folder of a question set; return their paths.

    Raises
    ------
    SpacerError
        If the folder holds no questions.
    """
    folder = Path(folder)
    report = read_record(folder / "report.json", "files")
    maps = read_record(folder / "maps.json")
    files = [folder / name for name in report["files"].values()]
    rows = [row for file in files for row in read_questions(file)]
    if not rows:
        raise SpacerError(
            folder,
            kind="pictures.no-questions",
            got="no questions",
            expected="at least one",
        )
    seconds = [s for s in maps["seconds"].values() if s]
    with sole_writer(folder), plt.rc_context(PLAIN):
        use_house_style()
        drawn = {
            "fig1_examples": examples(rows, folder),
            "fig2_statistics": statistics(rows),
            "fig5_templates": templates(rows),
        }
        if report["rejections"]:
            figure, ax = plt.subplots(figsize=(8, 1 + 0.2 * len(report["rejections"])))
            counted = {
                (row["question_type"], row["reason"]): row["count"]
                for row in report["rejections"]
            }
            question_plots.rejection_bars(counted, ax)
            drawn["rejections"] = figure
        if seconds:
            figure, ax = plt.subplots()
            question_plots.duration_histogram(seconds, ax)
            drawn["fig6_durations"] = figure
        return _save_all(drawn, folder / "figures", ("svg",))


def _save_all(
    drawn: Mapping[str, Figure], folder: Path, formats: Sequence[str]
) -> list[Path]:
    """Save figures under their names, and close them."""
    paths = []
    for name, figure in drawn.items():
        paths += save(figure, folder / name, formats)
        plt.close(figure)
    return paths


def save(
    figure: Figure, path: PathLike, formats: Sequence[str] = ("svg",)
) -> list[Path]:
    """Write a figure once per format; the same data give the same bytes.

    Parameters
    ----------
    figure : matplotlib Figure
    path : path
        Without a suffix.
    formats : sequence of str
        Of ``svg``, ``pdf``, ``png``.

    Returns
    -------
    list of Path

    Raises
    ------
    SpacerError
        For another format.
    """
    # With a date, equal figures would be different files.
    no_date, no_creation_date = {"Date": None}, {"CreationDate": None}
    dates: dict[str, Any] = {"svg": no_date, "pdf": no_creation_date, "png": None}
    paths = []
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # solved once instead of once per format
    for kind in formats:
        if kind not in dates:
            raise SpacerError(
                "figure format",
                kind="pictures.unknown-format",
                got=kind,
                expected=", ".join(dates),
            )
        target = Path(f"{path}.{kind}")
        with atomic_path(target) as temporary:
            figure.savefig(temporary, metadata=dates[kind])
            if kind == "svg":
                drawn = temporary.read_text(encoding="utf-8")
                write_text(temporary, _NO_XML.sub("\ufffd", drawn))
        paths.append(target)
    return paths


def preview(figure: Figure, colors: int = 256) -> bytes:
    """PNG bytes with few colours, less than half the size: for committed notebooks."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full)
    # This method keeps the colour of a single mark in a grey table.
    method = Image.Quantize.MAXCOVERAGE
    image = (
        Image.open(full)
        .convert("RGB")
        .quantize(colors, method, dither=Image.Dither.NONE)
    )
    image.save(small, "PNG", optimize=True)
    return small.getvalue()


def show(figure: Figure) -> None:
    """Show a figure in a notebook as ``preview``, with the texts of ``behind``."""
    from IPython.display import display

    png = base64.b64encode(preview(figure)).decode()
    bundle = {"image/png": png, "text/plain": behind.figure_data(figure)}
    alt = {"image/png": {"alt": behind.figure_alt(figure)}}
    display(bundle, raw=True, metadata=alt)


def first_of_each(rows: Sequence[Question]) -> dict[str, Question]:
    """One question per type, from the scene with most types where it has one."""
    types: dict[Any, dict[str, Question]] = {}
    for row in rows:
        types.setdefault(row["scene_name"], {}).setdefault(row["question_type"], row)
    scene = max(sorted(types, key=str), key=lambda name: len(types[name]))
    rest = {kind: row for mine in types.values() for kind, row in mine.items()}
    return {kind: types[scene].get(kind, rest[kind]) for kind in sorted(rest)}


def examples(rows: Sequence[Question], folder: PathLike) -> Figure:
    """Figure 1: questions about one room, its map, and its video if it is there."""
    chosen = first_of_each(rows)
    scene = Counter(row["scene_name"] for row in chosen.values()).most_common(1)[0][0]
    shown = next(row for row in chosen.values() if row["scene_name"] == scene)
    video = Path(folder, shown.get("video") or "")
    filmed = video.is_file()
    figure = plt.figure(figsize=(11, 6.2 + 1.8 * filmed))
    grid = figure.add_gridspec(2, 5, height_ratios=(0.4 * filmed + 0.01, 1))
    if filmed:
        frames, indices, *_ = read_frames(video, 4)
        strip = [figure.add_subplot(grid[0, k]) for k in range(4)]
        room_plots.frames_strip(frames, strip, [f"frame {i}" for i in indices])
    ax = figure.add_subplot(grid[1, :2])
    map_plots.cognitive_map(shown["map"] or {}, ax).set_title(f"map of {scene}")
    table = []
    for kind, row in chosen.items():
        words = " ".join([row["question"], *(row["options"] or ())])
        table.append((short_name(kind), f"{words} → {row['ground_truth']}"))
    tables.text_table(table, figure.add_subplot(grid[1, 2:]), widths=(32, 76))
    return figure


def at_a_glance(
    rows: Sequence[Question],
    predictions: Sequence[Prediction],
    histories: Mapping[str, Sequence[training_plots.Metrics]] | None = None,
    frames: int = 8,
    grid_size: int = 10,
) -> Figure:
    """From the room to the answer: frames, drawn over true map, thought and verdict.

    Parameters
    ----------
    rows : list of Question
        One room each, with a video and a true map.
    predictions : list of Prediction
        A model's completions of them, with their scores.
    histories : dict, optional
        As of ``training_plots.arm_curves``: map hits by step, drawn beside the map.
    frames : int
        That the model was shown.
    grid_size : int
        M of the maps.
    """
    figure = plt.figure(figsize=(10.8, 4.4 * len(rows) + 1.4 * bool(histories)))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row, made in zip(parts, rows, predictions, strict=True):
        said = str(made["prediction"] or "")
        last = 1.1 if histories else 0.01  # words below all, or beside the map
        grid = part.add_gridspec(3, 2 * frames, height_ratios=(1.2, 2.1, last))
        places = [grid[0, 2 * i : 2 * i + 2] for i in range(frames)]
        shown, *_ = read_frames(str(row["video"]), frames, _GLANCE_PX)
        room_plots.frames_strip(
            shown,
            [part.add_subplot(place) for place in places],
            [f"view {i}" for i in range(frames)],
        )
        ax = part.add_subplot(grid[1, :frames])
        drawn = read_completion(said, expect_map=True, grid_size=grid_size).map
        map_plots.cognitive_map(row["map"] or {}, ax, grid_size, predicted=drawn or {})
        if histories:
            ax = part.add_subplot(grid[1, frames:])
            training_plots.arm_curves(histories, ax, "map_hit_rate")
            ax.set(ylabel="map hits of rollouts", ylim=(0, 1))
            legend_above(ax, 2)
        words = part.add_subplot(grid[2, :] if histories else grid[1, frames:])
        widths = (12, 128) if histories else (10, 58)
        tables.text_table(_story(row, made, said), words, widths)
    return figure


_GLANCE_PX = 112  # side of a frame in the picture


def _story(row: Question, made: Prediction, said: str) -> list[tuple[str, str]]:
    """Question, what the thought sees, its working, and the answer's verdict."""
    thought, _, answer = said.removeprefix("<think>").partition("</think>")
    seen, _, rest = thought.partition("<map>")
    working = rest.partition("</map>")[2]
    answer = answer.removeprefix("<answer>").removesuffix("</answer>")
    score = made["score"] or 0.0
    verdict = {1.0: "correct", 0.0: "wrong"}.get(score, f"score {score:.2f}")
    truth = "" if score == 1 else f"; the truth is {row['ground_truth']}"
    asked = " ".join([row["question"], *(row["options"] or ())])
    return [
        ("asked", asked),
        ("sees", seen or "-"),
        ("works out", working or "-"),
        ("answers", f"{answer or '-'} ({verdict}{truth})"),
    ]


def statistics(rows: Sequence[Question]) -> Figure:
    """Figure 2: questions by source and by type."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    sources = Counter(str(row.get("source") or row["dataset"]) for row in rows)
    question_plots.share_donut(sources, axes[0], "sources")
    question_plots.share_donut(
        Counter(str(r["question_type"]) for r in rows), axes[1], "tasks"
    )
    return figure


def template_of(row: Question) -> str:
    """A question with placeholders instead of its objects."""
    text = row["question"]
    roles = _ROLES.get(row["question_type"], ("object",))
    # Longer names first, so that "mouse" does not cut "computer mouse" in two.
    pairs = sorted(
        zip(row["categories"], roles, strict=False), key=lambda pair: -len(pair[0])
    )
    for number, (name, _) in enumerate(pairs):
        text = text.replace(name, f"\0{number}\0")
    for number, (_, role) in enumerate(pairs):
        text = text.replace(f"\0{number}\0", f"{{{role}}}")
    return text


def templates(rows: Sequence[Question]) -> Figure:
    """Figure 5: the wording of each question type, taken from the questions."""
    chosen = first_of_each(rows)
    table = [(short_name(k), template_of(row)) for k, row in chosen.items()]
    figure, ax = plt.subplots(figsize=(10, 0.55 + 0.42 * len(table)))
    tables.text_table(table, ax)
    return figure


def published_table(name: str, width: float = 10.8) -> Figure:
    """A table of a paper as printed; letters and notes mark odd numbers.

    Parameters
    ----------
    name : str
        One of ``published.names()``.
    width : float
        Inches.

    """
    tidy, table = published.table(name), published.wide(name)
    noted = tidy[tidy["note"] != ""]
    letters = {note: chr(97 + i) for i, note in enumerate(noted["note"].unique())}
    marks = {(r.row, r.column): letters[r.note] for r in noted.itertuples()}
    changes = tidy.loc[tidy["unit"] == "percentage points", "row"]
    settings = tidy.loc[tidy["unit"].isin(_SETTINGS), "column"]
    height = 0.9 + 0.22 * len(table) + 0.16 * len(letters)
    figure, ax = plt.subplots(figsize=(width, height))
    tables.number_table(table, ax, marks, {*changes, *settings})
    paper, number = tidy.loc[0, ["paper", "table"]]
    ax.set_title(f"{paper}, {number}", loc="left")
    notes = [f"{letter}  {note}" for note, letter in letters.items()]
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7)
    return figure


# ---------------------------------------------------------------- reports

RUNS_PER_PANEL = 6  # with more, colours are hard to distinguish


def report_figures(report: Report, out: PathLike) -> list[Path]:
    """Draw the scores of a report with their floors, and its differences.

    Parameters
    ----------
    report : evaluation.report.Report
    out : path
        Folder for ``scores`` and ``deltas``, each as SVG and PDF.

    Returns
    -------
    list of Path
    """
    with plt.rc_context(PLAIN):
        use_house_style()
        drawn = {}
        if report.summaries:
            drawn["scores"] = _score_bars(report)
        if report.differences:
            drawn["deltas"] = _delta_panels(report)
        return _save_all(drawn, Path(out), ("svg", "pdf"))


def _as_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """Tasks and their mean on one level, for bars and forests."""
    return table[table["level"].isin(("kind", "macro"))].assign(level="task")


def _score_bars(report: Report) -> Figure:
    tables = {name: _as_tasks(table) for name, table in report.summaries.items()}
    floors = {name: _as_tasks(table) for name, table in report.floors.items()}
    names = list(next(iter(tables.values()))["name"])
    labels = list(tables)
    starts = range(0, len(labels), RUNS_PER_PANEL)
    panels = [labels[start : start + RUNS_PER_PANEL] for start in starts]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(max(6.4, 1.1 * len(names)), 3.4 * len(panels)),
        squeeze=False,
    )
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        chosen = {name: tables[name] for name in panel}
        evaluation_plots.accuracy_bars(chosen, ax, level="task")
        evaluation_plots.floor_blocks(floors, ax, names)
        ax.set_ylabel("score (%, 95% interval)")
        for tick in ax.get_xticklabels():
            tick.set(rotation=30, ha="right")
    return figure


def _delta_panels(report: Report) -> Figure:
    tables = {name: _as_tasks(table) for name, table in report.differences.items()}
    lines = sum(table["name"].nunique() + 2 for table in tables.values())
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(6.4, 0.24 * lines), squeeze=False, sharex=True
    )
    for ax, (name, table) in zip(axes[:, 0], tables.items(), strict=True):
        evaluation_plots.delta_forest(table, ax)
        ax.set(title=f"{name} minus {report.reference}", xlabel="")
    axes[-1, 0].set_xlabel("score (percentage points, 95% interval)")
    return figure
