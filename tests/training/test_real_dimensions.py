"""Every dimension of the published run at its real value, one at a time, on a CPU.

``MET`` names the test that meets each. What it cannot name is ``UNMET``.
"""

import ast
import math
from types import SimpleNamespace

import numpy as np
import published as real
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from published import COMPLETION, PROMPT, VOCABULARY, write_clip, write_model
from support import dotted
from torch.utils.data import DataLoader
from transformers import AutoConfig

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.checkpoints import load_checkpoint
from spacer_lib.models.generation import respond
from spacer_lib.models.inputs import encode_prompts
from spacer_lib.models.patches.shared_media import core_of
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training import needs, step
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.processes import launch as launching
from spacer_lib.training.processes import plan
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config
from spacer_lib.training.record import MetricsLog, read_journal
from spacer_lib.training.sampler import EpochOrder

GROUP = 8
HERE = "training/test_real_dimensions.py"
SAMPLING, GPU = "unit/test_sampling.py", "training/test_pretended_gpu.py"
# Dimension, its value in a run of spacer_7b on 8 GPUs, and the test that meets it.
MET = {
    ("vocabulary: noise", "152,064 of 2^24 patterns"): (
        SAMPLING,
        "test_noise_is_finite_for_every_pattern_of_bits",
    ),
    ("vocabulary: certain model", 152_064): (
        SAMPLING,
        "test_a_certain_model_is_certain_at_the_published_vocabulary",
    ),
    ("vocabulary: nucleus", 152_064): (
        SAMPLING,
        "test_nothing_outside_the_nucleus_at_the_published_vocabulary",
    ),
    ("vocabulary: generation, scores, loss", 152_064): (
        HERE,
        "test_a_step_at_the_published_vocabulary",
    ),
    ("vocabulary: evaluation", 152_064): (
        HERE,
        "test_answers_at_the_published_vocabulary",
    ),
    ("special tokens", "22, from id 151,643 on"): (
        HERE,
        "test_the_stand_in_has_the_published_tokens",
    ),
    ("embedding rows without a token", 399): (
        HERE,
        "test_tokens_without_a_word_are_survived",
    ),
    ("prompt, completion, group", "2,300 and 1,024 tokens, 8"): (
        HERE,
        "test_a_group_of_the_longest_prompt_and_completions",
    ),
    ("training frames", "16 of 128 x 28 x 28 pixels"): (
        HERE,
        "test_video_tokens_are_counted",
    ),
    ("evaluation frames", "32 of 448 x 28 x 28 pixels"): (
        HERE,
        "test_video_tokens_are_counted",
    ),
    ("layers, in float32 and bf16", 28): (HERE, "test_a_step_of_28_layers"),
    ("attention heads", "28 and 4 of 128"): (
        HERE,
        "test_a_step_with_the_published_heads",
    ),
    ("bf16, one process or LoRA", "shared, apart"): (HERE, "test_bf16_in_one_process"),
    ("bf16, DDP, ZeRO-2, ZeRO-3", "shared, apart"): (HERE, "test_bf16_on_two_ranks"),
    ("ranks: settings of the launch", 8): (HERE, "test_the_launch_of_eight_ranks"),
    ("ranks: order of rows", 8): (HERE, "test_eight_ranks_share_out_every_row_once"),
    ("ranks: a run", 8): (HERE, "test_eight_ranks_train_as_one"),
    ("device of training", "not the CPU"): (
        GPU,
        "test_a_step_makes_nothing_on_the_cpu",
    ),
    ("device of evaluation", "not the CPU"): (
        GPU,
        "test_evaluation_makes_nothing_on_the_cpu",
    ),
}
UNMET = ("a GPU", "NCCL", "weights")


def test_every_dimension_is_met_by_a_test():
    for path, name in MET.values():
        tree = ast.parse((PROJECT_ROOT / "tests" / path).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{path}: {name}"


def test_the_values_are_the_recipes():
    recipe = load_config("spacer_7b")
    assert (recipe.gpus, recipe.num_generations, recipe.bf16) == (8, GROUP, True)
    assert recipe.max_completion_length == COMPLETION
    frames = recipe.frames, recipe.max_pixels
    assert frames == (real.TRAINING_FRAMES, real.TRAINING_PIXELS)


# ---------------------------------------------------------------- shared and apart


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.build_tokenizer(corpus())


@pytest.fixture
def make(small, tmp_path):
    """``make(model, rows, **changes)``: a trainer with a group of eight."""

    def build(model, rows, **changes):
        values = {
            "model_path": str(model),
            "prompts_per_step": 1,
            "num_generations": GROUP,
            "beta": 0.04,
            "num_iterations": 2,
            "shared_prefix": "on",
        }
        return build_trainer(small(**values | changes), tmp_path, rows=rows)

    return build


def graded(trainer, batch, count, rows=None):
    """Loss, log-probabilities and gradients with ``count`` completions packed."""
    trainer.shared_prefix = count
    trainer.model.train()
    trainer.model.zero_grad(set_to_none=True)
    trainer.current_gradient_accumulation_steps = 1
    loss, scores = step.policy_loss(trainer, trainer.model, batch)
    loss.backward()
    named = trainer.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    return loss.detach(), scores.logps.detach() * batch["completion_mask"], gradients


def assert_shared_is_apart(trainer, batch, within=1e-4):
    """Loss, log-probabilities and gradients (relative to the largest) are the same."""
    generator = torch.Generator().manual_seed(5)
    batch["advantages"] = torch.randn(len(batch["advantages"]), generator=generator)
    for key in ("old_per_token_logps", "ref_per_token_logps"):
        noise = torch.randn(batch[key].shape, generator=generator)
        batch[key] = batch[key] + 0.1 * noise  # or loss and gradients would be near 0
    apart = graded(trainer, batch, None)
    shared = graded(trainer, batch, GROUP)
    scale = max(gradient.abs().max() for gradient in apart[2].values())
    assert scale > 0 and apart[1].abs().max() > 0.1
    assert shared[2].keys() == apart[2].keys()
    assert abs(shared[0] - apart[0]) <= within
    assert (shared[1] - apart[1]).abs().max() <= within
    for name, gradient in apart[2].items():
        assert (shared[2][name] - gradient).abs().max() <= within * scale, name


def quiet(model, tokens, amount=-1e4):
    """Change some tokens' logits in generation, whatever the weights say."""

    def changed(module, args, logits):
        logits = logits.clone()
        logits[..., tokens] += amount
        return logits

    return model.lm_head.register_forward_hook(changed)


# ---------------------------------------------------------------- vocabulary


@pytest.fixture(scope="module")
def published_words(tmp_path_factory):
    """Checkpoint with the stand-in tokenizer and 152,064 rows of embeddings."""
    folder = tmp_path_factory.mktemp("words")
    text = {"vocab_size": VOCABULARY}
    sizes = {"hidden": 64, "layers": 1, "vision_hidden": 32}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    text["rope_parameters"] = rope
    return write_model(folder, real.stand_in_tokenizer(), text, **sizes)


def test_the_stand_in_has_the_published_tokens(published_words):
    model, processor = load_checkpoint(published_words)
    words = processor.tokenizer
    assert len(words) == real.REGULAR + 22 == 151_665
    assert words.convert_tokens_to_ids("<|im_start|>") == 151_644
    assert words.convert_tokens_to_ids("<|video_pad|>") == 151_656
    assert model.config.video_token_id == processor.video_token_id == 151_656
    assert model.get_input_embeddings().num_embeddings == VOCABULARY
    text = "<|im_start|>user\nWie groß ist 东? <|vision_start|><|video_pad|>"
    ids = words(text, add_special_tokens=False)["input_ids"]
    assert words.decode(ids) == text and [151_644, 151_656] == [ids[0], ids[-1]]


def test_a_step_at_the_published_vocabulary(make, published_words, rows):
    trainer = make(published_words, rows, max_completion_length=16, top_p=0.95)
    pads = trainer.generation_kwargs["suppress_tokens"]
    assert pads == [151_655, 151_656]
    quiet(trainer.model, pads, 1e4)
    batch = trainer.roll_out([0, 1])
    ids = batch["completion_ids"]
    assert not torch.isin(ids, torch.tensor(pads)).any()
    assert ids.max() > 100_000 and ids.unique().numel() > 100
    assert_shared_is_apart(trainer, batch)


def test_tokens_without_a_word_are_survived(make, published_words, rows):
    trainer = make(published_words, rows, max_completion_length=8)
    quiet(trainer.model, list(range(151_665, VOCABULARY)), 1e3)
    batch = trainer.roll_out([0])
    assert (batch["completion_ids"] >= 151_665).all()
    assert math.isfinite(trainer.score(batch)[0])


def test_answers_at_the_published_vocabulary(published_words, rows):
    """The path of evaluation and selection."""
    model, processor = load_checkpoint(published_words)
    settings = AskSettings("tiny", max_new_tokens=24, temperature=1.0, seed=3)
    pads = [model.config.image_token_id, model.config.video_token_id]
    seen = []
    # What is drawn, from every width of input that follows.
    model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0][:, -1])
    )
    quiet(model, pads, 1e4)
    made = respond(model, processor, [rows[0]] * 8, settings)
    drawn = torch.cat(seen[1:])
    assert len(drawn) >= 100 and not torch.isin(drawn, torch.tensor(pads)).any()
    quiet(model, [1234], 2e4)  # a certain model
    certain = respond(model, processor, [rows[0]] * 8, settings)
    word = processor.tokenizer.decode([1234])
    assert {answer.text for answer in certain} == {word * 24}
    assert len({answer.text for answer in made}) == 8


