"""vLLM itself, on a CPU, with the tiny checkpoint: rollouts, alignment, a server.

Each test runs in the environment that ``make vllm`` builds.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from spacer_lib.artifacts import read_json
from spacer_lib.benchmarks import held_out

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = Path(os.environ.get("SPACER_VLLM_VENV", ROOT / ".venv-vllm"))
PYTHON = ENVIRONMENT / "bin" / "python"
TINY = "checkpoints/tiny_warmstart"

pytestmark = pytest.mark.skipif(
    not (ENVIRONMENT / ".spacer-stamp").exists(),  # written last
    reason=f"no finished {ENVIRONMENT.name}: `make vllm` builds it (5 GB, ten minutes)",
)


def spacer(*words, python=PYTHON, fails=False):
    """Run ``spacer`` in the environment; what it wrote."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    command = [str(python), "-m", "spacer_lib", *map(str, words)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said[-3000:]
    return said


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "lora"])
def test_ten_steps_of_sg_rlvr(tmp_path, how):
    """Aligned at the start, after the first update and at the end."""
    changes = ["max_steps=10", "prompts_per_step=4", "advanced.vllm=colocate"]
    changes += ["advanced.vllm_length=1024", "advanced.frozen=null"]
    if how == "lora":
        changes += ["lora.rank=4", "max_steps=3"]
    spacer("train", "--config", "tiny", "--set", *changes, "--out", tmp_path / "run")
    checks = lines(tmp_path / "run" / "alignment.jsonl")
    last = 3 if how == "lora" else 10
    assert [check["step"] for check in checks] == [0, 1, last]
    for check in checks:
        assert check["faults"] == [] and check["greedy"]
        assert check["gap"][0] <= check["limit"] <= 1e-4
        blind = {"the other rule of positions"}  # four frames: both rules agree
        for name in check["controls"].keys() - blind:
            assert check["controls"][name][0] > 100 * check["limit"]
    steps = [m for m in lines(tmp_path / "run" / "metrics.jsonl") if "reward" in m]
    assert len(steps) == last
    for step in steps:
        # All completions of the step, with the weights of the step.
        assert step["sampling/sampling_logp_difference/mean"] < 1e-4
        assert step["sampling/importance_sampling_ratio/min"] > 0.99
    assert steps[0]["reward"] > 2.5  # the warm start's


@pytest.mark.slow
def test_two_ranks_with_an_engine_each(tmp_path):
    """Every rank draws its own share, and gets every update."""
    changes = ["gpus=2", "max_steps=2", "prompts_per_step=4"]
    changes += ["advanced.vllm=colocate", "advanced.vllm_length=1024"]
    changes += ["advanced.rollouts_per_step=32"]
    spacer("train", "--config", "tiny", "--set", *changes, "--out", tmp_path / "run")
    assert read_json(tmp_path / "run" / "run_config.json")["workers"] == 2
    checks = lines(tmp_path / "run" / "alignment.jsonl")
    assert [check["step"] for check in checks] == [0, 1, 2]
    assert not any(check["faults"] for check in checks)
    steps = [m for m in lines(tmp_path / "run" / "metrics.jsonl") if "reward" in m]
    for step in steps:  # the largest of both ranks
        assert step["sampling/sampling_logp_difference/max"] < 1e-3
    texts = [row["completion"] for row in lines(tmp_path / "run" / "rollouts.jsonl")]
    assert len(texts) == 64
    # A rank that took the other's seeds would repeat its texts.
    assert len(set(texts)) > 48


