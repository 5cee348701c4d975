"""Recipes: every key and type is checked, and errors name the nearest right key."""

import subprocess
import sys

import pytest
from support import refused

from spacer_lib.notebooks import FOLDER, check_parameters
from spacer_lib.training.recipe import (
    AdvancedSettings,
    TrainConfig,
    config_from_dict,
    load_config,
)


@pytest.mark.parametrize(
    "overrides",
    [
        {"max_steps": 3, "reward.map_weight": 0.5, "learning_rate": 1e-5},
        ["max_steps=3", "reward.map_weight=0.5", "learning_rate=1e-5"],
    ],
)
def test_overrides_reach_nested_keys_and_keep_types(overrides):
    config = load_config("tiny", overrides)
    assert (config.max_steps, config.reward.map_weight) == (3, 0.5)
    assert config.learning_rate == 1e-5 and isinstance(config.learning_rate, float)


@pytest.mark.parametrize(
    ("overrides", "kind", "fact"),
    [
        ({"learning_rat": 1e-5}, "unknown-key", "learning_rate?"),
        ({"reward.map_wieght": 1}, "unknown-key", "map_weight?"),
        # A known key at the wrong level: its place is named.
        ({"refill": 2}, "unknown-key", "advanced.refill?"),
        ({"map_weight": 2}, "unknown-key", "reward.map_weight?"),
        ({"advanced.seed": 2}, "unknown-key", "did you mean seed?"),
        ({"max_steps": "many"}, "wrong-type", "'many'; expected int"),
        ({"max_steps": 2.5}, "wrong-type", "2.5; expected int"),
        ({"learning_rate": "fast"}, "wrong-type", "'fast'; expected float"),
        ({"bf16": 1}, "wrong-type", "1; expected bool"),
        ({"gpus": True}, "wrong-type", "True; expected int"),
        ({"reward": 3}, "wrong-type", "reward"),
        ({"frames": None}, "wrong-type", "frames"),
        ({"seed.deep": 3}, "wrong-type", "seed"),
        ({"max_steps.deep": 3}, "no-parts", "max_steps"),
        ({3: 1}, "no-text-key", "3"),
        (["max_steps"], "no-value", "key=value"),
        (["max_steps=1:30"], "wrong-type", "'1:30'"),
        (["learning_rate=.inf"], "not-finite", "learning_rate"),
        (["learning_rate=.nan"], "not-finite", "learning_rate"),
        (["reward.map_weight=["], "not-yaml", "reward.map_weight"),
        (["seed=" + "[" * 3000], "not-yaml", "seed"),
    ],
)
def test_settings_that_cannot_be_read_are_named(overrides, kind, fact):
    with refused(f"settings.{kind}", says=fact) as caught:
        load_config("tiny", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "fact"),
    [
        ({"gpus": 0}, "gpus: got 0; expected more than 0"),
        ({"data_rows": 0}, "data_rows: got 0; expected more than 0, or null"),
        ({"num_generations": 1}, "2 or more"),
        ({"zero_stage": 1}, "null, 0, 2, 3"),
        ({"temperature": 0}, "temperature: got 0.0"),
        ({"top_p": 1.5}, "in (0, 1]"),
        ({"prompt_mode": "thinking"}, "think_map"),
        ({"view": "odl"}, "new"),
        ({"method": "grop"}, "grpo, sft, dpo"),
        ({"method": "dpo"}, "beta: got 0.0"),
        ({"lora.rank": -1}, "lora.rank: got -1"),
        ({"lora.four_bit": True}, "lora.rank"),
        ({"advanced.lr_scheduler": "cosin"}, "constant, linear, cosine"),
        ({"advanced.refill": -1}, "advanced.refill: got -1"),
        ({"advanced.epsilon_high": 0}, "advanced.epsilon_high"),
        ({"advanced.loss_type": "luspo"}, "dapo, cispo, sapo"),
        ({"advanced.loss_type": "cispo"}, "got None; expected 1 or more for cispo"),
        (
            {"advanced.loss_type": "cispo", "advanced.epsilon_high": 0.28},
            "epsilon_high: got 0.28; expected 1 or more for cispo",
        ),
        ({"advanced.sapo_temperature_neg": 0}, "sapo_temperature_neg: got 0.0"),
        ({"advanced.completions_per_forward": 3}, "num_generations = 8"),
        ({"advanced.offload": "optimizer"}, "zero_stage"),
        ({"advanced.offload": "all", "zero_stage": 2}, "zero_stage 3"),
        ({"advanced.trackers": ["mlflow"]}, "wandb, trackio"),
        ({"advanced.frozen": "("}, "advanced.frozen"),
    ],
)
def test_values_out_of_range_are_named(overrides, fact):
    with refused("training.setting-value", says=fact):
        load_config("tiny", overrides)


