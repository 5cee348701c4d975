"""Reward settings, and the published systems as presets.

The presets of published systems read answers strictly, so that training also teaches
the asked-for form. ``ours`` reads the same answers as evaluation does.

``ours+consistency`` and its like add one component each. They are ours, as is
``counterfactual``, which needs two completions and is no setting here.

``spacer-paper`` follows SpaceR's text and ``spacer-released`` its code, function by
function (``rewards.released``). In every other preset a bad map never costs a right
answer its task reward.

Source: SpaceR §4.1, §4.2 and §5.1, https://arxiv.org/abs/2504.01805, with its
released code; Spatial-R1 §3, https://arxiv.org/abs/2504.01805v1; vsGRPO §4.2,
https://arxiv.org/abs/2504.00883.
"""

import dataclasses
import math
from dataclasses import dataclass

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.language.answers import GRAMMARS
from spacer_lib.language.tags import SHAPES
from spacer_lib.maps.scores import SCORERS

# Fields of ``RewardBreakdown``: of every system, and of ours that a weight switches on.
COMPONENTS = ("format", "task", "map", "length")
ADDED = ("consistency", "assertions", "boxes", "relations")
CODES = ("ours", "spacer", "random")
GATES = ("paper", "released", "off", "always")
LENGTH_RULES = ("right", "released")
NUMBER_SCORES = ("mra", "mra-11", "relative-cost")


@dataclass(frozen=True)
class RewardConfig:
    """How completions are rewarded. The defaults are SpaceR's.

    Attributes
    ----------
    format_weight : float
        Reward of a well-formed completion. Eq. 5: 1.
    map_weight : float
        Factor of the map score. Eq. 5: 1.
    map_gate : str
        When the map reward counts. ``paper``: task reward = 1 (Eq. 5). ``released``:
        task reward = 1, or mean relative accuracy > 0.5 for a number. ``off``: never.
        ``always``: for any answer.
    map_scorer : str
        One of ``maps.scores.SCORERS``: ``released``, ``paper``, ``decay`` or
        ``aligned``.
    length_window : (int, int) or None
        Least and most tokens that earn the length bonus, both inclusive; ``None``: no
        bonus. Paper: 360 to 512; released code: 320 to 512.
    length_bonus : float
        Released script: 0.2; the paper prints no value.
    grid_size : int
        M of the map. Paper: 10.
    require_map : bool
        Whether the format reward needs a readable map where the question has a true
        one.
    length_rule : str
        Who may earn the length bonus. ``right``: a task reward of 1 (paper, §4.2).
        ``released``: a task reward above 0.1, if two completions of the group have
        one; ``score_batch`` alone knows groups.
    number_score : str
        How a number is judged. ``mra``: mean relative accuracy over ten thresholds
        (SpaceR Eq. 3). ``mra-11``: over Spatial-R1's eleven. ``relative-cost``:
        vsGRPO's. Regression questions keep their own rule.
    shape : str
        One of ``language.tags.SHAPES``: ``think``, ``observe`` or ``vanilla``.
    strict_think : bool
        Whether an empty or template think block loses the format reward.
    read_units : bool
        Whether the unit of a numerical answer is converted to the question's.
    answer_grammar : str
        How the answer tag's content is read. ``strict``: a letter, an option in full,
        an option's text, or one number. ``wide``: also in markup, in a phrase and
        before a note; see ``language.answers``.
    consistency_weight : float
        Factor of ``rewards.consistency``: the answer follows from the drawn map, and
        that map is right. 0: not computed.
    assertions_weight : float
        Factor of ``rewards.assertions``: relations that the thought states.
    boxes_weight : float
        Factor of ``maps.boxes.box_score``. The map block may then hold boxes in metres
        in place of cells.
    relations_weight : float
        Factor of ``maps.relations.relation_score``, of the drawn cells.
    code : str
        ``ours``: as above. ``spacer``: format, answer and map are read and judged as
        SpaceR's released code does (``rewards.released``), and only weights, grid size
        and length settings of this class count. ``random``: a control; the task reward
        is a number in [0, 1) that chance decides, and all others are 0.

    Raises
    ------
    SpacerError
        For a setting out of its range.
    """

    format_weight: float = 1.0
    map_weight: float = 1.0
    map_gate: str = "paper"
    map_scorer: str = "released"
    length_window: tuple | list | None = (360, 512)
    length_bonus: float = 0.2
    grid_size: int = 10
    require_map: bool = False
    length_rule: str = "right"
    number_score: str = "mra"
    shape: str = "think"
    strict_think: bool = False
    read_units: bool = False
    answer_grammar: str = "strict"
    code: str = "ours"
    consistency_weight: float = 0.0
    assertions_weight: float = 0.0
    boxes_weight: float = 0.0
    relations_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.length_window is not None:
            # A recipe holds a list. Equal settings compare equal as tuples.
            object.__setattr__(self, "length_window", tuple(self.length_window))
        added = [f"{name}_weight" for name in ADDED]
        for name in ("format_weight", "map_weight", "length_bonus", *added):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number, 0 or more")
        for name, known in (
            ("map_gate", GATES),
            ("map_scorer", SCORERS),
            ("shape", SHAPES),
            ("length_rule", LENGTH_RULES),
            ("number_score", NUMBER_SCORES),
            ("answer_grammar", GRAMMARS),
            ("code", CODES),
        ):
            self._require(name, getattr(self, name) in known, ", ".join(known))
        self._require("grid_size", self.grid_size > 0, "more than 0")
        window = self.length_window
        ordered = window is None or (
            len(window) == 2
            and all(type(edge) is int for edge in window)
            and 0 <= window[0] <= window[1]
        )
        self._require("length_window", ordered, "two whole numbers, least first")

        if self.added:
            self._require("code", self.code == "ours", "ours, for added parts")
            shut = self.map_gate == "off"
            self._require("map_gate", not shut, "a gate that opens, for added parts")

    @property
    def added(self) -> tuple[str, ...]:
        """Those of ``ADDED`` with a weight above 0."""
        return tuple(n for n in ADDED if getattr(self, f"{n}_weight") > 0)

    @property
    def components(self) -> tuple[str, ...]:
        """``COMPONENTS`` and ``added``: what a reward is the sum of."""
        return COMPONENTS + self.added

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SpacerError(
                f"reward setting {name}",
                kind=f"rewards.invalid-{name.replace('_', '-')}",
                got=repr(getattr(self, name)),
                expected=expected,
            )


