"""SFT and DPO see the video, learn from the response alone, and can be resumed."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from support import refused
from torch.nn import functional as F
from torch.utils.data._utils.pin_memory import pin_memory
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from spacer_lib.artifacts import read_json
from spacer_lib.evaluation import backends
from spacer_lib.evaluation.selection import keep_informative, select_samples
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.numbers import read_number
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.boxes import parse_boxes
from spacer_lib.models.inputs import join_media, token_types
from spacer_lib.models.patches.rope import position_rule
from spacer_lib.models.patches.shared_media import core_of
from spacer_lib.questions.choose import without_options
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.training.baselines import (
    BatchMedia,
    build_dpo,
    build_sft,
    dpo_responses,
    sft_responses,
)
from spacer_lib.training.checkpoints import complete_checkpoints
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config
from spacer_lib.training.record import MetricsLog
from spacer_lib.training.responses import CORRUPTIBLE, corrupt, target_text

TINY = PromptStyle("tiny")
VIDEO_KEYS = ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts")


@pytest.fixture(scope="module")
def shown(rows):
    """Eight rows that have a demonstration."""
    found = [row for row, _ in sft_responses(rows, TINY)]
    assert len(found) >= 8
    return found[:8]


@pytest.fixture
def quick(small):
    """``quick(**changes)``: eight rows a step, at a rate at which ten steps show."""

    def make(**changes):
        values = {
            "prompts_per_step": 8,
            "max_steps": 10,
            "learning_rate": 2e-3,
            "beta": 0.1,
            "method": "sft",
        }
        return small(**values | changes)

    return make


def batch_of(trainer, count=2):
    """The first rows as the trainer's loop would hand them to the loss."""
    examples = [trainer.train_dataset[i] for i in range(count)]
    return trainer._prepare_inputs(trainer.data_collator(examples))


def alone(model, batch, i):
    """Ids and logits of one sequence of a batch by itself, unpadded."""
    ids = batch["input_ids"][i : i + 1, batch["attention_mask"][i].bool()]
    output = model(
        input_ids=ids,
        mm_token_type_ids=token_types(ids, model.config),
        **batch["media"].sequences[i],
    )
    return ids[0], output.logits[0]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * scale)


def metrics_of(trainer, path, **options):
    trainer.add_callback(MetricsLog(path))
    trainer.train(**options)
    return [json.loads(line) for line in path.open()]