def test_an_unknown_recipe_names_the_nearest():
    with refused("settings.no-such-file", says="did you mean tiny"):
        load_config("tinny")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("- a\n- b\n", "no-mapping"),
        ("1: 2\n", "no-text-key"),
        ("a: [1\n", "not-yaml"),
        ("[" * 3000, "not-yaml"),
        (None, "no-such-file"),
    ],
)
def test_broken_recipe_files_are_refused(tmp_path, text, kind):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with refused(f"settings.{kind}", says="mine.yaml"):
        load_config(path)


def test_extends_merges_nested_keys(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("max_steps: 7\nreward:\n  map_weight: 0.25\n  map_gate: 'off'\n")
    child = tmp_path / "child.yaml"
    child.write_text(f"extends: {base}\nreward:\n  map_weight: 0.75\n")
    config = load_config(child)
    assert (config.recipe, config.max_steps) == ("child", 7)
    assert (config.reward.map_weight, config.reward.map_gate) == (0.75, "off")


def test_a_recipe_cannot_extend_itself(tmp_path):
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    ours.write_text(f"extends: {theirs}\n")
    for text in (f"extends: {ours}\n", "extends: 3\n"):
        theirs.write_text(text)
        with refused("settings.extends"):
            load_config(ours)


@pytest.mark.parametrize(
    ("changes", "workers", "shape"),
    [
        ({}, 1, (128, 1)),
        ({}, 2, (64, 1)),
        ({"per_device_batch": 16}, 2, (16, 4)),
        ({"per_device_batch": 500}, 1, (128, 1)),
        ({"prompts_per_step": 3, "num_generations": 2}, 2, (3, 1)),
        ({"method": "sft"}, 1, (16, 1)),
        ({"method": "dpo", "beta": 0.1, "per_device_batch": 2}, 2, (2, 4)),
    ],
)
def test_batch_shape_shares_all_completions(changes, workers, shape):
    config = config_from_dict(changes)
    batch, forwards = config.batch_shape(workers)
    assert (batch, forwards) == shape
    assert batch * forwards * workers == config.completions_per_step


@pytest.mark.parametrize(
    ("changes", "workers"), [({}, 3), ({"per_device_batch": 5}, 1)]
)
def test_uneven_shares_are_refused(changes, workers):
    with refused("training.uneven-shares"):
        config_from_dict(changes).batch_shape(workers)


def test_a_prompt_style_carries_frame_grid_and_template(tmp_path):
    row = {
        "question": "Which?",
        "options": ["A. x", "B. y"],
        "problem_type": "multiple choice",
        "video": "v.mp4",
    }
    stated = TrainConfig(prompt_mode="think_map")
    unstated = AdvancedSettings(map_frame=None)
    silent = TrainConfig(prompt_mode="think_map", advanced=unstated)
    texts = [
        c.prompt_style.messages(row)[0]["content"][1]["text"] for c in (stated, silent)
    ]
    assert "east" in texts[0] and "east" not in texts[1]
    words = tmp_path / "words.txt"
    words.write_text("Q: {question} {options}\n")
    other = template(str(words)).prompt_style
    text = other.messages(row)[0]["content"][1]["text"]
    assert text == "Q: Which? A. x\nB. y"
    with refused("training.setting-value", says="start_view"):
        AdvancedSettings(map_frame="north")
    with refused("language.template-unreadable", says="absent.txt"):
        _ = template("absent.txt").prompt_style


def template(path):
    return TrainConfig(advanced=AdvancedSettings(prompt_template=path))


def test_on_and_off_need_no_quotes():
    for word in ("on", "off"):
        config = load_config("tiny", [f"advanced.shared_prefix={word}"])
        assert config.advanced.shared_prefix == word
    assert load_config("tiny", ["reward.map_gate=off"]).reward.map_gate == "off"
    with refused("training.setting-value", says="'off'"):
        load_config("tiny", ["view=off"])


def test_a_recipe_is_read_without_torch():
    """A misspelt recipe is reported before anything heavy is imported."""
    code = """
import sys
from spacer_lib.training.recipe import load_config
load_config("tiny")
heavy = {"torch", "transformers", "trl", "open3d", "decord", "deepspeed"}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_a_parameter_that_a_notebook_lacks_is_refused():
    source = FOLDER / "05_train_grpo.ipynb"
    check_parameters(source, ["gpus", "recipe"])
    with refused("notebooks.unknown-parameter", says="gpus"):
        check_parameters(source, ["gpu"])
