"""Texts that notebooks store beside a figure: the data behind it, and what it shows.

Two runs are compared by the data: pixels differ between machines, data do not. What a
figure shows is its alternative text, for readers who do not see it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure

LISTED = 12
NAMED = 8  # entries of a key, or ticks, that an alternative text lists


def figure_data(figure: Figure) -> str:
    """Titles, labels, texts and numbers that a figure draws.

    Parameters
    ----------
    figure : matplotlib figure

    Returns
    -------
    str
        A line for each axes and for each thing drawn on it. Numbers have four
        significant digits. Of more than ``LISTED`` there are count, range and mean, and
        more than ``LISTED`` things of a kind share a line.

    Examples
    --------
    >>> figure = Figure()
    >>> figure.subplots().plot([0, 1], [2, 4.5]) and None
    >>> print(figure_data(figure))
    Figure with 1 axes
    axes: '', x '', y ''
      line x, y: [0, 1], [2, 4.5]
    """
    lines = [f"Figure with {len(figure.axes)} axes"]
    for ax in figure.axes:
        names = ax.get_title(), ax.get_xlabel(), ax.get_ylabel()
        lines.append("axes: {!r}, x {!r}, y {!r}".format(*names))
        lines += (f"  {line}" for line in _drawn(ax))
    return "\n".join(lines)


def _drawn(ax: Axes) -> Iterator[str]:
    kinds: dict[str, list[tuple[Any, ...]]] = {
        "line x, y": [line.get_data(orig=False) for line in ax.lines],
        "image": [(image.get_array(),) for image in ax.images],
        "collection paths, places": [_parts(group) for group in ax.collections],
        "patch": [
            (patch.get_patch_transform().transform_path(patch.get_path()).vertices,)
            for patch in ax.patches
        ],
    }
    for kind, found in kinds.items():
        if len(found) > LISTED:
            columns = zip(*found, strict=True)
            joined = tuple(np.concatenate([*map(_flat, same)]) for same in columns)
            kind, found = f"{len(found)} of {kind}", [joined]
        for arrays in found:
            yield f"{kind}: {', '.join(map(_numbers, arrays))}"
    words = [text.get_text() for text in ax.texts]
    if words:
        yield f"texts: {words}"


def _parts(group: Collection) -> tuple[Any, ...]:
    paths = [_flat(path.vertices) for path in group.get_paths()]
    return np.concatenate([np.empty(0), *paths]), group.get_offsets()


def _flat(values: Any) -> np.ndarray:
    masked = np.ma.masked_array(values, dtype=float)
    filled: np.ndarray = masked.filled(np.nan).ravel()
    return filled


def _numbers(values: Any) -> str:
    found = _flat(values)
    kept = found[np.isfinite(found)]
    if not len(kept) or len(found) <= LISTED:
        return "[" + ", ".join(f"{value:.4g}" for value in found) + "]"
    shown = kept.mean(), kept.min(), kept.max()
    return f"{len(found)} from {shown[1]:.4g} to {shown[2]:.4g}, mean {shown[0]:.4g}"


def figure_alt(figure: Figure) -> str:
    """The alternative text of a figure: its label, or a sentence for each axes.

    Parameters
    ----------
    figure : matplotlib figure
        ``figure.set_label`` sets its label.

    Examples
    --------
    >>> figure = Figure()
    >>> figure.subplots().plot([0, 1], [2, 4.5]) and None
    >>> figure.axes[0].set(title="reward", xlabel="step") and None
    >>> figure_alt(figure)
    'reward, 1 line, x: step.'
    >>> figure.set_label("The reward rises.")
    >>> figure_alt(figure)
    'The reward rises.'
    """
    said = str(figure.get_label())
    shown = [_sentence(ax) for ax in figure.axes if ax.get_visible()]
    return said or " ".join(shown) or "an empty figure"


def _sentence(ax: Axes) -> str:
    counts = {
        "picture": len(ax.images),
        "line": len(ax.lines),
        "shape": len(ax.patches) + len(ax.collections),
        "text": len(ax.texts),
    }
    drawn = [f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n]
    titles = [ax.get_title(loc=loc) for loc in ("left", "center", "right")]
    labels = {name: axis.label.get_text() for name, axis in ax._axis_map.items()}
    named = [f"{name}: {label}" for name, label in labels.items() if label]
    legend = ax.get_legend()
    if legend is not None:
        named.append(f"key: {_few([text.get_text() for text in legend.get_texts()])}")
    return ", ".join(filter(None, [*titles, *drawn, *named])) + "."


def _few(words: list[str]) -> str:
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def show_data_behind() -> None:
    """In notebooks: store ``figure_data`` and ``figure_alt`` with every figure shown.

    IPython asks an object's class for ``_repr_pretty_`` and ``_repr_mimebundle_``. A
    printer of the shell would not last: the inline backend takes all printers of
    figures away.
    """

    def pretty(figure: Figure, printer: Any, cycle: bool) -> None:
        printer.text(figure_data(figure))

    def mimebundle(figure: Figure, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"image/png": {"alt": figure_alt(figure)}}

    Figure._repr_pretty_ = pretty  # type: ignore[attr-defined]
    Figure._repr_mimebundle_ = mimebundle  # type: ignore[attr-defined]