# ---------------------------------------------------------------- responses


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_a_blind_trainer_does_not_start(build, quick, shown, tmp_path):
    trainer = build(quick(max_steps=1), tmp_path, rows=shown)
    trainer.truth_scores = lambda *_: torch.zeros(3)
    with refused("training.blind", says="video"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_targets_follow_the_prompt_style(rows):
    plain = rows[0]  # a count, which its map tells exactly
    row = plain | {"reasoning": "By eye."}
    answer = row["ground_truth"]
    tagged = f"<answer>{answer}</answer>"
    for mode, text in (
        ("vanilla", answer),
        ("direct", tagged),
        ("think", f"<think>By eye.</think>{tagged}"),
        ("observe", f"<observe>By eye.</observe>{tagged}"),
    ):
        assert target_text(row, PromptStyle(mode)) == text
    drawn = target_text(plain, PromptStyle("think_map"))
    truth = {name: [tuple(c) for c in cells] for name, cells in row["map"].items()}
    assert read_completion(drawn).map == truth
    boxed = {**plain, "boxes": {"bed": [[0.5, -1.0, 1.0, 2.0]]}}
    text = target_text(boxed, PromptStyle("think_boxes"))
    assert parse_boxes(read_completion(text).map_text).boxes == boxed["boxes"]
    seen = target_text(plain, PromptStyle("tiny_observe"))
    assert read_completion(seen, shape="observe").failure is None
    assert read_completion(seen).map == truth
    assert target_text(plain, PromptStyle("tiny_vanilla")) == answer
    for mode in ("think", "observe"):
        with refused("training.no-reasoning"):
            target_text(plain, PromptStyle(mode))


def test_targets_earn_every_reward(rows):
    config = RewardConfig(map_gate="always", length_window=None)
    pairs = sft_responses(rows, TINY)
    assert 0 < len(pairs) <= len(rows)
    for row, (text,) in pairs:
        earned = score(text, row, config)
        # A number is the one that the thought works out, to its digits.
        assert earned.format == 1 and earned.map > 0.999
        assert earned.task == 1 or (row["options"] is None and earned.task >= 0.8)
    other = rows[0] | {"question_type": "route_planning"}
    assert sft_responses([other], TINY) == []  # nothing was ever demonstrated


def numeric(truth, kind="numerical"):
    return {"id": "n", "problem_type": kind, "ground_truth": truth, "options": None}


@pytest.mark.parametrize(
    "truth",
    [
        "1",
        "2",
        "7",
        "120",
        "0.1",
        "2.4",
        "3.50",
        "0",
        "0.0",
        "-3",
        "-0.5",
        "1,200",
        "999999999",
        "twenty one",
        "3/4",
    ],
)
def test_corrupted_numbers_are_wrong_readable_and_written_alike(truth):
    value, _ = read_number(truth)
    made = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        text = corrupt(numeric(truth), f"<think>x</think><answer>{truth}</answer>", rng)
        reading = read_completion(text)
        assert reading.failure is None and reading.think == "x"
        wrong, failure = read_number(reading.answer)
        assert failure is None and wrong != value
        if value and truth[0] in "-0123456789" and "/" not in truth:
            decimals = len(truth.partition(".")[2])
            assert len(reading.answer.partition(".")[2]) == decimals
            assert abs(wrong - value) >= 0.5 * abs(value) - 1e-9
            assert wrong * value > 0
            assert score(text, numeric(truth), RewardConfig()).task == 0
        made.add(wrong)
    assert len(made) > 1 or truth == "1"


def test_corrupted_options_keep_their_form():
    row = {
        "id": "c",
        "problem_type": "multiple choice",
        "options": ["A. bed", "B. sofa", "C. lamp"],
    }
    seen = {}
    for truth in ("B", "B. sofa", "sofa"):
        item = row | {"ground_truth": truth}
        texts = {corrupt(item, truth, np.random.default_rng(i)) for i in range(30)}
        seen[truth] = sorted(texts)
    assert seen == {
        "B": ["A", "C"],
        "B. sofa": ["A. bed", "C. lamp"],
        "sofa": ["bed", "lamp"],
    }
    with refused("training.no-wrong-answer"):
        corrupt(row | {"options": ["A. bed"], "ground_truth": "A"}, "A", None)


def test_every_form_has_the_same_rows(rows):
    """An arm must not learn from more questions because its form is shorter."""
    for mode in ("tiny", "tiny_observe", "tiny_vanilla"):
        found = sft_responses(rows, PromptStyle(mode))
        assert [row["id"] for row, _ in found] == [
            row["id"] for row, _ in sft_responses(rows, TINY)
        ]
        pairs = dpo_responses(rows, PromptStyle(mode), 0)
        assert len(pairs) == len(found) and all(a != b for _, (a, b) in pairs)


def test_corrupted_words_are_of_the_same_kind(rows):
    for row in rows:
        if row["options"]:
            words = without_options(row)
            truth = words["ground_truth"]
            for seed in range(20):
                wrong = corrupt(words, truth, np.random.default_rng(seed))
                options = [option[3:] for option in row["options"]]
                sides = {"left", "right"} | set(options)
                order = sorted(wrong.split(", ")) == sorted(truth.split(", "))
                assert wrong != truth and (wrong in sides or order)
    order = {
        "id": "o",
        "problem_type": "option-free",
        "options": None,
        "question_type": "obj_appearance_order",
        "ground_truth": "bed, sofa, lamp, door",
    }
    wrong = corrupt(order, order["ground_truth"], np.random.default_rng(0))
    assert wrong != order["ground_truth"]
    assert sorted(wrong.split(", ")) == sorted(order["ground_truth"].split(", "))


def test_corruption_refuses_what_it_cannot_do():
    rng = np.random.default_rng(0)
    with refused("training.several-answers"):
        two = "<answer>1</answer><answer>2</answer>"
        corrupt(numeric("1"), two, rng)
    with refused("training.several-answers"):
        corrupt(numeric("1"), "<answer>1", rng)
    with refused("training.no-number"):
        corrupt(numeric("many"), "many", rng)
    with refused("training.no-wrong-answer"):
        corrupt(numeric("a text", kind="ocr"), "a text", rng)


def test_pairs_differ_in_the_answer_alone_and_follow_their_seed(rows):
    pairs = dpo_responses(rows, TINY, seed=0)
    assert [row["id"] for row, _ in pairs] == [
        row["id"] for row, _ in sft_responses(rows, TINY)
    ]
    for row, (chosen, rejected) in pairs:
        assert row["problem_type"] in CORRUPTIBLE
        assert chosen.split("<answer>")[0] == rejected.split("<answer>")[0]
        assert score(chosen, row, RewardConfig()).task >= 0.8
        assert score(rejected, row, RewardConfig()).task == 0
        assert score(rejected, row, RewardConfig()).failure is None
    assert dpo_responses(rows, TINY, seed=0) == pairs
    assert dpo_responses(rows[::-1], TINY, seed=0) == pairs[::-1]  # keyed by id
    assert dpo_responses(rows, TINY, seed=1) != pairs
    text_row = rows[0] | {"problem_type": "free-form"}
    assert dpo_responses([text_row], PromptStyle("direct"), 0) == []


# ---------------------------------------------------------------- SFT


def test_labels_cover_the_response_and_nothing_else(quick, shown, tmp_path):
    trainer = build_sft(quick(), tmp_path, rows=shown)
    batch, tokenizer = batch_of(trainer, 8), trainer.processing_class.tokenizer
    mask, labels, ids = batch["attention_mask"], batch["labels"], batch["input_ids"]
    assert (mask.diff(dim=1) <= 0).all() and not mask.all()  # padded on the right
    taught = labels != -100
    assert torch.equal(labels[taught], ids[taught])
    for i, row in enumerate(shown):
        target = target_text(row, TINY) + tokenizer.eos_token
        assert tokenizer.decode(ids[i][taught[i]]) == target
        assert int(taught[i].sum() + taught[i].int().argmax()) == int(mask[i].sum())
    pads = ids == trainer.model.config.video_token_id
    assert pads.sum() == 8 * 64 and not (pads & taught).any()
    assert torch.equal(batch["mm_token_type_ids"], pads.int() * 2)


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_loaders_leave_the_media_alone(quick, shown, tmp_path, build):
    """What is shared stays shared, and time steps keep their precision."""
    trainer = build(quick(), tmp_path, rows=shown[:4] + shown[:4])
    batch = next(iter(trainer.get_train_dataloader()))
    media = trainer._prepare_inputs(batch)["media"]
    sides = len(media.sequences) // 8
    assert len({id(one) for one in media.sequences}) == 4
    assert sides == len(batch["input_ids"]) // 8 == (2 if build is build_dpo else 1)
    for one in media.sequences:
        assert one["second_per_grid_ts"].dtype == torch.float32
    assert pin_memory({"media": media})["media"] is media


def test_sft_loss_is_that_of_a_plain_forward_on_the_response(quick, shown, tmp_path):
    """Oracle: each row alone, unpadded, through the checkpoint's own forward."""
    config = quick()
    trainer = build_sft(config, tmp_path, rows=shown)
    batch = batch_of(trainer, 3)
    loss = trainer.compute_loss(trainer.model, dict(batch))
    plain = AutoModelForImageTextToText.from_pretrained(config.model_path)
    total, count = 0.0, 0
    with torch.no_grad():
        for i in range(3):
            ids, logits = alone(plain, batch, i)
            labels = batch["labels"][i, : len(ids)]
            total += F.cross_entropy(logits[:-1], labels[1:], reduction="sum")
            count += int((labels != -100).sum())
    torch.testing.assert_close(loss.detach(), total / count, rtol=0, atol=1e-4)


def test_sft_gradients_are_those_of_a_plain_forward(quick, shown, tmp_path):
    config = quick()
    trainer = build_sft(config, tmp_path, rows=shown)
    batch = batch_of(trainer, 4)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    media = join_media(batch.pop("media").sequences)
    plain = AutoModelForImageTextToText.from_pretrained(config.model_path)
    expected = plain(**batch, **media).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    assert_close_gradients(gradients(trainer.model), gradients(plain))


def test_prompt_positions_are_taught_nothing(quick, shown, tmp_path):
    """The head's gradient reaches exactly the positions before a response token."""
    trainer = build_sft(quick(), tmp_path, rows=shown)
    batch, kept = batch_of(trainer, 4), []

    def keep(module, args, output):
        output.last_hidden_state.retain_grad()
        kept.append(output.last_hidden_state)

    core_of(trainer.model).register_forward_hook(keep)
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    reached = kept[0].grad.abs().sum(dim=-1) > 0
    wanted = torch.zeros_like(reached)
    wanted[:, :-1] = batch["labels"][:, 1:] != -100
    assert torch.equal(reached, wanted)
    assert trainer.model.model.visual.merger.mlp[0].weight.grad.abs().sum() > 0


def without_video(batch):
    """The same tokens with the pixels of nothing, which is what blind would be."""
    media = batch["media"].sequences
    grey = [
        one | {"pixel_values_videos": one["pixel_values_videos"] * 0} for one in media
    ]
    return {**batch, "media": BatchMedia(grey)}


def test_sft_loss_depends_on_the_video(quick, shown, tmp_path):
    trainer = build_sft(quick(), tmp_path, rows=shown)
    batch = batch_of(trainer, 2)
    swapped = {**batch, "media": BatchMedia(batch["media"].sequences[::-1])}
    losses = [
        trainer.compute_loss(trainer.model, dict(b)).item()
        for b in (batch, batch, without_video(batch), swapped)
    ]
    assert losses[0] == losses[1]
    assert min(abs(losses[0] - other) for other in losses[2:]) > 1e-6


def test_sft_learns_and_its_log_is_one_line_a_step(quick, shown, tmp_path):
    trainer = build_sft(quick(), tmp_path, rows=shown)
    lines = metrics_of(trainer, tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert {"loss", "grad_norm", "learning_rate", "seconds"} <= lines[0].keys()
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    assert lines[-1]["mean_token_accuracy"] > lines[0]["mean_token_accuracy"]


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_micro_batches_change_nothing(quick, shown, tmp_path, build):
    """Tokens of unequal responses weigh alike however the step is cut."""
    first = [
        metrics_of(
            build(quick(max_steps=2, per_device_batch=b), tmp_path, rows=shown),
            tmp_path / f"{b}.jsonl",
        )
        for b in (None, 2)
    ]
    for whole, parts in zip(*first, strict=True):
        assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-4)
        assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_a_resumed_run_goes_on_as_if_unbroken(quick, shown, tmp_path, build):
    config = quick(prompts_per_step=4, max_steps=4, save_steps=2, lr_scheduler="linear")
    straight = metrics_of(
        build(config, tmp_path, rows=shown), tmp_path / "straight.jsonl"
    )
    found = complete_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in found] == ["checkpoint-2", "checkpoint-4"]
    names = {path.name for path in found[0].iterdir()}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= names
    resumed = metrics_of(
        build(config, tmp_path, rows=shown),
        tmp_path / "resumed.jsonl",
        resume_from_checkpoint=str(found[0]),
    )
    for old, new in zip(straight[2:], resumed, strict=True):
        for name in "step loss grad_norm learning_rate num_tokens".split():
            assert old[name] == new[name], name


