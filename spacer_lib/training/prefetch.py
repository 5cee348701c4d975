"""The next batch's videos and images, read in a thread during the current step.

Workers of a dataloader would not help: a trainer's dataset holds row numbers only.
Reading and encoding happen once a generation batch, in the trainer. The order of rows
is fixed, and the dataloader yields the next batch before the current one is used, so a
thread has time; decoders release Python's lock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Prefetch:
    """Calls of one function, made in a thread before their results are asked for.

    Parameters
    ----------
    make : callable
        Takes a list of row numbers. ``take`` raises what it raises.
    """

    def __init__(self, make: Callable[[Sequence[int]], Any]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        # Numbers and result: of this batch and of the next.
        self._calls: deque[tuple[Sequence[int], Future]] = deque(maxlen=2)
        self._last: Sequence[int] | None = None

    def start(self, numbers: Sequence[int]) -> None:
        """Begin with a batch, unless it is the one begun last (uses repeat it)."""
        if numbers != self._last:
            self._last = numbers
            self._calls.append((numbers, self._thread.submit(self._make, numbers)))

    def take(self, numbers: Sequence[int]) -> Any:
        """The result for a batch, once it is there; ``None`` if it was never begun."""
        for call in list(self._calls):
            if call[0] == numbers:
                self._calls.remove(call)
                return call[1].result()
        return None
