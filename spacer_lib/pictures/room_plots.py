"""Rooms: floor plan, camera path, three dimensions, frames."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle
from mpl_toolkits.mplot3d.axes3d import Axes3D
from scipy.spatial import ConvexHull

from spacer_lib.errors import SpacerError
from spacer_lib.pictures.style import INK, PALETTE, category_styles
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.geometry import box_corners
from spacer_lib.rooms.scene import Scene, is_structural


def floor_plan(scene: Scene, ax: Axes) -> Axes:
    """Labelled oriented boxes in the floor rectangle, from above (metres)."""
    (x0, y0), (x1, y1) = scene.floor_min_m, scene.floor_max_m
    ax.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=INK, lw=1, gid="floor")
    )
    shown = [i for i in scene.instances if not is_structural(i.category)]
    styles = category_styles(i.category for i in shown)
    for instance in shown:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )[:, :2]
        outline = corners[ConvexHull(corners).vertices]
        color = styles[instance.category][0]
        ax.add_patch(Polygon(outline, fc=color, ec=color, alpha=0.45, gid="box"))
        x, y, _ = instance.centroid_m
        ax.annotate(instance.category, (x, y), ha="center", va="center", fontsize=7)
    margin = 0.04 * max(x1 - x0, y1 - y0)
    ax.set(
        xlim=(x0 - margin, x1 + margin),
        ylim=(y0 - margin, y1 + margin),
        xlabel="x (m)",
        ylabel="y (m)",
        aspect="equal",
    )
    return ax


def camera_path(poses: npt.ArrayLike, ax: Axes, arrows: int = 12) -> Axes:
    """Camera centres from above (metres) with viewing directions.

    Parameters
    ----------
    poses : (n, 4, 4) array
        ``T_aligned_from_camera``; the camera looks along its own +z.
    arrows : int
        About how many viewing directions to draw.
    """
    poses = np.asarray(poses)
    x, y = poses[:, :2, 3].T
    ax.plot(x, y, color=INK, lw=1, gid="path")
    ax.plot(x[0], y[0], "o", color=PALETTE[2], label="first frame")
    some = poses[:: max(1, len(poses) // arrows)]
    ax.quiver(
        *some[:, :2, 3].T,
        *some[:, :2, 2].T,
        color=PALETTE[0],
        width=0.004,
        angles="xy",
        scale=14,
    )
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    ax.legend()
    return ax


def room_3d(
    scene: Scene, points: npt.ArrayLike, colors: npt.ArrayLike, ax: Axes3D
) -> Axes3D:
    """A room's vertices with the oriented boxes of its objects, in three dimensions.

    Parameters
    ----------
    scene : Scene
    points : (n, 3) metres, aligned frame
    colors : (n, 3) in 0 … 1
    ax : Axes3D
    """
    x, y, z = np.asarray(points).T
    ax.scatter(x, y, z, c=colors, s=0.6, depthshade=False)
    styles = category_styles(i.category for i in scene.instances)
    # The index of a corner has one bit per axis; an edge joins two that differ in one.
    edges = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    for instance in scene.instances:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )
        color = styles[instance.category][0]
        for a, b in edges:
            ax.plot(*corners[[a, b]].T, color=color, lw=1.2)
        top = corners[corners[:, 2].argmax()]
        ax.text(*top, instance.category, fontsize=6, color=color)
    ax.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)", aspect="equal")
    return ax


def cloud_from_above(points: npt.ArrayLike, colors: npt.ArrayLike, ax: Axes) -> Axes:
    """Vertices from above; high ones hide low ones (metres).

    Parameters
    ----------
    points : (n, 3) metres
    colors : (n, 3) in 0 … 1
    ax : Axes
    """
    points, colors = np.asarray(points), np.asarray(colors)
    order = np.argsort(points[:, 2])
    x, y = points[order, :2].T
    ax.scatter(x, y, c=colors[order], s=1.5)
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    return ax


def area_by_alpha(
    points: npt.NDArray[np.float64],
    ax: Axes,
    true_m2: float | None = None,
    alphas_m: Sequence[float] = (0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0),
) -> Axes:
    """Area of a room against alpha, a curve for each rule; a dot at the rule's alpha.

    Parameters
    ----------
    points : (n, 3) float64
        All vertices of the room's mesh, metres, aligned frame.
    ax : Axes
    true_m2 : float, optional
        The true area, if it is known: a line.
    alphas_m : sequence of float
    """
    for name, rule in AREA_RULES.items():
        alphas = sorted({*alphas_m, rule.alpha_m})
        areas = [rule.area_m2(points, alpha_m) for alpha_m in alphas]
        own = alphas.index(rule.alpha_m)
        (line,) = ax.semilogx(alphas, areas, lw=1, marker=".", gid=f"area:{name}")
        ax.plot(
            alphas[own],
            areas[own],
            "o",
            color=line.get_color(),
            label=f"{name}: {areas[own]:.1f} m² at α = {rule.alpha_m} m",
            gid=f"rule:{name}",
        )
    if true_m2 is not None:
        label = f"true: {true_m2:.1f} m²"
        ax.axhline(true_m2, color=INK, lw=1, ls="--", label=label, gid="true")
    ax.set(xlabel="α (m)", ylabel="area (m²)")
    ax.legend()
    return ax


def first_seen_bars(scene: Scene, ax: Axes) -> Axes:
    """For each object the seconds since it was first seen, earliest on top."""
    timed = [i for i in scene.instances if i.first_seen_frame is not None]
    timed.sort(key=lambda i: (i.first_seen_frame or 0, i.instance_id))
    styles = category_styles(i.category for i in timed)
    fps, end_s = scene.fps or 1.0, scene.duration_s or 0.0  # a scene without video
    for row, instance in enumerate(timed):
        start = (instance.first_seen_frame or 0) / fps
        ax.barh(
            row,
            end_s - start,
            left=start,
            color=styles[instance.category][0],
        )
    ax.set(yticks=range(len(timed)), yticklabels=[i.category for i in timed])
    ax.invert_yaxis()
    ax.set(xlabel="time (s)", title=f"seen for the first time (n = {len(timed)})")
    return ax


def frames_strip(
    frames: Sequence[np.ndarray] | np.ndarray,
    axes: Sequence[Axes],
    titles: Sequence[str] | None = None,
) -> Sequence[Axes]:
    """Frames side by side, one on each of the axes.

    Parameters
    ----------
    frames : (n, h, w, 3) uint8
    axes : sequence of at least n Axes
    titles : sequence of str, optional

    Raises
    ------
    SpacerError
        If there are fewer axes than frames.
    """
    if len(axes) < len(frames):
        raise SpacerError(
            "frames_strip",
            kind="pictures.too-few-axes",
            got=f"{len(axes)} axes",
            expected=f"one for each of {len(frames)} frames",
        )
    for i, frame in enumerate(frames):
        axes[i].imshow(frame)
        axes[i].set_title(titles[i] if titles else f"frame {i + 1}")
    for ax in axes:
        ax.set_axis_off()
    return axes
