"""Procedural furnished rooms, described before anything is rendered or written.

A ``Room`` is the single source of both paths: ``write`` turns it into ScanNet's
files, ``light`` into a ``Scene`` plus frames in memory; a test holds the two equal.
Sizes are metres in the aligned frame: +z up, floor at z = 0, room centre at the
origin. Furniture is made of one to five coloured boxes, sized around everyday priors.
"""

import math
from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError


@dataclass(frozen=True)
class Part:
    """One coloured box of a piece of furniture, in units of the piece's own box.

    ``center`` and ``size`` are fractions of (width, depth, height); z starts at 0 on
    the floor. ``rgb`` is in [0, 1].
    """

    center: tuple
    size: tuple
    rgb: tuple


@dataclass(frozen=True)
class Kind:
    """A category: ScanNet's raw label, size prior, where it stands, how it looks."""

    category: str
    raw_label: str
    nyu40id: int
    size_m: tuple
    parts: tuple
    on_wall: bool = False
    bottom_m: float = 0.0


def _slab(rgb, low=0.0, high=1.0, x=(0.0, 1.0), y=(0.0, 1.0)):
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
    """What kind of rooms to draw.

    ``singles`` and ``repeats`` are inclusive ranges: how many categories appear
    exactly once, and how often the one repeated category (if any) appears.
    """

    name: str
    categories: tuple
    width_m: tuple
    singles: tuple
    repeats: tuple
    cut_corner: float  # probability of an L-shaped floor
    wall_height_m: float
    open_wall: bool  # no wall on the -y side, so that an orbit camera sees in
    tinted_floor: bool  # floor colour encodes position (the tiny model's crutch)
    any_yaw: bool  # free rotation; otherwise quarter turns


# `furnished` is what a scan looks like; `dollhouse` is a room that a model with less
# than a million weights can learn to see on a CPU. The tint is a crutch and notebook
# 02 says so.
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
    """A placed piece: its box centre on the floor, yaw about +z, and edge lengths."""

    instance_id: int
    kind: Kind
    position_m: tuple  # (3,) of the box's bottom centre
    yaw_rad: float
    size_m: tuple  # (3,) width, depth, height
    tone: float  # brightness factor of its colours

    def part_boxes(self):
        """[(center (3,), size (3,), yaw, rgb)] in the aligned frame."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        boxes = []
        for part in self.kind.parts:
            x, y, z = np.multiply(part.center, self.size_m)
            center = np.add(self.position_m, (c * x - s * y, s * x + c * y, z))
            rgb = tuple(min(1.0, v * self.tone) for v in part.rgb)
            size = np.multiply(part.size, self.size_m)
            boxes.append((center, size, self.yaw_rad, rgb))
        return boxes

    def footprint_half_m(self):
        """Half extents (2,) of the axis-aligned footprint."""
        c, s = abs(math.cos(self.yaw_rad)), abs(math.sin(self.yaw_rad))
        w, d = self.size_m[:2]
        return np.array([c * w + s * d, s * w + c * d]) / 2


@dataclass(frozen=True)
class Room:
    """A furnished room; ``floor_rects`` are disjoint (x0, y0, x1, y1) in metres."""

    scene_id: str
    seed: int
    style: Style
    floor_rects: tuple
    furniture: tuple
    T_aligned_from_scan: tuple  # 4x4 row-major: what .txt's axisAlignment holds

    @property
    def floor_bounds_m(self):
        """(min (2,), max (2,)) of the floor."""
        rects = np.array(self.floor_rects)
        return rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)

    def on_floor(self, points_xy):
        """(n,) bool: which (n, 2) points lie on the floor."""
        points = np.atleast_2d(points_xy)
        inside = [
            ((points >= rect[:2]) & (points <= rect[2:])).all(axis=1)
            for rect in np.array(self.floor_rects)
        ]
        return np.any(inside, axis=0)


def draw_room(seed, style="furnished", scene_id=None):
    """One room, a pure function of ``(seed, style)``.

    Parameters
    ----------
    seed : int
        Non-negative; keys the generator together with the style's name.
    style : str
        A key of ``STYLES``.
    scene_id : str, optional
        Defaults to ScanNet's pattern ``scene<seed>_00``.
    """
    if style not in STYLES:
        raise SpacerError("room style", got=style, expected=sorted(STYLES))
    rules = STYLES[style]
    rng = np.random.default_rng([seed, sum(map(ord, style))])
    for _ in range(50):
        floor_rects = _draw_floor(rng, rules)
        furniture = _furnish(rng, rules, floor_rects)
        if furniture is not None:
            break
    else:
        raise SpacerError(f"{style} room {seed}: no arrangement found in 50 tries")
    angle = rng.uniform(-math.pi, math.pi)
    shift = rng.uniform(1.0, 4.0, size=2)
    c, s = math.cos(angle), math.sin(angle)
    T = (
        c,
        -s,
        0,
        -c * shift[0] + s * shift[1],
        s,
        c,
        0,
        -s * shift[0] - c * shift[1],
        0,
        0,
        1,
        -0.05,
        0,
        0,
        0,
        1,
    )
    return Room(
        scene_id or f"scene{seed:04d}_00", seed, rules, floor_rects, furniture, T
    )


def _draw_floor(rng, rules):
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
    return tuple(tuple(float(v) for v in rect) for rect in rects)


def _furnish(rng, rules, floor_rects):
    order = rng.permutation(len(rules.categories))
    singles = int(rng.integers(rules.singles[0], rules.singles[1] + 1))
    repeats = int(rng.integers(rules.repeats[0], rules.repeats[1] + 1))
    names = [rules.categories[i] for i in order]
    wanted = [names[0]] * repeats + names[1 : singles + 1]
    # Large pieces first: they are the hardest to place.
    wanted.sort(key=lambda n: -KINDS[n].size_m[0] * KINDS[n].size_m[1])
    placed = []
    for category in wanted:
        piece = _place(rng, rules, floor_rects, placed, len(placed), category)
        if piece is None:
            return None
        placed.append(piece)
    return tuple(placed)


def _place(rng, rules, floor_rects, placed, instance_id, category):
    kind = KINDS[category]
    rects = np.array(floor_rects)
    low, high = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
    for _ in range(60):
        size = np.multiply(kind.size_m, rng.uniform(0.88, 1.12, size=3))
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
            tuple(size),
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
