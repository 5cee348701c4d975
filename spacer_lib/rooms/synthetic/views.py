"""Camera paths of synthetic videos, and the short way from a room to a ``Scene``.

The short way writes no files and is used where thousands of rooms are needed (the tiny
model's data). It must agree with the long way (``write``, then ``scannet.parse``):
``tests/unit/test_synthetic.py`` compares boxes, map and floor. Nothing here renders;
``render`` does.

Cameras follow the convention of ``footage``.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spacer_lib.rooms.area import AREA_RULES, SPATIAL_R1_AREA, rings_of
from spacer_lib.rooms.footage import Footage
from spacer_lib.rooms.frames import FPS
from spacer_lib.rooms.geometry import oriented_box
from spacer_lib.rooms.scene import BENCHMARK_AREA, ObjectInstance, Ring, Scene
from spacer_lib.rooms.synthetic.layout import Rect, Room, hides_floor, largest_rect

Range = tuple[float, float]


@dataclass(frozen=True)
class View:
    """How a synthetic video is filmed.

    Attributes
    ----------
    name : str
    style : str
        Key of ``layout.STYLES``: which rooms this view films.
    camera : str
        ``orbit`` looks down from outside, ``walk`` goes around inside the room,
        ``turn`` stands inside and turns around, ``through`` turns around in the first
        of two rooms, walks through the doorway and turns around in the second.
    frames : int
        Length of the video.
    azimuth_deg, elevation_deg : (low, high)
        Ranges of an orbit's angles. The room's seed draws one value in each; so for
        all ranges.
    sweep_deg : float
        Change of azimuth from the first frame to the last.
    turn_deg : (low, high)
        Of ``turn``, from the first frame to the last; positive is counter-clockwise.
    start_deg : (low, high)
        Heading of its first frame, counter-clockwise from +y.
    eye_m, pitch_deg : (low, high)
        Height of its camera, and of its gaze above the horizon.
    walk_m : float
        Length of a straight walk while turning, centred on the room's standpoint.
    fov_deg : (low, high)
        Horizontal field of view.
    """

    name: str
    style: str
    camera: str
    frames: int
    azimuth_deg: Range = (0.0, 0.0)
    elevation_deg: Range = (56.0, 62.0)
    sweep_deg: float = 12.0
    turn_deg: Range = (315.0, 315.0)
    start_deg: Range = (0.0, 0.0)
    eye_m: Range = (1.4, 1.6)
    pitch_deg: Range = (-20.0, -15.0)
    walk_m: float = 0.0
    fov_deg: Range = (54.0, 54.0)


# A turn lasts 8 s: eight evenly spaced frames have a nominal rate of one a second.
TURN_FRAMES = 8 * round(FPS)

ELBOW_M = 0.25  # of free floor around a person who walks between two rooms
_LENS = (68.0, 76.0)
# A person who turns around once, as the warm start is shown; and what differs in views
# that it is not shown.
_TURNS: dict[str, dict[str, Any]] = {
    "turn": {},
    "part": {"turn_deg": (275.0, 275.0)},  # the last eighth of the turn is missing
    "clockwise": {"turn_deg": (-315.0, -315.0)},
    "askew": {"start_deg": (-20.0, 20.0)},  # the first frame is not along a wall
    "stroll": {"walk_m": 1.2},
    "seated": {"eye_m": (0.95, 1.1)},
    "raised": {"eye_m": (2.1, 2.3)},  # held up above the head
    "level": {"pitch_deg": (0.0, 0.0)},
    "wide": {"fov_deg": (84.0, 86.0)},
}

# The azimuths of `new` and its sweep lie outside those of `seen`.
VIEWS = {
    view.name: view
    for view in (
        View("seen", "dollhouse", "orbit", 48, azimuth_deg=(-15.0, 15.0)),
        View("new", "dollhouse", "orbit", 48, azimuth_deg=(30.0, 45.0)),
        View("walk", "furnished", "walk", 96),
        *(
            View(name, "home", "turn", TURN_FRAMES, **({"fov_deg": _LENS} | other))
            for name, other in _TURNS.items()
        ),
        View(
            "through",
            "two rooms",
            "through",
            TURN_FRAMES * 3 // 2,
            turn_deg=(360.0, 360.0),
            fov_deg=_LENS,
        ),
    )
}


def video_uri(view: str, seed: int) -> str:
    """The address of a video that is rendered on request: ``room://seen/17``."""
    return f"room://{view}/{seed}"


