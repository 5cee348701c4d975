"""Probes: hand-written completions that test what each reward preset pays.

Unless the trick is the answer itself, a probe answers rightly. The gates of the map
and length rewards are then open, and ``probe_table`` shows what the trick adds to a
right answer or costs it. An honest completion and a blind guess are there to compare.

Source: vsGRPO §4.3.3, https://arxiv.org/abs/2504.00883 (empty thoughts, restated
answers, repeated tags, padding); ``maps.scores.score`` (maps that the published
scoring pays).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import EXAMPLE_MAP
from spacer_lib.language.tags import write_completion
from spacer_lib.questions.generators import LETTERS
from spacer_lib.rewards.config import COMPONENTS, PRESETS, RewardConfig, get_preset
from spacer_lib.rewards.score import score_batch
from spacer_lib.rows import Question

HONEST, BLIND = "honest", "blind guess"  # to compare with; no reward hacks
MOST_TOKENS = 512  # the upper edge of every published length window
_THOUGHT = "The bed is by the window and the lamp stands opposite, so that decides it."


@dataclass(frozen=True)
class Probe:
    """A policy that sees no video.

    Attributes
    ----------
    name, does : str
    write : callable
        Question → completion, with ``<think>`` around its thoughts.
    tokens : int
        The length, in tokens, that its completions are scored with.
    applies : callable
        Whether the policy has an answer to a question.
    """

    name: str
    does: str
    write: Callable[[Question], str]
    tokens: int = 60
    applies: Callable[[Question], bool] = lambda item: True


def make_probes(items: Sequence[Question]) -> tuple[Probe, ...]:
    """All probes.

    Parameters
    ----------
    items : sequence of Question
        Questions of ``questions.build``. Frequent answers and mean sizes are counted
        on them, which raises the score of a guess a little.
    """
    frequent = _frequent_answers(items)
    sizes_cm: dict[str, list[float]] = {}
    for item in filter(_asks_size, items):
        known = sizes_cm.setdefault(item["categories"][0], [])
        known.append(float(item["ground_truth"]))

    def guess(item: Question) -> str:
        return frequent[item["question_type"]]

    def mean_size(item: Question) -> str:
        sizes = sizes_cm[item["categories"][0]]
        return f"{sum(sizes) / len(sizes):.0f}"

    return (
        Probe(HONEST, "true map, a thought, right answer", _honest, tokens=160),
        Probe(
            BLIND,
            "no map, the most frequent answer of the question type",
            lambda item: write_completion(guess(item), _THOUGHT),
        ),
        Probe("empty think", "nothing in the think block", _thinking("")),
        Probe(
            "template think",
            "the instruction in place of a thought",
            _thinking("Your reasoning process here."),
        ),
        Probe("restated answer", "the thought is the answer as a sentence", _restated),
        Probe(
            "duplicate tags",
            "the whole completion again",
            lambda item: 2 * _thinking(_THOUGHT)(item),
            tokens=120,
        ),
        Probe("answer spam", "every option, or many numbers", _spam),
        Probe(
            "all-centre map",
            "every object in the middle cell",
            _drawing(lambda size, spots: [[size // 2] * 2] * len(spots)),
        ),
        Probe(
            "every-cell map",
            "every object everywhere",
            _drawing(
                lambda size, spots: [[x, y] for x in range(size) for y in range(size)]
            ),
        ),
        Probe("copied example map", "the prompt's example of a map", _copied),
        Probe(
            '"2" to every count',
            "2, whatever the category",
            lambda item: write_completion("2", _THOUGHT),
            applies=_asks_count,
        ),
        Probe(
            "category's mean size",
            "the mean over the questions about the category",
            lambda item: write_completion(mean_size(item), _THOUGHT),
            applies=_asks_size,
        ),
        Probe(
            "longest allowed rambling",
            f"padded to {MOST_TOKENS} tokens",
            _thinking("Let me look again. " * (MOST_TOKENS // 5)),
            tokens=MOST_TOKENS,
        ),
    )


def probe_table(
    items: Sequence[Question], presets: Iterable[str] = PRESETS
) -> list[dict[str, Any]]:
    """What each preset pays each probe, averaged over the questions it applies to.

    Parameters
    ----------
    items : sequence of Question
    presets : iterable of str
        Names in ``PRESETS``.

    Returns
    -------
    list of dict
        ``probe``, ``preset``, ``items``, ``format``, ``task``, ``map``, ``length`` and
        ``total``. A probe that applies to no question has no row.

    Raises
    ------
    SpacerError
        If there are no questions, or for an unknown preset.
    """
    if not items:
        raise SpacerError(
            "questions to probe",
            kind="rewards.no-questions",
            got="none",
            expected="at least one",
        )
    configs = {name: get_preset(name) for name in presets}
    table = []
    for probe in make_probes(items):
        asked = [item for item in items if probe.applies(item)]
        if not asked:
            continue
        texts = [probe.write(item) for item in asked]
        tokens = [probe.tokens] * len(asked)
        for name, config in configs.items():
            said = texts
            if config.shape == "observe":
                said = [text.replace("think>", "observe>") for text in texts]
            scored = score_batch(said, asked, config, tokens)
            means = {
                part: sum(getattr(b, part) or 0.0 for b in scored) / len(scored)
                for part in (*COMPONENTS, "total")
            }
            named = {"probe": probe.name, "preset": name, "items": len(asked)}
            table.append({**named, **means})
    return table


def _frequent_answers(items: Iterable[Question]) -> dict[str, str]:
    """The most frequent answer of each question type; ties go to the first sorted."""
    answers: dict[str, Counter[str]] = {}
    for item in items:
        counts = answers.setdefault(item["question_type"], Counter())
        counts[item["ground_truth"]] += 1
    return {
        kind: min(counts, key=lambda answer: (-counts[answer], answer))
        for kind, counts in answers.items()
    }


def _asks_count(item: Question) -> bool:
    return item["question_type"] == "object_counting"


def _asks_size(item: Question) -> bool:
    return item["question_type"] == "object_size_estimation"


def _thinking(thought: str) -> Callable[[Question], str]:
    return lambda item: write_completion(item["ground_truth"], thought)


def _honest(item: Question) -> str:
    return write_completion(item["ground_truth"], _THOUGHT, item.get("map") or None)


def _restated(item: Question) -> str:
    about = " and the ".join(item.get("categories") or ["room"])
    truth = item["ground_truth"]
    return write_completion(truth, f"For the {about} the answer is {truth}.")


def _spam(item: Question) -> str:
    letters = LETTERS[: len(item.get("options") or ())]
    return write_completion(" ".join(letters or map(str, range(1, 11))), _THOUGHT)


def _drawing(
    cells_of: Callable[[int, Sequence[Sequence[int]]], list[list[int]]],
) -> Callable[[Question], str]:
    """A right answer with a map of the true categories at cells that are not seen.

    ``cells_of(grid_size, true cells)`` gives the cells of one category.
    """
    grid_size = RewardConfig().grid_size  # the same in every preset

    def write(item: Question) -> str:
        true = item.get("map") or {}
        cells = {name: cells_of(grid_size, spots) for name, spots in true.items()}
        return write_completion(item["ground_truth"], _THOUGHT, cells)

    return write


def _copied(item: Question) -> str:
    thought = f"<map>{EXAMPLE_MAP}</map>{_THOUGHT}"
    return write_completion(item["ground_truth"], thought)
