"""The trainer sees the video in every score, and samples what it was told to."""

import json
from types import SimpleNamespace

import datasets
import pytest
import torch
from support import refused
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

from spacer_lib.models.inputs import encode_prompts, join_media, pad_batch, token_types
from spacer_lib.models.patches import shared_media
from spacer_lib.models.patches.rope import position_rule
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.rewards.score import score
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.render import frames_from_uri
from spacer_lib.tiny.model import PATCH
from spacer_lib.training import assembly
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.checkpoints import complete_checkpoints
from spacer_lib.training.data import training_rows
from spacer_lib.training.record import MetricsLog, drop_later_steps
from spacer_lib.training.scores import joined
from spacer_lib.training.step import reward

GROUP = 4
# What a score is about; every other key of a batch is evidence (or belongs to it).
TEXT_KEYS = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "advantages",
    "old_per_token_logps",
    "num_items_in_batch",
)


def numbered(index):
    """One group's inputs for our trainer, as its dataset yields them."""
    return [{"prompt": [{"role": "user", "content": str(index)}]}] * GROUP


@pytest.fixture
def rewarded(monkeypatch):
    """An untrained model earns nothing; reward variety instead, so groups differ."""

    def variety(completions, **columns):
        return [float(len(set(chat[0]["content"]))) for chat in completions]

    monkeypatch.setattr(assembly, "trl_reward_functions", lambda *_, **__: [variety])


def loss_moves_with_the_video(trainer, own, other):
    """The guard: score the same completions beside another video's evidence.

    ``own`` and ``other`` are inputs that differ in the video only.
    """
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # as the training loop would
    torch.manual_seed(0)
    first = trainer._generate_and_score_completions(own)
    second = trainer._generate_and_score_completions(other)
    assert "old_per_token_logps" in first
    first["advantages"] = torch.tensor([1.0, -1.0, 2.0, -2.0])
    mixed = {**second, **{key: first[key] for key in TEXT_KEYS}}
    with torch.no_grad():
        own_loss = trainer._compute_loss(trainer.model, first)
        other_loss = trainer._compute_loss(trainer.model, mixed)
    return abs(float(own_loss - other_loss)) > 1e-6


@pytest.fixture
def two_videos(rows):
    """The same question about two rooms."""
    return [rows[0], {**rows[0], "video": rows[1]["video"]}]


def test_loss_depends_on_the_video(small, two_videos, tmp_path):
    config = small(prompts_per_step=1, num_iterations=2)
    trainer = build_trainer(config, tmp_path, rows=two_videos)
    assert loss_moves_with_the_video(trainer, numbered(0), numbered(1))


def test_a_blind_trainer_does_not_start(small, rows, tmp_path):
    trainer = build_trainer(small(max_steps=1), tmp_path, rows=rows)
    trainer.truth_scores = lambda *_: torch.zeros(3)
    with refused("training.blind", says="video"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_stock_trl_is_blind_and_the_guard_sees_it(model_dir, two_videos, tmp_path):
    """If this fails, TRL has learnt to pass videos on: look at our overrides again."""
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    processor = AutoProcessor.from_pretrained(model_dir, padding_side="left")
    args = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=GROUP,
        num_generations=GROUP,
        num_iterations=2,
        max_completion_length=12,
        max_steps=1,
        beta=0.0,
        loss_type="grpo",
        gradient_checkpointing=False,
        generation_kwargs={"suppress_tokens": [model.config.video_token_id]},
    )

    def prompts(row):
        frames, indices, total, fps = frames_from_uri(row["video"], 4, 56)
        parts = [
            {"type": "video", "video": torch.from_numpy(frames).permute(0, 3, 1, 2)},
            {"type": "text", "text": row["question"]},
        ]
        return [{"prompt": [{"role": "user", "content": parts}]}] * GROUP

    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        args=args,
        train_dataset=datasets.Dataset.from_dict({"prompt": ["unused"] * 4}),
        reward_funcs=lambda completions, **_: [float(len(c)) for c in completions],
    )
    own, other = (prompts(row) for row in two_videos)
    encoded = []
    model.model.visual.register_forward_hook(lambda *_: encoded.append(1))
    assert not loss_moves_with_the_video(trainer, own, other)
    assert len(encoded) == 2  # by the two calls of generate; by no score


