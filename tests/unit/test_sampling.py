"""Keyed sampling draws from the softmax, and each sequence from its own key alone."""

import numpy as np
import pytest
import torch
from scipy import stats

from spacer_lib.models import sampling
from spacer_lib.models.sampling import KeyedSampling, gumbel_noise, sequence_key

VOCABULARY = 152_064  # of Qwen2.5-VL-7B


def reference_mix(x):
    """SplitMix64's finaliser on Python integers."""
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_noise_is_the_hash_it_claims_to_be():
    gamma, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    key, position, size = sequence_key("a", 3), 5, 40
    noise = gumbel_noise(torch.tensor([key]), position, size)[0]
    row = reference_mix(((key & mask) + (position + 1) * gamma) & mask)
    for token in range(size):
        bits = reference_mix((row + (token + 1) * gamma) & mask)
        uniform = ((bits & 0xFFFFFF) + 0.5) / 2**24
        assert noise[token].item() == pytest.approx(-np.log(-np.log(uniform)), abs=1e-5)


def draw(scores, count, **options):
    """``count`` sequences' first tokens from the same scores (v,)."""
    keys = [sequence_key("draw", number) for number in range(count)]
    ids = torch.zeros(count, 7, dtype=torch.long)
    sampler = KeyedSampling(keys, 7, **options)
    return sampler(ids, scores.expand(count, -1)).argmax(dim=1).numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_softmax(temperature):
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5])
    drawn = draw(scores, 20_000, temperature=temperature)
    expected = torch.softmax(scores.double() / temperature, dim=0).numpy() * len(drawn)
    found = np.bincount(drawn, minlength=5)
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_the_nucleus_is_respected():
    scores = torch.log(torch.tensor([0.6, 0.3, 0.08, 0.02]))
    assert set(draw(scores, 2_000, top_p=0.85)) == {0, 1}


def test_positions_and_tokens_are_independent():
    keys = torch.tensor([sequence_key(number) for number in range(300)])
    noise = torch.stack([gumbel_noise(keys, p, 8) for p in range(4)])  # (4, 300, 8)
    flat = noise.permute(1, 0, 2).reshape(300, -1).numpy()
    correlations = np.corrcoef(flat.T)[np.triu_indices(32, k=1)]
    assert np.abs(correlations).max() < 0.25  # 4.3 standard errors, 496 pairs
    assert stats.kstest(flat.ravel(), stats.gumbel_r.cdf).pvalue > 1e-3


def test_a_sequence_does_not_notice_its_neighbours():
    keys = torch.tensor([sequence_key(number) for number in range(6)])
    together = gumbel_noise(keys, 3, 50)
    assert torch.equal(together[4:], gumbel_noise(keys[4:], 3, 50))
    assert sequence_key(1, 2) == sequence_key(1, 2) != sequence_key(12)


def test_noise_is_finite_for_every_pattern_of_bits():
    noise = sampling._gumbel(torch.arange(2**24))
    assert torch.isfinite(noise).all()
    assert (noise[1:] >= noise[:-1]).all()
    assert noise[0] < -2.8 and 16 < noise[-1] < 17  # -log(-log(u)) at both ends
    # Higher bits play no part.
    ends = torch.tensor([0, 0xFFFFFF, -1, 0x7FFFFFFFFF000000])
    assert sampling._gumbel(ends).tolist() == noise[[0, -1, -1, 0]].tolist()


def test_noise_of_one_pattern_is_infinite_without_the_bound(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "clamp", lambda self, **bounds: self)
    assert torch.isinf(sampling._gumbel(torch.tensor([0xFFFFFF]))).all()


def keyed(scores, positions, **options):
    """Tokens drawn at many positions of one sequence, from (v,) scores."""
    sampler = KeyedSampling([sequence_key("published size")], 0, **options)
    drawn = []
    for position in range(positions):
        ids = torch.zeros(1, position, dtype=torch.long)
        drawn.append(sampler(ids, scores[None].clone()).argmax().item())
    return drawn


def test_a_certain_model_is_certain_at_the_published_vocabulary():
    """With infinite noise, 9 of 1,024 positions came out as another token."""
    scores = torch.full((VOCABULARY,), -40.0)
    scores[777] = 0.0
    assert set(keyed(scores, 1_024)) == {777}


def test_suppressed_tokens_are_never_drawn_at_the_published_vocabulary():
    scores = torch.zeros(VOCABULARY)
    scores[VOCABULARY // 2 :] = -torch.inf  # as placeholders of images are
    assert max(keyed(scores, 256)) < VOCABULARY // 2


def test_nothing_outside_the_nucleus_at_the_published_vocabulary():
    scores = torch.full((VOCABULARY,), -12.0)
    scores[:3] = torch.tensor([6.0, 5.0, 4.0])
    assert set(keyed(scores, 128, top_p=0.5)) <= {0, 1, 2}


def test_a_suppressed_token_stays_out_where_its_noise_is_the_largest(monkeypatch):
    monkeypatch.setattr(
        sampling, "_mix", lambda x: torch.full_like(x, 0xFFFFFF)
    )  # the extreme pattern everywhere
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    drawn = KeyedSampling([1], 0)(torch.zeros(1, 0, dtype=torch.long), scores)
    assert drawn.argmax().item() == 1 and not torch.isnan(drawn).any()
