"""Saving a notebook in JupyterLab, as ``make lab`` starts it, writes both halves."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.config import load_jupytext_config

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
TOKEN = "only-for-this-test"


def lab_command():
    """The command of ``make lab``, with this checkout's interpreter folder."""
    lines = subprocess.run(
        ["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    (line,) = [line for line in lines if "jupyter lab" in line]
    program, *rest = shlex.split(line.lstrip("@"))
    return [str(ROOT / program), *rest]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(folder, url) of a copy of the notebooks, served as ``make lab`` serves them."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "jupytext.toml", folder)
    for stem in STEMS:
        for suffix in (".py", ".ipynb"):
            shutil.copy(ROOT / "notebooks" / f"{stem}{suffix}", folder / "notebooks")
    log = folder / "server.log"
    options = [
        "--no-browser",
        "--allow-root",
        "--port=0",
        f"--IdentityProvider.token={TOKEN}",
    ]
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(folder / "config")}
    with open(log, "w") as sink:
        server = subprocess.Popen(
            [*lab_command(), *options],
            cwd=folder,
            stdout=sink,
            stderr=sink,
            env=environment,
        )
    try:
        yield folder, _address(server, log)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _address(server, log):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/", log.read_text())
        if found:
            return f"http://127.0.0.1:{found[1]}"
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def contents(url, path, model=None):
    """Open a file through the server, or save ``model`` there."""
    request = urllib.request.Request(
        f"{url}/api/contents/{path}?type=notebook"
        if model is None
        else f"{url}/api/contents/{path}",
        data=None if model is None else json.dumps(model).encode(),
        method="GET" if model is None else "PUT",
        headers={"Authorization": f"token {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def halves(folder, stem):
    return [
        (folder / "notebooks" / f"{stem}{suffix}").read_text(encoding="utf-8")
        for suffix in (".py", ".ipynb")
    ]


def added_lines(before, after):
    old = before.splitlines()
    return [line.strip() for line in after.splitlines() if line not in old]


@pytest.mark.parametrize("opened", [".ipynb", ".py"])
@pytest.mark.parametrize("stem", STEMS)
def test_an_edit_is_saved_into_both_halves_and_nothing_else_changes(lab, stem, opened):
    folder, url = lab
    path, words = f"notebooks/{stem}{opened}", f"Added to the {opened} half."
    before = halves(folder, stem)
    model = contents(url, path)
    contents(
        url, path, {"type": "notebook", "format": "json", "content": model["content"]}
    )
    assert halves(folder, stem) == before
    model = contents(url, path)
    cell = next(c for c in model["content"]["cells"] if c["cell_type"] == "markdown")
    cell["source"] += f"\n{words}"
    contents(
        url, path, {"type": "notebook", "format": "json", "content": model["content"]}
    )
    script, book = halves(folder, stem)
    assert added_lines(before[0], script) == [f"# {words}"]
    kept = nbformat.reads(before[1], as_version=4)
    saved = nbformat.reads(book, as_version=4)
    kept.cells[0].source += f"\n{words}"
    assert saved == kept


def test_a_notebook_newer_than_its_script_still_opens(lab):
    folder, url = lab
    path = folder / "notebooks" / f"{STEMS[0]}.ipynb"
    later = time.time() + 60
    os.utime(path, (later, later))
    assert contents(url, f"notebooks/{STEMS[0]}.ipynb")["content"]["cells"]


@pytest.mark.parametrize("stem", STEMS)
def test_scripts_are_laid_out_as_jupytext_lays_them_out(stem):
    script = ROOT / "notebooks" / f"{stem}.py"
    config = load_jupytext_config(str(script))
    book = jupytext.read(script.with_suffix(".ipynb"), config=config)
    text = jupytext.writes(book, fmt="py:percent", config=config)
    assert text == script.read_text(encoding="utf-8")