def test_old_checkpoints_go_and_the_model_loads(quick, shown, tmp_path):
    config = quick(max_steps=3, save_steps=1, keep_checkpoints=1)
    trainer = build_sft(config, tmp_path, rows=shown)
    trainer.train()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-3"]
    assert len(trainer.rows) == 8
    trainer.save_model(str(tmp_path / "model"))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert processor.tokenizer.padding_side == "left"
    for name, weight in trainer.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


def test_frozen_parts_stay(quick, shown, tmp_path):
    config = quick(max_steps=1, frozen=r"\.visual\.")
    trainer = build_sft(config, tmp_path, rows=shown)
    core = trainer.model.model
    weights = [core.visual.merger.mlp[0].weight, core.language_model.norm.weight]
    before = [weight.detach().clone() for weight in weights]
    trainer.train()
    same = [torch.equal(*pair) for pair in zip(weights, before, strict=True)]
    assert same == [True, False]


def test_too_few_rows_and_uneven_steps_are_refused(quick, shown, tmp_path):
    with refused("training.too-few-responses", says="7 of 7"):
        build_sft(quick(), tmp_path, rows=shown[:7])
    with refused("training.setting-value", says="beta"):
        quick(beta=0.0, method="dpo")
    assert quick(per_device_batch=2).batch_shape(2) == (2, 2)
    with refused("training.uneven-shares"):
        build_sft(quick(per_device_batch=3), tmp_path, rows=shown)


