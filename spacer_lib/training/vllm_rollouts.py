"""Rollouts by vLLM: the rows that the loss sees, native video included.

TRL's own vLLM generation puts images only into a row. Here a row carries its frames
with their places in the video and their rate (``models.requests``). ``alignment``
checks that vLLM computes what the loss computes.

``Colocated``: an engine in each training process. ``Served``: ``vllm serve``.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import openai
import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file
from trl.generation.vllm_generation import VLLMGeneration

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import PromptStyle
from spacer_lib.models.checkpoints import find_checkpoint
from spacer_lib.models.requests import chat_request, tokens_per_second, vllm_prompt
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rows import Question
from spacer_lib.training.batches import Batch, Trainer
from spacer_lib.training.recipe import TrainConfig

MOST_IMAGES = 32  # of one prompt
CPU_CACHE_BYTES = 2**30  # for keys and values; vLLM would take half of the memory
NEVER = -100.0  # the lowest bias that vLLM takes: e**-100 of a token's probability
TRUST = "--trust-request-mm-kwargs"

Weights = Iterator[tuple[str, torch.Tensor]]


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes
    ----------
    temperature : float
        0 is greedy.
    top_p : float
    max_tokens : int
    ends : tuple of int
        Tokens that end a completion.
    suppressed : tuple of int
        Tokens that are not drawn: the placeholders of images and videos.
    prompt_logps : bool
        Ask for the log-probabilities of the prompt's tokens too.
    """

    temperature: float
    top_p: float
    max_tokens: int
    ends: tuple[int, ...]
    suppressed: tuple[int, ...]
    prompt_logps: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """As vLLM names them. All are stated, or the checkpoint's own would hold."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": self.max_tokens,
            "stop_token_ids": list(self.ends),
            "prompt_logprobs": 0 if self.prompt_logps else None,
        }


class Made(NamedTuple):
    """What vLLM answers.

    Attributes
    ----------
    prompt_ids : list of int
        With each placeholder expanded to the tokens of its image or video.
    ids : list of int
        Of the completion, with the token that ends it.
    logps : list of float or None
        One for each token of the completion.
    prompt_logps : list of float or None
        One for each token of the prompt, if asked for; ``None`` at the first.
    """

    prompt_ids: list[int]
    ids: list[int]
    logps: list[float | None]
    prompt_logps: list[float | None] | None = None


class Engine(Protocol):
    """vLLM, in this process or behind an address."""

    def ask(
        self,
        rows: Sequence[Question],
        style: PromptStyle,
        video: VideoSettings,
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Made]:
        """One completion for each row, by its seed."""

    def load(self, weights: Weights) -> None:
        """Replace all weights, and forget everything computed with the old ones."""

    def rest(self) -> None:
        """Give memory back until the next ``load``, where the platform can."""


# ---------------------------------------------------------------- in this process


class Colocated:
    """A vLLM engine in this process, beside the model in training.

    Parameters
    ----------
    checkpoint : path or str
        Folder or hub name.
    processor : processor of a Qwen-VL model
    sleep : bool
        Release weights and cache between rollouts. A CPU cannot.
    workers : int
        Training processes; each has an engine of its own.
    **options
        Of ``vllm.LLM``, such as ``dtype``, ``max_model_len``, ``enforce_eager`` and
        ``gpu_memory_utilization``.

    Raises
    ------
    SpacerError
        If vLLM is not installed.
    """

    def __init__(
        self,
        checkpoint: PathLike,
        processor: Any,
        *,
        sleep: bool = False,
        workers: int = 1,
        **options: Any,
    ) -> None:
        # In this process, or its weights could not be replaced from here.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        vllm = require_vllm()
        from vllm.platforms import current_platform

        self.processor = processor
        self._params = vllm.SamplingParams
        if current_platform.is_cpu():
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            options.setdefault("kv_cache_memory_bytes", CPU_CACHE_BYTES)
            options.pop("gpu_memory_utilization", None)
            # Compilation on a CPU fails where the path holds a space.
            options["enforce_eager"] = True
            # A prompt in pieces winds its seeded generator back, which a CPU's cannot.
            options["enable_chunked_prefill"] = False
            sleep = False
        if workers > 1:
            options["distributed_executor_backend"] = "external_launcher"
        self.sleeps = sleep and current_platform.is_sleep_mode_available()
        self.llm = vllm.LLM(
            model=find_checkpoint(checkpoint),
            limit_mm_per_prompt={"image": MOST_IMAGES, "video": 1},
            enable_sleep_mode=self.sleeps,
            # With temperature, as the loss has it.
            logprobs_mode="processed_logprobs",
            # Nothing of the checkpoint's own sampling settings.
            generation_config="vllm",
            **options,
        )

        self._rate = tokens_per_second(self.llm.model_config.hf_config)

    def ask(
        self,
        rows: Sequence[Question],
        style: PromptStyle,
        video: VideoSettings,
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Made]:
        """See ``Engine``. Rows of a group share pixels, encoder output and prefix."""
        known: dict[int, dict[str, Any]] = {}
        for row in rows:
            if id(row) not in known:
                known[id(row)] = vllm_prompt(
                    self.processor,
                    row,
                    style,
                    video,
                    multiple=_multiple(self.processor),
                    tokens_per_second=self._rate,
                )
        bias = dict.fromkeys(sampling.suppressed, NEVER)
        params = [
            self._params(**sampling.values, logit_bias=bias, logprobs=0, seed=seed)
            for seed in seeds
        ]
        prompts = [known[id(row)] for row in rows]
        made = self.llm.generate(prompts, params, use_tqdm=False)
        return [self._made(output) for output in made]

    @staticmethod
    def _made(output: Any) -> Made:
        (one,) = output.outputs
        ids = list(one.token_ids)
        logps = [at[token].logprob for token, at in zip(ids, one.logprobs, strict=True)]
        prompt = list(output.prompt_token_ids)
        before = output.prompt_logprobs and [
            at and at[token].logprob
            for token, at in zip(prompt, output.prompt_logprobs, strict=True)
        ]
        return Made(prompt, ids, logps, before)

    def load(self, weights: Weights) -> None:
        """See ``Engine``.

        vLLM's layer-wise reload, because some platforms keep weights in a form of
        their own: on a CPU a linear layer's weight is packed and then empty, and a
        plain ``load_weights`` would change nothing.
        """
        if self.sleeps:
            torch.cuda.empty_cache()
            self.llm.wake_up(tags=["weights"])
        # A layer is loaded once it is whole: under ZeRO-3 its parts are gone by then.
        copies = ((name, weight.detach().clone()) for name, weight in weights)
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": copies})
        if self.sleeps:
            self.llm.wake_up(tags=["kv_cache"])
        _pack_heads_again(self._model)
        self.llm.reset_prefix_cache()
        # Frames seen before would keep the old vision tower's output.
        self.llm.llm_engine.reset_encoder_cache()

    def rest(self) -> None:
        """See ``Engine``."""
        if self.sleeps:
            self.llm.sleep(level=2)

    @property
    def _model(self) -> Any:
        worker = self.llm.llm_engine.model_executor.driver_worker.worker
        return worker.model_runner.get_model()

    @contextmanager
    def positions_seen(self) -> Iterator[list[dict[str, Any]]]:
        """Collect the position numbers that vLLM gives to prompts while this is open.

        Yields
        ------
        list of dict
            ``positions`` (3, n) and, for a video, ``seconds`` of a time step, of each
            prompt in the order in which vLLM first ran it.
        """
        model, seen = self._model, []
        number = model.get_mrope_input_positions

        def observed(tokens: list[int], features: Any) -> Any:
            positions, delta = number(tokens, features)
            found: dict[str, Any] = {"positions": torch.as_tensor(positions).cpu()}
            for feature in features:
                data = feature.data.get_data() if feature.data else {}
                if "second_per_grid_ts" in data:
                    found["seconds"] = float(data["second_per_grid_ts"])
            seen.append(found)
            return positions, delta

        model.get_mrope_input_positions = observed
        try:
            yield seen
        finally:
            del model.get_mrope_input_positions


def _pack_heads_again(model: torch.nn.Module) -> None:
    """Pack the head of a reloaded model again.

    On a CPU the head has a packed copy of its weights. Where it shares them with the
    embedding, the reload loads the embedding alone and the copy stays old.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def require_vllm() -> Any:
    """The module ``vllm``.

    Raises
    ------
    SpacerError
        If it is not installed.
    """
    try:
        import vllm
    except ImportError as error:
        raise SpacerError(
            "rollouts by vLLM",
            kind="training.no-vllm",
            got=error,
            expected="vLLM in this environment",
            remedy="make vllm and use .venv-vllm (CPU), pip install vllm (GPU), or set "
            "advanced.vllm to null",
        ) from error
    return vllm


