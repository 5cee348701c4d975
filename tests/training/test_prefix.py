"""Shared prompts give the stock path's numbers; what would not is noticed or refused.

The oracle is the stock path with one row to a forward. Negative controls are wrong in
one way each, and differ.
"""

import dataclasses
import functools
import shutil
from types import SimpleNamespace

import pytest
import torch
from support import refused
from transformers import AutoModelForImageTextToText, DynamicCache, Qwen2_5_VLTextConfig

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.models.patches import cache
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training import assembly, attention, packing_check, prefix, scores, step
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.prefix import require_one_prompt
from spacer_lib.training.recipe import LOSSES
from spacer_lib.training.record import MetricsLog, meaning_of, read_journal

GROUP, PROMPTS = 8, 4
# Tokens of a group's completions: cut short, of one token, and one wholly masked.
LENGTHS = 12, 1, 5, 0, 12, 3, 7, 12


@pytest.fixture
def stock_by_rows(monkeypatch):
    """The stock path scores one row to a forward, as on a device of batch 1."""
    monkeypatch.setattr(scores, "CPU_FORWARD_ROWS", 1)


@pytest.fixture
def make(small, mixed, tmp_path):
    """``make(**changes)``: a trainer on a video, a picture, a video and a text."""

    def build(**changes):
        values = {
            "data_path": str(mixed),
            "prompts_per_step": PROMPTS,
            "num_generations": GROUP,
            "beta": 0.04,
            "num_iterations": 2,
            "shared_prefix": "on",
        }
        return build_trainer(small(**values | changes), tmp_path)

    return build


@pytest.fixture(scope="module")
def checkpoint_of(tmp_path_factory):
    """``checkpoint_of(family)``: folder of an untrained tiny model."""
    tokenizer = tiny.build_tokenizer(corpus())

    @functools.cache
    def build(family):
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(1)
        tiny.build_model(tokenizer, family).save_pretrained(folder)
        tiny.build_processor(tokenizer, family).save_pretrained(folder)
        return str(folder)

    return build


def ragged_batch(trainer, dtype=torch.float32):
    """A generation of ragged completions whose loss depends on every score."""
    batch = trainer.roll_out(range(PROMPTS))
    trainer.model.to(dtype)
    if trainer.ref_model is not None:
        trainer.ref_model.to(dtype)
    rows, width = batch["completion_ids"].shape
    lengths = torch.tensor(LENGTHS * PROMPTS)
    generator = torch.Generator().manual_seed(5)

    def moved(scores):  # since the rollouts, or against the reference
        return scores + 0.1 * torch.randn(rows, width, generator=generator)

    batch["completion_mask"] = (torch.arange(width) < lengths[:, None]).long()
    batch["advantages"] = torch.randn(rows, generator=generator)
    for key in ("old_per_token_logps", "ref_per_token_logps"):
        batch[key] = moved(batch[key]).to(dtype)
    return batch


def graded(trainer, batch, count):
    """Loss, scores and gradients with ``count`` completions packed; ``None``: stock."""
    trainer.shared_prefix = count
    trainer.model.train()
    trainer.model.zero_grad(set_to_none=True)
    trainer.current_gradient_accumulation_steps = 1
    loss, found = step.policy_loss(trainer, trainer.model, batch)
    loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in trainer.model.named_parameters()
        if parameter.requires_grad
    }
    logps = found.logps.detach() * batch["completion_mask"]
    return loss.detach(), logps, gradients


def largest_gap(ours, stock):
    """Largest differences: of losses, of scores, and of gradients over the largest."""
    assert ours[2].keys() == stock[2].keys()
    scale = max(gradient.abs().max() for gradient in stock[2].values())
    gaps = [(ours[2][name] - stock[2][name]).abs().max() for name in stock[2]]
    assert scale > 0 and stock[1].abs().max() > 0.1
    return (
        float((ours[0] - stock[0]).abs()),
        float((ours[1] - stock[1]).abs().max()),
        float(max(gaps) / scale),
    )


