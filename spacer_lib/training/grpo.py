"""GRPO as pure functions: advantages, ratios, clipping, KL, and the loss.

Shapes: ``b`` completions, ``t`` tokens (padded on the right), ``groups`` prompts with
``size`` completions each. ``mask`` is 1 at tokens of a completion and 0 at padding.
Log-probabilities are natural logarithms; at padding any finite value will do.

Sources: GRPO (DeepSeekMath), https://arxiv.org/abs/2402.03300; SpaceR,
https://arxiv.org/abs/2504.01805 Eq. 6 and 7. Each variant names its own paper below.
"""

# ruff: noqa: F722  (shapes in annotations are jaxtyping's, not forward references)

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spacer_lib.errors import SpacerError, nearest

Tokens = Float[Tensor, "b t"]
Mask = Int[Tensor, "b t"]
TokensOrOne = Float[Tensor, "b t"] | Float[Tensor, "b 1"]  # one: of a whole completion
Completions = Float[Tensor, " b"]
Groups = Float[Tensor, "groups size"]
Scalar = Float[Tensor, ""]

EPSILON_STD = 1e-4  # added to a standard deviation, as in TRL and R1-V
SCALES = ("group", "batch", "none")
LEVELS = ("token", "sequence")
ESTIMATORS = ("k1", "k2", "k3")
CLIPPING = ("grpo", "bnpo", "dr_grpo", "dapo")  # variants with PPO's clipped surrogate
VARIANTS = (*CLIPPING, "cispo", "sapo")
WHOLE_STEP = ("dapo", "cispo")  # variants whose mean is over all tokens of a step
TEMPERATURES = 1.0, 1.05  # of SAPO, for advantages above 0 and for all others


def group_advantages(rewards: Groups, scale: str = "group") -> Groups:
    """Each reward relative to its group.

    ``A = (r - mean) / (std + 1e-4)``, with the standard deviation over ``size - 1``.

    Parameters
    ----------
    rewards : (groups, size) tensor
        Total rewards, all finite; ``size`` is at least 2.
    scale : str
        ``group``: standard deviation of the group (GRPO); ``batch``: of all rewards;
        ``none``: no division (Dr. GRPO).

    Returns
    -------
    (groups, size) tensor

    Source: GRPO §4.1.2, https://arxiv.org/abs/2402.03300; SpaceR Eq. 6,
    https://arxiv.org/abs/2504.01805; ``none``: Dr. GRPO §3,
    https://arxiv.org/abs/2503.20783; ``batch``: https://arxiv.org/abs/2508.08221.
    Departure: Eq. 6 has no 1e-4; SpaceR's released code and TRL add it.

    Examples
    --------
    >>> group_advantages(torch.tensor([[1.0, 0.0], [2.0, 2.0]])).round(decimals=2)
    tensor([[ 0.7100, -0.7100],
            [ 0.0000,  0.0000]])
    """
    _require_known("scale", scale, SCALES)
    _require_shape("rewards", rewards, ("groups", "size"))
    _require(rewards.shape[1] > 1, "groups of rewards", rewards.shape[1], "2 or more")
    require_finite("rewards", rewards)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    if scale == "batch":
        return centred / (standard_deviation(rewards.flatten(), dim=0) + EPSILON_STD)
    return centred / (standard_deviation(rewards, dim=1) + EPSILON_STD)


def zero_advantage_groups(
    advantages: Groups,
) -> Bool[Tensor, " groups"]:
    """Whether all advantages of a group are 0, so that it changes nothing."""
    _require_shape("advantages", advantages, ("groups", "size"))
    return (advantages == 0).all(dim=1)


def standard_deviation(values: Tensor, dim: int) -> Tensor:
    """Standard deviation over ``n - 1``, with ``dim`` kept; NaN for fewer than two."""
    count = values.shape[dim]
    if count < 2:
        return values.sum(dim=dim, keepdim=True) * torch.nan
    mean = values.mean(dim=dim, keepdim=True)
    variance = ((values - mean) ** 2).mean(dim=dim, keepdim=True)
    return torch.sqrt(variance * (count / (count - 1)))


