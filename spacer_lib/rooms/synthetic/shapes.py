"""Furniture of recognisable shape: legs, backs, shelves and screens, all of boxes.

A kind of ``layout.KINDS`` gives the outer box of a piece, on which every annotation
rests; ``SHAPES`` gives the parts that a detailed style draws. They fill the same outer
box and hide the same floor (``tests/unit/test_detailed_rooms.py``). The front of a
piece is at y = 0, its back at y = 1.
"""

import itertools

import numpy as np

from spacer_lib.rooms.synthetic.layout import XY, XYZ, Part

DARK: XYZ = (0.13, 0.13, 0.14)
STEEL: XYZ = (0.72, 0.74, 0.76)
WHITE: XYZ = (0.93, 0.92, 0.90)
FULL: XY = (0.0, 1.0)
# Of `wood`, `cloth` and `accent`, a part's rgb is a factor on the piece's own colour.
PLAIN: XYZ = (1.0, 1.0, 1.0)
DIM: XYZ = (0.80, 0.80, 0.80)


def _box(x: XY, y: XY, z: XY, rgb: XYZ = PLAIN, material: str = "wood") -> Part:
    """A part from its ranges; all run from 0 to 1."""
    center = ((x[0] + x[1]) / 2 - 0.5, (y[0] + y[1]) / 2 - 0.5, (z[0] + z[1]) / 2)
    return Part(center, (x[1] - x[0], y[1] - y[0], z[1] - z[0]), rgb, material)


def _legs(inset: XY, thick: XY, z: XY, rgb: XYZ = PLAIN) -> tuple[Part, ...]:
    """Four legs, ``inset`` from the sides and ``thick`` along x and y."""
    xs, ys = (
        ((a, a + t), (1 - a - t, 1 - a)) for a, t in zip(inset, thick, strict=True)
    )
    return tuple(_box(x, y, z, rgb) for x, y in itertools.product(xs, ys))


def _chair() -> tuple[Part, ...]:
    return (
        *_legs((0, 0), (0.09, 0.09), (0, 0.46)),
        _box(FULL, FULL, (0.46, 0.50), DIM),
        _box((0.04, 0.96), (0.03, 0.88), (0.50, 0.545), PLAIN, "cloth"),
        _box((0, 0.09), (0.91, 1), (0.50, 1)),
        _box((0.91, 1), (0.91, 1), (0.50, 1)),
        *(_box((0.09, 0.91), (0.93, 0.98), (z, z + 0.09)) for z in (0.60, 0.74, 0.88)),
    )


def _table() -> tuple[Part, ...]:
    return (
        _box(FULL, FULL, (0.94, 1)),
        _box((0.05, 0.95), (0.07, 0.93), (0.82, 0.94), DIM),
        *_legs((0.03, 0.04), (0.055, 0.09), (0, 0.94), DIM),
    )


def _sofa() -> tuple[Part, ...]:
    seats, backs = ((0.105, 0.497), (0.503, 0.895)), ((0.11, 0.495), (0.505, 0.89))
    return (
        _box(FULL, FULL, (0, 0.08), DARK, ""),
        _box((0.005, 0.995), (0.01, 1), (0.08, 0.36), DIM, "cloth"),
        _box((0, 0.1), (0, 0.8), (0.36, 0.74), PLAIN, "cloth"),
        _box((0.9, 1), (0, 0.8), (0.36, 0.74), PLAIN, "cloth"),
        _box(FULL, (0.8, 1), (0.36, 1), DIM, "cloth"),
        *(_box(x, (0.0, 0.78), (0.36, 0.55), PLAIN, "cloth") for x in seats),
        *(_box(x, (0.62, 0.8), (0.55, 0.94), PLAIN, "cloth") for x in backs),
        _box((0.14, 0.32), (0.48, 0.61), (0.55, 0.84), PLAIN, "accent"),
        _box((0.70, 0.87), (0.48, 0.61), (0.55, 0.82), PLAIN, "accent"),
    )