def assert_equal(trainer, batch, counts=(GROUP,), within=1e-5, scores_within=None):
    stock = graded(trainer, batch, None)
    for count in counts:
        loss, scores, gradients = largest_gap(graded(trainer, batch, count), stock)
        assert loss <= within and gradients <= within, count
        assert scores <= (scores_within or within), count
    return stock


# ------------------------------------------------------------ the same numbers


@pytest.mark.usefixtures("stock_by_rows")
class TestEquality:
    """Against one row to a forward: scores, loss, every gradient."""

    def test_of_mixed_media_at_every_count(self, make):
        trainer = make()
        batch = ragged_batch(trainer)
        assert batch["prompt_mask"].sum(dim=1).unique().numel() > 1  # left padding
        *_, gradients = assert_equal(trainer, batch, (1, 2, 4, 8))
        seen = [g.abs().max() for n, g in gradients.items() if ".visual." in n]
        assert min(seen) > 0 and len(seen) > 10

    @pytest.mark.parametrize("groups", [2, 3, 4])
    def test_of_several_groups_in_a_row(self, make, groups):
        trainer = make(groups_per_forward=groups)
        assert trainer.groups_per_forward == groups
        rows = []
        trainer.model.model.language_model.layers[0].register_forward_pre_hook(
            lambda _, args: rows.append(tuple(args[0].shape[:2]))
        )
        batch = ragged_batch(trainer)
        stock = graded(trainer, batch, None)
        rows.clear()
        assert max(largest_gap(graded(trainer, batch, GROUP), stock)) <= 1e-5
        branches = PROMPTS * sum(max(1, length) for length in LENGTHS)
        prompts = batch["prompt_mask"][::GROUP].sum() - PROMPTS
        assert len(rows) == -(-PROMPTS // groups)
        assert sum(size for _, size in rows) == prompts + branches

    def test_in_double_precision(self, make):
        trainer = make()
        batch = ragged_batch(trainer, torch.float64)
        # The model's own norms and the head compute in float32 whatever it is in.
        assert_equal(trainer, batch, (2, 8), 1e-6, 1e-10)

    @pytest.mark.parametrize("level", ["token", "sequence"])
    @pytest.mark.parametrize("kind", LOSSES)
    def test_of_every_loss(self, make, kind, level):
        trainer = make(loss_type=kind, importance_level=level, epsilon_high=1.05)
        assert_equal(trainer, ragged_batch(trainer), (4, 8))

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_with_gradient_checkpointing(self, make, reentrant):
        trainer = make()
        trainer.model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": reentrant}
        )
        assert trainer.model.is_activation_checkpointing
        assert_equal(trainer, ragged_batch(trainer), (4, 8))

    def test_with_lora(self, make):
        trainer = make(lora={"rank": 4})
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if "lora_B" in name:  # zero at the start: nothing would reach A
                    torch.nn.init.normal_(parameter, std=0.1)
        *_, gradients = assert_equal(trainer, ragged_batch(trainer), (4, 8))
        assert all("lora" in name for name in gradients)
        assert min(g.abs().max() for g in gradients.values()) > 0

    @pytest.mark.parametrize("family", prefix.FAMILIES)
    @pytest.mark.parametrize("positions", ["library", "original"])
    def test_in_each_family_and_rule_of_positions(
        self, make, family, positions, checkpoint_of
    ):
        # Enough frames for the rules to differ.
        trainer = make(model_path=checkpoint_of(family), positions=positions, frames=16)
        assert trainer.model.config.model_type == family
        assert_equal(trainer, ragged_batch(trainer))


def trained(make, folder, **changes):
    """Metrics and rollouts of a short run."""
    trainer = make(
        max_steps=4,
        learning_rate=1e-3,
        prompts_per_step=2,
        rollouts_per_step=16,
        **changes,
    )
    trainer.rollouts_path = folder / f"rollouts{len(list(folder.iterdir()))}.jsonl"
    path = trainer.rollouts_path.with_suffix(".metrics")
    trainer.add_callback(MetricsLog(path))
    trainer.train()
    return read_journal(path), read_journal(trainer.rollouts_path)


