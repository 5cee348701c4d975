"""Does the answer change when the video is another room's?

An answer that stays the same beside another room's video, where another answer is
right, was not read from the video. One completion cannot show that, so this component
takes two and is no setting of ``RewardConfig``; training draws them if a recipe sets
``advanced.counterfactual_bonus`` (``training.controls``):

    R = task(answer, truth) * [answer beside the other video is another one]

It is 0 to 1. It does not apply (``None``) where the other room has the same answer, or
none. A constant answer earns 0; a random one of k options (1 - 1/k) / k on average.

Source: ours, after the penalty of https://arxiv.org/abs/2605.25524 for answers that
counterfactual pictures do not change.
"""

from spacer_lib.questions.solver import answer_from_map
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.consistency import Part, same_answer, true_answer
from spacer_lib.rewards.score import score
from spacer_lib.rows import CognitiveMap, Question


def truth_elsewhere(row: Question, cells: CognitiveMap | None) -> str | None:
    """The answer to a question in another room, from its true map by the solver.

    ``None`` where that map does not tell, such as for a distance in metres or where the
    room lacks an object.

    Examples
    --------
    >>> row = {"question_type": "object_counting", "problem_type": "numerical",
    ...        "options": None, "question": "", "categories": ["chair"]}
    >>> truth_elsewhere(row, {"chair": [(0, 0), (3, 4)]})
    '2'
    """
    return answer_from_map(row, cells).answer


def differs(row: Question, other_truth: str | None) -> bool:
    """Whether another room has an answer, and it is not the row's."""
    if other_truth is None:
        return False
    return not same_answer(true_answer(row), other_truth, row)


def changes(answer: str | None, other_answer: str | None, row: Question) -> bool:
    """Whether both answers were read and are not the same."""
    both = answer is not None and other_answer is not None
    return both and not same_answer(answer, other_answer, row)


def counterfactual(
    text: str,
    other_text: str,
    row: Question,
    other_truth: str | None,
    config: RewardConfig,
) -> Part:
    """What two completions of one question earn; see the module.

    Parameters
    ----------
    text, other_text : str
        Completions beside the own video and beside another room's.
    row : Question
    other_truth : str or None
        The answer in the other room, such as ``truth_elsewhere``.
    config : RewardConfig
        How answers are read and judged.

    Raises
    ------
    SpacerError
        As ``rewards.score.score``.

    Source: see the module.
    """
    if not differs(row, other_truth):
        return Part(None, "the other room has the same answer, or none")
    own, other = score(text, row, config), score(other_text, row, config)
    return paid(own.task, own.answer, other.answer, row)


def paid(
    task: float, answer: str | None, other_answer: str | None, row: Question
) -> Part:
    """As ``counterfactual``, of answers that were read, where the truths differ.

    ``task`` is the task reward of the answer beside the own video.
    """
    if answer is None or other_answer is None:
        return Part(0.0, "an answer could not be read")
    if not changes(answer, other_answer, row):
        return Part(0.0, f"{answer} beside both videos")
    return Part(task, f"{answer}, and {other_answer} beside the other video")
