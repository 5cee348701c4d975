"""The notebooks' anatomy: pairs in step, executed in order, short cells, no traces."""

import ast
import re
import statistics
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
STEMS = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
MAX_BYTES = 1_300_000
MAX_LINES, MEDIAN_LINES, MAX_WIDTH = 25, 6, 88

each_notebook = pytest.mark.parametrize("stem", STEMS)


def executed(stem):
    path = FOLDER / f"{stem}.ipynb"
    if not path.exists():
        pytest.fail(f"notebooks/{stem}.ipynb is missing")
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip()
    ]


def output_texts(cell):
    """The texts a reader sees under a cell; pictures are left out."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield value


def test_the_path_is_complete():
    """Numbered from 0 without a gap."""
    assert [int(stem[:2]) for stem in STEMS] == list(range(len(STEMS)))
    assert len(STEMS) >= 11


def test_every_notebook_is_a_pair():
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    assert scripts == {path.stem for path in FOLDER.glob("*.ipynb")}


@each_notebook
def test_both_halves_hold_the_same_cells(stem):
    """Compared cell by cell: a synchronisation would trust the time stamps."""

    def cells(notebook):
        return [
            (cell.cell_type, cell.source.strip(), cell.metadata.get("tags", []))
            for cell in notebook.cells
        ]

    assert cells(jupytext.read(FOLDER / f"{stem}.py")) == cells(executed(stem))


@each_notebook
def test_executed_from_top_to_bottom_without_errors(stem):
    cells = code_cells(executed(stem))
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds


@each_notebook
def test_small_enough_to_read_and_to_fetch(stem):
    notebook = executed(stem)
    assert (FOLDER / f"{stem}.ipynb").stat().st_size <= MAX_BYTES
    sizes = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        lines = cell.source.strip().splitlines()
        sizes.append(len(lines))
        assert len(lines) <= MAX_LINES, f"code cell {number}: {len(lines)} lines"
        for line in lines:
            assert len(line) <= MAX_WIDTH, f"code cell {number}: {line}"
    assert statistics.median(sizes) <= MEDIAN_LINES


@each_notebook
def test_one_parameters_cell_with_nothing_derived(stem):
    tagged = [
        cell
        for cell in executed(stem).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        where = f"line {statement.lineno} of the parameters"
        assert isinstance(statement, ast.AnnAssign), f"{where} is not `name: type = …`"
        ast.literal_eval(statement.value)


@each_notebook
def test_opens_with_a_verb_and_says_what_it_takes(stem):
    number, verb = re.match(r"(\d+)_([a-z]+)", stem).groups()
    cells = executed(stem).cells
    assert cells[0].cell_type == "markdown"
    title = cells[0].source.splitlines()[0]
    pattern = rf"# 0*{int(number)}\b\W*{verb}\w*\b +\S"
    assert re.match(pattern, title, re.IGNORECASE), title
    opening = "\n".join(
        cell.source for cell in cells[:3] if cell.cell_type == "markdown"
    ).replace("’", "'")
    for heading in ("What you'll do", "What you'll learn", "What you'll need"):
        assert heading in opening


@each_notebook
def test_leaves_no_trace_of_a_machine(stem):
    absolute = re.compile(r"(?<![\w.:/<])/(?:root|home|work|tmp|Users|opt|usr|var)/")
    for cell in executed(stem).cells:
        texts = [cell.source]
        if cell.cell_type == "code":
            texts += output_texts(cell)
        for text in texts:
            found = absolute.search(text)
            assert not found, text[max(0, found.start() - 40) : found.end() + 40]
