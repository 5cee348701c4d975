"""Recipes with one fault each: every one must be refused in one line.

The faults are those of a text (a bracket, a key twice, another encoding) and those of a
value (a number that YAML versions read differently, another type, out of range, a key
misspelt). Whole recipes in unusual spellings are read too, and must be accepted.

    python -m benches.recipes [FILES] [SEED]
"""

import dataclasses
import sys
import tempfile
import time
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.config import CONFIGS, EvaluationConfig, load_evaluation
from spacer_lib.evaluation.profiles import PROFILES, Profile, load_profile
from spacer_lib.questions.recipes import RECIPES as QUESTION_RECIPES
from spacer_lib.questions.recipes import Recipe, load_recipe
from spacer_lib.settings import read_yaml
from spacer_lib.study import STUDIES, StudyConfig, load_study
from spacer_lib.training.recipe import RECIPES, TrainConfig, load_config

SLOW_S = 10.0


@dataclass(frozen=True)
class Kind:
    """A kind of settings file: an example, its class, and what reads it."""

    name: str
    example: Path
    settings: Any
    read: Callable[[Path], Any]


KINDS = (
    Kind("training", RECIPES / "tiny.yaml", TrainConfig, load_config),
    Kind("question", QUESTION_RECIPES / "demo.yaml", Recipe, load_recipe),
    Kind("evaluation", CONFIGS / "tiny.yaml", EvaluationConfig, load_evaluation),
    Kind("profile", PROFILES / "vlmevalkit.yaml", Profile, load_profile),
    Kind("study", STUDIES / "modes.yaml", StudyConfig, load_study),
)


def _laughs(depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, depth):
        parts = ", ".join([f"*a{i - 1}"] * 9)
        lines.append(f"a{i}: &a{i} [{parts}]")
    return "\n".join(lines) + "\n"


def text_faults(whole: str) -> dict[str, bytes]:
    """Damaged texts of a settings file, by the fault's name."""
    first = next(line for line in whole.splitlines() if line[:1].isalpha())
    key = first.partition(":")[0]
    more = {
        "3,000 brackets": "extra: " + "[" * 3000 + "\n",
        "90,000 brackets": "extra: " + "[" * 90_000 + "\n",
        "3,000 braces": "extra: " + "{a: " * 3000 + "\n",
        "3,000 dashes": "extra:\n  " + "- " * 3000 + "x\n",
        "an open bracket": "extra: [\n",
        "an open quote": 'extra: "x\n',
        "a key twice": f"{first}\n",
        "a key twice in quotes": f'"{key}": 1\n',
        "a tab": "extra:\n\tx: 1\n",
        "a second document": "---\nextra: 1\n",
        "billion laughs": _laughs(20),
        "a list of itself": "extra: &a [*a]\n",
        "a mapping of itself": "extra: &a {b: *a}\n",
        "an unknown alias": "extra: *nowhere\n",
        "an object's tag": "extra: !!python/object/apply:os.getcwd []\n",
        "a number's tag": 'extra: !!int "1:30"\n',
        "a tag of its own": "extra: !mine 3\n",
        "a merge": "<<: {extra: 1}\n",
        "a number as key": "1: 2\n",
        "null as key": "null: 2\n",
        "a truth value as key": "true: 2\n",
        "NaN as key": ".nan: 2\n",
        "a list as key": "[1, 2]: 2\n",
        "a mapping as key": "? {a: 1}\n: 2\n",
        "an empty key": "'': 2\n",
        "5,000 digits": "extra: " + "1" * 5000 + "\n",
        "a NUL": "extra: a\0b\n",
        "200,000 characters": "extra: " + "x" * 200_000 + "\n",
        "20,000 values": "extra: [" + "1," * 20_000 + "]\n",
        "an unknown key": "nothing_like_it: 1\n",
        "extends nothing": "extends: nowhere_at_all\n",
        "extends a list": "extends: [tiny]\n",
        "extends a folder": "extends: ../../../../etc\n",
    }
    faults = {name: (whole + text).encode() for name, text in more.items()}
    replaced: dict[str, bytes] = {
        "empty": b"",
        "comments alone": b"# nothing\n",
        "null alone": b"null\n",
        "a list": b"- a: 1\n",
        "a text": b"tiny\n",
        "a number": b"3\n",
        "markers alone": b"---\n...\n",
        "latin-1": f"# caf\xe9\n{whole}".encode("latin-1", errors="replace"),
        "UTF-16": whole.encode("utf-16"),
        "noise": bytes(range(256)),
        "cut in a bracket": whole.encode() + b"extra: {a: [1, 2",
        "JSON with a comma": b'{"a": 1,, }',
        "TOML": b"[table]\nkey = 1\n",
        "a pickle": b"\x80\x04\x95\x00.",
    }
    return faults | replaced


_WORDS = ("1:30", "0x1f", "0o17", "010", "1_000", "1,5", "2026-01-02", "yes", "no")
_NUMBERS = (*_WORDS, ".inf", "-.inf", ".nan", "1e400", "'3'", "[3]", "{a: 3}", "true")
_BAD_VALUES: dict[type, tuple[str, ...]] = {
    int: (*_NUMBERS, "1.5", "1e3", "-1", "99999999999999999999", "1" * 5000),
    float: (*_NUMBERS, "-1"),
    bool: ("yes", "no", "on", "off", "y", "0", "1", "'true'", "[true]"),
    str: ("1", "1.5", "true", ".nan", "[a]", "{a: b}"),
    tuple: ("3", "x", "true", "{a: 1}", "[[1]]", "[null]", "[{a: 1}]"),
    dict: ("3", "x", "true", "[1]", "[]", "[{a: 1}]"),
}


