"""The warm start of the view from inside: vision, then video → thought → answer.

Two stages. *vision*: the tower and the language model's first layers learn the dense
targets of ``aids``. *joint*: supervised fine-tuning on demonstrations of all kinds of
question, several about each room behind one video, with both training aids; and the
same without video, where everything that only the video tells carries no loss.
"""

import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from spacer_lib.models.inputs import Clip, encode_prompts, join_media, pad_batch
from spacer_lib.questions.generators import Rules, question_rows
from spacer_lib.rooms.frames import FPS
from spacer_lib.rows import Question
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.aids import (
    CATEGORIES,
    MAP_LAYERS,
    Heads,
    Taught,
    dense_targets,
    weighted,
)
from spacer_lib.tiny.shown import SHOWN, ShownRoom, show
from spacer_lib.tiny.thoughts import INSIDE_TASKS, Thought, facts_of, think

INSIDE_RULES = Rules(
    min_count=1,
    abs_distance="exact",
    rel_distance_options=3,
    rel_distance_margin_m=0.3,
    direction_border_deg=15.0,
    direction_min_m=0.8,
    direction_max_m=12.0,
    shuffle_options=False,
)
SIZES = {"layers": 4, "vision_depth": 2, "temporal": 1, "tokens_per_second": 1}
VIDEO_TOKENS = 128

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
        for room in filter(None, [show("turn", seed)]):
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


def _word_at(offsets: Sequence[tuple[int, int]], char: int) -> int:
    """Index of the token that holds a character."""
    return next(k for k, (a, b) in enumerate(offsets) if a <= char < b)


def encode(
    processor: Any,
    rooms: Sequence[tuple[ShownRoom, Sequence[Asked]]],
    positions_of_video: Tensor,
    *,
    video: bool,
) -> Batch:
    """Rooms and their demonstrations → ``Batch``.

    Parameters
    ----------
    positions_of_video : (3, P) int
        Rotary positions up to the end of the video.
    video : bool
        Without, rows begin at the questions, and what only the video tells carries no
        loss.
    """
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|vision_end|>")
    start = int(positions_of_video[0, -1]) + 1  # text goes on after the video
    ids, labels, places, segments = [], [], [], []
    media: list[dict[str, Tensor]] = []
    points: dict[int, list[tuple[int, int, list[int]]]] = {0: [], 1: [], 2: []}
    for b, (room, asked) in enumerate(rooms):
        prefix: list[int] = []
        if video:
            (prompt,), shown = encode_prompts(processor, [asked[0][0]], "tiny", SHOWN)
            prefix = prompt[: prompt.index(end) + 1]
            media += shown
        row_ids, row_labels = list(prefix), [-100] * len(prefix)
        row_places = [positions_of_video] if video else []
        row_segments = [0] * len(prefix)
        first = (
            prefix.index(tokenizer.convert_tokens_to_ids("<|video_pad|>"))
            if video
            else 0
        )
        tokens = room.tokens.reshape(len(room.frames), -1)
        cells = room.places().cells
        names = [i.category for i in room.scene.instances]
        for k, (row, thought) in enumerate(asked, start=1):
            (blind,), _ = encode_prompts(processor, [row], "tiny", SHOWN, blind=True)
            opening = tokenizer("<|im_start|>user\n", add_special_tokens=False)
            head = blind[len(opening["input_ids"]) :]
            told = tokenizer(
                thought.text + tokenizer.eos_token,
                add_special_tokens=False,
                return_offsets_mapping=True,
            )
            response, offsets = told["input_ids"], told["offset_mapping"]
            marks = list(response)
            if not video:
                for a, z in thought.told:
                    for t, (left, right) in enumerate(offsets):
                        if left < z and right > a:
                            marks[t] = -100
            base = len(row_ids) + len(head)
            for pointer in thought.pointers:
                right: list[int] = [
                    base + _word_at(offsets, char) for char in pointer.chars
                ]
                if pointer.category is not None and video:
                    on = [
                        i
                        for i, name in enumerate(names)
                        if name == pointer.category
                        and (pointer.cell is None or pointer.cell == tuple(cells[i]))
                    ]
                    frames = (
                        range(len(tokens)) if pointer.view is None else [pointer.view]
                    )
                    right += [
                        first + 16 * f + t
                        for f in frames
                        for t in np.flatnonzero(np.isin(tokens[f], on))
                    ]
                if pointer.option is not None:
                    right += [_end_of(tokenizer, head, pointer.option, len(row_ids))]
                if right:
                    at = base + _word_at(offsets, pointer.at) - 1
                    points[pointer.head].append((b, at, right))
            length = len(head) + len(response)
            row_ids += head + response
            row_labels += [-100] * len(head) + marks
            row_segments += [k] * length
            row_places.append((start + torch.arange(length)).expand(3, -1))
        ids.append(row_ids)
        labels.append(row_labels)
        segments.append(row_segments)
        places.append(torch.cat(row_places, dim=1))
    longest = max(map(len, ids))
    segment = pad_batch(segments, -1, "right")[0]
    visible = (segment[:, :, None] == segment[:, None]) | (segment[:, None] == 0)
    visible &= torch.ones(longest, longest, dtype=torch.bool).tril()
    return Batch(
        pad_batch(ids, tokenizer.pad_token_id, "right")[0],
        pad_batch(labels, -100, "right")[0],
        torch.stack([F.pad(p, (0, longest - p.shape[1])) for p in places], dim=1),
        visible,
        join_media(media) if video else {},
        {head: _stacked(found, longest) for head, found in points.items() if found},
        dense_targets([room for room, _ in rooms]) if video else None,
    )


