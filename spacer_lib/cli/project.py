"""Project: its notebooks and its benches."""

import functools
import shutil
from pathlib import Path
from typing import Annotated, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, read_json, write_json
from spacer_lib.cli.app import command
from spacer_lib.errors import SpacerError

RUNS = PROJECT_ROOT / "papermill_runs"


@command
def demo():
    """Execute every notebook on its defaults, then sum up."""
    from spacer_lib import notebooks

    shutil.rmtree(PROJECT_ROOT / "runs" / "07_evaluate", ignore_errors=True)
    stages = {}
    for name in notebooks.names():
        print(f"{name} ...", flush=True)
        out = RUNS / f"{name}__tiny__seed0.ipynb"
        run = notebooks.execute(name, out)
        stages[name] = {"seconds": run.seconds, "peak_memory_gb": run.peak_memory_gb}
        print(f"{name}: {run.seconds:.0f} s, {run.peak_memory_gb:.1f} GB", flush=True)
    evaluated = read_json(PROJECT_ROOT / "runs" / "07_evaluate" / "summary.json")
    summary = {"stages": stages, **evaluated}
    write_json(RUNS / "summary.json", summary)
    print(summary_text(summary))
    return summary


def summary_text(summary):
    """One screen: floors, warm start, after SG-RLVR, seconds and memory."""
    lines = ["", f"{'':34}{'score':>8}{'map hits':>10}"]

    def line(name, record):
        hits = record.get("hits")
        shown = f"{hits:10.3f}" if hits == hits and hits is not None else f"{'-':>10}"
        lines.append(f"{name:34}{record['score']:8.3f}{shown}")

    line("floor: majority answer", summary["floors"]["majority"])
    line("floor: no video", summary["floors"]["blind"])
    line("floor: another room's video", summary["floors"]["other"])
    line("warm start, demonstrated cameras", summary["before"]["seen"])
    line("warm start, new cameras", summary["before"]["own"])
    if summary["after"]:
        line("after SG-RLVR, new cameras", summary["after"]["own"])
        line("after SG-RLVR, with the true map", summary["after"]["oracle"])
        line("after SG-RLVR, demonstrated cameras", summary["after"]["seen"])
    lines.append(f"{summary['questions']} held-out questions a line")
    total = sum(stage["seconds"] for stage in summary["stages"].values())
    peak = max(stage["peak_memory_gb"] for stage in summary["stages"].values())
    lines.append(f"notebooks: {total:.0f} s, peak memory {peak:.1f} GB")
    lines.append("papermill_runs/summary.json holds these numbers with intervals")
    return "\n".join(lines)


@command
def run(
    name: Annotated[str, typer.Argument(help="Notebook, such as 05_train_grpo.")],
    out: Optional[Path] = None,
    parameter: Annotated[list[str], typer.Option("-p", metavar="NAME VALUE")] = [],
):
    """Execute one notebook with checked parameters."""
    import yaml

    from spacer_lib import notebooks

    pairs = (text.partition("=") for text in parameter)
    parameters = {name: yaml.safe_load(value) for name, _, value in pairs}
    out = out or RUNS / f"{name}__custom.ipynb"
    done = notebooks.execute(name, out, parameters, log_output=True)
    print(f"{done.path}: {done.seconds:.0f} s, {done.peak_memory_gb:.1f} GB")
    return {
        "path": done.path,
        "seconds": done.seconds,
        "peak_memory_gb": done.peak_memory_gb,
    }


@command
def notebooks(names: Annotated[Optional[list[str]], typer.Argument()] = None):
    """Pair, execute in place and keep the outputs (what the repository commits)."""
    from spacer_lib import notebooks as books

    seconds = {}
    for source in sorted(books.FOLDER.glob("[0-9]*.py")):
        if names and source.stem not in names:
            continue
        books.pair(source, source.with_suffix(".ipynb"))
        seconds[source.stem] = books.execute_in_place(source.stem).seconds
        print(f"{source.stem}: {seconds[source.stem]:.0f} s", flush=True)
    return {"seconds": seconds}


@command
def bench(
    what: Annotated[str, typer.Argument(help="data, rewards or step")] = "data",
    runs: Annotated[
        int, typer.Option("--runs", "--repeats", min=1, help="Median of so many.")
    ] = 5,
    model: Annotated[
        str, typer.Option(help="Of step: tiny, small, 3b or 7b; random weights.")
    ] = "small",
    prompt: Annotated[int, typer.Option(help="Of step: tokens.")] = 1100,
    completion: Annotated[int, typer.Option(help="Of step: tokens.")] = 400,
    group: Annotated[int, typer.Option(help="Of step: completions.")] = 8,
    decode: Annotated[
        Optional[int], typer.Option(min=2, help="Of step: tokens to generate.")
    ] = None,
):
    """Ours and the other way side by side, with the ratio.

    Of step, a GRPO step's phases, with each prompt computed once and as stock trainers
    do."""
    told = functools.partial(print, flush=True)
    if what == "step":
        from spacer_lib.bench_step import StepShape, bench_step

        shape = StepShape(model, prompt, completion, group, decode)
        return bench_step(shape, runs, told)
    from spacer_lib import benches

    if what not in benches.SUITES:
        known = ", ".join([*benches.SUITES, "step"])
        raise SpacerError("bench", got=what, expected=known)
    rows = benches.SUITES[what](runs, on_row=lambda row: told(row.line()))
    return {"rows": rows}
