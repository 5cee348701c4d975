"""The notebooks' anatomy: pairs in step, executed in order, short cells, no traces."""

import ast
import re
import shutil
import statistics
from pathlib import Path
from urllib.parse import urlsplit

import jupytext
import nbformat
import pytest
from figure_checker import LEAST_ALT

from spacer_lib import notebooks

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
STEMS = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
MAX_BYTES = 1_450_000
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


# ---------------------------------------------------------------- the book

LINK = re.compile(r"\]\(([^)\s]+)\)")
EXERCISES = 28


def script(stem):
    """The cells of the edited half."""
    return jupytext.read(FOLDER / f"{stem}.py").cells


def prose(stem):
    return [cell.source for cell in script(stem) if cell.cell_type == "markdown"]


def anchors(path):
    """Anchors of a notebook's or a document's headings."""
    if path.suffix == ".ipynb":
        text = "\n".join(prose(path.stem))
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        return {heading.strip().replace(" ", "-") for heading in found}
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in found}


def dead_links(text):
    for link in LINK.findall(text):
        if urlsplit(link).scheme:
            continue
        name, _, anchor = link.partition("#")
        path = (FOLDER / name).resolve()
        half = path.with_suffix(".py") if path.suffix == ".ipynb" else path
        if not half.exists() or (anchor and anchor not in anchors(path)):
            yield link


@each_notebook
def test_links_lead_to_files_and_headings_that_exist(stem):
    assert list(dead_links("\n".join(prose(stem)))) == []


def test_a_link_without_its_target_is_found():
    good = "[a](00_one_question.ipynb#The-stations) [b](../spacer_lib/maps/grid.py)"
    bad = "[c](00_one_question.ipynb#No-such) [d](11_none.ipynb) [e](../spacer_lib/x)"
    found = ["00_one_question.ipynb#No-such", "11_none.ipynb", "../spacer_lib/x"]
    assert list(dead_links(f"{good} {bad}")) == found


@each_notebook
def test_each_page_links_back_forth_and_into_the_library(stem):
    place, pages = STEMS.index(stem), prose(stem)
    neighbours = [*STEMS[max(0, place - 1) : place], *STEMS[place + 1 : place + 2]]
    first, last = LINK.findall(pages[0]), LINK.findall(pages[-1].splitlines()[-1])
    for ends in (first, last):
        assert {f"{name}.ipynb" for name in neighbours} <= set(ends)
    assert any(link.startswith("../spacer_lib/") for link in first)


def exercises(stem):
    text = "\n".join(prose(stem))
    _, _, after = text.partition("## Exercises\n")
    return re.findall(r"^(\d+)\. ", after.partition("\n## ")[0], re.MULTILINE)


@each_notebook
def test_every_picture_has_an_alternative_text(stem):
    pictures = [
        output.metadata
        for cell in executed(stem).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    texts = [kept.get("image/png", {}).get("alt", "") for kept in pictures]
    assert pictures and min(map(len, texts)) >= LEAST_ALT


@each_notebook
def test_each_exercise_has_an_executed_solution(stem):
    cells = script(stem)
    tags = [set(cell.metadata.get("tags", [])) for cell in cells]
    solved = [i for i, found in enumerate(tags) if "solution" in found]
    assert len(solved) == len(exercises(stem))
    for number, i in enumerate(solved, start=1):
        assert cells[i].cell_type == "code" and "hide-cell" in tags[i]
        words = f"<details><summary>Solution {number}</summary>"
        assert words in cells[i - 1].source and cells[i - 1].source.endswith("details>")


def test_the_exercises_are_counted():
    assert sum(len(exercises(stem)) for stem in STEMS) == EXERCISES


@each_notebook
def test_each_page_ends_with_a_quiz(stem):
    _, _, quiz = "\n".join(prose(stem)).partition("## Quiz\n")
    asked = re.findall(
        r"<details><summary>(\d)\. .+</summary>\n\n.+\n\n</details>",
        quiz.partition("\n## ")[0],
    )
    assert asked == ["1", "2", "3"]


def test_solutions_are_closed_in_jupyterlab(tmp_path):
    """The ``.py`` has a tag, from which the ``.ipynb`` gets JupyterLab's own mark."""
    shutil.copy(FOLDER / "jupytext.toml", tmp_path)
    stem = "04_design_rewards"
    source = Path(shutil.copy(FOLDER / f"{stem}.py", tmp_path))
    notebooks.pair(source, tmp_path / f"{stem}.ipynb")
    for cell in nbformat.read(tmp_path / f"{stem}.ipynb", as_version=4).cells:
        closed = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert closed == ("solution" in cell.metadata.get("tags", []))
    assert source.read_text() == (FOLDER / f"{stem}.py").read_text()


# ---------------------------------------------------------------- the teacher's page


def answered():
    """Page and first line of the cell, of each question of the teacher's page."""
    text = (FOLDER / "TEACHING.md").read_text(encoding="utf-8")
    pattern = r"^\| \d+\. .*\[\d+\]\((\w+)\.ipynb\) `(.+)` \|$"
    return re.findall(pattern, text, re.MULTILINE)


def test_the_teachers_ten_questions_are_answered_by_cells():
    found = answered()
    assert len(found) == 10
    for stem, line in found:
        code = [c.source for c in script(stem) if c.cell_type == "code"]
        assert sum(source.startswith(line) for source in code) == 1, (stem, line)


def test_the_teachers_links_hold():
    text = (FOLDER / "TEACHING.md").read_text(encoding="utf-8")
    assert list(dead_links(text)) == []
    assert len(re.findall(r"^\| \d [A-Z]", text, re.MULTILINE)) == 6
