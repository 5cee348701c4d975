"""A question of each type, drawn: what one must see in the room to answer it.

Plans are from above. Only the categories that a question names have colour and letter.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spacer_lib.errors import SpacerError
from spacer_lib.pictures.room_plots import floor_plan, gap_line, lettered
from spacer_lib.pictures.style import (
    FAINT,
    INK,
    PALETTE,
    category_key,
    category_styles,
    short_name,
)
from spacer_lib.questions.askable import askable
from spacer_lib.questions.drafts import Draft
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.oracle import frame_at, names_in
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import box_distance_m, closest_distance_m, turn_deg
from spacer_lib.rooms.scene import ObjectInstance, Scene

Picture = Callable[[int], npt.NDArray[np.uint8]]  # frame → (h, w, 3)
Point = npt.NDArray[np.float64]

FAMILIES: dict[str, tuple[str, ...]] = {
    "counts and sizes": (
        "object_counting",
        "object_counting_multiple",
        "object_existence",
        "object_size_estimation",
        "object_size_comparison",
        "room_size_estimation",
    ),
    "distances and routes": (
        "object_abs_distance",
        "object_rel_distance",
        "object_rel_distance_farthest",
        "route_planning",
    ),
    "directions": (
        "object_rel_direction_easy",
        "object_rel_direction_medium",
        "object_rel_direction_hard",
        "object_rel_direction_backward_easy",
        "object_rel_direction_backward_medium",
        "object_rel_direction_backward_hard",
    ),
    "order of appearance": (
        "appearance_before_after",
        "obj_appearance_order_2",
        "obj_appearance_order_3",
        "obj_appearance_order",
        "obj_appearance_order_5",
        "obj_appearance_order_6",
    ),
    "the camera": (
        "camera_displacement",
        "camera_movement_direction",
        "view_change",
        "camera_object_distance",
        "camera_object_rel_distance",
        "camera_object_distance_change",
    ),
    "single pictures": (
        "frame_left_right",
        "frame_near_far",
        "frame_depth_order",
        "view_shows_more",
    ),
}


class _Asked(NamedTuple):
    """A question about a scene, and what its words name."""

    draft: Draft
    scene: Scene
    rules: Rules
    picture: Picture
    names: dict[str, str]  # role in the template → name, or second
    groups: dict[str, list[ObjectInstance]]

    def only(self, name: str) -> ObjectInstance:
        return self.groups[name][0]

    def spot(self, name: str) -> Point:
        """(2,) centre of an object on the floor."""
        return np.array(self.only(name).centroid_m[:2])

    def pose(self, role: str) -> Point:
        """(4, 4) of the camera at a second of the question."""
        footage, number = frame_at(self.scene, self.names[role])
        return footage.poses[number]


def question_panels(
    drafts: Sequence[Draft],
    scene: Scene,
    axes: Sequence[Axes],
    picture: Picture | None = None,
    rules: Rules = DEFAULT_RULES,
) -> dict[str, str]:
    """Draw a question on each of the axes; spare axes are left blank.

    Parameters
    ----------
    drafts : sequence of Draft
        Questions about the scene, of different types.
    scene : Scene
    axes : sequence of at least as many Axes
    picture : callable, optional
        Frame of the video → (h, w, 3) uint8. Without it pictures are blank.
    rules : Rules
        Those that the questions were made by.

    Returns
    -------
    dict
        Question type → why its answer is right, in one line.

    Raises
    ------
    SpacerError
        If there are fewer axes than questions.
    """
    if len(axes) < len(drafts):
        raise SpacerError(
            "question_panels",
            kind="pictures.too-few-axes",
            got=f"{len(axes)} axes",
            expected=f"one for each of {len(drafts)} questions",
        )
    groups, why = askable(scene, rules), {}
    for draft, ax in zip(drafts, axes, strict=False):
        kind = draft.question_type
        names = names_in(QUESTION_TYPES[kind].words, vars(draft))
        shown = picture or (lambda _: np.full((3, 4, 3), 255, np.uint8))
        why[kind] = _DRAWINGS[kind](
            _Asked(draft, scene, rules, shown, names, groups), ax
        )
        ax.set_title(short_name(kind), fontsize=9)
    for ax in axes[len(drafts) :]:
        ax.set_axis_off()
    return why


def _plan(
    asked: _Asked, ax: Axes, named: Collection[str], extra: Sequence[Line2D] = ()
) -> None:
    floor_plan(asked.scene, ax, named=named)
    category_key(ax, category_styles(named), extra)
    ax.set_axis_off()


def _arrow(ax: Axes, start: Point, end: Point, color: str = INK) -> None:
    style = {"arrowstyle": "->", "color": color, "lw": 1.6}
    ax.annotate("", tuple(end[:2]), tuple(start[:2]), arrowprops=style)


def _listed(values: Mapping[str, float], unit: str, digits: int = 1) -> str:
    return ", ".join(f"{name} {v:.{digits}f} {unit}" for name, v in values.items())


def _turned(turn: float) -> str:
    return f"{abs(turn):.0f}° to the {'left' if turn > 0 else 'right'}"


# ---------------------------------------------------------------- counts and sizes


def _count(asked: _Asked, ax: Axes) -> str:
    named = asked.draft.categories
    _plan(asked, ax, named)
    found = {name: len(asked.groups.get(name, ())) for name in named}
    return "boxes: " + ", ".join(f"{name} {n}" for name, n in found.items())


def _longest_edge(instance: ObjectInstance, ax: Axes) -> float:
    """Draw the longest edge; upright it is a point. Its length in metres."""
    longest = int(np.argmax(instance.axes_lengths_m))
    edge = instance.axes_matrix[longest] * instance.axes_lengths_m[longest]
    ends = np.add(instance.centroid_m, [-edge / 2, edge / 2])
    ax.plot(*ends[:, :2].T, "|-", color=INK, lw=2, ms=8, gid="edge")
    return max(instance.axes_lengths_m)


def _size(asked: _Asked, ax: Axes) -> str:
    (name,) = asked.draft.categories
    _plan(asked, ax, [name])
    _longest_edge(asked.only(name), ax)
    edges = sorted(100 * edge for edge in asked.only(name).axes_lengths_m)
    return "edges of its box: " + ", ".join(f"{edge:.0f}" for edge in edges) + " cm"


def _sizes(asked: _Asked, ax: Axes) -> str:
    names = asked.draft.categories
    _plan(asked, ax, names)
    longest = {name: 100 * _longest_edge(asked.only(name), ax) for name in names}
    return "longest edges: " + _listed(longest, "cm", 0)


def _room(asked: _Asked, ax: Axes) -> str:
    _plan(asked, ax, ())
    area = asked.scene.room_areas_m2[asked.rules.room_area]
    return f"the outline holds {area:.2f} m² by the rule {asked.rules.room_area}"


# ---------------------------------------------------------------- distances


def _distance(asked: _Asked, ax: Axes) -> str:
    first, second = (asked.only(name) for name in asked.draft.categories)
    _plan(asked, ax, asked.draft.categories)
    if asked.rules.abs_distance == "centers":
        _arrow(ax, np.array(first.centroid_m), np.array(second.centroid_m))
        return "between the centers of the boxes"
    gap_line(first, second, ax)
    exact = asked.rules.abs_distance == "exact"
    metres = (box_distance_m if exact else closest_distance_m)(first, second)
    return f"closest points of the boxes: {metres:.2f} m"


def _distances(asked: _Asked, ax: Axes) -> str:
    target, *options = asked.draft.categories
    _plan(asked, ax, asked.draft.categories)
    metres, right = {}, _words(asked.draft)
    for option in options:
        gaps = [box_distance_m(asked.only(target), i) for i in asked.groups[option]]
        nearest = asked.groups[option][int(np.argmin(gaps))]
        metres[option] = min(gaps)
        gap_line(asked.only(target), nearest, ax, bold=option == right)
    return "nearest boxes: " + _listed(metres, "m", 2)


def _words(draft: Draft) -> str:
    """The answer: the words of the right option, or the number."""
    for option in draft.options or ():
        if option.startswith(f"{draft.ground_truth}. "):
            return option[3:]
    return draft.ground_truth


def _route(asked: _Asked, ax: Axes) -> str:
    _plan(asked, ax, asked.draft.categories)
    walked = re.findall(r"until the (.+?)\.", asked.names["steps"])
    spots = [asked.spot(name) for name in (asked.names["start"], *walked)]
    ahead, turns = asked.spot(asked.names["facing"]), []
    ends = np.array([spots[0], ahead])
    ax.plot(*ends.T, ":", color=INK, lw=1.2, gid="facing")
    for here, there in zip(spots, spots[1:], strict=False):
        straight = np.allclose(ahead, there)
        turns.append(0.0 if straight else turn_deg(here, ahead, there))
        _arrow(ax, here, there, PALETTE[5])
        ahead = 2 * there - here
    words = [_turned(turn) if abs(turn) > 45 else "straight on" for turn in turns]
    return "turns (dotted: the first view): " + ", ".join(words)


# ---------------------------------------------------------------- directions


def _direction(asked: _Asked, ax: Axes) -> str:
    position, facing, query = asked.draft.categories
    _plan(asked, ax, asked.draft.categories)
    at, faced, sought = map(asked.spot, (position, facing, query))
    backward = "_backward_" in asked.draft.question_type
    ahead = 2 * at - faced if backward else faced
    if backward:
        ahead = at + 0.8 * (ahead - at) / np.linalg.norm(ahead - at)
    _arrow(ax, at, ahead)
    _arrow(ax, at, sought, PALETTE[5])
    away = "away from" if backward else "towards"
    turn = _turned(turn_deg(at, ahead, sought))
    return f"from the view {away} the {facing} the {query} is {turn}"


# ---------------------------------------------------------------- appearance


def _order(asked: _Asked, ax: Axes) -> str:
    fps, first = asked.scene.fps or 1.0, {}
    for name in asked.draft.categories:
        seen = [one.first_seen_frame for one in asked.groups[name]]
        first[name] = min(frame for frame in seen if frame is not None) / fps
    first = dict(sorted(first.items(), key=lambda item: item[1]))
    places = range(len(first))
    ax.plot(list(first.values()), places, "o", color=PALETTE[0], ms=5, gid="first")
    ax.set(yticks=places, yticklabels=list(first), xlabel="first seen (s)")
    ax.set(xlim=(-0.5, asked.scene.duration_s), ylim=(len(first) - 0.5, -0.5))
    return "first seen: " + _listed(first, "s")


# ---------------------------------------------------------------- the camera

_MARKS = {"start": "o", "moment": "o", "end": "s"}


def _filmed(asked: _Asked, ax: Axes, named: Collection[str]) -> dict[str, Point]:
    """The plan with camera path and the cameras that are asked about; their poses."""
    roles = [role for role in _MARKS if role in asked.names]
    looks = {
        role: Line2D([], [], marker=_MARKS[role], ls="", ms=6, color=INK, label=text)
        for role in roles
        for text in [f"{asked.names[role]} s"]
    }
    _plan(asked, ax, named, list(looks.values()))
    path = [position[1:3] for position in asked.scene.camera_path_m]
    ax.plot(*np.transpose(path), color=FAINT, lw=1, gid="path")
    poses = {role: asked.pose(role) for role in roles}
    for role, pose in poses.items():
        ax.plot(*pose[:2, 3], _MARKS[role], color=INK, ms=6, gid="camera")
    return poses


def _view(ax: Axes, pose: Point) -> None:
    _arrow(ax, pose[:3, 3], pose[:3, 3] + 0.9 * pose[:3, 2])


def _displacement(asked: _Asked, ax: Axes) -> str:
    start, end = (pose[:3, 3] for pose in _filmed(asked, ax, ()).values())
    ax.plot(*np.stack([start, end])[:, :2].T, color=PALETTE[5], lw=2, gid="way")
    return f"the two places are {np.linalg.norm(end - start):.2f} m apart"


def _movement(asked: _Asked, ax: Axes) -> str:
    start, end = _filmed(asked, ax, ()).values()
    _view(ax, start)
    _arrow(ax, start[:3, 3], end[:3, 3], PALETTE[5])
    at = start[:2, 3]
    turn = turn_deg(at, at + start[:2, 2], end[:2, 3])
    return f"the way is {_turned(turn)} of the first view"


def _view_change(asked: _Asked, ax: Axes) -> str:
    start, end = _filmed(asked, ax, ()).values()
    _view(ax, start)
    _view(ax, end)
    turn = turn_deg((0, 0), start[:2, 2], end[:2, 2])
    return f"the second view is {_turned(turn)} of the first"


def _reach(ax: Axes, pose: Point, one: ObjectInstance, bold: bool = True) -> float:
    """Draw the way from the camera to the closest point of a box; metres."""
    center, half = np.array(one.centroid_m), np.array(one.axes_lengths_m) / 2
    local = one.axes_matrix @ (pose[:3, 3] - center)
    nearest = center + one.axes_matrix.T @ np.clip(local, -half, half)
    ends = np.stack([pose[:3, 3], nearest])
    style = "-" if bold else ":"
    ax.plot(*ends[:, :2].T, style, color=PALETTE[5], lw=2 if bold else 1.2, gid="gap")
    return float(np.linalg.norm(ends[1] - ends[0]))


def _from_camera(asked: _Asked, ax: Axes) -> str:
    named, right = asked.draft.categories, _words(asked.draft)
    (pose,) = _filmed(asked, ax, named).values()
    metres = {
        name: _reach(ax, pose, asked.only(name), name == right or len(named) == 1)
        for name in named
    }
    return "closest points: " + _listed(metres, "m", 2)


def _change(asked: _Asked, ax: Axes) -> str:
    (name,) = asked.draft.categories
    poses = _filmed(asked, ax, [name]).values()
    before, after = (_reach(ax, pose, asked.only(name)) for pose in poses)
    return f"closest point: {before:.2f} m away, later {after:.2f} m"


# ---------------------------------------------------------------- pictures


def _photo(
    asked: _Asked, ax: Axes, role: str, named: Mapping[str, Sequence[Point]], left: int
) -> int:
    """A picture from column ``left`` on, letters at points (3,); its width."""
    footage, row = frame_at(asked.scene, asked.names[role])
    image = asked.picture(footage.frames[row])
    height, width = image.shape[:2]
    ax.imshow(image, extent=(left, left + width, height, 0), interpolation="nearest")
    looks = category_styles(named)
    for name, points in named.items():
        if not len(points):
            continue
        u, v, _ = footage.project(points)[row].T
        for x, y in zip(u / footage.size[0], v / footage.size[1], strict=True):
            if 0 <= x < 1 and 0 <= y < 1:
                lettered(ax, looks[name][1], (left + x * width, y * height))
    return int(width)


def _in_picture(asked: _Asked, ax: Axes) -> str:
    named = asked.draft.categories
    centers = {name: np.array(asked.only(name).centroid_m) for name in named}
    _photo(asked, ax, "moment", {n: [c] for n, c in centers.items()}, 0)
    ax.set_axis_off()
    category_key(ax, category_styles(named))
    footage, row = frame_at(asked.scene, asked.names["moment"])
    if asked.draft.question_type == "frame_left_right":
        u = footage.project(list(centers.values()))[row, :, 0]
        shares = dict(zip(named, (100 * u / footage.size[0]).tolist(), strict=True))
        return "centers, of the picture's width: " + _listed(shares, "%", 0)
    at = footage.centers_m[row]
    metres = {n: float(np.linalg.norm(c - at)) for n, c in centers.items()}
    return "centers from the camera: " + _listed(metres, "m", 2)


def _shows_more(asked: _Asked, ax: Axes) -> str:
    (name,) = asked.draft.categories
    scene, counts, left = asked.scene, [], 0
    for role in ("start", "end"):
        footage, number = frame_at(scene, asked.names[role])
        shares = footage.visible[number]
        seen = [
            np.array(one.centroid_m)
            for one, share in zip(scene.instances, shares, strict=True)
            if one.category == name and share >= asked.rules.visible_share
        ]
        counts.append(len(seen))
        left += _photo(asked, ax, role, {name: seen}, left)
        left += max(1, left // 20)
    ax.set_xlim(0, left)
    ax.set_axis_off()
    category_key(ax, category_styles([name]))
    return f"{counts[0]} in the first picture, {counts[1]} in the second"


_DRAWINGS: dict[str, Callable[[_Asked, Axes], str]] = {
    "object_counting": _count,
    "object_counting_multiple": _count,
    "object_existence": _count,
    "object_size_estimation": _size,
    "object_size_comparison": _sizes,
    "room_size_estimation": _room,
    "object_abs_distance": _distance,
    "object_rel_distance": _distances,
    "object_rel_distance_farthest": _distances,
    "route_planning": _route,
    **dict.fromkeys(FAMILIES["directions"], _direction),
    **dict.fromkeys(FAMILIES["order of appearance"], _order),
    "camera_displacement": _displacement,
    "camera_movement_direction": _movement,
    "view_change": _view_change,
    "camera_object_distance": _from_camera,
    "camera_object_rel_distance": _from_camera,
    "camera_object_distance_change": _change,
    "frame_left_right": _in_picture,
    "frame_near_far": _in_picture,
    "frame_depth_order": _in_picture,
    "view_shows_more": _shows_more,
}
