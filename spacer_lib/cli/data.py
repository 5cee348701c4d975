"""Data: rooms, scenes, questions, mixtures, the audit of official answers."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from spacer_lib.artifacts import PROJECT_ROOT
from spacer_lib.cli.app import Clock, Out, Scheduler, Seed, Workers, command, extra
from spacer_lib.cli.choices import check_exists, names_in, one_of
from spacer_lib.errors import SpacerError

AllowDataset = Annotated[
    list[str],
    typer.Option(
        metavar="NAME ...",
        help="Data sets of other rooms that have names of VSI-Bench's rooms.",
    ),
]


def _client(scheduler: str | None) -> Any:
    """A client of a Dask scheduler, or ``None``."""
    if scheduler is None:
        return None
    from dask.distributed import Client

    try:
        return Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise SpacerError(
            f"Dask scheduler {scheduler} does not answer",
            kind="cli.no-scheduler",
            got=error,
            remedy="start one (`dask scheduler`) or leave --scheduler out",
        ) from error


def _scan_folders(folder: Path, scenes: list[str]) -> list[Path]:
    """The folders of ``scenes``, or all scans of the folder."""
    from spacer_lib.rooms.layouts import find_scans

    found = find_scans(folder)
    absent = sorted(set(scenes) - set(found))
    if absent or not found:
        raise SpacerError(
            f"{folder}: scans",
            kind="cli.unknown-scan" if absent else "cli.no-scans",
            got=f"no {', '.join(absent[:5])}" if absent else "no folder in it",
            expected="one folder per scan",
            remedy="check --scenes" if absent else "pass ScanNet's scans/ folder",
        )
    return [found[name] for name in sorted(scenes or found)]


@command("spacer synth --scenes 6 --out data/synthetic")
def synth(
    scenes: Annotated[int, typer.Option(min=1, help="Number of rooms.")] = 6,
    out: Annotated[
        Path, typer.Option(help="Output folder.", show_default="data/synthetic")
    ] = PROJECT_ROOT / "data" / "synthetic",
    seed: Seed = 0,
    workers: Workers = 1,
    meta_only: Annotated[
        bool, typer.Option(help="Write only meta.json, without scan files and videos.")
    ] = False,
) -> dict[str, Any]:
    """Write furnished synthetic rooms in ScanNet's file formats."""
    from spacer_lib.rooms import scans

    clock = Clock()
    if meta_only:
        path = scans.synthetic_meta(out / "meta.json", scenes, seed)
        result: dict[str, Any] = {"meta": path, "scenes": scenes}
        print(f"{path}: {scenes} scenes in {clock.spent()['seconds']:.0f} s")
    else:
        folders, labels = scans.synthetic_scans(out, scenes, seed, workers=workers)
        result = {"scans": [f.name for f in folders], "labels": labels}
        print(f"{out}/scans: {len(folders)} scans, labels in {labels.name}")
    return result | clock.spent()


@command("spacer parse data/synthetic/scans --out data/parsed --workers 4")
def parse(
    scans: Annotated[
        Path,
        typer.Argument(help="Folder of scans of ScanNet, ScanNet++ or ARKitScenes."),
    ],
    out: Out,
    labels: Annotated[
        Optional[Path], typer.Option(help="Path of scannetv2-labels.combined.tsv.")
    ] = None,
    scenes: Annotated[
        list[str], typer.Option(metavar="ID ...", help="Parse only these scans.")
    ] = [],
    workers: Workers = 1,
    scheduler: Scheduler = None,
    video: Annotated[bool, typer.Option(help="Write the videos too.")] = True,
) -> dict[str, Any]:
    """Parse scan folders into scenes and 24 fps videos; a stopped run continues."""
    clock, folders = Clock(), _scan_folders(scans, scenes)
    from spacer_lib.rooms.scans import LABELS, require_no_failures, try_scans

    labels = labels or folders[0].parent.parent / LABELS
    parsed, failures = try_scans(
        folders, labels, out, workers=workers, client=_client(scheduler), video=video
    )
    for scene in parsed:
        for note in (scene.provenance["groups"]["note"], *scene.warnings):
            print(f"{scene.scene_id}: {note}")
    objects = sum(len(scene.instances) for scene in parsed)
    print(f"{out}: {len(parsed)} scenes with {objects} objects")
    require_no_failures(failures, len(parsed) + len(failures))
    return {
        "scenes": {
            s.scene_id: {
                "objects": len(s.instances),
                "categories": len(s.object_counts),
                "frames": s.frame_count,
                "room_size_m2": s.room_size_m2,
                "groups": s.provenance.get("groups"),
                "notes": list(s.warnings),
            }
            for s in parsed
        },
        **clock.spent(),
    }