def log_ratio(
    logps: Tokens,
    old_logps: Tokens,
    mask: Mask,
    level: str = "token",
) -> TokensOrOne:
    """Logarithm of policy over old policy, for each token or each completion.

    Parameters
    ----------
    logps, old_logps : (b, t) tensor
        Log-probabilities of the completions' tokens.
    mask : (b, t) tensor
    level : str
        ``token``: one ratio for each token; ``sequence``: the mean of the token
        log-ratios, so that the ratio is their geometric mean (GSPO).

    Returns
    -------
    (b, t) tensor, or (b, 1) tensor at sequence level

    Source: GRPO Eq. 3, https://arxiv.org/abs/2402.03300; GSPO §4.1,
    https://arxiv.org/abs/2507.18071. Departure: SpaceR Eq. 7 prints one ratio for each
    response; its released code uses token ratios, as here by default.
    """
    _require_known("level", level, LEVELS)
    _require_alike(logps=logps, old_logps=old_logps, mask=mask)
    difference = logps - old_logps
    if level == "token":
        return difference
    return ((difference * mask).sum(dim=1) / _lengths(mask))[:, None]


def clipped_surrogate(
    ratio: TokensOrOne,
    advantages: Completions,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
) -> TokensOrOne:
    """``min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon_high) A)``: to be maximised.

    Parameters
    ----------
    ratio : (b, t) or (b, 1) tensor
    advantages : (b,) tensor
    epsilon, epsilon_high : float
        Lower and upper clip range; without ``epsilon_high`` they are equal.

    Returns
    -------
    tensor of the shape of ``ratio``

    Source: PPO Eq. 7, https://arxiv.org/abs/1707.06347; SpaceR Eq. 7; ``epsilon_high``:
    DAPO §3.1, https://arxiv.org/abs/2503.14476.
    """
    column = _as_column(ratio, advantages)
    high = epsilon if epsilon_high is None else epsilon_high
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + high)
    return torch.minimum(ratio * column, clipped * column)


