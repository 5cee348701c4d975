"""One backend made of several processes, such as one for each GPU.

``Workers`` is a backend like the others: ``run`` asks it, and alone writes the folder.
Rows go out in whole batches, each to the next process that is free, so that every
batch is the one that a single process would make of them.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, cast

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent
from spacer_lib.language.asking import AskSettings
from spacer_lib.rows import Question

# A process imports torch or vLLM once it knows its GPU.
if TYPE_CHECKING:
    from spacer_lib.evaluation.backends import Backend
    from spacer_lib.evaluation.replies import Replies

BACKENDS = ("auto", "transformers", "vllm")
END_S = 10  # what a process gets to end by itself


# ---------------------------------------------------------------- the choice


def choose_backend(asked: str, positions: str | None, gpus: int) -> tuple[str, str]:
    """``(name, reason)``: what runs a checkpoint, and why, in one line.

    Parameters
    ----------
    asked : str
        One of ``BACKENDS``. ``auto`` is vLLM where it can give the model's answers.
    positions : str or None
        See ``models.checkpoints.adapt``.
    gpus : int
        Visible ones.

    Raises
    ------
    SpacerError
        For an unknown name.
    """
    if asked not in BACKENDS:
        raise SpacerError(
            "backend",
            kind="evaluation.unknown-backend",
            got=asked,
            expected=", ".join(BACKENDS),
        )
    if asked != "auto":
        return asked, "asked for"
    if importlib.util.find_spec("vllm") is None:
        return "transformers", "vLLM is not installed"
    if positions == "library":
        return "transformers", "vLLM numbers positions by the rule original alone"
    if not gpus:
        return "transformers", "vLLM is installed, but there is no GPU"
    return "vllm", "it is installed, and batches continuously"


def open_model(
    name: str, checkpoint: PathLike, positions: str | None, frames: int
) -> "Backend":
    """A checkpoint under the backend ``name`` of ``choose_backend``.

    Parameters
    ----------
    name : str
    checkpoint : path or str
    positions : str or None
        Of ``transformers``.
    frames : int
        Images that a prompt may hold, of ``vllm``.

    Raises
    ------
    SpacerError
        If the checkpoint or vLLM is missing.
    """
    if name == "vllm":
        from spacer_lib.evaluation.offline_vllm import OfflineVllm

        return OfflineVllm(checkpoint, frames=frames)
    from spacer_lib.evaluation.backends import LocalModel, load

    return LocalModel(*load(checkpoint, positions), name=str(checkpoint))


def devices_of(workers: int, gpus: int) -> list[str | None]:
    """The GPU of each process, as ``CUDA_VISIBLE_DEVICES`` names it; ``None``: a CPU.

    Parameters
    ----------
    workers : int
    gpus : int
        Visible ones.

    Raises
    ------
    SpacerError
        If there are GPUs, but fewer than processes.
    """
    if not gpus:
        return [None] * workers
    if workers > gpus:
        raise SpacerError(
            "--workers",
            kind="evaluation.too-few-gpus",
            got=workers,
            expected=f"at most {gpus}, the visible GPUs",
            remedy=f"pass --workers {gpus}, or check CUDA_VISIBLE_DEVICES",
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(gpus)))
    return list(names[:workers])


# ---------------------------------------------------------------- a process


@dataclass(frozen=True)
class _Task:
    """Rows for one process, with what ``Backend.ask`` takes beside them."""

    rows: Sequence[Question]
    settings: AskSettings
    prefixes: Sequence[str] | None
    blind: bool


def _serve(
    make: "Callable[[], Backend]", device: str | None, connection: Connection
) -> None:
    """A process: open the model, say what it is, answer tasks until ``None`` comes.

    Sends ``("ready", ...)``, ``("reply", (index, Reply))``, ``("done", None)``, or
    ``("refused", SpacerError)``. Any other error ends it with its traceback.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before CUDA starts
    try:
        backend = make()
        ready = backend.name, backend.batched, backend.identity()
        connection.send(("ready", ready))
        while (task := connection.recv()) is not None:
            answers = backend.ask(
                task.rows, task.settings, prefixes=task.prefixes, blind=task.blind
            )
            for answer in answers:
                connection.send(("reply", answer))
            connection.send(("done", None))
    except SpacerError as error:
        connection.send(("refused", error))