@pytest.fixture
def rewarded(monkeypatch):
    """An untrained model earns nothing; reward variety instead, so groups differ."""

    def variety(completions, **columns):
        return [float(len(set(chat[0]["content"]))) for chat in completions]

    monkeypatch.setattr(assembly, "trl_reward_functions", lambda *_, **__: [variety])


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "grpo"),
        ({"per_device_batch": 4}, "grpo"),
        ({"completions_per_forward": 2}, "grpo"),
        ({"per_device_batch": 4}, "cispo"),
        ({"completions_per_forward": 2}, "sapo"),
    ],
    ids=str,
)
def test_a_run_is_the_stock_run(make, tmp_path_factory, change, kind):
    """Two generations of two updates each: same rollouts, loss, gradient norm."""
    folder = tmp_path_factory.mktemp("runs")
    loss = {"loss_type": kind, "epsilon_high": 1.05 if kind == "cispo" else None}
    stock, rollouts = trained(make, folder, shared_prefix="off", **loss)
    ours, same = trained(make, folder, **change, **loss)
    assert same == rollouts and len(rollouts) == 2 * 16
    keys = "loss", "grad_norm", "reward"
    # Means over a micro-batch's tokens depend on which rows share it; the loss not.
    for key in keys if change else (*keys, "kl", "entropy"):
        found, expected = ([row.get(key, 0) for row in rows] for rows in (ours, stock))
        assert found == pytest.approx(expected, rel=2e-4, abs=1e-6), key
    assert [row["logp_change/max"] == 0 for row in ours] == [True, False, True, False]
    assert min(row["grad_norm"] for row in ours) > 1e-3
    for row, other in zip(ours, stock, strict=True):
        assert row["tokens/stock"] == other["tokens/stock"] <= other["tokens/computed"]
        assert row["tokens/computed"] < row["tokens/stock"]


def test_tokens_are_counted_over_every_pass(make, tmp_path, monkeypatch):
    """Old, reference and policy: each packs P - 1 positions and each completion."""
    trainer = make(max_steps=1, prompts_per_step=1)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    made = []
    roll_out = step.generation_batch
    monkeypatch.setattr(
        step, "generation_batch", lambda *args: made.append(roll_out(*args)) or made[-1]
    )
    trainer.train()
    (row,), (batch,) = read_journal(tmp_path / "metrics.jsonl"), made
    prompt = int(batch["prompt_mask"][0].sum())
    lengths = batch["completion_mask"].sum(dim=1)
    assert row["tokens/computed"] == 3 * (prompt - 1 + int(lengths.sum()))
    assert row["tokens/stock"] == 3 * (GROUP * prompt + int(lengths.sum()))
    assert meaning_of("tokens/computed") and meaning_of("tokens/stock")


def test_evaluation_packs_groups_of_its_own_size(make):
    trainer = make(prompts_per_step=2)
    trainer.num_generations_eval = 2
    found = trainer.evaluate(eval_dataset=trainer.train_dataset)
    assert found["eval_loss"] == found["eval_loss"]


# ------------------------------------------------------------ rollouts


def drawn(trainer, count, numbers=(0, 1, 2, 3)):
    trainer.shared_prefix = count
    return trainer.roll_out(numbers)["completion_ids"].tolist()


@pytest.mark.parametrize("family", prefix.FAMILIES)
def test_rollouts_are_the_stock_ones(make, checkpoint_of, family):
    """Mixed media, left padding; text after a video keeps no positions of it."""
    trainer = make(
        model_path=checkpoint_of(family),
        frames=8,
        positions="original",
        max_completion_length=24,
    )
    for numbers in ((0, 1, 2, 3), (3,), (1, 3)):
        assert drawn(trainer, GROUP, numbers) == drawn(trainer, None, numbers)
    expected = drawn(trainer, None)
    trainer.model.activation_checkpointing_enable()  # and then there is no cache
    assert drawn(trainer, GROUP) == expected
    assert trainer.model.is_activation_checkpointing


