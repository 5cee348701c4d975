"""Watch a run from a notebook: its last line, and curves that grow with the run.

Each is one display that is replaced: every ``print`` of a long cell would stay in the
saved notebook.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython import get_ipython
from IPython.display import Image, Pretty, display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from spacer_lib.artifacts import PathLike, read_journal


class LiveFigure:
    """Call it with each line a run prints; it shows the line, and redraws now and then.

    Outside a notebook it does nothing.

    Parameters
    ----------
    out_dir : path
        The run's folder.
    draw : callable
        ``draw(rows, axes)`` on two axes, such as ``training_plots.training_curves``.
    every_s : float
        Least seconds between two drawings.
    """

    def __init__(
        self, out_dir: PathLike, draw: Callable[..., Any], every_s: float = 2.0
    ) -> None:
        self.path = Path(out_dir) / "metrics.jsonl"
        self.draw, self.every_s = draw, every_s
        self.told: Any = None
        self.ended = False  # what follows is for the log; the cell's error says it
        self.handle: Any = None
        self.last, self.count = 0.0, 0

    def __call__(self, line: str) -> None:
        self.ended = self.ended or line.startswith("Traceback ")
        if _in_notebook() and not self.ended:
            self.told = _shown(self.told, Pretty(line))
        if line.startswith("step ") and time.monotonic() - self.last >= self.every_s:
            self.refresh()

    def refresh(self) -> int:
        """Draw the steps so far; returns their number."""
        rows = self._rows()
        if rows and len(rows) != self.count and _in_notebook():
            self._show(rows)
            self.count = len(rows)
        self.last = time.monotonic()
        return self.count

    def _rows(self) -> list[dict[str, Any]]:
        return read_journal(self.path) if self.path.exists() else []

    def drawn(self, rows: list[dict[str, Any]]) -> Figure:
        """Curves of a log's rows, as the live figure shows them."""
        # Not through pyplot, which keeps a global figure and would show it twice.
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.subplots(1, 2)
        self.draw(rows, axes)
        for ax in axes:
            ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            if len(rows) == 1:  # a point alone has no line
                plt.setp(ax.lines, marker="o")
        return figure

    def _show(self, rows: list[dict[str, Any]]) -> None:
        png = io.BytesIO()
        self.drawn(rows).savefig(png, format="png", dpi=80)
        last = rows[-1]["step"]
        image = Image(png.getvalue(), alt=f"curves of {last} steps of training")
        self.handle = _shown(self.handle, image)


def _shown(handle: Any, thing: object) -> Any:
    """Show ``thing`` in place of what ``handle`` shows; returns the handle."""
    if handle is None:
        return display(thing, display_id=True)
    handle.update(thing)
    return handle


def _in_notebook() -> bool:
    return hasattr(get_ipython(), "kernel")
