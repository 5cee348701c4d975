"""One question, several frame budgets: the answer that each number of frames shows.

Eight frames may show two of three chairs, and another object first than 32 frames do. A
budget that shows one of the objects named too small, or none of them, gives no answer.

Source: ReVSI, https://arxiv.org/abs/2604.24300 (answers that hold for a frame budget).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.questions.drafts import LETTERS, Draft
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.kinds.appearance import NEARLY_AT_ONCE
from spacer_lib.questions.oracle import Undetermined
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.shown import UNSEEN, Shown, as_shown, object_fates

BUDGETS = tuple(Shown(frames) for frames in (4, 8, 16, 32))
NO_OPTION = "no option is left for this answer"


@dataclass(frozen=True)
class BudgetAnswers:
    """A question and its answer for each frame budget.

    Attributes
    ----------
    draft : Draft
        As the largest budget shows the scene: its ground truth holds for that one.
    answers : dict
        Frames → ground truth, a number or the letter of one of the draft's options.
    rejections : dict
        Frames → why there is no answer. Each budget is in one of the two.
    """

    draft: Draft
    answers: dict[int, str]
    rejections: dict[int, str]

    @property
    def differ(self) -> bool:
        """Whether two budgets have different answers."""
        return len(set(self.answers.values())) > 1


def questions_by_budget(
    scene: Scene,
    question_type: str,
    rng: np.random.Generator,
    budgets: Sequence[Shown] = BUDGETS,
    rules: Rules = DEFAULT_RULES,
) -> Iterator[BudgetAnswers]:
    """The questions that the largest budget allows, with every budget's answer.

    Answers of other budgets are the oracle's, about the scene as they show it. Where
    they are in no option, they replace one that is right for no budget.

    Parameters
    ----------
    scene : Scene
        With footage.
    question_type : str
        One whose answers depend on the shown frames, ``QuestionType.by_frames``.
    rng : Generator
    budgets : sequence of Shown
        Different numbers of frames.
    rules : Rules

    Raises
    ------
    SpacerError
        For another question type, or two budgets of as many frames.
    """
    kind, frames = QUESTION_TYPES.get(question_type), [one.frames for one in budgets]
    if kind is None or not kind.by_frames or len({*frames, 0}) < len(frames) + 1:
        known = [name for name, one in QUESTION_TYPES.items() if one.by_frames]
        raise SpacerError(
            "questions for several frame budgets",
            kind="questions.no-budgets",
            got=f"{question_type}, frames {frames}",
            expected=f"different numbers of frames, and one of {', '.join(known)}",
        )
    shown = {one.frames: as_shown(scene, one)[0] for one in budgets}
    fates = {one.frames: object_fates(scene, one) for one in budgets}
    for draft in kind.generator(shown[max(frames)], rng, rules):
        if not isinstance(draft, Draft):
            continue
        texts: dict[int, str] = {}
        why: dict[int, str] = {}
        for budget in sorted(frames):
            words, reason = _answer(draft, scene, shown[budget], fates[budget], rules)
            (why if reason else texts)[budget] = reason or words
        yield _with_letters(draft, texts, why)


def _answer(
    draft: Draft, scene: Scene, seen: Scene, fates: Sequence[str], rules: Rules
) -> tuple[str, str]:
    """The answer in words, or why there is none."""
    kind = QUESTION_TYPES[draft.question_type]
    for name in draft.categories:
        mine = {
            fate
            for one, fate in zip(scene.instances, fates, strict=True)
            if one.category == name
        }
        if unclear := sorted(mine - {"", UNSEEN}):
            return "", unclear[0]
        if "" not in mine and draft.question_type != "object_existence":
            return "", UNSEEN
    if kind.kind in ("obj_appearance_order", "appearance_before_after"):
        groups, fps = seen.by_category(), seen.fps or 1.0
        first = [
            min(one.first_seen_frame or 0 for one in groups[name]) / fps
            for name in draft.categories
        ]
        gaps = [b - a for a, b in itertools.pairwise(sorted(first))]
        if min(gaps) < rules.order_gap_s:
            return "", NEARLY_AT_ONCE
    try:
        return kind.oracle(vars(draft) | {"options": None}, seen, rules)[0], ""
    except Undetermined as error:
        return "", str(error)


def _with_letters(
    draft: Draft, texts: dict[int, str], why: dict[int, str]
) -> BudgetAnswers:
    """Options that hold every budget's answer, and letters for words."""
    if not draft.options:
        return BudgetAnswers(draft, texts, why)
    options = [option[3:] for option in draft.options]
    largest_first = sorted(texts, reverse=True)
    for budget in largest_first:
        spare = [text for text in options if text not in texts.values()]
        if texts[budget] not in options and spare:
            options[options.index(spare[-1])] = texts[budget]
    answers = {
        budget: LETTERS[options.index(texts[budget])]
        for budget in largest_first[::-1]
        if texts[budget] in options
    }
    lost = {budget: NO_OPTION for budget in texts if budget not in answers}
    lettered = tuple(f"{LETTERS[i]}. {text}" for i, text in enumerate(options))
    return BudgetAnswers(
        dataclasses.replace(draft, options=lettered), answers, why | lost
    )
