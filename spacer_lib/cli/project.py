"""Project: its notebooks and its timings."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT, read_json, remove_folder, write_json
from spacer_lib.cli.app import app, command
from spacer_lib.cli.choices import STAGES, check_choice, one_of
from spacer_lib.errors import SpacerError

# Notebooks that `spacer demo` runs one after the other, beside all others: 07 reads the
# model of 05, and 05 and 06 take 2.7 GB each, the others 1.3 at most.
LANE = ("05_train_grpo", "06_train_baselines", "07_evaluate")
BENCHES = ("data", "rewards", "step")
DEMO = PROJECT_ROOT / "runs" / "demo"  # `make keep` copies from it


@command("spacer demo")
def demo() -> dict[str, Any]:
    """Execute every notebook with its defaults, two at a time; print a summary.

    The memory of a notebook includes that of the one beside it.
    """
    from spacer_lib import notebooks

    remove_folder(PROJECT_ROOT / "runs" / "07_evaluate")
    remove_folder(DEMO)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each kernel
    start, stages, failed = time.perf_counter(), {}, threading.Event()

    def execute(names: Sequence[str]) -> None:
        for name in itertools.takewhile(lambda _: not failed.is_set(), names):
            print(f"{name} ...", flush=True)
            run = notebooks.execute(name, DEMO / f"{name}__tiny__seed0.ipynb")
            seconds, peak = run.seconds, run.peak_memory_gb
            print(f"{name}: {seconds:.0f} s, {peak:.1f} GB", flush=True)
            stages[name] = {"seconds": seconds, "peak_memory_gb": peak}

    def stop_the_other(lane: Future[None]) -> None:
        if lane.exception():
            failed.set()  # it ends after its notebook

    others = [name for name in notebooks.names() if name not in LANE]
    with ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(execute, names) for names in (LANE, others)]
        for lane in lanes:
            lane.add_done_callback(stop_the_other)
    for lane in lanes:
        lane.result()
    evaluated = read_json(PROJECT_ROOT / "runs" / "07_evaluate" / "summary.json")
    stages = dict(sorted(stages.items()))
    seconds = round(time.perf_counter() - start, 1)
    summary = {"seconds": seconds, "stages": stages, **evaluated}
    write_json(DEMO / "summary.json", summary)
    print(summary_text(summary))
    return summary


def summary_text(summary: dict[str, Any]) -> str:
    """One screen: floors, warm start, after SG-RLVR, seconds and memory."""
    lines = ["", f"{'':34}{'score':>8}{'map hits':>10}"]

    def line(name: str, record: dict[str, Any]) -> None:
        hits = record.get("hits")
        shown = f"{hits:10.3f}" if hits == hits and hits is not None else f"{'-':>10}"
        lines.append(f"{name:34}{record['score']:8.3f}{shown}")

    if "strongest" in summary["floors"]:
        line("floor: the strongest of each task", summary["floors"]["strongest"])
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
    peak = max(stage["peak_memory_gb"] for stage in summary["stages"].values())
    lines.append(f"notebooks: {summary['seconds']:.0f} s, peak memory {peak:.1f} GB")
    lines.append("runs/demo/summary.json holds these numbers with intervals")
    return "\n".join(lines)


@command("spacer run 05_train_grpo -p gpus 8")
def run(
    name: Annotated[str, typer.Argument(help="Notebook, such as 05_train_grpo.")],
    out: Annotated[
        Optional[Path],
        typer.Option(help="Executed notebook; in runs/ without it."),
    ] = None,
    parameter: Annotated[
        list[str],
        typer.Option("-p", metavar="NAME VALUE", help="Parameter of the notebook."),
    ] = [],
) -> dict[str, Any]:
    """Execute one notebook with checked parameters."""
    from spacer_lib import notebooks
    from spacer_lib.settings import setting_pairs

    parameters = dict(setting_pairs(parameter))
    out = out or PROJECT_ROOT / "runs" / f"{name}__custom.ipynb"
    done = notebooks.execute(name, out, parameters, log_output=True)
    print(f"{done.path}: {done.seconds:.0f} s, {done.peak_memory_gb:.1f} GB")
    return {
        "path": done.path,
        "seconds": done.seconds,
        "peak_memory_gb": done.peak_memory_gb,
    }


@command("spacer notebooks 05_train_grpo")
def notebooks(
    names: Annotated[
        Optional[list[str]], typer.Argument(help="Notebooks; all without names.")
    ] = None,
) -> dict[str, Any]:
    """Execute notebooks in place and keep their outputs."""
    from spacer_lib import notebooks as books

    chosen = [books.checked(name) for name in names or books.names()]
    seconds = {}
    for name in chosen:
        source = books.FOLDER / f"{name}.py"
        books.pair(source, source.with_suffix(".ipynb"))
        seconds[name] = books.execute_in_place(name).seconds
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    return {"seconds": seconds}


@command("spacer doctor --rehearse env --out runs/rehearsal")
def doctor(
    rehearse: Annotated[
        Optional[str],
        typer.Option(
            metavar="STAGE",
            help=f"Rehearse a part of the GPU path in minutes: {one_of(STAGES)}.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for STAGE.json of a rehearsal.", show_default="runs/rehearsal"
        ),
    ] = (PROJECT_ROOT / "runs" / "rehearsal"),
    small: Annotated[
        bool, typer.Option(help="Rehearse sizes of seconds, also on a GPU.")
    ] = False,
) -> dict[str, Any]:
    """Say what this machine can run, and what to do about what is missing."""
    if rehearse is not None:
        check_choice("stage", rehearse, STAGES, "cli.unknown-stage")
        from spacer_lib.rehearsal.stages import rehearse as run_stage

        done = run_stage(rehearse, out, _say, small=small)
        print(f"{done['file']}: {done['seconds']:.0f} s")
        if done["failed"]:
            raise SpacerError(
                f"stage {rehearse}",
                kind="cli.rehearsal-failed",
                got=f"{len(done['failed'])} failed: {'; '.join(done['failed'])[:200]}",
                expected="a reading of each part",
                remedy=f"read {done['file']}, which holds the other readings too",
            )
        return done
    from spacer_lib.rehearsal.doctor import examine

    return examine(_say)


def _say(line: str) -> None:
    print(line, flush=True)


@app.command(
    hidden=True,
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def bench(context: typer.Context) -> None:
    """Run ``python -m benches.NAME`` of the checkout: data, rewards or step."""
    name, *rest = context.args or ["data"]
    check_choice("bench", name, BENCHES, "cli.unknown-bench")
    done = subprocess.run(
        [sys.executable, "-m", f"benches.{name}", *rest],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
    )
    raise typer.Exit(done.returncode)
