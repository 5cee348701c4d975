"""Training: curves, selection, token labels, shared prefixes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from spacer_lib.pictures.style import (
    FAINT,
    INK,
    PALETTE,
    legend_above,
    legend_beside,
)

Metrics = Sequence[Mapping[str, Any]]  # rows of metrics.jsonl


def training_curves(metrics_rows: Metrics, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Rewards of a run by step, its map hits and its zero-advantage groups.

    Parameters
    ----------
    metrics_rows : list of dict
        The trainer's log: ``step``; for SG-RLVR ``rewards/<part>/mean``, ``reward``,
        ``map_hit_rate`` and ``frac_reward_zero_std``; for a baseline ``loss``,
        ``mean_token_accuracy`` and, with DPO, ``rewards/accuracies``. Rows without a
        key are left out.
    axes : two Axes
        Left: mean rewards. Right: shares of true objects drawn within 1.5 cells, where
        maps are drawn, and of groups without advantage. For a baseline its
        loss, and the share of right tokens or pairs.
    """
    keys = {key for row in metrics_rows for key in row}
    if "reward" not in keys:
        return _baseline_curves(metrics_rows, keys, axes)
    parts = sorted(k for k in keys if k.startswith("rewards/") and k.endswith("/mean"))
    for color, key in zip(PALETTE, parts, strict=False):
        axes[0].plot(*_series(metrics_rows, key), color=color, label=key.split("/")[1])
    axes[0].plot(*_series(metrics_rows, "reward"), color=INK, lw=1.6, label="total")
    axes[0].set(xlabel="optimiser step", ylabel="mean reward of rollouts")
    for color, (key, label) in zip((PALETTE[0], PALETTE[5]), _SHARES, strict=True):
        if key in keys:
            steps, share = _series(metrics_rows, key)
            axes[1].plot(steps, 100 * share, color=color, label=label)
    axes[1].set(xlabel="optimiser step", ylabel="share (%)", ylim=(0, 100))
    legend_above(axes[0], 5)
    legend_above(axes[1], 2)
    return axes


_SHARES = (
    ("map_hit_rate", "map hits"),
    ("frac_reward_zero_std", "groups without advantage"),
)


def _baseline_curves(
    rows: Metrics, keys: Collection[str], axes: Sequence[Axes]
) -> Sequence[Axes]:
    axes[0].plot(*_series(rows, "loss"), color=INK)
    axes[0].set(xlabel="optimiser step", ylabel="loss")
    shares = {"mean_token_accuracy": "tokens", "rewards/accuracies": "pairs"}
    for color, (key, label) in zip(PALETTE, shares.items(), strict=False):
        if key in keys:
            steps, share = _series(rows, key)
            axes[1].plot(steps, 100 * share, color=color, label=label)
            legend_beside(axes[1])
    axes[1].set(xlabel="optimiser step", ylabel="right (%)", ylim=(0, 100))
    return axes


def sft_curves(metrics_rows: Metrics, axes: Sequence[Axes]) -> Sequence[Axes]:
    """SFT's loss, and the share of response tokens that the model ranks first.

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


def dpo_curves(metrics_rows: Metrics, axes: Sequence[Axes]) -> Sequence[Axes]:
    """DPO's margin by step, and the two log-probabilities that it is made of.

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
    legend_beside(axes[1])
    return axes


def arm_curves(
    histories: Mapping[str, Sequence[Metrics]],
    ax: Axes,
    key: str,
    label: str | None = None,
    first_color: int = 0,
) -> Axes:
    """One metric by step: a thin line per run, a thick one for the mean of an arm.

    Parameters
    ----------
    histories : dict
        ``{arm: [rows of metrics.jsonl, one list per run]}``; runs that lack ``key``
        are left out.
    key : str
        Of the metric.
    label : str, optional
        In the legend instead of the arm's name.
    first_color : int
        Index in the palette of the first arm's colour.
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
    legend_beside(ax)
    return ax


def _series(rows: Metrics, key: str) -> np.ndarray:
    """(2, n) steps and values of a metric where it was logged."""
    pairs = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    return np.array(pairs, float).reshape(-1, 2).T


def selection_histogram(
    histogram: Mapping[int, int], ax: Axes, kept: Mapping[int, int] | None = None
) -> Axes:
    """Rows by their number of right answers: all in grey, the kept ones in blue.

    Parameters
    ----------
    histogram : dict
        ``{right answers, 0 … k: rows}`` of ``selection.keep_informative``.
    kept : dict, optional
        The same for the kept rows. A row without a right answer may be kept, since
        numbers can be partly right.
    """
    right = list(histogram)
    bars = ax.bar(right, list(histogram.values()), color=FAINT, label="dropped")
    ax.bar_label(bars, padding=2, fontsize=7)
    if kept is not None:
        heights = [kept.get(count, 0) for count in right]
        ax.bar(right, heights, color=PALETTE[0], label="kept")
        legend_beside(ax)
    ax.set(
        xticks=right,
        xlabel=f"right answers of {max(right)}",
        ylabel="rows",
        title=f"n = {sum(histogram.values())} rows",
    )
    ax.grid(False, axis="x")
    return ax


def label_strip(
    tokens: Sequence[str], taught: Sequence[bool], ax: Axes, per_line: int = 20
) -> Axes:
    """Tokens in reading order; those that the loss counts are coloured.

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
        ax.text(column + 0.47, 0.4 - row, token, fontsize=7, ha="center", va="center")
    lines = -(-len(tokens) // per_line)
    ax.set(xlim=(0, per_line), ylim=(0.8 - lines, 1))
    ax.set_axis_off()
    return ax


def shared_prefix_ratios(
    benches: Sequence[Mapping[str, Any]], vary: str, ax: Axes
) -> Axes:
    """Speed-up of an update by a shared prefix, against one size of the group.

    The line is the ratio of token counts, G (P + C) / (P + G C).

    Parameters
    ----------
    benches : list of dict
        From ``spacer bench step --json``; those that differ from the first in ``vary``
        alone are drawn.
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
    legend_beside(ax)
    return ax
