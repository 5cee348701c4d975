"""What nbval compares when the notebooks run in CI, and that it can fail."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TAG = "nbval-check-output"
# Least share of the cells that show something. 05 to 08 train and evaluate less in CI
# than in the committed run, so most of what they show differs.
LEAST = {
    "00_one_question": 0.85,
    "01_parse_scannet": 0.7,
    "02_rasterize_maps": 0.75,
    "03_generate_qa": 0.65,
    "04_design_rewards": 0.8,
    "05_train_grpo": 0.4,
    "06_train_baselines": 0.4,
    "07_evaluate": 0.1,
    "08_ablate": 0.3,
    "09_reproduce_figures": 0.85,
    "10_write_grpo": 0.5,
    "11_share_prompts": 0.3,
}

TEXT = "total = sum(range(5))\nprint(f'{total} cells, mean {total / 4:.2f}')"
FIGURE = """\
import matplotlib.pyplot as plt
from spacer_lib.pictures.style import use_house_style
use_house_style()
_, ax = plt.subplots()
ax.plot([0, 1, 2], [0.5, 1.25, 4]); _ = ax.bar([0, 1], [3, 7])"""

UNREADABLE = """\
_, ax = plt.subplots()
ax.text(0.5, 0.5, "one"); _ = ax.text(0.5, 0.5, "two")"""


def options():
    """What ``scripts/test.sh`` gives to pytest for notebooks."""
    script = (ROOT / "scripts" / "test.sh").read_text(encoding="utf-8")
    (line,) = re.findall(r"python -m pytest (--nbval.*?)\\?$", script, re.MULTILINE)
    return [word for word in shlex.split(line) if "durations" not in word]


@pytest.mark.parametrize("stem", LEAST)
def test_enough_cells_are_compared(stem):
    book = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    shown = [cell for cell in book.cells if cell.get("outputs")]
    tagged = [cell for cell in shown if TAG in cell.metadata.get("tags", [])]
    assert len(tagged) >= LEAST[stem] * len(shown), (len(tagged), len(shown))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Where kernels note their figures, and the variables that make them do so."""
    script = (ROOT / "scripts" / "test.sh").read_text(encoding="utf-8")
    (line,) = re.findall(r'echo "(import figure_checker.*)"', script)
    folder = tmp_path_factory.mktemp("kernels")
    startup = folder / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(line.replace("$figures", str(folder / "log")))
    path = f"{ROOT}:{ROOT / 'tests'}"
    return folder / "log", {"IPYTHONDIR": str(folder), "PYTHONPATH": path}


@pytest.fixture(scope="module")
def book(tmp_path_factory, watched):
    """A notebook with a printed number and two figures, executed once."""
    sources = TEXT, FIGURE, UNREADABLE
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for cell in cells:
        cell.metadata["tags"] = [TAG]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    environment |= watched[1]
    NotebookClient(made, kernel_name="python3").execute(env=environment)
    return made


def validated(book, folder):
    path = folder / "book.ipynb"
    nbformat.write(book, path)
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options(), "-p", "no:cacheprovider", path],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_figures_are_checked_in_the_kernel_and_have_alternative_texts(book, watched):
    lines = [json.loads(line) for line in watched[0].read_text().splitlines()]
    assert [line["findings"][:1] for line in lines] == [
        ["unlabelled: x axis of ''"],
        ["overlap: 'one' and 'two'"],
    ]
    checker = [sys.executable, ROOT / "tests" / "figure_checker.py", watched[0]]
    environment = os.environ | watched[1]
    done = subprocess.run(checker, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "2 figures, 2 with findings" in done.stdout
    watched[0].write_text(json.dumps({"figure": "", "findings": []}) + "\n")
    assert subprocess.run(checker, env=environment).returncode == 0
    alts = [cell.outputs[0].metadata["image/png"]["alt"] for cell in book.cells[1:]]
    assert alts == ["1 line, 2 shapes.", "2 texts."]


def test_what_was_committed_passes(book, tmp_path):
    done = validated(book, tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("cell", "old", "new"), [(0, "2.50", "2.60"), (1, "1.25", "1.35")]
)
def test_one_changed_number_fails(book, tmp_path, cell, old, new):
    """Printed, or behind a figure."""
    changed = nbformat.from_dict(book)
    (output,) = changed.cells[cell].outputs
    text = output.get("text") or output["data"]["text/plain"]
    assert text.count(old) == 1, text
    text = text.replace(old, new)
    if "text" in output:
        output["text"] = text
    else:
        output["data"]["text/plain"] = text
    done = validated(changed, tmp_path)
    assert done.returncode == 1 and new in done.stdout, done.stdout[-2000:]
