"""What may be switched on around a group: losses, refill, broken media, vLLM."""

import pytest
import torch
from PIL import Image
from support import refused

from spacer_lib.models.inputs import MediaError
from spacer_lib.training import assembly, batches, grpo, step
from spacer_lib.training.assembly import build_trainer, training_arguments
from spacer_lib.training.refill import replace_rows
from spacer_lib.training.vllm_rollouts import Made, VllmRollouts


@pytest.fixture
def variety(monkeypatch):
    """Reward the number of different letters; but rows of "alike" all alike."""

    def reward(completions, alike, **columns):
        return [
            0.0 if mute else float(len(set(chat[0]["content"])))
            for chat, mute in zip(completions, alike, strict=True)
        ]

    monkeypatch.setattr(assembly, "trl_reward_functions", lambda *_, **__: [reward])


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("grpo", "token"),
        ("bnpo", "token"),
        ("dapo", "token"),
        ("dr_grpo", "token"),
        ("grpo", "sequence"),
        ("cispo", "token"),
        ("sapo", "token"),
        ("sapo", "sequence"),
    ],
)
def test_settings_of_the_loss_reach_it(small, rows, tmp_path, variety, kind, level):
    rows = [{**row, "alike": False} for row in rows]
    high = 1.02 if kind == "cispo" else 0.02
    config = small(
        num_iterations=2,
        beta=0.04,
        epsilon=0.01,
        epsilon_high=high,
        sapo_temperature_pos=0.5,
        sapo_temperature_neg=20.0,
        loss_type=kind,
        importance_level=level,
    )
    trainer = build_trainer(config, tmp_path, rows=rows)
    batch = trainer.roll_out([0, 1])
    with torch.no_grad():  # the policy moves, so that ratios leave 1 and some are cut
        for weight in trainer.model.parameters():
            weight += 0.01 * weight.std() * torch.randn_like(weight)
    loss, logps = trainer.score(batch)
    names = "old_per_token_logps", "ref_per_token_logps", "advantages"
    old, ref, advantages = (batch[name].double() for name in names)
    logps, mask = logps.double(), batch["completion_mask"]
    ratio = torch.exp(logps - old)[mask.bool()]
    assert ratio.min() < 0.99 and ratio.max() > 1.02
    expected, *_ = grpo.loss(
        logps,
        old,
        advantages,
        mask,
        ref_logps=ref,
        beta=0.04,
        epsilon=0.01,
        epsilon_high=high,
        temperatures=(0.5, 20.0),
        level=level,
        variant=kind,
        max_length=config.max_completion_length,
    )
    assert loss == pytest.approx(float(expected), rel=1e-4, abs=1e-7)
    logged = trainer._metrics["train"]
    assert ("clip_ratio/region_mean" in logged) == (kind in grpo.CLIPPING)
    assert ("cispo_clip_ratio" in logged) == (kind == "cispo")
    share = logged["cispo_clip_ratio"] or logged["clip_ratio/region_mean"] or [0]
    assert share[0] > 0 or kind == "sapo" or level == "sequence"


# ---------------------------------------------------------------- refill


def test_rows_are_replaced_and_widened_on_the_right_side():
    batch = {
        "prompt_ids": torch.tensor([[1, 2], [9, 3]]),
        "completion_ids": torch.tensor([[5, 6], [7, 9]]),
        "completion_mask": torch.tensor([[1, 1], [1, 0]]),
        "advantages": torch.tensor([0.0, 0.0]),
        "num_items_in_batch": torch.tensor(3),
        "media": ["a", "b"],
    }
    extra = {
        "prompt_ids": torch.tensor([[1, 2, 3]]),
        "completion_ids": torch.tensor([[8]]),
        "completion_mask": torch.tensor([[1]]),
        "advantages": torch.tensor([2.0]),
        "num_items_in_batch": torch.tensor(1),
        "media": ["c"],
    }
    merged = replace_rows(batch, extra, {1: 0}, pad_id=9)
    assert merged["prompt_ids"].tolist() == [[9, 1, 2], [1, 2, 3]]
    assert merged["completion_ids"].tolist() == [[5, 6], [8, 9]]
    assert merged["completion_mask"].tolist() == [[1, 1], [1, 0]]
    assert merged["advantages"].tolist() == [0.0, 2.0]
    assert merged["media"] == ["a", "c"]
    assert batch["media"] == ["a", "b"]


