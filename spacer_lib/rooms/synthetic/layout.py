"""Procedural furnished rooms: their description, before any rendering or writing.

``write`` turns a ``Room`` into ScanNet's files, ``views`` into a ``Scene``, ``render``
into frames. Lengths are metres in the aligned frame: +z up, floor at z = 0, the room's
centre at the origin. A piece of furniture is one or two coloured boxes; styles that are
``detailed`` draw the parts of ``shapes`` inside them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.rooms.geometry import moved

XY = tuple[float, float]
XYZ = tuple[float, float, float]
Rect = tuple[float, float, float, float]  # x0, y0, x1, y1 in metres
WALL_THICKNESS_M = 0.06
DOORWAY_M = 0.9
OFF_CENTER_M = 0.25  # of the person who films, to each side
HIDING_M2 = 0.5  # least base of a box that hides the floor below it from a scanner


@dataclass(frozen=True)
class Part:
    """One coloured box of a piece of furniture.

    ``center`` and ``size`` are fractions of the piece's width, depth and height; x and
    y run from -0.5 to 0.5, z from 0 (bottom) to 1. ``rgb`` is in [0, 1]. ``material``
    is a texture of ``paint``; none by default.
    """

    center: XYZ
    size: XYZ
    rgb: XYZ
    material: str = ""


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
    at_wall : tuple of int
        Quarter turns of pieces that stand at a wall, their back to it: 0 for the +y
        wall, 1 for -x, 2 for -y, 3 for +x. Empty: they stand anywhere.
    scale : (low, high)
        Range of a factor on all edges of a piece.
    stretch : (low, high)
        Range of a further factor on each edge.
    standing_m : float
        Radius of the free floor around the person who films; 0: nobody stands inside.
    lived_in : bool
        A ceiling, doors and windows; colours of floor and walls, and the direction of
        the light, drawn for each room. None of them depends on a place on the floor.
    two_rooms : bool
        Two rooms with a wall between them, and a doorway in which the person stands.
    detailed : bool
        Furniture has the parts of ``shapes``, surfaces have the textures and shadows of
        ``paint``, and there is a door. No box, and no answer, depends on this.
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
    at_wall: tuple[int, ...] = ()
    scale: XY = (1.0, 1.0)
    stretch: XY = (0.88, 1.12)
    standing_m: float = 0.0
    lived_in: bool = False
    two_rooms: bool = False
    detailed: bool = False


# `furnished` resembles a scan. `dollhouse` is simple enough for a model with less than
# a million weights on a CPU; its tinted floor gives positions away (notebook 02).
# `home` is filmed from inside: sizes vary so much that they must be seen.
STYLES = {
    style.name: style
    for style in (
        Style(
            name="furnished",
            categories=tuple(KINDS),
            width_m=(4.0, 7.0),
            singles=(6, 9),
            repeats=(2, 4),
            cut_corner=0.5,
            wall_height_m=2.4,
            open_wall=False,
            tinted_floor=False,
            any_yaw=True,
            at_wall=(0, 2),
            detailed=True,
        ),
        Style(
            name="dollhouse",
            categories=("chair", "table", "sofa", "bed", "lamp", "refrigerator"),
            width_m=(4.6, 6.0),
            singles=(3, 4),
            repeats=(1, 4),
            cut_corner=0.25,
            wall_height_m=0.4,
            open_wall=True,
            tinted_floor=True,
            any_yaw=False,
        ),
        Style(
            name="home",
            categories=(
                "chair",
                "table",
                "sofa",
                "bed",
                "lamp",
                "refrigerator",
                "bookshelf",
                "backpack",
            ),
            width_m=(3.0, 8.0),
            singles=(4, 5),
            repeats=(1, 4),
            cut_corner=0.25,
            wall_height_m=2.5,
            open_wall=False,
            tinted_floor=False,
            any_yaw=False,
            at_wall=(0, 1, 2, 3),
            scale=(0.6, 1.5),
            stretch=(0.95, 1.05),
            standing_m=0.7,
            lived_in=True,
        ),
        Style(
            name="two rooms",
            categories=tuple(KINDS),
            width_m=(3.2, 5.0),
            singles=(7, 10),
            repeats=(2, 4),
            cut_corner=0.0,
            wall_height_m=2.4,
            open_wall=False,
            tinted_floor=False,
            any_yaw=True,
            at_wall=(0, 1, 2, 3),
            standing_m=0.6,
            two_rooms=True,
            detailed=True,
        ),
    )
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
        boxes = []
        for part in self.kind.parts:
            r, g, b = (min(1.0, v * self.tone) for v in part.rgb)
            center, size = self.placed(part)
            boxes.append((center, size, self.yaw_rad, (r, g, b)))
        return boxes

    def placed(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Centre (3,) and edge lengths (3,) of a part, metres."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        x, y, z = np.multiply(part.center, self.size_m)
        center = np.add(self.position_m, (c * x - s * y, s * x + c * y, z))
        return center, np.multiply(part.size, self.size_m)

    def corners_m(self) -> np.ndarray:
        """(8 parts, 3) corners of all parts, metres."""
        return np.concatenate([box_vertices(*box[:3]) for box in self.part_boxes()])

    def footprint_half_m(self) -> np.ndarray:
        """(2,) half extents of the axis-aligned footprint, metres."""
        c, s = abs(math.cos(self.yaw_rad)), abs(math.sin(self.yaw_rad))
        w, d = self.size_m[:2]
        return np.array([c * w + s * d, s * w + c * d]) / 2


@dataclass(frozen=True)
class Opening:
    """A door or a window: a thin upright box at a wall.

    ``center`` and ``size`` are (x, y, z) in metres, ``rgb`` is in [0, 1].
    """

    center: XYZ
    size: XYZ
    rgb: XYZ


def _unit(x: float, y: float, z: float) -> XYZ:
    a, b, c = (np.array([x, y, z]) / np.linalg.norm([x, y, z])).tolist()
    return (a, b, c)


@dataclass(frozen=True)
class Look:
    """Colours in [0, 1] of floor and walls, and the unit vector towards the light.

    ``floor`` and ``wall`` are their textures in detailed rooms.
    """

    floor_rgb: XYZ = (0.62, 0.52, 0.42)
    wall_rgb: XYZ = (0.82, 0.80, 0.76)
    light: XYZ = _unit(0.35, -0.45, 0.82)
    floor: str = ""
    wall: str = ""


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
    standpoint_m : (x, y)
        Where the person who films from inside stands.
    openings : tuple of Opening
        Doors and windows; they belong to the walls.
    look : Look
        Colours of floor and walls, and the light.
    """

    scene_id: str
    seed: int
    style: Style
    floor_rects: tuple[Rect, ...]
    furniture: tuple[Furniture, ...]
    T_aligned_from_scan: tuple[float, ...]
    standpoint_m: XY = (0.0, 0.0)
    openings: tuple[Opening, ...] = ()
    look: Look = Look()

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
        standpoint = _draw_standpoint(rng, rules, floor_rects)
        furniture = _furnish(rng, rules, floor_rects, standpoint)
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
        standpoint,
        *_draw_surfaces(rng, rules, floor_rects, furniture),
    )


