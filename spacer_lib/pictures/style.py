"""Colours, matplotlib defaults and short names that all pictures share."""

from collections.abc import Iterable, Mapping
from itertools import chain, count
from string import ascii_uppercase
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from spacer_lib.pictures.behind import show_data_behind

# Okabe and Ito's colours, which people with any kind of colour vision can distinguish
# (https://jfly.uni-koeln.de/color/). Black is for the truth and for axes.
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
ALERT = "#9C3D00"  # a vermilion that can be read on white and on tints
HATCHES = ("", "////", "....")  # of the first, second and third use of the palette


MARKERS = "osD^vP*X"


VERDICT_COLORS = {"up": PALETTE[2], "down": PALETTE[5], "not distinguishable": FAINT}


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


def use_house_style() -> None:
    """Set matplotlib's defaults: colours, light grid, small figures that export.

    In a notebook, figures also store the data behind them (``pictures.behind``).
    """
    show_data_behind()
    mpl.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=PALETTE),
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


def short_name(question_type: str) -> str:
    """A question type, short enough for an axis."""
    return _SHORT.get(question_type, question_type)


def category_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and letter of each category.

    Colours repeat after seven categories. Letters are taken from the name where one is
    free, and do not repeat.
    """
    looks: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for i, name in enumerate(sorted(set(names))):
        letters = [c for c in name.upper() if c.isalnum()]
        numbered = (f"{x}{n}" for n in count(1) for x in ascii_uppercase)
        letter = next(
            c for c in chain(letters, ascii_uppercase, numbered) if c not in taken
        )
        taken.add(letter)
        looks[name] = PALETTE[i % len(PALETTE)], letter
    return looks


def category_key(
    ax: Axes, looks: Mapping[str, tuple[str, str]], extra: Iterable[Line2D] = ()
) -> None:
    """Beside the axes, the name of each letter; then further labelled handles."""
    deep = ax.name == "3d"  # the label of z is on the right
    if not deep:
        ax.set_anchor("W")  # in the middle of its place, it would leave the key no room
    handles: list[Any] = []
    for color, letter in looks.values():
        square = Line2D([], [], marker="s", ls="", ms=9, mec=color, mfc=tint(color))
        mark = rf"$\mathdefault{{{letter}}}$"
        handles.append(
            (square, Line2D([], [], marker=mark, ls="", ms=5, mew=0.3, color=INK))
        )
    extra = list(extra)
    ax.legend(
        handles + extra,
        [*looks, *(str(line.get_label()) for line in extra)],
        handler_map={tuple: HandlerTuple()},
        loc="center left",
        bbox_to_anchor=(1.12 if deep else 1.0, 0.5),
        handletextpad=0.3,
        labelspacing=0.3,
        columnspacing=0.8,
        ncols=1 + (len(handles) + len(extra) > 20),
    )


def tint(color: str, share: float = 0.35) -> tuple[float, float, float]:
    """A colour mixed with white, so that dark text on it can be read."""
    red, green, blue = (1 + share * (part - 1) for part in to_rgb(color))
    return red, green, blue


def ink_on(color: str | tuple[float, ...]) -> str:
    """Black or white: the colour of text that has more contrast on ``color``.

    Source: contrast ratio, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio.
    """
    light = luminance(color) + 0.05
    return "white" if 1.05 / light > light / 0.05 else "black"


def luminance(color: str | tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour, 0 … 1.

    Source: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance.
    """
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def legend_above(ax: Axes, columns: int) -> None:
    """A legend over axes without a title."""
    ax.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), columnspacing=1.0)


def legend_beside(ax: Axes) -> None:
    """A legend to the right of the axes, where it hides nothing."""
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
