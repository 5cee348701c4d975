"""GRPO's functions against TRL's own code, and against the formulas in numpy."""

import itertools
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import refused
from trl import GRPOTrainer
from trl.trainer.utils import selective_log_softmax

from spacer_lib.training import grpo
from spacer_lib.training.assembly import build_trainer

ROWS, WIDTH, LONGEST, TOKENS = 6, 7, 9, 31
LENGTHS = 7, 1, 4, 0, 7, 3  # of the completions; one is wholly masked
EPSILON, EPSILON_HIGH = 0.1, 0.25
TEMPERATURES = 0.7, 1.6
VOCABULARY = 152_064  # of Qwen2.5-VL-7B


def upper(variant):
    """``epsilon_high``; CISPO's is the largest ratio itself."""
    return 1 + EPSILON_HIGH if variant == "cispo" else EPSILON_HIGH


def numbers(dtype=torch.float64):
    """Log-probabilities far enough apart that both sides of the clip bind."""
    generator = torch.Generator().manual_seed(3)

    def drawn(scale, shift=0.0):
        values = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
        return (shift + scale * values).to(dtype)

    old = drawn(0.3, -1.5)
    made = {
        "logps": old + drawn(0.3),
        "old_logps": old,
        "advantages": torch.tensor([1.5, -0.5, 0.0, 2.0, -1.0, -2.0], dtype=dtype),
        "mask": (torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]).long(),
        "ref_logps": old + drawn(0.4),
    }
    ratio = torch.exp(made["logps"] - old)[made["mask"].bool()]
    assert ratio.min() < 1 - EPSILON and ratio.max() > 1 + EPSILON_HIGH
    return made


CASES = list(itertools.product(grpo.VARIANTS, grpo.LEVELS, (0.0, 0.04), (False, True)))


def ours(made, variant, level, beta, weighted, **changes):
    """``grpo.loss`` of the fixed numbers."""
    weights = torch.linspace(0.5, 1.5, ROWS, dtype=torch.float64)[:, None].to(
        made["logps"]
    )
    rows = len(made["logps"])
    options = {
        "beta": beta,
        "epsilon": EPSILON,
        "epsilon_high": upper(variant),
        "level": level,
        "variant": variant,
        "temperatures": TEMPERATURES,
        "weights": weights[:rows] if weighted else None,
        "max_length": LONGEST,
        "token_count": TOKENS,
    }
    return grpo.loss(**made, **options | changes)


# ---------------------------------------------------------------- TRL


def trl_loss(made, variant, level, beta, weighted):
    """``GRPOTrainer._compute_loss`` itself, given log-probabilities; its metrics."""
    scores = made["logps"], torch.zeros_like(made["logps"]), None
    accelerator = SimpleNamespace(
        num_processes=1,
        reduce=lambda values, reduction: values,
        gather=lambda values: values,
    )
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: scores,
        args=SimpleNamespace(
            use_bias_correction_kl=False,
            delta=None,
            steps_per_generation=1,
            sapo_temperature_pos=TEMPERATURES[0],
            sapo_temperature_neg=TEMPERATURES[1],
        ),
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=level,
        beta=beta,
        loss_type=variant,
        epsilon_low=EPSILON,
        epsilon_high=upper(variant),
        use_vllm=weighted,
        vllm_importance_sampling_correction=weighted,
        max_completion_length=LONGEST,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    rows, width = made["mask"].shape
    inputs = {
        "prompt_ids": torch.zeros(rows, 2, dtype=torch.long),
        "prompt_mask": torch.ones(rows, 2, dtype=torch.long),
        "completion_ids": torch.zeros(rows, width, dtype=torch.long),
        "completion_mask": made["mask"],
        "advantages": made["advantages"],
        "old_per_token_logps": made["old_logps"],
        "ref_per_token_logps": made["ref_logps"],
        "num_items_in_batch": torch.tensor(TOKENS),
        "importance_sampling_ratio": torch.linspace(
            0.5, 1.5, ROWS, dtype=torch.float64
        )[:rows, None],
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss, {key: value[0] for key, value in trainer._metrics["train"].items()}


@pytest.mark.parametrize(("variant", "level", "beta", "weighted"), CASES)
def test_loss_and_gradient_are_trls(variant, level, beta, weighted):
    made = numbers()
    found = []
    for function in (ours, trl_loss):
        logps = made["logps"].clone().requires_grad_()
        loss, *_ = function({**made, "logps": logps}, variant, level, beta, weighted)
        loss.backward()
        found.append((loss.detach(), logps.grad))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)
    assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("level", grpo.LEVELS)
