"""A scene as a model is shown it: the objects that some frames of its video show.

A question about an object that no shown frame shows has no answer that can be seen, and
a count that includes it is wrong for the model.

Source: SIMS-V, https://arxiv.org/abs/2511.04668 (an object counts if it fills more than
5 % of a frame).
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import KEPT_EVERY_S, MIN_VISIBLE_FRACTION, Footage
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rooms.scene import Scene

UNKNOWN = "what the shown frames show is unknown"
UNSEEN = "object in no shown frame"
SMALL = "an object of the category is small in all shown frames"


@dataclass(frozen=True)
class Shown:
    """Which frames of a video are shown, and how large an object must be in them.

    Attributes
    ----------
    frames : int
        How many.
    least_share : float
        Share of the picture that an object fills in at least one of them.
    sampler : Sampler
        The rule that picks them; it must be that of training or evaluation.
    """

    frames: int
    least_share: float = 0.05
    sampler: Sampler = dataclasses.field(default_factory=Sampler)

    def __post_init__(self) -> None:
        if self.frames < 1 or not MIN_VISIBLE_FRACTION <= self.least_share <= 1:
            raise SpacerError(
                "shown frames",
                kind="rooms.shown-frames",
                got=f"frames {self.frames}, least_share {self.least_share}",
                expected=f"1 frame or more, a share from {MIN_VISIBLE_FRACTION} to 1",
            )


def as_shown(scene: Scene, shown: Shown) -> tuple[Scene, Counter[str]]:
    """The scene with the objects that the shown frames show large enough.

    A category is kept if each of its objects either fills ``least_share`` of a shown
    frame or is in none: of a half-seen one nobody can say whether it counts; such a
    category has a count of 0, so that no question says that it is absent. First-seen
    frames become those among the shown frames. The footage is cut to them. A shown
    frame that was not kept is taken for the nearest kept one, at most a quarter of a
    second away.

    Returns
    -------
    scene : Scene
        Without any object if it is unknown what its frames show.
    left_out : Counter
        Reason → objects left out.
    """
    fates = object_fates(scene, shown)
    left_out = Counter(filter(None, fates))
    rows = _rows(scene, shown)
    if scene.footage is None or not rows:
        return _with_objects(scene, fates, [], None), left_out
    keep = [k for k, fate in enumerate(fates) if not fate]
    footage = dataclasses.replace(
        scene.footage,
        frames=tuple(scene.footage.frames[row] for row in rows),
        poses=scene.footage.poses[rows],
        visible=scene.footage.visible[rows][:, keep],
    )
    return _with_objects(scene, fates, _first(footage), footage), left_out


def object_fates(scene: Scene, shown: Shown) -> list[str]:
    """Why ``as_shown`` leaves out each object; "" for those that it keeps."""
    rows = _rows(scene, shown)
    if scene.footage is None or not rows:
        return [UNKNOWN] * len(scene.instances)
    shares = scene.footage.visible[rows]  # (r, m)
    largest = np.nan_to_num(shares).max(axis=0)
    clear = largest >= shown.least_share
    doubtful = (largest >= MIN_VISIBLE_FRACTION) | np.isnan(shares).any(axis=0)
    small = {
        i.category for k, i in enumerate(scene.instances) if doubtful[k] > clear[k]
    }
    return [
        SMALL if one.category in small else "" if seen else UNSEEN
        for one, seen in zip(scene.instances, clear.tolist(), strict=True)
    ]


def _rows(scene: Scene, shown: Shown) -> list[int]:
    """Rows of the footage that are shown, ascending; each once."""
    if scene.footage is None or not scene.frame_count or not scene.fps:
        return []
    kept = np.array(scene.footage.frames)
    rows = set()
    for frame in shown.sampler.indices(scene.frame_count, shown.frames, scene.fps):
        row = int(np.abs(kept - frame).argmin())
        if abs(kept[row] - frame) <= KEPT_EVERY_S / 2 * scene.fps:
            rows.add(row)
    return sorted(rows)


def _first(footage: Footage) -> list[int | None]:
    """First frame of each object; ``None`` if one before may show it."""
    row = (~(footage.visible < MIN_VISIBLE_FRACTION)).argmax(axis=0)
    unknown = np.isnan(footage.visible[row, np.arange(len(row))])
    return [None if u else footage.frames[r] for r, u in zip(row, unknown, strict=True)]


def _with_objects(
    scene: Scene,
    fates: Sequence[str],
    first_seen: Sequence[int | None],
    footage: Footage | None,
) -> Scene:
    """The scene with some of its objects; counts unlike the boxes remain so."""
    counts, half_seen = dict(scene.object_counts), set()
    kept = []
    for instance, fate in zip(scene.instances, fates, strict=True):
        if not fate:
            kept.append(instance)
            continue
        counts[instance.category] = counts.get(instance.category, 0) - 1
        if fate == SMALL:
            half_seen.add(instance.category)
    counts = {name: count for name, count in counts.items() if count > 0}
    return dataclasses.replace(
        scene,
        instances=tuple(
            dataclasses.replace(instance, first_seen_frame=frame)
            for instance, frame in zip(kept, first_seen, strict=True)
        ),
        object_counts=dict.fromkeys(sorted(half_seen), 0) | counts,
        footage=footage,
    )
