"""Positions after vision blocks: published numbers, both rules, and the switch."""

import copy

import pytest
import torch
from support import refused
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from spacer_lib.models.checkpoints import adapt
from spacer_lib.models.patches.rope import (
    POSITION_RULES,
    position_rule,
    use_library_positions,
    use_original_positions,
)
from spacer_lib.tiny.model import MERGE, PATCH, TEMPORAL

TYPES = {"text": 0, "image": 1, "video": 2}
each_rule = pytest.mark.parametrize("rule", POSITION_RULES)


@pytest.fixture
def model(model_dir):
    return AutoModelForImageTextToText.from_pretrained(model_dir).eval()


# A prompt is a list of parts, each a number of tokens of text or one vision block.


def text(tokens):
    return "text", (tokens,), 0.0


def video(steps, rows, columns, seconds=1.0):
    """A video: tokens along each axis, and the seconds between time steps."""
    return "video", (steps, rows, columns), seconds


def image(rows, columns):
    return "image", (1, rows, columns), 0.0


def original(parts, per_second=2):
    """Oracle: the original rule in plain Python, (time, row, column) per token."""
    found, start = [], 0
    for kind, size, seconds in parts:
        if kind == "text":
            block = [(start + i,) * 3 for i in range(*size)]
        else:
            block = [
                (start + int(t * seconds * per_second), start + r, start + c)
                for t in range(size[0])
                for r in range(size[1])
                for c in range(size[2])
            ]
        found += block
        start = max(map(max, block)) + 1
    return found


def batch(model, prompts, pixels=False):
    """Prompts → keyword arguments of the model, padded on the left."""
    config, generator = model.config, torch.Generator().manual_seed(3)
    token = {"image": config.image_token_id, "video": config.video_token_id}
    rows, grids, seconds = [], {"image": [], "video": []}, []
    for parts in prompts:
        ids, types = [], []
        for kind, size, step in parts:
            count = torch.Size(size).numel()
            some = torch.randint(300, 400, (count,), generator=generator).tolist()
            ids += some if kind == "text" else [token[kind]] * count
            types += [TYPES[kind]] * count
            if kind != "text":
                grids[kind].append([size[0], MERGE * size[1], MERGE * size[2]])
                seconds += [step] * (kind == "video")
        rows.append((ids, types))
    width = max(len(ids) for ids, _ in rows)
    gaps = [[0] * (width - len(ids)) for ids, _ in rows]
    pairs = list(zip(gaps, rows, strict=True))
    inputs = {
        "input_ids": torch.tensor([gap + ids for gap, (ids, _) in pairs]),
        "mm_token_type_ids": torch.tensor([gap + types for gap, (_, types) in pairs]),
        "attention_mask": torch.tensor([gap + [1] * len(r[0]) for gap, r in pairs]),
    }
    for kind, name in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        if grids[kind]:
            inputs[f"{kind}_grid_thw"] = torch.tensor(grids[kind])
            shape = inputs[f"{kind}_grid_thw"].prod(1).sum(), 3 * TEMPORAL * PATCH**2
            if pixels:
                inputs[name] = torch.randn(shape, generator=generator)
    if seconds:
        inputs["second_per_grid_ts"] = torch.tensor(seconds)
    return inputs


def numbered(model, inputs):
    """Per row its (time, row, column) at real tokens, and the row's delta."""
    positions, deltas = model.model.get_rope_index(**inputs)
    assert deltas.shape == (len(inputs["input_ids"]), 1)
    mask = inputs["attention_mask"].bool()
    assert (positions[:, ~mask] == 0).all()
    rows = [positions[:, i, m].T.tolist() for i, m in enumerate(mask)]
    return [[tuple(token) for token in row] for row in rows], deltas[:, 0].tolist()