def test_first_pass_scores_equal_old_scores(small, rows, tmp_path, rewarded):
    """num_iterations = 2: exactly 0 on the first pass, not on the second."""
    config = small(num_iterations=2, max_steps=4, learning_rate=1e-3)
    trainer = build_trainer(config, tmp_path, rows=rows)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    trainer.train()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    changes = [json.loads(line)["logp_change/max"] for line in lines]
    assert [change == 0.0 for change in changes] == [True, False, True, False]


@pytest.mark.parametrize("batch", [None, 2])
def test_first_pass_holds_in_micro_batches_and_with_a_reference(
    small, rows, tmp_path, batch
):
    config = small(num_iterations=2, max_steps=1, per_device_batch=batch, beta=0.04)
    trainer = build_trainer(config, tmp_path, rows=rows)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    trainer.train()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    # TRL averages over micro-batches; an average of absolute values is 0 if all are.
    assert json.loads(line)["logp_change/max"] == 0.0
    assert json.loads(line)["kl"] == 0.0  # the reference is the start, and sees it too


def test_exchanged_videos_are_noticed(small, rows, tmp_path):
    """Negative control of the invariant: same rows, their videos in reverse."""
    trainer = build_trainer(small(num_iterations=2), tmp_path, rows=rows)
    batch = trainer.roll_out([0, 1])
    for videos, moves in ((batch["media"], False), (batch["media"][::-1], True)):
        trainer.score(batch, videos)
        assert (trainer._metrics["train"]["logp_change/max"].pop() > 1e-4) == moves


def test_rollouts_differ_despite_a_near_greedy_checkpoint(
    small, model_dir, rows, tmp_path
):
    """Qwen2.5-VL's published settings: temperature 1e-6, top_k 1, penalty 1.05."""
    greedy = tmp_path / "greedy"
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    model.generation_config.update(
        do_sample=True, temperature=1e-6, top_k=1, repetition_penalty=1.05
    )
    model.save_pretrained(greedy)
    AutoProcessor.from_pretrained(model_dir).save_pretrained(greedy)
    trainer = build_trainer(small(model_path=str(greedy)), tmp_path, rows=rows)
    batch = trainer.roll_out([0, 1])
    texts = [tuple(ids) for ids in batch["completion_ids"].tolist()]
    assert len(set(texts[:GROUP])) > 1 and len(set(texts[GROUP:])) > 1
    assert trainer._metrics["train"]["rollouts_identical"] == [0.0]


def shout(model, token_ids, amount):
    """Raise some tokens' logits, whatever the weights say."""

    def louder(module, args, logits):
        logits = logits.clone()
        logits[..., token_ids] += amount
        return logits

    return model.lm_head.register_forward_hook(louder)


def test_pad_tokens_are_never_sampled(small, rows, tmp_path):
    trainer = build_trainer(small(), tmp_path, rows=rows)
    config = trainer.model.config
    pads = [config.image_token_id, config.video_token_id]
    shout(trainer.model, pads, 1e4)
    batch = trainer.roll_out([0])
    assert not torch.isin(batch["completion_ids"], torch.tensor(pads)).any()


def test_groups_of_identical_rollouts_are_refused(small, rows, tmp_path):
    config = small(prompts_per_step=4)
    trainer = build_trainer(config, tmp_path, rows=rows)
    shout(trainer.model, [trainer.model.config.text_config.eos_token_id], 1e4)
    with refused("training.identical-rollouts", says="raise temperature"):
        trainer.roll_out([0, 1, 2, 3])


def test_identical_rollouts_of_two_tokens_are_too_short(small, rows, tmp_path):
    config = small(prompts_per_step=4, max_completion_length=2)
    trainer = build_trainer(config, tmp_path, rows=rows)
    shout(trainer.model, trainer.processing_class.tokenizer("3").input_ids[:1], 1e4)
    says = "100% of them cut off at max_completion_length = 2 tokens"
    with refused("training.identical-rollouts", says=says) as caught:
        trainer.roll_out([0, 1, 2, 3])
    assert "temperature" not in str(caught.value)


