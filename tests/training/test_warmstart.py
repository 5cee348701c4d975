"""The warm start's batches, thoughts and training aids, and the shipped model."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from support import refused

from spacer_lib.artifacts import PROJECT_ROOT, append_jsonl, read_json, read_jsonl
from spacer_lib.evaluation.ask import ask
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.conditions import random_map
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.statistics import summarize
from spacer_lib.language.asking import AskSettings
from spacer_lib.maps.text import parse_map
from spacer_lib.models.inputs import encode_prompts, token_types
from spacer_lib.questions.generators import question_rows
from spacer_lib.tiny import stages, warmstart
from spacer_lib.tiny.aids import CATEGORIES, TAUGHT, Heads, Taught, dense_targets
from spacer_lib.tiny.curriculum import (
    DEMONSTRATED,
    INSIDE_RULES,
    SEEDS,
    beginning,
    demonstration,
    draw_rows,
)
from spacer_lib.tiny.shown import SHOWN
from spacer_lib.tiny.thoughts import (
    FIRST,
    INSIDE_TASKS,
    NAME,
    QUESTION,
    SECOND,
    VIDEO,
    facts_of,
    sector,
    think,
)
from spacer_lib.training.recipe import load_config


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    processor, model = warmstart.build()
    rooms = [
        room for room, _ in zip(warmstart.rooms_from("turn", 0), range(6), strict=False)
    ]
    prefix = warmstart.prompt_prefix(processor, model, rooms[0])
    rng = np.random.default_rng(0)
    asked = [(room, warmstart.ask(room, rng, 3, {})) for room in rooms[:3]]
    return processor, model, rooms, warmstart.Packer(processor, prefix), asked


@pytest.fixture(scope="module")
def thoughts(made):
    found = []
    for seed, room in enumerate(made[2]):
        facts = facts_of(room)
        rows, _ = question_rows(room.scene, seed, per_task=3, rules=INSIDE_RULES)
        found += [(room, row, facts, think(row, facts)) for row in rows]
    return [item for item in found if item[3]]


def test_every_kind_is_demonstrated(thoughts):
    assert {row["question_type"] for _, row, _, _ in thoughts} == set(INSIDE_TASKS)


def test_thoughts_hold_the_true_map_and_a_right_answer(thoughts):
    for _, row, _, thought in thoughts:
        drawn = thought.text.split("<map>")[1].split("</map>")[0]
        read = parse_map(drawn).map
        assert {k: sorted(map(tuple, v)) for k, v in read.items()} == {
            k: sorted(map(tuple, v)) for k, v in row["map"].items()
        }
        answer = thought.text.split("<answer>")[1].split("</answer>")[0]
        if row["options"] or row["question_type"] == "object_counting":
            assert answer == row["ground_truth"]
        else:
            assert float(answer) == pytest.approx(
                float(row["ground_truth"]), rel=0.15, abs=0.5
            )


def test_first_views_are_written_in_order(thoughts):
    for room, _, facts, thought in thoughts:
        text = thought.text.split("<think>")[1].split("<map>")[0]
        views = [int(part[0]) for part in text.split("@")[1:]]
        first = {}
        for view, instance in zip(room.first_views, room.scene.instances, strict=True):
            first[instance.category] = min(view, first.get(instance.category, 9))
        assert views == sorted(set(first.values()))
        told = {n: int(p[0]) for p in text.split("@")[1:] for n in p[1:].split(",")}
        assert told == first
        assert facts.seen == sorted(facts.seen, key=lambda item: item[0])


def test_pointers_name_what_a_word_is_read_from(thoughts):
    read = Counter()
    for _, row, _, thought in thoughts:
        text, heads_at = thought.text, {}
        for pointer in thought.pointers:
            heads_at.setdefault(pointer.at, {})[pointer.head] = pointer
        for char, heads in heads_at.items():
            first, second = heads.get(FIRST), heads.get(SECOND)
            if first and second and text[char - 1] in "+-":
                of, to = (int(text[one.chars[0]]) for one in (first, second))
                assert int(text[char]) == abs(of - to)
                read["offset"] += 1
            shown = heads.get(VIDEO)
            if shown and shown.view is None and shown.cell and text[char] != "[":
                assert int(text[char]) in shown.cell
                read["cell"] += 1
            elif shown and shown.category is not None and text[char - 1] == "@":
                assert int(text[char]) == shown.view
                read["view"] += 1
            elif shown and shown.category is None:  # a side of the room
                assert text[char].isdecimal() and shown.view == 7
                read["side"] += 1
            if QUESTION in heads:
                word = heads[QUESTION].word
                assert word in row["question"] and text[char:].strip().startswith(word)
                read["word"] += 1
            if NAME in heads:  # read at the digit before
                assert text[char - 1].isdecimal()
                names = re.finditer("|".join(row["map"]), text[:char])
                assert heads[NAME].chars == ([found.start() for found in names][-1],)
                read["name"] += 1
    assert min(read[k] for k in ("offset", "cell", "view", "side", "word", "name")) > 20


def test_options_of_an_order_are_read_until_the_views_fall_back(thoughts):
    seen, read = 0, Counter()
    for _, row, facts, thought in thoughts:
        if row["question_type"] != "obj_appearance_order":
            continue
        seen += 1
        first = {name: view for view, name, _ in reversed(facts.seen)}
        expected = ""
        for option in row["options"]:
            expected += f"{option[0]}:"
            views = [first[name] for name in option[3:].split(", ")]
            assert len(set(views)) == len(views)
            falls = [k for k in range(1, len(views)) if views[k] < views[k - 1]]
            end = falls[0] + 1 if falls else len(views)
            pairs = zip(option[3:].split(", ")[:end], views, strict=False)
            expected += "".join(f"{name}{view}" for name, view in pairs)
            read[option[0], bool(falls)] += 1
            if not falls:
                break
        worked = thought.text.split("</map>")[1].split("</think>")[0]
        assert worked == expected
        (letter,) = thought.pointers[-1].chars
        assert thought.text[letter] == row["ground_truth"]
    assert seen > 5 and read["A", True] and read["B", False] + read["A", False]


def test_a_word_of_an_option_is_found_in_that_option(made, thoughts):
    packer = made[3]
    found = 0
    for _, row, _, thought in thoughts:
        for pointer in thought.pointers:
            if pointer.option is None or pointer.word is None:
                continue
            told = packer._told(row, thought)
            place = told.find(pointer.option, pointer.word)
            assert told.words[place].strip() == pointer.word
            before = "".join(told.words[: place + 1])
            assert before.rsplit("\n", 1)[1] in pointer.option
            found += 1
    assert found > 20


def test_a_map_is_written_in_the_order_of_first_appearance(thoughts):
    for _, row, facts, thought in thoughts:
        drawn = json.loads(thought.text.split("<map>")[1].split("</map>")[0])
        assert list(drawn) == list(dict.fromkeys(name for _, name, _ in facts.seen))
        assert {k: sorted(v) for k, v in drawn.items()} == {
            k: sorted(v) for k, v in row["map"].items()
        }


def test_a_forced_map_begins_as_a_demonstration_does():
    rows = draw_rows(SEEDS["develop"], 18, "turn")
    for row in rows:
        begun, worked = beginning(row, row["map"]), demonstration(row)
        assert begun.endswith("</map>")
        assert worked is None or worked.startswith(begun)
        drawn = random_map(row, seed=3)
        text, _, given = beginning(row, drawn).partition("<map>")
        assert text == begun.partition("<map>")[0]  # what is seen first stays true
        read = parse_map(given.removesuffix("</map>")).map
        names = json.loads(begun.partition("<map>")[2].removesuffix("</map>"))
        assert list(json.loads(given.removesuffix("</map>"))) == list(names)
        assert {k: sorted(map(tuple, v)) for k, v in drawn.items()} == {
            k: sorted(map(tuple, v)) for k, v in read.items()
        }


def test_a_tiny_model_is_asked_with_such_a_beginning(monkeypatch):
    asked = {}

    class Kept:
        batched, name = True, "kept"

        def identity(self):
            return {}

        def ask(self, rows, settings, *, blind, prefixes):
            asked.update(zip([row["id"] for row in rows], prefixes, strict=True))
            return (reply for reply in ())

    rows = draw_rows(SEEDS["develop"], 4, "turn")
    for mode in ("tiny", "think_map"):
        journal = SimpleNamespace(done={})
        list(ask(rows, Kept(), AskSettings(mode, SHOWN), journal, condition="oracle"))
        begun = [asked[row["id"]] for row in rows]
        assert (begun == [beginning(row, row["map"]) for row in rows]) == (
            mode == "tiny"
        )
        assert all(text.startswith("<think>") for text in begun)


def test_a_sector_is_a_quarter_and_a_sixth():
    assert [sector(*offset) for offset in ((3, 0), (0, 2), (-1, 0), (1, 1))] == [
        0,
        6,
        12,
        3,
    ]


def test_packed_rows_equal_each_row_alone(made):
    processor, model, _, packer, asked = made
    batch = packer.batch(asked, video=True)
    with torch.no_grad():
        states = warmstart.forward(model, batch).states
        packed = model.lm_head(states)
    compared = 0
    for b, (_, questions) in enumerate(asked):
        at = packer.prefix.positions.shape[1]
        for row, thought in questions:
            (prompt,), (media,) = encode_prompts(processor, [row], "tiny", SHOWN)
            told = processor.tokenizer(
                thought.text + processor.tokenizer.eos_token, add_special_tokens=False
            )["input_ids"]
            ids = torch.tensor([prompt + told])
            with torch.no_grad():
                alone = model(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    mm_token_type_ids=token_types(ids, model.config),
                    **media,
                ).logits[0, packer.prefix.positions.shape[1] :]
            end = at + len(alone)
            assert batch.input_ids[b, at:end].tolist() == ids[0, -len(alone) :].tolist()
            torch.testing.assert_close(packed[b, at:end], alone, atol=2e-5, rtol=0)
            at, compared = end, compared + 1
    assert compared == 9


def test_without_video_no_loss_on_what_only_it_tells(made):
    _, _, _, packer, asked = made
    tokenizer = packer.tokenizer
    with_video = packer.batch(asked, video=True)
    blind = packer.batch(asked, video=False)
    assert (with_video.labels != -100).sum() > (blind.labels != -100).sum()
    lost = blind.input_ids[(blind.labels == -100) & (blind.input_ids != 0)]
    words = set(tokenizer.convert_ids_to_tokens(lost.tolist()))
    kept = blind.labels[blind.labels != -100]
    assert "@" in words
    assert "@" not in tokenizer.convert_ids_to_tokens(kept.tolist())
    for (_, questions), row in zip(asked, blind.labels, strict=True):
        told = tokenizer.decode(row[row != -100])
        assert told.count("</map>") == len(questions)
    assert blind.targets is None


def test_targets_are_of_the_objects_that_tokens_show(made):
    rooms = made[2]
    targets = dense_targets(rooms)
    for b, room in enumerate(rooms):
        place, tokens = room.places, room.tokens.ravel()
        for k, index in enumerate(tokens):
            if index < 0:
                assert targets["category"][b, k] == len(CATEGORIES)
                assert targets["column"][b, k] == -100
                continue
            name = room.scene.instances[index].category
            assert CATEGORIES[targets["category"][b, k]] == name
            assert targets["column"][b, k] == place.cells[index, 0]
            assert targets["row"][b, k] == place.cells[index, 1]
            assert targets["new"][b, k] == (room.first_views[index] == k // 16)


def test_taught_attention_is_the_layers_own(made):
    """The mass that the loss sees is what the layer's eager attention gives."""
    _, model, _, packer, asked = made
    batch = packer.batch(asked, video=True)
    layers = {n: model.model.language_model.layers[n] for n, _ in TAUGHT.values()}
    assert len(layers) == 2
    passed = warmstart.forward(model, batch)
    loss = passed.taught.loss(batch.pointers, batch.visible)
    captured = {}

    def keep(module, query, key, value, mask, scaling, **options):
        keys = key.repeat_interleave(module.num_key_value_groups, dim=1)
        scores = query @ keys.transpose(2, 3) * scaling
        captured[module.layer_idx] = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return sdpa(module, query, key, value, mask, scaling=scaling, **options)

    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as sdpa

    AttentionInterface.register("kept_here", keep)
    text = model.model.language_model.layers[0].self_attn.config
    before = text._attn_implementation
    kept = type(text)(**text.to_dict())
    kept._attn_implementation = "kept_here"
    try:
        for layer in layers.values():
            layer.self_attn.config = kept
        warmstart.forward(model, batch)
    finally:
        for layer in layers.values():
            layer.self_attn.config = text
    assert text._attn_implementation == before
    parts = []
    for kind, (rows, at, right) in batch.pointers.items():
        number, head = TAUGHT[kind]
        weights = captured[number][rows, head, at]
        parts.append(-(weights * right).sum(-1).log().mean())
    assert set(batch.pointers) == set(TAUGHT)
    assert loss.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-4)