def _multiple(processor: Any) -> int:
    encoder = processor.image_processor
    return encoder.patch_size * encoder.merge_size


# ---------------------------------------------------------------- behind an address


class Served:
    """``vllm serve``, asked through its chat completions.

    Weights reach it as a safetensors file that both can read; with CUDA over NCCL, as
    TRL sends them. Either needs ``VLLM_SERVER_DEV_MODE=1``.

    Parameters
    ----------
    url : str
        Such as ``http://127.0.0.1:8000``.
    processor : processor of a Qwen-VL model
    folder : path, optional
        For the weights; the server must see it under the same name.
    sender : VLLMGeneration, optional
        TRL's, which sends weights over NCCL.
    leader : bool
        Whether this process sends the weights.
    concurrency : int
        Requests under way at once.
    tokens_per_second : float, optional
        See ``models.requests.shown_media``.

    Raises
    ------
    SpacerError
        If the server cannot be asked.
    """

    def __init__(
        self,
        url: str,
        processor: Any,
        *,
        folder: PathLike | None = None,
        sender: VLLMGeneration | None = None,
        leader: bool = True,
        concurrency: int = 32,
        tokens_per_second: float | None = None,
    ) -> None:
        self.url, self.processor = url.rstrip("/").removesuffix("/v1"), processor
        self.folder, self.sender, self.leader = folder, sender, leader
        self.concurrency = concurrency
        self.tokens_per_second = tokens_per_second
        self._client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key="none", timeout=600.0, max_retries=2
        )
        try:
            self.model = self._client.models.list().data[0].id
        except openai.APIError as error:
            raise self._problem(error) from error

    def ask(
        self,
        rows: Sequence[Question],
        style: PromptStyle,
        video: VideoSettings,
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Made]:
        """See ``Engine``."""
        settings = AskSettings(style, video)
        multiple, known = _multiple(self.processor), {}
        for row in rows:  # the cache of frames is for one thread
            if id(row) not in known:
                known[id(row)] = chat_request(
                    row,
                    settings,
                    multiple=multiple,
                    tokens_per_second=self.tokens_per_second,
                )
        values = sampling.values
        extra = {
            key: values[key]
            for key in ("top_k", "min_p", "repetition_penalty", "stop_token_ids")
        }
        if sampling.prompt_logps:
            extra["prompt_logprobs"] = 0

        def send(row: Question, seed: int) -> Made:
            body = dict(known[id(row)])
            made = self._client.chat.completions.create(
                model=self.model,
                messages=body.pop("messages"),
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed,
                logprobs=True,
                logit_bias={str(token): int(NEVER) for token in sampling.suppressed},
                extra_body={**body, **extra, "return_token_ids": True},
            )
            return _received(made)

        with ThreadPoolExecutor(min(self.concurrency, len(rows))) as pool:
            try:
                return list(pool.map(send, rows, seeds))
            except openai.APIError as error:
                raise self._problem(error) from error

    def load(self, weights: Weights) -> None:
        """See ``Engine``."""
        if self.sender is not None:
            self.sender.sync_weights()
        else:
            self._load_file(weights)
        if self.leader:
            self._post("reset_prefix_cache")
            self._post("reset_encoder_cache")

    def _load_file(self, weights: Weights) -> None:
        # All processes walk the weights: gathering one is a joint operation.
        held = {
            name: weight.detach().cpu().clone().contiguous()
            for name, weight in weights
            if self.leader
        }
        if not self.leader:
            return
        folder = Path(self.folder or "vllm_weights").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        self._post("collective_rpc", call)
        shutil.rmtree(folder)

    def rest(self) -> None:
        """See ``Engine``. A server keeps its memory."""

    def _post(self, path: str, body: Any = None) -> None:
        try:
            self._client.post(f"{self.url}/{path}", cast_to=object, body=body or {})
        except openai.APIError as error:
            raise self._problem(error) from error

    def _problem(self, error: openai.APIError) -> SpacerError:
        said = (str(error).splitlines() or [""])[0][:300]
        kind = "training.vllm-server"
        remedy = "start it with vllm serve MODEL"
        if "kwargs are disabled" in said:
            kind = "training.vllm-untrusting"
            remedy = f"start it with {TRUST}"
        elif isinstance(error, openai.NotFoundError):
            remedy = "start it with VLLM_SERVER_DEV_MODE=1 in its environment"
        return SpacerError(
            f"vLLM server {self.url}", kind=kind, got=said, remedy=remedy
        )


