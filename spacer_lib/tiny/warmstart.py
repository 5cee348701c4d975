"""The tiny model's warm start: see, then reason from maps, then both at once.

Four stages, each resumable and each with its own fresh rooms:

1. *vision*: a linear head on every video token names category and cell; stands in for
   the pretrained vision tower that a published checkpoint brings along;
2. *text*: map → computation → answer without video: the language model learns to look
   coordinates up and calculate;
3. *align*: video → map alone, tower frozen: the language model learns to read video
   tokens in short, cheap sequences (without it, stage 4 stays blind: LOG.md);
4. *joint*: supervised fine-tuning on video → map → answer, the vision loss kept on.

Stages 1 and 2 train disjoint weights and run side by side. Departure from SpaceR: the
paper starts from an instruction-tuned 7B model and needs none of this.
"""

import json
import math
import multiprocessing
import shutil
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from spacer_lib.artifacts import (
    atomic_path,
    config_hash,
    make_folder,
    provenance,
    read_json,
    read_jsonl,
    write_json,
)
from spacer_lib.errors import SpacerError
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.models.inputs import (
    encode_prompts,
    join_media,
    pad_batch,
    token_types,
)
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.layout import STYLES, draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.rooms.video import read_frames
from spacer_lib.tiny import model as tiny
from spacer_lib.tiny.curriculum import SEEDS, draw_row, tokenizer_corpus
from spacer_lib.tiny.demonstrations import demonstrate

CATEGORIES = STYLES["dollhouse"].categories
GRID = 10
VIDEO = VideoSettings(tiny.FRAME_COUNT, tiny.FRAME_SIZE)
# Where the rooms of each stage start, after SEEDS["warmstart"].
STAGE_OFFSETS = {
    "vision": 0,
    "text": 1_000_000,
    "joint": 2_000_000,
    "align": 3_000_000,
}
STAGES = tuple(STAGE_OFFSETS)


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
    vision_weight: float = 0.05  # of the vision loss (per room) beside the token loss


def first_seed(config, stage):
    """First room seed of a stage; stages and runs never share rooms."""
    return SEEDS["warmstart"] + STAGE_OFFSETS[stage] + 200_000 * config.seed


# ---------------------------------------------------------------- data streams


class Stream(torch.utils.data.IterableDataset):
    """Batches made from consecutive room seeds; ``make(seed)`` may return ``None``.

    A pool of batches is sorted by length before it is cut, so that short questions
    are not padded to the longest.
    """

    def __init__(self, first, batch, make, collate, length=None, pool=8):
        self.first, self.batch = first, batch
        self.make, self.collate, self.length, self.pool = make, collate, length, pool

    def __iter__(self):
        seed, rng = self.first, np.random.default_rng(self.first)
        while True:
            items = []
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


def _loader(stream):
    return iter(
        torch.utils.data.DataLoader(
            stream,
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
            collate_fn=_no_collate,
        )
    )


def _no_collate(items):
    return items


class RoomCells:
    """Seed → (frames, target): what the vision stage sees and has to say."""

    def __init__(self, view):
        self.view = view

    def __call__(self, seed):
        source = video_uri(self.view, seed)
        frames, *_ = read_frames(source, VIDEO.frames, VIDEO.size)
        room = draw_room(seed, VIEWS[self.view].style)
        return frames, cell_grid(rasterize(to_scene(room, with_boxes=False), GRID))


def cell_grid(cells):
    """Map → (categories, 2, 10) float32: which columns and rows hold the category."""
    grid = np.zeros((len(CATEGORIES), 2, GRID), np.float32)
    for name, spots in cells.items():
        for x, y in spots:
            grid[CATEGORIES.index(name), 0, x] = 1
            grid[CATEGORIES.index(name), 1, y] = 1
    return grid


class Demonstrations:
    """Seed → (row, completion) whose computed answer is right, or ``None``."""

    def __init__(self, view):
        self.view = view

    def __call__(self, seed):
        row = draw_row(seed, self.view, exact_boxes=False)
        completion = demonstrate(row) if row else None
        return (row, completion) if completion else None


