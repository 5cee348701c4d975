"""The baselines of SG-RLVR: supervised fine-tuning (SFT) and DPO.

They use the same rows, encoding, checkpoints and log as SG-RLVR. TRL's ``SFTTrainer``
and ``DPOTrainer`` give a batch to the model unchanged, so only the collator is ours,
and media go through ``media_once`` as in ``trainer``. TRL's own preparation of data and
its collators handle texts and images, but no video. Losses cover the response alone;
SpaceR's released SFT includes prompt and video tokens.

Source: SpaceR §5 (SFT baseline); vsGRPO (SFT, and DPO with corrupted answers as
rejected); https://arxiv.org/abs/2305.18290 for DPO.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.inputs import MediaUses, encode_prompts, pad_batch, token_types
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question
from spacer_lib.training.assembly import common_arguments
from spacer_lib.training.checkpoints import WholeCheckpoints
from spacer_lib.training.data import training_rows
from spacer_lib.training.recipe import TrainConfig
from spacer_lib.training.responses import CORRUPTIBLE, corrupt, target_text
from spacer_lib.training.sampler import EpochOrder
from spacer_lib.training.start import adapt_models, load_start, lora_config
from spacer_lib.training.visibility import VisibilityCheck, with_pixels


@dataclass(frozen=True, eq=False)
class BatchMedia:
    """The media of a batch: one dictionary per sequence, shared if they are equal.

    It is not a list or a dictionary: data loader and trainer would copy what is shared,
    and under DeepSpeed cast time steps to bf16, which would move temporal positions.
    """

    sequences: list[Any]


class ResponseCollator:
    """Rows and their responses → a batch whose labels are the responses' tokens.

    Parameters
    ----------
    processor : processor of a Qwen-VL model
    rows : list of Question
    responses : list of tuple of str
        One text per side for each row: a target, or a chosen and a rejected response.
    style : PromptStyle
    video : VideoSettings
    """

    def __init__(
        self,
        processor: Any,
        rows: Sequence[Question],
        responses: Sequence[tuple[str, ...]],
        style: PromptStyle,
        video: VideoSettings,
    ) -> None:
        self.processor, self.rows, self.responses = processor, rows, responses
        self.style, self.video = style, video
        # Numbers of the rows that the run will show, once for each use.
        self.asked: Callable[[], Iterable[int]] = tuple

    @functools.cached_property
    def _uses(self) -> MediaUses:
        rows = map(self.rows.__getitem__, self.asked())
        return MediaUses(self.processor, rows, self.video)

    def __call__(self, examples: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Row numbers → model inputs, right-padded: the first sides, then the second.

        Returns
        -------
        dict
            ``input_ids``, ``attention_mask``, ``mm_token_type_ids``, ``labels`` (-100
            except for the response and its end token), each (sides x rows, tokens),
            and ``media``, one entry per sequence.
        """
        numbers = [example["image"] for example in examples]
        rows = [self.rows[i] for i in numbers]
        prompts, media = encode_prompts(self.processor, rows, self.style, self.video)
        self._uses.used(rows)
        sides = list(zip(*(self.responses[i] for i in numbers), strict=True))
        tokenizer = self.processor.tokenizer
        sequences, labels = [], []
        for side in sides:
            texts = [text + tokenizer.eos_token for text in side]
            answers = tokenizer(texts, add_special_tokens=False)["input_ids"]
            for prompt, answer in zip(prompts, answers, strict=True):
                sequences.append(prompt + answer)
                labels.append([-100] * len(prompt) + answer)
        input_ids, mask = pad_batch(sequences, tokenizer.pad_token_id, "right")
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "mm_token_type_ids": token_types(input_ids, self.processor),
            "labels": pad_batch(labels, -100, "right")[0],
            "media": BatchMedia(media * len(sides)),
        }


