"""Recipes: YAML files that become one frozen, checked ``TrainConfig``.

A recipe may say ``extends: other`` and then states only what differs. Keys nobody
declared are errors that name the nearest declared one, so that a typo cannot train
for a week with a default.
"""

import dataclasses
import difflib
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from spacer_lib.artifacts import PROJECT_ROOT, config_hash, to_jsonable
from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import FRAMES, MODES, PromptStyle, load_template
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.views import VIEWS

RECIPES = PROJECT_ROOT / "configs"
SCHEDULERS = ("constant", "linear", "cosine")
METHODS = ("grpo", "sft", "dpo")
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
DATA_PARTS = ("all", "spatial", "general")
ROOMS = ("grpo", "form")  # of `curriculum.SEEDS`: others ask held-out questions
POSITIONS = ("library", "original")  # keys of `models.rope.POSITION_RULES`


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters in place of full fine-tuning; off at rank 0."""

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    # Regular expression matched to whole module names. A list of names would also
    # hit the vision tower's layers of the same name.
    targets: str = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    four_bit: bool = False  # QLoRA: the frozen weights in NF4; needs bitsandbytes


@dataclass(frozen=True)
class TrainConfig:
    """One SG-RLVR run, or one of its baselines. Defaults are the tiny
    demonstration's; *paper* is SpaceR §5.1 where it speaks and its released script
    where it does not."""

    recipe: str = "tiny"  # what the run is called
    # grpo: SG-RLVR; sft, dpo: `training.baselines`, which draw no rollouts and leave
    # the settings of rollouts and rewards aside.
    method: str = "grpo"
    # Checkpoint folder (also relative to the repository) or hub name.
    # Paper: Qwen2.5-VL-7B-Instruct.
    model_path: str = "checkpoints/tiny_warmstart"
    # Run Python code that comes with a hub checkpoint (Kimi-VL): read it first.
    remote_code: bool = False
    # Question rows as JSON lines; None draws rooms on the spot.
    data_path: str | None = None
    data_part: str = "all"  # of a joint set: all, spatial (SR) or general
    data_rows: int | None = None  # a random subset of so many; smaller ones nest
    # Data sets whose rooms only share names with VSI-Bench's (`rooms.identity`).
    allow_datasets: list = field(default_factory=list)
    view: str = "new"  # camera of drawn rooms: `new` was never demonstrated
    rooms: str = "grpo"  # which rooms are drawn; no room is in two parts
    prompt_mode: str = "tiny"  # of `prompts.messages`
    # What the prompt says about the map's axes (`prompts.user_text`); paper: null.
    map_frame: str | None = "aligned"
    prompt_template: str | None = None  # a file with another system's words
    # Where text goes on after a video (`models.rope`): as the installed transformers
    # numbers, or as published checkpoints were trained.
    positions: str = "library"

    frames: int = 4  # sampled per video; paper: 16
    frame_size: int | None = 56  # square side in pixels; None keeps the video's
    max_pixels: int | None = None  # per frame or image; paper: 128 * 28 * 28
    as_images: bool = False  # frames as single images, for models without video

    num_generations: int = 8  # completions per prompt, G; paper: 8
    prompts_per_step: int = 16  # over all workers; paper: 1 on each of 8 GPUs
    per_device_batch: int | None = None  # completions per forward; None: all at once
    # Compute each prompt of a group once (`training.prefix`): auto, on or off.
    shared_prefix: str = "auto"
    # Packed beside one prompt, at most: fewer need less memory, and more forwards.
    # None: the group, or as much of it as per_device_batch holds.
    completions_per_forward: int | None = None
    max_steps: int = 60  # 0: as many as `epochs` takes
    epochs: float = 1.0  # ignored where max_steps is set; paper: up to 2, script: 1
    num_iterations: int = 1  # updates per batch of rollouts; script: 1

    learning_rate: float = 1e-4  # script: 1e-6
    lr_scheduler: str = "constant"  # script: cosine
    weight_decay: float = 0.0  # script: 0.01
    max_grad_norm: float = 1.0  # script: 5
    beta: float = 0.0  # weight of the KL term, or DPO's β; script: 0.04
    epsilon: float = 0.2  # clip range of Eq. 7; no value printed: PPO's
    epsilon_high: float | None = None  # upper clip range; None: the same
    loss_type: str = "grpo"  # how token losses are averaged, in TRL's words
    importance_level: str = "token"  # of the ratio; sequence: GSPO
    scale_rewards: str = "group"  # advantages over this std: group, batch or none
    # Extra generations a step, at most, in which groups without advantage are asked
    # another question.
    refill: int = 0
    # T-GRPO (Video-R1): a right answer's bonus where ordered frames beat shuffled
    # ones; 0: off. Published: 0.3.
    temporal_bonus: float = 0.0
    # Regular expression searched in parameter names; what it finds stays as it is.
    # Paper: full fine-tuning.
    frozen: str | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)

    temperature: float = 1.0  # of rollouts; script: 1
    top_p: float = 1.0  # script: 0.95
    max_completion_length: int = 128  # tokens; paper: 1024

    reward: RewardConfig = field(default_factory=RewardConfig)

    # DeepSpeed ZeRO 2 or 3; 0: none (DDP on several workers); null: 2 on several
    # workers, none on one. Script: 3
    zero_stage: int | None = None
    offload: str = "none"  # to CPU memory: none, optimizer, or all (ZeRO-3)
    bf16: bool = False
    gradient_checkpointing: bool = False
    gpus: int = 1  # workers wanted on each node; paper: 8
    nodes: int = 1
    needs_gpu: bool = False  # refuse to start on CPU workers
    vllm: str | None = None  # rollouts by vLLM: server or colocate; not for videos
    vllm_server: str = "http://127.0.0.1:8000"

    save_steps: int = 20
    keep_checkpoints: int = 2
    rollouts_per_step: int = 4  # completions written to rollouts.jsonl
    trackers: list = field(default_factory=list)  # beside TensorBoard: wandb, trackio
    seed: int = 0

    def __post_init__(self):
        positive = (
            "frames",
            "prompts_per_step",
            "num_iterations",
            "learning_rate",
            "max_grad_norm",
            "temperature",
            "max_completion_length",
            "gpus",
            "save_steps",
            "keep_checkpoints",
            "epochs",
            "nodes",
        )
        for name in positive:
            self._require(name, getattr(self, name) > 0, "more than 0")
        for name in (
            "frame_size",
            "max_pixels",
            "per_device_batch",
            "data_rows",
            "epsilon_high",
            "completions_per_forward",
        ):
            value = getattr(self, name)
            self._require(name, value is None or value > 0, "more than 0, or null")
        at_least_0 = (
            "max_steps",
            "weight_decay",
            "beta",
            "epsilon",
            "rollouts_per_step",
            "refill",
            "temporal_bonus",
        )
        for name in at_least_0:
            self._require(name, getattr(self, name) >= 0, "0 or more")
        # A group of one has no spread, so no advantage.
        self._require("num_generations", self.num_generations > 1, "2 or more")
        rest = self.num_generations % (self.completions_per_forward or 1)
        self._require(
            "completions_per_forward",
            not rest,
            f"a divisor of num_generations = {self.num_generations}",
        )
        dpo_without = self.method == "dpo" and not self.beta
        self._require("beta", not dpo_without, "more than 0 for DPO, such as 0.1")
        self._require("top_p", 0 < self.top_p <= 1, "in (0, 1]")
        self._require("lora", self.lora.rank >= 0, "a rank of 0 or more")
        no_adapter = self.lora.four_bit and not self.lora.rank
        self._require("lora", not no_adapter, "a rank above 0 for four_bit")
        unfit = self.offload != "none" and not self.zero_stage
        self._require("offload", not unfit, "zero_stage 2 or 3 beside it")
        unfit = self.offload == "all" and self.zero_stage != 3
        self._require("offload", not unfit, "zero_stage 3 beside all")
        unknown = set(self.trackers) - {"wandb", "trackio"}
        self._require("trackers", not unknown, "wandb, trackio")
        try:
            re.compile(self.frozen or "")
        except re.error as error:
            self._require("frozen", False, f"a regular expression ({error})")
        for name, known in (
            ("lr_scheduler", SCHEDULERS),
            ("prompt_mode", MODES),
            ("view", VIEWS),
            ("map_frame", FRAMES),
            ("positions", POSITIONS),
            ("method", METHODS),
            ("loss_type", LOSSES),
            ("data_part", DATA_PARTS),
            ("rooms", ROOMS),
            ("shared_prefix", ("auto", "on", "off")),
            ("importance_level", ("token", "sequence")),
            ("scale_rewards", ("group", "batch", "none")),
            ("zero_stage", (None, 0, 2, 3)),
            ("offload", ("none", "optimizer", "all")),
            ("vllm", (None, "server", "colocate")),
        ):
            expected = ", ".join("null" if k is None else str(k) for k in known)
            self._require(name, getattr(self, name) in known, expected)

    def _require(self, name, holds, expected):
        if not holds:
            raise SpacerError(
                f"setting {name}", got=repr(getattr(self, name)), expected=expected
            )

    @property
    def prompt_style(self):
        """The ``PromptStyle`` of this run; reads the template."""
        path = self.prompt_template
        if path is not None and not Path(path).exists():
            path = PROJECT_ROOT / path
        return PromptStyle(
            self.prompt_mode,
            self.reward.grid_size,
            self.map_frame,
            load_template(path) if path else None,
        )

    @property
    def video_settings(self):
        """The ``VideoSettings`` of this run."""
        return VideoSettings(
            self.frames, self.frame_size, self.max_pixels, as_images=self.as_images
        )

    @property
    def completions_per_step(self):
        """Completions that one optimiser step learns from, over all workers; a
        baseline has one a prompt, DPO a pair."""
        group = self.num_generations if self.method == "grpo" else 1
        return self.prompts_per_step * group

    def batch_shape(self, workers):
        """(completions per forward, forwards per step) of one worker.

        Raises
        ------
        SpacerError
            If the step's completions do not divide evenly.
        """
        share, rest = divmod(self.completions_per_step, workers)
        batch = min(self.per_device_batch or share, share)
        if self.method == "grpo" and self.shared_prefix != "off":
            # A forward's activations are kept until its backward: the micro-batch has
            # to shrink with it, or no memory would be saved.
            batch = min(self.completions_per_forward or batch, batch)
        if rest or not share or share % batch:
            raise SpacerError(
                "completions of a step cannot be shared evenly",
                got=f"{self.completions_per_step} from {self.prompts_per_step} prompts "
                f"on {workers} workers, {batch} per forward",
                expected="workers x per_device_batch to divide the completions",
                remedy="change prompts_per_step or per_device_batch",
            )
        return batch, share // batch

    def zero_stage_for(self, workers):
        """The ZeRO stage in use with so many workers; 0: no DeepSpeed."""
        if self.zero_stage is None:
            return 2 if workers > 1 else 0
        return self.zero_stage

    @property
    def hash(self):
        """Twelve hex digits naming this exact run."""
        return config_hash(self)


def load_config(recipe, overrides=()):
    """A recipe, by name or path, with changes on top.

    Parameters
    ----------
    recipe : str or path
        ``tiny`` means ``configs/tiny.yaml``; anything with a suffix is a path.
    overrides : dict or list of str
        ``{"max_steps": 2, "reward.map_weight": 0}`` or ``["max_steps=2"]``.

    Raises
    ------
    SpacerError
        For an unknown recipe or key (naming the nearest), or a wrong type or value.
    """
    values = _read_recipe(recipe)
    values.setdefault("recipe", Path(recipe).stem)
    for key, value in setting_pairs(overrides):
        *parents, last = key.split(".")
        level = values
        for name in parents:
            level = level.setdefault(name, {})
            if not isinstance(level, dict):
                raise SpacerError("setting", got=key, expected=f"{name} has no parts")
        level[last] = value
    return config_from_dict(values)


def config_from_dict(values):
    """Nested plain values → ``TrainConfig``; every key and type is checked."""
    return _build(TrainConfig, values, "")


def dump_config(config):
    """``TrainConfig`` → YAML text that ``load_config`` reads back."""
    return yaml.safe_dump(to_jsonable(config), sort_keys=False)


def recipe_names():
    """Names of the recipes in ``configs/``."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def _read_recipe(recipe, below=()):
    path = Path(recipe)
    if not path.suffix:
        path = RECIPES / f"{recipe}.yaml"
        if not path.exists():
            raise SpacerError(
                "recipe",
                got=recipe,
                expected="a file of configs/, or a path",
                remedy=_nearest(str(recipe), recipe_names()),
            )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpacerError(f"recipe {path}", got=error.strerror) from error
    except yaml.YAMLError as error:
        raise SpacerError(f"recipe {path} is not YAML", got=error) from error
    if not isinstance(values, dict):
        raise SpacerError(f"recipe {path}", got=values, expected="keys and values")
    if "extends" in values:
        name = values.pop("extends")
        if not isinstance(name, str) or path in below:
            raise SpacerError(
                f"recipe {path}: extends", got=name, expected="another recipe"
            )
        base = _read_recipe(name, (*below, path))
        base.pop("recipe", None)
        values = _merge(base, values)
    return values


