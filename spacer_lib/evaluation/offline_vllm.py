"""vLLM in this process, where it is installed."""

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import media_failure
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.language.asking import AskSettings
from spacer_lib.models.checkpoints import find_checkpoint, load_processor
from spacer_lib.models.inputs import MediaError
from spacer_lib.models.requests import tokens_per_second, vllm_prompt
from spacer_lib.rows import Question

# Rows that vLLM has under way: the frames of each are held until its answer is there,
# 34 MB for 32 frames of 448 x 28 x 28 pixels.
IN_FLIGHT = 64


class OfflineVllm:
    """vLLM in this process, if it is installed.

    Prompts are the checkpoint's own chat template with the frames that ``LocalModel``
    would show, and their rate (``models.requests.vllm_prompt``).

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
                remedy="pip install vllm in an environment of its own, or pass "
                "--backend transformers, or ask a vLLM server with --endpoint",
            ) from error
        self.name, self.multiple = str(checkpoint), multiple
        self.version = vllm.__version__
        self.sampling = vllm.SamplingParams
        path = find_checkpoint(checkpoint)
        self.processor = load_processor(path)
        self.rate = tokens_per_second(AutoConfig.from_pretrained(path))
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
        """Yield chunk by chunk; within one vLLM batches continuously."""
        prefixes = prefixes or [""] * len(rows)
        for start in range(0, len(rows), IN_FLIGHT):
            prompts, params, asked = [], [], []
            for i in range(start, min(start + IN_FLIGHT, len(rows))):
                try:
                    prompt = vllm_prompt(
                        self.processor,
                        rows[i],
                        settings.style,
                        settings.video,
                        blind=blind,
                        prefix=prefixes[i],
                        multiple=self.multiple,
                        tokens_per_second=self.rate,
                    )
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