def address_parts(address: str) -> tuple[str, int] | None:
    """(view, seed) of a ``room://`` address; ``None`` for what is none."""
    scheme, _, rest = address.partition("://")
    view, _, seed = rest.partition("/")
    if scheme != "room" or view not in VIEWS or not seed.isdecimal():
        return None
    return view, int(seed)


# ---------------------------------------------------------------- cameras


def pinhole(width: int, height: int, fov_deg: float = 54.0) -> np.ndarray:
    """(3, 3) pinhole matrix in pixels, square pixels; the field of view is horizontal.

    Examples
    --------
    >>> pinhole(3, 3, fov_deg=90.0).round(2).tolist()
    [[1.5, 0.0, 1.0], [0.0, 1.5, 1.0], [0.0, 0.0, 1.0]]
    """
    f = width / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1]])


def look_at(eye: npt.ArrayLike, target: npt.ArrayLike) -> np.ndarray:
    """(4, 4) T_aligned_from_camera at ``eye`` (3,), looking to ``target`` (3,).

    The picture's upper side is towards +z.
    """
    forward = np.subtract(target, eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def orbit_poses(
    room: Room,
    times: Iterable[float],
    azimuth_deg: float = 0.0,
    sweep_deg: float = 12.0,
    elevation_deg: float = 59.0,
) -> np.ndarray:
    """(n, 4, 4) poses on an arc outside the room that look down at its centre.

    At azimuth 0 the camera stands at -y and looks towards +y; a larger azimuth is
    further counter-clockwise, seen from above. The distance fits the whole floor into
    the picture.

    Parameters
    ----------
    room : Room
    times : (n,) iterable of float
        From 0 to 1 over the whole video.
    azimuth_deg, sweep_deg, elevation_deg : float
        Azimuth at time 0.5, its change over the video, and the height of the camera
        as an angle above the floor.
    """
    low, high = room.floor_bounds_m
    distance = 1.32 * float(np.max(high - low))
    poses = []
    for t in times:
        a = math.radians(azimuth_deg + (t - 0.5) * sweep_deg)
        e = math.radians(elevation_deg)
        eye = (
            distance * math.cos(e) * math.sin(a),
            -distance * math.cos(e) * math.cos(a),
            distance * math.sin(e),
        )
        center = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 0.0)
        poses.append(look_at(np.add(eye, center), np.add(center, (0, 0, 0.25))))
    return np.stack(poses)


def walk_poses(
    room: Room,
    times: Iterable[float],
    rng: np.random.Generator,
    eye_height_m: float = 1.5,
) -> np.ndarray:
    """(n, 4, 4) poses of a walk inside the room, at ``times`` (n,) from 0 to 1.

    The camera follows a closed curve around the middle of the largest floor rectangle
    and looks across the room, so that it turns around once. Height and direction sway
    slowly, as if held by hand.
    """
    x0, y0, x1, y1 = largest_rect(room.floor_rects)
    center = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    half = np.array([x1 - x0, y1 - y0])
    start, phase = rng.uniform(0, 2 * math.pi, size=2)
    turn = 1 if rng.random() < 0.5 else -1
    poses = []
    for t in times:
        angle = start + turn * 2 * math.pi * t
        xy = center + 0.30 * half * (math.cos(angle), math.sin(angle))
        sway = 0.05 * math.sin(6 * math.pi * t + phase)
        eye = (xy[0], xy[1], eye_height_m + sway)
        gaze = angle + math.pi + 0.35 * math.sin(4 * math.pi * t + phase)
        pitch = -0.32 + 0.08 * math.sin(10 * math.pi * t + phase)
        target = np.add(eye, (math.cos(gaze), math.sin(gaze), math.tan(pitch)))
        poses.append(look_at(eye, target))
    return np.stack(poses)


def turn_poses(
    room: Room, view: View, times: Iterable[float], rng: np.random.Generator
) -> np.ndarray:
    """(n, 4, 4) poses of a person who turns at ``times`` (n,) from 0 to 1.

    The first frame looks along +y of the aligned frame: it fixes the frame of the map.
    """
    turn, start = rng.uniform(*view.turn_deg), rng.uniform(*view.start_deg)
    height, pitch = rng.uniform(*view.eye_m), rng.uniform(*view.pitch_deg)
    along = rng.uniform(-math.pi, math.pi)
    poses = []
    for t in times:
        heading = math.radians(90 + start + t * turn)
        step = view.walk_m * (t - 0.5)
        x = room.standpoint_m[0] + step * math.cos(along)
        y = room.standpoint_m[1] + step * math.sin(along)
        gaze = math.cos(heading), math.sin(heading), math.tan(math.radians(pitch))
        poses.append(look_at((x, y, height), np.add((x, y, height), gaze)))
    return np.stack(poses)


