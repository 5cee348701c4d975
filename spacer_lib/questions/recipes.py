"""What a question set should hold: recipes as YAML.

``configs/qa`` has SpaceR's (``sr91k``), Spatial-R1's (``sr``), vsGRPO's
(``vsi100k``), VSI-Bench's own rules (``vsibench``) and the default of the embedded
demo (``demo``).
"""

import dataclasses
import re
from dataclasses import dataclass, field

from spacer_lib.artifacts import PROJECT_ROOT, PathLike
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.questions.generators import GENERATORS, Rules
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rooms.shown import Shown
from spacer_lib.settings import load_settings

RECIPES = PROJECT_ROOT / "configs" / "qa"


@dataclass(frozen=True)
class TaskWish:
    """What a recipe wants of one question type.

    Attributes
    ----------
    per_video : int
        Most candidates taken from one video.
    target : int or None
        Questions wanted from ``Recipe.scenes`` scenes; ``None``: all candidates.
    flatten_bin : float
        Width of the bins that the answers of training questions are evened out over,
        in the answer's unit; 0 leaves their distribution as it is.
    """

    per_video: int
    target: int | None = None
    flatten_bin: float = 0.0

    def __post_init__(self) -> None:
        if self.per_video < 1 or not self.flatten_bin >= 0 or (self.target or 0) < 0:
            raise SpacerError(
                "recipe task",
                kind="questions.wish-out-of-range",
                got=dataclasses.asdict(self),
                expected="per_video >= 1, target >= 0, flatten_bin >= 0",
            )


@dataclass(frozen=True)
class Recipe:
    """A question set to be made.

    Attributes
    ----------
    name, source : str
    tasks : dict
        Question type → ``TaskWish``. Types left out are not asked.
    rules : Rules
    scenes : int
        Number of scenes that the targets refer to; fewer scenes have smaller targets,
        in proportion.
    redistribute : bool
        Where a question type has too few candidates, others are asked more often, so
        that the sum of the targets is reached if possible.
    option_free : bool
        Multiple choice without letters: the answer is the option's words (vsGRPO).
    grid_size : int
        M of the cognitive maps.
    boxes : bool
        Whether each row also has its room's boxes in metres (``maps.boxes``).
    parts : dict
        Part → share of the physical spaces.
    frames : int or None
        Frames that the model will be shown. Only objects that these show are asked
        about; see ``rooms.shown.as_shown``. ``None``: what frames show is not used.
    least_share : float
        Of a shown frame, that an object must fill in one of them.
    sampler : Sampler or None
        Which frames are shown; ``None``: evenly spaced ones.
    """

    name: str
    source: str
    tasks: dict[str, TaskWish]
    rules: Rules = field(default_factory=Rules)
    scenes: int = 1201
    redistribute: bool = False
    option_free: bool = False
    grid_size: int = 10
    boxes: bool = False
    parts: dict[str, float] = field(default_factory=lambda: {"train": 1.0})
    frames: int | None = None
    least_share: float = 0.05
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise SpacerError(
                f"recipe {self.name}: tasks",
                kind="questions.no-task",
                got="none",
                expected=f"one or more of {', '.join(GENERATORS)}",
            )
        for task in self.tasks:
            if task not in GENERATORS:
                raise SpacerError(
                    f"recipe {self.name}: question type",
                    kind="questions.unknown-type",
                    got=task,
                    remedy=nearest(task, GENERATORS),
                )
        if self.scenes < 1 or self.grid_size < 1:
            raise SpacerError(
                f"recipe {self.name}",
                kind="questions.recipe-out-of-range",
                got=f"scenes {self.scenes}, grid_size {self.grid_size}",
                expected="1 or more of both",
            )
        for part in self.parts:
            if not re.fullmatch(r"\w[\w-]*", part):
                raise SpacerError(
                    f"recipe {self.name}: name of a part",
                    kind="questions.part-name",
                    got=repr(part)[:80],
                    expected="letters, digits, _ and -, since it names a file",
                )
        _ = self.shown  # refuses unusable values
        shares = list(self.parts.values())
        if not abs(sum(shares) - 1) <= 1e-9 or min(shares) < 0:
            raise SpacerError(
                f"recipe {self.name}: shares of the parts",
                kind="questions.shares",
                got=self.parts,
                expected="a sum of 1, none negative",
            )

    def wanted(self, scenes: int) -> dict[str, int | None]:
        """Questions of each type that are asked for about so many scenes.

        Parameters
        ----------
        scenes : int

        Returns
        -------
        dict
            Type → number; ``None``: all candidates.
        """
        scale = min(1.0, scenes / self.scenes)
        return {
            task: None if wish.target is None else round(wish.target * scale)
            for task, wish in self.tasks.items()
        }

    @property
    def shown(self) -> Shown | None:
        """What the model is shown; ``None``: not said."""
        if self.frames is None:
            return None
        return Shown(self.frames, self.least_share, self.sampler or Sampler())

    @property
    def caps(self) -> dict[str, int]:
        """Question type → ``per_video``."""
        return {task: wish.per_video for task, wish in self.tasks.items()}


def load_recipe(name: Recipe | PathLike) -> Recipe:
    """A recipe of ``configs/qa`` by name, or of a YAML file by path.

    Raises
    ------
    SpacerError
        For a recipe that does not exist, and for unknown keys and unusable values,
        with the nearest name that exists.
    """
    if isinstance(name, Recipe):
        return name
    return load_settings(Recipe, name, RECIPES, what="question recipe")
