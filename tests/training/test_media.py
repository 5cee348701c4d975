"""Rows with a video, images or text alone, in every family of Qwen-VL."""

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from support import refused
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models import inputs
from spacer_lib.models.generation import (
    generate,
    generation_settings,
    weights_fingerprint,
)
from spacer_lib.models.inputs import (
    MediaError,
    encode_prompts,
    join_media,
    pad_batch,
    token_types,
)
from spacer_lib.models.patches.rope import (
    POSITION_RULES,
    position_rule,
    use_library_positions,
    use_original_positions,
)
from spacer_lib.models.patches.shared_media import core_of, keep_features, media_once
from spacer_lib.models.sampling import KeyedSampling
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.video import RecentlyUsed, read_frames
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training.baselines import ResponseCollator

ASKED = "How many chair(s) are in this room?"
FRAME = tiny.FRAME_SIZE


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.build_tokenizer(corpus())


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def checkpoint(request, tokenizer, tmp_path_factory):
    """``(family, model, processor)``, saved and loaded again."""
    torch.manual_seed(0)
    model = tiny.build_model(tokenizer, request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    tiny.build_processor(tokenizer, request.param).save_pretrained(folder)
    loaded = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert type(loaded) is type(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    return request.param, loaded, AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three images of different shapes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    names = []
    for i, shape in enumerate([(60, 90), (84, 42), (70, 70)]):
        names.append(str(folder / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(names[-1])
    return names


def question(**shown):
    row = {"id": "q", "question": ASKED, "options": None, "problem_type": "numerical"}
    return row | shown


@pytest.fixture(scope="module")
def mixed(images):
    """Seven rows of five sources."""
    video, other = question(video="room://new/3"), question(video="room://walk/4")
    pair = question(video=None, image=images[:2])
    text, one = question(video=None, image=None), question(image=images[2])
    return [pair, text, video, other, one, video, pair]


def batched(processor, rows, settings=None, side="left"):
    """Rows → text inputs of the model, and media."""
    ids, media = encode_prompts(processor, rows, "tiny", settings or VideoSettings())
    input_ids, mask = pad_batch(ids, processor.tokenizer.pad_token_id, side)
    types = token_types(input_ids, processor)
    text = {"input_ids": input_ids, "attention_mask": mask}
    return text | {"mm_token_type_ids": types}, media


# ------------------------------------------------------------ as the processor does


def plain(processor, parts, **inputs):
    """Oracle: the processor's own call on one row."""
    content = [*({"type": part} for part in parts), {"type": "text", "text": ASKED}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    return processor(text=[text], return_tensors="pt", **inputs)


def same(found, expected):
    (ids,), (tensors,) = found
    expected = dict(expected)
    assert ids == expected.pop("input_ids")[0].tolist()
    del expected["attention_mask"], expected["mm_token_type_ids"]
    expected = {key: torch.as_tensor(value) for key, value in expected.items()}
    torch.testing.assert_close(dict(tensors), expected, rtol=0, atol=0)


@pytest.mark.parametrize("frames", [4, 5])
def test_a_video_is_encoded_as_by_the_processor(checkpoint, frames):
    _, _, processor = checkpoint
    row = question(video="room://new/3")
    found = encode_prompts(processor, [row], "tiny", VideoSettings(frames))
    clip, indices, total, fps = read_frames(row["video"], frames, FRAME)
    metadata = VideoMetadata(
        total_num_frames=total, fps=fps, frames_indices=list(indices)
    )
    video = torch.from_numpy(clip).permute(0, 3, 1, 2)
    options = {"video_metadata": [metadata], "do_sample_frames": False}
    same(found, plain(processor, ["video"], videos=[video], videos_kwargs=options))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [None, FRAME])
def test_images_are_encoded_as_by_the_processor(checkpoint, images, count, size):
    _, _, processor = checkpoint
    row = question(image=images[:count] if count > 1 else images[0])
    found = encode_prompts(processor, [row], "tiny", VideoSettings(size=size))
    shown = [Image.open(name) for name in images[:count]]
    if size is not None:
        shown = [image.resize((size, size)) for image in shown]
    same(found, plain(processor, ["image"] * count, images=shown))


def test_frames_as_images_are_encoded_as_by_the_processor(checkpoint):
    _, _, processor = checkpoint
    row = question(video="room://new/3")
    settings = VideoSettings(frames=3, as_images=True)
    frames, *_ = read_frames(row["video"], 3, FRAME)
    shown = [Image.fromarray(frame) for frame in frames]
    same(
        encode_prompts(processor, [row], "tiny", settings),
        plain(processor, ["image"] * 3, images=shown),
    )


def test_text_alone_is_encoded_as_by_the_processor(checkpoint):
    _, _, processor = checkpoint
    found = encode_prompts(processor, [question()], "tiny", VideoSettings())
    same(found, plain(processor, []))


def test_seconds_are_a_tensor_for_qwen2_5_and_text_for_qwen3(checkpoint):
    family, _, processor = checkpoint
    row = question(video="room://new/3")
    (ids,), (tensors,) = encode_prompts(processor, [row], "tiny", VideoSettings())
    assert ("second_per_grid_ts" in tensors) == (family == "qwen2_5_vl")
    words = processor.tokenizer.decode(ids)
    assert words.count(" seconds>") == (2 if family == "qwen3_vl_moe" else 0)


@pytest.mark.parametrize("pixels", [14 * 14 * 4, 14 * 14 * 8])
def test_pixels_of_images_and_frames_are_bounded(checkpoint, images, pixels):
    _, _, processor = checkpoint
    video = question(video="room://new/3")
    for row, size, as_images in (
        (question(image=images), None, False),
        (video, 84, False),
        (video, 84, True),
    ):
        settings = VideoSettings(4, size, pixels, as_images)
        _, (tensors,) = encode_prompts(processor, [row], "tiny", settings)
        images_only = row is not video or as_images
        grids = tensors["image_grid_thw" if images_only else "video_grid_thw"]
        found = grids[:, 1:].prod(1) * tiny.PATCH**2
        assert (found <= pixels).all() and (found > pixels // 4).all()


# ------------------------------------------------------------ what a batch holds


def test_rows_that_show_the_same_share_their_tensors(checkpoint, mixed):
    _, _, processor = checkpoint
    ids, media = encode_prompts(processor, mixed, "tiny", VideoSettings())
    assert media[0] is media[6] and media[2] is media[5] and media[1] == {}
    assert len({id(one) for one in media}) == 5
    assert [ids[i] for i in (0, 2)] == [ids[i] for i in (6, 5)]
    assert len(media[0]["image_grid_thw"]) == 2


def test_blind_rows_show_nothing(checkpoint, mixed):
    _, _, processor = checkpoint
    ids, media = encode_prompts(
        processor, mixed, "tiny", VideoSettings(size=None), blind=True
    )
    assert media == [{}] * len(mixed) and join_media(media) == {}
    (alone,), _ = encode_prompts(processor, [question()], "tiny", VideoSettings())
    assert ids == [alone] * len(mixed)


def test_joined_tensors_are_those_of_the_rows_that_have_them(checkpoint, mixed):
    _, _, processor = checkpoint
    _, media = encode_prompts(processor, mixed, "tiny", VideoSettings())
    joined = join_media(media)
    assert joined["video_grid_thw"].shape == (3, 3)
    assert joined["image_grid_thw"].shape == (5, 3)
    pixels = torch.cat([media[i]["pixel_values"] for i in (0, 4, 6)])
    assert torch.equal(joined["pixel_values"], pixels)
    assert set(join_media([media[1], media[4]])) == {"pixel_values", "image_grid_thw"}


# Reading is the same in every family.


@pytest.fixture(scope="module")
def reader(tokenizer):
    return tiny.build_processor(tokenizer)


def shown(reader, row, **settings):
    settings = VideoSettings(**{"size": None, **settings})
    return encode_prompts(reader, [row], "tiny", settings)[1][0]


def test_a_turned_photograph_stands_upright(reader, images, tmp_path):
    turned, path = Image.open(images[0]).transpose(Image.ROTATE_90), tmp_path / "a"
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned.save(path, "PNG", exif=exif)
    found = shown(reader, question(image=path))
    expected = shown(reader, question(image=images[0]))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_colours_of_every_kind(reader, images, tmp_path, mode):
    path = tmp_path / "a.tiff"
    image = Image.open(images[0]).convert(mode)
    image.save(path)
    image.convert("RGB").save(tmp_path / "b.png")
    found = shown(reader, question(image=path))
    expected = shown(reader, question(image=tmp_path / "b.png"))
    torch.testing.assert_close(found, expected)


def broken(tmp_path, images):
    """Rows with media that cannot be read, and the kind of each error."""
    whole = open(images[0], "rb").read()
    files = {
        "cut.png": whole[: len(whole) // 2],
        "head.png": whole[:60],
        "words.png": b"not found",
        "empty.png": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        row = question(image=[images[1], str(tmp_path / name)])
        yield row, "models.unreadable-image"
    Image.new("RGB", (2000, 4)).save(tmp_path / "thin.png")
    yield question(image=str(tmp_path / "thin.png")), "models.not-encodable"
    (tmp_path / "words.mp4").write_bytes(b"\0not a video")
    yield question(video=str(tmp_path / "absent.mp4")), "rooms.no-video"
    yield question(video=str(tmp_path / "words.mp4")), "rooms.undecodable-video"
    yield question(image=str(tmp_path / "absent.png")), "models.unreadable-image"


def test_unreadable_media_is_named(reader, images, tmp_path):
    rows = list(broken(tmp_path, images))
    for row, kind in rows:
        bad = row.get("video") or row["image"]
        bad = bad if isinstance(bad, str) else bad[1]
        with refused(kind, says=bad) as caught:
            shown(reader, row)
        error = caught.value
        assert type(error) is MediaError and error.source == bad
        twin = copy.copy(error)  # as when it comes from another process
        assert type(twin) is MediaError and twin.kind == kind
        assert (twin.source, str(twin)) == (bad, str(error))
    assert len(rows) == 8


def test_a_placeholder_among_the_words_is_refused(reader, images):
    for media in ({}, {"image": images[0]}, {"video": "room://new/3"}):
        for token in (reader.image_token, reader.video_token):
            row = question(**media) | {"question": f"What is {token}?"}
            with refused("models.placeholder-in-text", says="question q"):
                shown(reader, row, size=FRAME)


# ------------------------------------------------------------ one run of the tower


@pytest.fixture
def runs(checkpoint):
    """Numbers of patches that the tower is given, run by run."""
    found = []
    hook = checkpoint[1].model.visual.register_forward_pre_hook(
        lambda module, args: found.append(len(args[0]))
    )
    yield found
    hook.remove()


def patches(media):
    pixels = {id(one): one for one in media}.values()
    return sum(
        len(one[key]) for one in pixels for key in one if key.startswith("pixel_values")
    )


KINDS = {
    "mixed": range(7),
    "videos": [2, 3, 2, 1],
    "images": [6, 1, 4, 0],
    "a video": [5],
    "an image and a video": [2, 4],
}


@pytest.mark.parametrize("kind", KINDS)
def test_media_once_gives_the_plain_logits(checkpoint, mixed, runs, kind):
    _, model, processor = checkpoint
    rows = [mixed[i] for i in KINDS[kind]]
    text, media = batched(processor, rows)
    with torch.no_grad():
        expected = model(**text, **join_media(media)).logits
        runs.clear()
        with media_once(model, media, "cpu", touch_vision=True) as tensors:
            found = model(**text, **tensors).logits
            assert runs == [patches(media)]
            again = model(**text, **tensors).logits
        assert torch.equal(found, again)
        unpatched = model(**text, **join_media(media)).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    assert torch.equal(expected, unpatched)


def test_gradients_are_those_of_the_plain_call(checkpoint, mixed):
    _, model, processor = checkpoint
    text, media = batched(processor, mixed)
    found = []
    for opened in (media_once(model, media, "cpu"), None):
        model.zero_grad()
        if opened is None:
            model(**text, **join_media(media)).logits.square().mean().backward()
        else:
            with opened as tensors:
                model(**text, **tensors).logits.square().mean().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters()})
    once, expected = found
    assert any("visual" in name for name in once)
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(once[name], gradient, rtol=1e-3, atol=1e-4 * scale)


def test_features_go_to_their_own_rows(checkpoint, mixed):
    """The batch equals each row in a forward of its own; swapped media differ."""
    _, model, processor = checkpoint
    text, media = batched(processor, mixed)
    with torch.no_grad(), media_once(model, media, "cpu") as tensors:
        together = model(**text, **tensors).logits[:, -1]
    for i, row in enumerate(mixed):
        alone, (one,) = batched(processor, [row])
        with torch.no_grad():
            expected = model(**alone, **one).logits[0, -1]
        torch.testing.assert_close(together[i], expected, rtol=0, atol=1e-4)
    swapped = [media[i] for i in (0, 1, 3, 2, 4, 5, 6)]
    with torch.no_grad(), media_once(model, swapped, "cpu") as tensors:
        other = model(**text, **tensors).logits[:, -1]
    apart = (other - together).abs().amax(dim=1) > 1e-3
    assert apart.tolist() == [False, False, True, True, False, False, False]


def test_wrapped_models_work(checkpoint, mixed, runs):
    _, model, processor = checkpoint
    lora = LoraConfig(target_modules=r".*language_model.*q_proj", r=2)
    wrapped = torch.nn.ModuleDict({"module": get_peft_model(model, lora)})
    text, media = batched(processor, mixed)
    try:
        assert core_of(wrapped) is core_of(model) is core_of(model.model) is model.model
        with torch.no_grad(), media_once(wrapped, media, "cpu") as tensors:
            found = wrapped["module"](**text, **tensors).logits
    finally:
        wrapped["module"].unload()
        model.requires_grad_(True)
    assert runs == [patches(media)]
    with torch.no_grad():
        expected = model(**text, **join_media(media)).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)


def test_a_model_without_a_vision_tower_is_refused():
    with refused("models.no-vision-tower", says="Linear"):
        core_of(torch.nn.Linear(1, 1))


# ------------------------------------------------------------ text alone


def test_a_touched_tower_changes_nothing_but_has_gradients(checkpoint, runs):
    _, model, processor = checkpoint
    rows = [question(), question() | {"question": "And how many beds?"}]
    text, media = batched(processor, rows)
    logits, gradients = [], []
    for touch in (False, True):
        model.zero_grad(set_to_none=True)
        with media_once(model, media, "cpu", touch_vision=touch) as tensors:
            assert tensors == {}
            logits.append(model(**text).logits)
            logits[-1].square().mean().backward()
        assert len(runs) == touch
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    plain_run, touched = gradients
    assert torch.equal(*logits)
    for name, gradient in touched.items():
        if ".visual." in name:
            assert plain_run[name] is None, name
            assert not gradient.any(), name
        else:
            assert torch.equal(gradient, plain_run[name]), name
    with torch.no_grad():
        model(**text)
    assert len(runs) == 1  # the hook is gone


def test_every_batch_runs_the_same_modules_in_the_same_order(checkpoint, mixed):
    """Ranks under ZeRO-3 need this, forwards and backwards."""
    _, model, processor = checkpoint
    order, hooks = [], []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        hooks.append(
            module.register_forward_pre_hook(lambda *_, n=name: order.append(n))
        )
        hooks += [
            p.register_hook(lambda _, n=name: order.append(f"grad {n}")) for p in own
        ]
    found = {}
    for kind, rows in {**KINDS, "text": [1, 1], "one text": [1]}.items():
        order.clear()
        text, media = batched(processor, [mixed[i] for i in rows])
        with media_once(model, media, "cpu", touch_vision=True) as tensors:
            model(**text, **tensors).logits.square().mean().backward()
        calls = [n for n in order if not n.startswith("grad ")]
        found[kind] = calls, sorted(n for n in order if n.startswith("grad "))
    for hook in hooks:
        hook.remove()
    assert "model.visual.merger" in found["text"][0]
    for kind in found:
        assert found[kind] == found["mixed"], kind


# ------------------------------------------------------------ answers


def test_mixed_rows_are_answered_as_each_alone(checkpoint, mixed):
    _, model, processor = checkpoint
    settings = AskSettings("tiny", max_new_tokens=8)
    together = generate(model, processor, mixed, settings)
    # One at a time, text after video: nothing is left over from the row before.
    alone = [generate(model, processor, [row], settings)[0] for row in mixed]
    assert together == alone
    assert together[0] == together[6] and len(set(together)) > 2
    sampled = generate(
        model,
        processor,
        mixed,
        replace(settings, temperature=1.0),
        prefixes=["<think>"] * 7,
    )
    assert all(text.startswith("<think>") for text in sampled)


def test_generation_agrees_with_a_full_forward(checkpoint, mixed):
    _, model, processor = checkpoint
    text, media = batched(processor, mixed)
    width = text["input_ids"].shape[1]
    with torch.no_grad(), media_once(model, media, "cpu") as tensors:
        made = model.generate(
            **text,
            **tensors,
            **generation_settings(model),
            max_new_tokens=5,
            min_new_tokens=5,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = made.sequences
        mask = torch.cat([text["attention_mask"], torch.ones_like(ids[:, width:])], 1)
        full = model(
            input_ids=ids,
            attention_mask=mask,
            **tensors,
            mm_token_type_ids=token_types(ids, model.config),
        ).logits[:, width - 1 : -1]
    torch.testing.assert_close(torch.stack(made.logits, 1), full, rtol=0, atol=1e-4)


def test_placeholders_are_never_sampled(checkpoint):
    _, model, processor = checkpoint
    pads = [processor.image_token_id, processor.video_token_id]
    for sampler in (None, KeyedSampling([1], 0)):
        settings = generation_settings(model, sampler)
        assert settings["suppress_tokens"] == pads
        assert (settings.get("logits_processor") == [sampler]) == (sampler is not None)


def test_collated_rows_are_mixed_too(checkpoint, mixed):
    """Supervised fine-tuning uses the collator."""
    _, model, processor = checkpoint
    collate = ResponseCollator(
        processor, mixed, [("4",)] * 7, PromptStyle("tiny"), VideoSettings()
    )
    for numbers in ([1], [2, 3], [0, 1, 2]):
        batch = collate([{"image": number} for number in numbers])
        media = batch.pop("media").sequences
        assert set(batch) == {
            "input_ids",
            "attention_mask",
            "mm_token_type_ids",
            "labels",
        }
        _, expected = encode_prompts(
            processor, [mixed[i] for i in numbers], "tiny", VideoSettings()
        )
        assert [one.keys() for one in media] == [one.keys() for one in expected]
        with torch.no_grad(), media_once(model, media, "cpu") as tensors:
            assert torch.isfinite(model(**batch, **tensors).loss)


# ------------------------------------------------------------ positions, families


def test_positions_can_be_switched_where_a_video_is_one_block(checkpoint, mixed):
    family, model, processor = checkpoint
    assert use_library_positions(model) is model
    before = weights_fingerprint(model)
    if family == "qwen3_vl_moe":
        with refused("models.one-position-rule", says="qwen3_vl_moe"):
            use_original_positions(model)
        assert position_rule(model) == "library"
        assert weights_fingerprint(model) == before
        return
    settings = VideoSettings(frames=16)  # long enough for the rules to differ
    text, media = batched(processor, [mixed[i] for i in (0, 1, 3, 4)], settings)
    logits = {}
    try:
        for rule, switch in POSITION_RULES.items():
            assert position_rule(switch(model)) == rule
            with torch.no_grad(), media_once(model, media, "cpu") as tensors:
                logits[rule] = model(**text, **tensors).logits[:, -1]
        assert weights_fingerprint(model) != before
    finally:
        use_library_positions(model)
    apart = (logits["library"] - logits["original"]).abs().amax(dim=1) > 1e-4
    assert apart.tolist() == [False, False, True, False]


def test_each_family_has_its_own_architecture(checkpoint):
    family, model, processor = checkpoint
    assert model.config.model_type == family
    assert sum(p.numel() for p in model.parameters()) < 2e6
    if family == "qwen3_vl_moe":
        text, vision = model.config.text_config, model.config.vision_config
        assert (text.num_experts, text.num_experts_per_tok) == (4, 2)
        assert len(vision.deepstack_visual_indexes) == 1
    assert processor.tokenizer.padding_side == "left"


def test_an_unknown_family_is_refused():
    with refused("tiny.no-such-family", says="llava"):
        tiny.build_processor(None, "llava")


# ------------------------------------------------------------ encoded once


@pytest.fixture
def kept(monkeypatch):
    """What is kept, empty at first."""
    monkeypatch.setattr(inputs, "_KEPT", RecentlyUsed(inputs._size, inputs.KEPT_BYTES))
    return inputs._KEPT


@pytest.fixture
def makes(monkeypatch):
    """Sources that are read and encoded, in order."""
    made, show = [], inputs._show

    def noted(processor, parts, settings):
        made.extend(part[part["type"]] for part in parts)
        return show(processor, parts, settings)

    monkeypatch.setattr(inputs, "_show", noted)
    return made


def test_a_source_is_encoded_once_for_all_calls(reader, mixed, kept, makes):
    first_ids, first = encode_prompts(reader, mixed, "tiny", VideoSettings())
    assert len(makes) == 5  # two videos, one picture, and one row of two
    again_ids, again = encode_prompts(reader, mixed[::-1], "tiny", VideoSettings())
    assert len(makes) == 5 and again_ids == first_ids[::-1]
    assert all(a is b for a, b in zip(again[::-1], first, strict=True) if b)
    fewer = VideoSettings(frames=3)
    _, (other,) = encode_prompts(reader, [mixed[2]], "tiny", fewer)
    assert len(makes) == 6 and other is not first[2]


def test_another_processor_or_setting_encodes_anew(tokenizer, mixed, kept, makes):
    reader = tiny.build_processor(tokenizer)
    one, other = question(video="room://new/3"), tiny.build_processor(tokenizer)
    before = shown(reader, one, size=FRAME)
    assert shown(other, one, size=FRAME) is not before
    reader.video_processor.image_mean = (0.5, 0.5, 0.5)
    after = shown(reader, one, size=FRAME)
    assert not torch.equal(after["pixel_values_videos"], before["pixel_values_videos"])
    assert len(makes) == 3


def test_a_file_that_changed_is_encoded_again(reader, images, tmp_path, kept, makes):
    path = tmp_path / "a.png"
    for source in (images[0], images[1]):
        path.write_bytes(open(source, "rb").read())
        found = shown(reader, question(image=str(path)))
        expected = shown(reader, question(image=source))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    path.unlink()
    with refused("models.unreadable-image", says="a.png"):
        shown(reader, question(image=str(path)))


def test_what_is_kept_is_bounded(reader, images, kept, makes, monkeypatch):
    for name in images:
        shown(reader, question(image=name))
    _, *last = map(inputs._size, kept.values())
    kept = RecentlyUsed(inputs._size, sum(last))
    monkeypatch.setattr(inputs, "_KEPT", kept)
    makes.clear()
    for name in (*images, images[2], images[1], images[0]):
        shown(reader, question(image=name))
    assert makes == [*images, images[0]]
    assert sum(map(inputs._size, kept.values())) <= sum(last)


def test_media_are_kept_until_their_last_use(reader, mixed, kept, makes):
    rows = mixed[4:]  # a picture, a video and a pair of pictures
    asked = [*rows, mixed[2]]  # the video twice
    uses = inputs.MediaUses(reader, asked * 2, VideoSettings())
    left = []
    for _ in range(2):
        encode_prompts(reader, asked, "tiny", VideoSettings())
        for row in asked:
            uses.used([row])
            left.append(len(kept.values()))
    assert left == [3, 3, 3, 3, 2, 2, 1, 0]
    assert len(makes) == 4  # a picture, a video and two pictures, each once
    encode_prompts(reader, asked, "tiny", VideoSettings())  # more often than foreseen
    uses.used(asked)
    assert kept.values() == []


def test_media_made_ahead_are_used_and_failures_come_at_their_time(
    reader, mixed, tmp_path, kept, makes
):
    absent = question(video=str(tmp_path / "absent.mp4"))
    (tmp_path / "words.mp4").write_bytes(b"\0not a video")
    broken = question(video=str(tmp_path / "words.mp4"))
    expected = encode_prompts(reader, mixed, "tiny", VideoSettings())
    uses = inputs.MediaUses(reader, mixed, VideoSettings())
    uses.used(mixed)
    assert kept.values() == []
    rows = [absent, *mixed, broken]
    ready = inputs.encode_media(reader, rows, "tiny", VideoSettings())
    uses.used(mixed)
    makes.clear()
    found = encode_prompts(reader, mixed, "tiny", VideoSettings(), ready=ready)
    assert makes == [] and found[0] == expected[0]
    for a, b in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    for row, kind in (
        (absent, "rooms.no-video"),
        (broken, "rooms.undecodable-video"),
    ):
        with refused(kind) as caught:
            encode_prompts(reader, [row], "tiny", VideoSettings(), ready=ready)
        assert isinstance(caught.value, MediaError)
        assert caught.value.source == row["video"]


# ------------------------------------------------------------ features kept


@pytest.fixture
def keeper(checkpoint):
    """``(model, processor)``, the model a copy that keeps features, tower frozen."""
    model = keep_features(copy.deepcopy(checkpoint[1]))
    model.model.visual.requires_grad_(False)
    runs = []
    model.model.visual.register_forward_pre_hook(
        lambda module, args: runs.append(len(args[0]))
    )
    return model, checkpoint[2], runs


def forward(model, text, media):
    with media_once(model, media, "cpu") as tensors:
        return model(**text, **tensors).logits


@pytest.mark.parametrize("kind", KINDS)
def test_kept_features_give_the_same_logits_and_gradients(keeper, mixed, kind):
    model, processor, runs = keeper
    text, media = batched(processor, [mixed[i] for i in KINDS[kind]])
    plain = copy.deepcopy(model)  # a copy keeps nothing
    expected = forward(plain, text, media)
    runs.clear()
    with torch.no_grad():
        rollout = forward(model, text, media)
    found = forward(model, text, media)
    assert sum(runs) == patches(media)  # once, in the rollout
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(found, rollout)
    for logits in (expected, found):
        logits.square().mean().backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_nothing_is_kept_while_the_tower_learns_or_changes(keeper, mixed):
    model, processor, runs = keeper
    text, media = batched(processor, [mixed[2]])
    count, weight = patches(media), model.model.visual.patch_embed.proj.weight

    def ran():
        runs.clear()
        forward(model, text, media)
        return sum(runs)

    assert [ran(), ran()] == [count, 0]
    before = forward(model, text, media)
    with torch.no_grad():
        weight.mul_(1.5)  # as when a checkpoint is loaded
    assert [ran(), ran()] == [count, 0]
    assert (forward(model, text, media) - before).abs().max() > 1e-3
    weight.requires_grad_(True)
    assert [ran(), ran()] == [count, count]
    weight.requires_grad_(False)
    weight.ds_id = 0  # as under ZeRO-3
    assert [ran(), ran()] == [count, count]
    del weight.ds_id
    with torch.inference_mode():
        assert ran() == count
    assert ran() == 0


def test_half_precision_has_features_of_its_own(keeper, mixed):
    model, processor, runs = keeper
    text, media = batched(processor, [mixed[2]])
    forward(model, text, media)
    for _ in range(2):
        runs.clear()
        with torch.autocast("cpu", torch.bfloat16):
            found = forward(model, text, media)
    assert runs == []
    with torch.autocast("cpu", torch.bfloat16):
        expected = forward(copy.deepcopy(model), text, media)
    assert torch.equal(found, expected)


def test_kept_features_last_as_long_as_their_media(keeper, mixed, kept):
    model, processor, _ = keeper
    text, media = batched(processor, [mixed[2]])
    forward(model, text, media)
    (one,) = media
    (features,) = one.features[core_of(model)].values()
    alive = weakref.ref(features[1].pooler_output[0])
    inputs.MediaUses(processor, [mixed[2]], VideoSettings()).used([mixed[2]])
    del features, one, media
    gc.collect()
    assert alive() is None
