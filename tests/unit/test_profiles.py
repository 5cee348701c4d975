"""Profiles of published systems: what the files say, and what a run does with it."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from support import refused

from spacer_lib.artifacts import read_json
from spacer_lib.benchmarks import BENCHMARKS, held_out, named
from spacer_lib.cli import main
from spacer_lib.evaluation.aggregates import row_weights
from spacer_lib.evaluation.profiles import (
    PROFILES,
    differing,
    load_profile,
    profile_names,
    profile_table,
)
from spacer_lib.language.prompts import user_text
from spacer_lib.models import inputs
from spacer_lib.models.inputs import fit_pixels
from spacer_lib.rooms.frames import Sampler, VideoSettings

NAMES = (
    "easi",
    "lmms_eval",
    "spacer",
    "spatial_r1",
    "thinking_in_space",
    "video_r1",
    "vlmevalkit",
    "vsgrpo",
)
CHOICE = {
    "id": "1",
    "question": "Which is closest?",
    "question_type": "object_rel_distance",
    "problem_type": "multiple choice",
    "options": ["A. bed", "B. sofa"],
    "ground_truth": "B",
}
NUMBER = {
    **CHOICE,
    "question_type": "object_counting",
    "problem_type": "numerical",
    "options": None,
    "ground_truth": "3",
}


def asked(profile, benchmark, row):
    profile = load_profile(profile)
    settings = profile.config(benchmark).settings(named(benchmark).mode)
    (row,), settings = profile.asked(benchmark, [row], settings)
    return user_text(row, settings.style.mode, template=settings.style.template)


def test_the_profiles_are_there_and_each_value_has_its_source():
    assert tuple(profile_names()) == NAMES
    for name in NAMES:
        text = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
        assert load_profile(name).source.startswith("https://")
        assert "#" in text.splitlines()[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_profile_asks_every_benchmark(name, benchmark):
    config = load_profile(name).config(benchmark)
    assert config.settings(named(benchmark).mode).max_new_tokens > 0
    assert asked(name, benchmark, CHOICE).count("B. sofa") == 1


def test_spacer_asks_for_a_map_on_vsi_bench_alone():
    profile = load_profile("spacer")
    mapped = [b for b in BENCHMARKS if profile.part(b).mode == "think_map"]
    assert mapped == ["vsi", "vsi-debiased", "held-out"]


def test_spacer_adds_the_box_note_to_two_tasks_of_spar_bench():
    tasks = ("position_matching", "camera_motion_infer", "obj_spatial_relation_oo")
    texts = [asked("spacer", "spar", {**CHOICE, "question_type": t}) for t in tasks]
    assert ["0-1000" in text for text in texts] == [True, True, False]


def test_a_short_published_prompt_is_used_word_for_word():
    assert asked("lmms_eval", "vsi", CHOICE) == (
        "These are frames of a video.\nWhich is closest?\nOptions:\nA. bed\nB. sofa\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert asked("easi", "vsi", NUMBER) == (
        "These are frames of a video.\nWhich is closest?\n"
        "Answer briefly and directly in one float number."
    )


def test_video_r1_enlarges_small_clips_and_samples_two_frames_a_second():
    video = load_profile("video_r1").config("vsi").settings("think").video
    assert video.min_pixels == video.max_pixels == 128 * 28 * 28
    assert video.sampler == Sampler(fps=2, min_frames=4, multiple=2)


def test_the_table_says_what_differs_and_what_nobody_states():
    table = profile_table("vsi")
    assert table.loc["prompt", "SpaceR"].startswith("ours (think_map), not theirs: ")
    assert table.loc["prompt", "lmms-eval"] == "as published"
    assert table.loc["frames", "vsGRPO"] == "not stated"
    assert table.loc["aggregate", ["VLMEvalKit", "EASI"]].to_list() == [
        "micro",
        "macro",
    ]
    two = profile_table("vsi", ["lmms_eval", "thinking_in_space"])
    assert "aggregate" not in differing(two).index
    assert profile_table("sti").loc["aggregate", "SpaceR"] == "tasks_and_subset"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default: {mode: thinking, extraction: strict}", "think"),
        ("default: {mode: think, extraction: best}", "spacer_released"),
        ("default: {mode: think}", "default.extraction"),
        ("default: {mode: think, extraction: strict, aggregate: mean}", "macro"),
        ("default: {mode: think, extraction: strict}\nunread: [lights]", "sampler"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path, text, says):
    path = tmp_path / "x.yaml"
    path.write_text(f"title: x\nsource: https://x\n{text}\n")
    with refused("evaluation.unknown-in-profile", says=says):
        load_profile(path)


def test_evaluate_and_score_take_a_profile(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "run"
    held_out.write(data, rooms=6)
    common = ["--benchmark", "held-out", "--data", str(data)]
    options = ["--floor", "majority", "--profile", "vlmevalkit", "--out", str(out)]
    assert main(["evaluate", *common, *options]) == 0
    header = read_json(out / "evaluation.json")
    assert (header["profile"], header["extraction"]) == ("vlmevalkit", "vlmevalkit")
    video = header["settings"]["video"]
    assert video["min_pixels"] == 1280 * 28 * 28 and video["sampler"]["rule"] == "inner"
    assert header["settings"]["mode"]["template"]["texts"]
    capsys.readouterr()
    scored = ["score", *common, "--predictions", str(out), "--profile"]
    assert main([*scored, "vlmevalkit", "--json", str(tmp_path / "made.json")]) == 0
    result = read_json(tmp_path / "made.json")
    assert result["extraction"] == "vlmevalkit"
    assert result["profile"]["aggregate"] == "micro"
    assert result["profile"]["overall"] == pytest.approx(result["micro"])
    assert main([*scored, "spacer"]) == 0
    assert "SpaceR, macro" in capsys.readouterr().out


def test_two_sources_of_settings_are_refused(tmp_path, capsys):
    held_out.write(tmp_path, rooms=1)
    asked = ["--benchmark", "held-out", "--data", str(tmp_path), "--floor", "majority"]
    more = ["--config", "tiny", "--profile", "spacer"]
    assert main(["evaluate", *asked, *more]) != 0
    assert "--config and --profile" in capsys.readouterr().err


def test_a_run_without_the_new_settings_keeps_its_hash():
    from spacer_lib.evaluation.ask import depends_on
    from spacer_lib.evaluation.floors import Floor

    rows = [{**NUMBER, "scene_name": "r"}]
    settings = load_profile("spacer").config("vsi").settings("think")
    plain = dataclasses.replace(settings.video, sampler=None)
    plain = dataclasses.replace(settings, video=plain)
    floor = Floor("majority", rows, [{**rows[0], "scene_name": name} for name in "ab"])
    assert set(depends_on(rows, floor, plain)["settings"]["video"]) == {
        "frames",
        "size",
        "max_pixels",
        "as_images",
        "shuffle",
    }
    assert "sampler" in depends_on(rows, floor, settings)["settings"]["video"]


def test_small_frames_are_enlarged_in_process_and_for_a_server():
    least = 128 * 28 * 28
    small = np.zeros((1, 56, 70, 3), np.uint8)
    assert fit_pixels(small, least).shape == (1, 56, 56, 3)
    _, height, width, _ = fit_pixels(small, least, min_pixels=least).shape
    assert least * 0.8 < height * width <= least * 1.2
    encoder = SimpleNamespace(size={"shortest_edge": 56 * 56})
    video = VideoSettings(4, None, least, min_pixels=least)
    budget = inputs._budget(encoder, video)["size"]
    assert budget == {"shortest_edge": least, "longest_edge": least}


def test_weights_of_aggregates_by_hand():
    """Two tasks: directions, easy twice and hard once, and three counts, the subset."""
    kinds = ["object_rel_direction_easy"] * 2 + ["object_rel_direction_hard"]
    types = kinds + ["object_counting"] * 3
    benchmark = SimpleNamespace(subsets={"counts": ("object_counting",)})
    for aggregate, expected in {
        "micro": [1, 1, 1, 1, 1, 1],
        "macro": [0.75, 0.75, 1.5, 1, 1, 1],
        "tasks_and_subset": [0.5, 0.5, 1, 4 / 3, 4 / 3, 4 / 3],
    }.items():
        found = row_weights(aggregate, types, benchmark)
        assert found.tolist() == pytest.approx(expected), aggregate
    assert row_weights("tasks_and_subset", kinds, benchmark).mean() == pytest.approx(1)
