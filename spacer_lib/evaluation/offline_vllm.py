"""vLLM in this process, where it is installed."""

from collections.abc import Sequence
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import media_failure
from spacer_lib.evaluation.chat import shown_media
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.checkpoints import find_checkpoint, load_processor
from spacer_lib.models.inputs import MediaError
from spacer_lib.rows import Question


class OfflineVllm:
    """vLLM in this process, if it is installed.

    Prompts are the checkpoint's own chat template with the frames that ``LocalModel``
    would show, and their rate. vLLM's ``LLM.chat`` cannot take a rate.

    Parameters
    ----------
    checkpoint : path or str
        Folder or hub name.
    frames : int
        Images a prompt may hold, if a video goes as images.
    multiple : int
        See ``models.inputs.fit_pixels``.
    options
        Of ``vllm.LLM``, such as ``tensor_parallel_size``.

    Raises
    ------
    SpacerError
        If vLLM is not installed.
    """

    batched = False  # a row's seed is its own

    def __init__(
        self,
        checkpoint: PathLike,
        *,
        frames: int = 32,
        multiple: int = 28,
        **options: Any,
    ) -> None:
        try:
            import vllm
        except ImportError as error:
            raise SpacerError(
                "backend vllm",
                kind="evaluation.no-vllm",
                got=error,
                expected="vLLM and a GPU that it supports",
                remedy="pip install vllm in an environment of its own, or leave "
                "--vllm out (transformers), or ask a vLLM server with --endpoint",
            ) from error
        self.name, self.multiple = str(checkpoint), multiple
        self.version = vllm.__version__
        self.sampling = vllm.SamplingParams
        path = find_checkpoint(checkpoint)
        self.processor = load_processor(path)
        # A benchmark's row shows a few images, or one video of ``frames`` frames.
        most = {"image": max(frames, 32), "video": 1}
        self.llm = vllm.LLM(model=path, limit_mm_per_prompt=most, **options)

    def identity(self) -> dict[str, Any]:
        """Name of the checkpoint and vLLM's version."""
        return {"backend": "vllm", "model": self.name, "version": self.version}

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield chunk by chunk; vLLM itself orders the work within one."""
        prefixes = prefixes or [""] * len(rows)
        for start in range(0, len(rows), settings.batch_size):
            prompts, params, asked = [], [], []
            for i in range(start, min(start + settings.batch_size, len(rows))):
                try:
                    prompt = self._prompt(rows[i], settings, prefixes[i], blind)
                except MediaError as error:
                    yield i, Reply(failure=media_failure(error.source))
                    continue
                prompts.append(prompt)
                params.append(self._params(rows[i], settings))
                asked.append(i)
            if not asked:
                continue
            outputs = self.llm.generate(prompts, params, use_tqdm=False)
            for i, output in zip(asked, outputs, strict=True):
                made = output.outputs[0]
                yield i, Reply(prefixes[i] + made.text, len(made.token_ids))

    def _params(self, row: Question, settings: AskSettings) -> Any:
        seed = keyed(settings.seed, row["id"]).integers(2**31)
        return self.sampling(
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=int(seed),
            max_tokens=settings.max_new_tokens,
            # Set here, or the checkpoint's own sampling settings would hold.
            top_k=-1,
            repetition_penalty=1.0,
        )

    def _prompt(
        self, row: Question, settings: AskSettings, prefix: str, blind: bool
    ) -> dict[str, Any]:
        (turn,) = settings.style.messages(row)
        parts: list[dict[str, Any]] = []
        media: dict[str, list[Any]] = {}
        extra: dict[str, float] = {}
        for part in turn["content"]:
            if part["type"] == "text":
                parts.append(part)
            elif not blind:
                kind, shown, timing = shown_media(part, settings.video, self.multiple)
                parts += [{"type": kind}] * len(shown)
                media.setdefault(kind, []).extend(shown)
                extra.update(timing)
        text = self.processor.apply_chat_template(
            [{**turn, "content": parts}], tokenize=False, add_generation_prompt=True
        )
        prompt: dict[str, Any] = {"prompt": text + prefix}
        if media:
            prompt["multi_modal_data"] = media
        if extra:
            prompt["mm_processor_kwargs"] = {"fps": extra["fps"]}
        return prompt
