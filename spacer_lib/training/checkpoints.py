"""Checkpoints that are whole or absent, and runs that resume from their weights."""

import shutil
from pathlib import Path

from spacer_lib.artifacts import write_json

COMPLETE = "complete.json"  # written last: a checkpoint without it was cut off


class WholeCheckpoints:
    """Mixed into a trainer: checkpoints are marked once complete, old ones go, and a
    resumed run starts from the checkpoint's weights."""

    keep_checkpoints = 2

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        # Every rank has written its part before the checkpoint is called complete.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir)
            step = self.state.global_step
            write_json(folder / f"checkpoint-{step}" / COMPLETE, {"step": step})
            for old in complete_checkpoints(folder)[: -self.keep_checkpoints]:
                shutil.rmtree(old)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        # Called where no DeepSpeed loads its own. transformers saves Qwen2.5-VL under
        # the published names ("visual.…" for "model.visual.…"); its Trainer looks for
        # the others, finds none, warns, and goes on from the weights of the start.
        model = self.model if model is None else model
        saved = type(model).from_pretrained(resume_from_checkpoint, dtype=model.dtype)
        model.load_state_dict(saved.state_dict())

    def _run_epoch(self, **kwargs):
        # Resumed from its last step, a run has nothing left to train; transformers
        # would look at the count only after one step more.
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**kwargs)

    def create_model_card(self, *args, **kwargs):
        """No card: the run folder describes itself (``run.json``)."""


def complete_checkpoints(folder):
    """Checkpoints that were written to the end, oldest first."""
    found = [path.parent for path in Path(folder).glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))
