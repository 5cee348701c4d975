"""Worked answers for the tiny model's warm start: map, computation, answer.

A program computes the answer from map cells alone, so a demonstration shows how to
answer *from the map*. The question's categories come last in the map, in the
question's order: scores ignore the order of a JSON object, but a small model looks up
coordinates far more easily there. Cells are coarse, so some computed answers differ
from the true ones; these rows have no demonstration (``demonstrate`` returns ``None``).
"""

import math
from collections.abc import Callable, Sequence

from spacer_lib.maps.text import map_to_text
from spacer_lib.rows import CognitiveMap, Question

SECTOR_DEG = 15
SECTORS = 360 // SECTOR_DEG

Worked = tuple[str, str | None]  # computation, answer


def sector(dx: int, dy: int) -> int:
    """Direction of a cell offset in 15-degree sectors, 0 = +x, counter-clockwise."""
    return round(math.degrees(math.atan2(dy, dx)) / SECTOR_DEG) % SECTORS


def _offset(origin: Sequence[int], cell: Sequence[int]) -> tuple[int, int, str]:
    dx, dy = cell[0] - origin[0], cell[1] - origin[1]
    return dx, dy, f"{'-' if dx < 0 else '+'}{abs(dx)}{'-' if dy < 0 else '+'}{abs(dy)}"


def _direction(row: Question, cells: CognitiveMap) -> Worked | None:
    position, facing, query = (cells[name][0] for name in row["categories"])
    fx, fy, forward = _offset(position, facing)
    qx, qy, towards = _offset(position, query)
    if (fx, fy) == (0, 0) or (qx, qy) == (0, 0):
        return None
    ahead, bearing = sector(fx, fy), sector(qx, qy)
    turn = (bearing - ahead) % SECTORS
    _, name_f, name_q = row["categories"]
    if turn in (0, SECTORS // 2) and not row["question_type"].endswith("medium"):
        return None
    side = "left" if turn <= SECTORS // 2 else "right"
    if row["question_type"].endswith("medium") and 9 <= turn <= 15:
        side = "back"
    if row["question_type"].endswith("hard"):
        side = f"{'front' if turn < 6 or turn > 18 else 'back'}-{side}"
    text = f"{name_f}{forward}={ahead},{name_q}{towards}={bearing},turn={turn},{side}"
    return text, side


def cell_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Distance of two cells in tenths of a cell, rounded."""
    return round(10 * math.dist(first, second))


def _closest(row: Question, cells: CognitiveMap) -> Worked | None:
    target, *options = row["categories"]
    origin = cells[target][0]
    parts, lengths = [], []
    for name in options:
        cell = min(cells[name], key=lambda c: math.dist(origin, c))
        dx, dy, _ = _offset(origin, cell)
        lengths.append(cell_distance(origin, cell))
        parts.append(f"{name}{abs(dx)},{abs(dy)}={lengths[-1]}")
    if lengths.count(min(lengths)) > 1:
        return None
    nearest = options[lengths.index(min(lengths))]
    return ",".join([*parts, nearest]), nearest


def _distance(row: Question, cells: CognitiveMap) -> Worked:
    first, second = (cells[name][0] for name in row["categories"])
    dx, dy, _ = _offset(first, second)
    return f"{abs(dx)},{abs(dy)}={cell_distance(first, second)}", None


def _count(row: Question, cells: CognitiveMap) -> Worked:
    (name,) = row["categories"]
    return f"{name}={len(cells[name])}", str(len(cells[name]))


_WORKINGS: dict[str, Callable[[Question, CognitiveMap], Worked | None]] = {
    "object_counting": _count,
    "object_abs_distance": _distance,
    "object_rel_distance": _closest,
    "object_rel_direction_easy": _direction,
    "object_rel_direction_medium": _direction,
    "object_rel_direction_hard": _direction,
}
TINY_TASKS = tuple(_WORKINGS)


def working(row: Question, cells: CognitiveMap) -> Worked | None:
    """(computation text, answer text or ``None``) from map cells alone, or ``None``.

    An answer of ``None`` means that cells do not determine it (metres): the
    demonstration then has the true one.
    """
    return _WORKINGS[str(row["question_type"])](row, cells)


def demonstrate(
    row: Question, cells: CognitiveMap | None = None, *, shape: str = "think"
) -> str | None:
    """The completion that a warm start imitates, or ``None`` if cells give a wrong one.

    Parameters
    ----------
    row : dict
        A question row with ``categories``, ``options``, ``ground_truth``, ``map``.
    cells : dict, optional
        Map to reason from; the row's own by default.
    shape : str
        One of ``language.tags.SHAPES``: ``think``, map and computation; ``observe``,
        the map as an observation, without computation; ``vanilla``, the answer alone.
        All three exist for the same rows.
    """
    cells = (row["map"] or {}) if cells is None else cells
    worked = working(row, cells)
    if worked is None:
        return None
    text, computed = worked
    answer = row["ground_truth"]
    if computed is not None:
        truth = answer
        if row["options"]:
            truth = row["options"][ord(answer) - ord("A")][3:]
        if computed != truth:
            return None
    if shape == "vanilla":
        return answer
    drawn = f"<map>{map_to_text(cells, last=row['categories'])}</map>"
    words = drawn if shape == "observe" else drawn + text
    return f"<{shape}>{words}</{shape}><answer>{answer}</answer>"