class Encode:
    """Rows and completions → model inputs; loss on the response only.

    Without video the map's cells cannot be known, so their digits carry no loss.
    """

    def __init__(self, processor, with_video):
        self.processor, self.with_video = processor, with_video
        tokenizer = processor.tokenizer
        self.map_end = tokenizer.convert_tokens_to_ids("</map>")
        self.digits = set(tokenizer.convert_tokens_to_ids(list("0123456789")))

    def __call__(self, items):
        tokenizer = self.processor.tokenizer
        rows = [row for row, _ in items]
        prompts, media = encode_prompts(
            self.processor, rows, "tiny", VIDEO, blind=not self.with_video
        )
        sequences, targets = [], []
        for prompt, (_, completion) in zip(prompts, items, strict=True):
            text = completion + tokenizer.eos_token
            response = tokenizer(text, add_special_tokens=False)["input_ids"]
            labels = list(response)
            if not self.with_video:
                for i in range(response.index(self.map_end)):
                    if response[i] in self.digits:
                        labels[i] = -100
            sequences.append(prompt + response)
            targets.append([-100] * len(prompt) + labels)
        input_ids, attention_mask = pad_batch(
            sequences, tokenizer.pad_token_id, "right"
        )
        labels, _ = pad_batch(targets, -100, "right")
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "labels": labels,
            **join_media(media),
        }


def _length(item):
    row, completion = item
    return len(completion) + len(row["question"])


# ---------------------------------------------------------------- losses


class MapHead(torch.nn.Linear):
    """Per-token logits of (category, column) and (category, row); a room's are their
    logsumexp over tokens.

    Columns and rows apart, because a map is written digit by digit: with one output
    per cell the language model could hardly read the features (LOG.md).
    """

    def __init__(self, hidden):
        super().__init__(hidden, len(CATEGORIES) * 2 * GRID)
        tokens = VIDEO.frames // tiny.TEMPORAL * (VIDEO.size // tiny.PATCH // 2) ** 2
        with torch.no_grad():  # start at the prior: five objects somewhere in a room
            self.weight.mul_(0.5)
            self.bias.fill_(math.log(10 / self.out_features / tokens))

    def room_logits(self, features, rooms):
        logits = self(features.view(rooms, -1, self.in_features))
        return logits.logsumexp(dim=1).view(rooms, len(CATEGORIES), 2, GRID)

    def loss(self, features, target):
        """Binary cross-entropy summed over cells, averaged over rooms."""
        logits = self.room_logits(features, len(target))
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return loss / len(target)


def _features(output):
    return output.pooler_output if hasattr(output, "pooler_output") else output


def _pixels(processor, frames):
    videos = [torch.from_numpy(f).permute(0, 3, 1, 2) for f in frames]
    return processor.video_processor(
        videos=videos,
        do_sample_frames=False,
        return_tensors="pt",
        video_metadata=[{"total_num_frames": len(f), "fps": 1.0} for f in frames],
    )


def _targets(items):
    return torch.from_numpy(np.stack([target for _, target in items]))


# ---------------------------------------------------------------- stages


class _Trainer:
    """AdamW, warm-up and cosine, metrics file and progress: one loop for all."""

    def __init__(self, parameters, lr, steps, out_dir, stage):
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.lr, self.steps, self.stage, self.out_dir = lr, steps, stage, out_dir

    def run(self, loss_at):
        history, start = [], time.perf_counter()
        bar = tqdm(range(self.steps), desc=f"warm start: {self.stage}", mininterval=5)
        for step in bar:
            ramp = min(1.0, (step + 1) / 50)
            cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * ramp * (0.03 + 0.97 * cosine)
            losses = loss_at(step)
            self.optimizer.zero_grad()
            sum(losses.values()).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            history.append({name: float(v.detach()) for name, v in losses.items()})
            if (step + 1) % 50 == 0 or step + 1 == self.steps:
                recent = history[-50:]
                means = {
                    k: round(
                        sum(r[k] for r in recent if k in r)
                        / max(1, sum(k in r for r in recent)),
                        4,
                    )
                    for k in sorted({k for r in recent for k in r})
                }
                bar.set_postfix(means)
                line = {
                    "stage": self.stage,
                    "step": step + 1,
                    **means,
                    "seconds": round(time.perf_counter() - start, 1),
                }
                with open(self.out_dir / "metrics.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")


def _build(config):
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    tokenizer = tiny.build_tokenizer(tokenizer_corpus())
    return tiny.build_processor(tokenizer), tiny.build_model(tokenizer)


