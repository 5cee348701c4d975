"""The command line: one clear line for each mistake, nothing half-written."""

import re

import pytest

from spacer_lib import cli, notebooks
from spacer_lib.errors import SpacerError
from spacer_lib.qa import build


def refused(capsys, *arguments):
    """The single line on stderr of a command that must fail with code 2."""
    assert cli.main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_missing_scan_folder_names_the_remedy(capsys, tmp_path):
    line = refused(capsys, "data", "--scans", str(tmp_path / "absent"))
    assert "absent is not a folder" in line and "--scans PATH" in line


def test_a_scan_without_aggregation_is_named(capsys, tmp_path):
    scans, labels = build.demo_scans(tmp_path / "demo", count=1)
    (aggregation,) = scans[0].glob("*.aggregation.json")
    aggregation.unlink()
    out = tmp_path / "out"
    line = refused(
        capsys, "data", "--scans", str(scans[0].parent), "--labels", str(labels),
        "--out", str(out),
    )  # fmt: skip
    assert aggregation.name in line and "Remedy" in line
    assert not list(out.glob("*.jsonl"))


def test_recipe_typo_names_the_nearest_key(capsys, tmp_path):
    line = refused(capsys, "train", "--set", "learnin_rate=1", "--out", str(tmp_path))
    assert "learning_rate" in line
    assert not list(tmp_path.iterdir())


def test_unknown_study_arm(capsys, tmp_path):
    line = refused(capsys, "study", "--arms", "mapp", "--out", str(tmp_path / "s"))
    assert "mapp" in line and "no_map" in line


def test_train_runs_a_recipe_into_a_folder_of_its_name(capsys, monkeypatch):
    seen = {}

    class Result:
        model_dir, steps, seconds = "model", 3, 1.0

    def launch(config, out, **options):
        seen.update(config=config, out=out, **options)
        return Result

    monkeypatch.setattr("spacer_lib.training.launch.launch", launch)
    arguments = ["train", "--config", "tiny_no_map", "--set", "max_steps=3"]
    assert cli.main(arguments) == 0
    assert seen["out"] == cli.PROJECT_ROOT / "runs" / "tiny_no_map"
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
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    with pytest.raises(SpacerError, match="ValueError: on purpose"):
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
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    run = notebooks.execute("01_sum", tmp_path / "out.ipynb")
    text = run.path.read_text()
    assert '"output_path": "out.ipynb"' in text and str(tmp_path) not in text


def test_summary_shows_floors_before_and_after():
    record = {"score": 0.5, "hits": 0.25}
    summary = {
        "floors": {
            "majority": {"score": 0.31, "hits": float("nan")},
            "blind": record,
            "other": record,
        },
        "before": {"own": record, "seen": {"score": 0.8, "hits": 0.9}},
        "after": {"own": {"score": 0.7, "hits": 0.6}, "oracle": record, "seen": record},
        "questions": 24,
        "stages": {"01": {"seconds": 30.0, "peak_memory_gb": 1.5}},
    }
    text = cli.summary_text(summary)
    assert re.search(r"majority answer +0\.310 +-", text)
    assert re.search(r"warm start, demonstrated cameras +0\.800 +0\.900", text)
    assert re.search(r"after SG-RLVR, new cameras +0\.700 +0\.600", text)
    assert "notebooks: 30 s, peak memory 1.5 GB" in text
