"""Rooms: floor plan, camera path, three dimensions, frames."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Polygon
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter
from mpl_toolkits.mplot3d.axes3d import Axes3D
from scipy.spatial import ConvexHull, cKDTree

from spacer_lib.errors import SpacerError
from spacer_lib.pictures.style import (
    FAINT,
    INK,
    PALETTE,
    category_key,
    category_styles,
    legend_beside,
    tint,
)
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.geometry import box_corners, sampled_box_points
from spacer_lib.rooms.scene import (
    BENCHMARK_AREA,
    ObjectInstance,
    Scene,
    is_structural,
)


def floor_plan(
    scene: Scene,
    ax: Axes,
    points: npt.NDArray[np.float64] | None = None,
    named: Collection[str] | None = None,
) -> Axes:
    """Oriented boxes from above (metres); a key names their letters.

    Parameters
    ----------
    scene : Scene
    ax : Axes
    points : (n, 3) float64, optional
        All vertices of the room's mesh, metres, aligned frame. With them the outline is
        the room's own; without, that of the scene, or else the floor rectangle.
    named : collection of str, optional
        Categories with colour and letter, the others are grey; by default all.
    """
    (x0, y0), (x1, y1) = scene.floor_min_m, scene.floor_max_m
    if points is not None:
        _outline(AREA_RULES[BENCHMARK_AREA].triangles(points), ax)
    else:
        rectangle = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        for ring in scene.outline_m or (rectangle,):
            ax.add_patch(Polygon(ring, fill=False, ec=INK, lw=1, gid="floor"))
    shown = [i for i in scene.instances if not is_structural(i.category)]
    looks = category_styles(i.category for i in shown)
    if named is not None:
        looks = category_styles(named)
    for instance in shown:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )[:, :2]
        outline = corners[ConvexHull(corners).vertices]
        color, _ = looks.get(instance.category, (FAINT, ""))
        ax.add_patch(Polygon(outline, fc=color, ec=color, alpha=0.35, gid="box"))
    marked = [i for i in shown if i.category in looks]
    centres = np.array([i.centroid_m[:2] for i in marked]).reshape(-1, 2)
    extent = max(x1 - x0, y1 - y0)
    apart = (0.05 if named is None else 0.09) * extent
    for instance, spot in zip(marked, _apart(centres, apart), strict=True):
        lettered(ax, looks[instance.category][1], spot)
    margin = 0.04 * extent
    ax.set(
        xlim=(x0 - margin, x1 + margin),
        ylim=(y0 - margin, y1 + margin),
        xlabel="x (m)",
        ylabel="y (m)",
        aspect="equal",
    )
    category_key(ax, looks)
    return ax


def lettered(ax: Axes, letter: str, spot: Sequence[float] | np.ndarray) -> Axes:
    """A category's letter at (x, y) of the data, on white."""
    ax.annotate(
        letter,
        (float(spot[0]), float(spot[1])),
        ha="center",
        va="center",
        fontsize=8,
        color=INK,
        bbox={"fc": "white", "ec": "none", "alpha": 0.95, "pad": 1.0},
    )
    return ax


def _apart(spots: np.ndarray, gap: float) -> np.ndarray:
    """(n, 2) spots, moved from earlier ones until they are ``gap`` away."""
    angles = np.arange(0, 2 * np.pi, np.pi / 4)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    steps = np.concatenate([[(0.0, 0.0)], *(k * gap / 2 * ring for k in range(1, 9))])
    placed: list[np.ndarray] = []
    for spot in spots:
        free = (
            spot + step
            for step in steps
            if all(np.linalg.norm(spot + step - p) >= gap for p in placed)
        )
        placed.append(next(free, spot))
    return np.array(placed).reshape(-1, 2)


def _outline(triangles: np.ndarray, ax: Axes) -> None:
    """The edges that belong to one triangle only."""
    edges = np.sort(
        np.concatenate([triangles[:, (i, (i + 1) % 3)] for i in range(3)])
        .view("f8,f8")
        .reshape(-1, 2),
        axis=1,
    )
    unique, times = np.unique(edges, axis=0, return_counts=True)
    border = unique[times == 1].view("f8").reshape(-1, 2, 2)
    ax.add_collection(LineCollection(border, colors=INK, lw=1.4, gid="outline"))


def room_area(
    points: npt.NDArray[np.float64], ax: Axes, rule: str = BENCHMARK_AREA
) -> Axes:
    """The triangles of a room's alpha shape and their outline; their area is the title.

    Parameters
    ----------
    points : (n, 3) float64
        All vertices of the room's mesh, metres, aligned frame.
    ax : Axes
    rule : str
        Of ``rooms.area.AREA_RULES``.

    Raises
    ------
    SpacerError
        If the points that count span no area.
    """
    triangles = AREA_RULES[rule].triangles(points)
    faces = PolyCollection(
        list(triangles), fc=tint(PALETTE[2]), ec=PALETTE[2], lw=0.25, gid="triangles"
    )
    ax.add_collection(faces)
    _outline(triangles, ax)
    ax.autoscale_view()
    ax.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    ax.set_title(f"{AREA_RULES[rule].area_m2(points):.1f} m², rule {rule}")
    return ax


def gap_line(
    first: ObjectInstance,
    second: ObjectInstance,
    ax: Axes,
    text: str = "",
    bold: bool = True,
) -> Axes:
    """The closest points of two boxes, joined from above; a text is beside them.

    The points are those of a 5 cm grid on the surfaces of the boxes.
    """
    a, b = sampled_box_points(first), sampled_box_points(second)
    gaps, nearest = cKDTree(b).query(a)
    ends = np.array([a[gaps.argmin()], b[nearest[gaps.argmin()]]])[:, :2]
    style = "o-" if bold else "o:"
    ax.plot(*ends.T, style, color=INK, ms=3, lw=2 if bold else 1.2, gid="gap")
    if not text:
        return ax
    # Of the places along the line, the one farthest from the letters.
    letters = [note.xy for note in ax.texts if isinstance(note, Annotation)]
    along = ends[0] + np.linspace(0.2, 0.8, 7)[:, None] * (ends[1] - ends[0])
    room = np.linalg.norm(along[:, None] - np.reshape(letters, (-1, 2)), axis=2)
    spot = along[room.min(axis=1, initial=np.inf).argmax()]
    box = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1}
    ax.annotate(
        text,
        (float(spot[0]), float(spot[1])),
        (0, 9),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        bbox=box,
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
    legend_beside(ax)
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
    looks = category_styles(i.category for i in scene.instances)
    # The index of a corner has one bit per axis; an edge joins two that differ in one.
    edges = [(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]
    for instance in scene.instances:
        corners = box_corners(
            instance.centroid_m, instance.axes_lengths_m, instance.axes_matrix
        )
        color, letter = looks[instance.category]
        for a, b in edges:
            ax.plot(*corners[[a, b]].T, color=color, lw=1.2)
        top = corners[corners[:, 2].argmax()]
        ax.text(*top, letter, fontsize=8, color=INK, weight="bold")
    ax.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)", aspect="equal")
    category_key(ax, looks)
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
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="α (m)", ylabel="area (m²)")
    legend_beside(ax)
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