def test_a_shared_video_is_encoded_once_and_features_are_the_same(model_dir, rows):
    model = AutoModelForImageTextToText.from_pretrained(model_dir).eval()
    processor = AutoProcessor.from_pretrained(model_dir)
    batch = [rows[0], rows[1], rows[0], rows[1], rows[0]]
    ids, videos = encode_prompts(processor, batch, "tiny", VideoSettings())
    assert videos[0] is videos[2] and videos[1] is videos[3]
    input_ids, mask = pad_batch(ids, processor.tokenizer.pad_token_id, "left")
    text = {
        "input_ids": input_ids,
        "attention_mask": mask,
        "mm_token_type_ids": token_types(input_ids, model.config),
    }
    patches = []
    model.model.visual.register_forward_pre_hook(
        lambda module, args: patches.append(len(args[0]))
    )
    with torch.no_grad():
        plain = model(**text, **join_media(videos)).logits
        with media_once(model, videos, "cpu") as tensors:
            once = model(**text, **tensors).logits
        again = model(**text, **join_media(videos)).logits
    assert patches == [5 * 128, 2 * 128, 5 * 128]
    torch.testing.assert_close(once, plain, rtol=0, atol=2e-5)
    assert torch.equal(again, plain)  # and nothing stays behind


def test_scores_are_those_of_a_plain_forward(small, rows, tmp_path):
    """Oracle: one row at a time through the model's own ``forward`` and log_softmax."""
    trainer = build_trainer(small(temperature=0.7), tmp_path, rows=rows)
    batch = trainer.roll_out([0, 4])
    sequences = joined(batch)
    ids, mask = sequences.input_ids, sequences.mask
    with torch.no_grad():
        ours = trainer.log_probs(trainer.model, sequences).logps
        for i, video in enumerate(batch["media"]):
            real = mask[i].bool()
            row = ids[i : i + 1, real]
            logits = trainer.model(
                input_ids=row,
                **video,
                mm_token_type_ids=token_types(row, trainer.model.config),
            ).logits
            logps = (logits[0, :-1] / 0.7).log_softmax(-1).gather(1, row[0, 1:, None])
            length = int(batch["completion_mask"][i].sum())
            torch.testing.assert_close(
                ours[i, :length], logps[-length:, 0], rtol=0, atol=1e-4
            )


def test_rollouts_are_written_with_their_rewards(small, rows, tmp_path):
    config = small(rollouts_per_step=3, max_steps=1)
    trainer = build_trainer(config, tmp_path, rows=rows)
    trainer.train()
    lines = [json.loads(t) for t in (tmp_path / "rollouts.jsonl").open()]
    assert len(lines) == 3 and len({line["id"] for line in lines}) == 1
    assert {line["step"] for line in lines} == {1}
    assert set(lines[0]["rewards"]) == set(trainer.reward_func_names)
    again = score(lines[0]["completion"], lines[0], config.reward)
    assert again.total == pytest.approx(sum(lines[0]["rewards"].values()))


def test_vision_tower_moves_unless_told_not_to(small, rows, tmp_path, rewarded):
    for wanted, frozen in ((True, None), (False, r"\.visual\."), (True, "blocks")):
        config = small(frozen=frozen, max_steps=1, learning_rate=1e-2)
        trainer = build_trainer(config, tmp_path, rows=rows)
        weight = trainer.model.model.visual.merger.mlp[0].weight
        before = weight.detach().clone()
        trainer.train()
        assert torch.equal(weight, before) != wanted


