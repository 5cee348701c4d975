"""One function over many items: here, in a pool of processes, or on a Dask cluster.

Results arrive as they are done. Callers write each result under its item's name, so
the order of arrival changes no output.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tqdm.auto import tqdm

from spacer_lib.errors import SpacerError

T = TypeVar("T")
R = TypeVar("R")


def die_with_parent(parent: int | None = None) -> None:
    """In a child: a SIGTERM when the process that started it ends, however it ends.

    Parameters
    ----------
    parent : int, optional
        The process id of that process; multiprocessing's children know it themselves.
        A parent that has already ended sends no signal, so the id is compared.
    """
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if parent is None and (started_by := multiprocessing.parent_process()):
        parent = started_by.pid
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """A progress bar that obeys ``TQDM_DISABLE`` in notebooks too."""
    quiet = os.environ.get("TQDM_DISABLE") == "1"
    return tqdm(items, desc=what, total=total, disable=quiet)


def each(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = 1,
    client: Any = None,
    what: str = "jobs",
) -> Iterator[tuple[T, R]]:
    """Yield ``(item, result)`` for every item, as they are done.

    Parameters
    ----------
    function : callable
        Of one item; importable by name where other processes run it.
    items : iterable
    workers : int
        Processes of this machine; 1 stays in this process.
    client : dask.distributed.Client, optional
        A cluster to run on instead; it needs this package and the same folders.
    what : str
        Title of the progress bar.

    Raises
    ------
    SpacerError
        What ``function`` raised for the first item that failed, or that a worker
        process died. Items under way are finished, the others dropped.
    """
    items = list(items)
    if workers < 1:
        raise SpacerError(
            "workers", kind="jobs.workers", got=workers, expected="1 or more"
        )
    if client is None and (workers == 1 or len(items) < 2):
        for item in progress(items, what):
            yield item, function(item)
        return
    if client is not None:
        executor = client.get_executor(pure=False)
    else:
        # Not fork: Open3D and OpenCV have threads running by now.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(
            min(workers, len(items)), mp_context=context, initializer=die_with_parent
        )
    with executor:
        futures = {executor.submit(function, item): item for item in items}
        try:
            for future in progress(as_completed(futures), what, len(items)):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise SpacerError(
                f"{what}: a worker process died",
                kind="jobs.worker-died",
                got=error,
                remedy="start again (what is done is kept), with fewer workers if "
                "memory ran out",
            ) from error
        finally:
            for future in futures:
                future.cancel()