def test_alike_groups_are_asked_something_else(small, rows, tmp_path, variety):
    rows = [{**row, "alike": number < 6} for number, row in enumerate(rows)]
    config = small(refill=3, num_iterations=2, prompts_per_step=3)
    trainer = build_trainer(config, tmp_path, rows=rows)
    batch = trainer.roll_out([0, 7, 1])
    groups = batch["advantages"].view(3, 4)
    assert (groups != 0).any(dim=1).sum() >= 2  # the one that spoke, and refilled ones
    metrics = trainer._metrics["train"]
    assert metrics["refill/groups"][0] == (groups != 0).any(dim=1).sum() - 1
    assert 1 <= metrics["refill/rounds"][0] <= 3
    # The step's own figures are those of the rows it drew.
    assert metrics["frac_reward_zero_std"] == [pytest.approx(2 / 3)]
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    # Replaced rows carry their own media: old scores are found again (in another
    # width, so not to the last bit).
    trainer.score(batch)
    assert metrics["logp_change/max"][0] < 1e-5
    swapped = [*batch["media"][4:], *batch["media"][:4]]
    trainer.score(batch, swapped)
    assert metrics["logp_change/max"][1] > 1e-4


def test_refill_wants_whole_groups_on_each_worker(small):
    config = small(refill=1, prompts_per_step=1)
    with refused("training.cut-groups", says="4"):
        training_arguments(config, "unused", workers=2)


# ---------------------------------------------------------------- broken media


def test_an_unreadable_video_is_skipped_counted_and_the_same_for_all_ranks(
    small, rows, tmp_path, variety, capsys
):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    rows = [{**row, "alike": False} for row in rows]
    rows[3] = {**rows[3], "video": str(broken)}
    trainer = build_trainer(small(), tmp_path, rows=rows)
    batch = trainer.roll_out([3, 5])
    assert trainer._metrics["train"]["media_skipped"] == [1.0]
    assert "skipped from now on" in capsys.readouterr().out
    other = build_trainer(small(), tmp_path, rows=rows).roll_out([4, 5])
    assert torch.equal(batch["completion_ids"], other["completion_ids"])


def test_many_unreadable_videos_are_no_accident(small, rows, tmp_path, variety):
    rows = [
        {**row, "alike": False, "video": f"missing{i}"} for i, row in enumerate(rows)
    ]
    trainer = build_trainer(small(), tmp_path, rows=rows)
    with refused("training.broken-media", says="missing"):
        trainer.roll_out([0, 1])


# ---------------------------------------------------------------- vLLM


class Engine:
    """In vLLM's place: keeps what it is given, and answers as it is told."""

    def __init__(self, trainer, logps=-1.0):
        self.trainer, self.logps = trainer, logps
        self.loaded = self.asked = None

    def load(self, weights):
        self.loaded = {name: weight.shape for name, weight in weights}

    def rest(self):
        pass

    def ask(self, rows, style, video, seeds, sampling):
        self.asked = rows, seeds, sampling
        end = self.trainer.processing_class.tokenizer.eos_token_id
        ids, _ = batches.encode_prompts(
            self.trainer.processing_class, rows, style, video
        )
        return [
            Made(prompt, [20 + i, 30, end], [self.logps] * 3)
            for i, prompt in enumerate(ids)
        ]


def with_engine(trainer, **options):
    engine = Engine(trainer, **options)
    trainer.vllm = VllmRollouts(trainer, engine)
    return engine


def test_vllm_gets_rows_seeds_and_weights(small, rows, tmp_path, variety):
    """Videos, images and text; and the loss sees what vLLM saw."""
    path = tmp_path / "picture.png"
    Image.new("RGB", (80, 60), "red").save(path)
    base = {**rows[0], "alike": False}
    mixed = [base, {**base, "video": None, "image": str(path)}]
    trainer = build_trainer(small(num_iterations=2), tmp_path, rows=mixed)
    engine = with_engine(trainer)
    batch = trainer.roll_out([0, 1])
    asked, seeds, sampling = engine.asked
    assert [row.get("image") for row in asked] == [None] * 4 + [str(path)] * 4
    assert len(set(seeds)) == 8 and min(seeds) >= 0
    config = trainer.model.config
    assert sampling.suppressed == (config.image_token_id, config.video_token_id)
    assert sampling.max_tokens == 12 and sampling.ends == tuple(trainer.eos_token_ids)
    assert "model.language_model.layers.0.mlp.up_proj.weight" in engine.loaded
    end = trainer.processing_class.tokenizer.eos_token_id
    assert batch["completion_ids"][3].tolist() == [23, 30, end]
    _, own = trainer.score(batch)
    grey = {
        id(m): {k: v * 0 if "pixel" in k else v for k, v in m.items()}
        for m in batch["media"]
    }
    _, other = trainer.score(batch, [grey[id(m)] for m in batch["media"]])
    assert ((own - other).abs().amax(dim=1) > 0).all()


