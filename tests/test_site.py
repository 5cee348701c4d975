"""The site's sources and its link check; the build itself where its packages are."""

import ast
import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest
from browser import open_tab

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("site_py", ROOT / "scripts" / "site.py")
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)

ENVIRONMENT = Path(os.environ.get("SPACER_SITE_VENV") or ROOT / ".venv-site")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Sources of the site, from this checkout."""
    out = tmp_path_factory.mktemp("site") / "source"
    site.sources(out)
    return out


def test_every_module_has_a_page_with_its_public_functions(made):
    for path in sorted((ROOT / "spacer_lib").rglob("*.py")):
        page = made / "api" / f"{site.module_name(path.relative_to(ROOT))}.md"
        text = page.read_text(encoding="utf-8")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            known = isinstance(node, (ast.FunctionDef, ast.ClassDef))
            if known and node.name[0] != "_":
                assert f"\n## {node.name}\n" in text, page.name
    listed = (made / "api" / "index.md").read_text(encoding="utf-8")
    assert "[`spacer_lib.maps.grid`](spacer_lib.maps.grid.md)" in listed


def test_docstrings_stand_as_they_are(made):
    text = (made / "api" / "spacer_lib.maps.grid.md").read_text(encoding="utf-8")
    assert "rasterize(scene: Scene, grid_size: int=10" in text
    assert (
        "Raises\n------" in (made / "api" / "spacer_lib.rewards.score.md").read_text()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](../spacer_lib/maps/grid.py)", "[a](../api/spacer_lib.maps.grid.md)"),
        ("[a](../spacer_lib/maps)", "[a](../api/spacer_lib.maps.md)"),
        ("[a](../GLOSSARY.md)", "[a](../GLOSSARY.md)"),
        ("[a](01_parse_scannet.ipynb#x)", "[a](01_parse_scannet.ipynb#x)"),
        ("[a](../papermill_runs/study.json), b", "a, b"),
        ("[a](https://arxiv.org/abs/2504.01805)",) * 2,
        ("[a](#Summary)",) * 2,
    ],
)
def test_links_are_made_to_hold(text, expected, tmp_path):
    page = ROOT / "notebooks" / "04_design_rewards.ipynb"
    assert site.linked(text, page, tmp_path, ROOT) == expected


def test_outputs_are_those_of_the_committed_notebooks(made):
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        cells = [
            [cell.get("outputs") for cell in json.loads(file.read_text())["cells"]]
            for file in (path, made / "notebooks" / path.name)
        ]
        assert cells[0] == cells[1]


def test_broken_links_are_named(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "b.html").write_text('<h1 id="top"></h1>')
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="api/b.html#top"></a><a href="#here"></a>'
        '<a href="https://example.org/x"></a><a href="api/c.html"></a>'
        '<a href="api/b.html#away"></a><img src="none.png">'
    )
    assert site.broken_links(tmp_path) == [
        "a.html: api/c.html",
        "a.html: api/b.html#away",
        "a.html: none.png",
    ]


def test_pins_have_hashes():
    lock = (ROOT / "requirements-site.lock").read_text(encoding="utf-8")
    wanted = (ROOT / "docs" / "requirements.in").read_text(encoding="utf-8").split("\n")
    for line in wanted:
        if line and not line.startswith("#"):
            assert f"\n{line} \\\n    --hash=sha256:" in lock.lower()


@pytest.fixture(scope="module")
def built():
    """The site's folder, built anew; skips where Sphinx's environment is absent."""
    if not (ENVIRONMENT / "bin" / "python").exists():
        pytest.skip(f"{ENVIRONMENT.name} is not built: make site")
    done = subprocess.run(
        [ROOT / "scripts" / "site.sh"], capture_output=True, text=True, timeout=840
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return ROOT / "build" / "site"


@pytest.mark.processes
def test_the_site_builds_without_a_warning_and_asks_no_other_host(built):
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for part in ('<script src="http', '<link rel="stylesheet" href="http'):
            assert part not in text, page.name


@pytest.fixture(scope="module")
def page():
    """An empty tab of Chromium, 1280 pixels wide."""
    with open_tab(width=1280) as tab:
        yield tab


def too_wide(page):
    """Pixels by which a page can be scrolled sideways."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


@pytest.mark.processes
@pytest.mark.parametrize("stem", ["02_rasterize_maps", "05_train_grpo"])
def test_solutions_open_by_a_click(page, built, stem, tmp_path):
    page.goto((built / "notebooks" / f"{stem}.html").as_uri())
    closed = page.locator("section#solutions details:not([open])")
    count = closed.count()
    assert count == page.locator("section#solutions details").count() > 3
    hidden = page.locator("section#solutions details .cell_output")
    assert hidden.count() > 0
    assert not any(output.is_visible() for output in hidden.all())
    for _ in range(count):
        closed.first.locator("summary").click()
    assert all(output.is_visible() for output in hidden.all())
    page.screenshot(path=tmp_path / f"{stem}.png")
    assert too_wide(page) == 0


@pytest.mark.processes
def test_no_page_scrolls_sideways(page, built):
    wide = {}
    for path in sorted(built.rglob("*.html")):
        page.goto(path.as_uri())
        if too_wide(page):
            wide[path.name] = too_wide(page)
    assert wide == {}
