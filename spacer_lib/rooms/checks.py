"""Values of a JSON file, read by name and checked: type, number of items, range.

An error names the place (``meta.json: scene0000_00: object_bbox.bed[0].min``), what
was found and what was expected.
"""

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import RepeatedKeys
from spacer_lib.errors import SpacerError

# Of numbers in meta files: a room in another unit, or a broken file, exceeds them.
MAX_M, MAX_WHOLE = 1000.0, 10**9

_FORM, _RANGE = "rooms.meta-form", "rooms.meta-range"


@dataclass(frozen=True)
class Field:
    """A value and its place in a file. Each method raises ``SpacerError``."""

    where: str
    value: Any

    def refuse(self, kind: str, expected: str) -> SpacerError:
        """The error that this value is not what it should be."""
        got = reprlib.repr(self.value)
        return SpacerError(self.where, kind=kind, got=got, expected=expected)

    def mapping(self) -> dict[str, Any]:
        """The value, if it is an object."""
        if not isinstance(self.value, dict):
            raise self.refuse(_FORM, "an object {name: value}")
        if isinstance(self.value, RepeatedKeys):
            raise SpacerError(
                self.where,
                kind="rooms.key-twice",
                got=f"{', '.join(self.value.repeated)[:80]} twice",
                expected="each name once",
            )
        return self.value

    def key(self, name: str) -> "Field":
        """The field of that name, which must be there."""
        if name not in self.mapping():
            raise SpacerError(
                self.where,
                kind="rooms.meta-key",
                got=f"no {name!r}",
                expected="VSI-Bench's keys (object_counts, object_bbox, room_size …)",
            )
        return Field(f"{self.where}.{name}", self.value[name])

    def get(self, name: str) -> "Field | None":
        """The field of that name; ``None`` if it is absent or null."""
        value = self.mapping().get(name)
        return None if value is None else Field(f"{self.where}.{name}", value)

    def items(self) -> Iterator[tuple[str, "Field"]]:
        """(name, field) of each item of an object."""
        for name, value in self.mapping().items():
            yield name, Field(f"{self.where}.{name}", value)

    def each(self) -> "list[Field]":
        """The items of a list."""
        if not isinstance(self.value, list | tuple):
            raise self.refuse(_FORM, "a list")
        return [Field(f"{self.where}[{i}]", v) for i, v in enumerate(self.value)]

    def text(self) -> str:
        """The value, if it is a text."""
        if not isinstance(self.value, str):
            raise self.refuse(_FORM, "a text")
        return self.value

    def number(self, low: float, high: float) -> float:
        """The value as a float, if it is a finite number from ``low`` to ``high``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.refuse(_FORM, "a number")
        # The range first: a whole number may be too long for a float.
        if not low <= self.value <= high:
            finite = isinstance(self.value, int) or math.isfinite(self.value)
            kind = _RANGE if finite else "rooms.not-finite"
            raise self.refuse(kind, f"a number from {low:g} to {high:g}")
        return float(self.value)

    def whole(self, low: int, high: int) -> int:
        """The value, if it is a whole number from ``low`` to ``high``; 3.0 is 3."""
        number = self.number(low, high)
        if not number.is_integer():
            raise self.refuse(_FORM, "a whole number")
        return int(number)

    def numbers(self, size: int, low: float, high: float) -> tuple[float, ...]:
        """A list of ``size`` numbers; see ``number``."""
        values = self.each()
        if len(values) != size:
            raise self.refuse("rooms.meta-size", f"{size} numbers")
        return tuple(value.number(low, high) for value in values)

    def table(self, columns: int, low: float, high: float) -> npt.NDArray[np.float64]:
        """(n, columns) float64 of a list of lists of numbers; see ``numbers``."""
        rows = [row.value for row in self.each()]
        sized = all(isinstance(row, list) and len(row) == columns for row in rows)
        flat: list[Any] = [v for row in rows for v in row] if sized else ["no table"]
        # By type, since NumPy would make numbers of texts and of true.
        numeric = {type(v) for v in flat} <= {int, float}
        if numeric and all(low <= v <= high for v in flat):
            return np.array(flat, dtype=np.float64).reshape(-1, columns)
        # Slower, and names the place of what is wrong.
        checked = [row.numbers(columns, low, high) for row in self.each()]
        return np.array(checked, dtype=np.float64).reshape(-1, columns)
