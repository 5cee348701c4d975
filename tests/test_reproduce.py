"""``spacer reproduce``: what published sizes need, and a small run to its end."""

import itertools

import pytest

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_json, write_jsonl
from spacer_lib.cli import evaluation, training
from spacer_lib.cli import reproduce as reproducing
from spacer_lib.errors import SpacerError
from spacer_lib.questions.general_sample import synthetic_general
from spacer_lib.rooms.identity import benchmark_rooms
from spacer_lib.rooms.scans import LABELS, synthetic_scans
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training.needs import asking_hours, run_needs
from spacer_lib.training.recipe import load_config

FILES = {
    "_vh_clean_2.ply": 6_000_000,
    "_vh_clean_2.0.010000.segs.json": 1_000_000,
    ".aggregation.json": 20_000,
    ".sens": 900_000_000,
}


def refusal(capsys, *words):
    """The one line on stderr of a command that ends with code 2."""
    capsys.readouterr()
    assert cli.main(["reproduce", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


# ---------------------------------------------------------------- published size


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """1,201 scans of training rooms and two of VSI-Bench's, at the size of real ones.

    The files are holes: they have a size and take no disk.
    """
    folder = tmp_path_factory.mktemp("released")
    held = benchmark_rooms()["scannet"]
    spaces = [f"scene{k:04d}" for k in range(707)]
    training_spaces = [space for space in spaces if space not in held]
    scans = (f"{s}_{k:02d}" for k in range(3) for s in training_spaces)
    names = [*itertools.islice(scans, 1201), *(f"{s}_00" for s in sorted(held)[:2])]
    for name in names:
        (folder / "scans" / name).mkdir(parents=True)
        for suffix, size in FILES.items():
            with open(folder / "scans" / name / f"{name}{suffix}", "wb") as file:
                file.truncate(size)
    (folder / LABELS).write_text("id\traw_category\n")
    write_json(folder / "Video-R1-260k.json", [])
    return folder


def dry(folder, out, *more):
    """The ``--json`` of a dry run on the files of ``folder``."""
    words = ["--scans", folder / "scans", "--general", folder / "Video-R1-260k.json"]
    words += ["--data", folder / "absent", "--out", out / "all", "--dry-run", *more]
    said = out / "said.json"
    assert cli.main(["reproduce", *map(str, words), "--json", str(said)]) == 0
    assert not (out / "all").exists()
    return read_json(said)


def test_a_dry_run_has_the_projects_own_figures(released, tmp_path, capsys):
    said, shown = dry(released, tmp_path, "--gpus", 8), capsys.readouterr().out
    assert (said["scans"], said["questions"], said["general"]) == (1201, 91_310, 60_000)
    config = load_config("spacer_7b")
    needs = run_needs(config, 8, rows=151_310)
    assert said["training"]["steps"] == needs.steps == 151_310 // 8 == 18_913
    assert said["training"]["disk"] == needs.disk == pytest.approx(348.3e9, rel=1e-3)
    assert said["training"]["hours"] == list(needs.hours())
    assert said["evaluation_hours"] == list(asking_hours(config, 5130, 1024, 8, 8))
    for line in needs.lines():
        assert line in shown
    assert "1,201 scans, 1,089.3 GB; 2 more show rooms of VSI-Bench" in shown
    assert "151,310 questions, 60,000 of them general" in shown
    assert "6.1-7.3 days" in shown
    # The benchmark's folder does not exist, and no test machine has 348 GB to give.
    assert said["missing"][0] == "benchmark"


def test_hours_follow_gpus_and_model(released, tmp_path):
    eight = dry(released, tmp_path, "--gpus", 8)["training"]
    four = dry(released, tmp_path, "--gpus", 4)["training"]
    assert four["steps"] == eight["steps"] and four["hours"][0] > eight["hours"][0]
    small = dry(released, tmp_path, "--config", "spacer_3b")["training"]
    assert small["disk"] < eight["disk"] / 2


def test_what_is_missing_is_counted_and_stops_the_run_before_it_starts(
    released, tmp_path, capsys
):
    lost = next((released / "scans").iterdir())
    mesh = lost / f"{lost.name}_vh_clean_2.ply"
    mesh.unlink()
    try:
        said = dry(released, tmp_path, "--labels", tmp_path / "absent.tsv")
        assert said["missing"][:3] == ["scans", "labels", "benchmark"]
        assert said["files"][0]["lacks"] == "1 scans lack *_vh_clean_2.ply"
        words = ["--scans", released / "scans", "--general", tmp_path / "absent.json"]
        line = refusal(capsys, *words, "--out", tmp_path / "all")
    finally:
        mesh.touch()
    assert "lack *_vh_clean_2.ply" in line and "absent.json" in line
    assert not (tmp_path / "all").exists()


def test_without_scans_the_papers_numbers_are_used(tmp_path):
    said = dry(tmp_path, tmp_path)
    assert said["training"]["steps"] == 18_913
    assert {"scans", "labels", "general", "benchmark"} <= set(said["missing"])


def test_too_few_gpus_are_refused_before_the_first_stage(inputs, tmp_path, capsys):
    words = [*asked(inputs, tmp_path), "--set", "advanced.needs_gpu=true"]
    assert "GPU" in refusal(capsys, *words)
    assert not (tmp_path / "all").exists()


# ---------------------------------------------------------------- from end to end


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Two scans, general questions and a benchmark of 27 questions, all synthetic."""
    folder = tmp_path_factory.mktemp("inputs")
    synthetic_scans(folder, 2)
    synthetic_general(10, folder / "general", seed=0)
    write_jsonl(folder / "rows.jsonl", draw_rows(SEEDS["test"], 27, DEMONSTRATED))
    return folder


def asked(inputs, out, total=4):
    """The words of a run of minutes in ``out/all``: the tiny model, two steps."""
    return [
        *("--scans", inputs / "scans", "--general", inputs / "general/general.json"),
        *("--config", "tiny", "--recipe", "demo", "--total", total),
        *("--benchmark", "held-out", "--data", inputs / "rows.jsonl"),
        *("--evaluation", "tiny", "--out", out / "all"),
        *("--set", "max_steps=2", "prompts_per_step=2", "num_generations=4"),
        "max_completion_length=48",
    ]


def states(inputs, out, **changes):
    """``{stage: whether it is done}``, by a dry run."""
    said = out / "states.json"
    words = ["reproduce", *asked(inputs, out, **changes), "--dry-run", "--json", said]
    assert cli.main(list(map(str, words))) == 0
    return {name: how == "done" for name, how in read_json(said)["stages"].items()}


STAGES = ("parse", "qa", "mix", "train", "evaluate", "report")


@pytest.mark.slow
def test_a_run_that_is_stopped_and_fails_ends_like_one_that_is_not(
    inputs, tmp_path, monkeypatch, capsys
):
    words = ["reproduce", *map(str, asked(inputs, tmp_path / "stopped"))]
    (tmp_path / "stopped").mkdir()

    def stop(**options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", stop)
        assert cli.main(words) != 0
    done = states(inputs, tmp_path / "stopped")
    assert [name for name in STAGES if done[name]] == ["parse", "qa", "mix"]

    def fail(**options):
        raise SpacerError("a server", kind="evaluation.refused", got="status 500")

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate", fail)
        line = refusal(capsys, *words[1:])
    assert "stage 5 of 6, evaluate" in line and "status 500" in line
    assert "the same command again" in line and "parse, qa, mix, train" in line

    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert shown.count("done before, skipped") == 4
    assert all(states(inputs, tmp_path / "stopped").values())
    # Another number of general questions: the stages from `mix` on are to be made anew.
    changed = states(inputs, tmp_path / "stopped", total=3)
    assert [name for name in STAGES if changed[name]] == ["parse", "qa"]

    (tmp_path / "whole").mkdir()
    whole = ["reproduce", *map(str, asked(inputs, tmp_path / "whole"))]
    assert cli.main(whole) == 0
    for name in (
        "joint/train.jsonl",
        "train/model/model.safetensors",
        "report/scores.csv",
        "report/report.md",
    ):
        first = (tmp_path / "whole" / "all" / name).read_bytes()
        assert (tmp_path / "stopped" / "all" / name).read_bytes() == first, name
    # Checkpoints may be deleted after the training; the model may not.
    model = tmp_path / "whole" / "all" / "train" / "model" / "model.safetensors"
    model.unlink()
    left = states(inputs, tmp_path / "whole")
    assert [name for name in STAGES if left[name]] == ["parse", "qa", "mix"]


def test_a_stage_of_other_inputs_is_set_aside(tmp_path):
    """A half-finished output is kept for its own inputs alone."""
    stage = reproducing.Stage("mix", tmp_path / "joint", "", dict, list)
    reproducing._begin(tmp_path, stage, "first")
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "half").touch()
    reproducing._begin(tmp_path, stage, "first")
    assert (tmp_path / "joint" / "half").exists()
    reproducing._begin(tmp_path, stage, "second")
    assert not (tmp_path / "joint").exists()
    assert (tmp_path / "joint.old" / "half").exists()
