"""The tiny model's warm start: vision, reasoning from maps, then both together.

Four stages, each with its own new rooms; a finished stage is not repeated:

1. *vision*: a linear head on every video token predicts category and cell. It replaces
   the pretrained vision tower of a published checkpoint;
2. *text*: map → computation → answer without video: the language model learns to look
   up coordinates and to calculate;
3. *align*: video → map alone, tower frozen: the language model learns to read video
   tokens in short sequences (without it, stage 4 does not use the video: LOG.md);
4. *joint*: supervised fine-tuning on video → map → answer, with the vision loss.

Stages 1 and 2 train different weights and run at the same time. Departure from SpaceR:
the paper starts from an instruction-tuned 7B model and needs none of this.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from spacer_lib.artifacts import PathLike
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.models.inputs import encode_prompts, join_media, pad_batch, token_types
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.layout import STYLES, draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.rooms.video import read_frames
from spacer_lib.rows import CognitiveMap, Question
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny import stages
from spacer_lib.tiny.curriculum import SEEDS, draw_row, tokenizer_corpus
from spacer_lib.tiny.demonstrations import demonstrate
from spacer_lib.tiny.stages import Losses

CATEGORIES = STYLES["dollhouse"].categories
GRID = 10
VIDEO = VideoSettings(tiny.FRAME_COUNT, tiny.FRAME_SIZE)
# First room of each stage, counted from SEEDS["warmstart"].
STAGE_OFFSETS = {
    "vision": 0,
    "text": 1_000_000,
    "joint": 2_000_000,
    "align": 3_000_000,
}
STAGES = tuple(STAGE_OFFSETS)

Shown = tuple[Question, str]  # a row and the completion to imitate


@dataclass(frozen=True)
class WarmstartConfig:
    """Steps, batches and learning rates of the four stages."""

    seed: int = 0
    view: str = "seen"
    vision_steps: int = 1300
    vision_batch: int = 32
    vision_lr: float = 3e-3
    text_steps: int = 1400
    text_batch: int = 48
    text_lr: float = 2e-3
    align_steps: int = 1500
    align_batch: int = 16
    align_lr: float = 3e-3
    joint_steps: int = 350
    joint_batch: int = 32
    joint_lr: float = 1e-3
    vision_weight: float = 0.05  # of the vision loss (per room) in the joint stage


def first_seed(config: WarmstartConfig, stage: str) -> int:
    """First room seed of a stage; no room is in two stages or runs."""
    return SEEDS["warmstart"] + STAGE_OFFSETS[stage] + 200_000 * config.seed


# ---------------------------------------------------------------- batches


class Stream(torch.utils.data.IterableDataset[Any]):
    """Batches made from consecutive room seeds.

    Parameters
    ----------
    first : int
        First room seed.
    batch : int
        Items in a batch.
    make : callable
        Seed → item, or None to leave the seed out.
    collate : callable
        Items → batch.
    length : callable, optional
        Items of a pool of batches are sorted by it before they are cut into batches,
        so that short questions are not padded to the longest.
    pool : int
        Batches in a pool.
    """

    def __init__(
        self,
        first: int,
        batch: int,
        make: Callable[[int], Any],
        collate: Callable[[list[Any]], Any],
        length: Callable[[Any], int] | None = None,
        pool: int = 8,
    ) -> None:
        self.first, self.batch = first, batch
        self.make, self.collate, self.length, self.pool = make, collate, length, pool

    def __iter__(self) -> Iterator[Any]:
        seed, rng = self.first, np.random.default_rng(self.first)
        while True:
            items: list[Any] = []
            while len(items) < self.batch * (self.pool if self.length else 1):
                item = self.make(seed)
                seed += 1
                if item is not None:
                    items.append(item)
            if self.length:
                items.sort(key=self.length)
            batches = [
                items[i : i + self.batch] for i in range(0, len(items), self.batch)
            ]
            for index in rng.permutation(len(batches)):
                yield self.collate(batches[index])


def room_cells(
    view: str, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Frames of a room and its ``cell_grid``: input and target of the vision stage."""
    source = video_uri(view, seed)
    frames, *_ = read_frames(source, VIDEO.frames, VIDEO.size)
    room = draw_room(seed, VIEWS[view].style)
    return frames, cell_grid(rasterize(to_scene(room, with_boxes=False), GRID))