@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_bf16_scores_of_the_published_vocabulary(variant, level):
    """From logits on, so that the gradient is that of a language model's head."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(4, 5, VOCABULARY, generator=generator).bfloat16()
    ids = torch.randint(VOCABULARY, (4, 5), generator=generator)
    old = selective_log_softmax(logits, ids)
    noise = torch.randn(4, 5, generator=generator).bfloat16()
    made = {
        "old_logps": old + 0.3 * noise,
        "advantages": torch.tensor([1.5, -0.5, 2.0, -1.0]),
        "mask": (torch.arange(5) < torch.tensor([5, 3, 0, 1])[:, None]).long(),
        "ref_logps": old - 0.2 * noise,
    }
    found = []
    for function in (ours, trl_loss):
        leaf = logits.clone().requires_grad_()
        made["logps"] = selective_log_softmax(leaf, ids)
        loss, *_ = function(made, variant, level, 0.04, False)
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    assert made["logps"].dtype == torch.bfloat16
    torch.testing.assert_close(*found)  # the loss to float32, the gradient to bf16
    assert found[0][1].count_nonzero(dim=-1).gt(VOCABULARY // 2).sum() == 9


def at_the_edges():
    """Ratios at both ends of the clip range, a step past them, and far out."""
    edges = 1 - EPSILON, 1 + EPSILON_HIGH
    near = [edge + step for edge in edges for step in (-1e-6, 0, 1e-6)]
    ratios = torch.tensor([1.0, *near, np.exp(-20), np.exp(20)], dtype=torch.float64)
    rows = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    old = torch.full((len(rows), len(ratios)), -21.0, dtype=torch.float64)
    return {
        "logps": old + ratios.log(),
        "old_logps": old,
        "advantages": rows,
        "mask": torch.ones(old.shape, dtype=torch.long),
        "ref_logps": old,
    }


@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_edges_of_the_clip_are_trls(variant):
    found = []
    for function in (ours, trl_loss):
        made = at_the_edges()
        made["logps"].requires_grad_()
        loss, *_ = function(made, variant, "token", 0.0, False)
        loss.backward()
        found.append((loss.detach(), made["logps"].grad))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)
    gradient = found[0][1]
    assert gradient.isfinite().all() and (gradient[1] == 0).all()
    # Past the upper end: nothing, the capped weight, or nearly the whole.
    past, whole = gradient[0, 6] / gradient[0, 0], 1 + EPSILON_HIGH
    expected = {"cispo": whole, "sapo": whole * 4 / (2 + 2 * np.cosh(0.7 * 0.25))}
    assert float(past) == pytest.approx(expected.get(variant, 0), rel=1e-4)


@pytest.mark.parametrize("level", grpo.LEVELS)
@pytest.mark.parametrize("variant", grpo.VARIANTS)
def test_completions_without_tokens_are_trls(variant, level):
    """A device may hold nothing else; the loss is 0 and so is its gradient."""
    for function in (ours, trl_loss):
        made = numbers()
        made["mask"] = torch.zeros_like(made["mask"])
        made["logps"].requires_grad_()
        loss, *_ = function(made, variant, level, 0.04, True)
        loss.backward()
        assert loss == 0 and (made["logps"].grad == 0).all()


@pytest.mark.parametrize("level", grpo.LEVELS)
def test_share_of_capped_weights_is_trls(level):
    made = numbers()
    _, metrics = trl_loss(made, "cispo", level, 0.0, False)
    ratio = ours(made, "cispo", level, 0.0, False)[1]
    capped = grpo.capped_tokens(ratio, made["advantages"], upper("cispo"))
    weight = made["mask"] if level == "token" else torch.ones(ROWS, 1)
    share = float((capped * weight).sum() / weight.sum())
    assert share == pytest.approx(metrics["cispo_clip_ratio"], abs=1e-6)
    assert share > 0 or level == "sequence"


@pytest.mark.parametrize("level", grpo.LEVELS)
def test_shares_of_clipped_tokens_and_kl_are_trls(level):
    made = numbers()
    _, metrics = trl_loss(made, "grpo", level, 0.04, False)
    _, ratio, kl = ours(made, "grpo", level, 0.04, False)
    low, high = grpo.clipped_tokens(ratio, made["advantages"], EPSILON, EPSILON_HIGH)
    weight = made["mask"] if level == "token" else torch.ones(ROWS, 1)
    for name, clipped in {"low": low, "high": high, "region": low | high}.items():
        share = float((clipped * weight).sum() / weight.sum())
        assert share == pytest.approx(metrics[f"clip_ratio/{name}_mean"], abs=1e-6)
    assert (low | high).any()
    mean = float((kl * made["mask"]).sum() / made["mask"].sum())
    assert mean == pytest.approx(metrics["kl"], rel=1e-6)


@pytest.mark.parametrize("scale", grpo.SCALES)
def test_advantages_are_trls(small, rows, tmp_path, scale):
    """TRL's generation method, given completions and rewards."""
    trainer = build_trainer(small(scale_rewards=scale), tmp_path, rows=rows)
    rewards = torch.tensor([[1.0, 0, 3, 2.5], [2, 2, 2, 2]])
    chats = [[{"role": "assistant", "content": "x"}]] * 8
    trainer._generate = lambda prompts: (
        ([[1]] * 8, [[2]] * 8, None, chats, None, {}, None, [])
    )
    trainer._calculate_rewards = lambda *_: rewards.view(-1, 1)
    trainer.reward_func_names = ["only"]
    trainer.reward_weights = torch.ones(1)
    prompt = [{"role": "user", "content": "0"}]
    trainer.model.train()
    made = GRPOTrainer._generate_and_score_completions(
        trainer, [{"prompt": prompt}] * 8
    )
    advantages = grpo.group_advantages(rewards, scale)
    torch.testing.assert_close(advantages.flatten(), made["advantages"])
    assert grpo.zero_advantage_groups(advantages).tolist() == [False, True]


