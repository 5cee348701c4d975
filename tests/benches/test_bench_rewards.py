"""The bench of rewards: the plain implementation agrees with the library."""

import pytest
from support import refused

from benches import rewards
from spacer_lib.rewards.config import get_preset
from spacer_lib.rewards.score import score_batch


def test_the_plain_way_agrees_on_mixed_completions():
    texts, items, tokens = rewards.reward_cases(1200)
    config = get_preset(rewards.REWARD_PRESET)
    ours = score_batch(texts, items, config, tokens)
    plain = list(map(rewards.plain_reward, texts, items, tokens))
    assert plain == pytest.approx([b.total for b in ours], abs=1e-9)
    # Mixed: all parts and most failures occur, in groups.
    assert {item["problem_type"] for item in items} >= set(rewards.PROBLEM_TYPES)
    assert len({b.failure for b in ours}) >= 6
    assert len({b.map_failure for b in ours}) > 3
    assert {b.length for b in ours} == {0, 0.2} and len({b.map for b in ours}) > 50
    assert len(set(map(id, items))) == 1200 / rewards.GROUP
    assert rewards.reward_cases(1200)[0] == texts


def test_the_row_names_what_costs_most(monkeypatch):
    row = rewards.reward_row(1, 200)
    assert "200 mixed completions" in row.note and "read_completion" in row.note
    assert row.ratio == row.other_s / row.ours_s
    monkeypatch.setattr(rewards, "plain_reward", lambda *_: 0.5)
    with refused("benches.results-differ", says="this library and plain"):
        rewards.reward_row(1, 80)