def test_rollouts_depend_on_every_rows_positions(make, monkeypatch):
    """Negative controls: deltas left at zero, or those of other prompts."""
    trainer = make(max_completion_length=48)
    expected = drawn(trainer, None)
    assert drawn(trainer, GROUP) == expected

    def wrong(change):
        def made(model, *args):
            inputs = prefix.prefill(model, *args)
            model.model.rope_deltas = change(model.model.rope_deltas)
            return inputs

        monkeypatch.setattr(step, "prefill", made)
        return drawn(trainer, GROUP)

    assert wrong(lambda deltas: deltas) == expected
    for change in (torch.zeros_like, lambda deltas: deltas.flip(0)):
        assert wrong(change) != expected


def test_each_prompt_is_prefilled_and_encoded_once(make):
    trainer = make()
    shapes, patches = [], []
    core = trainer.model.model
    core.visual.register_forward_pre_hook(lambda _, args: patches.append(len(args[0])))
    core.language_model.layers[0].register_forward_pre_hook(
        lambda _, args: shapes.append(tuple(args[0].shape[:2]))
    )
    batch = trainer.roll_out([0, 0, 1])
    width = batch["prompt_ids"].shape[1]
    # Two prompts before their last token, then a token at a time for three groups.
    assert shapes[:2] == [(2, width - 1), (3 * GROUP, 1)]
    assert patches[0] == sum(
        len(pixels)
        for one in (batch["media"][0], batch["media"][-1])
        for key, pixels in one.items()
        if "pixel" in key
    )


# ------------------------------------------------------------ what differs is noticed


def siblings_seen(monkeypatch, trainer):
    """One causal row: a branch sees the branches before it."""
    trainer.model.model.language_model.config._attn_implementation = "sdpa"


def positions_go_on(monkeypatch, trainer):
    """A branch is numbered after the branch before it."""

    right = prefix.packed_positions

    def one_text(model, prompt, media, group):
        made, before = right(model, prompt, media, group), group.before
        on = made[:, :, before : before + 1] + torch.arange(sum(group.lengths))
        return torch.cat([made[:, :, :before], on], dim=2)

    monkeypatch.setattr(prefix, "packed_positions", one_text)


def first_token_forgotten(monkeypatch, trainer):
    """A branch begins without the prompt's last token in its own place."""
    pack = prefix.pack

    def shifted(prompt, completions):
        made = pack(prompt, completions)
        return made._replace(labels=made.labels.roll(1, dims=1))

    monkeypatch.setattr(prefix, "pack", shifted)


def one_position_late(monkeypatch, trainer):
    """A branch begins behind the prompt's last token in place of upon it."""
    right = prefix.packed_positions

    def late(model, prompt, media, group):
        made = right(model, prompt, media, group)
        made[:, :, group.before :] += 1
        return made

    monkeypatch.setattr(prefix, "packed_positions", late)


@pytest.mark.usefixtures("stock_by_rows")
@pytest.mark.parametrize(
    "wrong",
    [siblings_seen, positions_go_on, first_token_forgotten, one_position_late],
)
def test_what_is_computed_wrongly_differs(make, monkeypatch, wrong):
    """Negative controls, each above ten times the tests' tolerance; and the check at
    the start sees them."""
    trainer = make()
    batch = ragged_batch(trainer)
    stock = graded(trainer, batch, None)
    assert max(largest_gap(graded(trainer, batch, GROUP), stock)) <= 1e-5
    assert packing_check.packing_gap(trainer, trainer.made_up(0)).is_noise
    wrong(monkeypatch, trainer)
    gaps = largest_gap(graded(trainer, batch, GROUP), stock)
    assert gaps[1] > 1e-2 and gaps[2] > 1e-3
    seen = packing_check.packing_gap(trainer, trainer.made_up(0))
    assert seen.packed > 10 * seen.most