# ---------------------------------------------------------------- lengths, frames


@pytest.fixture(scope="module")
def published_tower(tokenizer, tmp_path_factory):
    """Checkpoint whose tower has the published patches and windows."""
    folder = tmp_path_factory.mktemp("tower")
    sizes = {"hidden": 64, "layers": 2, "vision_hidden": 32, "vision_depth": 2}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    text = {"rope_parameters": rope, "max_position_embeddings": 128_000}
    return write_model(folder, tokenizer, text, real.tower(), **sizes)


@pytest.mark.parametrize(
    ("frames", "pixels", "size", "tokens"),
    [
        (16, real.TRAINING_PIXELS, (448, 224), 8 * 128),
        (16, real.TRAINING_PIXELS, (640, 480), 8 * 9 * 13),  # ScanNet's depth size
        (32, real.EVALUATION_PIXELS, (784, 448), 16 * 448),
        (32, real.EVALUATION_PIXELS, (1296, 968), 16 * 18 * 24),  # its colour size
    ],
)
def test_video_tokens_are_counted(
    published_tower, rows, tmp_path, frames, pixels, size, tokens
):
    model, processor = load_checkpoint(published_tower)
    path = write_clip(tmp_path / "clip.mp4", frames + 4, *size)
    row = {**rows[0], "video": str(path)}
    settings = VideoSettings(frames, None, pixels)
    ids, media = encode_prompts(processor, [row], "tiny", settings)
    assert ids[0].count(model.config.video_token_id) == tokens
    (shown,) = media
    patches = shown["pixel_values_videos"]
    assert patches.shape == (4 * tokens, 3 * 2 * 14 * 14)
    assert patches[:: tokens // 3].float().std() > 0.1
    with torch.inference_mode():
        (features,) = (
            core_of(model)
            .get_video_features(patches, shown["video_grid_thw"])
            .pooler_output
        )
    assert features.shape == (tokens, model.config.text_config.hidden_size)
    assert torch.isfinite(features).all() and features.std(dim=0).min() > 0
    answer = respond(model, processor, [row], AskSettings("tiny", settings, 3))
    assert 1 <= answer[0].tokens <= 3


def long_row(model, row, path):
    """A row whose prompt has exactly ``PROMPT`` tokens, 1,024 of them of its video."""
    _, processor = load_checkpoint(model)
    settings = VideoSettings(real.TRAINING_FRAMES, None, real.TRAINING_PIXELS)

    def asked(count):
        return {**row, "video": str(path), "question": "How many" + " chair" * count}

    (short,), _ = encode_prompts(processor, [asked(0)], "tiny", settings)
    made = asked(PROMPT - len(short))
    (ids,), _ = encode_prompts(processor, [made], "tiny", settings)
    assert len(ids) == PROMPT
    return made


def test_a_group_of_the_longest_prompt_and_completions(
    make, published_tower, rows, tmp_path
):
    """Roll-out, old and reference scores, loss, gradients: shared and apart."""
    path = write_clip(tmp_path / "clip.mp4", 16, 448, 224)
    trainer = make(
        published_tower,
        [long_row(published_tower, rows[0], path)],
        max_completion_length=COMPLETION,
        frames=real.TRAINING_FRAMES,
        frame_size=None,
        max_pixels=real.TRAINING_PIXELS,
        positions="original",
    )
    config = trainer.model.config
    hook = quiet(trainer.model, trainer.eos_token_ids)
    batch = trainer.roll_out([0])
    hook.remove()
    assert batch["prompt_ids"].shape == (GROUP, PROMPT)
    assert batch["completion_ids"].shape == (GROUP, COMPLETION)
    assert batch["completion_mask"].all()
    videos = (batch["prompt_ids"] == config.video_token_id).sum(dim=1)
    assert (videos == 8 * 128).all()
    assert_shared_is_apart(trainer, batch)


# ---------------------------------------------------------------- depth, heads


def half(trainer, batch):
    """Everything in bf16, as ZeRO and LoRA hold it."""
    for model in (trainer.model, trainer.ref_model):
        model.to(torch.bfloat16)
    for key in ("old_per_token_logps", "ref_per_token_logps"):
        batch[key] = batch[key].to(torch.bfloat16)
    return batch


def scored(trainer, batch, count):
    trainer.shared_prefix = count
    return trainer.score(batch)[1].float()


def test_a_step_of_28_layers(make, tokenizer, rows, tmp_path):
    """In bf16 sharing rounds no more than the stock path does.

    Both are compared with float32 scores of the same weights.
    """
    sizes = {"hidden": 64, "layers": real.LAYERS, "vision_hidden": 32}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    folder = write_model(
        tmp_path / "deep", tokenizer, {"rope_parameters": rope}, **sizes
    )
    assert AutoConfig.from_pretrained(folder).text_config.num_hidden_layers == 28
    trainer = make(folder, rows, max_completion_length=64)
    batch = trainer.roll_out([0])
    assert_shared_is_apart(trainer, batch)
    half(trainer, batch)
    shared, apart = scored(trainer, batch, GROUP), scored(trainer, batch, None)
    trainer.model.float()
    exact = scored(trainer, batch, None)
    floor, error = ((one - exact).abs() for one in (apart, shared))
    assert 0 < error.mean() < 1.5 * floor.mean() and error.max() < 2 * floor.max()


def test_a_step_with_the_published_heads(make, tokenizer, rows, tmp_path):
    """One layer of 28 query heads and 4 key heads of 128."""
    text = {
        "num_attention_heads": real.HEADS,
        "num_key_value_heads": real.KEY_HEADS,
        "intermediate_size": 256,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": real.MROPE,
        },
        "initializer_range": 0.02,
    }
    width = real.HEADS * real.HEAD_SIZE
    sizes = {"hidden": width, "layers": 1, "vision_hidden": 32}
    folder = write_model(tmp_path / "heads", tokenizer, text, **sizes)
    trainer = make(folder, rows, max_completion_length=32)
    attention = trainer.model.model.language_model.layers[0].self_attn
    assert (attention.head_dim, attention.num_key_value_groups) == (128, 7)
    assert_shared_is_apart(trainer, trainer.roll_out([0]))


