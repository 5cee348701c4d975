"""The README names only targets, commands and paths that exist."""

import re
from pathlib import Path

import pytest
import typer.main

from spacer_lib.cli import app, extras

ROOT = Path(__file__).resolve().parent.parent
MADE_LATER = ("data/", "runs/", "build/", ".venv/")  # by the commands themselves
DOCUMENTS = {".md", ".toml", ".cff", ".sh", ".yml"}
FILES = DOCUMENTS | {".py", ".ipynb", ".yaml", ".json", ".jsonl", ".txt"}


def readme():
    path = ROOT / "README.md"
    assert path.is_file(), "README.md is missing"
    return path.read_text(encoding="utf-8")


def commands(text):
    """Lines of fenced blocks and code spans, comments stripped."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", prose)
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]


def make_targets(text):
    place = r"""(?:-C\s+(?:"[^"]*"|'[^']*'|\S+)\s+)?"""
    pattern = re.compile(rf"(?:^|[\s;&])make\s+{place}([a-z][\w-]*)")
    return {name for line in commands(text) for name in pattern.findall(line)}


def spacer_subcommands(text):
    """``train`` or ``extras study``, of every command that the text calls."""
    pattern = re.compile(r"(?:^|[\s;&/])spacer\s+((?:extras\s+)?[a-z][\w-]*)")
    return {name for line in commands(text) for name in pattern.findall(line)}


def repository_paths(text):
    """Code spans outside fenced blocks that read as a path in this repository."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    top = {path.name for path in ROOT.iterdir()}
    for span in re.findall(r"`([^`\n]+)`", prose):
        if not re.fullmatch(r"[\w.][\w./-]*", span) or span.startswith(MADE_LATER):
            continue
        suffix = Path(span).suffix
        inside = "/" in span and (span.split("/")[0] in top or suffix in FILES)
        if inside or span.endswith("/") or suffix in DOCUMENTS:
            yield span


def test_the_readers_find_what_they_should():
    text = (
        'Run `make demo`, or `make -C "/a b/c" test` and be sure to make tea.\n'
        "```bash\ncd here && make lab  # then make more\n"
        ".venv/bin/spacer extras study\n```\n"
        "See `nowhere/file.py`, `LOG.md`, `Qwen/Qwen2.5-VL-7B`, `data/rooms/`.\n"
    )
    assert make_targets(text) == {"demo", "test", "lab"}
    assert spacer_subcommands(text) == {"extras study"}
    assert list(repository_paths(text)) == ["nowhere/file.py", "LOG.md"]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    named = make_targets(readme())
    assert {"demo", "test"} <= named <= targets


def test_spacer_subcommands_are_listed():
    """Commands that ``--help`` leaves out are not advertised either."""
    known = {*cli_names(app), *(f"extras {name}" for name in cli_names(extras))}
    texts = [readme(), (ROOT / "configs" / "README.md").read_text(encoding="utf-8")]
    for path in (ROOT / "Makefile", *(ROOT / "scripts").glob("*.*")):
        if path.is_file():
            texts.append(f"```\n{path.read_text(encoding='utf-8')}\n```")
    named = set().union(*map(spacer_subcommands, texts))
    assert named and named <= known


def cli_names(group):
    """Commands that ``--help`` of a typer group lists."""
    found = typer.main.get_command(group)
    return {name for name, one in found.commands.items() if not one.hidden}


def test_paths_exist():
    named = list(repository_paths(readme()))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "CITATION.cff", "LOG.md"])
def test_companions_exist(name):
    assert (ROOT / name).stat().st_size > 0
