"""The tiny model's warm start: vision, then video → thought → answer.

Two stages. *vision*: the tower and the language model's first layers learn the dense
targets of ``aids``. *joint*: supervised fine-tuning on demonstrations of all kinds of
question, several about each room behind one video, with both training aids; and the
same without video, where everything that only the video tells carries no loss.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.models.checkpoints import adapt
from spacer_lib.models.inputs import (
    Clip,
    encode_prompts,
    join_media,
    pad_batch,
    token_types,
)
from spacer_lib.questions.generators import question_rows
from spacer_lib.rooms.frames import FPS
from spacer_lib.rows import Question
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny import stages
from spacer_lib.tiny.aids import (
    CATEGORIES,
    TAUGHT,
    WEIGHTS,
    Heads,
    Taught,
    dense_targets,
)
from spacer_lib.tiny.curriculum import DEMONSTRATED, INSIDE_RULES, SEEDS
from spacer_lib.tiny.shown import SHOWN, ShownRoom, show
from spacer_lib.tiny.thoughts import (
    INSIDE_TASKS,
    VIDEO,
    Pointer,
    Thought,
    facts_of,
    think,
)

SIZES: dict[str, Any] = {
    "layers": 4,
    "vision_depth": 2,
    "temporal": 1,
    "tokens_per_second": 1,
}
VIDEO_TOKENS = 128
STAGES = ("vision", "joint")
SEEDS_PER_STEP = 100  # of rooms; a step takes the first that are well seen

Asked = tuple[Question, Thought]


class Batch(NamedTuple):
    """Packed rows: a prompt's video, then the branches of its questions.

    Attributes
    ----------
    input_ids, labels : (B, L) int
        A label is the token itself; -100 carries no loss.
    positions : (3, B, L) int
    visible : (B, L, L) bool
        A branch sees the video and itself.
    media : dict
        Of the videos; empty without.
    pointers : dict
        See ``aids.Taught.loss``.
    targets : dict or None
        See ``aids.dense_targets``.
    """

    input_ids: Tensor
    labels: Tensor
    positions: Tensor
    visible: Tensor
    media: dict[str, Tensor]
    pointers: dict[int, tuple[Tensor, Tensor, Tensor]]
    targets: dict[str, Tensor] | None


def build(seed: int = 0) -> tuple[Any, Any]:
    """(processor, model) of the view from inside, initialised from a seed."""
    torch.manual_seed(seed)
    tokenizer = tiny.build_tokenizer(corpus())
    processor = tiny.build_processor(tokenizer, frames=SHOWN.frames, temporal=1)
    return processor, tiny.build_model(tokenizer, **SIZES)


def corpus(rooms: int = 60) -> list[str]:
    """Text with every word that the model reads or writes as one token."""
    lines: list[str] = []
    for seed in range(rooms):
        for room in filter(None, [show(DEMONSTRATED, seed)]):
            facts = facts_of(room)
            rows, _ = question_rows(room.scene, seed, rules=INSIDE_RULES)
            for row in rows:
                lines += [row["question"], *(row["options"] or ())]
                thought = think(row, facts)
                lines += [thought.text] if thought else []
    lines += [f"{name}, {name}(s) the {name} {name}={name}@" for name in CATEGORIES]
    return lines


def ask(
    room: ShownRoom, rng: np.random.Generator, count: int, weights: Mapping[str, float]
) -> list[Asked]:
    """``count`` demonstrations about one room, kinds drawn by weight."""
    rows, _ = question_rows(
        room.scene, int(rng.integers(2**31)), per_task=6, rules=INSIDE_RULES
    )
    by_task = {
        task: [row for row in rows if row["question_type"] == task]
        for task in INSIDE_TASKS
    }
    names = [task for task in INSIDE_TASKS if by_task[task]]
    chances = np.array([weights.get(task, 1.0) for task in names])
    facts, asked = facts_of(room), list[Asked]()
    clip = Clip(room.frames, room.indices, room.view.frames, FPS)
    while len(asked) < count:
        task = names[rng.choice(len(names), p=chances / chances.sum())]
        pool = by_task[task]
        if task == "object_counting":
            many = [row for row in pool if row["ground_truth"] != "1"]
            pool = many if many and rng.random() < 0.8 else pool
        row = pool[int(rng.integers(len(pool)))]
        thought = think(row, facts)
        if thought:
            row["video"] = clip  # type: ignore[typeddict-item]
            asked.append((row, thought))
    return asked


class _Told(NamedTuple):
    """A question and its thought in tokens."""

    question: list[int]  # without the chat's opening
    words: list[str]  # of its tokens
    thought: list[int]
    spans: list[tuple[int, int]]  # characters of each token of the thought

    def token_at(self, char: int) -> int:
        """Index of the thought's token that holds a character."""
        return next(k for k, (a, b) in enumerate(self.spans) if a <= char < b)

    def find(self, option: str | None, word: str | None) -> int:
        """Index of the question's token of a word or option, see ``Pointer``."""
        if option is None:
            return next(k for k, text in enumerate(self.words) if text.strip() == word)
        end = self.end_of(option)
        places = range(end, -1, -1)
        return next(k for k in places if word in (None, self.words[k].strip()))

    def end_of(self, option: str) -> int:
        """Index of the last token of an option in the question."""
        text = ""
        for k, word in enumerate(self.words):
            text += word
            if text.endswith("\n" + option):
                return k
        raise SpacerError(
            "option",
            kind="tiny.no-such-option",
            got=option,
            expected=f"one of the question {text!r}",
        )

    def labels(self, thought: Thought, *, video: bool) -> list[int]:
        """Tokens of the thought; -100 where only a video that is absent tells them."""
        hidden = [] if video else thought.told
        return [
            -100 if any(a < end and b > start for start, end in hidden) else token
            for token, (a, b) in zip(self.thought, self.spans, strict=True)
        ]


