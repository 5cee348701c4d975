"""Reproduce: from scans to a report in one command, a list of the other commands.

Each stage calls the functions behind ``spacer parse``, ``spacer qa`` and so on. The
manifest of the output folder says which stages are finished, and what they were made
from.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Optional

import typer

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    Manifest,
    config_hash,
    listing,
    move_folder,
    sole_writer,
)
from spacer_lib.cli import data as questions
from spacer_lib.cli import evaluation, scoring, training
from spacer_lib.cli.app import Setting, Workers, command
from spacer_lib.cli.boundary import in_one_line
from spacer_lib.cli.choices import BENCHMARKS, check_model, names_in, one_of
from spacer_lib.errors import SpacerError

SCANS = 1201  # of ScanNet's training list; SpaceR §3
ASKED = 5130  # questions of VSI-Bench
GB = 1e9


class Needed(NamedTuple):
    """A file or folder that the stages read.

    Attributes
    ----------
    what : str
    place : Path or str
        Or the name of a model.
    lacks : str
        What is wrong with it; empty if it is there.
    holds : str
        What was found.
    """

    what: str
    place: Path | str
    lacks: str = ""
    holds: str = ""

    def line(self) -> str:
        """A line of the table of files."""
        state = "MISSING" if self.lacks else "found"
        about = "; ".join(filter(None, (self.lacks, self.holds)))
        return f"  {self.what:10}{state:8} {self.place}{': ' * bool(about)}{about}"


class Call(NamedTuple):
    """The function of a command, with its options."""

    function: Callable[..., Any]
    options: Mapping[str, Any]

    def line(self) -> str:
        """The command line that does the same."""
        words = ["spacer", self.function.__name__]
        for key, value in self.options.items():
            given = [
                str(one) for one in (value if isinstance(value, list) else [value])
            ]
            shown = given if len(given) < 6 else [given[0], "…", given[-1]]
            if key not in ("scans", "runs"):
                words.append("--" + {"setting": "set"}.get(key, key).replace("_", "-"))
            words += [] if value is True else map(shlex.quote, shown)
        return " ".join(words)


class Stage(NamedTuple):
    """A stage: a folder that it writes, and how.

    Attributes
    ----------
    name : str
    folder : Path
    about : str
        What it makes, in numbers.
    inputs : callable
        What the output depends on, beside that of the stage before.
    calls : callable
        What it runs. Both are asked for when the stage is due.
    """

    name: str
    folder: Path
    about: str
    inputs: Callable[[], Any]
    calls: Callable[[], list[Call]]


class Plan(NamedTuple):
    """What was asked for, read and checked.

    Attributes
    ----------
    scans, labels, general, media, data, out : Path
    folders : dict
        ``{name: folder}`` of the scans that are used.
    left_out : int
        Scans of rooms that VSI-Bench asks about.
    total : int
        General questions that are wanted.
    workers, askers : int
        Processes on the CPU, and those that ask a model.
    recipe, config, benchmark, asking : Any
        ``Recipe``, ``TrainConfig``, ``Benchmark`` and ``EvaluationConfig``.
    names : dict
        Options that name these: ``recipe``, ``config``, ``setting``, ``evaluation``.
    """

    scans: Path
    labels: Path
    general: Path
    media: Path
    data: Path
    out: Path
    folders: dict[str, Path]
    left_out: int
    total: int
    workers: int
    askers: int
    recipe: Any
    config: Any
    benchmark: Any
    asking: Any
    names: dict[str, Any]

    @property
    def scenes(self) -> int:
        """Scans that are there, or as many as the paper has."""
        return len(self.folders) or SCANS

    def wanted(self) -> int | None:
        """Questions about rooms; ``None``: as many as there are candidates."""
        counts = list(self.recipe.wanted(self.scenes).values())
        return None if None in counts else sum(counts)


@command(
    "spacer reproduce --scans data/scannet/scans --general data/Video-R1-260k.json "
    "--gpus 8 --dry-run"
)
def reproduce(
    scans: Annotated[
        Path,
        typer.Option(help="Folder of scans of ScanNet, ScanNet++ or ARKitScenes."),
    ],
    general: Annotated[Path, typer.Option(help="JSON file of Video-R1's questions.")],
    dry_run: Annotated[
        bool, typer.Option(help="Say what is there, missing and needed; run nothing.")
    ] = False,
    gpus: Annotated[
        Optional[int], typer.Option(min=1, help="GPUs; the recipe's number without it.")
    ] = None,
    config: training.Recipe = "spacer_7b",
    setting: Setting = [],
    labels: Annotated[
        Optional[Path], typer.Option(help="Path of scannetv2-labels.combined.tsv.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help=f"Recipe of the questions: {one_of(names_in('qa'))}; or a YAML file."
        ),
    ] = "sr91k",
    media: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder of the general media; the one of --general without it."
        ),
    ] = None,
    total: Annotated[
        int, typer.Option(min=0, help="General questions to take.")
    ] = 60_000,
    benchmark: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"Benchmark: {one_of(BENCHMARKS)}."),
    ] = "vsi",
    data: Annotated[
        Path,
        typer.Option(
            help="The benchmark's folder or file.", show_default="data/VSI-Bench"
        ),
    ] = PROJECT_ROOT / "data" / "VSI-Bench",
    evaluation_settings: Annotated[
        Optional[str],
        typer.Option(
            "--evaluation",
            metavar="NAME",
            help=f"Settings of the evaluation: {one_of(names_in('evaluate'))}, or a "
            "YAML file; SpaceR's without it.",
        ),
    ] = None,
    workers: Workers = 1,
    out: Annotated[
        Path, typer.Option(help="Output folder.", show_default="runs/reproduce")
    ] = PROJECT_ROOT / "runs" / "reproduce",
) -> dict[str, Any]:
    """Parse, ask, mix, train, evaluate and report; a stopped run continues."""
    from spacer_lib.benchmarks import named
    from spacer_lib.evaluation.config import load_evaluation
    from spacer_lib.questions.recipes import load_recipe
    from spacer_lib.training.recipe import load_config

    out = out.absolute()
    changes = [*setting, f"data_path={json.dumps(str(out / 'joint/train.jsonl'))}"]
    changes += [] if gpus is None else [f"gpus={gpus}"]
    settings = load_config(config, changes)
    wanted, bench = load_recipe(recipe), named(benchmark)
    asking = load_evaluation(evaluation_settings)
    folders, left_out = _scan_folders(scans)
    beside = next(iter(folders.values()), scans / "scene").parent.parent
    plan = Plan(
        scans=scans,
        labels=labels or beside / "scannetv2-labels.combined.tsv",
        general=general,
        media=media or general.parent,
        data=data,
        out=out,
        folders=folders,
        left_out=left_out,
        total=total,
        workers=workers,
        askers=settings.gpus,
        recipe=wanted,
        config=settings,
        benchmark=bench,
        asking=asking,
        names={
            "recipe": recipe,
            "train": {"config": config, "setting": changes},
            "evaluation": evaluation_settings,
        },
    )
    files = list(_files(plan))
    if dry_run:
        return _say_plan(plan, files)
    processes, on_gpus = _check(plan, files)
    plan = plan._replace(askers=processes if on_gpus else 1)
    with sole_writer(out):
        states = _run(out, _stages(plan))
    report = out / "report" / "report.md"
    print(f"{report}: {', '.join(f'{name} {how}' for name, how in states.items())}")
    return {"stages": states, "report": report}


# ---------------------------------------------------------------- what is there


def _scan_folders(scans: Path) -> tuple[dict[str, Path], int]:
    """The scans of a folder, and how many show rooms of VSI-Bench and are left out."""
    from spacer_lib.rooms.identity import benchmark_room
    from spacer_lib.rooms.layouts import find_scans

    found = find_scans(scans) if scans.is_dir() else {}
    kept = {name: place for name, place in found.items() if not benchmark_room(name)}
    return kept, len(found) - len(kept)


def _files(plan: Plan) -> Iterator[Needed]:
    """What the stages read, and whether it is there."""
    yield _needed_scans(plan)
    for what in ("labels", "general", "media"):
        place = getattr(plan, what)
        yield Needed(what, place, "" if place.exists() else "no such file or folder")
    yield _needed_benchmark(plan)
    yield _needed_model(plan.config.model_path)


def _needed_scans(plan: Plan) -> Needed:
    """The scans, and how many of them lack one of the files of ScanNet's layout."""
    from spacer_lib.rooms.layouts import input_files, layout_of
    from spacer_lib.rooms.scannet import parse
    from spacer_lib.rooms.scannet.exported import find_frames

    parts = (parse.MESH, parse.SEGMENTS, parse.AGGREGATION, parse.RECORDING)
    lacking, size = dict.fromkeys(parts, 0), 0
    for name, folder in plan.folders.items():
        rows = input_files(folder)
        size += sum(row[1] for row in rows)
        there = {row[0] for row in rows}
        if layout_of(folder) in (None, "scannet"):
            exported = find_frames(folder) is not None
            for part in parts:
                instead = exported and part == parse.RECORDING
                lacking[part] += not instead and f"{name}{part}" not in there
    if not plan.folders:
        lacks = "no scan in it" if plan.scans.is_dir() else "no such folder"
        return Needed("scans", plan.scans, lacks)
    holds = f"{len(plan.folders):,} scans, {size / GB:,.1f} GB"
    if plan.left_out:
        holds += f"; {plan.left_out} more show rooms of VSI-Bench and are left out"
    lacks = ", ".join(f"{n:,} scans lack *{part}" for part, n in lacking.items() if n)
    return Needed("scans", plan.scans, lacks, holds)