@command("spacer qa --meta data/parsed/scenes --recipe sr91k --out data/sr91k")
def qa(
    meta: Annotated[
        list[Path], typer.Option(metavar="PATH ...", help="Meta files, or folders.")
    ],
    out: Out,
    recipe: Annotated[
        str,
        typer.Option(help=f"Recipe: {one_of(names_in('qa'))}; or a YAML file."),
    ] = "sr91k",
    seed: Seed = 0,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    held_out: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE ...", help="Lists of scans to keep out of training."
        ),
    ] = [],
    drop_held_out: Annotated[
        bool, typer.Option(help="Leave held-out scans out instead of refusing them.")
    ] = False,
    allow_dataset: AllowDataset = [],
    figures: Annotated[bool, typer.Option(help="Draw the statistics.")] = True,
) -> dict[str, Any]:
    """Make a question set with maps from scenes; a stopped run continues."""
    from spacer_lib.questions.recipes import load_recipe

    clock, chosen = Clock(), load_recipe(recipe)
    for path in (*meta, *held_out):
        check_exists(path, "file")
    from spacer_lib.questions.build import build_dataset
    from spacer_lib.rooms.scannet.splits import read_split
    from spacer_lib.rooms.scans import require_no_failures, try_scenes

    scenes, failures = try_scenes(meta, out)
    if not scenes:
        require_no_failures(failures, len(failures), "rooms")
    ids = [name for path in held_out for name in read_split(path)]
    report = build_dataset(
        scenes,
        out,
        chosen,
        seed=seed,
        workers=workers,
        client=_client(scheduler),
        held_out_ids=ids,
        drop_held_out=drop_held_out,
        allow_datasets=allow_dataset,
    )
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
        from spacer_lib.pictures.figures import dataset_figures

        for path in dataset_figures(out):
            print(path)
    require_no_failures(failures, len(scenes) + len(failures), "rooms")
    keep = ("tasks", "counts", "letters", "scenes", "dropped", "rejections", "paths")
    return {
        "questions": total,
        "questions_per_second": round(rate, 1),
        **{key: report[key] for key in keep},
        **spent,
    }


@command("spacer mix --spatial data/sr91k --general Video-R1.json --out data/joint")
def mix(
    spatial: Annotated[Path, typer.Option(help="A folder that `spacer qa` wrote.")],
    general: Annotated[Path, typer.Option(help="JSON file of Video-R1's questions.")],
    out: Out,
    media: Annotated[
        Optional[Path], typer.Option(help="Folder of the general images and videos.")
    ] = None,
    total: Annotated[
        int, typer.Option(min=0, help="General questions to take.")
    ] = 60_000,
    allow_dataset: AllowDataset = [],
    seed: Seed = 0,
) -> dict[str, Any]:
    """Join a question set with general questions, as in SpaceR-151k."""
    check_exists(spatial, "folder")
    check_exists(general, "file")
    from spacer_lib.questions.mixture import write_joint

    result = write_joint(
        spatial,
        general,
        out,
        media_root=media,
        total=total,
        seed=seed,
        allow_datasets=allow_dataset,
    )
    for name, count in result["question_type"].items():
        print(f"{name:30}{count:>8}")
    for reason, count in result["refused"].items():
        print(f"refused {count}: {reason}")
    part, used = result["part"], result["part"].get("general", 0)
    print(f"{'part':30}{'wanted':>9}{'used':>9}")
    print(f"{'spatial':30}{'all':>9}{part.get('spatial', 0):>9,}")
    print(f"{'general':30}{result['wanted']:>9,}{used:>9,}")
    print(f"{'source':30}{'usable':>9}{'used':>9}")
    for name, row in result["sources"].items():
        print(f"{name[:29]:30}{row['usable']:>9,}{row['used']:>9,}")
    print(f"{used:,} of {result['wanted']:,} general questions")
    print(f"{out}/train.jsonl: {sum(result['part'].values())} questions")
    return result