def cell_grid(cells: CognitiveMap) -> npt.NDArray[np.float32]:
    """Map → (categories, 2, 10): 1 for columns and rows with the category."""
    grid = np.zeros((len(CATEGORIES), 2, GRID), np.float32)
    for name, spots in cells.items():
        for x, y in spots:
            grid[CATEGORIES.index(name), 0, x] = 1
            grid[CATEGORIES.index(name), 1, y] = 1
    return grid


def demonstration(view: str, seed: int) -> Shown | None:
    """(row, completion), or ``None`` if the answer computed from cells is wrong."""
    row = draw_row(seed, view, exact_boxes=False)
    completion = demonstrate(row) if row else None
    return (row, completion) if row and completion else None


def caption(view: str, seed: int) -> Shown:
    """(row without a question, completion with the map alone)."""
    room = draw_room(seed, VIEWS[view].style)
    cells = rasterize(to_scene(room, with_boxes=False), GRID)
    names = list(cells)
    np.random.default_rng(seed).shuffle(names)  # questions need any order
    row: Question = {
        "id": f"caption:{seed}",
        "problem_type": "",
        "ground_truth": "",
        "question": "",
        "options": None,
        "video": video_uri(view, seed),
    }
    return row, f"<think><map>{map_to_text(cells, last=names)}</map>"


def encode(processor: Any, items: Sequence[Shown], *, video: bool) -> dict[str, Any]:
    """Rows and completions → model inputs; the loss covers the response only.

    Without video the cells of the map are unknown, so their digits have no loss.
    """
    tokenizer = processor.tokenizer
    map_end = tokenizer.convert_tokens_to_ids("</map>")
    digits = set(tokenizer.convert_tokens_to_ids(list("0123456789")))
    rows = [row for row, _ in items]
    prompts, media = encode_prompts(processor, rows, "tiny", VIDEO, blind=not video)
    sequences, targets = [], []
    for prompt, (_, completion) in zip(prompts, items, strict=True):
        text = completion + tokenizer.eos_token
        response = tokenizer(text, add_special_tokens=False)["input_ids"]
        labels = list(response)
        if not video:
            for i in range(response.index(map_end)):
                if response[i] in digits:
                    labels[i] = -100
        sequences.append(prompt + response)
        targets.append([-100] * len(prompt) + labels)
    input_ids, attention_mask = pad_batch(sequences, tokenizer.pad_token_id, "right")
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": pad_batch(targets, -100, "right")[0],
        **join_media(media),
    }


def encode_with_targets(
    processor: Any, items: Sequence[Shown]
) -> tuple[dict[str, Any], Tensor]:
    """Demonstrations → model inputs, and the vision targets of the same rooms."""
    grids = np.stack([cell_grid(row["map"] or {}) for row, _ in items])
    return encode(processor, items, video=True), torch.from_numpy(grids)


def _length(item: Shown) -> int:
    row, completion = item
    return len(completion) + len(row["question"])


# ---------------------------------------------------------------- vision loss


class MapHead(torch.nn.Linear):
    """Logits of (category, column) and (category, row) for every video token.

    The logits of a room are their logsumexp over tokens. Columns and rows are separate,
    since a map is written digit by digit: with one output per cell the language model
    could hardly read the features (LOG.md).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, len(CATEGORIES) * 2 * GRID)
        size = tiny.FRAME_SIZE
        tokens = VIDEO.frames // tiny.TEMPORAL * (size // tiny.PATCH // 2) ** 2
        with torch.no_grad():  # start at the prior: about five objects in a room
            self.weight.mul_(0.5)
            self.bias.fill_(math.log(10 / self.out_features / tokens))

    def room_logits(self, features: Tensor, rooms: int) -> Tensor:
        """(tokens of all rooms, hidden) → (rooms, categories, 2, 10)."""
        logits = self(features.view(rooms, -1, self.in_features))
        return logits.logsumexp(dim=1).view(rooms, len(CATEGORIES), 2, GRID)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy, summed over cells, mean over rooms.

        ``target``: (rooms, categories, 2, 10), see ``cell_grid``.
        """
        logits = self.room_logits(features, len(target))
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return loss / len(target)