def _needed_benchmark(plan: Plan) -> Needed:
    try:
        rows = len(plan.benchmark.read(plan.data))
    except SpacerError as error:
        return Needed("benchmark", plan.data, str(error.got or error))
    return Needed("benchmark", plan.data, holds=f"{rows:,} questions")


def _needed_model(name: str) -> Needed:
    """A checkpoint's folder; a model of the hub is fetched when it is first used."""
    try:
        check_model(name)
    except SpacerError as error:
        return Needed("model", name, str(error))
    here = any(
        (place / name / "config.json").is_file() for place in (Path(), PROJECT_ROOT)
    )
    return Needed("model", name, holds="" if here else "of the hub, fetched if absent")


def _check(plan: Plan, files: Sequence[Needed]) -> tuple[int, bool]:
    """Refuse what would stop a later stage: files, GPUs, the disk of checkpoints.

    Returns the training's processes, and whether they have GPUs.
    """
    missing = [one for one in files if one.lacks]
    if missing:
        raise SpacerError(
            "files that a reproduction reads",
            kind="cli.reproduce-files",
            got="; ".join(f"{one.what} {one.place}: {one.lacks}" for one in missing),
            remedy="get them or correct the paths; --dry-run lists all of them",
        )
    from spacer_lib.training.needs import require_disk
    from spacer_lib.training.processes.launch import resolve_workers

    processes, device, _ = resolve_workers(plan.config)
    needs = _needs(plan, processes)
    if needs is not None:
        require_disk(needs, plan.out / "train")
    return processes // plan.config.advanced.nodes, device == "cuda"


