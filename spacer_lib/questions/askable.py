"""Objects of a scene that questions may name."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from spacer_lib.questions.rules import Rules
from spacer_lib.rooms.scene import ObjectInstance, Scene


def askable(scene: Scene, rules: Rules) -> dict[str, list[ObjectInstance]]:
    """Category → instances that may be asked about, with the boxes of the rules."""
    groups = {
        category: instances
        for category, instances in scene.by_category().items()
        if category not in rules.excluded
    }
    if rules.boxes == "oriented":
        return groups
    return {name: [_aligned(i) for i in group] for name, group in groups.items()}


def _aligned(instance: ObjectInstance) -> ObjectInstance:
    low, high = np.array(instance.aabb_min_m), np.array(instance.aabb_max_m)
    return dataclasses.replace(
        instance,
        centroid_m=tuple((low + high) / 2),
        axes_lengths_m=tuple(high - low),
        axes=tuple(np.eye(3).ravel()),
    )


def unique_objects(
    scene: Scene, groups: Mapping[str, Sequence[ObjectInstance]]
) -> dict[str, ObjectInstance]:
    """Category → its only instance, where boxes and ``object_counts`` agree on one."""
    return {
        category: instances[0]
        for category, instances in groups.items()
        if len(instances) == 1 and scene.object_counts.get(category, 0) == 1
    }