def _draw_surfaces(
    rng: np.random.Generator,
    rules: Style,
    floor_rects: tuple[Rect, ...],
    furniture: Sequence[Furniture],
) -> tuple[tuple[Opening, ...], Look]:
    """Openings and look of a room: drawn last, so that nothing else depends on them."""
    if rules.lived_in:
        wanted = [_DOOR] + [_WINDOW] * int(rng.integers(0, 3))
        openings = _draw_openings(rng, floor_rects, furniture, wanted)
        return openings, _draw_look(rng)
    if rules.detailed:  # its windows are furniture: they are annotated
        openings = _draw_openings(rng, floor_rects, furniture, [_DEEP_DOOR])
        return openings, _draw_detailed_look(rng)
    return (), Look()


def _draw_floor(rng: np.random.Generator, rules: Style) -> tuple[Rect, ...]:
    if rules.two_rooms:
        return _draw_two_floors(rng, rules)
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


def _draw_two_floors(rng: np.random.Generator, rules: Style) -> tuple[Rect, ...]:
    """Two rooms side by side along x or y, and the doorway between them, the last."""
    (width, other), (depth, far) = rng.uniform(*rules.width_m, size=(2, 2)).tolist()
    shift = rng.uniform(DOORWAY_M - far, depth - DOORWAY_M) / 2
    low, high = max(0.0, shift), min(depth, shift + far) - DOORWAY_M
    door = rng.uniform(low, max(low, high))
    wall = width + WALL_THICKNESS_M
    rects = np.array(
        [
            (0, 0, width, depth),
            (wall, shift, wall + other, shift + far),
            (width, door, wall, door + DOORWAY_M),
        ]
    )
    corners = rects.reshape(-1, 2)
    corners -= (corners.min(axis=0) + corners.max(axis=0)) / 2
    if rng.random() < 0.5:
        rects = rects[:, [1, 0, 3, 2]]
    return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in rects.tolist())


