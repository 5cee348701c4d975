"""Evaluation: asking a model a benchmark's questions, and serving one."""

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, read_json, write_json
from spacer_lib.cli.app import AcceptEdited, Workers, command, extra
from spacer_lib.cli.choices import (
    BACKENDS,
    BENCHMARKS,
    CONDITIONS,
    EXTRACTIONS,
    FLOORS,
    POSITIONS,
    SUITES,
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
from spacer_lib.versions import EVALUATION, require_versions

# Keys of EvaluationConfig: `--set KEY=VALUE`, or `--KEY VALUE` for short.
SETTINGS = (
    "mode",
    "condition",
    "extraction",
    "frames",
    "size",
    "max_pixels",
    "min_pixels",
    "sampler",
    "frames_as",
    "temperature",
    "top_p",
    "max_new_tokens",
    "seed",
    "batch_size",
    "limit",
)
ADVANCED = (
    "overwrite",
    "template",
    "backend",
    "train_data",
    "positions",
    "key_variable",
    "concurrency",
    "jpeg",
    "deadline",
    "max_reply_bytes",
    "max_failed",
    "retry_failed",
    "accept_edited",
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
    data: Annotated[
        Path,
        typer.Option(
            help="The benchmark's folder or file; of a suite, the folder that holds a "
            "folder for each benchmark."
        ),
    ],
    benchmark: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help=f"Benchmark: {one_of(BENCHMARKS)}."),
    ] = None,
    suite: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help=f"Several benchmarks: {one_of(SUITES)}."),
    ] = None,
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
    profile: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="Ask, read and average as a published system: "
            f"{one_of(names_in('profiles'))}, or a YAML file.",
        ),
    ] = None,
    template: Annotated[
        Optional[Path],
        typer.Option(help="Prompt in place of ours, see language/prompts.py."),
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
    workers: Workers = 1,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"What runs --model: {one_of(BACKENDS)}; auto takes vLLM if it can.",
        ),
    ] = "auto",
    train_data: Annotated[
        Optional[Path],
        typer.Option(
            help="Rows that a floor counts answers in; other rooms of --data else."
        ),
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
    accept_edited: AcceptEdited = False,
    fallback_endpoint: FallbackEndpoint = None,
    fallback_model: FallbackModel = None,
    fallback_key_variable: FallbackKey = "OPENAI_API_KEY",
) -> dict[str, Any]:
    """Ask a benchmark's questions and score the answers; a stopped run continues."""
    _check_source(model, endpoint, model_name, floor)
    _check_asked(benchmark, suite, train_data)
    limits: dict[str, Any] = {
        "deadline": deadline,
        "max_reply_bytes": max_reply_bytes,
        "max_failed": max_failed,
    }
    judge = fallback_backend(
        fallback_endpoint, fallback_model, fallback_key_variable, concurrency, **limits
    )
    check_choice("backend", backend, BACKENDS, "cli.unknown-backend")
    if model:
        check_model(model)
    elif workers > 1:
        raise SpacerError(
            "--workers",
            kind="cli.workers-without-model",
            got=workers,
            expected="1 without --model",
            remedy="pass --concurrency for a server",
        )
    check_exists(data, "benchmark" if benchmark else "suite")

    def asking(bench: Any, place: Path) -> _Asking:
        chosen = _changed(_base(config, profile, bench.name), setting)
        if not profile:
            chosen = _with_budget(chosen, bench, config, setting)
        seen = "images" if endpoint else "video"
        return _asking(bench, bench.read(place), chosen, seen, profile, template)

    # All files are read before the first question is asked.
    asked = [asking(*pair) for pair in _places(benchmark, suite, data)]
    from spacer_lib.evaluation.runner import run as ask

    who = model or model_name or floor or ""
    name = re.sub(r"[^\w.-]+", "_", Path(who).name)
    title, condition = suite or asked[0].bench.name, asked[0].chosen.condition
    out = out or PROJECT_ROOT / "runs" / f"{title}__{name}__{condition}"
    scores = {}
    with contextlib.ExitStack() as stack:
        answers: Any = None
        if endpoint and model_name:
            limits["form"] = "jpeg" if jpeg else "png"
            answers = server(endpoint, model_name, key_variable, concurrency, **limits)
        elif model:
            frames = max(one.settings.video.frames for one in asked)
            opened = _checkpoint(model, backend, positions, frames, workers)
            answers = stack.enter_context(opened)
        for one in asked:
            if floor:
                train_rows = one.bench.read(train_data) if train_data else None
                rule = one.chosen.extraction
                answers = _floor(floor, one.bench, rule, one.rows, train_rows)
            place = out / one.bench.name if suite else out
            try:
                ask(
                    one.bench,
                    one.rows,
                    answers,
                    place,
                    one.settings,
                    condition=one.chosen.condition,
                    extraction=one.chosen.extraction,
                    overwrite=overwrite,
                    fallback=judge,
                    profile=profile,
                    retry_failed=retry_failed,
                    accept_edited=accept_edited,
                )
            except KeyboardInterrupt:
                print(f"{place}: stopped; the same command goes on", file=sys.stderr)
                raise
            found = scores[one.bench.name] = read_json(place / "scores.json")
            print(_scores_text(one.bench, answers.name, found))
            print(f"{place}: predictions.jsonl, scores.json, evaluation.json")
    if suite is None:
        return scores[title]
    return _suite_scores(suite, scores, out)


class _Asking(NamedTuple):
    """One benchmark: its rows and how they are asked."""

    bench: Any
    rows: list[Question]
    chosen: Any  # EvaluationConfig
    settings: Any  # AskSettings


