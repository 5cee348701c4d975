"""GPU memory that a run will need, counted before it starts.

Weights, gradients and optimiser state follow from numbers of parameters. Activations
are those of one micro-batch with answers of full length, so most runs take less.
``training.memory`` measures instead.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.models.shapes import Sizes, Stack
from spacer_lib.training.recipe import TrainConfig

GIB = 2**30
OVERHEAD = 1.0 * GIB  # CUDA's context, workspaces of its libraries, gaps between blocks
NF4 = 0.516  # bytes of a 4-bit weight, with its twice quantised scales
TILE = 4096, 32768  # tokens, words: what TRL's fused head computes at once
LIVE = 1e9  # gathered parameters that ZeRO-3 holds at once: DeepSpeed's default
ROOM = 128  # tokens by which the cache of a generation grows


@dataclass(frozen=True)
class GpuNeeds:
    """Memory of the fullest GPU; see the module.

    Attributes
    ----------
    held : dict
        ``{part: bytes}`` of what is there at all times: weights, reference, optimiser.
    update, generation : dict
        ``{part: bytes}`` that come on top in each phase; no generation for baselines.
    engine : float
        Share of the GPU's memory that a vLLM engine in the process takes.
    sleeps : bool
        Whether the engine gives it back during updates.
    """

    held: Mapping[str, float]
    update: Mapping[str, float]
    generation: Mapping[str, float]
    engine: float = 0.0
    sleeps: bool = True

    @property
    def state(self) -> float:
        """Bytes of ``held``: no smaller batch or shorter answer changes them."""
        return sum(self.held.values())

    def phases(self) -> dict[str, float]:
        """``{phase: bytes}``, a vLLM engine's share included."""
        found = {}
        for name, parts in (("update", self.update), ("generation", self.generation)):
            share = self.engine if name == "generation" or not self.sleeps else 0
            if parts:
                found[name] = (self.state + sum(parts.values())) / (1 - share)
        return found

    @property
    def peak(self) -> float:
        """Bytes in the fullest phase."""
        return max(self.phases().values())

    def lines(self) -> list[str]:
        """The lines that a start prints."""
        phases = " and ".join(f"{_gib(v)} in {k}" for k, v in self.phases().items())
        parts = {**self.held, **self.generation, **self.update}
        shown = ", ".join(f"{k} {v / GIB:.1f}" for k, v in parts.items() if v)
        return [
            f"predicted memory of each GPU: at most {phases}",
            f"of these GiB: {shown}",
        ]


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def gpu_needs(
    config: TrainConfig, workers: int, sizes: Sizes, video: int, text: int
) -> GpuNeeds:
    """Memory that each of a recipe's processes needs on its GPU.

    Parameters
    ----------
    config : TrainConfig
    workers : int
        Processes, over all nodes.
    sizes : Sizes
        Of its model.
    video, text : int
        Tokens of a prompt's video, and its others.
    """
    held, gradients = _held(config, workers, sizes)
    prompt = video + text
    activations, logits = _activations(config, workers, sizes, prompt, video)
    stage, byte = config.zero_stage_for(workers), _byte(config, workers)
    gathered = byte * min(LIVE, sizes.layers) if stage == 3 else 0
    update = {
        "gradients": gradients,
        "activations": activations,
        "logits": logits,
        "gathered weights": gathered,
        "CUDA": OVERHEAD,
    }
    generation: dict[str, float] = {}
    if config.method == "grpo":
        generation = _generation(config, workers, sizes, prompt)
        if stage == 3:
            generation["weights gathered for generation"] = byte * sizes.all
    engine = config.advanced.vllm == "colocate"
    share = config.advanced.vllm_memory if engine else 0.0
    return GpuNeeds(held, update, generation, share, config.advanced.vllm_sleep)


def require_gpu_memory(needs: GpuNeeds, card: float) -> str | None:
    """Refuse a GPU that cannot hold a run; a warning if it may be too small.

    Parameters
    ----------
    needs : GpuNeeds
    card : float
        Bytes of the smallest GPU.

    Returns
    -------
    str or None
        The warning, in a line.

    Raises
    ------
    SpacerError
        If weights and optimiser alone are larger.
    """
    if needs.state > card:
        raise SpacerError(
            "the GPU's memory",
            kind="training.gpu-too-small",
            got=_gib(card),
            expected=f"{_gib(needs.state)} for weights and optimiser alone",
            remedy="set lora.rank=16, take a smaller model, more GPUs with "
            "zero_stage=3, or the recipe spacer_3b_lora, which is made for one GPU",
        )
    if needs.peak <= card:
        return None
    return (
        f"WARNING: the GPU has {_gib(card)}, and {_gib(needs.peak)} are predicted: if "
        "it runs out, lower advanced.completions_per_forward, frames, "
        "prompts_per_step or max_completion_length"
    )


