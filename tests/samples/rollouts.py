"""Rollouts of one question: one for each thing that can become of an answer."""

from spacer_lib.language.tags import write_completion
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rows import ROLLOUT_QUESTION_KEYS
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows

ROWS = draw_rows(SEEDS["develop"], 12, DEMONSTRATED)
ROW = next(r for r in ROWS if r["question_type"] == "object_rel_direction_easy")
RIGHT, WRONG = ("A", "B") if ROW["ground_truth"] == "A" else ("B", "A")
MIRRORED = {n: [[9 - x, y] for x, y in spots] for n, spots in ROW["map"].items()}
WRITTEN = {
    "right": write_completion(RIGHT, "", ROW["map"]),
    "no_map": write_completion(WRONG, "a thought"),
    "perception": write_completion(WRONG, "", {"bed": [[0, 0]]}),
    "localisation": write_completion(WRONG, "", MIRRORED),
    "reasoning": write_completion(WRONG, "", ROW["map"]),
    "truncated": write_completion(WRONG, "", ROW["map"]).partition("</think>")[0],
    "extraction": write_completion("neither", "", ROW["map"]),
}


def rollout(text, row=ROW, step=1):
    found = score(text, row, RewardConfig())
    kept = {key: row.get(key) for key in ROLLOUT_QUESTION_KEYS}
    rewards = {"format": found.format, "task": found.task, "map": found.map}
    return {
        "step": step,
        **kept,
        "completion": text,
        "rewards": {**rewards, "length": 0.0},
        "advantage": 0.5,
    }
