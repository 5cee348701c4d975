"""The private parts of TRL and transformers that training relies on.

Neither library promises to keep these, so an upgrade may break them.
``broken_hooks()`` compares the table with the installed versions and names what
changed; ``tests/training/test_seam.py`` calls it.
"""

import ast
import importlib
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hook:
    """One private part.

    Attributes
    ----------
    owner : str
        ``module:Class``, or ``module`` for a function.
    name : str
    why : str
        What training does with it.
    parameters : tuple of str or None
        That the function must have, in their order; ``None``: an attribute that the
        class sets on itself.
    """

    owner: str
    name: str
    why: str
    parameters: tuple[str, ...] | None = None


GRPO = "trl.trainer.grpo_trainer:GRPOTrainer"
TRAINER = "transformers.trainer:Trainer"
VLLM = "trl.generation.vllm_generation:VLLMGeneration"
UTILS = "trl.trainer.utils"

HOOKS = (
    # Overridden.
    Hook(
        GRPO,
        "_prepare_inputs",
        "overridden: parts of a generation batch, whole groups shuffled",
        ("self", "generation_batch"),
    ),
    Hook(
        GRPO,
        "_generate_and_score_completions",
        "overridden: the generation batch of `step.generation_batch`",
        ("self", "inputs"),
    ),
    Hook(
        GRPO,
        "_compute_loss",
        "overridden: the loss of `step.policy_loss`",
        ("self", "model", "inputs"),
    ),
    Hook(
        GRPO,
        "training_step",
        "extended: seconds and tokens of a step are logged",
        ("self", "model", "inputs", "num_items_in_batch"),
    ),
    Hook(
        GRPO,
        "_get_train_sampler",
        "overridden: the order of rows survives a resume",
        ("self", "dataset"),
    ),
    Hook(
        GRPO,
        "_save_checkpoint",
        "extended: checkpoints are whole or absent",
        ("self", "model", "trial"),
    ),
    Hook(
        TRAINER,
        "_load_from_checkpoint",
        "overridden: Qwen2.5-VL's saved names are not the model's",
        ("self", "resume_from_checkpoint", "model"),
    ),
    Hook(
        TRAINER,
        "_run_epoch",
        "extended: a run resumed from its last step makes no further step",
        ("self",),
    ),
    # Called.
    Hook(VLLM, "_init_vllm", "overridden: no engine of TRL's", ("self",)),
    Hook(
        VLLM,
        "_iter_named_params",
        "called: weights by the names that vLLM knows, gathered and merged",
        ("self",),
    ),
    Hook(VLLM, "sync_weights", "called: weights to a server over NCCL", ("self",)),
    Hook(
        UTILS,
        "split_tensor_dict",
        "called: a generation batch is cut into parts",
        ("tensor_dict", "num_chunks"),
    ),
    Hook(
        UTILS,
        "add_fused_lm_head",
        "relied on: `model(fused_lm_head=True)` returns log_probs and entropy",
        ("model", "temperature", "cast_lm_head_to_fp32", "outputs"),
    ),
    Hook(
        "trl.trainer.utils:RepeatSampler",
        "__init__",
        "called: `sampler.EpochSampler` reseeds its generator at each epoch",
        ("self", "data_source", "mini_repeat_count", "batch_size", "repeat_count"),
    ),
    Hook("trl.trainer.utils:RepeatSampler", "generator", "reseeded at each epoch"),
    Hook(
        "trl.models.utils",
        "unwrap_model_for_generation",
        "called: the bare model, its weights gathered under ZeRO-3",
        ("model", "accelerator", "gather_deepspeed3_params", "generation_kwargs"),
    ),
    Hook(
        "trl.models.utils",
        "disable_gradient_checkpointing",
        "called: old and reference scores need no checkpointing",
        ("model", "gradient_checkpointing_kwargs"),
    ),
    # Read.
    Hook(GRPO, "_step", "read: forwards so far, which TRL counts"),
    Hook(GRPO, "_metrics", "written: metrics, whose means TRL logs"),
    Hook(GRPO, "generation_config", "read: length and suppressed tokens"),
    Hook(GRPO, "generation_kwargs", "read: the same, for ZeRO-3"),
    Hook(GRPO, "eos_token_ids", "read: what ends a completion"),
    Hook(GRPO, "ref_model", "read: the reference, which TRL loads"),
    Hook(GRPO, "reward_funcs", "called on each batch"),
    Hook(GRPO, "reward_func_names", "read: names of the reward components"),
    Hook(GRPO, "aux_loss_enabled", "read: whether experts are balanced"),
    Hook(GRPO, "router_aux_loss_coef", "read: weight of that loss"),
    Hook(GRPO, "epsilon_low", "read: lower clip range"),
    Hook(
        TRAINER,
        "current_gradient_accumulation_steps",
        "read and, for looking at a loss, set: forwards of the step",
    ),
)


def broken_hooks(hooks: tuple[Hook, ...] = HOOKS) -> list[str]:
    """What the installed TRL and transformers no longer offer.

    Returns
    -------
    list of str
        One line for each broken hook: its name, what is wrong, and its use.
    """
    faults = {hook: _fault(hook) for hook in hooks}
    return [
        f"{hook.owner}.{hook.name} {fault} ({hook.why})"
        for hook, fault in faults.items()
        if fault
    ]


def _fault(hook: Hook) -> str | None:
    module, _, kind = hook.owner.partition(":")
    try:
        owner = importlib.import_module(module)
        owner = getattr(owner, kind) if kind else owner
    except (ImportError, AttributeError) as error:
        return f"has no owner: {error}"
    if hook.parameters is None:
        return None if hook.name in _assigned(owner) else "is not set any more"
    function = inspect.getattr_static(owner, hook.name, None)
    if function is None:
        return "is gone"
    there = list(inspect.signature(function).parameters)
    missing = [name for name in hook.parameters if name not in there]
    if missing:
        return f"has no parameter {', '.join(missing)}"
    order = [there.index(name) for name in hook.parameters]
    return None if order == sorted(order) else f"has another order: {', '.join(there)}"


def _assigned(owner: Any) -> set[str]:
    """Names of the attributes that a class sets on ``self``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and getattr(node.value, "id", None) == "self"
    }