def largest_rect(floor_rects: Sequence[Rect]) -> Rect:
    """The rectangle with the largest area."""
    return max(floor_rects, key=lambda r: (r[2] - r[0]) * (r[3] - r[1]))


def _draw_standpoint(
    rng: np.random.Generator, rules: Style, floor_rects: tuple[Rect, ...]
) -> XY:
    """Near the middle of the largest rectangle; the origin where nobody stands."""
    if not rules.standing_m:
        return (0.0, 0.0)
    if rules.two_rooms:
        x0, y0, x1, y1 = floor_rects[-1]
        return ((x0 + x1) / 2, (y0 + y1) / 2)
    x0, y0, x1, y1 = largest_rect(floor_rects)
    x, y = rng.uniform(-OFF_CENTER_M, OFF_CENTER_M, size=2).tolist()
    return ((x0 + x1) / 2 + x, (y0 + y1) / 2 + y)


def _draw_look(rng: np.random.Generator) -> Look:
    floor = rng.uniform(0.45, 0.65) + rng.uniform(-0.08, 0.08, size=3)
    wall = rng.uniform(0.74, 0.92) + rng.uniform(-0.06, 0.06, size=3)
    angle, height = rng.uniform(-math.pi, math.pi), math.radians(55)
    side = math.cos(height)
    light = (side * math.cos(angle), side * math.sin(angle), math.sin(height))
    return Look(tuple(floor.tolist()), tuple(wall.tolist()), light)


_FLOORS: tuple[tuple[str, XYZ], ...] = (
    ("planks", (0.70, 0.52, 0.35)),
    ("planks", (0.56, 0.40, 0.27)),
    ("planks", (0.76, 0.64, 0.48)),
    ("tiles", (0.70, 0.67, 0.62)),
    ("carpet", (0.50, 0.51, 0.52)),
)
_WALLS: tuple[tuple[str, XYZ], ...] = (
    ("plaster", (0.90, 0.88, 0.83)),
    ("plaster", (0.80, 0.86, 0.84)),
    ("plaster", (0.90, 0.84, 0.74)),
    ("stripes", (0.84, 0.85, 0.88)),
    ("stripes", (0.88, 0.83, 0.77)),
)


def _draw_detailed_look(rng: np.random.Generator) -> Look:
    floor, floor_rgb = _FLOORS[int(rng.integers(len(_FLOORS)))]
    wall, wall_rgb = _WALLS[int(rng.integers(len(_WALLS)))]
    angle, height = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(50, 65))
    side = math.cos(height)
    light = (side * math.cos(angle), side * math.sin(angle), math.sin(height))
    return Look(floor_rgb, wall_rgb, light, floor, wall)


# Edge along the wall, thickness, height; lower edge; colour.
Hole = tuple[XYZ, float, XYZ]
_DOOR: Hole = ((0.9, 0.02, 2.05), 0.0, (0.50, 0.40, 0.30))
_WINDOW: Hole = ((1.2, 0.02, 1.1), 0.95, (0.78, 0.90, 0.98))
_DEEP_DOOR: Hole = ((0.94, 0.05, 2.08), 0.0, (0.60, 0.44, 0.30))


