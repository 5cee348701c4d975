"""SG-RLVR on TRL's GRPO trainer, made to see the video wherever it scores a token.

TRL hands videos to ``generate`` and then computes old, reference and policy
log-probabilities without them: training runs, blind, without a word. Here one class
carries each row's video through all of them. Departures from TRL's defaults follow
SpaceR: ``loss_type="grpo"`` (mean over sequences of token means) and a plain k3 KL
(``use_bias_correction_kl=False``).

Source: SpaceR §4 and Eq. 7; https://arxiv.org/abs/2402.03300 for GRPO.
"""

import contextlib
import itertools
from pathlib import Path

import datasets
import torch
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from spacer_lib.errors import SpacerError
from spacer_lib.models.inputs import VideoSettings, encode_prompts, token_types
from spacer_lib.models.shared_video import core_of, videos_once
from spacer_lib.rewards import trl_reward_functions
from spacer_lib.training.checkpoints import WholeCheckpoints
from spacer_lib.training.record import append_jsonl
from spacer_lib.training.rows import ROW_KEYS, training_rows
from spacer_lib.training.start import load_start, number_positions

# Of a row, with each sampled rollout: enough to score it again.
KEPT_KEYS = (*ROW_KEYS, "video", "question_type", "options", "map")
# From this many rollouts on, all groups being all alike is no accident.
ENOUGH_ROLLOUTS = 16
CPU_FORWARD_ROWS = 16  # activations of more fall out of the caches: a third slower


class VideoGRPOTrainer(WholeCheckpoints, GRPOTrainer):
    """GRPO on question rows whose video is decoded once per generation batch.

    Parameters
    ----------
    model, processor
        Qwen2.5-VL and its processor.
    rows : list of dict
        Question rows. The dataset holds their numbers only: TRL copies and gathers
        prompts across ranks, and Arrow would merge all maps into one wide struct.
    mode : str
        Answer mode of ``prompts.messages``.
    video : VideoSettings
    rollouts_path : path or None
        JSON lines that receive ``rollouts_per_step`` completions of each generation
        with their rewards.
    **kwargs
        As for ``GRPOTrainer`` (``args``, ``reward_funcs``, ``callbacks`` …).
    """

    def __init__(
        self, model, processor, rows, *, mode, video, rollouts_path=None,
        rollouts_per_step=4, keep_checkpoints=2, **kwargs,
    ):  # fmt: skip
        self.rows, self.mode, self.video = rows, mode, video
        self.rollouts_path, self.rollouts_per_step = rollouts_path, rollouts_per_step
        self.keep_checkpoints = keep_checkpoints
        self._videos, self._scored = None, None  # of the rows at hand
        prompts = [[{"role": "user", "content": str(i)}] for i in range(len(rows))]
        super().__init__(
            model=model,
            processing_class=processor,
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            **kwargs,
        )

    def _row(self, prompt):
        return self.rows[int(prompt[0]["content"])]

    # ------------------------------------------------------------ rollouts

    def _tokenize_prompts(self, prompts):
        rows = [self._row(prompt) for prompt in prompts]
        ids, self._videos = encode_prompts(
            self.processing_class, rows, self.mode, self.video
        )
        return ids, None, {}

    def _generate_single_turn(self, prompt_ids, images, fields, *args, **kwargs):
        types = [token_types(torch.tensor(i), self.model.config) for i in prompt_ids]
        fields = {"mm_token_type_ids": [row.tolist() for row in types]}
        with videos_once(self.model, self._videos, self.accelerator.device) as inputs:
            return super()._generate_single_turn(
                prompt_ids, images, {**fields, **inputs}, *args, **kwargs
            )

    def _generate_and_score_completions(self, inputs):
        # Reward functions receive every key of a row as a column.
        inputs = [{**self._row(x["prompt"]), "prompt": x["prompt"]} for x in inputs]
        output = super()._generate_and_score_completions(inputs)
        output["videos"] = self._videos  # a list: TRL shuffles and splits it with rows
        self._check_spread()
        if self.accelerator.is_main_process and self.rollouts_path is not None:
            append_jsonl(self.rollouts_path, self._sampled_rollouts())
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
            row = self._row(logs["prompt"][i])
            yield {
                "step": self.state.global_step + 1,
                **{key: row.get(key) for key in KEPT_KEYS},
                "completion": logs["completion"][i][0]["content"],
                "rewards": {name: v[i] for name, v in logs["rewards"].items()},
                "advantage": logs["advantages"][i],
            }

    # ------------------------------------------------------------ log-probabilities

    def _compute_loss(self, model, inputs):
        self._videos = inputs["videos"]
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
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None,
        **kwargs,
    ):  # fmt: skip
        """Old, reference and policy scores all come through here.

        TRL shuffles rows; here they stand in order of length and video again, so that
        a forward encodes few videos and carries little padding.
        """
        device, config = self.accelerator.device, self.model.config
        batch_size = batch_size or len(input_ids)
        if device.type == "cpu":
            batch_size = min(batch_size, CPU_FORWARD_ROWS)
        lengths = attention_mask[:, :-logits_to_keep].sum(dim=1).tolist()
        order = sorted(
            range(len(input_ids)), key=lambda i: (lengths[i], id(self._videos[i]))
        )
        videos = iter([self._videos[i] for i in order])
        # Widths change sums in the last bit. Where all rows of a generation are scored
        # together, a row's width is the same each time, and so are old and new scores.
        trim = self.args.steps_per_generation == 1

        def with_videos(input_ids, attention_mask, labels, **inputs):
            rows = list(itertools.islice(videos, len(input_ids)))
            first = int(attention_mask.argmax(dim=1).min()) if trim else 0
            input_ids = input_ids[:, first:]
            with (
                videos_once(model, rows, device) as tensors,
                _last_positions(model, logits_to_keep + 1),
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
            with_videos, input_ids[order], attention_mask[order], logits_to_keep,
            batch_size, **kwargs,
        )  # fmt: skip
        back = torch.tensor(order).argsort().to(device)
        scores = tuple(score if score is None else score[back] for score in scores)
        self._scored = scores[0].detach()
        return scores

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
            ``advantages`` (rows,) …, and ``videos``, one entry per row.
        """
        self.model.train()
        prompts = [[{"role": "user", "content": str(number)}] for number in numbers]
        return self._generate_and_score_completions(
            [{"prompt": p} for p in prompts for _ in range(self.num_generations)]
        )

    def score(self, batch, videos=None):
        """Loss and log-probabilities of a batch, as the next step would see them.

        Parameters
        ----------
        batch : dict
            Of ``roll_out``.
        videos : list of dict, optional
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
                self.model, {**batch, "videos": videos or batch["videos"]}
            )
        return float(loss), self._scored * batch["completion_mask"]


