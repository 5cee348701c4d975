"""Mutants of a small source, and tests run with a changed module."""

import ast
import json
import subprocess
import sys

import pytest

from benches import mutants
from benches.changes import ROOT, Change
from benches.mutants import REASONS, ROOMS, chosen, mutants_of, read_reasons

SOURCE = '''"""A text of 3."""

LIMIT = 1.5


def f(x: int = 0, *, deep: bool = False) -> int:
    """Returns 4."""
    if x < LIMIT and not deep:  # é
        raise ValueError(f"{x + 1}", 5)
    return max(x, 7) - len("9")
'''


def test_operators_numbers_and_answers_are_changed_and_texts_are_not():
    found = mutants_of("m", SOURCE)
    assert [(m.where, m.line, f"{m.old} → {m.new}") for m in found] == [
        ("", 3, "1.5 → 2.5"),
        ("", 3, "1.5 → 0.5"),
        ("f", 6, "0 → 1"),
        ("f", 6, "0 → -1"),
        ("f", 6, "False → True"),
        ("f", 8, "x < LIMIT and (not deep) → x < LIMIT or not deep"),
        ("f", 8, "x < LIMIT and (not deep) → not deep"),
        ("f", 8, "x < LIMIT and (not deep) → x < LIMIT"),
        ("f", 8, "x < LIMIT → x <= LIMIT"),
        ("f", 8, "x < LIMIT → x >= LIMIT"),
        ("f", 8, "not deep → deep"),
        ("f", 10, "max(x, 7) - len('9') → None"),
        ("f", 10, "max(x, 7) - len('9') → max(x, 7) + len('9')"),
        ("f", 10, "max → min"),
        ("f", 10, "7 → 8"),
        ("f", 10, "7 → 6"),
    ]


def test_a_mutant_differs_in_its_expression_alone():
    for mutant in mutants_of("m", SOURCE):
        text = mutant.text(SOURCE.encode())
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
        changed = [
            number
            for number, (old, new) in enumerate(
                zip(SOURCE.splitlines(), text.splitlines(), strict=True), start=1
            )
            if old != new
        ]
        assert changed == [mutant.line]


def test_the_choice_stays_where_lines_move():
    keys = [m.key for m in mutants_of("m", SOURCE)]
    assert len(set(keys)) == len(keys)
    moved = mutants_of("m", "import os\n" + SOURCE)
    assert [m.key for m in moved] == keys
    assert [m.chance for m in moved] == [m.chance for m in mutants_of("m", SOURCE)]


def test_every_reason_is_about_a_mutant_that_is_tried():
    assert len(chosen([], 0.12)) >= 150
    every = {mutant.key for mutant in chosen([], 1)}
    reasons = read_reasons()
    assert reasons.keys() <= every, f"{REASONS.name} names code that is gone"
    assert all(len(reason) > 20 for reason in reasons.values())
    files = [test.split("::")[0] for room in ROOMS for test in mutants.tests_of(room)]
    assert all((ROOT / file).exists() for file in files)


@pytest.mark.parametrize("old", ["no such text", "workers"])
def test_what_is_changed_occurs_once(old):
    with pytest.raises(ValueError, match="not once"):
        assert Change("spacer_lib.jobs", old, "x").text


@pytest.mark.processes
def test_a_changed_module_is_what_tests_import():
    code = """
import json
from benches.changes import Change, run_tests
test = ["tests/unit/test_jobs.py::test_no_workers_is_refused"]
found = [run_tests(test)]
for new in ("if False:", "if:"):
    change = Change("spacer_lib.jobs", "if workers < 1:", new)
    found.append(run_tests(test, change.module, change.text, first_only=True))
forever = "while workers < 1:\\n        pass\\n    if False:"
change = Change("spacer_lib.jobs", "if workers < 1:", forever)
found.append(run_tests(test, change.module, change.text, seconds=5))
ends = [(len(o.passed), *o.failed.values(), *o.broken.values()) for o in found]
print(json.dumps([ends, [o.timed_out for o in found]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    ends, late = json.loads(done.stdout)
    assert ends[:3] == [[1], [0, "Failed"], [0, "CollectError"]]
    assert late == [False, False, False, True]