def _bed() -> tuple[Part, ...]:
    return (
        _box(FULL, FULL, (0, 0.46)),
        _box(FULL, (0.95, 1), (0.46, 1), DIM),
        _box(FULL, (0, 0.03), (0.46, 0.62), DIM),
        _box((0.02, 0.98), (0.03, 0.94), (0.46, 0.76), WHITE, "linen"),
        _box((0.005, 0.995), (0.035, 0.60), (0.46, 0.82), PLAIN, "cloth"),
        _box((0.004, 0.996), (0.56, 0.66), (0.46, 0.84), PLAIN, "accent"),
        _box((0.08, 0.47), (0.72, 0.93), (0.76, 0.95), WHITE, "linen"),
        _box((0.53, 0.92), (0.72, 0.93), (0.76, 0.95), WHITE, "linen"),
    )


def _lamp() -> tuple[Part, ...]:
    layers = [(0.0, 0.76, 0.83), (0.05, 0.83, 0.89), (0.1, 0.89, 0.95), (0.15, 0.95, 1)]
    return (
        _box((0.22, 0.78), (0.22, 0.78), (0, 0.02), DARK, "metal"),
        _box((0.465, 0.535), (0.465, 0.535), (0.02, 0.80), DARK, "metal"),
        *(
            _box((a, 1 - a), (a, 1 - a), (low, high), (1.0, 0.90, 0.66), "glow")
            for a, low, high in layers
        ),
    )


def _refrigerator() -> tuple[Part, ...]:
    return (
        _box(FULL, FULL, (0, 0.04), DARK, ""),
        _box(FULL, (0.07, 1), (0.04, 1), STEEL, "metal"),
        _box((0.01, 0.99), (0.03, 0.065), (0.05, 0.655), WHITE, "metal"),
        _box((0.01, 0.99), (0.03, 0.065), (0.67, 0.99), WHITE, "metal"),
        _box((0.06, 0.10), (0, 0.03), (0.36, 0.62), DARK, "metal"),
        _box((0.06, 0.10), (0, 0.03), (0.70, 0.86), DARK, "metal"),
    )


BOOKS: tuple[XYZ, ...] = (
    (0.62, 0.16, 0.14),
    (0.14, 0.27, 0.46),
    (0.16, 0.38, 0.26),
    (0.80, 0.62, 0.24),
    (0.88, 0.84, 0.74),
    (0.36, 0.20, 0.36),
    (0.20, 0.20, 0.22),
    (0.78, 0.42, 0.20),
)


def _bookshelf() -> tuple[Part, ...]:
    rng = np.random.default_rng(10)
    boards = (0.05, 0.24, 0.43, 0.62, 0.80)
    parts = [
        _box((0, 0.04), FULL, FULL),
        _box((0.96, 1), FULL, FULL),
        _box((0.04, 0.96), (0.93, 1), (0, 0.975), DIM),
        _box((0.04, 0.96), FULL, (0.975, 1)),
        _box((0.04, 0.96), (0.02, 0.93), (0, 0.05), DIM),
        *(_box((0.04, 0.96), (0.02, 0.93), (z - 0.015, z)) for z in boards[1:]),
    ]
    for low, high in itertools.pairwise((*boards, 0.98)):
        x = 0.045
        while x < 0.84:
            wide = rng.uniform(0.05, 0.11)
            top = low + rng.uniform(0.62, 0.88) * (high - low - 0.015)
            front = rng.uniform(0.12, 0.3)
            rgb = BOOKS[int(rng.integers(len(BOOKS)))]
            if rng.random() > 0.12:  # otherwise a gap
                parts.append(_box((x, x + wide), (front, 0.9), (low, top), rgb, "book"))
            x += wide + 0.004
    return tuple(parts)


def _trash_bin() -> tuple[Part, ...]:
    grey: XYZ = (0.30, 0.34, 0.36)

    def ring(inset: float, thick: float, z: XY, rgb: XYZ) -> list[Part]:
        a, b = inset, inset + thick
        return [
            _box((a, 1 - a), (a, b), z, rgb, ""),
            _box((a, 1 - a), (1 - b, 1 - a), z, rgb, ""),
            _box((a, b), (b, 1 - b), z, rgb, ""),
            _box((1 - b, 1 - a), (b, 1 - b), z, rgb, ""),
        ]

    return (
        _box((0.07, 0.93), (0.07, 0.93), (0, 0.05), grey, ""),
        *ring(0.07, 0.05, (0.05, 0.9), grey),
        *ring(0.0, 0.08, (0.9, 1.0), (0.42, 0.46, 0.48)),
        _box((0.14, 0.86), (0.14, 0.86), (0.4, 0.66), WHITE, "linen"),
    )


