"""Scan folders → videos and scenes.

Each scan has its own outputs, written whole, and a line in the manifest. A run that was
stopped continues where it stopped, with any number of workers.
"""

import dataclasses
import functools
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spacer_lib.artifacts import Manifest, PathLike, sole_writer, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import each, progress
from spacer_lib.rooms.frames import FPS
from spacer_lib.rooms.layouts import input_files, open_recording, own_video, parse_scene
from spacer_lib.rooms.scene import PARSER_VERSION, Scene, read_meta_file, try_meta_files
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, first_in_view, to_scene
from spacer_lib.rooms.video import FRAMES_SUFFIX, encode_recording, probe, take_video

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

    A room that an older version of this package wrote is written again.

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
    from spacer_lib.rooms.synthetic.write import is_current, write_dataset_files

    root, what = Path(root), "synthetic scans"
    pairs = synthetic_ids(count, seed)
    scan_dirs = [root / "scans" / name for _, name in pairs]
    write = functools.partial(_write_synthetic, root)
    with sole_writer(root):
        todo = [pair for pair in pairs if not is_current(root / "scans" / pair[1])]
        for _ in each(write, todo, workers=workers, client=client, what=what):
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
        content[name] = to_scene(
            room, view, first_seen=first_in_view(room, view)
        ).to_meta()
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
    parser version and the same sizes and times of its files. A scan without a recording
    gets no video; one with a video of its own (ScanNet++) gets that video.

    Parameters
    ----------
    scan_dirs, label_tsv
        See ``layouts.parse_scene``.
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
        After all scans were tried: each failure with the name of its scan. The scans
        that could be read are kept.

    Source: SpaceR §3 "Data Collection".
    """
    scenes, failures = try_scans(
        scan_dirs, label_tsv, out_dir, workers=workers, client=client, video=video
    )
    require_no_failures(failures, len(scenes) + len(failures))
    return scenes


def try_scans(
    scan_dirs: Iterable[PathLike],
    label_tsv: PathLike,
    out_dir: PathLike,
    *,
    workers: int = 1,
    client: Any = None,
    video: bool = True,
) -> tuple[list[Scene], dict[str, SpacerError]]:
    """Parse as ``parse_scans``; return the failures instead of raising them.

    Returns
    -------
    scenes : list of Scene
        Of the scans that could be read, in the order of ``scan_dirs``.
    failures : dict
        ``{folder name: error}`` of the others. Folders that are two spellings of one
        scan fail, because each would overwrite the files of the other.
    """
    out_dir = Path(out_dir)
    folders = list(dict.fromkeys(Path(os.path.abspath(path)) for path in scan_dirs))
    with sole_writer(out_dir), Manifest(out_dir) as manifest:
        failures = _same_scan_twice(folders, manifest.entries)
        prints = {d: scan_fingerprint(d, label_tsv, video) for d in folders}
        todo = [
            d
            for d in folders
            if d.name not in failures and not manifest.done(d.name, prints[d])
        ]
        parse = functools.partial(_parse_scan, Path(label_tsv), out_dir, video)
        for scan_dir, result in each(
            parse, todo, workers=workers, client=client, what="scans"
        ):
            if isinstance(result, SpacerError):
                failures[scan_dir.name] = result
            else:
                manifest.record(scan_dir.name, prints[scan_dir], result)
        files = {d: manifest.entries.get(d.name, {}).get("files") for d in folders}
    kept = [d for d in folders if d.name not in failures]
    scenes = [s for d in kept for s in read_meta_file(out_dir / next(iter(files[d])))]
    return scenes, dict(sorted(failures.items()))


def require_no_failures(
    failures: Mapping[str, SpacerError], total: int, what: str = "scans"
) -> None:
    """Raise one error that lists the failures of ``try_scans``, if there are any.

    A single failure is raised as it is. Scans that failed for one reason share a line.
    ``what`` else may have failed: "rooms" of ``try_scenes``.
    """
    if not failures:
        return
    if len(failures) == 1:
        raise next(iter(failures.values()))
    reasons: dict[str, list[str]] = {}
    for name, error in failures.items():
        reasons.setdefault(str(error), []).append(name)
    lines = [
        f"\n  {text}" if names[0] in text else f"\n  {', '.join(names)}: {text}"
        for text, names in reasons.items()
    ]
    raise SpacerError(
        f"{len(failures)} of {total} {what} could not be read",
        kind="rooms.scans-failed",
        got="".join(lines),
        remedy=f"repair or leave out these {what} and run again; the others are done",
    )


def _same_scan_twice(
    folders: Iterable[Path], recorded: Iterable[str]
) -> dict[str, SpacerError]:
    """Failures of the folders whose scan another folder holds too.

    ``recorded`` are the names of folders whose scenes are in the output already.
    """
    given = [(folder.name, str(folder)) for folder in folders]
    names: dict[object, set[str]] = {}
    for name, where in [*given, *((name, "") for name in recorded)]:
        # A recorded name stands for the folder of that name, wherever it was.
        known = {other.split(os.sep)[-1] for other in names.get(_scan_key(name), ())}
        if where or name not in known:
            names.setdefault(_scan_key(name), set()).add(where or name)
    return {
        name: SpacerError(
            "folders with one scan",
            kind="rooms.same-scan-twice",
            got=" and ".join(sorted(names[_scan_key(name)])),
            expected="one folder per scan: their scenes have the same file name",
            remedy="keep the complete folder, or parse them into different outputs",
        )
        for name, _ in given
        if len(names[_scan_key(name)]) > 1
    }


def _scan_key(name: str) -> object:
    """Equal for all spellings of a scan's name, such as 0011_00 and Scene0011_00."""
    name = name.casefold().removeprefix("scannet.")
    scan = re.fullmatch(r"(?:scene)?0*(\d{1,12})_0*(\d{1,12})", name)
    return scan.groups() if scan else name


