"""What a run needs: bytes as they are written, refusals, hours by phase."""

import shutil
from collections import Counter, namedtuple

import pytest
import torch
from peft import get_peft_model
from support import refused
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForImageTextToText

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_jsonl
from spacer_lib.models.shapes import Stack, shape_config, sizes_of
from spacer_lib.training import needs as needing
from spacer_lib.training.gpu_needs import GIB, layer_numbers, require_gpu_memory
from spacer_lib.training.needs import (
    count_rows,
    require_disk,
    run_needs,
    step_seconds,
)
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config
from spacer_lib.training.start import lora_config

ROWS = 151_000  # of SpaceR-151k
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(monkeypatch):
    """``disk(free)`` pretends a disk with so many free bytes."""

    def pretend(free):
        usage = Usage(1e15, 0, free)
        monkeypatch.setattr(needing.shutil, "disk_usage", lambda path: usage)

    return pretend


@pytest.mark.parametrize(
    "name, data_rows, rows",
    [
        ("", None, 7),
        ("train.jsonl", None, 7),
        ("train.jsonl", 5, 5),
        ("", 9, 7),
        ("absent.jsonl", 9, 9),
        ("absent.jsonl", None, None),
    ],
)
def test_rows_of_a_file_or_of_the_folder_of_a_question_set(
    tmp_path, name, data_rows, rows
):
    write_jsonl(tmp_path / "train.jsonl", [{}] * 7)
    changes = {"data_path": str(tmp_path / name), "data_rows": data_rows}
    assert count_rows(load_config("tiny", changes)) == rows


def of_recipe(name, *changes, workers=8):
    return run_needs(load_config(name, list(changes)), workers, rows=ROWS)


def bytes_in(folder, *names):
    found = [p for name in names for p in folder.rglob(name) if p.is_file()]
    return sum(path.stat().st_size for path in found)


# ---------------------------------------------------------------- bytes


def test_parameters_are_those_of_the_published_models():
    """8.29 billion with the tower, as the files on the hub have them."""
    sizes = sizes_of("Qwen/Qwen2.5-VL-7B-Instruct")
    assert sizes.all == 8_292_166_656 and sizes.head == 3584 * 152_064
    assert (sizes.text.depth, sizes.pixels, sizes.frames) == (28, 28, 2)
    assert sizes_of("Qwen/Qwen2.5-VL-3B-Instruct").all == 3_754_622_976
    assert sizes_of("nobody/unknown") is None


def test_a_checkpoint_of_7b_is_116_gb_and_three_are_there_at_once():
    found = of_recipe("spacer_7b")
    assert found.optimizer == pytest.approx(99.5e9, rel=1e-3)
    assert found.weights == found.model == pytest.approx(16.6e9, rel=1e-2)
    assert (found.at_once, found.disk) == (3, pytest.approx(348e9, rel=1e-2))
    assert "116.1 GB" in found.disk_line() and "348.3 GB" in found.disk_line()
    one = of_recipe("spacer_7b", "advanced.keep_checkpoints=1", "max_steps=50")
    assert one.at_once == 1  # the only one is that of the last step
    assert one.disk == pytest.approx(one.checkpoint + one.model)
    adapter = of_recipe("spacer_7b", "lora.rank=16")
    assert adapter.checkpoint < 1e9 and adapter.model > 16e9


def test_offloaded_state_lies_in_cpu_memory():
    found = of_recipe("spacer_3b", "advanced.offload=optimizer", workers=1)
    assert found.cpu_memory == pytest.approx(45e9, rel=1e-2)
    assert "CPU memory" in "\n".join(found.lines())
    assert "CPU memory" not in "\n".join(of_recipe("spacer_3b").lines())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"lora.rank": 4}, marks=pytest.mark.slow),
        pytest.param({"zero_stage": 2}, marks=pytest.mark.slow),
    ],
)
def test_bytes_are_those_that_a_run_writes(small, tmp_path, changes):
    config = small(max_steps=1, save_steps=1, **changes)
    launch(config, tmp_path / "run")
    (written,) = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    found = run_needs(config, 1)
    state = bytes_in(written, "optimizer.pt", "*optim_states.pt")
    weights = bytes_in(written, "*.safetensors", "*model_states.pt")
    model = bytes_in(tmp_path / "run" / "model", "*.safetensors")
    # Files have headers too, which count in a model this small.
    assert found.optimizer <= state <= found.optimizer * 1.1 + 60_000
    assert found.weights <= weights <= found.weights * 1.1 + 60_000
    assert found.model <= model <= found.model * 1.1 + 60_000


