"""What a server's reply to one request is: the only reader of chat completions.

``answer``      the model wrote something, or nothing
``refusal``     the server or the model declines this request, and will again
``retryable``   the request failed in a way that may pass
``broken``      the reply is no chat completion

Only answers and refusals become records. A row without either stays unanswered.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.replies import Reply

# Statuses by which a server declines one request because of its content.
REFUSALS = (400, 413, 422)
# Statuses that may pass: time-outs, conflicts, limits of rate. So may all from 500 on.
PASSING = (408, 409, 425, 429)
# In vLLM's refusal of the places of frames, which it takes only if told to.
UNTRUSTING = b"media_io_kwargs are disabled"
# Parts of a message that hold thoughts, not the answer.
THOUGHTS = ("thinking", "reasoning")
SHOWN = 120  # characters of a reply that a message repeats
LONGEST_WAIT = 60.0  # seconds of Retry-After that are waited for


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Attributes
    ----------
    kind : str
        ``answer``, ``refusal``, ``retryable`` or ``broken``.
    reply : Reply, optional
        Of an answer or a refusal: what is recorded.
    field, got, expected : str
        Of the others: where the reply is not as it should be, and how. A refusal that
        is not the model's has the field ``status``, or ``media`` if no request could
        be made.
    wait : float, optional
        Seconds after which the server wants to be asked again.
    """

    kind: Literal["answer", "refusal", "retryable", "broken"]
    reply: Reply | None = None
    field: str = ""
    got: str = ""
    expected: str = ""
    wait: float | None = None


def read_reply(
    status: int, headers: Mapping[str, str], content: bytes, prefix: str = ""
) -> Outcome:
    """Judge a whole HTTP reply.

    Parameters
    ----------
    status : int
    headers : mapping
        Names in lower case, or a mapping that ignores case.
    content : bytes
        The body, decompressed.
    prefix : str
        Forced start of the answer, which the server does not repeat.

    Returns
    -------
    Outcome

    Raises
    ------
    SpacerError
        If no request of this kind can succeed: a key that is refused, a model that is
        not there, a redirect, or another status that concerns all requests.
    """
    if status == 200:
        return _read_body(content, prefix)
    got = f"{status}: {_said(content)}"
    if status in REFUSALS and UNTRUSTING not in content:
        reply = Reply(failure=f"request_failed: {status}")
        return Outcome("refusal", reply, "status", got, "200")
    if status in PASSING or status >= 500:
        return Outcome("retryable", None, "status", got, "200", _wait(headers))
    kind = "evaluation.endpoint-failed"
    remedy = "check the address"
    if UNTRUSTING in content:
        kind = "evaluation.untrusting-server"
        remedy = (
            "start vLLM with --trust-request-mm-kwargs, for the frames' places in the "
            "video are accepted, or pass --set frames_as=images"
        )
    elif status in (401, 403):
        kind = "evaluation.key-refused"
        remedy = "put a valid key into ${key_variable}"
    elif status == 404:
        kind = "evaluation.no-such-model"
        remedy = "check address and model name"
    elif 300 <= status < 400:
        got = f"{status}: a redirect to {headers.get('location', 'nowhere')}"
        remedy = "give the final address"
    raise SpacerError("status", kind=kind, got=got[:300], expected=200, remedy=remedy)


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of ``Retry-After``, if they are few enough to wait for."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:  # none, or a date
        return None
    return seconds if 0 <= seconds <= LONGEST_WAIT else None


def _said(content: bytes) -> str:
    """The message of an error's body, or its start, in one line."""
    text = content.decode(errors="replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return _brief(text)
    error = body.get("error", body) if isinstance(body, dict) else body
    return _brief(error.get("message", error) if isinstance(error, dict) else error)


def _brief(value: object) -> str:
    """A value in one printable line of at most ``SHOWN`` characters."""
    text = value if isinstance(value, str) else repr(value)
    line = "".join(c if c.isprintable() else " " for c in text[: 2 * SHOWN])
    line = " ".join(line.split()) or "nothing"
    return line if len(line) <= SHOWN else line[:SHOWN] + "…"


def _broken(field: str, got: object, expected: str) -> Outcome:
    return Outcome("broken", None, field, _brief(got), expected)


def _read_body(content: bytes, prefix: str) -> Outcome:
    """The outcome of a reply with status 200."""
    try:
        made = json.loads(content)
    # A ValueError is broken JSON, another encoding or a number of too many digits.
    except (ValueError, RecursionError):
        start = content[: 2 * SHOWN].decode(errors="replace")
        return _broken("body", start, "JSON")
    if not isinstance(made, dict):
        return _broken("body", made, "a chat completion")
    if made.get("error"):
        return Outcome("retryable", None, "error", _said(content), "choices")
    choices = made.get("choices")
    if not isinstance(choices, list) or not choices:
        got = _brief(choices) if "choices" in made else "no such field"
        return _broken("choices", got, "a list with an answer")
    choice = choices[0]
    if not isinstance(choice, dict):
        return _broken("choices[0]", choice, "an object")
    error = choice.get("error")
    if error or choice.get("finish_reason") == "error":
        return Outcome(
            "retryable", None, "choices[0].error", _brief(error), "a message"
        )
    return _read_choice(choice, _tokens(made.get("usage")), prefix)


def _read_choice(choice: dict[str, Any], tokens: int | None, prefix: str) -> Outcome:
    message = choice.get("message")
    filtered = choice.get("finish_reason") == "content_filter"
    if not isinstance(message, dict):
        if filtered:
            return Outcome("refusal", Reply(None, tokens, "refused"))
        got = message if "message" in choice else "no such field"
        return _broken("choices[0].message", got, "an object")
    if filtered or message.get("refusal"):
        return Outcome("refusal", Reply(None, tokens, "refused"))
    if "content" not in message:
        return _broken("choices[0].message.content", "no such field", "text")
    content = message["content"]
    if isinstance(content, list):
        return _read_parts(content, tokens, prefix)
    if content is not None and not isinstance(content, str):
        return _broken("choices[0].message.content", content, "text")
    return _answer(content, tokens, prefix)


def _read_parts(parts: list[Any], tokens: int | None, prefix: str) -> Outcome:
    """The outcome of content that is a list of parts: its texts, joined."""
    texts: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "refusal":
            return Outcome("refusal", Reply(None, tokens, "refused"))
        if kind in THOUGHTS:
            continue
        text = part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            return _broken("choices[0].message.content", part, "parts of type text")
        texts.append(text)
    return _answer("".join(texts) if texts else None, tokens, prefix)


def _answer(text: str | None, tokens: int | None, prefix: str) -> Outcome:
    if text is None:
        return Outcome("answer", Reply(None, tokens, "no_text"))
    return Outcome("answer", Reply(prefix + text, tokens))


def _tokens(usage: object) -> int | None:
    """The number of tokens if the server gives one: the answer stands without it."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(count, int) or isinstance(count, bool):
        return None
    return count if 0 <= count < 2**31 else None