# ---------------------------------------------------------------- DPO


def test_video_reaches_policy_and_reference(quick, shown, tmp_path):
    trainer = build_dpo(quick(), tmp_path, rows=shown)
    batch, seen = batch_of(trainer, 2), []
    for name, model in (("policy", trainer.model), ("reference", trainer.ref_model)):

        def spy(module, args, kwargs, name=name):
            seen.append((name, {key: kwargs.get(key) for key in VIDEO_KEYS}))

        core_of(model).register_forward_pre_hook(spy, with_kwargs=True)
    trainer.compute_loss(trainer.model, batch)
    assert [name for name, _ in seen] == ["policy", "reference"]
    for _, given in seen:
        assert given["pixel_values_videos"].shape[0] == 2 * 256  # both sides see one
        assert len(given["second_per_grid_ts"]) == len(given["video_grid_thw"]) == 4


def dpo_scores(trainer, model, batch):
    """(sequences,) sums of log-probabilities, chosen first."""
    with trainer.showing(batch, model) as inputs:
        return torch.cat(trainer.compute_ref_log_probs(model, inputs))


def test_dpo_scores_are_those_of_a_plain_forward(quick, shown, tmp_path):
    """Oracle for the layout too: sums over the response, chosen first."""
    config = quick()
    trainer = build_dpo(config, tmp_path, rows=shown)
    batch = batch_of(trainer, 2)
    scored = dpo_scores(trainer, trainer.ref_model, batch)
    tokenizer = trainer.processing_class.tokenizer
    plain = AutoModelForImageTextToText.from_pretrained(config.model_path)
    pairs = dpo_responses(shown[:2], TINY, config.seed)
    texts = [pair[side] for side in (0, 1) for _, pair in pairs]
    for i, text in enumerate(texts):
        with torch.no_grad():
            ids, logits = alone(plain, batch, i)
        count = int(batch["completion_mask"][i].sum())
        assert tokenizer.decode(ids[-count:]) == text + tokenizer.eos_token
        logps = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[-count:]
        torch.testing.assert_close(scored[i], logps.sum(), rtol=0, atol=1e-3)


