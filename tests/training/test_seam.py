"""The table of private hooks is complete, and true of the installed libraries."""

import ast
import dataclasses
from pathlib import Path

import pytest

import spacer_lib.training
from spacer_lib.training.seam import GRPO, HOOKS, Hook, broken_hooks

FOLDER = Path(spacer_lib.training.__file__).parent
MODULES = (
    "trainer",
    "step",
    "step_metrics",
    "scores",
    "refill",
    "controls",
    "prefix",
    "checkpoints",
    "sampler",
    "visibility",
    "assembly",
    "start",
)


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.name)
def test_a_hook_is_there_as_the_table_says(hook):
    assert broken_hooks((hook,)) == []


@pytest.mark.parametrize(
    ("hook", "fault"),
    [
        (Hook(GRPO, "_gone", "x", ("self",)), "is gone"),
        (Hook(GRPO, "_gone", "x"), "is not set any more"),
        (Hook(GRPO, "_compute_loss", "x", ("self", "batch")), "no parameter batch"),
        (Hook(GRPO, "_compute_loss", "x", ("inputs", "model")), "another order"),
        (Hook("trl.gone", "x", "x", ()), "has no owner"),
        (Hook("trl.trainer.utils:Gone", "x", "x", ()), "has no owner"),
    ],
)
def test_a_broken_hook_is_named(hook, fault):
    (line,) = broken_hooks((hook,))
    assert fault in line and hook.name in line
    changed = dataclasses.replace(HOOKS[0], name="_renamed")
    assert len(broken_hooks((*HOOKS[1:], changed, hook))) == 2


def private_names(tree):
    """Underscored attributes of ``self``, ``super()`` and ``trainer``, and the
    underscored methods that a class defines."""
    used, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            holder = ast.unparse(node.value)
            if holder in ("self", "super()", "trainer"):
                used.add(node.attr)
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
        if isinstance(node, ast.ClassDef):
            own |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    return used, own


def test_every_private_hook_in_use_is_in_the_table():
    """What a class of ours defines itself is no hook, unless a library calls it."""
    import trl

    listed = {hook.name for hook in HOOKS}
    theirs = set(dir(trl.GRPOTrainer))
    for name in MODULES:
        used, own = private_names(ast.parse((FOLDER / f"{name}.py").read_text()))
        used = {n for n in used if not n.startswith("__")}
        overridden = {n for n in own & theirs if not n.startswith("__")}
        foreign = (used - own) | {n for n in overridden if n.startswith("_")}
        assert foreign <= listed, name
