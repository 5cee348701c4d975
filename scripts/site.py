"""Sources of the site, and a check of its internal links. Standard library only.

    python scripts/site.py sources build/site-source
    python scripts/site.py links build/site

``sources`` copies documents and executed notebooks, points their links into the library
at the site's API pages, and writes those pages from the docstrings. The library is
parsed, not imported. ``links`` names every relative link of a built site whose file or
anchor does not exist, and fails if there is one.
"""

import ast
import json
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)")
PICTURES = (".png", ".svg", ".gif", ".jpg")


def sources(out: Path, root: Path = ROOT) -> None:
    """Write everything that Sphinx reads into ``out``, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "notebooks").mkdir(parents=True)
    for name in ("anchors.py", "conf.py", "index.md"):
        shutil.copy(root / "docs" / name, out)
    api_pages(root / "spacer_lib", out / "api")
    for path in sorted([*root.glob("*.md"), *(root / "notebooks").glob("*.md")]):
        text = linked(path.read_text(encoding="utf-8"), path, out, root)
        (out / path.relative_to(root)).write_text(text, encoding="utf-8")
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                text = linked("".join(cell["source"]), path, out, root)
                cell["source"] = text.splitlines(keepends=True)
        (out / "notebooks" / path.name).write_text(json.dumps(book), encoding="utf-8")


def linked(text: str, page: Path, out: Path, root: Path) -> str:
    """The text of a page with links that hold on the site.

    A link to a module or folder of the library goes to its API page. A picture is
    copied. A link to another file that is no page of the site keeps its words alone.
    """
    pages = {path.resolve() for path in root.glob("*.md")}
    pages |= {p.resolve() for p in (root / "notebooks").glob("*.*")}

    def resolve(match: re.Match[str]) -> str:
        mark, words, link = match.groups()
        path, _, _ = link.partition("#")
        if not path or urlsplit(link).scheme:
            return match[0]
        real = (page.parent / unquote(path)).resolve()
        if real in pages:
            return match[0]
        inside = real.relative_to(root) if real.is_relative_to(root) else Path()
        if inside.parts[:1] == ("spacer_lib",):
            up = "../" * (len(page.relative_to(root).parts) - 1)
            return f"[{words}]({up}api/{module_name(inside)}.md)"
        if mark and real.suffix in PICTURES and real.is_file():
            (out / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real, out / inside)
            return match[0]
        return words

    return LINK.sub(resolve, text)


# ---------------------------------------------------------------- API pages


def module_name(path: Path) -> str:
    """``spacer_lib/maps/grid.py`` → ``spacer_lib.maps.grid``; a folder likewise."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def api_pages(library: Path, out: Path) -> None:
    """A page for each module of a package, and one that lists them."""
    out.mkdir(parents=True)
    entries = []
    for path in sorted(library.rglob("*.py"), key=lambda p: p.with_suffix("").parts):
        name = module_name(path.relative_to(library.parent))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told = ast.get_docstring(tree) or ""
        lines = [f"# {name}", "", *_block(told)]
        for node in tree.body:
            lines += _described(node)
        (out / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        entries.append((name, told.partition("\n")[0]))
    listed = sorted(entries)
    lines = ["# The library", "", "Every module, with its public functions.", ""]
    lines += [f"- [`{name}`]({name}.md): {told}" for name, told in listed]
    lines += ["", "```{toctree}", ":hidden:", "", *(name for name, _ in listed), "```"]
    (out / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _described(node: ast.stmt, owner: str = "") -> Iterator[str]:
    """Heading, signature and docstring of a public function or class."""
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name[0] == "_":
        return
    told = ast.get_docstring(node)
    if owner and not told:
        return
    yield from (f"{'###' if owner else '##'} {owner}{node.name}", "")
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{node.name}({ast.unparse(node.args)}){returns}"
    else:
        bases = ", ".join(map(ast.unparse, node.bases))
        signature = f"class {node.name}({bases})" if bases else f"class {node.name}"
    yield from _block(signature, "python")
    yield from _block(told or "")
    for child in node.body if isinstance(node, ast.ClassDef) else ():
        yield from _described(child, f"{node.name}.")


def _block(text: str, language: str = "text") -> list[str]:
    """A text as a literal block, or nothing."""
    return [f"~~~~{language}", text, "~~~~", ""] if text else []


# ---------------------------------------------------------------- links


class _Page(HTMLParser):
    """What a page links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """``page: link`` of each relative link without its file or anchor."""
    paths = sorted(site.rglob("*.html"))
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            target = target if parts.path else path
            anchor = unquote(parts.fragment)
            known = pages.get(target)
            missing = not target.exists()
            if missing or (anchor and known and anchor not in known.anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    if task == "sources":
        sources(folder)
    else:
        found = broken_links(folder)
        print(*found, f"{len(found)} broken links", sep="\n")
        sys.exit(bool(found))
