"""Recipes: the papers' numbers, one by one, and ablations that change one thing."""

import dataclasses
import operator
import re

import pytest

from spacer_lib.evaluation.config import CONFIGS, load_evaluation
from spacer_lib.rewards.config import PRESETS
from spacer_lib.settings import setting_names
from spacer_lib.training.recipe import (
    RECIPES,
    dump_config,
    load_config,
    recipe_names,
)

QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
VSGRPO = {
    "prompt_mode": "think",
    "data_path": "data/vsi100k/train.jsonl",  # §4.1
    "num_generations": 14,
    "temperature": 1.0,
    "beta": 1e-4,  # §4.2
    "model_path": "Qwen/Qwen2-VL-2B-Instruct",
    "learning_rate": 1e-5,  # §4.2
}
# As printed, of each base recipe; `reward` names the preset it must equal.
PUBLISHED = {
    "spacer_7b": {
        # §5.1: base model, completions, tokens, frames, resolution, device batch of 1
        "model_path": QWEN,
        "num_generations": 8,
        "max_completion_length": 1024,
        "frames": 16,
        "max_pixels": 128 * 28 * 28,
        "gpus": 8,
        "prompts_per_step": 8,
        # script
        "learning_rate": 1e-6,
        "advanced.lr_scheduler": "cosine",
        "advanced.weight_decay": 0.01,
        "beta": 0.04,
        "advanced.max_grad_norm": 5.0,
        "temperature": 1.0,
        "top_p": 0.95,
        "zero_stage": 3,
        "bf16": True,
        "advanced.gradient_checkpointing": True,
        "epochs": 1.0,
        "advanced.num_iterations": 1,
        "advanced.temporal_bonus": 0.0,
        "reward": "spacer-paper",
        "advanced.loss_type": "grpo",
        "advanced.positions": "original",
        "advanced.map_frame": None,
    },
    "spacer_7b_released": {
        "reward": "spacer-released",
        "advanced.temporal_bonus": 0.3,
        "advanced.kl_limit": 10,
    },
    "spacer_3b": {"model_path": "Qwen/Qwen2.5-VL-3B-Instruct"},  # App. C.6
    "spacer_kimi": {
        "model_path": "moonshotai/Kimi-VL-A3B-Thinking",
        "frames": 16,  # Table 3
        "advanced.remote_code": False,
        "advanced.as_images": True,
    },
    "spatial_r1_7b": {
        "model_path": QWEN,
        "data_path": "data/sr/train.jsonl",  # §1, §2
        "reward": "spatial-r1",
        "prompt_mode": "think",  # §3
        # script
        "learning_rate": 1e-6,
        "advanced.lr_scheduler": "cosine",
        "advanced.weight_decay": 0.01,
        "beta": 0.04,
        "advanced.max_grad_norm": 5.0,
        "epochs": 2.0,
        "num_generations": 8,
        "max_completion_length": 1024,
        "gpus": 8,
        "zero_stage": 3,
        "save_steps": 500,
    },
    "sft_7b": {  # SFT script
        "method": "sft",
        "model_path": QWEN,
        "learning_rate": 1e-6,
        "zero_stage": 2,
        "epochs": 1.0,
        "advanced.max_grad_norm": 5.0,
        "gpus": 8,
        "prompts_per_step": 8 * 1 * 2,
        "bf16": True,
        "advanced.gradient_checkpointing": True,
    },
    "vsgrpo_2b_think": {**VSGRPO, "reward": "vsgrpo-think"},
    "vsgrpo_2b_observe": {
        **VSGRPO,
        "reward": "vsgrpo-observe",
        "prompt_mode": "observe",
    },
    "vsgrpo_2b_vanilla": {
        **VSGRPO,
        "reward": "vsgrpo-vanilla",
        "prompt_mode": "vanilla",
    },
    "vsgrpo_7b_vanilla": {
        **VSGRPO,
        "reward": "vsgrpo-vanilla",
        "prompt_mode": "vanilla",
        "model_path": "Qwen/Qwen2-VL-7B-Instruct",
        "learning_rate": 5e-6,
    },
}
SEVEN = {"model_path": "Qwen/Qwen2-VL-7B-Instruct", "learning_rate": 5e-6}
# recipe: (the one it is compared with, all that it changes)
ABLATIONS = {
    "tiny_no_map": ("tiny", {"reward.map_weight": 0.0}),
    "tiny_beta": ("tiny", {"beta": 1e-4}),
    "tiny_consistency": ("tiny", {"reward.consistency_weight": 2.0}),
    "tiny_assertions": ("tiny", {"reward.assertions_weight": 2.0}),
    "tiny_counterfactual": ("tiny", {"advanced.counterfactual_bonus": 2.0}),
    "tiny_relations": (
        "tiny",
        {"reward.map_weight": 0.0, "reward.relations_weight": 8.0},
    ),
    "grpo_no_map": (
        "spacer_7b",
        {"prompt_mode": "think", "reward.map_gate": "off"},
    ),  # Table 2, and the next three
    "spacer_7b_no_general": ("spacer_7b", {"data_part": "spatial"}),
    "spacer_7b_no_sr": ("spacer_7b", {"data_part": "general"}),
    "spacer_7b_no_length": ("spacer_7b", {"reward.length_window": None}),
    "spacer_7b_released": (
        "spacer_7b",
        {
            "advanced.temporal_bonus": 0.3,
            "reward.map_gate": "released",
            "reward.length_window": (320, 512),
            "reward.length_rule": "released",
            "reward.code": "spacer",
            "advanced.kl_limit": 10,
        },
    ),
    "spacer_7b_video_r1": (
        "spacer_7b",
        {"model_path": "Video-R1/Qwen2.5-VL-7B-COT-SFT"},
    ),  # Table 3
    "spacer_3b": ("spacer_7b", {"model_path": "Qwen/Qwen2.5-VL-3B-Instruct"}),
    "spacer_3b_lora": (
        "spacer_3b",
        {
            "gpus": 1,
            "zero_stage": 0,
            "data_rows": 5000,
            "prompts_per_step": 4,
            "frames": 8,
            "max_completion_length": 512,
            "save_steps": 50,
            "learning_rate": 1e-5,
            "lora.rank": 16,
            "reward.length_window": (180, 256),
        },
    ),
    "spacer_kimi": (
        "spacer_7b",
        {
            "model_path": "moonshotai/Kimi-VL-A3B-Thinking",
            "advanced.as_images": True,
            "advanced.positions": "library",
            "per_device_batch": 1,
        },
    ),
    **{
        f"spacer_7b_map{size}": (
            "spacer_7b",
            {
                "reward.grid_size": size,
                "data_path": f"data/spacer151k_map{size}/train.jsonl",
            },
        )
        for size in (5, 15, 20)
    },  # Table 6
    **{
        f"spacer_7b_data{k}k": ("spacer_7b", {"data_rows": 1000 * k})
        for k in (5, 10, 15, 20, 30)
    },  # Figure 7
    "sft_3b": ("sft_7b", {"model_path": "Qwen/Qwen2.5-VL-3B-Instruct"}),
    "dpo_7b": ("sft_7b", {"method": "dpo", "beta": 0.1, "zero_stage": 3}),
    "vsgrpo_2b_observe": (
        "vsgrpo_2b_think",
        {"prompt_mode": "observe", "reward.shape": "observe"},
    ),
    "vsgrpo_2b_vanilla": (
        "vsgrpo_2b_think",
        {
            "prompt_mode": "vanilla",
            "reward.shape": "vanilla",
            "reward.format_weight": 0.0,
            "max_completion_length": 32,
        },
    ),
    "vsgrpo_2b_think_beta0": ("vsgrpo_2b_think", {"beta": 0.0}),
    **{
        f"vsgrpo_7b_{mode}": (f"vsgrpo_2b_{mode}", SEVEN)
        for mode in ("think", "observe", "vanilla", "sft", "dpo")
    },
    **{
        f"vsgrpo_{size}_{method}": (f"vsgrpo_{size}_vanilla", changes)
        for size in ("2b", "7b")
        for method, changes in (
            ("sft", {"method": "sft"}),
            ("dpo", {"method": "dpo", "beta": 0.1}),
        )
    },
}