def _merge(base, changes):
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def setting_pairs(overrides):
    """``{key: value}`` or ``["key=value", …]`` → pairs, values read as YAML."""
    if isinstance(overrides, dict):
        return list(overrides.items())
    pairs = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise SpacerError("setting", got=text, expected="key=value")
        pairs.append((key.strip(), yaml.safe_load(value)))
    return pairs


def _build(kind, values, prefix):
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise SpacerError(
                "unknown setting",
                got=f"{prefix}{key}",
                remedy=_nearest(key, names),
            )
    built = {key: _check(hints[key], v, f"{prefix}{key}") for key, v in values.items()}
    return kind(**built)


def _check(hint, value, name):
    """``value`` as ``hint``; ints pass as floats, and so does YAML's ``1e-4``."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise SpacerError(f"setting {name}", got=repr(value), expected="key: value")
        return _build(hint, value, f"{name}.")
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in kinds and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-4, without a dot, as text
        except ValueError:
            pass  # reported below with the value as it was given
    if hint is str and isinstance(value, bool):
        return "on" if value else "off"  # YAML 1.1 reads these words as booleans
    if type(value) not in kinds:
        raise SpacerError(
            f"setting {name}",
            got=repr(value),
            expected=" or ".join(getattr(k, "__name__", str(k)) for k in kinds),
        )
    return value


def _nearest(name, names):
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.3)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"
