"""Recipes: YAML files that become one frozen, checked ``TrainConfig``.

A recipe may say ``extends: other`` and then states only what differs. Reading a recipe
imports no torch, so that a misspelt key is reported at once.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from spacer_lib.artifacts import PROJECT_ROOT, PathLike, config_hash, to_jsonable
from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import FRAMES, MODES, PromptStyle, load_template
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.settings import Changes, apply_changes, build, read_yaml, setting_names

RECIPES = PROJECT_ROOT / "configs"
SCHEDULERS = ("constant", "linear", "cosine")
METHODS = ("grpo", "sft", "dpo")
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo")
DATA_PARTS = ("all", "spatial", "general")
ROOMS = ("grpo", "form")  # of ``tiny.curriculum.SEEDS``; the others are for evaluation
POSITIONS = ("library", "original")  # keys of ``models.patches.rope.POSITION_RULES``
ATTENTIONS = ("sdpa", "flash_attention_2", "flex")
DECODES = ("eager", "static", "compiled")
TRACKERS = ("wandb", "trackio")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters in place of full fine-tuning; off at rank 0.

    Examples
    --------
    In a recipe::

        lora: {rank: 16, alpha: 32}

    On the command line: ``--set lora.rank=16``.
    """

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    # Regular expression matched to whole module names. A list of names would also
    # match the vision tower's layers of the same name.
    targets: str = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    four_bit: bool = False  # QLoRA: the frozen weights in NF4; needs bitsandbytes

    def __post_init__(self) -> None:
        _check("lora.rank", self.rank, self.rank >= 0, "0 or more")
        _check("lora.alpha", self.alpha, self.alpha > 0, "more than 0")
        share = self.dropout
        _check("lora.dropout", share, 0 <= share < 1, "0 or more, and less than 1")
        _pattern("lora.targets", self.targets)
        alone = self.four_bit and not self.rank
        _check("lora.four_bit", self.four_bit, not alone, "a lora.rank above 0")


