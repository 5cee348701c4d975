"""The command line: one clear line for each mistake, nothing half-written."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import click
import pytest
import support
import typer.main

from spacer_lib import cli, notebooks
from spacer_lib.artifacts import PROJECT_ROOT, read_json, write_json
from spacer_lib.cli import choices
from spacer_lib.errors import SpacerError
from spacer_lib.rows import read_questions
from spacer_lib.training.data import training_rows
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.recipe import load_config


def refused(capsys, *arguments):
    """The single line on stderr of a command that must fail with code 2."""
    assert cli.main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def done(*arguments):
    """The ``--json`` result of a command that must succeed."""
    out = Path(tempfile.mkdtemp()) / "deep" / "result.json"
    assert cli.main([*map(str, arguments), "--json", str(out)]) == 0
    return read_json(out)


def test_missing_scan_folder_names_the_remedy(capsys, tmp_path):
    absent, out = str(tmp_path / "absent"), str(tmp_path / "out")
    line = refused(capsys, "parse", absent, "--out", out)
    assert "absent is missing" in line and "a folder of scans" in line


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``(scans/, label file)`` of two rooms that ``spacer synth`` wrote."""
    folder = tmp_path_factory.mktemp("raw files")  # with a space, as paths may have
    result = done("synth", "--scenes", 2, "--out", folder)
    assert result["scans"] == ["scene10000_00", "scene10000_01"]
    return folder / "scans", folder / Path(result["labels"]).name


def test_from_rooms_to_questions(made, capsys, tmp_path):
    """synth → parse → qa, as a newcomer would call them."""
    scans, labels = made
    arguments = ["parse", scans, "--labels", labels, "--out", tmp_path, "--workers", 2]
    parsed = done(*arguments, "--scenes", "scene10000_01")
    assert list(parsed["scenes"]) == ["scene10000_01"]  # two workers: see test_scans
    for scene in parsed["scenes"].values():
        groups = scene["groups"]
        assert scene["objects"] == groups["objects"] < groups["annotated"]
    meta, out = tmp_path / "scenes", tmp_path / "qa"
    asked = done("qa", "--meta", meta, "--recipe", "demo", "--out", out)
    assert asked["questions"] > 10 and asked["questions_per_second"] > 0
    rows = [row for p in asked["paths"].values() for row in read_questions(p)]
    assert len(rows) == asked["questions"]
    assert all((out / row["video"]).is_file() for row in rows)
    assert (out / "figures" / "fig1_examples.svg").stat().st_size > 1000
    assert "questions in" in capsys.readouterr().out


def test_many_words_after_one_option():
    assert cli._spread(["qa", "--meta", "a", "b", "--out", "c"]) == [
        "qa",
        "--meta",
        "a",
        "--meta",
        "b",
        "--out",
        "c",
    ]
    assert cli._spread(["run", "05", "-p", "gpus", "8", "-p", "seed", "1"]) == [
        "run",
        "05",
        "-p",
        "gpus=8",
        "-p",
        "seed=1",
    ]
    # An existing path is the folder of scans, not one more scene.
    here = str(Path(__file__).parent)
    assert cli._spread(["parse", "--scenes", "x", "y", here])[-1] == here


def test_a_scan_without_aggregation_is_named(made, capsys, tmp_path):
    scans = [tmp_path / "scans" / "scene10000_00"]
    labels = made[1]
    shutil.copytree(made[0] / scans[0].name, scans[0])
    (aggregation,) = scans[0].glob("*.aggregation.json")
    aggregation.unlink()
    out = tmp_path / "out"
    line = refused(
        capsys,
        "parse",
        str(scans[0].parent),
        "--labels",
        str(labels),
        "--out",
        str(out),
    )
    assert aggregation.name in line and "Remedy" in line
    assert not list(out.glob("scenes/*"))


def test_an_unknown_scene_is_named(capsys, tmp_path):
    (tmp_path / "scans" / "scene10000_00").mkdir(parents=True)
    line = refused(
        capsys,
        "parse",
        str(tmp_path / "scans"),
        "--out",
        str(tmp_path / "out"),
        "--scenes",
        "scene0707_00",
    )
    assert "no scene0707_00" in line and "--scenes" in line


def test_benchmark_scans_are_refused_for_training(capsys, tmp_path):
    meta = done("synth", "--meta-only", "--scenes", 2, "--out", tmp_path)["meta"]
    content = read_json(meta)
    planted = content.pop("scene10000_01") | {"dataset": "scannet"}
    write_json(meta, content | {"scene0568_00": planted})
    arguments = ["qa", "--meta", meta, "--out", str(tmp_path / "qa"), "--no-figures"]
    line = refused(capsys, *arguments)
    assert "scene0568_00" in line and "--drop-held-out" in line
    assert not (tmp_path / "qa").exists()
    result = done(*arguments, "--drop-held-out")
    assert result["dropped"] == ["scene0568_00"]
    held = tmp_path / "val.txt"
    held.write_text("scene10000_05\n")
    line = refused(capsys, *arguments, "--drop-held-out", "--held-out", str(held))
    assert "2 scans left out" in line


