"""Cognitive maps as SVG text, for pages that a browser shows."""

from collections.abc import Mapping

from spacer_lib.markup import html_text
from spacer_lib.pictures.map_plots import Cells, Mark, closest_pairs, mark_places
from spacer_lib.pictures.style import INK, category_styles

MOST_MARKS = 300  # of one map
MOST_CHARS = 60  # of a category's name


def map_svg(
    true: Cells,
    drawn: Cells | None,
    grid_size: int = 10,
    first_seen: Mapping[Mark, int] | None = None,
) -> str:
    """A figure element: true objects as squares, drawn ones as dots, and a key.

    It looks like ``map_plots.cognitive_map``. A map of more than ``MOST_MARKS`` objects
    is not drawn; a sentence says so.

    Parameters
    ----------
    true : dict
        ``{category: [(x_col, y_row), …]}``.
    drawn : dict or None
        ``None``: the true map alone.
    grid_size : int
        M of an M x M grid.
    first_seen : dict, optional
        ``{mark: frame}``: an element has its frame as ``data-first``.

    Returns
    -------
    str
        Empty if there is nothing to draw.
    """
    other = drawn or {}
    count = sum(map(len, [*true.values(), *other.values()]))
    if not count:
        return ""
    if count > MOST_MARKS:
        return f'<p class="map">a map of {count} objects is not drawn</p>'
    names = sorted({*true, *other})
    looks = category_styles(names)
    pairs = {
        name: dict(closest_pairs(true.get(name, ()), other.get(name, ())))
        for name in names
    }
    marks = []
    for mark, ((x, y), side) in mark_places(true, other, pairs).items():
        name, place, dot = mark
        matched = place in (pairs[name].values() if dot else pairs[name])
        whole = matched or drawn is None
        shape = _shape(x, grid_size - 1 - y, side, looks[name][0], dot, whole)
        letter = _letter(x, grid_size - 1 - y, side, looks[name][1])
        first = "" if first_seen is None else f' data-first="{first_seen[mark]}"'
        marks.append(f"<g{first}>{shape}{letter}</g>")
    key = "".join(
        f'<li><b style="color:{color}">{html_text(letter)}</b> '
        f"{html_text(name[:MOST_CHARS])}</li>"
        for name, (color, letter) in looks.items()
    )
    legend = "" if drawn is None else "□ true ○ drawn, dashed: no match"
    return f"""<figure class="map" style="display:flex;gap:.5rem;margin:0">
{_svg(grid_size, "".join(marks))}
<figcaption>{legend}<ul style="list-style:none;padding:0;margin:0">{key}</ul>
</figcaption></figure>
"""


def _svg(grid_size: int, marks: str) -> str:
    last = grid_size - 0.5
    lines = "".join(
        f"M{at - 0.5} -0.5V{last}M-0.5 {at - 0.5}H{last}" for at in range(grid_size + 1)
    )
    side = grid_size + 0.2
    return f"""<svg viewBox="-0.6 -0.6 {side} {side}" width="224" height="224"
role="img" aria-label="cognitive map, y_row upwards">
<path d="{lines}" stroke="#ddd" stroke-width=".04"/>{marks}</svg>"""


def _shape(
    x: float, y: float, side: float, color: str, dot: bool, matched: bool
) -> str:
    dash = "" if matched else ' stroke-dasharray=".12"'
    style = f'stroke="{color}" stroke-width=".06"{dash}'
    if dot:
        fill = f'fill="{color}" fill-opacity=".5"' if matched else 'fill="#fff"'
        at = f'cx="{x:.2f}" cy="{y:.2f}" r="{0.42 * side:.2f}"'
        return f"<circle {at} {fill} {style}/>"
    at = f'x="{x - side / 2:.2f}" y="{y - side / 2:.2f}"'
    size = f'width="{side:.2f}" height="{side:.2f}"'
    return f'<rect {at} {size} fill="{color}" fill-opacity=".15" {style}/>'


def _letter(x: float, y: float, side: float, letter: str) -> str:
    at = f'x="{x:.2f}" y="{y + 0.18 * side:.2f}" font-size="{0.5 * side:.2f}"'
    return f'<text {at} fill="{INK}" text-anchor="middle">{html_text(letter)}</text>'
