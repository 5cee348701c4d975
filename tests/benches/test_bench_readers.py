"""Damaged files of every format: a value or a ``SpacerError``, nothing else."""

import pytest

from benches import readers
from spacer_lib.benchmarks import BENCHMARKS
from spacer_lib.errors import SpacerError


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return {kind.name: kind for kind in readers.formats(tmp_path_factory.mktemp("f"))}


NAMES = (
    "aggregation segments text labels instances mesh recording metadata rows parquet "
    "general"
).split()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_gives_a_value_or_one_error(kinds, name):
    tally = readers.read_damaged(kinds[name], 200, seed=7)
    assert not tally.tracebacks
    assert tally.accepted + tally.refused == 200 and tally.refused > 20


def test_every_format_is_damaged(kinds):
    assert list(kinds) == NAMES


@pytest.fixture(scope="module")
def other_kinds(tmp_path_factory):
    root = tmp_path_factory.mktemp("others")
    return [*readers.benchmark_formats(root / "b"), *readers.answer_formats(root)]


def test_damaged_files_of_benchmarks_and_answers(other_kinds):
    names = {kind.name for kind in other_kinds}
    asked = {name.rpartition(" ")[0] for name in names} - {"answers", ""}
    whole = {name.partition("-all")[0] for name in BENCHMARKS}
    assert {"vsi", "3dsr", "blink", "mindcube-tiny", "videommmu"} <= asked <= whole
    assert {"answers xlsx", "answers csv", "items", "3dsr tsv"} <= names
    for kind in other_kinds:
        tally = readers.read_damaged(kind, 12, seed=5)
        assert not tally.tracebacks, kind.name
        assert tally.accepted + tally.refused == 12 and tally.refused > 1, kind.name


def test_another_error_is_counted_and_the_file_put_back(kinds):
    kind = kinds["rows"]
    whole, calls = kind.path.read_bytes(), iter([None, KeyError("x"), 1 / 3])

    def read():
        result = next(calls, SpacerError("x", kind="rows.x"))
        if isinstance(result, Exception):
            raise result
        return result

    tally = readers.read_damaged(readers.Format("rows", kind.path, read, True), 5)
    assert (tally.accepted, tally.refused) == (1, 3)
    ((where, count),) = tally.tracebacks.items()
    assert where.startswith("KeyError in test_bench_readers.py") and count == 1
    assert kind.path.read_bytes() == whole