@dataclass(frozen=True)
class AdvancedSettings:
    """Settings that few runs change.

    Examples
    --------
    In a recipe::

        advanced:
          refill: 2
          gradient_checkpointing: true

    On the command line: ``--set advanced.refill=2``.
    """

    # Prompts and media.
    # What the prompt says about the map's axes (`prompts.user_text`); paper: null.
    map_frame: str | None = "aligned"
    prompt_template: str | None = None  # a file with another system's words
    # Where text goes on after a video (`models.patches.rope`): as the installed
    # transformers numbers it, or as published checkpoints were trained.
    positions: str = "library"
    as_images: bool = False  # frames as single images, for models without video
    # Data sets whose rooms only share names with VSI-Bench's (`rooms.identity`).
    allow_datasets: tuple[str, ...] = ()

    # Optimisation.
    # Run Python code that comes with a hub checkpoint (Kimi-VL): read it first.
    remote_code: bool = False
    # Regular expression searched in parameter names; matching parameters stay as they
    # are. Paper: full fine-tuning.
    frozen: str | None = None
    lr_scheduler: str = "constant"  # script: cosine
    weight_decay: float = 0.0  # script: 0.01
    max_grad_norm: float = 1.0  # script: 5
    gradient_checkpointing: bool = False

    # GRPO.
    num_iterations: int = 1  # updates per batch of rollouts; script: 1
    epsilon: float = 0.2  # clip range of Eq. 7; no value printed: PPO's
    # Upper clip range; null: the same. For cispo the largest ratio itself, such as 5.
    epsilon_high: float | None = None
    # Surrogate and mean over tokens, in TRL's words; configs/README.md compares them.
    loss_type: str = "grpo"
    # Of sapo, for advantages above 0 and for all others: its paper's values.
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05
    importance_level: str = "token"  # of the ratio; sequence: GSPO
    # What advantages are divided by: std of the group or the batch; none: Dr. GRPO
    scale_rewards: str = "group"
    # Most extra generations of a step, each of which replaces the questions of
    # zero-advantage groups.
    refill: int = 0
    # T-GRPO (Video-R1): bonus of a right answer if ordered frames beat shuffled ones;
    # 0: off. Published: 0.3.
    temporal_bonus: float = 0.0
    # Bonus of a right answer that changes beside the video of a room where another
    # answer is right (`rewards.counterfactual`); 0: off. Like T-GRPO it draws half as
    # many completions again. A run has one of the two.
    counterfactual_bonus: float = 0.0
    # Compute each prompt of a group once (`training.prefix`): auto, on or off.
    shared_prefix: str = "auto"
    # Most completions packed with one prompt: fewer need less memory, and more
    # forwards. None: the group, or as much of it as per_device_batch holds.
    completions_per_forward: int | None = None
    # Most prompts, each with its completions, in one packed row. More fill a device
    # that short rows leave idle, and need more memory.
    groups_per_forward: int = 1
    # sdpa: torch's. flash_attention_2: of the package flash-attn, in the vision tower
    # and in rows that are not packed; packed rows keep torch's flash attention. flex:
    # packed rows by torch's FlexAttention, all else by sdpa. The last two want a GPU.
    attention: str = "sdpa"
    # Token by token (`models.patches.cache`): eager, a cache that grows; static, of
    # fixed length; compiled, and each token by torch.compile with CUDA graphs.
    decode: str = "eager"
    # Largest log ratio of policy and reference in the KL term; null: no limit.
    kl_limit: float | None = None

    # Processes.
    needs_gpu: bool = False  # refuse to start on CPU workers
    nodes: int = 1
    offload: str = "none"  # to CPU memory: none, optimizer, or all (ZeRO-3)
    # Rollouts by vLLM (`training.vllm_rollouts`): `colocate`, an engine in each
    # worker, or `server`, a `vllm serve` at `vllm_server`.
    vllm: str | None = None
    vllm_server: str = "http://127.0.0.1:8000"
    # Of an engine in a worker: share of the GPU's memory, most tokens of a prompt and
    # its completion (null: the model's), whether memory is released between rollouts,
    # and whether CUDA graphs are left out.
    vllm_memory: float = 0.3
    vllm_length: int | None = None
    vllm_sleep: bool = True
    vllm_eager: bool = False

    # Records.
    keep_checkpoints: int = 2
    rollouts_per_step: int = 4  # completions written to rollouts.jsonl
    trackers: tuple[str, ...] = ()  # besides TensorBoard: wandb, trackio

    def __post_init__(self) -> None:
        _more_than_0(
            self,
            "num_iterations max_grad_norm groups_per_forward keep_checkpoints nodes "
            "sapo_temperature_pos sapo_temperature_neg",
            "advanced.",
        )
        nullable = "epsilon_high completions_per_forward vllm_length kl_limit"
        _more_than_0(self, nullable, "advanced.", ", or null")
        _at_least_0(
            self,
            "weight_decay epsilon rollouts_per_step refill temporal_bonus "
            "counterfactual_bonus",
            "advanced.",
        )
        second = self.counterfactual_bonus if self.temporal_bonus else 0
        _check(
            "advanced.counterfactual_bonus", second, not second, "0 with temporal_bonus"
        )
        _one_of(
            self,
            {
                "map_frame": FRAMES,
                "positions": POSITIONS,
                "lr_scheduler": SCHEDULERS,
                "loss_type": LOSSES,
                "importance_level": ("token", "sequence"),
                "scale_rewards": ("group", "batch", "none"),
                "shared_prefix": ("auto", "on", "off"),
                "offload": ("none", "optimizer", "all"),
                "attention": ATTENTIONS,
                "decode": DECODES,
                "vllm": (None, "server", "colocate"),
            },
            "advanced.",
        )
        # The clip range of the other losses would cap every ratio far below 1.
        cap = self.epsilon_high
        capped = self.loss_type != "cispo" or (cap is not None and cap >= 1)
        _check("advanced.epsilon_high", cap, capped, "1 or more for cispo, such as 5")
        share = self.vllm_memory
        _check("advanced.vllm_memory", share, 0 < share < 1, "between 0 and 1")
        unknown = set(self.trackers) - set(TRACKERS)
        _check("advanced.trackers", self.trackers, not unknown, ", ".join(TRACKERS))
        _pattern("advanced.frozen", self.frozen or "")

    @property
    def has_control(self) -> bool:
        """Whether half as many completions again are drawn as a control."""
        return bool(self.temporal_bonus or self.counterfactual_bonus)