class Packer:
    """Makes batches of rooms and their demonstrations.

    Parameters
    ----------
    processor : of ``build``
    prefix : Prefix
        Of every prompt; see ``prompt_prefix``.
    """

    def __init__(self, processor: Any, prefix: "Prefix") -> None:
        self.processor, self.prefix = processor, prefix
        self.tokenizer = processor.tokenizer
        opening = self.tokenizer("<|im_start|>user\n", add_special_tokens=False)
        self.opening = len(opening["input_ids"])
        self.first_video_token = self.opening + 1
        self.start = int(prefix.positions[0, -1]) + 1  # text goes on after the video

    def batch(
        self, rooms: Sequence[tuple[ShownRoom, Sequence[Asked]]], *, video: bool
    ) -> Batch:
        """Pack each room's demonstrations into a row; none leave the video alone.

        Without ``video`` a row begins at its first question, and what only the video
        tells carries no loss.
        """
        ids, labels, segments, places = [], [], [], []
        media: list[Mapping[str, Tensor]] = []
        found: dict[int, list[tuple[int, int, list[int]]]] = {k: [] for k in TAUGHT}
        for b, (room, asked) in enumerate(rooms):
            row = list(self.prefix.ids) if video else []
            media += self._media(room) if video else []
            marks, branch = [-100] * len(row), [0] * len(row)
            spots = [self.prefix.positions[:, : len(row)]]
            for k, (question, thought) in enumerate(asked, start=1):
                told = self._told(question, thought)
                base = len(row) + len(told.question)
                for pointer in thought.pointers:
                    right = [base + told.token_at(char) for char in pointer.chars]
                    if pointer.head == VIDEO and video:
                        right += self._showing(room, pointer)
                    if pointer.option is not None or pointer.word is not None:
                        place = told.find(pointer.option, pointer.word)
                        right.append(len(row) + place)
                    if right:
                        at = base + told.token_at(pointer.at) - 1
                        found[pointer.head].append((b, at, right))
                length = len(told.question) + len(told.thought)
                row += told.question + told.thought
                marks += [-100] * len(told.question)
                marks += told.labels(thought, video=video)
                branch += [k] * length
                spots.append((self.start + torch.arange(length)).expand(3, -1))
            ids.append(row)
            labels.append(marks)
            segments.append(branch)
            places.append(torch.cat(spots, dim=1))
        longest = max(map(len, ids))
        segment = pad_batch(segments, -1, "right")[0]
        visible = (segment[:, :, None] == segment[:, None]) | (segment[:, None] == 0)
        return Batch(
            pad_batch(ids, self.tokenizer.pad_token_id, "right")[0],
            pad_batch(labels, -100, "right")[0],
            torch.stack([F.pad(p, (0, longest - p.shape[1])) for p in places], dim=1),
            visible & torch.ones(longest, longest, dtype=torch.bool).tril(),
            join_media(media) if video else {},
            {head: _stacked(some, longest) for head, some in found.items() if some},
            dense_targets([room for room, _ in rooms]) if video else None,
        )

    def _media(self, room: ShownRoom) -> Sequence[Mapping[str, Tensor]]:
        return encode_prompts(self.processor, [_silent(room)], "tiny", SHOWN)[1]

    def _told(self, row: Question, thought: Thought) -> _Told:
        (prompt,), _ = encode_prompts(self.processor, [row], "tiny", SHOWN, blind=True)
        made = self.tokenizer(
            thought.text + self.tokenizer.eos_token,
            add_special_tokens=False,
            return_offsets_mapping=True,
        )
        question = prompt[self.opening :]
        words = self.tokenizer.batch_decode([[token] for token in question])
        return _Told(question, words, made["input_ids"], made["offset_mapping"])

    def _showing(self, room: ShownRoom, pointer: Pointer) -> list[int]:
        """Positions of the video tokens that show a pointer's objects."""
        cells = room.places.cells
        meant = [
            i
            for i, instance in enumerate(room.scene.instances)
            if pointer.category == instance.category
            and (pointer.cell is None or pointer.cell == tuple(cells[i]))
        ]
        everything = pointer.category is None
        shows = np.isin(room.tokens, meant) | everything
        if pointer.view is not None:
            shows[np.arange(len(shows)) != pointer.view] = False
        found: list[int] = np.flatnonzero(shows).tolist()
        return [self.first_video_token + place for place in found]