class PreferenceCollator(ResponseCollator):
    """``ResponseCollator`` for DPO's pairs, with a mask in place of labels."""

    def __call__(self, examples: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Row numbers → model inputs and ``completion_mask``: all chosen first."""
        batch = super().__call__(examples)
        batch["completion_mask"] = (batch.pop("labels") != -100).long()
        return batch


class _MediaBatches:
    """Mixed into a trainer with a ``ResponseCollator``: its models get the media."""

    accelerator: Any
    data_collator: Any
    model_wrapped: Any
    state: Any
    _prepare_inputs: Any

    @contextlib.contextmanager
    def showing(self, batch: dict[str, Any], *models: Any) -> Iterator[dict[str, Any]]:
        """While this is open, ``models`` take the media of a batch once each.

        Parameters
        ----------
        batch : dict
            Of the collator.
        *models : Qwen-VL models, bare or wrapped

        Yields
        ------
        dict
            The batch with tensors in place of ``media``.
        """
        batch = dict(batch)
        media: list[Any] = batch.pop("media").sequences
        tensors: dict[str, Any] = {}
        # A rank whose rows are all text must still take part in the collectives of the
        # vision tower.
        touch = self.accelerator.num_processes > 1
        with contextlib.ExitStack() as opened:
            for model in models:
                once = media_once(
                    model, media, self.accelerator.device, touch_vision=touch
                )
                tensors = opened.enter_context(once)
            yield batch | tensors

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """TRL's, which runs the policy and, for DPO, the reference."""
        reference = getattr(self, "ref_model", None)  # SFT and adapters have none
        models = [model] if reference is None else [model, reference]
        # TRL counts the tokens of a session; the state is kept in checkpoints.
        self._total_train_tokens = self.state.num_input_tokens_seen
        with self.showing(inputs, *models) as batch:
            above: Any = super()
            made = above.compute_loss(model, batch, *args, **kwargs)
        self.state.num_input_tokens_seen = self._total_train_tokens
        return made

    def truth_scores(
        self, number: int, change: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Log-probabilities of the next tokens over a row's own batch.

        Parameters
        ----------
        number : int
        change : callable, optional
            Applied to the row's pixels.

        Returns
        -------
        (sides, tokens, vocabulary) tensor
        """
        batch = self.data_collator([{"image": number}])
        if change is not None:
            sides = batch["media"].sequences  # of one row: all the same
            batch["media"] = BatchMedia([with_pixels(sides[0], change)] * len(sides))
        for target in ("labels", "completion_mask"):
            batch.pop(target, None)
        batch, model = self._prepare_inputs(batch), self.model_wrapped
        with torch.no_grad(), self.showing(batch, model) as inputs:
            output = model(**inputs)
        scores: torch.Tensor = output.logits.log_softmax(dim=-1)
        return scores


class VideoSFTTrainer(_MediaBatches, EpochOrder, WholeCheckpoints, SFTTrainer):
    """TRL's SFT; its loss is the mean over all response tokens of a step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Count the tokens of a step: otherwise each micro-batch would have the same
        # weight. The model class says no, but for its own loss, which is not used.
        self.model_accepts_loss_kwargs = True


class VideoDPOTrainer(_MediaBatches, EpochOrder, WholeCheckpoints, DPOTrainer):
    """TRL's DPO; the reference is the checkpoint that the run starts from."""


# ---------------------------------------------------------------- responses


Responses = list[tuple[Question, tuple[str, ...]]]


def sft_responses(rows: Sequence[Question], style: PromptStyle) -> Responses:
    """``(row, (target,))`` of every row that has a target (see ``target_text``)."""
    pairs = ((row, target_text(row, style)) for row in rows)
    return [(row, (target,)) for row, target in pairs if target is not None]


def dpo_responses(rows: Sequence[Question], style: PromptStyle, seed: int) -> Responses:
    """``(row, (chosen, rejected))`` of every row whose answer can be corrupted.

    The rejected response is the chosen one with another answer, drawn from ``seed``
    and the row's id.
    """
    usable = [row for row in rows if row["problem_type"] in CORRUPTIBLE]
    pairs: Responses = []
    for row, (chosen,) in sft_responses(usable, style):
        rng = np.random.default_rng([seed, zlib.crc32(str(row["id"]).encode())])
        pairs.append((row, (chosen, corrupt(row, chosen, rng))))
    return pairs


# ---------------------------------------------------------------- assembly


def build_sft(
    config: TrainConfig,
    out_dir: PathLike,
    *,
    workers: int = 1,
    on_cpu: bool = True,
    rows: Sequence[Question] | None = None,
    callbacks: Sequence[Any] = (),
) -> VideoSFTTrainer:
    """The trainer of an SFT run; every worker process calls it.

    Parameters
    ----------
    config : TrainConfig
        ``prompts_per_step`` counts rows; ``num_generations``, sampling and reward
        settings are not used.
    out_dir, workers, rows, callbacks
        See ``assembly.build_trainer``.

    Raises
    ------
    SpacerError
        If too few rows have a response to imitate.
    """
    rows = training_rows(config) if rows is None else rows
    found = sft_responses(rows, config.prompt_style)
    # First: under ZeRO-3 they decide how the model is loaded.
    args = SFTConfig(**common_arguments(config, out_dir, workers, on_cpu))
    trainer: VideoSFTTrainer = _assemble(
        VideoSFTTrainer, ResponseCollator, config, args, found, len(rows), callbacks
    )
    return trainer


def build_dpo(
    config: TrainConfig,
    out_dir: PathLike,
    *,
    workers: int = 1,
    on_cpu: bool = True,
    rows: Sequence[Question] | None = None,
    callbacks: Sequence[Any] = (),
) -> VideoDPOTrainer:
    """The trainer of a DPO run; see ``build_sft``.

    ``config.beta`` is DPO's β, and the wrong answers depend on ``config.seed``.

    Raises
    ------
    SpacerError
        If too few rows make a pair.
    """
    rows = training_rows(config) if rows is None else rows
    found = dpo_responses(rows, config.prompt_style, config.seed)
    common = common_arguments(config, out_dir, workers, on_cpu)
    args = DPOConfig(**common, beta=config.beta)
    trainer: VideoDPOTrainer = _assemble(
        VideoDPOTrainer, PreferenceCollator, config, args, found, len(rows), callbacks
    )
    return trainer


def _assemble(
    trainer_type: Any,
    collator_type: type[ResponseCollator],
    config: TrainConfig,
    args: Any,
    found: Responses,
    asked: int,
    callbacks: Sequence[Any],
) -> Any:
    if len(found) < config.prompts_per_step:
        raise SpacerError(
            "rows to learn from",
            kind="training.too-few-responses",
            got=f"{len(found)} of {asked} with a response",
            expected=f"at least prompts_per_step = {config.prompts_per_step}",
        )
    model, processor = load_start(config)
    rows, responses = (list(part) for part in zip(*found, strict=True))
    collator = collator_type(
        processor, rows, responses, config.prompt_style, config.video_settings
    )
    trainer = trainer_type(
        model,
        args=args,
        processing_class=processor,
        # Row numbers, in the column that makes TRL leave encoding to the collator.
        train_dataset=datasets.Dataset.from_dict({"image": list(range(len(rows)))}),
        data_collator=collator,
        peft_config=lora_config(config),
        callbacks=list(callbacks),
    )
    collator.asked = trainer.asked
    trainer.rows, trainer.keep_checkpoints = rows, config.advanced.keep_checkpoints
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(VisibilityCheck(trainer))
    adapt_models(trainer, config.advanced.positions)
    if asked > len(rows) and trainer.accelerator.is_main_process:
        print(f"{len(rows)} of {asked} rows have a response to learn from", flush=True)
    return trainer
