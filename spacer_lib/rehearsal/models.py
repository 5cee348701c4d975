"""Stages about models with random weights: steps, decoding, answers.

The models have the published shapes of ``models.shapes`` on a GPU, and the tiny one
otherwise. What is computed, and how fast, does not depend on the weights.
"""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import importlib.util
from functools import partial
from typing import Any

import torch

from spacer_lib.artifacts import scratch_folder
from spacer_lib.models.patches.cache import with_room
from spacer_lib.models.patches.patch_embedding import use_linear_patches
from spacer_lib.models.sampling import KeyedSampling
from spacer_lib.models.shapes import Sizes, sizes_of
from spacer_lib.rehearsal.parts import bench
from spacer_lib.rehearsal.readings import Readings
from spacer_lib.rehearsal.runs import TINY, random_checkpoint
from spacer_lib.training.prefix import prefill

HUB = "Qwen/Qwen2.5-VL-{}-Instruct"


def _sizes(name: str) -> Sizes:
    found = sizes_of(str(TINY) if name == "tiny" else HUB.format(name.upper()))
    assert found is not None  # a shape of ours
    return found


# ---------------------------------------------------------------- a step


def step(readings: Readings) -> None:
    """Log-probabilities, update and generation: seconds, memory, share of the rate."""
    plans = [("3b", 1100, 400), ("7b", 1100, 400), ("7b", 2300, 1024)]
    if not readings.big:
        plans = [("tiny", 60, 8)]
    rate = readings.matrix_rate()
    readings.add("matrix rate", tflop_per_s=rate / 1e12)
    for name, prompt, completion in plans:
        readings.attempt(
            f"{name}, prompt {prompt}, completions of {completion}",
            _step,
            readings,
            rate,
            name,
            prompt,
            completion,
        )


def _step(
    readings: Readings, rate: float, name: str, prompt: int, completion: int
) -> None:
    made = bench()
    few = 32 if readings.big else 4  # tokens that are generated
    shape = made.StepShape(name, prompt, completion, 8 if readings.big else 2, few)
    one = made.Step(shape, readings.device)
    use_linear_patches(one.model)  # as training does
    forms = [made.SHARED, made.ONE_ROW]
    if completion < 1000:  # a padded batch of the longest does not fit
        forms.append(made.BATCH)
    for form in forms:
        for work, known in made.WORKS.items():
            if form in known:
                readings.attempt(
                    f"{name}, {prompt}/{completion}, {work}, {form}",
                    _phase,
                    readings,
                    rate,
                    one,
                    work,
                    form,
                )


def _phase(readings: Readings, rate: float, one: Any, work: str, form: str) -> None:
    shape = one.shape
    one.timed(work, form)  # warm
    peak = readings.peak_gib(lambda: one.timed(work, form))
    runs = [one.timed(work, form) for _ in range(3)]
    for phase in runs[0]:
        seconds = sorted(run[phase] for run in runs)[1]
        facts: dict[str, Any] = {"seconds": seconds, "peak_gib": peak}
        tokens = shape.tokens()[phase].get(form)
        if work != "generation":
            facts["tokens_per_s"] = tokens / seconds
            done = _operations(shape, tokens, backward=work == "update")
            facts["share_of_matrix_rate"] = done / seconds / rate
        elif phase == "decode":
            facts["ms_a_token"] = 1e3 * seconds / (shape.generated - 1)
        readings.add(
            f"{shape.model}, {shape.prompt}/{shape.completion}, {phase}, {form}",
            predicted=_predicted(shape.model, shape.completion, phase, form),
            **facts,
        )


def _operations(shape: Any, tokens: int, backward: bool) -> float:
    """Of the language model and its head; layers run again in a big one's backward."""
    sizes, again = _sizes(shape.model), shape.model != "tiny"
    layers, head = (8 if again else 6, 6) if backward else (2, 2)
    answers = sum(shape.lengths())
    return layers * sizes.layers * tokens + head * sizes.head * answers


def _predicted(name: str, completion: int, phase: str, form: str) -> str | None:
    if (name, completion, form) == ("7b", 1024, "shared"):
        return {
            "update": "1.3-1.8 s, 40-50 % of the matrix rate, 34 GiB with gradients",
            "log-probs": "0.4 s",
            "prefill": "0.2 s",
            "decode": "25-30 ms a token",
        }[phase]
    return None


# ---------------------------------------------------------------- decoding


