"""A recipe → a trainer, put together inside each worker process."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rewards.trl import trl_reward_functions
from spacer_lib.rows import Question
from spacer_lib.training.alignment import AlignmentCheck
from spacer_lib.training.controls import control_bonus
from spacer_lib.training.data import training_rows
from spacer_lib.training.packing_check import PackingCheck
from spacer_lib.training.prefix import completions_per_forward
from spacer_lib.training.recipe import TrainConfig
from spacer_lib.training.start import adapt_models, load_start, lora_config
from spacer_lib.training.trainer import VideoGRPOTrainer
from spacer_lib.training.visibility import VisibilityCheck
from spacer_lib.training.vllm_rollouts import rollouts_for

# How a start names what computes packed rows.
PACKED_BY = {
    "sdpa": "",
    "flash_attention_2": ", packed rows by torch's flash attention",
    "flex": ", packed rows by FlexAttention",
}


def common_arguments(
    config: TrainConfig, out_dir: PathLike, workers: int = 1, on_cpu: bool = True
) -> dict[str, Any]:
    """``TrainConfig`` → the keywords that all of TRL's configurations share."""
    batch, accumulation = config.batch_shape(workers)
    return dict(
        output_dir=str(Path(out_dir) / "checkpoints"),
        use_cpu=on_cpu,
        bf16=config.bf16,
        activation_checkpointing=config.advanced.gradient_checkpointing,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.advanced.lr_scheduler,
        weight_decay=config.advanced.weight_decay,
        max_grad_norm=config.advanced.max_grad_norm,
        max_steps=config.max_steps or -1,
        num_train_epochs=config.epochs,
        # A checkpoint between two uses of the same rollouts could not be resumed alike.
        save_steps=-(-config.save_steps // config.advanced.num_iterations)
        * config.advanced.num_iterations,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        seed=config.seed,
    )


def training_arguments(
    config: TrainConfig, out_dir: PathLike, *, workers: int = 1, on_cpu: bool = True
) -> GRPOConfig:
    """``TrainConfig`` → TRL's ``GRPOConfig`` for one of ``workers`` processes."""
    common = common_arguments(config, out_dir, workers, on_cpu)
    batch, forwards = config.batch_shape(workers)
    share, advanced = batch * forwards, config.advanced
    # Groups are refilled whole; a control is asked with every second completion.
    unit = config.num_generations if advanced.refill else 1 + advanced.has_control
    if share % unit:
        raise SpacerError(
            "a worker's share of a step",
            kind="training.cut-groups",
            got=f"{share} completions on each of {workers} workers",
            expected=f"a multiple of {unit}, for advanced.refill or a bonus by control",
            remedy="change prompts_per_step or the number of workers",
        )
    return GRPOConfig(
        **common,
        num_generations=config.num_generations,
        num_iterations=config.advanced.num_iterations,
        max_completion_length=config.max_completion_length,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        beta=config.beta,
        use_bias_correction_kl=False,  # plain k3, as published
        epsilon=config.advanced.epsilon,
        epsilon_high=config.advanced.epsilon_high,
        loss_type=config.advanced.loss_type,
        sapo_temperature_pos=config.advanced.sapo_temperature_pos,
        sapo_temperature_neg=config.advanced.sapo_temperature_neg,
        importance_sampling_level=config.advanced.importance_level,
        scale_rewards=config.advanced.scale_rewards,
    )


def build_trainer(
    config: TrainConfig,
    out_dir: PathLike,
    *,
    workers: int = 1,
    on_cpu: bool = True,
    rows: list[Question] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> VideoGRPOTrainer:
    """Everything of a run put together; call inside each worker process.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path
        Receives ``metrics.jsonl``, ``rollouts.jsonl`` and ``checkpoints/``.
    workers : int
        Number of processes that share the run.
    rows : list of dict, optional
        Instead of ``training_rows(config)``.

    Returns
    -------
    VideoGRPOTrainer
    """
    out_dir = Path(out_dir)
    rows = training_rows(config) if rows is None else rows
    # First: under ZeRO-3 they decide how the model is loaded.
    args = training_arguments(config, out_dir, workers=workers, on_cpu=on_cpu)
    model, processor = load_start(config)
    _set_sampling(model, config)
    pads = [model.config.image_token_id, model.config.video_token_id]
    args.generation_kwargs = {
        # A sampled pad token would ask for visual features that do not exist.
        "suppress_tokens": pads,
        # The noise of `KeyedSampling` makes the largest score a sample; the rest at
        # transformers' defaults, or it warns.
        **{"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50},
    }
    rewards: list[Any] = trl_reward_functions(
        config.reward, tokenizer=processor.tokenizer
    )
    bonus = control_bonus(config)
    rewards += [bonus] if bonus else []
    together, alone = completions_per_forward(config, model, workers)
    trainer = VideoGRPOTrainer(
        model,
        processor,
        rows,
        args=args,
        mode=config.prompt_style,
        video=config.video_settings,
        refill=config.advanced.refill,
        bonus=bonus,
        shared_prefix=together,
        groups_per_forward=config.advanced.groups_per_forward,
        attention=config.advanced.attention,
        decode=config.advanced.decode,
        kl_limit=config.advanced.kl_limit,
        reward_funcs=rewards,
        peft_config=lora_config(config),
        rollouts_path=out_dir / "rollouts.jsonl",
        rollouts_per_step=config.advanced.rollouts_per_step,
        keep_checkpoints=config.advanced.keep_checkpoints,
        callbacks=list(callbacks),
    )
    if trainer.accelerator.is_main_process:
        how = (
            f"for {together} completions at once{PACKED_BY[config.advanced.attention]}"
        )
        if alone:
            how = f"apart for each completion: {alone}"
        print(f"prompts are computed {how}", flush=True)
    trainer.remove_callback(PrinterCallback)
    # First: it may give up packing, by which the visibility check scores.
    trainer.packing_check = PackingCheck(trainer, config.advanced.shared_prefix)
    trainer.add_callback(trainer.packing_check)
    trainer.add_callback(VisibilityCheck(trainer))
    adapt_models(trainer, config.advanced.positions)
    if config.advanced.vllm:
        trainer.vllm = rollouts_for(
            trainer, config, out_dir, workers=workers, on_cpu=on_cpu
        )
        trainer.add_callback(AlignmentCheck(trainer, out_dir / "alignment.jsonl"))
    return trainer


def _set_sampling(model: Any, config: TrainConfig) -> None:
    """Overwrite a checkpoint's own sampling settings.

    Published ones carry a temperature near zero, ``top_k=1`` and a repetition penalty,
    which transformers uses wherever a trainer sets nothing.
    """
    generation = model.generation_config
    generation.do_sample = True
    generation.temperature, generation.top_p = config.temperature, config.top_p
    generation.top_k, generation.repetition_penalty = 0, 1.0
