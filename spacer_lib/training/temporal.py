"""T-GRPO's extra reward: does the order of the frames help the answer?

Source: Video-R1 (arXiv 2503.21776) §3; SpaceR's script switches it on, its paper does
not mention it.
"""

import numpy as np
import torch

from spacer_lib.rewards.score import score_batch
from spacer_lib.rewards.trl import tgrpo_bonus


class TemporalBonus:
    """T-GRPO's reward component, ``temporal``: see ``rewards.tgrpo_bonus``.

    The trainer puts the rewards of the shuffled answers into ``shuffled`` (groups,
    G / 2) before each scoring; NaN where a row has no order of frames.
    """

    __name__ = "temporal"

    def __init__(self, config, value, size):
        self.config, self.value, self.size = config, value, size
        self.shuffled, self.accelerator = None, None

    def __call__(self, completions, **columns):
        """Of this rank's completions, the bonus of each."""
        # Beside columns of the rows, TRL hands over its state and two callables.
        columns = {k: v for k, v in columns.items() if isinstance(v, list)}
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        texts = [completion[0]["content"] for completion in completions]
        scored = score_batch(texts, rows, self.config)
        task = torch.tensor([b.task for b in scored], device=self.accelerator.device)
        # A group may lie on several ranks.
        groups = self.accelerator.gather(task).cpu().numpy().reshape(-1, self.size)
        bonus = [
            np.zeros(self.size)
            if np.isnan(shuffled).any()
            else tgrpo_bonus(ordered, shuffled, self.value)
            for ordered, shuffled in zip(groups, self.shuffled, strict=True)
        ]
        first = self.accelerator.process_index * len(completions)
        return np.concatenate(bonus)[first : first + len(completions)].tolist()