def test_dpo_scores_depend_on_the_video(quick, shown, tmp_path):
    trainer = build_dpo(quick(), tmp_path, rows=shown)
    batch = batch_of(trainer, 2)
    for model in (trainer.ref_model, trainer.model):
        own, again, blind = (
            dpo_scores(trainer, model, b) for b in (batch, batch, without_video(batch))
        )
        assert torch.equal(own, again)
        assert (own - blind).abs().min() > 1e-6


@pytest.mark.parametrize("rule", ["library", "original"])
def test_positions_follow_the_setting_everywhere(quick, shown, tmp_path, rule):
    config = quick(positions=rule)
    sft, dpo = (build(config, tmp_path, rows=shown) for build in (build_sft, build_dpo))
    for model in (sft.model, dpo.model, dpo.ref_model):
        assert position_rule(model) == rule


def test_dpo_starts_at_log_2_and_its_margin_grows(quick, shown, tmp_path):
    trainer = build_dpo(quick(learning_rate=5e-4), tmp_path, rows=shown)
    before = {k: v.clone() for k, v in trainer.ref_model.state_dict().items()}
    lines = metrics_of(trainer, tmp_path / "metrics.jsonl")
    assert lines[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert lines[0]["rewards/margins"] == pytest.approx(0, abs=1e-5)
    margins = [line["rewards/margins"] for line in lines]
    assert margins[-1] > margins[4] > 0.01
    assert lines[-1]["rewards/accuracies"] > 0.5
    for name, weight in trainer.ref_model.state_dict().items():
        assert torch.equal(weight, before[name])


# ---------------------------------------------------------------- mixed batches


@pytest.fixture
def runs_of_the_tower(monkeypatch):
    """Patches seen by every run of a vision tower."""
    found = []
    real = Qwen2_5_VLModel.get_image_features

    def counted(self, pixel_values, *args, **kwargs):
        found.append(len(pixel_values))
        return real(self, pixel_values, *args, **kwargs)

    monkeypatch.setattr(Qwen2_5_VLModel, "get_image_features", counted)
    return found


def mixed_trainer(build, quick, mixed, tmp_path, **changes):
    """Four rows a step; the first show a video, an image, a video and nothing.

    Only rows with a drawn video have a worked demonstration; all have a map.
    """
    values = {"prompts_per_step": 4, "prompt_mode": "think_map"} | changes
    config = quick(data_path=str(mixed), **values)
    trainer = build(config, tmp_path)
    assert len(trainer.rows) == 12
    return trainer


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_a_mixed_batch_is_its_rows(quick, mixed, tmp_path, runs_of_the_tower, build):
    trainer = mixed_trainer(build, quick, mixed, tmp_path)
    batch, model = batch_of(trainer, 4), trainer.model
    kinds = [set(one) for one in batch["media"].sequences[:4]]
    assert kinds == [
        set(VIDEO_KEYS),
        {"pixel_values", "image_grid_thw"},
        set(VIDEO_KEYS),
        set(),
    ]
    taught = batch["labels"] != -100 if "labels" in batch else batch["completion_mask"]
    runs_of_the_tower.clear()
    loss = trainer.compute_loss(model, batch)
    assert runs_of_the_tower == [256 + 64 + 256] * (2 if build is build_dpo else 1)
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    scores = []
    for i in range(len(taught)):
        ids, logits = alone(model, batch, i)
        logps = logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        scores.append((logps * taught[i, 1 : len(ids)]).sum())
    scores = torch.stack(scores)
    if build is build_sft:
        expected = -scores.sum() / taught.sum()
    else:  # policy and reference are still the same
        margins = (scores - scores.detach())[:4] - (scores - scores.detach())[4:]
        expected = -F.logsigmoid(trainer.beta * margins).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-4)
    assert_close_gradients(found, gradients(model))