def test_a_few_steps_lower_every_loss_and_change_no_class(made):
    _, _, _, packer, asked = made
    torch.manual_seed(1)
    _, model = warmstart.build(seed=1)
    heads = Heads(model.config.text_config.hidden_size)
    batch = packer.batch(asked, video=True)
    names = set(model.state_dict())
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=3e-3)
    seen = []
    for _ in range(8):
        losses = warmstart.losses(model, heads, batch, pointers=True)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seen.append({k: v.item() for k, v in losses.items()})
    for name in ("category", "map_category", "tokens", "pointers"):
        assert seen[-1][name] < seen[0][name], name
    assert set(model.state_dict()) == names
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert isinstance(warmstart.forward(model, batch).taught, Taught)


def test_the_chain_ends_in_a_stock_checkpoint_and_runs_once(tmp_path, monkeypatch):
    config = warmstart.WarmstartConfig(
        vision_steps=2,
        vision_rooms=2,
        joint_steps=2,
        joint_rooms=2,
        text_rooms=2,
    )
    folder = tmp_path / "chain"
    model_dir = warmstart.run(folder, config, evaluate=lambda model: {"of": model.name})
    losses = {row["stage"]: row for row in read_jsonl(folder / "metrics.jsonl")}
    assert set(losses) == set(warmstart.STAGES)
    assert {"pointers", "text_tokens", "column"} <= set(losses["joint"])
    record = read_json(folder / "provenance.json")
    assert record["metrics"] == {"of": "model"}
    assert len(set(record["first_room_seeds"].values())) == len(losses)
    model, processor = load(model_dir)
    assert len(processor.tokenizer) == model.config.text_config.vocab_size
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not list(folder.glob("*.state.pt"))
    kept = {path.name for path in model_dir.iterdir()}
    assert "model.safetensors" in kept and not any("head" in name for name in kept)
    stored = load_file(model_dir / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    monkeypatch.setattr(stages, "_run_apart", lambda *rest: 1 / 0)
    assert warmstart.run(folder, config) == model_dir
    with refused("tiny.other-configuration"):
        warmstart.run(folder, warmstart.WarmstartConfig(seed=1))


def test_a_stopped_stage_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    config = warmstart.WarmstartConfig(vision_steps=5, vision_rooms=2)
    monkeypatch.setattr(stages, "LOGGED", 2)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    warmstart.train_vision(config, whole)
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def fails_at_the_fourth(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return clip(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", fails_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            warmstart.train_vision(config, stopped)
    assert not (stopped / "vision.pt").exists()
    append_jsonl(stopped / "metrics.jsonl", [{"stage": "vision", "step": 4}])
    warmstart.train_vision(config, stopped)
    told = [read_jsonl(folder / "metrics.jsonl") for folder in (whole, stopped)]
    assert [row["step"] for row in told[1]] == [2, 4, 5]
    for one, other in zip(*told, strict=True):
        assert 0 < other.pop("seconds") and 0 < other.pop("cpu_seconds")
        assert other == {k: one[k] for k in other}
    weights = [torch.load(folder / "vision.pt") for folder in (whole, stopped)]
    for part in ("model", "heads"):
        one, other = (kept[part] for kept in weights)
        assert all(torch.equal(one[k], other[k]) for k in one)


SLOW = """
import os, time

def train_slow(config, out_dir):
    (out_dir / "pid").write_text(str(os.getpid()))
    time.sleep(600)
"""
START = """
import sys
from slow import train_slow
from spacer_lib.tiny import stages, warmstart

chain = {"model": train_slow}
stages.run_chain(sys.argv[1], warmstart.WarmstartConfig(), chain, about={})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
def test_a_killed_warm_start_leaves_no_stage_behind(tmp_path):
    """A stage that ran on would write beside the next run, which has its lock."""
    (tmp_path / "slow.py").write_text(SLOW)
    path = os.pathsep.join([str(tmp_path), str(PROJECT_ROOT)])
    command = [sys.executable, "-c", START, str(tmp_path)]
    started = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path})
    try:
        wait_until((tmp_path / "pid").exists)
    finally:
        started.kill()
        started.wait()
    stage = int((tmp_path / "pid").read_text())
    wait_until(lambda: is_over(stage))


def is_over(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# ---------------------------------------------------------------- the shipped model

KEPT = read_json(PROJECT_ROOT / "papermill_runs" / "warmstart.json")
SHIPPED = PROJECT_ROOT / load_config("tiny").model_path


def test_the_shipped_model_is_the_median_of_three_seeds():
    record = read_json(SHIPPED / "provenance.json")
    seeds = {
        seed: kept["metrics"]["seen"]["score"] for seed, kept in KEPT["seeds"].items()
    }
    assert len(seeds) == 3
    assert seeds[KEPT["typical"]] == sorted(seeds.values())[1]
    assert str(record["config"]["seed"]) == KEPT["typical"]
    assert record["metrics"] == KEPT["seeds"][KEPT["typical"]]["metrics"]


@pytest.fixture(scope="module")
def shipped():
    return load(SHIPPED, None)


@pytest.mark.parametrize(
    "condition, least, most",
    [("own", 0.75, 1), ("other", 0, 0.2), ("shuffled", 0, 0.3)],
)
def test_the_shipped_model_draws_what_its_own_video_shows(
    shipped, tmp_path, condition, least, most
):
    rows = draw_rows(SEEDS["develop"], 36, DEMONSTRATED)
    settings = load_config("tiny").asking(batch_size=36)
    out_path = tmp_path / "answers.jsonl"
    made = evaluate(*shipped, rows, settings, condition=condition, out_path=out_path)
    overall = summarize(made).query("level == 'overall'").iloc[0]
    assert least <= overall.hits <= most
    # Beside another room's video it may miss what it is asked about.
    assert overall.failures == 0 or condition == "other"
