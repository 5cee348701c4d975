"""Who answers: a checkpoint here."""

from pathlib import Path

import torch

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.models.patch_embedding import use_linear_patches
from spacer_lib.models.rope import POSITION_RULES


def load(checkpoint, positions="library"):
    """``(model, processor)`` of a checkpoint folder or hub name, as it was saved.

    A relative folder is looked up here first, then in the repository. The model goes
    to a GPU if there is one. ``positions`` is the rule it was trained under
    (``models.rope``): ``original`` for published checkpoints.

    Raises
    ------
    SpacerError
        If there is no such checkpoint.
    """
    # Imported late: spacer_lib.models has to come before transformers.
    from transformers import AutoModelForImageTextToText, AutoProcessor

    places = [Path(checkpoint), PROJECT_ROOT / checkpoint]
    found = [str(p) for p in places if (p / "config.json").exists()]
    name = found[0] if found else str(checkpoint)
    try:
        if not found and Path(checkpoint).is_absolute():
            raise FileNotFoundError("no config.json in this folder")
        model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto")
        processor = AutoProcessor.from_pretrained(name)
    except OSError as error:
        raise SpacerError(
            f"checkpoint {checkpoint}", got=str(error).splitlines()[0],
            expected="a folder written by save_pretrained, or a hub name",
            remedy="fix the path, or make it first (notebook 05, make warmstart)",
        ) from error  # fmt: skip
    POSITION_RULES[positions](use_linear_patches(model))
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor
