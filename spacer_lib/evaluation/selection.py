"""Sample selection before training: questions that a model answers unevenly.

A group whose answers are all right, or all wrong, has no advantage and changes
nothing. So every row is answered ``k`` times, the answers are scored, and such rows
are left out.

Reads questions and a checkpoint; writes the scored responses.

Source: SpaceR §5.2 (8 responses a sample from the base model; all-right and all-wrong
samples dropped).
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.replies import Reply
from spacer_lib.language.asking import AskSettings
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score_batch
from spacer_lib.rows import Question


def select_samples(
    model: Any,
    processor: Any,
    rows: Sequence[Question],
    out_path: PathLike,
    settings: AskSettings,
    *,
    k: int = 8,
    rewards: RewardConfig | None = None,
) -> list[dict[str, Any]]:
    """Answer every row ``k`` times and score the answers; resumes.

    Parameters
    ----------
    model, processor
        Of the checkpoint that training will start from.
    rows : list of Question
        With distinct ids.
    out_path : path
        JSON lines, one appended for each row. Rows found there are not answered again.
    settings : AskSettings
        Of sampling, not greedy. Paper's rollouts: 1024 tokens, temperature 1; script:
        top_p 0.95. ``batch_size`` counts rows: ``k`` times as many sequences are
        answered at once.
    k : int
        Responses a row. Paper: 8.
    rewards : RewardConfig, optional

    Returns
    -------
    list of dict
        In the order of ``rows``: ``id``, ``scores`` (k task rewards in [0, 1]),
        ``responses`` (k texts), ``config``.

    Raises
    ------
    SpacerError
        If an id occurs twice; if ``out_path`` holds an answer of another model, of
        other settings or to another question; or if a row's media cannot be read.
    """
    # Late: these load torch, and choosing rows by their scores needs none.
    from spacer_lib.evaluation.ask import Journal, ask, row_hashes
    from spacer_lib.evaluation.backends import LocalModel

    rewards = rewards or RewardConfig()
    backend = LocalModel(model, processor, name="selection")
    journal = Journal(out_path, row_hashes(rows, backend, settings, k, rewards))
    with contextlib.closing(
        ask(rows, backend, settings, journal, samples=k)
    ) as answered:
        for row, replies in answered:
            texts = [_text(row, reply) for reply in replies]
            scored = score_batch(texts, [row] * k, rewards)
            journal.add(
                {
                    "id": row["id"],
                    "scores": [breakdown.task for breakdown in scored],
                    "responses": texts,
                }
            )
    return [journal.done[row["id"]] for row in rows]


def _text(row: Question, reply: Reply) -> str:
    if reply.text is None:
        raise SpacerError(
            f"row {row['id']} cannot be asked",
            kind="evaluation.unreadable-media",
            got=reply.failure,
            remedy="mend the file, or leave the row out",
        )
    return reply.text


def keep_informative(
    rows: Sequence[Question], scores: Sequence[Sequence[float]]
) -> tuple[list[Question], dict[int, int]]:
    """Drop the rows whose answers are all right or all wrong.

    Parameters
    ----------
    rows : list of Question
    scores : list of list of float
        Task rewards of each row's k answers: 1 is right, 0 wrong. Numbers between
        are partly right, and keep their row.

    Returns
    -------
    kept : list of Question
    histogram : dict
        ``{answers that were right, 0 … k: rows}`` over all rows, dropped or not.

    Raises
    ------
    SpacerError
        If a row has no scores or another number of them, or a score is no share.

    Examples
    --------
    >>> rows = [{"id": name} for name in "abc"]
    >>> keep_informative(rows, [[1, 1], [0, 1], [0, 0]])
    ([{'id': 'b'}], {0: 1, 1: 1, 2: 1})
    """
    sizes = {len(group) for group in scores}
    if len(rows) != len(scores) or len(sizes) > 1:
        raise SpacerError(
            "scores of rows",
            kind="evaluation.uneven-scores",
            got=f"{len(scores)} groups of {sorted(sizes)} scores",
            expected=f"{len(rows)} groups of one size",
        )
    for row, group in zip(rows, scores, strict=True):
        if not all(0 <= score <= 1 for score in group):
            raise SpacerError(
                f"scores of {row['id']}",
                kind="evaluation.score-out-of-range",
                got=list(group),
                expected="numbers from 0 to 1",
            )
    counts = [sum(score > 1 - 1e-9 for score in group) for group in scores]
    kept = [
        row
        for row, group, right in zip(rows, scores, counts, strict=True)
        if right < len(group) and any(group)
    ]
    size = max(sizes, default=0)
    return kept, {right: counts.count(right) for right in range(size + 1)}
