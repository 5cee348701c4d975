"""Alignment: does vLLM compute what this project's model computes?"""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.cli.app import Benchmark, extra
from spacer_lib.cli.choices import check_exists, check_model
from spacer_lib.cli.evaluation import Positions, load_settings
from spacer_lib.rows import Question

Tokens = Annotated[int, typer.Option(min=1, help="Tokens of a completion to compare.")]


@extra("spacer extras align --model checkpoints/tiny_warmstart --positions library")
def align(
    model: Annotated[str, typer.Option(help="Checkpoint folder, or name on the hub.")],
    endpoint: Annotated[
        Optional[str],
        typer.Option(
            metavar="URL",
            help="A `vllm serve` of this checkpoint; vLLM in this process without it.",
        ),
    ] = None,
    benchmark: Benchmark = "held-out",
    data: Annotated[
        Optional[Path],
        typer.Option(help="The benchmark's folder or file; drawn rooms without it."),
    ] = None,
    limit: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="First rows to compare; one of each kind of media without it.",
        ),
    ] = None,
    tokens: Tokens = 64,
    config: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="Evaluation settings, as of evaluate."),
    ] = None,
    setting: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE ...", help="Settings to change."),
    ] = [],
    positions: Positions = None,
    length: Annotated[
        Optional[int],
        typer.Option(min=1, help="Most tokens of a prompt and its completion."),
    ] = None,
) -> dict[str, Any]:
    """Compare vLLM's tokens, times and log-probabilities with the model's own."""
    check_model(model)
    if data is not None:
        check_exists(data, "benchmark")
    from spacer_lib.artifacts import to_jsonable
    from spacer_lib.evaluation.backends import load
    from spacer_lib.training.alignment import compare, require_aligned

    mode, rows = _rows(benchmark, data)
    settings = load_settings(config, setting).settings(mode)
    loaded, processor = load(model, positions)
    found = compare(
        loaded,
        processor,
        model,
        rows if limit is None else rows[:limit],
        settings.style,
        settings.video,
        endpoint=endpoint,
        tokens=tokens,
        length=length,
        every=limit is not None,
    )
    for one in found:
        print("\n".join(one.lines()), flush=True)
    require_aligned(found)
    return {"rows": to_jsonable(found)}


def _rows(benchmark: str, data: Path | None) -> tuple[str, list[Question]]:
    """(answer mode, rows) of a benchmark's file, or of rooms drawn here."""
    from spacer_lib.benchmarks import named

    bench = named(benchmark)
    if data is not None:
        return bench.mode, bench.read(data)
    from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows

    return bench.mode, draw_rows(SEEDS["develop"], 1, DEMONSTRATED)