def test_vllm_is_given_weights_once_a_step(small, rows, tmp_path, variety):
    texts = [{**row, "alike": False, "video": None} for row in rows]
    trainer = build_trainer(small(), tmp_path, rows=texts)
    engine = with_engine(trainer)
    trainer.roll_out([0, 1])
    first = engine.asked[1]
    engine.loaded = None
    trainer.roll_out([2, 3])
    assert engine.loaded is None and engine.asked[1] == first
    trainer.state.global_step += 1
    trainer.roll_out([0, 1])
    assert engine.loaded and engine.asked[1] != first
    engine.sleeps, engine.loaded = True, None  # it forgets what it held
    trainer.roll_out([0, 1])
    trainer.roll_out([0, 1])
    assert engine.loaded


def test_a_prompt_that_vllm_reads_otherwise_is_refused(
    small, rows, tmp_path, variety, monkeypatch
):
    texts = [{**row, "alike": False, "video": None} for row in rows]
    trainer = build_trainer(small(), tmp_path, rows=texts)
    engine = with_engine(trainer)
    ask = engine.ask
    monkeypatch.setattr(
        engine,
        "ask",
        lambda *given: [
            made._replace(prompt_ids=[*made.prompt_ids[:7], 9, *made.prompt_ids[7:]])
            for made in ask(*given)
        ],
    )
    with refused("training.vllm-prompt", says="place 7"):
        trainer.roll_out([0, 1])


def test_vllm_and_four_bit_weights_exclude_each_other(small):
    with refused("training.setting-value", says="four_bit"):
        small(vllm="colocate", **{"lora.rank": 4, "lora.four_bit": True})


@pytest.mark.parametrize(
    ("key", "value"), [("vllm_memory", 1.0), ("vllm_length", 0), ("vllm", "remote")]
)
def test_settings_of_vllm_are_checked(small, key, value):
    with refused("training.setting-value", says=f"advanced.{key}"):
        small(**{key: value})


def test_media_errors_name_their_source(small, rows, tmp_path):
    trainer = build_trainer(small(), tmp_path, rows=rows)
    with pytest.raises(MediaError) as caught:
        batches.encode_prompts(
            trainer.processing_class,
            [{**rows[0], "video": "nowhere.mp4"}],
            "tiny",
            trainer.source.video,
        )
    assert caught.value.source == "nowhere.mp4"


def test_the_same_completions_give_the_same_update_whoever_drew_them(
    small, rows, tmp_path, variety
):
    videos = [{**row, "alike": False} for row in rows]
    trainer = build_trainer(small(), tmp_path / "own", rows=videos)
    drawn = trainer.roll_out([0, 1])
    _, logps = trainer.score(drawn)
    other = build_trainer(small(), tmp_path / "vllm", rows=videos)
    engine = with_engine(other)
    kept = drawn["completion_mask"].bool()

    def replay(*given):
        answers = zip(drawn["completion_ids"], logps, kept, strict=True)
        return [
            made._replace(ids=ids[mask].tolist(), logps=scores[mask].tolist())
            for made, (ids, scores, mask) in zip(asked(*given), answers, strict=True)
        ]

    asked, engine.ask = engine.ask, replay
    replayed = other.roll_out([0, 1])
    for one in (trainer, other):
        one.model.train()
        one.current_gradient_accumulation_steps = 1
        loss, _ = step.policy_loss(
            one, one.model, drawn if one is trainer else replayed
        )
        loss.backward()
    pairs = zip(trainer.model.parameters(), other.model.parameters(), strict=True)
    gradients = [(a.grad, b.grad) for a, b in pairs if a.grad is not None]
    assert sum(bool(a.any()) for a, _ in gradients) > 20
    for ours, theirs in gradients:
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-7)


def test_completions_of_vllm_are_weighted(small, rows, tmp_path, variety):
    """vLLM's log-probabilities as the trainer's, and one row far too unlikely there."""
    texts = [{**row, "alike": False, "video": None} for row in rows]
    trainer = build_trainer(small(), tmp_path, rows=texts)
    engine = with_engine(trainer)
    ask = engine.ask

    def odd(*given):
        made = ask(*given)
        made[1] = made[1]._replace(logps=[-50.0] * 3)
        made[2] = made[2]._replace(logps=[None] * 3)
        return made

    engine.ask = odd
    batch = trainer.roll_out([0, 1])
    old, weights = batch["old_per_token_logps"], batch["sampler_weights"].flatten()
    expected = torch.exp((old + 1).sum(dim=1))
    expected[1], expected[2] = 0, 1
    expected[expected > 3] = 0
    torch.testing.assert_close(weights, expected)
    metrics = trainer._metrics["train"]
    assert metrics["sampling/importance_sampling_ratio/min"] == [0.0]
    assert metrics["sampling/sampling_logp_difference/max"][0] > 20
    loss, _ = trainer.score(batch)
    assert loss == loss and "alike" in texts[0]
