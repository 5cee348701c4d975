"""Checkpoints that are whole or absent, and runs that resume from their weights."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import contextlib
import errno
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, is_peft_model
from peft import PeftModel
from safetensors import SafetensorError
from transformers import Trainer

from spacer_lib.artifacts import (
    PathLike,
    are_whole,
    atomic_folder,
    folder_sizes,
    listing,
    read_json,
    remove_folder,
    sync_tree,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError

COMPLETE = "complete.json"  # written last: a checkpoint without it is not whole
# How torch and safetensors, which do not raise OSError, word a full disk.
_FULL = ("No space left", "os error 28", "unexpected pos", "file write failed")


class WholeCheckpoints(Trainer):
    """Mixin for a trainer: it marks checkpoints once they are complete, deletes old
    ones, and starts a resumed run from the checkpoint's weights."""

    keep_checkpoints = 2

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, folder = self.state.global_step, Path(self.args.output_dir)
        target = folder / f"checkpoint-{step}"
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            if not disk_is_full(error):
                raise
            remove_folder(target)
            kept = complete_checkpoints(folder)
            raise SpacerError(
                f"checkpoint of step {step} cannot be written",
                kind="training.disk-full",
                got=f"no space left on the disk of {folder}",
                expected=f"room for one checkpoint more than keep_checkpoints = "
                f"{self.keep_checkpoints}",
                remedy="free some space, then resume from "
                + (kept[-1].name if kept else "the start"),
            ) from error
        # Every rank has written its part before the checkpoint is called complete.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            sync_tree(target)
            record = {"step": step, "files": folder_sizes(target)}
            write_json(target / COMPLETE, record)
            for old in complete_checkpoints(folder)[: -self.keep_checkpoints]:
                remove_folder(old)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: Any = None
    ) -> None:
        # Called where no DeepSpeed loads its own. transformers saves Qwen2.5-VL under
        # the published names ("visual.…" for "model.visual.…"); its Trainer looks for
        # the others, finds none, warns, and goes on from the weights of the start.
        model = self.model if model is None else model
        if is_peft_model(model):  # an adapter has one name only
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())

    def _run_epoch(self, **kwargs: Any) -> None:
        # Resumed from its last step, a run has nothing left to train; transformers
        # would look at the count only after one step more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``training.card`` writes the card, TRL does not."""


def disk_is_full(error: BaseException) -> bool:
    """Whether an error of saving comes from a full disk."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return True
    return any(words in str(error) for words in _FULL)


def complete_checkpoints(folder: PathLike) -> list[Path]:
    """Checkpoints that were written to the end and whose files are whole, oldest first.

    A file is whole if it has the size that ``COMPLETE`` records.
    """
    found = [
        path.parent
        for path in listing(folder, f"checkpoint-*/{COMPLETE}")
        if are_whole(path.parent, read_json(path).get("files", {}))
    ]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def save_model(trainer: Any, folder: Path, card: str) -> None:
    """Model, processor and README (``card``) into ``folder``, all or nothing.

    After LoRA: the merged model, and the adapter in ``adapter/`` below it.
    """
    main = trainer.accelerator.is_main_process
    adapted = is_peft_model(trainer.accelerator.unwrap_model(trainer.model))
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(atomic_folder(folder)) if main else None]
        (temporary,) = broadcast_object_list(made)
        weights = temporary / "adapter" if adapted else temporary
        trainer.save_model(str(weights))
        trainer.accelerator.wait_for_everyone()
        if main:
            (weights / "training_args.bin").unlink(missing_ok=True)
            if adapted:
                _merge(trainer, weights, temporary)
            write_text(temporary / "README.md", card)
            for path in listing(temporary, "*.safetensors", deep=True):
                path.chmod(0o644)  # safetensors writes for its owner alone


def _merge(trainer: Any, adapter: Path, folder: Path) -> None:
    """Save the base with the adapter added; both read anew: a rank may hold a part."""
    wrapped = trainer.accelerator.unwrap_model(trainer.model)
    base = type(wrapped.get_base_model()).from_pretrained(
        wrapped.peft_config["default"].base_model_name_or_path, dtype=torch.float32
    )
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload()
    # As the run sampled: a published base asks for a repetition penalty.
    merged.generation_config = wrapped.get_base_model().generation_config
    merged.to(wrapped.dtype).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