def through_poses(
    room: Room, view: View, times: Iterable[float], rng: np.random.Generator
) -> np.ndarray:
    """(n, 4, 4) poses of a person in two rooms, at ``times`` (n,) from 0 to 1.

    The person turns around in each room, for two fifths of the video, and in between
    walks straight to the doorway and straight on from there.
    """
    height, pitch = rng.uniform(*view.eye_m), rng.uniform(*view.pitch_deg)
    turn = math.radians(rng.uniform(*view.turn_deg)) * rng.choice([-1, 1])
    door = np.array(room.standpoint_m)
    first, second = (open_spot(room, rect) for rect in room.floor_rects[:2])
    ahead = math.atan2(*(door - first)[::-1])
    on = ahead + math.remainder(math.atan2(*(second - door)[::-1]) - ahead, math.tau)
    marks = (0.0, 0.4, 0.5, 0.6, 1.0)
    headings = (ahead - turn, ahead, (ahead + on) / 2, on, on + turn)
    places = np.array([first, first, door, second, second])
    poses = []
    for t in times:
        x, y = (np.interp(t, marks, line) for line in places.T)
        heading = np.interp(t, marks, headings)
        gaze = math.cos(heading), math.sin(heading), math.tan(math.radians(pitch))
        poses.append(look_at((x, y, height), np.add((x, y, height), gaze)))
    return np.stack(poses)


def open_spot(room: Room, rect: Rect) -> npt.NDArray[np.float64]:
    """(2,) place in one of two rooms from which nothing is in the way to the doorway.

    Of the places of a grid the one nearest to the room's middle; a step into the room
    if there is none.
    """
    low, high, door = (
        np.array(rect[:2]),
        np.array(rect[2:]),
        np.array(room.standpoint_m),
    )
    middle = (low + high) / 2
    grid = np.stack(np.meshgrid(*np.linspace(low, high, 15)[1:-1].T), axis=-1)
    spots = grid.reshape(-1, 2)
    spots = spots[np.linalg.norm(spots - middle, axis=1).argsort()]
    for spot in spots:
        path = door + np.linspace(0, 1, 60)[:, None] * (spot - door)
        if _is_free(room, path):
            return spot
    inwards = np.clip(door, low, high) - door
    return door + inwards / np.linalg.norm(inwards) * ELBOW_M


def _is_free(room: Room, path: npt.NDArray[np.float64]) -> bool:
    """Whether a person can stand at each of (n, 2) places, metres."""
    for piece in room.furniture:
        away = np.abs(path - piece.position_m[:2]) - piece.footprint_half_m()
        if (np.linalg.norm(np.maximum(away, 0), axis=1) < ELBOW_M).any():
            return False
    return bool(room.on_floor(path).all())


def view_intrinsic(room: Room, view: View, width: int, height: int) -> np.ndarray:
    """(3, 3) pinhole matrix of a view's camera, for pictures of a size in pixels."""
    rng = np.random.default_rng([room.seed, sum(map(ord, view.name)), 11])
    return pinhole(width, height, rng.uniform(*view.fov_deg))


