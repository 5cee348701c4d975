"""Cognitive maps: one alone, or a drawn map over the true one."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy.optimize import linear_sum_assignment

from spacer_lib.pictures.style import INK, category_styles

Cells = Mapping[str, Sequence[Sequence[float]]]  # of each category


def cognitive_map(
    cells: Cells, ax: Axes, grid_size: int = 10, predicted: Cells | None = None
) -> Axes:
    """True cells as squares, drawn cells as dots; lines join the matched pairs.

    A true cell without a match has a dashed border; a drawn cell without one is a
    cross. Objects in the same cell are drawn side by side.

    Parameters
    ----------
    cells : dict
        ``{category: [(x_col, y_row), …]}``, the true map.
    ax : matplotlib Axes
    grid_size : int
        M of an M x M grid.
    predicted : dict, optional
        The drawn map; ``None``: the true map alone.
    """
    names = [*cells, *(predicted or {})]
    styles = category_styles(names)
    taken: Counter[tuple[float, ...]] = Counter()
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


def _spread(cell: Sequence[float], taken: Counter[tuple[float, ...]]) -> np.ndarray:
    """Where to draw an object: moved a little for each object already in its cell."""
    step = taken[tuple(cell)]
    taken[tuple(cell)] += 1
    return np.array(cell, float) + 0.12 * step


def _closest_pairs(
    truth: Sequence[np.ndarray], guess: Sequence[np.ndarray]
) -> list[tuple[int, int]]:
    """Indices of matched cells: the least sum of distances."""
    if not truth or not guess:
        return []
    gaps = np.linalg.norm(np.array(truth)[:, None] - np.array(guess)[None], axis=2)
    return list(zip(*(i.tolist() for i in linear_sum_assignment(gaps)), strict=True))
