"""Procedural furnished rooms: their description, before any rendering or writing.

``write`` turns a ``Room`` into ScanNet's files, ``views`` into a ``Scene``, ``render``
into frames. Lengths are metres in the aligned frame: +z up, floor at z = 0, the room's
centre at the origin. A piece of furniture is one or two coloured boxes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.rooms.geometry import moved

XY = tuple[float, float]
XYZ = tuple[float, float, float]
Rect = tuple[float, float, float, float]  # x0, y0, x1, y1 in metres
HIDING_M2 = 0.5  # least base of a box that hides the floor below it from a scanner


@dataclass(frozen=True)
class Part:
    """One coloured box of a piece of furniture.

    ``center`` and ``size`` are fractions of the piece's width, depth and height; x and
    y run from -0.5 to 0.5, z from 0 (bottom) to 1. ``rgb`` is in [0, 1].
    """

    center: XYZ
    size: XYZ
    rgb: XYZ


@dataclass(frozen=True)
class Kind:
    """A category of furniture.

    Attributes
    ----------
    category, raw_label : str
        Name in questions and maps; name in ScanNet's label table.
    nyu40id : int
    size_m : (width, depth, height)
        Mean edge lengths.
    parts : tuple of Part
    on_wall : bool
        Whether furnished rooms place it at a wall.
    bottom_m : float
        Height of its lower side above the floor.
    """

    category: str
    raw_label: str
    nyu40id: int
    size_m: XYZ
    parts: tuple[Part, ...]
    on_wall: bool = False
    bottom_m: float = 0.0


def _slab(
    rgb: XYZ,
    low: float = 0.0,
    high: float = 1.0,
    x: XY = (0.0, 1.0),
    y: XY = (0.0, 1.0),
) -> Part:
    center = (sum(x) / 2 - 0.5, sum(y) / 2 - 0.5, (low + high) / 2)
    return Part(center, (x[1] - x[0], y[1] - y[0], high - low), rgb)


_KINDS = (
    Kind(
        "chair",
        "chair",
        5,
        (0.60, 0.60, 0.95),
        (
            _slab((0.85, 0.10, 0.10), 0.0, 0.5),
            _slab((0.70, 0.05, 0.05), 0.5, 1.0, y=(0.8, 1.0)),
        ),
    ),
    Kind(
        "table",
        "table",
        7,
        (1.40, 0.85, 0.75),
        (
            _slab((0.55, 0.35, 0.15), 0.88, 1.0),
            _slab((0.40, 0.25, 0.10), 0.0, 0.88, x=(0.40, 0.60), y=(0.35, 0.65)),
        ),
    ),
    Kind(
        "sofa",
        "couch",
        6,
        (1.90, 0.85, 0.80),
        (
            _slab((0.10, 0.25, 0.85), 0.0, 0.55),
            _slab((0.05, 0.15, 0.65), 0.55, 1.0, y=(0.7, 1.0)),
        ),
    ),
    Kind(
        "bed",
        "bed",
        4,
        (1.55, 2.05, 0.60),
        (
            _slab((0.95, 0.95, 0.95), 0.0, 0.8),
            _slab((0.95, 0.75, 0.85), 0.8, 1.0, y=(0.75, 1.0)),
        ),
        on_wall=True,
    ),
    Kind(
        "lamp",
        "lamp",
        35,
        (0.45, 0.45, 1.50),
        (
            _slab((0.15, 0.15, 0.15), 0.0, 0.75, x=(0.4, 0.6), y=(0.4, 0.6)),
            _slab((1.00, 0.90, 0.10), 0.75, 1.0),
        ),
    ),
    Kind(
        "refrigerator",
        "refrigerator",
        24,
        (0.75, 0.72, 1.75),
        (_slab((0.10, 0.80, 0.75)),),
        on_wall=True,
    ),
    Kind(
        "bookshelf",
        "bookshelf",
        10,
        (1.00, 0.38, 1.85),
        (_slab((0.55, 0.10, 0.60)),),
        on_wall=True,
    ),
    Kind(
        "trash bin", "trash can", 39, (0.38, 0.38, 0.55), (_slab((0.10, 0.60, 0.10)),)
    ),
    Kind(
        "nightstand",
        "nightstand",
        32,
        (0.50, 0.45, 0.60),
        (_slab((0.95, 0.55, 0.10)),),
        on_wall=True,
    ),
    Kind("backpack", "backpack", 40, (0.40, 0.32, 0.48), (_slab((0.90, 0.20, 0.70)),)),
    Kind(
        "tv",
        "tv",
        25,
        (1.15, 0.16, 0.70),
        (_slab((0.05, 0.05, 0.05)),),
        on_wall=True,
        bottom_m=0.9,
    ),
    Kind(
        "window",
        "window",
        9,
        (1.30, 0.10, 1.10),
        (_slab((0.60, 0.85, 1.00)),),
        on_wall=True,
        bottom_m=0.95,
    ),
    Kind("stool", "stool", 40, (0.42, 0.42, 0.50), (_slab((0.45, 0.85, 0.25)),)),
    Kind("suitcase", "suitcase", 40, (0.50, 0.30, 0.70), (_slab((0.50, 0.50, 0.55)),)),
)
KINDS = {kind.category: kind for kind in _KINDS}


@dataclass(frozen=True)
class Style:
    """How rooms are drawn.

    Attributes
    ----------
    name : str
    categories : tuple of str
        Keys of ``KINDS``.
    width_m : (low, high)
        Range of the floor's width and depth.
    singles : (low, high)
        Inclusive range: how many categories appear exactly once.
    repeats : (low, high)
        Inclusive range: how often one further category appears.
    cut_corner : float
        Probability of an L-shaped floor.
    wall_height_m : float
    open_wall : bool
        No wall on the -y side, so that an orbit camera sees the floor.
    tinted_floor : bool
        The floor's colour encodes the position, which makes the task easier.
    any_yaw : bool
        Any rotation about +z; otherwise multiples of 90 degrees.
    """

    name: str
    categories: tuple[str, ...]
    width_m: XY
    singles: tuple[int, int]
    repeats: tuple[int, int]
    cut_corner: float
    wall_height_m: float
    open_wall: bool
    tinted_floor: bool
    any_yaw: bool


# `furnished` resembles a scan. `dollhouse` is simple enough for a model with less than
# a million weights on a CPU; its tinted floor gives positions away (notebook 02).
STYLES = {
    "furnished": Style(
        "furnished",
        tuple(KINDS),
        (4.0, 7.0),
        (6, 9),
        (2, 4),
        0.5,
        2.4,
        False,
        False,
        True,
    ),
    "dollhouse": Style(
        "dollhouse",
        ("chair", "table", "sofa", "bed", "lamp", "refrigerator"),
        (4.6, 6.0),
        (3, 4),
        (1, 4),
        0.25,
        0.4,
        True,
        True,
        False,
    ),
}


@dataclass(frozen=True)
class Furniture:
    """A placed piece of furniture.

    Attributes
    ----------
    instance_id : int
    kind : Kind
    position_m : (x, y, z)
        Centre of the lower side of its box.
    yaw_rad : float
        Rotation about +z.
    size_m : (width, depth, height)
    tone : float
        Brightness factor of its colours.
    """

    instance_id: int
    kind: Kind
    position_m: XYZ
    yaw_rad: float
    size_m: XYZ
    tone: float

    def part_boxes(self) -> list[tuple[np.ndarray, np.ndarray, float, XYZ]]:
        """[(center (3,), size (3,), yaw_rad, rgb)] of the parts, metres."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        boxes = []
        for part in self.kind.parts:
            x, y, z = np.multiply(part.center, self.size_m)
            center = np.add(self.position_m, (c * x - s * y, s * x + c * y, z))
            r, g, b = (min(1.0, v * self.tone) for v in part.rgb)
            size = np.multiply(part.size, self.size_m)
            boxes.append((center, size, self.yaw_rad, (r, g, b)))
        return boxes

    def corners_m(self) -> np.ndarray:
        """(8 parts, 3) corners of all parts, metres."""
        return np.concatenate([box_vertices(*box[:3]) for box in self.part_boxes()])

    def footprint_half_m(self) -> np.ndarray:
        """(2,) half extents of the axis-aligned footprint, metres."""
        c, s = abs(math.cos(self.yaw_rad)), abs(math.sin(self.yaw_rad))
        w, d = self.size_m[:2]
        return np.array([c * w + s * d, s * w + c * d]) / 2


