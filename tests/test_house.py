"""The house rules that a machine can check."""

import ast
import functools
import re
from pathlib import Path

import pytest

import spacer_lib

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "spacer_lib"

# Lowest first; a module imports only from its own floor and those before it.
FLOORS = (
    "errors",
    "versions",
    "artifacts",
    "markup",
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
    "rehearsal",
    "published",
    "pictures",
    "notebooks",
    "cli",
    "__main__",
)
PRINTING = {"cli", "training"}  # the command line and the ranks' progress lines

MODULES = sorted(LIBRARY.rglob("*.py"))
BENCHES = sorted((ROOT / "benches").glob("*.py"))
each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY))
)
# Rules about one file alone hold for the benches too.
each_file = pytest.mark.parametrize(
    "path", [*MODULES, *BENCHES], ids=lambda path: str(path.relative_to(ROOT))
)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
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


# Functions that record any failure as that of one item, and go on with the others.
BOUNDARIES = {
    ("cli/boundary.py", "in_one_line"): "the command line: any error in one line",
    ("rooms/scans.py", "_parse_scan"): "one scan of a batch",
    ("rehearsal/readings.py", "attempt"): "one reading of a stage",
    ("training/packing_check.py", "_measured"): "a check that has a fallback",
}


def boundary_handlers(path):
    """Lines of the handlers in the functions of ``BOUNDARIES``."""
    for node in ast.walk(parse(path)):
        if isinstance(node, FUNCTION) and path.is_relative_to(LIBRARY):
            if (path.relative_to(LIBRARY).as_posix(), node.name) in BOUNDARIES:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.ExceptHandler):
                        yield inner.lineno


@each_file
def test_no_error_is_swallowed(path):
    """A handler of everything ends by raising again, or is a named boundary."""
    allowed = set(boundary_handlers(path))
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler) and is_broad(node):
            last = node.body[-1]
            again = isinstance(last, ast.Raise) and last.exc is None
            where = f"line {node.lineno}: broad except"
            assert again or node.lineno in allowed, where


@each_file
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


# Modules that list folders of others, or skip temporary names in their own way.
LISTING = {
    "artifacts.py": "the one place",
    "rooms/layouts.py": "os.walk below a scan, without hidden names",
    "published/__init__.py": "the package's own tables",
    "training/processes/extensions.py": "torch's folder of extensions",
}


def own_ways(tree):
    """``(line, kind)`` of temporary names, renames and listings."""
    makers = {"mkstemp", "mkdtemp", "mktemp", "NamedTemporaryFile"}
    makers |= {"TemporaryDirectory", "SpooledTemporaryFile"}
    for node in ast.walk(tree):
        if is_text(node) and re.fullmatch(r"[^\s/]*\.(part|tmp|temp|swp)", node.value):
            yield node.lineno, "name"
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        whole, count = ast.unparse(node.func), len(node.args)
        if name in makers or whole in ("os.replace", "os.rename", "shutil.move"):
            yield node.lineno, "name"
        elif name in ("rename", "replace") and count == 1 and not node.keywords:
            yield node.lineno, "name"  # of a path; texts have two arguments
        elif name in ("glob", "rglob", "iterdir", "listdir", "scandir", "walk"):
            if whole != "ast.walk":
                yield node.lineno, "listing"


@each_module
def test_temporary_names_and_listings_have_one_place(path):
    """Readers never see what a killed writer left: see ``artifacts.listing``."""
    where = path.relative_to(LIBRARY).as_posix()
    found = list(own_ways(parse(path)))
    if where != "artifacts.py":
        assert [line for line, kind in found if kind == "name"] == []
    if where not in LISTING:
        assert [line for line, kind in found if kind == "listing"] == []