def _features(output: Any) -> Tensor:
    features: Tensor = getattr(output, "pooler_output", output)
    return features


def _video_features(tower: Any, encoded: Any) -> Tensor:
    pixels, grid = encoded["pixel_values_videos"], encoded["video_grid_thw"]
    return _features(tower(pixels, grid_thw=grid))


def _pixels(processor: Any, frames: Iterable[npt.NDArray[np.uint8]]) -> Any:
    frames = list(frames)
    return processor.video_processor(
        videos=[torch.from_numpy(f).permute(0, 3, 1, 2) for f in frames],
        do_sample_frames=False,
        return_tensors="pt",
        video_metadata=[{"total_num_frames": len(f), "fps": 1.0} for f in frames],
    )


# ---------------------------------------------------------------- stages


def _train(
    config: WarmstartConfig,
    stage: str,
    parameters: Iterable[torch.nn.Parameter],
    loss_at: Callable[[int], Losses],
    out_dir: Path,
) -> None:
    steps, lr = getattr(config, f"{stage}_steps"), getattr(config, f"{stage}_lr")
    stages.train(stage, parameters, loss_at, out_dir, steps=steps, lr=lr)


def _build(config: WarmstartConfig) -> tuple[Any, Any, MapHead]:
    """Processor, model and vision head, initialised from the seed."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    tokenizer = tiny.build_tokenizer(tokenizer_corpus())
    processor, model = tiny.build_processor(tokenizer), tiny.build_model(tokenizer)
    return processor, model, MapHead(model.config.text_config.hidden_size)


def _texts(config: WarmstartConfig, processor: Any, stage: str) -> Iterator[Any]:
    """Batches of demonstrations without video, beside the stage's own batches."""
    return stages.in_background(
        Stream(
            first_seed(config, stage) + 100_000,
            config.joint_batch,
            functools.partial(demonstration, config.view),
            functools.partial(encode, processor, video=False),
            _length,
        )
    )


