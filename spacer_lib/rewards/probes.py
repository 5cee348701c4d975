"""Degenerate policies, and what each reward preset pays them.

Unless its trick is the answer itself, a probe answers *rightly*: the gate to the map
and length rewards is then open, and the table shows what the trick adds to a right
answer or costs it. An honest policy and a blind guess stand beside them.

Source: vsGRPO §4.3.3 (empty thoughts, restated answers, repeated tags, padding) and
``cogmap.score`` (maps that the published scoring pays).
"""

from collections.abc import Callable
from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import EXAMPLE_MAP
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.generators import LETTERS
from spacer_lib.rewards.config import COMPONENTS, PRESETS, get_preset
from spacer_lib.rewards.metrics import majority_floor
from spacer_lib.rewards.score import score_batch

HONEST, BLIND = "honest", "blind guess"  # for comparison: no hacks
MOST_TOKENS = 512  # what every published length window still allows
_THOUGHT = "The bed is by the window and the lamp stands opposite, so that decides it."


@dataclass(frozen=True)
class Probe:
    """A policy that looks at no video.

    Attributes
    ----------
    name, does : str
    write : callable
        Item → completion, with ``<think>`` around its thoughts.
    tokens : int
        How long its completions count as.
    applies : callable
        Item → whether the policy has a use for it.
    """

    name: str
    does: str
    write: Callable
    tokens: int = 60
    applies: Callable = lambda item: True


def make_probes(items):
    """The library of probes.

    Parameters
    ----------
    items : list of dict
        Question rows of ours (``qa.dataset``). Frequent answers and mean sizes are
        counted on them, which flatters guesses a little.

    Returns
    -------
    tuple of Probe
    """
    frequent = majority_floor(items)
    sizes_cm = {}
    for item in filter(_asks_size, items):
        known = sizes_cm.setdefault(item["categories"][0], [])
        known.append(float(item["ground_truth"]))

    def guess(item):
        return frequent[item["question_type"]][0]

    def mean_size(item):
        sizes = sizes_cm[item["categories"][0]]
        return f"{sum(sizes) / len(sizes):.0f}"

    return (
        Probe(HONEST, "true map, a thought, right answer", _honest, tokens=160),
        Probe(
            BLIND,
            "no map, the most frequent answer of the question type",
            lambda item: _completion(_THOUGHT, guess(item)),
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
            "no look at the room",
            lambda item: _completion(_THOUGHT, "2"),
            applies=_asks_count,
        ),
        Probe(
            "category's mean size",
            "no look at the object",
            lambda item: _completion(_THOUGHT, mean_size(item)),
            applies=_asks_size,
        ),
        Probe(
            "longest allowed rambling",
            f"padded to {MOST_TOKENS} tokens",
            _thinking("Let me look again. " * (MOST_TOKENS // 5)),
            tokens=MOST_TOKENS,
        ),
    )


def probe_table(items, presets=PRESETS):
    """What each preset pays each probe, averaged over the items it applies to.

    Parameters
    ----------
    items : list of dict
        Question rows of ours.
    presets : iterable of str
        Names in ``rewards.PRESETS``.

    Returns
    -------
    list of dict
        ``probe``, ``preset``, ``items``, ``format``, ``task``, ``map``, ``length`` and
        ``total``; a probe that applies to no item has no row.

    Raises
    ------
    SpacerError
        If there are no items, or for an unknown preset.
    """
    if not items:
        raise SpacerError("items to probe", got="none", expected="at least one")
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
            row = {"probe": probe.name, "preset": name, "items": len(asked)}
            table.append({**row, **means})
    return table


def table_text(table, part="total"):
    """A probe table as text: one line per probe, one column per preset."""
    presets = list(dict.fromkeys(row["preset"] for row in table))
    cells = {(row["probe"], row["preset"]): row[part] for row in table}
    lines = [f"{part:26}" + "".join(f"{name:>17}" for name in presets)]
    for probe in dict.fromkeys(row["probe"] for row in table):
        values = "".join(f"{cells[probe, name]:>17.2f}" for name in presets)
        lines.append(f"{probe:26}{values}")
    return "\n".join(lines)


def _asks_count(item):
    return item["question_type"] == "object_counting"


def _asks_size(item):
    return item["question_type"] == "object_size_estimation"


def _completion(thought, answer, drawn=""):
    return f"<think>{drawn}{thought}</think><answer>{answer}</answer>"


def _thinking(thought):
    return lambda item: _completion(thought, item["ground_truth"])


def _honest(item):
    drawn = f"<map>{map_to_text(item['map'])}</map>" if item.get("map") else ""
    return _completion(_THOUGHT, item["ground_truth"], drawn)


def _restated(item):
    about = " and the ".join(item.get("categories") or ["room"])
    truth = item["ground_truth"]
    return _completion(f"For the {about} the answer is {truth}.", truth)


def _spam(item):
    letters = LETTERS[: len(item.get("options") or ())]
    return _completion(_THOUGHT, " ".join(letters or map(str, range(1, 11))))


def _drawing(cells_of):
    """A right answer beside a map of the true categories, drawn blindly."""

    def write(item, grid_size=10):
        true = item.get("map") or {}
        cells = {name: cells_of(grid_size, spots) for name, spots in true.items()}
        drawn = f"<map>{map_to_text(cells)}</map>"
        return _completion(_THOUGHT, item["ground_truth"], drawn)

    return write


def _copied(item):
    drawn = f"<map>{EXAMPLE_MAP}</map>"
    return _completion(_THOUGHT, item["ground_truth"], drawn)
