"""A command that is killed before a rename, and run again, is as if undisturbed."""

import os
import signal
import subprocess
import sys

import pytest

from benches.kills import COMMANDS, Command, digests, try_command
from spacer_lib import cli
from spacer_lib.artifacts import PROJECT_ROOT, is_temporary, listing
from spacer_lib.questions.general_sample import synthetic_general


def spacer(words):
    assert cli.main(words) == 0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    spacer(f"synth --scenes 1 --out {folder}".split())
    spacer(f"synth --scenes 8 --meta-only --out {folder}".split())
    spacer(f"qa --meta {folder}/meta.json --recipe demo --out {folder}/qa".split())
    synthetic_general(30, folder / "general", 0)
    return folder


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """``whole(command)``: what an undisturbed run writes."""
    known = {}

    def run(name):
        if name not in known:
            out = tmp_path_factory.mktemp(name)
            spacer(words_of(name, inputs, out))
            known[name] = digests(out)
        return known[name]

    return run


def words_of(name, inputs, out):
    """The command's words, for less work."""
    words = COMMANDS[name].words(inputs, out)
    less = {"qa": ["--no-figures"]}
    return [*words, *less.get(name, [])]


# Renames: of scans or scenes, of their folders' lists, of tables and manifests.
@pytest.mark.parametrize(
    ("name", "rename"),
    [
        ("synth", 1),
        ("parse", 3),
        ("qa", 4),
        ("qa", 12),
        ("mix", 2),
    ],
)
def test_killed_before_a_rename_and_run_again(inputs, whole, tmp_path, name, rename):
    words = words_of(name, inputs, tmp_path)
    killed = subprocess.run(
        [sys.executable, "-m", "benches.kills", "--die-at", str(rename), *words],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = [path for path in tmp_path.rglob("*") if is_temporary(path.name)]
    assert len(left) >= 2  # the unfinished file, and the lock
    assert not {*left} & {*listing(tmp_path, deep=True)}
    spacer(words)
    assert digests(tmp_path) == whole(name)


CHANGING = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1])
(out / "a").write_text(str(time.time()))
(out / f"b{time.time()}").touch()
time.sleep(0.5)
"""


def test_another_result_and_leftovers_are_counted(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(CHANGING)
    monkeypatch.setattr("benches.kills.PROGRAM", (str(script),))
    command = Command(lambda inputs, out: [str(out)])
    tally = try_command(command, tmp_path / "x", tmp_path, tmp_path, 2, seed=0)
    assert (tally.kills, tally.failed, tally.differ, tally.left) == (2, 0, 2, 4)
