"""One prediction per question: raw text, what was read from it, score and failure.

Reads questions and completions; writes ``rows.Prediction``. Every score of this wing
comes from here, by one of two kinds of rule: a benchmark's (``benchmarks.rules_of``)
or the task reward of training (``reward_rule``).
"""

from typing import Any, cast

from spacer_lib.benchmarks.schema import Rule, Verdict
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import SCORERS, hits
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rows import Prediction, Question

# Failures of rows without an output; all others come from a rule. Details may follow
# a colon: ``missing_media: <path>``, ``request_failed: <status>``.
# ``control_word``: the question or an option has a word that tokenisers read as
# structure.
UNREADABLE_MEDIA = ("missing_media", "broken_media")
UNANSWERED = (
    *UNREADABLE_MEDIA,
    "control_word",
    "request_failed",
    "refused",
    "no_text",
    "no_prediction",
)


def record(
    row: Question,
    text: str | None,
    rule: Rule,
    *,
    failure: str | None = "no_prediction",
    grid_size: int = 10,
) -> Prediction:
    """Judge one raw output by a reading rule.

    Parameters
    ----------
    row : Question
    text : str or None
        ``None``: there is no output, ``failure`` says why, and it counts as wrong.
    rule : callable
        ``(text, row) → Verdict``.
    failure : str, optional
        One of ``UNANSWERED``, with or without details.
    grid_size : int
        Of the maps.

    Returns
    -------
    Prediction
        ``extracted`` is what the rule read, ``how`` how, if the rule says so, and
        ``failure`` why it read nothing. The
        prediction repeats enough of its question to be judged again by another rule.
        The keys that start with ``map_`` are there for a row with a true map.
    """
    verdict = rule(text, row) if text is not None else Verdict(0.0, None, failure)
    made: dict[str, Any] = {
        "id": row["id"],
        "scene_name": row["scene_name"],
        "dataset": row.get("dataset"),
        "question_type": row["question_type"],
        "problem_type": row["problem_type"],
        "question": row["question"],
        "options": row.get("options"),
        "groups": row.get("groups") or {},
        "prediction": text or "",
        "answer": row["ground_truth"],
        "extracted": verdict.answer,
        "score": verdict.score,
        "failure": verdict.failure,
        "how": verdict.how,
    }
    true = {name: cells for name, cells in (row.get("map") or {}).items() if cells}
    if true:
        reading = read_completion(text or "", expect_map=True, grid_size=grid_size)
        drawn = reading.map or {}
        made["map_failure"] = failure if text is None else reading.map_failure
        made["map_hits"], made["map_total"] = hits(drawn, true)
        for scorer in SCORERS:
            made[f"map_{scorer}"] = map_score(drawn, true, grid_size, scorer=scorer)
    return cast(Prediction, made)


def reason(failure: str) -> str:
    """A failure without its details.

    Examples
    --------
    >>> reason("missing_media: rooms/1.mp4")
    'missing_media'
    """
    return failure.partition(":")[0]


def reward_rule(rewards: RewardConfig | None = None) -> Rule:
    """The rule that scores as training does: a fault of the format is a failure too.

    The score is the task reward. An answer that was read counts although the format
    around it is wrong.

    Parameters
    ----------
    rewards : RewardConfig, optional
        SpaceR's if not given.
    """
    config = rewards or RewardConfig()

    def rule(text: str, row: Question) -> Verdict:
        breakdown = score(text, row, config)
        answer = None
        if breakdown.answer_failure is None:
            answer = read_completion(text, shape=config.shape).answer
            if answer and row.get("options"):
                answer = breakdown.answer
        return Verdict(breakdown.task, answer, breakdown.failure, breakdown.how)

    return rule
