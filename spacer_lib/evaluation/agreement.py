"""A quiz that asks a person to answer from maps, and Gwet's AC1 for its raters.

SpaceR (Appendix C.4) shows annotators cognitive maps without the video and reports
agreement after Gwet. The package ``irrCAC`` computes AC1, but it needs scipy 1.12 and
pandas below 3 (with pandas 3 its version 0.4.4 counts missing ratings as a category).
So the formula is here, tested by hand and against that package's documented example.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.language.tags import read_completion
from spacer_lib.questions.solver import BEYOND_MAPS, answer_from_map
from spacer_lib.rewards.consistency import same_answer
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction, Question


@dataclass(frozen=True)
class Agreement:
    """Chance-corrected agreement of several raters.

    Attributes
    ----------
    coefficient : float
        (observed - chance) / (1 - chance); 1 is perfect, 0 what chance would give.
    observed, chance : float
        Share of agreeing pairs of ratings, and the share expected by chance.
    standard_error : float
        Gwet's, over items; NaN for one item.
    low, high : float
        95% interval: over clusters where they are given, else from the standard error.
    items, raters : int
        Items with two ratings or more, and raters.
    """

    coefficient: float
    observed: float
    chance: float
    standard_error: float
    low: float
    high: float
    items: int
    raters: int


def gwet_ac1(
    ratings: Sequence[Sequence[Hashable | None]],
    *,
    categories: Sequence[Hashable] | None = None,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Agreement:
    """Gwet's AC1 for two or more raters, with missing ratings.

    With $r_{ik}$ of the $r_i$ ratings of item i in category k,

    $$p_a = \\frac{1}{n'}\\sum_{r_i \\ge 2} \\sum_k
        \\frac{r_{ik}(r_{ik} - 1)}{r_i (r_i - 1)}, \\quad
    p_e = \\frac{1}{q - 1} \\sum_k \\pi_k (1 - \\pi_k), \\quad
    \\pi_k = \\frac{1}{n} \\sum_i \\frac{r_{ik}}{r_i}.$$

    Unlike Cohen's kappa it does not fall towards 0 where one category is rare.

    Parameters
    ----------
    ratings : list of list
        Items x raters; ``None`` where a rater did not rate. Items without any rating
        are left out.
    categories : sequence, optional
        All that could have been given; by default those that were, at least two.
    clusters : sequence, optional
        The physical space of each item: whole spaces are resampled for the interval.
    seed : int
        Keys the bootstrap.

    Returns
    -------
    Agreement

    Raises
    ------
    SpacerError
        If items have different numbers of raters, a rating is none of the categories,
        or no item has two ratings.

    Source: Gwet, "Computing inter-rater reliability and its variance in the presence
    of high agreement" (2008); with missing ratings, his Handbook (2014), chapter 5.
    """
    raters = {len(item) for item in ratings}
    if len(raters) != 1 or clusters is not None and len(clusters) != len(ratings):
        raise SpacerError(
            "ratings",
            kind="evaluation.uneven-ratings",
            got=f"{len(ratings)} items of {sorted(raters)} raters",
            expected="the same number of raters, and one cluster, for every item",
        )
    given = {rating for item in ratings for rating in item if rating is not None}
    names = sorted(given, key=str) if categories is None else list(categories)
    if not given <= set(names):
        odd = sorted(given - set(names), key=str)[0]
        raise SpacerError(
            "rating", kind="evaluation.unknown-rating", got=odd, expected=names
        )
    counts = np.array([[item.count(k) for k in names] for item in ratings], float)
    kept = counts.sum(axis=1) > 0
    counts, r = counts[kept], counts[kept].sum(axis=1)
    paired = r >= 2
    if not paired.any():
        raise SpacerError(
            "ratings",
            kind="evaluation.nothing-rated-twice",
            got="no item rated twice",
            expected="one at least",
        )
    pairs = np.maximum(r * (r - 1), 1)
    agreeing = (counts * (counts - 1)).sum(axis=1) / pairs  # (n,)
    n, q = len(counts), max(len(names), 2)
    observed = agreeing[paired].mean()
    prevalence = (counts / r[:, None]).mean(axis=0)  # (q,)
    by_chance = (counts / r[:, None]) @ (1 - prevalence) / (q - 1)  # (n,)
    chance = by_chance.mean()
    coefficient = (observed - chance) / (1 - chance)
    # Each item's share in the coefficient, linearised: their mean is the coefficient.
    own = np.where(paired, agreeing - chance, 0) * (n / paired.sum()) / (1 - chance)
    shares = own - 2 * (1 - coefficient) * (by_chance - chance) / (1 - chance)
    error = shares.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    if clusters is not None:
        spaces = [c for c, keep in zip(clusters, kept, strict=True) if keep]
        rng = np.random.default_rng([seed, 43])
        _, low, high = bootstrap_interval(shares, spaces, rng, bounds=(-1, 1))
    else:
        half = t.ppf(0.975, n - 1) * error if n > 1 else np.nan
        low, high = coefficient - half, coefficient + half
    return Agreement(
        float(coefficient),
        float(observed),
        float(chance),
        float(error),
        float(np.maximum(low, -1)),
        float(np.minimum(high, 1)),
        int(paired.sum()),
        raters.pop(),
    )


# ---------------------------------------------------------------- the quiz


def quiz(
    rows: Sequence[Question],
    n: int,
    seed: int = 0,
    *,
    predictions: Sequence[Prediction] | None = None,
    grid_size: int = 10,
) -> list[dict[str, Any]]:
    """Questions to answer from a map, without the video.

    Only questions that a map can answer are asked: no sizes, orders or metres.

    Parameters
    ----------
    rows : list of Question
    n : int
        Questions at most, question types in turn.
    seed : int
    predictions : list of Prediction, optional
        Show the maps that a model drew for the questions that it got exactly right
        (as SpaceR did). Without it the true maps are shown.
    grid_size : int
        Of the drawn maps.

    Returns
    -------
    list of dict
        ``row``, ``map`` (the one to show) and ``solved`` (``answer_from_map`` of it).

    Raises
    ------
    SpacerError
        If there is no such question.
    """
    shown: dict[str, Any] = {row["id"]: row.get("map") for row in rows}
    if predictions is not None:
        shown = {
            p["id"]: read_completion(p["prediction"], grid_size=grid_size).map
            for p in predictions
            if p["score"] > 1 - 1e-9
        }
    pool: dict[str, list[dict[str, Any]]] = {}
    for i in np.random.default_rng([seed, 47]).permutation(len(rows)):
        cells = shown.get(rows[i]["id"])
        solved = answer_from_map(rows[i], cells)
        if cells and solved.reason not in BEYOND_MAPS:
            asked = {"row": rows[i], "map": cells, "solved": solved}
            pool.setdefault(rows[i]["question_type"], []).append(asked)
    if not pool:
        raise SpacerError(
            "quiz",
            kind="evaluation.empty-quiz",
            got="no question that a map can answer",
        )
    rounds = [
        (number, kind, asked)
        for kind, found in sorted(pool.items())
        for number, asked in enumerate(found)
    ]
    return [asked for _, _, asked in sorted(rounds, key=lambda r: r[:2])[:n]]


def score_quiz(
    questions: Sequence[Mapping[str, Any]],
    answers: Mapping[str, str | None],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """A reader's answers beside the truth and the solver's.

    Parameters
    ----------
    questions : list of dict
        Of ``quiz``.
    answers : dict
        ``{row id: a letter or number as text}``; ids that are missing, or ``None``,
        were not answered.

    Returns
    -------
    dict
        ``n`` questions, ``answered``, ``right`` (share of all, with interval:
        ``[mean, low, high]``), ``solver_right`` (the same of the solver), and the
        ``Agreement`` of the reader ``with_truth`` and ``with_solver`` (``None`` where
        the two share no question).

    Raises
    ------
    SpacerError
        If an answer belongs to no question.
    """
    asked = {q["row"]["id"]: q for q in questions}
    strange = sorted(set(answers) - set(asked))
    if strange:
        raise SpacerError(
            "quiz answer",
            kind="evaluation.no-such-quiz-question",
            got=strange[0],
            expected=f"ids of the quiz, such as {sorted(asked)[0]}",
        )
    rows = [q["row"] for q in questions]
    spaces = [space_of(row["scene_name"]) for row in rows]
    reader = [_plain(answers.get(row["id"])) for row in rows]
    solver = [_plain(q["solved"].answer) for q in questions]
    truth = [_plain(row["ground_truth"]) for row in rows]

    def right(given: Sequence[str | None]) -> list[float]:
        values = [
            same_answer(a, row["ground_truth"], row)
            for a, row in zip(given, rows, strict=True)
        ]
        rng = np.random.default_rng([seed, 53])
        return list(bootstrap_interval(values, spaces, rng, bounds=(0, 1)))

    def agreement(other: Sequence[str | None]) -> Agreement | None:
        pairs = list(zip(reader, other, strict=True))
        if not any(None not in pair for pair in pairs):
            return None
        return gwet_ac1(pairs, clusters=spaces, seed=seed)

    return {
        "n": len(rows),
        "answered": sum(a is not None for a in reader),
        "right": right(reader),
        "solver_right": right(solver),
        "with_truth": agreement(truth),
        "with_solver": agreement(solver),
    }


def _plain(answer: object) -> str | None:
    return None if answer is None else str(answer).strip().rstrip(".").upper()
