"""Notebooks run on scans that lack what they could show, and on real metadata."""

import shutil
from pathlib import Path

import pytest
from samples import layouts as writers

from spacer_lib import notebooks
from spacer_lib.artifacts import read_json
from spacer_lib.rooms.scannet import parse
from spacer_lib.rooms.scans import LABELS, synthetic_scans

NAMES = ("01_parse_scannet", "02_rasterize_maps", "03_generate_qa")
REWARDS = "04_design_rewards"
OLD = (parse.MESH, parse.SEGMENTS, parse.AGGREGATION)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A scan as `spacer synth` writes it, and its label table."""
    [scan], labels = synthetic_scans(tmp_path_factory.mktemp("synth"), 1)
    return scan, labels


@pytest.fixture
def books(tmp_path, monkeypatch):
    """The notebooks made from their `.py` halves, so that both are tested."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(notebooks.FOLDER / "jupytext.toml", folder)
    for name in (*NAMES, REWARDS):
        source = Path(shutil.copy(notebooks.FOLDER / f"{name}.py", folder))
        notebooks.pair(source, folder / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setenv("SPACER_QUICK", "1")
    for name in ("SPACER_REAL_META", "SPACER_REAL_QA"):
        monkeypatch.delenv(name, raising=False)


def old_release(scan, folder):
    """Mesh, segments and aggregation, and nothing else."""
    folder.mkdir(parents=True)
    for suffix in OLD:
        shutil.copy(scan / f"{scan.name}{suffix}", folder)


def exported_frames(scan, folder):
    """Every second frame in folders, in place of the recording and its archives."""
    skip = shutil.ignore_patterns("*.sens", "*.zip")
    shutil.copytree(scan, folder, ignore=skip)
    writers.export_frames(scan, folder, step=2)


@pytest.mark.parametrize("write", [old_release, exported_frames])
def test_notebooks_run_on(write, made, books, tmp_path):
    scan, labels = made
    scans = tmp_path / "scans"
    write(scan, scans / scan.name)
    writers.leave_leftovers(scans)
    shutil.copy(labels, tmp_path / LABELS)
    out = tmp_path / "parsed"
    given = {"scans_dir": str(scans), "out_dir": str(out)}
    notebooks.execute(NAMES[0], tmp_path / "01.ipynb", given)
    meta = str(out / "scenes" / f"{scan.name}.json")
    notebooks.execute(NAMES[1], tmp_path / "02.ipynb", {"meta_file": meta, "rooms": 4})
    notebooks.execute(NAMES[2], tmp_path / "03.ipynb", {**given, "rooms": 6})
    scene = read_json(meta)[scan.name]
    filmed = write is exported_frames
    assert scene["frame_count"] == (48 if filmed else None)
    assert scene["fps"] == (12.0 if filmed else None)
    assert (out / "videos" / f"{scan.name}.mp4").is_file() == filmed
    kinds = read_json(out / "report.json")["counts"]
    asked = {kind for part in kinds.values() for kind, n in part.items() if n}
    assert {"object_abs_distance", "room_size_estimation"} <= asked
    assert ("obj_appearance_order" in asked) == filmed


def test_notebooks_run_on_real_metadata(
    real_meta, real_qa, books, tmp_path, monkeypatch
):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures stay inline
    monkeypatch.setenv("SPACER_REAL_META", str(real_meta))
    monkeypatch.setenv("SPACER_REAL_QA", str(real_qa))
    told = {}
    for name in (*NAMES[1:], REWARDS):
        run = notebooks.execute(name, tmp_path / f"{name}.ipynb")
        told[name] = Path(run.path).read_text(encoding="utf-8")
    assert "0 disagreements" in told["03_generate_qa"]
    assert "part train shows rooms that VSI-Bench asks about" in told["03_generate_qa"]
    assert "Figure with 6 axes" in told[REWARDS]  # 3 without real maps
