"""Scan folders → videos and scenes.

Each scan has its own outputs, written whole, and a line in the manifest. A run that was
stopped continues where it stopped, with any number of workers.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from spacer_lib.artifacts import Manifest, PathLike, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each, progress
from spacer_lib.rooms.frames import FPS
from spacer_lib.rooms.scannet.parse import RECORDING, parse_scene
from spacer_lib.rooms.scene import PARSER_VERSION, Scene, read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene
from spacer_lib.rooms.video import FRAMES_SUFFIX, encode_sens

LABELS = "scannetv2-labels.combined.tsv"
# Smallest number of a synthetic room: ScanNet ends at scene0806.
FIRST_ROOM = 10_000


def synthetic_ids(count: int, seed: int) -> list[tuple[int, str]]:
    """``[(room seed, scan id)]`` of a synthetic set.

    If there are two or more, the last one is a rescan: the first room under a second
    id.

    Raises
    ------
    SpacerError
        If ``count`` is below 1 or ``seed`` negative.

    Examples
    --------
    >>> synthetic_ids(3, seed=0)
    [(10000, 'scene10000_00'), (10001, 'scene10001_00'), (10000, 'scene10000_01')]
    """
    if count < 1 or seed < 0:
        raise SpacerError(
            "synthetic scans",
            kind="rooms.synthetic-count",
            got=f"count {count}, seed {seed}",
            expected="count >= 1, seed >= 0",
        )
    first = FIRST_ROOM * (seed + 1)
    pairs = [(first + k, f"scene{first + k}_00") for k in range(max(1, count - 1))]
    return pairs + [(first, f"scene{first}_01")] * (count > 1)


def synthetic_scans(
    root: PathLike,
    count: int = 6,
    seed: int = 0,
    *,
    workers: int = 1,
    client: Any = None,
) -> tuple[list[Path], Path]:
    """Write furnished synthetic rooms in ScanNet's layout, except those that exist.

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
    from spacer_lib.rooms.synthetic.write import write_dataset_files

    root = Path(root)
    pairs = synthetic_ids(count, seed)
    scan_dirs = [root / "scans" / name for _, name in pairs]
    todo = [pair for pair in pairs if not (root / "scans" / pair[1]).is_dir()]
    write = functools.partial(_write_synthetic, root)
    for _ in each(write, todo, workers=workers, client=client, what="synthetic scans"):
        pass
    write_dataset_files(root, [scan_dirs[-2].name] if count > 2 else [])
    return scan_dirs, root / LABELS


def _write_synthetic(root: Path, pair: tuple[int, str]) -> None:
    from spacer_lib.rooms.synthetic.write import write_scan

    room_seed, name = pair
    write_scan(draw_room(room_seed, "furnished", name), root, VIEWS["walk"])


def synthetic_meta(path: PathLike, count: int, seed: int = 0) -> Path:
    """Write the meta-information of the rooms of ``synthetic_ids``, without scans.

    Takes about 10 ms a room. Boxes, areas and maps equal those of the parsed scans.
    There are no videos: lengths are drawn from 20 to 100 s, and first-seen frames are
    those of ``views.first_in_view``.
    """
    content = {}
    for room_seed, name in progress(synthetic_ids(count, seed), "rooms"):
        seconds = np.random.default_rng([room_seed, 31]).integers(20, 101)
        view = dataclasses.replace(VIEWS["walk"], frames=int(FPS * seconds))
        room = draw_room(room_seed, "furnished", name)
        content[name] = to_scene(room, view, first_seen=True).to_meta()
    write_json(path, content, indent=None)
    return Path(path)