@pytest.mark.usefixtures("stock_by_rows")
def test_another_video_beside_a_group_differs(make):
    trainer = make()
    batch = ragged_batch(trainer)
    stock = graded(trainer, batch, None)
    media = batch["media"]
    shown = [one["pixel_values_videos"].flip(0) for one in media[:1]]
    other = {**media[0], "pixel_values_videos": shown[0]}
    swapped = [other if one is media[0] else one for one in media]
    gaps = largest_gap(graded(trainer, {**batch, "media": swapped}, GROUP), stock)
    assert gaps[1] > 1e-2 and gaps[2] > 1e-3


def test_a_prompt_is_packed_with_itself_alone():
    ids, media = torch.tensor([1, 2]), {"pixel_values": torch.zeros(1)}
    require_one_prompt([ids, ids.clone()], [media, media])
    with refused("training.several-prompts", says="different prompts"):
        require_one_prompt([ids, ids + 1], [media, media])
    # Equal pixels of another row: which of them is shown must not be left to chance.
    with refused("training.several-prompts", says="different videos"):
        require_one_prompt([ids, ids], [media, dict(media)])


def test_rows_of_several_prompts_are_refused(make):
    trainer = make()
    batch = ragged_batch(trainer)
    media = batch["media"]
    # The second group's rows beside the first and second group's pictures.
    for wrong in (media[::-1], [media[16], *media[1:]]):
        with refused("training.several-prompts", says="videos"):
            graded(trainer, {**batch, "media": wrong[:4] + media[4:]}, GROUP)
    sequences = scores.joined({**batch, "media": [media[0]] * len(media)})
    several = dataclasses.replace(
        sequences, input_ids=sequences.input_ids[4:12], mask=sequences.mask[4:12]
    )
    with refused("training.several-prompts", says="different prompts"):
        scores.score_packed(trainer.model, several, trainer.accelerator, GROUP)


# ------------------------------------------------------------ the packed row


def test_a_packed_row_is_laid_out_as_said():
    prompt = torch.tensor([5, 6, 7])
    completions = [torch.tensor(ids, dtype=torch.long) for ids in ([1, 2], [3], [])]
    packed = prefix.pack(prompt, completions)
    assert packed.input_ids.tolist() == [[5, 6, 7, 1, 7, 7]]
    assert packed.labels.tolist() == [[1, 2, 3, -100]]
    assert packed.branches == ((2, (2, 1, 1)),)
    none = prefix.pack(prompt, completions[2:] * 2)  # a forward all the same
    assert none.branches == ((2, (1, 1)),) and (none.labels == -100).all()


def test_groups_stand_one_after_another():
    one, two, three = (
        prefix.PromptGroup(
            torch.tensor(prompt), list(map(torch.tensor, completions)), {}
        )
        for prompt, completions in (
            ([5, 6, 7], [[1, 2], [3]]),
            ([8], [[4]]),
            ([9, 7], [[1], [2, 3, 4]]),
        )
    )
    packed = prefix.pack_groups([one, two, three])
    assert packed.input_ids.tolist() == [[5, 6, 7, 1, 7, 8, 9, 7, 7, 2, 3]]
    assert packed.labels.tolist() == [[1, 2, 3, 4, 1, 2, 3, 4]]
    assert packed.branches == ((2, (2, 1)), (0, (1,)), (1, (1, 3)))
    assert packed.scored().tolist() == [2, 3, 4, 5, 7, 8, 9, 10]
    assert prefix.pack_groups([one]).scored() == slice(2, None)


def test_whole_groups_are_permuted():
    rows = torch.arange(12)
    batch = {
        "completion_ids": rows[:, None],
        "media": rows.tolist(),
        "none": None,
        "num_items_in_batch": torch.tensor(7),
    }
    torch.manual_seed(0)
    moved = prefix.permuted_blocks(batch, 4)
    blocks = torch.tensor(moved["media"]).view(3, 4)
    assert (blocks - blocks[:, :1]).tolist() == [[0, 1, 2, 3]] * 3
    assert sorted(blocks[:, 0].tolist()) == [0, 4, 8] != blocks[:, 0].tolist()
    assert moved["completion_ids"].flatten().tolist() == moved["media"]
    assert moved["none"] is None and moved["num_items_in_batch"] == 7


