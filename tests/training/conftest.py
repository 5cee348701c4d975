"""A random tiny model on disk and a few rows: enough for every training test."""

import numpy as np
import pytest
import torch
from PIL import Image
from support import nested

from spacer_lib.artifacts import write_jsonl
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.tiny.warmstart import corpus
from spacer_lib.training.recipe import config_from_dict


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """Checkpoint folder of an untrained tiny model with its processor."""
    folder = tmp_path_factory.mktemp("random tiny")  # with a space, as paths may have
    tokenizer = tiny.build_tokenizer(corpus())
    torch.manual_seed(0)
    tiny.build_model(tokenizer).save_pretrained(folder)
    tiny.build_processor(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows():
    """Twelve questions, each about a room of its own."""
    return draw_rows(SEEDS["develop"], 12, DEMONSTRATED)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A question file: six drawn videos, three pictures and three texts, in turn."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = []
    for number, row in enumerate(draw_rows(SEEDS["grpo"], 12, DEMONSTRATED)):
        if number % 4 == 1:
            pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3))
            path = folder / f"{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            row = {**row, "video": None, "image": path.name}
        if number % 4 == 3:
            row = {**row, "video": None}
        rows.append({"image": None, **row})
    path = folder / "rows.jsonl"
    write_jsonl(path, rows)
    return path


@pytest.fixture(scope="session")
def small(model_dir):
    """``small(**changes)``: 2 prompts x 4 completions of at most 12 tokens.

    Advanced settings go by their last name: ``small(refill=2)``.
    """

    def make(**changes):
        values = {
            "model_path": str(model_dir),
            "prompts_per_step": 2,
            "num_generations": 4,
            "max_completion_length": 12,
            "max_steps": 2,
        }
        return config_from_dict(nested(values | changes))

    return make