# ---------------------------------------------------------------- numpy


def gain_in_numpy(variant, ratio, a, lp):
    """The surrogate of each token of one completion."""
    if variant == "cispo":  # MiniMax-M1 Eq. 4 and 5
        return np.minimum(ratio, upper("cispo")) * a * lp
    if variant == "sapo":
        tau = TEMPERATURES[0 if a > 0 else 1]
        return 4 / tau / (1 + np.exp(-tau * (ratio - 1))) * a
    return np.minimum(ratio * a, np.clip(ratio, 1 - EPSILON, 1 + EPSILON_HIGH) * a)


def loss_in_numpy(made, variant, level, beta, weighted):
    """The published formulas, completion by completion."""
    sums, counts = [], []
    weights = np.linspace(0.5, 1.5, ROWS) if weighted else np.ones(ROWS)
    arrays = (values.double().numpy() for values in made.values())
    for lp, old, a, mask, ref, w in zip(*arrays, weights, strict=True):
        kept = mask.astype(bool)
        difference = (lp - old)[kept]
        if level == "sequence" and kept.any():  # GSPO: geometric mean of the ratios
            difference = np.full_like(difference, difference.mean())
        ratio = np.exp(difference)
        gain = gain_in_numpy(variant, ratio, a, lp[kept])
        r = np.exp(ref - lp)[kept]
        sums.append((-w * gain + beta * (r - 1 - np.log(r))).sum())
        counts.append(kept.sum())
    sums, counts = np.array(sums), np.array(counts)
    return {
        "grpo": (sums / np.maximum(counts, 1)).mean(),
        "sapo": (sums / np.maximum(counts, 1)).mean(),
        "bnpo": sums.sum() / counts.sum(),
        "dr_grpo": sums.sum() / (ROWS * LONGEST),
        "dapo": sums.sum() / TOKENS,
        "cispo": sums.sum() / TOKENS,
    }[variant]


@pytest.mark.parametrize(("variant", "level", "beta", "weighted"), CASES)
def test_loss_is_the_published_formula(variant, level, beta, weighted):
    case = variant, level, beta, weighted
    expected = loss_in_numpy(numbers(), *case)
    assert float(ours(numbers(), *case)[0]) == pytest.approx(expected, abs=1e-12)
    single = ours(numbers(torch.float32), *case)[0]
    assert float(single) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("variant", ["grpo", "sapo"])
