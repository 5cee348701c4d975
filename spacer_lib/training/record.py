"""What a run records: a line per step, sampled rollouts, and the data it used."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import fnmatch
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import psutil
import pyarrow as pa
from pyarrow import parquet
from transformers import TrainerCallback

from spacer_lib.artifacts import (
    PathLike,
    append_jsonl,
    atomic_path,
    read_journal,
    write_jsonl,
)
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.text import map_to_text
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rows import (
    ROLLOUT_QUESTION_KEYS,
    CognitiveMap,
    Question,
    Rollout,
    questions_hash,
)
from spacer_lib.training.memory import peak_memory_gb
from spacer_lib.training.recipe import TrainConfig

# Keys of ``metrics.jsonl``; a star stands for any text. Means and shares are over the
# step's rollouts on all workers. A value that no rollout has is null.
METRICS = {
    "step": "optimiser step, from 1",
    "epoch": "passes over the rows so far",
    "seconds": "of training so far, resumed sessions included",
    "seconds/step": "of this step; saving a checkpoint before it is left out",
    "step_time": "seconds of a training step in TRL, the optimiser left out",
    "seconds/data": "decoding and encoding the step's media",
    "seconds/generate": "sampling the step's rollouts",
    "seconds/score": "rewards, and old and reference log-probabilities",
    "seconds/update": "forward, backward and optimiser",
    "tokens_per_s": "tokens of prompts and completions a second, over all workers",
    "tokens/computed": "positions that the step's old, reference and policy scores ran",
    "tokens/stock": "the same if each completion is a row of its own, without padding",
    "num_tokens": "tokens seen so far: prompts and completions",
    "media_skipped": "rows replaced because their media could not be read",
    "peak_memory_gb": "peak resident memory of the first worker so far, GiB",
    "peak_gpu_memory_gb": "peak memory of the first worker's GPU so far, GiB",
    "memory_gb/*": "a worker's memory in a phase of the step, GiB: its GPU's peak, or "
    "without a GPU what was resident",
    "loss": "the loss minimised; GRPO's is near 0 on every first pass over rollouts",
    "grad_norm": "norm of the gradient before clipping",
    "learning_rate": "of this step",
    "policy_loss": "the loss without its entropy bonus",
    "aux_loss": "load balancing of a mixture of experts",
    "entropy": "mean entropy of the policy, nats per token",
    "entropy_coef": "weight of the entropy bonus",
    "kl": "k3 estimate against the reference, nats per token",
    "logp_change/max": "largest change of a log-probability since the rollouts",
    "clip_ratio/*": "share of tokens whose ratio was clipped, below, above, either",
    "cispo_clip_ratio": "share of tokens with a capped weight and a positive advantage",
    "reward": "mean sum of all components",
    "reward_std": "standard deviation of that sum over all rollouts",
    "frac_reward_zero_std": "zero-advantage groups: all rewards are equal",
    "rewards/*/mean": "mean of one component, weight and gate applied",
    "rewards/*/std": "its standard deviation",
    "left_out/*": "completions of questions without a bonus by a control, by reason",
    "refill/groups": "zero-advantage groups that were replaced by another row's",
    "refill/rounds": "extra generations for these",
    "rollouts_identical": "groups whose completions are all the same text",
    "answer_failures": "answers that could not be read",
    "map_failures": "maps asked for and absent or unreadable",
    "map_hit_rate": "true instances drawn within 1.5 cells",
    "map_*": "mean map score under one scorer, paid or not",
    "completions/*_length": "tokens of a completion: mean, shortest, longest",
    "completions/*_terminated_length": "the same of completions that ended",
    "completions/clipped_ratio": "completions cut at max_completion_length",
    "sampling/*": "vLLM's log-probabilities against the trainer's",
    "mean_token_accuracy": "response tokens that the model would have chosen",
    "rewards/chosen": "DPO: β times log-ratio to the reference, chosen responses",
    "rewards/rejected": "DPO: the same of rejected ones",
    "rewards/margins": "DPO: chosen minus rejected",
    "rewards/accuracies": "DPO: pairs whose margin is positive",
    "logps/*": "DPO: summed log-probability of a response",
    "logits/*": "DPO: mean logit over a response",
}
# Counters and peaks: a mean over steps has no meaning.
RUNNING = (
    "step",
    "epoch",
    "seconds",
    "num_tokens",
    "peak_memory_gb",
    "peak_gpu_memory_gb",
)


def meaning_of(key: str) -> str | None:
    """What a key of ``metrics.jsonl`` means, or ``None`` if ``METRICS`` lacks it.

    Examples
    --------
    >>> meaning_of("rewards/map/mean")
    'mean of one component, weight and gate applied'
    """
    if key in METRICS:
        return METRICS[key]
    return next((m for k, m in METRICS.items() if fnmatch.fnmatch(key, k)), None)


# ---------------------------------------------------------------- steps


class MetricsLog(TrainerCallback):
    """One JSON line per optimiser step in ``metrics.jsonl``, and one printed line.

    Keys are TRL's and those measured here; ``METRICS`` explains them. Callbacks after
    this one get the values measured here too.

    Parameters
    ----------
    path : path
    before : float
        Seconds of training in earlier sessions.
    """

    def __init__(self, path: PathLike, before: float = 0.0) -> None:
        self.path, self.before = Path(path), before
        self.start = self.last = time.perf_counter()
        self.saves: list[float] = []  # seconds of each checkpoint of this session

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.start = self.last = time.perf_counter()

    def seconds(self) -> float:
        """Seconds of training so far, earlier sessions included."""
        return round(self.before + time.perf_counter() - self.start, 2)

    def duration(self) -> dict[str, Any]:
        """Seconds of this session.

        ``start``: from the start of the process to the first step; ``training``;
        ``checkpoints``: of each one.
        """
        training = self.seconds() - self.before
        start = time.time() - psutil.Process().create_time() - training
        return {
            "start": round(start, 2),
            "training": round(training, 2),
            "checkpoints": self.saves,
        }

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write and print what TRL has just logged."""
        if logs is None or "loss" not in logs:
            return  # the summary at the end
        resident, gpu = peak_memory_gb()
        logs["seconds/step"] = self._lap()
        logs["peak_memory_gb"], logs["peak_gpu_memory_gb"] = resident, gpu
        row = {"step": state.global_step, "seconds": self.seconds(), **logs}
        append_jsonl(self.path, [row], sync=True)
        print(progress_line(row, state.max_steps), flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Time the checkpoint, which follows its step's line."""
        self.saves.append(self._lap())

    def _lap(self) -> float:
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        return round(seconds, 3)


def progress_line(row: Mapping[str, Any], steps: int) -> str:
    """The line that is printed after a step."""
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


def last_means(path: PathLike, steps: int = 10) -> dict[str, Any]:
    """Mean of each metric over the last steps of ``metrics.jsonl``.

    Returns
    -------
    dict
        ``steps``, their number, and ``metrics`` ``{key: mean}``, without nulls and
        without counters and peaks (``RUNNING``).
    """
    rows = read_journal(path)[-steps:]
    keys = dict.fromkeys(key for row in rows for key in row if key not in RUNNING)
    values = {k: [r[k] for r in rows if r.get(k) is not None] for k in keys}
    means = {k: statistics.fmean(v) for k, v in values.items() if v}
    return {"steps": len(rows), "metrics": means}


# ---------------------------------------------------------------- rollouts


class RolloutTable(TrainerCallback):
    """Writes ``rollouts.parquet`` from ``rollouts.jsonl`` at every checkpoint.

    The last checkpoint is the end of the run.

    Parameters
    ----------
    folder : path
    reward : RewardConfig
        How completions are read: their shape and the maps' size.
    """

    def __init__(self, folder: PathLike, reward: RewardConfig) -> None:
        self.folder, self.reward = Path(folder), reward

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the whole table again."""
        journal = self.folder / "rollouts.jsonl"
        if journal.exists():
            with atomic_path(self.folder / "rollouts.parquet") as temporary:
                rows = cast(list[Rollout], read_journal(journal))
                table = rollout_table(rows, self.reward)
                parquet.write_table(table, temporary)


def rollout_table(rows: Sequence[Rollout], reward: RewardConfig) -> pa.Table:
    """Sampled rollouts, one per row; a column of nulls has its type too.

    Parameters
    ----------
    rows : list of Rollout
        Of ``rollouts.jsonl``.
    reward : RewardConfig

    Returns
    -------
    pyarrow.Table
        The keys of ``Rollout``; the true map is ``true_map``, and ``map`` is the one
        read from the completion (both as JSON text). ``failure`` and ``map_failure``:
        why no answer or map was read. ``reward/<component>``: weights and gates
        applied.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["rewards"]))
    texts = [key for key in ROLLOUT_QUESTION_KEYS if key not in ("image", "options")]
    table = []
    for row in rows:
        completion = read_completion(
            row["completion"],
            grid_size=reward.grid_size,
            shape=reward.shape,
            expect_map=row.get("map") is not None,
        )
        table.append(
            {
                **{key: _text(row.get(key)) for key in texts},
                "step": row["step"],
                "options": row.get("options"),
                "true_map": _map_text(row.get("map")),
                "completion": row["completion"],
                "map": _map_text(completion.map),
                "failure": completion.failure,
                "map_failure": completion.map_failure,
                **{f"reward/{name}": row["rewards"].get(name) for name in names},
                "advantage": row["advantage"],
            }
        )
    string, number = pa.string(), pa.float64()
    schema = pa.schema(
        {
            "step": pa.int64(),
            "id": string,
            "question": string,
            "options": pa.list_(string),
            "problem_type": string,
            "question_type": string,
            "video": string,
            "ground_truth": string,
            "true_map": string,
            "completion": string,
            "map": string,
            "failure": string,
            "map_failure": string,
            **{f"reward/{name}": number for name in names},
            "advantage": number,
        }
    )
    return pa.Table.from_pylist(table, schema=schema)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _map_text(cells: CognitiveMap | None) -> str | None:
    return None if cells is None else map_to_text(cells)


# ---------------------------------------------------------------- the run as a whole


def dataset_record(config: TrainConfig, rows: Sequence[Question]) -> dict[str, Any]:
    """The data of a run: ``path``, ``part``, number of ``rows`` and ``sha256``."""
    return {
        "path": config.data_path or "drawn rooms",
        "part": config.data_part,
        "rows": len(rows),
        "sha256": questions_hash(rows),
    }


# ---------------------------------------------------------------- journals


def drop_later_steps(path: PathLike, step: int) -> float:
    """Cut a log back to a checkpoint's step; returns training seconds until then."""
    rows = read_journal(path) if Path(path).exists() else []
    rows = [row for row in rows if row["step"] <= step]
    write_jsonl(path, rows)
    return max((row.get("seconds", 0.0) for row in rows), default=0.0)
