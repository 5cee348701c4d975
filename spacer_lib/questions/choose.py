"""Choices over many questions: flat answers, the right letter's place, whole spaces."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.questions.drafts import LETTERS, OPTION_FREE
from spacer_lib.questions.kinds import lists_options
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Question

Key = TypeVar("Key", int, str)


def water_fill(sizes: Mapping[Key, int], total: int) -> dict[Key, int]:
    """Share ``total`` as evenly as the sizes allow.

    Parameters
    ----------
    sizes : mapping
        Key → how many there are.
    total : int
        Reduced to the sum of the sizes.

    Returns
    -------
    dict
        Key → how many to take. Keys with some left over get equal numbers, or one
        more for the first in sorted order.

    Examples
    --------
    >>> water_fill({2: 10, 3: 4, 4: 1}, 9)
    {2: 4, 3: 4, 4: 1}
    """
    quota, left = {}, min(total, sum(sizes.values()))
    for rank, key in enumerate(sorted(sizes, key=lambda k: (sizes[k], k))):
        waiting = len(sizes) - rank
        quota[key] = min(sizes[key], left // waiting)
        left -= quota[key]
    for key in sorted(sizes):
        if left and quota[key] < sizes[key]:
            quota[key] += 1
            left -= 1
    return {key: quota[key] for key in sorted(sizes)}


def flat_choice(
    answers: Sequence[str],
    bin_width: float,
    rng: np.random.Generator,
    target: int | None = None,
) -> list[int]:
    """Choose numerical answers so that their histogram is flatter.

    Parameters
    ----------
    answers : sequence of str
        Numbers as texts.
    bin_width : float
        In the unit of the answers.
    rng : np.random.Generator
    target : int, optional
        How many to keep, evenly over the bins. By default a bin keeps at most the
        mean number of answers per bin.

    Returns
    -------
    list of int
        Positions of the kept answers, ascending.

    Source: SpaceR §3, "adjust the numerical value distribution".
    """
    bins: dict[int, list[int]] = {}
    for position, answer in enumerate(answers):
        bins.setdefault(int(float(answer) // bin_width), []).append(position)
    if not bins:
        return []
    sizes = {key: len(mine) for key, mine in bins.items()}
    if target is None:
        mean = -(-len(answers) // len(bins))
        quota = {key: min(mean, size) for key, size in sizes.items()}
    else:
        quota = water_fill(sizes, target)
    kept = []
    for key in sorted(bins):
        order = rng.permutation(len(bins[key]))[: quota[key]]
        kept += [bins[key][i] for i in order]
    return sorted(kept)


def flatten_answers(
    rows: Sequence[Question],
    task: str,
    rng: np.random.Generator,
    *,
    bin_width: float = 1.0,
) -> list[Question]:
    """Rows in their order; those of one type are thinned out by ``flat_choice``."""
    mine = [i for i, row in enumerate(rows) if row["question_type"] == task]
    answers = [rows[i]["ground_truth"] for i in mine]
    kept = {mine[i] for i in flat_choice(answers, bin_width, rng)}
    dropped = set(mine) - kept
    return [row for i, row in enumerate(rows) if i not in dropped]


def with_answer_at(row: Question, position: int) -> Question:
    """The row with its right option moved to a position, exchanged with the one there.

    A question about relative distance lists its options too; the list follows.
    """
    texts = [option[3:] for option in row["options"] or ()]
    now = LETTERS.index(row["ground_truth"])
    shown = list(texts)
    shown[now], shown[position] = shown[position], shown[now]
    moved = row.copy()
    moved["options"] = [f"{LETTERS[i]}. {text}" for i, text in enumerate(shown)]
    moved["ground_truth"] = LETTERS[position]
    if lists_options(row["question_type"]):
        listed = f"({', '.join(texts)})"
        moved["question"] = row["question"].replace(listed, f"({', '.join(shown)})", 1)
        moved["categories"] = [row["categories"][0], *shown]
    return moved


def without_options(row: Question) -> Question:
    """A multiple-choice row as vsGRPO asks it: without letters, answered in words."""
    free, options = row.copy(), row["options"] or []
    free["options"] = None
    free["ground_truth"] = options[LETTERS.index(row["ground_truth"])][3:]
    free["problem_type"] = OPTION_FREE
    return free


def split_spaces(
    scene_ids: Iterable[str], fractions: Mapping[str, float], seed: int
) -> dict[str, list[str]]:
    """Assign physical spaces to parts; the scans of a space stay together.

    Parameters
    ----------
    scene_ids : iterable of str
    fractions : mapping
        Part → share of the spaces, such as ``{"train": 0.8, "test": 0.2}``.
    seed : int

    Returns
    -------
    dict
        Part → scene ids, sorted.

    Raises
    ------
    SpacerError
        If the shares do not sum to 1.
    """
    if not abs(sum(fractions.values()) - 1) <= 1e-9:  # NaN is no sum of 1
        raise SpacerError(
            "shares of the parts",
            kind="questions.shares",
            got=dict(fractions),
            expected="a sum of 1",
        )
    scene_ids = sorted(set(scene_ids))
    spaces = sorted({space_of(name) for name in scene_ids})
    order = np.random.default_rng([seed, 11]).permutation(len(spaces))
    edges = np.round(np.cumsum(list(fractions.values())) * len(spaces)).astype(int)
    parts, start = {}, 0
    for name, stop in zip(fractions, edges, strict=True):
        mine = {spaces[i] for i in order[start:stop]}
        parts[name] = [s for s in scene_ids if space_of(s) in mine]
        start = stop
    return parts
