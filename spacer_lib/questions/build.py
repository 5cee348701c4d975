"""Scenes → a question set: candidates for each scene, then a choice among them all.

Candidates take long. They are written scene by scene into ``candidates/``, and an
interrupted run continues after the last one. Random choices depend on seed, scene and
question type, so that the number of workers and interruptions change no byte. The
choice (targets, flat answers, balanced letters) is quick, and every run makes it again.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from spacer_lib.artifacts import (
    Manifest,
    PathLike,
    config_hash,
    make_folder,
    provenance,
    read_record,
    sole_writer,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each
from spacer_lib.maps.boxes import true_boxes
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.card import card_text
from spacer_lib.questions.choose import (
    flat_choice,
    split_spaces,
    water_fill,
    with_answer_at,
    without_options,
)
from spacer_lib.questions.generators import GENERATOR_VERSION, question_rows
from spacer_lib.questions.kinds import lists_options
from spacer_lib.questions.recipes import Recipe, load_recipe
from spacer_lib.rooms.identity import Room, benchmark_room, require_no_benchmark_rooms
from spacer_lib.rooms.scene import Scene, space_of
from spacer_lib.rooms.shown import as_shown
from spacer_lib.rows import SPATIAL_KEYS, CognitiveMap, Question, QuestionWriter

TRAINING_PARTS = ("train", "grpo")
ANY_TYPE = "any question type"  # of rejections before a type is asked


def build_dataset(
    scenes: Sequence[Scene],
    out_dir: PathLike,
    recipe: Recipe | PathLike = "demo",
    *,
    seed: int = 0,
    workers: int = 1,
    client: Any = None,
    held_out_ids: Iterable[str] = (),
    drop_held_out: bool = False,
    allow_datasets: Iterable[str] = (),
) -> dict[str, Any]:
    """Write the question files of a recipe; no physical space is in two parts.

    Each file is whole or absent: ``<part>.jsonl`` and ``<part>.parquet`` (see
    ``rows.read_questions``), ``maps.json``, ``report.json`` and a dataset card
    ``README.md``.

    Parameters
    ----------
    scenes : sequence of Scene
    out_dir : path
    recipe : Recipe, name or YAML file
    seed : int
    workers, client
        See ``jobs.each``.
    held_out_ids : iterable of str
        Scans whose spaces are not trained on. VSI-Bench's rooms never are.
    drop_held_out : bool
        Leave such scans out of the training parts and count them. By default they are
        an error.
    allow_datasets : iterable of str
        Data sets whose rooms only share names with VSI-Bench's.

    Returns
    -------
    dict
        The report: ``tasks`` ``{part: {question_type: {wanted, candidates, kept}}}``,
        ``counts`` ``{part: {question_type: n}}``, ``letters``, ``scenes`` ``{part:
        [id]}``, ``rejections`` (list of question_type, reason, count), ``dropped``
        scans, ``recipe``, ``seed``, ``provenance``; and ``paths`` ``{part: Path}``.

    Raises
    ------
    SpacerError
        If there is no scene, a scene or a question about it repeats, a training part
        has a held-out space, or no question is left.
    """
    out_dir, recipe = Path(out_dir), load_recipe(recipe)
    held_out_ids, allow_datasets = list(held_out_ids), list(allow_datasets)
    by_id = {scene.scene_id: scene for scene in scenes}
    if len(by_id) != len(scenes) or not scenes:
        raise SpacerError(
            "scenes",
            kind="questions.repeated-scene" if scenes else "questions.no-scene",
            got=f"{len(scenes)} scenes with {len(by_id)} ids",
            expected="one or more, each with an id of its own",
        )
    parts, dropped = split_spaces(by_id, recipe.parts, seed), []
    for part in sorted(set(parts) & set(TRAINING_PARTS)):
        mine = [by_id[name] for name in parts[part]]
        listed = _listed(mine, held_out_ids)
        shown = _benchmark_scans(mine, allow_datasets)
        if not drop_held_out:
            remedy = "leave these scans out (drop_held_out, --drop-held-out)"
            require_no_benchmark_rooms(f"part {part}", shown, remedy)
            if listed:
                raise SpacerError(
                    f"part {part} shares physical spaces with the held-out list",
                    kind="questions.held-out-space",
                    got=f"{len(listed)} scans, first {listed[0]}",
                    expected="none",
                    remedy=remedy,
                )
        leaks = {*listed, *(name for name, _ in shown)}
        dropped += [name for name in parts[part] if name in leaks]
        parts[part] = [name for name in parts[part] if name not in leaks]
    by_id = {n: s for n, s in by_id.items() if n not in set(dropped)}
    if not by_id:
        raise SpacerError(
            "scenes for training",
            kind="questions.all-held-out",
            got=f"{len(dropped)} scans left out: VSI-Bench's rooms or held out",
            expected="at least one other scan",
            remedy="add scans that no benchmark uses, or make a test set "
            "(--recipe vsibench)",
        )
    with sole_writer(out_dir):
        _make_candidates(by_id, out_dir, recipe, seed, workers, client)
        return _write_set(by_id, parts, dropped, out_dir, recipe, seed)


def _write_set(
    by_id: Mapping[str, Scene],
    parts: Mapping[str, Sequence[str]],
    dropped: Sequence[str],
    out_dir: Path,
    recipe: Recipe,
    seed: int,
) -> dict[str, Any]:
    """Choose among the candidates and write the files of a set; its report."""
    report: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "scenes": parts,
        "dropped": dropped,
        "tasks": {},
        "counts": {},
        "letters": {},
        "files": {part: f"{part}.jsonl" for part in parts},
    }
    rejections, paths = Counter[tuple[str, str]](), {}
    maps: dict[str, CognitiveMap] = {}
    choices: dict[str, dict[tuple[str, int], int | None]] = {}
    for part, ids in parts.items():
        index = _read_index(out_dir, ids, rejections, maps)
        chosen, report["tasks"][part] = _choose(index, recipe, part, len(ids), seed)
        choices[part] = chosen
    if not any(choices.values()):
        raise SpacerError(
            f"recipe {recipe.name}: no question is left",
            kind="questions.none-left",
            got=f"{len(by_id)} scenes, {len(dropped)} scans left out, "
            f"{sum(rejections.values())} rejections",
            remedy="read the rejections, or give more scenes",
        )
    for part, ids in parts.items():
        paths[part] = out_dir / f"{part}.jsonl"
        written, letters = _write_part(
            paths[part], ids, choices[part], by_id, maps, recipe
        )
        report["counts"][part], report["letters"][part] = written, letters
    report["rejections"] = [
        {"question_type": kind, "reason": reason, "count": count}
        for (kind, reason), count in sorted(
            rejections.items(), key=lambda item: (-item[1], item[0])
        )
    ]
    scene_file = {
        "grid_size": recipe.grid_size,
        "maps": dict(sorted(maps.items())),
        "seconds": {name: by_id[name].duration_s for name in sorted(by_id)},
    }
    write_json(out_dir / "maps.json", scene_file, indent=None)
    report["provenance"] = provenance(generator_version=GENERATOR_VERSION)
    write_json(out_dir / "report.json", report)
    write_text(out_dir / "README.md", card_text(report))
    return report | {"paths": paths}


def _listed(scenes: Iterable[Scene], held_out_ids: Iterable[str]) -> list[str]:
    """Ids of the scenes that share a physical space with one of the given scans."""
    spaces = {space_of(name) for name in held_out_ids}
    return [scene.scene_id for scene in scenes if scene.space_id in spaces]


def _benchmark_scans(
    scenes: Iterable[Scene], allow_datasets: Iterable[str]
) -> list[tuple[str, Room]]:
    """(scene id, room) of the scenes that show a room of VSI-Bench."""
    found = []
    for scene in scenes:
        for name in (scene.scene_id, scene.video_path):
            room = benchmark_room(name, scene.dataset, allowed=allow_datasets)
            if room is not None:
                found.append((scene.scene_id, room))
                break
    return found


# ---------------------------------------------------------------- candidates


def _candidate_file(name: str) -> str:
    return f"candidates/{name}.json"


def _make_candidates(
    by_id: Mapping[str, Scene],
    out_dir: Path,
    recipe: Recipe,
    seed: int,
    workers: int,
    client: Any,
) -> None:
    key = [GENERATOR_VERSION, seed, recipe.caps, recipe.rules, recipe.grid_size]
    key += [recipe.shown] if recipe.shown else []
    prints = {n: config_hash([key, s.fingerprint()]) for n, s in by_id.items()}
    with Manifest(make_folder(out_dir)) as manifest:
        todo = [by_id[n] for n in sorted(by_id) if not manifest.done(n, prints[n])]
        make = functools.partial(_scene_candidates, out_dir, recipe, seed)
        for scene, _ in each(
            make, todo, workers=workers, client=client, what="questions"
        ):
            name = scene.scene_id
            manifest.record(name, prints[name], [_candidate_file(name)])


def _scene_candidates(out_dir: Path, recipe: Recipe, seed: int, scene: Scene) -> None:
    left_out = Counter[str]()
    if recipe.shown:
        scene, left_out = as_shown(scene, recipe.shown)
    rows, rejections = question_rows(
        scene,
        seed,
        per_task=recipe.caps,
        rules=recipe.rules,
        tasks=recipe.tasks,
        grid_size=recipe.grid_size,
    )
    rejections.update({(ANY_TYPE, why): count for why, count in left_out.items()})
    _require_distinct(rows)
    cells = rasterize(scene, recipe.grid_size)
    content = {
        "map": map_to_text(cells),
        "rejections": [[*key, count] for key, count in sorted(rejections.items())],
        "rows": [{k: v for k, v in row.items() if k != "map"} for row in rows],
    }
    write_json(out_dir / _candidate_file(scene.scene_id), content, indent=None)


def _require_distinct(rows: Sequence[Question]) -> None:
    """Refuse two questions about a scene with equal words and equal sets of options."""
    seen = Counter[tuple[str, ...]]()
    for row in rows:
        words, options = row["question"], [o[3:] for o in row["options"] or ()]
        if lists_options(row["question_type"]):
            # The question lists its options, in a random order.
            words = words.replace(", ".join(options), "")
        seen[words, *sorted(options)] += 1
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise SpacerError(
            "the same question twice",
            kind="questions.repeated-question",
            got=f"{len(twice)}, first about {rows[0]['scene_name']}: {twice[0][0]}",
            expected="distinct questions",
            remedy="give each scene once",
        )


# ---------------------------------------------------------------- the choice


class _Entry(NamedTuple):
    """A candidate as far as the choice needs it."""

    scene: str
    number: int  # within the scene's candidates
    answer: str
    options: int  # how many


def _read_index(
    out_dir: Path,
    ids: Iterable[str],
    rejections: Counter[tuple[str, str]],
    maps: dict[str, CognitiveMap],
) -> dict[str, list[_Entry]]:
    """Question type → candidates, by scene; fills ``rejections`` and ``maps`` too."""
    index: dict[str, list[_Entry]] = {}
    for name in sorted(ids):
        content = read_record(
            out_dir / _candidate_file(name), "map", "rejections", "rows"
        )
        maps[name] = json.loads(content["map"])
        for kind, reason, count in content["rejections"]:
            rejections[kind, reason] += count
        for number, row in enumerate(content["rows"]):
            entry = _Entry(name, number, row["ground_truth"], len(row["options"] or ()))
            index.setdefault(row["question_type"], []).append(entry)
    return index


def _choose(
    index: Mapping[str, Sequence[_Entry]],
    recipe: Recipe,
    part: str,
    scene_count: int,
    seed: int,
) -> tuple[dict[tuple[str, int], int | None], dict[str, dict[str, Any]]]:
    """(scene, number) of each chosen candidate → position of its right option.

    Second: question type → wanted, candidates, after_flattening, kept.
    """
    flat = part in TRAINING_PARTS
    supply, pools, wanted = {}, {}, recipe.wanted(scene_count)
    for task, wish in recipe.tasks.items():
        pool, rng = list(index.get(task, ())), _rng(seed, part, task)
        if flat and wish.flatten_bin:
            answers = [entry.answer for entry in pool]
            pool = [pool[i] for i in flat_choice(answers, wish.flatten_bin, rng)]
        pools[task], supply[task] = pool, len(pool)
    quota = _quotas(supply, wanted, recipe.redistribute)
    chosen, table = {}, {}
    for task, wish in recipe.tasks.items():
        pool, rng = pools[task], _rng(seed, part, task, "choice")
        if flat and wish.flatten_bin:
            answers = [entry.answer for entry in pool]
            kept = flat_choice(answers, wish.flatten_bin, rng, quota[task])
        else:
            kept = sorted(rng.permutation(len(pool))[: quota[task]].tolist())
        entries = [pool[i] for i in kept]
        for entry, position in zip(entries, _positions(entries, rng), strict=True):
            chosen[entry.scene, entry.number] = position
        table[task] = {
            "wanted": wanted[task],
            "candidates": len(index.get(task, ())),
            "after_flattening": supply[task],
            "kept": len(entries),
        }
    return chosen, table


def _quotas(
    supply: Mapping[str, int], wanted: Mapping[str, int | None], redistribute: bool
) -> dict[str, int]:
    """Question type → how many to take: all that are wanted, or all there are.

    With ``redistribute``, types with more candidates replace what others lack, evenly.
    """
    goal = {t: supply[t] if w is None else w for t, w in wanted.items()}
    quota = {task: min(supply[task], goal[task]) for task in goal}
    if redistribute:
        spare = {task: supply[task] - quota[task] for task in goal}
        lack = sum(goal.values()) - sum(quota.values())
        for task, extra in water_fill(spare, lack).items():
            quota[task] += extra
    return quota


def _positions(entries: Sequence[_Entry], rng: np.random.Generator) -> list[int | None]:
    """Positions for the right options, each letter equally often; ``None``: no options.

    Letters are balanced among the entries with an equal number of options.
    """
    positions: list[int | None] = [None] * len(entries)
    for size in sorted({entry.options for entry in entries} - {0}):
        mine = [i for i, entry in enumerate(entries) if entry.options == size]
        letters = np.resize(np.arange(size), len(mine))
        for i, letter in zip(mine, rng.permutation(letters).tolist(), strict=True):
            positions[i] = letter
    return positions


def _rng(seed: int, *words: str) -> np.random.Generator:
    key = [seed]
    for word in words:
        key += [0, *word.encode()]
    return np.random.default_rng(key)


# ---------------------------------------------------------------- files


def _write_part(
    path: Path,
    ids: Iterable[str],
    chosen: Mapping[tuple[str, int], int | None],
    by_id: Mapping[str, Scene],
    maps: Mapping[str, CognitiveMap],
    recipe: Recipe,
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Write the chosen rows to both files.

    Returns question type → rows, and question type → right letter → rows.
    """
    counts, letters = Counter[str](), dict[str, Counter[str]]()
    columns = (*SPATIAL_KEYS, "boxes") if recipe.boxes else SPATIAL_KEYS
    with QuestionWriter(path.with_suffix(""), columns) as writer:
        for name in sorted(ids):
            content = read_record(path.parent / _candidate_file(name), "rows")
            rows = [
                _finished(row, chosen[name, number], recipe)
                for number, row in enumerate(content["rows"])
                if (name, number) in chosen
            ]
            for row in rows:
                row["map"], row["video"] = maps[name], by_id[name].video_path
                if recipe.boxes:
                    row["boxes"] = true_boxes(by_id[name])
                kind = row["question_type"]
                counts[kind] += 1
                if row["options"]:
                    letters.setdefault(kind, Counter())[row["ground_truth"]] += 1
            writer.write(*rows)
    ordered = {kind: dict(sorted(found.items())) for kind, found in letters.items()}
    return {task: counts[task] for task in recipe.tasks}, dict(sorted(ordered.items()))


def _finished(row: Mapping[str, Any], position: int | None, recipe: Recipe) -> Question:
    question = cast(Question, row)
    if position is not None and recipe.rules.shuffle_options:
        question = with_answer_at(question, position)
    if recipe.option_free and question["options"]:
        question = without_options(question)
    return question
