"""Colours of a detailed room: textures made by code, and light with soft shadow.

Both are looked up at points of surfaces, so frames and the mesh's vertices show the
same. Textures are grey factors on a box's colour that repeat every ``PERIOD_M``. Light
is computed once for each room, on a grid over all faces: how much of the sky and of a
broad light each point sees between the furniture. Walls cast no shadow: one along a
wall would tell where on the floor a place is.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from spacer_lib.rooms.synthetic.layout import XYZ
from spacer_lib.rooms.synthetic.rays import Box, Cast

FloatArray = npt.NDArray[np.float32]
TEXELS, TEXEL_M = 128, 0.01
PERIOD_M = TEXELS * TEXEL_M
BLURS = (0.0, 1.0, 2.0, 4.0, 8.0)  # texels; each for surfaces twice as far away
LIGHT_M, MOST_CELLS = 0.12, 64  # spacing of the grid of light; its most to a side
FAR_M = 25.0  # of the points from which light comes
LIFT_M = 0.005  # of grid points, so that a face does not shade itself
SKY, BOUNCED, SUN = 0.42, 0.40, 0.30  # shares of white
BELOW = 0.35  # of the sky, where a face is turned down
SKY_RGB, SUN_RGB = (0.96, 0.99, 1.03), (1.06, 1.0, 0.90)
# A corner between floor and wall is darker by up to this much, within this distance.
CORNER, CORNER_M = 0.28, 0.16
SKIRTING_M, SKIRTING_RGB = 0.09, (0.93, 0.92, 0.89)  # the board along each wall


def _noise(rng: np.random.Generator, along: float, across: float) -> FloatArray:
    """(128, 128) repeating noise of unit deviation, smooth over so many texels."""
    spectrum = np.fft.fft2(rng.normal(size=(TEXELS, TEXELS)))
    smooth = np.fft.ifft2(spectrum * _low_pass(along, across)).real
    return ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)


def _low_pass(along: float, across: float) -> npt.NDArray[np.float64]:
    f = np.fft.fftfreq(TEXELS)
    power = (f[:, None] * along) ** 2 + (f * across) ** 2
    return np.asarray(np.exp(-2 * math.pi**2 * power))


def _wood(rng: np.random.Generator) -> FloatArray:
    return 1 + 0.04 * _noise(rng, 14, 0.7) + 0.045 * _noise(rng, 24, 3)


def _planks(rng: np.random.Generator) -> FloatArray:
    """Eight rows of boards, each 16 cm wide and 64 cm long."""
    u, v = np.mgrid[:TEXELS, :TEXELS]
    row = v // 16
    u = (u + rng.integers(0, TEXELS, 8)[row]) % TEXELS
    tones = rng.uniform(0.88, 1.10, (8, 2)).astype(np.float32)[row, u // 64]
    gap = (v % 16 == 0) | (u % 64 == 0)
    return tones * _wood(rng) * np.where(gap, np.float32(0.72), np.float32(1))


def _tiles(rng: np.random.Generator) -> FloatArray:
    u, v = np.mgrid[:TEXELS, :TEXELS]
    tones = rng.uniform(0.96, 1.03, (4, 4)).astype(np.float32)[u // 32, v // 32]
    gap = (v % 32 == 0) | (u % 32 == 0)
    stone = tones * (1 + 0.025 * _noise(rng, 3, 3))
    return np.where(gap, np.float32(0.78), stone)


def _carpet(rng: np.random.Generator) -> FloatArray:
    return 1 + 0.06 * _noise(rng, 0.6, 0.6) + 0.02 * _noise(rng, 6, 6)


def _cloth(rng: np.random.Generator) -> FloatArray:
    u, v = np.mgrid[:TEXELS, :TEXELS]
    weave = np.where((u // 2 + v // 2) % 2, np.float32(1.025), np.float32(0.975))
    return weave + 0.035 * _noise(rng, 1, 1) + 0.02 * _noise(rng, 8, 8)


def _linen(rng: np.random.Generator) -> FloatArray:
    return 1 + 0.025 * _noise(rng, 5, 3)


def _plaster(rng: np.random.Generator) -> FloatArray:
    return 1 + 0.005 * _noise(rng, 1.5, 1.5) + 0.011 * _noise(rng, 9, 9)


def _stripes(rng: np.random.Generator) -> FloatArray:
    u, _ = np.mgrid[:TEXELS, :TEXELS]
    broad = np.where(u // 8 % 2, np.float32(1.03), np.float32(0.95))
    return broad + 0.008 * _noise(rng, 2, 2)


def _metal(rng: np.random.Generator) -> FloatArray:
    return 1 + 0.008 * _noise(rng, 20, 1)


def _even(rng: np.random.Generator) -> FloatArray:
    return np.ones((TEXELS, TEXELS), dtype=np.float32)


def _book(rng: np.random.Generator) -> FloatArray:
    _, v = np.mgrid[:TEXELS, :TEXELS]
    return np.where((v % 16 == 3) | (v % 16 == 11), np.float32(1.3), np.float32(1))


_MATERIALS: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "": _even,
    "glow": _even,  # it gives light: no shadow falls on it
    "shell": _even,
    "wood": _wood,
    "cloth": _cloth,
    "accent": _cloth,
    "linen": _linen,
    "metal": _metal,
    "book": _book,
    "planks": _planks,
    "tiles": _tiles,
    "carpet": _carpet,
    "plaster": _plaster,
    "stripes": _stripes,
}
_NUMBER = {name: number for number, name in enumerate(_MATERIALS)}
PAPERED = frozenset(_NUMBER[name] for name in ("plaster", "stripes"))
GRAINED = frozenset(_NUMBER[name] for name in ("wood", "metal"))


@functools.cache
def textures() -> FloatArray:
    """(materials, blurs, 128, 128) factors, the same in every process."""
    found = []
    for number, make in enumerate(_MATERIALS.values()):
        spectrum = np.fft.fft2(make(np.random.default_rng([number, 31])))
        blurred = [np.fft.ifft2(spectrum * _low_pass(b, b)).real for b in BLURS]
        found.append(np.stack(blurred))
    return np.stack(found).astype(np.float32)


# Of a face: the two axes along it.
_ALONG = np.array([(1, 2), (0, 2), (0, 1)])


class Paint:
    """Colours at points on the surfaces of boxes.

    Parameters
    ----------
    boxes : sequence of (centre, edge lengths, yaw_rad)
        Metres.
    rgb : (n, 3)
        Their colours in [0, 1].
    materials : sequence of str
        Their textures; ``glow`` gives light.
    kinds : (n,) int
        Labels: ``floor``, ``wall``, or 0 and above for what casts shadow.
    floor, wall : int
        Those two labels.
    light : (x, y, z)
        Unit vector towards the middle of the broad light.
    make : callable
        ``rays.caster``.
    """

    def __init__(
        self,
        boxes: Sequence[Box],
        rgb: npt.ArrayLike,
        materials: Sequence[str],
        kinds: npt.ArrayLike,
        *,
        floor: int,
        wall: int,
        light: XYZ,
        make: Callable[[Sequence[Box]], Cast],
    ) -> None:
        self._center = np.array([box[0] for box in boxes], dtype=np.float32)
        self._half = np.array([box[1] for box in boxes], dtype=np.float32) / 2
        yaw = np.array([box[2] for box in boxes])
        self._cos = np.cos(yaw).astype(np.float32)
        self._sin = np.sin(yaw).astype(np.float32)
        self._rgb = np.asarray(rgb, dtype=np.float32)
        self._material = np.array([_NUMBER[name] for name in materials])
        self._papered = np.isin(self._material, list(PAPERED))
        kinds = np.asarray(kinds)
        # Textures of floor and walls lie in the room, others on each box.
        shift = np.outer(np.cumsum(kinds >= 0), (0.371, 0.593, 0.217)) % PERIOD_M
        shift = np.where(kinds[:, None] < 0, self._center, shift)
        self._shift = shift[:, _ALONG].reshape(-1, 2).astype(np.float32)  # of 3 n sides
        size = self._half[:, _ALONG]  # (n, 3, 2)
        turned = (size[..., 1] > size[..., 0]) & (kinds[:, None] >= 0)
        self._turned = turned & np.isin(self._material, list(GRAINED))[:, None]
        cells = np.ceil(2 * size / LIGHT_M).astype(int).clip(1, MOST_CELLS)
        self._cells = np.repeat(cells.reshape(-1, 2), 2, axis=0)  # of 6 n faces
        counts = self._cells.prod(axis=1)
        self._first = np.cumsum(counts) - counts
        self._light = self._lit(boxes, kinds, floor, wall, light, make)

    def colours(
        self, box: npt.NDArray[np.int64], points: np.ndarray, span_m: npt.ArrayLike
    ) -> FloatArray:
        """(n, 3) colours in [0, 1] of points on boxes.

        Parameters
        ----------
        box : (n,) int
            Numbers of the boxes.
        points : (n, 3)
            On their surfaces, metres.
        span_m : (n,) or float
            Length of surface that one point stands for: finer texture is left out.
        """
        local = self._local(box, points.astype(np.float32))
        place = local / self._half.take(box, axis=0)
        axis = np.abs(place).argmax(axis=1)
        rows = np.arange(len(box))
        side = 3 * box + axis
        along = _ALONG.take(axis, axis=0)
        uv = local[rows[:, None], along] + self._shift.take(side, axis=0)
        turned = self._turned.take(side)
        uv[turned] = uv[turned, ::-1]
        u, v = (np.floor(uv / np.float32(TEXEL_M)).astype(np.int64) % TEXELS).T
        level = np.log2(np.maximum(np.asarray(span_m) / TEXEL_M, 1)).round().astype(int)
        level = level.clip(0, len(BLURS) - 1)
        texture = self._material.take(box) * len(BLURS) + level
        factor = textures().take((texture * TEXELS + u) * TEXELS + v)
        face = 2 * side + (place[rows, axis] > 0)
        light = self._light_at(face, place[rows[:, None], along])
        rgb = self._rgb.take(box, axis=0)
        rgb[self._papered.take(box) & (points[:, 2] < SKIRTING_M)] = SKIRTING_RGB
        return np.asarray(rgb * factor[:, None] * light, dtype=np.float32)

    def _local(self, box: np.ndarray, points: FloatArray) -> FloatArray:
        """(n, 3) points in the frames of their boxes, metres."""
        local = points - self._center.take(box, axis=0)
        x, y = local[:, 0].copy(), local[:, 1]
        c, s = self._cos.take(box), self._sin.take(box)
        local[:, 0], local[:, 1] = c * x + s * y, c * y - s * x
        return local

    def _light_at(self, face: np.ndarray, place: FloatArray) -> FloatArray:
        """(n, 3) light, between grid points, at (n, 2) places from -1 to 1."""
        cells = self._cells.take(face, axis=0)
        most = cells.astype(np.float32) - 1
        at = ((place + 1) * (most + 1) / 2 - np.float32(0.5)).clip(0, most)
        low = at.astype(np.int64)
        part = at - low
        u, v = part[:, :1], part[:, 1:]
        # Past the last row or column the share is 0, whatever the number.
        here = self._first.take(face) + low[:, 0] * cells[:, 1] + low[:, 1]
        below, light = here + cells[:, 1], self._light
        near = light.take(here, axis=0) * (1 - v)
        near += light.take(here + 1, axis=0) * v
        far = light.take(below, axis=0) * (1 - v)
        far += light.take(below + 1, axis=0) * v
        return np.asarray(near * (1 - u) + far * u)

    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (t, 3) of the light's grid, normals (t, 3) and boxes (t,)."""
        counts = self._cells.prod(axis=1)
        face = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(face)) - self._first[face]
        cells, box = self._cells[face], face // 6
        axis, sign = face % 6 // 2, face % 2 * 2.0 - 1
        at = np.stack([number // cells[:, 1], number % cells[:, 1]], axis=1)
        rows, place = np.arange(len(face)), np.zeros((len(face), 3))
        place[rows[:, None], _ALONG[axis]] = (at + 0.5) / cells * 2 - 1
        place[rows, axis] = sign
        normal = np.zeros((len(face), 3))
        normal[rows, axis] = sign
        turned = []
        for local in (place * self._half[box], normal):
            c, s = self._cos[box], self._sin[box]
            x, y = local[:, 0], local[:, 1]
            turned.append(np.stack([c * x - s * y, s * x + c * y, local[:, 2]], axis=1))
        return turned[0] + self._center[box], turned[1], box

    def _lit(
        self,
        boxes: Sequence[Box],
        kinds: np.ndarray,
        floor: int,
        wall: int,
        light: XYZ,
        make: Callable[[Sequence[Box]], Cast],
    ) -> FloatArray:
        """(t, 3) light on the grid points."""
        points, normals, box = self._grid()
        lifted = points + LIFT_M * normals
        shading = [one for one, kind in zip(boxes, kinds, strict=True) if kind >= 0]
        cast = make(shading) if shading else None
        middle = points.mean(axis=0)

        def received(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """(t,) means of cosines: of what arrives, and if nothing were between."""
            seen, most = np.zeros(len(points)), np.zeros(len(points))
            for direction in directions:
                toward = (normals @ direction).clip(0)
                most += toward
                rows = np.flatnonzero(toward)
                if cast is not None:
                    source = middle + FAR_M * direction
                    toward[rows] *= _sees(cast, source, lifted[rows])
                seen += toward
            return seen / len(directions), most / len(directions)

        (seen, most), (lit, _) = received(_sky()), received(_around(light))
        up = normals[:, 2]
        # Of the part of the sky that a face is turned to; below, only what is bounced.
        sky = np.where(most > 1e-9, seen / np.maximum(most, 1e-9), BELOW)
        sky = (sky * (0.94 + 0.06 * up))[:, None]
        found = SKY * sky * SKY_RGB + SUN * lit[:, None] * SUN_RGB
        found += BOUNCED * (0.8 + 0.2 * sky)
        found *= self._corners(points, kinds[box], floor, wall, kinds)[:, None]
        glows = self._material[box] == _NUMBER["glow"]
        found[glows] = 0.95 + 0.05 * normals[glows, :1]  # so that edges are seen
        past = np.zeros((MOST_CELLS + 1, 3))  # read with a share of 0 only
        return np.concatenate([found, past]).astype(np.float32)

    def _corners(
        self,
        points: np.ndarray,
        kind: np.ndarray,
        floor: int,
        wall: int,
        kinds: np.ndarray,
    ) -> np.ndarray:
        """(t,) factors: floor is darker near walls, and walls near the floor."""
        away = np.full(len(points), np.inf)
        walls = kinds == wall
        below = kind == floor
        for center, half in zip(self._center[walls], self._half[walls], strict=True):
            gap = np.abs(points[below, :2] - center[:2]) - half[:2]
            near = np.hypot(*gap.clip(0).T)
            away[below] = np.minimum(away[below], near)
        away[kind == wall] = points[kind == wall, 2].clip(0)
        return np.asarray(1 - CORNER * np.exp(-away / CORNER_M))


def _sees(cast: Cast, source: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) 1 where nothing is between the source (3,) and the points (n, 3), else 0."""
    rays = np.empty((len(points), 6), dtype=np.float32)
    rays[:, :3], rays[:, 3:] = source, points - source
    return cast(rays)[0] > 1 - LIFT_M / FAR_M


def _sky() -> np.ndarray:
    """(20, 3) unit vectors over the upper half of all directions."""
    # Height in degrees, how many, and where the first one is.
    rings = ((15, 6, 0.1), (35, 6, 0.6), (57, 5, 0.2), (78, 3, 0.4))
    found = []
    for height_deg, count, start in rings:
        height = math.radians(height_deg)
        for k in range(count):
            angle = start + 2 * math.pi * k / count
            side = math.cos(height)
            found.append(
                (side * math.cos(angle), side * math.sin(angle), math.sin(height))
            )
    return np.array(found)


def _around(light: XYZ) -> np.ndarray:
    """(6, 3) unit vectors around the light's, up to 8 degrees away."""
    middle = np.array(light)
    side = np.cross(middle, (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side)
    up = np.cross(side, middle)
    found = [middle]
    for k in range(5):
        angle = 2 * math.pi * k / 5
        away = math.tan(math.radians(8)) * (
            math.cos(angle) * side + math.sin(angle) * up
        )
        found.append((middle + away) / np.linalg.norm(middle + away))
    return np.array(found)