NEGATIVE = """
import dataclasses
import sys

from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.checkpoints import adapt, load_checkpoint
from spacer_lib.models.inputs import read_clip
from spacer_lib.models.patches.rope import POSITION_RULES
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training.alignment import CONTROLS, PlainScorer, align
from spacer_lib.training.vllm_rollouts import Colocated, Sampling


def main(checkpoint):
    model, processor = load_checkpoint(checkpoint)
    scorer = PlainScorer(adapt(model), processor)
    engine = Colocated(checkpoint, processor, dtype="float32", max_model_len=2048)
    video, style = VideoSettings(frames=12), PromptStyle("tiny")
    row = draw_rows(SEEDS["develop"], 1, DEMONSTRATED)[0]
    clip = read_clip(row["video"], video)
    row["video"] = dataclasses.replace(clip, fps=clip.fps / 10)
    sampling = Sampling(1.0, 1.0, 24, (2,), (5, 6))

    class Wrong(Colocated):
        def __init__(self, change):
            vars(self).update(vars(engine))
            self.change = change

        def ask(self, rows, style, video, seeds, sampling):
            changed = [self.change(row, video) for row in rows]
            return super().ask(changed, style, video, seeds, sampling)

    def found(engine):
        return align(engine, scorer, row, style, video, sampling).faults

    for rule in POSITION_RULES:
        POSITION_RULES[rule](model)
        print("RESULT", f"positions {rule}", *found(engine), sep="|")
    POSITION_RULES["original"](model)
    for name, change in CONTROLS.items():
        print("RESULT", name, *found(Wrong(change)), sep="|")


if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.slow
def test_what_is_not_aligned_is_caught(tmp_path):
    """vLLM shown something else than the trainer, or numbered by another rule."""
    script = tmp_path / "negative.py"
    script.write_text(NEGATIVE)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [str(PYTHON), str(script), str(ROOT / TINY)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [
        line.split("|")[1:]
        for line in done.stdout.splitlines()
        if line.startswith("RESULT")
    ]
    faults = {name: " ".join(found) for name, *found in rows}
    assert faults.pop("positions original") == ""  # vLLM's own rule
    assert "position numbers differ" in faults["positions library"]
    assert "a time step is" in faults["a quarter of the frame rate"]
    assert len(faults) == 4
    assert all("log-probabilities differ" in found for found in faults.values())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a vLLM server of the tiny checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [ROOT / "scripts" / "serve_vllm.sh", TINY, str(port)],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "SPACER_VLLM_VENV": str(ENVIRONMENT)},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        for _ in range(400):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2)
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.slow
def test_a_server_answers_held_out_questions_as_this_process_does(server, tmp_path):
    held_out.write(tmp_path / "rooms", rooms=4)
    asked = ["--benchmark", "held-out", "--data", tmp_path / "rooms"]
    asked += ["--config", "tiny", "--set", "limit=16"]
    texts = {}
    for name, who in {
        "here": ["--model", TINY],
        "there": ["frames_as=video", "--endpoint", server]
        + ["--model-name", "tiny_warmstart"],
    }.items():
        spacer("evaluate", *asked, *who, "--out", tmp_path / name)
        made = lines(tmp_path / name / "predictions.jsonl")
        texts[name] = {one["id"]: one["prediction"] for one in made}
    assert len(texts["here"]) == 16 and texts["there"] == texts["here"]


@pytest.mark.slow
def test_training_by_a_server_is_aligned_before_and_after_updates(server, tmp_path):
    changes = ["max_steps=3", "prompts_per_step=4", "advanced.vllm=server"]
    changes += [f"advanced.vllm_server={server}"]
    spacer("train", "--config", "tiny", "--set", *changes, "--out", tmp_path / "run")
    checks = lines(tmp_path / "run" / "alignment.jsonl")
    assert [check["step"] for check in checks] == [0, 1, 3]
    assert not any(check["faults"] for check in checks)
    steps = [m for m in lines(tmp_path / "run" / "metrics.jsonl") if "reward" in m]
    assert max(m["sampling/sampling_logp_difference/mean"] for m in steps) < 1e-4
    # The server holds the weights of step 3 now, the checkpoint those of step 0.
    said = spacer(
        *["align", "--model", TINY, "--positions", "library", "--config", "tiny"],
        *["--endpoint", server],
        fails=True,
    )
    assert "log-probabilities differ" in said
    trained = read_json(tmp_path / "run" / "run_config.json")
    assert trained
    said = spacer(
        *["align", "--model", tmp_path / "run" / "model", "--positions", "library"],
        *["--config", "tiny", "--endpoint", server],
    )
    assert "greedy texts equal" in said
