"""Training and evaluation of mp4 rows where renderer, parsers and plots are absent."""

import os
import subprocess
import sys

import pytest
import torch
from published import write_clip
from support import ABSENT, dotted, not_installed

from spacer_lib.artifacts import PROJECT_ROOT, read_json, read_jsonl, write_jsonl
from spacer_lib.training.recipe import dump_config, load_config


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Every Python that starts from here lacks the packages of ``ABSENT``."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(not_installed(ABSENT))
    paths = [str(folder), str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    felt = subprocess.run([sys.executable, "-c", "import open3d"], capture_output=True)
    assert b"ModuleNotFoundError" in felt.stderr


def spacer(*words):
    command = [sys.executable, "-m", "spacer_lib", *map(str, words)]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="2 workers would be 2 GPUs")
def test_two_ranks_train_and_evaluate_mp4_rows(rows, tmp_path, without):
    asked = []
    for number, row in enumerate(rows[:4]):
        clip = write_clip(tmp_path / f"{number}.mp4", 8, 84, 84)
        asked.append({**row, "id": number, "video": str(clip)})
    write_jsonl(tmp_path / "rows.jsonl", asked)
    changes = {
        "data_path": str(tmp_path / "rows.jsonl"),
        "gpus": 2,
        "prompts_per_step": 2,
        "num_generations": 4,
        "max_completion_length": 24,
        "max_steps": 2,
    }
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(dump_config(load_config("tiny", dotted(changes))))
    spacer("train", "--config", recipe, "--out", out)
    run = read_json(out / "run.json")
    assert (run["workers"], run["steps"]) == (2, 2)
    data, answers = tmp_path / "data", tmp_path / "answers"
    write_jsonl(data / "test.jsonl", asked)
    benchmark = ["--benchmark", "VSI-Bench", "--data", data, "--config", "tiny"]
    spacer("evaluate", *benchmark, "--model", out / "model", "--out", answers)
    made = read_jsonl(answers / "predictions.jsonl")
    assert [one["id"] for one in made] == ["0", "1", "2", "3"]
    assert all(one["tokens"] > 0 for one in made)
