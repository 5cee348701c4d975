"""The ``spacer`` command: every long job by name, errors in one line.

Each command takes ``--json FILE`` for its result in a form machines read.
"""

import contextlib
import functools
import inspect
import os
import re
import resource
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    atomic_path,
    make_folder,
    read_json,
    write_json,
    write_jsonl,
)
from spacer_lib.errors import SpacerError

RUNS = PROJECT_ROOT / "papermill_runs"
CHECKPOINT = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"

app = typer.Typer(
    name="spacer", help=__doc__.splitlines()[0], no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip

JsonFile = Annotated[
    Optional[Path], typer.Option("--json", metavar="FILE", help="Write the result.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes of this machine.")]
Scheduler = Annotated[
    Optional[str], typer.Option(metavar="ADDRESS", help="A Dask scheduler to run on.")
]
Seed = Annotated[int, typer.Option(min=0)]
Out = Annotated[Path, typer.Option(help="Output folder.")]


def command(function):
    """Register a command whose returned dictionary ``--json`` writes."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*, json_file=None, **options):
        if json_file is not None:
            make_folder(json_file.parent)  # complain before the work, not after
        result = function(**options)
        if json_file is not None:
            write_json(json_file, result)

    kind = inspect.Parameter.KEYWORD_ONLY
    extra = inspect.Parameter("json_file", kind, default=None, annotation=JsonFile)
    own = [p.replace(kind=kind) for p in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=[*own, extra])
    run.__annotations__ = function.__annotations__ | {"json_file": JsonFile}
    del run.__wrapped__  # the signature above is the true one
    app.command(function.__name__.replace("_", "-"))(run)
    return function


class _Clock:
    """Seconds and peak memory since it was made."""

    def __init__(self):
        self.start = time.monotonic()

    def spent(self):
        who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        peak = [resource.getrusage(w).ru_maxrss / 2**20 for w in who]
        seconds = round(time.monotonic() - self.start, 2)
        return {"seconds": seconds, "peak_memory_gb": round(max(peak), 2)}


@app.callback()
def _top():
    pass


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
    parameter: Annotated[
        list[str], typer.Option("-p", metavar="NAME VALUE")
    ] = [],  # noqa: B006
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
        "path": done.path, "seconds": done.seconds,
        "peak_memory_gb": done.peak_memory_gb,
    }  # fmt: skip


@command
def notebooks(names: Annotated[Optional[list[str]], typer.Argument()] = None):
    """Pair, execute in place and keep the outputs (what the repository commits)."""
    import jupytext

    from spacer_lib import notebooks as books

    seconds = {}
    for source in sorted(books.FOLDER.glob("[0-9]*.py")):
        if names and source.stem not in names:
            continue
        target = source.with_suffix(".ipynb")
        jupytext.write(jupytext.read(source), target, fmt="ipynb")
        seconds[source.stem] = books.execute_in_place(source.stem).seconds
        print(f"{source.stem}: {seconds[source.stem]:.0f} s", flush=True)
    return {"seconds": seconds}


@command
def train(
    config: Annotated[str, typer.Option(help="Recipe name or YAML file.")] = "tiny",
    setting: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE ...")
    ] = [],  # noqa: B006
    out: Optional[Path] = None,
    resume: bool = False,
    estimate: Annotated[
        bool, typer.Option(help="Run five steps; say what all of them will take.")
    ] = False,
    gpu_hour_price: Annotated[
        Optional[float], typer.Option(min=0, help="For the estimate's cost.")
    ] = None,
    nodes: Annotated[
        Optional[int], typer.Option(help="Machines; start this on each of them.")
    ] = None,
    node_rank: Annotated[int, typer.Option(help="Which one this is, from 0.")] = 0,
    main_process_ip: Annotated[
        Optional[str], typer.Option(help="Name or address of the first one.")
    ] = None,
    main_process_port: Optional[int] = None,
):
    """Train a recipe without a notebook."""
    from spacer_lib.training.config import load_config
    from spacer_lib.training.launch import launch

    setting = [*setting, *([] if nodes is None else [f"nodes={nodes}"])]
    settings = load_config(config, setting)
    if estimate:
        return _estimate(settings, out, gpu_hour_price)
    out = out or PROJECT_ROOT / "runs" / settings.recipe
    result = launch(
        settings, out, node_rank=node_rank, main_process_ip=main_process_ip,
        main_process_port=main_process_port, resume=resume,
        on_line=functools.partial(print, flush=True),
    )  # fmt: skip
    print(f"{result.model_dir}: {result.steps} steps in {result.seconds:.0f} s")
    return {
        "model": result.model_dir, "steps": result.steps, "seconds": result.seconds
    }  # fmt: skip


def _estimate(settings, out, gpu_hour_price):
    from spacer_lib.training.estimate import estimate

    found = estimate(settings, out, print, gpu_hour_price)
    print("\n".join(found.lines()))
    return {**asdict(found), "measured_on": found.measured_on}


@command
def warmstart(
    out: Path = PROJECT_ROOT / "runs" / "warmstart",
    ship: Annotated[
        bool, typer.Option(help="Replace the repository's checkpoint.")
    ] = False,
):
    """Train the tiny model's warm start again, from nothing."""
    from spacer_lib.evaluation.runner import warmstart_metrics
    from spacer_lib.training import warmstart as chain

    model = chain.run(out, evaluate=warmstart_metrics)
    record = read_json(model.parent / "provenance.json")
    print(f"{model}: {record['metrics']}")
    if ship:
        for path in model.iterdir():
            with atomic_path(CHECKPOINT / path.name) as temporary:
                shutil.copyfile(path, temporary)
        write_json(CHECKPOINT / "provenance.json", record)
        print(f"{CHECKPOINT} now holds this checkpoint")
    return record


@command
def study(
    config: Annotated[str, typer.Option(help="Name in configs/study, or YAML.")] = (
        "map"
    ),
    out: Annotated[
        Optional[Path], typer.Option(help="runs/study, or runs/study_<config>.")
    ] = None,
    seeds: Annotated[
        list[int], typer.Option(help="In place of the study's.")
    ] = [],  # noqa: B006
    arms: Annotated[list[str], typer.Option(help="Only these.")] = [],  # noqa: B006
    questions: Annotated[
        Optional[int], typer.Option(help="In place of the study's.")
    ] = None,
    setting: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE ...", help="In every run: for trials.")
    ] = [],  # noqa: B006
):
    """Several arms over several seeds, before and after; resumes."""
    from spacer_lib.study import load_study, run_study, study_table

    chosen = load_study(
        config, arms=arms or None, seeds=seeds or None, questions=questions
    )
    name = "study" if config == "map" else f"study_{Path(config).stem}"
    out = out or PROJECT_ROOT / "runs" / name
    result = run_study(
        out, chosen, changes=setting, progress=lambda line: print(line, flush=True)
    )
    print(study_table(result).round(3).to_string())
    print(f"{out}/study.json")
    return read_json(out / "study.json")


