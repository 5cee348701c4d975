"""One record per question: raw text, what was read from it, score and failure."""

from spacer_lib.cogmap import SCORERS
from spacer_lib.cogmap import score as map_score
from spacer_lib.completions import read_completion
from spacer_lib.rewards import RewardConfig, score


def predict(row, text, rewards=None):
    """Score one completion: the prediction record without run information.

    ``text=None`` stands for missing media: wrong, and named so. The map scores are
    ``None`` for a row without a map.
    """
    rewards = rewards or RewardConfig()
    breakdown = score(text or "", row, rewards)
    reading = read_completion(text or "", grid_size=rewards.grid_size)
    missing = "missing_video" if text is None else None
    scores = {
        f"map_{scorer}": map_score(
            reading.map or {}, row["map"], rewards.grid_size, scorer=scorer
        ) if breakdown.map_total else None
        for scorer in SCORERS
    }  # fmt: skip
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
