"""Does vLLM compute what the loss computes? The alignment check.

A rollout engine that shows its model other frames, other times or other positions than
the trainer's still answers, and training goes on: importance weights hide the gap. So
one row of each kind is asked of both. Equal must be: the prompt's tokens, the number of
media tokens, the position numbers and the seconds of a time step (where the engine
shows them), and the log-probabilities of the text after the media and of a completion,
within the *noise*: how far the trainer's own log-probabilities move when the row stands
in a batch.

The check also scores the row in the trainer with faults made on purpose
(``CONTROLS``). What each changes says whether the check could have seen that fault in
this row.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from transformers import TrainerCallback
from trl.models import unwrap_model_for_generation

from spacer_lib.artifacts import PathLike, to_jsonable
from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.generation import respond
from spacer_lib.models.inputs import (
    Clip,
    encode_prompts,
    join_media,
    pad_batch,
    read_clip,
    token_types,
)
from spacer_lib.models.patches.rope import (
    ONE_BLOCK_FAMILIES,
    POSITION_RULES,
    position_rule,
)
from spacer_lib.models.patches.shared_media import core_of
from spacer_lib.models.requests import tokens_per_second
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import MEDIA_KEYS, Question
from spacer_lib.training.vllm_rollouts import (
    Colocated,
    Engine,
    Made,
    Sampling,
    Served,
    first_difference,
)

# Other kernels than the trainer's round differently: up to so many times the noise.
NOISE_FACTOR = 5.0
# Mean difference of two right programs where the noise happens to be 0, in nats.
LEAST = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.005}

CHECKED_TOKENS = 64  # of a completion in a run

Tokens = list[int]
Media = Mapping[str, torch.Tensor]


class Gap(NamedTuple):
    """Absolute differences of log-probabilities, in nats."""

    mean: float
    max: float

    def __str__(self) -> str:
        return f"mean {self.mean:.2g}, max {self.max:.2g}"


@dataclasses.dataclass(frozen=True)
class Alignment:
    """What the check of one row found.

    Attributes
    ----------
    row : str
        Id of the row.
    kind : str
        ``video``, ``image`` or ``text``.
    scored : int
        Tokens whose log-probabilities were compared.
    media_tokens : (int, int)
        Of the trainer and of vLLM.
    noise : Gap
        Trainer alone against trainer in a batch.
    gap : Gap
        vLLM against trainer.
    limit : float
        Largest mean gap that is accepted.
    controls : dict of str to Gap
        vLLM against the trainer with a fault made on purpose.
    greedy : bool
        Whether the greedy texts are equal.
    faults : tuple of str
        What is not aligned; empty: the row is.
    """

    row: str
    kind: str
    scored: int
    media_tokens: tuple[int, int]
    noise: Gap
    gap: Gap
    limit: float
    controls: dict[str, Gap]
    greedy: bool
    faults: tuple[str, ...]

    def lines(self) -> list[str]:
        """The findings as text."""
        ours, theirs = self.media_tokens
        found = [
            f"vLLM against the loss, {self.kind} row {self.row}: {self.scored} tokens, "
            f"{theirs} of {ours} media tokens",
            f"  noise of the trainer (row, batch): {self.noise}",
            f"  vLLM: {self.gap}; limit of the mean {self.limit:.2g}; greedy texts "
            + ("equal" if self.greedy else "differ"),
        ]
        for name, gap in self.controls.items():
            seen = "caught" if gap.mean > self.limit else "not visible in this row"
            found.append(f"  with {name}: {gap}: {seen}")
        return found + [f"  FAULT: {fault}" for fault in self.faults]


class Scorer(Protocol):
    """Log-probabilities and texts of the model that learns.

    Attributes
    ----------
    model : Qwen-VL model
    processor : its processor
    dtype : torch.dtype
        In which it computes.
    """

    model: Any
    processor: Any
    dtype: torch.dtype

    def score(
        self, prompt: Tokens, completions: Sequence[Tokens], media: Media
    ) -> list[torch.Tensor]:
        """Log-probabilities of each completion's tokens, all in one batch."""

    def greedy(self, row: Question, settings: AskSettings) -> str:
        """The greedy completion of a row."""


