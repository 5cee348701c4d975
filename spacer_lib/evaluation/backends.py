"""What answers: the interface of a backend, and a checkpoint in this process.

``LocalModel``                 transformers in this process
``chat.Endpoint``              any server with OpenAI's chat completions
``offline_vllm.OfflineVllm``   vLLM in this process
``workers.Workers``            either of the two in several processes
``floors.Floor``               no model at all
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from spacer_lib.artifacts import PathLike, config_hash
from spacer_lib.evaluation.replies import Replies, Reply
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import media_parts
from spacer_lib.models.checkpoints import adapt, load_checkpoint
from spacer_lib.models.generation import respond, weights_fingerprint
from spacer_lib.models.inputs import MediaError, MediaUses
from spacer_lib.models.patches.rope import position_rule
from spacer_lib.rows import Question


class Backend(Protocol):
    """What ``ask`` asks.

    Attributes
    ----------
    name : str
        What tables call it.
    batched : bool
        Whether a row's answer may depend on the batch it stands in, so that only
        whole batches may be asked again.
    """

    name: str
    batched: bool

    def identity(self) -> dict[str, Any]:
        """What answers depend on beside rows and settings, as JSON."""

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield ``(index, Reply)`` of each row, in any order."""


def media_failure(source: object) -> str:
    """Why a source cannot be read: it is missing, or it is broken."""
    there = "://" in str(source) or Path(str(source)).exists()
    return f"{'broken' if there else 'missing'}_media: {source}"


# ---------------------------------------------------------------- transformers


def load(checkpoint: PathLike, positions: str | None = "library") -> tuple[Any, Any]:
    """``(model, processor)`` of a checkpoint folder or hub name, as it was saved.

    The model goes to a GPU if there is one. ``positions`` is the rule it was trained
    under: see ``models.checkpoints.adapt``.

    Raises
    ------
    SpacerError
        See ``models.checkpoints.load_checkpoint``.
    """
    model, processor = load_checkpoint(checkpoint, dtype="auto")
    model = adapt(model, positions)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor


class LocalModel:
    """A transformers model in this process.

    Parameters
    ----------
    model, processor : of ``load``
    name : str
        What tables call it.
    """

    batched = True  # padding changes the last digits of logits

    def __init__(self, model: Any, processor: Any, name: str = "model") -> None:
        self.model, self.processor, self.name = model, processor, name

    def identity(self) -> dict[str, Any]:
        """Weights, rule of positions, number format, chat template, processors."""
        return {
            "backend": "transformers",
            "weights": weights_fingerprint(self.model),
            "positions": position_rule(self.model),
            "dtype": str(self.model.dtype),
            "processor": config_hash(json.loads(self.processor.to_json_string())),
            "template": config_hash(self.processor.chat_template),
        }

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield batch by batch; rows whose media cannot be read fail alone."""
        prefixes = prefixes or [""] * len(rows)
        uses = MediaUses(self.processor, rows, settings.video)
        for start in range(0, len(rows), settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            replies = self._batch(rows[batch], settings, prefixes[batch], blind)
            uses.used(rows[batch])
            yield from enumerate(replies, start)

    def _batch(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        prefixes: Sequence[str],
        blind: bool,
    ) -> list[Reply]:
        replies: dict[int, Reply] = {}
        while len(replies) < len(rows):
            there = [i for i in range(len(rows)) if i not in replies]
            try:
                made = respond(
                    self.model,
                    self.processor,
                    [rows[i] for i in there],
                    settings,
                    blind=blind,
                    prefixes=[prefixes[i] for i in there],
                )
            except MediaError as error:
                lost = [i for i in there if error.source in _sources(rows[i])]
                if not lost:
                    raise
                for i in lost:
                    replies[i] = Reply(failure=media_failure(error.source))
                continue
            for i, response in zip(there, made, strict=True):
                replies[i] = Reply(*response)
        return [replies[i] for i in range(len(rows))]


def _sources(row: Question) -> list[str]:
    return [part[part["type"]] for part in media_parts(row)]