# ---------------------------------------------------------------- bf16


@pytest.fixture
def recipe(mixed):
    """Two updates of one generation of the shipped model, in bf16."""

    def build(**changes):
        values = {
            "data_path": str(mixed),
            "bf16": True,
            "prompts_per_step": 4,
            "num_generations": 4,
            "max_completion_length": 96,  # enough for a reward
            "max_steps": 2,
            "num_iterations": 2,
            "beta": 0.04,
            "frozen": None,
        }
        return load_config("tiny", dotted(values | changes))

    return build


def assert_bf16_trained(metrics, shared):
    """Two steps whose first scores are the old ones, by the path that was asked for."""
    first, second = metrics
    assert first["logp_change/max"] == 0 < second["logp_change/max"]
    assert all(math.isfinite(row["loss"]) for row in metrics)
    assert min(row["grad_norm"] for row in metrics) > 1e-4
    fewer = first["tokens/computed"] < first["tokens/stock"] / 1.2
    assert fewer == (shared == "on")


SHARED = pytest.mark.parametrize("shared", ["on", "off"])


@SHARED
@pytest.mark.parametrize("change", [{}, {"lora.rank": 4}], ids=["alone", "lora"])
def test_bf16_in_one_process(recipe, tmp_path, change, shared):
    trainer = build_trainer(recipe(shared_prefix=shared, **change), tmp_path)
    assert trainer.model.dtype == (torch.bfloat16 if change else torch.float32)
    trainer.add_callback(MetricsLog(tmp_path / "metrics.jsonl"))
    trainer.train()
    assert_bf16_trained(read_journal(tmp_path / "metrics.jsonl"), shared)