def test_an_adapters_reference_sees_a_mixed_batch(
    quick, mixed, tmp_path, runs_of_the_tower
):
    """The policy itself, a second time, with its adapter switched off."""
    lora = {"rank": 2, "targets": r".*(language_model|visual).*(q_proj|qkv)"}
    trainer = mixed_trainer(build_dpo, quick, mixed, tmp_path, lora=lora)
    assert trainer.ref_model is None
    batch = batch_of(trainer, 4)
    runs_of_the_tower.clear()
    loss = trainer.compute_loss(trainer.model, batch)
    assert runs_of_the_tower == [256 + 64 + 256] * 2
    assert loss.item() == pytest.approx(np.log(2), abs=1e-5)


class Gradients(TrainerCallback):
    """Kept before the only step of a run."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.found = gradients(model)


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_recomputed_layers_change_nothing(
    quick, mixed, tmp_path, runs_of_the_tower, build
):
    """Layers run again in the backward pass, when the batch's media are closed."""
    steps = []
    for again in (False, True):
        trainer = mixed_trainer(
            build, quick, mixed, tmp_path, max_steps=1, gradient_checkpointing=again
        )
        kept, layers = Gradients(), []
        trainer.add_callback(kept)
        trainer.model.model.visual.blocks[0].norm1.register_forward_pre_hook(
            lambda *_, layers=layers: layers.append(torch.is_grad_enabled())
        )
        runs_of_the_tower.clear()
        line = metrics_of(trainer, tmp_path / f"{again}.jsonl")[0]
        assert layers.count(True) == 1 + again
        steps.append((line["loss"], kept.found, len(runs_of_the_tower)))
    (loss, found, runs), (loss_again, found_again, runs_again) = steps
    assert (loss, runs) == (pytest.approx(loss_again, abs=1e-6), runs_again)
    assert_close_gradients(found_again, found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with GPUs, 2 workers are 2 GPUs")
@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_workers_with_other_kinds_of_rows_wait_for_none(mixed, tmp_path, method):
    """One row a forward: one worker has a video where the other has text alone."""
    runs = {}
    for name, change in (
        ("one", {"gpus": 1}),
        ("zero2", {"gpus": 2, "zero_stage": 2, "per_device_batch": 1}),
    ):
        config = load_config(
            "tiny",
            {
                "data_path": str(mixed),
                "prompt_mode": "think_map",
                "method": method,
                "prompts_per_step": 6,
                "max_steps": 2,
                "beta": 0.1,
                "learning_rate": 1e-4,
                "advanced.frozen": None,
                **change,
            },
        )
        runs[name] = launch(config, tmp_path / name)
    assert read_json(runs["zero2"].out_dir / "run.json")["workers"] == 2
    for one, two in zip(*(run.metrics()[:2] for run in runs.values()), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=2e-3)


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_each_epoch_has_its_own_order_even_if_resumed(quick, shown, tmp_path, build):
    """8 rows, 4 a step: the third step begins the second epoch."""
    orders, asked = {}, {}
    for step in (0, 1, 2, 3):
        config = quick(prompts_per_step=4, max_steps=3)
        trainer = build(config, tmp_path, rows=shown)
        trainer.state.global_step = step
        orders[step] = list(islice(trainer._get_train_sampler(), 8))
        assert sorted(orders[step]) == list(range(8))
        asked[step] = list(trainer.asked())
    assert orders[0] == orders[1] != orders[2] == orders[3]
    # Of three steps: less and less is left.
    for step, numbers in asked.items():
        assert numbers == (orders[0] + orders[2][:4])[4 * step :]


# ---------------------------------------------------------------- selection


@pytest.fixture(scope="module")
def checkpoint(model_dir):
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    return model, AutoProcessor.from_pretrained(model_dir, padding_side="left")


SETTINGS = AskSettings("tiny", max_new_tokens=8, temperature=1.0, batch_size=2)


def test_every_row_is_answered_k_times(checkpoint, rows, tmp_path):
    path = tmp_path / "new folder" / "answers.jsonl"
    records = select_samples(*checkpoint, rows[:5], path, SETTINGS, k=3)
    assert [json.loads(line) for line in path.open()] == records
    assert [record["id"] for record in records] == [row["id"] for row in rows[:5]]
    for record, row in zip(records, rows, strict=False):
        assert len(record["responses"]) == len(record["scores"]) == 3
        assert len(set(record["responses"])) > 1
        for text, given in zip(record["responses"], record["scores"], strict=True):
            assert given == score(text, row, RewardConfig()).task


def test_selection_goes_on_where_it_stopped(checkpoint, rows, tmp_path, monkeypatch):
    path = tmp_path / "answers.jsonl"
    whole = select_samples(*checkpoint, rows[:6], path, SETTINGS, k=3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:40])  # stopped while writing
    asked, real = [], backends.respond

    def counted(model, processor, batch, settings, **options):
        asked.append([row["id"] for row in batch])
        return real(model, processor, batch, settings, **options)

    monkeypatch.setattr(backends, "respond", counted)
    assert select_samples(*checkpoint, rows[:6], path, SETTINGS, k=3) == whole
    assert path.read_bytes() == b"".join(lines)
    again = [
        [row["id"] + end for row in pair for end in ("", "/1", "/2")]
        for pair in (rows[2:4], rows[4:6])
    ]
    assert asked == again
    select_samples(*checkpoint, rows[:6], path, SETTINGS, k=3)
    assert asked == again  # nothing left to ask
    assert select_samples(*checkpoint, rows[:7], path, SETTINGS, k=3)[:6] == whole
    assert [names[0] for names in asked[len(again) :]] == [rows[6]["id"]]