class PlainScorer:
    """A ``Scorer`` of a model without a trainer.

    Parameters
    ----------
    model, processor : Qwen-VL model and its processor
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor
        self.dtype = model.dtype

    def score(
        self, prompt: Tokens, completions: Sequence[Tokens], media: Media
    ) -> list[torch.Tensor]:
        """See ``Scorer``."""
        device, model = self.model.device, self.model
        rows = [prompt + completion for completion in completions]
        ids, mask = pad_batch(rows, self.processor.tokenizer.pad_token_id, "right")
        tensors = join_media([media] * len(rows))
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                mm_token_type_ids=token_types(ids, model.config).to(device),
                **{key: tensor.to(device) for key, tensor in tensors.items()},
            ).logits
        logps = logits.float().log_softmax(dim=-1)[:, :-1]
        logps = logps.gather(2, ids.to(device)[:, 1:, None])[..., 0]
        first = len(prompt) - 1
        return [
            logps[i, first : first + len(completion)]
            for i, completion in enumerate(completions)
        ]

    def greedy(self, row: Question, settings: AskSettings) -> str:
        """See ``Scorer``."""
        return respond(self.model, self.processor, [row], settings)[0].text


# ---------------------------------------------------------------- faults on purpose


def _changed(change: Callable[[Clip], Clip]) -> Callable[..., Question]:
    def changed(row: Question, video: VideoSettings) -> Question:
        source: Any = row["video"]
        return cast(Question, {**row, "video": change(read_clip(source, video))})

    return changed


# Of a row's video: what a wrong engine might show instead.
CONTROLS: dict[str, Callable[[Question, VideoSettings], Question]] = {
    "a quarter of the frame rate": _changed(
        lambda clip: dataclasses.replace(clip, fps=clip.fps / 4)
    ),
    "frames in reversed order": _changed(
        lambda clip: dataclasses.replace(clip, frames=clip.frames[::-1].copy())
    ),
    "other pixels": _changed(
        lambda clip: dataclasses.replace(clip, frames=255 - clip.frames)
    ),
}
OTHER_POSITIONS = "the other rule of positions"


@contextmanager
def _other_positions(model: Any) -> Iterator[None]:
    """The model numbers text after a video by the rule that it does not follow."""
    own = position_rule(model)
    (other,) = set(POSITION_RULES) - {own}
    POSITION_RULES[other](model)
    try:
        yield
    finally:
        POSITION_RULES[own](model)


# ---------------------------------------------------------------- the check


def align(
    engine: Engine,
    scorer: Scorer,
    row: Question,
    style: PromptStyle,
    video: VideoSettings,
    sampling: Sampling,
) -> Alignment:
    """Ask one row of vLLM and of the model that learns, and compare.

    Parameters
    ----------
    engine : Engine
        With the weights of ``scorer``.
    scorer : Scorer
    row : Question
    style, video
        As for ``encode_prompts``.
    sampling : Sampling
        Of the run. At another temperature than 1 the prompt's tokens are not compared:
        vLLM gives their log-probabilities without it.

    Raises
    ------
    MediaError
        If the row's media cannot be read.
    """
    (prompt,), (media,) = encode_prompts(scorer.processor, [row], style, video)
    with _positions_of(engine) as seen:
        sampling = dataclasses.replace(sampling, prompt_logps=sampling.temperature == 1)
        # Three, for a batch: it also shows that a group shares its media.
        made = engine.ask([row] * 3, style, video, [1, 2, 3], sampling)
        calm = dataclasses.replace(sampling, temperature=0.0, prompt_logps=False)
        (greedy,) = engine.ask([row], style, video, [0], calm)
    kind = next((key for key in MEDIA_KEYS if row.get(key)), "text")
    pads = {scorer.model.config.image_token_id, scorer.model.config.video_token_id}
    there = made[0].prompt_ids
    counts = sum(i in pads for i in prompt), sum(i in pads for i in there)
    faults = _prompt_faults(prompt, there, counts)
    tail = _after_media(prompt, pads) if sampling.prompt_logps else len(prompt)
    if faults:
        nothing = Gap(math.nan, math.nan)
        return Alignment(
            str(row["id"]), kind, 0, counts, nothing, nothing, 0.0, {}, False, faults
        )
    faults += _position_faults(seen, scorer.model, prompt, media)
    wanted = [prompt[tail:] + one.ids for one in made]
    theirs = [_logps(one, tail) for one in made]
    head = prompt[:tail]
    alone = [scorer.score(head, [tokens], media)[0] for tokens in wanted]
    together = scorer.score(head, wanted, media)
    noise, gap = _gap(alone, together), _gap(alone, theirs)
    limit = max(NOISE_FACTOR * noise.mean, LEAST[scorer.dtype])
    if not gap.mean <= limit:
        faults += (f"log-probabilities differ by {gap}, the noise is {noise}",)
    controls = {}
    if kind == "video":
        controls = _controls(scorer, row, style, video, wanted, theirs, tail)
    text = scorer.processor.tokenizer.decode(greedy.ids, skip_special_tokens=True)
    settings = AskSettings(style, video, sampling.max_tokens)
    same = text == scorer.greedy(row, settings)
    if not same and scorer.dtype == torch.float32:
        # In bf16 two words can be equally likely.
        faults += ("greedy texts differ",)
    return Alignment(
        str(row["id"]),
        kind,
        sum(map(len, wanted)),
        counts,
        noise,
        gap,
        limit,
        controls,
        same,
        faults,
    )


def require_aligned(found: Sequence[Alignment]) -> None:
    """Refuse rows that are not aligned.

    Raises
    ------
    SpacerError
        With the first fault.
    """
    for one in found:
        if not one.faults:
            continue
        nearest = min(one.controls, key=lambda n: one.controls[n].mean, default=None)
        hint = ""
        if nearest and one.controls[nearest].mean < one.gap.mean:
            hint = f"; vLLM's fit {nearest} better ({one.controls[nearest]})"
        raise SpacerError(
            f"vLLM against the loss, row {one.row}",
            kind="training.not-aligned",
            got="; ".join(one.faults) + hint,
            expected=f"equal prompts and a mean difference up to {one.limit:.2g}",
            remedy="compare positions, frame rate and checkpoint of both sides; "
            "published checkpoints need advanced.positions: original",
        )


def _controls(
    scorer: Scorer,
    row: Question,
    style: PromptStyle,
    video: VideoSettings,
    wanted: Sequence[Tokens],
    theirs: Sequence[torch.Tensor],
    tail: int,
) -> dict[str, Gap]:
    controls = {}
    for name, change in CONTROLS.items():
        (prompt,), (media,) = encode_prompts(
            scorer.processor, [change(row, video)], style, video
        )
        wrong = [scorer.score(prompt[:tail], [tokens], media)[0] for tokens in wanted]
        controls[name] = _gap(wrong, theirs)
    if core_of(scorer.model).config.model_type in ONE_BLOCK_FAMILIES:
        (prompt,), (media,) = encode_prompts(scorer.processor, [row], style, video)
        with _other_positions(scorer.model):
            wrong = [scorer.score(prompt[:tail], [one], media)[0] for one in wanted]
        controls[OTHER_POSITIONS] = _gap(wrong, theirs)
    return controls


@contextmanager
def _positions_of(engine: Engine) -> Iterator[list[dict[str, Any]]]:
    if isinstance(engine, Colocated):
        with engine.positions_seen() as seen:
            yield seen
    else:
        yield []


def _prompt_faults(
    ours: Tokens, theirs: Tokens, counts: tuple[int, ...]
) -> tuple[str, ...]:
    if counts[0] != counts[1]:
        return (f"{counts[1]} media tokens at vLLM, {counts[0]} in the trainer",)
    if ours != theirs:
        first = first_difference(ours, theirs)
        return (f"the prompt's tokens differ from place {first} on",)
    return ()


def _position_faults(
    seen: list[dict[str, Any]], model: Any, prompt: Tokens, media: Media
) -> tuple[str, ...]:
    core = core_of(model)
    if not seen or core.config.model_type not in ONE_BLOCK_FAMILIES:
        return ()
    faults, there = [], seen[0]
    ids = torch.tensor([prompt])
    grids = {key: value for key, value in media.items() if "pixel" not in key}
    types = token_types(ids, core.config)
    ours, _ = core.get_rope_index(input_ids=ids, mm_token_type_ids=types, **grids)
    ours = ours[:, 0].cpu()
    theirs = there["positions"].to(ours)
    if not torch.equal(ours, theirs):
        first = int((ours != theirs).any(dim=0).nonzero()[0])
        faults.append(
            f"position numbers differ from token {first} on: "
            f"{theirs[:, first].tolist()} at vLLM, {ours[:, first].tolist()} here"
        )
    seconds = media.get("second_per_grid_ts")
    if seconds is not None and "seconds" in there:
        own = float(seconds[0])
        if not math.isclose(own, there["seconds"], rel_tol=1e-5):
            faults.append(
                f"a time step is {there['seconds']:g} s at vLLM and {own:g} s here"
            )
    return tuple(faults)


def _after_media(prompt: Tokens, pads: set[int]) -> int:
    """Place of the first token that is compared: two after the last of the media, so
    that text ends the part that is not."""
    places = [i for i, token in enumerate(prompt) if token in pads]
    return places[-1] + 2 if places else 1


def _logps(one: Made, tail: int) -> torch.Tensor:
    before = (one.prompt_logps or [])[tail:]
    known = [math.nan if value is None else value for value in before + one.logps]
    return torch.tensor(known)


def _gap(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> Gap:
    pairs = zip(ours, theirs, strict=True)
    gaps = torch.cat([(a.cpu().double() - b.cpu().double()).abs() for a, b in pairs])
    return Gap(float(gaps.mean()), float(gaps.max()))


def rows_to_align(rows: Sequence[Question]) -> list[Question]:
    """The first row with a video, with images and without either."""
    first: dict[str, Question] = {}
    for row in rows:
        kind = next((key for key in MEDIA_KEYS if row.get(key)), "text")
        first.setdefault(kind, row)
    return list(first.values())


def compare(
    model: Any,
    processor: Any,
    checkpoint: PathLike,
    rows: Sequence[Question],
    style: PromptStyle,
    video: VideoSettings,
    *,
    endpoint: str | None = None,
    tokens: int = CHECKED_TOKENS,
    length: int | None = None,
    every: bool = False,
) -> list[Alignment]:
    """``align`` a checkpoint with vLLM, without a trainer.

    Parameters
    ----------
    model, processor
        The loaded checkpoint, with its rule of positions.
    checkpoint : path or str
        What vLLM loads.
    rows : list of Question
    style, video
        As for ``encode_prompts``.
    endpoint : str, optional
        A ``vllm serve`` of the same checkpoint; without it vLLM runs in this process.
    tokens : int
        Most tokens of a completion.
    length : int, optional
        Most tokens of a prompt and its completion.
    every : bool
        Compare every row, not one of each kind.

    Raises
    ------
    SpacerError
        If vLLM is not installed, or the server cannot be asked.
    """
    engine: Engine
    if endpoint:
        rate = tokens_per_second(model.config)
        engine = Served(endpoint, processor, tokens_per_second=rate)
    else:
        dtype = str(model.dtype).removeprefix("torch.")
        engine = Colocated(checkpoint, processor, dtype=dtype, max_model_len=length)
    ends = model.generation_config.eos_token_id
    config = model.config
    sampling = Sampling(
        1.0,
        1.0,
        tokens,
        tuple(ends if isinstance(ends, list) else [ends]),
        (config.image_token_id, config.video_token_id),
    )
    scorer = PlainScorer(model, processor)
    return [
        align(engine, scorer, row, style, video, sampling)
        for row in (rows if every else rows_to_align(rows))
    ]


# ---------------------------------------------------------------- in a run


class TrainerScorer:
    """A ``Scorer`` of a trainer: one row by the path that the loss takes.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.model = trainer, trainer.model
        self.processor = trainer.processing_class
        self.dtype = torch.bfloat16 if trainer.args.bf16 else trainer.model.dtype

    def score(
        self, prompt: Tokens, completions: Sequence[Tokens], media: Media
    ) -> list[torch.Tensor]:
        """See ``Scorer``."""
        return self.trainer.scores_beside(prompt, completions, media)

    def greedy(self, row: Question, settings: AskSettings) -> str:
        """See ``Scorer``."""
        trainer = self.trainer
        with unwrap_model_for_generation(
            trainer.model_wrapped,
            trainer.accelerator,
            gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
        ) as model:
            return respond(model, self.processor, [row], settings)[0].text


