"""What a run starts from: other families, adapters, broken and foreign checkpoints."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from support import refused
from transformers import AutoModelForImageTextToText, AutoProcessor

from spacer_lib.rows import MEDIA_KEYS
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training import checkpoints, start
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.checkpoints import (
    COMPLETE,
    complete_checkpoints,
    disk_is_full,
    save_model,
)
from spacer_lib.training.record import MetricsLog
from spacer_lib.training.start import load_start
from spacer_lib.training.visibility import check_visibility


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen3_vl_moe"])
def other_family(request, tmp_path_factory):
    """Checkpoint folder of an untrained tiny model of another architecture."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny.build_tokenizer(corpus())
    torch.manual_seed(0)
    tiny.build_model(tokenizer, family=request.param).save_pretrained(folder)
    tiny.build_processor(tokenizer, family=request.param).save_pretrained(folder)
    return folder


def test_another_architecture_trains_and_its_loss_sees_the_video(
    small, other_family, rows, tmp_path, capsys
):
    """Experts, deepstack features and time stamps in words: the same trainer."""
    config = small(model_path=str(other_family), num_iterations=2, beta=0.04)
    trainer = build_trainer(config, tmp_path, rows=rows)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    trainer.train()
    assert "the loss sees the video" in capsys.readouterr().out
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["logp_change/max"] for line in lines][0] == 0.0
    batch = trainer.roll_out([0, 1])
    _, own = trainer.score(batch)
    _, other = trainer.score(batch, batch["media"][::-1])
    assert (own - other).abs().max() > 1e-4


def test_an_adapter_learns_and_its_model_is_the_merged_one(
    small, model_dir, rows, tmp_path
):
    config = small(**{"lora": {"rank": 4}, "learning_rate": 0.1, "beta": 0.04})
    trainer = build_trainer(config, tmp_path / "run", rows=rows)
    names = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert names and all("lora_" in n and "language_model" in n for n in names)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    save_model(trainer, tmp_path / "model", "# card")
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    base = AutoModelForImageTextToText.from_pretrained(model_dir)
    adapted = PeftModel.from_pretrained(base, tmp_path / "model" / "adapter")
    ids = torch.tensor([[20, 30, 40, 50]])
    with torch.no_grad():
        ours, theirs = merged(input_ids=ids).logits, adapted(input_ids=ids).logits
        start = AutoModelForImageTextToText.from_pretrained(model_dir)(input_ids=ids)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert (ours - start.logits).abs().max() > 1e-2
    assert (tmp_path / "model" / "README.md").read_text() == "# card"
    AutoProcessor.from_pretrained(tmp_path / "model")
    sampling = merged.generation_config  # the run's, for harnesses that obey it
    assert (sampling.repetition_penalty, sampling.top_k) == (1.0, 0)


def test_four_bit_weights_are_refused_where_they_cannot_be_had(small):
    if torch.cuda.is_available():
        pytest.skip("with a GPU, whether bitsandbytes is there decides")
    config = small(lora={"rank": 4, "four_bit": True})
    with refused("training.no-four-bit"):
        load_start(config)


@pytest.fixture
def machine(monkeypatch):
    """``machine(gpu, package)``: what this machine has."""

    def build(gpu, package):
        found = importlib.util.find_spec

        def find(name):
            return package if name == "flash_attn" else found(name)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(importlib.util, "find_spec", find)

    return build


@pytest.mark.parametrize(
    ("name", "gpu", "package", "says"),
    [
        ("flash_attention_2", False, None, "no GPU and no package flash-attn"),
        ("flash_attention_2", True, None, "but no package flash-attn"),
        ("flash_attention_2", False, "there", "but no GPU"),
        ("flex", False, None, "no backward pass on a CPU"),
    ],
)
def test_attention_that_cannot_be_had_is_refused_before_the_model_is_read(
    small, machine, name, gpu, package, says
):
    machine(gpu, package)
    config = small(attention=name, bf16=True, model_path="runs/no_such_folder")
    with refused("training.no-attention", says=says):
        load_start(config)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("sdpa", None), ("flex", None), ("flash_attention_2", "flash_attention_2")],
)
def test_the_chosen_attention_is_asked_for(small, machine, monkeypatch, name, asked):
    machine(True, "there")
    options = {}

    def load(path, **given):
        options.update(given)
        return torch.nn.Linear(1, 1), None

    monkeypatch.setattr(start, "load_checkpoint", load)
    load_start(small(attention=name, bf16=True))
    assert options["attn_implementation"] == asked


