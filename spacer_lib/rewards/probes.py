"""Probes: hand-written completions that test what each reward preset pays.

Unless the trick is the answer itself, a probe answers rightly. The gates of the map
and length rewards are then open, and ``probe_table`` shows what the trick adds to a
right answer or costs it. An honest completion, once with cells and once with boxes, and
a blind guess are there to compare. Some tricks need to know the room; a policy could
learn them only by seeing it, and they must not pay even then.

Source: vsGRPO §4.3.3, https://arxiv.org/abs/2504.00883 (empty thoughts, restated
answers, repeated tags, padding); ``maps.scores.score`` (maps that the published
scoring pays).
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import EXAMPLE_MAP
from spacer_lib.language.tags import write_completion
from spacer_lib.questions.generators import LETTERS, task_kind
from spacer_lib.questions.solver import objects_of
from spacer_lib.rewards.config import (
    ADDED,
    COMPONENTS,
    PRESETS,
    RewardConfig,
    get_preset,
)
from spacer_lib.rewards.consistency import follows, settled_by_map
from spacer_lib.rewards.score import score_batch
from spacer_lib.rows import Boxes, CognitiveMap, Question

HONEST, HONEST_BOXES, BLIND = "honest", "honest, in boxes", "blind guess"
TO_COMPARE = (HONEST, HONEST_BOXES)  # no reward hacks
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
            HONEST_BOXES,
            "the same with boxes in metres",
            lambda item: _boxed(
                item, item.get("boxes") or {}, _true_statements(item.get("map") or {})
            ),
            tokens=200,
            applies=_has_boxes,
        ),
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
        Probe(
            "map of the asked objects",
            "drawn so that the right answer follows, in places that are not seen",
            lambda item: _redrawn(item, item["ground_truth"], {}),
            applies=settled_by_map,
        ),
        Probe(
            "map redrawn to fit a guess",
            "the true map, its asked objects moved until a wrong answer follows",
            lambda item: _redrawn(item, _wrong(item), item.get("map") or {}),
            applies=settled_by_map,
        ),
        Probe(
            "stuffed statements",
            "every pair of objects in one order, many times",
            lambda item: _stating(item, 20 * _every_pair(item)),
            tokens=MOST_TOKENS,
        ),
        Probe("trivial statements", "each object beside itself", _trivial),
        Probe(
            "one of each",
            "that there is one of every kind, which most often is so",
            lambda item: _stating(
                item, "".join(f"There is 1 {name}. " for name in item.get("map") or {})
            ),
        ),
        Probe(
            "both ways",
            "every statement and its opposite",
            lambda item: _stating(
                item, _every_pair(item) + _every_pair(item).replace("left", "right")
            ),
            tokens=MOST_TOKENS,
        ),
        Probe(
            "boxes of no size",
            "true middles, sides of 0",
            _boxing(lambda box: [*box[:2], 0, 0]),
            applies=_has_boxes,
        ),
        Probe(
            "boxes as large as the room",
            "every object fills the floor",
            _boxing(lambda box: [0, 0, 8, 8]),
            applies=_has_boxes,
        ),
        Probe(
            "boxes in the middle",
            "true sizes, all at the origin",
            _boxing(lambda box: [0, 0, *box[2:]]),
            applies=_has_boxes,
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
        ``probe``, ``preset``, ``items``, ``COMPONENTS``, ``ADDED`` and ``total``. A
        probe that applies to no question has no row.

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
                for part in (*COMPONENTS, *ADDED, "total")
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
    cells = item.get("map") or {}
    thought = f"{_THOUGHT} {_true_statements(cells)}"
    return write_completion(item["ground_truth"], thought, cells or None)


def _true_statements(cells: CognitiveMap) -> str:
    """Counts, and which of two single objects is on the left; twelve at most."""
    said = [
        f"There are {len(spots)} {name}."
        for name, spots in cells.items()
        if len(spots) > 1
    ]
    single = sorted(
        (spots[0][0], name) for name, spots in cells.items() if len(spots) == 1
    )
    said += [
        f"The {first} is left of the {second}."
        for (x, first), (further, second) in itertools.combinations(single, 2)
        if x < further
    ]
    return " ".join(said[:12])


def _has_boxes(item: Question) -> bool:
    return bool(item.get("boxes"))


def _boxed(item: Question, boxes: Boxes, statements: str = "") -> str:
    """A right answer with a metric map."""
    drawn = json.dumps({name: list(map(list, found)) for name, found in boxes.items()})
    thought = f"<map>{drawn}</map>{_THOUGHT} {statements}"
    return write_completion(item["ground_truth"], thought)


def _boxing(
    box_of: Callable[[Sequence[float]], list[float]],
) -> Callable[[Question], str]:
    """A right answer with the true categories in other boxes."""

    def write(item: Question) -> str:
        boxes = (item.get("boxes") or {}).items()
        return _boxed(item, {name: [box_of(b) for b in found] for name, found in boxes})

    return write


def _wrong(item: Question) -> str:
    """An answer that is not the right one."""
    if not item.get("options"):
        return str(int(float(item["ground_truth"])) + 2)
    return "B" if item["ground_truth"].startswith("A") else "A"


def _redrawn(item: Question, answer: str, cells: CognitiveMap) -> str:
    """An answer with a map from which it follows: the asked objects at random cells.

    Without a map where 400 draws do not find one.
    """
    names, size = objects_of(item), RewardConfig().grid_size
    rng = np.random.default_rng([*item["id"].encode()])
    count = int(answer) if task_kind(item["question_type"]) == "object_counting" else 1
    for _ in range(400):
        placed = {name: rng.integers(size, size=(count, 2)).tolist() for name in names}
        if follows(answer, {**cells, **placed}, item):
            return write_completion(answer, _THOUGHT, {**cells, **placed})
    return write_completion(answer, _THOUGHT)


def _stating(item: Question, statements: str) -> str:
    return write_completion(item["ground_truth"], f"{_THOUGHT} {statements}")


def _every_pair(item: Question) -> str:
    pairs = itertools.combinations(item.get("map") or {}, 2)
    return "".join(f"The {a} is left of the {b}. " for a, b in pairs)


def _trivial(item: Question) -> str:
    names = item.get("map") or {}
    said = "".join(f"The {n} is left of the {n}, 0 cells from the {n}. " for n in names)
    return _stating(item, said)


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