def flat(config):
    """``{dotted key: value}`` of a recipe, its name aside."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            inner = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            found |= {f"{field.name}.{name}": v for name, v in inner.items()}
        else:
            found[field.name] = value
    del found["recipe"]
    return found


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_load_and_survive_a_round_trip(name, tmp_path):
    config = load_config(name)
    assert config.recipe == name
    path = tmp_path / f"{name}.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert load_config(path).hash == config.hash


@pytest.mark.parametrize("name", recipe_names())
def test_a_step_divides_among_the_recipes_workers(name):
    """TRL: completions of a step are whole groups, in equal shares."""
    config = load_config(name)
    workers = config.gpus * config.advanced.nodes
    batch, forwards = config.batch_shape(workers)
    assert batch * forwards * workers == config.completions_per_step
    if config.method == "grpo":
        assert batch * forwards * workers % config.num_generations == 0


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("spacer_7b", (8, 1)),  # one prompt on each GPU, its completions together
        ("spacer_kimi", (1, 8)),  # in turn: prompts are not shared
        ("sft_7b", (1, 2)),  # script: batch 1, accumulation 2
        ("vsgrpo_2b_think", (14, 1)),
        ("vsgrpo_2b_sft", (1, 1)),  # one answer a prompt
    ],
)
def test_forwards_of_a_step_are_the_published_ones(name, shape):
    assert load_config(name).batch_shape(workers=8) == shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_hold_the_published_numbers(name):
    config = load_config(name)
    expected = dict(PUBLISHED[name])
    if "reward" in expected:
        expected["reward"] = PRESETS[expected["reward"]]
    found = {key: operator.attrgetter(key)(config) for key in expected}
    assert found == expected


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_and_nothing_else(name):
    base, changes = ABLATIONS[name]
    base, ablated = flat(load_config(base)), flat(load_config(name))
    assert {key: ablated[key] for key in base if ablated[key] != base[key]} == changes
    assert load_config(name).hash != load_config(ABLATIONS[name][0]).hash


def test_each_grid_of_table_6_and_each_subset_of_figure_7_is_there():
    sizes = {load_config(n).reward.grid_size for n in recipe_names() if "_map" in n}
    assert sizes == {5, 10, 15, 20}  # 10: tiny_no_map, grpo_no_map
    rows = sorted(load_config(n).data_rows for n in recipe_names() if "_data" in n)
    assert rows == [5_000, 10_000, 15_000, 20_000, 30_000]


@pytest.mark.parametrize("name", setting_names(CONFIGS))
def test_a_tiny_model_is_evaluated_as_it_was_trained(name):
    recipe, asked = load_config(name), load_evaluation(name)
    assert (asked.mode, asked.frames) == (recipe.prompt_mode, recipe.frames)
    assert (asked.size, asked.max_pixels) == (recipe.frame_size, recipe.max_pixels)
    assert asked.max_new_tokens == recipe.max_completion_length


def test_paper_sizes_refuse_to_start_without_gpus():
    for name in recipe_names():
        small = "tiny" in name
        assert load_config(name).advanced.needs_gpu is not small, name
        one = small or name == "spacer_3b_lora"
        assert (load_config(name).gpus == 1) is one, name


def test_vsgrpo_and_the_middle_tier_train_adapters_and_spacer_all_weights():
    for name in recipe_names():
        adapters = name.startswith("vsgrpo") or name == "spacer_3b_lora"
        assert bool(load_config(name).lora.rank) is adapters, name


def test_the_table_names_every_recipe_and_no_other():
    table = (RECIPES / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line[:3] == "| `"]
    named = re.findall(r"`(\w+)`", " ".join(first))
    assert sorted(named) == recipe_names()