@pytest.mark.parametrize(
    "source",
    [
        "tempfile.mkdtemp(dir=folder)",
        "with TemporaryDirectory() as folder: pass",
        "os.replace(part, path)",
        "path.rename(target)",
        "path.replace(target)",
        "folder.with_name('model.part')",
        "sorted(folder.glob('*.json'))",
        "os.listdir(folder)",
    ],
)
def test_an_own_way_is_seen(source):
    assert len(list(own_ways(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "text.replace('a', 'b')",
        "table.rename(columns=names)",
        "dataclasses.replace(scene, fps=24)",
        "listing(folder, '*.json')",
        "tempfile.TemporaryFile()",
    ],
)
def test_other_calls_are_fine(source):
    assert list(own_ways(ast.parse(source))) == []


@each_module
def test_plots_are_never_shown_and_only_the_command_line_prints(path):
    parts = parts_of(path)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            called, where = ast.unparse(node.func), f"line {node.lineno}"
            assert called not in ("plt.show", "pyplot.show"), where
            if called == "print":
                assert parts and parts[0] in PRINTING, where


@each_file
def test_nothing_is_left_for_later_and_lines_fit(path):
    left = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        assert len(line) <= 88, f"line {number} has {len(line)} characters"
        assert not left.search(line), f"line {number}: {line.strip()}"


@each_file
def test_public_things_are_documented(path):
    tree = parse(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    kinds = (*FUNCTION, ast.ClassDef)
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
    folders = "spacer_lib benches notebooks scripts configs papermill_runs binder"
    for folder in folders.split():
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


# ---------------------------------------------------------------- layout and types


@pytest.mark.parametrize("folder", ["spacer_lib", "benches", "tests", "scripts"])
def test_the_formatter_lays_out_all_code(folder):
    skip = re.compile(r"#\s*fmt:\s*(skip|off)")
    faults = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / folder).rglob("*.py"))
        if skip.search(path.read_text(encoding="utf-8"))
    ]
    assert faults == []


def public_functions(tree):
    """Functions of a module and methods of its classes that have a public name."""
    for node in tree.body:
        if isinstance(node, FUNCTION) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                named = isinstance(method, FUNCTION)
                if named and re.fullmatch(r"[^_].*|__\w+__", method.name):
                    yield method


