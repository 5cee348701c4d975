"""Any server with OpenAI's chat completions: rows as requests, replies as answers.

OpenAI and Gemini take images, so that a video is sent as its frames
(``VideoSettings(as_images=True)``). vLLM and ``spacer serve`` also take a video: one
``video_url`` of the form ``data:video/jpeg;base64,<frame>,<frame>…``. The places of the
frames, from which the model knows the time, are in ``media_io_kwargs``.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import media_failure
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import MediaError
from spacer_lib.models.requests import chat_request
from spacer_lib.rows import Question

# This many refusals before a first answer: the fault is not in single rows.
REFUSALS = 5
# In vLLM's refusal of the places of frames, which it takes only if told to.
UNTRUSTING = "media_io_kwargs are disabled"


@dataclass
class Endpoint:
    """A server's chat completions, asked from several threads.

    Attributes
    ----------
    url : str
        Such as ``http://localhost:8000`` or ``https://api.openai.com/v1``.
    model : str
        The server's name for it.
    key_variable : str
        Environment variable that holds the key; a local server needs none. The key
        itself is written nowhere.
    concurrency : int
        Requests under way at once.
    timeout, retries : float, int
        Seconds for one request, and further attempts, with growing pauses.
    form : str
        ``png`` (exactly what a model in this process would see) or ``jpeg``.
    multiple : int
        See ``models.inputs.fit_pixels``.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout: float = 300.0
    retries: int = 4
    form: str = "png"
    multiple: int = 28

    batched = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SpacerError(
                "endpoint",
                kind="evaluation.bad-address",
                got=self.url,
                expected="http://host:port, or with a path",
            )
        # Names and keys in an address are not kept: addresses are written to files.
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        self.url = urlunsplit((parts.scheme, host, path, "", ""))
        self.name = f"{self.model} at {host}"
        self._reading = threading.Lock()  # the cache of frames is for one thread
        self._client = openai.OpenAI(
            api_key=os.environ.get(self.key_variable) or "none",
            base_url=self.url,
            timeout=self.timeout,
            max_retries=self.retries,
        )

    def identity(self) -> dict[str, Any]:
        """Address, model, and how pictures are sent."""
        return {
            "backend": "endpoint",
            "url": self.url,
            "model": self.model,
            "form": self.form,
            "multiple": self.multiple,
        }

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield answers as they come in.

        If the server refuses a request because of its content, the row fails
        (``request_failed: <status>``). Any other error, such as a wrong key or no
        connection, ends the run after the requests under way.

        Raises
        ------
        SpacerError
            If the server cannot be asked.
        """
        prefixes = prefixes or [""] * len(rows)
        pool = ThreadPoolExecutor(self.concurrency)
        futures = {
            pool.submit(self._reply, row, settings, prefix, blind): i
            for i, (row, prefix) in enumerate(zip(rows, prefixes, strict=True))
        }
        problem: SpacerError | None = None
        held: list[tuple[int, openai.APIStatusError]] = []
        answered = False
        try:
            for future in as_completed(futures):
                try:
                    reply = future.result()
                except CancelledError:
                    continue
                except SpacerError as error:
                    problem = problem or error
                    for other in futures:
                        other.cancel()
                    continue
                if isinstance(reply, openai.APIStatusError):
                    held.append((futures[future], reply))
                    if not answered and len(held) >= REFUSALS:
                        raise self._problem(reply)
                else:
                    answered = answered or reply.text is not None
                    yield futures[future], reply
                if answered:
                    yield from map(_refused, held)
                    held = []
            if problem:
                raise problem
            yield from map(_refused, held)
        finally:
            pool.shutdown(cancel_futures=True)

    def _reply(
        self, row: Question, settings: AskSettings, prefix: str, blind: bool
    ) -> Any:
        """The reply to one row, or the error by which it was refused."""
        try:
            with self._reading:
                body = chat_request(
                    row,
                    settings,
                    blind=blind,
                    prefix=prefix,
                    form=self.form,
                    multiple=self.multiple,
                )
        except MediaError as error:
            return Reply(failure=media_failure(error.source))
        if settings.temperature > 0:
            body["seed"] = int(keyed(settings.seed, row["id"]).integers(2**31))
        try:
            made = self._client.chat.completions.create(
                model=self.model,
                messages=body.pop("messages"),
                max_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                extra_body=body,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if UNTRUSTING in str(error):  # no row's fault
                raise self._problem(error) from error
            return error
        except openai.APIError as error:
            if getattr(error, "status_code", None) == 413:  # too large
                return error
            raise self._problem(error) from error
        if not hasattr(made, "choices"):  # a page of something else
            raise SpacerError(
                f"{self.name} cannot be asked",
                kind="evaluation.no-chat-completions",
                got=str(made)[:80],
                expected="a chat completion",
                remedy="check the address",
            )
        return _read(made, prefix)

    def _problem(self, error: openai.APIError) -> SpacerError:
        """The error that stops a run, in one line and without the key."""
        key = os.environ.get(self.key_variable)
        said = str(error).splitlines()[0][:300]
        kind = "evaluation.endpoint-failed"
        remedy = "run the same command again: answered rows are kept"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            kind = "evaluation.key-refused"
            remedy = f"put a valid key into ${self.key_variable}, then {remedy}"
        elif UNTRUSTING in str(error):
            kind = "evaluation.untrusting-server"
            remedy = (
                "start vLLM with --trust-request-mm-kwargs, for the frames' places "
                "in the video are accepted, or pass --set frames_as=images"
            )
        elif isinstance(error, openai.NotFoundError):
            kind = "evaluation.no-such-model"
            remedy = f"check address and model name, then {remedy}"
        return SpacerError(
            f"{self.name} cannot be asked",
            kind=kind,
            got=said.replace(key, "…") if key else said,
            remedy=remedy,
        )


def _refused(pair: tuple[int, openai.APIStatusError]) -> tuple[int, Reply]:
    index, error = pair
    return index, Reply(failure=f"request_failed: {error.status_code}")


def _read(made: Any, prefix: str) -> Reply:
    tokens = made.usage.completion_tokens if made.usage else None
    if not made.choices:
        return Reply(None, tokens, "no_text")
    choice = made.choices[0]
    message = choice.message
    if choice.finish_reason == "content_filter" or getattr(message, "refusal", None):
        return Reply(None, tokens, "refused")
    if message.content is None:
        return Reply(None, tokens, "no_text")
    return Reply(prefix + message.content, tokens)
