"""Scan folders → videos and scenes → question files for training and evaluation.

The two long steps of the data side. ``parse_scans`` resumes where it stopped;
``build_dataset`` is quick and writes everything again.
"""

import dataclasses
import os
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from spacer_lib.artifacts import (
    Manifest,
    provenance,
    read_json,
    write_json,
    write_jsonl,
)
from spacer_lib.errors import SpacerError
from spacer_lib.qa.dataset import (
    flatten_answers,
    question_rows,
    require_no_leak,
    split_spaces,
)
from spacer_lib.qa.generators import Rules
from spacer_lib.scannet.parse import parse_scene
from spacer_lib.scene import PARSER_VERSION, Scene
from spacer_lib.synthetic.light import VIEWS
from spacer_lib.synthetic.rooms import draw_room
from spacer_lib.synthetic.write import write_dataset_files, write_scan
from spacer_lib.video import encode_sens

FRACTIONS = {"train": 0.5, "grpo": 0.25, "test": 0.25}
TRAINING_PARTS = ("train", "grpo")
LABELS = "scannetv2-labels.combined.tsv"


def _progress(items, what):
    # tqdm's notebook bar does not obey its own TQDM_DISABLE.
    return tqdm(items, desc=what, disable=os.environ.get("TQDM_DISABLE") == "1")


def demo_scans(root, count=6, seed=0):
    """Write furnished synthetic rooms in ScanNet's layout; skip those that exist.

    Parameters
    ----------
    root : path
    count : int
        Scans in all. From two on, the last is a rescan ``_01`` of the first space:
        the same room under a second id.
    seed : int
        Room ``k`` is drawn from ``seed * 1000 + k``.

    Returns
    -------
    scan_dirs : list of Path
    label_tsv : Path
    """
    if count < 1 or seed < 0:
        raise SpacerError(
            "demo scans", got=f"count {count}, seed {seed}", expected="count >= 1, "
            "seed >= 0",
        )  # fmt: skip
    root = Path(root)
    first = seed * 1000
    numbers = [(first + k, "00") for k in range(max(1, count - 1))]
    if count > 1:
        numbers.append((first, "01"))
    scan_dirs = []
    for number, visit in _progress(numbers, "synthetic scans"):
        name = f"scene{number:04d}_{visit}"
        folder = root / "scans" / name
        if not folder.is_dir():
            write_scan(draw_room(number, "furnished", name), root, VIEWS["walk"])
        scan_dirs.append(folder)
    write_dataset_files(root, [scan_dirs[-2].name] if count > 2 else [])
    return scan_dirs, root / LABELS


def parse_scans(scan_dirs, label_tsv, out_dir):
    """Every scan folder as a 24 fps video and a scene file.

    Writes ``videos/<id>.mp4``, ``scenes/<id>.json`` (VSI-Bench's ``{scene_id:
    meta}``; its ``video`` names the mp4 relative to ``out_dir``) and a manifest. A
    scan is skipped when the manifest holds it with the same parser version and the
    same sizes and times of its files.

    Returns
    -------
    list of Scene
        In the order of ``scan_dirs``.

    Raises
    ------
    SpacerError
        The parser's own, for the first scan that cannot be read; the scans before it
        stay done.
    """
    out_dir = Path(out_dir)
    manifest, scenes = Manifest(out_dir), []
    for scan_dir in _progress([Path(folder) for folder in scan_dirs], "scans"):
        scan = scan_dir.name
        video, scene_file = f"videos/{scan}.mp4", f"scenes/{scan}.json"
        fingerprint = _fingerprint(scan_dir, label_tsv)
        if manifest.done(scan, fingerprint):
            meta = read_json(out_dir / scene_file)[scan]
            scenes.append(Scene.from_meta(scan, meta))
            continue
        # Parsed first: a scan that cannot be used is found before it is encoded.
        scene = parse_scene(scan_dir, label_tsv, video_path=video)
        encode_sens(scan_dir / f"{scan}.sens", out_dir / video)
        write_json(out_dir / scene_file, {scan: scene.to_meta()})
        manifest.record(scan, fingerprint, [video, scene_file])
        scenes.append(scene)
    return scenes


