"""Responses for the baselines: right ones, and the same with a wrong answer."""

import itertools
import json
import re
from decimal import Decimal

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import labelled_options, plain_text, read_choice
from spacer_lib.language.numbers import MAX_NUMBER, read_number
from spacer_lib.language.prompts import TINY_MODES, PromptStyle
from spacer_lib.maps.text import map_to_text
from spacer_lib.rows import Question
from spacer_lib.tiny.curriculum import demonstration

# Problem types for which the row gives wrong answers too. For text that is read from a
# picture or written freely it gives none.
CORRUPTIBLE = ("multiple choice", "numerical", "regression", "option-free")
_SIDES = (
    ("left", "right"),
    ("left", "right", "back"),
    ("front-left", "front-right", "back-left", "back-right"),
)


def target_text(row: Question, style: PromptStyle) -> str | None:
    """The right response in a prompt style, or ``None`` if the row has none.

    Parameters
    ----------
    row : dict
        Question row; its ``reasoning``, if any, goes into the think block.
    style : PromptStyle
        ``tiny`` and its forms: the worked demonstration; ``think_map``: the true map,
        then the row's reasoning; ``think_boxes``: the true boxes, then that;
        ``think`` and ``observe``: the row's reasoning;
        ``direct``: the answer in its tag; ``vanilla``: the answer alone.

    Raises
    ------
    SpacerError
        If the style needs reasoning and the row has none. An empty think block would
        teach a known reward hack.
    """
    mode, answer = style.mode, row["ground_truth"]
    if mode in TINY_MODES:
        return demonstration(row, shape=mode.partition("_")[2] or "think")
    if mode == "vanilla":
        return answer
    tagged = f"<answer>{answer}</answer>"
    if mode == "direct":
        return tagged
    words = str(row.get("reasoning") or "")
    cells = row.get("map")
    if mode == "think_map" and cells:
        drawn = map_to_text(cells, last=row.get("categories") or ())
        words = f"<map>{drawn}</map>{words}"
    if mode == "think_boxes" and row.get("boxes"):
        drawn = json.dumps(row["boxes"], sort_keys=True, separators=(",", ":"))
        words = f"<map>{drawn}</map>{words}"
    if not words:
        raise SpacerError(
            f"row {row.get('id', '(no id)')}",
            kind="training.no-reasoning",
            got=f"no reasoning to imitate in {mode}",
            expected="rows with a `reasoning`",
            remedy="choose prompt_mode direct or vanilla, or think_map for rows with "
            "maps",
        )
    tag = "observe" if mode == "observe" else "think"
    return f"<{tag}>{words}</{tag}>{tagged}"


def corrupt(row: Question, text: str, rng: np.random.Generator) -> str:
    """A response with a wrong answer; the rest is unchanged.

    Parameters
    ----------
    row : dict
        Question row of one of the ``CORRUPTIBLE`` types.
    text : str
        A response. Its answer tag is replaced, or all of it if it has no tag.
    rng : numpy.random.Generator

    Returns
    -------
    str
        The answer can be read, has the form of the ground truth, and differs from it:
        another option; a number that is off by at least half (its mean relative
        accuracy is 0) with as many decimals; for option-free rows another side, order
        or category.

    Raises
    ------
    SpacerError
        If the row gives no wrong answer, or the response has several answers.

    Source: vsGRPO's DPO baseline (rejected = corrupted answer). It prints no recipe;
    the choices are ours.

    Examples
    --------
    >>> import numpy as np
    >>> row = {"problem_type": "numerical", "ground_truth": "2.4", "options": None}
    >>> corrupt(row, "<answer>2.4</answer>", np.random.default_rng(0))
    '<answer>5.0</answer>'
    """
    wrong = _wrong_answer(row, rng)
    opened = text.split("<answer>")
    if len(opened) == 1:
        return wrong
    closed = opened[-1].split("</answer>")
    if (len(opened), len(closed)) != (2, 2):
        raise SpacerError(
            f"row {row.get('id', '(no id)')}: response to corrupt",
            kind="training.several-answers",
            got=repr(text[-80:]),
            expected="one answer tag, or none",
        )
    return f"{opened[0]}<answer>{wrong}</answer>{closed[1]}"


def _wrong_answer(row: Question, rng: np.random.Generator) -> str:
    kind, truth = row["problem_type"], row["ground_truth"]
    others = []
    if kind in ("numerical", "regression"):
        return _wrong_number(row, rng)
    if kind == "multiple choice" and row["options"]:
        texts, right = (
            labelled_options(row["options"]),
            read_choice(truth, row["options"]),
        )
        form = "{letter}. {text}"
        if truth.strip() == right:
            form = "{letter}"
        elif right and plain_text(truth) == plain_text(texts[right]):
            form = "{text}"
        others = [
            form.format(letter=letter, text=text)
            for letter, text in texts.items()
            if letter != right
        ]
    elif kind == "option-free":
        others = _other_words(row)
    if not others:
        raise SpacerError(
            f"row {row.get('id', '(no id)')}: wrong answer to {kind}",
            kind="training.no-wrong-answer",
            got="none known",
            expected=f"options, or one of {', '.join(CORRUPTIBLE)}",
        )
    return others[int(rng.integers(len(others)))]


def _wrong_number(row: Question, rng: np.random.Generator) -> str:
    truth = row["ground_truth"]
    value, failure = read_number(truth)
    if value is None:
        raise SpacerError(
            f"row {row.get('id', '(no id)')}: ground truth",
            kind="training.no-number",
            got=repr(truth),
            expected=f"one number ({failure})",
        )
    written = re.search(r"\.([0-9]+)", truth)
    decimals = len(written[1]) if written else 0
    size = round(abs(value) * 10**decimals)  # in units of the last decimal
    less = int(size * rng.uniform(0.25, 0.5))
    more = -int(-size * rng.uniform(1.5, 3.0) // 1)
    up = rng.random() < 0.5
    if size == 0:
        wrong = int(rng.integers(1, 4))
    elif less and (not up or more > MAX_NUMBER * 10**decimals):
        wrong = less
    else:
        wrong = more
    sign = "-" if value < 0 else ""
    return f"{sign}{Decimal(wrong).scaleb(-decimals):f}"


def _other_words(row: Question) -> list[str]:
    """Wrong answers in words: other sides, other orders, or other categories."""
    truth = row["ground_truth"]
    level = {"easy": 0, "medium": 1, "hard": 2}.get(row["question_type"].split("_")[-1])
    if level is not None and truth in _SIDES[level]:
        return [side for side in _SIDES[level] if side != truth]
    parts = truth.split(", ")
    if len(parts) > 1:
        orders = map(", ".join, itertools.islice(itertools.permutations(parts), 24))
        return [order for order in orders if order != truth]
    names = row.get("categories") or ()
    return [name for name in names[1:] if name != truth]