def test_no_scheduler_answers(capsys, tmp_path):
    meta = done("synth", "--meta-only", "--scenes", 1, "--out", tmp_path)["meta"]
    line = refused(
        capsys,
        "qa",
        "--meta",
        meta,
        "--out",
        str(tmp_path / "qa"),
        "--scheduler",
        "tcp://127.0.0.1:9",
    )
    assert "scheduler" in line and "does not answer" in line


def test_unknown_commands_and_options_end_with_2(capsys):
    assert cli.main(["nonsense"]) == 2
    assert cli.main(["audit", "--meta", "x"]) == 2
    assert "questions" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0


# ---------------------------------------------------------------- the two surfaces

FIRST = {"synth", "parse", "qa", "mix", "train", "evaluate", "score", "report"}
FIRST |= {"browse"}
PROJECT = {"reproduce", "demo", "run", "notebooks", "doctor"}
EXTRAS = {
    "align",
    "audit",
    "evaluate",
    "explain-gap",
    "reward",
    "select",
    "serve",
    "study",
    "warmstart",
}
ROOT_COMMAND = typer.main.get_command(cli.app)


def listed(group):
    return {name for name, one in group.commands.items() if not one.hidden}


def all_commands():
    """``(words, command)`` of every listed command."""
    for name in sorted(listed(ROOT_COMMAND) - {"extras"}):
        yield f"spacer {name}", ROOT_COMMAND.commands[name]
    for name, command in sorted(ROOT_COMMAND.commands["extras"].commands.items()):
        yield f"spacer extras {name}", command


each_command = pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*pair, id=pair[0]) for pair in all_commands()]
)


def test_commands_are_on_the_first_path_or_extras():
    assert listed(ROOT_COMMAND) == FIRST | PROJECT | {"extras"}
    extras = ROOT_COMMAND.commands["extras"]
    assert listed(extras) == EXTRAS
    # Every one of them also answers to its name alone.
    assert EXTRAS | {"bench"} <= set(ROOT_COMMAND.commands)


def test_evaluate_shows_few_options_and_takes_all():
    short = ROOT_COMMAND.commands["evaluate"].params
    full = ROOT_COMMAND.commands["extras"].commands["evaluate"].params
    assert [one.name for one in short] == [one.name for one in full]
    assert len([one for one in short if not one.hidden]) <= 13
    assert not [one.name for one in full if one.hidden]


@each_command
def test_the_example_in_the_help_is_a_valid_command_line(words, command):
    example = command.epilog.removeprefix("Example: ")
    assert example.startswith(words)
    rest = cli._spread(shlex.split(example)[1:])[len(words.split()) - 1 :]
    with command.make_context(words, rest):
        pass


@each_command
def test_help_texts_are_whole_sentences(words, command):
    texts = [command.help, *(one.help for one in command.params)]
    for text in filter(None, texts):
        assert text[0].isupper() and text.endswith("."), text
    assert all(one.help for one in command.params if one.name != "help")
    with click.Context(command, info_name=words, terminal_width=200) as context:
        shown = command.get_help(context)
    assert str(PROJECT_ROOT) not in shown and str(Path.home()) + "/" not in shown


def test_choices_are_those_of_the_library():
    from spacer_lib import benchmarks
    from spacer_lib.benchmarks import suites
    from spacer_lib.evaluation import conditions, config, floors, runner, workers
    from spacer_lib.models.patches.rope import POSITION_RULES
    from spacer_lib.rehearsal import stages
    from spacer_lib.rewards.config import PRESETS

    assert choices.BENCHMARKS == tuple(benchmarks.BENCHMARKS)
    assert choices.STAGES == tuple(stages.STAGES)
    assert choices.BACKENDS == workers.BACKENDS
    assert choices.SUITES == tuple(suites.SUITES)
    assert choices.CONDITIONS == conditions.CONDITIONS
    assert choices.FLOORS == floors.FLOORS
    assert choices.PRESETS == tuple(PRESETS)
    assert choices.EXTRACTIONS == runner.EXTRACTIONS
    assert set(choices.POSITIONS) == set(POSITION_RULES)
    for benchmark in benchmarks.BENCHMARKS.values():
        assert tuple(benchmarks.rules_of(benchmark)) == choices.RULES
    fields = dataclasses.fields(config.EvaluationConfig)
    assert cli.evaluation.SETTINGS == tuple(field.name for field in fields)


