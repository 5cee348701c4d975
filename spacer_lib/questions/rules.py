"""Thresholds and choices of the generators: ``Rules``."""

from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.scene import BENCHMARK_AREA

BOXES = ("oriented", "aligned")
DISTANCES = ("sampled", "exact", "centers")
WORDING_NAMES = ("spacer", "vsibench")


@dataclass(frozen=True)
class Rules:
    """Thresholds of the generators; defaults are VSI-Bench's.

    Attributes
    ----------
    min_count : int
        Least number of instances for a counting question.
    abs_distance_min_m : float
        Least absolute distance.
    rel_distance_margin_m : float
        Least distance of the nearest option, and least difference between options.
    rel_distance_options : int
        Number of options.
    rel_distance_rounds : int
        How often new options are drawn for each target.
    direction_min_m, direction_max_m : float
        Allowed distance between any two of the three objects.
    direction_border_deg : float
        Least angle to the border of an answer's sector.
    order_gap_s : float
        Least time between first appearances.
    size_margin : float
        Least excess of the largest object's longest edge, as a share of the next one's.
    route_leg_min_m : float
        Least distance of two objects that a route joins.
    robot_radius_m, robot_height_m, robot_step_m : float
        Of the robot that walks routes: boxes block it that begin below its height and
        are higher than its step.
    camera_move_min_m : float
        Least movement of the camera, and least change of its distance to an object.
    camera_object_min_m : float
        Least distance of the camera from an object.
    view_turn_min_deg : float
        Least turn of the camera; also what it lacks of turning around.
    level_view_min : float
        Least length along the floor of the unit vector of view, for directions.
    visible_share : float
        Of a picture, that an object fills at least if questions say that it is there.
    picture_margin : float
        Least distance, of two places in a picture, as a share of its width.
    smallest_edge_m : float
        Least longest edge of an object in a numerical question.
    shuffle_options : bool
        Draw the position of the right option; otherwise sort options by their text.
    boxes : str
        ``oriented`` (VSI-Bench) or ``aligned`` (Spatial-R1): which box of an instance
        gives its size, distances and centre.
    abs_distance : str
        Between the closest of ``sampled`` points (VSI-Bench), ``exact`` between the
        closest points of the boxes, or between ``centers`` (vsGRPO).
    room_area : str
        Rule of the room's area, a key of ``rooms.area.AREA_RULES``.
    wording : str
        ``spacer`` or ``vsibench``; see ``wording``.
    excluded : tuple of str
        Categories that no question names, beside the structural ones.
    """

    min_count: int = 2
    abs_distance_min_m: float = 0.2
    rel_distance_margin_m: float = 0.15
    rel_distance_options: int = 4
    rel_distance_rounds: int = 1
    direction_min_m: float = 0.3
    direction_max_m: float = 5.0
    direction_border_deg: float = 10.0
    order_gap_s: float = 1.0
    size_margin: float = 0.1
    route_leg_min_m: float = 1.0
    robot_radius_m: float = 0.2
    robot_height_m: float = 1.0
    robot_step_m: float = 0.1
    camera_move_min_m: float = 0.3
    camera_object_min_m: float = 0.3
    view_turn_min_deg: float = 20.0
    level_view_min: float = 0.3
    visible_share: float = 0.005
    picture_margin: float = 0.05
    smallest_edge_m: float = 0.15
    shuffle_options: bool = True
    boxes: str = "oriented"
    room_area: str = BENCHMARK_AREA
    abs_distance: str = "sampled"
    wording: str = "spacer"
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "excluded", tuple(self.excluded))
        for name, known in (
            ("boxes", BOXES),
            ("abs_distance", DISTANCES),
            ("room_area", tuple(AREA_RULES)),
            ("wording", WORDING_NAMES),
        ):
            if getattr(self, name) not in known:
                raise SpacerError(
                    f"rule {name}",
                    kind="questions.unknown-rule-value",
                    got=getattr(self, name),
                    expected=" or ".join(known),
                )
        for name, value in vars(self).items():
            least = 0 if isinstance(value, float) else 1
            if type(value) in (int, float) and not value >= least:
                raise SpacerError(
                    f"rule {name}",
                    kind="questions.rule-too-small",
                    got=value,
                    expected=f"{least} or more",
                )


DEFAULT_RULES = Rules()