class Workers:
    """A backend whose rows are answered by several processes.

    Use it as a context manager: the processes end with the block.

    Parameters
    ----------
    make : callable
        Opens the backend, in each process; importable by name, as
        ``functools.partial(open_model, ...)`` is.
    devices : list of str or None
        Of ``devices_of``: one process for each.

    Raises
    ------
    SpacerError
        What ``make`` raised; also if a process ends, or if the processes hold
        different models.
    """

    def __init__(
        self, make: "Callable[[], Backend]", devices: Sequence[str | None]
    ) -> None:
        # Not fork: the model's libraries have threads running by now.
        context = multiprocessing.get_context("spawn")
        self.devices = list(devices)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for device in devices:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(make, device, there))
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            found = [self._receive(pipe)[1] for pipe in self._pipes]
            if any(one != found[0] for one in found):
                raise SpacerError(
                    "worker processes",
                    kind="evaluation.unequal-workers",
                    got=f"{len(found)} different models or versions",
                    expected="the same checkpoint in all",
                    remedy="do not change the checkpoint while processes start",
                )
            stack.pop_all()
        self.name, self.batched, self._identity = found[0]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):  # that process has ended
                pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(0 if process.exitcode is not None else END_S)
            if process.exitcode is None:
                process.kill()
                process.join()

    def identity(self) -> dict[str, Any]:
        """What one process says; the number of processes changes no answer."""
        return dict(self._identity)

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> "Replies":
        """Yield replies as they come; a process that is free gets the next batch.

        Raises
        ------
        SpacerError
            What a process raised, or that it ended.
        """
        size = self._share(len(rows), settings)
        tasks = iter(
            (start, _Task(rows[part], settings, prefixes and prefixes[part], blind))
            for start in range(0, len(rows), size)
            for part in [slice(start, start + size)]
        )
        starts: dict[Connection, int] = {}
        for pipe in self._pipes:
            self._give(pipe, tasks, starts)
        finished = False
        try:
            while starts:
                for ready in wait(list(starts)):
                    pipe = cast(Connection, ready)
                    what, answer = self._receive(pipe)
                    if what == "reply":
                        yield starts[pipe] + answer[0], answer[1]
                    else:
                        self._give(pipe, tasks, starts)
            finished = True
        finally:
            if not finished:  # rows under way are of no use to anyone now
                for process in self._processes:
                    process.kill()

    def _share(self, count: int, settings: AskSettings) -> int:
        """Rows of a task: a batch, or what vLLM can have under way."""
        if self.batched:
            return settings.batch_size
        from spacer_lib.evaluation.offline_vllm import IN_FLIGHT

        return max(1, min(IN_FLIGHT, -(-count // len(self._pipes))))

    def _give(
        self,
        pipe: Connection,
        tasks: Iterator[tuple[int, _Task]],
        starts: dict[Connection, int],
    ) -> None:
        """Send the next task to a process, or none if all are given away."""
        starts.pop(pipe, None)
        start, task = next(tasks, (None, None))
        if start is None:
            return
        starts[pipe] = start
        try:
            pipe.send(task)
        except OSError as error:
            raise self._lost(pipe) from error

    def _receive(self, pipe: Connection) -> tuple[str, Any]:
        """The next message of a process."""
        try:
            what, content = pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._lost(pipe) from error
        if what == "refused":
            raise content
        return what, content

    def _lost(self, pipe: Connection) -> SpacerError:
        """The error about a process that ended."""
        number = self._pipes.index(pipe)
        process, device = self._processes[number], self.devices[number]
        process.join(END_S)
        code = process.exitcode or 0
        ended = f"exit status {code}; its traceback stands above"
        if code < 0:
            ended = f"killed by {signal.Signals(-code).name}"
        where = "" if device is None else f" on GPU {device}"
        return SpacerError(
            f"process {number} of {len(self._pipes)}{where} ended",
            kind="evaluation.worker-died",
            got=ended,
            remedy="the same command goes on from the answers that are kept; use "
            "fewer --workers if memory ran out",
        )
