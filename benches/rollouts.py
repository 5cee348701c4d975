"""Do runs with rollouts by vLLM earn what runs with the library's own rollouts earn?

    scripts/compare_rollouts.sh     # trains, then keeps papermill_runs/rollouts.json
    python -m benches.rollouts      # the tables of that file

Two criteria:

- **Draws.** Of the rollouts of ``START_STEPS`` steps at a learning rate that moves no
  weight, a token is on average as improbable as the model says: the mean over sampled
  tokens of -log p minus the entropy of p is within three standard errors of 0. It is a
  sum of martingale differences, so the variances of -log p add up.
- **Training.** Other random numbers lead a run along another path, so single steps
  cannot be compared. The mean reward of the first ten and of the last ten steps of each
  vLLM run lies in the 95% prediction interval (Student's t) for one more run of the
  library, from the three that the study of β made of this recipe without β.

Seconds are those of the two short runs, one after the other.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import t

from benches.timing import main, show
from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.checkpoints import adapt, load_checkpoint
from spacer_lib.models.inputs import encode_prompts, join_media, pad_batch, token_types
from spacer_lib.training.data import training_rows
from spacer_lib.training.recipe import load_config

KEPT = PROJECT_ROOT / "papermill_runs" / "rollouts.json"
ENGINES = ("library", "vllm")
SEEDS = (0, 1)
STUDY = PROJECT_ROOT / "papermill_runs" / "study_beta"
STUDIED = ("beta_0_seed0", "beta_0_seed1", "beta_0_seed2")
STEPS, ENDS = 75, 10  # of a run; of which the mean is compared
START_STEPS = 10
PHASES = ("data", "generate", "score", "update", "step")
CHECKED = ("step", "kind", "scored", "noise", "gap", "limit", "controls", "greedy")

Kept = Mapping[str, Any]


class Range(NamedTuple):
    """An interval of a mean reward."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high


def names() -> dict[str, int]:
    """Run folders and their numbers of steps."""
    runs = {f"vllm_seed{seed}": STEPS for seed in SEEDS}
    return runs | {f"start_{engine}": START_STEPS for engine in ENGINES}


def library_runs() -> dict[str, list[float]]:
    """Rewards of the steps of the study's runs."""
    return {
        name.replace("beta_0", "library"): [
            step["reward"] for step in read_jsonl(STUDY / name / "metrics.jsonl")
        ]
        for name in STUDIED
    }


def gather(folder: Path) -> dict[str, Any]:
    """What is kept of the run folders below ``folder``.

    Raises
    ------
    SpacerError
        If a run has another number of steps, or the two short ones saw other prompts.
    """
    runs, prompts = {}, {}
    for name, count in names().items():
        steps = [
            m for m in read_jsonl(folder / name / "metrics.jsonl") if "reward" in m
        ]
        if len(steps) != count:
            raise SpacerError(
                f"run {folder / name}",
                kind="benches.unfinished-run",
                got=f"{len(steps)} steps",
                expected=str(count),
                remedy="run scripts/compare_rollouts.sh again",
            )
        runs[name] = {
            "reward": [round(m["reward"], 4) for m in steps],
            "seconds": {
                phase: round(statistics.median(m[f"seconds/{phase}"] for m in steps), 3)
                for phase in PHASES
            },
        }
        rollouts = read_jsonl(folder / name / "rollouts.jsonl")
        prompts[name] = [(row["step"], row["id"]) for row in rollouts]
    if prompts["start_library"] != prompts["start_vllm"]:
        raise SpacerError(
            "runs start_library and start_vllm",
            kind="benches.other-prompts",
            got="other prompts in their steps",
            remedy="train both with one seed and one version of this project",
        )
    checks = {
        name: [
            {key: check[key] for key in CHECKED} | {"faults": len(check["faults"])}
            for check in read_jsonl(folder / name / "alignment.jsonl")
        ]
        for name in runs
        if "vllm" in name
    }
    draws = {
        f"start_{engine}": fairness(folder / f"start_{engine}" / "rollouts.jsonl")
        for engine in ENGINES
    }
    return {"runs": runs, "alignment": checks, "draws": draws}


# ---------------------------------------------------------------- draws


def excess(logps: torch.Tensor, tokens: torch.Tensor) -> tuple[float, float]:
    """Sum of -log p minus entropy of the drawn tokens, and its variance.

    Parameters
    ----------
    logps : (n, vocabulary) tensor
        Log-probabilities of every token at each place.
    tokens : (n,) tensor
        What was drawn there.
    """
    logps = logps.double().clamp(min=-100)  # a token of probability 0 adds 0
    p = logps.exp()
    entropy = -(p * logps).sum(-1)
    variance = (p * logps**2).sum(-1) - entropy**2
    drawn = -logps.gather(1, tokens[:, None])[:, 0]
    return float((drawn - entropy).sum()), float(variance.sum())