def _stacked(
    found: Sequence[tuple[int, int, list[int]]], length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, positions, right tokens) of one head, see ``aids.Taught.loss``."""
    right = torch.zeros(len(found), length, dtype=torch.bool)
    for k, (_, _, places) in enumerate(found):
        right[k, places] = True
    rows, at, _ = zip(*found, strict=True)
    return torch.tensor(rows), torch.tensor(at), right


class Passed(NamedTuple):
    """What a forward pass leaves for the losses."""

    states: Tensor  # (B, L, hidden) after the last layer
    features: Tensor | None  # (rooms, tokens, hidden) of the tower
    taught: Taught


def forward(model: Any, batch: Batch) -> Passed:
    """Run packed rows through the stock classes."""
    core = model.model
    embeddings = core.get_input_embeddings()(batch.input_ids)
    features = None
    if batch.media:
        output = core.visual(
            batch.media["pixel_values_videos"], grid_thw=batch.media["video_grid_thw"]
        )
        features = getattr(output, "pooler_output", output)
        where = (batch.input_ids == model.config.video_token_id)[..., None]
        embeddings = embeddings.masked_scatter(where, features)
        features = features.view(len(batch.input_ids), VIDEO_TOKENS, -1)
    mask = batch.visible | torch.eye(batch.visible.shape[1], dtype=torch.bool)
    with Taught(core.language_model.layers) as taught:
        states = core.language_model(
            inputs_embeds=embeddings,
            position_ids=batch.positions,
            attention_mask={"full_attention": mask[:, None]},
            use_cache=False,
        ).last_hidden_state
    return Passed(states, features, taught)


def token_loss(model: Any, states: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled tokens."""
    wanted = labels[:, 1:]
    on = wanted != -100
    return F.cross_entropy(model.lm_head(states[:, :-1][on]), wanted[on])


def video_tokens(batch: Batch, states: Tensor, video_token: int) -> Tensor:
    """(rooms, tokens, hidden) states of the video's positions."""
    where = batch.input_ids == video_token
    return states[where].view(len(states), VIDEO_TOKENS, -1)


