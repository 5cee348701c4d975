"""What the bench of rollouts keeps, and that its criteria tell runs apart."""

import json

import numpy as np
import pytest
import torch
from support import refused

from benches import rollouts as bench
from spacer_lib.artifacts import PROJECT_ROOT, read_json

REAL_RUNS = bench.library_runs

FAULTLESS = {
    "step": 0,
    "kind": "video",
    "scored": 90,
    "noise": [0.0, 0.0],
    "gap": [1e-6, 8e-6],
    "limit": 1e-5,
    "controls": {"other pixels": [1.5, 9.0], "not seen": [1e-6, 8e-6]},
    "greedy": True,
    "faults": [],
}


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Three library runs: 3.9, 4.0 and 4.1 at first, 4.3, 4.4 and 4.5 at last."""
    runs = {
        f"library_seed{seed}": (np.linspace(4.0, 4.4, bench.STEPS) + shift).tolist()
        for seed, shift in enumerate((-0.1, 0.0, 0.1))
    }
    monkeypatch.setattr(bench, "library_runs", lambda: runs)


def made(first=0.0, last=0.0):
    """Kept runs as the library's; the ends of vLLM's moved by so much."""
    runs = {}
    for name, count in bench.names().items():
        rewards = np.linspace(4.0, 4.4, count)
        rewards[: bench.ENDS] += first
        rewards[-bench.ENDS :] += last
        seconds = dict.fromkeys(bench.PHASES, 1.0)
        runs[name] = {"reward": rewards.tolist(), "seconds": seconds}
    draws = {"start_vllm": {"tokens": 9, "excess": 0.001, "error": 0.001}}
    return {"runs": runs, "alignment": {"vllm_seed0": [FAULTLESS]}, "draws": draws}


def test_runs_as_the_library_s_meet_the_criteria():
    assert all(bench.same_range(made()).values())
    assert bench.fair_draws(made())["start_vllm"]
    assert "NOT" not in bench.tables(made())


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_run_outside_the_library_s_range_is_seen(where):
    """The interval is the mean ± 4.303 · .1 · sqrt(4/3)."""
    assert all(bench.same_range(made(**{where: -0.49})).values())
    moved = made(**{where: -0.51})
    assert not any(bench.same_range(moved).values())
    assert "vllm_seed0 is NOT" in bench.tables(moved)


@pytest.mark.parametrize(("temperature", "fair"), [(1.0, True), (0.95, False)])
def test_draws_at_another_temperature_are_not_fair(temperature, fair):
    """20,000 places of a vocabulary of the tiny model's size."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 81, generator=generator)
    logits[:, :2] = -torch.inf  # suppressed
    drawn = torch.multinomial(
        (logits / temperature).softmax(-1), 1, generator=generator
    )
    total, variance = bench.excess(logits.log_softmax(-1), drawn[:, 0])
    draw = {"tokens": 20_000, "excess": total, "error": variance**0.5}
    assert bench.fair_draws({"draws": {"it": draw}}) == {"it": fair}
    said = bench.tables(made() | {"draws": {"it": draw}})
    assert ("NOT fair" in said) is not fair


def test_the_variance_of_one_certain_and_one_even_choice():
    logps = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log()
    found = bench.excess(logps, torch.tensor([0, 1]))
    assert found == pytest.approx((0.0, 0.0), abs=1e-6)
    logps = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    mean = 0.75 * -np.log(0.75) + 0.25 * -np.log(0.25)
    spread = 0.75 * np.log(0.75) ** 2 + 0.25 * np.log(0.25) ** 2 - mean**2
    found = bench.excess(logps, torch.tensor([1]))
    assert found == pytest.approx((-np.log(0.25) - mean, spread))


# ---------------------------------------------------------------- what is kept


def write_runs(folder, prompts=lambda name: "a"):
    for name, count in bench.names().items():
        (folder / name).mkdir(parents=True)
        steps = [
            {"step": i + 1, "reward": 4.00004, "kept": "not"}
            | {f"seconds/{phase}": 1.0 + (i == 0) for phase in bench.PHASES}
            for i in range(count)
        ]
        asked = [{"step": 1, "id": prompts(name)}]
        lines = {"metrics": [*steps, {"runtime": 3}], "rollouts": asked}
        lines["alignment"] = [FAULTLESS | {"row": "not kept"}]
        for file, rows in lines.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name / f"{file}.jsonl").write_text(text)


def test_rewards_medians_of_seconds_and_checks_are_kept(tmp_path, monkeypatch):
    write_runs(tmp_path)
    monkeypatch.setattr(bench, "fairness", lambda path: path.parent.name)
    kept = bench.gather(tmp_path)
    assert kept["draws"] == {name: name for name in ("start_library", "start_vllm")}
    run = kept["runs"]["vllm_seed0"]
    assert run["reward"] == [4.0] * bench.STEPS
    assert run["seconds"] == dict.fromkeys(bench.PHASES, 1.0)
    assert set(kept["alignment"]) == {name for name in bench.names() if "vllm" in name}
    check = kept["alignment"]["vllm_seed0"][0]
    assert check["faults"] == 0 and "row" not in check


def test_runs_on_other_prompts_are_not_compared(tmp_path):
    write_runs(tmp_path, prompts=lambda name: name)
    with refused("benches.other-prompts", says="start_library"):
        bench.gather(tmp_path)


def test_an_unfinished_run_is_not_kept(tmp_path):
    write_runs(tmp_path)
    path = tmp_path / "vllm_seed0" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[5:]))
    with refused("benches.unfinished-run", says="70 steps"):
        bench.gather(tmp_path)


def test_the_committed_file_has_every_run_whole():
    kept = read_json(bench.KEPT)
    found = {name: len(run["reward"]) for name, run in kept["runs"].items()}
    assert found == bench.names()
    for name, checks in kept["alignment"].items():
        last = bench.names()[name]
        assert [check["step"] for check in checks] == [0, 1, last]
        assert not any(check["faults"] for check in checks)


def test_the_log_shows_the_committed_tables(monkeypatch):
    monkeypatch.setattr(bench, "library_runs", REAL_RUNS)
    log = (PROJECT_ROOT / "LOG.md").read_text(encoding="utf-8")
    kept = read_json(bench.KEPT)
    for make in (bench.reward_table, bench.seconds_table, bench.alignment_table):
        assert "\n".join(make(kept)) in log