@extra("spacer extras audit --meta scannet_meta.json --questions vsibench.jsonl")
def audit(
    questions: Annotated[
        Path,
        typer.Option(
            help="VSI-Bench's questions, or ours, JSON lines; with .json at the end a "
            "JSON array of VSTI-Bench's camera displacements."
        ),
    ],
    meta: Annotated[
        Optional[Path],
        typer.Option(help="VSI-Bench's meta file, ours, or VLM-3R's frame metadata."),
    ] = None,
    kind: Annotated[
        list[str], typer.Option(metavar="TYPE ...", help="Only these question types.")
    ] = [],
    blind: Annotated[
        bool,
        typer.Option(help="Test instead what a forest answers from the words alone."),
    ] = False,
    prune: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="With --blind: write NAME.jsonl and NAME.parquet beside the "
            "questions, without the rows that it answers most surely.",
        ),
    ] = None,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Recompute official answers and list every disagreement; or test a set blind."""
    check_exists(questions, "file")
    if blind:
        return _audit_blind(questions, kind, prune, seed)
    if meta is None or prune is not None:
        raise SpacerError(
            "audit",
            kind="cli.audit-of-what",
            got="no --meta" if meta is None else "--prune",
            expected="--meta to recompute answers, --blind to test and --prune",
        )
    check_exists(meta, "file")
    if questions.suffix == ".json":
        from spacer_lib.questions.vsti import audit_displacements

        result = audit_displacements(questions, meta, kind)
    else:
        from spacer_lib.questions.audit import audit_files

        result = audit_files(meta, questions, kind)
    print(f"{'task':30}{'rows':>6}{'exact':>7}")
    for task, row in result["tasks"].items():
        print(f"{task:30}{row['rows']:>6}{row['exact']:>7}")
    for name, count in result.get("equal", {}).items():
        print(f"equal to the length of {name}: {count}")
    for reason, count in result["skipped"].items():
        print(f"skipped {count}: {reason}")
    for scene_id, why in result["unreadable"].items():
        print(f"scene {scene_id}: {why}")
    for row in result["disagreements"]:
        note = f" ({row['note']})" if row["note"] else ""
        print(
            f"{row['id']} {row['question_type']}: official {row['official']}, "
            f"ours {row['ours']}{note}"
        )
    print(f"{len(result['disagreements'])} disagreements")
    return result


def _audit_blind(
    questions: Path, kinds: list[str], prune: str | None, seed: int
) -> dict[str, Any]:
    """Print and return the blind test of a set; write the pruned one."""
    from spacer_lib.evaluation import blind
    from spacer_lib.questions.audit import of_types
    from spacer_lib.rows import (
        JOINT_KEYS,
        SPATIAL_KEYS,
        QuestionWriter,
        read_questions,
    )

    if prune is not None and (Path(prune).name != prune or prune == questions.stem):
        raise SpacerError(
            "--prune",
            kind="cli.prune-name",
            got=prune,
            expected="the name of a new file beside the questions, without its ending",
        )
    clock, rows = Clock(), read_questions(questions)
    tested = of_types(rows, kinds)
    result = blind.blind_table(tested, seed=seed)
    print(f"{'task':30}{'rows':>7}{'blind':>7}{'floor':>7}{'chance':>8}")
    for name, row in result["types"].items():
        scores = f"{row['blind']:>7.3f}{row['floor']:>7.3f}{row['chance']:>8.3f}"
        print(f"{name:30}{row['rows']:>7}{scores}  {row['floor_name']}")
    for name, why in result["too_small"].items():
        print(f"not tested: {name}, {why}")
    if prune is not None:
        left, report = blind.prune(tested, seed=seed)
        print(f"{'task':30}{'rows':>7}{'dropped':>9}{'before':>8}{'after':>7}")
        for name, row in report["types"].items():
            scores = f"{row['before']:>8.3f}{row['after']:>7.3f}"
            far = "" if row["near"] else "  still above chance"
            print(f"{name:30}{row['rows']:>7}{row['dropped']:>9}{scores}{far}")
        gone = {id(row) for row in tested} - {id(row) for row in left}
        kept = [row for row in rows if id(row) not in gone]
        joint = any("part" in row for row in rows)
        stem = questions.with_name(prune)
        with QuestionWriter(stem, JOINT_KEYS if joint else SPATIAL_KEYS) as writer:
            writer.write(*kept)
        print(f"{stem}.jsonl: {len(kept)} of {len(rows)} questions")
        result |= {"pruned": report["types"], "questions": len(kept)}
    return result | clock.spent()
