"""Two ways to one result, timed in turns.

Ratios are comparable between machines, seconds are not. Both ways must give the same
result before they are timed. They then alternate, so that a machine that becomes slower
slows both, and the medians are compared.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import write_json
from spacer_lib.errors import SpacerError

# A label, and the work without arguments.
Way = tuple[str, Callable[[], Any]]
show = functools.partial(print, flush=True)


@dataclass(frozen=True)
class BenchRow:
    """One comparison; ``ours`` and ``other`` name the two ways.

    ``ours_s`` and ``other_s`` are medians over ``runs``; ``ratio`` is
    ``other_s / ours_s``: above 1, ours is faster.
    """

    name: str
    ours: str
    other: str
    ours_s: float
    other_s: float
    ratio: float
    runs: int
    note: str = ""

    def line(self) -> str:
        """The row in one printable line."""
        slower = self.ratio < 1
        factor = 1 / self.ratio if slower else self.ratio
        text = (
            f"{self.name}: {self.ours} {_duration(self.ours_s)}, "
            f"{self.other} {_duration(self.other_s)}: "
            f"{factor:.{0 if factor >= 10 else 1}f}x {'slower' if slower else 'faster'}"
        )
        return f"{text} ({self.note})" if self.note else text


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def largest_gap(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Largest absolute difference of two numbers or arrays; other shapes: infinite."""
    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape:
        return np.inf
    return float(np.abs(one - two).max())


def compare(
    name: str,
    ours: Way,
    other: Way,
    *,
    runs: int,
    tolerance: float,
    gap: Callable[..., float] = largest_gap,
    note: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> BenchRow:
    """Time two ways to one result, in turns.

    Parameters
    ----------
    name : str
    ours, other : (str, callable)
        A label and the work, without arguments. Each is called once more than
        ``runs``: the first results are compared, not timed.
    runs : int
    tolerance : float
        Largest ``gap(ours, other)`` that counts as the same result.
    gap : callable
    note : str
    clock : callable
        Seconds.

    Returns
    -------
    BenchRow

    Raises
    ------
    SpacerError
        If the results differ: nothing is timed then.
    """
    labels, works = (ours[0], other[0]), (ours[1], other[1])
    difference = gap(*[work() for work in works])
    if not difference <= tolerance:
        raise SpacerError(
            f"bench {name}: {labels[0]} and {labels[1]} differ",
            kind="benches.results-differ",
            got=f"{difference:.3g}",
            expected=f"at most {tolerance:.3g}",
            remedy="find out which is wrong before comparing their speed",
        )
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for work, spent in zip(works, seconds, strict=True):
            start = clock()
            work()
            spent.append(clock() - start)
    ours_s, other_s = map(statistics.median, seconds)
    return BenchRow(name, *labels, ours_s, other_s, other_s / ours_s, runs, note)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that all benches have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument(
        "--runs", "--repeats", type=int, default=5, help="runs that a median is over"
    )
    options.add_argument("--json", type=Path, help="also write the result as JSON")
    return options


def main(work: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> int:
    """Run a bench; a ``SpacerError`` becomes one line and exit code 2."""
    # One thread per process, as in training on a CPU.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        if options.runs < 1:
            raise SpacerError(
                "--runs", kind="benches.runs", got=options.runs, expected="1 or more"
            )
        result = work(options)
    except SpacerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        write_json(options.json, result)
    return 0


def rows_as_they_come(rows: Iterable[BenchRow]) -> dict[str, list[BenchRow]]:
    """Print each row as soon as it is measured; ``{"rows": rows}``."""
    kept = []
    for row in rows:
        show(row.line())
        kept.append(row)
    return {"rows": kept}
