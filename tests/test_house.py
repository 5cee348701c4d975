"""The house rules that a machine can check."""

import ast
import re
from pathlib import Path

import pytest

import spacer_lib

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "spacer_lib"

# Lowest first; a module imports only from its own floor and those before it.
FLOORS = (
    "errors",
    "artifacts",
    "rows",
    "jobs",
    "settings",
    "rooms",
    "maps",
    "language",
    "questions",
    "rewards",
    "models",
    "tiny",
    "training",
    "benchmarks",
    "evaluation",
    "study",
    "published",
    "pictures",
    "notebooks",
    "cli",
    "__main__",
)
PRINTING = {"cli", "training"}  # the command line and the ranks' progress lines

MODULES = sorted(LIBRARY.rglob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY))
)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def parts_of(path):
    """``spacer_lib/maps/grid.py`` → ``("maps", "grid")``; packages by name."""
    parts = path.relative_to(LIBRARY).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_floors(tree, package):
    """Yield ``(line, floor)`` for each import of spacer_lib, at any depth of code.

    ``package`` holds the parts of the package the code lives in, below
    ``spacer_lib``, against which relative imports are resolved.
    """
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ("spacer_lib", *package)
                kept = above[: len(above) - (node.level - 1)]
                base = ".".join(kept + ((base,) if base else ()))
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                names = [
                    argument.value
                    for argument in node.args
                    if isinstance(argument, ast.Constant)
                ]
        for name in names:
            head, *rest = str(name).split(".")
            if head == "spacer_lib" and rest and rest[0] != "__version__":
                yield node.lineno, rest[0]


def faults_of_order(source, own, package=()):
    """Imports in ``source`` (on floor ``own``) that reach upwards or nowhere."""
    faults = []
    for line, floor in imported_floors(ast.parse(source), package):
        if floor not in FLOORS:
            faults.append(f"line {line}: {floor} is on no floor")
        elif own not in FLOORS or FLOORS.index(floor) > FLOORS.index(own):
            faults.append(f"line {line}: {own} imports {floor}")
    return faults


def test_floors_are_the_documented_ones():
    text = spacer_lib.__doc__.split("Floors, lowest first", 1)[1]
    named = [name for name in re.findall(r"``([^`]+)``", text) if "/" not in name]
    assert tuple(named) == FLOORS


@each_module
def test_module_belongs_to_a_floor(path):
    parts = parts_of(path)
    assert not parts or parts[0] in FLOORS


@each_module
def test_imports_go_down(path):
    parts = parts_of(path)
    package = parts if path.name == "__init__.py" else parts[:-1]
    source = path.read_text(encoding="utf-8")
    # The package itself is the ground: it may import no floor.
    assert faults_of_order(source, parts[0] if parts else None, package) == []


@pytest.mark.parametrize(
    "source",
    [
        "from spacer_lib.cli import main",
        "from spacer_lib import cli",
        "import spacer_lib.pictures.plots as p",
        "def lazy():\n    from spacer_lib.training import run",
        "from ..pictures import draw",
        "from .. import pictures",
        "import importlib\nimportlib.import_module('spacer_lib.cli')",
        "from spacer_lib.nowhere import thing",
    ],
)
def test_an_import_upwards_is_seen(source):
    assert len(faults_of_order(source, "questions", ("questions",))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from spacer_lib import __version__, rooms",
        "from spacer_lib.questions import templates",
        "from . import templates",
        "from .templates import ask",
        "import numpy",
    ],
)
def test_an_import_downwards_or_sideways_is_fine(source):
    assert faults_of_order(source, "questions", ("questions",)) == []


def is_broad(handler):
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None
        or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))
        for kind in kinds
    )


@each_module
def test_no_error_is_swallowed(path):
    """A handler of everything is allowed only if it ends by raising again."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler) and is_broad(node):
            last = node.body[-1]
            again = isinstance(last, ast.Raise) and last.exc is None
            assert again, f"line {node.lineno}: broad except"


@each_module
def test_no_code_comes_from_data(path):
    """No eval, exec or unpickling: what is read from disk is never run."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
    for node in ast.walk(parse(path)):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            assert not forbidden & {alias.name for alias in node.names}, where
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in forbidden, where
        elif isinstance(node, ast.Call):
            keywords = {key.arg: ast.unparse(key.value) for key in node.keywords}
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec"), where
            assert keywords.get("allow_pickle", "False") == "False", where
            if called == "torch.load":
                assert keywords.get("weights_only") == "True", where


@each_module
def test_plots_are_never_shown_and_only_the_command_line_prints(path):
    parts = parts_of(path)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            called, where = ast.unparse(node.func), f"line {node.lineno}"
            assert called not in ("plt.show", "pyplot.show"), where
            if called == "print":
                assert parts and parts[0] in PRINTING, where


@each_module
def test_nothing_is_left_for_later_and_lines_fit(path):
    left = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        assert len(line) <= 88, f"line {number} has {len(line)} characters"
        assert not left.search(line), f"line {number}: {line.strip()}"


@each_module
def test_public_things_are_documented(path):
    tree = parse(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert bare == []


def own_texts():
    """The texts a reader meets: code, notebooks, scripts, recipes, documents."""
    yield from (path for path in ROOT.glob("[!.]*") if path.is_file())
    for folder in ("spacer_lib", "notebooks", "scripts", "configs", "papermill_runs"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file())


def test_no_text_names_somebodys_machine():
    """No home folders, and nothing outside the checkout (only .ci/run may)."""
    personal = re.compile(r"(?<![\w.:/])/(?:root|home|work|Users)/|\.\./shared\b")
    suffixes = {".py", ".ipynb", ".md", ".sh", ".toml", ".yaml", ".yml", ".json", ""}
    faults = []
    for path in own_texts():
        if path.suffix not in suffixes | {".txt", ".cff"}:
            continue
        if "__pycache__" in path.parts or ".ipynb_checkpoints" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        if personal.search(text):
            faults.append(str(path.relative_to(ROOT)))
    assert faults == []
