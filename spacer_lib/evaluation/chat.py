"""Any server with OpenAI's chat completions: rows as requests, replies as answers.

OpenAI and Gemini take images, so that a video is sent as its frames
(``VideoSettings(as_images=True)``). vLLM and ``spacer serve`` also take a video: one
``video_url`` of the form ``data:video/jpeg;base64,<frame>,<frame>…``. The places of the
frames, from which the model knows the time, are in ``media_io_kwargs``.
"""

import asyncio
import json
import os
import queue
import random
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import media_failure
from spacer_lib.evaluation.outcomes import Outcome, read_reply
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.inputs import MediaError
from spacer_lib.models.requests import chat_request
from spacer_lib.rows import Question

# This many failed or refused requests before a first answer: the fault is not in single
# rows. A run with fewer failures always goes on to its last row.
MANY = 5
PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a second attempt, and at most
Job = tuple[int, Question, str]  # (index, row, prefix)


@dataclass
class Endpoint:
    """A server's chat completions, several requests at a time.

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
    deadline : float
        Seconds for one row, all attempts together.
    retries : int
        Further attempts at a row, with growing pauses. Until the server has answered
        once, only the first rows get them.
    max_reply_bytes : int
        Most bytes of one reply, decompressed.
    max_failed : float
        Share of the rows; more failures stop the run.
    form : str
        ``png`` (exactly what a model in this process would see) or ``jpeg``.
    multiple : int
        See ``models.inputs.fit_pixels``.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 4
    deadline: float = 300.0
    retries: int = 4
    max_reply_bytes: int = 8 * 2**20
    max_failed: float = 0.1
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
        self._address = f"{self.url}/chat/completions"
        try:
            httpx.URL(self._address)
        except httpx.InvalidURL as error:
            raise SpacerError(
                "endpoint", kind="evaluation.bad-address", got=error
            ) from error
        self._key = (os.environ.get(self.key_variable) or "none").strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise SpacerError(
                f"${self.key_variable}",
                kind="evaluation.key-refused",
                got="characters that no header can hold",
                expected="a key",
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
        """Yield answers and refusals as they come in.

        If the server refuses a request because of its content, the row fails
        (``request_failed: <status>``). A request that fails in another way is sent
        again; if that does not help, its row is not yielded. The error that ends the
        run then counts such rows.

        Raises
        ------
        SpacerError
            If the server cannot be asked, too many requests fail, or rows are left
            without an answer at the end.
        """
        starts = prefixes or [""] * len(rows)
        jobs = list(zip(range(len(rows)), rows, starts, strict=True))
        tally = _Tally(self, len(rows))
        feed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        reader = ThreadPoolExecutor(1)  # the cache of frames is for one thread
        ended = threading.Event()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asking = asyncio.run_coroutine_threadsafe(
            self._ask_all(jobs, settings, blind, reader, tally, feed, ended), loop
        )
        asking.add_done_callback(lambda _: feed.put(None))
        try:
            while (item := feed.get()) is not None:
                yield from tally.count(*item)
            asking.result()
            yield from tally.close()
        finally:
            # Requests under way are dropped at once, however long they would take.
            asking.cancel()
            ended.wait(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            reader.shutdown(wait=False, cancel_futures=True)

    async def _ask_all(
        self,
        jobs: list[Job],
        settings: AskSettings,
        blind: bool,
        reader: ThreadPoolExecutor,
        tally: "_Tally",
        feed: "queue.SimpleQueue[Any]",
        ended: threading.Event,
    ) -> None:
        """Put ``(index, outcome)`` of each job into the feed."""
        waiting = iter(jobs)
        client = httpx.AsyncClient(
            timeout=None, limits=httpx.Limits(max_connections=None)
        )

        async def work() -> None:
            for index, row, prefix in waiting:
                made = await self._body(row, settings, prefix, blind, reader)
                if isinstance(made, bytes):
                    made = await self._persist(client, made, prefix, tally)
                feed.put((index, made))

        workers = [asyncio.ensure_future(work()) for _ in range(self.concurrency)]
        try:
            async with client:
                await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            ended.set()

    async def _body(
        self,
        row: Question,
        settings: AskSettings,
        prefix: str,
        blind: bool,
        reader: ThreadPoolExecutor,
    ) -> bytes | Outcome:
        """A row as the bytes of a request, or why it cannot be one."""

        def build() -> bytes:
            body = chat_request(
                row,
                settings,
                blind=blind,
                prefix=prefix,
                form=self.form,
                multiple=self.multiple,
            )
            body.update(
                model=self.model,
                max_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
            )
            if settings.temperature > 0:
                body["seed"] = int(keyed(settings.seed, row["id"]).integers(2**31))
            return json.dumps(body).encode()

        try:
            return await asyncio.get_running_loop().run_in_executor(reader, build)
        except MediaError as error:
            return Outcome(
                "refusal", Reply(failure=media_failure(error.source)), "media"
            )

    async def _persist(
        self, client: httpx.AsyncClient, body: bytes, prefix: str, tally: "_Tally"
    ) -> Outcome:
        """Send a request until it is answered or refused, or may not be sent again."""
        last = Outcome("retryable", None, "reply", "nothing", "a chat completion")
        try:
            async with asyncio.timeout(self.deadline):
                for attempt in range(self.retries + 1):
                    last = await self._send(client, body, prefix)
                    if last.reply is not None or attempt == self.retries or tally.dead:
                        break
                    pause = min(LONGEST_PAUSE, PAUSE * 2**attempt)
                    pause *= random.uniform(0.75, 1)
                    await asyncio.sleep(pause if last.wait is None else last.wait)
        except TimeoutError:
            got = f"none within {self.deadline:g} s; before that: {last.got}"
            return Outcome("retryable", None, "reply", got, "a chat completion")
        return last

    async def _send(
        self, client: httpx.AsyncClient, body: bytes, prefix: str
    ) -> Outcome:
        """One request, its reply read up to ``max_reply_bytes``."""
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
        }
        content = bytearray()
        try:
            async with client.stream(
                "POST", self._address, content=body, headers=headers
            ) as got:
                coding = got.headers.get("content-encoding", "identity").lower()
                if coding not in ("identity", "gzip"):
                    return Outcome("broken", None, "content-encoding", coding, "gzip")
                unpacker = zlib.decompressobj(31) if coding == "gzip" else None
                async for piece in got.aiter_raw():
                    if unpacker:  # never more at once than may still come
                        room = self.max_reply_bytes + 1 - len(content)
                        piece = unpacker.decompress(piece, room)
                    if len(content) + len(piece) > self.max_reply_bytes:
                        size = f"more than {self.max_reply_bytes} bytes"
                        return Outcome("broken", None, "body", size, "a shorter reply")
                    content += piece
        except zlib.error as error:
            return Outcome("broken", None, "body", str(error), "gzip")
        except (httpx.RequestError, httpx.InvalidURL) as error:
            said = self._without_key(f"{type(error).__name__} {error}".strip())
            return Outcome("retryable", None, "connection", said, "a reply")
        try:
            outcome = read_reply(got.status_code, got.headers, bytes(content), prefix)
        except SpacerError as error:
            remedy = str(error.remedy).format(key_variable=self.key_variable)
            raise self._problem(error.kind, "status", error.got, 200, remedy) from error
        return outcome

    def _without_key(self, text: object) -> str:
        line = str(text)
        return line.replace(self._key, "…") if self._key != "none" else line

    def _problem(
        self, kind: str, name: str, got: object, expected: object, remedy: str = ""
    ) -> SpacerError:
        """The error that stops a run, in one line and without the key."""
        again = "run the same command again: answered rows are kept"
        return SpacerError(
            f"{self.name} cannot be asked: {name}",
            kind=kind,
            got=self._without_key(got)[:300],
            expected=expected,
            remedy=f"{remedy}, then {again}" if remedy else again,
        )


@dataclass
class _Tally:
    """Counts outcomes, holds refusals back until an answer came, and stops a run."""

    endpoint: Endpoint
    rows: int
    answered: bool = False
    held: list[tuple[int, Outcome]] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)

    @property
    def dead(self) -> bool:
        """Whether requests failed and none was answered: patience is of no use."""
        return bool(self.failed) and not self.answered

    def count(self, index: int, outcome: Outcome) -> Iterator[tuple[int, Reply]]:
        """Yield what this outcome makes ready.

        Raises
        ------
        SpacerError
            If the run must stop.
        """
        if outcome.reply is None:
            self.failed.append(outcome)
            share = self.endpoint.max_failed * self.rows
            many = len(self.failed) >= MANY
            if many and (not self.answered or len(self.failed) > share):
                raise self._problem(outcome, f"{len(self.failed)} requests failed")
            return
        if outcome.field == "status" and not self.answered:
            self.held.append((index, outcome))
            if len(self.held) >= MANY:
                raise self._problem(outcome, f"{len(self.held)} requests were refused")
            return
        if not outcome.field:  # the model spoke
            self.answered = True
            yield from self._release()
        yield index, outcome.reply

    def close(self) -> Iterator[tuple[int, Reply]]:
        """Yield what was held back.

        Raises
        ------
        SpacerError
            If rows were not answered.
        """
        if self.failed:
            missing = f"{len(self.failed)} of {self.rows} rows are not answered"
            raise self._problem(self.failed[-1], missing)
        yield from self._release()

    def _release(self) -> Iterator[tuple[int, Reply]]:
        held, self.held = self.held, []
        for index, outcome in held:
            if outcome.reply is not None:
                yield index, outcome.reply

    def _problem(self, outcome: Outcome, count: str) -> SpacerError:
        broken = outcome.kind == "broken"
        return self.endpoint._problem(
            "evaluation.no-chat-completions"
            if broken
            else "evaluation.endpoint-failed",
            f"{count}; {outcome.field}",
            outcome.got,
            outcome.expected,
            "check the address" if broken and not self.answered else "",
        )
