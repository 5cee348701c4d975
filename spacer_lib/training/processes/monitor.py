"""Watch a run from a notebook: one display, redrawn as ``metrics.jsonl`` grows.

One display on purpose: every ``print`` of a long cell would stay in the saved
notebook.
"""

import io
import time
from pathlib import Path

from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.figure import Figure

from spacer_lib.artifacts import read_journal


class LiveFigure:
    """Call it with each line a run prints; it redraws now and then.

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

    def __init__(self, out_dir, draw, every_s=2.0):
        self.path = Path(out_dir) / "metrics.jsonl"
        self.draw, self.every_s = draw, every_s
        self.handle, self.last, self.count = None, 0.0, 0

    def __call__(self, line):
        if line.startswith("step ") and time.monotonic() - self.last >= self.every_s:
            self.refresh()

    def refresh(self):
        """Draw what is there now; returns the number of steps drawn."""
        rows = self._rows()
        if rows and len(rows) != self.count and _in_notebook():
            self._show(rows)
            self.count = len(rows)
        self.last = time.monotonic()
        return self.count

    def _rows(self):
        return read_journal(self.path) if self.path.exists() else []

    def _show(self, rows):
        # Not through pyplot: no global figure, and nothing is shown twice.
        figure = Figure(figsize=(8, 3), layout="constrained")
        self.draw(rows, figure.subplots(1, 2))
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=80)
        image = Image(png.getvalue())
        if self.handle is None:
            self.handle = display(image, display_id=True)
        else:
            self.handle.update(image)


def _in_notebook():
    return hasattr(get_ipython(), "kernel")
