"""Rooms and maps load no renderer, decoder or model library; workers no renderer,
scan parser or plots.
"""

import ast
import os
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from support import ABSENT, not_installed

from spacer_lib.artifacts import PROJECT_ROOT, listing

HEAVY = {
    "alphashape",
    "decord",
    "open3d",
    "plyfile",
    "rtree",
    "shapely",
    "torch",
    "torchvision",
    "transformers",
    "trimesh",
}
IMPORTS = (ast.Import, ast.ImportFrom)
DRAWN = (
    "from spacer_lib.rooms.synthetic.layout import draw_room\n"
    "from spacer_lib.rooms.synthetic.render import Renderer\n"
    "Renderer(draw_room(1))"
)
BLOCK = not_installed(ABSENT)
WORKERS = [
    "benches.step",
    "spacer_lib.cli",
    "spacer_lib.evaluation.offline_vllm",
    "spacer_lib.evaluation.runner",
    "spacer_lib.evaluation.serve",
    "spacer_lib.training.estimate",
    "spacer_lib.training.processes.launch",
    "spacer_lib.training.processes.worker",
]
LIGHT = [
    "spacer_lib.maps.grid",
    "spacer_lib.maps.scores",
    "spacer_lib.maps.text",
    "spacer_lib.rooms.footage",
    "spacer_lib.rooms.frames",
    "spacer_lib.rooms.geometry",
    "spacer_lib.rooms.identity",
    "spacer_lib.rooms.scannet.frames2d",
    "spacer_lib.rooms.scannet.labels",
    "spacer_lib.rooms.scannet.parse",
    "spacer_lib.rooms.scannet.sens",
    "spacer_lib.rooms.scannet.splits",
    "spacer_lib.rooms.scans",
    "spacer_lib.rooms.scene",
    "spacer_lib.rooms.shown",
    "spacer_lib.rooms.synthetic.layout",
    "spacer_lib.rooms.synthetic.views",
    "spacer_lib.rooms.video",
]


def loaded_by(statement):
    """Names of the top-level packages that a fresh Python has after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{n.split('.')[0] for n in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_rooms_and_maps_are_light():
    assert not HEAVY & loaded_by("import " + ", ".join(LIGHT))


def test_the_scene_of_a_synthetic_room_is_light():
    assert not HEAVY & loaded_by(
        "from spacer_lib.rooms.synthetic.layout import draw_room\n"
        "from spacer_lib.rooms.synthetic.views import VIEWS, first_in_view, to_scene\n"
        "room, view = draw_room(1), VIEWS['walk']\n"
        "to_scene(room, view, first_seen=first_in_view(room, view))"
    )


def test_a_missing_scan_is_found_before_anything_heavy_is_loaded(tmp_path):
    assert not HEAVY & loaded_by(
        "from spacer_lib.errors import SpacerError\n"
        "from spacer_lib.rooms.scans import parse_scans\n"
        f"folder = {str(tmp_path)!r}\n"
        "try:\n    parse_scans([folder + '/absent'], 'labels.tsv', folder)\n"
        "except SpacerError as error:\n    assert error.kind == 'rooms.no-scan'"
    )


def test_workers_need_no_renderer_parser_or_plots():
    statement = "import " + ", ".join(WORKERS)
    loaded_by(BLOCK + statement)  # it would fail
    assert not set(ABSENT) & loaded_by(statement)  # nor where they are installed


def test_the_block_is_felt():
    with pytest.raises(subprocess.CalledProcessError) as failed:
        loaded_by(BLOCK + "import spacer_lib.pictures.training_plots")
    assert "ModuleNotFoundError" in failed.value.stderr


def test_the_check_sees_a_heavy_import():
    assert "open3d" in loaded_by(DRAWN)


# ---------------------------------------------------------------- pip install .[light]

EXTRAS = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
# Packages of the extra `train`, by the names that they are imported by.
NOT_LIGHT = sorted(
    {Requirement(line).name for line in EXTRAS["optional-dependencies"]["train"]}
    | {"dash", "rtree", "shapely", "trimesh"}  # that come with them
)
# Colab has a kernel of its own in place of these (binder/README.md).
LAB = ["jupyterlab", "jupytext", "papermill"]
LIGHT_BOOKS = ("01", "02", "03", "04", "09")
# What the notebooks do: a scan is written, filmed and parsed, its video read; a map,
# its questions and their rewards; figures.
LIGHT_PATH = """
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import plotly.graph_objects

from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.pictures import map_plots
from spacer_lib.pictures.figures import dataset_figures
from spacer_lib.questions.build import build_dataset
from spacer_lib.questions.general_sample import synthetic_general
from spacer_lib.questions.mixture import write_joint
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rooms.scans import parse_scans, synthetic_scans
from spacer_lib.rooms.video import read_frames
from spacer_lib.rows import read_questions

out = Path(sys.argv[1])
scans, labels = synthetic_scans(out, 1)
(scene,) = parse_scans(scans, labels, out / "parsed")
frames = read_frames(str(out / "parsed" / scene.video_path), 2, 56)[0]
assert frames.shape == (2, 56, 56, 3) and frames.std() > 0
assert read_frames("room://new/7", 2, 56)[0].shape == (2, 56, 56, 3)
grid = rasterize(scene)
map_plots.cognitive_map(grid, ax=plt.subplots()[1])
report = build_dataset([scene], out / "qa", "sr91k")
assert dataset_figures(out / "qa")
rows = read_questions(report["paths"]["train"])
general = synthetic_general(5, out / "general", 0)
assert write_joint(out / "qa", general, out / "joint", total=5)["rows"] == len(rows) + 5
text = f"<think>{map_to_text(grid)}</think><answer>{rows[0]['ground_truth']}</answer>"
assert score(text, rows[0], RewardConfig()).total > 0
print(len(rows), *sorted({name.split(".")[0] for name in sys.modules}))
"""


def without(packages, folder):
    """The environment of a Python that lacks packages, as do all that it starts."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(not_installed(packages))
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT_ROOT}"}


@pytest.mark.slow
def test_the_light_installation_does_all_of_its_notebooks_work(tmp_path):
    assert {"decord", "deepspeed", "open3d", "torch", "transformers"} < set(NOT_LIGHT)
    done = subprocess.run(
        [sys.executable, "-c", LIGHT_PATH, str(tmp_path / "out")],
        env=without(NOT_LIGHT, tmp_path / "site"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows, *loaded = done.stdout.split()
    assert int(rows) > 20 and {"cv2", "matplotlib"} <= set(loaded)


@pytest.mark.parametrize("number", LIGHT_BOOKS)
def test_light_notebooks_import_nothing_else(number, tmp_path):
    books = listing(PROJECT_ROOT / "notebooks", f"{number}_*.py")
    if not books:
        pytest.skip(f"there is no notebook {number}")
    tree = ast.parse(books[0].read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, IMPORTS)]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(ast.unparse, imports))],
        env=without([*NOT_LIGHT, *LAB], tmp_path / "site"),
        capture_output=True,
        text=True,
    )
    assert imports and done.returncode == 0, done.stderr


def test_a_command_that_needs_the_rest_says_how_to_get_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "spacer_lib", "train", "--set", "max_steps=1"],
        env=without(NOT_LIGHT, tmp_path / "site"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and "make setup" in line