def _received(made: Any) -> Made:
    (choice,) = made.choices
    logps: list[float | None] = [at.logprob for at in choice.logprobs.content]
    prompt, before = list(made.prompt_token_ids), made.prompt_logprobs
    return Made(
        prompt,
        list(choice.token_ids),
        logps,
        before
        and [
            at and at[str(token)]["logprob"]
            for token, at in zip(prompt, before, strict=True)
        ],
    )


# ---------------------------------------------------------------- for a trainer


class _Weights(VLLMGeneration):
    """TRL's walk over the weights (ZeRO-3 gathered, LoRA merged), without an engine."""

    def _init_vllm(self) -> None:
        pass

    def __iter__(self) -> Weights:
        return self._iter_named_params()


class VllmRollouts:
    """Draws a trainer's rollouts by vLLM and keeps its weights up to date.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    engine : Engine
    """

    def __init__(self, trainer: Trainer, engine: Engine) -> None:
        self.trainer, self.engine = trainer, engine
        self._held: int | None = None  # step whose weights the engine holds

    def sampling(self, **changes: Any) -> Sampling:
        """The run's sampling settings."""
        trainer = self.trainer
        config = trainer.model.config
        values = {
            "temperature": trainer.temperature,
            "top_p": trainer.top_p,
            "max_tokens": trainer.max_completion_length,
            "ends": tuple(trainer.eos_token_ids),
            "suppressed": (config.image_token_id, config.video_token_id),
        }
        return Sampling(**(values | changes))

    def refresh(self) -> None:
        """Give the engine the weights of this step, unless it holds them."""
        trainer = self.trainer
        if self._held == trainer.state.global_step:
            return
        weights = _Weights(trainer.model, trainer.accelerator, trainer.processing_class)
        self.engine.load(iter(weights))
        trainer.accelerator.wait_for_everyone()
        self._held = trainer.state.global_step

    def rest(self) -> None:
        """Let the engine give memory back; what it held it must be given again."""
        self.engine.rest()
        if getattr(self.engine, "sleeps", False):
            self._held = None

    def draw(
        self, batch: Batch, keys: Sequence[int]
    ) -> tuple[list[list[int]], list[list[float | None]]]:
        """Token ids of one completion for each entry of a batch, and their
        log-probabilities. An entry's key is its seed.

        Raises
        ------
        SpacerError
            If vLLM made other tokens of a prompt than the trainer.
        """
        self.refresh()
        seeds = [key & (2**63 - 1) for key in keys]
        style = self.trainer.source.style
        style = PromptStyle(style) if isinstance(style, str) else style
        made = self.engine.ask(batch.rows, style, batch.video, seeds, self.sampling())
        self.rest()
        for row, own, one in zip(batch.rows, batch.prompt_ids, made, strict=True):
            require_equal_prompts(row, own, one.prompt_ids)
        return [one.ids for one in made], [one.logps for one in made]