def bare_parts(function):
    """Names of parameters without annotation, and ``return``."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    parameters += [one for one in (given.vararg, given.kwarg) if one]
    bare = [one.arg for one in parameters if not one.annotation]
    bare = bare[1:] if bare[:1] in (["self"], ["cls"]) else bare
    return bare + ([] if function.returns else ["return"])


@each_file
def test_public_functions_are_annotated(path):
    faults = {
        f"line {function.lineno}: {function.name}": bare
        for function in public_functions(parse(path))
        if (bare := bare_parts(function))
    }
    assert faults == {}


# ---------------------------------------------------------------- kinds of errors


ERRORS = ("SpacerError", "MediaError", "TrainingFailed")


def kinds_of(tree):
    """``(line, kinds)`` of each error that is made; ``None``: no literal kind.

    Left out are errors whose kind is passed on: a parameter of the function around
    them, or another error's kind.
    """
    for function in ast.walk(tree):
        for node in ast.iter_child_nodes(function):
            node.parent = function
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS:
            given = {word.arg: word.value for word in node.keywords}
            kind, around = given.get("kind"), node
            if isinstance(kind, ast.Attribute) and kind.attr == "kind":
                continue
            while around and not isinstance(around, FUNCTION):
                around = getattr(around, "parent", None)
            if isinstance(kind, ast.Name) and around:
                parameters = around.args.args + around.args.kwonlyargs
                if kind.id in [one.arg for one in parameters]:
                    continue
                values = [
                    one.value
                    for one in ast.walk(around)
                    if isinstance(one, ast.Assign)
                    and ast.unparse(one.targets[0]) == kind.id
                ]
                for value in values:
                    yield value.lineno, literal_kinds(value)
                if values:
                    continue
            yield node.lineno, literal_kinds(kind)


def literal_kinds(node):
    if isinstance(node, ast.IfExp):
        return literal_kinds(node.body) + literal_kinds(node.orelse)
    if isinstance(node, ast.JoinedStr):  # f"rooms.sens-{fault}"
        parts = [part.value if is_text(part) else "x" for part in node.values]
        return ["".join(parts)]
    return [node.value if is_text(node) else None]


def is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@each_file
def test_errors_have_a_kind_of_their_wing(path):
    wing = path.relative_to(ROOT).with_suffix("").parts
    wing = wing[0] if wing[0] == "benches" else wing[1]
    faults = [
        f"line {line}: {kind}"
        for line, kinds in kinds_of(parse(path))
        for kind in kinds
        if not kind or not re.fullmatch(rf"{wing}\.[a-z0-9]+(-[a-z0-9]+)*", kind)
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("SpacerError('x')", [None]),
        ("SpacerError('x', kind='a.b')", ["a.b"]),
        ("SpacerError('x', kind='a.b' if y else 'a.c')", ["a.b", "a.c"]),
        ("SpacerError('x', kind=f'a.{y}-b')", ["a.x-b"]),
        ("SpacerError('x', kind=f'{y}.b')", ["x.b"]),
        ("SpacerError('x', kind=error.kind)", []),
        ("def f(kind):\n    raise SpacerError('x', kind=kind)", []),
        ("def f():\n    raise SpacerError('x', kind=kind)", [None]),
        ("def f():\n    k = 'a.b'\n    raise SpacerError('x', kind=k)", ["a.b"]),
    ],
)
def test_kinds_are_read(source, kinds):
    assert [kind for _, found in kinds_of(ast.parse(source)) for kind in found] == kinds


# ---------------------------------------------------------------- names in docstrings


def names_bound(node):
    """Names that a statement of a module or class defines."""
    if isinstance(node, (*FUNCTION, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [
            name.id for one in node.targets for name in ast.walk(one) if is_name(name)
        ]
    if isinstance(node, ast.AnnAssign):
        return [ast.unparse(node.target)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, (ast.If, ast.With, ast.Try, ast.For)):
        return [name for inner in node.body for name in names_bound(inner)]
    return []


def is_name(node):
    return isinstance(node, ast.Name)


@functools.cache
def project_names():
    """``({module: names}, {class: (attributes, bases)})`` of the library."""
    modules, classes = {}, {}
    for path in MODULES:
        tree = parse(path)
        names = {name for node in tree.body for name in names_bound(node)}
        modules[".".join(parts_of(path))] = names
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                own = {name for inner in node.body for name in names_bound(inner)}
                own |= {
                    one.attr
                    for one in ast.walk(node)
                    if isinstance(one, ast.Attribute)
                    and ast.unparse(one.value) == "self"
                }
                bases = [re.split(r"\W", ast.unparse(base))[-1] for base in node.bases]
                classes[node.name] = own, bases
    for name in modules:
        above, _, last = name.rpartition(".")
        modules[above].add(last)
    return modules, classes


def class_has(name, attribute):
    """Whether a class has an attribute; unknown bases may have any."""
    _, classes = project_names()
    own, bases = classes[name]
    return attribute in own or any(
        base not in classes or class_has(base, attribute) for base in bases
    )


def is_of_project(dotted):
    """Whether a dotted name begins with one of our modules or classes."""
    modules, classes = project_names()
    first = dotted.split(".")[0]
    return (
        first == "spacer_lib"
        or first in classes
        or first in {name.rpartition(".")[2] for name in modules}
    )


def exists(dotted):
    """Whether a module, ``module.name`` or ``module.Class.name`` is in the library."""
    modules, classes = project_names()
    parts = dotted.removeprefix("spacer_lib.").split(".")
    if ".".join(parts) in modules:
        return True
    for cut in range(1, len(parts)):
        head, name, *rest = ".".join(parts[:cut]), *parts[cut:]
        for module, names in modules.items():
            if (module == head or module.endswith(f".{head}")) and name in names:
                if not rest or name not in classes or class_has(name, rest[0]):
                    return True
    return parts[0] in classes and class_has(parts[0], parts[1])


def docstrings(node, known=frozenset()):
    """``(docstring, names)``: names are parameters and attributes around it."""
    for inner in ast.iter_child_nodes(node):
        names = known
        if isinstance(inner, FUNCTION):
            names = known | {one.arg for one in ast.walk(inner.args) if is_arg(one)}
        elif isinstance(inner, ast.ClassDef):
            names = known | {name for one in inner.body for name in names_bound(one)}
        if isinstance(inner, (*FUNCTION, ast.ClassDef)):
            yield ast.get_docstring(inner) or "", names
        yield from docstrings(inner, names)


def is_arg(node):
    return isinstance(node, ast.arg)


FILES = "csv ipynb json jsonl md mp4 parquet pt py sens sh svg tsv txt yaml".split()


def stale_names(tree):
    texts = [(ast.get_docstring(tree) or "", frozenset()), *docstrings(tree)]
    for text, known in texts:
        for dotted in re.findall(r"``([A-Za-z_]\w*(?:\.\w+)+)(?:\(\))?``", text):
            first, *_, last = dotted.split(".")
            if first in known or last in FILES or not is_of_project(dotted):
                continue
            if not exists(dotted):
                yield dotted


@each_module
def test_names_in_docstrings_exist(path):
    assert list(stale_names(parse(path))) == []


@pytest.mark.parametrize(
    ("text", "stale"),
    [
        ("``scores.hits`` ``errors.SpacerError`` ``SpacerError.kind``", []),
        ("``numpy.array`` ``scores.json`` ``spacer_lib.maps.grid``", []),
        ("``scores.gone``", ["scores.gone"]),
        ("``VideoSettings.gone``", ["VideoSettings.gone"]),
        ("``spacer_lib.gone``", ["spacer_lib.gone"]),
    ],
)
def test_a_stale_name_is_seen(text, stale):
    assert list(stale_names(ast.parse(repr(text)))) == stale