def test_a_saved_model_says_nothing_of_branches(make, tmp_path):
    trainer = make()
    language = trainer.model.model.language_model
    assert language.config._attn_implementation == attention.BRANCHES
    trainer.save_model(tmp_path / "saved")
    assert attention.BRANCHES not in (tmp_path / "saved" / "config.json").read_text()
    AutoModelForImageTextToText.from_pretrained(tmp_path / "saved")


# ------------------------------------------------------------ when it is not possible


def plan(config, workers=1, **architecture):
    text = {"layer_types": ["full_attention"], "attention_dropout": 0.0, **architecture}
    family = text.pop("model_type", "qwen2_5_vl")
    told = SimpleNamespace(
        model_type=family, get_text_config=lambda: SimpleNamespace(**text)
    )
    model = SimpleNamespace(config=told)
    return prefix.completions_per_forward(config, model, workers)


REFUSALS = {
    "qwen3_vl is none of qwen2_vl, qwen2_5_vl": ({}, {"model_type": "qwen3_vl"}),
    "the model has sliding-window layers": (
        {},
        {"layer_types": ["full_attention", "sliding_attention"]},
    ),
    "LoRA's dropout": ({"lora": {"rank": 4, "dropout": 0.1}}, {}),
    "attention dropout": ({}, {"attention_dropout": 0.1}),
    "bnpo's loss depends": ({"loss_type": "bnpo", "per_device_batch": 4}, {}),
    "per_device_batch cuts groups of 4 into single": ({"per_device_batch": 1}, {}),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_cannot_be_packed_is_refused_or_left_to_the_stock_path(small, reason):
    changes, architecture = REFUSALS[reason]
    assert plan(small()) == (4, None)
    count, found = plan(small(**changes), **architecture)
    assert count is None and found.startswith(reason)
    with refused("training.shared-prefix", says=reason):
        plan(small(shared_prefix="on", **changes), **architecture)
    assert plan(small(shared_prefix="off", **changes)) == (None, "switched off")


@pytest.mark.parametrize(
    ("changes", "workers", "shape", "count"),
    [
        ({}, 1, (8, 1), 4),
        ({"per_device_batch": 2}, 1, (2, 4), 2),
        ({"completions_per_forward": 2}, 1, (2, 4), 2),
        ({"completions_per_forward": 4, "per_device_batch": 2}, 1, (2, 4), 2),
        ({"completions_per_forward": 1}, 1, (1, 8), 1),
        ({"prompts_per_step": 3}, 2, (6, 1), 2),  # two workers share a group
        ({"lora": {"rank": 4}}, 1, (8, 1), 4),
        ({"loss_type": "bnpo"}, 1, (8, 1), 4),
    ],
)
def test_completions_of_a_forward(small, changes, workers, shape, count):
    config = small(**changes)
    assert config.batch_shape(workers) == shape
    assert plan(config, workers) == (count, None)


def test_completions_of_a_forward_divide_a_group(small):
    with refused("training.setting-value", says="completions_per_forward"):
        small(completions_per_forward=3)
    # Without packing they are no matter: micro-batches are per_device_batch's.
    off = small(completions_per_forward=2, shared_prefix="off")
    assert off.batch_shape(1) == (8, 1)


def test_auto_says_why_it_falls_back(make, capsys):
    trainer = make(shared_prefix="auto", lora={"rank": 4, "dropout": 0.1})
    assert trainer.shared_prefix is None
    said = capsys.readouterr().out
    assert "apart for each completion: LoRA's dropout would differ" in said
    assert make(shared_prefix="auto").shared_prefix == GROUP
    assert "computed for 8 completions at once" in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_wrong_scores_are_found_before_the_first_step(
    make, monkeypatch, capsys, tmp_path, setting
):
    positions_go_on(monkeypatch, None)
    trainer = make(shared_prefix=setting, max_steps=1)
    if setting == "on":
        with refused("training.shared-prefix", says="a batch's by"):
            trainer.train()
        assert trainer.state.global_step == 0
    else:
        trainer.train()
        assert trainer.shared_prefix is None and trainer.state.global_step == 1
        said = capsys.readouterr().out
        assert "APART for each completion: packed log-probabilities differ" in said


@pytest.mark.parametrize(
    "wrong",
    [siblings_seen, positions_go_on, first_token_forgotten, one_position_late],
)
def test_what_is_wrong_is_far_above_the_noise_in_bf16(make, monkeypatch, wrong):
    """Of a trained model: an untrained one hardly knows one position from the next."""
    trainer = make(model_path=str(PROJECT_ROOT / "checkpoints" / "tiny_warmstart"))
    trainer.model.to(torch.bfloat16)
    right = packing_check.packing_gap(trainer, trainer.made_up(0))
    assert right.is_noise and right.packed > 1e-3
    wrong(monkeypatch, trainer)
    gap = packing_check.packing_gap(trainer, trainer.made_up(0))
    assert gap.noise == right.noise and gap.packed > 1.5 * gap.most


def test_noise_is_what_two_stock_forms_differ_by():
    row = torch.tensor([-1.0, -2.0, -8.0])
    noisy, wrong = row + torch.tensor([1e-3, -1e-3, 2e-3]), row + 0.02
    gap = packing_check.gap_of(noisy, row, noisy.clone(), torch.float32)
    assert gap.is_noise and gap.packed == gap.noise == pytest.approx(
        2**0.5 * 1e-3, rel=1e-3
    )
    assert not packing_check.gap_of(wrong, row, noisy, torch.float32).is_noise
    # Equal stock forms: a last digit is noise, more is not; also of tokens that are
    # all but certain.
    sure = row / 100
    assert packing_check.gap_of(sure + 6e-7, sure, sure, torch.float32).is_noise
    assert packing_check.gap_of(row + 5e-7, row, row, torch.float32).is_noise
    assert not packing_check.gap_of(noisy, row, row, torch.float32).is_noise
    assert packing_check.gap_of(row + 0.03, row, row, torch.bfloat16).is_noise
    nothing = row * torch.nan
    for packed, batch in ((nothing, row), (row, nothing)):
        assert not packing_check.gap_of(packed, row, batch, torch.float32).is_noise


def test_the_check_is_made_again_when_lengths_grow(make, monkeypatch, capsys):
    trainer = make()
    assert trainer.packing_check.checked.tolist() == [0, 0]
    batch = trainer.roll_out([0, 3])  # of real rollouts, before they are scored
    said = capsys.readouterr().out
    prompt, completion = (
        int(batch[f"{side}_mask"].sum(dim=1).max()) for side in ("prompt", "completion")
    )
    assert "a batch's by" in said
    assert (
        f"prompts of up to {prompt} tokens, completions of up to {completion}" in said
    )
    trainer.roll_out([0, 3])
    assert "packed" not in capsys.readouterr().out  # no longer than before
    trainer.packing_check.checked /= 2
    first_token_forgotten(monkeypatch, trainer)
    with refused("training.shared-prefix", says="completions of up to"):
        trainer.roll_out([0, 3])
    trainer.packing_check.setting = "auto"
    trainer.packing_check.checked /= 2
    trainer.roll_out([0, 3])
    assert trainer.shared_prefix is None
    assert "APART for each completion: packed" in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["auto", "on"])
