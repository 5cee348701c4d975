"""What a question set should hold: recipes as YAML, checked key by key.

``configs/qa`` has SpaceR's (``sr91k``), Spatial-R1's (``sr``), vsGRPO's
(``vsi100k``), an audit's (``vsibench``) and the embedded default's (``demo``).
"""

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.questions.generators import GENERATORS, Rules

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
        Width of the answer bins that training questions are spread over evenly, in
        the answer's unit; 0 leaves the distribution as it is.
    """

    per_video: int
    target: int | None = None
    flatten_bin: float = 0.0

    def __post_init__(self):
        if self.per_video < 1 or self.flatten_bin < 0 or (self.target or 0) < 0:
            raise SpacerError(
                "recipe task",
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
        ``{question_type: TaskWish}``; types left out are not asked.
    rules : Rules
    scenes : int
        Scenes that the targets refer to; fewer scenes shrink them in proportion.
    redistribute : bool
        What one task cannot supply, the others make up for, so that the sum of the
        targets is reached where candidates allow.
    option_free : bool
        Multiple choice without letters: the answer is the option's words (vsGRPO).
    grid_size : int
        M of the cognitive maps.
    parts : dict
        ``{part: share of physical spaces}``.
    """

    name: str
    source: str
    tasks: dict
    rules: Rules = field(default_factory=Rules)
    scenes: int = 1201
    redistribute: bool = False
    option_free: bool = False
    grid_size: int = 10
    parts: dict = field(default_factory=lambda: {"train": 1.0})

    def __post_init__(self):
        unknown = sorted(set(self.tasks) - set(GENERATORS))
        if unknown or not self.tasks:
            raise SpacerError(
                f"recipe {self.name}: tasks",
                got=", ".join(unknown) or "none",
                expected=", ".join(GENERATORS),
            )
        if self.scenes < 1 or self.grid_size < 1:
            raise SpacerError(
                f"recipe {self.name}",
                got=f"scenes {self.scenes}, grid_size {self.grid_size}",
                expected="1 or more",
            )
        if abs(sum(self.parts.values()) - 1) > 1e-9 or min(self.parts.values()) < 0:
            raise SpacerError(
                f"recipe {self.name}: parts", got=self.parts, expected="a sum of 1"
            )

    @property
    def caps(self):
        """``{question_type: per_video}``."""
        return {task: wish.per_video for task, wish in self.tasks.items()}


def load_recipe(name):
    """A recipe of ``configs/qa`` by name, or a YAML file of your own.

    Raises
    ------
    SpacerError
        For a recipe that is not there, and for unknown or unusable keys, with the
        nearest one that exists.
    """
    if isinstance(name, Recipe):
        return name
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in RECIPES.glob("*.yaml"))
        raise SpacerError(
            "question recipe", got=str(name), expected=f"{', '.join(known)} or a file"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpacerError(f"{path} is not YAML", got=error) from error
    if not isinstance(content, dict) or not isinstance(content.get("tasks"), dict):
        raise SpacerError(f"{path}", got="no tasks", expected="a mapping with tasks")
    tasks = {
        task: _build(TaskWish, wish, f"{path}: {task}")
        for task, wish in content["tasks"].items()
    }
    rules = _build(Rules, content.get("rules") or {}, f"{path}: rules")
    return _build(Recipe, content | {"tasks": tasks, "rules": rules}, str(path))


def _build(kind, values, where):
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if not isinstance(values, dict):
        raise SpacerError(where, got=values, expected="a mapping")
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, 1)
            raise SpacerError(
                f"{where}: unknown key {key}",
                expected=", ".join(fields),
                remedy=f"did you mean {near[0]}?" if near else None,
            )
        default = fields[key].default
        switch, number = isinstance(default, bool), isinstance(default, (int, float))
        fits = isinstance(value, bool if switch else (int, float))
        if number and not (fits and isinstance(value, bool) == switch):
            raise SpacerError(
                f"{where}: {key}", got=repr(value), expected=type(default).__name__
            )
    try:
        return kind(**values)
    except TypeError as error:
        raise SpacerError(where, got=error) from error
