"""Cognitive maps: one alone, or a drawn map over the true one."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle
from scipy.optimize import linear_sum_assignment

from spacer_lib.pictures.style import INK, category_key, category_styles, ink_on, tint

Cells = Mapping[str, Sequence[Sequence[float]]]  # of each category
Mark = tuple[str, int, bool]  # category, number within it, whether it is drawn


def cognitive_map(
    cells: Cells,
    ax: Axes,
    grid_size: int = 10,
    predicted: Cells | None = None,
    names: Collection[str] = (),
    key: bool = True,
    labels: bool = True,
) -> Axes:
    """True objects as squares, drawn ones as dots; lines join the matched pairs.

    Each category has a letter; the key beside the map names it. Objects without a
    match have a dashed border. Objects in the same cell are drawn side by side, and a
    dot that is matched with an object of its own cell lies in that object's square.

    Parameters
    ----------
    cells : dict
        ``{category: [(x_col, y_row), …]}``, the true map.
    ax : matplotlib Axes
    grid_size : int
        M of an M x M grid.
    predicted : dict, optional
        The drawn map; ``None``: the true map alone.
    names : collection of str
        Categories of other maps of the figure: in each of them a category has the same
        letter and colour.
    key : bool
        Whether to name the letters beside the map.
    labels : bool
        Whether to number the cells and name the axes; not in a row of small maps.
    """
    drawn = predicted or {}
    present = sorted({*cells, *drawn})
    looks = category_styles({*present, *names})
    pairs = {
        name: dict(closest_pairs(cells.get(name, ()), drawn.get(name, ())))
        for name in present
    }
    places = mark_places(cells, drawn, pairs)
    for name in present:
        _draw_category(ax, name, looks[name], places, pairs[name], predicted is None)
    _frame(ax, grid_size)
    if not labels:
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
    if key:
        shown = {name: looks[name] for name in sorted({*present, *names})}
        category_key(ax, shown, [] if predicted is None else _SHAPES)
    return ax


_SHAPES = [
    Line2D([], [], marker="s", ls="", ms=9, mec=INK, mfc="white", label="true"),
    Line2D([], [], marker="o", ls="", ms=9, mec=INK, mfc=INK, label="drawn"),
    Line2D([], [], color=INK, ls="--", lw=1.2, label="no match"),
]


def closest_pairs(
    truth: Sequence[Sequence[float]], guess: Sequence[Sequence[float]]
) -> list[tuple[int, int]]:
    """Indices of matched cells: the least sum of distances."""
    if not len(truth) or not len(guess):
        return []
    gaps = np.linalg.norm(
        np.array(truth, float)[:, None] - np.array(guess, float)[None], axis=2
    )
    return list(zip(*(i.tolist() for i in linear_sum_assignment(gaps)), strict=True))


def mark_places(
    cells: Cells, drawn: Cells, pairs: Mapping[str, Mapping[int, int]]
) -> dict[Mark, tuple[np.ndarray, float]]:
    """Centre and width of each mark; those of one cell divide it among them."""
    hits = {}  # a drawn object in the cell of its true one shares its place
    sharing: dict[tuple[float, ...], list[Mark]] = defaultdict(list)
    for name in sorted({*cells, *drawn}):
        true, guess = cells.get(name, ()), drawn.get(name, ())
        for i, cell in enumerate(true):
            sharing[tuple(cell)].append((name, i, False))
        for a, b in pairs[name].items():
            if tuple(true[a]) == tuple(guess[b]):
                hits[name, b, True] = (name, a, False)
        for j, cell in enumerate(guess):
            if (name, j, True) not in hits:
                sharing[tuple(cell)].append((name, j, True))
    places = {}
    for cell, marks in sharing.items():
        side = int(np.ceil(np.sqrt(len(marks))))
        for k, mark in enumerate(marks):
            row, column = divmod(k, side)
            shift = (np.array([column, row]) - (side - 1) / 2) / side
            places[mark] = np.array(cell, float) + 0.92 * shift, 0.86 / side
    return places | {mark: places[true] for mark, true in hits.items()}


def _draw_category(
    ax: Axes,
    name: str,
    look: tuple[str, str],
    places: Mapping[Mark, tuple[np.ndarray, float]],
    pairs: Mapping[int, int],
    alone: bool,
) -> None:
    """Squares, dots, lines and letters of one category."""
    color, letter = look
    for (kind, i, drawn), ((x, y), side) in places.items():
        if kind != name:
            continue
        matched = i in (pairs.values() if drawn else pairs)
        shape: Patch
        fill: str | tuple[float, ...]
        if drawn:
            fill = color if matched else "white"
            shape = Circle((x, y), 0.42 * side, ec=color, zorder=3)
        else:
            fill = tint(color, 0.45 if alone else 0.2)
            shape = Rectangle((x - side / 2, y - side / 2), side, side, ec=color)
        shape.set(fc=fill, lw=1.4, ls="-" if matched or alone else "--")
        shape.set_gid(f"{'predicted' if drawn else 'true'}:{name}")
        ax.add_patch(shape)
        hit = not drawn and i in pairs and _same(places, name, i, pairs[i])
        if not hit:  # the letter is on the dot
            ax.text(
                x,
                y,
                letter,
                ha="center",
                va="center_baseline",
                fontsize=7.5,
                color=ink_on(fill),
                zorder=4,
                gid=f"letter:{name}",
            )
    for a, b in pairs.items():
        if not _same(places, name, a, b):
            (start, side), (end, _) = places[name, a, False], places[name, b, True]
            # From the border of the square, so that the line is not on its letter.
            away = min(0.6 * side / float(np.hypot(*(end - start))), 0.5)
            ends = np.array([start + away * (end - start), end])
            ax.plot(*ends.T, color=INK, lw=0.8, zorder=2.5, gid=f"match:{name}")


def _same(
    places: Mapping[Mark, tuple[np.ndarray, float]], name: str, a: int, b: int
) -> bool:
    return bool((places[name, a, False][0] == places[name, b, True][0]).all())


def _frame(ax: Axes, grid_size: int) -> None:
    """The grid's lines lie between the cells, its numbers at their centres."""
    ticks, edge = np.arange(grid_size), (-0.5, grid_size - 0.5)
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
