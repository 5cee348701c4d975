"""SG-RLVR on TRL's GRPO trainer: every score of a token sees the video.

TRL hands videos to ``generate`` and then computes old, reference and policy
log-probabilities without them: it trains blind, and nothing fails. Here the step is
our own (``training.step``); TRL keeps the loop, the optimiser and the logs. What is
used of TRL's and transformers' private parts is listed in ``training.seam``.

Departures from TRL's defaults follow SpaceR: ``loss_type="grpo"`` (mean over sequences
of token means) and a plain k3 KL (``use_bias_correction_kl=False``).

Source: SpaceR §4 and Eq. 7, https://arxiv.org/abs/2504.01805; GRPO,
https://arxiv.org/abs/2402.03300.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import torch
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from spacer_lib.artifacts import PathLike
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.inputs import pad_batch
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question
from spacer_lib.training import step
from spacer_lib.training.attention import use_branches
from spacer_lib.training.batches import RowSource
from spacer_lib.training.checkpoints import WholeCheckpoints
from spacer_lib.training.controls import ControlBonus
from spacer_lib.training.memory import memory_since_last_gb
from spacer_lib.training.packing_check import PackingCheck
from spacer_lib.training.prefix import permuted_blocks
from spacer_lib.training.refill import refilled
from spacer_lib.training.sampler import EpochOrder
from spacer_lib.training.scores import Scores, Sequences, score_apart, score_packed
from spacer_lib.training.visibility import with_pixels
from spacer_lib.training.vllm_rollouts import VllmRollouts

CHECKED_TOKENS = 32  # of each completion with which packing is checked
PHASES = ("data", "generate", "score")  # of a step
# The rest of a step; its memory includes the optimiser of the step before.
UPDATE = "update"


class StepClock:
    """Seconds and memory of the phases of one optimiser step, and the positions it
    scored."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.memory: dict[str, float] = defaultdict(float)  # GiB, the most of a phase
        self.computed = self.stock = 0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the seconds that pass while this is open, and note the memory."""
        self._note(UPDATE)  # what came before belongs to no other phase
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start
        self._note(phase if phase in PHASES else UPDATE)

    def _note(self, phase: str) -> None:
        self.memory[phase] = max(self.memory[phase], memory_since_last_gb())


class VideoGRPOTrainer(EpochOrder, WholeCheckpoints, GRPOTrainer):
    """GRPO on question rows whose media are decoded once per generation batch.

    Rollouts depend on the seed, the step and their place in it, not on the number of
    workers (``models.sampling``).

    Parameters
    ----------
    model, processor
        A Qwen-VL model and its processor.
    rows : list of Question
        TRL's dataset holds their numbers only: TRL copies and gathers prompts across
        ranks, and Arrow would merge all maps into one wide struct.
    mode : PromptStyle or str
        Answer mode of ``prompts.messages``.
    video : VideoSettings
    refill : int
        Rounds, at most, in which zero-advantage groups are asked another question.
    bonus : ControlBonus, optional
        That needs a control (``training.controls``); also among ``reward_funcs``.
    shared_prefix : int or None
        Completions of one prompt in a packed forward (``training.prefix``); ``None``:
        one row for each, as TRL has it.
    groups_per_forward : int
        Prompts in a packed forward, each with its completions.
    attention : str
        Of packed rows (``attention.use_branches``).
    decode : str
        How tokens are generated (``models.patches.cache.decoding_by``).
    kl_limit : float or None
        Largest log ratio in the KL term (``grpo.kl_divergence``).
    rollouts_path : path or None
        JSON lines that receive ``rollouts_per_step`` completions of each generation
        with their rewards.
    keep_checkpoints : int
        Older ones are deleted.
    **kwargs
        As for ``GRPOTrainer`` (``args``, ``reward_funcs``, ``callbacks`` …).
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        rows: list[Question],
        *,
        mode: PromptStyle | str,
        video: VideoSettings,
        refill: int = 0,
        bonus: ControlBonus | None = None,
        shared_prefix: int | None = None,
        groups_per_forward: int = 1,
        attention: str = "sdpa",
        decode: str = "eager",
        kl_limit: float | None = None,
        rollouts_path: PathLike | None = None,
        rollouts_per_step: int = 4,
        keep_checkpoints: int = 2,
        **kwargs: Any,
    ) -> None:
        self.source = RowSource(processor, rows, mode, video)
        self.refill, self.bonus = refill, bonus
        self.shared_prefix = shared_prefix
        self.groups_per_forward, self.decode = groups_per_forward, decode
        self.kl_limit = kl_limit
        self.packing_check: PackingCheck | None = None
        self.rollouts_path, self.rollouts_per_step = rollouts_path, rollouts_per_step
        self.keep_checkpoints = keep_checkpoints
        self.vllm: VllmRollouts | None = None  # what draws rollouts, if not the model
        self.clock = StepClock()
        self._parts: list[dict[str, Any]] = []  # of the generation batch in use
        super().__init__(
            model=model,
            processing_class=processor,
            train_dataset=datasets.Dataset.from_dict(
                {"prompt": [_prompt(number) for number in range(len(rows))]}
            ),
            **kwargs,
        )
        self.data_collator = self._prefetch
        self.source.asked = self.asked
        if bonus is not None:
            bonus.join(self.source, self.accelerator)
        if shared_prefix:
            use_branches(self.model, attention)
            if self.ref_model is not None:
                use_branches(self.ref_model, attention)

    # ------------------------------------------------------------ what a step asks

    @property
    def rows(self) -> list[Question]:
        """The training rows."""
        return self.source.rows

    @property
    def group_size(self) -> int:
        """Completions of a prompt."""
        training = self.model.training
        return self.num_generations if training else self.num_generations_eval

    @property
    def forward_rows(self) -> int:
        """Rows of a forward of old and reference scores."""
        args = self.args
        if self.model.training:
            return args.per_device_train_batch_size
        return args.per_device_eval_batch_size

    @property
    def first_step(self) -> bool:
        """Whether nothing has been learnt yet in this session."""
        return self._step == 0

    def log_metric(self, name: str, value: float) -> None:
        """Add a value to a metric; the log shows the mean over a step."""
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def log_total(self, name: str, value: float) -> None:
        """Set a metric that counts over the whole run."""
        self._metrics["train" if self.model.training else "eval"][name] = [value]

    def log_probs(
        self,
        model: Any,
        sequences: Sequences,
        *,
        forward_rows: int | None = None,
        balance: bool = False,
    ) -> Scores:
        """Old, reference and policy scores; positions are counted."""
        if self.shared_prefix:
            scores = self.scores_packed(model, sequences)
        else:
            scores = self._scores_apart(model, sequences, forward_rows, balance)
        self.clock.stock += int(sequences.mask.sum())
        self.clock.computed += scores.positions
        return scores

    def scores_packed(self, model: Any, sequences: Sequences) -> Scores:
        """Scores of rows that come in blocks of one prompt."""
        size = math.gcd(self.shared_prefix or 1, self.group_size)
        return score_packed(
            model,
            sequences,
            self.accelerator,
            size,
            groups_per_forward=self.groups_per_forward,
        )

    def _scores_apart(
        self,
        model: Any,
        sequences: Sequences,
        forward_rows: int | None = None,
        balance: bool = False,
    ) -> Scores:
        return score_apart(
            model,
            sequences,
            self.accelerator,
            self.model.config,
            forward_rows=forward_rows,
            # If all rows of a generation are scored together, a row is as wide each
            # time.
            trim=self.args.steps_per_generation == 1,
            balance=balance,
        )

    # ------------------------------------------------------------ TRL's hooks

    def _prefetch(self, examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """TRL's data collator, which changes nothing; later batches are read ahead."""
        self.source.prefetch([_number(example) for example in examples])
        return examples

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The part of a generation batch that the next forward learns from."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        count = self.args.steps_per_generation
        if self._step % (count * self.num_iterations) == 0 or not self._parts:
            made = self._generate_and_score_completions(generation_batch)
            # With shared prompts whole blocks of a prompt are shuffled.
            size = 1
            if self.shared_prefix:
                size = math.gcd(self.num_generations, len(made["completion_ids"]))
            self._parts = split_tensor_dict(permuted_blocks(made, size), count)
        return self._parts[self._step % count]

    def _generate_and_score_completions(
        self, inputs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        numbers = [_number(example) for example in inputs]

        def generate(numbers: list[int], extra_round: int = 0) -> dict[str, Any]:
            return step.generation_batch(self, numbers, extra_round)

        made = generate(numbers)
        if self.refill and self.model.training:
            made = refilled(self, made, generate)
        return made

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        return step.policy_loss(self, model, inputs)[0]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's, with the seconds of each phase and the tokens a second logged."""
        seen = self.state.num_input_tokens_seen
        forwards = self.current_gradient_accumulation_steps
        clock = self.clock
        if self._step % forwards == 0:
            clock.computed = clock.stock = 0  # the checks at the start counted too
        with clock("step"):
            loss = super().training_step(*args, **kwargs)
        clock.seconds["tokens"] += self.state.num_input_tokens_seen - seen
        if self._step % forwards == 0:
            self._log_clock(clock)
            self.clock = StepClock()
        return loss

    def _log_clock(self, clock: StepClock) -> None:
        spent = clock.seconds
        for phase in PHASES:
            self.log_metric(f"seconds/{phase}", spent[phase])
        rest = spent["step"] - sum(spent[phase] for phase in PHASES)
        self.log_metric("seconds/update", rest)
        if spent["tokens"]:  # none where rollouts serve a second time
            self.log_metric("tokens_per_s", spent["tokens"] / spent["step"])
        counts = torch.tensor(
            [float(clock.computed), float(clock.stock)], device=self.accelerator.device
        )
        counts = self.accelerator.reduce(counts, reduction="sum").tolist()
        for name, count in zip(("computed", "stock"), counts, strict=True):
            self.log_metric(f"tokens/{name}", count)
        self._log_memory(clock.memory)

    def _log_memory(self, memory: Mapping[str, float]) -> None:
        """Of every rank and phase, so that one that differs is seen."""
        phases = *PHASES, UPDATE
        own = [memory.get(phase, 0.0) for phase in phases]
        found = self.accelerator.gather(
            torch.tensor(own, device=self.accelerator.device)
        ).view(-1, len(phases))
        for rank, values in enumerate(found.tolist()):
            for phase, value in zip(phases, values, strict=True):
                if value:  # no rollouts in a step that uses them again
                    self.log_metric(f"memory_gb/{phase}/rank{rank}", round(value, 3))

    # ------------------------------------------------------------ checks at the start

    def made_up(self, number: int) -> Sequences:
        """A row's prompt with made-up completions, with which packing is checked: the
        words of the question, each from another word on.
        """
        batch = self.source.load([number])
        (row,), (prompt,) = batch.rows, batch.prompt_ids
        words = self._tokens(row["question"])[:CHECKED_TOKENS]
        ids = torch.tensor(
            [
                prompt + words[i % len(words) :] + words[: i % len(words)]
                for i in range(self.shared_prefix or 1)
            ],
            device=self.accelerator.device,
        )
        mask = torch.ones_like(ids)
        mask[1:2, len(prompt) + 1 :] = 0  # one is shorter than the others
        return Sequences(ids, mask, len(words), batch.media * len(ids))

    def truth_scores(
        self, number: int, change: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Log-probabilities of a row's ground truth, by the path that the loss takes.

        Parameters
        ----------
        number : int
        change : callable, optional
            Applied to the row's pixels.

        Returns
        -------
        (tokens,) tensor
        """
        batch = self.source.load([number])
        (row,), (prompt,) = batch.rows, batch.prompt_ids
        truth = self._tokens(row["ground_truth"])
        media: Mapping[str, torch.Tensor] = batch.media[0]
        if change is not None:
            media = with_pixels(media, change)
        ids = torch.tensor([prompt + truth], device=self.accelerator.device)
        sequences = Sequences(ids, torch.ones_like(ids), len(truth), [media])
        with torch.no_grad():
            return self.log_probs(self.model_wrapped, sequences).logps[0]

    def scores_beside(
        self,
        prompt: list[int],
        completions: Sequence[list[int]],
        media: Mapping[str, torch.Tensor],
    ) -> list[torch.Tensor]:
        """Log-probabilities of completions of one prompt: of a single one by the path
        that the loss takes, of several as rows of one batch.

        Returns
        -------
        list of (tokens,) tensor
        """
        device = self.accelerator.device
        pad_id = self.processing_class.tokenizer.pad_token_id
        ids, mask = pad_batch([prompt + c for c in completions], pad_id, "right")
        sequences = Sequences(
            ids.to(device),
            mask.to(device),
            ids.shape[1] - len(prompt),
            [media] * len(ids),
        )
        packed = self.shared_prefix and len(completions) == 1
        score = self.scores_packed if packed else self._scores_apart
        with torch.no_grad():
            logps = score(self.model_wrapped, sequences).logps
        return [logps[i, : len(c)] for i, c in enumerate(completions)]

    def _tokens(self, text: str) -> list[int]:
        tokenizer = self.processing_class.tokenizer
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    # ------------------------------------------------------------ by hand

    def roll_out(self, numbers: Sequence[int]) -> dict[str, Any]:
        """One generation batch outside the training loop, for looking at.

        Parameters
        ----------
        numbers : list of int
            Rows, each answered ``num_generations`` times.

        Returns
        -------
        dict
            See ``step.generation_batch``.
        """
        self.model.train()
        repeated = [n for n in numbers for _ in range(self.num_generations)]
        return self._generate_and_score_completions(
            [{"prompt": _prompt(number)} for number in repeated]
        )

    def score(
        self,
        batch: Mapping[str, Any],
        media: Sequence[Mapping[str, torch.Tensor]] | None = None,
    ) -> tuple[float, torch.Tensor]:
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
        logps : (b, t) tensor
            0 at padding.
        """
        self.model.train()
        self.current_gradient_accumulation_steps = 1
        batch = {**batch, "media": media or batch["media"]}
        with torch.no_grad():
            loss, scores = step.policy_loss(self, self.model, batch)
        return float(loss), scores.logps * batch["completion_mask"]


def _prompt(number: int) -> list[dict[str, str]]:
    """What TRL carries for a row: its number, in the form of a conversation."""
    return [{"role": "user", "content": str(number)}]


def _number(example: Mapping[str, Any]) -> int:
    return int(example["prompt"][0]["content"])
