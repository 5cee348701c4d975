"""JupyterLab, as ``make lab`` starts it: no dialog, and a save writes both halves.

The last tests drive a browser. They need Chromium and the package playwright, which the
project does not install. Their screenshots lie in pytest's temporary folder, in
``checkout*/screenshots``.
"""

import difflib
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
import psutil
import pytest
from browser import open_tab
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.config import load_jupytext_config
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from samples.rollouts import WRITTEN, rollout

from spacer_lib.artifacts import HIDDEN, read_jsonl, write_jsonl
from spacer_lib.pictures.browse import write_page

ROOT = Path(__file__).resolve().parent.parent
STEMS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py"))
TOKEN = "only-for-this-test"
# What the notebooks read beside themselves: their runs stay in the copy.
READ = ("spacer_lib", "configs", "checkpoints", "papermill_runs")


def lab_command():
    """The command of ``make lab`` and its variables, with this checkout's programs."""
    told = subprocess.run(
        ["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = told.replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if "jupyter lab" in line]
    words = shlex.split(line)
    count = next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    variables = dict(word.split("=", 1) for word in words[:count])
    return [str(ROOT / words[count]), *words[count + 1 :]], variables


def copied(folder):
    """The notebooks' folder, as in a checkout, in ``folder``."""
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", folder / "notebooks")
    for stem in STEMS:
        for suffix in (".py", ".ipynb"):
            shutil.copy(ROOT / "notebooks" / f"{stem}{suffix}", folder / "notebooks")
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(folder, url) of a copy of the checkout, served as ``make lab`` serves it."""
    folder = copied(tmp_path_factory.mktemp("checkout"))
    for name in READ:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    (folder / "screenshots").mkdir()
    command, variables = lab_command()
    log = folder / "server.log"
    options = [
        "--no-browser",
        "--allow-root",
        "--port=0",
        f"--IdentityProvider.token={TOKEN}",
    ]
    environment = os.environ | variables
    environment |= {"JUPYTER_CONFIG_DIR": str(folder / "config")}
    environment |= {"PYTHONPATH": str(folder)}
    environment.pop("MPLBACKEND", None)  # figures stay inline
    environment.pop("SPACER_QUICK", None)  # runs are as long as the parameters say
    with open(log, "w") as sink:
        server = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            stdout=sink,
            stderr=sink,
            env=environment,
        )
    try:
        yield folder, _address(server, log)
    finally:
        server.terminate()
        server.wait(timeout=120)


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


@pytest.mark.parametrize("opened", [".ipynb", ".py"])
@pytest.mark.parametrize("root", ["", "notebooks"])
def test_both_halves_are_saved_wherever_the_server_starts(tmp_path, root, opened):
    copied(tmp_path)
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)(
        root_dir=str(tmp_path / root)
    )
    name = STEMS[1]
    path = f"{name}{opened}" if root else f"notebooks/{name}{opened}"
    before = halves(tmp_path, name)
    model = manager.get(path, type="notebook")
    model["content"]["cells"][-1]["source"] += "\n# added"
    manager.save({"type": "notebook", "content": model["content"]}, path)
    for half, old in zip(halves(tmp_path, name), before, strict=True):
        assert [line.strip('# ",\\n') for line in added_lines(old, half)][-1] == "added"


def test_the_librarys_modules_are_no_pairs(tmp_path):
    """Opened as notebooks and saved, they leave no ``.ipynb`` beside them."""
    copied(tmp_path)
    (tmp_path / "spacer_lib").mkdir()
    path = shutil.copy(ROOT / "spacer_lib" / "rows.py", tmp_path / "spacer_lib")
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)(
        root_dir=str(tmp_path)
    )
    model = manager.get("spacer_lib/rows.py", type="notebook")
    manager.save(
        {"type": "notebook", "content": model["content"]}, "spacer_lib/rows.py"
    )
    assert list((tmp_path / "spacer_lib").iterdir()) == [Path(path)]


def test_the_lab_asks_nothing(lab):
    """No build of an extension that open3d brings, and no request for news."""
    _, url = lab
    page = urllib.request.Request(
        f"{url}/lab", headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(page, timeout=30) as answer:
        text = answer.read().decode()
    assert '"buildAvailable": false' in text and '"buildCheck": false' in text
    name = "@jupyterlab/apputils-extension:notification"
    schema = urllib.request.Request(
        f"{url}/lab/api/settings/{name}", headers={"Authorization": f"token {TOKEN}"}
    )
    with urllib.request.urlopen(schema, timeout=30) as answer:
        defaults = json.load(answer)["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false"
    assert defaults["checkForUpdates"]["default"] is False


@pytest.mark.parametrize("stem", STEMS)
def test_scripts_are_laid_out_as_jupytext_lays_them_out(stem):
    script = ROOT / "notebooks" / f"{stem}.py"
    config = load_jupytext_config(str(script))
    book = jupytext.read(script.with_suffix(".ipynb"), config=config)
    text = jupytext.writes(book, fmt="py:percent", config=config)
    assert text == script.read_text(encoding="utf-8")


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def page(lab):
    """An empty tab of Chromium; skips where there is none."""
    with open_tab(width=1400) as tab:
        yield tab


PATIENCE_S = 600  # of a machine that does other work


def wait_for_kernel(page, url, state, times):
    """Until the kernel has been seen in a state ``times`` times in turn."""
    deadline, seen = time.monotonic() + PATIENCE_S, 0
    while seen < times:
        assert time.monotonic() < deadline, f"not {state} for {PATIENCE_S} s"
        page.wait_for_timeout(200)
        seen = seen + 1 if kernel_states(url) == [state] else 0


def kernels(url, name="", method="GET"):
    request = urllib.request.Request(
        f"{url}/api/kernels{name}",
        headers={"Authorization": f"token {TOKEN}"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or "[]")


def kernel_states(url):
    return [kernel["execution_state"] for kernel in kernels(url)]


def end_kernels(url):
    """Of earlier tests."""
    for kernel in kernels(url):
        kernels(url, f"/{kernel['id']}", "DELETE")


def run_all(page, folder, url, stem, first):
    """Run every cell and save; the first execution count must be ``first``."""
    wait_for_kernel(page, url, "idle", 10)
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item", has_text=re.compile("^Run All Cells")).click()
    wait_for_kernel(page, url, "busy", 1)
    wait_for_kernel(page, url, "idle", 25)  # a slow browser pauses between cells
    script, book = saved(page, folder, stem)
    cells = [c for c in nbformat.reads(book, 4).cells if c.cell_type == "code"]
    counts = [cell.execution_count for cell in cells if cell.source.strip()]
    assert counts == list(range(first, first + len(counts)))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    return script, book, len(counts)


def saved(page, folder, stem):
    """Both halves after a save."""
    path = folder / "notebooks" / f"{stem}.ipynb"
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 30
    while path.stat().st_mtime_ns == before and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    page.wait_for_timeout(1000)  # the other half, and its checkpoint
    return halves(folder, stem)


def no_dialogs(page):
    found = page.locator(".jp-Dialog, .Toastify__toast")
    assert found.all_inner_texts() == []


def test_a_visitor_opens_runs_edits_and_saves(lab, page):
    folder, url = lab
    stem = "02_rasterize_maps"
    script, _ = halves(folder, stem)
    end_kernels(url)
    page.goto(f"{url}/lab/tree/notebooks?token={TOKEN}")
    item = page.locator(".jp-DirListing-item", has_text=f"{stem}.py")
    item.wait_for()
    page.wait_for_timeout(8000)  # the build check asked by then
    no_dialogs(page)
    item.click(button="right")
    page.locator(".lm-Menu-item", has_text="Open With").first.hover()
    page.locator(".lm-Menu-item", has_text="Jupytext Notebook").click()
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    first = 1
    for _ in range(2):
        same, ran, count = run_all(page, folder, url, stem, first)
        first += count
        assert same == script  # a run changes nothing in the script
    no_dialogs(page)
    assert page.locator(".jp-OutputArea-output img").count() > 0
    edit_and_compare(page, folder, stem, same, ran)


def edit_and_compare(page, folder, stem, script, ran):
    """Add a line to the first cell: it is all that changes, in both halves."""
    words = "Added in the browser."
    cell = page.locator(".jp-NotebookPanel .jp-Cell").first
    cell.scroll_into_view_if_needed()
    cell.dblclick()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type(f"\n{words}")
    new_script, new_book = saved(page, folder, stem)
    for old, new in ((script, new_script), (ran, new_book)):
        lines = difflib.ndiff(old.splitlines(), new.splitlines())
        changed = [line for line in lines if line[:1] in "+-"]
        assert sum(words in line for line in changed) == 1
    assert added_lines(script, new_script) == [f"# {words}"]
    kept = nbformat.reads(ran, as_version=4)
    kept.cells[0].source += f"\n{words}"
    assert nbformat.reads(new_book, as_version=4) == kept


# ---------------------------------------------------------------- as a student


def open_notebook(page, url, stem):
    """The ``.ipynb`` in a workspace of its own, its kernel ready."""
    end_kernels(url)
    page.goto(f"{url}/lab/workspaces/{stem}/tree/notebooks/{stem}.ipynb?token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    wait_for_kernel(page, url, "idle", 10)


def run_menu(page, item):
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item", has_text=re.compile(f"^{item}")).click()


def cell_with(page, words):
    return page.locator(".jp-NotebookPanel .jp-CodeCell", has_text=words).first


def set_parameter(page, name, line):
    """Type ``line`` over the line of a parameter, as a person does."""
    found = page.locator(".jp-CodeCell .cm-line", has_text=re.compile(f"^{name}: "))
    found.first.scroll_into_view_if_needed()
    found.first.click()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.type(line)


def figures(page):
    return page.locator(".jp-NotebookPanel .jp-OutputArea-output img")


def committed_figures(stem):
    """Number of figures that the committed notebook shows."""
    book = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", 4)
    outputs = [o for c in book.cells if c.cell_type == "code" for o in c.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def look_at_figures(page, folder, name):
    """A screenshot of each figure; none is empty, shrunken or cut."""
    for number, image in enumerate(figures(page).all(), start=1):
        image.scroll_into_view_if_needed()
        image.screenshot(path=folder / "screenshots" / f"{name}_{number:02}.png")
        drawn, shown, room = image.evaluate(
            "image => [image.naturalWidth, image.getBoundingClientRect().width,"
            " image.closest('.jp-OutputArea-output').clientWidth]"
        )
        assert drawn > 100 and 0.75 * drawn <= shown <= room, (number, drawn, shown)


def test_a_student_runs_the_page_of_rewards(lab, page):
    folder, url = lab
    stem = "04_design_rewards"
    open_notebook(page, url, stem)
    set_parameter(page, "questions", "questions: int = 24")
    script, _, _ = run_all(page, folder, url, stem, 1)
    assert "\nquestions: int = 24\n" in script
    assert figures(page).count() == committed_figures(stem) > 5
    look_at_figures(page, folder, stem)
    no_dialogs(page)


STEPS = 4


def wait_for_step(page, cell):
    """Until the training cell says that the first of ``STEPS`` steps is done."""
    told = cell.locator(".jp-OutputArea-output", has_text=f"step 1/{STEPS} ")
    told.wait_for(timeout=1000 * PATIENCE_S)
    cell.locator("img").wait_for()


@pytest.mark.timeout(3 * PATIENCE_S)
def test_a_student_interrupts_training_and_goes_on(lab, page):
    """The live figure grows, an interrupt is one message, and the run is whole."""
    folder, url = lab
    stem, run_dir = "05_train_grpo", folder / "runs" / "05_train_grpo"
    shots = folder / "screenshots"
    open_notebook(page, url, stem)
    set_parameter(page, "max_steps", f"max_steps: int = {STEPS}")
    run_menu(page, "Run All Cells")
    cell = cell_with(page, "live = LiveFigure(")
    cell.scroll_into_view_if_needed()
    cell.locator(".jp-OutputArea-output").first.wait_for(timeout=1000 * PATIENCE_S)
    assert cell.locator("img").count() == 0  # words, until there is a step to draw
    wait_for_step(page, cell)
    cell.locator("img").scroll_into_view_if_needed()
    page.screenshot(path=shots / f"{stem}_live.png")
    page.locator('[data-command="notebook:interrupt-kernel"]').first.click()
    wait_for_kernel(page, url, "idle", 10)
    page.screenshot(path=shots / f"{stem}_interrupted.png")
    no_dialogs(page)
    # One message, beside the curves; the cells below have waited.
    (message,) = page.locator(ERRORS).all_inner_texts()
    step = read_jsonl(run_dir / "metrics.jsonl")[-1]["step"]
    assert 1 <= step < STEPS
    assert message.strip() == (
        f"Training was interrupted. A checkpoint of step {step} is kept. "
        "Set resume = True and run this again to go on from there."
    )
    assert f"stopped at step {step}" in cell.inner_text()
    assert "Traceback" not in cell.inner_text()
    # Nothing half-written, and nobody who still writes.
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == [
        f"checkpoint-{step}"
    ]
    assert not any(HIDDEN in path.name for path in (folder / "runs").rglob("*"))
    assert not (run_dir / "run.json").exists() and not (run_dir / "model").exists()
    assert workers_of(run_dir) == []
    # The message is followed.
    set_parameter(page, "resume", "resume: bool = True")
    page.keyboard.press("Shift+Enter")
    cell.locator(".cm-line").first.click()
    page.keyboard.press("Escape")
    run_menu(page, "Run Selected Cell and All Below")
    wait_for_kernel(page, url, "busy", 1)
    wait_for_kernel(page, url, "idle", 25)
    assert page.locator(ERRORS).all_inner_texts() == []
    steps = [row["step"] for row in read_jsonl(run_dir / "metrics.jsonl")]
    assert steps == list(range(1, STEPS + 1))
    log = (run_dir / "train.log").read_text()
    assert f"resuming from checkpoint-{step}\n" in log
    assert (run_dir / "run.json").exists() and (run_dir / "model").exists()
    assert not run_dir.with_name("05_train_grpo.old").exists()
    assert figures(page).count() == committed_figures(stem) > 5
    look_at_figures(page, folder, stem)
    cell.scroll_into_view_if_needed()
    page.screenshot(path=shots / f"{stem}_resumed.png")
    no_dialogs(page)


ERRORS = '[data-mime-type="application/vnd.jupyter.stderr"]'


def workers_of(run_dir):
    """Training processes of a run."""
    found = psutil.process_iter(["cmdline"])
    commands = [" ".join(process.info["cmdline"] or []) for process in found]
    return [c for c in commands if str(run_dir.parent.parent) in c and "worker" in c]


# ---------------------------------------------------------------- pages and views


@pytest.fixture
def quiet(page):
    """A tab that must load nothing but data and the page itself, without errors."""
    asked, faults = [], []
    tab = page.context.browser.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda line: line.type == "error" and faults.append(line.text))
    yield tab
    tab.close()
    assert [url[:60] for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []


def visible(page):
    return [one for one in page.locator("article").all() if one.is_visible()]


def test_the_page_of_a_run_can_be_filtered_and_loads_nothing(quiet, tmp_path):
    rollouts = [
        rollout(text, step=step) for step in (1, 2) for text in WRITTEN.values()
    ]
    write_jsonl(tmp_path / "rollouts.jsonl", rollouts)
    path = write_page(tmp_path, tmp_path / "page.html").path
    quiet.goto(path.as_uri())
    assert len(visible(quiet)) == 2 * len(WRITTEN)
    quiet.select_option("select[name=kind]", "no_map")
    assert len(visible(quiet)) == 2
    quiet.select_option("select[name=step]", "2")
    (one,) = visible(quiet)
    assert "a thought" in one.inner_text()
    assert quiet.locator("output").inner_text() == "1 shown"
    assert quiet.locator("section:visible").count() == 1
    quiet.select_option("select[name=kind]", "")
    assert len(visible(quiet)) == len(WRITTEN)
    for image in quiet.locator("section:visible img").all():
        assert image.evaluate("image => image.naturalWidth") == 160


def test_the_page_of_a_run_is_whole_without_javascript(page, tmp_path):
    write_jsonl(tmp_path / "rollouts.jsonl", map(rollout, WRITTEN.values()))
    path = write_page(tmp_path, tmp_path / "page.html").path
    plain = page.context.browser.new_context(java_script_enabled=False).new_page()
    plain.goto(path.as_uri())
    assert plain.locator("article").count() == len(WRITTEN)
    assert plain.locator("article svg").count() == len(WRITTEN)
    assert not plain.locator("form").is_visible()
    plain.context.close()


ROOM = """\
from IPython.display import HTML
import numpy as np
from spacer_lib.pictures import room_views
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import film, render_frames
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene
room, view, numbers = draw_room(6, "furnished"), VIEWS["walk"], tuple(range(0, 96, 8))
scene = to_scene(room, view, footage=film(room, view, frames=numbers))
shots = render_frames(room, view, numbers, 160)
points = np.random.default_rng(0).uniform(0, 4, (3000, 3))
colors = (60 * points).astype(np.uint8)
made = room_views.room_scene(scene, points, colors, shots, numbers)
room_views.show_room(made)"""
PLAYER = "HTML(room_views.map_player(scene, shots, numbers))"


def test_a_room_can_be_turned_and_its_video_played(lab, page):
    folder, url = lab
    end_kernels(url)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in (ROOM, PLAYER)]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(book, folder / "notebooks" / "room.ipynb")
    page.goto(f"{url}/lab/workspaces/room/tree/notebooks/room.ipynb?token={TOKEN}")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    wait_for_kernel(page, url, "idle", 10)
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item", has_text=re.compile("^Run All Cells")).click()
    wait_for_kernel(page, url, "busy", 1)
    wait_for_kernel(page, url, "idle", 10)
    assert page.locator("[data-mime-type*=stderr]").all_inner_texts() == []
    plot = page.locator(".js-plotly-plot")
    plot.wait_for(timeout=240_000)
    image = plot.locator("image").first
    before = image.get_attribute("href")
    rail = plot.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + rail["width"] - 2, rail["y"] + rail["height"] / 2)
    page.wait_for_timeout(2000)
    assert (
        before.startswith("data:image/jpeg") and image.get_attribute("href") != before
    )
    player = page.locator(".jp-RenderedHTMLCommon", has=page.locator("svg"))
    slider, told = player.locator("input"), player.locator("output")
    player.scroll_into_view_if_needed()
    seen = [int(told.inner_text().split(": ")[1].split()[0])]
    slider.evaluate("s => { s.value = 11; s.dispatchEvent(new Event('input')); }")
    seen.append(int(told.inner_text().split(": ")[1].split()[0]))
    assert seen[0] < seen[1] and told.inner_text().startswith("frame 88")
    shown = player.locator("g[data-first]:visible").count()
    assert shown == seen[1]
