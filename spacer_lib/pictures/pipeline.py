"""The path from a room to a score, drawn as stations."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from spacer_lib.pictures.style import INK, PALETTE, tint


def pipeline(stations: Mapping[str, str], ax: Axes, columns: int = 4) -> Axes:
    """Stations in reading order, joined by arrows; the way turns at the end of a row.

    Parameters
    ----------
    stations : dict
        ``{name: what happens there}``, at most two words of name, short lines.
    ax : Axes
    columns : int
        Stations of a row.
    """
    spots = []
    for number in range(len(stations)):
        row, place = divmod(number, columns)
        # Every second row runs from right to left.
        spots.append((columns - 1 - place if row % 2 else place, -row))
    for (x, y), (name, what), color in zip(
        spots, stations.items(), _colors(len(stations)), strict=True
    ):
        box = {"boxstyle": "round,pad=0.5", "fc": tint(color), "ec": color}
        text = rf"$\mathbf{{{name.replace(' ', chr(92) + ' ')}}}$" + f"\n{what}"
        ax.text(x, y, text, ha="center", va="center", color=INK, bbox=box)
    for (x0, y0), (x1, y1) in zip(spots, spots[1:], strict=False):
        ahead = 0.40 * (x1 - x0), 0.26 * (y1 - y0)
        ax.annotate(
            "",
            (x1 - ahead[0], y1 - ahead[1]),
            (x0 + ahead[0], y0 + ahead[1]),
            arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.4},
        )
    rows = -(-len(stations) // columns)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(0.5 - rows, 0.5))
    ax.set_axis_off()
    return ax


def _colors(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]
