"""One function over many items: here, in processes, and when a worker fails."""

import os
import signal

import pytest
from support import refused

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
