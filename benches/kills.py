"""Kill each command at random moments, run it again, and compare with a whole run.

``python -m benches.kills`` prints a table: of each command its kills, how many of the
second runs gave the result of an undisturbed run, and how many files were left over.
The moments are seeded; what a command had done by then depends on the machine's load.
``--tree`` measures another checkout.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from benches.timing import show
from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_jsonl
from spacer_lib.errors import SpacerError

KILLS = 20
PROGRAM = ("-m", "spacer_lib")
POLL_S = 0.01
LIMIT_S = 600
CHECKPOINT = str(PROJECT_ROOT / "checkpoints" / "tiny_warmstart")
# Measured or counted anew in every session.
SESSION = ("seconds", "peak", "memory_gb", "tokens_per_s", "step_time", "duration")
# Of a run: what was trained. Logs, plans and checkpoints name their session.
TRAINED = ("metrics.jsonl", "rollouts.jsonl", "rollouts.parquet")

Words = list[str]


@dataclass(frozen=True)
class Command:
    """A command that writes below a folder.

    Attributes
    ----------
    words : callable
        ``(inputs, out) → words`` after ``spacer``.
    compared : callable
        Whether a file, by its path below the folder, is compared with the whole run's.
    """

    words: Callable[[Path, Path], Words]
    compared: Callable[[str], Any] = lambda name: True


def _train(recipe: str, *more: str) -> Command:
    settings = "max_steps=4 prompts_per_step=2 save_steps=1 gpus=1".split()
    settings += more
    return Command(
        lambda inputs, out: [
            *f"train --config {recipe} --out {out}/run --resume --set".split(),
            *settings,
        ],
        # The model's card tells its seconds.
        lambda name: name.endswith(TRAINED) or re.search("/model/(?!README)", name),
    )


_SHORT = ("num_generations=4",)
COMMANDS = {
    "synth": Command(lambda inputs, out: f"synth --scenes 1 --out {out}/made".split()),
    "parse": Command(
        lambda inputs, out: f"parse {inputs}/scans --out {out}/parsed".split()
    ),
    "qa": Command(
        lambda inputs, out: (
            f"qa --meta {inputs}/meta.json --recipe demo --out {out}/qa".split()
        )
    ),
    "mix": Command(
        lambda inputs, out: (
            f"mix --spatial {inputs}/qa --general {inputs}/general/general.json "
            f"--media {inputs}/general --total 20 --out {out}/joint"
        ).split()
    ),
    "select": Command(
        lambda inputs, out: (
            f"extras select --out {out}/kept.jsonl --k 4 --rows 6 "
            "--set max_completion_length=48"
        ).split()
    ),
    "evaluate": Command(
        lambda inputs, out: (
            f"evaluate --benchmark held-out --data {inputs}/rows.jsonl --config tiny "
            f"--model {CHECKPOINT} --backend transformers --out {out}/run"
        ).split()
    ),
    "score": Command(
        lambda inputs, out: (
            f"score --benchmark held-out --data {inputs}/rows.jsonl "
            f"--predictions {inputs}/floor/predictions.jsonl --json {out}/score.json"
        ).split()
    ),
    "report": Command(
        lambda inputs, out: f"report {inputs}/floor --out {out}/report".split()
    ),
    "reproduce": Command(
        lambda inputs, out: (
            f"reproduce --scans {inputs}/scans --general {inputs}/general/general.json "
            f"--config tiny --recipe demo --total 6 --benchmark held-out "
            f"--data {inputs}/rows.jsonl --evaluation tiny --out {out}/all "
            "--set max_steps=2 prompts_per_step=2 num_generations=4 save_steps=1"
        ).split(),
        lambda name: re.search("/model/(?!README)|/report/.*[.](csv|md)$", name),
    ),
    "train": _train("tiny", *_SHORT),
    "train sft": _train("sft_tiny"),
    "train dpo": _train("dpo_tiny"),
}


def make_inputs(folder: Path) -> Path:
    """Write what the commands read: scans, rooms, questions, answers."""
    from spacer_lib.questions.general_sample import synthetic_general
    from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows

    rows = draw_rows(SEEDS["test"], 12, DEMONSTRATED)
    write_jsonl(folder / "rows.jsonl", rows)
    synthetic_general(30, folder / "general", seed=0)
    for words in (
        f"synth --scenes 1 --out {folder}",
        f"synth --scenes 40 --meta-only --out {folder}",
        f"qa --meta {folder}/meta.json --recipe demo --out {folder}/qa --no-figures",
        f"evaluate --benchmark held-out --data {folder}/rows.jsonl --config tiny "
        f"--floor random --out {folder}/floor",
    ):
        _finish(_start(words.split(), folder, PROJECT_ROOT), folder)
    return folder


def _start(words: Sequence[str], folder: Path, tree: Path) -> "subprocess.Popen[bytes]":
    """``spacer WORDS`` of a checkout, with its own folder for temporary files."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    own = {"PYTHONPATH": str(tree), "TMPDIR": str(folder / "tmp"), "TQDM_DISABLE": "1"}
    with open(folder / "tmp.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, *PROGRAM, *words],
            env=os.environ | own | {"MPLBACKEND": "Agg"},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def _finish(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    if process.wait(LIMIT_S):
        said = (folder / "tmp.log").read_text(encoding="utf-8", errors="replace")
        raise SpacerError(
            f"spacer {' '.join(map(str, process.args[3:]))}",  # type: ignore[index]
            kind="benches.command-failed",
            got=said[-300:].strip() or f"exit status {process.returncode}",
        )


def digests(out: Path) -> dict[str, str]:
    """``{path: hash}`` of all files, without what is measured anew in every session.

    The folder ``tmp`` has the temporary files of the processes, and is included.
    """
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and name != "tmp.log":
            found[name] = hashlib.sha256(_content(path)).hexdigest()
    return found


def _content(path: Path) -> bytes:
    if path.name == "metrics.jsonl":
        return json.dumps([_lasting(row) for row in read_jsonl(path)]).encode()
    if path.name == "evaluation.json":
        return json.dumps(_lasting(read_json(path))).encode()
    return path.read_bytes()


def _lasting(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in row.items()
        if key != "finished" and not any(word in key for word in SESSION)
    }


@dataclass
class Tally:
    """What became of a command's kills.

    Attributes
    ----------
    kills : int
        Runs that were still at work when the signal came.
    failed, differ : int
        Second runs that ended with an error, or gave another result.
    left : int
        Files after the second runs that an undisturbed run does not leave.
    seconds : float
        Of the undisturbed run.
    names : set of str
        Files that differed or were left over.
    """

    kills: int = 0
    failed: int = 0
    differ: int = 0
    left: int = 0
    seconds: float = 0.0
    names: set[str] = field(default_factory=set)


def try_command(
    command: Command, folder: Path, inputs: Path, tree: Path, kills: int, seed: int
) -> Tally:
    """Run a command once undisturbed; then kill and repeat it ``kills`` times."""
    out, tally = folder / "whole", Tally()
    start = time.monotonic()
    process = _start(command.words(inputs, out), out, tree)
    wrote = _first_write(process, out) - start
    _finish(process, out)
    tally.seconds = time.monotonic() - start
    whole, rng = digests(out), random.Random(seed)
    while tally.kills < kills:
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        words = command.words(inputs, out)
        process = _start(words, out, tree)
        _first_write(process, out)
        time.sleep(rng.random() * max(0.1, 0.95 * (tally.seconds - wrote)))
        if process.poll() is not None:
            continue  # it was quicker this time
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.kills += 1
        if _start(words, out, tree).wait(LIMIT_S):
            tally.failed += 1
            continue
        found = digests(out)
        made = {name for name in whole if command.compared(name)}
        differ = {name for name in made if found.get(name) != whole[name]}
        left = _extra(found, whole)
        tally.differ += bool(differ)
        tally.left += len(left)
        tally.names |= {*differ, *left}
    return tally


def _extra(found: dict[str, str], whole: dict[str, str]) -> list[str]:
    """Files that an undisturbed run does not leave; names of a session's own apart."""
    own = ("/tensorboard/", "/checkpoints/", "tmp/torchelastic_")
    return [n for n in found.keys() - whole.keys() if not any(o in n for o in own)]


def _first_write(process: "subprocess.Popen[bytes]", out: Path) -> float:
    """Wait until a command writes, or ends; the time then."""
    while process.poll() is None and len(os.listdir(out)) <= 2:
        time.sleep(POLL_S)
    return time.monotonic()


# ---------------------------------------------------------------- chosen moments


def die_at(rename: int) -> None:
    """Kill this process with SIGKILL instead of its n-th rename, counted from 1."""
    real, count = os.replace, [0]

    def replace(source: Any, target: Any, **options: Any) -> None:
        count[0] += 1
        if count[0] == rename:
            _die()
        real(source, target, **options)

    os.replace = replace  # type: ignore[assignment]


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(1)  # never reached


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tree", type=Path, default=PROJECT_ROOT)
    given = parser.parse_args()
    show(
        f"{'command':12}{'seconds':>8}{'kills':>7}{'failed':>8}{'differ':>8}{'left':>6}"
    )
    with tempfile.TemporaryDirectory(prefix="spacer_kills_") as folder:
        inputs = make_inputs(Path(folder) / "inputs")
        for name in given.commands or COMMANDS:
            place = Path(folder) / name.replace(" ", "_")
            tally = try_command(
                COMMANDS[name], place, inputs, given.tree, given.kills, given.seed
            )
            show(
                f"{name:12}{tally.seconds:8.1f}{tally.kills:7}{tally.failed:8}"
                f"{tally.differ:8}{tally.left:6}  {' '.join(sorted(tally.names)[:4])}"
            )
            shutil.rmtree(place)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--die-at"]:
        from spacer_lib.cli import main as spacer

        die_at(int(sys.argv[2]))
        sys.exit(spacer(sys.argv[3:]))
    main()
