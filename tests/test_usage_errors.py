"""A mistake on the command line is answered at once: nothing heavy is loaded for it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "open3d"}
CPU_SECONDS = 2.0  # the least that a student notices; a tenth is Python's own start

PROBE = f"""
import json, sys
from spacer_lib.cli import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({HEAVY!r} & set(sys.modules))]))
"""

ASK = "evaluate --benchmark vsi --data ."

MISTAKES = (
    "trian",
    "extras trian",
    "train --confg tiny",
    "train --config tinny",
    "train --config absent.yaml",
    "train --set learnin_rate=1",
    "train --set learning_rate",
    "synth --scenes none",
    "parse absent --out x",
    "qa --meta absent --out x",
    "qa --meta . --out x --recipe srr",
    "mix --spatial absent --general absent --out x",
    "audit --meta absent --questions absent",
    "extras audit --meta absent --questions absent",
    "select --out x --config tinny",
    "select --out x --set rewrad.map_weight=0",
    "study --config mapp",
    "study --config absent.yaml",
    "study --arms mapp",
    "study --set learnin_rate=1",
    "evaluate --benchmark vis --data . --floor majority",
    "evaluate --benchmark vsi --data absent --floor majority",
    f"{ASK} --floor majorty",
    f"{ASK} --floor majority --config tinny",
    f"{ASK} --floor majority --set framse=3",
    f"{ASK} --floor majority --frames many",
    f"{ASK} --floor majority --condition mine",
    f"{ASK}",
    f"{ASK} --model absent",
    f"{ASK} --endpoint http://localhost",
    "serve --model absent",
    "reward --items absent --completions absent",
    "reward --items absent --completions absent --preset our",
    "score --benchmark vis --predictions .",
    "score --benchmark vsi --predictions absent",
    "score --benchmark vsi --predictions . --extraction offical",
    "report absent",
    "report",
    "run 05_trian_grpo",
    "run 05_train_grpo -p gpu 8",
    "notebooks 05_trian_grpo",
    "bench setp",
    "reproduce --scans absent --general absent",
    "reproduce --scans absent --general absent --config tinny",
    "reproduce --scans absent --general absent --recipe srr --dry-run",
)


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_costs_little(words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words.split()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{spent:.2f} CPU-seconds")
    code, heavy = json.loads(done.stdout.splitlines()[-1])
    assert code == 2 and done.stderr.strip(), done.stdout
    assert heavy == []
    # Other work on the machine does not count, but a cold disk cache does, a little.
    assert spent < CPU_SECONDS, f"{spent:.2f} CPU-seconds"