def _fingerprint(scan_dir, label_tsv):
    """Parser version and (name, bytes, time) of what a parse reads."""
    files = [Path(label_tsv)]
    if scan_dir.is_dir():
        files += sorted(path for path in scan_dir.iterdir() if path.is_file())
    stats = [(path, path.stat()) for path in files if path.is_file()]
    return [PARSER_VERSION, *([p.name, s.st_size, s.st_mtime_ns] for p, s in stats)]


def build_dataset(
    scenes, out_dir, *, seed=0, fractions=None, per_task=3, rules=None, held_out_ids=()
):
    """Question files, one per part, with whole physical spaces in one part each.

    Counting answers of ``train`` are flattened. Parts named ``train`` and ``grpo``
    must not share a physical space with ``held_out_ids`` (benchmark scans).

    Parameters
    ----------
    scenes : list of Scene
    out_dir : path
        Receives ``<part>.jsonl`` and ``report.json``, each whole or not at all. Rows
        name videos as their scenes do: give the folder that ``parse_scans`` wrote.
    seed : int
    fractions : dict, optional
        ``{part: share of spaces}``, ``FRACTIONS`` by default.
    per_task : int or dict
    rules : Rules, optional
    held_out_ids : iterable of str

    Returns
    -------
    dict
        ``counts`` ``{part: {question_type: n}}``, ``scenes`` ``{part: [id]}``,
        ``paths`` ``{part: Path}``, ``rejections`` Counter of (question_type, reason),
        ``flattened`` (rows dropped) and ``provenance``.

    Raises
    ------
    SpacerError
        If scenes repeat, a question repeats within a scene, or training would use a
        held-out space.
    """
    out_dir, rules = Path(out_dir), rules or Rules()
    by_id = {scene.scene_id: scene for scene in scenes}
    if len(by_id) != len(scenes):
        raise SpacerError(
            "scenes", got=f"{len(scenes)} with {len(by_id)} ids", expected="unique ids"
        )
    parts = split_spaces(by_id, fractions or FRACTIONS, seed)
    for part in TRAINING_PARTS:
        require_no_leak(parts.get(part, ()), held_out_ids)
    rejections, counts, paths, flattened, made = Counter(), {}, {}, 0, {}
    for part, ids in parts.items():
        rows = []
        for scene_id in ids:
            mine, why_not = question_rows(
                by_id[scene_id], seed, per_task=per_task, rules=rules
            )
            rows += mine
            rejections += why_not
        _require_distinct(rows)
        if part == "train":
            before = len(rows)
            rng = np.random.default_rng([seed, 13])
            rows = flatten_answers(rows, "object_counting", rng)
            flattened = before - len(rows)
        made[part] = rows
    for part, rows in made.items():
        counts[part] = dict(Counter(row["question_type"] for row in rows))
        paths[part] = out_dir / f"{part}.jsonl"
        write_jsonl(paths[part], rows)
    report = {
        "counts": counts,
        "scenes": parts,
        "flattened": flattened,
        "provenance": provenance(seed=seed, rules=dataclasses.asdict(rules)),
    }
    listed = [
        {"question_type": kind, "reason": reason, "count": count}
        for (kind, reason), count in rejections.most_common()
    ]
    files = {part: path.name for part, path in paths.items()}
    write_json(out_dir / "report.json", report | {"files": files, "rejections": listed})
    return report | {"paths": paths, "rejections": rejections}


def _require_distinct(rows):
    """Refuse the same words, options in any order, twice about one scene."""
    seen = Counter(
        (r["scene_name"], r["question"], *sorted(o[3:] for o in r["options"] or ()))
        for r in rows
    )
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise SpacerError(
            "the same question twice",
            got=f"{len(twice)}, first in {twice[0][0]}: {twice[0][1]}",
            expected="distinct questions",
            remedy="give each scene once",
        )