@pytest.mark.usefixtures("rewarded")
def test_a_frozen_tower_sees_each_video_once(small, rows, tmp_path, monkeypatch):
    """Policy and reference each, in rollouts, scores and updates of two epochs."""
    config = small(
        frozen="visual", beta=0.04, num_iterations=2, max_steps=8, learning_rate=1e-3
    )
    runs, patches = [], []
    for keeps in (True, False):
        trainer = build_trainer(config, tmp_path / f"{keeps}", rows=rows[:4])
        if not keeps:
            monkeypatch.setattr(shared_media, "_KEEPERS", set())
        seen = []
        for model in (trainer.model, trainer.ref_model):
            model.model.visual.register_forward_pre_hook(
                lambda module, args, seen=seen: seen.append(len(args[0]))
            )
        trainer.train()
        patches.append(sum(seen))
        runs.append([log for log in trainer.state.log_history if "loss" in log])
    video = config.frames // 2 * (config.frame_size // PATCH) ** 2
    # Four videos; one grey picture, with which the loss is asked whether it sees.
    assert patches[0] == 2 * 4 * video + video < patches[1] / 3
    for ours, plain in zip(*runs, strict=True):
        for key in ("loss", "grad_norm", "kl"):
            assert ours[key] == pytest.approx(plain[key], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("pattern", ["vissual", "."])
def test_a_frozen_pattern_must_fit_some_parameters(small, rows, tmp_path, pattern):
    with refused("training.frozen", says=repr(pattern)):
        build_trainer(small(frozen=pattern), tmp_path, rows=rows)


def test_old_checkpoints_go_when_newer_ones_are_complete(small, rows, tmp_path):
    config = small(max_steps=3, save_steps=1, keep_checkpoints=2)
    build_trainer(config, tmp_path, rows=rows).train()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["checkpoint-2", "checkpoint-3"]


def test_a_resumed_run_starts_from_the_checkpoints_weights(
    small, rows, tmp_path, rewarded
):
    """Without DeepSpeed, transformers alone would keep the weights of the start."""
    config = small(save_steps=1, learning_rate=1e-2)
    straight, resumed, fresh = (
        build_trainer(config, tmp_path, rows=rows) for _ in range(3)
    )
    straight.train()
    checkpoint = complete_checkpoints(tmp_path / "checkpoints")[0]
    assert checkpoint.name == "checkpoint-1"
    resumed.train(resume_from_checkpoint=str(checkpoint))
    end, again, start = (t.model.state_dict() for t in (straight, resumed, fresh))
    assert all(torch.equal(end[name], again[name]) for name in end)
    assert any(not torch.equal(end[name], start[name]) for name in end)


def test_logs_are_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"seconds":2.5}\n{"step":2,"seconds":4}\n{"step":3}\n')
    assert drop_later_steps(path, 2) == 4
    assert [json.loads(line)["step"] for line in path.open()] == [1, 2]
    assert drop_later_steps(tmp_path / "absent.jsonl", 0) == 0.0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"ground_truth": ""}, "training.incomplete-row"),
        ({"video": "absent.mp4"}, "training.no-media"),
    ],
)
def test_unusable_rows_are_refused(small, rows, tmp_path, change, kind):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**row, **change}) + "\n" for row in rows))
    with refused(kind):
        training_rows(small(data_path=str(path)))


def test_rows_come_from_a_file_or_from_fresh_rooms(small, rows, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_rows(small(data_path=str(path))) == rows
    drawn = training_rows(small(max_steps=3))
    assert len(drawn) == 3 * 2 and len({row["video"] for row in drawn}) == 6
    assert len(training_rows(small(max_steps=3, num_iterations=2))) == 2 * 2


def test_a_missing_model_is_one_clear_message(small, tmp_path):
    with refused("models.no-checkpoint", says="checkpoints/absent"):
        build_trainer(small(model_path="checkpoints/absent"), tmp_path, rows=[])


@pytest.mark.parametrize("positions", ["library", "original"])
def test_policy_and_reference_number_alike(small, rows, tmp_path, positions):
    config = small(positions=positions, beta=0.04, max_steps=1)
    trainer = build_trainer(config, tmp_path, rows=rows)
    models = trainer.model, trainer.ref_model
    for model in models:  # time steps far enough apart for the rules to differ
        model.config.vision_config.tokens_per_second = 25
    assert [position_rule(model) for model in models] == [positions] * 2
    trainer.train()
    assert trainer.state.log_history[0]["kl"] == 0


@pytest.mark.parametrize("paid", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused(paid):
    """``None`` says that a reward does not apply; NaN would be left out like it."""

    def earned(value):
        trainer = SimpleNamespace(
            accelerator=SimpleNamespace(device="cpu", gather=lambda values: values),
            reward_funcs=[lambda **_: [1.0, 0.0], lambda **_: [value, None]],
            group_size=2,
            args=SimpleNamespace(scale_rewards="group"),
        )
        batch = SimpleNamespace(rows=[{"id": "a"}] * 2, numbers=[0, 0])
        return reward(trainer, batch, SimpleNamespace(texts=["", ""], ids=[[], []]))

    assert earned(0.5).total.tolist() == [1.5, 0.0]
    with refused("training.grpo-not-finite", says="rewards"):
        earned(paid)