def test_a_setting_of_evaluate_is_also_an_option():
    words = ["evaluate", "--max-pixels", "9", "--mode=tiny", "--set", "seed=1", "a=2"]
    assert cli._spread(words) == [
        "evaluate",
        "--set",
        "max_pixels=9",
        "--set",
        "mode=tiny",
        "--set",
        "seed=1",
        "--set",
        "a=2",
    ]
    assert cli._spread(["serve", "--max-pixels", "9"])[-2] == "--max-pixels"
    chosen = cli.evaluation.load_settings("tiny", ["temperature=0", "size=null"])
    assert type(chosen.temperature) is float and chosen.size is None
    assert (chosen.mode, chosen.frames) == ("tiny", 8)


def test_a_model_is_a_folder_or_a_name_of_the_hub(tmp_path):
    choices.check_model("Qwen/Qwen2.5-VL-7B-Instruct")
    choices.check_model("checkpoints/tiny_warmstart")
    for name in ("absent", "runs/absent/model", str(tmp_path), "checkpoints/tiny"):
        with support.refused("cli.no-model", says=name):
            choices.check_model(name)


def test_recipe_typo_names_the_nearest_key(capsys, tmp_path):
    line = refused(capsys, "train", "--set", "learnin_rate=1", "--out", str(tmp_path))
    assert "learning_rate" in line
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    def stopped(*args, **options):
        raise launching.TrainingInterrupted(tmp_path)

    monkeypatch.setattr(launching, "launch", stopped)
    assert cli.main(["train", "--config", "tiny", "--out", str(tmp_path)]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spacer train: Training was interrupted before its first")


def test_unknown_study_arm(capsys, tmp_path):
    line = refused(capsys, "study", "--arms", "mapp", "--out", str(tmp_path / "s"))
    assert "mapp" in line and "map?" in line


def test_select_keeps_rows_that_a_recipe_takes(capsys, tmp_path, monkeypatch):
    out = tmp_path / "kept rows.jsonl"
    arguments = [
        "select",
        "--config",
        "tiny",
        "--out",
        out,
        "--k",
        4,
        "--rows",
        6,
        "--set",
        "temperature=1.5",
        "max_completion_length=96",
    ]
    result = done(*arguments)
    kept = read_questions(out)
    assert result["asked"] == 6 and result["kept"] == len(kept)
    assert sum(result["histogram"].values()) == 6
    assert 0 < len(kept) <= 6
    answers = read_questions(tmp_path / "kept rows.responses.jsonl")
    assert [len(answer["responses"]) for answer in answers] == [4] * 6
    names = [a["id"] for a in answers if any(a["scores"]) and min(a["scores"]) < 1]
    assert names == [row["id"] for row in kept]
    assert f"{len(kept)} of 6 rows kept" in capsys.readouterr().out
    config = load_config("tiny", {"data_path": str(out), "prompts_per_step": 1})
    assert [row["id"] for row in training_rows(config)] == names
    monkeypatch.setattr("spacer_lib.evaluation.backends.respond", None)
    assert done(*arguments) == result  # every answer is on disk


def test_train_runs_a_recipe_into_a_folder_of_its_name(capsys, monkeypatch):
    seen = {}

    class Result:
        model_dir, steps, seconds = "model", 3, 1.0

    def launch(config, out, **options):
        seen.update(config=config, out=out, **options)
        return Result

    monkeypatch.setattr("spacer_lib.training.processes.launch.launch", launch)
    arguments = ["train", "--config", "tiny_no_map", "--set", "max_steps=3"]
    assert cli.main(arguments) == 0
    assert seen["out"] == cli.training.PROJECT_ROOT / "runs" / "tiny_no_map"
    assert seen["config"].max_steps == 3 and not seen["resume"]
    assert "3 steps" in capsys.readouterr().out


def test_misspelt_notebook_parameter_is_refused_before_running(capsys, tmp_path):
    out = tmp_path / "out.ipynb"
    line = refused(capsys, "run", "05_train_grpo", "--out", str(out), "-p", "gpu", "8")
    assert "no parameter gpu" in line and "gpus" in line
    assert not out.exists()


def test_unknown_notebook(capsys):
    assert "05_train_grpo" in refused(capsys, "run", "07_missing")


def test_output_folder_that_cannot_be_made(capsys, tmp_path):
    # A file where a folder should be: refused for root too, unlike permissions.
    blocked = tmp_path / "file"
    blocked.write_text("")
    line = refused(capsys, "train", "--out", str(blocked / "run"))
    assert "cannot create folder" in line and "writable" in line


def test_a_failing_cell_is_named_and_kept(tmp_path, monkeypatch):
    import nbformat

    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("raise ValueError('on purpose')")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(book, tmp_path / "01_fail.ipynb")
    (tmp_path / "01_fail.py").touch()
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    with support.refused("notebooks.cell-failed", says="ValueError: on purpose"):
        notebooks.execute("01_fail", tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()
    assert (tmp_path / "out.failed.ipynb").exists()


def test_a_kept_run_names_no_folder_of_the_machine(tmp_path, monkeypatch):
    import nbformat

    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("1 + 1")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(book, tmp_path / "01_sum.ipynb")
    (tmp_path / "01_sum.py").touch()
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    run = notebooks.execute("01_sum", tmp_path / "out.ipynb")
    text = run.path.read_text()
    assert '"output_path": "out.ipynb"' in text and str(tmp_path) not in text


def test_the_demo_writes_what_git_ignores_and_keep_promotes_it(tmp_path, monkeypatch):
    """In a clone of its own: no tracked file changes until ``make keep``."""

    def git(*words):
        done = subprocess.run(
            ["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    git("init", "-q")
    kept = tmp_path / "papermill_runs"
    kept.mkdir()
    (kept / "summary.json").write_text("{}")
    for name in ("Makefile", ".gitignore"):
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    record = {"score": 0.5, "hits": 0.2}
    evaluated = {
        "floors": {name: record for name in ("majority", "blind", "other")},
        "before": {"own": record, "seen": record},
        "after": None,
        "questions": 2,
    }

    def execute(name, out):
        write_json(out, {"cells": [name]})
        write_json(tmp_path / "runs" / "07_evaluate" / "summary.json", evaluated)
        return notebooks.NotebookRun(name, out, 1.0, 0.5)

    monkeypatch.setattr(notebooks, "execute", execute)
    monkeypatch.setattr(cli.project, "PROJECT_ROOT", tmp_path)
    demo = tmp_path / cli.project.DEMO.relative_to(PROJECT_ROOT)
    monkeypatch.setattr(cli.project, "DEMO", demo)
    cli.project.demo()
    assert git("status", "--short") == []
    subprocess.run(["make", "-s", "keep"], cwd=tmp_path, check=True)
    assert git("status", "--short") == [
        " M papermill_runs/summary.json",
        "?? papermill_runs/05_train_grpo__tiny__seed0.ipynb",
        "?? papermill_runs/07_evaluate__tiny__seed0.ipynb",
    ]
    assert read_json(kept / "summary.json") == read_json(demo / "summary.json")


def test_a_failing_notebook_ends_both_lanes_of_the_demo(tmp_path, monkeypatch):
    begun, both = [], threading.Barrier(2)

    def execute(name, out):
        begun.append(name)
        both.wait(60)  # one notebook of each lane has begun
        if name.startswith("05"):
            raise SpacerError(name, kind="notebooks.cell-failed", got="a fault")
        time.sleep(2)  # the other lane fails meanwhile
        return notebooks.NotebookRun(name, out, 1.0, 0.5)

    monkeypatch.setattr(notebooks, "execute", execute)
    monkeypatch.setattr(cli.project, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(cli.project, "DEMO", tmp_path / "runs" / "demo")
    with support.refused("notebooks.cell-failed"):
        cli.project.demo()
    assert sorted(begun) == [notebooks.names()[0], "05_train_grpo"]
    assert not (tmp_path / "runs").exists()


def test_nothing_is_kept_of_a_demo_that_failed(tmp_path):
    shutil.copy(PROJECT_ROOT / "Makefile", tmp_path)
    (tmp_path / "papermill_runs").mkdir()
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "05_train_grpo__tiny__seed0.ipynb").write_text("{}")
    done = subprocess.run(["make", "-s", "keep"], cwd=tmp_path, capture_output=True)
    assert done.returncode and b"summary.json" in done.stderr
    assert list((tmp_path / "papermill_runs").iterdir()) == []


def test_summary_shows_floors_before_and_after():
    record = {"score": 0.5, "hits": 0.25}
    summary = {
        "floors": {
            "strongest": {"score": 0.42, "hits": float("nan")},
            "majority": {"score": 0.31, "hits": float("nan")},
            "blind": record,
            "other": record,
        },
        "before": {"own": record, "seen": {"score": 0.8, "hits": 0.9}},
        "after": {"own": {"score": 0.7, "hits": 0.6}, "oracle": record, "seen": record},
        "questions": 24,
        "stages": {"01": {"seconds": 40.0, "peak_memory_gb": 1.5}},
        "seconds": 30.0,
    }
    text = cli.project.summary_text(summary)
    assert re.search(r"strongest of each task +0\.420 +-", text)
    assert re.search(r"majority answer +0\.310 +-", text)
    assert re.search(r"warm start, demonstrated cameras +0\.800 +0\.900", text)
    assert re.search(r"after SG-RLVR, new cameras +0\.700 +0\.600", text)
    assert "notebooks: 30 s, peak memory 1.5 GB" in text