def test_bf16_without_deepspeed_packs(make, capsys, setting):
    """Weights stay fp32 under autocast: queries and keys too, but not values."""
    trainer = make(shared_prefix=setting, bf16=True, max_steps=1)
    assert trainer.model.dtype == torch.float32
    trainer.train()
    assert trainer.shared_prefix == GROUP and trainer.state.global_step == 1
    assert "packed log-probabilities differ" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RuntimeError, ImportError, OSError, LookupError])
@pytest.mark.parametrize("setting", ["auto", "on"])
def test_packing_that_fails_is_refused_or_left_out(
    make, monkeypatch, capsys, setting, error
):
    trainer = make(shared_prefix=setting, max_steps=1)

    def fail(*args, **kwargs):
        raise error("no kernel for this\nlong explanation")

    monkeypatch.setattr(scores, "packed_scores", fail)
    if setting == "on":
        with refused("training.shared-prefix", says="no kernel for this"):
            trainer.train()
        return
    trainer.train()
    assert trainer.shared_prefix is None and trainer.state.global_step == 1
    said = capsys.readouterr().out
    reason = f"packing fails: {error.__name__}: no kernel"
    assert f"APART for each completion: {reason}" in said


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_packed_scores_by_flex_are_the_stock_ones(make, monkeypatch):
    trainer = make(groups_per_forward=2)
    calls, by_flex = [], attention._by_flex

    def watched(*args):
        calls.append(args[3])
        return by_flex(*args)

    monkeypatch.setattr(attention, "_by_flex", watched)
    attention.use_branches(trainer.model, "flex")
    with torch.no_grad():  # a CPU has no backward pass
        gap = packing_check.packing_gap(trainer, trainer.made_up(0))
    assert gap.is_noise and len(set(calls)) == 1
    assert len(calls) == trainer.model.config.text_config.num_hidden_layers


