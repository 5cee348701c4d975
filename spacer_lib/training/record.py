"""What a run writes down as it goes: a line per step, and sampled rollouts."""

import json
import math
import time
from pathlib import Path

from transformers import TrainerCallback

from spacer_lib.artifacts import write_jsonl
from spacer_lib.qa.dataset import read_rows


class MetricsLog(TrainerCallback):
    """One JSON line per optimiser step in ``metrics.jsonl``, one printed line too.

    Keys are TRL's (``reward``, ``rewards/<part>/mean``, ``frac_reward_zero_std`` …)
    plus ``step``, ``seconds`` (since the start, resumed time included) and
    ``rollouts_identical``.
    """

    def __init__(self, path, before=0.0):
        self.path, self.before = Path(path), before
        self.start = time.perf_counter()

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock."""
        self.start = time.perf_counter()

    def seconds(self):
        """Seconds of training so far, earlier sessions included."""
        return round(self.before + time.perf_counter() - self.start, 2)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Write and print what TRL has just logged."""
        if "loss" not in logs:
            return  # the summary at the end
        row = {"step": state.global_step, "seconds": self.seconds(), **logs}
        append_jsonl(self.path, [row])
        print(progress_line(row, state.max_steps), flush=True)


def progress_line(row, steps):
    """The few numbers of a step that one watches."""
    parts = [f"step {row['step']}/{steps}", f"{row['seconds']:.0f} s"]
    if "reward" not in row:
        watched = ("loss", "mean_token_accuracy", "rewards/margins")
        shown = [f"{k.split('/')[-1]} {row[k]:.3f}" for k in watched if k in row]
        # A baseline's step, or a second pass over the same rollouts.
        again = "mean_token_accuracy" not in row
        return "  ".join([*parts, *(["same rollouts again"] if again else shown)])
    parts.append(f"reward {row['reward']:.3f}")
    for key, value in row.items():
        if key.startswith("rewards/") and key.endswith("/mean") and value is not None:
            parts.append(f"{key.split('/')[1]} {value:.3f}")
    parts.append(f"groups without advantage {row['frac_reward_zero_std']:.0%}")
    return "  ".join(parts)


def append_jsonl(path, rows):
    """Append rows at once, so that a reader never sees half a line of an old one."""
    lines = [json.dumps(_finite(row), separators=(",", ":")) + "\n" for row in rows]
    with open(path, "a", encoding="utf-8") as file:
        file.write("".join(lines))


def drop_later_steps(path, step):
    """Cut a log back to a checkpoint's step; returns the seconds spent until there."""
    rows = read_rows(path) if Path(path).exists() else []
    rows = [row for row in rows if row["step"] <= step]
    write_jsonl(path, rows)
    return max((row.get("seconds", 0.0) for row in rows), default=0.0)


def _finite(value):
    """NaN (a component that applied to no row) → null, which is JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
