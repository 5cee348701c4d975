"""The cache with free room holds the tensors of transformers' own cache."""

import pytest
import torch
from transformers.cache_utils import DynamicCache

from spacer_lib.models.patches import cache as room
from spacer_lib.models.patches.cache import RoomyLayer, with_room
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.warmstart import corpus


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    monkeypatch.setattr(room, "ROOM", 3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny.build_model(tiny.build_tokenizer(corpus())).eval()


def states(rows, tokens):
    return torch.randn(rows, 2, tokens, 5), torch.randn(rows, 2, tokens, 5)


CHANGES = {
    "none": lambda cache: None,
    "selected": lambda cache: cache.batch_select_indices(torch.tensor([1, 0, 1, 1])),
    "repeated": lambda cache: cache.batch_repeat_interleave(2),
    "cropped": lambda cache: cache.crop(-2),
    "reordered": lambda cache: cache.reorder_cache(torch.tensor([1, 0])),
    "empty": lambda cache: cache.reset(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("before", [0, 7])
def test_layers_hold_what_the_librarys_hold(model, change, before):
    torch.manual_seed(1)
    config = model.config.get_text_config()
    ours, theirs = DynamicCache(config=config), DynamicCache(config=config)
    if before:
        first = states(2, before)
        for cache in (ours, theirs):
            cache.update(*first, 0)
    with_room(ours)
    assert {type(layer) for layer in ours.layers} == {RoomyLayer}
    for step in range(12):
        rows = 4 if step > 6 and change in ("selected", "repeated") else 2
        new = states(rows, 1 + step % 2)
        seen, expected = ours.update(*new, 0), theirs.update(*new, 0)
        assert all(map(torch.equal, seen, expected))
        assert ours.get_seq_length() == theirs.get_seq_length()
        if step == 6:
            CHANGES[change](ours)
            CHANGES[change](theirs)


def test_a_token_is_written_in_place(model):
    cache = with_room(DynamicCache(config=model.config.get_text_config()))
    places = {cache.update(*states(2, 1), 0)[0].data_ptr() for _ in range(8)}
    assert len(places) == 2  # 1 and 3 more, then 5 and 3 more


def test_generation_is_the_same(model):
    ids = torch.arange(20, 40).reshape(2, 10)
    config = model.config.get_text_config()
    options = {
        "max_new_tokens": 20,
        "min_new_tokens": 20,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    plain, roomy = (
        model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **options
        )
        for cache in (
            DynamicCache(config=config),
            with_room(DynamicCache(config=config)),
        )
    )
    assert torch.equal(plain.sequences, roomy.sequences)
    for found, expected in zip(roomy.logits, plain.logits, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
