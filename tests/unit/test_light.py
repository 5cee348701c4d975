"""Rooms and maps load no renderer, decoder or model library; workers no renderer,
scan parser or plots.
"""

import subprocess
import sys

import pytest
from support import ABSENT

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
# None in sys.modules: an import fails as if the package were not installed.
BLOCK = f"import sys\nsys.modules.update(dict.fromkeys({ABSENT}))\n"
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


@pytest.mark.parametrize(
    "module", ["rooms.synthetic.render", "pictures.training_plots"]
)
def test_the_block_is_felt(module):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        loaded_by(BLOCK + f"import spacer_lib.{module}")
    assert "ModuleNotFoundError" in failed.value.stderr


def test_the_check_sees_a_heavy_import():
    assert "open3d" in loaded_by("import spacer_lib.rooms.synthetic.render")
