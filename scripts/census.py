"""Count what the house rules are about, in one or several checkouts.

    python scripts/census.py [ROOT ...]

Sources are parsed, not imported, so that other layouts can be counted too; only the
usage errors are run. One column per checkout.
"""

import ast
import os
import re
import resource
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
# Parameters that hold a question, a prediction or a rollout.
ROW_LIKE = {
    *("row", "rows", "item", "items", "record", "records", "asked", "case", "cases"),
    *("prediction", "predictions", "question", "questions", "rollout", "rollouts"),
}
ROW_TYPES = ("Question", "Prediction", "Rollout")
# Of a checkout without rows.py, a key list is found by these.
KEYS = {
    *("id", "dataset", "scene_name", "question_type", "problem_type", "question"),
    *("options", "ground_truth", "video", "image", "map", "mode", "prediction"),
    *("answer", "extracted", "score", "failure", "condition", "config", "tokens"),
    *("categories", "solution", "path", "data_type", "completion", "split"),
}
# Calls that parse a format themselves.
READERS = {
    "JSON": r"\bjson\.loads?\(",
    "YAML": r"\byaml\.(safe_)?load\(",
    "checkpoints": r"\.from_pretrained\(",
    "CSV": r"\bcsv\.(reader|DictReader)\(|\bpd\.read_csv\(",
    "Parquet": r"\bpq\.(read_table|ParquetFile)\(|\bpd\.read_parquet\(",
}
MISTAKES = (
    "train --config tinny",
    "evaluate --benchmark vis --data . --floor majority",
    "reward --items absent --completions absent --preset our",
)


