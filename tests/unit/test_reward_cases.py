"""The table of rewards derived on paper, ``tests/reward_cases.yaml``, row by row."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from spacer_lib.language.choices import read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.language.tags import read_completion
from spacer_lib.rewards.config import ADDED, COMPONENTS, PRESETS
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rewards.score import RewardBreakdown, score

TABLE = Path(__file__).resolve().parent.parent / "reward_cases.yaml"
CASES = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["cases"]
EVERY = ("spacer-paper", "ours")  # claimed for every case
ROWS = [
    pytest.param(case, preset, id=f"{case['id']}-{preset}")
    for case in CASES
    for preset in case["expected"]
]


@pytest.mark.parametrize("case, preset", ROWS)
def test_rewards_are_the_ones_on_paper(case, preset):
    item = {"id": case["id"], **case["item"]}
    earned = score(case["completion"], item, PRESETS[preset], case.get("tokens"))
    expected = case["expected"][preset]
    said = {part: getattr(earned, part) for part in expected}
    assert said == pytest.approx(expected, abs=1e-6), case["why"]


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c["id"].startswith(("number-", "choice-"))],
    ids=lambda case: case["id"],
)
def test_the_readers_alone_give_the_task_reward(case):
    """Reading and measuring by hand, without `rewards`, earns what the table says."""
    item, expected = case["item"], case["expected"]["spacer-paper"]
    answer = read_completion(case["completion"]).answer
    if item["problem_type"] == "numerical":
        number, failure = read_number(answer)
        truth, _ = read_number(item["ground_truth"])
        task = 0.0 if failure else mean_relative_accuracy(number, truth)
        assert failure == expected["failure"], case["why"]
    else:
        options = item["options"]
        letter = read_choice(answer, options)
        task = float(letter == read_choice(item["ground_truth"], options))
        assert (letter is None) == (expected["failure"] == "not_an_option")
    assert task == pytest.approx(expected["task"]), case["why"]


def test_the_table_is_whole():
    groups = Counter(case["id"].split("-")[0] for case in CASES)
    assert len(CASES) >= 150 and groups["number"] >= 40 and groups["choice"] >= 30
    assert len({case["id"] for case in CASES}) == len(CASES)
    claimed = {preset for case in CASES for preset in case["expected"]}
    assert claimed == set(PRESETS)
    parts = set(RewardBreakdown.__dataclass_fields__)
    for case in CASES:
        assert set(EVERY) <= set(case["expected"]) and case["why"].strip()
        assert {"problem_type", "ground_truth"} <= set(case["item"])
        for expected in case["expected"].values():
            assert {"format", "task", "length"} <= set(expected) <= parts


def test_totals_are_sums():
    for case in CASES:
        for preset, expected in case["expected"].items():
            if "total" in expected:
                named = [*COMPONENTS, *(k for k in ADDED if k in expected)]
                parts = [expected[k] or 0 for k in named]
                assert sum(parts) == pytest.approx(expected["total"], abs=1e-6), (
                    case["id"],
                    preset,
                )