def value_faults(settings: Any, where: tuple[str, ...] = ()) -> Iterator[Any]:
    """``(keys, value)`` that must be refused, for each field of a settings class.

    A value is YAML text. A misspelt key is the key with a letter twice.
    """
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):
        kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
        if not isinstance(hints[field.name], types.UnionType):
            kinds = (hints[field.name],)
        name = (*where, field.name)
        yield (*where, field.name + field.name[-1]), "1"
        nested = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        if nested is not None and nested is not settings:
            yield from value_faults(nested, name)
            kinds = (*kinds, dict)
        plain = [typing.get_origin(kind) or kind for kind in kinds]
        if types.NoneType not in plain:
            yield name, "null"
        known = [kind for kind in plain if kind in _BAD_VALUES]
        for value in _BAD_VALUES[known[0]] if known else ():
            if not any(_fits(value, kind) for kind in known[1:]):
                yield name, value


def _fits(value: str, kind: type) -> bool:
    return kind is dict and value.startswith("{") or kind is list and value[0] == "["


def faulty(kind: Kind) -> Iterator[tuple[str, bytes]]:
    """``(fault, content)`` of every faulty file of a kind."""
    whole = kind.example.read_text(encoding="utf-8")
    for name, content in text_faults(whole).items():
        yield name, content
    base = read_yaml(kind.example, kind.example.parent)
    for keys, value in value_faults(kind.settings):
        changed = yaml.safe_load(yaml.safe_dump(base))
        level = changed
        for key in keys[:-1]:
            if not isinstance(level.get(key), dict):
                level[key] = {}
            level = level[key]
        level[keys[-1]] = "VALUE"
        text = yaml.safe_dump(changed, sort_keys=False)
        fault = f"{'.'.join(keys)}: {value[:20]}"
        yield fault, text.replace(": VALUE", f": {value}").encode()


def unusual(kind: Kind) -> dict[str, bytes]:
    """Whole files in other spellings, which must be accepted."""
    text = kind.example.read_text(encoding="utf-8")
    values = read_yaml(kind.example, kind.example.parent)
    return {
        "as it is": text.encode(),
        "byte-order mark": text.encode("utf-8-sig"),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "flow": yaml.safe_dump(values, default_flow_style=True, width=10**6).encode(),
        "block": yaml.safe_dump(values, default_flow_style=False).encode(),
        "no line end": text.rstrip("\n").encode(),
        "markers": f"---\n{text}...\n".encode(),
    }


def read_all(files: int | None = None, seed: int = 0) -> tuple[list[Any], list[str]]:
    """A row of counts per kind of settings, and what came out wrong.

    Parameters
    ----------
    files : int, optional
        Of each kind, drawn with ``seed``; by default every one.
    """
    rows, wrong = [], []
    pool = ThreadPoolExecutor(1)  # its futures hold errors of any type
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fault.yaml"
        for kind in KINDS:
            cases = [(True, *case) for case in faulty(kind)]
            if files is not None and files < len(cases):
                rng = np.random.default_rng([seed, *kind.name.encode()])
                chosen = rng.choice(len(cases), files, replace=False)
                cases = [cases[i] for i in sorted(chosen)]
            cases += [(False, *case) for case in unusual(kind).items()]
            counts: Counter[Any] = Counter()
            slowest = 0.0
            for bad, name, content in cases:
                path.write_bytes(content)
                start = time.perf_counter()
                error = pool.submit(kind.read, path).exception()
                took = time.perf_counter() - start
                slowest = max(slowest, took)
                one_line = isinstance(error, SpacerError) and "\n" not in str(error)
                verdict = "refused" if one_line else "accepted"
                if error is not None and not one_line:
                    verdict = "tracebacks"
                counts[verdict, bad] += 1
                counts["slow"] += took > SLOW_S
                if verdict != ("refused" if bad else "accepted"):
                    wrong.append(f"{kind.name}: {name}: {verdict}: {error!r:.200}")
            rows.append((kind.name, counts, slowest))
    pool.shutdown()
    return rows, wrong


def main(files: int | None = None, seed: int = 0) -> int:
    """Print a table; the exit status is 1 if a file came out wrong."""
    names = "settings|faulty|refused|accepted wrongly|tracebacks|over 10 s|slowest s|"
    print(f"|{names}whole, odd spelling|of these refused|\n|---|{'---:|' * 8}")
    rows, wrong = read_all(files, seed)
    for name, counts, slowest in rows:
        bad = [counts[v, True] for v in ("refused", "accepted", "tracebacks")]
        whole = [counts[v, False] for v in ("refused", "accepted", "tracebacks")]
        cells = [name, sum(bad), *bad, counts["slow"], f"{slowest:.2f}"]
        print("| " + " | ".join(map(str, [*cells, sum(whole), whole[0]])) + " |")
    print(*wrong, sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