def _asking(
    bench: Any,
    rows: list[Question],
    chosen: Any,
    frames_as: str,
    profile: str | None,
    template: Path | None,
) -> _Asking:
    rows = rows[: chosen.limit]
    settings = chosen.settings(bench.mode, frames_as)
    if profile:
        from spacer_lib.evaluation.profiles import load_profile

        rows, settings = load_profile(profile).asked(bench.name, rows, settings)
    if template:
        from spacer_lib.language.prompts import load_template

        style = dataclasses.replace(settings.style, template=load_template(template))
        settings = dataclasses.replace(settings, mode=style)
    return _Asking(bench, rows, chosen, settings)


def _check_asked(
    benchmark: str | None, suite: str | None, train_data: Path | None
) -> None:
    """Refuse options that name no benchmark or both kinds, and one floor for eight."""
    if (benchmark is None) == (suite is None):
        raise SpacerError(
            "what is asked",
            kind="cli.no-benchmark",
            got="neither or both",
            expected="--benchmark or --suite",
        )
    if suite is not None:
        check_choice("suite", suite, SUITES, "cli.unknown-suite")
        if train_data is not None:
            raise SpacerError(
                "--train-data",
                kind="cli.train-data-of-a-suite",
                got="rows of one benchmark",
                expected="--benchmark",
            )


def _places(
    benchmark: str | None, suite: str | None, data: Path
) -> list[tuple[Any, Path]]:
    """The benchmarks that are asked, each with its folder or file."""
    if suite is None:
        from spacer_lib.benchmarks import named

        return [(named(str(benchmark)), data)]
    from spacer_lib.benchmarks.suites import suite_folders, suite_named

    return suite_folders(suite_named(suite), data)


def _with_budget(
    chosen: Any, bench: Any, config: str | None, setting: list[str]
) -> Any:
    """The settings with a benchmark's own frame budget, where none was chosen."""
    from spacer_lib.settings import setting_pairs

    if bench.frames is None or config or "frames" in dict(setting_pairs(setting)):
        return chosen
    return dataclasses.replace(chosen, frames=bench.frames)


def _suite_scores(suite: str, scores: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write ``suite.json`` and print its table: one mean for each benchmark."""
    from spacer_lib.benchmarks.suites import suite_named

    table = []
    for name, mean in suite_named(suite).members.items():
        found = scores[name]
        score = found["overall"] if mean == "overall" else found["released"][mean]
        row = {"benchmark": name, "n": found["n"], "mean": mean, "score": score}
        table.append(row | {"failed": sum(found["failures"].values())})
    whole = sum(row["score"] for row in table) / len(table)
    result = {"suite": suite, "score": whole, "table": table}
    write_json(out / "suite.json", result)
    print(f"\n{suite:18}{'n':>6}{'score':>8}{'failed':>8}  mean")
    for row in table:
        print(
            f"{row['benchmark']:18}{row['n']:>6}{100 * row['score']:>8.1f}"
            f"{row['failed']:>8}  {row['mean']}"
        )
    print(f"{'all':18}{sum(r['n'] for r in table):>6}{100 * whole:>8.1f}")
    print(f"{out}: suite.json, and a folder for each benchmark")
    return result


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


def _base(config: str | None, profile: str | None, benchmark: str) -> Any:
    """An ``EvaluationConfig``: of a settings file, of a profile, or SpaceR's."""
    if config and profile:
        raise SpacerError(
            "--config and --profile",
            kind="cli.two-settings",
            got="both",
            expected="one; --set changes single keys",
        )
    if profile:
        from spacer_lib.evaluation.profiles import load_profile

        return load_profile(profile).config(benchmark)
    from spacer_lib.evaluation.config import load_evaluation

    return load_evaluation(config)


def load_settings(config: str | None, setting: list[str]) -> Any:
    """An ``EvaluationConfig``: a settings file, and ``KEY=VALUE`` changes over it."""
    return _changed(_base(config, None, ""), setting)


def _changed(base: Any, setting: list[str]) -> Any:
    """``base`` with ``KEY=VALUE`` changes over it."""
    from spacer_lib.evaluation.config import EvaluationConfig
    from spacer_lib.settings import build, setting_pairs

    changes = dict(setting_pairs(setting))
    condition = str(changes.get("condition", "own"))
    check_choice("condition", condition, CONDITIONS, "cli.unknown-condition")
    extraction = str(changes.get("extraction", "strict"))
    check_choice("extraction", extraction, EXTRACTIONS, "cli.unknown-rule")
    checked = build(EvaluationConfig, changes)
    values = {key: getattr(checked, key) for key in changes}
    return dataclasses.replace(base, **values)


def _floor(
    kind: str,
    bench: Any,
    extraction: str,
    rows: list[Question],
    train_rows: list[Question] | None,
) -> Any:
    from spacer_lib.benchmarks import rules_of
    from spacer_lib.evaluation.floors import Floor

    rule = rules_of(bench)[extraction.removesuffix("+fallback")]
    return Floor(kind, rows, train_rows, rule)


@contextlib.contextmanager
def _checkpoint(
    model: str, asked: str, positions: str | None, frames: int, workers: int
) -> Iterator[Any]:
    """The backend of a checkpoint, in this process or in several."""
    require_versions(EVALUATION)
    from spacer_lib.evaluation import workers as processes
    from spacer_lib.training.processes.launch import count_gpus

    gpus = count_gpus()
    name, reason = processes.choose_backend(asked, positions, gpus)
    more = f"; --workers {gpus} uses all {gpus} GPUs" if workers < gpus else ""
    if asked == "auto" or more:
        print(f"backend {name}: {reason}{more}", flush=True)
    make = functools.partial(processes.open_model, name, model, positions, frames)
    if workers == 1:
        yield make()
        return
    with processes.Workers(make, processes.devices_of(workers, gpus)) as several:
        yield several


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