def losses(
    model: Any, heads: Heads, batch: Batch, *, pointers: bool, language: bool = True
) -> dict[str, Tensor]:
    """Every loss of a batch, by name."""
    passed = forward(model, batch)
    made: dict[str, Tensor] = {}
    if batch.targets is not None and passed.features is not None:
        hidden = video_tokens(batch, passed.taught.hidden, model.config.video_token_id)
        made |= heads.losses(passed.features, hidden, batch.targets)
    if language:
        made["tokens"] = token_loss(model, passed.states, batch.labels)
        if pointers and batch.pointers:
            made["pointers"] = passed.taught.loss(batch.pointers, batch.visible)
    return made


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class WarmstartConfig:
    """Steps, batches and learning rates; ``rooms`` of a batch share ``questions``.

    Questions with video share its row; without video each has a row of its own:
    ``text_questions`` a room for ``text_steps``, then one.

    ``taught``: whether attention is taught (``aids.Taught``).
    """

    seed: int = 0
    view: str = DEMONSTRATED
    first_room: int = SEEDS["warmstart"]
    vision_steps: int = 800
    vision_rooms: int = 24
    vision_lr: float = 3e-3
    joint_steps: int = 2000
    joint_rooms: int = 8
    joint_questions: int = 3
    joint_lr: float = 2.5e-3
    text_rooms: int = 10
    text_questions: int = 4
    text_steps: int = 1000
    taught: bool = True
    pointer_weight: float = 2.0
    text_weight: float = 0.5
    dense_weight: float = 0.4


# Kinds whose workings are long are asked more often where there is no video.
TEXT_WEIGHTS = {
    "object_counting": 0.5,
    "object_size_estimation": 0.2,
    "room_size_estimation": 0.7,
    "obj_appearance_order": 1.5,
}


class Prefix(NamedTuple):
    """The prompt up to the end of the video: the same of every room.

    Attributes
    ----------
    ids : list of int
    positions : (3, P) int
        Rotary.
    """

    ids: list[int]
    positions: Tensor


def prompt_prefix(processor: Any, model: Any, room: ShownRoom) -> Prefix:
    """The prefix of every prompt, read from that of one room."""
    (prompt,), (media,) = encode_prompts(processor, [_silent(room)], "tiny", SHOWN)
    ids = torch.tensor([prompt])
    grids = {k: v for k, v in media.items() if "grid" in k}
    at, _ = model.model.get_rope_index(ids, token_types(ids, model.config), **grids)
    end = prompt.index(processor.tokenizer.convert_tokens_to_ids("<|vision_end|>")) + 1
    return Prefix(prompt[:end], at[:, 0, :end])


def _silent(room: ShownRoom) -> Question:
    """A row that shows a room and asks nothing."""
    clip = Clip(room.frames, room.indices, room.view.frames, FPS)
    row = {"question": "", "question_type": INSIDE_TASKS[0], "options": None}
    return {**row, "video": clip}  # type: ignore[typeddict-item]


def rooms_from(view: str, first: int) -> Iterator[ShownRoom]:
    """Rooms of consecutive seeds whose objects are all seen."""
    for seed in itertools.count(first):
        room = show(view, seed)
        if room is not None:
            yield room


def first_seed(config: WarmstartConfig, stage: str) -> int:
    """First room seed of a stage; no room is in two stages or runs."""
    part = config.first_room + 1_000_000 * config.seed
    return part + 500_000 * STAGES.index(stage)


