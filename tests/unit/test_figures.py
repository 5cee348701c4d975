"""The paper's data figures from a folder of questions."""

import re

import pytest
from support import refused

from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.pictures.figures import dataset_figures, first_of_each, template_of
from spacer_lib.questions.build import build_dataset
from spacer_lib.rooms.scans import read_scenes, synthetic_meta
from spacer_lib.rows import read_questions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("figures")
    scenes = read_scenes(synthetic_meta(root / "meta.json", 12))
    build_dataset(scenes, root / "qa", "sr91k")
    return root / "qa"


def test_four_figures_show_what_the_folder_holds(folder):
    paths = dataset_figures(folder)
    assert [path.stem for path in paths] == [
        "fig1_examples",
        "fig2_statistics",
        "fig5_templates",
        "rejections",
        "fig6_durations",
    ]
    texts = {path.stem: path.read_text() for path in paths}
    rows = read_questions(folder / "train.jsonl")
    assert f"(n = {len(rows):,})" in texts["fig2_statistics"]
    assert "synthetic" in texts["fig2_statistics"]
    assert "map of scene" in texts["fig1_examples"]
    assert "{positioning object}" in texts["fig5_templates"]
    assert "too far apart" in texts["rejections"]
    count = len(read_json(folder / "maps.json")["seconds"])
    assert f"n = {count} videos" in texts["fig6_durations"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in dataset_figures(folder)] == before


def test_templates_hold_no_object(folder):
    rows = read_questions(folder / "train.jsonl")
    for kind, row in first_of_each(rows).items():
        text = template_of(row)
        assert len(re.findall(r"\{[\w ]+\}", text)) >= len(row["categories"]), kind
        for name in row["categories"]:
            assert not re.search(rf"\b{name}\b", re.sub(r"\{.*?\}", "", text)), text


def test_a_folder_without_questions_is_refused(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [])
    report = {"files": {"train": "train.jsonl"}, "rejections": []}
    write_json(tmp_path / "report.json", report)
    write_json(tmp_path / "maps.json", {"seconds": {}})
    with refused("pictures.no-questions", says=str(tmp_path)):
        dataset_figures(tmp_path)
