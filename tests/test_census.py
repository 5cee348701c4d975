"""``scripts/census.py`` on a small checkout whose counts are known."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("census", ROOT / "scripts" / "census.py")
census = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(census)

FILES = {
    "spacer_lib/__init__.py": "",
    "spacer_lib/errors.py": '''
import json
def load(row: dict, item, other) -> dict:
    """Text that is not counted."""
    return json.loads(row)
KEYS = ("id", "video", "image")
OTHERS = ("id", "video", "elsewhere")
''',
    "spacer_lib/maps/__init__.py": "from spacer_lib.errors import load",
    "spacer_lib/maps/grid.py": """
from dataclasses import dataclass
from spacer_lib.cli import x
from spacer_lib.maps import score  # LAYOUT
@dataclass
class GridSettings:
    size: int = 1
    cells: int = 2
def turned(cells: list) -> list:
    return cells
""",
    "spacer_lib/maps/score.py": "from spacer_lib.maps.grid import turned",
    "spacer_lib/cli/__init__.py": """
MORE = ("b",)
@command("spacer x", advanced=MORE)
def x(a, b, c): ...
@extra("spacer extras y")
def y(a): ...
""",
    "tests/test_house.py": 'FLOORS = ("errors", "maps", "cli")',
}


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("LAYOUT", "fmt: " + "skip"))
    return census.census(root, run=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modules", 6),
        ("functions", 4),
        ("fmt: skip", 1),
        ("row-like parameters", 2),
        ("row-like parameters without a type", 1),
        ("lists of row keys", ["errors.py:6"]),
        ("readers: JSON", ["errors.py"]),
        ("readers: YAML", []),
        ("public functions", 4),
        ("of them annotated", "25%"),
        ("settings by class", {"GridSettings": 2}),
        ("first path: options", 3),
        ("extras: options", 6),
        ("wings", 3),
        ("arrows between wings", 2),
        ("arrows upwards", ["maps -> cli"]),
        ("circles of wings", []),
        ("circles of modules", ["maps.grid maps.score"]),
    ],
)
def test_counts(counted, name, value):
    assert counted[name] == value


def test_checkouts_stand_side_by_side(counted):
    text = census.table({"before": counted, "after": counted | {"modules": 7}})
    (line,) = [line for line in text.splitlines() if line.startswith("modules")]
    assert line.split() == ["modules", "6", "7"]


def test_this_checkout_can_be_counted():
    counted = census.census(ROOT, run=False)
    assert counted["arrows upwards"] == counted["circles of modules"] == []
    assert counted["first path: options of evaluate"] <= 13