def _parse_scan(
    label_tsv: Path, out_dir: Path, video: bool, scan_dir: Path
) -> list[str] | SpacerError:
    """The files written for one scan, or the error that prevented it.

    This is the boundary of one scan: whatever is wrong with its files, and whichever
    library finds it, the other scans are parsed.
    """
    try:
        return _write_scene(label_tsv, out_dir, video, scan_dir)
    except SpacerError as error:
        return error
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        return SpacerError(
            f"{scan_dir.name} cannot be parsed",
            kind="rooms.scan-failed",
            got=f"{type(error).__name__}: {lines[0][:200]}",
            remedy=f"download the files of {scan_dir.name} again",
        )


def _write_scene(
    label_tsv: Path, out_dir: Path, video: bool, scan_dir: Path
) -> list[str]:
    # Parsing first finds a scan that cannot be used before it is encoded.
    scene = parse_scene(scan_dir, label_tsv)
    files: list[str] = []
    if video:
        scene, files = _with_video(scan_dir, scene, out_dir)
    name = scene.scene_id
    content = {name: scene.to_meta()}
    write_json(out_dir / f"scenes/{name}.json", content, indent=None)
    return [f"scenes/{name}.json", *files]


def _with_video(scan_dir: Path, scene: Scene, out_dir: Path) -> tuple[Scene, list[str]]:
    """The scene with its video, and the files written; unchanged if it has none."""
    recording, own = open_recording(scan_dir), own_video(scan_dir)
    if recording is None or not (own or recording.has_color):
        return scene, []
    stem, suffix = f"videos/{scene.scene_id}", own.suffix if own else ".mp4"
    path = out_dir / f"{stem}{suffix}"
    if own:
        note, fps = take_video(recording, own, path), probe(own).fps
    else:
        try:
            with recording as reader:
                note, fps = encode_recording(reader, path).note, reader.fps
        except SpacerError as error:
            if error.kind != "rooms.color-compression":
                raise
            notes = (*scene.warnings, f"no video: {error}")
            return dataclasses.replace(scene, warnings=notes), []
    scene = dataclasses.replace(
        scene,
        video_path=f"{stem}{suffix}",
        fps=fps,
        warnings=(*scene.warnings, *([note] if note else [])),
    )
    return scene, [f"{stem}{suffix}", f"{stem}{FRAMES_SUFFIX}"]


def scan_fingerprint(
    scan_dir: Path, label_tsv: PathLike, video: bool = True
) -> list[Any]:
    """What a scan's outputs depend on.

    Parameters
    ----------
    scan_dir, label_tsv
        See ``layouts.parse_scene``.
    video : bool
        Whether a video is written.

    Returns
    -------
    list
        Parser version, ``video``, and name, bytes and time of change of each file that
        is read.
    """
    rows: list[Any] = []
    try:
        if Path(label_tsv).is_file():
            stat = Path(label_tsv).stat()
            rows.append([Path(label_tsv).name, stat.st_size, stat.st_mtime_ns])
        rows += [list(row) for row in input_files(scan_dir)]
    except OSError as error:
        rows.append([type(error).__name__, 0, time.time_ns()])  # parsing says why
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
    scenes, failures = try_scenes(paths, out_dir)
    if failures:
        raise next(iter(failures.values()))
    return scenes


def try_scenes(
    paths: PathLike | Iterable[PathLike], out_dir: PathLike | None = None
) -> tuple[list[Scene], dict[str, SpacerError]]:
    """Read as ``read_scenes``; return the failures instead of raising them.

    Returns
    -------
    scenes : list of Scene
        Sorted by id. Empty only if there are failures.
    failures : dict
        See ``scene.try_meta_files``.
    """
    found, failures = try_meta_files(paths)
    scenes = {s.scene_id: _rebased(s, file, out_dir) for file, s in found}
    if not scenes and not failures:
        raise SpacerError(
            "meta-information",
            kind="rooms.no-scene",
            got="no scene",
            expected="at least one",
            remedy="fix the path, or parse a scan",
        )
    return [scenes[name] for name in sorted(scenes)], failures


def _rebased(scene: Scene, file: Path, out_dir: PathLike | None) -> Scene:
    if out_dir is None or not scene.video_path or "://" in scene.video_path:
        return scene
    for folder in (file.parent, file.parent.parent):
        video = folder / scene.video_path
        if video.is_file():
            relative = os.path.relpath(video.resolve(), Path(out_dir).resolve())
            return dataclasses.replace(scene, video_path=Path(relative).as_posix())
    return scene
