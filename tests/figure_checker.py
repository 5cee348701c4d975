"""What a reader of a figure could trip over: found on the drawn pixels and boxes.

A notebook's figure is shown at most 880 CSS pixels wide, GitHub's column.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.offsetbox import DrawingArea
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d.art3d import Text3D

from spacer_lib.pictures import behind
from spacer_lib.pictures.style import luminance

GITHUB_PX = 880
LEAST_PX = 7.5  # of a font's size, as shown
LEAST_ALT = 12  # characters of an alternative text
LEAST_CONTRAST = 4.5  # https://www.w3.org/TR/WCAG22/#contrast-minimum
LEAST_DELTA_E = 12.0  # CIE 1976, of colours that alone tell marks apart
# Machado, Oliveira and Fernandes (2009), severity 1, linear RGB:
# https://doi.org/10.1109/TVCG.2009.113
_SIGHT = {
    "full sight": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
_XYZ = np.array(
    [
        [0.412456, 0.357576, 0.180437],
        [0.212673, 0.715152, 0.072175],
        [0.019334, 0.119192, 0.950304],
    ]
)


Boxes = list[tuple[Text, Bbox]]


@dataclass(frozen=True)
class Finding:
    """A fault: ``contrast overlap small alike unlabelled unnamed`` or ``hidden``."""

    kind: str
    says: str


def findings(figure: Figure) -> list[Finding]:
    """All findings on a figure; its layout is fixed by the call."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")
    texts = _texts(figure)
    found = [*_small(figure, texts), *_overlaps(texts), *_contrasts(canvas, texts)]
    for ax in figure.axes:
        if ax.get_visible():
            found += [*_alike(ax), *_unlabelled(ax), *_unnamed(ax, texts), *_hidden(ax)]
    return found


def watch(log: str) -> None:
    """In a notebook's kernel: add a line to ``log`` for each figure that is shown.

    The line is JSON: the figure's first title, and its findings. Figures are checked
    after the data behind them are taken, since the check fixes their layout.
    """
    data_behind = behind.figure_data

    def checked(figure: Figure) -> str:
        text = data_behind(figure)
        found = [f"{one.kind}: {one.says}" for one in findings(figure)]
        if len(behind.figure_alt(figure)) < LEAST_ALT:
            found.append("no alternative text")
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"figure": text[:400], "findings": found}) + "\n")
        return text

    behind.figure_data = checked


