"""Pictures: ``(data, ax) → ax``. Nothing here loads, computes, saves or shows.

Every function draws on axes it is given and returns them, so that a notebook decides
about figures. Floor plans and maps share one orientation: +x to the right, +y up.
"""

import textwrap
from collections import Counter

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Polygon, Rectangle
from scipy.optimize import linear_sum_assignment
from scipy.spatial import ConvexHull

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.geometry import box_corners
from spacer_lib.rooms.scene import STRUCTURAL_CATEGORIES

# Okabe and Ito's eight colours, told apart with any kind of colour vision
# (https://jfly.uni-koeln.de/color/); black is kept for the truth and for axes.
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
)
INK, FAINT = "#222222", "#B8B8B8"
_MARKERS = "osD^vP*X"
_VERDICT_COLORS = {"up": PALETTE[2], "down": PALETTE[5], "not distinguishable": FAINT}
_SHORT = {
    "object_counting": "counting",
    "object_size_estimation": "object size",
    "room_size_estimation": "room size",
    "object_abs_distance": "abs. distance",
    "object_rel_distance": "rel. distance",
    "object_rel_direction": "direction",
    "object_rel_direction_easy": "direction, easy",
    "object_rel_direction_medium": "direction, medium",
    "object_rel_direction_hard": "direction, hard",
    "obj_appearance_order": "appearance order",
    "route_planning": "route planning",
}


def use_house_style():
    """Set matplotlib's defaults: colours, light grid, small figures that export."""
    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.6,
            "font.size": 9,
            "axes.titlesize": 10,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "figure.figsize": (6.4, 3.2),
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "savefig.bbox": "tight",
            "svg.fonttype": "none",
            "svg.hashsalt": "spacer",
        }
    )


def short_name(question_type):
    """A question type as it is written on an axis."""
    return _SHORT.get(question_type, question_type)


def category_styles(names):
    """``{category: (colour, marker)}``, distinct for up to 56 categories."""
    return {
        name: (
            PALETTE[i % len(PALETTE)],
            _MARKERS[(i // len(PALETTE)) % len(_MARKERS)],
        )
        for i, name in enumerate(sorted(set(names)))
    }


def floor_plan(scene, ax):
    """Oriented boxes seen from above, labelled, in the floor rectangle (metres).

    Parameters
    ----------
    scene : Scene
    ax : matplotlib Axes
    """
    (x0, y0), (x1, y1) = scene.floor_min_m, scene.floor_max_m
    ax.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=INK, lw=1, gid="floor")
    )
    shown = [i for i in scene.instances if i.category not in STRUCTURAL_CATEGORIES]
    styles = category_styles(i.category for i in shown)
    for instance in shown:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )[:, :2]
        outline = corners[ConvexHull(corners).vertices]
        color = styles[instance.category][0]
        ax.add_patch(Polygon(outline, fc=color, ec=color, alpha=0.45, gid="box"))
        ax.annotate(
            instance.category,
            instance.centroid_m[:2],
            ha="center",
            va="center",
            fontsize=7,
        )
    margin = 0.04 * max(x1 - x0, y1 - y0)
    ax.set(
        xlim=(x0 - margin, x1 + margin),
        ylim=(y0 - margin, y1 + margin),
        xlabel="x (m)",
        ylabel="y (m)",
        aspect="equal",
    )
    return ax