def _end_of(tokenizer: Any, head: Sequence[int], option: str, before: int) -> int:
    """Position of the last word of an option in a prompt's tokens."""
    text, end = "", None
    for k, token in enumerate(head):
        text += tokenizer.decode([token])
        if end is None and text.rstrip("\n").endswith("\n" + option):
            end = k
    assert end is not None
    return before + end


def _stacked(
    found: Sequence[tuple[int, int, list[int]]], length: int
) -> tuple[Tensor, Tensor, Tensor]:
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
    with Taught(core.language_model.layers[MAP_LAYERS]) as taught:
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
class InsideConfig:
    """Steps, batches and learning rates; ``rooms`` of a batch share ``questions``."""

    seed: int = 0
    view: str = "turn"
    first_room: int = 20_000_000
    vision_steps: int = 600
    vision_rooms: int = 24
    vision_lr: float = 3e-3
    joint_steps: int = 1400
    joint_rooms: int = 8
    joint_questions: int = 3
    joint_lr: float = 2.5e-3
    text_packs: int = 10
    text_questions: int = 4
    pointer_weight: float = 0.5
    text_weight: float = 0.5
    dense_weight: float = 0.2


# Kinds whose workings are long are asked more often where there is no video.
TEXT_WEIGHTS = {
    "object_counting": 0.5,
    "object_size_estimation": 0.2,
    "room_size_estimation": 0.7,
    "obj_appearance_order": 1.5,
}


def prompt_positions(processor: Any, model: Any, room: ShownRoom) -> Tensor:
    """(3, P) rotary positions of the prompt up to the end of the video."""
    from spacer_lib.models.inputs import token_types

    row = ask(room, np.random.default_rng(0), 1, {})[0][0]
    (prompt,), (media,) = encode_prompts(processor, [row], "tiny", SHOWN)
    ids = torch.tensor([prompt])
    grids = {k: v for k, v in media.items() if "grid" in k}
    positions, _ = model.model.get_rope_index(
        ids, token_types(ids, model.config), **grids
    )
    end = processor.tokenizer.convert_tokens_to_ids("<|vision_end|>")
    made: Tensor = positions[:, 0, : prompt.index(end) + 1]
    return made