def train_vision(config, out_dir):
    """Stage 1; writes ``vision.pt`` (tower and head)."""
    processor, model = _build(config)
    tower, head = model.model.visual, MapHead(model.config.text_config.hidden_size)
    stream = Stream(
        first_seed(config, "vision"),
        config.vision_batch,
        RoomCells(config.view),
        _no_collate,
    )
    loader = _loader(stream)

    def loss_at(step):
        items = next(loader)
        encoded = _pixels(processor, [frames for frames, _ in items])
        features = _features(
            tower(encoded["pixel_values_videos"], grid_thw=encoded["video_grid_thw"])
        )
        return {"vision": head.loss(features, _targets(items))}

    parameters = [*tower.parameters(), *head.parameters()]
    trainer = _Trainer(
        parameters, config.vision_lr, config.vision_steps, out_dir, "vision"
    )
    trainer.run(loss_at)
    _save(out_dir / "vision.pt", {"tower": tower, "head": head})


def train_text(config, out_dir):
    """Stage 2; writes ``text.pt`` (language model)."""
    processor, model = _build(config)
    stream = Stream(
        first_seed(config, "text"),
        config.text_batch,
        Demonstrations(config.view),
        Encode(processor, with_video=False),
        _length,
    )
    loader = _loader(stream)

    def loss_at(step):
        return {"text": model(**next(loader)).loss}

    trainer = _Trainer(
        model.model.language_model.parameters(),
        config.text_lr,
        config.text_steps,
        out_dir,
        "text",
    )
    trainer.run(loss_at)
    _save(out_dir / "text.pt", {"language_model": model.model.language_model})


class Captions:
    """Seed → (row without a question, completion that is only the map)."""

    def __init__(self, view):
        self.view = view

    def __call__(self, seed):
        room = draw_room(seed, VIEWS[self.view].style)
        cells = rasterize(to_scene(room, with_boxes=False), GRID)
        names = list(cells)
        np.random.default_rng(seed).shuffle(names)  # questions ask for any order
        row = {"question": "", "options": None, "video": video_uri(self.view, seed)}
        return row, f"<think><map>{map_to_text(cells, last=names)}</map>"


def train_align(config, out_dir):
    """Stage 3; writes ``align.pt`` (tower, head, language model)."""
    processor, model = _build(config)
    head = MapHead(model.config.text_config.hidden_size)
    vision = torch.load(out_dir / "vision.pt", weights_only=True)
    text = torch.load(out_dir / "text.pt", weights_only=True)
    parts = {
        "tower": model.model.visual,
        "head": head,
        "language_model": model.model.language_model,
    }
    for name, module in parts.items():
        module.load_state_dict({**vision, **text}[name])
    model.tie_weights()
    _match_scale(model, head, processor, RoomCells(config.view), config)
    model.model.visual.requires_grad_(False)
    first = first_seed(config, "align")
    captions = Stream(
        first,
        config.align_batch,
        Captions(config.view),
        Encode(processor, True),
        _length,
    )
    texts = Stream(
        first + 100_000,
        config.joint_batch,
        Demonstrations(config.view),
        Encode(processor, False),
        _length,
    )
    captions, texts = _loader(captions), _loader(texts)

    def loss_at(step):
        inputs = next(captions)
        types = token_types(inputs["input_ids"], model.config)
        losses = {"align": model(**inputs, mm_token_type_ids=types).loss}
        if step % 4 == 0:  # what stage 2 taught would fade
            losses["text"] = 0.5 * model(**next(texts)).loss
        return losses

    parameters = model.model.language_model.parameters()
    trainer = _Trainer(
        parameters, config.align_lr, config.align_steps, out_dir, "align"
    )
    trainer.run(loss_at)
    _save(out_dir / "align.pt", parts)


def train_joint(config, out_dir):
    """Stage 4; writes the model folder ``model/`` with its processor."""
    processor, model = _build(config)
    head = MapHead(model.config.text_config.hidden_size)
    aligned = torch.load(out_dir / "align.pt", weights_only=True)
    model.model.visual.load_state_dict(aligned["tower"])
    head.load_state_dict(aligned["head"])
    model.model.language_model.load_state_dict(aligned["language_model"])
    model.tie_weights()
    seen = {}
    model.model.visual.register_forward_hook(
        lambda module, args, output: seen.update(features=_features(output))
    )
    first, batch = first_seed(config, "joint"), config.joint_batch
    demonstrations = Demonstrations(config.view)
    videos = _loader(
        Stream(first, batch, demonstrations, JointCollate(processor), _length)
    )
    texts = _loader(
        Stream(
            first + 100_000, batch, demonstrations, Encode(processor, False), _length
        )
    )

    def loss_at(step):
        inputs, target = next(videos)
        types = token_types(inputs["input_ids"], model.config)
        losses = {"joint": model(**inputs, mm_token_type_ids=types).loss}
        losses["vision"] = config.vision_weight * head.loss(seen["features"], target)
        if step % 2 == 0:
            losses["text"] = 0.5 * model(**next(texts)).loss
        return losses

    parameters = [*model.parameters(), *head.parameters()]
    trainer = _Trainer(
        parameters, config.joint_lr, config.joint_steps, out_dir, "joint"
    )
    trainer.run(loss_at)
    _save_model(out_dir / "model", model, processor)