class AlignmentCheck(TrainerCallback):
    """The check at every start, after the first update and at the end of a run.

    At the start both sides hold the checkpoint. Only the later checks can see an
    engine that keeps some of the old weights.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
        With ``vllm``.
    path : path
        JSON lines that receive what each check found.
    """

    def __init__(self, trainer: Any, path: PathLike) -> None:
        self.trainer, self.path = trainer, Path(path)
        self._first = 0

    def on_train_begin(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Check on all ranks together, print, and refuse what is not aligned."""
        self._first = state.global_step
        self.check(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The same after the first update."""
        if state.global_step == self._first + 1:
            self.check(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The same after the last one."""
        if state.global_step > self._first + 1:
            self.check(state.global_step)

    def check(self, step: int) -> list[Alignment]:
        """Check now, with the weights of this step.

        Raises
        ------
        SpacerError
            If a row is not aligned.
        """
        trainer, found = self.trainer, []
        source, vllm = trainer.source, trainer.vllm
        vllm.refresh()
        style = source.style
        style = PromptStyle(style) if isinstance(style, str) else style
        most = min(trainer.max_completion_length, CHECKED_TOKENS)
        places = {id(row): number for number, row in enumerate(source.rows)}
        for first in rows_to_align(source.rows):
            # Loaded, so that another row stands in where media cannot be read.
            row = source.load([places[id(first)]]).rows[0]
            sampling = vllm.sampling(max_tokens=most, top_p=1.0)
            found.append(
                align(
                    vllm.engine,
                    TrainerScorer(trainer),
                    row,
                    style,
                    source.video,
                    sampling,
                )
            )
        vllm.rest()
        if trainer.accelerator.is_main_process:
            for one in found:
                print("\n".join(one.lines()), flush=True)
            with self.path.open("a", encoding="utf-8") as file:
                for one in found:
                    file.write(json.dumps({"step": step, **to_jsonable(one)}) + "\n")
        require_aligned(found)
        return found