# transformers#45381 (84 steps of 12 x 16 tokens behind 15 of text), and 8 frames of
# 56 x 84 pixels at 1 and at 0.1 frames per second.
@pytest.mark.parametrize(
    ("before", "block", "reaches", "goes_on", "library_goes_on"),
    [
        (15, video(84, 12, 16, 2.0), 347, 348, 31),
        (36, video(4, 2, 3, 2.0), 48, 49, 39),
        (36, video(4, 2, 3, 20.0), 156, 157, 39),
    ],
)
def test_published_positions(model, before, block, reaches, goes_on, library_goes_on):
    inputs = batch(model, [[text(before), block, text(10)]])
    for rule, expected in (("library", library_goes_on), ("original", goes_on)):
        (row,), _ = numbered(POSITION_RULES[rule](model), inputs)
        assert max(max(token) for token in row[before:-10]) == reaches
        assert row[-10:] == [(expected + i,) * 3 for i in range(10)]


def test_worked_example_of_the_original_code(model):
    """transformers#35569: 25 positions per second, a step each two seconds."""
    model.config.vision_config.tokens_per_second = 25
    inputs = batch(model, [[video(3, 2, 2, 2.0), text(5)]])
    (row,), _ = numbered(use_original_positions(model), inputs)
    assert [token[0] for token in row[:12]] == [0] * 4 + [50] * 4 + [100] * 4
    assert [token[1] for token in row[:12]] == [0, 0, 1, 1] * 3
    assert [token[2] for token in row[:12]] == [0, 1] * 6
    assert row[12:] == [(n,) * 3 for n in (101, 102, 103, 104, 105)]


def test_four_small_frames_are_numbered_alike(model):
    """The tiny checkpoint may therefore run under both rules."""
    parts = [text(5), video(2, 4, 4, 1.0), text(7)]
    inputs = batch(model, [parts])
    found = [numbered(switch(model), inputs) for switch in POSITION_RULES.values()]
    assert found[0] == found[1] and found[0][0] == [original(parts)]


CLIP, LONG = video(2, 4, 4, 0.5), video(3, 2, 3, 7.5)
PROMPTS = {
    "a video": [text(5), CLIP, text(7)],
    "a long video": [text(5), LONG, text(7)],
    "nothing before or after": [LONG],
    "two videos": [text(3), LONG, text(1), CLIP, text(4)],
    "an image and a video": [text(3), image(2, 5), text(2), LONG, text(4)],
    "an image beside a video": [text(3), LONG, image(4, 2), text(4)],
    "text": [text(30)],
}


@pytest.mark.parametrize("parts", PROMPTS.values(), ids=PROMPTS)
def test_one_prompt(model, parts):
    inputs = batch(model, [parts])
    (row,), (delta,) = numbered(use_original_positions(model), inputs)
    assert row == original(parts)
    assert delta == max(map(max, row)) + 1 - len(row)


def test_a_padded_batch_of_all_prompts(model):
    inputs = batch(model, PROMPTS.values())
    widths = inputs["attention_mask"].sum(1)
    assert len(set(widths.tolist())) > 4  # so there is padding
    rows, deltas = numbered(use_original_positions(model), inputs)
    for row, delta, parts in zip(rows, deltas, PROMPTS.values(), strict=True):
        assert row == original(parts)
        assert delta == max(map(max, row)) + 1 - len(row)


def test_no_mask_and_no_seconds(model):
    parts = [text(5), video(4, 2, 3), text(7)]  # one second per step is the default
    inputs = batch(model, [parts])
    del inputs["second_per_grid_ts"], inputs["attention_mask"]
    positions, deltas = use_original_positions(model).model.get_rope_index(**inputs)
    assert [tuple(token) for token in positions[:, 0].T.tolist()] == original(parts)
    assert deltas.tolist() == [[19 - 36]]


def test_text_alone_does_not_change(model):
    inputs = batch(model, [[text(9)], [text(30)]])
    with torch.no_grad():
        before = model(**inputs).logits
        after = use_original_positions(model)(**inputs).logits
    assert torch.equal(before, after)