def test_gradient_is_that_of_finite_differences(variant):
    made = numbers()

    def of(logps):
        return ours({**made, "logps": logps}, variant, "token", 0.04, True)[0]

    logps = made["logps"].clone().requires_grad_()
    assert torch.autograd.gradcheck(of, (logps,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("scale", grpo.SCALES)
def test_advantages_are_the_published_formula(scale):
    rewards = np.array([[1.0, 0, 3, 2.5], [2, 2, 2, 2], [0, 0, 1, 0]])
    spread = {
        "group": rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4,
        "batch": rewards.std(ddof=1) + 1e-4,
        "none": 1.0,
    }[scale]
    expected = (rewards - rewards.mean(axis=1, keepdims=True)) / spread
    found = grpo.group_advantages(torch.tensor(rewards), scale)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_estimators_of_the_divergence():
    """k1 and k3 have the true mean, k2 nearly; k3 is never negative."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.tensor([[1.0, 0.3, -0.4], [0.9, 0.45, -0.5]]).log_softmax(
        -1
    )
    drawn = torch.multinomial(policy.exp(), 400_000, True, generator=generator)[None]
    true = float((policy.exp() * (policy - reference)).sum())
    for name, within in {"k1": 0.1, "k2": 0.1, "k3": 0.02}.items():
        found = grpo.kl_divergence(policy[drawn], reference[drawn], name)
        assert float(found.mean()) == pytest.approx(true, rel=within), name
    assert found.min() >= 0
    far = torch.tensor([[0.0, -3.0, -30.0, 30.0]])
    near = far.clone().requires_grad_()
    limited = grpo.kl_divergence(near, torch.zeros(1, 4), limit=10)
    cut = [0, np.exp(3) - 3 - 1, np.exp(10) - 10 - 1, np.exp(-10) + 10 - 1]
    assert limited[0].tolist() == pytest.approx(cut)
    (gradient,) = torch.autograd.grad(limited.sum(), near)
    assert gradient[0, 2:].tolist() == [0, 0] and gradient[0, 1] != 0
    same = grpo.kl_divergence(policy[drawn], policy[drawn])
    assert float(same.abs().max()) == 0


def test_weights_of_another_sampler():
    here = torch.tensor([[-1.0, -1.0], [-1.0, -1.0], [-1.0, 7.0]]).double()
    there = torch.tensor([[-1.5, float("nan")], [-3.0, -1.0], [-1.0, -7.0]]).double()
    mask = torch.tensor([[1, 1], [1, 1], [1, 0]])
    found = grpo.sampler_weights(here, there, mask)
    assert found.flatten().tolist() == pytest.approx([np.exp(0.5), 0.0, 1.0])


@pytest.mark.parametrize("variant", ["dapo", "cispo", "sapo"])
def test_padding_and_zero_advantages_give_no_gradient(variant):
    made = numbers()
    made["logps"].requires_grad_()
    ours(made, variant, "token", 0.0, False)[0].backward()
    gradient = made["logps"].grad
    assert (gradient[made["mask"] == 0] == 0).all() and (gradient[2] == 0).all()


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"mask": torch.ones(ROWS, WIDTH - 1)}, "input"),
        ({"logps": torch.zeros(ROWS)}, "input"),
        ({"advantages": torch.ones(ROWS - 1)}, "input"),
        ({"advantages": torch.full((ROWS,), torch.nan)}, "not-finite"),
        ({"logps": torch.full((ROWS, WIDTH), torch.inf)}, "not-finite"),
        ({"ref_logps": None}, "input"),
        ({"variant": "gspo"}, "unknown"),
        ({"level": "word"}, "unknown"),
        ({"variant": "dr_grpo", "max_length": None}, "input"),
        ({"variant": "cispo", "epsilon_high": None}, "input"),
        ({"variant": "sapo", "temperatures": (1.0, 0.0)}, "input"),
    ],
)
def test_wrong_inputs_of_the_loss_are_refused(change, fault):
    names = set(numbers())
    made = numbers() | {k: v for k, v in change.items() if k in names}
    options = {k: v for k, v in change.items() if k not in names}
    case = options.pop("variant", "grpo"), options.pop("level", "token"), 0.04, False
    with refused(f"training.grpo-{fault}"):
        ours(made, *case, **options)


@pytest.mark.parametrize(
    ("rewards", "scale", "fault"),
    [
        (torch.zeros(4), "group", "input"),
        (torch.zeros(4, 1), "group", "input"),
        (torch.tensor([[0.0, torch.nan]]), "group", "not-finite"),
        (torch.zeros(1, 2), "std", "unknown"),
    ],
)
def test_wrong_rewards_are_refused(rewards, scale, fault):
    with refused(f"training.grpo-{fault}"):
        grpo.group_advantages(rewards, scale)


def test_what_padding_holds_does_not_matter():
    made = numbers()
    holes = made["mask"] == 0
    expected = ours(made, "grpo", "token", 0.0, False)[0]
    changed = {**made, "logps": made["logps"].masked_fill(holes, -3.0)}
    assert ours(changed, "grpo", "token", 0.0, False)[0] == expected