def decode(readings: Readings) -> None:
    """Milliseconds a token of a 7B group, by cache, sampler and engine."""
    name, prompt = ("7b", 2300) if readings.big else ("tiny", 60)
    counts = (8, 32, 64) if readings.big else (2,)
    made = bench()
    one = made.Step(made.StepShape(name, prompt, 8, 8), readings.device)
    one.model.eval()
    one.model.activation_checkpointing_disable()
    ways = {
        "library cache": (False, None),
        "roomy cache": (True, None),
        "roomy cache, noise": (True, 1.0),
        "roomy cache, noise, top_p": (True, 0.95),
    }
    for rows in counts:
        for how, (roomy, top_p) in ways.items():
            readings.attempt(
                f"{rows} rows, {how}",
                _decode,
                readings,
                one,
                rows,
                how,
                roomy,
                top_p,
            )
    for how, options in (
        ("static cache", {"disable_compile": True}),
        ("static cache, compiled", {}),
    ):
        if readings.cuda or options:  # the library compiles on GPUs alone
            readings.attempt(
                f"{counts[0]} rows, {how}",
                _static,
                readings,
                one,
                counts[0],
                how,
                options,
            )
    del one
    readings.attempt("vLLM", lambda: _vllm(readings, name, prompt, counts))


def _generate(one: Any, inputs: Any, count: int, **options: Any) -> None:
    with torch.no_grad():
        one.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
            **options,
        )


def _decode(
    readings: Readings, one: Any, rows: int, how: str, roomy: bool, top_p: float | None
) -> None:
    count = 64 if readings.big else 6

    def run() -> None:
        prompts = [one.prompt.tolist()] * rows
        with torch.no_grad():
            inputs = prefill(one.model, prompts, [one.media] * rows, 0, one.device)
        if roomy:
            with_room(inputs["past_key_values"])
        noise = []
        if top_p is not None:
            width = inputs["input_ids"].shape[1]
            noise = [KeyedSampling(list(range(rows)), width, 1.0, top_p)]
        _generate(one, inputs, count, logits_processor=noise)

    peak = readings.peak_gib(run)
    readings.add(
        f"{rows} rows, {how}",
        ms_a_token_with_prefill=1e3 * readings.timed(run) / count,
        tokens=count,
        peak_gib=peak,
        predicted="25-30 ms; noise and top_p 1-2 ms more",
    )


def _static(
    readings: Readings, one: Any, rows: int, how: str, options: dict[str, Any]
) -> None:
    inputs = one._rows([one.completions[0][:0]] * rows)
    count = 64 if readings.big else 6

    def run(tokens: int) -> None:
        _generate(one, inputs, tokens, cache_implementation="static", **options)

    run(count)  # compiles
    first, many = (readings.timed(partial(run, n)) for n in (1, count))
    readings.add(
        f"{rows} rows, {how}",
        ms_a_token=1e3 * (many - first) / (count - 1),
        tokens=count,
        peak_gib=readings.peak_gib(lambda: run(count)),
        predicted="6-8 ms compiled",
    )


def _vllm(readings: Readings, name: str, prompt: int, counts: tuple[int, ...]) -> None:
    if importlib.util.find_spec("vllm") is None:
        readings.add("vLLM", found="not installed", predicted="6-7 ms")
        return
    import vllm

    count = 64 if readings.big else 6
    with scratch_folder() as folder:
        random_checkpoint(name, folder, readings.device)
        engine = vllm.LLM(
            model=str(folder),
            max_model_len=prompt + 2 * count,
            limit_mm_per_prompt={"image": 0, "video": 0},
            enforce_eager=not readings.big,
            gpu_memory_utilization=0.8,
        )
        for rows in counts:
            words = [{"prompt_token_ids": [300 + i] * prompt} for i in range(rows)]

            def run(tokens: int, words: Any = words) -> None:
                params = vllm.SamplingParams(
                    temperature=1.0,
                    top_p=0.95,
                    max_tokens=tokens,
                    min_tokens=tokens,
                    ignore_eos=True,
                )
                engine.generate(words, params, use_tqdm=False)

            first, many = (readings.timed(partial(run, n)) for n in (1, count))
            readings.add(
                f"{rows} rows, vLLM {vllm.__version__}",
                ms_a_token=1e3 * (many - first) / (count - 1),
                predicted="6-7 ms",
            )


# ---------------------------------------------------------------- answers


def evaluate(readings: Readings) -> None:
    """Prompts of 32 frames x 448 x 28 x 28 pixels: prefill a row, time a token."""
    name, prompt = ("7b", 7300) if readings.big else ("tiny", 120)
    made = bench()
    one = made.Step(made.StepShape(name, prompt, 8, 8), readings.device)
    use_linear_patches(one.model)
    one.model.eval()
    one.model.activation_checkpointing_disable()
    for rows in (4, 8, 16) if readings.big else (2,):
        readings.attempt(f"{rows} rows", _answers, readings, one, rows)


def _answers(readings: Readings, one: Any, rows: int) -> None:
    inputs = one._rows([one.completions[0][:0]] * rows)
    peak = readings.peak_gib(lambda: _generate(one, inputs, 1))
    first, many = (
        readings.timed(partial(_generate, one, inputs, n), 2) for n in (1, 17)
    )
    readings.add(
        f"{rows} rows",
        prefill_s_a_row=first / rows,
        ms_a_token=1e3 * (many - first) / 16,
        peak_gib=peak,
        predicted="25-30 ms a token; the tower's windows 2-3 s a batch of 8",
    )
