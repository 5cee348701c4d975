"""The components that we add to SpaceR's reward: their scores for one completion.

===========  =================================  =============  =======================
component    score in [0, 1]                    paid           does not apply
===========  =================================  =============  =======================
consistency  the answer follows from a right    right answers  the true map does not
             map                                               give the answer
assertions   statements of the thought          gate           no true map
boxes        drawn boxes against true ones      gate           no true boxes
relations    edges of the drawn map's graph     gate           fewer than three
                                                               categories
===========  =================================  =============  =======================

``gate`` is the map's (``RewardConfig.map_gate``). Each score is defined in its own
module: ``rewards.consistency``, ``rewards.assertions``, ``maps.boxes``,
``maps.relations``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from spacer_lib.language.tags import Completion, without_map
from spacer_lib.maps.boxes import BoxReading, box_score, parse_boxes
from spacer_lib.maps.relations import relation_score
from spacer_lib.maps.scores import best_turn
from spacer_lib.rewards.assertions import check_thought
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.consistency import Part, consistency
from spacer_lib.rows import Boxes, CognitiveMap, Question


@dataclass(frozen=True)
class Said:
    """What a completion says, and what is true.

    Attributes
    ----------
    row : Question
        With options and map as lists and dictionaries.
    reading : Completion
    answer : str or None
        As it was read.
    boxes : BoxReading or None
        What the map block holds, where boxes count.
    """

    row: Question
    reading: Completion
    answer: str | None
    boxes: BoxReading | None

    @property
    def map(self) -> CognitiveMap | None:
        """The true map."""
        return self.row.get("map") or None


def read_boxes(reading: Completion, config: RewardConfig) -> BoxReading | None:
    """The boxes in a completion's map block; ``None`` where boxes do not count."""
    if not config.boxes_weight or reading.map_text is None:
        return None
    return parse_boxes(reading.map_text)


def added_parts(config: RewardConfig, said: Said) -> dict[str, Part]:
    """The parts of ``config.added``, in that order, before gate and weight."""
    return {name: _PARTS[name](config, said) for name in config.added}


def _consistency(config: RewardConfig, said: Said) -> Part:
    return consistency(said.answer, said.reading.map, said.row, config.grid_size)


def _assertions(config: RewardConfig, said: Said) -> Part:
    if not said.map:
        return Part(None, "the row has no map")
    if said.reading.think is None:
        return Part(0.0, "no thought")
    quarters = 0
    if config.map_scorer == "aligned" and said.reading.map:
        quarters = best_turn(said.reading.map, said.map, config.grid_size)
    checked = check_thought(
        without_map(said.reading.think),
        said.row,
        said.map,
        said.row.get("boxes"),
        quarters=quarters,
        grid_size=config.grid_size,
    )
    return Part(checked.score, checked.reason)


def _boxes(config: RewardConfig, said: Said) -> Part:
    true: Boxes | None = said.row.get("boxes")
    if not true:
        return Part(None, "the row has none")
    if said.boxes is None or said.boxes.boxes is None:
        return Part(0.0, (said.boxes and said.boxes.failure) or "no map")
    score = box_score(said.boxes.boxes, true)
    return Part(score, f"{score:.3g}")


def _relations(config: RewardConfig, said: Said) -> Part:
    if not said.map:
        return Part(None, "the row has no map")
    score = relation_score(said.reading.map or {}, said.map, config.grid_size)
    if score is None:
        return Part(None, "fewer than three categories")
    return Part(score, f"{score:.3g}" if said.reading.map else "no map")


_PARTS: dict[str, Callable[[RewardConfig, Said], Part]] = {
    "consistency": _consistency,
    "assertions": _assertions,
    "boxes": _boxes,
    "relations": _relations,
}