@dataclass(frozen=True)
class Room:
    """A furnished room.

    Attributes
    ----------
    scene_id : str
    seed : int
        Draws the room; also its camera paths.
    style : Style
    floor_rects : tuple of (x0, y0, x1, y1)
        Disjoint rectangles, metres.
    furniture : tuple of Furniture
    T_aligned_from_scan : (16,) tuple of float
        4x4 matrix, row-major, as in ``axisAlignment`` of ScanNet's ``.txt``.
    """

    scene_id: str
    seed: int
    style: Style
    floor_rects: tuple[Rect, ...]
    furniture: tuple[Furniture, ...]
    T_aligned_from_scan: tuple[float, ...]

    @property
    def floor_bounds_m(self) -> tuple[np.ndarray, np.ndarray]:
        """(min (2,), max (2,)) of the floor, metres."""
        rects = np.array(self.floor_rects)
        return rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)

    @property
    def floor_area_m2(self) -> float:
        """Area of the floor, what stands on it included, square metres."""
        rects = np.array(self.floor_rects)
        return float(np.prod(rects[:, 2:] - rects[:, :2], axis=1).sum())

    def on_floor(self, points_xy: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """(n,) bool: which of the (n, 2) points, metres, lie on the floor."""
        points = np.atleast_2d(points_xy)
        inside = [
            ((points >= rect[:2]) & (points <= rect[2:])).all(axis=1)
            for rect in np.array(self.floor_rects)
        ]
        return np.any(inside, axis=0)


def hides_floor(center: npt.ArrayLike, size: npt.ArrayLike) -> bool:
    """Whether a box, in metres, stands on the floor and is large: none is seen below.

    Examples
    --------
    >>> hides_floor((0, 0, 0.25), (1.5, 2, 0.5))
    True
    >>> hides_floor((0, 0, 0.7), (1.5, 2, 0.1))
    False
    """
    (width, depth, height), z = np.asarray(size), np.asarray(center)[2]
    return bool(abs(z - height / 2) < 1e-6 and width * depth >= HIDING_M2)


def in_base(
    points_xy: npt.ArrayLike,
    center: npt.ArrayLike,
    size: npt.ArrayLike,
    yaw_rad: float,
) -> npt.NDArray[np.bool_]:
    """(n,) bool: which of the (n, 2) points are inside the base of an upright box."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    offset = np.asarray(points_xy) - np.asarray(center)[:2]
    local = offset @ np.array([[c, -s], [s, c]])
    return np.asarray((np.abs(local) < np.asarray(size)[:2] / 2).all(axis=1))


def box_vertices(
    center: npt.ArrayLike, size: npt.ArrayLike, yaw_rad: float
) -> np.ndarray:
    """(8, 3) corners of a box with edge lengths ``size``, rotated about +z."""
    local = _CORNERS * np.asarray(size) / 2
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return moved(local, rotation) + np.asarray(center)


_CORNERS = np.array(
    [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], dtype=np.float64
)


def draw_room(seed: int, style: str = "furnished", scene_id: str | None = None) -> Room:
    """Draw one room, which depends on ``(seed, style)`` only.

    Parameters
    ----------
    seed : int
        Non-negative.
    style : str
        Key of ``STYLES``.
    scene_id : str, optional
        Default: ScanNet's pattern ``scene<seed>_00``.

    Raises
    ------
    SpacerError
        If there is no such style, or no arrangement of the furniture was found.
    """
    if style not in STYLES:
        raise SpacerError(
            "room style",
            kind="rooms.no-style",
            got=style,
            expected=", ".join(sorted(STYLES)),
            remedy=nearest(style, sorted(STYLES)),
        )
    rules = STYLES[style]
    rng = np.random.default_rng([seed, sum(map(ord, style))])
    for _ in range(50):
        floor_rects = _draw_floor(rng, rules)
        furniture = _furnish(rng, rules, floor_rects)
        if furniture is not None:
            break
    else:
        raise SpacerError(
            f"{style} room {seed}",
            kind="rooms.no-arrangement",
            got="no arrangement of the furniture in 50 attempts",
            remedy="use another seed",
        )
    angle = rng.uniform(-math.pi, math.pi)
    shift = rng.uniform(1.0, 4.0, size=2)
    c, s = math.cos(angle), math.sin(angle)
    x, y = -c * shift[0] + s * shift[1], -s * shift[0] - c * shift[1]
    rows = (c, -s, 0, x), (s, c, 0, y), (0, 0, 1, -0.05), (0, 0, 0, 1)
    T_aligned_from_scan = tuple(value for row in rows for value in row)
    return Room(
        scene_id or f"scene{seed:04d}_00",
        seed,
        rules,
        floor_rects,
        furniture,
        T_aligned_from_scan,
    )


def _draw_floor(rng: np.random.Generator, rules: Style) -> tuple[Rect, ...]:
    width, depth = rng.uniform(*rules.width_m, size=2)
    x, y = width / 2, depth / 2
    if rng.random() >= rules.cut_corner:
        return ((-x, -y, x, y),)
    cut_x, cut_y = rng.uniform(0.2, 0.35, size=2) * (width, depth)
    # The cut is at (+x, +y); mirroring moves it to any corner.
    rects = np.array([(-x, -y, x, y - cut_y), (-x, y - cut_y, x - cut_x, y)])
    for axis in (0, 1):
        if rng.random() < 0.5:
            rects[:, [axis, axis + 2]] = -rects[:, [axis + 2, axis]]
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rects.tolist())


def _furnish(
    rng: np.random.Generator, rules: Style, floor_rects: tuple[Rect, ...]
) -> tuple[Furniture, ...] | None:
    order = rng.permutation(len(rules.categories))
    singles = int(rng.integers(rules.singles[0], rules.singles[1] + 1))
    repeats = int(rng.integers(rules.repeats[0], rules.repeats[1] + 1))
    names = [rules.categories[i] for i in order]
    wanted = [names[0]] * repeats + names[1 : singles + 1]
    # Large pieces first: they are the hardest to place.
    wanted.sort(key=lambda n: -KINDS[n].size_m[0] * KINDS[n].size_m[1])
    placed: list[Furniture] = []
    for category in wanted:
        piece = _place(rng, rules, floor_rects, placed, len(placed), category)
        if piece is None:
            return None
        placed.append(piece)
    return tuple(placed)


def _place(
    rng: np.random.Generator,
    rules: Style,
    floor_rects: tuple[Rect, ...],
    placed: list[Furniture],
    instance_id: int,
    category: str,
) -> Furniture | None:
    """A piece that stands on the floor, clear of the others; ``None``: none found."""
    kind = KINDS[category]
    rects = np.array(floor_rects)
    low, high = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
    for _ in range(60):
        width, depth, height = np.multiply(kind.size_m, rng.uniform(0.88, 1.12, size=3))
        if kind.on_wall and rules.any_yaw:
            yaw = 0.0 if rng.random() < 0.5 else math.pi
        elif rules.any_yaw:
            yaw = rng.uniform(-math.pi, math.pi)
        else:
            yaw = math.pi / 2 * int(rng.integers(4))
        piece = Furniture(
            instance_id,
            kind,
            (0.0, 0.0, kind.bottom_m),
            yaw,
            (width, depth, height),
            float(rng.uniform(0.85, 1.1)),
        )
        half = piece.footprint_half_m()
        x, y = rng.uniform(low + half, high - half)
        if kind.on_wall and rules.any_yaw:
            y = high[1] - half[1] - 0.02 if yaw == 0.0 else low[1] + half[1] + 0.02
        corners = np.array([x, y]) + half * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
        room = Room("", 0, rules, floor_rects, (), ())
        if not room.on_floor(corners).all():
            continue
        gap = 0.12
        clear = all(
            (
                np.abs(np.subtract((x, y), other.position_m[:2]))
                >= half + other.footprint_half_m() + gap
            ).any()
            for other in placed
        )
        if clear:
            position = (float(x), float(y), kind.bottom_m)
            return Furniture(instance_id, kind, position, yaw, piece.size_m, piece.tone)
    return None
