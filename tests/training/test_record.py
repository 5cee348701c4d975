"""The run folder: every number explained, every file whole, and able to go on."""

import json
import math
import re
import types

import pyarrow as pa
import pytest
from huggingface_hub import ModelCard
from pyarrow import parquet
from support import refused
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageTextToText, AutoProcessor

from spacer_lib.artifacts import (
    append_jsonl,
    read_journal,
    read_json,
    read_jsonl,
)
from spacer_lib.pictures.browse import write_page
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rows import questions_hash
from spacer_lib.training import trackers
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.baselines import build_dpo, build_sft
from spacer_lib.training.card import model_card
from spacer_lib.training.checkpoints import complete_checkpoints
from spacer_lib.training.processes import worker as running
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.record import (
    METRICS,
    RUNNING,
    MetricsLog,
    RolloutTable,
    drop_later_steps,
    last_means,
    meaning_of,
    rollout_table,
)
from spacer_lib.training.trackers import tracker_callbacks


def scalars(folder):
    """``{tag: [(step, value), …]}`` of a folder of event files."""
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


# ---------------------------------------------------------------- a real run


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """Three steps on one worker, with a KL term and two passes."""
    config = small(max_steps=3, save_steps=2, beta=0.04, num_iterations=2)
    return config, launch(config, tmp_path_factory.mktemp("runs") / "run")


def test_every_key_of_a_run_is_explained(finished):
    _, result = finished
    rows = result.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert {key for row in rows for key in row if meaning_of(key) is None} == set()
    needed = {
        "kl",
        "entropy",
        "reward",
        "rewards/map/mean",
        "rewards/map/std",
        "grad_norm",
        "frac_reward_zero_std",
        "completions/mean_length",
        "completions/clipped_ratio",
        "clip_ratio/region_mean",
        "learning_rate",
        "seconds/step",
        "peak_memory_gb",
        "peak_gpu_memory_gb",
    }
    assert needed <= rows[0].keys()
    # Steps and checkpoints share the time between them, and nothing counts twice.
    record = read_json(result.out_dir / "run.json")
    steps = sum(row["seconds/step"] for row in rows)
    saves = record["duration"]["checkpoints"]
    assert len(saves) == 2 and min(saves) > 0
    assert steps + sum(saves) <= record["duration"]["training"] + 0.02
    assert steps + saves[0] == pytest.approx(rows[-1]["seconds"], abs=0.05)
    assert 0.1 < rows[0]["peak_memory_gb"] <= rows[-1]["peak_memory_gb"] < 20


def test_the_rollouts_of_a_run_are_a_table(finished):
    _, result = finished
    journal = result.rollouts()
    table = parquet.read_table(result.out_dir / "rollouts.parquet")
    assert table.num_rows == len(journal) > 0
    assert table["completion"].to_pylist() == [row["completion"] for row in journal]
    assert table["advantage"].to_pylist() == [row["advantage"] for row in journal]
    for name in ("format", "task", "map", "length"):
        values = [row["rewards"][name] for row in journal]
        assert table[f"reward/{name}"].to_pylist() == values
    # An untrained model draws no map; the column is text all the same.
    assert table["map"].null_count == table.num_rows
    assert table.schema.field("map").type == pa.string()
    truths = [json.loads(text) for text in table["true_map"].to_pylist()]
    assert truths == [row["map"] for row in journal]


def test_run_json_says_what_it_learnt_from_and_how_it_ended(finished, monkeypatch):
    config, result = finished
    record, rows = read_json(result.out_dir / "run.json"), result.metrics()
    data = record["dataset"]
    assert data["path"] == "drawn rooms" and data["rows"] == record["rows"] == 4
    assert re.fullmatch("[0-9a-f]{64}", data["sha256"])
    last = record["last_steps"]
    assert last["steps"] == 3 and not set(RUNNING) & last["metrics"].keys()
    assert last["metrics"]["entropy"] == pytest.approx(
        sum(row["entropy"] for row in rows) / 3
    )
    assert record["duration"]["start"] > 0 and record["duration"]["model"] > 0
    dirty = record["provenance"]["commit"].endswith("-dirty")
    assert record["uncommitted_changes"] == dirty
    assert read_json(result.out_dir / "run_config.json")["config"]["seed"] == 0


def test_tensorboard_shows_the_same_numbers(finished):
    _, result = finished
    shown = scalars(result.out_dir / "tensorboard")
    for key in ("loss", "entropy", "seconds/step", "peak_memory_gb"):
        steps, values = zip(*shown[f"train/{key}"], strict=True)
        assert steps == (1, 2, 3)
        assert values == pytest.approx([row[key] for row in result.metrics()])


