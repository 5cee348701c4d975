"""The next batch's videos and pictures, read while this one is learnt from.

Workers of a dataloader would not help: a trainer's dataset holds row numbers alone,
since TRL copies what it yields once for every completion and update and gathers it over
ranks. What takes time, reading and encoding media, happens once a generation batch, in
the trainer. The order of rows is fixed, and the dataloader hands out the next batch
before this one is begun: time enough for a thread, as decoders let go of Python's lock.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


class Ahead:
    """Calls of one function made in a thread before their results are asked for.

    Parameters
    ----------
    make : callable
        Of a list of row numbers. What it raises, ``take`` raises.
    """

    def __init__(self, make):
        self._make = make
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="media ahead")
        self._calls = deque(maxlen=2)  # numbers and future: this batch's and the next
        self._last = None

    def start(self, numbers):
        """Begin with a batch, unless it is the one begun last (uses repeat them)."""
        if numbers != self._last:
            self._last = numbers
            self._calls.append((numbers, self._thread.submit(self._make, numbers)))

    def take(self, numbers):
        """The result for a batch, waited for; ``None`` if it was never begun."""
        for call in list(self._calls):
            if call[0] == numbers:
                self._calls.remove(call)
                return call[1].result()
        return None