class Source:
    """One Python file of the library.

    Attributes
    ----------
    parts : tuple of str
        Names below the package: ``("maps", "grid")``.
    """

    def __init__(self, path: Path, library: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.name = str(path.relative_to(library))
        self.parts = path.relative_to(library).with_suffix("").parts

    @property
    def wing(self) -> str:
        """Package or module directly below the library; empty for the library."""
        return "" if self.parts == ("__init__",) else self.parts[0]

    def functions(self) -> Iterator[Any]:
        """All functions and methods, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTION))

    def public(self) -> Iterator[Any]:
        """Public functions, and public methods of public classes."""
        for node in self.tree.body:
            if isinstance(node, FUNCTION) and not node.name.startswith("_"):
                yield node
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for inner in node.body:
                    if isinstance(inner, FUNCTION) and not inner.name.startswith("_"):
                        yield inner


def parameters(function: Any) -> list[Any]:
    """Parameters of a function without ``self`` and ``cls``."""
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [one for one in found if one.arg not in ("self", "cls")]


def length(function: Any) -> int:
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def sizes(sources: list[Source]) -> dict[str, Any]:
    """Lines, modules, functions and their lengths."""
    lengths = [length(one) for source in sources for one in source.functions()]
    return {
        "lines": sum(len(source.text.splitlines()) for source in sources),
        "modules": len(sources),
        "functions": len(lengths),
        "median length of a function": f"{statistics.median(lengths or [0]):g}",
        "functions above 40 lines": sum(lines > 40 for lines in lengths),
        "fmt: skip": sum(
            len(re.findall(r"#\s*fmt:\s*(?:skip|off)", one.text)) for one in sources
        ),
    }


def rows(sources: list[Source]) -> dict[str, Any]:
    """Parameters that hold rows, lists of row keys, readers of files."""
    row_like = [
        one
        for source in sources
        for function in source.functions()
        for one in parameters(function)
        if one.arg in ROW_LIKE
    ]
    found: dict[str, Any] = {
        "row-like parameters": len(row_like),
        "row-like parameters without a type": sum(
            one.annotation is None for one in row_like
        ),
        "lists of row keys": [
            f"{source.name}:{node.lineno}"
            for source in sources
            for node in key_lists(source, row_keys(sources))
        ],
    }
    texts = {source.name: calls(source) for source in sources}
    for kind, pattern in READERS.items():
        found[f"readers: {kind}"] = [
            source.name for source in sources if re.search(pattern, texts[source.name])
        ]
    return found


def calls(source: Source) -> str:
    """All calls as text, without comments and docstrings."""
    found = (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))
    return "\n".join(map(ast.unparse, found))


def row_keys(sources: list[Source]) -> set[str]:
    """Keys of the row classes, or the usual ones where there are none."""
    keys = {
        field.target.id
        for source in sources
        for node in source.tree.body
        if isinstance(node, ast.ClassDef) and node.name in ROW_TYPES
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    return keys | KEYS


def key_lists(source: Source, keys: set[str]) -> Iterator[ast.stmt]:
    """Module-level tuples, lists, sets and dicts of three row keys or more."""
    for node in source.tree.body:
        value = getattr(node, "value", None)
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or value is None:
            continue
        if isinstance(value, ast.Call) and value.args:  # frozenset({...})
            value = value.args[0]
        parts: list[Any] = list(getattr(value, "elts", getattr(value, "keys", ())))
        names = [part.value for part in parts if isinstance(part, ast.Constant)]
        if len(names) >= 3 and len(names) == len(parts) and set(names) <= keys:
            yield node


def annotations(sources: list[Source]) -> dict[str, Any]:
    """Public functions whose parameters and result are all annotated."""
    public = [one for source in sources for one in source.public()]
    whole = [
        one
        for one in public
        if one.returns is not None and all(p.annotation for p in parameters(one))
    ]
    share = 100 * len(whole) / max(len(public), 1)
    return {"public functions": len(public), "of them annotated": f"{share:.0f}%"}


def settings(sources: list[Source]) -> dict[str, Any]:
    """Fields of the dataclasses named ``…Config``, ``…Settings`` or ``Recipe``."""
    fields = {}
    for source in sources:
        for node in source.tree.body:
            if not isinstance(node, ast.ClassDef):
                continue
            named = re.search(r"(Config|Settings|Recipe|Study)$", node.name)
            if named and any(
                "dataclass" in ast.unparse(d) for d in node.decorator_list
            ):
                fields[node.name] = sum(isinstance(x, ast.AnnAssign) for x in node.body)
    return {
        "settings": sum(fields.values()),
        "settings by class": fields,
        "settings of a recipe's first level": fields.get("TrainConfig", 0),
    }


def commands(sources: list[Source]) -> dict[str, Any]:
    """Commands and their options, on the first path and beside it."""
    found: dict[str, Counter] = {"first path": Counter(), "extras": Counter()}
    for source in sources:
        if source.wing != "cli":
            continue
        values = {
            ast.unparse(node.targets[0]): node.value
            for node in source.tree.body
            if isinstance(node, ast.Assign)
        }
        for node in source.tree.body:
            if not isinstance(node, FUNCTION):
                continue
            for decorator in node.decorator_list:
                name = ast.unparse(decorator).partition("(")[0]
                options = len(parameters(node)) + 1  # --json
                hidden = hidden_options(decorator, values)
                if name == "command":
                    found["first path"][node.name] = options - hidden
                if name == "extra" or (name == "command" and hidden):
                    found["extras"][node.name] = options
    return {
        f"{what}: {kind}": count
        for what, listed in found.items()
        for kind, count in (
            ("commands", len(listed)),
            ("options", sum(listed.values())),
            ("options of evaluate", listed.get("evaluate", 0)),
        )
    }


def hidden_options(decorator: ast.expr, values: dict[str, ast.expr]) -> int:
    """Options that ``advanced=`` leaves out of the first path."""
    for word in getattr(decorator, "keywords", ()):
        if word.arg == "advanced":
            names: Any = values.get(ast.unparse(word.value), word.value)
            return len(names.elts)
    return 0


def imports(source: Source) -> Iterator[str]:
    """Dotted names below the library that a file imports, at any depth of code."""
    for node in ast.walk(source.tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ("spacer_lib", *source.parts[:-1])
                kept = above[: len(above) - node.level + 1]
                base = ".".join([*kept, *filter(None, [base])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "spacer_lib" and rest:
                yield rest


def graph(sources: list[Source], floors: list[str]) -> dict[str, Any]:
    """Wings, and the imports between them."""
    arrows: dict[str, set[str]] = defaultdict(set)
    wings = {source.wing for source in sources} - {""}
    for source in sources:
        for name in imports(source):
            target = name.split(".")[0]
            if source.wing and target in wings and target != source.wing:
                arrows[source.wing].add(target)
    upwards = [
        f"{one} -> {other}"
        for one, others in arrows.items()
        for other in others
        if one in floors and other in floors
        if floors.index(other) > floors.index(one)
    ]
    return {
        "wings": len(wings),
        "floors": len(floors),
        "arrows between wings": sum(map(len, arrows.values())),
        "arrows upwards": sorted(upwards),
        "circles of wings": circles(arrows),
        "circles of modules": circles(module_arrows(sources)),
    }


def module_arrows(sources: list[Source]) -> dict[str, set[str]]:
    """``{module: modules it imports}``."""
    names = {".".join(one.parts).removesuffix(".__init__"): one for one in sources}
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, source in names.items():
        for imported in imports(source):
            # ``maps.grid.turned`` is a name in ``maps.grid``.
            whole = imported if imported in names else imported.rpartition(".")[0]
            if whole in names and whole != name:
                arrows[name].add(whole)
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Groups that reach each other, by removing what has no way out or in."""
    reach = {one: set(others) for one, others in arrows.items()}
    changed = True
    while changed:
        changed = False
        for others in reach.values():
            more = set().union(*(reach.get(other, set()) for other in others)) - others
            if more:
                others |= more
                changed = True
    inside = sorted(one for one, others in reach.items() if one in others)
    groups = {
        tuple(two for two in inside if two in reach[one] and one in reach[two])
        for one in inside
    }
    return [" ".join(group) for group in sorted(groups)]


def floors_of(root: Path) -> list[str]:
    """``FLOORS`` of ``tests/test_house.py``, lowest first; one entry per wing."""
    path = root / "tests" / "test_house.py"
    if not path.exists():
        return []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def usage_errors(root: Path) -> dict[str, Any]:
    """CPU-seconds of three mistakes on the command line."""
    found = {}
    for words in MISTAKES:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "spacer_lib", *words.split()],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            timeout=300,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found[f"CPU-seconds: {' '.join(words.split()[:3])}"] = round(seconds, 2)
    return found


