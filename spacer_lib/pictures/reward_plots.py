"""Rewards of completions, and rewards against the size of an error."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from spacer_lib.pictures.style import PALETTE, ink_on, legend_beside
from spacer_lib.rewards.score import RewardBreakdown

REWARD_PARTS = ("format", "task", "map")


def reward_bars(
    breakdowns: Iterable[RewardBreakdown], ax: Axes, labels: Sequence[str]
) -> Axes:
    """The reward of each completion, by part; a failure is written beside it.

    Parameters
    ----------
    breakdowns : iterable of RewardBreakdown
    ax : Axes
    labels : list of str, one per breakdown
    """
    breakdowns = list(breakdowns)
    spots, left = np.arange(len(breakdowns)), np.zeros(len(breakdowns))
    for color, part in zip(PALETTE, REWARD_PARTS, strict=False):
        values = np.array([float(getattr(b, part) or 0) for b in breakdowns])
        ax.barh(spots, values, left=left, color=color, label=part)
        left += values
    for spot, edge, breakdown in zip(spots, left, breakdowns, strict=True):
        note = breakdown.failure or breakdown.map_failure
        if note:
            ax.text(float(edge) + 0.03, float(spot), note, va="center", fontsize=7)
    ax.set(yticks=spots, yticklabels=labels, xlabel="reward")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    legend_beside(ax)
    return ax


def reward_table(totals: pd.DataFrame, ax: Axes, label: str) -> Axes:
    """Mean reward of each row under each column: a number on its colour.

    Parameters
    ----------
    totals : DataFrame
        Finite numbers.
    ax : Axes
    label : str
        Of the colours.
    """
    shown = ax.imshow(totals, cmap="cividis", vmin=0, aspect="auto")
    ax.set_xticks(range(len(totals.columns)), totals.columns, rotation=30, ha="right")
    ax.set_yticks(range(len(totals)), totals.index)
    for (y, x), value in np.ndenumerate(totals.to_numpy()):
        ax.text(
            x,
            y,
            f"{value:.2f}",
            ha="center",
            va="center",
            color=ink_on(tuple(shown.to_rgba(value))),
            fontsize=8,
        )
    ax.grid(False)
    ax.figure.colorbar(shown, ax=ax, label=label)
    return ax


def reward_vs_error(
    curves: Mapping[str, npt.ArrayLike],
    ax: Axes,
    x_label: str = "jitter (cells)",
    y_label: str = "map score",
) -> Axes:
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
    legend_beside(ax)
    return ax