def test_answers_of_other_settings_or_rows_are_refused(checkpoint, rows, tmp_path):
    path = tmp_path / "answers.jsonl"
    select_samples(*checkpoint, rows[:2], path, SETTINGS, k=3)
    for settings, changed in (
        (replace(SETTINGS, temperature=0.5), {}),
        (replace(SETTINGS, seed=1), {}),
        (SETTINGS, {"k": 2}),
        (SETTINGS, {"rewards": RewardConfig(number_score="mra-11")}),
    ):
        with refused("evaluation.other-run", says=rows[0]["id"]):
            select_samples(*checkpoint, rows[:2], path, settings, **{"k": 3, **changed})
    asked = rows[0] | {"question": "How many?"}
    with refused("evaluation.other-run", says=rows[0]["id"]):
        select_samples(*checkpoint, [asked], path, SETTINGS, k=3)
    with refused("evaluation.id-twice", says=rows[0]["id"]):
        select_samples(*checkpoint, [rows[0], rows[0]], path, SETTINGS, k=3)


def test_a_row_without_its_video_is_not_selected(checkpoint, rows, tmp_path):
    lost = rows[0] | {"video": str(tmp_path / "gone.mp4")}
    with refused("evaluation.unreadable-media", says="gone.mp4"):
        select_samples(*checkpoint, [lost], tmp_path / "x.jsonl", SETTINGS, k=2)


def test_informative_rows_are_kept_and_counted():
    rows = [{"id": i} for i in range(5)]
    scores = [[1, 1, 1], [0, 0, 0], [1, 0, 1], [0.4, 0, 0], [0.5, 0.5, 1.0]]
    kept, histogram = keep_informative(rows, scores)
    assert [row["id"] for row in kept] == [2, 3, 4]
    assert histogram == {0: 2, 1: 1, 2: 1, 3: 1}
    assert keep_informative([], []) == ([], {0: 0})
    with refused("evaluation.uneven-scores", says="[1, 2]"):
        keep_informative(rows[:2], [[1], [0, 1]])
    with refused("evaluation.uneven-scores", says="2 groups"):
        keep_informative(rows[:2], [[1]])
    for none in (float("nan"), 1.5, -1):
        with refused("evaluation.score-out-of-range", says=str(none)):
            keep_informative(rows[:1], [[1, none]])
