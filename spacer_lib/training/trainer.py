"""SG-RLVR on TRL's GRPO trainer, made to see the video wherever it scores a token.

TRL hands videos to ``generate`` and then computes old, reference and policy
log-probabilities without them: training runs, blind, without a word. Here one class
carries each row's video or images through all of them; text-only rows may stand in
the same batch. Departures from TRL's defaults follow SpaceR: ``loss_type="grpo"``
(mean over sequences of token means) and a plain k3 KL
(``use_bias_correction_kl=False``).

Source: SpaceR §4 and Eq. 7; https://arxiv.org/abs/2402.03300 for GRPO.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import contextlib
import dataclasses
import itertools
import math
import time
from collections import Counter, defaultdict

import datasets
import numpy as np
import torch
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from spacer_lib.artifacts import append_jsonl
from spacer_lib.errors import SpacerError
from spacer_lib.models.inputs import (
    MediaError,
    encode_media,
    encode_prompts,
    pad_batch,
    read_image,
    token_types,
)
from spacer_lib.models.patches.cache import with_room
from spacer_lib.models.patches.shared_media import media_once
from spacer_lib.models.sampling import KeyedSampling, sequence_key
from spacer_lib.rewards.score import score_batch
from spacer_lib.rows import ROLLOUT_QUESTION_KEYS
from spacer_lib.training.ahead import Ahead
from spacer_lib.training.checkpoints import WholeCheckpoints
from spacer_lib.training.order import RowOrder
from spacer_lib.training.prefix import (
    last_positions,
    packed_scores,
    permuted_blocks,
    prefill,
    require_one_prompt,
    use_branches,
)
from spacer_lib.training.refill import replace_rows
from spacer_lib.training.sight import with_pixels

# From this many rollouts on, all groups being all alike is no accident.
ENOUGH_ROLLOUTS = 16
CHECKED_TOKENS = 32  # of each completion with which packing is checked
CPU_FORWARD_ROWS = 16  # activations of more fall out of the caches: a third slower
MAX_BROKEN = 0.1  # of the rows: more unreadable media than this are no accident
PHASES = ("data", "generate", "score")  # of a step; the rest of it is the update


class VideoGRPOTrainer(RowOrder, WholeCheckpoints, GRPOTrainer):
    """GRPO on question rows whose media are decoded once per generation batch.

    Rollouts depend on the seed, the step and their place in it, not on how many
    workers share them (``models.sampling``).

    Parameters
    ----------
    model, processor
        A Qwen-VL model and its processor.
    rows : list of dict
        Question rows. The dataset holds their numbers only: TRL copies and gathers
        prompts across ranks, and Arrow would merge all maps into one wide struct.
    mode : PromptStyle or str
        Answer mode of ``prompts.messages``.
    video : VideoSettings
    refill : int
        Rounds, at most, in which groups without advantage are asked another question.
    temporal : TemporalBonus, optional
        T-GRPO: also among ``reward_funcs``.
    shared_prefix : int or None
        Completions of one prompt to a packed forward (``training.prefix``); ``None``:
        a row for each, as TRL has it.
    rollouts_path : path or None
        JSON lines that receive ``rollouts_per_step`` completions of each generation
        with their rewards.
    **kwargs
        As for ``GRPOTrainer`` (``args``, ``reward_funcs``, ``callbacks`` …).
    """

    def __init__(
        self,
        model,
        processor,
        rows,
        *,
        mode,
        video,
        refill=0,
        temporal=None,
        shared_prefix=None,
        rollouts_path=None,
        rollouts_per_step=4,
        keep_checkpoints=2,
        **kwargs,
    ):
        self.rows, self.mode, self.video = rows, mode, video
        self.refill, self.temporal = refill, temporal
        self.rollouts_path, self.rollouts_per_step = rollouts_path, rollouts_per_step
        self.keep_checkpoints = keep_checkpoints
        self._media, self._scored = None, None  # of the rows at hand
        self._prompt_ids, self._images, self._round = None, None, 0
        self._broken = set()  # numbers of rows whose media cannot be read
        self._spent = defaultdict(float)  # seconds of this optimiser step, by phase
        self._tokens = Counter()  # that its scoring ran
        super().__init__(
            model=model,
            processing_class=processor,
            train_dataset=datasets.Dataset.from_dict(
                {"prompt": [_prompt(number) for number in range(len(rows))]}
            ),
            **kwargs,
        )
        self.data_collator = self._look_ahead
        self._ahead = Ahead(self._media_of)
        if temporal is not None:
            temporal.accelerator = self.accelerator
        self.shared_prefix = shared_prefix
        if shared_prefix:
            use_branches(self.model)
            if self.ref_model is not None:
                use_branches(self.ref_model)

    # ------------------------------------------------------------ rows

    def _readable(self, number):
        """The row itself, or the next one whose media can be read.

        By number, so that ranks that share a group agree.
        """
        while number in self._broken:
            number = (number + 1) % len(self.rows)
        return self.rows[number]

    def _look_ahead(self, examples):
        """TRL's data collator, which changes nothing, told of batches to come."""
        self._ahead.start([_number(example["prompt"]) for example in examples])
        return examples

    def _media_of(self, numbers):
        rows = [self._readable(number) for number in dict.fromkeys(numbers)]
        return encode_media(self.processing_class, rows, self.mode, self.video)

    def _load(self, numbers, ready=None, **changes):
        """Row numbers → rows, token ids and media; unreadable media are replaced.

        ``ready`` as for ``encode_prompts``; ``changes`` are those of ``VideoSettings``.
        """
        video = dataclasses.replace(self.video, **changes)
        while True:
            rows = [self._readable(number) for number in numbers]
            try:
                ids, media = encode_prompts(
                    self.processing_class, rows, self.mode, video, ready=ready
                )
            except MediaError as error:
                self._give_up(error)
            else:
                return rows, ids, media

    def _give_up(self, error):
        """Leave out the rows of one unreadable file; refuse when they are many."""
        paths = (row.get("video") or row.get("image") for row in self.rows)
        self._broken.update(
            number
            for number, path in enumerate(paths)
            if path == error.source or isinstance(path, list) and error.source in path
        )
        print(f"skipped from now on: {error}", flush=True)
        if len(self._broken) > MAX_BROKEN * len(self.rows):
            raise SpacerError(
                "media of the training rows",
                got=f"{len(self._broken)} of {len(self.rows)} rows unreadable, such as "
                f"{error.source}",
                expected=f"at most {MAX_BROKEN:.0%}",
                remedy="make the videos again, or drop the rows",
            ) from error

    # ------------------------------------------------------------ rollouts

    def _tokenize_prompts(self, prompts):
        # No images, even where there are: TRL would encode them once more.
        return self._prompt_ids, None, {}

    def _generate_single_turn(self, prompt_ids, images, fields, *args, **kwargs):
        with self._timed("generate"):
            if not self.use_vllm:
                return self._sample(prompt_ids, self._media), None
            return super()._generate_single_turn(
                prompt_ids, self._images, fields, *args, **kwargs
            )

    def _sample(self, prompt_ids, media, purpose="rollout"):
        """One completion a prompt, as lists of ids up to the end token."""
        first = self.accelerator.process_index * len(prompt_ids)
        luck = self.args.seed, self.state.global_step, self._round, purpose
        keys = [sequence_key(*luck, first + i) for i in range(len(prompt_ids))]
        width = max(map(len, prompt_ids))
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
            ) as model,
            torch.no_grad(),
            self._prompts(model, prompt_ids, media) as inputs,
        ):
            output = model.generate(
                **inputs,
                generation_config=self.generation_config,
                logits_processor=[
                    KeyedSampling(keys, width, self.temperature, self.top_p)
                ],
            )
        ends = set(self.eos_token_ids)
        return [_until(row, ends) for row in output[:, width:].tolist()]

    @contextlib.contextmanager
    def _prompts(self, model, prompt_ids, media):
        """Keyword arguments of ``generate`` for a batch of prompts."""
        device = self.accelerator.device
        pad = self.processing_class.tokenizer.pad_token_id
        if self.shared_prefix:
            made = prefill(model, prompt_ids, media, pad, device)
            yield made | {"past_key_values": with_room(made["past_key_values"])}
            return
        input_ids, mask = pad_batch(prompt_ids, pad, "left")
        types = token_types(input_ids, model.config)
        with media_once(model, media, device) as tensors:
            yield {
                "input_ids": input_ids.to(device),
                "attention_mask": mask.to(device),
                "mm_token_type_ids": types.to(device),
                **tensors,
            }

    def _prepare_inputs(self, generation_batch):
        """TRL's, but where prompts are shared whole groups are shuffled."""
        if not (self.shared_prefix and self.model.training):
            return super()._prepare_inputs(generation_batch)
        parts, step = self.args.steps_per_generation, self._step
        if step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            made = self._generate_and_score_completions(generation_batch)
            size = math.gcd(self.num_generations, len(made["completion_ids"]))
            made = permuted_blocks(made, size)
            self._buffered_inputs = split_tensor_dict(made, parts)
        return self._buffered_inputs[step % parts]

    def _generate_and_score_completions(self, inputs):
        self._round = 0
        numbers = [_number(example["prompt"]) for example in inputs]
        output = self._answer(numbers)
        self._check_spread()
        if self.accelerator.is_main_process and self.rollouts_path is not None:
            append_jsonl(self.rollouts_path, self._sampled_rollouts())
        return self._refilled(output)

    def _answer(self, numbers):
        """TRL's batch of the rows, with each row's media."""
        start, before = time.perf_counter(), sum(self._spent.values())
        with self._timed("data"):
            rows, self._prompt_ids, self._media = self._load(
                numbers, self._ahead.take(numbers)
            )
            if self.use_vllm:
                self._images = [_opened(row.get("image")) for row in rows]
        if self.temporal is not None:
            self.temporal.shuffled = self._answer_shuffled(numbers, rows)
        # Reward functions receive every key of a row as a column; an ``image`` column
        # would make TRL rebuild the prompts.
        names = sorted(set().union(*rows) - {"video", "image"})
        inputs = [
            {**{name: row.get(name) for name in names}, "prompt": _prompt(number)}
            for row, number in zip(rows, numbers, strict=True)
        ]
        output = super()._generate_and_score_completions(inputs)
        output["media"] = self._media  # a list: TRL shuffles and splits it with rows
        self._metrics["train"]["media_skipped"].append(float(len(self._broken)))
        rest = time.perf_counter() - start - sum(self._spent.values()) + before
        self._spent["score"] += rest  # rewards, old and reference log-probabilities
        return output

    def _check_spread(self):
        """Log the share of groups of identical rollouts; refuse a first step of them.

        Sampling settings of a published checkpoint (temperature near zero) would
        leave GRPO nothing to compare, and nothing would fail.
        """
        texts = [completion[0]["content"] for completion in self._logs["completion"]]
        size = self.num_generations
        groups = [set(texts[i : i + size]) for i in range(0, len(texts), size)]
        identical = sum(len(group) == 1 for group in groups) / len(groups)
        self._metrics["train"]["rollouts_identical"].append(identical)
        if identical == 1 and self._step == 0 and len(texts) >= ENOUGH_ROLLOUTS:
            raise SpacerError(
                "rollouts of every group are identical",
                got=f"temperature {self.temperature}, top_p {self.top_p}",
                remedy="raise temperature, or start from a less certain checkpoint",
            )

    def _sampled_rollouts(self):
        """The first rollouts of the last generation, all of one prompt if possible."""
        logs = self._logs
        for i in range(min(self.rollouts_per_step, len(logs["prompt"]))):
            row = self._readable(_number(logs["prompt"][i]))
            yield {
                "step": self.state.global_step + 1,
                **{key: row.get(key) for key in ROLLOUT_QUESTION_KEYS},
                "completion": logs["completion"][i][0]["content"],
                "rewards": {name: v[i] for name, v in logs["rewards"].items()},
                "advantage": logs["advantages"][i],
            }

    def _refilled(self, output):
        """Groups without advantage replaced by groups of other rows, where those
        have one; at most ``refill`` more generations.

        Metrics of the step stay those of the rows it drew first.
        """
        if not self.refill or not self.model.training:
            return output
        size, world = self.num_generations, self.accelerator.num_processes
        metrics = self._metrics["train"]
        counts = {key: len(values) for key, values in metrics.items()}
        replaced = 0
        for number in range(1, self.refill + 1):
            silent = _silent_groups(output, size)
            most = torch.tensor(len(silent), device=self.accelerator.device)
            most = int(self.accelerator.gather(most).max())
            if most == 0:
                break
            self._round = number
            # The same for all ranks, each of which takes its share.
            key = self.args.seed, self.state.global_step, number
            rng = np.random.default_rng(key)
            drawn = rng.integers(len(self.rows), size=(world, most))
            mine = drawn[self.accelerator.process_index]
            extra = self._answer([int(n) for n in mine for _ in range(size)])
            spread = sorted(set(range(most)) - set(_silent_groups(extra, size)))
            pairs = list(zip(silent, spread, strict=False))
            replaced += len(pairs)
            output = replace_rows(
                output,
                extra,
                {
                    old * size + i: new * size + i
                    for old, new in pairs
                    for i in range(size)
                },
                self.processing_class.tokenizer.pad_token_id,
            )
        tokens = output["completion_mask"].sum()
        output["num_items_in_batch"] = self.accelerator.gather(tokens).sum()
        for key in list(metrics):
            del metrics[key][counts.get(key, 0) :]
        total = torch.tensor(float(replaced), device=self.accelerator.device)
        total = self.accelerator.reduce(total, reduction="sum").item()
        metrics["refill/groups"].append(total)
        metrics["refill/rounds"].append(float(self._round))
        return output

    def _answer_shuffled(self, numbers, rows):
        """T-GRPO's control: task rewards of half as many answers, frames shuffled.

        Returns
        -------
        (groups, G / 2) array of float
            Of all ranks; NaN for rows without a video.
        """
        first = self.accelerator.process_index * len(numbers)
        half = [i for i in range(len(numbers)) if (first + i) % 2]
        with self._timed("data"):
            _, ids, media = self._load(
                [numbers[i] for i in half], shuffle=self.state.global_step + 1
            )
        with self._timed("generate"):
            made = self._sample(ids, media, "shuffled")
        texts = self.processing_class.batch_decode(made, skip_special_tokens=True)
        asked = [rows[i] for i in half]
        scored = score_batch(texts, asked, self.temporal.config)
        earned = torch.tensor(
            [
                b.task if row.get("video") else float("nan")
                for b, row in zip(scored, asked, strict=True)
            ],
            device=self.accelerator.device,
        )
        earned = self.accelerator.gather(earned).cpu().numpy()
        return earned.reshape(-1, self.num_generations // 2)

    # ------------------------------------------------------------ time

    @contextlib.contextmanager
    def _timed(self, phase):
        start = time.perf_counter()
        yield
        self._spent[phase] += time.perf_counter() - start

    def training_step(self, *args, **kwargs):
        """TRL's, with the seconds of each phase and tokens a second logged."""
        seen = self.state.num_input_tokens_seen
        forwards = self.current_gradient_accumulation_steps
        if self._step % forwards == 0:
            self._tokens.clear()  # also of the checks at the start
        with self._timed("step"):
            loss = super().training_step(*args, **kwargs)
        self._spent["tokens"] += self.state.num_input_tokens_seen - seen
        if self._step % forwards == 0:
            spent, self._spent = self._spent, defaultdict(float)
            metrics = self._metrics["train"]
            for phase in PHASES:
                metrics[f"seconds/{phase}"].append(spent[phase])
            rest = spent["step"] - sum(spent[phase] for phase in PHASES)
            metrics["seconds/update"].append(rest)
            if spent["tokens"]:  # none where rollouts serve a second time
                metrics["tokens_per_s"].append(spent["tokens"] / spent["step"])
            names = "computed", "stock"
            counts = torch.tensor(
                [float(self._tokens[name]) for name in names],
                device=self.accelerator.device,
            )
            counts = self.accelerator.reduce(counts, reduction="sum").tolist()
            for name, count in zip(names, counts, strict=True):
                metrics[f"tokens/{name}"].append(count)
        return loss

    # ------------------------------------------------------------ log-probabilities

    def _compute_loss(self, model, inputs):
        self._media = inputs["media"]
        loss = super()._compute_loss(model, inputs)
        if "old_per_token_logps" in inputs:
            # 0 on the first pass over a generation, or the two passes saw different
            # inputs; later the policy has moved.
            change = (self._scored - inputs["old_per_token_logps"]).abs()
            largest = (change * inputs["completion_mask"]).max()
            largest = self.accelerator.gather(largest).max().item()
            self._metrics["train"]["logp_change/max"].append(largest)
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        **kwargs,
    ):
        """Old, reference and policy scores all come through here."""
        self._tokens["stock"] += int(attention_mask.sum())
        rows = model, input_ids, attention_mask, logits_to_keep
        if self.shared_prefix:
            scores = self._packed(*rows)
        else:
            scores = self._apart(*rows, batch_size, **kwargs)
        self._scored = scores[0].detach()
        return scores

    def _apart(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        **kwargs,
    ):
        """Scores by TRL, a row to each completion.

        TRL shuffles rows; here they stand in order of length and prompt again, so that
        a forward encodes few videos and carries little padding.
        """
        device, config = self.accelerator.device, self.model.config
        batch_size = batch_size or len(input_ids)
        if device.type == "cpu":
            batch_size = min(batch_size, CPU_FORWARD_ROWS)
        lengths = attention_mask[:, :-logits_to_keep].sum(dim=1).tolist()
        # By their tokens, so that a run repeated adds in the same order; rows of one
        # prompt share a video.
        tokens = input_ids.tolist()
        order = sorted(range(len(tokens)), key=lambda i: (lengths[i], tokens[i]))
        media = iter([self._media[i] for i in order])
        # Widths change sums in the last bit. Where all rows of a generation are scored
        # together, a row's width is the same each time, and so are old and new scores.
        trim = self.args.steps_per_generation == 1

        def with_media(input_ids, attention_mask, labels, **inputs):
            rows = list(itertools.islice(media, len(input_ids)))
            first = int(attention_mask.argmax(dim=1).min()) if trim else 0
            input_ids = input_ids[:, first:]
            self._tokens["computed"] += input_ids.numel()
            with (
                # A rank whose rows are all text must still meet the others in the
                # vision tower's collectives.
                media_once(
                    model,
                    rows,
                    device,
                    touch_vision=self.accelerator.num_processes > 1,
                ) as tensors,
                last_positions(model, logits_to_keep + 1),
            ):
                return model(
                    input_ids=input_ids,
                    attention_mask=attention_mask[:, first:],
                    labels=labels[:, -logits_to_keep - 1 :],
                    mm_token_type_ids=token_types(input_ids, config),
                    **tensors,
                    **inputs,
                )

        scores = super()._get_per_token_logps_and_entropies(
            with_media,
            input_ids[order],
            attention_mask[order],
            logits_to_keep,
            batch_size,
            **kwargs,
        )
        back = torch.tensor(order).argsort().to(device)
        # The third, of mixtures of experts, is one number for the batch.
        logps, entropies, balance = scores
        entropies = entropies if entropies is None else entropies[back]
        return logps[back], entropies, balance

    def _packed(self, model, input_ids, attention_mask, logits_to_keep):
        """Scores of rows that come in blocks of one prompt, a forward for a block.

        Every rank has as many blocks, so under ZeRO-3 all make as many forwards.
        """
        real = attention_mask.bool()
        training = self.model.training
        group = self.num_generations if training else self.num_generations_eval
        size = math.gcd(self.shared_prefix, group, len(input_ids))
        logps, entropies = [], []
        for start in range(0, len(input_ids), size):
            rows = range(start, start + size)
            prompts = [
                input_ids[i, :-logits_to_keep][real[i, :-logits_to_keep]] for i in rows
            ]
            media = self._media[start : start + size]
            require_one_prompt(prompts, media)
            completions = [
                input_ids[i, -logits_to_keep:][real[i, -logits_to_keep:]] for i in rows
            ]
            with self.accelerator.autocast():
                made = packed_scores(
                    model,
                    prompts[0],
                    completions,
                    media[0],
                    self.accelerator.device,
                    touch_vision=self.accelerator.num_processes > 1,
                )
            self._tokens["computed"] += len(prompts[0]) - 1 + made[0].numel()
            for found, kept in zip(made, (logps, entropies), strict=True):
                if found is not None:
                    short = logits_to_keep - found.shape[1]
                    kept.append(torch.nn.functional.pad(found, (0, short)))
        return torch.cat(logps), torch.cat(entropies) if entropies else None, None

    def both_scores(self, number):
        """Log-probabilities of made-up completions of a row: packed, and apart.

        Returns
        -------
        packed, apart : (completions, tokens) tensor
        """
        device, tokenizer = self.accelerator.device, self.processing_class.tokenizer
        (row,), (prompt,), (media,) = self._load([number])
        words = tokenizer(row["question"], add_special_tokens=False)["input_ids"]
        words = words[:CHECKED_TOKENS]
        completions = [
            words[i % len(words) :] + words[: i % len(words)]
            for i in range(self.shared_prefix)
        ]
        ids = torch.tensor([prompt + words for words in completions], device=device)
        mask = torch.ones_like(ids)
        mask[1:2, len(prompt) + 1 :] = 0  # one is shorter than the others
        self._media = [media] * len(ids)
        with torch.no_grad():
            packed, apart = (
                score(self.model_wrapped, ids, mask, len(words))[0]
                for score in (self._packed, self._apart)
            )
        return packed, apart

    def truth_scores(self, number, change=None):
        """Log-probabilities of a row's ground truth, by the path the loss takes.

        Parameters
        ----------
        number : int
        change : callable, optional
            Of the row's pixels.

        Returns
        -------
        (tokens,) tensor
        """
        device, tokenizer = self.accelerator.device, self.processing_class.tokenizer
        (row,), (prompt,), (media,) = self._load([number])
        truth = tokenizer(row["ground_truth"], add_special_tokens=False)["input_ids"]
        if change is not None:
            media = with_pixels(media, change)
        self._media = [media]
        ids = torch.tensor([prompt + truth], device=device)
        with torch.no_grad():
            logps, _, _ = self._get_per_token_logps_and_entropies(
                self.model_wrapped, ids, torch.ones_like(ids), len(truth)
            )
        return logps[0]

    # ------------------------------------------------------------ by hand

    def roll_out(self, numbers):
        """One generation batch outside the training loop, for looking at.

        Parameters
        ----------
        numbers : list of int
            Rows, each answered ``num_generations`` times.

        Returns
        -------
        dict
            TRL's batch: ``completion_ids`` and ``completion_mask`` (rows, tokens),
            ``advantages`` (rows,) …, and ``media``, one entry per row.
        """
        self.model.train()
        repeated = [n for n in numbers for _ in range(self.num_generations)]
        return self._generate_and_score_completions(
            [{"prompt": _prompt(number)} for number in repeated]
        )

    def score(self, batch, media=None):
        """Loss and log-probabilities of a batch, as the next step would see them.

        Parameters
        ----------
        batch : dict
            Of ``roll_out``.
        media : list of dict, optional
            Score the same tokens beside these instead.

        Returns
        -------
        loss : float
        logps : (rows, tokens) tensor
            0 at padding.
        """
        self.model.train()
        self.current_gradient_accumulation_steps = 1
        with torch.no_grad():
            loss = self._compute_loss(
                self.model, {**batch, "media": media or batch["media"]}
            )
        return float(loss), self._scored * batch["completion_mask"]


def _prompt(number):
    """What TRL carries for a row: its number, in the form of a conversation."""
    return [{"role": "user", "content": str(number)}]


def _number(prompt):
    return int(prompt[0]["content"])


def _until(ids, ends):
    """``ids`` up to and with the first end token."""
    stops = (i + 1 for i, token in enumerate(ids) if token in ends)
    return ids[: next(stops, len(ids))]


def _silent_groups(batch, size):
    """Numbers of the groups in which no answer has an advantage."""
    advantages = batch["advantages"].view(-1, size)
    return (advantages == 0).all(dim=1).nonzero().flatten().tolist()


def _opened(image):
    """An image column → list of PIL images for vLLM, or ``None``."""
    if not image:
        return None
    paths = [image] if isinstance(image, str) else image
    return [read_image(path) for path in paths]
