"""Reward settings and the presets of the systems compared here."""

import dataclasses
import math
from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.language.tags import SHAPES
from spacer_lib.maps.scores import SCORERS

GATES = ("paper", "released", "off", "always")
LENGTH_RULES = ("right", "released")
COMPONENTS = ("format", "task", "map", "length")
NUMBER_SCORES = ("mra", "mra-11", "relative-cost")


@dataclass(frozen=True)
class RewardConfig:
    """How completions are rewarded. Defaults are SpaceR's.

    Attributes
    ----------
    format_weight : float
        Reward of a well-formed completion. Eq. 5: 1.
    map_weight : float
        Factor of the map score. Eq. 5: 1.
    map_gate : str
        When the map counts: ``paper``, task reward = 1; ``released``, task reward = 1
        or, for numbers, mean relative accuracy > 0.5; ``off``, never; ``always``.
    map_scorer : str
        One of ``cogmap.SCORERS``: ``released``, ``paper``, ``decay`` or ``aligned``.
    length_window : (int, int) or None
        Least and most tokens, both inclusive, that earn the bonus; ``None``: no
        bonus. Paper: 360 to 512; released code: 320 to 512.
    length_bonus : float
        Released script: 0.2; the paper prints no value.
    grid_size : int
        M of the map. Paper: 10.
    require_map : bool
        Whether the format reward of a row with a map needs a readable map too.
    length_rule : str
        Who may earn the length bonus: ``right``, a task reward of 1 (paper);
        ``released``, one above 0.1, if two completions of the group have that.
        Groups are known to ``score_batch`` alone.
    number_score : str
        How a number is judged: ``mra``, mean relative accuracy over ten thresholds
        (SpaceR Eq. 3); ``mra-11``, over Spatial-R1's eleven; ``relative-cost``,
        vsGRPO's. Regression rows keep their own rule.
    shape : str
        One of ``completions.SHAPES``: ``think``, ``observe`` or ``vanilla``.
    strict_think : bool
        Whether an empty or template think block loses the format reward.
    read_units : bool
        Whether a unit in a numerical answer is converted to the question's.
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

    def __post_init__(self):
        if self.length_window is not None:
            object.__setattr__(self, "length_window", tuple(self.length_window))
        for name in ("format_weight", "map_weight", "length_bonus"):
            value = getattr(self, name)
            self._require(name, 0 <= value < math.inf, "a finite number, 0 or more")
        for name, known in (
            ("map_gate", GATES),
            ("map_scorer", SCORERS),
            ("shape", SHAPES),
            ("length_rule", LENGTH_RULES),
            ("number_score", NUMBER_SCORES),
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

    def _require(self, name, holds, expected):
        if not holds:
            raise SpacerError(
                f"reward setting {name}",
                got=repr(getattr(self, name)),
                expected=expected,
            )


_VSGRPO = RewardConfig(
    number_score="relative-cost",  # vsGRPO §4.2: |Δ| over the smaller of the two
    map_gate="off",  # it draws no map
    length_window=None,  # tried against hacks and dropped: §4.3.3
)
# Weights of 1 are Eq. 5's, and what the others print. T-GRPO's bonus, which SpaceR's
# script adds, needs rollouts of shuffled frames: ``tgrpo_bonus``.
PRESETS = {
    "spacer-paper": RewardConfig(
        map_gate="paper",  # Eq. 5: R_map where R_task = 1
        map_scorer="released",  # Eq. 4 leaves the pairing open: its code's
        length_window=(360, 512),  # §5.1: l_min and l_max
        length_rule="right",  # §4.2: a correct answer alone
        length_bonus=0.2,  # released script; the paper prints no value
    ),
    "spacer-released": RewardConfig(
        map_gate="released",  # numbers: mean relative accuracy > 0.5 is enough
        map_scorer="released",
        length_window=(320, 512),  # not the paper's 360
        length_rule="released",  # two of the group above 0.1
        length_bonus=0.2,
        # Left out: there, a bad map may cost a right answer its task reward.
    ),
    "spatial-r1": RewardConfig(
        number_score="mra-11",  # Eq. 7: N = (e - s) / δ + 2
        map_gate="off",  # no map, and no length reward, in §3
        length_window=None,
    ),
    "vsgrpo-think": _VSGRPO,
    "vsgrpo-observe": dataclasses.replace(_VSGRPO, shape="observe"),
    "vsgrpo-vanilla": dataclasses.replace(
        _VSGRPO,
        shape="vanilla",
        format_weight=0.0,  # §4.2: omitted
    ),
    "ours": RewardConfig(
        map_gate="paper",
        map_scorer="aligned",  # chance earns 0, in whichever frame it was drawn
        length_window=None,  # words are worth nothing by themselves
        strict_think=True,
        read_units=True,
    ),
}


def get_preset(name):
    """The ``RewardConfig`` of that name in ``PRESETS``.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    if name not in PRESETS:
        raise SpacerError("reward preset", got=name, expected=", ".join(PRESETS))
    return PRESETS[name]
