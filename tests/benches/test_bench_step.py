"""What the bench of a step computes and counts, but not how long it takes."""

import dataclasses
import sys

import pytest
import torch
from support import refused

from benches import step as bench
from benches import timing
from benches.step import BATCH, FORMS, ONE_ROW, SHARED, Step, StepShape
from spacer_lib.artifacts import read_json

SHAPE = StepShape("tiny", prompt=60, completion=5, group=3)


@pytest.fixture(scope="module")
def step():
    return Step(SHAPE, "cpu")


@pytest.mark.parametrize("name", bench.NAMES)
def test_configurations_are_whole(name):
    config = bench.bench_config(name)
    text, vision = config.get_text_config(), config.vision_config
    head = text.hidden_size // text.num_attention_heads
    assert 2 * sum(text.rope_parameters["mrope_section"]) == head
    assert vision.out_hidden_size == text.hidden_size
    assert vision.hidden_size % vision.num_heads == 0
    assert "sliding_attention" not in text.layer_types


@pytest.mark.parametrize(("name", "billions"), [("3b", 3.75), ("7b", 8.29)])
def test_published_sizes(name, billions):
    """Parameters of the published checkpoints, vision tower included."""
    with torch.device("meta"):
        model = bench.MODEL(bench.bench_config(name))
    count = sum(p.numel() for p in model.parameters()) / 1e9
    assert count == pytest.approx(billions, abs=0.01)


@pytest.mark.parametrize("length", [60, 200, 1100])
def test_a_prompt_is_one_video_among_words(length):
    config = bench.bench_config("small")
    ids, media = bench.synthetic_prompt(config, length)
    (grid,) = media["video_grid_thw"].tolist()
    side = config.vision_config.spatial_merge_size
    shown = grid[0] * grid[1] * grid[2] // side**2
    assert len(ids) == length
    assert int((ids == config.video_token_id).sum()) == shown
    assert shown > 0.4 * length
    around = ids.tolist().index(config.video_token_id)
    assert ids[around - 1] == config.vision_start_token_id
    assert ids[around + shown] == config.vision_end_token_id
    assert not (ids == config.image_token_id).any()
    assert len(media["pixel_values_videos"]) == grid[0] * grid[1] * grid[2]


def test_all_forms_compute_the_same(step):
    scores = {form: step.log_probs(form) for form in FORMS}
    assert scores[SHARED].shape == (5 + 4 + 3,) and scores[SHARED].std() > 0.1
    gradients = {}
    for form in FORMS:
        step.update(form)
        gradients[form] = step.model.model.visual.patch_embed.proj.weight.grad.clone()
    for form in (ONE_ROW, BATCH):
        torch.testing.assert_close(scores[SHARED], scores[form], atol=1e-4, rtol=0)
        scale = float(gradients[BATCH].abs().max())
        torch.testing.assert_close(
            gradients[SHARED], gradients[form], atol=1e-4 * scale, rtol=0
        )


def test_tokens_are_those_the_model_runs(step):
    counts, found = SHAPE.tokens(), []
    hook = step.model.model.language_model.register_forward_hook(
        lambda _, __, output: found.append(output.last_hidden_state.shape[:2].numel())
    )
    for form in FORMS:
        found.clear()
        step.log_probs(form)
        assert sum(found) == counts["log-probs"][form]
    for form in (SHARED, BATCH):
        found.clear()
        step.generation(form)
        first = 2 if form == SHARED else 1  # forwards until the first token
        assert sum(found[:first]) == counts["prefill"][form]
        assert sum(found[first:]) == counts["decode"][form]
    hook.remove()
    assert counts["update"][SHARED] == 59 + 5 + 4 + 3
    assert bench.law(60, 5, 3) == 195 / 75


@pytest.mark.parametrize(
    "changes", [{"model": "72b"}, {"prompt": 20}, {"group": 0}, {"completion": 0}]
)
def test_impossible_shapes_are_refused(changes):
    fault = "unknown-model" if "model" in changes else "shape"
    with refused(f"benches.{fault}"):
        dataclasses.replace(SHAPE, **changes)


def test_forms_that_disagree_are_not_timed(monkeypatch):
    monkeypatch.setattr(
        Step, "log_probs", lambda _, form: torch.tensor(12.0 * (form == SHARED))
    )
    with refused("benches.results-differ", says="got 12"):
        bench.bench_step(SHAPE, 1)


def test_the_command_shows_and_writes(monkeypatch, capsys, tmp_path):
    # Processes of their own take long to start.
    monkeypatch.setattr(bench, "_peaks", lambda *_: dict.fromkeys(FORMS, 0.5))
    path = tmp_path / "step.json"
    words = "step --model tiny --prompt 60 --completion 5 --group 3 --repeats 2"
    monkeypatch.setattr(
        sys, "argv", [*words.split(), "--decode", "3", "--json", str(path)]
    )
    assert timing.main(bench.run, bench.options()) == 0
    result, said = read_json(path), capsys.readouterr().out
    assert [(row["name"], row["other"]) for row in result["rows"]] == [
        ("prefill", BATCH),
        ("decode", BATCH),
        ("generation", BATCH),
        ("log-probs", ONE_ROW),
        ("log-probs", BATCH),
        ("update", ONE_ROW),
        ("update", BATCH),
    ]
    assert result["decode"] == 3 and result["peak_memory_gb"][SHARED] == 0.5
    for row in result["rows"]:
        assert row["ratio"] == row["other_s"] / row["ours_s"] and row["runs"] == 2
    assert "update: run 2 of 2" in said and "71 tokens against 192" in said


def test_shared_prompts_keep_less_for_the_backward_than_a_batch():
    """What autograd saves, which is the peak's part that depends on the form."""
    step = Step(StepShape("small", prompt=220, completion=80, group=8), "cpu")
    kept = {}
    for form in (SHARED, BATCH):
        sizes = {}

        def note(tensor, sizes=sizes):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            scores = step.scores(step.completions, form)
        kept[form] = sum(sizes.values())
        del scores
    assert kept[SHARED] < kept[BATCH] / 2