def _draw_openings(
    rng: np.random.Generator,
    floor_rects: tuple[Rect, ...],
    furniture: Sequence[Furniture],
    wanted: Sequence[Hole],
) -> tuple[Opening, ...]:
    """Doors and windows at outer walls, where nothing stands before them."""
    rects = np.array(floor_rects)
    low, high = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
    found: list[Opening] = []
    room = Room("", 0, STYLES["home"], floor_rects, (), ())
    for (width, depth, height), bottom, rgb in wanted:
        for _ in range(20):
            along = int(rng.integers(2))  # 0: a wall along x
            size = np.array((width, depth) if along == 0 else (depth, width))
            middle = rng.uniform(
                low + size / 2, np.maximum(high, low + size) - size / 2
            )
            side = rng.random() < 0.5
            wall = low[1 - along] if side else high[1 - along]
            inner = WALL_THICKNESS_M / 2 + depth / 2
            middle[1 - along] = wall + inner if side else wall - inner
            before = [piece for piece in furniture if bottom < piece.size_m[2]]
            taken = [
                *((p.position_m[:2], p.footprint_half_m()) for p in before),
                *((o.center[:2], np.array(o.size[:2]) / 2) for o in found),
            ]
            clear = all(
                (np.abs(middle - xy) >= size / 2 + half + 0.1).any()
                for xy, half in taken
            )
            ends = [middle - size / 2, middle + size / 2]
            if clear and room.on_floor(ends).all():
                x, y = middle.tolist()
                center = (x, y, bottom + height / 2)
                found.append(Opening(center, (*size.tolist(), height), rgb))
                break
    return tuple(found)


def _furnish(
    rng: np.random.Generator,
    rules: Style,
    floor_rects: tuple[Rect, ...],
    standpoint: XY,
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
        piece = _place(
            rng, rules, floor_rects, standpoint, placed, len(placed), category
        )
        if piece is None:
            return None
        placed.append(piece)
    return tuple(placed)


def _place(
    rng: np.random.Generator,
    rules: Style,
    floor_rects: tuple[Rect, ...],
    standpoint: XY,
    placed: list[Furniture],
    instance_id: int,
    category: str,
) -> Furniture | None:
    """A piece that stands on the floor, clear of the others; ``None``: none found."""
    kind = KINDS[category]
    rects = np.array(floor_rects)
    low, high = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
    against = rules.at_wall if kind.on_wall else ()
    for _ in range(60):
        width, depth, height = np.multiply(
            kind.size_m, rng.uniform(*rules.stretch, size=3)
        )
        if rules.scale != (1.0, 1.0):
            width, depth, height = rng.uniform(*rules.scale) * np.array(
                [width, depth, height]
            )
        quarter = 0
        if against:
            quarter = against[int(rng.random() * len(against))]
            yaw = math.pi / 2 * quarter
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
        if (2 * half > high - low).any():
            continue
        x, y = rng.uniform(low + half, high - half)
        if against:
            axis = 1 - quarter % 2
            wall = high if quarter in (0, 3) else low
            step = -1 if quarter in (0, 3) else 1
            x, y = np.where(
                np.arange(2) == axis, wall + step * half + step * 0.02, (x, y)
            )
        corners = np.array([x, y]) + half * [(-1, -1), (-1, 1), (1, -1), (1, 1)]
        room = Room("", 0, rules, floor_rects, (), ())
        if not room.on_floor(corners).all():
            continue
        # Corners in two rooms have a wall between them.
        inside = (corners >= rects[:, None, :2]) & (corners <= rects[:, None, 2:])
        if rules.two_rooms and not inside.all(axis=(1, 2)).any():
            continue
        away = np.maximum(np.abs(np.subtract((x, y), standpoint)) - half, 0)
        if float(np.hypot(*away)) < rules.standing_m:
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