needs_cpu_only = pytest.mark.skipif(
    torch.cuda.is_available(), reason="with GPUs, 2 workers are 2 GPUs"
)


@needs_cpu_only
@pytest.mark.slow
@SHARED
@pytest.mark.parametrize("stage", [0, 2, 3], ids=["ddp", "zero2", "zero3"])
def test_bf16_on_two_ranks(recipe, tmp_path, stage, shared):
    config = recipe(gpus=2, zero_stage=stage, shared_prefix=shared)
    run = launch(config, tmp_path / "run")
    assert (run.steps, run.workers) == (2, 2)
    assert_bf16_trained(run.metrics(), shared)


# ---------------------------------------------------------------- eight ranks


def test_the_launch_of_eight_ranks(tmp_path, monkeypatch):
    """`spacer_7b` on eight GPUs, up to the command that would start it."""
    seen = []

    def finish(command, environment, log_path, say):
        seen.append((command, environment))
        result = {"steps": 2, "seconds": 1.5, "peak_memory_gb": [0.5] * 8}
        result |= {"workers": 8, "on_cpu": False}
        launching.write_json(log_path.with_name("run.json"), result)

    monkeypatch.setattr(launching, "_watch", finish)
    monkeypatch.setattr(launching, "count_gpus", lambda: 8)
    monkeypatch.setattr(
        needs.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12)
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = load_config("spacer_7b")
    result = launch(config, tmp_path / "run")
    assert (result.workers, result.on_cpu) == (8, False)
    ((command, environment),) = seen
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert command[-1] == str(tmp_path / "run/run_config.json")
    settings = (tmp_path / "run/accelerate.yaml").read_text()
    assert "num_processes: 8" in settings and "distributed_type: DEEPSPEED" in settings
    assert "zero3_init_flag: true" in settings and "use_cpu: false" in settings
    zero = read_json(tmp_path / "run/deepspeed.json")
    assert zero["zero_optimization"]["stage"] == 3
    assert zero["bf16"] == {"enabled": "auto"}
    # A prompt with its eight completions on each GPU, in one forward.
    assert config.batch_shape(8) == (8, 1)
    assert config.batch_shape(4) == (8, 2)  # the paper's four A800


