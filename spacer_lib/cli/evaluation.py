"""Evaluation: asking a model a benchmark's questions, and serving one."""

import contextlib
import dataclasses
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.cli.app import Benchmark, command, extra
from spacer_lib.cli.choices import (
    CONDITIONS,
    EXTRACTIONS,
    FLOORS,
    POSITIONS,
    check_choice,
    check_exists,
    check_model,
    names_in,
    one_of,
)
from spacer_lib.cli.servers import (
    Deadline,
    FallbackEndpoint,
    FallbackKey,
    FallbackModel,
    MaxFailed,
    MaxReplyBytes,
    fallback_backend,
)
from spacer_lib.cli.servers import endpoint as server
from spacer_lib.errors import SpacerError
from spacer_lib.rows import Question

# Keys of EvaluationConfig: `--set KEY=VALUE`, or `--KEY VALUE` for short.
SETTINGS = (
    "mode",
    "condition",
    "extraction",
    "frames",
    "size",
    "max_pixels",
    "frames_as",
    "temperature",
    "top_p",
    "max_new_tokens",
    "seed",
    "batch_size",
    "limit",
)
ADVANCED = (
    "vllm",
    "train_data",
    "positions",
    "key_variable",
    "concurrency",
    "jpeg",
    "deadline",
    "max_reply_bytes",
    "max_failed",
    "retry_failed",
    "fallback_endpoint",
    "fallback_model",
    "fallback_key_variable",
)
Positions = Annotated[
    Optional[str],
    typer.Option(
        metavar="RULE",
        help=f"Text positions that --model was trained with: {one_of(POSITIONS)}.",
    ),
]


@command(
    "spacer evaluate --benchmark vsi --data VSI-Bench --model runs/tiny/model "
    "--set frames=16 --out runs/vsi",
    advanced=ADVANCED,
)
def evaluate(
    benchmark: Benchmark,
    data: Annotated[Path, typer.Option(help="The benchmark's folder or file.")],
    out: Annotated[
        Optional[Path],
        typer.Option(help="Output folder; a new name in runs/ without it."),
    ] = None,
    model: Annotated[
        Optional[str], typer.Option(help="Checkpoint folder, or name on the hub.")
    ] = None,
    endpoint: Annotated[
        Optional[str], typer.Option(metavar="URL", help="OpenAI-compatible server.")
    ] = None,
    model_name: Annotated[
        Optional[str], typer.Option(help="Name of the model on the server.")
    ] = None,
    floor: Annotated[
        Optional[str],
        typer.Option(metavar="KIND", help=f"Ask no model: {one_of(FLOORS)} answers."),
    ] = None,
    config: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help=f"Settings: {one_of(names_in('evaluate'))}, or a YAML file; SpaceR's "
            "without it.",
        ),
    ] = None,
    setting: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE ...",
            help=f"Settings to change. Keys: {', '.join(SETTINGS)}. Conditions: "
            f"{', '.join(CONDITIONS)}.",
        ),
    ] = [],
    overwrite: Annotated[
        bool, typer.Option(help="Delete answers in --out that have other settings.")
    ] = False,
    vllm: Annotated[bool, typer.Option(help="Run --model with vLLM.")] = False,
    train_data: Annotated[
        Optional[Path],
        typer.Option(help="Rows that a floor counts answers in; those of --data else."),
    ] = None,
    positions: Positions = None,
    key_variable: Annotated[
        str, typer.Option(help="Environment variable that holds the server's key.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[
        int, typer.Option(min=1, help="Number of requests at the same time.")
    ] = 4,
    jpeg: Annotated[
        bool, typer.Option(help="Send frames as JPEG, which is smaller than PNG.")
    ] = False,
    deadline: Deadline = 300,
    max_reply_bytes: MaxReplyBytes = 8 * 2**20,
    max_failed: MaxFailed = 0.1,
    retry_failed: Annotated[
        bool, typer.Option(help="Ask again the rows that a server refused.")
    ] = False,
    fallback_endpoint: FallbackEndpoint = None,
    fallback_model: FallbackModel = None,
    fallback_key_variable: FallbackKey = "OPENAI_API_KEY",
) -> dict[str, Any]:
    """Ask a benchmark's questions and score the answers; a stopped run continues."""
    _check_source(model, endpoint, model_name, floor)
    limits: dict[str, Any] = {
        "deadline": deadline,
        "max_reply_bytes": max_reply_bytes,
        "max_failed": max_failed,
    }
    judge = fallback_backend(
        fallback_endpoint, fallback_model, fallback_key_variable, concurrency, **limits
    )
    if model and not vllm:
        check_model(model)
    check_exists(data, "benchmark")
    from spacer_lib.benchmarks import named

    bench, chosen = named(benchmark), _settings(config, setting)
    from spacer_lib.evaluation.runner import run as ask

    rows = bench.read(data)[: chosen.limit]
    settings = chosen.settings(bench.mode, "images" if endpoint else "video")
    backend: Any
    if endpoint and model_name:
        limits["form"] = "jpeg" if jpeg else "png"
        backend = server(endpoint, model_name, key_variable, concurrency, **limits)
    elif floor:
        train_rows = bench.read(train_data) if train_data else None
        backend = _floor(floor, rows, train_rows)
    else:
        backend = _checkpoint(str(model), positions, vllm, settings.video.frames)
    who = model or model_name or floor or ""
    name = re.sub(r"[^\w.-]+", "_", Path(who).name)
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
            fallback=judge,
            retry_failed=retry_failed,
        )
    except KeyboardInterrupt:
        print(f"{out}: stopped; the same command goes on", file=sys.stderr)
        raise
    found = read_json(out / "scores.json")
    print(_scores_text(bench, backend.name, found))
    print(f"{out}: predictions.jsonl, scores.json, evaluation.json")
    return found