def clipped_tokens(
    ratio: TokensOrOne,
    advantages: Completions,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
) -> tuple[Bool[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Where the clip takes the gradient away: below the range, and above it.

    Returns
    -------
    low, high : bool tensors of the shape of ``ratio``
        ``low`` only where the advantage is negative, ``high`` where it is positive.
    """
    column = _as_column(ratio, advantages)
    high = epsilon if epsilon_high is None else epsilon_high
    return (ratio < 1 - epsilon) & (column < 0), (ratio > 1 + high) & (column > 0)


def capped_weights(
    logps: Tokens, ratio: TokensOrOne, advantages: Completions, cap: float
) -> Tokens:
    """``min(ratio, cap) A log p``, the ratio without gradient: to be maximised (CISPO).

    A cap limits the weight of a token and takes the gradient of none away.

    Parameters
    ----------
    logps : (b, t) tensor
        Of the policy, with gradient.
    ratio : (b, t) or (b, 1) tensor
    advantages : (b,) tensor
    cap : float
        Largest ratio.

    Source: CISPO, MiniMax-M1 §3.1 Eq. 4 and 5, https://arxiv.org/abs/2506.13585; the
    cap itself as setting: ScaleRL, https://arxiv.org/abs/2510.13786, and TRL. The
    paper's lower limit is left out, as the paper leaves it out in practice.
    """
    column = _as_column(ratio, advantages)
    return ratio.detach().clamp(max=cap) * column * logps


def capped_tokens(
    ratio: TokensOrOne, advantages: Completions, cap: float
) -> Bool[Tensor, "b t"]:
    """Where the cap limits a weight and the advantage is positive, as TRL counts."""
    return (ratio > cap) & (_as_column(ratio, advantages) > 0)


def soft_gate(
    ratio: TokensOrOne,
    advantages: Completions,
    temperatures: tuple[float, float] = TEMPERATURES,
) -> TokensOrOne:
    """``4 / tau * sigmoid(tau (ratio - 1)) A``: to be maximised (SAPO).

    The gradient is the unclipped one at ratio 1 and fades on both sides of it, faster
    with a larger ``tau``.

    Parameters
    ----------
    ratio : (b, t) or (b, 1) tensor
    advantages : (b,) tensor
    temperatures : (float, float)
        ``tau`` where the advantage is above 0, and elsewhere; both above 0.

    Source: SAPO, https://arxiv.org/abs/2511.20347, whose values are the defaults.
    """
    column = _as_column(ratio, advantages)
    fits = min(temperatures) > 0
    _require(fits, "temperatures", temperatures, "two numbers above 0")
    above, other = temperatures
    exact = torch.promote_types(ratio.dtype, torch.float32)
    tau = torch.full_like(column, other, dtype=exact).masked_fill(column > 0, above)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau * column


def kl_divergence(
    logps: Tokens,
    ref_logps: Tokens,
    estimator: str = "k3",
    limit: float | None = None,
) -> Tokens:
    """Estimate of KL(policy || reference) from the sampled tokens, in nats per token.

    With ``r = reference / policy``: ``k1 = -log r`` (unbiased, of either sign),
    ``k2 = (log r)^2 / 2`` (small variance, biased) and ``k3 = r - 1 - log r``
    (unbiased, never negative). With a ``limit``, ``log r`` is cut off there on both
    sides: a token beyond it gives no gradient, as in SpaceR's released trainer (10).

    Source: http://joschu.net/blog/kl-approx.html; k3: GRPO Eq. 4,
    https://arxiv.org/abs/2402.03300. Departure: no importance weight on the estimate,
    as published; TRL offers one (``use_bias_correction_kl``).
    """
    _require_known("estimator", estimator, ESTIMATORS)
    _require_alike(logps=logps, ref_logps=ref_logps)
    log_r = ref_logps - logps
    if limit is not None:
        log_r = log_r.clamp(-limit, limit)
    if estimator == "k1":
        return -log_r
    if estimator == "k2":
        return log_r**2 / 2
    return torch.exp(log_r) - log_r - 1


def mean_over_tokens(
    values: TokensOrOne,
    mask: Mask,
    variant: str = "grpo",
    *,
    max_length: int | None = None,
    token_count: Tensor | float | None = None,
) -> Scalar:
    """Mean of a token loss, as each variant takes it.

    Parameters
    ----------
    values : (b, t) or (b, 1) tensor
        One value for each completion counts at each of its tokens.
    mask : (b, t) tensor
    variant : str
        ``grpo``, ``sapo``: mean over completions of the mean over tokens (GRPO
        Eq. 3); ``bnpo``: mean over the tokens of these completions;
        ``dr_grpo``: sum over ``b * max_length`` (Dr. GRPO §3);
        ``dapo``, ``cispo``: sum over ``token_count`` (DAPO §3.3).
    max_length : int, optional
        Longest completion allowed, for ``dr_grpo``.
    token_count : tensor or float, optional
        Tokens of the whole optimiser step, for ``dapo`` and ``cispo``; the sum of
        ``mask`` if left out.

    Returns
    -------
    scalar tensor

    Source: https://arxiv.org/abs/2402.03300, https://arxiv.org/abs/2503.20783,
    https://arxiv.org/abs/2503.14476; ``bnpo``: the name is TRL's. Departure:
    SpaceR Eq. 7 has no mean over tokens; its released code takes that of ``grpo``.
    """
    _require_known("variant", variant, VARIANTS)
    _require_shape("mask", mask, ("b", "t"))
    shapes = (mask.shape, (len(mask), 1))
    _require(values.shape in shapes, "shape of values", tuple(values.shape), shapes)
    masked = values * mask
    if variant in ("grpo", "sapo"):
        return (masked.sum(dim=1) / _lengths(mask)).mean()
    if variant == "dr_grpo":
        longest = _given("max_length", max_length, "dr_grpo")
        return masked.sum() / (len(mask) * longest)
    if variant == "bnpo" or token_count is None:
        return masked.sum() / mask.sum().clamp(min=1)
    return masked.sum() / token_count


def loss(
    logps: Tokens,
    old_logps: Tokens,
    advantages: Completions,
    mask: Mask,
    *,
    ref_logps: Tokens | None = None,
    beta: float = 0.0,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    level: str = "token",
    variant: str = "grpo",
    temperatures: tuple[float, float] = TEMPERATURES,
    weights: Float[Tensor, "b 1"] | None = None,
    max_length: int | None = None,
    token_count: Tensor | float | None = None,
    kl_limit: float | None = None,
) -> tuple[Scalar, Tensor, Tensor | None]:
    """The loss to minimise: minus the variant's surrogate, plus ``beta`` times the KL.

    Parameters
    ----------
    logps, old_logps : (b, t) tensor
        Of the policy, with gradient, and of the policy that sampled, without.
    advantages : (b,) tensor
    mask : (b, t) tensor
    ref_logps : (b, t) tensor, optional
        Of the reference; needed where ``beta`` is not 0.
    beta, epsilon, epsilon_high, level, max_length, token_count
        See ``kl_divergence``, ``clipped_surrogate``, ``log_ratio`` and
        ``mean_over_tokens``.
    variant : str
        The surrogate and its mean (``mean_over_tokens``). The surrogate is
        ``capped_weights`` with the cap ``epsilon_high`` for ``cispo``, ``soft_gate``
        for ``sapo``, and ``clipped_surrogate`` for all others.
    temperatures : (float, float)
        See ``soft_gate``.
    kl_limit : float, optional
        ``limit`` of ``kl_divergence``.
    weights : (b, 1) tensor, optional
        Factor of each completion's surrogate (``sampler_weights``).

    Returns
    -------
    loss : scalar tensor
    ratio : (b, t) or (b, 1) tensor
        Policy over old policy.
    kl : (b, t) tensor or None
        k3 estimates; ``None`` where ``beta`` is 0.

    Source: SpaceR Eq. 7, https://arxiv.org/abs/2504.01805, after GRPO Eq. 3,
    https://arxiv.org/abs/2402.03300.

    Examples
    --------
    With the old policy's own log-probabilities every ratio is 1, and the advantages of
    a group cancel:

    >>> same = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.5]]))
    >>> advantages, mask = torch.tensor([1.0, -1.0]), torch.ones(2, 2)
    >>> loss(same, same, advantages, mask)[0].item()
    0.0
    """
    _require_alike(logps=logps, old_logps=old_logps, mask=mask)
    for name, values in {"logps": logps, "old_logps": old_logps}.items():
        require_finite(name, values[mask.bool()])
    require_finite("advantages", advantages)
    ratio = torch.exp(log_ratio(logps, old_logps, mask, level))
    if variant == "cispo":
        cap = _given("epsilon_high", epsilon_high, "cispo")
        values = -capped_weights(logps, ratio, advantages, cap)
    elif variant == "sapo":
        values = -soft_gate(ratio, advantages, temperatures)
    else:
        values = -clipped_surrogate(ratio, advantages, epsilon, epsilon_high)
    if weights is not None:
        values = values * weights
    kl = None
    if beta != 0:
        reference = _given("ref_logps", ref_logps, f"beta {beta}")
        kl = kl_divergence(logps, reference, limit=kl_limit)
        values = values + beta * kl
    mean = mean_over_tokens(
        values, mask, variant, max_length=max_length, token_count=token_count
    )
    return mean, ratio, kl


def sampler_weights(
    old_logps: Tokens,
    sampler_logps: Tokens,
    mask: Mask,
    largest: float = 3.0,
) -> Float[Tensor, "b 1"]:
    """Weights of completions that another program sampled (vLLM).

    The probability of the completion here over its probability there; 0 above
    ``largest``. Tokens whose log-probability the sampler did not give count as equal.

    Source: TRL's default, ``vllm_importance_sampling_mode="sequence_mask"``.
    """
    _require_alike(old_logps=old_logps, sampler_logps=sampler_logps, mask=mask)
    difference = torch.nan_to_num((old_logps - sampler_logps) * mask, nan=0.0)
    weights = torch.exp(difference.sum(dim=1, keepdim=True))
    return weights.masked_fill(weights > largest, 0.0)


# ---------------------------------------------------------------- contract


def _lengths(mask: Tensor) -> Tensor:
    """(b,) tokens of each completion; at least 1, so that none divides by 0.

    In float32, in which a mean of bf16 values then is.
    """
    return mask.sum(dim=1).clamp(min=1.0)


def _as_column(ratio: Tensor, advantages: Tensor) -> Tensor:
    _require_shape("ratio", ratio, ("b", "t"))
    fits = advantages.shape == ratio.shape[:1]
    _require(fits, "advantages", tuple(advantages.shape), tuple(ratio.shape[:1]))
    return advantages[:, None]


def _require(fits: bool, name: str, got: object, expected: object) -> None:
    if not fits:
        raise SpacerError(name, kind="training.grpo-input", got=got, expected=expected)


def _given(name: str, value: Any, needed_by: str) -> Any:
    _require(value is not None, name, None, f"a value: {needed_by} needs it")
    return value


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpacerError(
            name,
            kind="training.grpo-unknown",
            got=repr(value),
            expected=", ".join(known),
            remedy=nearest(value, known),
        )


def _require_shape(name: str, values: Tensor, axes: tuple[str, ...]) -> None:
    fits = values.ndim == len(axes)
    _require(fits, f"shape of {name}", tuple(values.shape), f"({', '.join(axes)})")


def _require_alike(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    fits = len(set(shapes.values())) == 1 and len(next(iter(shapes.values()))) == 2
    _require(fits, f"shapes of {', '.join(shapes)}", shapes, "one shape (b, t)")


def require_finite(name: str, values: Tensor) -> None:
    """Refuse values of any shape among which one is infinite or not a number.

    Raises
    ------
    SpacerError
        With how many there are.
    """
    count = int((~torch.isfinite(values)).sum())
    if count:
        raise SpacerError(
            name,
            kind="training.grpo-not-finite",
            got=f"{count} values that are infinite or not a number",
            expected="finite numbers",
        )