# ---------------------------------------------------------------- what is needed


def _needs(plan: Plan, processes: int) -> Any:
    """The training's ``Needs``, for the rows that are there or that will be."""
    from spacer_lib.training.needs import count_rows, run_needs

    wanted = plan.wanted()
    rows = None if wanted is None else wanted + plan.total
    return run_needs(plan.config, processes, rows=count_rows(plan.config) or rows)


def _say_plan(plan: Plan, files: Sequence[Needed]) -> dict[str, Any]:
    """Print and return files, stages, steps, disk and hours; run nothing."""
    from spacer_lib.training.needs import asking_hours, free_bytes

    config, asking = plan.config, plan.asking.settings(plan.benchmark.mode)
    processes = config.gpus * config.advanced.nodes
    needs, asked = _needs(plan, processes), _asked(plan)
    hours = asking_hours(
        config, asked, asking.max_new_tokens, asking.batch_size, processes
    )
    missing = [one.what for one in files if one.lacks]
    print("files", *(one.line() for one in files), "stages", sep="\n")
    states = {}
    for stage, done, _ in _states(plan.out, _stages(plan)):
        states[stage.name] = "done" if done else "to do"
        print(f"  {stage.name:9} {states[stage.name]:6} {stage.about}")
        print(*(f"    {call.line()}" for call in stage.calls()), sep="\n")
    print("needs", *(f"  {line}" for line in needs.lines()) if needs else (), sep="\n")
    if hours is not None:
        low, high = hours
        print(f"  evaluation: {low:.1f}-{high:.1f} hours a model at most, decoding")
    free = free_bytes(plan.out)
    missing += ["disk"] if needs and free < needs.disk else []
    print(f"  {free / GB:,.1f} GB free for {plan.out}; videos come on top")
    print(f"missing: {', '.join(missing) or 'nothing'}")
    return {
        "files": [one._asdict() for one in files],
        "missing": missing,
        "stages": states,
        "scans": plan.scenes,
        "questions": plan.wanted(),
        "general": plan.total,
        "asked": asked,
        "training": needs and needs.record(),
        "evaluation_hours": hours,
        "free": free,
    }