def ordering(count, world, batch, forwards, epoch=0, uses=1, max_steps=-1):
    """A trainer as far as the order of its rows needs one."""
    return SimpleNamespace(
        train_dataset=range(count),
        args=SimpleNamespace(
            max_steps=max_steps,
            num_train_epochs=1.0,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=forwards,
            data_seed=None,
            seed=7,
        ),
        accelerator=SimpleNamespace(num_processes=world),
        num_generations=GROUP,
        num_iterations=uses,
        state=SimpleNamespace(
            global_step=epoch * (count // (batch * forwards * world // GROUP)) * uses
        ),
    )


def numbers_by_rank(count, world, batch, forwards, epoch=0, uses=1):
    """Row numbers of every generation of an epoch, for each rank."""
    trainer = ordering(count, world, batch, forwards, epoch, uses)
    found = []
    for rank in range(world):
        loader = DataLoader(
            range(count),
            batch_size=batch * forwards,
            sampler=EpochOrder._get_train_sampler(trainer),
            collate_fn=list,
            drop_last=True,
        )
        shard = prepare_data_loader(
            loader, num_processes=world, process_index=rank, put_on_device=False
        )
        found.append([batch for batch in shard])
    return found


@pytest.mark.parametrize(("batch", "forwards"), [(8, 1), (8, 2), (4, 2)])
def test_eight_ranks_share_out_every_row_once(batch, forwards):
    """A group lies on one rank, and the order is that of one rank with it all."""
    count, world = 64, 8
    ranks = numbers_by_rank(count, world, batch, forwards)
    alone = numbers_by_rank(count, 1, batch, forwards * world)[0]
    # TRL draws a generation's numbers again for each of its forwards.
    generations = alone[:: forwards * world]
    for turn, whole in enumerate(generations):
        parts = [ranks[rank][turn * forwards] for rank in range(world)]
        assert [number for part in parts for number in part] == whole
        for part in parts:
            groups = np.array(part).reshape(-1, GROUP)
            assert (groups == groups[:, :1]).all()
    drawn = [number for whole in generations for number in whole]
    assert sorted(drawn) == sorted(list(range(count)) * GROUP)
    later = numbers_by_rank(count, world, batch, forwards, epoch=1)
    assert later != ranks


@pytest.mark.parametrize("uses", [1, 2])
def test_the_rows_to_come_are_those_that_are_drawn(uses):
    """20 rows, 8 a generation: two generations an epoch, the third begins another."""
    size = 8 * GROUP
    drawn = []
    for epoch in (0, 1):
        (batches,) = numbers_by_rank(20, 1, size, 1, epoch, uses)
        drawn += [batch[::GROUP] for batch in batches[::uses]]
    for left in (1, 2, 3, 4):
        trainer = ordering(20, 1, size, 1, uses=uses, max_steps=left * uses)
        assert list(EpochOrder.asked(trainer)) == sum(drawn[:left], [])
    assert list(EpochOrder.asked(ordering(20, 1, size, 1, uses=uses))) == sum(
        drawn[:2], []
    )
    trainer = ordering(20, 1, size, 1, epoch=1, uses=uses, max_steps=4 * uses)
    assert list(EpochOrder.asked(trainer)) == sum(drawn[2:], [])  # resumed
    assert list(EpochOrder.asked(ordering(7, 1, size, 1, uses=uses))) == []  # no step


@needs_cpu_only
@pytest.mark.slow
def test_eight_ranks_train_as_one(recipe, tmp_path, monkeypatch):
    """Eight processes over gloo, one prompt on each: the numbers of one process."""
    changes = {
        "bf16": False,
        "prompts_per_step": 8,
        "max_completion_length": 16,
        "per_device_batch": 4,
    }
    one = launch(recipe(**changes), tmp_path / "one")
    monkeypatch.setattr(plan, "MAX_CPU_WORKERS", 8)
    eight = launch(recipe(**changes, gpus=8, zero_stage=0), tmp_path / "eight")
    assert (one.workers, eight.workers) == (1, 8)
    assert one.rollouts() == eight.rollouts()
    for ours, theirs in zip(one.metrics(), eight.metrics(), strict=True):
        for key in ("loss", "grad_norm", "reward", "kl", "completions/mean_length"):
            if key in ours:
                assert theirs[key] == pytest.approx(ours[key], rel=2e-3, abs=2e-6), key
        assert theirs["tokens/stock"] == ours["tokens/stock"]
