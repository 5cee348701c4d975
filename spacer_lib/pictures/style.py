"""Colours, matplotlib defaults and short names that all pictures share."""

from collections.abc import Iterable

import matplotlib as mpl
from cycler import cycler

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
    """Colour and marker of each category, distinct for up to 56 categories."""
    return {
        name: (
            PALETTE[i % len(PALETTE)],
            MARKERS[(i // len(PALETTE)) % len(MARKERS)],
        )
        for i, name in enumerate(sorted(set(names)))
    }
