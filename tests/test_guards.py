"""Each guard is switched off once, and the suite must fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import guards
import pytest

ROOT = Path(__file__).resolve().parent.parent
each_guard = pytest.mark.parametrize("guard", guards.GUARDS, ids=lambda g: g.name)
# What a broken substitution ends with, and no guard.
NO_FAILURE = {"ImportError", "ModuleNotFoundError", "NameError", "SyntaxError"}


def words(text):
    return " ".join(text.split())


@each_guard
def test_a_guard_is_named_where_it_says_and_can_be_switched_off(guard):
    file, claim = guard.claim
    path = ROOT / (file if "." in file else f"notebooks/{file}.py")
    assert words(claim) in words(path.read_text(encoding="utf-8"))
    compile(guard.change.text, guard.module, "exec")
    for test in guard.test_ids:
        name, _, function = test.partition("::")
        function = function.split("[")[0]
        assert f"def {function}(" in (ROOT / name).read_text(encoding="utf-8")


def test_names_are_given_once():
    assert len({guard.name for guard in guards.GUARDS}) == len(guards.GUARDS)


@pytest.fixture(scope="module")
def found():
    """``{guard: outcome}`` of its tests with it off; "": of all tests with all on."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "tests/guards.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["name"]: line["outcome"] for line in lines}


def ran(outcome, test):
    """Names of a test's cases that ran, by how they ended."""
    mine = (test, f"{test}[")
    return [
        [name for name in outcome[end] if name == mine[0] or name.startswith(mine[1])]
        for end in ("passed", "failed")
    ]


@pytest.mark.processes
@pytest.mark.timeout(1800)
@each_guard
def test_a_guard_that_is_off_fails_its_tests(guard, found):
    on, off = found[""], found[guard.name]
    assert not off["broken"] and not off["timed_out"]
    for test in guard.test_ids:
        passed, failed = ran(on, test)
        assert passed and not failed
        passed, failed = ran(off, test)
        assert failed, "no test fails without this guard"
        assert not NO_FAILURE & {off["failed"][name] for name in failed}
