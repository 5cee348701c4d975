"""Tables of words and of numbers."""

import textwrap
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from spacer_lib.pictures.style import ALERT, FAINT, INK, PALETTE


def text_table(
    rows: Iterable[tuple[str, str]], ax: Axes, widths: tuple[int, int] = (18, 92)
) -> Axes:
    """Names and sentences in two columns of these widths, in characters."""
    y = 0.0
    for name, sentence in rows:
        lines = textwrap.wrap(sentence, widths[1])
        ax.text(0, -y, name, weight="bold", va="top")
        ax.text(widths[0], -y, "\n".join(lines), va="top")
        y += len(lines) + 0.6
        ax.axhline(-y + 0.3, color=FAINT, lw=0.5)
    ax.set(xlim=(0, sum(widths)), ylim=(-y, 0.4))
    ax.set_axis_off()
    return ax


def number_table(
    table: pd.DataFrame,
    ax: Axes,
    marks: Mapping[tuple[str, str], str] | None = None,
    unshaded: Collection[str] = (),
) -> Axes:
    """Numbers as printed; each column is shaded from its least to its greatest.

    Parameters
    ----------
    table : DataFrame
        Rows and columns are drawn in order; NaN is a dash.
    marks : dict, optional
        ``{(row, column): letter}``; the letter is drawn beside the number, and both in
        another colour.
    unshaded : collection of str
        Rows in another unit than the others, such as printed gains, and columns that
        hold settings instead of results.
    """
    longest = max(len(str(row)) for row in table.index)
    label_width = 0.5 + longest * len(table.columns) / 150  # in columns
    shaded = table.drop(index=[name for name in unshaded if name in table.index])
    titles = [
        textwrap.wrap(str(column), 11 if len(table.columns) < 12 else 8)
        for column in table.columns
    ]
    for x, column in enumerate(table.columns):
        digits = _digits(table[column])
        low, high = shaded[column].min(), shaded[column].max()
        ax.text(
            x + 0.5, -0.15, "\n".join(titles[x]), ha="center", va="bottom", fontsize=7
        )
        plain = column in unshaded or not high > low
        for y, (row, value) in enumerate(table[column].items()):
            missing = np.isnan(value)
            text = "–" if missing else f"{value:.{digits}f}"
            if row in shaded.index and not plain and not missing:
                share = (value - low) / (high - low)
                cell = Rectangle((x, y), 1, 1, fc=PALETTE[4], alpha=0.5 * share, lw=0)
                ax.add_patch(cell)
            mark = (marks or {}).get((row, column))
            color = ALERT if mark and not missing else INK
            ax.text(
                x + 0.5,
                y + 0.5,
                text,
                ha="center",
                va="center",
                color=color,
                fontsize=8,
                gid=f"cell:{row}|{column}",
            )
            if mark:
                ax.text(
                    x + 0.88,
                    y + 0.36,
                    mark,
                    ha="center",
                    va="center",
                    color=ALERT,
                    fontsize=7,
                    gid="mark",
                )
    for y, row in enumerate(table.index):
        ax.text(-0.1, y + 0.5, row, ha="right", va="center", fontsize=8)
        ax.axhline(y, color=FAINT, lw=0.5)
    top = 0.3 + 0.5 * max(map(len, titles))
    ax.set(xlim=(-label_width, len(table.columns)), ylim=(len(table), -top))
    ax.set_axis_off()
    return ax


def _digits(values: pd.Series) -> int:
    """Decimals of the number printed with most of them."""
    texts = [f"{value:g}" for value in values.dropna()]
    return max((len(text.partition(".")[2]) for text in texts), default=0)
