"""Evaluation: asking a model a benchmark's questions, and serving one."""

import contextlib
import re
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.cli.app import Benchmark, command
from spacer_lib.errors import SpacerError

Setting = typer.Option(show_default="SpaceR's")


@command
def evaluate(
    benchmark: Benchmark,
    data: Annotated[Path, typer.Option(help="Its folder or file, as published.")],
    out: Annotated[Optional[Path], typer.Option(help="Output folder.")] = None,
    model: Annotated[
        Optional[str], typer.Option(help="Checkpoint folder, or hub name.")
    ] = None,
    vllm: Annotated[bool, typer.Option(help="Run --model with vLLM.")] = False,
    endpoint: Annotated[
        Optional[str], typer.Option(metavar="URL", help="OpenAI-compatible server.")
    ] = None,
    model_name: Annotated[
        Optional[str], typer.Option(help="As the server calls it.")
    ] = None,
    floor: Annotated[
        Optional[str], typer.Option(help="No model: majority, frequency or random.")
    ] = None,
    train_data: Annotated[
        Optional[Path], typer.Option(help="Other rows, as --data, a floor counts on.")
    ] = None,
    config: Annotated[
        Optional[str], typer.Option(help="A name in configs/evaluate, or YAML.")
    ] = None,
    mode: Annotated[Optional[str], Setting] = None,
    condition: Annotated[
        Optional[str],
        typer.Option(help="own, other, blind, shuffled, oracle or random_map."),
    ] = None,
    extraction: Annotated[
        Optional[str], typer.Option(help="strict, official or strict+fallback.")
    ] = None,
    frames: Annotated[Optional[int], Setting] = None,
    size: Annotated[
        Optional[int], typer.Option(help="Square side of frames; else as they are.")
    ] = None,
    max_pixels: Annotated[Optional[int], Setting] = None,
    frames_as: Annotated[
        Optional[str], typer.Option(help="video, or images: what most servers take.")
    ] = None,
    temperature: Annotated[Optional[float], Setting] = None,
    top_p: Annotated[Optional[float], Setting] = None,
    max_new_tokens: Annotated[Optional[int], Setting] = None,
    seed: Annotated[Optional[int], typer.Option(min=0)] = None,
    batch_size: Annotated[Optional[int], typer.Option(min=1)] = None,
    limit: Annotated[
        Optional[int], typer.Option(min=1, help="Only the first so many rows.")
    ] = None,
    positions: Annotated[
        Optional[str], typer.Option(help="Of --model: original or library.")
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the server's key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 4,
    jpeg: Annotated[bool, typer.Option(help="Smaller requests; else PNG.")] = False,
    fallback_endpoint: Annotated[
        Optional[str], typer.Option(metavar="URL", help="Reads what the rule cannot.")
    ] = None,
    fallback_model: Annotated[
        Optional[str], typer.Option(help="As that server calls it.")
    ] = None,
    fallback_key_variable: Annotated[
        str, typer.Option(help="Environment variable with that server's key.")
    ] = "OPENAI_API_KEY",
    overwrite: Annotated[
        bool, typer.Option(help="Drop what --out holds of other settings.")
    ] = False,
):
    """Ask a benchmark's questions and score the answers; resumes."""
    from spacer_lib.benchmarks import named
    from spacer_lib.evaluation.config import load_evaluation
    from spacer_lib.evaluation.runner import run as ask

    chosen = load_evaluation(
        config,
        mode=mode,
        condition=condition,
        extraction=extraction,
        frames=frames,
        size=size,
        max_pixels=max_pixels,
        frames_as=frames_as,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
    )
    if sum(choice is not None for choice in (model, endpoint, floor)) != 1:
        raise SpacerError(
            "who answers",
            got="none or several",
            remedy="say --model PATH, --endpoint "
            "URL with --model-name, or --floor KIND",
        )
    if bool(endpoint) != bool(model_name):
        raise SpacerError("--endpoint and --model-name", got="one", expected="both")
    if bool(fallback_endpoint) != bool(fallback_model):
        raise SpacerError(
            "--fallback-endpoint and --fallback-model", got="one", expected="both"
        )
    bench = named(benchmark)
    rows = bench.read(data)[: chosen.limit]
    settings = chosen.settings(bench.mode, "images" if endpoint else "video")
    if endpoint:
        form = "jpeg" if jpeg else "png"
        backend = _endpoint(endpoint, model_name, key_variable, concurrency, form)
    elif floor:
        train_rows = bench.read(train_data) if train_data else None
        backend = _floor(floor, rows, train_rows)
    else:
        backend = _checkpoint(model, positions, vllm, settings.video.frames)
    name = re.sub(r"[^\w.-]+", "_", Path(model or model_name or floor).name)
    out = out or PROJECT_ROOT / "runs" / f"{bench.name}__{name}__{chosen.condition}"
    try:
        ask(
            bench,
            rows,
            backend,
            out,
            settings,
            condition=chosen.condition,
            extraction=chosen.extraction,
            overwrite=overwrite,
            fallback=_endpoint(
                fallback_endpoint, fallback_model, fallback_key_variable, concurrency
            )
            if fallback_endpoint
            else None,
        )
    except KeyboardInterrupt:
        print(f"{out}: stopped; the same command goes on", file=sys.stderr)
        raise
    found = read_json(out / "scores.json")
    print(_scores_text(bench, backend.name, found))
    print(f"{out}: predictions.jsonl, scores.json, evaluation.json")
    return found


def _endpoint(url, name, key_variable, concurrency, form="png"):
    from spacer_lib.evaluation.chat import Endpoint

    return Endpoint(
        url, name, key_variable=key_variable, concurrency=concurrency, form=form
    )


def _floor(kind, rows, train_rows):
    from spacer_lib.evaluation.floors import Floor

    return Floor(kind, rows, train_rows)


def _checkpoint(model, positions, vllm, frames):
    if vllm:
        from spacer_lib.evaluation.offline_vllm import OfflineVllm

        return OfflineVllm(model, frames=frames)
    from spacer_lib.evaluation.backends import LocalModel, load

    return LocalModel(*load(model, positions), name=model)


def _scores_text(bench, who, found):
    """Tasks and aggregates in percent with their intervals, then what failed."""
    head = f"{'':34}{'n':>6}{'score':>8}{'95%':>16}{'failed':>8}"
    lines = [f"{bench.title}: {who}", head]
    shown = "kind", "macro" if found["rule"] == "macro" else "overall"
    for row in found["table"]:
        if row["level"] not in shown:
            continue
        low, high = row["score_low"], row["score_high"]
        interval = "" if low is None else f"[{100 * low:.1f}, {100 * high:.1f}]"
        lines.append(
            f"{row['name']:34}{row['n']:>6}{100 * row['score']:>8.1f}{interval:>16}"
            f"{row['failures']:>8}"
        )
    for axis, parts in found["groups"].items():
        for value, part in parts.items():
            score = 100 * part[found["rule"]]
            lines.append(f"{f'  {axis}: {value}':34}{part['n']:>6}{score:>8.1f}")
    if found["tokens"] is not None:
        lines.append(f"{found['tokens']:.0f} tokens an answer")
    for reason, count in found["failures"].items():
        lines.append(f"{count} failed: {reason}")
    unseen = ("missing_media", "broken_media", "request_failed", "refused", "no_text")
    for name, failure in found["failed"].items():
        if failure.startswith(unseen):
            lines.append(f"  {name}: {failure}")
    return "\n".join(lines)


@command
def serve(
    model: Annotated[str, typer.Option(help="Checkpoint folder, or hub name.")],
    port: Annotated[int, typer.Option(min=0, help="0: any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="There is no key: mind who listens.")] = (
        "127.0.0.1"
    ),
    name: Annotated[
        Optional[str], typer.Option(help="In requests; the folder's if not given.")
    ] = None,
    max_pixels: Annotated[Optional[int], typer.Option(min=1)] = None,
    positions: Optional[str] = None,
):
    """Serve a checkpoint as OpenAI's chat completions, one request at a time."""
    from spacer_lib.evaluation.backends import load
    from spacer_lib.evaluation.serve import make_server

    name = name or Path(model).name
    server = make_server(
        *load(model, positions), name, host=host, port=port, max_pixels=max_pixels
    )
    host, port = server.server_address[:2]
    print(f"{name} at http://{host}:{port}/v1", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return {"host": host, "port": port, "name": name}
