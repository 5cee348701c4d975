"""Resident memory of long runs, step by step: does it grow?

    python -m benches.memory [grpo sft dpo qa evaluate] [--steps 500] [--rooms 5000]

Each run is a command of ``spacer``, watched from outside: the memory of all its
processes, noted whenever it has finished another step, room or answer. A line is fitted
to what follows the warm-up, in which libraries are loaded and caches fill. If it rises
by more than ``LIMIT_MB`` a step, the exit status is 1.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from benches.timing import main, parser, show
from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.benchmarks import held_out
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.scans import synthetic_meta
from spacer_lib.training.processes.launch import stop_tree

LIMIT_MB = 0.2  # a step, room or answer
WARM_UP = 0.2  # share of a run
SHOWN = 10  # places at which memory is printed
POLL_S = 0.2
RECIPES = {"grpo": "tiny", "sft": "sft_tiny", "dpo": "dpo_tiny"}
NAMES = (*RECIPES, "qa", "evaluate")
MB = 10**6


class Work(NamedTuple):
    """A command and where its progress shows.

    Attributes
    ----------
    command : list of str
    done : callable
        How many steps, rooms or answers there are.
    every : int
        Of these, from one printed line to the next.
    """

    command: list[str]
    done: Callable[[], int]
    every: int = 50


@dataclass(frozen=True)
class Growth:
    """Memory over a run.

    Attributes
    ----------
    name : str
    steps : list of int
    resident_mb : list of float
        Of all processes together, at each of ``steps``.
    peak_mb : float
        Between steps and after the last one too.
    seconds : float
        Of the whole run.
    """

    name: str
    steps: list[int]
    resident_mb: list[float]
    peak_mb: float
    seconds: float

    @property
    def slope_mb(self) -> float:
        """Megabytes a step after the warm-up, by least squares.

        Raises
        ------
        SpacerError
            If fewer than three steps were seen after the warm-up.
        """
        steps, memory = np.array(self.steps), np.array(self.resident_mb)
        late = steps >= WARM_UP * max(self.steps, default=0)
        if late.sum() < 3:
            raise SpacerError(
                f"memory of {self.name}",
                kind="benches.short-run",
                got=f"{late.sum()} steps after the warm-up",
                expected="3 or more",
                remedy="more --steps or --rooms",
            )
        return float(np.polyfit(steps[late], memory[late], 1)[0])

    def line(self) -> str:
        """The growth in one printable line."""
        at = np.linspace(0, len(self.steps) - 1, SHOWN).round().astype(int)
        places = [f"{self.steps[i]}: {self.resident_mb[i]:.0f}" for i in sorted({*at})]
        return (
            f"{self.name}: {self.slope_mb:+.3f} MB a step after the warm-up, peak "
            f"{self.peak_mb:.0f} MB, {self.seconds:.0f} s "
            f"(MB at {', '.join(places)})"
        )


def watch(name: str, work: Work) -> Growth:
    """Run a command to its end and note its memory at every step seen.

    Ctrl-C ends the command; the steps until then count.

    Raises
    ------
    SpacerError
        If the command fails.
    """
    steps: list[int] = []
    resident: list[float] = []
    start, peak, stopped = time.perf_counter(), 0.0, False
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            work.command, stdout=said, stderr=subprocess.STDOUT, cwd=PROJECT_ROOT
        )
        try:
            while process.poll() is None:
                count, before = work.done(), steps[-1] if steps else 0
                memory = tree_memory_mb(process.pid)
                peak = max(peak, memory)
                if count > before:
                    steps.append(count)
                    resident.append(memory)
                    if count // work.every > before // work.every:
                        show(f"{name} {count}: {memory:.0f} MB")
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            stop_tree(process)
            stopped = True
        if process.returncode and not stopped:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            raise SpacerError(
                f"bench memory: {name}",
                kind="benches.command-failed",
                got=lines[-1] if lines else f"exit status {process.returncode}",
            )
    return Growth(name, steps, resident, peak, time.perf_counter() - start)


def tree_memory_mb(pid: int) -> float:
    """Resident memory of a process and its descendants."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / MB


def work_of(
    name: str, folder: Path, steps: int, rooms: int, changes: Sequence[str] = ()
) -> Work:
    """The command of one run; what it reads is written first."""
    spacer = [sys.executable, "-m", "spacer_lib"]
    out = folder / name
    options = ["--out", str(out)]
    if name in RECIPES:
        options += ["--config", RECIPES[name], "--set", f"max_steps={steps}", *changes]
        return Work([*spacer, "train", *options], lines_of(out / "metrics.jsonl"))
    if name == "qa":
        meta = synthetic_meta(folder / "meta.json", rooms)
        command = [*spacer, "qa", "--meta", str(meta), "--recipe", "sr91k", *options]
        return Work([*command, "--no-figures"], files_of(out / "candidates"), 500)
    data = held_out.write(folder / "held_out", rooms=rooms // 5)
    options += ["--model", "checkpoints/tiny_warmstart", "--config", "tiny"]
    command = [*spacer, "evaluate", "--benchmark", "vsi", "--data", str(data), *options]
    return Work(command, lines_of(out / "predictions.jsonl"), 500)


def lines_of(path: Path) -> Callable[[], int]:
    """Counts the lines of a file that may not be there yet."""
    return lambda: path.read_bytes().count(b"\n") if path.exists() else 0


def files_of(folder: Path) -> Callable[[], int]:
    """Counts the files of a folder that may not be there yet."""
    return lambda: len(os.listdir(folder)) if folder.exists() else 0


def measure(options: argparse.Namespace) -> dict[str, list[Growth]]:
    """Print each run's memory, and refuse a run whose memory grows.

    Raises
    ------
    SpacerError
        After the last run, naming those above ``LIMIT_MB``.
    """
    found = []
    for name in options.names or NAMES:
        with tempfile.TemporaryDirectory(prefix="spacer_memory_") as folder:
            work = work_of(
                name, Path(folder), options.steps, options.rooms, options.set
            )
            found.append(watch(name, work))
        show(found[-1].line())
    grown = [one for one in found if one.slope_mb > LIMIT_MB]
    if grown:
        raise SpacerError(
            f"memory of {', '.join(one.name for one in grown)} grows",
            kind="benches.memory-grows",
            got=", ".join(f"{one.slope_mb:.3f} MB a step" for one in grown),
            expected=f"at most {LIMIT_MB} MB",
        )
    return {"growths": found}


if __name__ == "__main__":
    asked = parser(__doc__)
    asked.add_argument("names", nargs="*", choices=NAMES, help="runs; else all")
    asked.add_argument("--steps", type=int, default=500)
    asked.add_argument(
        "--rooms", type=int, default=5000, help="of qa; evaluate asks about a fifth"
    )
    asked.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipes"
    )
    sys.exit(main(measure, asked.parse_args()))