def test_the_model_carries_a_card_with_the_runs_own_numbers(finished):
    config, result = finished
    card = ModelCard.load(result.model_dir / "README.md")
    record = read_json(result.out_dir / "run.json")
    assert card.data.library_name == "transformers" and "grpo" in card.data.tags
    assert card.data.base_model is None  # a local folder is no hub id
    folder = config.model_path.rsplit("/", 1)
    assert folder[0] not in card.text and f"`{folder[1]}`" in card.text
    for text in (
        record["dataset"]["sha256"],
        config.hash,
        "Not evaluated",
        f"transformers {record['provenance']['packages']['transformers']}",
        f"{record['last_steps']['metrics']['entropy']:.4g}",
    ):
        assert text in card.text
    assert ("plus uncommitted changes" in card.text) == record["uncommitted_changes"]
    # Loading as it says, word for word but for the folder.
    (code,) = re.findall("```python\n(.*?)```", card.text, re.DOTALL)
    assert "use_original_positions" not in code and ".from_pretrained(folder)" in code
    model = AutoModelForImageTextToText.from_pretrained(result.model_dir)
    AutoProcessor.from_pretrained(result.model_dir, padding_side="left")
    assert model.config.model_type == "qwen2_5_vl"


def test_the_card_follows_positions_adapters_and_hub_names(finished, small):
    _, result = finished
    record = read_json(result.out_dir / "run.json")
    record["provenance"]["commit"] = "abc123-dirty"
    config = small(
        model_path="Qwen/Qwen2.5-VL-7B-Instruct",
        positions="original",
        method="sft",
        lora={"rank": 8},
    )
    card = model_card(config, record)
    assert card.data.base_model == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert card.data.library_name == "transformers"  # the adapter is merged
    assert "a LoRA adapter of rank 8 merged into it" in card.text
    (code,) = re.findall("```python\n(.*?)```", card.text, re.DOTALL)
    compile(code, "card", "exec")
    assert code.rstrip().endswith("use_original_positions(model)")
    assert "`abc123` plus uncommitted changes" in card.text
    assert "map reward" not in card.text and "β" not in card.text


# ---------------------------------------------------------------- baselines, resuming


@pytest.mark.parametrize("build", [build_sft, build_dpo])
def test_every_key_of_a_baseline_is_explained(build, small, rows, tmp_path):
    method = build.__name__.removeprefix("build_")
    config = small(method=method, max_steps=1, beta=0.1)
    trainer = build(config, tmp_path, rows=rows)
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for callback in (RolloutTable(tmp_path, config.reward), log):
        trainer.add_callback(callback)
    trainer.train()
    (row,) = read_jsonl(log.path)
    assert [key for key in row if meaning_of(key) is None] == []
    assert "mean_token_accuracy" in row and row["seconds/step"] > 0
    assert not (tmp_path / "rollouts.parquet").exists()  # there are none


def test_a_resumed_run_goes_on_in_every_file(small, rows, tmp_path):
    """Two steps, a crash after the checkpoint of the first, and on to the third."""

    def watched(steps):
        config = small(max_steps=steps, save_steps=1, lr_scheduler="constant")
        trainer = build_trainer(config, tmp_path, rows=rows)
        log = MetricsLog(tmp_path / "metrics.jsonl")
        for callback in (
            RolloutTable(tmp_path, config.reward),
            log,
            *tracker_callbacks(config, trainer.args, tmp_path),
        ):
            trainer.add_callback(callback)
        return trainer

    watched(2).train()
    first, last = complete_checkpoints(tmp_path / "checkpoints")
    (last / "complete.json").unlink()
    with open(tmp_path / "rollouts.jsonl", "a") as file:
        file.write('{"step":3,"compl')  # cut off
    checkpoint, seconds = running.prepare_folder(tmp_path, resume=True)
    assert checkpoint == first and seconds > 0 and not last.exists()
    watched(3).train(resume_from_checkpoint=str(checkpoint))

    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    steps = parquet.read_table(tmp_path / "rollouts.parquet")["step"].to_pylist()
    assert steps == sorted(steps) and set(steps) == {1, 2, 3}
    shown = scalars(tmp_path / "tensorboard")["train/loss"]
    assert [step for step, _ in shown] == [1, 2, 3]  # the second once

    page = write_page(tmp_path, tmp_path / "page.html")
    assert page.shown == page.total == len(steps)
    (tmp_path / "rollouts.jsonl").unlink()
    assert write_page(tmp_path, tmp_path / "page.html").kinds == page.kinds


# ---------------------------------------------------------------- pieces