# ---------------------------------------------------------------- refusals


def test_a_disk_that_is_too_small_is_one_error_before_anything_starts(
    small, tmp_path, disk, monkeypatch, capsys
):
    monkeypatch.setattr(launching, "_run", lambda *_: pytest.fail("started"))
    config, lines = small(max_steps=9, save_steps=1), []
    wanted = run_needs(config, 1).disk
    disk(wanted - 1)
    with refused("training.disk-too-small", says="keep_checkpoints=1"):
        launch(config, tmp_path / "run", on_line=lines.append)
    assert not (tmp_path / "run").exists() and "disk: a checkpoint" in lines[1]
    # The measured run is short and writes one checkpoint; the whole run writes three.
    changes = ["save_steps=1", "max_steps=9"]
    disk(run_needs(load_config("tiny", changes), 1).checkpoint * 2.5)
    out = ["--out", str(tmp_path / "x")]
    assert cli.main(["train", "--estimate", "--set", *changes, *out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "3 checkpoints of" in line and "free" in line
    disk(run_needs(config, 1).disk)
    require_disk(run_needs(config, 1), tmp_path / "run")


def test_earlier_checkpoints_of_the_run_count_as_room(disk, tmp_path):
    found = of_recipe("spacer_7b")
    disk(found.disk - 1000)
    with refused("training.disk-too-small", says="348.3 GB"):
        require_disk(found, tmp_path)
    kept = tmp_path / "checkpoints" / "checkpoint-100"
    kept.mkdir(parents=True)
    (kept / "model.safetensors").write_bytes(bytes(1000))
    require_disk(found, tmp_path)


def test_the_disk_is_that_of_the_nearest_folder(tmp_path):
    there = shutil.disk_usage(tmp_path).total
    assert 0 < needing.free_bytes(tmp_path / "a" / "b") <= there


# ---------------------------------------------------------------- memory of GPUs


def test_layers_and_words_are_those_of_the_published_model():
    sizes = sizes_of("Qwen/Qwen2.5-VL-3B-Instruct")
    assert sizes.text == Stack(36, 2048, 11008) and sizes.words == 151_936
    assert sizes.vision == Stack(32, 1280, 3420)
    assert sizes.cache == 36 * 2 * 2 * 128  # 2 of 16 heads have keys and values


def test_the_middle_tier_fits_a_gpu_of_16_gb():
    """Each part of the 3B model with adapters, counted by hand."""
    found = run_needs(load_config("spacer_3b_lora"), 1)
    gpu, adapter = found.gpu, 29_933_568  # 7 products of 36 layers, rank 16
    square, narrow, wide = 2 * 2048, 2048 + 256, 2048 + 11008
    assert 36 * 16 * (2 * square + 2 * narrow + 3 * wide) == adapter
    assert gpu.held["weights"] == 2 * 3_754_622_976
    assert gpu.held["adapters"] == gpu.update["gradients"] == 4 * adapter
    assert gpu.held["optimiser"] == 8 * adapter
    assert gpu.held["reference"] == 0  # the model without its adapter
    # 4 prompts of 8 completions: 512 tokens of video, 100 of text, 512 of an answer.
    assert gpu.generation["KV cache"] == 2 * 18_432 * 32 * (612 + 512)
    assert gpu.update["logits"] == 2 * 4 * 4096 * 32_768
    # A packed row; inputs of all layers, and one layer whole; then the tower's.
    tokens, patches = 612 + 8 * 512, 4 * 512
    text = tokens * (36 * 2048 + 14 * 2048 + 4 * 11008)
    tower = patches * (32 * 1280 + 12 * 1280 + 4 * 3420)
    assert gpu.update["activations"] == 2 * (text + tower)
    assert gpu.peak == gpu.phases()["update"] == pytest.approx(11 * GIB, rel=0.01)
    assert (found.rates.device, found.steps) == ("L4", 1250)
    assert require_gpu_memory(gpu, 14.5 * GIB) is None


@pytest.mark.parametrize(
    ("changes", "workers", "update", "generation"),
    [
        ([], 8, 28, 33),
        (["zero_stage=2"], 8, 54, 47),
        (["prompts_per_step=4"], 4, 49, 50),
        (["lora.rank=16", "zero_stage=0", "prompts_per_step=1"], 1, 22, 19),
    ],
)
def test_memory_of_7b_is_that_of_its_tensors(changes, workers, update, generation):
    """GiB with 2,300 tokens of a prompt, from an update on tensors without memory:
    2 GiB kept by a forward, 16.4 at the peak with 14.2 of gradients."""
    pixels = f"max_pixels={2200 // 8 * 28 * 28}"
    found = of_recipe("spacer_7b", pixels, *changes, workers=workers).gpu.phases()
    assert found["update"] / GIB == pytest.approx(update, rel=0.1)
    assert found["generation"] / GIB == pytest.approx(generation, rel=0.1)


@pytest.fixture(scope="module")
def layered():
    """``layered(adapted)``: a model of five layers in bf16, perhaps with adapters."""

    def make(adapted):
        model = AutoModelForImageTextToText.from_config(shape_config("small"))
        model = model.to(torch.bfloat16)
        lora = lora_config(load_config("spacer_3b_lora"))
        return get_peft_model(model, lora) if adapted else model

    return make


@pytest.mark.parametrize("adapted", [False, True])
def test_a_layer_keeps_as_much_as_is_counted(layered, adapted):
    model, count, kept = layered(adapted).train(), 512, {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive: no place is reused
        return tensor

    language = (model.get_base_model() if adapted else model).model.language_model
    x = torch.randn(1, count, 256, dtype=torch.bfloat16, requires_grad=True)
    places = language.rotary_emb(x, torch.arange(count).expand(3, 1, count))
    with (
        torch.autocast("cpu", torch.bfloat16),
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        language.layers[0](x, attention_mask=None, position_embeddings=places)
    found = sum(
        tensor.untyped_storage().nbytes()
        for place, tensor in kept.items()
        if place not in weights
    )
    counted = 2 * count * layer_numbers(Stack(5, 256, 1024), adapted)
    assert found == pytest.approx(counted, rel=0.05)


class Kernels(TorchDispatchMode):
    """Counts what torch dispatches; views are free."""

    VIEWS = set("_unsafe_view alias detach expand slice t transpose unsqueeze".split())
    VIEWS |= set("empty permute select split squeeze unbind view".split())

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.count[name] += name not in self.VIEWS
        return function(*args, **(kwargs or {}))


def test_adapters_double_the_kernels_of_a_token(layered):
    found = []
    for adapted in (False, True):
        model, ids = layered(adapted).eval(), torch.full((4, 6), 7)
        with torch.no_grad():
            cache = model(input_ids=ids, use_cache=True).past_key_values
            place = torch.full((3, 4, 1), 6)
            with Kernels() as kernels:
                model(input_ids=ids[:, :1], past_key_values=cache, position_ids=place)
        found.append(kernels.count.total())
    assert found[1] / found[0] == pytest.approx(needing.ADAPTED, abs=0.03)


def test_settings_that_save_memory_are_counted():
    def peak(*changes):
        return run_needs(load_config("spacer_3b_lora", list(changes)), 1).gpu

    full = peak()
    assert peak("frames=32").peak > full.peak > peak("frames=4").peak
    fewer = peak("advanced.completions_per_forward=2", "per_device_batch=2")
    assert fewer.update["activations"] < full.update["activations"] / 2
    assert peak("lora.four_bit=true").state < full.state / 1.9
    assert peak("advanced.gradient_checkpointing=false").peak > 2 * full.peak
    apart = peak("advanced.shared_prefix=off", "per_device_batch=8")
    assert apart.update["activations"] > full.update["activations"]
    vllm = peak("advanced.vllm=colocate", "advanced.vllm_memory=0.4")
    assert "KV cache" not in vllm.generation
    assert vllm.phases()["generation"] == pytest.approx((vllm.state + GIB) / 0.6)
    awake = peak("advanced.vllm=colocate", "advanced.vllm_sleep=false")
    assert awake.phases()["update"] == pytest.approx(full.phases()["update"] / 0.7)
    assert list(run_needs(load_config("sft_3b"), 8).gpu.phases()) == ["update"]


def test_a_gpu_that_is_too_small_is_refused(tmp_path, disk):
    disk(1e15)
    config, lines = load_config("spacer_3b_lora"), []
    say = lines.append
    with refused("training.gpu-too-small", says="6.0 GiB"):
        needing.say_needs(config, 1, tmp_path, say, card=6 * GIB)
    assert any("predicted memory of each GPU" in line for line in lines)
    lines.clear()
    needing.say_needs(config, 1, tmp_path, say, card=8 * GIB)
    assert "WARNING: the GPU has 8.0 GiB" in lines[-1]
    lines.clear()
    needing.say_needs(config, 1, tmp_path, say, card=16 * GIB)
    assert "WARNING" not in "".join(lines)
    whole = load_config("spacer_3b", ["gpus=1", "zero_stage=0"])
    with refused("training.gpu-too-small", says="spacer_3b_lora"):
        needing.say_needs(whole, 1, tmp_path, say, card=22.4 * GIB)


def test_an_estimate_without_a_gpu_is_a_prediction(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "count_gpus", lambda: 0)
    out = tmp_path / "estimate.json"
    words = ["train", "--config", "spacer_3b_lora", "--estimate", "--json", str(out)]
    assert cli.main(words) == 0
    shown, said = capsys.readouterr().out, read_json(out)
    found = run_needs(load_config("spacer_3b_lora"), 1)
    for line in found.lines():
        assert line in shown
    assert "hours" in shown and "no step was measured" in shown
    assert said["steps_measured"] == 0
    assert said["predicted"]["gpu"]["held"] == found.gpu.held
    assert said["predicted"]["hours"] == list(found.hours())
    unknown = [*words, "--set", "model_path=nobody/unknown"]
    assert cli.main(unknown) == 0 and read_json(out)["predicted"] is None


# ---------------------------------------------------------------- hours


def test_hours_of_the_published_run_go_to_decoding():
    found = of_recipe("spacer_7b")
    assert found.steps == 18_875
    assert list(found.seconds) == ["decode", "prefill", "scores", "update", "gathers"]
    low, high = found.seconds["decode"]
    assert low == pytest.approx(1024 * 25e-3) and high == pytest.approx(1024 * 30e-3)
    step, hours = found.step_seconds(), found.hours()
    assert low / step[0] > 0.9 and 140 < hours[0] < hours[1] < 180
    quick = of_recipe("spacer_7b", "advanced.vllm=colocate")
    token = [1000 * s / 1024 for s in quick.seconds["decode"]]
    assert 5.5 < token[0] < token[1] < 7.2  # ms
    assert "days" in "\n".join(found.lines()) and quick.hours()[1] < 60


@pytest.mark.parametrize("bonus", ["temporal_bonus", "counterfactual_bonus"])
def test_a_control_is_drawn_after_the_rollouts(bonus):
    found, plain = (
        of_recipe("spacer_7b", f"advanced.{bonus}={value}").seconds for value in (1, 0)
    )
    for phase in ("decode", "prefill"):
        assert found[phase] == pytest.approx([2 * s for s in plain[phase]])
    for phase in ("scores", "update"):  # nothing is learnt from it
        assert found[phase] == plain[phase]
    gathered = found["gathers"][0] / plain["gathers"][0]
    assert gathered == pytest.approx(5 / 4)  # weights for one generation more


def test_operations_are_those_that_were_counted():
    """146 TFLOP of reference scores and 526 of an update, at 10,491 positions."""
    sizes = sizes_of("Qwen/Qwen2.5-VL-7B-Instruct")
    # 2,300 tokens: as many pixels as make 2,200 of them video.
    pixels = 2200 // 8 * 28 * 28
    config = load_config("spacer_7b", [f"max_pixels={pixels}"])
    assert needing.video_tokens(config, sizes) == 2200
    rates = needing.Rates(matrix=1e12, share=1.0)
    found = step_seconds(config, 8, sizes, rates)
    tower = 2 * 4 * 2200 * sizes.tower / 1e12  # was left out of the count
    assert found["scores"][0] - tower == pytest.approx(146, rel=0.02)
    assert found["update"][0] - 4 * tower == pytest.approx(526, rel=0.1)


def test_unknown_sizes_are_said_to_be_unknown(tmp_path):
    config = load_config("spacer_7b", ["max_pixels=null"])
    found = run_needs(config, 8)
    assert found.seconds is None and found.hours() is None and found.disk > 3e11
    unknown = load_config("spacer_7b", ["model_path=nobody/unknown"])
    lines = []
    needing.say_needs(unknown, 8, tmp_path, lines.append)
    (line,) = lines
    assert "not known before config.json of nobody/unknown is here" in line
