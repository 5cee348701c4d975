"""One function over many items: here, in processes, and when a worker fails."""

import os
import signal
import subprocess
import sys

import pytest
from support import refused

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each


def square(n):
    return n * n


def refuse_three(n):
    if n == 3:
        raise SpacerError(
            "item 3", kind="jobs.three", got=3, expected="no three", remedy="skip it"
        )
    return n


def die_at_two(n):
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_comes_back_with_its_result(workers):
    found = dict(each(square, range(9), workers=workers))
    assert found == {n: n * n for n in range(9)}
    assert dict(each(square, [], workers=workers)) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_words(workers):
    with refused("jobs.three", says="item 3: got 3"):
        list(each(refuse_three, range(6), workers=workers))


def test_a_dead_worker_is_one_clear_message():
    with refused("jobs.worker-died", says="pool"):
        list(each(die_at_two, range(6), workers=2, what="pool"))


def test_no_workers_is_refused():
    with refused("jobs.workers", says="got 0"):
        list(each(square, [1], workers=0))


LATE = "import sys; from spacer_lib.jobs import die_with_parent; die_with_parent({})"


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
def test_a_child_whose_parent_ended_before_it_asked_ends_too():
    def status(parent: int) -> int:
        command = [sys.executable, "-c", LATE.format(parent)]
        return subprocess.run(command, cwd=PROJECT_ROOT).returncode

    assert status(os.getpid()) == 0
    assert status(os.getppid()) == -signal.SIGTERM
