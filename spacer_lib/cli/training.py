"""Training: recipes, studies of many runs, and which rows teach."""

import functools
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    atomic_path,
    read_json,
    write_json,
    write_jsonl,
)
from spacer_lib.cli.app import command

CHECKPOINT = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"


@command
def train(
    config: Annotated[str, typer.Option(help="Recipe name or YAML file.")] = "tiny",
    setting: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE ...")] = [],
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
    from spacer_lib.training.processes.launch import launch
    from spacer_lib.training.recipe import load_config

    setting = [*setting, *([] if nodes is None else [f"advanced.nodes={nodes}"])]
    settings = load_config(config, setting)
    if estimate:
        return _estimate(settings, out, gpu_hour_price)
    out = out or PROJECT_ROOT / "runs" / settings.recipe
    result = launch(
        settings,
        out,
        node_rank=node_rank,
        main_process_ip=main_process_ip,
        main_process_port=main_process_port,
        resume=resume,
        on_line=functools.partial(print, flush=True),
    )
    print(f"{result.model_dir}: {result.steps} steps in {result.seconds:.0f} s")
    return {"model": result.model_dir, "steps": result.steps, "seconds": result.seconds}


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
    from spacer_lib.tiny import warmstart as chain

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
    seeds: Annotated[list[int], typer.Option(help="In place of the study's.")] = [],
    arms: Annotated[list[str], typer.Option(help="Only these.")] = [],
    questions: Annotated[
        Optional[int], typer.Option(help="In place of the study's.")
    ] = None,
    setting: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE ...", help="In every run: for trials."
        ),
    ] = [],
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
    setting: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE ...")] = [],
    k: Annotated[int, typer.Option(min=2, help="Responses a row.")] = 8,
    rows: Annotated[
        Optional[int], typer.Option(min=1, help="Only the recipe's first so many.")
    ] = None,
):
    """Drop the rows that a recipe's model answers all right or all wrong; resumes."""
    from spacer_lib.evaluation.backends import load
    from spacer_lib.training.data import training_rows
    from spacer_lib.training.recipe import load_config
    from spacer_lib.training.selection import keep_informative, select_samples

    settings = load_config(config, setting)
    if rows and settings.data_path is None:  # drawn: no more and no fewer
        steps = -(-rows // settings.prompts_per_step) * settings.advanced.num_iterations
        settings = replace(settings, max_steps=steps)
    asked = training_rows(settings)[:rows]
    responses = out.with_suffix(".responses.jsonl")
    answers = select_samples(
        *load(settings.model_path, settings.advanced.positions),
        asked,
        responses,
        k=k,
        mode=settings.prompt_style,
        seed=settings.seed,
        rewards=settings.reward,
        video=settings.video_settings,
        max_new_tokens=settings.max_completion_length,
        temperature=settings.temperature,
        top_p=settings.top_p,
    )
    kept, histogram = keep_informative(asked, [answer["scores"] for answer in answers])
    write_jsonl(out, kept)
    print(f"{'right of ' + str(k):12}{'rows':>8}")
    for right, count in histogram.items():
        print(f"{right:<12}{count:>8}")
    print(f"{out}: {len(kept)} of {len(asked)} rows kept; answers in {responses}")
    return {
        "kept": len(kept),
        "asked": len(asked),
        "histogram": histogram,
        "responses": responses,
    }
