"""What generators yield: a ``Draft`` of a question, or a ``Rejection``."""

import dataclasses
import itertools
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

MULTIPLE_CHOICE, NUMERICAL = "multiple choice", "numerical"
OPTION_FREE = "option-free"  # multiple choice without letters, answered in words
LETTERS = string.ascii_uppercase  # of options


@dataclass(frozen=True)
class Draft:
    """What a generator fills in of a question: no id, scene, map or video yet.

    ``categories`` are the objects named, in the order of the question: position,
    facing and query for directions; target and then options for relative distance.
    """

    question_type: str
    problem_type: str
    question: str
    options: tuple[str, ...] | None
    ground_truth: str  # an option's letter, or a number
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Rejection:
    """Why a candidate is not asked."""

    question_type: str
    reason: str


Drafts = Iterator[Draft | Rejection]


def multiple_choice(
    question_type: str,
    question: str,
    answer: str,
    wrong: Sequence[str],
    categories: Iterable[str],
    rng: np.random.Generator,
    shuffle: bool,
) -> Draft:
    """A draft with lettered options: in a drawn order, or sorted by their texts."""
    texts = [answer, *wrong]
    if shuffle:
        texts = [texts[i] for i in rng.permutation(len(texts))]
    else:
        texts.sort()
    options = tuple(f"{LETTERS[i]}. {text}" for i, text in enumerate(texts))
    letter = LETTERS[texts.index(answer)]
    return Draft(
        question_type, MULTIPLE_CHOICE, question, options, letter, tuple(categories)
    )


def order_choice(
    question_type: str,
    question: str,
    ordered: Sequence[str],
    names: Sequence[str],
    rng: np.random.Generator,
    shuffle: bool,
) -> Draft:
    """``multiple_choice`` of the right order and three wrong ones.

    ``names`` are the same as ``ordered``, as the question lists them.
    """
    answer = ", ".join(ordered)
    orders = [", ".join(order) for order in itertools.permutations(names)]
    wrong = [order for order in shuffled(orders, rng) if order != answer][:3]
    return multiple_choice(question_type, question, answer, wrong, names, rng, shuffle)


def listed_choice(
    question_type: str,
    words: str,
    answer: str,
    options: Sequence[str],
    rng: np.random.Generator,
    shuffle: bool,
    **names: str,
) -> Draft:
    """``multiple_choice`` whose question lists its options in the order of letters.

    ``names`` are the other names in ``words``, and the first of the categories.
    """
    wrong = [option for option in options if option != answer]
    made = multiple_choice(question_type, "", answer, wrong, (), rng, shuffle)
    shown = [text[3:] for text in made.options or ()]
    return dataclasses.replace(
        made,
        question=words.format(options=", ".join(shown), **names),
        categories=(*names.values(), *shown),
    )


def shuffled(items: Iterable[T], rng: np.random.Generator) -> list[T]:
    """The items in a drawn order."""
    items = list(items)
    return [items[i] for i in rng.permutation(len(items))]