def _check_source(
    model: str | None,
    endpoint: str | None,
    model_name: str | None,
    floor: str | None,
) -> None:
    """Refuse options that name no backend, several, or half of one."""
    if sum(choice is not None for choice in (model, endpoint, floor)) != 1:
        raise SpacerError(
            "what answers the questions",
            kind="cli.no-backend",
            got="none or several",
            expected="one backend",
            remedy="pass --model PATH, --endpoint URL with --model-name, or --floor "
            "KIND",
        )
    if bool(endpoint) != bool(model_name):
        raise SpacerError(
            "--endpoint and --model-name",
            kind="cli.half-endpoint",
            got="one of them",
            expected="both",
        )
    if floor:
        check_choice("floor", floor, FLOORS, "cli.unknown-floor")


def _settings(config: str | None, setting: list[str]) -> Any:
    """An ``EvaluationConfig``: a settings file, and ``KEY=VALUE`` changes over it."""
    from spacer_lib.evaluation.config import EvaluationConfig, load_evaluation
    from spacer_lib.settings import build, setting_pairs

    changes = dict(setting_pairs(setting))
    condition = str(changes.get("condition", "own"))
    check_choice("condition", condition, CONDITIONS, "cli.unknown-condition")
    extraction = str(changes.get("extraction", "strict"))
    check_choice("extraction", extraction, EXTRACTIONS, "cli.unknown-rule")
    checked = build(EvaluationConfig, changes)
    values = {key: getattr(checked, key) for key in changes}
    return dataclasses.replace(load_evaluation(config), **values)


def _floor(kind: str, rows: list[Question], train_rows: list[Question] | None) -> Any:
    from spacer_lib.evaluation.floors import Floor

    return Floor(kind, rows, train_rows)


def _checkpoint(model: str, positions: str | None, vllm: bool, frames: int) -> Any:
    if vllm:
        from spacer_lib.evaluation.offline_vllm import OfflineVllm

        return OfflineVllm(model, frames=frames)
    from spacer_lib.evaluation.backends import LocalModel, load

    loaded, processor = load(model, positions)
    return LocalModel(loaded, processor, name=model)


def _scores_text(bench: Any, who: str, found: dict[str, Any]) -> str:
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


@extra("spacer extras serve --model checkpoints/tiny_warmstart --port 8000")
def serve(
    model: Annotated[str, typer.Option(help="Checkpoint folder, or name on the hub.")],
    port: Annotated[int, typer.Option(min=0, help="Port; 0 picks a free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The server asks for no key.")
    ] = "127.0.0.1",
    name: Annotated[
        Optional[str],
        typer.Option(help="Model name in requests; the folder's without it."),
    ] = None,
    max_pixels: Annotated[
        Optional[int], typer.Option(min=1, help="Most pixels of a frame.")
    ] = None,
    positions: Positions = None,
    allow_host: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Name of this machine that requests may use, beside --host.",
        ),
    ] = [],
    max_context: Annotated[
        Optional[int],
        typer.Option(min=2, help="Most tokens of prompt and answer; the model's else."),
    ] = None,
    max_request_bytes: Annotated[
        int, typer.Option(min=1, help="Most bytes of one request.")
    ] = 64 * 2**20,
    max_pictures: Annotated[
        int, typer.Option(min=0, help="Most images or frames of one request.")
    ] = 256,
    max_seconds: Annotated[
        float, typer.Option(min=0.1, help="Most seconds until a request's answer.")
    ] = 600,
    queue: Annotated[
        int, typer.Option(min=1, help="Most requests at once; others get status 429.")
    ] = 64,
) -> dict[str, Any]:
    """Serve a checkpoint with OpenAI's chat interface, one request at a time."""
    check_model(model)
    from spacer_lib.evaluation.backends import load
    from spacer_lib.evaluation.chat_requests import ServeLimits
    from spacer_lib.evaluation.serve import make_server

    name = name or Path(model).name
    loaded, processor = load(model, positions)
    server = make_server(
        loaded,
        processor,
        name,
        host=host,
        port=port,
        max_pixels=max_pixels,
        limits=ServeLimits(
            max_context, max_request_bytes, max_pictures, max_seconds, queue
        ),
        allow_hosts=allow_host,
    )
    host, port = str(server.server_address[0]), server.server_address[1]
    print(f"{name} at http://{host}:{port}/v1", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return {"host": host, "port": port, "name": name}