# ------------------------------------------------------------ ways to decode


@pytest.fixture
def compiled_by(monkeypatch):
    """``compiled_by(backend)``: what torch.compile uses in place of inductor."""

    def choose(backend):
        made = cache.decoding_by

        def settings(*args):
            found = made(*args)
            if found.compile_config is not None:
                found.compile_config.backend = backend
            return found

        monkeypatch.setattr(step, "decoding_by", settings)

    yield choose
    torch._dynamo.reset()


@pytest.mark.parametrize("count", [GROUP, None], ids=["shared", "apart"])
def test_every_way_to_decode_draws_the_same_tokens(make, compiled_by, count):
    trainer = make(max_completion_length=24)
    expected = drawn(trainer, count)
    caches = []
    generate = trainer.model.generate

    def watched(**inputs):
        caches.append(type(inputs.get("past_key_values")).__name__)
        return generate(**inputs)

    trainer.model.generate = watched
    trainer.decode = "static"
    assert drawn(trainer, count) == expected
    compiled_by("aot_eager")
    trainer.decode = "compiled"
    torch._dynamo.utils.counters.clear()
    assert drawn(trainer, count) == expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert caches == ["StaticCache" if count else "NoneType"] * 2


def test_a_decode_that_inductor_compiles_draws_the_same_tokens(make):
    """On a CPU: C++ in place of the kernels and graphs of a GPU."""
    if shutil.which("c++") is None:
        pytest.skip("inductor compiles C++ here, and there is no C++ compiler")
    from torch._inductor import metrics  # takes seconds

    trainer = make(max_completion_length=6)
    expected = drawn(trainer, GROUP, (0, 3))
    trainer.decode = "compiled"
    torch._dynamo.reset()
    metrics.reset()
    assert drawn(trainer, GROUP, (0, 3)) == expected
    assert metrics.generated_kernel_count > 0
    torch._dynamo.reset()


def test_a_static_cache_holds_what_the_growing_one_held():
    config = Qwen2_5_VLTextConfig(
        hidden_size=3584,
        num_attention_heads=28,
        num_key_value_heads=4,
        num_hidden_layers=1,
    )
    growing = DynamicCache(config=config)
    states = torch.randn(2, 2, 4, 300, 128)
    growing.update(*states, 0)
    static = cache.as_static(growing, config, 300 + 40)
    assert static.get_seq_length() == 300
    keys, values = static.update(*torch.ones(2, 2, 4, 1, 128), 0)
    assert keys.shape[2] == values.shape[2] == 512
    for found, before in zip((keys, values), states, strict=True):
        assert torch.equal(found[:, :, :300], before)
        assert (found[:, :, 300] == 1).all() and not found[:, :, 301:].any()
