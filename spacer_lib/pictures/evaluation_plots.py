"""Evaluation: scores, differences, studies, failures."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from spacer_lib.evaluation.bootstrap import FEW_CLUSTERS
from spacer_lib.pictures.style import (
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    VERDICT_COLORS,
    ink_on,
    legend_above,
    legend_beside,
    short_name,
)


def accuracy_bars(
    tables: Mapping[str, pd.DataFrame],
    ax: Axes,
    floors: pd.DataFrame | None = None,
    level: str = "question_type",
    measure: str = "score",
) -> Axes:
    """Grouped bars with 95% intervals; floors are grey blocks behind the bars.

    Parameters
    ----------
    tables : dict
        ``{label: table}`` of ``evaluation.statistics.summarize``.
    floors : DataFrame, optional
        The same table of the strongest floor of each task (``floors.strongest``).
    level : str
        ``question_type``, ``kind``, ``macro`` or ``overall``.
    measure : str
        ``score``, ``exact`` or ``hits``.
    """
    chosen = {k: t[t["level"] == level].set_index("name") for k, t in tables.items()}
    names = list(next(iter(chosen.values())).index)
    spots, width = np.arange(len(names)), 0.8 / len(chosen)
    if floors is not None:
        heights = floors[floors["level"] == level].set_index("name").loc[names]
        ax.bar(
            spots,
            100 * heights[measure],
            width=0.94,
            color=FAINT,
            alpha=0.6,
            label="strongest floor",
        )
    for i, (label, table) in enumerate(chosen.items()):
        table, color = table.loc[names], PALETTE[i]
        mean, low, high = (
            100 * table[key].to_numpy(float)
            for key in (measure, f"{measure}_low", f"{measure}_high")
        )
        ax.bar(
            spots + (i - (len(chosen) - 1) / 2) * width,
            mean,
            width=0.9 * width,
            # If all values are equal, rounding can move the interval off the mean.
            yerr=np.maximum([mean - low, high - mean], 0),
            color=color,
            alpha=0.85,
            label=label,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": INK},
        )
    first = next(iter(chosen.values())).loc[names]
    ticks = [
        short_name(n).replace(", ", ",\n") + f"\nn = {c}{mark}"
        for n, c, mark in zip(names, first["n"], _few_marks(first, "\n"), strict=True)
    ]
    ax.set(xticks=spots, ylim=(0, 100), ylabel=f"{measure} (%, 95% interval)")
    ax.set_xticklabels(ticks, fontsize=7)
    ax.grid(False, axis="x")
    legend_above(ax, len(chosen) + 1)
    return ax


def _few_marks(rows: pd.DataFrame, before: str) -> list[str]:
    """A note for each row whose interval is of few rooms."""
    spaces = rows["spaces"] if "spaces" in rows else [FEW_CLUSTERS] * len(rows)
    return [f"{before}few rooms" if count < FEW_CLUSTERS else "" for count in spaces]


def floor_blocks(
    floors: Mapping[str, pd.DataFrame],
    ax: Axes,
    names: Sequence[str],
    level: str = "task",
    measure: str = "score",
) -> Axes:
    """Floors behind the bars of ``accuracy_bars``: grey blocks with a line on top.

    Parameters
    ----------
    floors : dict
        ``{label: table}`` of ``evaluation.statistics.summarize``.
    names : sequence of str
        Tasks in the order of the bars.
    """
    spots, styles = np.arange(len(names)), ("-", "--", ":", "-.")
    for i, (label, table) in enumerate(floors.items()):
        rows = table[table["level"] == level].set_index("name").reindex(names)
        heights = 100 * rows[measure].to_numpy(float)
        ax.bar(spots, heights, width=0.94, color=FAINT, alpha=0.3, zorder=0.5)
        ax.hlines(
            heights,
            spots - 0.47,
            spots + 0.47,
            color=INK,
            lw=1,
            linestyles=styles[i % len(styles)],
            label=label,
            zorder=0.6,
        )
    legend_above(ax, 3)
    return ax


def delta_forest(table: pd.DataFrame, ax: Axes, measure: str = "score") -> Axes:
    """Paired differences with 95% intervals, coloured by verdict.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.statistics.compare``.
    """
    rows = table[table["measure"] == measure]
    spots = np.arange(len(rows))
    for spot, row in zip(spots, rows.itertuples(), strict=True):
        color = VERDICT_COLORS[row.verdict]
        ax.plot(
            100 * np.array([row.low, row.high]),
            [spot, spot],
            color=color,
            lw=2,
            gid="interval",
        )
        ax.plot(100 * row.delta, spot, "o", color=color, gid=row.verdict)
    ax.axvline(0, color=INK, lw=0.8)
    labels = [
        f"{short_name(row.name)}{' (kind)' if row.level == 'kind' else ''}, n = {row.n}"
        f"{mark}"
        for row, mark in zip(
            rows.itertuples(index=False), _few_marks(rows, ", "), strict=True
        )
    ]
    ax.set(
        yticks=spots,
        yticklabels=labels,
        xlabel=f"{measure}: after minus before (percentage points, 95% interval)",
    )
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return ax


def study_forest(study: Mapping[str, Any], ax: Axes, measure: str = "score") -> Axes:
    """Gains of each arm of a ``study.json``: pooled large, every seed small."""
    arms = list(study["arms"])
    for spot, arm in enumerate(arms):
        color = PALETTE[spot % len(PALETTE)]
        runs = [run["delta"] for run in study["runs"] if run["arm"] == arm]
        for i, gain in enumerate([study["arms"][arm], *runs]):
            mean, low, high = 100 * np.array(gain[measure], float)
            y, kind = spot + 0.15 * i, "seed" if i else "pooled"
            width = 1 if i else 3
            ax.plot([low, high], [y, y], color=color, lw=width, gid="interval")
            ax.plot(mean, y, "o", ms=3 + 2 * width, color=color, gid=kind)
    ax.axvline(0, color=INK, lw=0.8)
    questions = study.get("settings", {}).get("questions")
    seeds = {run["seed"] for run in study["runs"] if "seed" in run}
    if questions:
        many = "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
        ax.set_title(f"n = {questions} questions x {many}")
    ax.set(
        yticks=np.arange(len(arms)),
        yticklabels=arms,
        xlabel=f"{measure}: gain (percentage points, 95% interval)",
    )
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return ax


def paired_dots(
    pairs: Mapping[str, Sequence[float]],
    ax: Axes,
    labels: tuple[str, str],
    margin: float = 0.0,
) -> Axes:
    """Two joined dots per row, hollow and filled; the colour says which is greater.

    Parameters
    ----------
    pairs : dict
        ``{row: (first, second)}``
    labels : (str, str)
        Of the hollow and of the filled dots.
    margin : float
        Differences up to this are drawn in grey.
    """
    for y, (first, second) in enumerate(pairs.values()):
        change = second - first
        verdict = "up" if change > 0 else "down"
        if abs(change) <= margin + 1e-9:
            verdict = "not distinguishable"
        color = VERDICT_COLORS[verdict]
        ax.plot([first, second], [y, y], color=color, lw=2, zorder=1)
        ax.plot(first, y, "o", mfc="white", mec=INK, ms=7, gid="first")
        ax.plot(second, y, "o", color=color, mec=INK, mew=0.6, ms=7, gid="second")
        right = 1 if change >= 0 else -1
        for value, side in ((first, -right), (second, right)):
            ax.annotate(
                f"{value:.1f}",
                (value, y),
                (7 * side, 0),
                fontsize=7,
                va="center",
                textcoords="offset points",
                ha="left" if side > 0 else "right",
            )
    ax.plot([], [], "o", mfc="white", mec=INK, label=labels[0])
    ax.plot([], [], "o", color=INK, label=labels[1])
    ax.set(yticks=range(len(pairs)), yticklabels=list(pairs))
    ax.set_ylim(len(pairs) - 0.5, -0.5)  # not inverted, which a shared axis repeats
    ax.margins(x=0.12)
    ax.grid(False, axis="y")
    legend_above(ax, 2)
    return ax


def interval_dots(
    values: Mapping[str, Sequence[Any]],
    ax: Axes,
    bands: Collection[float] = (),
    zero: bool = True,
) -> Axes:
    """Numbers with or without an interval, over shaded bands around zero.

    Parameters
    ----------
    values : dict
        ``{row: (value, low, high)}``. Where ``low`` and ``high`` are ``None``, the dot
        is hollow.
    bands : collection of float
        Half-widths of the bands; the widest is the faintest.
    zero : bool
        Draw a line at zero.
    """
    for width in sorted(bands, reverse=True):
        ax.axvspan(-width, width, color=FAINT, alpha=0.35, lw=0, gid=f"band:{width}")
    for y, (value, low, high) in enumerate(values.values()):
        known = low is not None
        if known:
            ax.plot([low, high], [y, y], color=PALETTE[0], lw=2, gid="interval")
        ax.plot(
            value,
            y,
            "o",
            mec=PALETTE[0],
            mfc=PALETTE[0] if known else "white",
            ms=6,
            gid="value",
        )
        ax.annotate(
            f"{value:.1f}",
            (value, y),
            (0, 6),
            fontsize=7,
            ha="center",
            textcoords="offset points",
        )
    if zero:
        ax.axvline(0, color=INK, lw=0.8)
    ax.set(yticks=range(len(values)), yticklabels=list(values))
    ax.set_ylim(len(values) - 0.5, -0.7)
    ax.margins(x=0.08)
    ax.grid(False, axis="y")
    return ax


def extraction_bars(table: pd.DataFrame, ax: Axes) -> Axes:
    """Per reading rule: score, read but not right, and not read (per cent).

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.audit``; the mean over all rows is drawn.
    """
    rows = table[table["level"] == "overall"].reset_index(drop=True)
    score = 100 * rows["score"].to_numpy(float)
    unread = 100 * (rows["unread"] / rows["n"]).to_numpy(float)
    parts = (
        ("score", score, PALETTE[0]),
        ("read, not right", 100 - score - unread, FAINT),
        ("nothing read", unread, PALETTE[5]),
    )
    left = np.zeros(len(rows))
    for label, width, color in parts:
        ax.barh(rows["rule"], width, left=left, color=color, label=label)
        left += width
    for spot, value in enumerate(score):
        below = next((color for _, width, color in parts if width[spot] > 5), FAINT)
        ink = ink_on(below)
        ax.text(1, spot, f"{value:.1f}", va="center", color=ink, weight="bold")
    ax.set(xlim=(0, 100), xlabel=f"outputs (%), n = {rows['n'].max()}")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_above(ax, 3)
    return ax


def gap_waterfall(gap: Any, ax: Axes) -> Axes:
    """From one score to another: a step for each cause, with its 95% interval.

    Parameters
    ----------
    gap : Gap
        Of ``evaluation.gaps.explain``.
    """
    parts = gap.table[gap.table["cause"] != "total"]
    labels = ["before", *parts["cause"], "after"]
    level = gap.before
    ax.bar(0, 100 * gap.before, color=FAINT)
    for spot, line in enumerate(parts.itertuples(), start=1):
        color = VERDICT_COLORS[line.verdict]
        ax.bar(spot, 100 * line.share, bottom=100 * level, color=color)
        if line.low == line.low:
            ends = [[level + end] for end in (line.low, line.high)]
            ax.plot(
                [spot, spot], [100 * end[0] for end in ends], color=INK, gid="interval"
            )
        text = f"{100 * line.share:+.1f}"
        top = 100 * max(level, level + line.share, level + (line.high or 0))
        ax.annotate(text, (spot, top), (0, 3), textcoords="offset points", ha="center")
        level += line.share
    ax.bar(len(labels) - 1, 100 * gap.after, color=FAINT)
    ax.set_xticks(
        range(len(labels)), [label.replace(" + ", "\n+ ") for label in labels]
    )
    ax.set(ylabel="score (%, 95% interval)")
    ax.margins(y=0.15)
    return ax


def share_dots(
    table: pd.DataFrame,
    ax: Axes,
    measures: Sequence[str] = ("follows", "drawn_suffices", "true_suffices"),
) -> Axes:
    """Shares with 95% intervals, one row per group, one colour per measure.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.consistency.shares``.
    """
    table = table[table["measure"].isin(measures)]
    names = list(dict.fromkeys(table["name"]))
    for i, measure in enumerate(measures):
        rows = table[table["measure"] == measure].set_index("name")
        for spot, name in enumerate(names):
            if name not in rows.index:
                continue
            row, y = rows.loc[name], spot + 0.22 * (i - (len(measures) - 1) / 2)
            ax.plot(
                [100 * row["low"], 100 * row["high"]],
                [y, y],
                color=PALETTE[i],
                gid="interval",
            )
            ax.plot(100 * row["value"], y, "o", ms=5, color=PALETTE[i], gid=measure)
        ax.plot([], [], "o-", color=PALETTE[i], label=measure.replace("_", " "))
    most = table.groupby("name")["n"].max()
    labels = [f"{short_name(name)}, n ≤ {most[name]}" for name in names]
    ax.set(
        yticks=np.arange(len(names)),
        yticklabels=labels,
        xlim=(-2, 102),
        xlabel="share of questions (%, 95% interval)",
    )
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_above(ax, len(measures))
    return ax


_FAILURE_COLORS = {
    "right": PALETTE[2],
    "perception": PALETTE[1],
    "localisation": PALETTE[0],
    "reasoning": PALETTE[3],
    "undetermined": PALETTE[4],
    "no_map": FAINT,
    "extraction": INK,
}


def failure_bars(table: pd.DataFrame, ax: Axes) -> Axes:
    """Kinds of failure as shares of each question type.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.consistency.failures``.
    """
    counts = table.groupby(["question_type", "label"]).size().unstack(fill_value=0)
    shares = 100 * counts.div(counts.sum(axis=1), axis=0)
    spots, start = np.arange(len(shares)), np.zeros(len(shares))
    for label, color in _FAILURE_COLORS.items():
        if label in shares:
            width = shares[label].to_numpy()
            ax.barh(spots, width, left=start, color=color, label=label, gid=label)
            start = start + width
    ticks = [f"{short_name(n)}, n = {c}" for n, c in counts.sum(axis=1).items()]
    ax.set(yticks=spots, yticklabels=ticks, xlim=(0, 100), xlabel="questions (%)")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_above(ax, 4)
    return ax


def words_against_score(table: pd.DataFrame, ax: Axes) -> Axes:
    """Score against spatial words per response, one point per run.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.analyses.word_table``.
    """
    for i, (label, row) in enumerate(table.iterrows()):
        spread = [[row["words"] - row["words_low"]], [row["words_high"] - row["words"]]]
        ax.errorbar(
            row["words"],
            100 * row["score"],
            xerr=spread,
            fmt=MARKERS[i],
            ms=5,
            color=PALETTE[i % len(PALETTE)],
            label=f"{label}, n = {row['n']:.0f}",
        )
    ax.set(
        xlabel="spatial words per response (95% interval)",
        ylabel="score (%)",
        ylim=(0, 100),
    )
    ax.set_xlim(left=0)
    legend_beside(ax)
    return ax