def parse_scans(
    scan_dirs: Iterable[PathLike],
    label_tsv: PathLike,
    out_dir: PathLike,
    *,
    workers: int = 1,
    client: Any = None,
    video: bool = True,
) -> list[Scene]:
    """Make a 24 fps video and a scene file of each scan folder.

    Writes ``videos/<id>.mp4`` with its frame times, ``scenes/<id>.json`` (VSI-Bench's
    ``{scene_id: meta}``; its ``video`` is the path of the mp4 relative to
    ``out_dir``) and a manifest. A scan is skipped if the manifest has it with the same
    parser version and the same sizes and times of its files. A scan without ``.sens``
    gets no video.

    Parameters
    ----------
    scan_dirs, label_tsv
        See ``parse_scene``.
    out_dir : path
    workers, client
        See ``jobs.each``.
    video : bool
        Whether to write videos.

    Returns
    -------
    list of Scene
        In the order of ``scan_dirs``.

    Raises
    ------
    SpacerError
        After all scans were tried: the first failure, and how many there were. The
        scans that could be read are kept.

    Source: SpaceR §3 "Data Collection".
    """
    out_dir, folders = Path(out_dir), [Path(folder) for folder in scan_dirs]
    failures: list[tuple[str, SpacerError]] = []
    prints = {d: _fingerprint(d, label_tsv, video) for d in folders}
    with Manifest(out_dir) as manifest:
        todo = [d for d in folders if not manifest.done(d.name, prints[d])]
        parse = functools.partial(_parse_scan, Path(label_tsv), out_dir, video)
        for scan_dir, result in each(
            parse, todo, workers=workers, client=client, what="scans"
        ):
            if isinstance(result, SpacerError):
                failures.append((scan_dir.name, result))
            else:
                manifest.record(scan_dir.name, prints[scan_dir], result)
        files = {d: manifest.entries.get(d.name, {}).get("files") for d in folders}
    if failures:
        (_, first), *others = sorted(failures, key=lambda pair: pair[0])
        if not others:
            raise first
        raise SpacerError(
            f"{len(failures)} of {len(folders)} scans could not be parsed",
            kind="rooms.scans-failed",
            got=f"first: {first}; also " + ", ".join(name for name, _ in others),
            remedy="repair or leave out these scans and run again; the others are done",
        )
    return [scene for d in folders for scene in read_meta_file(out_dir / files[d][0])]


def _parse_scan(
    label_tsv: Path, out_dir: Path, video: bool, scan_dir: Path
) -> list[str] | SpacerError:
    """The files written for one scan, or the error that prevented it."""
    recording = scan_dir / f"{scan_dir.name}{RECORDING}"
    filmed = video and recording.exists()
    try:
        # Parsing first finds a scan that cannot be used before it is encoded.
        scene = parse_scene(scan_dir, label_tsv)
        name, files = scene.scene_id, []
        if filmed:
            mp4 = f"videos/{name}.mp4"
            scene = dataclasses.replace(scene, video_path=mp4)
            encode_sens(recording, out_dir / mp4)
            files = [mp4, f"videos/{name}{FRAMES_SUFFIX}"]
        write_json(out_dir / f"scenes/{name}.json", {name: scene.to_meta()})
    except SpacerError as error:
        return error
    return [f"scenes/{name}.json", *files]


def _fingerprint(scan_dir: Path, label_tsv: PathLike, video: bool) -> list[Any]:
    """Parser version, and name, bytes and time of change of each file it reads."""
    files = [Path(label_tsv)]
    if scan_dir.is_dir():
        files += sorted(path for path in scan_dir.iterdir() if path.is_file())
    stats = [(path, path.stat()) for path in files if path.is_file()]
    rows = [[p.name, s.st_size, s.st_mtime_ns] for p, s in stats]
    return [PARSER_VERSION, bool(video), *rows]


def read_scenes(
    paths: PathLike | Iterable[PathLike], out_dir: PathLike | None = None
) -> list[Scene]:
    """Scenes of meta files or of folders of meta files, sorted by id.

    Parameters
    ----------
    paths : path or list of path
    out_dir : path, optional
        Folder of the question files to come. The path of a video in the folder of the
        meta files, or in the one above, is made relative to it.

    Raises
    ------
    SpacerError
        As ``read_meta_file``, or if there is no scene or one is given twice.
    """
    scenes: dict[str, Scene] = {}
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        for scene in read_meta_file(path):
            if scene.scene_id in scenes:
                raise SpacerError(
                    f"{path}: scene {scene.scene_id} is given twice",
                    kind="rooms.scene-twice",
                    got=f"{path} after another file",
                    expected="each scene once",
                    remedy="name each meta file once",
                )
            scenes[scene.scene_id] = _rebased(scene, path, out_dir)
    if not scenes:
        raise SpacerError(
            "meta-information",
            kind="rooms.no-scene",
            got="no scene",
            expected="at least one",
            remedy="fix the path, or parse a scan",
        )
    return [scenes[name] for name in sorted(scenes)]


def _rebased(scene: Scene, path: Path, out_dir: PathLike | None) -> Scene:
    if out_dir is None or not scene.video_path or "://" in scene.video_path:
        return scene
    for folder in (path, path.parent, path.parent.parent):
        video = folder / scene.video_path
        if video.is_file():
            relative = os.path.relpath(video.resolve(), Path(out_dir).resolve())
            return dataclasses.replace(scene, video_path=Path(relative).as_posix())
    return scene