def summary(log: str) -> str:
    """Of what ``watch`` wrote: the figures with findings, and the number of all."""
    with open(log, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    bad = [line for line in lines if line["findings"]]
    parts = [f"{line['figure']}\n  " + "\n  ".join(line["findings"]) for line in bad]
    return "\n".join([*parts, f"{len(lines)} figures, {len(bad)} with findings"])


def _texts(figure: Figure) -> Boxes:
    """Texts that are drawn, and their boxes in pixels, less the room for descenders."""
    unseen = {id(text) for ax in figure.axes for text in _unseen(ax)}
    found = []
    for text in figure.findobj(Text):
        shown = text.get_visible() and text.get_alpha() != 0 and id(text) not in unseen
        if not shown or not text.get_text().strip():
            continue
        box = Text.get_window_extent(text)
        if box.width and box.height:
            trim = 0.15 * text.get_fontsize() * figure.dpi / 72
            box = Bbox.from_extents(box.x0, box.y0 + trim, box.x1, box.y1 - trim)
            found.append((text, box))
    return found


def _unseen(ax: Axes) -> Iterator[Text]:
    """Texts of hidden axes, and of ticks that are not drawn."""
    if not ax.get_visible():
        yield from ax.findobj(Text)
    for axis in ax._axis_map.values():
        off = not ax.axison or not axis.get_visible()
        drawn = [] if off else axis._update_ticks()
        shown = {id(text) for tick in drawn for text in tick.findobj(Text)}
        if not off:
            shown |= {id(axis.label), id(axis.offsetText)}
        yield from (text for text in axis.findobj(Text) if id(text) not in shown)


def _small(figure: Figure, texts: Boxes) -> Iterator[Finding]:
    width_px = figure.get_figwidth() * figure.dpi
    scale = min(1.0, GITHUB_PX / width_px) * figure.dpi / 72
    for text, _ in texts:
        px = text.get_fontsize() * scale
        if px < LEAST_PX:
            yield Finding("small", f"{text.get_text()!r} is {px:.1f} px")


def _overlaps(texts: Boxes) -> Iterator[Finding]:
    flat = [(t, box) for t, box in texts if not isinstance(t, Text3D)]
    for (a, first), (b, second) in combinations(flat, 2):
        if _side_by_side(a, b):
            continue
        shared = Bbox.intersection(first, second)
        if shared is None or not shared.width or not shared.height:
            continue
        least = min(first.width * first.height, second.width * second.height)
        if shared.width * shared.height > 0.1 * least:
            yield Finding("overlap", f"{a.get_text()!r} and {b.get_text()!r}")


def _side_by_side(a: Text, b: Text) -> bool:
    """Whether two oblique texts lie on parallel lines that are a text's height apart.

    Their boxes overlap where they do not.
    """
    angle = np.radians(a.get_rotation())
    if a.get_rotation() != b.get_rotation() or abs(np.sin(2 * angle)) < 0.1:
        return False
    places = [t.get_transform().transform(t.get_position()) for t in (a, b)]
    away = np.subtract(*places) @ (-np.sin(angle), np.cos(angle))
    height_px = max(t.get_fontsize() * t.figure.dpi / 72 for t in (a, b))
    return bool(abs(away) >= 0.9 * height_px)


def _contrasts(canvas: FigureCanvasAgg, texts: Boxes) -> Iterator[Finding]:
    """A text whose box has more than a quarter of pixels too much like it."""
    alphas = [text.get_alpha() for text, _ in texts]
    for text, _ in texts:
        text.set_alpha(0)
    canvas.draw()
    behind = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    for (text, _), alpha in zip(texts, alphas, strict=True):
        text.set_alpha(alpha)
    height, width = behind.shape[:2]
    for text, box in texts:
        x0, x1 = np.clip([box.x0, box.x1], 0, width).astype(int)
        y0, y1 = np.clip([height - box.y1, height - box.y0], 0, height).astype(int)
        pixels = behind[y0 : y1 + 1, x0 : x1 + 1].reshape(-1, 3)
        if isinstance(text, Text3D) or not len(pixels):
            continue
        *rgb, opaque = to_rgba(text.get_color(), text.get_alpha())
        ratios = contrast(opaque * np.array(rgb) + (1 - opaque) * pixels, pixels)
        if (ratios < LEAST_CONTRAST).mean() > 0.25:
            yield Finding("contrast", f"{text.get_text()!r}: {np.median(ratios):.1f}")


def contrast(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) contrast ratios of (n, 3) sRGB colours, 1 … 21."""
    weights = np.array([luminance(color) for color in np.eye(3)])
    a, b = (
        _linear(np.atleast_2d(colors)) @ weights + 0.05 for colors in (first, second)
    )
    return np.maximum(a, b) / np.minimum(a, b)


def _linear(colors: np.ndarray) -> np.ndarray:
    return np.where(
        colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4
    )


def delta_e(first: np.ndarray, second: np.ndarray) -> float:
    """CIE 1976 distance of two sRGB colours: the least of three kinds of sight."""
    pair = _linear(np.array([first, second]))
    seen = (np.clip(pair @ matrix.T, 0, 1) for matrix in _SIGHT.values())
    return float(min(np.linalg.norm(np.subtract(*_lab(colors))) for colors in seen))


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = linear @ _XYZ.T / _XYZ.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / 3 / (6 / 29) ** 2 + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _alike(ax: Axes) -> Iterator[Finding]:
    """Entries of a legend that differ in nothing that one can see."""
    legend = ax.get_legend()
    if legend is None:
        return
    names = [text.get_text() for text in legend.get_texts()]
    looks = [_look(area) for area in legend.findobj(DrawingArea)]
    for (a, (form, color)), (b, (other, second)) in combinations(
        zip(names, looks, strict=True), 2
    ):
        if form == other and delta_e(color, second) < LEAST_DELTA_E:
            yield Finding("alike", f"{a!r} and {b!r}")


def _look(area: DrawingArea) -> tuple[list[object], np.ndarray]:
    """Form and colour of a legend's handle, over white."""
    form: list[object] = []
    colors = [np.ones(3)]
    for artist in area.get_children():
        if isinstance(artist, Line2D):
            hollow = to_rgba(artist.get_markerfacecolor())[:3] == (1, 1, 1)
            marker = str(artist.get_marker())
            form.append(
                (
                    marker,
                    str(artist._unscaled_dash_pattern),
                    hollow,
                    artist.get_linewidth(),
                )
            )
            plain = marker in ("None", "")
            drawn = artist.get_color() if plain else artist.get_markeredgecolor()
            colors.append(_over_white(to_rgba(drawn, artist.get_alpha())))
        elif isinstance(artist, Patch):
            form.append(artist.get_hatch())
            colors.append(_over_white(artist.get_facecolor()))
        else:
            form.append(type(artist).__name__)
    # Of a handle of several artists the first has the colour.
    return form, colors[1] if len(colors) > 1 else colors[0]


def _over_white(color) -> np.ndarray:
    *rgb, opaque = color
    return opaque * np.array(rgb) + (1 - opaque)


_NUMBER = re.compile(r"[-+\u2212]?[\d.,]+%?|\$\\mathdefault.*\$")


def _unlabelled(ax: Axes) -> Iterator[Finding]:
    """An axis with numbers at its ticks and no label."""
    for name, axis in ax._axis_map.items():
        shown = [t.get_text() for t in axis.get_ticklabels() if t.get_visible()]
        numbers = [text for text in shown if _NUMBER.fullmatch(text)]
        if ax.axison and axis.get_visible() and numbers and not axis.label.get_text():
            yield Finding("unlabelled", f"{name} axis of {ax.get_title()!r}")


def _unnamed(ax: Axes, texts: Boxes) -> Iterator[Finding]:
    """Intervals whose level, or whose n, no text of the axes tells."""
    drawn = [*ax.collections, *ax.lines]
    known = any(a.get_gid() == "interval" for a in drawn)
    # A band about a curve; the bodies of violins are filled along the other axis.
    known |= any(getattr(a, "t_direction", None) == "x" for a in drawn)
    known |= any(
        isinstance(c, ErrorbarContainer) or getattr(c, "errorbar", None)
        for c in ax.containers
    )
    if not known:
        return
    words = " ".join(text.get_text() for text, _ in texts)
    if not re.search(r"\d+\s?% interval", words):
        yield Finding("unnamed", f"no word of the interval in {words[:60]!r}")
    if not re.search(r"\bn\s?[=≤]\s?[\d,]+", words):
        yield Finding("unnamed", f"no n in {words[:60]!r}")


def _hidden(ax: Axes) -> Iterator[Finding]:
    """A legend inside the axes that lies on bars, points or lines."""
    legend = ax.get_legend()
    if not isinstance(legend, Legend):
        return
    box = legend.get_window_extent()
    for patch in ax.patches:
        extent = patch.get_window_extent()
        shared = Bbox.intersection(extent, box)
        if shared is not None and shared.width > 1 and shared.height > 1:
            yield Finding("hidden", f"the legend lies on {type(patch).__name__}")
            return
    for line in ax.lines:
        path = line.get_transform().transform_path(line.get_path())
        if len(path.vertices) and path.intersects_bbox(box, filled=False):
            yield Finding("hidden", "the legend lies on a line")
            return


if __name__ == "__main__":
    told = summary(sys.argv[1])
    print(told)
    sys.exit(not re.search(r"^[1-9]\d* figures, 0 with", told, re.MULTILINE))
