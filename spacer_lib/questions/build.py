"""Scenes → a question set: candidates per scene, then one choice over all of them.

Candidates are the long part. They are written scene by scene into ``candidates/``
and resumed; random choices are keyed by seed, scene and task, so one worker or many,
whole runs or interrupted ones, write the same bytes. The choice (targets, flat
answers, balanced letters) is quick and is made again on every run.
"""

import contextlib
import dataclasses
import functools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spacer_lib.artifacts import (
    Manifest,
    atomic_path,
    config_hash,
    make_folder,
    provenance,
    read_json,
    write_json,
    write_text,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.card import card_text
from spacer_lib.questions.dataset import (
    flat_choice,
    question_rows,
    space_of,
    split_spaces,
    water_fill,
    with_answer_at,
    without_options,
)
from spacer_lib.questions.generators import GENERATOR_VERSION
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rooms.identity import benchmark_room, require_no_benchmark_rooms

TRAINING_PARTS = ("train", "grpo")
TEXTS = pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("scene_name", pa.string()),
        ("question_type", pa.string()),
        ("problem_type", pa.string()),
        ("question", pa.string()),
        ("options", TEXTS),
        ("ground_truth", pa.string()),
        ("categories", TEXTS),
        ("map", pa.string()),
        ("video", pa.string()),
    ]
)
ROWS_PER_GROUP = 5000


def build_dataset(
    scenes,
    out_dir,
    recipe="demo",
    *,
    seed=0,
    workers=1,
    client=None,
    held_out_ids=(),
    drop_held_out=False,
    allow_datasets=(),
):
    """Question files of a recipe, whole physical spaces in one part each.

    Writes, each whole or not at all: ``<part>.jsonl`` and ``<part>.parquet`` (rows
    with the map as JSON text; ``read_rows`` reads either with the map as a
    dictionary), ``maps.json``, ``report.json`` and a dataset card ``README.md``.

    Parameters
    ----------
    scenes : list of Scene
    out_dir : path
    recipe : Recipe, name or YAML file
    seed : int
    workers, client
        See ``jobs.each``.
    held_out_ids : iterable of str
        Scans whose spaces must not be trained on, beside VSI-Bench's.
    drop_held_out : bool
        Leave held-out scans out of the training parts, counted, instead of refusing.
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
        If scenes repeat, a question repeats within a scene, training would use a
        held-out space, or no question is left.
    """
    out_dir, recipe = Path(out_dir), load_recipe(recipe)
    by_id = {scene.scene_id: scene for scene in scenes}
    if len(by_id) != len(scenes) or not scenes:
        raise SpacerError(
            "scenes", got=f"{len(scenes)} with {len(by_id)} ids", expected="unique ids"
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
    _make_candidates(by_id, out_dir, recipe, seed, workers, client)
    report = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "scenes": parts,
        "dropped": dropped,
        "tasks": {},
        "counts": {},
        "letters": {},
        "files": {part: f"{part}.jsonl" for part in parts},
    }
    rejections, paths, maps = Counter(), {}, {}
    for part, ids in parts.items():
        index = _read_index(out_dir, ids, rejections, maps)
        chosen, report["tasks"][part] = _choose(index, recipe, part, len(ids), seed)
        paths[part] = out_dir / f"{part}.jsonl"
        written, letters = _write_part(out_dir, part, ids, chosen, by_id, recipe)
        report["counts"][part], report["letters"][part] = written, letters
    if not any(sum(counts.values()) for counts in report["counts"].values()):
        raise SpacerError(
            f"recipe {recipe.name}: no question is left",
            got=f"{len(by_id)} scenes, {sum(rejections.values())} rejections",
            remedy="look at the rejections, or give more scenes",
        )
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


def _listed(scenes, held_out_ids):
    """Ids of the scenes in whose physical space one of the given scans was made."""
    spaces = {space_of(name) for name in held_out_ids}
    return [scene.scene_id for scene in scenes if scene.space_id in spaces]


def _benchmark_scans(scenes, allow_datasets):
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


def _candidate_file(name):
    return f"candidates/{name}.json"


def _make_candidates(by_id, out_dir, recipe, seed, workers, client):
    key = [GENERATOR_VERSION, seed, recipe.caps, recipe.rules, recipe.grid_size]
    prints = {n: config_hash([key, s.to_meta()]) for n, s in by_id.items()}
    with Manifest(make_folder(out_dir)) as manifest:
        todo = [by_id[n] for n in sorted(by_id) if not manifest.done(n, prints[n])]
        make = functools.partial(_scene_candidates, out_dir, recipe, seed)
        for scene, _ in each(
            make, todo, workers=workers, client=client, what="questions"
        ):
            name = scene.scene_id
            manifest.record(name, prints[name], [_candidate_file(name)])


def _scene_candidates(out_dir, recipe, seed, scene):
    rows, rejections = question_rows(
        scene,
        seed,
        per_task=recipe.caps,
        rules=recipe.rules,
        tasks=recipe.tasks,
        grid_size=recipe.grid_size,
    )
    _require_distinct(rows)
    cells = rasterize(scene, recipe.grid_size)
    content = {
        "map": map_to_text(cells),
        "rejections": [[*key, count] for key, count in sorted(rejections.items())],
        "rows": [{k: v for k, v in row.items() if k != "map"} for row in rows],
    }
    write_json(out_dir / _candidate_file(scene.scene_id), content, indent=None)


