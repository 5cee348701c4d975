"""What a model learns from the words of our own questions: a test-set stress test.

A forest is trained on the questions of some rooms and answers those of others, from
their texts alone: categories, options, their places and lengths, numbers. A score above
chance is a shortcut, which a model can learn from the same questions without looking.

``blind_answers``  held-out answers of the forest
``blind_table``    its score for each question type, beside the strongest counted floor
``prune``          leaves out the rows that it answers with the most certainty

Source: *Benchmark Designers Should "Train on the Test Set" to Expose Exploitable
Non-Visual Shortcuts*, https://arxiv.org/abs/2511.04655. The features are ours. So is
the score of an answer: the forest chooses what it expects to score most under the
project's own metrics.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.benchmarks.rules import strict
from spacer_lib.benchmarks.schema import Rule
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.floors import COUNTED, PRIOR_ROWS, Floor
from spacer_lib.evaluation.forest import Array, Growth, Whole, forest_means
from spacer_lib.language.choices import labelled_options
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Question

_NAMES = 4  # names of a question that have a column of their own
_WORDS = 12  # different answers in words that are told apart, the most frequent first
_CUTS = 50  # numbers that are tried as answers
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Blind:
    """How a set is tested and pruned.

    Attributes
    ----------
    folds : int
        Parts that the rooms of a question type are shared out to.
    least_rows : int
        A question type with fewer rows, or fewer rooms than folds, is not tested.
    most_rows : int
        That one forest is trained on.
    tolerance : float
        A score this much above chance is near it. So is one within two standard errors.
    step, most : float
        Share of a type's rows that are dropped at a time, and altogether at most.
    growth : Growth
    """

    folds: int = 5
    least_rows: int = 50
    most_rows: int = 3000
    tolerance: float = 0.03
    step: float = 0.05
    most: float = 0.5
    growth: Growth = field(default_factory=Growth)

    def __post_init__(self) -> None:
        shares = (self.tolerance, self.step, self.most)
        if self.folds < 2 or not all(0 < share < 1 for share in shares):
            raise SpacerError(
                "blind test",
                kind="evaluation.blind-out-of-range",
                got=f"folds {self.folds}, tolerance, step and most {shares}",
                expected="2 folds or more, and shares between 0 and 1",
            )


DEFAULT = Blind()


class Guess(NamedTuple):
    """An answer from the words alone.

    ``sure`` is the score, 0 to 1, that the forest expects of it, ``score`` the one it
    has.
    """

    answer: str
    sure: float
    score: float


def blind_answers(
    rows: Sequence[Question],
    *,
    rule: Rule = strict,
    seed: int = 0,
    how: Blind = DEFAULT,
) -> list[Guess]:
    """Answers to questions of one type, each by a forest that has not seen their room.

    Parameters
    ----------
    rows : list of Question
        Of one ``question_type``.
    rule : callable
        Scores answers.
    seed : int
        Keys the folds and the trees.
    how : Blind

    Raises
    ------
    SpacerError
        If there are too few rows or rooms.
    """
    if why := _too_small(rows, how):
        raise _no_test({rows[0]["question_type"] if rows else "no rows": why}, how)
    items = _Items.of(rows, rule)
    rng = np.random.default_rng([seed, 17])
    rooms = {room: n for n, room in enumerate(sorted({_room(row) for row in rows}))}
    fold_of = rng.permutation(len(rooms)) % how.folds
    folds = fold_of[[rooms[_room(row)] for row in rows]]
    expected = np.zeros((len(items.row), items.Y.shape[1]))
    for fold in range(how.folds):
        train = rng.permutation(np.flatnonzero(folds != fold))[: how.most_rows]
        # Encodings of a training row come from other parts of the training rows.
        groups = np.full(len(rows), -1)
        groups[train] = folds[train]
        X = items.features(groups)
        known, asked = groups[items.row] >= 0, folds[items.row] == fold
        grown = forest_means(X[known], items.Y[known], X[asked], rng, how.growth)
        expected[asked] = items.beside_counts(grown, groups, asked)
    return items.guesses(rows, expected, rule)


def _room(row: Question) -> str:
    return space_of(str(row.get("scene_name") or row["id"]))


def _too_small(rows: Sequence[Question], how: Blind) -> str:
    """What a type lacks to be tested; empty if nothing."""
    rooms = len({_room(row) for row in rows})
    if len(rows) >= how.least_rows and rooms >= how.folds:
        return ""
    return f"{len(rows)} rows of {rooms} rooms"


def _no_test(small: Mapping[str, str], how: Blind) -> SpacerError:
    return SpacerError(
        "blind test",
        kind="evaluation.too-few-rows",
        got=", ".join(f"{name}: {why}" for name, why in small.items()) or "no rows",
        expected=f"{how.least_rows} rows of {how.folds} rooms of a question type",
        remedy="make more questions, or test a larger set",
    )


# ---------------------------------------------------------------- features


class _Items:
    """What the forest answers: each option of a row, or each row without options.

    Attributes
    ----------
    row : (n,) int64
        The row of each item.
    names : list of str
        The answer of each item (options), or of each output (no options).
    Y : (n, k) float64
        Of an option: whether it is right. Else: the score of each answer.
    """

    def __init__(
        self,
        row: Whole,
        names: list[str],
        Y: Array,
        signal: Array,
        plain: Array,
        keys: list[list[tuple[str, ...]]],
    ) -> None:
        self.row, self.names, self.Y = row, names, Y
        self._signal, self._plain = signal, plain
        self._keys = [_numbered(column) for column in keys]

    @classmethod
    def of(cls, rows: Sequence[Question], rule: Rule) -> "_Items":
        options = [labelled_options(row.get("options") or ()) for row in rows]
        lettered = all(
            row["ground_truth"] in some for row, some in zip(rows, options, strict=True)
        )
        return _options(rows, options) if lettered else _bare(rows, rule)

    @property
    def lettered(self) -> bool:
        """Whether the items are options."""
        return len(self.names) == len(self.row) and self.Y.shape[1] == 1

    def features(self, groups: Whole) -> Array:
        """(n, f) features; answers are counted on the rows with a group from 0.

        A row's own group is left out.
        """
        group = groups[self.row]
        columns = [self._plain]
        for column in self._keys:
            columns.append(_means(column, group, self._signal))
        X = np.hstack(columns)
        if not self.lettered:
            encoded = np.stack(columns[1 : 1 + _NAMES])
            return np.hstack([X, encoded.min(axis=0), encoded.max(axis=0)])
        sizes = np.bincount(self.row)
        sums = np.zeros((len(sizes), X.shape[1]))
        np.add.at(sums, self.row, X)
        return np.hstack([X, X - (sums / sizes[:, None])[self.row]])

    def beside_counts(
        self, grown: Array, groups: Whole, asked: npt.NDArray[np.bool_]
    ) -> Array:
        """What the forest expects of the items that are asked, beside plain counts.

        Without options it is averaged with the scores where the same is asked: a tree
        rarely has a leaf for one category alone.
        """
        if self.lettered:
            return grown
        same = _means(self._keys[-1], groups[self.row], self.Y)[asked]
        return (grown + same) / 2

    def guesses(
        self, rows: Sequence[Question], expected: Array, rule: Rule
    ) -> list[Guess]:
        """The answer to each row with the highest expected score."""
        found = []
        starts = np.searchsorted(self.row, np.arange(len(rows) + 1))
        for n, row in enumerate(rows):
            values = expected[starts[n] : starts[n + 1]].ravel()
            names = self.names[starts[n] : starts[n + 1]] if self.lettered else None
            best = int(values.argmax())
            answer = (names or self.names)[best]
            total = values.sum() if self.lettered else 1.0
            sure = float(values[best] / total) if total else 1 / len(values)
            found.append(Guess(answer, sure, rule(answer, row).score))
        return found


def _bare(rows: Sequence[Question], rule: Rule) -> _Items:
    """Items of rows without options."""
    truths = [row["ground_truth"] for row in rows]
    answers, signal = _answers(truths)
    one = {truth: row for truth, row in zip(truths, rows, strict=True)}
    worth = {t: [rule(a, row).score for a in answers] for t, row in one.items()}
    names = _names(rows)
    # The same names in another order are asked about the same.
    keys: list[list[tuple[str, ...]]]
    keys = [[(some[slot],) for some in names] for slot in range(_NAMES)]
    keys += [[tuple(sorted(some)) for some in names]]
    return _Items(
        np.arange(len(rows)),
        answers,
        np.array([worth[truth] for truth in truths], float),
        signal,
        np.array([_numbers(row) for row in rows]),
        keys,
    )


def _answers(truths: Sequence[str]) -> tuple[list[str], Array]:
    """Answers to try, and (n, k) what encodings are means of."""
    count = {truth: truths.count(truth) for truth in sorted(set(truths))}
    common = sorted(count, key=lambda truth: (-count[truth], truth))
    try:
        numbers = np.array([float(truth) for truth in truths])
    except ValueError:
        words = common[:_WORDS]
        return words, np.array([[float(t == w) for w in words] for t in truths])
    ranks = np.searchsorted(np.sort(numbers), numbers) / len(numbers)
    if len(common) > _CUTS:
        cuts = np.percentile(numbers, np.linspace(1, 99, _CUTS))
        common = list(dict.fromkeys(f"{cut:.4g}" for cut in cuts))
    return common, ranks[:, None]


def _options(rows: Sequence[Question], options: Sequence[Mapping[str, str]]) -> _Items:
    """Items of rows with options."""
    names = _names(rows)
    place, letters, right, plain = [], [], [], []
    keys: list[list[tuple[str, ...]]] = [[] for _ in range(7)]
    for n, (row, some) in enumerate(zip(rows, options, strict=True)):
        parts = {letter: _parts(text) for letter, text in some.items()}
        offered = tuple(sorted(text.lower() for text in some.values()))
        for at, (letter, text) in enumerate(some.items()):
            words, mine = text.lower(), parts[letter]
            place.append(n)
            letters.append(letter)
            right.append([float(letter == row["ground_truth"])])
            shared = sum(
                a == b
                for other, theirs in parts.items()
                if other != letter
                for a, b in zip(mine, theirs, strict=False)
            )
            value = _NUMBER.search(text)
            plain.append(
                [
                    at,
                    len(some),
                    len(text),
                    len(mine),
                    shared,
                    float(value[0]) if value else 0.0,
                    row["question"].lower().find(words),
                    *_numbers(row),
                ]
            )
            for column, key in zip(
                keys,
                (
                    (letter, str(len(some))),
                    (words,),
                    (words, *offered),
                    (words, names[n][0]),
                    (words, *sorted(names[n])),
                    mine[:1],
                    mine[-1:],
                ),
                strict=True,
            ):
                column.append(key)
    Y = np.array(right)
    return _Items(np.array(place), letters, Y, Y, np.array(plain, float), keys)


def _parts(text: str) -> tuple[str, ...]:
    """The members of a listing, or the words of another text."""
    return tuple(re.split(r", |\s", text.lower())) if text else ("",)


def _names(rows: Sequence[Question]) -> list[list[str]]:
    """What each question is about, ``_NAMES`` texts each, in its order.

    Its categories; of a question without them the words that few questions have.
    """
    words = [re.findall(r"[a-z]+", row["question"].lower()) for row in rows]
    often: dict[str, int] = {}
    for word in (word for some in words for word in set(some)):
        often[word] = often.get(word, 0) + 1
    found = []
    for row, some in zip(rows, words, strict=True):
        rare = [word for word in some if often[word] <= len(rows) / 2]
        mine = list(row.get("categories") or rare)[:_NAMES]
        found.append(mine + [""] * (_NAMES - len(mine)))
    return found


def _numbers(row: Question) -> list[float]:
    """Length of the question, how much it names, and the first and last number."""
    seen = [float(text) for text in _NUMBER.findall(row["question"])][:8] or [0.0]
    about = len(row.get("categories") or ())
    return [len(row["question"]), about, seen[0], seen[-1], seen[-1] - seen[0]]


def _numbered(keys: Iterable[tuple[str, ...]]) -> Whole:
    """A number for each key, the same for equal keys."""
    seen: dict[tuple[str, ...], int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def _means(key: Whole, group: Whole, signal: Array) -> Array:
    """(n, k) mean signal of the items with the same key and another group.

    Items of group -1 are not counted. ``PRIOR_ROWS`` items of the overall mean are
    added, so that a key that was met once does not decide alone.
    """
    known = group >= 0
    mean = signal[known].mean(axis=0)
    width = int(group.max()) + 2
    pair = key * width + group + 1
    size = (int(key.max()) + 1) * width
    counts = np.bincount(pair[known], minlength=size)
    sums = np.zeros((size, signal.shape[1]))
    np.add.at(sums, pair[known], signal[known])
    by_key = sums.reshape(-1, width, signal.shape[1]).sum(axis=1)
    n_by_key = counts.reshape(-1, width).sum(axis=1)
    total = by_key[key] - sums[pair] + PRIOR_ROWS * mean
    return total / (n_by_key[key] - counts[pair] + PRIOR_ROWS)[:, None]


# ---------------------------------------------------------------- the test


def by_type(
    rows: Iterable[Question], how: Blind = DEFAULT
) -> tuple[dict[str, list[Question]], dict[str, str]]:
    """Rows of each question type, and what the types that are too small have.

    Raises
    ------
    SpacerError
        If every type is too small.
    """
    parts: dict[str, list[Question]] = {}
    for row in rows:
        parts.setdefault(row["question_type"], []).append(row)
    small = {name: why for name, p in parts.items() if (why := _too_small(p, how))}
    if len(small) == len(parts):
        raise _no_test(small, how)
    return {n: parts[n] for n in sorted(parts) if n not in small}, small


def chance(rows: Sequence[Question], rule: Rule = strict) -> float:
    """Score of an answer that reads no question.

    With options: any of them, each equally often. Without: the one answer that scores
    most on these rows.
    """
    items = _Items.of(rows, rule)
    if items.lettered:
        return float((1 / np.bincount(items.row)).mean())
    return float(items.Y.mean(axis=0).max())


def blind_table(
    rows: Sequence[Question],
    *,
    rule: Rule = strict,
    seed: int = 0,
    how: Blind = DEFAULT,
) -> dict[str, Any]:
    """The blind score of each question type, beside floor and chance.

    Parameters
    ----------
    rows, rule, seed, how : as of ``blind_answers``
        Rows of any types.

    Returns
    -------
    dict
        ``types`` ``{question_type: {rows, rooms, blind, floor, floor_name, chance}}``;
        ``floor`` is the highest of the counted floors, each counted on the other rooms;
        ``too_small`` ``{question_type: what it has}``, not tested.

    Raises
    ------
    SpacerError
        If every type is too small.
    """
    parts, small = by_type(rows, how)
    types = {}
    for name, part in parts.items():
        scores = {
            kind: np.mean([rule(floor.answer(row), row).score for row in part])
            for kind in COUNTED
            for floor in [Floor(kind, part, rule=rule)]
        }
        best = max(scores, key=scores.__getitem__)
        guesses = blind_answers(part, rule=rule, seed=seed, how=how)
        types[name] = {
            "rows": len(part),
            "rooms": len({_room(row) for row in part}),
            "blind": float(np.mean([guess.score for guess in guesses])),
            "floor": float(scores[best]),
            "floor_name": best,
            "chance": chance(part, rule),
        }
    return {"types": types, "too_small": small}


def prune(
    rows: Sequence[Question],
    *,
    rule: Rule = strict,
    seed: int = 0,
    how: Blind = DEFAULT,
) -> tuple[list[Question], dict[str, Any]]:
    """Leave out the rows that are answered blind with the most certainty.

    A few rows of a type at a time, each time after new folds and a new forest, until
    the blind score is near chance or ``how.most`` of them are gone.

    Parameters
    ----------
    rows, rule, seed, how : as of ``blind_table``

    Returns
    -------
    kept : list of Question
        In their order. Types that are too small are kept whole.
    report : dict
        ``types`` ``{question_type: {rows, dropped, before, after, chance, near}}``;
        ``near`` says whether chance was reached; ``too_small`` as of ``blind_table``.

    Raises
    ------
    SpacerError
        If every type is too small.
    """
    parts, small = by_type(rows, how)
    gone, report = set[int](), {}
    for name, part in parts.items():
        left, report[name] = _pruned(part, rule, seed, how)
        kept = {id(row) for row in left}
        gone |= {id(row) for row in part if id(row) not in kept}
    kept_rows = [row for row in rows if id(row) not in gone]
    return kept_rows, {"types": report, "too_small": small}


def _pruned(
    rows: Sequence[Question], rule: Rule, seed: int, how: Blind
) -> tuple[list[Question], dict[str, Any]]:
    left, before, turn = list(rows), None, 0
    limit = int(how.most * len(rows))
    while True:
        guesses = blind_answers(left, rule=rule, seed=seed + 1000 * turn, how=how)
        scores = np.array([guess.score for guess in guesses])
        score, level = float(scores.mean()), chance(left, rule)
        before = score if before is None else before
        error = float(scores.std()) / math.sqrt(len(scores))
        near = score - level <= max(how.tolerance, 2 * error)
        spare = limit - (len(rows) - len(left))
        count = min(math.ceil(how.step * len(left)), spare)
        # A row that is answered wrong, however surely, gives nothing away.
        order = np.argsort([-g.sure * g.score for g in guesses], kind="stable")
        dropped = set(order[:count].tolist())
        rest = [row for n, row in enumerate(left) if n not in dropped]
        if near or not count or _too_small(rest, how):
            break
        left, turn = rest, turn + 1
    return left, {
        "rows": len(rows),
        "dropped": len(rows) - len(left),
        "before": before,
        "after": score,
        "chance": level,
        "near": near,
    }
