"""The README of a trained model: how it was trained and how to load it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from spacer_lib.markup import markdown_code, markdown_text
from spacer_lib.models.checkpoints import find_checkpoint
from spacer_lib.training.recipe import TrainConfig
from spacer_lib.training.record import meaning_of

METHODS = {
    "grpo": "SG-RLVR: GRPO with map-aware verifiable rewards",
    "sft": "supervised fine-tuning on responses",
    "dpo": "DPO with corrupted answers as rejected",
}
# Metrics of the last steps that the card shows; the run folder has all.
SHOWN = (
    "loss",
    "kl",
    "entropy",
    "reward",
    "rewards/",
    "map_",
    "completions/mean_",
    "frac_reward_zero_std",
    "mean_token_accuracy",
)

_BODY = """\
# {name}

{method}, started from {base}{adapter}. Made with spacer-lib at commit `{commit}`\
{dirty}.

## Training

| | |
|---|---|
| recipe | {recipe} (configuration `{config_hash}`) |
| optimiser steps | {steps}, in {seconds:.0f} s on {workers} {device} |
| data | {data} |
| rows | {rows} (part: {part}), sha256 `{sha256}` |
{settings}

Means over the last {last} steps, from sampled training batches:

| metric | mean | |
|---|---|---|
{metrics}

## Versions

{versions}

## Loading

```python
{loading}
```

{positions}

## Not evaluated

The numbers above come from training batches. Training asks no held-out questions and no
benchmark, and checks nothing but the rewards named here. `run.json` beside the model's
folder holds the whole record.
"""


_ADAPTED = ", a LoRA adapter of rank {} merged into it (and alone in `adapter/`)"


def model_card(config: TrainConfig, run: Mapping[str, Any]) -> ModelCard:
    """The model card of a finished run.

    Parameters
    ----------
    config : TrainConfig
    run : dict
        The content of ``run.json``; every number comes from it.
    """
    local = Path(find_checkpoint(config.model_path)).is_dir()
    base = Path(config.model_path).name if local else config.model_path
    data = ModelCardData(
        base_model=None if local else base,  # a hub id or nothing
        library_name="transformers",
        pipeline_tag="video-text-to-text",
        tags=["spatial-reasoning", "trl", config.method],
    )
    packages = run["provenance"]["packages"]
    commit = run["provenance"]["commit"]
    body = _BODY.format(
        name=markdown_text(config.recipe),
        method=METHODS[config.method],
        base=markdown_code(base),
        adapter=_ADAPTED.format(config.lora.rank) if config.lora.rank else "",
        commit=commit.removesuffix("-dirty"),
        dirty=" plus uncommitted changes" * commit.endswith("-dirty"),
        recipe=markdown_code(config.recipe),
        config_hash=run["config_hash"],
        steps=run["steps"],
        seconds=run["seconds"],
        workers=run["workers"],
        device=markdown_text(run["device"]),
        data=markdown_text(Path(run["dataset"]["path"]).name),
        rows=run["dataset"]["rows"],
        part=markdown_text(run["dataset"]["part"]),
        sha256=run["dataset"]["sha256"],
        settings=_table(_settings(config)),
        last=run["last_steps"]["steps"],
        metrics=_table(_metrics(run["last_steps"]["metrics"])),
        versions=", ".join(f"{name} {v}" for name, v in packages.items()),
        loading=_loading(config),
        positions=_positions(config, packages),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def _settings(config: TrainConfig) -> Iterator[tuple[Any, ...]]:
    yield "prompts a step", config.prompts_per_step
    yield "learning rate", f"{config.learning_rate:g}, {config.advanced.lr_scheduler}"
    yield "frames of a video", config.frames
    yield "prompt", f"`{config.prompt_mode}`"
    if config.method != "sft":
        yield "β", f"{config.beta:g}"
    if config.method == "grpo":
        reward, window = config.reward, config.reward.length_window
        yield "completions a prompt", config.num_generations
        loss, scale = config.advanced.loss_type, config.advanced.scale_rewards
        yield "loss", f"`{loss}`, advantages over `{scale}`"
        yield "format reward", f"{reward.format_weight:g}"
        map_rule = f"gate `{reward.map_gate}`, scorer `{reward.map_scorer}`"
        yield "map reward", f"{reward.map_weight:g} x score, {map_rule}"
        yield "length reward", f"{reward.length_bonus:g} in {window}" if window else 0
        for name in reward.added:
            yield f"{name} reward", f"{getattr(reward, f'{name}_weight'):g} x score"


def _metrics(means: Mapping[str, float]) -> Iterator[tuple[Any, ...]]:
    for key, mean in means.items():
        if key.startswith(SHOWN):
            yield markdown_code(key), f"{mean:.4g}", meaning_of(key) or ""


def _loading(config: TrainConfig) -> str:
    lines = [
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        'folder = "."  # this one',
        "model = AutoModelForImageTextToText.from_pretrained(folder)",
        'processor = AutoProcessor.from_pretrained(folder, padding_side="left")',
    ]
    if config.advanced.positions == "original":
        lines[1:1] = [
            "from spacer_lib.models.patches.rope import use_original_positions"
        ]
        lines += ["use_original_positions(model)"]
    return "\n".join(lines)


_POSITIONS = {
    "original": "Text after a video starts at the video's largest position plus one, "
    "as Qwen2.5-VL was published. The rule is not part of the weights: without the "
    "last line above, transformers 5.3 and later give the text other positions than in "
    "training, without an error.",
    "library": "Text after a video has the positions of transformers {transformers}. "
    "The rule is not part of the weights: a version with another rule gives the model "
    "positions that it was not trained on, without an error.",
}


def _positions(config: TrainConfig, packages: Mapping[str, str]) -> str:
    return _POSITIONS[config.advanced.positions].format(**packages)


def _table(rows: Iterable[Sequence[Any]]) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