@dataclass(frozen=True)
class TrainConfig:
    """One SG-RLVR run, or one of its baselines.

    The defaults are the tiny demonstration's. *Paper* is SpaceR §5.1, *script* its
    released script.

    Examples
    --------
    In a recipe::

        extends: tiny
        max_steps: 20
        reward: {map_weight: 1.0}

    On the command line: ``--set max_steps=20 --set reward.map_weight=1.0``.
    """

    recipe: str = "tiny"  # what the run is called
    # grpo: SG-RLVR; sft, dpo: `training.baselines`, which have no rollouts and do not
    # use the settings of rollouts and rewards.
    method: str = "grpo"
    # Checkpoint folder (also relative to the repository) or hub name.
    # Paper: Qwen2.5-VL-7B-Instruct.
    model_path: str = "checkpoints/tiny_warmstart"
    data_path: str | None = None  # question rows, JSON lines or Parquet; None: drawn
    data_part: str = "all"  # of a joint set: all, spatial (SR) or general
    # Rows of a random subset, or different rows about drawn rooms; smaller ones nest.
    data_rows: int | None = None
    view: str = "raised"  # camera of drawn rooms; `raised` was never demonstrated
    # Recipe of `configs/qa` whose targets are the shares of the question types about
    # drawn rooms; null: all types of the view alike.
    question_recipe: str | None = None
    rooms: str = "grpo"  # which rooms are drawn; no room is in two parts
    prompt_mode: str = "tiny"  # a key of `prompts.MODES`

    frames: int = 8  # sampled per video; paper: 16
    frame_size: int | None = 56  # square side in pixels; None keeps the video's
    max_pixels: int | None = None  # per frame or image; paper: 128 * 28 * 28

    num_generations: int = 8  # completions per prompt, G; paper: 8
    prompts_per_step: int = 16  # over all workers; paper: 1 on each of 8 GPUs
    per_device_batch: int | None = None  # completions per forward; None: all at once
    max_steps: int = 60  # 0: as many as `epochs` takes
    epochs: float = 1.0  # used only if max_steps is 0; paper: up to 2, script: 1
    learning_rate: float = 1e-4  # script: 1e-6
    beta: float = 0.0  # weight of the KL term, or DPO's β; script: 0.04

    temperature: float = 1.0  # of rollouts; script: 1
    top_p: float = 1.0  # script: 0.95
    max_completion_length: int = 170  # tokens; paper: 1024

    reward: RewardConfig = field(default_factory=RewardConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)

    # DeepSpeed ZeRO 2 or 3; 0: none (DDP on several workers); null: 2 on several
    # workers, none on one. Script: 3
    zero_stage: int | None = None
    bf16: bool = False
    gpus: int = 1  # workers wanted on each node; paper: 8
    save_steps: int = 20
    seed: int = 0
    advanced: AdvancedSettings = field(default_factory=AdvancedSettings)

    def __post_init__(self) -> None:
        _more_than_0(
            self,
            "frames prompts_per_step epochs learning_rate temperature "
            "max_completion_length gpus save_steps",
        )
        nullable = "frame_size max_pixels per_device_batch data_rows"
        _more_than_0(self, nullable, or_null=", or null")
        _at_least_0(self, "max_steps beta")
        _one_of(
            self,
            {
                "method": METHODS,
                "data_part": DATA_PARTS,
                "view": tuple(VIEWS),
                "rooms": ROOMS,
                "prompt_mode": tuple(MODES),
                "zero_stage": (None, 0, 2, 3),
            },
        )
        group, advanced = self.num_generations, self.advanced
        quantised = advanced.vllm if self.lora.four_bit else None
        _check("advanced.vllm", quantised, quantised is None, "null with lora.four_bit")
        # numpy's generators take no others.
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2**32 - 1")
        self._check_attention()
        # In a group of one every advantage is 0.
        _check("num_generations", group, group > 1, "2 or more")
        uneven = group % 2 and advanced.has_control
        _check("num_generations", group, not uneven, "even with a bonus by a control")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]")
        unset = self.method == "dpo" and not self.beta
        _check("beta", self.beta, not unset, "more than 0 for DPO, such as 0.1")
        packed = advanced.completions_per_forward
        _check(
            "advanced.completions_per_forward",
            packed,
            not group % (packed or 1),
            f"a divisor of num_generations = {group}",
        )
        offload, stage = advanced.offload, self.zero_stage
        _check(
            "advanced.offload", offload, offload == "none" or stage, "zero_stage 2, 3"
        )
        unfit = offload == "all" and stage != 3
        _check("advanced.offload", offload, not unfit, "zero_stage 3 for all")

    def _check_attention(self) -> None:
        advanced = self.advanced
        flash = advanced.attention == "flash_attention_2"
        eager = advanced.decode == "eager"
        why = "with attention flash_attention_2"
        _check("bf16", self.bf16, self.bf16 or not flash, f"true {why}")
        _check("advanced.decode", advanced.decode, eager or not flash, f"eager {why}")
        packed = self.method == "grpo" and advanced.shared_prefix != "off"
        _check(
            "advanced.attention",
            advanced.attention,
            packed or advanced.attention != "flex",
            "flex only for packed rows: method grpo, shared_prefix auto or on",
        )

    def asking(self, **decoding: Any) -> AskSettings:
        """How a model of this run is asked; ``decoding`` as of ``AskSettings``."""
        video, length = self.video_settings, self.max_completion_length
        return AskSettings(self.prompt_style, video, length, **decoding)

    @property
    def prompt_style(self) -> PromptStyle:
        """The ``PromptStyle`` of this run; reads the template."""
        path: PathLike | None = self.advanced.prompt_template
        if path is not None and not Path(path).exists():
            path = PROJECT_ROOT / path
        return PromptStyle(
            self.prompt_mode,
            self.reward.grid_size,
            self.advanced.map_frame,
            load_template(path) if path else None,
        )

    @property
    def video_settings(self) -> VideoSettings:
        """The ``VideoSettings`` of this run."""
        return VideoSettings(
            self.frames,
            self.frame_size,
            self.max_pixels,
            as_images=self.advanced.as_images,
        )

    @property
    def completions_per_step(self) -> int:
        """Completions of one optimiser step, over all workers.

        ``num_generations`` per prompt for GRPO, one for SFT, one pair for DPO.
        """
        group = self.num_generations if self.method == "grpo" else 1
        return self.prompts_per_step * group

    def batch_shape(self, workers: int) -> tuple[int, int]:
        """(completions per forward, forwards per step) of one worker.

        Raises
        ------
        SpacerError
            If the step's completions do not divide evenly.
        """
        share, rest = divmod(self.completions_per_step, workers)
        batch = min(self.per_device_batch or share, share)
        if self.method == "grpo" and self.advanced.shared_prefix != "off":
            # A forward's activations are kept until its backward: the micro-batch has
            # to shrink with it, or no memory would be saved.
            batch = min(self.advanced.completions_per_forward or batch, batch)
        if rest or not share or share % batch:
            raise SpacerError(
                "completions of a step cannot be shared evenly",
                kind="training.uneven-shares",
                got=f"{self.completions_per_step} from {self.prompts_per_step} prompts "
                f"on {workers} workers, {batch} per forward",
                expected="workers x per_device_batch to divide the completions",
                remedy="change prompts_per_step or per_device_batch",
            )
        return batch, share // batch

    def zero_stage_for(self, workers: int) -> int:
        """The ZeRO stage in use with ``workers`` processes; 0: no DeepSpeed."""
        if self.zero_stage is None:
            return 2 if workers > 1 else 0
        return self.zero_stage

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name this exact run."""
        return config_hash(self)


def _check(name: str, value: object, holds: object, expected: str) -> None:
    if not holds:
        raise SpacerError(
            f"setting {name}",
            kind="training.setting-value",
            got=repr(value),
            expected=expected,
        )


def _pattern(name: str, text: str) -> None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        _check(name, text[:80], False, f"a regular expression ({error})")


def _more_than_0(
    settings: object, names: str, where: str = "", or_null: str = ""
) -> None:
    for name in names.split():
        value = getattr(settings, name)
        holds = value > 0 if value is not None else bool(or_null)
        _check(where + name, value, holds, f"more than 0{or_null}")


def _at_least_0(settings: object, names: str, where: str = "") -> None:
    for name in names.split():
        value = getattr(settings, name)
        _check(where + name, value, value >= 0, "0 or more")


def _one_of(
    settings: object, known: Mapping[str, Iterable[object]], where: str = ""
) -> None:
    for name, choices in known.items():
        value, choices = getattr(settings, name), tuple(choices)
        expected = ", ".join("null" if c is None else str(c) for c in choices)
        _check(where + name, value, value in choices, expected)


# ---------------------------------------------------------------- from and to YAML


def load_config(recipe: PathLike, overrides: Changes = ()) -> TrainConfig:
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
    values = read_yaml(recipe, RECIPES, what="recipe", own=("recipe",))
    values.setdefault("recipe", Path(recipe).stem)
    apply_changes(values, overrides)
    return config_from_dict(values)


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Nested plain values → ``TrainConfig``; every key and type is checked."""
    return build(TrainConfig, values)


def dump_config(config: TrainConfig) -> str:
    """``TrainConfig`` → YAML text that ``load_config`` reads back."""
    text: str = yaml.safe_dump(to_jsonable(config), sort_keys=False)
    return text


def recipe_names() -> list[str]:
    """Names of the recipes in ``configs/``."""
    return setting_names(RECIPES)