def _nightstand() -> tuple[Part, ...]:
    drawers = ((0.26, 0.56), (0.60, 0.90))
    return (
        *_legs((0.03, 0.05), (0.09, 0.10), (0, 0.22), DIM),
        _box((0.02, 0.98), (0.06, 0.98), (0.22, 0.95), DIM),
        _box(FULL, FULL, (0.95, 1)),
        *(_box((0.06, 0.94), (0.03, 0.06), z) for z in drawers),
        *(
            _box((0.43, 0.57), (0, 0.03), (z - 0.02, z + 0.02), STEEL, "metal")
            for z in (0.41, 0.75)
        ),
    )


def _backpack() -> tuple[Part, ...]:
    return (
        _box(FULL, FULL, (0, 0.10), DIM, "cloth"),
        _box((0.03, 0.97), (0.24, 0.98), (0.10, 0.80), PLAIN, "cloth"),
        _box((0.12, 0.88), (0.30, 0.94), (0.80, 0.92), PLAIN, "cloth"),
        _box((0.14, 0.86), (0.02, 0.24), (0.10, 0.44), PLAIN, "accent"),
        _box((0.12, 0.88), (0.0, 0.26), (0.44, 0.48), DARK, ""),
        _box((0.22, 0.28), (0.20, 0.24), (0.48, 0.92), DARK, ""),
        _box((0.72, 0.78), (0.20, 0.24), (0.48, 0.92), DARK, ""),
        _box((0.40, 0.44), (0.55, 0.65), (0.92, 1), DARK, ""),
        _box((0.56, 0.60), (0.55, 0.65), (0.92, 1), DARK, ""),
        _box((0.44, 0.56), (0.55, 0.65), (0.97, 1), DARK, ""),
    )


def _tv() -> tuple[Part, ...]:
    left, right, low, high = 0.025, 0.975, 0.06, 0.955
    picture: list[tuple[XY, XY, XYZ]] = [
        ((left, right), (0.62, high), (0.50, 0.72, 0.92)),
        ((left, right), (0.40, 0.62), (0.78, 0.86, 0.93)),
        ((left, 0.45), (0.40, 0.56), (0.42, 0.50, 0.62)),
        ((0.60, right), (0.40, 0.50), (0.48, 0.56, 0.64)),
        ((left, right), (low, 0.40), (0.30, 0.52, 0.26)),
    ]
    return (
        _box(FULL, (0.3, 1), FULL, DARK, ""),
        _box(FULL, (0, 0.3), (0, low), DARK, ""),
        _box(FULL, (0, 0.3), (high, 1), DARK, ""),
        _box((0, left), (0, 0.3), (low, high), DARK, ""),
        _box((right, 1), (0, 0.3), (low, high), DARK, ""),
        *(
            _box(x, (0.24 - 0.02 * k, 0.3), z, rgb, "glow")
            for k, (x, z, rgb) in enumerate(picture)
        ),
    )


def _window() -> tuple[Part, ...]:
    panes: list[tuple[XY, XYZ]] = [
        ((0.62, 0.93), (0.66, 0.82, 0.97)),
        ((0.36, 0.62), (0.82, 0.90, 0.97)),
        ((0.06, 0.36), (0.46, 0.60, 0.38)),
    ]
    return (
        _box(FULL, FULL, (0, 0.06), WHITE, ""),
        _box(FULL, (0.2, 1), (0.93, 1), WHITE, ""),
        _box((0, 0.06), (0.2, 1), (0.06, 0.93), WHITE, ""),
        _box((0.94, 1), (0.2, 1), (0.06, 0.93), WHITE, ""),
        _box((0.48, 0.52), (0.3, 0.9), (0.06, 0.93), WHITE, ""),
        _box((0.06, 0.94), (0.35, 0.85), (0.60, 0.635), WHITE, ""),
        *(_box((0.06, 0.94), (0.6, 0.8), z, rgb, "glow") for z, rgb in panes),
    )


