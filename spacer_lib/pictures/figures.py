"""The data figures of the SpaceR paper, redrawn from any question folder.

Figure 1: examples and the map; 2: sources and tasks; 5: question templates; 6: video
durations; and why candidates were rejected. Everything comes from the folder's own
files. Tables of the papers are drawn from ``published``.
"""

import io
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from spacer_lib import published
from spacer_lib.artifacts import atomic_path, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.pictures import (
    evaluation_plots,
    map_plots,
    question_plots,
    room_plots,
    tables,
)
from spacer_lib.pictures.style import short_name, use_house_style
from spacer_lib.rooms.video import read_frames
from spacer_lib.rows import read_questions

_SETTINGS = ("billion parameters", "frames")  # units of no result
# What a placeholder of Figure 5 is called, by question type.
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


def dataset_figures(folder):
    """Draw ``figures/*.svg`` of a folder that ``qa.build`` (or a joint set) wrote.

    Returns
    -------
    list of Path

    Raises
    ------
    SpacerError
        If the folder holds no questions.
    """
    folder = Path(folder)
    report, maps = read_json(folder / "report.json"), read_json(folder / "maps.json")
    files = [folder / name for name in report["files"].values()]
    rows = [row for file in files for row in read_questions(file)]
    if not rows:
        raise SpacerError(f"{folder}", got="no questions", expected="at least one")
    seconds = [s for s in maps["seconds"].values() if s]
    with plt.rc_context():
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
        paths = []
        for name, figure in drawn.items():
            paths += save(figure, folder / "figures" / name)
            plt.close(figure)
        return paths


def save(figure, path, formats=("svg",)):
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
    # A date would make each file new.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": None}
    paths = []
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # solved once instead of once per format
    for kind in formats:
        if kind not in dates:
            raise SpacerError("figure format", got=kind, expected=", ".join(dates))
        target = Path(f"{path}.{kind}")
        with atomic_path(target) as temporary:
            figure.savefig(temporary, metadata=dates[kind])
        paths.append(target)
    return paths


def preview(figure, colors=256):
    """PNG bytes of few colours, well under half the size: for committed notebooks."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full)
    # By coverage: a single coloured mark in a grey table keeps its colour.
    method = Image.Quantize.MAXCOVERAGE
    image = Image.open(full).convert("RGB").quantize(colors, method, dither=0)
    image.save(small, "PNG", optimize=True)
    return small.getvalue()


def first_of_each(rows):
    """One row per question type, all of the scene that has most types."""
    types = {}
    for row in rows:
        types.setdefault(row["scene_name"], {}).setdefault(row["question_type"], row)
    scene = max(sorted(types, key=str), key=lambda name: len(types[name]))
    rest = {kind: row for mine in types.values() for kind, row in mine.items()}
    return {kind: types[scene].get(kind, rest[kind]) for kind in sorted(rest)}


def examples(rows, folder):
    """Figure 1: questions of one room with its map and, if at hand, its video."""
    chosen = first_of_each(rows)
    scene = Counter(row["scene_name"] for row in chosen.values()).most_common(1)[0][0]
    shown = next(row for row in chosen.values() if row["scene_name"] == scene)
    video = shown.get("video") and Path(folder) / shown["video"]
    filmed = bool(video and video.is_file())
    figure = plt.figure(figsize=(12, 6.2 + 1.8 * filmed))
    grid = figure.add_gridspec(2, 5, height_ratios=(0.4 * filmed + 0.01, 1))
    if filmed:
        frames, indices, *_ = read_frames(video, 5)
        strip = [figure.add_subplot(grid[0, k]) for k in range(5)]
        room_plots.frames_strip(frames, strip, [f"frame {i}" for i in indices])
    ax = figure.add_subplot(grid[1, :2])
    map_plots.cognitive_map(shown["map"] or {}, ax).set_title(f"map of {scene}")
    table = []
    for kind, row in chosen.items():
        words = " ".join([row["question"], *(row["options"] or ())])
        table.append((short_name(kind), f"{words} → {row['ground_truth']}"))
    tables.text_table(table, figure.add_subplot(grid[1, 2:]), widths=(24, 76))
    return figure


def statistics(rows):
    """Figure 2: where questions come from, and what they ask."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
    sources = Counter(row.get("source") or row["dataset"] for row in rows)
    question_plots.share_donut(sources, axes[0], "sources")
    question_plots.share_donut(
        Counter(r["question_type"] for r in rows), axes[1], "tasks"
    )
    return figure


def template_of(row):
    """A question with its objects replaced by what they stand for."""
    text = row["question"]
    roles = _ROLES.get(row["question_type"], ("object",))
    # Longer names first: "computer mouse" before "mouse" would be cut by it.
    pairs = sorted(
        zip(row["categories"], roles, strict=False), key=lambda pair: -len(pair[0])
    )
    for number, (name, _) in enumerate(pairs):
        text = text.replace(name, f"\0{number}\0")
    for number, (_, role) in enumerate(pairs):
        text = text.replace(f"\0{number}\0", f"{{{role}}}")
    return text


def templates(rows):
    """Figure 5: the wording of each question type, read off the questions."""
    chosen = first_of_each(rows)
    table = [(short_name(k), template_of(row)) for k, row in chosen.items()]
    figure, ax = plt.subplots(figsize=(10, 0.55 + 0.42 * len(table)))
    tables.text_table(table, ax)
    return figure


def published_table(name, width=10.8):
    """A table of a paper as printed, with letters and notes where a number is odd.

    Parameters
    ----------
    name : str
        One of ``published.names()``.
    width : float
        Inches.

    Returns
    -------
    matplotlib Figure
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

RUNS_A_PANEL = 6  # as many colours tell runs apart


def report_figures(report, out):
    """Draw the scores of a report over their floors, and its differences.

    Parameters
    ----------
    report : evaluation.report.Report
    out : path
        Written are ``scores`` and ``deltas`` there, as SVG and PDF each.

    Returns
    -------
    list of Path
    """
    with plt.rc_context():
        use_house_style()
        drawn = {}
        if report.summaries:
            drawn["scores"] = _score_bars(report)
        if report.differences:
            drawn["deltas"] = _delta_panels(report)
        paths = []
        for name, figure in drawn.items():
            paths += save(figure, Path(out) / name, ("svg", "pdf"))
            plt.close(figure)
        return paths


def _as_tasks(table):
    """Tasks and their mean on one level, as bars and forests take them."""
    return table[table["level"].isin(("kind", "macro"))].assign(level="task")


def _score_bars(report):
    tables = {name: _as_tasks(table) for name, table in report.summaries.items()}
    floors = {name: _as_tasks(table) for name, table in report.floors.items()}
    names = list(next(iter(tables.values()))["name"])
    labels = list(tables)
    panels = [labels[i : i + RUNS_A_PANEL] for i in range(0, len(labels), RUNS_A_PANEL)]
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


def _delta_panels(report):
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