def rooms_from(view: str, first: int) -> Iterator[ShownRoom]:
    """Rooms of consecutive seeds whose objects are all seen."""
    for seed in itertools.count(first):
        room = show(view, seed)
        if room is not None:
            yield room


class Batches(torch.utils.data.IterableDataset[Any]):
    """Batches of a stage, made in another process."""

    def __init__(
        self, processor: Any, positions: Tensor, config: InsideConfig, stage: str
    ) -> None:
        self.processor, self.positions = processor, positions
        self.config, self.stage = config, stage

    def __iter__(self) -> Iterator[list[Batch]]:
        torch.set_num_threads(1)
        config = self.config
        first = config.first_room + 1_000_000 * config.seed
        first += 500_000 if self.stage == "joint" else 0
        rooms = rooms_from(config.view, first)
        rng = np.random.default_rng([first, 5])
        make = functools.partial(encode, self.processor)
        while True:
            if self.stage == "vision":
                shown = list(itertools.islice(rooms, config.vision_rooms))
                asked = [(room, ask(room, rng, 1, {})) for room in shown]
                yield [make(asked, self.positions, video=True)]
                continue
            shown = list(itertools.islice(rooms, config.joint_rooms))
            asked = [(r, ask(r, rng, config.joint_questions, {})) for r in shown]
            again = [shown[k] for k in rng.integers(len(shown), size=config.text_packs)]
            texts = [
                (r, ask(r, rng, config.text_questions, TEXT_WEIGHTS)) for r in again
            ]
            yield [
                make(asked, self.positions, video=True),
                make(texts, self.positions, video=False),
            ]


def _same(items: Any) -> Any:
    return items


def train(
    model: Any,
    heads: Heads,
    processor: Any,
    config: InsideConfig,
    stage: str,
    log: Path,
    *,
    pointers: bool = True,
    each: Callable[[int], None] | None = None,
) -> None:
    """One stage; a line of mean losses every 50 steps goes to ``log``."""
    steps, lr = getattr(config, f"{stage}_steps"), getattr(config, f"{stage}_lr")
    room = next(rooms_from(config.view, 0))
    positions = prompt_positions(processor, model, room)
    loader = torch.utils.data.DataLoader(
        Batches(processor, positions, config, stage),
        batch_size=None,
        num_workers=1,
        prefetch_factor=6,
        collate_fn=_same,
    )
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    history: list[dict[str, float]] = []
    cpu = time.process_time()
    for step, batches in zip(tqdm(range(steps), desc=stage), loader):
        ramp = min(1.0, (step + 1) / 40)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * ramp * (0.03 + 0.97 * cosine)
        made = losses(
            model, heads, batches[0], pointers=pointers, language=stage == "joint"
        )
        dense = {k: v for k, v in made.items() if k not in ("tokens", "pointers")}
        scale = config.dense_weight if stage == "joint" else 1.0
        total = scale * weighted(dense)
        if stage == "joint":
            total = total + made["tokens"]
            if pointers:
                total = total + config.pointer_weight * made["pointers"]
            text = losses(model, heads, batches[1], pointers=pointers)
            made |= {f"text_{k}": v for k, v in text.items()}
            total = total + config.text_weight * text["tokens"]
            if pointers:
                total = total + config.pointer_weight * text["pointers"]
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        history.append({k: float(v.detach()) for k, v in made.items()})
        if (step + 1) % 50 == 0 or step + 1 == steps:
            recent = history[-50:]
            means = {k: round(sum(h[k] for h in recent) / len(recent), 3) for k in made}
            line = {"stage": stage, "step": step + 1, **means}
            line["cpu_seconds"] = round(time.process_time() - cpu, 1)
            with open(log, "a") as file:
                file.write(json.dumps(line) + "\n")
            if each:
                each(step + 1)