def view_poses(
    room: Room, view: View, indices: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """(n, 4, 4) poses of a video's frames; they depend on room and view only.

    ``indices`` picks n frames; ``None`` means all of them.
    """
    rng = np.random.default_rng([room.seed, sum(map(ord, view.name)), 7])
    times = np.linspace(0, 1, view.frames)
    times = times if indices is None else times[list(indices)]
    if view.camera == "walk":
        return walk_poses(room, times, rng)
    if view.camera == "turn":
        return turn_poses(room, view, times, rng)
    if view.camera == "through":
        return through_poses(room, view, times, rng)
    azimuth, elevation = (
        rng.uniform(*view.azimuth_deg),
        rng.uniform(*view.elevation_deg),
    )
    return orbit_poses(room, times, azimuth, view.sweep_deg, elevation)


# ---------------------------------------------------------------- scenes


def first_in_view(room: Room, view: View, every: int = 12) -> dict[int, int]:
    """``{instance_id: frame}`` in which an object's centre first is in the picture.

    For meta-information without a video. Only one frame in ``every`` is tested, for
    4:3 pictures, and of occlusion only the wall between two rooms counts: the parser's
    first-seen frames are exact.
    """
    indices = np.arange(0, view.frames, every)
    poses = view_poses(room, view, indices)  # (n, 4, 4) T_aligned_from_camera
    width, height = 320, 240
    K, first = view_intrinsic(room, view, width, height), {}
    for piece in room.furniture:
        corners = piece.corners_m()
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        camera = np.einsum("nij,ni->nj", poses[:, :3, :3], middle - poses[:, :3, 3])
        depth = np.maximum(camera[:, 2], 1e-6)
        u, v = (K[k, k] * camera[:, k] / depth + K[k, 2] for k in (0, 1))
        seen = (camera[:, 2] > 0.1) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        if room.style.two_rooms:  # a wall hides one from the other
            ways = np.linspace(poses[:, :2, 3], middle[:2], 300)  # (300, n, 2)
            on_floor = room.on_floor(ways.reshape(-1, 2)).reshape(ways.shape[:2])
            seen &= on_floor.all(axis=0)
        if seen.any():
            first[piece.instance_id] = int(indices[seen.argmax()])
    return first


def to_scene(
    room: Room,
    view: View | None = None,
    with_boxes: bool = True,
    first_seen: Mapping[int, int] | None = None,
    footage: Footage | None = None,
) -> Scene:
    """``Room`` → ``Scene``, from the corner points that the mesh is made of.

    Parameters
    ----------
    room : Room
    view : View, optional
        Gives the scene the length of its video.
    with_boxes : bool
        Whether to compute minimal oriented boxes. Axis-aligned ones take their place
        otherwise: enough for maps, and several times faster.
    first_seen : dict, optional
        Instance id → frame of the view's video (``first_in_view``).
    footage : Footage, optional
        Of the view's video (``render.film``, some milliseconds a frame). Without
        ``first_seen`` it gives the first frames too.
    """
    if footage is not None and first_seen is None:
        ids = [piece.instance_id for piece in room.furniture]
        found = zip(ids, footage.first_seen(), strict=True)
        first_seen = {i: frame for i, frame in found if frame is not None}
    instances, seen = [], first_seen or {}
    for piece in room.furniture:
        corners = piece.corners_m()
        low, high = corners.min(axis=0), corners.max(axis=0)
        if with_boxes:
            center, lengths, axes = oriented_box(corners)
        else:
            center, lengths, axes = (low + high) / 2, high - low, np.eye(3)
        instances.append(
            ObjectInstance(
                piece.instance_id,
                piece.kind.category,
                tuple(center),
                tuple(lengths),
                tuple(axes.ravel()),
                tuple(low),
                tuple(high),
                first_seen_frame=seen.get(piece.instance_id),
            )
        )
    low, high = room.floor_bounds_m
    top = max([room.style.wall_height_m, *(i.aabb_max_m[2] for i in instances)])
    return Scene(
        scene_id=room.scene_id,
        dataset="synthetic",
        instances=tuple(instances),
        room_size_m2=room.floor_area_m2,
        room_areas_m2=_areas_m2(room),
        room_center_m=(*((low + high) / 2), top / 2),
        floor_min_m=tuple(low),
        floor_max_m=tuple(high),
        fps=FPS if view else None,
        frame_count=view.frames if view else None,
        source="synthetic light path",
        footage=footage,
        outline_m=_outline_m(room),
    )


def _outline_m(room: Room) -> tuple[Ring, ...]:
    """The floor's border: that of the cells between all edges of its rectangles."""
    rects = np.array(room.floor_rects)
    xs, ys = (np.unique(rects[:, [k, k + 2]]) for k in (0, 1))
    triangles = []
    for (x0, x1), (y0, y1) in itertools.product(
        itertools.pairwise(xs), itertools.pairwise(ys)
    ):
        if room.on_floor(((x0 + x1) / 2, (y0 + y1) / 2)).all():
            corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
            triangles += [corners[[0, 1, 2]], corners[[0, 2, 3]]]
    return rings_of(np.array(triangles))


def _areas_m2(room: Room) -> dict[str, float]:
    """``{rule: m²}`` as from the mesh of ``write``.

    The benchmark's rule sees furniture in place of the floor below it. Spatial-R1's
    leaves a hole, unless circles of its alpha do not fit in. Near a hole's corners they
    do not, which leaves a right-angled triangle with legs of one alpha in each.
    """
    hidden, alpha_m = 0.0, AREA_RULES[SPATIAL_R1_AREA].alpha_m
    for piece in room.furniture:
        for center, size, _, _ in piece.part_boxes():
            if hides_floor(center, size) and min(size[:2]) > 2 * alpha_m:
                hidden += size[0] * size[1] - 2 * alpha_m**2
    whole = room.floor_area_m2
    return {BENCHMARK_AREA: whole, SPATIAL_R1_AREA: float(whole - hidden)}
