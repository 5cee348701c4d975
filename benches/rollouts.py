"""Do runs with rollouts by vLLM earn what runs with the library's own rollouts earn?

    scripts/compare_rollouts.sh     # trains, then keeps papermill_runs/rollouts.json
    python -m benches.rollouts      # the tables of that file

Two criteria, chosen before the runs:

- **Sampling.** ``START_STEPS`` steps of 128 completions at a learning rate that changes
  no weight, the same prompts by both. The 95% interval of the mean difference of a
  step's reward lies within ±``MARGIN``, a fifth of what 75 steps gain.
- **Training.** Other random numbers lead a run along another path, so single steps
  cannot be compared. The mean reward of the first ten and of the last ten steps of each
  vLLM run lies in the 95% prediction interval for one more run of the library, from
  its runs over ``LIBRARY_SEEDS`` (Student's t).
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t

from benches.timing import main, show
from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_json
from spacer_lib.errors import SpacerError

KEPT = PROJECT_ROOT / "papermill_runs" / "rollouts.json"
ENGINES = ("library", "vllm")
LIBRARY_SEEDS = (0, 1, 2, 3)
VLLM_SEEDS = (0, 1)
STEPS, ENDS = 75, 10  # of a run; of which the mean is compared
START_STEPS, MARGIN = 40, 0.1
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
    runs = [f"library_seed{seed}" for seed in LIBRARY_SEEDS]
    runs += [f"vllm_seed{seed}" for seed in VLLM_SEEDS]
    return dict.fromkeys(runs, STEPS) | {
        f"start_{engine}": START_STEPS for engine in ENGINES
    }


def gather(folder: Path) -> dict[str, Any]:
    """What is kept of the run folders below ``folder``.

    Raises
    ------
    SpacerError
        If a run has another number of steps, or a pair saw other prompts.
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
    pairs = [(f"library_seed{s}", f"vllm_seed{s}") for s in VLLM_SEEDS]
    for one, other in [*pairs, ("start_library", "start_vllm")]:
        if prompts[one] != prompts[other]:
            raise SpacerError(
                f"runs {one} and {other}",
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
    return {"runs": runs, "alignment": checks}


# ---------------------------------------------------------------- the criteria


def ends(rewards: Sequence[float]) -> tuple[float, float]:
    """Mean of the first and of the last ``ENDS`` steps."""
    return statistics.fmean(rewards[:ENDS]), statistics.fmean(rewards[-ENDS:])


def start_difference(kept: Kept) -> tuple[float, Range]:
    """vLLM's reward minus the library's at the same weights, with its 95% interval."""
    ours, theirs = (kept["runs"][f"start_{engine}"]["reward"] for engine in ENGINES)
    gaps = [b - a for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(gaps)
    half = float(t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps)
    half /= math.sqrt(len(gaps))
    return mean, Range(mean - half, mean + half)


def library_ranges(kept: Kept) -> tuple[Range, Range]:
    """Where the first and the last steps of one more library run are expected."""
    found = [ends(kept["runs"][f"library_seed{s}"]["reward"]) for s in LIBRARY_SEEDS]
    ranges = []
    for values in zip(*found, strict=True):
        n, mean = len(values), statistics.fmean(values)
        half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values)
        half *= math.sqrt(1 + 1 / n)
        ranges.append(Range(mean - half, mean + half))
    return ranges[0], ranges[1]


def same_sampling(kept: Kept) -> bool:
    """The first criterion."""
    _, interval = start_difference(kept)
    return -MARGIN <= interval.low and interval.high <= MARGIN


def same_range(kept: Kept) -> dict[str, bool]:
    """The second criterion, for each vLLM run."""
    first, last = library_ranges(kept)
    verdicts = {}
    for seed in VLLM_SEEDS:
        name = f"vllm_seed{seed}"
        begin, end = ends(kept["runs"][name]["reward"])
        verdicts[name] = begin in first and end in last
    return verdicts


# ---------------------------------------------------------------- the tables


def reward_table(kept: Kept) -> list[str]:
    """Rewards and seconds of a step, a line for each run, as Markdown."""
    lines = [
        "| rollouts | seed | first 10 | last 10 | generate | score | update | step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, run in kept["runs"].items():
        if name.startswith("start"):
            continue
        engine, seed = name.split("_seed")
        begin, end = ends(run["reward"])
        spent = [f"{run['seconds'][p]:.2f} s" for p in PHASES[1:]]
        cells = [engine, seed, f"{begin:.3f}", f"{end:.3f}", *spent]
        lines.append(f"| {' | '.join(cells)} |")
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
    """Both criteria with their figures, a sentence each."""
    mean, interval = start_difference(kept)
    first, last = library_ranges(kept)
    within = same_range(kept)
    return [
        f"Sampling: vLLM minus library {mean:+.3f} [{interval.low:+.3f}, "
        f"{interval.high:+.3f}] over {START_STEPS} steps at the starting weights, "
        f"{'within' if same_sampling(kept) else 'NOT within'} ±{MARGIN}.",
        f"Training: one more library run is expected in [{first.low:.3f}, "
        f"{first.high:.3f}] and [{last.low:.3f}, {last.high:.3f}]; "
        + ", ".join(f"{n} {'is' if ok else 'is NOT'}" for n, ok in within.items())
        + ".",
    ]


def tables(kept: Kept) -> str:
    """All that the bench prints."""
    parts = reward_table(kept), alignment_table(kept), verdict(kept)
    return "\n\n".join("\n".join(part) for part in parts)


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