def _stool() -> tuple[Part, ...]:
    return (
        _box(FULL, FULL, (0.86, 0.92)),
        _box((0.02, 0.98), (0.02, 0.98), (0.92, 1), PLAIN, "cloth"),
        *_legs((0.05, 0.05), (0.11, 0.11), (0, 0.86), DIM),
        _box((0.16, 0.84), (0.08, 0.13), (0.30, 0.37), DIM),
        _box((0.16, 0.84), (0.87, 0.92), (0.30, 0.37), DIM),
        _box((0.08, 0.13), (0.16, 0.84), (0.44, 0.51), DIM),
        _box((0.87, 0.92), (0.16, 0.84), (0.44, 0.51), DIM),
    )


def _suitcase() -> tuple[Part, ...]:
    ribs = ((0.06, 0.20), (0.29, 0.43), (0.57, 0.71), (0.80, 0.94))
    return (
        *(
            _box(x, y, (0, 0.06), DARK, "")
            for x in ((0.08, 0.2), (0.8, 0.92))
            for y in ((0.1, 0.35), (0.65, 0.9))
        ),
        _box(FULL, FULL, (0.06, 0.12), DIM, "shell"),
        _box((0.01, 0.99), (0.06, 0.94), (0.12, 0.86), PLAIN, "shell"),
        *(_box(x, (0.01, 0.99), (0.13, 0.84), PLAIN, "shell") for x in ribs),
        _box((0.30, 0.34), (0.72, 0.80), (0.86, 0.96), STEEL, "metal"),
        _box((0.66, 0.70), (0.72, 0.80), (0.86, 0.96), STEEL, "metal"),
        _box((0.28, 0.72), (0.68, 0.84), (0.96, 1), DARK, ""),
    )


def _door() -> tuple[Part, ...]:
    """Of an opening; both sides are alike."""
    return (
        _box((0, 0.08), FULL, FULL, WHITE, ""),
        _box((0.92, 1), FULL, FULL, WHITE, ""),
        _box((0.08, 0.92), FULL, (0.965, 1), WHITE, ""),
        _box((0.08, 0.92), (0.25, 0.75), (0, 0.965)),
        *(_box((0.2, 0.8), (0.12, 0.88), z, DIM) for z in ((0.07, 0.43), (0.54, 0.90))),
        _box((0.82, 0.89), (0, 1), (0.475, 0.495), STEEL, "metal"),
    )


DOOR = _door()
SHAPES: dict[str, tuple[Part, ...]] = {
    "chair": _chair(),
    "table": _table(),
    "sofa": _sofa(),
    "bed": _bed(),
    "lamp": _lamp(),
    "refrigerator": _refrigerator(),
    "bookshelf": _bookshelf(),
    "trash bin": _trash_bin(),
    "nightstand": _nightstand(),
    "backpack": _backpack(),
    "tv": _tv(),
    "window": _window(),
    "stool": _stool(),
    "suitcase": _suitcase(),
}

# Of which a piece's wood, cloth, accent and hard shell take their colour.
COLOURS: dict[str, tuple[XYZ, ...]] = {
    "wood": (
        (0.72, 0.53, 0.34),
        (0.56, 0.38, 0.23),
        (0.42, 0.27, 0.17),
        (0.82, 0.67, 0.48),
        (0.88, 0.85, 0.79),
    ),
    "cloth": (
        (0.30, 0.38, 0.50),
        (0.52, 0.56, 0.52),
        (0.62, 0.36, 0.28),
        (0.30, 0.46, 0.40),
        (0.66, 0.60, 0.52),
        (0.46, 0.32, 0.44),
    ),
    "accent": (
        (0.86, 0.66, 0.28),
        (0.80, 0.38, 0.30),
        (0.34, 0.56, 0.62),
        (0.86, 0.82, 0.74),
    ),
    "shell": ((0.22, 0.36, 0.52), (0.60, 0.20, 0.20), (0.30, 0.32, 0.34)),
}