@contextlib.contextmanager
def _last_positions(model, count):
    """While open, the head sees the last ``count`` positions of each row only.

    Off the GPU, TRL's fused head would score the whole prompt and discard it.
    """

    def cut(module, args, output):
        output.last_hidden_state = output.last_hidden_state[:, -count:]
        return output

    hook = core_of(model).register_forward_hook(cut)
    try:
        yield
    finally:
        hook.remove()


# ---------------------------------------------------------------- assembly


def common_arguments(config, out_dir, workers=1, on_cpu=True):
    """``TrainConfig`` → what every one of TRL's configurations is told, as keywords."""
    batch, accumulation = config.batch_shape(workers)
    return dict(
        output_dir=str(Path(out_dir) / "checkpoints"),
        use_cpu=on_cpu,
        bf16=config.bf16,
        activation_checkpointing=config.gradient_checkpointing,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        max_steps=config.max_steps or -1,
        num_train_epochs=config.epochs,
        save_steps=config.save_steps,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        seed=config.seed,
    )


def training_arguments(config, out_dir, *, workers=1, on_cpu=True):
    """``TrainConfig`` → TRL's ``GRPOConfig`` for one of ``workers`` processes."""
    return GRPOConfig(
        **common_arguments(config, out_dir, workers, on_cpu),
        num_generations=config.num_generations,
        num_iterations=config.num_iterations,
        max_completion_length=config.max_completion_length,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        beta=config.beta,
        use_bias_correction_kl=False,  # plain k3, as published
        epsilon=config.epsilon,
        loss_type="grpo",
        scale_rewards="group",
    )


def build_trainer(config, out_dir, *, workers=1, on_cpu=True, rows=None, callbacks=()):
    """Everything of a run put together; call inside each worker process.

    Parameters
    ----------
    config : TrainConfig
    out_dir : path
        Receives ``metrics.jsonl``, ``rollouts.jsonl`` and ``checkpoints/``.
    workers : int
        Number of processes that share the run.
    rows : list of dict, optional
        Instead of ``training_rows(config)``.

    Returns
    -------
    VideoGRPOTrainer
    """
    out_dir = Path(out_dir)
    # First: under ZeRO-3 they decide how the model is loaded.
    args = training_arguments(config, out_dir, workers=workers, on_cpu=on_cpu)
    model, processor = load_start(config)
    _sample_as_told(model, config)
    pads = [model.config.image_token_id, model.config.video_token_id]
    # A sampled pad token would ask for visual features that do not exist.
    args.generation_kwargs = {"suppress_tokens": pads}
    trainer = VideoGRPOTrainer(
        model, processor, training_rows(config) if rows is None else rows,
        args=args, mode=config.prompt_style,
        video=VideoSettings(config.frames, config.frame_size, config.max_pixels),
        reward_funcs=trl_reward_functions(config.reward, tokenizer=processor.tokenizer),
        rollouts_path=out_dir / "rollouts.jsonl",
        rollouts_per_step=config.rollouts_per_step,
        keep_checkpoints=config.keep_checkpoints,
        callbacks=list(callbacks),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    number_positions(trainer, config.positions)
    return trainer


def _sample_as_told(model, config):
    """Overwrite a checkpoint's own sampling settings.

    Published ones carry a temperature near zero, ``top_k=1`` and a repetition
    penalty; whatever a trainer leaves unset would be taken from there.
    """
    generation = model.generation_config
    generation.do_sample = True
    generation.temperature, generation.top_p = config.temperature, config.top_p
    generation.top_k, generation.repetition_penalty = 0, 1.0
