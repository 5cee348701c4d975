"""Rules for the area of a room: which points count, and which shape is laid over them.

A rule is named by the question recipes (``rules: room_area``) and by the areas that a
``Scene`` stores. All rules take the points of the room's mesh in the aligned frame.

Source: https://github.com/vision-x-nyu/thinking-in-space/issues/34 (VSI-Bench);
Spatial-R1 §2.2.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.geometry import (
    alpha_shape_area_m2,
    alpha_triangles,
    outline_rings,
    triangle_areas_m2,
)
from spacer_lib.rooms.scene import BENCHMARK_AREA, Ring

SPATIAL_R1_AREA = "spatial-r1"
FLOOR_PERCENTILE = 1.0


@dataclass(frozen=True)
class AreaRule:
    """How an area is computed.

    Attributes
    ----------
    alpha_m : float
        Triangles with a smaller circumradius belong to the room, metres.
    fill_holes : bool
        Whether holes in the shape belong to the room.
    band_m : float or None
        Points at most this far above the floor's height count; ``None``: all points.
    """

    alpha_m: float
    fill_holes: bool
    band_m: float | None = None

    def points_xy(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(m, 2) of the (n, 3) points: those that count, seen from above, metres."""
        if self.band_m is None:
            return points[:, :2]
        height = np.percentile(points[:, 2], FLOOR_PERCENTILE)
        return points[points[:, 2] <= height + self.band_m, :2]

    def area_m2(
        self, points: npt.NDArray[np.float64], alpha_m: float | None = None
    ) -> float:
        """Area of a room from (n, 3) points, square metres.

        ``alpha_m`` takes the place of the rule's own, to see what depends on it.

        Raises
        ------
        SpacerError
            If the points that count span no area.
        """
        alpha_m = self.alpha_m if alpha_m is None else alpha_m
        points_xy = self.points_xy(points)
        return alpha_shape_area_m2(points_xy, alpha_m, fill_holes=self.fill_holes)

    def triangles(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(t, 3, 2) triangles of the shape whose area is ``area_m2``, metres.

        Raises
        ------
        SpacerError
            If the points that count span no area.
        """
        return alpha_triangles(
            self.points_xy(points), self.alpha_m, fill_holes=self.fill_holes
        )


AREA_RULES = {
    # Published by VSI-Bench's authors: 10,000 points are drawn from all points of the
    # mesh with replacement, and the package `alphashape` is called with alpha = 5. It
    # keeps circumradii below 1/5 m and fills holes. The draw has no seed. Here all
    # points are taken, of which those draws are noisy copies.
    BENCHMARK_AREA: AreaRule(alpha_m=0.2, fill_holes=True),
    # Published by Spatial-R1, whose later version is SpaceR: points below a threshold
    # above the scene's lowest elevation, and the summed areas of the alpha shape's
    # triangles. Not published, so ours: the threshold, alpha, and the first percentile
    # in place of the lowest point, since real meshes have points below the floor.
    SPATIAL_R1_AREA: AreaRule(alpha_m=0.5, fill_holes=False, band_m=0.2),
}


def room_floor(
    points: npt.NDArray[np.float64], warnings: list[str]
) -> tuple[dict[str, float], tuple[Ring, ...]]:
    """Areas and outline of a room from the (n, 3) points of its mesh.

    A rule that finds no area, other than the benchmark's, is left out with a warning.

    Returns
    -------
    areas_m2 : dict
        ``{rule: area}``, square metres.
    outline_m : tuple of rings
        Of the benchmark's shape; see ``Scene.outline_m``.

    Raises
    ------
    SpacerError
        If the points span no area, seen from above.
    """
    areas: dict[str, float] = {}
    outline: tuple[Ring, ...] = ()
    for name, rule in AREA_RULES.items():
        try:
            triangles = rule.triangles(points)
        except SpacerError as error:
            if name == BENCHMARK_AREA:
                raise
            warnings.append(f"no area by the rule {name}: {error.got}")
            continue
        areas[name] = float(triangle_areas_m2(triangles).sum())
        if name == BENCHMARK_AREA:
            outline = rings_of(triangles)
    return areas, outline


def rings_of(triangles: npt.NDArray[np.float64]) -> tuple[Ring, ...]:
    """``outline_rings`` of (t, 3, 2) triangles, as a ``Scene`` has them."""
    rings = outline_rings(triangles)
    return tuple(tuple((x, y) for x, y in ring.tolist()) for ring in rings)