# ---------------------------------------------------------------- parts


def _byte(config: TrainConfig, workers: int) -> int:
    """Bytes of a weight, as ``start.load_start`` loads them."""
    half = config.bf16 and (config.zero_stage_for(workers) or config.lora.rank)
    return 2 if half else 4


def _held(
    config: TrainConfig, workers: int, sizes: Sizes
) -> tuple[dict[str, float], float]:
    """What is always there, and the bytes of gradients."""
    stage, byte = config.zero_stage_for(workers), _byte(config, workers)
    offload = config.advanced.offload
    spread = workers if stage else 1  # ZeRO gives each process a part
    weights: float = byte * sizes.all
    if config.lora.four_bit:
        linear = sizes.layers + sizes.tower
        weights = NF4 * linear + 2 * (sizes.all - linear)
    weights /= workers if stage == 3 else 1
    # PEFT keeps adapters in fp32; DeepSpeed has fp32 masters and casts them.
    learns = byte if stage else 4
    adapter = learns * sizes.adapter
    apart = config.beta and config.method != "sft" and not config.lora.rank
    state = (12 if stage else 8) * sizes.trainable / spread
    gradients = learns * sizes.trainable / spread
    if stage and offload == "none":
        gradients += 4 * sizes.trainable / spread  # in fp32, while the step is made
    if not stage and workers > 1:
        gradients *= 2  # DDP's buckets
    held = {
        "weights": 0 if offload == "all" else weights,
        # Autocast's bf16 copies of fp32 weights.
        "bf16 copies": 2 * sizes.all if config.bf16 and byte == 4 else 0,
        "adapters": adapter,
        "reference": weights if apart else 0,
        "optimiser": state if offload == "none" else 0,
    }
    return held, gradients


def _activations(
    config: TrainConfig, workers: int, sizes: Sizes, prompt: int, video: int
) -> tuple[float, float]:
    """Bytes that a micro-batch keeps for its backward pass, and those of its head."""
    grpo, advanced = config.method == "grpo", config.advanced
    rows, _ = config.batch_shape(workers)
    answer = config.max_completion_length
    prompts, forwards = rows, 1
    if grpo and advanced.shared_prefix != "off":
        prompts = math.ceil(rows / config.num_generations)
        forwards = math.ceil(prompts / advanced.groups_per_forward)
    rows *= 2 if config.method == "dpo" else 1
    positions = max(prompts, rows if not grpo else 0) * prompt + rows * answer
    byte = 2 if config.bf16 else 4
    again, tuned = advanced.gradient_checkpointing, bool(config.lora.rank)
    patches = 4 * video * prompts
    kept = 0.0
    for stack, count, adapted in (
        (sizes.text, positions, tuned),
        (sizes.vision, patches, False),
    ):
        layer = byte * layer_numbers(stack, adapted)
        whole, inputs = stack.depth * layer * count, stack.depth * stack.hidden * count
        kept += byte * inputs + layer * count / forwards if again else whole
    tokens, words = TILE
    # Logits and their gradient, in fp32.
    return kept, 2 * 4 * min(tokens, rows * answer) * min(words, sizes.words)


def layer_numbers(stack: Stack, adapted: bool = False) -> int:
    """Numbers that a layer keeps of each token for its backward pass.

    Four tensors of its inner width, about twelve of the model's width, and two more
    with adapters (tests/training/test_needs.py counts them).
    """
    return (14 if adapted else 12) * stack.hidden + 4 * stack.inner


def _generation(
    config: TrainConfig, workers: int, sizes: Sizes, prompt: int
) -> dict[str, float]:
    """Bytes of keys and values, of the prompts' forward, and of noise and scores."""
    found = {"CUDA": OVERHEAD}
    if config.advanced.vllm:
        return found  # the engine's, or the server's
    rows = math.ceil(config.completions_per_step / workers)
    shared = config.advanced.shared_prefix != "off"
    prompts = math.ceil(rows / config.num_generations) if shared else rows
    byte = 2 if config.bf16 else 4
    length = prompt + math.ceil(config.max_completion_length / ROOM) * ROOM
    found["KV cache"] = byte * sizes.cache * rows * length
    wide = 6 * sizes.text.hidden + 2 * sizes.text.inner
    # Scores are sorted for top_p: four tensors in fp32.
    found["prompts"] = byte * wide * prompts * prompt + 16 * rows * sizes.words
    return found
