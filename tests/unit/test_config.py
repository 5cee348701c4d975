"""Recipes: every key and type is checked, and errors name the nearest right key."""

import pytest

from spacer_lib.errors import SpacerError
from spacer_lib.training.recipe import (
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
    ("overrides", "message"),
    [
        ({"learning_rat": 1e-5}, "did you mean learning_rate"),
        ({"reward.map_wieght": 1}, "reward.map_wieght.*did you mean map_weight"),
        ({"max_steps": "many"}, "max_steps: got 'many'; expected int"),
        ({"max_steps": 2.5}, "max_steps: got 2.5; expected int"),
        ({"learning_rate": "fast"}, "learning_rate: got 'fast'; expected float"),
        ({"bf16": 1}, "bf16: got 1; expected bool"),
        ({"gpus": True}, "gpus: got True; expected int"),
        ({"gpus": 0}, "gpus: got 0; expected more than 0"),
        ({"num_generations": 1}, "2 or more"),
        ({"zero_stage": 1}, "null, 0, 2, 3"),
        ({"temperature": 0}, "temperature: got 0.0; expected more than 0"),
        ({"top_p": 1.5}, "in \\(0, 1\\]"),
        ({"lr_scheduler": "cosin"}, "constant, linear, cosine"),
        ({"prompt_mode": "thinking"}, "think_map"),
        ({"view": "odl"}, "new"),
        ({"method": "grop"}, "grpo, sft, dpo"),
        ({"method": "dpo"}, "beta: got 0.0; expected more than 0 for DPO"),
        ({"reward": 3}, "reward: got 3"),
        ({"seed.deep": 3}, "seed"),
        (["max_steps"], "key=value"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(SpacerError, match=message):
        load_config("tiny", overrides)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(SpacerError, match="did you mean tiny"):
        load_config("tinny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "keys and values"),
        ("a: [1\n", "not YAML"),
        (None, "No such file"),
    ],
)
def test_broken_recipe_files_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpacerError, match=message):
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
        with pytest.raises(SpacerError, match="extends: got .*another recipe"):
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
    with pytest.raises(SpacerError, match="evenly"):
        config_from_dict(changes).batch_shape(workers)


def test_a_prompt_style_carries_frame_grid_and_template(tmp_path):
    row = {
        "question": "Which?",
        "options": ["A. x", "B. y"],
        "problem_type": "multiple choice",
        "video": "v.mp4",
    }
    stated = TrainConfig(prompt_mode="think_map")
    silent = TrainConfig(prompt_mode="think_map", map_frame=None)
    texts = [
        c.prompt_style.messages(row)[0]["content"][1]["text"] for c in (stated, silent)
    ]
    assert "east" in texts[0] and "east" not in texts[1]
    words = tmp_path / "words.txt"
    words.write_text("Q: {question} {options}\n")
    other = TrainConfig(prompt_template=str(words)).prompt_style
    text = other.messages(row)[0]["content"][1]["text"]
    assert text == "Q: Which? A. x\nB. y"
    with pytest.raises(SpacerError, match="map_frame.*start_view"):
        TrainConfig(map_frame="north")
    with pytest.raises(SpacerError, match="cannot be read"):
        TrainConfig(prompt_template="absent.txt").prompt_style  # noqa: B018


def test_on_and_off_need_no_quotes():
    assert load_config("tiny", ["shared_prefix=off"]).shared_prefix == "off"
    assert load_config("tiny", ["shared_prefix=on"]).shared_prefix == "on"
    assert load_config("tiny", ["reward.map_gate=off"]).reward.map_gate == "off"
    with pytest.raises(SpacerError, match="setting view"):
        load_config("tiny", ["view=off"])