def test_journals_survive_a_kill_and_are_cut_to_a_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, [{"step": 1, "seconds": 2.0}, {"step": 2, "seconds": 5.0}])
    append_jsonl(path, [{"step": 3, "kl": math.nan, "rewards": {"map": math.inf}}])
    assert read_journal(path)[-1] == {"step": 3, "kl": None, "rewards": {"map": None}}
    with open(path, "a") as file:
        file.write('{"step": 4, "re')
    assert [row["step"] for row in read_journal(path)] == [1, 2, 3]
    assert drop_later_steps(path, 1) == 2.0
    assert path.read_text() == '{"step":1,"seconds":2.0}\n'
    assert drop_later_steps(tmp_path / "absent.jsonl", 0) == 0.0


def test_last_means_pass_over_nulls_and_counters(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": i, "num_tokens": 9 * i, "reward": float(i)} for i in range(1, 13)]
    rows[-1] |= {"map_hit_rate": None, "kl": 0.5}
    append_jsonl(path, rows)
    # Steps 3 to 12; nothing is known of the hit rate.
    assert last_means(path) == {"steps": 10, "metrics": {"reward": 7.5, "kl": 0.5}}


def test_a_table_of_rollouts_reads_maps_and_keeps_types():
    drawn = '<think><map>{"sofa":[[1,2]],"bed":[[3,4],[5,6]]}</map>two</think>'
    base = {
        "step": 1,
        "id": 7,
        "question": "q",
        "problem_type": "numerical",
        "ground_truth": 2,
        "advantage": 0.5,
    }
    rows = [
        {
            **base,
            "completion": drawn + "<answer>2</answer>",
            "map": {"bed": [[3, 4]]},
            "rewards": {"task": 1.0, "map": None},
        },
        {**base, "completion": "nothing", "map": None, "rewards": {"task": 0.0}},
    ]
    table = rollout_table(rows, RewardConfig())
    assert table["map"].to_pylist() == ['{"bed":[[3,4],[5,6]],"sofa":[[1,2]]}', None]
    assert table["true_map"].to_pylist() == ['{"bed":[[3,4]]}', None]
    assert table["failure"].to_pylist() == [None, "no_answer_tag"]
    assert table["map_failure"].to_pylist() == [None, None]
    assert table["id"].to_pylist() == ["7", "7"]
    assert table["reward/task"].to_pylist() == [1.0, 0.0]
    assert table.schema.field("reward/map").type == pa.float64()
    # Cells off a smaller map are none; an empty journal has the plain columns.
    assert rollout_table(rows, RewardConfig(grid_size=5))["map"].null_count == 2
    assert rollout_table([], RewardConfig()).schema.field("map").type == pa.string()


def test_the_data_hash_follows_rows_and_order_but_not_folders(rows):
    first = {**rows[0], "video": "a/room.mp4"}
    moved = {**dict(reversed(first.items())), "video": "elsewhere/room.mp4"}
    assert questions_hash([first]) == questions_hash([moved])
    for other in (
        [{**first, "video": "a/other.mp4"}],
        [{**first, "ground_truth": "no"}],
        [first, first],
        [],
    ):
        assert questions_hash(other) != questions_hash([first])
    assert questions_hash(rows) != questions_hash(rows[::-1])
    drawn = [row for row in rows[:2]]
    assert len({row["video"].rsplit("/", 1)[-1] for row in drawn}) == 2
    assert "://" in drawn[0]["video"]


def test_a_key_is_explained_by_its_nearest_pattern_or_not_at_all():
    assert meaning_of("rewards/map/mean") == METRICS["rewards/*/mean"]
    assert meaning_of("rewards/chosen") != meaning_of("rewards/rejected")
    assert meaning_of("map_hit_rate") != meaning_of("map_decay") is not None
    assert meaning_of("reward/typo") is None


# ---------------------------------------------------------------- trackers


def test_an_absent_tracker_is_refused_before_anything_starts(small, tmp_path):
    with refused("training.no-tracker", says="trackio"):
        launch(small(trackers=["trackio"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trackers_are_told_project_and_run_and_wandb_is_closed(
    small, tmp_path, monkeypatch
):
    calls = []
    fake = types.SimpleNamespace(finish=lambda: calls.append("finish"))

    def ready(self):
        self._wandb, self._initialized, self._log_model = fake, True, None

    monkeypatch.setattr(trackers.WandbCallback, "__init__", ready)
    monkeypatch.setattr(
        trackers.WandbCallback, "on_train_end", lambda *_, **__: calls.append("end")
    )
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    args = types.SimpleNamespace()
    config = small(trackers=["wandb"], recipe="tiny_study")
    board, tracker = tracker_callbacks(config, args, tmp_path)
    assert board.logging_dir == str(tmp_path / "tensorboard")
    assert (args.run_name, args.project) == ("tiny_study", "spacer")
    assert trackers.os.environ["WANDB_PROJECT"] == "spacer"
    tracker.on_train_end(None, None, None)
    assert calls == ["end", "finish"]