# ------------------------------------------------------------ through the model

SHOWN = [
    [text(5), LONG, text(4)],
    [text(3), LONG, text(1), CLIP, text(9)],
    [text(2), image(2, 5), text(2), LONG, text(3)],
    [text(30)],
]


def longer(inputs, tokens):
    """The same batch with ``tokens`` (b, n) of text behind it."""
    more = {
        "input_ids": tokens,
        "mm_token_type_ids": torch.zeros_like(tokens),
        "attention_mask": torch.ones_like(tokens),
    }
    joined = {key: torch.cat([inputs[key], part], 1) for key, part in more.items()}
    return {**inputs, **joined}


@each_rule
def test_generation_agrees_with_a_full_forward(model, rule):
    POSITION_RULES[rule](model)
    inputs = batch(model, SHOWN, pixels=True)
    config = model.config
    made = model.generate(
        **inputs,
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
        suppress_tokens=[config.image_token_id, config.video_token_id],
        output_logits=True,
        return_dict_in_generate=True,
    )
    width = inputs["input_ids"].shape[1]
    with torch.no_grad():
        full = model(**longer(inputs, made.sequences[:, width:])).logits
    generated = torch.stack(made.logits, 1)
    torch.testing.assert_close(generated, full[:, width - 1 : -1], rtol=0, atol=1e-5)


def stepped(model, inputs, tokens):
    """Logits after each of ``tokens``, fed one at a time to the model's own cache."""
    with torch.no_grad():
        output, found = model(**inputs, use_cache=True), []
        for token in tokens.split(1, dim=1):
            cache = output.past_key_values
            output = model(input_ids=token, past_key_values=cache, use_cache=True)
            found.append(output.logits[:, 0])
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    ("rule", "tail", "agree"),
    [
        ("original", 4, True),
        ("library", 40, True),
        # Cached steps continue from the largest position, which is the video's.
        ("library", 4, False),
    ],
)
def test_cached_steps_without_positions(model, rule, tail, agree):
    POSITION_RULES[rule](model)
    slower = video(3, 2, 3, 6.0)
    prompts = [[text(5), LONG, text(tail)], [text(3), slower, text(tail + 2)]]
    inputs = batch(model, prompts, pixels=True)
    tokens = torch.arange(300, 308).reshape(2, 4)
    with torch.no_grad():
        full = model(**longer(inputs, tokens)).logits[:, -4:]
    del inputs["attention_mask"]  # its steps would want positions beside a mask
    apart = (stepped(model, inputs, tokens) - full).abs().max()
    assert apart < 1e-5 if agree else apart > 1e-2


def test_the_rule_changes_the_logits(model):
    inputs = batch(model, SHOWN, pixels=True)
    with torch.no_grad():
        library = model(**inputs).logits
        other = use_original_positions(model)(**inputs).logits
        again = use_library_positions(model)(**inputs).logits
    apart = (library - other).abs().amax(dim=(1, 2))
    assert (apart[:3] > 1e-2).all() and apart[3] < 1e-5
    assert torch.equal(library, again)


def test_loss_and_checkpointed_gradients(model):
    inputs = batch(model, SHOWN, pixels=True)
    real = inputs["mm_token_type_ids"].eq(0) & inputs["attention_mask"].bool()
    labels = inputs["input_ids"].masked_fill(~real, -100)
    found = []
    for rule, checkpointing in (
        ("original", False),
        ("original", True),
        ("library", False),
    ):
        POSITION_RULES[rule](model).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        model.activation_checkpointing_disable()
        weight = model.model.language_model.layers[0].self_attn.q_proj.weight
        found.append((loss.detach(), weight.grad.clone()))
    plain, checkpointed, library = found
    torch.testing.assert_close(checkpointed, plain)
    assert (plain[0] - library[0]).abs() > 1e-4