def census(root: Path, *, run: bool = True) -> dict[str, Any]:
    """All counts of a checkout, by name.

    Parameters
    ----------
    root : Path
        Folder that holds ``spacer_lib``.
    run : bool
        Whether to run the usage errors.
    """
    library = root / "spacer_lib"
    sources = [Source(path, library) for path in sorted(library.rglob("*.py"))]
    found = {
        **sizes(sources),
        **rows(sources),
        **annotations(sources),
        **settings(sources),
        **commands(sources),
        **graph(sources, floors_of(root)),
    }
    return found | (usage_errors(root) if run else {})


def text_of(value: Any) -> str:
    """A count as a cell: of lists and dictionaries their length."""
    return str(len(value)) if isinstance(value, (list, dict)) else str(value)


def table(counted: dict[str, dict[str, Any]]) -> str:
    """Names down, checkouts across; then what the lists hold."""
    names = list(dict.fromkeys(name for one in counted.values() for name in one))
    widths = [max(12, len(root) + 2) for root in counted]
    lines = [
        " " * 46 + "".join(f"{r:>{w}}" for r, w in zip(counted, widths, strict=True))
    ]
    for name in names:
        cells = (text_of(one.get(name, "-")) for one in counted.values())
        row = "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
        lines.append(f"{name:46}{row}")
    for root, one in counted.items():
        lines += ["", f"in {root}"]
        for name, value in one.items():
            if isinstance(value, dict):
                value = [f"{key} {count}" for key, count in value.items()]
            if isinstance(value, list):
                lines.append(f"  {name}: {', '.join(value) or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    roots = sys.argv[1:] or [str(Path(__file__).resolve().parent.parent)]
    print(table({root: census(Path(root)) for root in roots}))