@command
def select(
    out: Annotated[Path, typer.Option(help="JSON lines for the rows that are kept.")],
    config: Annotated[str, typer.Option(help="Recipe name or YAML file.")] = "tiny",
    setting: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE ...")
    ] = [],  # noqa: B006
    k: Annotated[int, typer.Option(min=2, help="Responses a row.")] = 8,
    rows: Annotated[
        Optional[int], typer.Option(min=1, help="Only the recipe's first so many.")
    ] = None,
):
    """Drop the rows that a recipe's model answers all right or all wrong; resumes."""
    from spacer_lib.evaluation.backends import load
    from spacer_lib.training.config import load_config
    from spacer_lib.training.rows import training_rows
    from spacer_lib.training.selection import keep_informative, select_samples

    settings = load_config(config, setting)
    if rows and settings.data_path is None:  # drawn: no more and no fewer
        steps = -(-rows // settings.prompts_per_step) * settings.num_iterations
        settings = replace(settings, max_steps=steps)
    asked = training_rows(settings)[:rows]
    responses = out.with_suffix(".responses.jsonl")
    answers = select_samples(
        *load(settings.model_path, settings.positions), asked, responses, k=k,
        mode=settings.prompt_style, seed=settings.seed, rewards=settings.reward,
        video=settings.video_settings,
        max_new_tokens=settings.max_completion_length,
        temperature=settings.temperature, top_p=settings.top_p,
    )  # fmt: skip
    kept, histogram = keep_informative(asked, [answer["scores"] for answer in answers])
    write_jsonl(out, kept)
    print(f"{'right of ' + str(k):12}{'rows':>8}")
    for right, count in histogram.items():
        print(f"{right:<12}{count:>8}")
    print(f"{out}: {len(kept)} of {len(asked)} rows kept; answers in {responses}")
    return {
        "kept": len(kept), "asked": len(asked), "histogram": histogram,
        "responses": responses,
    }  # fmt: skip


# ---------------------------------------------------------------- evaluation

Setting = typer.Option(show_default="SpaceR's")


@command
def evaluate(
    benchmark: Annotated[str, typer.Option(help="Such as vsi, vsi-debiased.")],
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
        Optional[str], typer.Option(
            help="own, other, blind, shuffled, oracle or random_map."
        )
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
        config, mode=mode, condition=condition, extraction=extraction, frames=frames,
        size=size, max_pixels=max_pixels, frames_as=frames_as, temperature=temperature,
        top_p=top_p, max_new_tokens=max_new_tokens, seed=seed, batch_size=batch_size,
        limit=limit,
    )  # fmt: skip
    if sum(choice is not None for choice in (model, endpoint, floor)) != 1:
        raise SpacerError(
            "who answers", got="none or several", remedy="say --model PATH, --endpoint "
            "URL with --model-name, or --floor KIND",
        )  # fmt: skip
    if bool(endpoint) != bool(model_name):
        raise SpacerError("--endpoint and --model-name", got="one", expected="both")
    if bool(fallback_endpoint) != bool(fallback_model):
        raise SpacerError(
            "--fallback-endpoint and --fallback-model", got="one", expected="both"
        )
    bench = named(benchmark)
    rows = bench.read(data)[: chosen.limit]
    video = chosen.video("images" if endpoint else "video")
    if endpoint:
        form = "jpeg" if jpeg else "png"
        backend = _endpoint(endpoint, model_name, key_variable, concurrency, form)
    elif floor:
        train_rows = bench.read(train_data) if train_data else None
        backend = _floor(floor, rows, train_rows)
    else:
        backend = _checkpoint(model, positions, vllm, video.frames)
    name = re.sub(r"[^\w.-]+", "_", Path(model or model_name or floor).name)
    out = out or PROJECT_ROOT / "runs" / f"{bench.name}__{name}__{chosen.condition}"
    try:
        ask(
            bench, rows, backend, out, video=video, overwrite=overwrite,
            fallback=fallback_endpoint and _endpoint(
                fallback_endpoint, fallback_model, fallback_key_variable, concurrency
            ),
            **chosen.arguments(),
        )  # fmt: skip
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


# ---------------------------------------------------------------- the data engine


def _client(scheduler):
    if scheduler is None:
        return None
    from dask.distributed import Client

    try:
        return Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise SpacerError(
            f"Dask scheduler {scheduler} does not answer", got=error,
            remedy="start one (`dask scheduler`) or leave --scheduler out",
        ) from error


def _scan_folders(folder, scenes):
    """Scan folders below scans/, its parent, or a scan itself; only those named."""
    if not folder.is_dir():
        raise SpacerError(
            f"{folder} is not a folder", expected="ScanNet's scans/ folder",
            remedy="pass the folder that holds one folder per scan",
        )  # fmt: skip
    folder = folder.resolve()
    if list(folder.glob(f"{folder.name}*.aggregation.json")):
        found = {folder.name: folder}
    else:
        folder = folder / "scans" if (folder / "scans").is_dir() else folder
        found = {path.name: path for path in folder.iterdir() if path.is_dir()}
    absent = sorted(set(scenes) - set(found))
    if absent or not found:
        raise SpacerError(
            f"{folder}: scans",
            got=f"no {', '.join(absent[:5])}" if absent else "no folder in it",
            expected="one folder per scan",
            remedy="check --scenes" if absent else "pass ScanNet's scans/ folder",
        )
    return [found[name] for name in sorted(scenes or found)]


@command
def synth(
    scenes: Annotated[int, typer.Option(min=1, help="How many.")] = 6,
    out: Out = PROJECT_ROOT / "data" / "synthetic",
    seed: Seed = 0,
    workers: Workers = 1,
    meta_only: Annotated[
        bool, typer.Option(help="Only meta.json: no files of scans, no videos.")
    ] = False,
):
    """Furnished synthetic rooms in ScanNet's own file formats."""
    from spacer_lib.qa import scans

    clock = _Clock()
    if meta_only:
        path = scans.synthetic_meta(out / "meta.json", scenes, seed)
        result = {"meta": path, "scenes": scenes}
        print(f"{path}: {scenes} scenes in {clock.spent()['seconds']:.0f} s")
    else:
        folders, labels = scans.synthetic_scans(out, scenes, seed, workers=workers)
        result = {"scans": [f.name for f in folders], "labels": labels}
        print(f"{out}/scans: {len(folders)} scans, labels in {labels.name}")
    return result | clock.spent()


@command
def parse(
    scans: Annotated[Path, typer.Argument(help="ScanNet's scans/ folder.")],
    out: Out,
    labels: Annotated[
        Optional[Path], typer.Option(help="scannetv2-labels.combined.tsv")
    ] = None,
    scenes: Annotated[list[str], typer.Option(metavar="ID ...")] = [],  # noqa: B006
    workers: Workers = 1,
    scheduler: Scheduler = None,
    video: bool = True,
):
    """Scan folders → scenes (meta-information) and 24 fps videos; resumes."""
    from spacer_lib.qa.scans import LABELS, parse_scans

    clock, folders = _Clock(), _scan_folders(scans, scenes)
    labels = labels or folders[0].parent.parent / LABELS
    parsed = parse_scans(
        folders, labels, out, workers=workers, client=_client(scheduler), video=video
    )
    for scene in parsed:
        for note in (scene.provenance["groups"]["note"], *scene.warnings):
            print(f"{scene.scene_id}: {note}")
    objects = sum(len(scene.instances) for scene in parsed)
    print(f"{out}: {len(parsed)} scenes with {objects} objects")
    return {
        "scenes": {
            s.scene_id: {
                "objects": len(s.instances), "categories": len(s.object_counts),
                "frames": s.frame_count, "room_size_m2": s.room_size_m2,
                "groups": s.provenance.get("groups"), "notes": list(s.warnings),
            }
            for s in parsed
        },
        **clock.spent(),
    }  # fmt: skip


@command
def qa(
    meta: Annotated[
        list[Path], typer.Option(metavar="PATH ...", help="Meta files, or folders.")
    ],
    out: Out,
    recipe: Annotated[str, typer.Option(help="Name, or a YAML file.")] = "sr91k",
    seed: Seed = 0,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    held_out: Annotated[
        list[Path],
        typer.Option(metavar="FILE ...", help="Lists of scans not to train on."),
    ] = [],  # noqa: B006
    drop_held_out: Annotated[
        bool, typer.Option(help="Leave such scans out instead of refusing.")
    ] = False,
    figures: Annotated[bool, typer.Option(help="Draw the statistics.")] = True,
):
    """Scenes → a question set with maps, card and statistics; resumes."""
    from spacer_lib.qa.build import build_dataset
    from spacer_lib.qa.recipes import load_recipe
    from spacer_lib.qa.scans import read_scenes
    from spacer_lib.scannet.splits import read_split

    clock, recipe = _Clock(), load_recipe(recipe)
    ids = [name for path in held_out for name in read_split(path)]
    report = build_dataset(
        read_scenes(meta, out), out, recipe, seed=seed, workers=workers,
        client=_client(scheduler), held_out_ids=ids, drop_held_out=drop_held_out,
    )  # fmt: skip
    for part, tasks in report["tasks"].items():
        print(f"{part:28}{'wanted':>9}{'candidates':>12}{'kept':>9}")
        for task, row in tasks.items():
            wanted = "all" if row["wanted"] is None else row["wanted"]
            print(f"  {task:26}{wanted:>9}{row['candidates']:>12}{row['kept']:>9}")
    total = sum(sum(counts.values()) for counts in report["counts"].values())
    spent = clock.spent()
    rate = total / max(spent["seconds"], 0.01)
    print(
        f"{out}: {total} questions in {spent['seconds']:.0f} s ({rate:.0f} a second), "
        f"peak memory {spent['peak_memory_gb']:.2f} GB, {len(report['dropped'])} scans "
        "left out"
    )
    if figures:
        from spacer_lib.figures import dataset_figures

        for path in dataset_figures(out):
            print(path)
    keep = ("tasks", "counts", "letters", "scenes", "dropped", "rejections", "paths")
    return {
        "questions": total, "questions_per_second": round(rate, 1),
        **{key: report[key] for key in keep}, **spent,
    }  # fmt: skip


@command
def mix(
    spatial: Annotated[Path, typer.Option(help="A folder that `spacer qa` wrote.")],
    general: Annotated[Path, typer.Option(help="Video-R1's JSON.")],
    out: Out,
    media: Annotated[
        Optional[Path], typer.Option(help="Folder of its pictures and videos.")
    ] = None,
    total: Annotated[int, typer.Option(min=0, help="General questions.")] = 60_000,
    seed: Seed = 0,
):
    """A question set joined with general questions, as SpaceR-151k is."""
    from spacer_lib.mixture import write_joint

    result = write_joint(
        spatial, general, out, media_root=media, total=total, seed=seed
    )
    for name, count in result["question_type"].items():
        print(f"{name:30}{count:>8}")
    for reason, count in result["refused"].items():
        print(f"refused {count}: {reason}")
    print(f"{out}/train.jsonl: {sum(result['part'].values())} questions")
    return result


@command
def audit(
    meta: Annotated[Path, typer.Option(help="VSI-Bench's meta file.")],
    questions: Annotated[Path, typer.Option(help="Its questions, JSON lines.")],
):
    """Recompute the official answers and list every disagreement."""
    from spacer_lib.qa.audit import audit_files

    result = audit_files(meta, questions)
    print(f"{'task':30}{'rows':>6}{'exact':>7}")
    for task, row in result["tasks"].items():
        print(f"{task:30}{row['rows']:>6}{row['exact']:>7}")
    for reason, count in result["skipped"].items():
        print(f"skipped {count}: {reason}")
    for row in result["disagreements"]:
        note = f" ({row['note']})" if row["note"] else ""
        print(
            f"{row['id']} {row['question_type']}: official {row['official']}, "
            f"ours {row['ours']}{note}"
        )
    print(f"{len(result['disagreements'])} disagreements")
    return result


@command
def reward(
    items: Annotated[Path, typer.Option(help="Questions, JSON lines.")],
    completions: Annotated[Path, typer.Option(help="`id`, `completion`: JSON lines.")],
    preset: Annotated[str, typer.Option(help="A name of rewards.PRESETS.")] = "ours",
):
    """Score completions from any source, component by component."""
    from spacer_lib.rewards import COMPONENTS, get_preset
    from spacer_lib.scoring import score_files

    config = get_preset(preset)
    scored, unanswered, counted = score_files(items, completions, config)
    kinds = {kind: [b for _, k, b in scored if k == kind] for _, kind, _ in scored}
    columns = (*COMPONENTS, "total")
    print(f"{preset:18}{'rows':>6}" + "".join(f"{name:>9}" for name in columns))
    for kind, part in {**kinds, "all": [b for _, _, b in scored]}.items():
        means = [
            sum(getattr(b, name) or 0.0 for b in part) / max(len(part), 1)
            for name in columns
        ]
        print(f"{kind:18}{len(part):>6}" + "".join(f"{mean:>9.3f}" for mean in means))
    if config.length_window and counted < len(scored):
        print(
            f"{len(scored) - counted} completions without completion_tokens: no length "
            "bonus for them (words are not tokens)"
        )
    if unanswered:
        named = ", ".join(map(str, unanswered[:5]))
        more = " ..." if len(unanswered) > 5 else ""
        print(f"{len(unanswered)} items without a completion: {named}{more}")
    rows = []
    for key, _, b in scored:
        failures = [b.answer_failure, b.failure]
        if config.map_gate != "off":
            failures.append(b.map_failure)
        rows.append({
            "id": key, "total": b.total,
            "components": {name: getattr(b, name) or 0.0 for name in COMPONENTS},
            "failures": [f for f in dict.fromkeys(failures) if f],
            "reasons": b.reasons,
        })  # fmt: skip
    return {"preset": preset, "rows": rows, "unanswered": unanswered}


Benchmark = Annotated[str, typer.Option(help="Such as vsi.")]


@command
def score(
    benchmark: Benchmark,
    predictions: Annotated[
        Path, typer.Option(help="Ours, plain, lmms-eval's or VLMEvalKit's.")
    ],
    data: Annotated[
        Optional[Path], typer.Option(help="The questions: a file, or its folder.")
    ] = None,
    extraction: Annotated[
        str, typer.Option(help="strict (ours), or official (the benchmark's own).")
    ] = "strict",
    audit: Annotated[
        bool, typer.Option(help="What the other extraction rules would have given.")
    ] = False,
):
    """Score predictions made elsewhere, with intervals over rooms or videos."""
    from spacer_lib.benchmarks import named, rules_of
    from spacer_lib.evaluation.foreign import gather
    from spacer_lib.evaluation.predictions import record
    from spacer_lib.evaluation.statistics import intervals, summarize, totals

    chosen = named(benchmark)
    rules = rules_of(chosen)
    if extraction not in rules:
        raise SpacerError("extraction", got=extraction, expected=", ".join(rules))
    rows, answers = gather(chosen, predictions, data)
    records = [
        record(row, answer.text, rules[extraction], failure=answer.failure)
        for row, answer in zip(rows, answers, strict=True)
    ]
    table, result = summarize(records), totals(records, chosen)
    print(f"{chosen.title}, extraction {extraction}; * is its published aggregate")
    columns = f"{'rows':>6}{'score':>7}{'95% interval':>16}{'wrong':>7}{'unread':>8}"
    print(f"{'':28}{columns}")
    for line in table[table["level"].isin(("kind", "macro", "overall"))].itertuples():
        name = "micro" if line.level == "overall" else line.name
        name += "*" * (line.level == chosen.overall.replace("micro", "overall"))
        interval = f"[{line.score_low:.3f}, {line.score_high:.3f}]"
        print(
            f"{name:28}{line.n:>6}{line.score:>7.3f}{interval:>16}{line.wrong:>7}"
            f"{line.failures:>8}"
        )
    for reason, count in result["failures"].items():
        print(f"unread, {reason:20}{count:>6}")
    types = table[table["level"] == "question_type"]
    ids = [row.get("published_id", row["id"]) for row in rows]
    silent = [key for key, a in zip(ids, answers, strict=True) if a.text is None]
    if silent:
        more = " ..." if len(silent) > 5 else ""
        some = ", ".join(map(str, silent[:5]))
        print(f"{len(silent)} without a prediction: {some}{more}")
    return {
        "rows": [
            {
                "id": key, "score": made["score"], "answer": made["extracted"],
                "failure": made["failure"],
            }
            for key, made in zip(ids, records, strict=True)
        ],
        **result,
        "question_types": dict(zip(types["name"], types["score"], strict=True)),
        "intervals": intervals(table),
        "benchmark": chosen.name, "extraction": extraction, "unanswered": silent,
        **(_audited(rows, answers, chosen) if audit else {}),
    }  # fmt: skip


def _audited(rows, answers, benchmark, examples=3):
    """Print the extraction audit; ``{"audit": …}`` for the result."""
    from spacer_lib.evaluation.audit import REFERENCE, audit

    found = audit(rows, answers, benchmark)
    counts = found.table[found.table["level"] == "overall"].set_index("rule")
    scores = found.table.pivot(index="name", columns="rule", values="score")
    scores = scores.loc[found.table["name"].unique(), counts.index]
    scores = scores.rename(index={"overall": "micro"})
    print("\nthe same outputs under each rule")
    print(scores.round(3).rename_axis(None).rename_axis(None, axis=1).to_string())
    print(f"\n{'':20}{'read':>6}{'wrong':>7}{'unread':>8}  alike {REFERENCE}")
    for rule, line in counts.iterrows():
        alike = found.agreement.loc[REFERENCE, rule]
        print(
            f"{rule:20}{line.answered:>6}{line.wrong:>7}{line.unread:>8}{alike:>14.1%}"
        )
    shown = []
    for rule in counts.index:
        cases = [case for case in found.disagreements if case["rule"] == rule]
        shown += cases[:20]
        for case in cases[:examples]:
            text = case["prediction"]
            text = repr(text if len(text) <= 60 else f"{text[:40]} … {text[-17:]}")
            print(
                f"{case['id']} {text}, truth {case['truth']}: {REFERENCE} "
                f"{case['reference_extracted'] or case['reference_failure']} "
                f"({case['reference_score']:.1f}), {rule} "
                f"{case['rule_extracted'] or case['rule_failure']} "
                f"({case['rule_score']:.1f})"
            )
    return {"audit": {
        "table": found.table.astype(object).where(found.table.notna(), None)
        .to_dict("records"),
        "reasons": found.reasons.to_dict("records"),
        "agreement": found.agreement.to_dict(), "examples": shown,
        "disagreements": {
            rule: sum(case["rule"] == rule for case in found.disagreements)
            for rule in counts.index
        },
    }}  # fmt: skip


@command
def report(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="[NAME=]RUN ...", help="Folders of `spacer evaluate`."),
    ] = None,
    out: Out = PROJECT_ROOT / "runs" / "report",
    reference: Annotated[
        Optional[str], typer.Option(metavar="RUN", help="Count differences from it.")
    ] = None,
    pool: Annotated[
        list[str],
        typer.Option(metavar="NAME=RUN,RUN", help="Seeds of one arm, as one run."),
    ] = [],  # noqa: B006
    benchmark: Annotated[
        Optional[str], typer.Option(help="Where evaluation.json does not say.")
    ] = None,
    published: Annotated[
        list[str], typer.Option(metavar="TABLE", help="Rows of a paper beside ours.")
    ] = [],  # noqa: B006
):
    """Tables (Markdown, LaTeX, CSV) and figures of runs on one benchmark."""
    from spacer_lib.evaluation import report as reports
    from spacer_lib.figures import report_figures

    def read(text):
        name, sign, folder = text.partition("=")
        plain = not sign or Path(text).exists()
        return reports.read_run(text) if plain else reports.read_run(folder, name)

    entries = [read(text) for text in runs or ()]
    if reference and Path(reference).exists():
        base = reports.read_run(reference)
        reference = base.name
        entries = [base, *(run for run in entries if run.name != reference)]
    for text in pool:
        name, _, members = text.partition("=")
        seeds = [read(member) for member in members.split(",") if member]
        if not seeds:
            raise SpacerError("--pool", got=text, expected="NAME=RUN,RUN")
        entries.append(reports.pool_runs(name, seeds))
    if not entries:
        raise SpacerError("runs", got="none", expected="at least one folder")
    made = reports.make_report(
        entries, benchmark=benchmark, reference=reference,
        published=_wide(published) if published else None,
    )  # fmt: skip
    paths = report_figures(made, out)
    paths += reports.write_report(made, out, paths)
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"{out}: {len(paths)} files")
    return {
        "benchmark": made.benchmark.name, "reference": reference,
        "runs": {
            run.name: {"floor": run.floor, "seeds": len(run.parts)} for run in entries
        },
        "tables": {
            name: table.tidy.astype(object).where(table.tidy.notna(), None)
            .to_dict("records")
            for name, table in made.tables.items()
        },
        "paths": paths,
    }  # fmt: skip