def _require_distinct(rows):
    """Refuse the same words, options in any order, twice about one scene."""
    seen = Counter()
    for row in rows:
        words, options = row["question"], [o[3:] for o in row["options"] or ()]
        if row["question_type"] == "object_rel_distance":
            # It lists its options, in an order of chance.
            words = words.replace(", ".join(options), "")
        seen[words, *sorted(options)] += 1
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise SpacerError(
            "the same question twice",
            got=f"{len(twice)}, first about {rows[0]['scene_name']}: {twice[0][0]}",
            expected="distinct questions",
            remedy="give each scene once",
        )


# ---------------------------------------------------------------- the choice


def _read_index(out_dir, ids, rejections, maps):
    """``{task: [(scene, row number, answer, options)]}`` in the order of scenes.

    Adds what else the candidates hold to ``rejections`` and ``maps``.
    """
    index = {}
    for name in sorted(ids):
        content = read_json(out_dir / _candidate_file(name))
        maps[name] = json.loads(content["map"])
        for kind, reason, count in content["rejections"]:
            rejections[kind, reason] += count
        for number, row in enumerate(content["rows"]):
            entry = (name, number, row["ground_truth"], len(row["options"] or ()))
            index.setdefault(row["question_type"], []).append(entry)
    return index


def _choose(index, recipe, part, scene_count, seed):
    """``{(scene, row number): letter position or None}`` and the tasks' table."""
    flat = part in TRAINING_PARTS
    supply, wanted, pools = {}, {}, {}
    scale = min(1.0, scene_count / recipe.scenes)
    for task, wish in recipe.tasks.items():
        pool, rng = index.get(task, []), _rng(seed, part, task)
        if flat and wish.flatten_bin:
            answers = [entry[2] for entry in pool]
            pool = [pool[i] for i in flat_choice(answers, wish.flatten_bin, rng)]
        pools[task], supply[task] = pool, len(pool)
        wanted[task] = None if wish.target is None else round(wish.target * scale)
    quota = _quotas(supply, wanted, recipe.redistribute)
    chosen, table = {}, {}
    for task, wish in recipe.tasks.items():
        pool, rng = pools[task], _rng(seed, part, task, "choice")
        if flat and wish.flatten_bin:
            answers = [entry[2] for entry in pool]
            kept = flat_choice(answers, wish.flatten_bin, rng, quota[task])
        else:
            kept = sorted(rng.permutation(len(pool))[: quota[task]].tolist())
        entries = [pool[i] for i in kept]
        for entry, position in zip(entries, _positions(entries, rng), strict=True):
            chosen[entry[:2]] = position
        table[task] = {
            "wanted": wanted[task],
            "candidates": len(index.get(task, [])),
            "after_flattening": supply[task],
            "kept": len(entries),
        }
    return chosen, table


def _quotas(supply, wanted, redistribute):
    """How many of each task: what is wanted, as far as there are any.

    With ``redistribute``, the lack of one task is made up evenly by those with more.
    """
    goal = {t: supply[t] if w is None else w for t, w in wanted.items()}
    quota = {task: min(supply[task], goal[task]) for task in goal}
    if redistribute:
        spare = {task: supply[task] - quota[task] for task in goal}
        lack = sum(goal.values()) - sum(quota.values())
        for task, extra in water_fill(spare, lack).items():
            quota[task] += extra
    return quota


def _positions(entries, rng):
    """Letter positions, as many of each as of any other, by number of options."""
    positions = [None] * len(entries)
    for size in sorted({entry[3] for entry in entries} - {0}):
        mine = [i for i, entry in enumerate(entries) if entry[3] == size]
        letters = np.resize(np.arange(size), len(mine))
        for i, letter in zip(mine, rng.permutation(letters).tolist(), strict=True):
            positions[i] = letter
    return positions


def _rng(seed, *words):
    key = [seed]
    for word in words:
        key += [0, *word.encode()]
    return np.random.default_rng(key)


# ---------------------------------------------------------------- files


def _write_part(out_dir, part, ids, chosen, by_id, recipe):
    """Stream the chosen rows into both files; returns counts and letters."""
    counts, letters = Counter(), {}
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(atomic_path(out_dir / f"{part}.jsonl"))
        table = stack.enter_context(atomic_path(out_dir / f"{part}.parquet"))
        sink = stack.enter_context(open(lines, "w", encoding="utf-8"))
        writer = stack.enter_context(pq.ParquetWriter(table, SCHEMA))
        waiting = []
        for name in sorted(ids):
            content = read_json(out_dir / _candidate_file(name))
            for number, row in enumerate(content["rows"]):
                if (name, number) not in chosen:
                    continue
                row = _finished(row, chosen[name, number], recipe)
                row["map"], row["video"] = content["map"], by_id[name].video_path
                kind = row["question_type"]
                counts[kind] += 1
                if row["options"]:
                    letters.setdefault(kind, Counter())[row["ground_truth"]] += 1
                sink.write(json.dumps(row, separators=(",", ":")) + "\n")
                waiting.append(row)
            if len(waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(waiting, SCHEMA))
                waiting = []
        writer.write_table(pa.Table.from_pylist(waiting, SCHEMA))
    ordered = {kind: dict(sorted(found.items())) for kind, found in letters.items()}
    return {task: counts[task] for task in recipe.tasks}, dict(sorted(ordered.items()))


def _finished(row, position, recipe):
    if position is not None and recipe.rules.shuffle_options:
        row = with_answer_at(row, position)
    if recipe.option_free and row["options"]:
        row = without_options(row)
    return {name: row.get(name) for name in SCHEMA.names}
