"""Sampling whose random numbers depend on the sequence, not on batch or machine.

A token is drawn by the Gumbel-max trick: the largest of log-probability plus noise is
distributed as the softmax. The noise is a hash of (key of the sequence, position,
token), so a completion is the same on one worker or on eight, before and after a
resume, and in any batch (up to rounding of the logits).

Source: Gumbel-max, https://arxiv.org/abs/1411.0030; the mixing function is SplitMix64
(Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
"""

import hashlib
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, TopPLogitsWarper


def _signed(number: int) -> int:
    """An integer as torch's int64 would wrap it."""
    return (number + 2**63) % 2**64 - 2**63


# SplitMix64's constants.
_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def sequence_key(*parts: object) -> int:
    """A signed 64-bit key of anything with a stable ``repr``, such as numbers."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def gumbel_noise(keys: torch.Tensor, position: int, size: int) -> torch.Tensor:
    """Noise for the tokens at one position.

    Parameters
    ----------
    keys : (b,) int64 tensor
        One key a sequence.
    position : int
        Of the token to draw, counted from the start of the completion.
    size : int
        Of the vocabulary.

    Returns
    -------
    (b, size) float32 tensor
        Standard Gumbel, on the device of ``keys``.
    """
    rows = _mix(keys + _signed((position + 1) * _GAMMA))
    columns = torch.arange(1, size + 1, device=keys.device) * _GAMMA
    return _gumbel(_mix(rows[:, None] + columns))


def _gumbel(bits: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel values of the low 24 bits of int64 numbers, all finite.

    In fp32 ``0xFFFFFF + 0.5`` rounds up to 2**24. Without the bound that one pattern
    would give infinite noise: at a vocabulary of 152,064 in 0.9% of the positions.
    """
    uniform = ((bits & 0xFFFFFF).float() + 0.5) / 2**24
    uniform = uniform.clamp(max=1 - 2**-24)  # the largest float32 below 1
    return -torch.log(-torch.log(uniform))


class KeyedSampling(LogitsProcessor):
    """Temperature, nucleus and noise; the largest score is then the sample.

    For ``generate(do_sample=False)``, last in its list of processors.

    Parameters
    ----------
    keys : list of int
        One a row (``sequence_key``).
    prompt_length : int
        Width of ``input_ids`` at the start.
    temperature, top_p : float
    """

    def __init__(
        self,
        keys: Sequence[int],
        prompt_length: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> None:
        self.keys, self.prompt_length = torch.tensor(keys), prompt_length
        self.temperature = temperature
        self.nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(b, n) ids and (b, v) scores → (b, v) scores to take the largest of."""
        scores = scores.float() / self.temperature
        if self.nucleus is not None:
            scores = self.nucleus(input_ids, scores)
        keys = self.keys.to(scores.device)
        position = input_ids.shape[1] - self.prompt_length
        return scores + gumbel_noise(keys, position, scores.shape[1])


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: torch.Tensor, count: int) -> torch.Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (x >> count) & (2 ** (64 - count) - 1)
