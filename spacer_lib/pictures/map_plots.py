"""Cognitive maps, alone or the drawn beside the true one."""

from collections import Counter

import numpy as np
from matplotlib.patches import Rectangle
from scipy.optimize import linear_sum_assignment

from spacer_lib.pictures.style import INK, category_styles


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
