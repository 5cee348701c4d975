"""Training: recipes, studies of several runs, and the choice of rows."""

import functools
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    atomic_path,
    listing,
    read_json,
    read_record,
    sole_writer,
    write_json,
    write_jsonl,
)
from spacer_lib.cli.app import Setting, command, extra
from spacer_lib.cli.choices import CONFIGS, check_choice, names_in, one_of

Recipe = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Recipe in configs/, such as tiny, spacer_7b or sft_tiny; or a YAML file.",
    ),
]


@command("spacer train --config tiny --set max_steps=60 --out runs/tiny")
def train(
    config: Recipe = "tiny",
    setting: Setting = [],
    out: Annotated[
        Optional[Path], typer.Option(help="Run folder; runs/RECIPE without it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue the run in --out, if there is one.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            help="Predict disk, memory and hours; run five steps where they can run."
        ),
    ] = False,
    gpu_hour_price: Annotated[
        Optional[float], typer.Option(min=0, help="Price that the estimate uses.")
    ] = None,
    nodes: Annotated[
        Optional[int],
        typer.Option(help="Number of machines; start the command on each."),
    ] = None,
    node_rank: Annotated[int, typer.Option(help="Number of this machine, from 0.")] = 0,
    main_process_ip: Annotated[
        Optional[str], typer.Option(help="Name or address of machine 0.")
    ] = None,
    main_process_port: Annotated[
        Optional[int], typer.Option(help="Free port of machine 0.")
    ] = None,
) -> dict[str, Any]:
    """Train a recipe without a notebook."""
    from spacer_lib.training.recipe import load_config

    setting = [*setting, *([] if nodes is None else [f"advanced.nodes={nodes}"])]
    settings = load_config(config, setting)
    from spacer_lib.training.processes.launch import launch

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


def _estimate(
    settings: Any, out: Path | None, gpu_hour_price: float | None
) -> dict[str, Any]:
    from spacer_lib.training.estimate import estimate
    from spacer_lib.training.processes.launch import count_gpus

    if settings.advanced.needs_gpu and not count_gpus():
        return _predict(settings)
    found = estimate(settings, out, print, gpu_hour_price)
    print("\n".join(found.lines()))
    return {**asdict(found), "measured_on": found.measured_on}


def _predict(settings: Any) -> dict[str, Any]:
    """What is known of a recipe without a GPU; nothing runs."""
    from spacer_lib.training.needs import run_needs, unknown_needs

    needs = run_needs(settings, settings.gpus * settings.advanced.nodes)
    print(*(needs.lines() if needs else [unknown_needs(settings)]), sep="\n")
    print(f"{settings.recipe}: no GPU here, so no step was measured")
    return {"steps_measured": 0, "predicted": needs and needs.record()}


@extra("spacer extras warmstart --seed 1 --out runs/warmstart_1")
def warmstart(
    out: Annotated[
        Optional[Path], typer.Option(help="Run folder; runs/warmstart without it.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and rooms.")] = 0,
    ship: Annotated[
        bool, typer.Option(help="Replace the checkpoint in checkpoints/.")
    ] = False,
) -> dict[str, Any]:
    """Train the tiny model's warm start again, from random weights."""
    from spacer_lib.study import warmstart_metrics
    from spacer_lib.tiny import warmstart
    from spacer_lib.training.recipe import load_config

    settings = load_config("tiny")
    config = warmstart.WarmstartConfig(seed)
    evaluate = functools.partial(warmstart_metrics, recipe=settings, view=config.view)
    out = out or PROJECT_ROOT / "runs" / "warmstart"
    model = warmstart.run(out, config, evaluate)
    record = read_record(model.parent / "provenance.json", "metrics")
    print(f"{model}: {record['metrics']}")
    if ship:
        shipped = PROJECT_ROOT / settings.model_path
        for path in listing(model):
            with atomic_path(shipped / path.name) as temporary:
                shutil.copyfile(path, temporary)
        write_json(shipped / "provenance.json", record)
        print(f"{shipped} now holds this checkpoint")
    return record


@extra("spacer extras study --config map --seeds 0 1 2")
def study(
    config: Annotated[
        str,
        typer.Option(
            metavar="NAME", help=f"Study: {one_of(names_in('study'))}; or a YAML file."
        ),
    ] = "map",
    out: Annotated[
        Optional[Path],
        typer.Option(help="Output folder; runs/study_NAME without it."),
    ] = None,
    seeds: Annotated[
        list[int], typer.Option(metavar="N ...", help="Seeds to run instead.")
    ] = [],
    arms: Annotated[
        list[str], typer.Option(metavar="NAME ...", help="Run only these arms.")
    ] = [],
    questions: Annotated[
        Optional[int], typer.Option(help="Number of held-out questions to ask.")
    ] = None,
    setting: Setting = [],
) -> Any:
    """Train several arms over several seeds and compare; a stopped run continues."""
    _check_study(config, arms, setting)
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


def _check_study(config: str, arms: list[str], setting: list[str]) -> None:
    """Refuse unknown studies, arms and settings before torch is loaded."""
    from spacer_lib.settings import read_yaml
    from spacer_lib.training.recipe import load_config

    study = read_yaml(config, CONFIGS / "study", what="study")
    arms_there = study.get("arms")
    known = tuple(arms_there) if isinstance(arms_there, dict) else ()
    for arm in arms:
        check_choice("study arm", arm, known, "cli.unknown-arm")
    load_config(str(study.get("recipe", "tiny")), setting)


@extra("spacer extras select --config tiny --out runs/kept.jsonl --k 8 --rows 400")
def select(
    out: Annotated[Path, typer.Option(help="JSON lines for the rows that are kept.")],
    config: Recipe = "tiny",
    setting: Setting = [],
    k: Annotated[int, typer.Option(min=2, help="Completions per row.")] = 8,
    rows: Annotated[
        Optional[int], typer.Option(min=1, help="Number of rows to ask.")
    ] = None,
) -> dict[str, Any]:
    """Drop rows that a model always or never answers right; a stopped run continues."""
    from spacer_lib.training.recipe import load_config

    settings = load_config(config, setting)
    from spacer_lib.evaluation.backends import load
    from spacer_lib.evaluation.selection import keep_informative, select_samples
    from spacer_lib.training.data import training_rows

    if rows and settings.data_path is None:  # draw exactly as many as are asked
        steps = -(-rows // settings.prompts_per_step) * settings.advanced.num_iterations
        settings = replace(settings, max_steps=steps)
    asked = training_rows(settings)[:rows]
    responses = out.with_suffix(".responses.jsonl")
    model, processor = load(settings.model_path, settings.advanced.positions)
    asking = settings.asking(
        temperature=settings.temperature,
        top_p=settings.top_p,
        seed=settings.seed,
        batch_size=4,
    )
    with sole_writer(responses):
        answers = select_samples(
            model, processor, asked, responses, asking, k=k, rewards=settings.reward
        )
        scores = [answer["scores"] for answer in answers]
        kept, histogram = keep_informative(asked, scores)
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
