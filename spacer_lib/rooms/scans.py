"""Scan folders → videos and scenes: the long step of the data side.

Every scan has outputs of its own, written whole, and a line in the manifest: a run
that was stopped goes on where it was, with any number of workers.
"""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np

from spacer_lib.artifacts import Manifest, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each, progress
from spacer_lib.rooms.scannet.parse import RECORDING, parse_scene
from spacer_lib.rooms.scene import PARSER_VERSION, read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import FPS, VIEWS, to_scene
from spacer_lib.rooms.synthetic.write import write_dataset_files, write_scan
from spacer_lib.rooms.video import FRAMES_SUFFIX, encode_sens

LABELS = "scannetv2-labels.combined.tsv"
# Synthetic rooms are numbered from here on: ScanNet ends at scene0806.
FIRST_ROOM = 10_000


def synthetic_ids(count, seed):
    """``[(room seed, scan id)]``; from two on, the last is a rescan of the first room:
    the same room under a second id."""
    if count < 1 or seed < 0:
        raise SpacerError(
            "synthetic scans",
            got=f"count {count}, seed {seed}",
            expected="count >= 1, seed >= 0",
        )
    first = FIRST_ROOM * (seed + 1)
    pairs = [(first + k, f"scene{first + k}_00") for k in range(max(1, count - 1))]
    return pairs + [(first, f"scene{first}_01")] * (count > 1)


def synthetic_scans(root, count=6, seed=0, *, workers=1, client=None):
    """Write furnished synthetic rooms in ScanNet's layout; skip those that exist.

    Parameters
    ----------
    root : path
    count, seed : int
        See ``synthetic_ids``.
    workers, client
        See ``jobs.each``.

    Returns
    -------
    scan_dirs : list of Path
    label_tsv : Path
    """
    root = Path(root)
    pairs = synthetic_ids(count, seed)
    scan_dirs = [root / "scans" / name for _, name in pairs]
    todo = [pair for pair in pairs if not (root / "scans" / pair[1]).is_dir()]
    write = functools.partial(_write_synthetic, root)
    for _ in each(write, todo, workers=workers, client=client, what="synthetic scans"):
        pass
    write_dataset_files(root, [scan_dirs[-2].name] if count > 2 else [])
    return scan_dirs, root / LABELS


def _write_synthetic(root, pair):
    room_seed, name = pair
    write_scan(draw_room(room_seed, "furnished", name), root, VIEWS["walk"])


def synthetic_meta(path, count, seed=0):
    """Meta-information alone of the same rooms, thousands a minute, no files read.

    Boxes, areas and maps equal the parsed scans'. Videos are only imagined: walks of
    20 to 100 s, first-seen frames by ``light.first_in_view``.
    """
    content = {}
    for room_seed, name in progress(synthetic_ids(count, seed), "rooms"):
        seconds = np.random.default_rng([room_seed, 31]).integers(20, 101)
        view = dataclasses.replace(VIEWS["walk"], frames=int(FPS * seconds))
        room = draw_room(room_seed, "furnished", name)
        content[name] = to_scene(room, view, first_seen=True).to_meta()
    write_json(path, content, indent=None)
    return Path(path)


def parse_scans(scan_dirs, label_tsv, out_dir, *, workers=1, client=None, video=True):
    """Every scan folder as a 24 fps video and a scene file.

    Writes ``videos/<id>.mp4`` with its frame times, ``scenes/<id>.json`` (VSI-Bench's
    ``{scene_id: meta}``; its ``video`` names the mp4 relative to ``out_dir``) and a
    manifest. A scan is skipped when the manifest holds it with the same parser
    version and the same sizes and times of its files. One that has no ``.sens`` gets
    no video.

    Returns
    -------
    list of Scene
        In the order of ``scan_dirs``.

    Raises
    ------
    SpacerError
        After all scans were tried: the first failure, and how many more there were.
        The scans that could be read stay done.
    """
    out_dir, scan_dirs = Path(out_dir), [Path(folder) for folder in scan_dirs]
    failures, prints = [], {d: _fingerprint(d, label_tsv, video) for d in scan_dirs}
    with Manifest(out_dir) as manifest:
        todo = [d for d in scan_dirs if not manifest.done(d.name, prints[d])]
        parse = functools.partial(_parse_scan, Path(label_tsv), out_dir, video)
        for scan_dir, result in each(
            parse, todo, workers=workers, client=client, what="scans"
        ):
            if isinstance(result, SpacerError):
                failures.append((scan_dir.name, result))
            else:
                manifest.record(scan_dir.name, prints[scan_dir], result)
        files = {d: manifest.entries.get(d.name, {}).get("files") for d in scan_dirs}
    if failures:
        (_, first), *others = sorted(failures, key=lambda pair: pair[0])
        if not others:
            raise first
        raise SpacerError(
            f"{len(failures)} of {len(scan_dirs)} scans could not be parsed",
            got=f"first: {first}; also " + ", ".join(name for name, _ in others),
            remedy="mend or leave out these scans and run again; the rest is done",
        )
    return [scene for d in scan_dirs for scene in read_meta_file(out_dir / files[d][0])]


def _parse_scan(label_tsv, out_dir, video, scan_dir):
    """The files written for one scan, or why there are none."""
    recording = scan_dir / f"{scan_dir.name}{RECORDING}"
    filmed = video and recording.exists()
    try:
        # Parsed first: a scan that cannot be used is found before it is encoded.
        scene = parse_scene(scan_dir, label_tsv)
        name, files = scene.scene_id, []
        if filmed:
            scene = dataclasses.replace(scene, video_path=f"videos/{name}.mp4")
            encode_sens(recording, out_dir / scene.video_path)
            files = [scene.video_path, f"videos/{name}{FRAMES_SUFFIX}"]
        write_json(out_dir / f"scenes/{name}.json", {name: scene.to_meta()})
    except SpacerError as error:
        return error
    return [f"scenes/{name}.json", *files]


def _fingerprint(scan_dir, label_tsv, video):
    """Parser version and (name, bytes, time) of what a parse reads."""
    files = [Path(label_tsv)]
    if scan_dir.is_dir():
        files += sorted(path for path in scan_dir.iterdir() if path.is_file())
    stats = [(path, path.stat()) for path in files if path.is_file()]
    rows = [[p.name, s.st_size, s.st_mtime_ns] for p, s in stats]
    return [PARSER_VERSION, bool(video), *rows]


def read_scenes(paths, out_dir=None):
    """Scenes of meta files or of folders of them.

    Parameters
    ----------
    paths : path or list of path
    out_dir : path, optional
        Where rows about the scenes will be written: videos that lie beside the meta
        files, or one folder up, are then named relative to it.

    Raises
    ------
    SpacerError
        Also if a scene is given twice.
    """
    scenes = {}
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        path = Path(path)
        for scene in read_meta_file(path):
            if scene.scene_id in scenes:
                raise SpacerError(
                    f"{path}: scene {scene.scene_id} is given twice",
                    remedy="name each meta file once",
                )
            scenes[scene.scene_id] = _rebased(scene, path, out_dir)
    if not scenes:
        raise SpacerError("meta-information", got="no scene", expected="at least one")
    return [scenes[name] for name in sorted(scenes)]


def _rebased(scene, path, out_dir):
    if out_dir is None or not scene.video_path or "://" in scene.video_path:
        return scene
    for folder in (path, path.parent, path.parent.parent):
        video = folder / scene.video_path
        if video.is_file():
            relative = os.path.relpath(video.resolve(), Path(out_dir).resolve())
            return dataclasses.replace(scene, video_path=Path(relative).as_posix())
    return scene
