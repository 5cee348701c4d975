"""Watch a run from a notebook: one display, redrawn as ``metrics.jsonl`` grows.

There is one display only: every ``print`` of a long cell would stay in the saved
notebook.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.figure import Figure

from spacer_lib.artifacts import PathLike, read_journal


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

    def __init__(
        self, out_dir: PathLike, draw: Callable[..., Any], every_s: float = 2.0
    ) -> None:
        self.path = Path(out_dir) / "metrics.jsonl"
        self.draw, self.every_s = draw, every_s
        self.handle: Any = None
        self.last, self.count = 0.0, 0

    def __call__(self, line: str) -> None:
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

    def _show(self, rows: list[dict[str, Any]]) -> None:
        # Not through pyplot, which keeps a global figure and would show it twice.
        figure = Figure(figsize=(8, 3), layout="constrained")
        self.draw(rows, figure.subplots(1, 2))
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=80)
        last = rows[-1]["step"]
        image = Image(png.getvalue(), alt=f"curves of {last} steps of training")
        if self.handle is None:
            self.handle = display(image, display_id=True)
        else:
            self.handle.update(image)


def _in_notebook() -> bool:
    return hasattr(get_ipython(), "kernel")