def _asked(plan: Plan) -> int:
    """Questions of the benchmark that a model is asked."""
    try:
        rows = len(plan.benchmark.read(plan.data))
    except SpacerError:
        rows = ASKED
    return min(rows, plan.asking.limit or rows)


# ---------------------------------------------------------------- the stages


def _stages(plan: Plan) -> list[Stage]:
    return [
        _parse(plan),
        _qa(plan),
        _mix(plan),
        _train(plan),
        _evaluate(plan),
        _report(plan),
    ]


def _parse(plan: Plan) -> Stage:
    out = plan.out / "parsed"
    options: dict[str, Any] = {
        "scans": plan.scans,
        "labels": plan.labels,
        "out": out,
    }
    if plan.left_out:
        options |= {"scenes": sorted(plan.folders)}

    def inputs() -> Any:
        from spacer_lib.rooms.scans import scan_fingerprint

        places = plan.folders.items()
        return {name: scan_fingerprint(at, plan.labels) for name, at in places}

    return Stage(
        "parse",
        out,
        f"{plan.scenes:,} scans: scenes and 24 fps videos",
        inputs,
        lambda: [Call(questions.parse, options | {"workers": plan.workers})],
    )


def _qa(plan: Plan) -> Stage:
    parsed, wanted = plan.out / "parsed", plan.wanted()

    def meta() -> list[Path]:
        """The scans' scenes, without those of an earlier set in the folder."""
        entries = Manifest(parsed).entries
        if not plan.folders or entries.keys() <= plan.folders.keys():
            return [parsed / "scenes"]
        kept = [entries[name]["files"] for name in plan.folders if name in entries]
        return [parsed / next(iter(files)) for files in kept]

    def calls() -> list[Call]:
        options = {"meta": meta(), "recipe": plan.names["recipe"], "out": out}
        return [Call(questions.qa, options | {"workers": plan.workers})]

    out = plan.out / "questions"
    about = f"{'all' if wanted is None else format(wanted, ',')} questions about rooms"
    return Stage("qa", out, about, lambda: asdict(plan.recipe), calls)


def _mix(plan: Plan) -> Stage:
    out, wanted = plan.out / "joint", plan.wanted()
    options = {
        "spatial": plan.out / "questions",
        "general": plan.general,
        "media": plan.media,
        "total": plan.total,
        "out": out,
    }
    rows = "" if wanted is None else f"{wanted + plan.total:,} questions, "
    return Stage(
        "mix",
        out,
        f"{rows}{plan.total:,} of them general",
        lambda: [_stamps(plan.general), str(plan.media), plan.total],
        lambda: [Call(questions.mix, options)],
    )


def _train(plan: Plan) -> Stage:
    out = plan.out / "train"
    options = {**plan.names["train"], "out": out, "resume": True}
    return Stage(
        "train",
        out,
        f"{plan.config.recipe} on {plan.config.gpus} GPUs",
        # A run may go on with another number of GPUs, or says why it may not.
        lambda: replace(plan.config, gpus=1).hash,
        lambda: [Call(training.train, options)],
    )


