"""Does the answer follow from the drawn map, and is that map right?

The solver (``questions.solver``) answers from a map, so no model judges a thought.

An answer that follows from the drawn map is no merit by itself: a map of the asked
objects alone, a map with all objects in one cell and a map drawn after the guess are
all consistent with some answer. ``consistency`` therefore pays the map's part too:

    R = [answer = solve(drawn)] * [solve(drawn) = truth] * aligned(drawn, true)

It is 0 to 1, paid to right answers alone, and does not change if the drawn map is
turned by quarter turns. It does not apply (``None``) where the solver does not find the
truth in the true map: there an honest map says something else.

Source: ours. Answers as a constraint on the thought: https://arxiv.org/abs/2604.08476.
"""

from typing import NamedTuple

from spacer_lib.language.choices import plain_text, read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.maps.scores import score as map_score
from spacer_lib.questions.solver import Cells, answer_from_map
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rows import Question


class Part(NamedTuple):
    """One component of a reward: a score in [0, 1] before its weight, and why.

    ``None``: the component does not apply to the question.
    """

    score: float | None
    reason: str


def same_answer(answer: str | None, reference: str | None, row: Question) -> float:
    """1.0 if two answers to a question are the same, numbers within 5%; else 0.0."""
    if answer is None or reference is None:
        return 0.0
    if row["problem_type"] in ("numerical", "regression"):
        first, second = read_number(answer)[0], read_number(reference)[0]
        if first is None or second is None:
            return 0.0
        return float(mean_relative_accuracy(first, second) == 1)
    return float(plain_text(answer) == plain_text(reference))


def follows(answer: str | None, drawn: Cells | None, row: Question) -> float:
    """1.0 if an answer is the one that the solver finds in a drawn map; else 0.0.

    It looks at no truth: a measure, and no reward (see the module).

    Parameters
    ----------
    answer : str or None
        As it was read: a letter, a number or words.
    drawn : dict or None
        ``{category: [(x_col, y_row), …]}``.
    row : Question

    Examples
    --------
    >>> row = {"question_type": "object_counting", "problem_type": "numerical",
    ...        "options": None, "question": "", "categories": ["chair"]}
    >>> follows("2", {"chair": [(0, 0), (0, 0)]}, row)
    1.0
    """
    return same_answer(answer, answer_from_map(row, drawn).answer, row)


def settled_by_map(row: Question) -> bool:
    """Whether the solver finds the true answer in the true map."""
    if not row.get("map") or not row.get("question_type"):
        return False
    return bool(
        same_answer(answer_from_map(row, row["map"]).answer, true_answer(row), row)
    )


def consistency(
    answer: str | None, drawn: Cells | None, row: Question, grid_size: int = 10
) -> Part:
    """The consistency of an answer with a right map; see the module.

    Parameters
    ----------
    answer : str or None
        As it was read.
    drawn : dict or None
        ``{category: [(x_col, y_row), …]}``, cells in [0, M - 1].
    row : Question
        ``question_type``, ``options``, ``ground_truth``, ``categories`` (else the
        question's words) and ``map`` are read.
    grid_size : int
        M.

    Returns
    -------
    Part

    Raises
    ------
    SpacerError
        If the true map is none (``maps.scores.score``).

    Source: see the module.
    """
    if not settled_by_map(row):
        return Part(None, "the true map does not give the answer")
    if not drawn:
        return Part(0.0, "no map")
    solved = answer_from_map(row, drawn)
    if solved.answer is None:
        return Part(0.0, f"no answer in the map ({solved.reason})")
    if not same_answer(answer, solved.answer, row):
        return Part(0.0, f"the map says {solved.answer}")
    if not same_answer(solved.answer, true_answer(row), row):
        return Part(0.0, "follows from a map that is wrong here")
    worth = map_score(drawn, row["map"] or {}, grid_size, scorer="aligned")
    return Part(worth, f"follows, {worth:.3g} by aligned")


def true_answer(row: Question) -> str | None:
    """The ground truth as answers are read: a letter, a number or words."""
    options = row.get("options")
    truth = row["ground_truth"]
    return read_choice(truth, options) if options else truth
