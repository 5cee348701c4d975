"""One record per question: raw text, what was read from it, score and failure."""

from spacer_lib.benchmarks.schema import Verdict
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import SCORERS, hits
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score


def record(row, text, rule, *, failure="no_prediction", grid_size=10):
    """Judge one raw output by an extraction rule.

    Parameters
    ----------
    row : dict
        Of a benchmark's reader, or a question row of ours.
    text : str or None
        ``None``: there is no output, and ``failure`` says why; it counts as wrong.
    rule : callable
        ``(text, row) → Verdict``, of ``benchmarks.rules_of``.
    grid_size : int
        Of the row's map, where it has one.

    Returns
    -------
    dict
        ``id``, ``scene_name``, ``dataset``, ``question_type``, ``problem_type``,
        ``question``, ``options``, ``groups``, ``prediction`` (raw text), ``answer``
        (ground truth), ``extracted`` (what was read), ``score`` and ``failure`` (why
        nothing was read): enough to judge it again by another rule. For a row with a
        map also ``map_failure``, ``map_hits``, ``map_total`` and ``map_<scorer>``.
    """
    verdict = rule(text, row) if text is not None else Verdict(0.0, None, failure)
    made = {
        "id": row["id"],
        "scene_name": row["scene_name"],
        "dataset": row.get("dataset"),
        "question_type": row["question_type"],
        "problem_type": row["problem_type"],
        "question": row["question"],
        "options": row["options"],
        "groups": row.get("groups") or {},
        "prediction": text or "",
        "answer": row["ground_truth"],
        "extracted": verdict.answer,
        "score": verdict.score,
        "failure": verdict.failure,
    }
    if row.get("map"):
        reading = read_completion(text or "", expect_map=True, grid_size=grid_size)
        hit, there = hits(reading.map or {}, row["map"])
        made["map_failure"] = failure if text is None else reading.map_failure
        made.update(map_hits=hit, map_total=there)
        made.update(_map_scores(reading, row, grid_size))
    return made


def _map_scores(reading, row, grid_size):
    return {
        f"map_{scorer}": map_score(
            reading.map or {}, row["map"], grid_size, scorer=scorer
        )
        for scorer in SCORERS
    }


def predict(row, text, rewards=None):
    """Score one completion as training does: form counts as a failure too.

    ``text=None`` stands for missing media: wrong, and named so. The map scores are
    ``None`` for a row without a map.
    """
    rewards = rewards or RewardConfig()
    breakdown = score(text or "", row, rewards)
    reading = read_completion(text or "", grid_size=rewards.grid_size)
    missing = "missing_video" if text is None else None
    scores = dict.fromkeys((f"map_{scorer}" for scorer in SCORERS), None)
    if breakdown.map_total:
        scores = _map_scores(reading, row, rewards.grid_size)
    return {
        "id": row["id"],
        "scene_name": row["scene_name"],
        "question_type": row["question_type"],
        "prediction": text or "",
        "answer": row["ground_truth"],
        "score": breakdown.task,
        "failure": missing or breakdown.failure,
        "map_failure": missing or breakdown.map_failure,
        "map_hits": breakdown.map_hits,
        "map_total": breakdown.map_total,
        **scores,
    }
