"""Faulty settings of every kind: each is refused in one line."""

import pytest

from benches import recipes
from spacer_lib.errors import SpacerError

FAULTS = 31  # of each kind of settings, drawn


def test_faulty_settings_are_refused_and_odd_spellings_read():
    rows, wrong = recipes.read_all(FAULTS, seed=3)
    assert [name for name, *_ in rows] == [kind.name for kind in recipes.KINDS]
    assert wrong == []
    assert all(counts["refused", True] == FAULTS for _, counts, _ in rows)


def test_there_are_faults_of_texts_and_of_values():
    for kind in recipes.KINDS:
        names = [name for name, _ in recipes.faulty(kind)]
        assert len(names) > 130 and len(set(names)) == len(names)


@pytest.mark.parametrize(
    "error", [None, KeyError("x"), SpacerError("a\nb", kind="x.y")]
)
def test_what_is_not_one_line_is_counted(monkeypatch, error):
    def read(path):
        if error is not None:
            raise error

    first = recipes.KINDS[2]
    kind = recipes.Kind("x", first.example, first.settings, read)
    monkeypatch.setattr(recipes, "KINDS", (kind,))
    ((_, counts, _),), wrong = recipes.read_all(3)
    verdict = "tracebacks" if error else "accepted"
    assert counts[verdict, True] == 3 and len(wrong) == (10 if error else 3)