def _match_scale(model, head, processor, rooms, config):
    """Give video tokens the mean and size of word embeddings; the head stays exact.

    Stage 1 leaves features some twenty times longer than embeddings, around a large
    common vector: what layers add to such tokens is drowned. The tower's last linear
    layer takes the shift and scale, and the head takes them back.
    """
    first = first_seed(config, "vision")
    pixels = _pixels(processor, [rooms(first + i)[0] for i in range(64)])
    last = model.model.visual.merger.mlp[-1]
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        features = _features(
            model.model.visual(
                pixels["pixel_values_videos"], grid_thw=pixels["video_grid_thw"]
            )
        )
        mean = features.mean(dim=0)
        scale = (features - mean).norm(dim=1).mean() / words.norm(dim=1).mean()
        head.bias += head.weight @ mean
        head.weight *= scale
        last.bias.sub_(mean).div_(scale)
        last.weight.div_(scale)


class JointCollate:
    """Demonstrations → (model inputs, vision targets of the same rooms)."""

    def __init__(self, processor):
        self.encode = Encode(processor, with_video=True)

    def __call__(self, items):
        targets = np.stack([cell_grid(row["map"]) for row, _ in items])
        return self.encode(items), torch.from_numpy(targets)


def _save(path, modules):
    with atomic_path(path) as temporary:
        torch.save({k: m.state_dict() for k, m in modules.items()}, temporary)


def _save_model(folder, model, processor):
    """Write the folder under another name first: a whole model or none."""
    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    processor.save_pretrained(draft)
    draft.rename(folder)


def run(out_dir, config=WarmstartConfig(), evaluate=None):
    """The whole chain into ``out_dir``; finished stages are skipped on a second call.

    Parameters
    ----------
    out_dir : path
    config : WarmstartConfig
    evaluate : callable, optional
        ``evaluate(model_dir) -> dict`` of metrics for the provenance file.

    Returns
    -------
    Path
        The model's folder; ``provenance.json`` lies beside it.

    Raises
    ------
    SpacerError
        If ``out_dir`` holds a warm start of another configuration, or a stage died.
    """
    out_dir = make_folder(out_dir)
    fingerprint = config_hash(config)
    stamp = out_dir / "config.json"
    if stamp.exists() and read_json(stamp)["hash"] != fingerprint:
        raise SpacerError(
            f"{out_dir} holds a warm start of another configuration",
            got=read_json(stamp)["hash"],
            expected=fingerprint,
            remedy="choose another folder or delete this one",
        )
    if not stamp.exists():
        origin = provenance(config=asdict(config))
        write_json(stamp, {"hash": fingerprint, **origin})
    stages = {"vision.pt": train_vision, "text.pt": train_text}
    left = [f for name, f in stages.items() if not (out_dir / name).exists()]
    _side_by_side(left, config, out_dir)
    if not (out_dir / "align.pt").exists():
        _side_by_side([train_align], config, out_dir)
    model = out_dir / "model"
    if not model.exists():
        _side_by_side([train_joint], config, out_dir)
    done = out_dir / "provenance.json"
    if not done.exists():
        rows = read_jsonl(out_dir / "metrics.jsonl")
        write_json(
            done,
            {
                **read_json(stamp),
                "seconds": {row["stage"]: row["seconds"] for row in rows},
                "last_losses": {row["stage"]: row for row in rows},
                "first_room_seeds": {s: first_seed(config, s) for s in STAGES},
                "metrics": evaluate(model) if evaluate else None,
            },
        )
    return model


def _side_by_side(stages, config, out_dir):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=s, args=(config, out_dir)) for s in stages]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for stage, worker in zip(stages, workers, strict=True):
        if worker.exitcode != 0:
            raise SpacerError(
                f"warm start: {stage.__name__} ended with code {worker.exitcode}",
                remedy="read its traceback above; run again to resume",
            )
