"""The ``spacer`` command: every long job by name, errors in one line."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from spacer_lib.artifacts import PROJECT_ROOT, atomic_path, read_json, write_json
from spacer_lib.errors import SpacerError

RUNS = PROJECT_ROOT / "papermill_runs"
CHECKPOINT = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"


def demo(options):
    """Execute every notebook on its defaults, then sum up."""
    from spacer_lib import notebooks

    shutil.rmtree(PROJECT_ROOT / "runs" / "06_evaluate", ignore_errors=True)
    stages = {}
    for name in notebooks.names():
        print(f"{name} ...", flush=True)
        out = RUNS / f"{name}__tiny__seed0.ipynb"
        run = notebooks.execute(name, out)
        stages[name] = {"seconds": run.seconds, "peak_memory_gb": run.peak_memory_gb}
        print(f"{name}: {run.seconds:.0f} s, {run.peak_memory_gb:.1f} GB", flush=True)
    evaluated = read_json(PROJECT_ROOT / "runs" / "06_evaluate" / "summary.json")
    summary = {"stages": stages, **evaluated}
    write_json(RUNS / "summary.json", summary)
    print(summary_text(summary))


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


def run_notebook(options):
    """Execute one notebook with checked parameters."""
    import yaml

    from spacer_lib import notebooks

    parameters = {key: yaml.safe_load(value) for key, value in options.parameter}
    out = options.out or RUNS / f"{options.name}__custom.ipynb"
    run = notebooks.execute(options.name, out, parameters, log_output=True)
    print(f"{run.path}: {run.seconds:.0f} s, {run.peak_memory_gb:.1f} GB")


def execute_notebooks(options):
    """Pair, execute in place and keep the outputs (what the repository commits)."""
    import jupytext

    from spacer_lib import notebooks

    for source in sorted(notebooks.FOLDER.glob("[0-9]*.py")):
        if options.names and source.stem not in options.names:
            continue
        target = source.with_suffix(".ipynb")
        jupytext.write(jupytext.read(source), target, fmt="ipynb")
        run = notebooks.execute_in_place(source.stem)
        print(f"{source.stem}: {run.seconds:.0f} s", flush=True)


def train(options):
    """Train a recipe without a notebook."""
    from spacer_lib.training.config import load_config
    from spacer_lib.training.launch import launch, resolve_workers

    config = load_config(options.config, options.set)
    print(resolve_workers(config.gpus)[2])
    out = options.out or PROJECT_ROOT / "runs" / config.recipe
    result = launch(config, out, on_line=print, resume=options.resume)
    print(f"{result.model_dir}: {result.steps} steps in {result.seconds:.0f} s")


def warmstart(options):
    """Train the tiny model's warm start again, from nothing."""
    from spacer_lib.evaluation import warmstart_metrics
    from spacer_lib.training import warmstart as chain

    model = chain.run(options.out, evaluate=warmstart_metrics)
    record = read_json(model.parent / "provenance.json")
    print(f"{model}: {record['metrics']}")
    if options.ship:
        for path in model.iterdir():
            with atomic_path(CHECKPOINT / path.name) as temporary:
                shutil.copyfile(path, temporary)
        write_json(CHECKPOINT / "provenance.json", record)
        print(f"{CHECKPOINT} now holds this checkpoint")


def study(options):
    """SG-RLVR over seeds, with and without the map reward."""
    from spacer_lib.study import StudyConfig, run_study

    config = StudyConfig(
        seeds=tuple(options.seeds), arms=tuple(options.arms),
        questions=options.questions,
    )  # fmt: skip
    run_study(options.out, config, progress=lambda line: print(line, flush=True))
    print(f"{options.out}/study.json")


def data(options):
    """ScanNet-format scans → scenes, videos and question files."""
    from spacer_lib.qa import build

    if options.scans is None:
        scans, labels = build.demo_scans(PROJECT_ROOT / "data" / "demo")
    else:
        folder = Path(options.scans)
        if not folder.is_dir():
            raise SpacerError(
                f"{folder} is not a folder", expected="ScanNet's scans/ folder",
                remedy="pass --scans PATH, or leave it out for synthetic rooms",
            )  # fmt: skip
        scans = sorted(path for path in folder.iterdir() if path.is_dir())
        labels = options.labels or folder.parent / "scannetv2-labels.combined.tsv"
    scenes = build.parse_scans(scans, labels, options.out)
    report = build.build_dataset(scenes, options.out, seed=options.seed)
    print(f"{options.out}: {len(scenes)} scenes, questions {report['counts']}")


def parser():
    """The argument parser with all sub-commands."""
    top = argparse.ArgumentParser(prog="spacer", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name, function):
        text = function.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    runs = PROJECT_ROOT / "runs"
    add("demo", demo)
    one = add("run", run_notebook)
    one.add_argument("name", help="notebook, such as 05_train_grpo")
    one.add_argument("--out", type=Path)
    one.add_argument("-p", dest="parameter", nargs=2, action="append", default=[])
    add("notebooks", execute_notebooks).add_argument("names", nargs="*")
    command = add("train", train)
    command.add_argument("--config", default="tiny", help="recipe name or YAML file")
    command.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    command.add_argument("--out", type=Path)
    command.add_argument("--resume", action="store_true")
    command = add("warmstart", warmstart)
    command.add_argument("--out", type=Path, default=runs / "warmstart")
    command.add_argument(
        "--ship", action="store_true", help="replace the repository's checkpoint"
    )
    command = add("study", study)
    command.add_argument("--out", type=Path, default=runs / "study")
    command.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    command.add_argument("--arms", nargs="*", default=["map", "no_map"])
    command.add_argument("--questions", type=int, default=960)
    command = add("data", data)
    command.add_argument(
        "--scans", help="ScanNet's scans/; synthetic rooms if left out"
    )
    command.add_argument("--labels", help="scannetv2-labels.combined.tsv")
    command.add_argument("--out", type=Path, default=PROJECT_ROOT / "data" / "demo")
    command.add_argument("--seed", type=int, default=0)
    return top


def main(arguments=None):
    """Entry point; a ``SpacerError`` becomes one line and exit code 2."""
    options = parser().parse_args(arguments)
    # One thread per process: on few cores two threads each are several times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TQDM_DISABLE", "0" if sys.stderr.isatty() else "1")
    try:
        options.function(options)
    except SpacerError as error:
        print(f"spacer {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