_VSGRPO = RewardConfig(
    number_score="relative-cost",  # vsGRPO §4.2: |Δ| over the smaller of the two
    map_gate="off",  # it draws no map
    length_window=None,  # §4.3.3: a length reward was tried and dropped
)
_OURS = RewardConfig(
    map_gate="paper",
    map_scorer="aligned",  # a chance map earns 0, in any of the four frames
    length_window=None,  # length alone earns nothing
    strict_think=True,
    read_units=True,
    answer_grammar="wide",  # a right answer earns its reward as it is written
)
# Weights of 1 are SpaceR's (Eq. 5) and what the other papers print. No preset holds the
# T-GRPO bonus that SpaceR's script adds: it needs rollouts of shuffled frames, see
# ``rewards.trl.tgrpo_bonus``.
PRESETS: dict[str, RewardConfig] = {
    "spacer-paper": RewardConfig(
        map_gate="paper",  # Eq. 5: R_map where R_task = 1
        map_scorer="released",  # Eq. 4 does not say how to pair: as in the code
        length_window=(360, 512),  # §5.1: l_min and l_max
        length_rule="right",  # §4.2: only for a correct answer
        length_bonus=0.2,  # released script; the paper prints no value
    ),
    "spacer-released": RewardConfig(
        map_gate="released",  # numbers: mean relative accuracy > 0.5 is enough
        map_scorer="released",
        length_window=(320, 512),  # not the paper's 360
        length_rule="released",  # two of the group above 0.1
        length_bonus=0.2,
        code="spacer",
    ),
    "spatial-r1": RewardConfig(
        number_score="mra-11",  # Eq. 2: N = (e - s) / δ + 2
        map_gate="off",  # §3 has no map
        length_window=None,  # and no length reward
    ),
    "spatial-r1-released": RewardConfig(
        code="spacer",  # ten thresholds: int(10.999…) of Eq. 2's N
        map_gate="off",
        length_window=(320, 512),  # its script: len_control true; not in the paper
        length_rule="released",
        length_bonus=0.2,
    ),
    "vsgrpo-think": _VSGRPO,
    "vsgrpo-observe": dataclasses.replace(_VSGRPO, shape="observe"),
    "vsgrpo-vanilla": dataclasses.replace(
        _VSGRPO,
        shape="vanilla",
        format_weight=0.0,  # §4.2: omitted
    ),
    "ours": _OURS,
    "ours+consistency": dataclasses.replace(_OURS, consistency_weight=1.0),
    "ours+assertions": dataclasses.replace(_OURS, assertions_weight=1.0),
    "ours+boxes": dataclasses.replace(
        _OURS,
        map_weight=0.0,  # boxes in place of cells
        boxes_weight=1.0,
    ),
    "ours+relations": dataclasses.replace(_OURS, relations_weight=1.0),
}


def get_preset(name: str) -> RewardConfig:
    """The ``RewardConfig`` of that name in ``PRESETS``.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    if name not in PRESETS:
        raise SpacerError(
            "reward preset",
            kind="rewards.unknown-preset",
            got=name,
            expected=", ".join(PRESETS),
            remedy=nearest(name, PRESETS),
        )
    return PRESETS[name]
