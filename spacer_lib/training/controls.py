"""Rewards that compare the completions of a group with those of its control.

The control is G / 2 completions of the same question beside something else. They earn
nothing and never enter a loss.

| component | the control is shown | source |
|---|---|---|
| ``temporal`` | the frames in another order | T-GRPO, Video-R1 (arXiv 2503.21776) §3 |
| ``counterfactual`` | a room where another answer is right | ours |

SpaceR's script switches T-GRPO on; its paper does not mention it.
"""

import dataclasses
import functools
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

from accelerate.utils import gather_object

from spacer_lib.errors import SpacerError
from spacer_lib.questions.solver import BEYOND_MAPS, answer_from_map
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.counterfactual import differs, paid, truth_elsewhere
from spacer_lib.rewards.score import score_batch
from spacer_lib.rewards.trl import tgrpo_bonus
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.scene import first_of_spaces, space_of
from spacer_lib.rows import QUESTION_KEYS, Question
from spacer_lib.training.batches import RowSource
from spacer_lib.training.recipe import TrainConfig

KEPT = 1024  # questions whose other room is remembered


class Shown(NamedTuple):
    """A question as its control is asked it.

    Attributes
    ----------
    row : Question
    left_out : str or None
        Why the question has no bonus. Its control is asked all the same: all ranks
        have to draw equally often.
    """

    row: Question
    left_out: str | None = None


class Reply(NamedTuple):
    """One completion, read and scored by the row that it was shown."""

    shown: Shown
    task: float
    answer: str | None


