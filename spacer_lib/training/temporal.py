"""T-GRPO's extra reward: does the order of the frames help the answer?

Source: Video-R1 (arXiv 2503.21776) §3; SpaceR's script switches it on, its paper does
not mention it.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score_batch
from spacer_lib.rewards.trl import tgrpo_bonus
from spacer_lib.rows import Question


class TemporalBonus:
    """T-GRPO's reward component, ``temporal``: see ``rewards.trl.tgrpo_bonus``.

    Parameters
    ----------
    config : RewardConfig
    value : float
        The bonus.
    size : int
        Completions of a group.

    Attributes
    ----------
    accelerator : accelerate.Accelerator
        Set by the trainer: a group may lie on several ranks.
    """

    __name__ = "temporal"

    def __init__(self, config: RewardConfig, value: float, size: int) -> None:
        self.config, self.value, self.size = config, value, size
        self.accelerator: Any = None

    def __call__(
        self,
        completions: Sequence[Sequence[dict[str, str]]],
        *,
        shuffled: np.ndarray,
        **columns: Any,
    ) -> list[float]:
        """The bonus of each of this rank's completions.

        Parameters
        ----------
        completions : list of chats
        shuffled : (groups, G / 2) array of float
            ``control_rewards`` of all ranks.
        **columns
            Of the rows, as lists; other arguments are ignored.
        """
        columns = {k: v for k, v in columns.items() if isinstance(v, list)}
        rows = [
            cast(Question, dict(zip(columns, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ]
        texts = [completion[0]["content"] for completion in completions]
        scored = score_batch(texts, rows, self.config)
        task = torch.tensor([b.task for b in scored], device=self.accelerator.device)
        groups = self.accelerator.gather(task).cpu().numpy().reshape(-1, self.size)
        bonus = [
            np.zeros(self.size)
            if np.isnan(control).any()
            else tgrpo_bonus(ordered, control, self.value)
            for ordered, control in zip(groups, shuffled, strict=True)
        ]
        first = self.accelerator.process_index * len(completions)
        return np.concatenate(bonus)[first : first + len(completions)].tolist()

    def control_rewards(
        self, texts: Sequence[str], rows: Sequence[Question]
    ) -> list[float]:
        """Task rewards of answers to shuffled frames; NaN for rows without a video."""
        scored = score_batch(texts, rows, self.config)
        return [
            b.task if row.get("video") else float("nan")
            for b, row in zip(scored, rows, strict=True)
        ]
