"""Sample selection before training: which questions still divide the model's answers.

A group whose answers are all right, or all wrong, has no advantage and teaches
nothing. So every row is answered ``k`` times, the answers are scored, and such rows
are left out.

Source: SpaceR §5.2 (8 responses a sample from the base model; all-right and all-wrong
samples dropped).
"""

import sys
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from spacer_lib.artifacts import (
    append_jsonl,
    config_hash,
    make_folder,
    resume_journal,
)
from spacer_lib.errors import SpacerError
from spacer_lib.models.generation import generate, weights_fingerprint
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score_batch
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.views import VIEWS


def select_samples(
    model,
    processor,
    rows,
    out_path,
    *,
    mode,
    k=8,
    video=None,
    max_new_tokens=1024,
    temperature=1.0,
    top_p=1.0,
    batch_rows=4,
    seed=0,
    rewards=None,
):
    """Answer every row ``k`` times and score the answers; goes on where it stopped.

    Parameters
    ----------
    model, processor
        Of the checkpoint that training will start from.
    rows : list of dict
        Question rows with unlike ids.
    out_path : path
        JSON lines, appended after each batch. Rows found there are not answered
        again.
    mode : str or PromptStyle
    k : int
        Responses a row. Paper: 8.
    video : VideoSettings, optional
    max_new_tokens, temperature, top_p
        Of sampling. Paper's rollouts: 1024 tokens, temperature 1; script: top_p 0.95.
    batch_rows : int
        Rows answered at once; ``k`` times as many sequences.
    rewards : RewardConfig, optional

    Returns
    -------
    list of dict
        In the order of ``rows``: ``id``, ``scores`` (k task rewards in [0, 1]),
        ``responses`` (k texts), ``config``.

    Raises
    ------
    SpacerError
        If an id occurs twice, or ``out_path`` holds a row that another model, other
        settings or another question answered.
    """
    twice = [name for name, n in Counter(row["id"] for row in rows).items() if n > 1]
    if twice:
        raise SpacerError("rows to select from", got=f"id {twice[0]} twice")
    video, rewards = video or VideoSettings(), rewards or RewardConfig()
    sampling = dict(
        mode=mode,
        video=video,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    # A drawn room's video is made anew each time, so its camera is a setting too.
    settings = [sampling, k, batch_rows, rewards, weights_fingerprint(model), VIEWS]
    common = config_hash(settings)
    hashes = {row["id"]: config_hash([common, row]) for row in rows}
    out_path = Path(out_path)
    make_folder(out_path.parent)
    done = _finished(out_path, hashes)
    starts = range(0, len(rows), batch_rows)
    quiet = not sys.stderr.isatty()
    for start in tqdm(starts, desc="selection", unit="batch", disable=quiet):
        # Whole batches: seeds and padding are theirs.
        batch = rows[start : start + batch_rows]
        missing = [row["id"] for row in batch if row["id"] not in done]
        if not missing:
            continue
        asked = [row for row in batch for _ in range(k)]
        texts = generate(model, processor, asked, batch_size=len(asked), **sampling)
        scores = [b.task for b in score_batch(texts, asked, rewards)]
        made = [
            {
                "id": row["id"],
                "scores": scores[i * k : (i + 1) * k],
                "responses": texts[i * k : (i + 1) * k],
                "config": hashes[row["id"]],
            }
            for i, row in enumerate(batch)
        ]
        new = [record for record in made if record["id"] in missing]
        append_jsonl(out_path, new)
        done.update((record["id"], record) for record in new)
    return [done[row["id"]] for row in rows]


def _finished(path, hashes):
    """Records of an earlier call by id; a last line that was cut off is removed."""
    done = {record["id"]: record for record in resume_journal(path)}
    for name, record in done.items():
        if record["config"] != hashes.get(name, record["config"]):
            raise SpacerError(
                f"{path} holds answers of another model, other settings or another "
                "question",
                got=f"{record['config']} for {name}",
                expected=hashes[name],
                remedy="choose another file, or delete this one",
            )
    return done


def keep_informative(rows, scores):
    """Drop the rows whose answers are all right or all wrong.

    Parameters
    ----------
    rows : list of dict
    scores : list of list of float
        Task rewards of each row's k answers: 1 is right, 0 wrong. Numbers between
        are partly right, and keep their row.

    Returns
    -------
    kept : list of dict
    histogram : dict
        ``{answers that were right, 0 … k: rows}`` over all rows, dropped or not.

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
            got=f"{len(scores)} groups of {sorted(sizes)} scores",
            expected=f"{len(rows)} groups of one size",
        )
    counts = [sum(score > 1 - 1e-9 for score in group) for group in scores]
    kept = [
        row
        for row, group, right in zip(rows, scores, counts, strict=True)
        if right < len(group) and any(group)
    ]
    size = max(sizes, default=0)
    return kept, {right: counts.count(right) for right in range(size + 1)}
