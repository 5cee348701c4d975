"""Run the numbered notebooks headless: papermill, with time and memory watched.

Departures from plain papermill: a misspelt parameter is an error (papermill only
warns), and the peak memory of the kernel and everything it starts is recorded.
"""

import difflib
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import papermill
import psutil
from jupytext.config import load_jupytext_config

from spacer_lib.artifacts import PROJECT_ROOT, atomic_path, write_text
from spacer_lib.errors import SpacerError

FOLDER = PROJECT_ROOT / "notebooks"


@dataclass(frozen=True)
class NotebookRun:
    """What one execution cost and where it lies."""

    name: str
    path: Path
    seconds: float
    peak_memory_gb: float


def names():
    """The numbered notebooks, in reading order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9]*.ipynb"))


def check_parameters(source, parameters):
    """Refuse parameter names that the notebook does not declare.

    Raises
    ------
    SpacerError
        Naming the nearest declared parameter.
    """
    declared = papermill.inspect_notebook(str(source))
    for name in parameters:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            raise SpacerError(
                f"{source.stem} has no parameter {name}",
                got=name,
                expected=", ".join(declared),
                remedy=f"did you mean {near[0]}?" if near else "choose one of these",
            )


def execute(name, out_path, parameters=None, *, log_output=False):
    """Execute ``notebooks/<name>.ipynb`` into ``out_path``.

    The output appears under its name only when the run has succeeded; a failed run
    leaves ``<out_path>.failed.ipynb`` beside it for reading.

    Returns
    -------
    NotebookRun

    Raises
    ------
    SpacerError
        If the notebook or a parameter does not exist, or a cell failed.
    """
    source = FOLDER / f"{name}.ipynb"
    if not source.exists():
        raise SpacerError("notebook", got=name, expected=", ".join(names()))
    parameters = parameters or {}
    check_parameters(source, parameters)
    out_path = Path(out_path).absolute()
    start = time.perf_counter()
    with atomic_path(out_path) as temporary, MemoryWatch() as memory:
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                parameters,
                cwd=str(FOLDER),
                progress_bar=False,
                log_output=log_output,
                coalesce_streams=True,
                kernel_name="python3",
            )
        except papermill.PapermillExecutionError as error:
            failed = out_path.with_suffix(".failed.ipynb")
            temporary.replace(failed)
            raise SpacerError(
                f"{name}: cell {error.exec_count} failed",
                got=f"{error.ename}: {error.evalue}",
                remedy=f"read {failed}",
            ) from error
        book = nbformat.read(temporary, as_version=4)
        # Papermill notes absolute paths; a kept run should not name a machine's.
        book.metadata.papermill["input_path"] = source.name
        book.metadata.papermill["output_path"] = out_path.name
        nbformat.write(book, temporary)
    seconds = time.perf_counter() - start
    return NotebookRun(name, out_path, round(seconds, 1), round(memory.peak_gb, 2))


def pair(source, target):
    """Write a ``.py`` as the ``.ipynb`` that JupyterLab would save, without outputs.

    The ``.py`` is also laid out as jupytext lays it out, so that saving either half
    later changes what was edited and nothing else.
    """
    config = load_jupytext_config(str(source))
    book = jupytext.read(source, config=config)
    for cell in book.cells:
        cell.metadata.pop("lines_to_next_cell", None)
    write_text(source, jupytext.writes(book, fmt="py:percent", config=config))
    filters = book.metadata["jupytext"]
    book.metadata["jupytext"] = {
        key: filters[key]
        for key in ("cell_metadata_filter", "notebook_metadata_filter")
    }
    with atomic_path(target) as temporary:
        nbformat.write(book, temporary)


def execute_in_place(name):
    """Execute a notebook onto itself, without papermill's own cells and metadata."""
    source = FOLDER / f"{name}.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        run = execute(name, Path(folder) / source.name)
        book = nbformat.read(run.path, as_version=4)
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags" and v}
    with atomic_path(source) as temporary:
        nbformat.write(book, temporary)
    return run


class MemoryWatch:
    """Peak resident memory of this process's children, sampled twice a second."""

    def __enter__(self):
        self.peak_gb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        me = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue  # it ended between listing and reading
            self.peak_gb = max(self.peak_gb, total / 2**30)