class Batches(torch.utils.data.IterableDataset[Any]):
    """Batches of a stage from a step on, made in another process.

    A step's batch depends on the step alone, so a stage can go on where it stopped.
    """

    def __init__(
        self,
        processor: Any,
        prefix: Prefix,
        config: WarmstartConfig,
        stage: str,
        first_step: int,
    ) -> None:
        self.processor, self.prefix = processor, prefix
        self.config, self.stage, self.first_step = config, stage, first_step

    def __iter__(self) -> Iterator[list[Batch]]:
        torch.set_num_threads(1)
        config = self.config
        first = first_seed(config, self.stage)
        packer = Packer(self.processor, self.prefix)
        for step in itertools.count(self.first_step):
            rooms = rooms_from(config.view, first + SEEDS_PER_STEP * step)
            rng = np.random.default_rng([first, step])
            if self.stage == "vision":
                shown = list(itertools.islice(rooms, config.vision_rooms))
                yield [packer.batch([(room, []) for room in shown], video=True)]
                continue
            shown = list(itertools.islice(rooms, config.joint_rooms))
            asked = [(r, ask(r, rng, config.joint_questions, {})) for r in shown]
            again = [shown[k] for k in rng.integers(len(shown), size=config.text_rooms)]
            many = config.text_questions if step < config.text_steps else 1
            texts = [
                (r, [one]) for r in again for one in ask(r, rng, many, TEXT_WEIGHTS)
            ]
            yield [
                packer.batch(asked, video=True),
                packer.batch(texts, video=False),
            ]


def _build(config: WarmstartConfig) -> tuple[Any, Any, Heads]:
    torch.set_num_threads(1)
    processor, model = build(config.seed)
    model = adapt(model)  # the same numbers, a sixth sooner
    return processor, model, Heads(model.config.text_config.hidden_size)


def _batches(
    config: WarmstartConfig, stage: str, processor: Any, model: Any, first_step: int
) -> Iterator[list[Batch]]:
    prefix = prompt_prefix(processor, model, next(rooms_from(config.view, 0)))
    made = Batches(processor, prefix, config, stage, first_step)
    return stages.in_background(made, ahead=6)


def _train(
    config: WarmstartConfig,
    stage: str,
    parts: Mapping[str, torch.nn.Module],
    losses_from: Callable[[int], Iterator[dict[str, Tensor]]],
    out_dir: Path,
    weights: Mapping[str, float],
) -> None:
    stages.train(
        stage,
        [weight for part in parts.values() for weight in part.parameters()],
        losses_from,
        out_dir,
        steps=getattr(config, f"{stage}_steps"),
        lr=getattr(config, f"{stage}_lr"),
        ramp=40,
        weights=weights,
    )


def train_vision(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 1, the dense targets alone; writes ``vision.pt``."""
    processor, model, heads = _build(config)

    def losses_from(step: int) -> Iterator[dict[str, Tensor]]:
        for (shown,) in _batches(config, "vision", processor, model, step):
            yield losses(model, heads, shown, pointers=False, language=False)

    parts = {"model": model, "heads": heads}
    _train(config, "vision", parts, losses_from, out_dir, WEIGHTS)
    stages.save_weights(out_dir / "vision.pt", parts)


def train_joint(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 2, all losses; writes the model folder ``model/`` with its processor."""
    processor, model, heads = _build(config)
    parts = {"model": model, "heads": heads}
    stages.load_weights(parts, out_dir / "vision.pt")
    model.tie_weights()
    taught = config.taught

    def losses_from(step: int) -> Iterator[dict[str, Tensor]]:
        for shown, told in _batches(config, "joint", processor, model, step):
            made = losses(model, heads, shown, pointers=taught)
            text = losses(model, heads, told, pointers=taught)
            yield made | {f"text_{name}": loss for name, loss in text.items()}

    weights = {name: config.dense_weight * w for name, w in WEIGHTS.items()}
    weights |= {"pointers": config.pointer_weight, "text_tokens": config.text_weight}
    weights["text_pointers"] = config.pointer_weight
    _train(config, "joint", parts, losses_from, out_dir, weights)
    stages.save_model(out_dir / "model", model, processor)


def run(
    out_dir: PathLike,
    config: WarmstartConfig = WarmstartConfig(),
    evaluate: Callable[[Path], Any] | None = None,
) -> Path:
    """Both stages into ``out_dir``, see ``stages.run_chain``."""
    return stages.run_chain(
        out_dir,
        config,
        {"vision.pt": train_vision, "model": train_joint},
        about={"first_room_seeds": {s: first_seed(config, s) for s in STAGES}},
        evaluate=evaluate,
    )