def train_vision(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 1; writes ``vision.pt`` (tower and head)."""
    processor, model, head = _build(config)
    tower = model.model.visual
    batches = stages.in_background(
        Stream(
            first_seed(config, "vision"),
            config.vision_batch,
            functools.partial(room_cells, config.view),
            list,
        )
    )

    def loss_at(step: int) -> Losses:
        frames, targets = zip(*next(batches), strict=True)
        features = _video_features(tower, _pixels(processor, frames))
        target = torch.from_numpy(np.stack(targets))
        return {"vision": head.loss(features, target)}

    parameters = [*tower.parameters(), *head.parameters()]
    _train(config, "vision", parameters, loss_at, out_dir)
    stages.save_weights(out_dir / "vision.pt", {"tower": tower, "head": head})


def train_text(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 2; writes ``text.pt`` (language model)."""
    processor, model, _ = _build(config)
    batches = stages.in_background(
        Stream(
            first_seed(config, "text"),
            config.text_batch,
            functools.partial(demonstration, config.view),
            functools.partial(encode, processor, video=False),
            _length,
        )
    )

    def loss_at(step: int) -> Losses:
        return {"text": model(**next(batches)).loss}

    language_model = model.model.language_model
    _train(config, "text", language_model.parameters(), loss_at, out_dir)
    stages.save_weights(out_dir / "text.pt", {"language_model": language_model})


def train_align(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 3; writes ``align.pt`` (tower, head, language model)."""
    processor, model, head = _build(config)
    parts = _parts(model, head)
    stages.load_weights(parts, out_dir / "vision.pt", out_dir / "text.pt")
    model.tie_weights()
    _match_scale(model, head, processor, config)
    model.model.visual.requires_grad_(False)
    captions = stages.in_background(
        Stream(
            first_seed(config, "align"),
            config.align_batch,
            functools.partial(caption, config.view),
            functools.partial(encode, processor, video=True),
            _length,
        )
    )
    texts = _texts(config, processor, "align")

    def loss_at(step: int) -> Losses:
        inputs = next(captions)
        types = token_types(inputs["input_ids"], model.config)
        losses = {"align": model(**inputs, mm_token_type_ids=types).loss}
        if step % 4 == 0:  # otherwise the model forgets stage 2
            losses["text"] = 0.5 * model(**next(texts)).loss
        return losses

    parameters = model.model.language_model.parameters()
    _train(config, "align", parameters, loss_at, out_dir)
    stages.save_weights(out_dir / "align.pt", parts)


def train_joint(config: WarmstartConfig, out_dir: Path) -> None:
    """Stage 4; writes the model folder ``model/`` with its processor."""
    processor, model, head = _build(config)
    stages.load_weights(_parts(model, head), out_dir / "align.pt")
    model.tie_weights()
    shown: dict[str, Tensor] = {}
    model.model.visual.register_forward_hook(
        lambda module, args, output: shown.update(features=_features(output))
    )
    videos = stages.in_background(
        Stream(
            first_seed(config, "joint"),
            config.joint_batch,
            functools.partial(demonstration, config.view),
            functools.partial(encode_with_targets, processor),
            _length,
        )
    )
    texts = _texts(config, processor, "joint")

    def loss_at(step: int) -> Losses:
        inputs, target = next(videos)
        types = token_types(inputs["input_ids"], model.config)
        losses = {"joint": model(**inputs, mm_token_type_ids=types).loss}
        losses["vision"] = config.vision_weight * head.loss(shown["features"], target)
        if step % 2 == 0:
            losses["text"] = 0.5 * model(**next(texts)).loss
        return losses

    parameters = [*model.parameters(), *head.parameters()]
    _train(config, "joint", parameters, loss_at, out_dir)
    stages.save_model(out_dir / "model", model, processor)


def _match_scale(
    model: Any, head: MapHead, processor: Any, config: WarmstartConfig
) -> None:
    """Give video tokens the mean and size of word embeddings.

    After stage 1 features are about twenty times longer than embeddings, around a large
    common vector; what layers add to such tokens has no effect. The tower's last linear
    layer takes the shift and scale, and the head inverts them: its output is the same.
    """
    first = first_seed(config, "vision")
    pixels = _pixels(
        processor, [room_cells(config.view, first + i)[0] for i in range(64)]
    )
    last = model.model.visual.merger.mlp[-1]
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        features = _video_features(model.model.visual, pixels)
        mean = features.mean(dim=0)
        scale = (features - mean).norm(dim=1).mean() / words.norm(dim=1).mean()
        head.bias.add_(head.weight @ mean)
        head.weight.mul_(scale)
        last.bias.sub_(mean).div_(scale)
        last.weight.div_(scale)


def _parts(model: Any, head: MapHead) -> dict[str, torch.nn.Module]:
    return {
        "tower": model.model.visual,
        "head": head,
        "language_model": model.model.language_model,
    }


# ---------------------------------------------------------------- the chain


def run(
    out_dir: PathLike,
    config: WarmstartConfig = WarmstartConfig(),
    evaluate: Callable[[Path], Any] | None = None,
) -> Path:
    """All stages into ``out_dir``, see ``stages.run_chain``."""
    return stages.run_chain(
        out_dir,
        config,
        [
            {"vision.pt": train_vision, "text.pt": train_text},
            {"align.pt": train_align},
            {"model": train_joint},
        ],
        about={"first_room_seeds": {s: first_seed(config, s) for s in STAGES}},
        evaluate=evaluate,
    )