def first_difference(one: list[int], other: list[int]) -> int:
    """The first place at which two lists differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def require_equal_prompts(row: Question, own: list[int], there: list[int]) -> None:
    """Refuse a prompt of which vLLM made other tokens than the trainer."""
    if own == there:
        return
    raise SpacerError(
        f"row {row.get('id')}: its prompt at vLLM",
        kind="training.vllm-prompt",
        got=f"{len(there)} tokens, other ones from place "
        f"{first_difference(own, there)} on",
        expected=f"the trainer's {len(own)}",
        remedy="compare processor and chat template of the checkpoint that vLLM serves",
    )


def rollouts_for(
    trainer: Trainer,
    config: TrainConfig,
    folder: PathLike,
    *,
    workers: int = 1,
    on_cpu: bool = True,
) -> VllmRollouts:
    """``VllmRollouts`` of a recipe's ``advanced.vllm``.

    Parameters
    ----------
    trainer : VideoGRPOTrainer
    config : TrainConfig
    folder : path
        Run folder.
    workers : int
    on_cpu : bool

    Raises
    ------
    SpacerError
        If vLLM is not installed, or its server cannot be asked or could not be kept
        up to date.
    """
    require_vllm()
    advanced, processor = config.advanced, trainer.processing_class
    if advanced.vllm == "server":
        sender = None
        if on_cpu:
            _require_untied_head(trainer.model)
        else:
            sender = VLLMGeneration(
                trainer.model,
                trainer.accelerator,
                processor,
                mode="server",
                server_base_url=advanced.vllm_server,
            )
        served = Served(
            advanced.vllm_server,
            processor,
            folder=Path(folder) / "vllm_weights",
            sender=sender,
            leader=trainer.accelerator.is_main_process,
            tokens_per_second=tokens_per_second(trainer.model.config),
        )
        return VllmRollouts(trainer, served)
    engine = Colocated(
        config.model_path,
        processor,
        sleep=advanced.vllm_sleep,
        workers=workers,
        dtype="bfloat16" if config.bf16 else "float32",
        max_model_len=advanced.vllm_length,
        gpu_memory_utilization=advanced.vllm_memory,
        enforce_eager=advanced.vllm_eager,
        trust_remote_code=advanced.remote_code,
        seed=config.seed,
    )
    # vLLM seeds the generators of this process.
    set_seed(config.seed, device_specific=True)
    return VllmRollouts(trainer, engine)


def _require_untied_head(model: Any) -> None:
    """A server on a CPU keeps an old copy of a head that shares the embedding."""
    head = model.get_output_embeddings()
    shared = head.weight is model.get_input_embeddings().weight
    if shared and head.weight.requires_grad:
        raise SpacerError(
            "advanced.vllm: server",
            kind="training.vllm-tied-head",
            got="a head that shares the embedding, in training on a CPU",
            expected="colocate, a GPU, or a frozen language model",
            remedy="set advanced.vllm=colocate",
        )