def _wide(names):
    from spacer_lib import published

    return {name: published.wide(name) for name in names}


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
    """Ours and the other way side by side, with the ratio; of step, a GRPO step's
    phases with each prompt computed once and as stock trainers do."""
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


# ---------------------------------------------------------------- entry

# Options that take all the words up to the next option.
_MANY = {"--meta", "--scenes", "--set", "--seeds", "--arms", "--held-out"}


def _spread(arguments):
    """``--meta a b`` as ``--meta a --meta b`` and, as papermill has it, ``-p a b`` as
    ``-p a=b``; an existing path ends ``--scenes``."""
    spread, option, words = [], None, iter(arguments)
    for word in words:
        if word == "-p":
            spread += ["-p", f"{next(words, '')}={next(words, '')}"]
            option = None
            continue
        if word.startswith("-") and word != "-":
            option = word if word in _MANY else None
            if option is None:
                spread.append(word)
        elif option == "--scenes" and Path(word).exists():
            spread.append(word)
            option = None
        else:
            spread += [option, word] if option else [word]
    return spread


def main(arguments=None):
    """Entry point; a ``SpacerError`` becomes one line and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # One thread per process: on few cores two threads each are several times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TQDM_DISABLE", "0" if sys.stderr.isatty() else "1")
    try:
        app(_spread(arguments), prog_name="spacer")
    except SystemExit as end:
        return int(end.code or 0)
    except SpacerError as error:
        print(f"spacer {arguments[0]}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