# ------------------------------------------------------------ the switch


def test_the_library_rule_is_the_default(model):
    assert position_rule(model) == "library"
    assert "get_rope_index" not in vars(model.model)


def test_there_and_back_any_number_of_times(model):
    for _ in range(2):
        assert use_original_positions(model) is model
        assert position_rule(model) == "original"
        patch = model.model.get_rope_index
        assert use_original_positions(model).model.get_rope_index is patch
        for _ in range(2):
            assert use_library_positions(model) is model
            assert position_rule(model) == "library"
            assert "get_rope_index" not in vars(model.model)


def test_other_models_keep_their_rule(model, model_dir):
    other = AutoModelForImageTextToText.from_pretrained(model_dir)
    use_original_positions(model)
    assert position_rule(other) == "library"


def test_a_copy_follows_the_same_rule_by_itself(model):
    twin = copy.deepcopy(use_original_positions(model))
    assert position_rule(twin) == "original"
    twin.config.vision_config.tokens_per_second = 25
    inputs = batch(model, [[video(3, 2, 2, 2.0), text(1)]])
    assert numbered(twin, inputs)[0][0][-1] == (101,) * 3
    assert numbered(model, inputs)[0][0][-1] == (9,) * 3
    use_library_positions(twin)
    assert position_rule(model) == "original"


def test_nothing_is_saved(model, tmp_path):
    model.save_pretrained(tmp_path / "before")
    use_original_positions(model).save_pretrained(tmp_path / "after")
    files = sorted(path.name for path in (tmp_path / "before").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "after").iterdir())
    for name in files:
        before, after = ((tmp_path / f / name) for f in ("before", "after"))
        assert before.read_bytes() == after.read_bytes()
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "after")
    assert position_rule(again) == "library"


@each_rule
def test_an_adapted_model_says_its_rule_where_it_is_loaded_again(model, tmp_path, rule):
    adapt(model, rule).save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert position_rule(again) == "library"  # stock classes do not know the key
    assert position_rule(adapt(again, None)) == rule
    other = ({"library", "original"} - {rule}).pop()
    assert position_rule(adapt(again, other)) == other  # what is stated counts


def test_a_checkpoint_without_the_key_is_a_published_one(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert position_rule(adapt(again, None)) == "original"


def test_a_rule_that_does_not_exist_is_refused(model):
    model.config.text_positions = "octal"
    with refused("models.unknown-position-rule", says="octal"):
        adapt(model, None)


def test_wrapped_models_work(model):
    wrapped = torch.nn.ModuleDict({"module": model})
    assert use_original_positions(wrapped) is wrapped
    assert position_rule(wrapped) == position_rule(model) == "original"
    assert position_rule(model.model) == "original"
    use_library_positions(wrapped)
    assert position_rule(model) == "library"


def test_a_library_with_the_original_rule_is_left_alone(model, monkeypatch):
    def repaired(self, input_ids, mm_token_type_ids, video_grid_thw, **kwargs):
        """Good for the probe: one row, one token per time step, then one of text."""
        steps = int(video_grid_thw[0, 0])
        interval = self.config.vision_config.tokens_per_second
        times = [interval * step for step in range(steps)]
        positions = torch.tensor([times, [0] * steps, [0] * steps])
        text = torch.full((3, 1), times[-1] + 1)
        return torch.cat([positions, text], 1)[:, None], None

    monkeypatch.setattr(Qwen2_5_VLModel, "get_rope_index", repaired)
    assert position_rule(model) == "original"
    assert "get_rope_index" not in vars(use_original_positions(model).model)
    assert position_rule(use_library_positions(model)) == "original"


def test_a_model_without_a_vision_tower_is_refused():
    for call in (*POSITION_RULES.values(), position_rule):
        with refused("models.no-vision-tower", says="Linear"):
            call(torch.nn.Linear(1, 1))