def _evaluate(plan: Plan) -> Stage:
    out, config = plan.out / "evaluation", plan.config
    asked = {"benchmark": plan.benchmark.name, "data": plan.data}
    if plan.names["evaluation"]:
        asked |= {"config": plan.names["evaluation"]}

    def calls() -> list[Call]:
        several = {"workers": plan.askers, "positions": config.advanced.positions}
        models = {"before": config.model_path, "after": plan.out / "train" / "model"}
        runs = [
            asked | {"model": str(model), "out": out / name} | several
            for name, model in models.items()
        ]
        runs.append(asked | {"floor": "strongest", "out": out / "floor"})
        return [Call(evaluation.evaluate, options) for options in runs]

    return Stage(
        "evaluate",
        out,
        f"{_asked(plan):,} questions to the model before and after, and to a floor",
        lambda: [plan.benchmark.name, _stamps(plan.data), asdict(plan.asking)],
        calls,
    )


def _report(plan: Plan) -> Stage:
    out, runs = plan.out / "report", plan.out / "evaluation"
    table = ["spacer_table1"] if plan.benchmark.name == "vsi" else []
    options: dict[str, Any] = {
        "runs": [f"{name}={runs / name}" for name in ("before", "after", "floor")],
        "reference": "before",
        **({"published": table} if table else {}),
        "out": out,
    }
    about = "tables and figures, paired with the model before training"
    return Stage(
        "report", out, about, lambda: table, lambda: [Call(scoring.report, options)]
    )


def _stamps(path: Path) -> list[Any]:
    """Name, bytes and time of change of a file, or of the files in a folder."""
    from spacer_lib.rooms.layouts import input_files

    if path.is_dir():
        return list(map(list, input_files(path)))
    if not path.exists():
        return []
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


# ---------------------------------------------------------------- running them


def _states(out: Path, stages: Sequence[Stage]) -> Iterator[tuple[Stage, bool, str]]:
    """Each stage with whether it is done, and its fingerprint.

    A stage is done if its inputs are the same, its files are whole, and so for the
    stages before it. The generator goes on with what the manifest says by then.
    """
    before: Any = None
    whole = True
    for stage in stages:
        fingerprint = config_hash([stage.inputs(), before])
        done = whole and Manifest(out).done(stage.name, fingerprint)
        yield stage, done, fingerprint
        manifest = Manifest(out)
        whole = whole and manifest.done(stage.name, fingerprint)
        before = [fingerprint, manifest.entries.get(stage.name, {}).get("files")]


def _run(out: Path, stages: Sequence[Stage]) -> dict[str, str]:
    """Run the stages that are not done; ``{name: "done" or "skipped"}``."""
    states: dict[str, str] = {}
    for stage, done, fingerprint in _states(out, stages):
        title = f"stage {len(states) + 1} of {len(stages)}, {stage.name}"
        print(f"{title}{': done before, skipped' if done else ''}", flush=True)
        if not done:
            _begin(out, stage, fingerprint)
            _call(stage, title, list(states))
            _finish(out, stage, fingerprint)
        states[stage.name] = "skipped" if done else "done"
    return states


def _begin(out: Path, stage: Stage, fingerprint: str) -> None:
    """Keep what a stopped run of the same inputs has; set aside what is of others."""
    key = f"{stage.name}, started"
    if Manifest(out).done(key, fingerprint):
        return
    # `spacer parse` itself compares each scan.
    if stage.name != "parse" and stage.folder.exists():
        move_folder(stage.folder, stage.folder.with_name(stage.folder.name + ".old"))
    with Manifest(out) as manifest:
        manifest.record(key, fingerprint, [])


def _call(stage: Stage, title: str, before: list[str]) -> None:
    try:
        with in_one_line():
            for call in stage.calls():
                call.function(**call.options)
    except SpacerError as error:
        kept = f"; {', '.join(before)} will be skipped" if before else ""
        raise SpacerError(
            title,
            kind="cli.stage-failed",
            got=str(error).rstrip("."),
            remedy=f"mend that and give the same command again{kept}",
        ) from error


def _finish(out: Path, stage: Stage, fingerprint: str) -> None:
    """Record the stage's files; checkpoints may be removed after the training."""
    files = [path for path in listing(stage.folder, deep=True) if path.is_file()]
    names = [path.relative_to(out).as_posix() for path in files]
    kept = [name for name in names if "/checkpoints/" not in name]
    with Manifest(out) as manifest:
        manifest.record(stage.name, fingerprint, kept)