def fairness(rollouts: Path) -> dict[str, float]:
    """``excess`` of all rollouts of a run whose weights stay the recipe's.

    Returns
    -------
    dict
        ``tokens``; ``excess`` and ``error``, nats a token, the second its standard
        error.
    """
    config = load_config("tiny")
    model, processor = load_checkpoint(config.model_path)
    model, tokenizer = adapt(model).eval(), processor.tokenizer
    (end, *_) = model.generation_config.eos_token_id
    pads = [model.config.image_token_id, model.config.video_token_id]
    rows = {row["id"]: row for row in training_rows(config)}
    style = PromptStyle("tiny")
    groups: dict[tuple[int, str], list[list[int]]] = {}
    for row in read_jsonl(rollouts):
        said = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
        made = [*said, end][: config.max_completion_length]
        groups.setdefault((row["step"], row["id"]), []).append(made)
    total = variance = 0.0
    for (_, name), completions in groups.items():
        (prompt,), media = encode_prompts(
            processor, [rows[name]], style, config.video_settings
        )
        ids, mask = pad_batch(
            [prompt + one for one in completions], tokenizer.pad_token_id, "right"
        )
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                mm_token_type_ids=token_types(ids, model.config),
                **join_media(media * len(completions)),
            ).logits
        logits[..., pads] = -math.inf  # neither engine draws them
        logps = logits.float().log_softmax(-1)[:, len(prompt) - 1 :]
        for i, one in enumerate(completions):
            found = excess(logps[i, : len(one)], torch.tensor(one))
            total, variance = total + found[0], variance + found[1]
    count = sum(len(one) for group in groups.values() for one in group)
    return {
        "tokens": count,
        "excess": round(total / count, 6),
        "error": round(math.sqrt(variance) / count, 6),
    }


# ---------------------------------------------------------------- the criteria


def ends(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean of the first and of the last ``ENDS`` steps."""
    return statistics.fmean(rewards[:ENDS]), statistics.fmean(rewards[-ENDS:])


def library_ranges() -> tuple[Range, Range]:
    """Where the first and the last steps of one more library run are expected."""
    found = [ends(rewards) for rewards in library_runs().values()]
    ranges = []
    for values in zip(*found, strict=True):
        n, mean = len(values), statistics.fmean(values)
        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values)
        half *= math.sqrt(1 + 1 / n)
        ranges.append(Range(mean - half, mean + half))
    return ranges[0], ranges[1]


def fair_draws(kept: Kept) -> dict[str, bool]:
    """The first criterion, for both."""
    return {
        name: abs(draw["excess"]) <= 3 * draw["error"]
        for name, draw in kept["draws"].items()
    }


def same_range(kept: Kept) -> dict[str, bool]:
    """The second criterion, for each vLLM run."""
    first, last = library_ranges()
    verdicts = {}
    for seed in SEEDS:
        name = f"vllm_seed{seed}"
        begin, end = ends(kept["runs"][name]["reward"])
        verdicts[name] = begin in first and end in last
    return verdicts


# ---------------------------------------------------------------- the tables


def reward_table(kept: Kept) -> list[str]:
    """Rewards of the first and the last steps, a line for each run, as Markdown."""
    lines = ["| rollouts | seed | first 10 steps | last 10 |", "|---|---|---|---|"]
    trained = {name: kept["runs"][name]["reward"] for name in kept["runs"]}
    for name, rewards in (library_runs() | trained).items():
        if "_seed" in name:
            engine, seed = name.split("_seed")
            begin, end = ends(rewards)
            lines.append(f"| {engine} | {seed} | {begin:.3f} | {end:.3f} |")
    return lines


def seconds_table(kept: Kept) -> list[str]:
    """Median seconds of a step of the short runs by phase, as Markdown."""
    lines = [
        f"| rollouts | {' | '.join(PHASES)} |",
        "|---" * (1 + len(PHASES)) + "|",
    ]
    for engine in ENGINES:
        spent = kept["runs"][f"start_{engine}"]["seconds"]
        cells = [f"{spent[phase]:.2f} s" for phase in PHASES]
        lines.append(f"| {engine} | {' | '.join(cells)} |")
    return lines


def alignment_table(kept: Kept) -> list[str]:
    """The checks of the vLLM runs of ``STEPS`` steps, as Markdown."""
    lines = [
        "| seed | after step | noise | vLLM | limit | least control | greedy texts |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, checks in kept["alignment"].items():
        for check in checks if not name.startswith("start") else ():
            seen = {
                control: gap[0]
                for control, gap in check["controls"].items()
                if gap[0] > check["limit"]
            }
            least = min(seen, key=lambda control: seen[control])
            cells = [
                name.removeprefix("vllm_seed"),
                str(check["step"]),
                f"{check['noise'][0]:.1e}",
                f"{check['gap'][0]:.1e}",
                f"{check['limit']:.1e}",
                f"{seen[least]:.2f} ({least})",
                "equal" if check["greedy"] else "differ",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(kept: Kept) -> list[str]:
    """The criteria with their figures, a sentence each."""
    first, last = library_ranges()
    within, fair = same_range(kept), fair_draws(kept)
    draws = ", ".join(
        f"{name} {draw['excess']:+.4f} ± {draw['error']:.4f} nats a token "
        f"({draw['tokens']} tokens): {'fair' if fair[name] else 'NOT fair'}"
        for name, draw in kept["draws"].items()
    )
    return [
        f"Draws: {draws}.",
        f"Training: one more library run is expected in [{first.low:.3f}, "
        f"{first.high:.3f}] and [{last.low:.3f}, {last.high:.3f}]; "
        + ", ".join(f"{n} {'is' if ok else 'is NOT'}" for n, ok in within.items())
        + ".",
    ]


def tables(kept: Kept) -> str:
    """All that the bench prints."""
    makers = reward_table, seconds_table, alignment_table, verdict
    return "\n\n".join("\n".join(make(kept)) for make in makers)


def work(options: argparse.Namespace) -> None:
    """Keep the runs if there is a folder of them, and print the tables."""
    if options.runs:
        write_json(options.kept, gather(options.runs))
    show(tables(read_json(options.kept)))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("runs", nargs="?", type=Path, help="run folders to keep")
    options.add_argument("--kept", type=Path, default=KEPT)
    sys.exit(main(work, options.parse_args()))
