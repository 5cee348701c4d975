"""A second reader for outputs that the strict rule could not read; off by default.

Another model is shown the question, the options and the output, and names the answer
that the output gives. What it reads is kept beside the score (``fallback_extracted``,
``fallback_score``). It replaces the score only if the run says ``strict+fallback``.
"""

import contextlib
from collections.abc import Sequence
from typing import Any, cast

from spacer_lib.artifacts import PathLike
from spacer_lib.benchmarks.rules import strict
from spacer_lib.evaluation.ask import Journal, ask, row_hashes
from spacer_lib.evaluation.backends import Backend
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.rows import Prediction, Question

MOST_CHARACTERS = 8000  # the end of an output: answers come last
MOST_TOKENS = 16


class _Reading(PromptStyle):
    """Puts the row as something to read, not to answer."""

    def messages(self, row: Any) -> list[dict[str, Any]]:
        options = "\n".join(["Options:", *row["options"]]) if row["options"] else ""
        wanted = "the letter of the option" if options else "the answer"
        if row["problem_type"] in ("numerical", "regression"):
            wanted = "the number in digits"
        parts = [
            "Below are a question and somebody's reply. Do not answer the question.",
            f"Question: {row['question']}",
            options,
            f"Reply:\n{row['output'][-MOST_CHARACTERS:]}",
            f"Which answer does the reply settle on? Write {wanted} and nothing else; "
            "write NONE if the reply settles on none.",
        ]
        text = "\n\n".join(filter(None, parts))
        return [{"role": "user", "content": [{"type": "text", "text": text}]}]


def read_again(
    records: Sequence[Prediction],
    rows: Sequence[Question],
    backend: Backend,
    path: PathLike,
    *,
    mixed: bool = False,
) -> list[Prediction]:
    """Let a backend read the outputs that the rule did not read.

    Parameters
    ----------
    records : list of Prediction
        Of ``runner.run``.
    rows : list of Question
        Theirs, in the same order.
    backend : Backend
    path : path
        Journal of what the backend said, so that nothing is asked twice.
    mixed : bool
        Let what was read count: the prediction's ``score`` and ``extracted`` become
        the fallback's, and its ``failure`` moves to ``strict_failure``.

    Returns
    -------
    list of Prediction
        Those with an output and without an answer now have ``fallback_by``,
        ``fallback_prediction``, ``fallback_extracted`` and ``fallback_score``.
    """
    unread = [
        cast(
            Question,
            {**row, "video": None, "image": None, "output": record["prediction"]},
        )
        for record, row in zip(records, rows, strict=True)
        if record["failure"] and record["prediction"].strip()
    ]
    settings = AskSettings(_Reading("direct"), max_new_tokens=MOST_TOKENS)
    journal = Journal(path, row_hashes(unread, backend, settings), fresh=True)
    with contextlib.closing(ask(unread, backend, settings, journal)) as answered:
        for row, (reply,) in answered:
            journal.add({"id": row["id"], "text": reply.text, "by": backend.name})
    asked = {row["id"]: row for row in unread}
    return [
        _read(record, journal.done[record["id"]], asked[record["id"]], mixed)
        if record["id"] in asked
        else record
        for record in records
    ]


def _read(
    record: Prediction, said: dict[str, Any], row: Question, mixed: bool
) -> Prediction:
    text = said["text"]
    none = text is None or text.strip().upper().rstrip(".") == "NONE"
    verdict = strict("" if none else text, row)
    made: dict[str, Any] = {
        **record,
        "fallback_by": said["by"],
        "fallback_prediction": text,
        "fallback_extracted": verdict.answer,
        "fallback_score": verdict.score,
    }
    if mixed and verdict.answer is not None:
        made.update(score=verdict.score, extracted=verdict.answer, failure=None)
        made["strict_failure"] = record["failure"]
    return cast(Prediction, made)