def test_flash_attention_2_gives_the_numbers_of_sdpa(small):
    if not torch.cuda.is_available() or importlib.util.find_spec("flash_attn") is None:
        pytest.skip("the package flash-attn computes on a GPU only")
    ids, logits = torch.tensor([[20, 30, 40, 50]]), []
    for name in ("sdpa", "flash_attention_2"):
        model = load_start(small(attention=name, bf16=True))[0].cuda().bfloat16()
        logits.append(model(input_ids=ids.cuda()).logits.float())
    torch.testing.assert_close(*logits, atol=0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("bf16", {"attention": "flash_attention_2"}),
        (
            "advanced.decode",
            {"attention": "flash_attention_2", "bf16": True, "decode": "static"},
        ),
        ("advanced.attention", {"attention": "flex", "shared_prefix": "off"}),
        ("advanced.attention", {"attention": "flex", "method": "sft"}),
        ("advanced.attention", {"attention": "flash"}),
    ],
)
def test_settings_that_do_not_go_with_an_attention_are_refused(small, setting, changes):
    with refused("training.setting-value", says=f"setting {setting}:"):
        small(**changes)


# ---------------------------------------------------------------- bad checkpoints


def test_a_truncated_checkpoint_is_named(small, model_dir, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with refused("models.unreadable", says="broken"):
        load_start(small(model_path=str(broken)))


def test_code_from_a_checkpoint_does_not_run_unasked(small, model_dir, tmp_path):
    """As of Kimi-VL: a class of its own, in a file beside the weights."""
    foreign, ran = tmp_path / "foreign", tmp_path / "ran"
    shutil.copytree(model_dir, foreign)
    config = json.loads((foreign / "config.json").read_text())
    config |= {
        "model_type": "of_its_own",
        "auto_map": {
            "AutoConfig": "own.Config",
            "AutoModelForImageTextToText": "own.Model",
        },
    }
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    with refused("models.remote-code", says="foreign"):
        load_start(small(model_path=str(foreign)))
    assert not ran.exists()


# ---------------------------------------------------------------- full disks


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (RuntimeError("[enforce fail] . unexpected pos 64 vs 0"), True),
        (checkpoints.SafetensorError("I/O error: No space left (os error 28)"), True),
        (OSError(13, "Permission denied"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_a_full_disk_is_known_in_all_its_words(error, full):
    assert disk_is_full(error) == full


def test_a_disk_that_fills_while_saving_leaves_the_checkpoint_before(
    small, rows, tmp_path, monkeypatch
):
    config = small(max_steps=2, save_steps=1)
    trainer = build_trainer(config, tmp_path, rows=rows)
    write = torch.save

    def save(content, path, *args, **kwargs):
        if "checkpoint-2" in str(path):
            write({"half": 1}, path)
            raise OSError(28, "No space left on device", str(path))
        return write(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with refused("training.disk-full", says="checkpoint-1"):
        trainer.train()
    folder = tmp_path / "checkpoints"
    assert [path.name for path in complete_checkpoints(folder)] == ["checkpoint-1"]
    assert not (folder / "checkpoint-2").exists()


def test_a_checkpoint_cut_off_is_not_one(tmp_path):
    for step, whole in ((2, True), (10, True), (4, True), (6, False)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"weights")
        if whole:
            (path / COMPLETE).write_text("{}")
    names = [path.name for path in complete_checkpoints(tmp_path)]
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-10"]


# ---------------------------------------------------------------- visibility


def shown(grey, **media):
    """A trainer of one row; its truth scores -1, and ``grey`` beside grey pixels."""

    def truth_scores(number, change=None):
        assert change in (None, torch.zeros_like)
        return torch.tensor([-1.0, -1.0 if change is None else grey])

    return SimpleNamespace(rows=[media], truth_scores=truth_scores)


@pytest.mark.parametrize("kind", MEDIA_KEYS)
@pytest.mark.parametrize("grey", [-1.0, float("nan"), float("-inf")])
def test_a_loss_that_does_not_see_the_pixels_is_refused(kind, grey):
    with refused("training.blind", says=kind):
        check_visibility(shown(grey, **{kind: "a"}))


def test_a_loss_that_sees_the_pixels_is_measured():
    assert check_visibility(shown(-1.5, video="a", image=None)) == {"video": 0.5}
    assert check_visibility(shown(-1.0)) == {}  # text alone shows nothing
