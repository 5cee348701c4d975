"""Run the numbered notebooks with papermill, measuring time and memory.

Departures from plain papermill: a misspelt parameter is an error (papermill only
warns), and the peak memory of the kernel and of the processes it starts is recorded.
"""

import ast
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    PathLike,
    atomic_path,
    listing,
    read_json,
    write_text,
)
from spacer_lib.errors import SpacerError, nearest

FOLDER = PROJECT_ROOT / "notebooks"
SOLUTION = "solution"  # tag of cells that open when a reader asks for them
# How JupyterLab knows that a cell is closed; the site closes ``hide-cell``.
_CLOSED = {"source_hidden": True, "outputs_hidden": True}


@dataclass(frozen=True)
class NotebookRun:
    """What one execution took, and its file."""

    name: str
    path: Path
    seconds: float
    peak_memory_gb: float


def names() -> list[str]:
    """The numbered notebooks, in reading order."""
    return [path.stem for path in listing(FOLDER, "[0-9]*.py")]


def checked(name: str) -> str:
    """``name``, if there is such a notebook.

    Raises
    ------
    SpacerError
        Naming the nearest notebook.
    """
    if not (FOLDER / f"{name}.py").exists():
        raise SpacerError(
            "notebook",
            kind="notebooks.unknown",
            got=name,
            expected=", ".join(names()),
            remedy=nearest(name, names()),
        )
    return name


def check_parameters(source: Path, parameters: Iterable[str]) -> None:
    """Refuse parameters that the notebook does not declare.

    Raises
    ------
    SpacerError
        Naming the nearest declared parameter.
    """
    declared = _declared(source)
    for name in parameters:
        if name not in declared:
            raise SpacerError(
                f"{source.stem} has no parameter {name}",
                kind="notebooks.unknown-parameter",
                got=name,
                expected=", ".join(declared),
                remedy=nearest(name, declared),
            )


def _declared(source: Path) -> list[str]:
    """Names assigned in the cell tagged ``parameters``."""
    cells = read_json(source)["cells"]
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    names: list[str] = []
    for statement in ast.parse("".join(tagged[0]["source"])).body if tagged else ():
        if isinstance(statement, ast.Assign):
            names += [ast.unparse(target) for target in statement.targets]
        elif isinstance(statement, ast.AnnAssign):
            names.append(ast.unparse(statement.target))
    return names


def execute(
    name: str,
    out_path: PathLike,
    parameters: Mapping[str, Any] | None = None,
    *,
    log_output: bool = False,
) -> NotebookRun:
    """Execute ``notebooks/<name>.ipynb`` into ``out_path``.

    ``out_path`` appears when the run has succeeded. A failed run leaves
    ``<out_path>.failed.ipynb`` in the same folder.

    Returns
    -------
    NotebookRun

    Raises
    ------
    SpacerError
        If the notebook or a parameter does not exist, or a cell failed.
    """
    source = FOLDER / f"{checked(name)}.ipynb"
    parameters = parameters or {}
    check_parameters(source, parameters)
    # Both load slowly; a wrong name is reported before.
    import nbformat
    import papermill

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
            with atomic_path(failed) as copy:
                shutil.copyfile(temporary, copy)
            raise SpacerError(
                f"{name}: cell {error.exec_count} failed",
                kind="notebooks.cell-failed",
                got=f"{error.ename}: {error.evalue}",
                remedy=f"read {failed}",
            ) from error
        book = nbformat.read(temporary, as_version=4)
        # Papermill records absolute paths, which differ between machines.
        book.metadata.papermill["input_path"] = source.name
        book.metadata.papermill["output_path"] = out_path.name
        nbformat.write(book, temporary)
    seconds = time.perf_counter() - start
    return NotebookRun(name, out_path, round(seconds, 1), round(memory.peak_gb, 2))


def pair(source: Path, target: Path) -> None:
    """Write a ``.py`` as the ``.ipynb`` that JupyterLab would save, without outputs.

    The ``.py`` gets jupytext's layout too. Saving either half later then changes only
    what was edited.
    """
    import jupytext
    import nbformat
    from jupytext.config import load_jupytext_config

    config = load_jupytext_config(str(source))
    book = jupytext.read(source, config=config)
    for cell in book.cells:
        cell.metadata.pop("lines_to_next_cell", None)
        _close(cell)
    write_text(source, jupytext.writes(book, fmt="py:percent", config=config))
    filters = book.metadata["jupytext"]
    book.metadata["jupytext"] = {
        key: filters[key]
        for key in ("cell_metadata_filter", "notebook_metadata_filter")
    }
    with atomic_path(target) as temporary:
        nbformat.write(book, temporary)


def execute_in_place(name: str) -> NotebookRun:
    """Execute a notebook onto itself, without papermill's own cells and metadata."""
    import nbformat

    source = FOLDER / f"{name}.ipynb"
    run = execute(name, PROJECT_ROOT / "build" / "notebooks" / source.name)
    book = nbformat.read(run.path, as_version=4)
    book.metadata.pop("papermill", None)
    for cell in book.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags" and v}
        _close(cell)
    with atomic_path(source) as temporary:
        nbformat.write(book, temporary)
    return run


def _close(cell: Any) -> None:
    """Close a solution in JupyterLab. The ``.py`` keeps the tag alone."""
    if SOLUTION in cell.metadata.get("tags", []):
        cell.metadata["jupyter"] = dict(_CLOSED)


class MemoryWatch:
    """Peak resident memory of this process's children, sampled twice a second."""

    def __enter__(self) -> "MemoryWatch":
        self.peak_gb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue  # it ended between listing and reading
            self.peak_gb = max(self.peak_gb, total / 2**30)