class ControlBonus(ABC):
    """A reward component that needs a control; see the module.

    Parameters
    ----------
    config : RewardConfig
        How answers are read and judged.
    value : float
        The bonus.
    size : int
        Completions of a group, G.

    Attributes
    ----------
    left_out : tuple of str
        Reasons for which questions have no bonus. The share of each is logged.
    """

    __name__: str
    left_out: tuple[str, ...] = ("no_video",)

    def __init__(self, config: RewardConfig, value: float, size: int) -> None:
        self.config, self.value, self.size = config, value, size
        self.accelerator: Any = None

    def join(self, source: RowSource, accelerator: Any) -> None:
        """Called by the trainer: its rows, and the ranks that a group may lie on."""
        self.source, self.accelerator = source, accelerator

    def shown(self, number: int) -> Shown:
        """What the control is asked in place of the row of this number."""
        row = self.source.row(number)
        return Shown(row, None if row.get("video") else "no_video")

    def video(self, step: int) -> VideoSettings:
        """How the control is shown its videos, at an optimiser step from 0."""
        return self.source.video

    @abstractmethod
    def bonus(self, own: Sequence[Reply], control: Sequence[Reply]) -> list[float]:
        """What the G own completions of a group earn beside its G / 2 others."""

    def replies(self, texts: Sequence[str], shown: Sequence[Shown]) -> list[Reply]:
        """The completions of all ranks, in their order, from those of this one."""
        scored = score_batch(texts, [one.row for one in shown], self.config)
        found = [
            Reply(one, b.task, b.answer) for one, b in zip(shown, scored, strict=True)
        ]
        return cast(list[Reply], gather_object(found))

    def __call__(
        self,
        completions: Sequence[Sequence[dict[str, str]]],
        *,
        control: Sequence[Reply],
        log_metric: Callable[[str, float], None],
        **columns: Any,
    ) -> list[float | None]:
        """The bonus of each of this rank's completions.

        Parameters
        ----------
        completions : list of chats
        control : list of Reply
            Of all ranks.
        log_metric : callable
        **columns
            Of the rows, as lists; others are ignored.
        """
        named = {key: columns[key] for key in QUESTION_KEYS if key in columns}
        rows = [
            cast(Question, dict(zip(named, values, strict=True)))
            for values in zip(*named.values(), strict=True)
        ]
        texts = [completion[0]["content"] for completion in completions]
        own = self.replies(texts, [Shown(row) for row in rows])
        every: list[float | None] = []
        reasons: list[str | None] = []
        for group in range(len(own) // self.size):
            mine, other = (
                replies[group * size : (group + 1) * size]
                for replies, size in ((own, self.size), (control, self.size // 2))
            )
            reason = other[0].shown.left_out
            every += [None] * self.size if reason else self.bonus(mine, other)
            reasons += [reason] * self.size
        first = self.accelerator.process_index * len(completions)
        here = slice(first, first + len(completions))
        for reason in self.left_out:
            share = reasons[here].count(reason) / len(completions)
            log_metric(f"left_out/{reason}", share)
        return every[here]


class TemporalBonus(ControlBonus):
    """T-GRPO: does the order of the frames help? See ``rewards.trl.tgrpo_bonus``."""

    __name__ = "temporal"

    def video(self, step: int) -> VideoSettings:
        """The frames in another order at each step."""
        return dataclasses.replace(self.source.video, shuffle=step + 1)

    def bonus(self, own: Sequence[Reply], control: Sequence[Reply]) -> list[float]:
        """Paid to right answers if ordered frames beat shuffled ones."""
        ordered, shuffled = ([reply.task for reply in side] for side in (own, control))
        return tgrpo_bonus(ordered, shuffled, self.value).tolist()


class CounterfactualBonus(ControlBonus):
    """Does the answer change with the room? See ``rewards.counterfactual``.

    The control is shown the next room in order of appearance, as under the condition
    ``other`` of evaluation, in which the question has another answer.
    """

    __name__ = "counterfactual"
    left_out = ("no_video", *BEYOND_MAPS, "no_other_answer")

    def join(self, source: RowSource, accelerator: Any) -> None:
        """As of ``ControlBonus``; the rows' rooms are counted.

        Raises
        ------
        SpacerError
            If fewer than two rooms have a video and a map.
        """
        super().join(source, accelerator)
        mapped = [n for n, row in enumerate(source.rows) if row.get("map")]
        first = first_of_spaces([source.rows[n] for n in mapped], "video")
        self.rooms = {space: mapped[place] for space, place in first.items()}
        self._found = functools.lru_cache(KEPT)(self._look)
        if len(self.rooms) < 2:
            raise SpacerError(
                "setting advanced.counterfactual_bonus",
                kind="training.one-room",
                got=f"{len(self.rooms)} rooms with video and map",
                expected="two or more",
                remedy="train on more rooms, or set it to 0",
            )

    def shown(self, number: int) -> Shown:
        """The question in another room, with that room's video, map and true answer."""
        return self._found(number, len(self.source.broken))

    def _look(self, number: int, broken: int) -> Shown:
        """``broken`` is there for the cache: a room whose video broke is passed by."""
        row = self.source.row(number)
        if not row.get("video"):
            return Shown(row, "no_video")
        reason = "not_in_map"
        if row.get("question_type"):
            reason = answer_from_map(row, None).reason or ""
        if reason in BEYOND_MAPS:
            return Shown(row, reason)
        for other in self._rooms_after(row):
            truth = truth_elsewhere(row, other["map"])
            if truth is not None and differs(row, truth):
                place = {key: other[key] for key in ("scene_name", "video", "map")}
                return Shown(cast(Question, {**row, **place, "ground_truth": truth}))
        return Shown(row, "no_other_answer")

    def _rooms_after(self, row: Question) -> Iterator[Question]:
        """A row of each other room, the next one first."""
        own, spaces = space_of(row["scene_name"] or ""), list(self.rooms)
        start = spaces.index(own) if own in self.rooms else 0
        for space in spaces[start:] + spaces[:start]:
            number = self.rooms[space]
            if space != own and number not in self.source.broken:
                yield self.source.rows[number]

    def bonus(self, own: Sequence[Reply], control: Sequence[Reply]) -> list[float]:
        """Of each answer, the mean over the control's."""
        return [
            self.value
            * statistics.fmean(
                paid(mine.task, mine.answer, other.answer, mine.shown.row).score or 0.0
                for other in control
            )
            for mine in own
        ]


def control_bonus(config: TrainConfig) -> ControlBonus | None:
    """The component that a recipe switches on, if any."""
    advanced = config.advanced
    for kind, value in (
        (TemporalBonus, advanced.temporal_bonus),
        (CounterfactualBonus, advanced.counterfactual_bonus),
    ):
        if value:
            return kind(config.reward, value, config.num_generations)
    return None