def cognitive_map(cells, ax, grid_size=10, predicted=None):
    """True cells as open squares; predicted cells as dots, matched pairs joined.

    A true cell without a partner has a dashed border; a prediction without one is a
    cross. Objects that share a cell are drawn side by side.

    Parameters
    ----------
    cells : dict
        ``{category: [(x_col, y_row), …]}``, the true map.
    ax : matplotlib Axes
    grid_size : int
    predicted : dict, optional
        A second map to compare with; ``None`` draws the true one alone.
    """
    names = [*cells, *(predicted or {})]
    styles, taken = category_styles(names), Counter()
    for name in sorted(set(names)):
        color, marker = styles[name]
        truth = [_spread(cell, taken) for cell in cells.get(name, ())]
        guess = [np.array(cell, float) for cell in (predicted or {}).get(name, ())]
        pairs = _closest_pairs(truth, guess)
        for i, (x, y) in enumerate(truth):
            lonely = predicted is not None and i not in {a for a, _ in pairs}
            ax.add_patch(
                Rectangle(
                    (x - 0.34, y - 0.34),
                    0.68,
                    0.68,
                    lw=1.6,
                    ec=color,
                    fc="none" if predicted is not None else color,
                    gid=f"true:{name}",
                    ls="--" if lonely else "-",
                    alpha=0.85,
                )
            )
        for a, b in pairs:
            x, y = zip(truth[a], guess[b], strict=True)
            ax.plot(x, y, color=INK, lw=0.8, gid=f"match:{name}")
        for j, spot in enumerate(guess):
            kept = j in {b for _, b in pairs}
            ax.plot(
                *spot,
                marker if kept else "x",
                color=color,
                ms=6,
                gid=f"predicted:{name}",
            )
        ax.plot([], [], "s", color=color, label=name)
    ticks = np.arange(grid_size)
    edge = (-0.5, grid_size - 0.5)
    ax.set(
        xlim=edge,
        ylim=edge,
        aspect="equal",
        xlabel="x_col (cells)",
        ylabel="y_row (cells)",
        xticks=ticks,
        yticks=ticks,
    )
    ax.set_xticks(np.arange(-0.5, grid_size), minor=True)
    ax.set_yticks(np.arange(-0.5, grid_size), minor=True)
    ax.grid(False, which="major")
    ax.grid(True, which="minor")
    ax.tick_params(which="both", length=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
    return ax


def _spread(cell, taken):
    """The drawn spot of a cell: moved a little for each object already in it."""
    step = taken[tuple(cell)]
    taken[tuple(cell)] += 1
    return np.array(cell, float) + 0.12 * step


def _closest_pairs(truth, guess):
    if not truth or not guess:
        return []
    gaps = np.linalg.norm(np.array(truth)[:, None] - np.array(guess)[None], axis=2)
    return list(zip(*(i.tolist() for i in linear_sum_assignment(gaps)), strict=True))


def camera_path(poses, ax, arrows=12):
    """Camera centres from above (metres) with viewing directions.

    Parameters
    ----------
    poses : (n, 4, 4) array
        ``T_aligned_from_camera``; the camera looks along its own +z.
    arrows : int
        About how many viewing directions to draw.
    """
    poses = np.asarray(poses)
    x, y = poses[:, :2, 3].T
    ax.plot(x, y, color=INK, lw=1, gid="path")
    ax.plot(x[0], y[0], "o", color=PALETTE[2], label="first frame")
    some = poses[:: max(1, len(poses) // arrows)]
    ax.quiver(
        *some[:, :2, 3].T,
        *some[:, :2, 2].T,
        color=PALETTE[0],
        width=0.004,
        angles="xy",
        scale=14,
    )
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    ax.legend()
    return ax


def room_3d(scene, points, colors, ax):
    """A room's vertices with the oriented boxes of its objects, in three dimensions.

    Parameters
    ----------
    scene : Scene
    points : (n, 3) metres, aligned frame
    colors : (n, 3) in 0 … 1
    ax : Axes3D
    """
    ax.scatter(*np.asarray(points).T, c=colors, s=0.6, depthshade=False)
    styles = category_styles(i.category for i in scene.instances)
    # Corners come in the order of three binary digits: edges join those one bit apart.
    edges = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    for instance in scene.instances:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )
        color = styles[instance.category][0]
        for a, b in edges:
            ax.plot(*corners[[a, b]].T, color=color, lw=1.2)
        top = corners[corners[:, 2].argmax()]
        ax.text(*top, instance.category, fontsize=6, color=color)
    ax.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)", aspect="equal")
    return ax


def cloud_from_above(points, colors, ax):
    """Vertices seen from above, low ones first, +x to the right and +y up (metres)."""
    points, colors = np.asarray(points), np.asarray(colors)
    order = np.argsort(points[:, 2])
    ax.scatter(*points[order, :2].T, c=colors[order], s=1.5)
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    return ax


def first_seen_bars(scene, ax):
    """From which second on each object has been seen, earliest on top."""
    timed = [i for i in scene.instances if i.first_seen_frame is not None]
    timed.sort(key=lambda i: (i.first_seen_frame, i.instance_id))
    styles = category_styles(i.category for i in timed)
    for row, instance in enumerate(timed):
        start = instance.first_seen_frame / scene.fps
        ax.barh(
            row,
            scene.duration_s - start,
            left=start,
            color=styles[instance.category][0],
        )
    ax.set(yticks=range(len(timed)), yticklabels=[i.category for i in timed])
    ax.invert_yaxis()
    ax.set(xlabel="time (s)", title=f"seen for the first time (n = {len(timed)})")
    return ax


def frames_strip(frames, axes, titles=None):
    """Frames side by side, one per axis.

    Parameters
    ----------
    frames : (n, h, w, 3) uint8
    axes : sequence of at least n Axes
    titles : sequence of str, optional
    """
    if len(axes) < len(frames):
        raise SpacerError(
            "frames_strip",
            got=f"{len(axes)} axes",
            expected=f"one for each of {len(frames)} frames",
        )
    for i, frame in enumerate(frames):
        axes[i].imshow(frame)
        axes[i].set_title(titles[i] if titles else f"frame {i + 1}")
    for ax in axes:
        ax.set_axis_off()
    return axes


def answer_histogram(rows, ax, bins=20):
    """How often each answer occurs among question rows of one type.

    Few different answers get one bar each; many numbers are binned.
    """
    answers = [row["ground_truth"] for row in rows]
    kinds = sorted({row["question_type"] for row in rows})
    numbers = all(row["problem_type"] == "numerical" for row in rows)
    counts = Counter(answers)
    if numbers and len(counts) > 12:
        ax.hist([float(a) for a in answers], bins=bins, color=PALETTE[0])
    else:
        labels = sorted(counts, key=float) if numbers else sorted(counts)
        ax.bar(labels, [counts[a] for a in labels], color=PALETTE[0])
    ax.set(
        title=f"{', '.join(map(short_name, kinds))} (n = {len(rows)})",
        xlabel="answer",
        ylabel="questions",
    )
    return ax


def share_donut(counts, ax, title):
    """Shares of a whole, named and counted, largest first.

    Parameters
    ----------
    counts : dict
        ``{name: count}``; names of question types are shortened.
    """
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values())
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(ranked))]
    wedges, _ = ax.pie(
        [count for _, count in ranked],
        colors=colors,
        startangle=90,
        counterclock=False,
        wedgeprops={"width": 0.42, "edgecolor": "white"},
    )
    labels = [f"{short_name(n)}  {c:,} ({c / total:.1%})" for n, c in ranked]
    ax.legend(wedges, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_title(f"{title} (n = {total:,})")
    return ax


def duration_histogram(seconds, ax, bins=24):
    """How long the videos are."""
    ax.hist(seconds, bins=bins, color=PALETTE[0], edgecolor="white")
    middle = float(np.median(seconds))
    ax.axvline(middle, color=INK, ls="--", label=f"median {middle:.0f} s")
    ax.set(xlabel="video duration (s)", ylabel="videos")
    ax.set_title(f"durations (n = {len(seconds):,} videos)")
    ax.legend()
    return ax


def text_table(rows, ax, widths=(18, 92)):
    """Names and sentences as a two-column table, sentences wrapped."""
    y = 0.0
    for name, sentence in rows:
        lines = textwrap.wrap(sentence, widths[1])
        ax.text(0, -y, name, weight="bold", va="top")
        ax.text(widths[0], -y, "\n".join(lines), va="top")
        y += len(lines) + 0.6
        ax.axhline(-y + 0.3, color=FAINT, lw=0.5)
    ax.set(xlim=(0, sum(widths)), ylim=(-y, 0.4))
    ax.set_axis_off()
    return ax


def rejection_bars(rejections, ax):
    """Why candidates did not become questions, counted, most frequent on top.

    Parameters
    ----------
    rejections : dict
        ``{(question_type, reason): count}``.
    """
    ranked = sorted(rejections.items(), key=lambda item: (item[1], item[0]))
    labels = [f"{short_name(kind)}: {reason}" for (kind, reason), _ in ranked]
    bars = ax.barh(labels, [count for _, count in ranked], color=PALETTE[1])
    ax.bar_label(bars, padding=2, fontsize=7)
    ax.set(xlabel="candidates rejected")
    ax.grid(False, axis="y")
    return ax


REWARD_PARTS = ("format", "task", "map")


def reward_bars(breakdowns, ax, labels):
    """What each completion earned, part by part; a failure is written beside it.

    Parameters
    ----------
    breakdowns : list of RewardBreakdown
    labels : list of str, one per breakdown
    """
    spots = np.arange(len(breakdowns))
    left = np.zeros(len(breakdowns))
    for color, part in zip(PALETTE, REWARD_PARTS, strict=False):
        values = np.array([float(getattr(b, part) or 0) for b in breakdowns])
        ax.barh(spots, values, left=left, color=color, label=part)
        left += values
    for spot, edge, breakdown in zip(spots, left, breakdowns, strict=True):
        note = breakdown.failure or breakdown.map_failure
        if note:
            ax.text(edge + 0.03, spot, note, va="center", fontsize=7)
    ax.set(yticks=spots, yticklabels=labels, xlabel="reward")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def reward_vs_error(curves, ax, x_label="jitter (cells)", y_label="map score"):
    """One line per scorer with its interval, against the size of an error.

    Parameters
    ----------
    curves : dict
        ``{name: (n, 4) rows of (error, mean, low, high)}``.
    """
    for color, (name, rows) in zip(PALETTE, curves.items(), strict=False):
        error, mean, low, high = np.asarray(rows, float).T
        ax.plot(error, mean, "o-", ms=3, color=color, label=name)
        ax.fill_between(error, low, high, color=color, alpha=0.2, lw=0)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend()
    return ax


def training_curves(metrics_rows, axes):
    """What a run earns over its steps, and what teaches it nothing.

    Parameters
    ----------
    metrics_rows : list of dict
        The trainer's log: ``step``, and of SG-RLVR ``rewards/<part>/mean``,
        ``reward``, ``frac_reward_zero_std``; of a baseline ``loss``,
        ``mean_token_accuracy`` and, for DPO, ``rewards/accuracies``. Rows without a
        key are passed over.
    axes : two Axes
        Left: mean rewards. Right: share of groups whose rewards are all equal. Of a
        baseline: its loss, and the share of right tokens and of right pairs.
    """
    keys = {key for row in metrics_rows for key in row}
    if "reward" not in keys:
        return _baseline_curves(metrics_rows, keys, axes)
    parts = sorted(k for k in keys if k.startswith("rewards/") and k.endswith("/mean"))
    for color, key in zip(PALETTE, parts, strict=False):
        axes[0].plot(*_series(metrics_rows, key), color=color, label=key.split("/")[1])
    axes[0].plot(*_series(metrics_rows, "reward"), color=INK, lw=1.6, label="total")
    axes[0].set(xlabel="optimiser step", ylabel="mean reward of rollouts")
    axes[0].legend(ncols=5, loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1)
    steps, share = _series(metrics_rows, "frac_reward_zero_std")
    axes[1].plot(steps, 100 * share, color=PALETTE[5])
    axes[1].set(
        xlabel="optimiser step", ylabel="groups without advantage (%)", ylim=(0, 100)
    )
    return axes


def _baseline_curves(rows, keys, axes):
    axes[0].plot(*_series(rows, "loss"), color=INK)
    axes[0].set(xlabel="optimiser step", ylabel="loss")
    shares = {"mean_token_accuracy": "tokens", "rewards/accuracies": "pairs"}
    for color, (key, label) in zip(PALETTE, shares.items(), strict=False):
        if key in keys:
            steps, share = _series(rows, key)
            axes[1].plot(steps, 100 * share, color=color, label=label)
            axes[1].legend()
    axes[1].set(xlabel="optimiser step", ylabel="right (%)", ylim=(0, 100))
    return axes


def _series(rows, key):
    pairs = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return np.array(pairs, float).reshape(-1, 2).T


def accuracy_bars(tables, ax, floors=None, level="question_type", measure="score"):
    """Grouped bars with 95% intervals; floors are grey blocks under the bars.

    Parameters
    ----------
    tables : dict
        ``{label: summary}`` with summaries of ``evaluation.summarize``.
    floors : summary, optional
        Of the majority answers, same questions.
    level, measure : str
        Rows (``question_type``, ``kind``, ``macro``, ``overall``) and the measure
        (``score``, ``exact`` or ``hits``).
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
            label="majority floor",
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
            # Of equal values the interval may miss its mean by a rounding.
            yerr=np.maximum([mean - low, high - mean], 0),
            color=color,
            alpha=0.85,
            label=label,
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": INK},
        )
    counts = next(iter(chosen.values())).loc[names, "n"]
    ticks = [f"{short_name(n)}\nn = {c}" for n, c in zip(names, counts, strict=True)]
    ax.set(xticks=spots, ylim=(0, 100), ylabel=f"{measure} (%)")
    ax.set_xticklabels(ticks, fontsize=7)
    ax.grid(False, axis="x")
    ax.legend(ncols=len(chosen) + 1, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def delta_forest(table, ax, measure="score"):
    """Paired differences with 95% intervals against zero, coloured by verdict.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.compare``.
    """
    rows = table[table["measure"] == measure]
    spots = np.arange(len(rows))
    for spot, row in zip(spots, rows.itertuples(), strict=True):
        color = _VERDICT_COLORS[row.verdict]
        ax.plot(100 * np.array([row.low, row.high]), [spot, spot], color=color, lw=2)
        ax.plot(100 * row.delta, spot, "o", color=color, gid=row.verdict)
    ax.axvline(0, color=INK, lw=0.8)
    labels = [
        f"{short_name(row.name)}{' (kind)' if row.level == 'kind' else ''}, n = {row.n}"
        for row in rows.itertuples(index=False)
    ]
    ax.set(
        yticks=spots,
        yticklabels=labels,
        xlabel=f"{measure}: after minus before (percentage points, 95% interval)",
    )
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    return ax


def study_forest(study, ax, measure="score"):
    """Gains of each training arm: pooled large, every seed small (``study.json``)."""
    arms = list(study["arms"])
    for spot, arm in enumerate(arms):
        color = PALETTE[spot % len(PALETTE)]
        runs = [run["delta"] for run in study["runs"] if run["arm"] == arm]
        for i, gain in enumerate([study["arms"][arm], *runs]):
            mean, low, high = 100 * np.array(gain[measure], float)
            y, kind = spot + 0.15 * i, "seed" if i else "pooled"
            width = 1 if i else 3
            ax.plot([low, high], [y, y], color=color, lw=width)
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


def selection_histogram(histogram, ax, kept=None):
    """How many rows had so many right answers: grey all of them, blue what stays.

    Parameters
    ----------
    histogram : dict
        ``{right answers, 0 … k: rows}`` of ``selection.keep_informative``.
    kept : dict, optional
        The same of the kept rows. A row without a right answer may be kept: numbers
        can be partly right.
    """
    right = list(histogram)
    bars = ax.bar(right, list(histogram.values()), color=FAINT, label="dropped")
    ax.bar_label(bars, padding=2, fontsize=7)
    if kept is not None:
        heights = [kept.get(count, 0) for count in right]
        ax.bar(right, heights, color=PALETTE[0], label="kept")
        ax.legend()
    ax.set(
        xticks=right,
        xlabel=f"right answers of {max(right)}",
        ylabel="rows",
        title=f"n = {sum(histogram.values())} rows",
    )
    ax.grid(False, axis="x")
    return ax


def label_strip(tokens, taught, ax, per_line=20):
    """Tokens in reading order, those that the loss counts in colour.

    Parameters
    ----------
    tokens : list of str
    taught : list of bool, one per token
    per_line : int
        Tokens in one line.
    """
    for i, (token, counts) in enumerate(zip(tokens, taught, strict=True)):
        row, column = divmod(i, per_line)
        ax.add_patch(
            Rectangle(
                (column, -row),
                0.94,
                0.8,
                fc=PALETTE[4] if counts else FAINT,
                alpha=0.6,
                gid="taught" if counts else "given",
            )
        )
        ax.text(column + 0.47, 0.4 - row, token, fontsize=6, ha="center", va="center")
    lines = -(-len(tokens) // per_line)
    ax.set(xlim=(0, per_line), ylim=(0.8 - lines, 1))
    ax.set_axis_off()
    return ax


def sft_curves(metrics_rows, axes):
    """SFT's loss, and the share of response tokens that it would have picked.

    Parameters
    ----------
    metrics_rows : list of dict
        The trainer's log: ``step``, ``loss``, ``mean_token_accuracy``.
    axes : two Axes
    """
    axes[0].plot(*_series(metrics_rows, "loss"), color=INK)
    axes[0].set(xlabel="optimiser step", ylabel="loss (nats per response token)")
    steps, share = _series(metrics_rows, "mean_token_accuracy")
    axes[1].plot(steps, 100 * share, color=PALETTE[0])
    axes[1].set(xlabel="optimiser step", ylabel="response tokens guessed right (%)")
    return axes


def dpo_curves(metrics_rows, axes):
    """DPO's margin over the steps, and the two likelihoods that it is made of.

    Parameters
    ----------
    metrics_rows : list of dict
        The trainer's log: ``step``, ``rewards/margins``, ``logps/chosen``,
        ``logps/rejected``.
    axes : two Axes
    """
    axes[0].plot(*_series(metrics_rows, "rewards/margins"), color=INK)
    axes[0].set(xlabel="optimiser step", ylabel="margin: chosen minus rejected")
    for color, side in zip(PALETTE, ("chosen", "rejected"), strict=False):
        axes[1].plot(*_series(metrics_rows, f"logps/{side}"), color=color, label=side)
    axes[1].set(xlabel="optimiser step", ylabel="log-probability of a response")
    axes[1].legend()
    return axes


# ---- the papers' tables and figures


def number_table(table, ax, marks=None, unshaded=()):
    """Numbers as they are printed, each column shaded from its least to its greatest.

    Parameters
    ----------
    table : DataFrame
        Rows by columns, both drawn in order; NaN is a dash.
    marks : dict, optional
        ``{(row, column): letter}``, drawn beside the number in the colour of a doubt.
    unshaded : sequence
        Rows in another unit than the others, such as printed gains, and columns that
        are no result.
    """
    longest = max(len(str(row)) for row in table.index)
    label_width = 0.5 + longest * len(table.columns) / 150  # in columns
    shaded = table.drop(index=[name for name in unshaded if name in table.index])
    titles = [
        textwrap.wrap(str(column), 11 if len(table.columns) < 12 else 8)
        for column in table.columns
    ]
    for x, column in enumerate(table.columns):
        digits = _digits(table[column])
        low, high = shaded[column].min(), shaded[column].max()
        ax.text(
            x + 0.5, -0.15, "\n".join(titles[x]), ha="center", va="bottom", fontsize=7
        )
        plain = column in unshaded or not high > low
        for y, (row, value) in enumerate(table[column].items()):
            missing = np.isnan(value)
            text = "–" if missing else f"{value:.{digits}f}"
            if row in shaded.index and not plain and not missing:
                share = (value - low) / (high - low)
                cell = Rectangle((x, y), 1, 1, fc=PALETTE[4], alpha=0.5 * share, lw=0)
                ax.add_patch(cell)
            mark = (marks or {}).get((row, column))
            color = PALETTE[5] if mark and not missing else INK
            ax.text(
                x + 0.5,
                y + 0.5,
                text,
                ha="center",
                va="center",
                color=color,
                fontsize=8,
                gid=f"cell:{row}|{column}",
            )
            if mark:
                ax.text(
                    x + 0.88,
                    y + 0.36,
                    mark,
                    ha="center",
                    va="center",
                    color=PALETTE[5],
                    fontsize=6,
                )
    for y, row in enumerate(table.index):
        ax.text(-0.1, y + 0.5, row, ha="right", va="center", fontsize=8)
        ax.axhline(y, color=FAINT, lw=0.5)
    top = 0.3 + 0.5 * max(map(len, titles))
    ax.set(xlim=(-label_width, len(table.columns)), ylim=(len(table), -top))
    ax.set_axis_off()
    return ax


def _digits(values):
    """Decimals that the most precise of some numbers was printed with."""
    texts = [f"{value:g}" for value in values.dropna()]
    return max((len(text.partition(".")[2]) for text in texts), default=0)


def paired_dots(pairs, ax, labels, margin=0.0):
    """Two numbers a row, hollow and filled, joined; coloured by which is greater.

    Parameters
    ----------
    pairs : dict
        ``{row: (first, second)}``
    labels : (str, str)
        What the hollow and the filled dots are.
    margin : float
        Differences up to this count as none and stay grey.
    """
    for y, (first, second) in enumerate(pairs.values()):
        change = second - first
        verdict = "up" if change > 0 else "down"
        if abs(change) <= margin + 1e-9:
            verdict = "not distinguishable"
        color = _VERDICT_COLORS[verdict]
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
    ax.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def interval_dots(values, ax, bands=(), zero=True):
    """Numbers with or without an interval, over bands that an interval would span.

    Parameters
    ----------
    values : dict
        ``{row: (value, low, high)}``; ``None`` for bounds that nobody printed, and
        then the dot is hollow.
    bands : sequence of float
        Half-widths around zero, shaded; the widest is the faintest.
    """
    for width in sorted(bands, reverse=True):
        ax.axvspan(-width, width, color=FAINT, alpha=0.35, lw=0, gid=f"band:{width}")
    for y, (value, low, high) in enumerate(values.values()):
        known = low is not None
        if known:
            ax.plot([low, high], [y, y], color=PALETTE[0], lw=2)
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


def arm_curves(histories, ax, key, label=None, first_color=0):
    """One metric over the steps of several runs an arm: thin each, thick their mean.

    Parameters
    ----------
    histories : dict
        ``{arm: [rows of metrics.jsonl, one list a run]}``; runs of an arm that lack
        ``key`` are passed over.
    label : str, optional
        In the legend instead of the arm's name.
    first_color : int
        Where in the palette to begin.
    """
    for i, (arm, runs) in enumerate(histories.items()):
        color = PALETTE[(first_color + i) % len(PALETTE)]
        series = [s for s in (_series(rows, key) for rows in runs) if s.size]
        for steps, values in series:
            ax.plot(steps, values, color=color, lw=0.6, alpha=0.5, gid=f"run:{arm}")
        if series:
            shortest = min(s.shape[1] for s in series)
            mean = np.mean([s[1, :shortest] for s in series], axis=0)
            ax.plot(
                series[0][0][:shortest],
                mean,
                color=color,
                lw=1.8,
                label=label or f"{arm} (n = {len(series)})",
            )
    ax.set(xlabel="optimiser step")
    ax.legend()
    return ax


# ---- extraction audit and reports


def extraction_bars(table, ax):
    """What each rule makes of the same outputs: scored, lost, unread; in per cent.

    Parameters
    ----------
    table : DataFrame
        Of ``evaluation.audit``; drawn is the mean over all rows.
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
        ax.text(1, spot, f"{value:.1f}", va="center", color="white", weight="bold")
    ax.set(xlim=(0, 100), xlabel=f"outputs (%), n = {rows['n'].max()}")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def agreement_matrix(agreement, ax):
    """Rules by rules: the share of outputs that both score alike, written out."""
    shares = 100 * agreement.to_numpy(float)
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        color = INK if share > 60 else "white"
        ax.text(column, row, f"{share:.0f}", ha="center", va="center", color=color)
    spots = np.arange(len(agreement))
    ax.set(xticks=spots, yticks=spots, yticklabels=agreement.index)
    ax.set_xticklabels(agreement.columns, rotation=30, ha="right")
    ax.set_title("outputs scored alike (%)")
    ax.grid(False)
    return ax


def floor_blocks(floors, ax, names, level="task", measure="score"):
    """Floors under the bars of ``accuracy_bars``: a grey block with a line on top each.

    Parameters
    ----------
    floors : dict
        ``{label: summary}``.
    names : list of str
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
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


# ---- answers beside maps

_FAILURE_COLORS = {
    "right": PALETTE[2],
    "perception": PALETTE[1],
    "localisation": PALETTE[0],
    "reasoning": PALETTE[3],
    "undetermined": PALETTE[4],
    "no_map": FAINT,
    "extraction": INK,
}


def share_dots(table, ax, measures=("follows", "drawn_suffices", "true_suffices")):
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
            ax.plot([100 * row["low"], 100 * row["high"]], [y, y], color=PALETTE[i])
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
    ax.legend(ncols=len(measures), loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def failure_bars(table, ax):
    """What went wrong, as shares of each type of question.

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
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def words_against_score(table, ax):
    """Spatial words per response against the score, one point per run.

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
            fmt=_MARKERS[i],
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
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


# ---- prompts computed once


def shared_prefix_ratios(benches, vary, ax):
    """How many times faster an update is with shared prompts, over one dimension of
    the group, with the law of token counts G (P + C) / (P + G C).

    Parameters
    ----------
    benches : list of dict
        Of ``spacer bench step --json``; those that differ in ``vary`` alone from the
        first are drawn.
    vary : str
        ``prompt``, ``completion`` or ``group``.
    """
    rest = [key for key in ("model", "prompt", "completion", "group") if key != vary]
    first = benches[0]
    alike = [b for b in benches if all(b[key] == first[key] for key in rest)]
    alike = sorted(alike, key=lambda bench: bench[vary])
    at = np.array([bench[vary] for bench in alike])
    seconds = [bench["seconds"]["update"] for bench in alike]
    values = {key: first[key] for key in rest if key != "model"}
    values[vary] = np.linspace(at.min(), at.max(), 100)
    p, c, g = (values[key] for key in ("prompt", "completion", "group"))
    ax.plot(values[vary], g * (p + c) / (p + g * c), color=INK, label="token counts")
    for mark, color, stock in zip(
        "os", PALETTE, ("a row to a forward", "stock batch"), strict=False
    ):
        ratios = [s[stock] / s["shared"] for s in seconds]
        ax.plot(at, ratios, mark, color=color, label=f"measured, {stock}")
    words = {"prompt": "tokens of the prompt, P", "group": "completions, G"}
    ax.set(
        xticks=at,
        xlabel=words.get(vary, "tokens of a completion, C"),
        ylabel="update: stock seconds / shared",
        ylim=(0, None),
    )
    ax.legend()
    return ax
