"""A second reader for outputs that the strict rule could not read: off by default.

Another model is shown the question, the options and the output, and names the answer
that the output gives. What it reads stands apart from the score
(``fallback_extracted``, ``fallback_score``) and moves into it only if the run says
``strict+fallback``.
"""

from spacer_lib.artifacts import append_jsonl, resume_journal
from spacer_lib.benchmarks.rules import strict
from spacer_lib.evaluation.backends import AskSettings

MOST_CHARACTERS = 8000  # the end of an output: answers come last
MOST_TOKENS = 16


class _Reading:
    """A prompt style: the row as something to read, not to answer."""

    @staticmethod
    def messages(row):
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


def read_again(records, rows, backend, journal, *, mixed=False):
    """Let a backend read the outputs that the rule did not.

    Parameters
    ----------
    records : list of dict
        Of ``runner.run``.
    rows : list of dict
        Theirs, in the same order.
    backend : Backend
    journal : path
        What it said, a line as soon as it is there; read first, so that nothing is
        asked twice.
    mixed : bool
        Let what was read count: the record's ``score`` and ``extracted`` become the
        fallback's, and its ``failure`` moves to ``strict_failure``.

    Returns
    -------
    list of dict
        The records; those without an answer and with an output now with
        ``fallback_by``, ``fallback_prediction``, ``fallback_extracted`` and
        ``fallback_score``.
    """
    unread = [
        {**row, "video": None, "image": None, "output": record["prediction"]}
        for record, row in zip(records, rows, strict=True)
        if record["failure"] and record["prediction"].strip()
    ]
    said = {
        line["id"]: line["text"]
        for line in resume_journal(journal)
        if line["by"] == backend.name
    }
    waiting = [row for row in unread if row["id"] not in said]
    settings = AskSettings(_Reading, max_new_tokens=MOST_TOKENS)
    for i, reply in backend.ask(waiting, settings):
        name = waiting[i]["id"]
        said[name] = reply.text
        line = {"id": name, "text": reply.text, "by": backend.name}
        append_jsonl(journal, [line], sync=True)
    asked = {row["id"]: row for row in unread}
    return [
        _read(record, said[record["id"]], asked[record["id"]], backend.name, mixed)
        if record["id"] in asked
        else record
        for record in records
    ]


def _read(record, text, row, by, mixed):
    none = text is None or text.strip().upper().rstrip(".") == "NONE"
    verdict = strict("" if none else text, row)
    made = {
        **record,
        "fallback_by": by,
        "fallback_prediction": text,
        "fallback_extracted": verdict.answer,
        "fallback_score": verdict.score,
    }
    if mixed and verdict.answer is not None:
        made.update(score=verdict.score, extracted=verdict.answer, failure=None)
        made["strict_failure"] = record["failure"]
    return made
