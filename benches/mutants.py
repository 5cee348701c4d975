"""Mutation testing: change one operator or number at a time; does a test fail?

A mutant whose tests all pass has survived: either a test is missing, or
``mutants.yaml`` says why no test can fail. Which mutants are tried is decided by a hash
of each mutant itself, so that the choice stays the same where other lines change.

    python -m benches.mutants [PART OF A MUTANT'S KEY ...] [--share S] [--list]
"""

import argparse
import ast
import copy
import hashlib
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benches.changes import run_tests, source_path, warm

REASONS = Path(__file__).with_suffix(".yaml")
SHARE = 0.12  # of all mutants that a plain call tries
SEED = 0

# Module → the tests that know it, quickest first.
OTHER_QUESTIONS = "test_other_questions_have_another_generator_version"
MISTAKES = "test_recipe_mistakes_are_named"
NO_NUMBERS = "test_numbers_of_a_recipe_that_are_none_are_refused"
# Each type's generator and its oracle in the same file: one finds the other's mutants.
AGREE = "kinds::test_generator_and_oracle_agree_in_a_thousand_rooms"
RULES = "kinds::test_they_agree_by_the_other_rules"
ASKS = "kinds::test_what_a_type_asks_and_rejects_has_its_version thresholds"


def _kinds(types: str, *more: str) -> str:
    """Tests of a module of question types, quickest first."""
    agreed = [f"{AGREE}[{name}]" for name in types.split()]
    first = f"{ASKS} wording build::{OTHER_QUESTIONS} qa"
    return " ".join([first, *more, *agreed])


ROOMS = {
    "rewards.score": "rewards released_rewards probes reward_cases",
    "rewards.released": "released_rewards rewards reward_cases",
    "rewards.config": "rewards probes",
    "rewards.trl": "rewards",
    "rewards.metrics": "metrics rewards reward_cases",
    "maps.grid": "cogmap",
    "maps.text": "cogmap rewards",
    "maps.scores": "cogmap rewards added_rewards",
    "questions.rules": f"build::{NO_NUMBERS} thresholds qa",
    "questions.drafts": f"build::{OTHER_QUESTIONS} qa",
    "questions.askable": f"build::{OTHER_QUESTIONS} qa",
    "questions.kinds.counting": _kinds(
        "object_existence object_counting_multiple object_counting",
        "budgets",
    ),
    "questions.kinds.size": _kinds(
        "object_size_estimation object_size_comparison room_size_estimation",
        "kinds::test_the_area_inside_the_outline_is_the_rooms",
        "kinds::test_an_area_by_another_rule_is_that_of_the_metadata",
        "area",
    ),
    "questions.kinds.distance": _kinds(
        "object_abs_distance object_rel_distance object_rel_distance_farthest",
        RULES,
    ),
    "questions.kinds.direction": _kinds(
        "object_rel_direction_easy object_rel_direction_medium "
        "object_rel_direction_hard object_rel_direction_backward_hard",
        "kinds::test_on_whole_metres_the_originals_agree",
    ),
    "questions.kinds.appearance": _kinds(
        "obj_appearance_order obj_appearance_order_6 appearance_before_after",
        "budgets",
    ),
    "questions.kinds.route": f"{ASKS} kinds",
    "questions.kinds.camera": f"{ASKS} kinds",
    "questions.kinds.picture": f"{ASKS} kinds",
    "questions.generators": f"wording build::{OTHER_QUESTIONS} qa",
    "questions.choose": f"build::{OTHER_QUESTIONS} qa",
    "questions.recipes": f"build::{NO_NUMBERS} build::{MISTAKES} "
    f"build::{OTHER_QUESTIONS}",
    "evaluation.bootstrap": "metrics evaluation",
    "evaluation.statistics": "benchmarks evaluation report",
    "evaluation.aggregates": "profiles",
    "questions.solver": "consistency",
    "evaluation.consistency": "consistency",
}

_SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change of a module.

    Attributes
    ----------
    module : str
        Dotted name below ``spacer_lib``.
    where : str
        Function or class, dotted; "" for the module itself.
    line : int
    old, new : str
        The expression and what stands in its place, each on one line.
    nth : int
        Which of the equal expressions of ``where``, from 0.
    start, end : int
        Bytes of the source that ``new`` replaces.
    """

    module: str
    where: str
    line: int
    old: str
    new: str
    nth: int
    start: int
    end: int

    @property
    def key(self) -> str:
        """What names the mutant where lines move."""
        nth = f" #{self.nth + 1}" if self.nth else ""
        return f"{self.module}:{self.where}: {self.old} → {self.new}{nth}"

    @property
    def chance(self) -> float:
        """A number in [0, 1) that is drawn by seed and key."""
        digest = hashlib.sha256(f"{SEED} {self.key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def text(self, source: bytes) -> str:
        """The changed source."""
        changed = source[: self.start] + f"({self.new})".encode() + source[self.end :]
        return changed.decode()


def mutants_of(module: str, source: str) -> list[Mutant]:
    """All mutants of a module's source, in the order of its lines.

    Left out: docstrings, annotations, decorators, texts, and what an error says.
    """
    data, seen, found = source.encode(), dict[str, int](), list[Mutant]()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for where, node, other in _changes(ast.parse(source), ()):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        old, new = ast.unparse(node), ast.unparse(other)
        label = f"{where} {old} {new}"
        nth = seen.get(label, 0)
        seen[label] = nth + 1
        found.append(Mutant(module, where, node.lineno, old, new, nth, start, end))
    return sorted(found, key=lambda mutant: mutant.start)


def _changes(
    node: ast.AST, names: tuple[str, ...]
) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """(function, expression, other expression) below a node."""
    if isinstance(node, ast.expr):
        for other in _others(node):
            yield ".".join(names), node, other
    if isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield ".".join(names), node.value, ast.Constant(None)
    if isinstance(node, ast.If | ast.IfExp | ast.While) and isinstance(
        node.test, ast.Name | ast.Call | ast.Attribute
    ):
        yield ".".join(names), node.test, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = (*names, node.name)
    for child in _code_below(node):
        yield from _changes(child, names)


def _code_below(node: ast.AST) -> Iterator[ast.AST]:
    """Children of a node without texts, types, decorators and what errors say."""
    if isinstance(node, ast.JoinedStr | ast.Raise):
        return
    skipped = {"annotation", "returns", "decorator_list", "bases"}
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("SpacerError"):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return  # zip's: an assertion inside a function, which no input can reach
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _others(node: ast.expr) -> Iterator[ast.expr]:
    """What may stand in an expression's place."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for swap in _SWAPS.get(type(op), ()):
                other = copy.deepcopy(node)
                other.ops[i] = swap()  # type: ignore[call-overload]
                yield other
    elif isinstance(node, ast.BoolOp):
        (swap,) = _SWAPS[type(node.op)]
        yield ast.BoolOp(swap(), node.values)  # type: ignore[arg-type]
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0]
    elif isinstance(node, ast.BinOp):
        for swap in _SWAPS.get(type(node.op), ()):
            yield ast.BinOp(node.left, swap(), node.right)  # type: ignore[arg-type]
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _other_values(node.value)
    elif isinstance(node, ast.Name) and node.id in _NAMES:
        yield ast.Name(_NAMES[node.id])


def _other_values(value: object) -> Iterator[ast.expr]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)


def chosen(words: Sequence[str], share: float) -> list[Mutant]:
    """The mutants that a call tries, room by room."""
    found = []
    for module in ROOMS:
        source = source_path(f"spacer_lib.{module}").read_text(encoding="utf-8")
        found += [m for m in mutants_of(module, source) if m.chance < share]
    return [m for m in found if not words or any(word in m.key for word in words)]


def tests_of(module: str) -> list[str]:
    """The tests of a room, as pytest takes them."""
    named = (name.partition("::") for name in ROOMS[module].split())
    return [f"tests/unit/test_{file}.py{cut}{name}" for file, cut, name in named]


def read_reasons() -> dict[str, str]:
    """Key of a surviving mutant → why no test fails."""
    found: dict[str, str] = yaml.safe_load(REASONS.read_text(encoding="utf-8")) or {}
    return found


def fate(mutant: Mutant, seconds: float) -> str:
    """``killed``, ``survived`` or ``timed out``."""
    module = f"spacer_lib.{mutant.module}"
    text = mutant.text(source_path(module).read_bytes())
    ast.parse(text)
    done = run_tests(
        tests_of(mutant.module), module, text, first_only=True, seconds=seconds
    )
    if done.timed_out:
        return "timed out"
    return "survived" if done.passed and not (done.failed or done.broken) else "killed"


def _shown(mutant: Mutant, reason: str) -> str:
    path = source_path(f"spacer_lib.{mutant.module}").relative_to(Path.cwd())
    said = textwrap.indent(textwrap.fill(reason, 84), "    ")
    lines = [f"{path}:{mutant.line}  in {mutant.where or 'the module'}"]
    lines += [f"  - {mutant.old}", f"  + {mutant.new}", said]
    return "\n".join(lines)


def _print_table(fates: Mapping[Mutant, str]) -> None:
    kinds = "killed", "timed out", "survived"
    print(f"\n{'module':<24}{'mutants':>10}" + "".join(f"{k:>11}" for k in kinds))
    for module in [*ROOMS, "all"]:
        own = [fate for m, fate in fates.items() if module in (m.module, "all")]
        if own:
            counts = "".join(f"{own.count(kind):>11}" for kind in kinds)
            print(f"{module:<24}{len(own):>10}{counts}")


def main(arguments: Sequence[str]) -> int:
    """Print a table and the survivors; 1 if one is not explained."""
    parser = argparse.ArgumentParser(prog="python -m benches.mutants")
    parser.add_argument("words", nargs="*", help="parts of what is printed of a mutant")
    parser.add_argument("--share", type=float, default=SHARE, help="of all mutants")
    parser.add_argument("--seconds", type=float, default=60, help="of one mutant")
    parser.add_argument("--list", action="store_true", help="name mutants, run none")
    given = parser.parse_args(arguments)
    tried, reasons = chosen(given.words, given.share), read_reasons()
    if given.list:
        print(*(m.key for m in tried), sep="\n")
        return 0
    warm(training=True)
    fates: dict[Mutant, str] = {}
    for mutant in tried:
        fates[mutant] = fate(mutant, given.seconds)
        print(f"{fates[mutant]:<9} {mutant.key}", flush=True)
    _print_table(fates)
    survivors = [m for m, f in fates.items() if f == "survived"]
    new = [m for m in survivors if m.key not in reasons]
    for mutant in survivors:
        print("\n" + _shown(mutant, reasons.get(mutant.key, "NOT EXPLAINED")))
    stale = [m.key for m, f in fates.items() if f != "survived" and m.key in reasons]
    for key in stale:
        print(f"\n{REASONS.name} explains a mutant that is killed: {key}")
    return 1 if new or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
