"""Checkpoints: find one, and load its model and processor.

Training, evaluation and the vLLM backend load through here, so all accept the same
names and say the same where one is missing or broken.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.errors import SpacerError
from spacer_lib.models.patches.patch_embedding import use_linear_patches
from spacer_lib.models.patches.rope import ONE_BLOCK_FAMILIES, POSITION_RULES
from spacer_lib.models.patches.shared_media import core_of
from spacer_lib.models.patches.windows import use_batched_windows

RULE_KEY = "text_positions"  # in config.json: the rule of our own trained models
LOCAL = (".", "checkpoints/", "runs/")  # how names of folders begin; no hub name does


def find_checkpoint(name: Any) -> str:
    """A checkpoint's folder, also relative to the repository, or its hub name.

    Raises
    ------
    SpacerError
        If it looks like a folder and is none, or has no ``config.json``.
    """
    places = [Path(name), PROJECT_ROOT / name]
    for place in places:
        if (place / "config.json").exists():
            return str(place)
    for place in places:
        if place.is_dir():
            raise SpacerError(
                f"model folder {place}",
                kind="models.no-config",
                got="no config.json",
                expected="a folder written by save_pretrained",
            )
    if Path(name).is_absolute() or str(name).startswith(LOCAL):
        raise SpacerError(
            f"model folder {name}",
            kind="models.no-checkpoint",
            got="no config.json there",
            remedy="fix the path, or make the tiny one with `make warmstart`",
        )
    return str(name)


def load_checkpoint(
    name: Any, *, remote_code: bool = False, **options: Any
) -> tuple[Any, Any]:
    """``(model, processor)`` of a checkpoint, as it was saved.

    Parameters
    ----------
    name : path or str
        See ``find_checkpoint``.
    remote_code : bool
        Run Python code that comes with the checkpoint.
    **options
        Of ``from_pretrained``, such as ``dtype``.

    Raises
    ------
    SpacerError
        If there is no such checkpoint, its files are broken, or it needs code of its
        own that was not allowed.
    """
    path = find_checkpoint(name)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path, trust_remote_code=remote_code, **options
        )
        processor = load_processor(path, remote_code=remote_code)
    except (OSError, SafetensorError) as error:
        raise SpacerError(
            f"model {path} cannot be loaded",
            kind="models.unreadable",
            got=str(error).splitlines()[0],
            expected="a folder written by save_pretrained, or a hub name",
            remedy="fix the path, or download or make the checkpoint again",
        ) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise SpacerError(
            f"model {path}",
            kind="models.remote-code",
            got="a checkpoint that brings Python code of its own",
            remedy="read that code; then allow it with remote_code: true",
        ) from error
    return model, processor


def load_processor(name: Any, *, remote_code: bool = False) -> Any:
    """The processor of a checkpoint; it pads on the left, as generation needs."""
    return AutoProcessor.from_pretrained(
        find_checkpoint(name), padding_side="left", trust_remote_code=remote_code
    )


def adapt(model: Any, positions: str | None = "library") -> Any:
    """Let a model number positions by a rule, embed patches by a matrix product and
    compute the windows of its vision tower together.

    Parameters
    ----------
    model : Qwen-VL model, bare or wrapped
    positions : str or None
        The rule that the checkpoint was trained under (``models.patches.rope``):
        ``original`` for published ones. ``None``: the rule that the checkpoint says,
        else original in the families that have two rules.

    Returns
    -------
    model
        The same object. It says its rule from now on, also when it is saved.

    Raises
    ------
    SpacerError
        If the checkpoint says a rule that does not exist.
    """
    config = core_of(model).config
    if positions is None:
        two_rules = config.model_type in ONE_BLOCK_FAMILIES
        positions = getattr(config, RULE_KEY, "original" if two_rules else "library")
        if positions not in POSITION_RULES:
            raise SpacerError(
                f"config.json: {RULE_KEY}",
                kind="models.unknown-position-rule",
                got=repr(positions)[:80],
                expected=" or ".join(POSITION_RULES),
            )
    model = POSITION_RULES[positions](use_batched_windows(use_linear_patches(model)))
    setattr(config, RULE_KEY, positions)
    return model
