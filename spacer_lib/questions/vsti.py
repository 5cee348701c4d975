"""Audit camera displacements of VSTI-Bench's form (VLM-3R) against camera poses.

A row has ``question_type``, ``question``, ``ground_truth`` (metres to 0.1), and names
its scan by ``scene_name`` or by the file of ``video_path``. Its two frames are
``frame_indices``, or places among the scan's frames with a pose, counted from 1, in the
question: "between frame 3 and frame 20 of 32".

Two lengths are compared with the answer. A pose x = R c + t moves points from the
camera's frame to the room's, so that the camera is at t. VLM-3R's first labels used
-Rᵀt of the same pose, the room's origin in the camera's frame; its repository has a
script that replaces them (``fix_vstibench_gt_labels.py``).

Source: https://github.com/VITA-Group/VLM-3R, ``vlm_3r_data_process``.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.questions.audit import of_types
from spacer_lib.questions.oracle import Row, Undetermined, rounded
from spacer_lib.rooms.footage import ORTHONORMAL
from spacer_lib.rooms.scans import require_no_failures
from spacer_lib.rooms.scene import Scene, try_meta_files

KIND = "camera_displacement"
CENTER, ORIGIN = "t", "-Rᵀt"  # names of the two lengths
_PLACES = re.compile(r"between frame (\d+) and frame (\d+)")
# Poses of footage are rounded to 0.1 mm, those of frame metadata are not.
_SLACK_M = {False: 3e-4, True: 1e-6}


class Poses(NamedTuple):
    """Frames of a scan that have a pose, ascending, and the (n, 4, 4) poses.

    ``every``: these are all frames with a pose, so that places count among them.
    """

    frames: list[int]
    matrices: npt.NDArray[np.float64]
    every: bool


def read_poses(path: PathLike) -> tuple[dict[str, Poses], dict[str, str]]:
    """Poses of VLM-3R's frame metadata, or of our meta file whose scenes have footage.

    Returns
    -------
    poses : dict
        ``{scan: Poses}``
    unreadable : dict
        ``{scan: what is wrong}``

    Raises
    ------
    SpacerError
        If the file cannot be read, or no scan of it.
    """
    content = read_json(path)
    if isinstance(content, dict) and any(
        isinstance(scan, dict) and "frames" in scan for scan in content.values()
    ):
        found: dict[str, Poses] = {}
        wrong: dict[str, str] = {}
        for name, scan in content.items():
            try:
                found[name] = _frame_poses(name, scan)
            except SpacerError as error:
                wrong[name] = str(error)
        if not found:
            raise SpacerError(
                path, kind="questions.no-pose", got=next(iter(wrong.values()))
            )
        return found, wrong
    scenes, failures = try_meta_files(path)
    if not scenes:
        require_no_failures(failures, len(failures), "rooms")
    wrong = {where.rpartition(": ")[2]: str(e) for where, e in failures.items()}
    return {scene.scene_id: _shown(scene) for _, scene in scenes}, wrong


def _shown(scene: Scene) -> Poses:
    if scene.footage is None:
        return Poses([], np.zeros((0, 4, 4)), False)
    return Poses(list(scene.footage.frames), scene.footage.poses, False)


def _frame_poses(name: str, scan: Any) -> Poses:
    frames = scan.get("frames") if isinstance(scan, dict) else None
    kept: dict[int, npt.NDArray[np.float64]] = {}
    for frame in frames if isinstance(frames, list) else [None]:
        frame = frame if isinstance(frame, dict) else {}
        number, pose = frame.get("frame_id"), frame.get("camera_pose_camera_to_world")
        if type(number) is not int or number in kept:
            raise SpacerError(
                f"{name}: frame_id",
                kind="questions.frame-metadata",
                got=repr(number)[:40],
                expected="frames with a number of their own each",
            )
        if pose:
            kept[number] = _rigid(f"{name}: frame {number}", pose)
    ordered = sorted(kept)
    return Poses(ordered, np.array([kept[n] for n in ordered]).reshape(-1, 4, 4), True)


def _rigid(where: str, pose: Any) -> npt.NDArray[np.float64]:
    try:
        T = np.array(pose, dtype=np.float64)
    except (TypeError, ValueError):
        T = np.zeros(0)
    right = T.shape == (4, 4) and np.isfinite(T).all()
    if not right or abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max() > ORTHONORMAL:
        raise SpacerError(
            f"{where}: pose",
            kind="questions.frame-metadata",
            got=repr(pose)[:60],
            expected="a rotation and a place, 4 by 4",
        )
    return T


def displacements_m(row: Row, poses: Mapping[str, Poses]) -> dict[str, float]:
    """The two lengths that a row may mean, metres.

    Parameters
    ----------
    row : mapping
    poses : dict
        ``{scan: Poses}``

    Raises
    ------
    Undetermined
        If the scan, a frame, or a frame's pose is absent.
    """
    scan = poses.get(_scan(row))
    if scan is None:
        raise Undetermined("the scan's poses are absent")
    first, second = (scan.matrices[n] for n in _two_frames(row, scan))
    centers = first[:3, 3], second[:3, 3]
    origins = [-T[:3, :3].T @ T[:3, 3] for T in (first, second)]
    return {
        name: float(np.linalg.norm(b - a))
        for name, (a, b) in ((CENTER, centers), (ORIGIN, origins))
    }


def _scan(row: Row) -> str:
    path = PurePosixPath(str(row.get("video_path") or row.get("video") or ""))
    return str(row.get("scene_name") or path.stem)


def _two_frames(row: Row, scan: Poses) -> list[int]:
    """Positions of a row's two frames among those with a pose."""
    numbers = row.get("frame_indices")
    if isinstance(numbers, list) and len(numbers) == 2:
        if not set(map(str, numbers)) <= set(map(str, scan.frames)):
            raise Undetermined("no pose of a frame")
        return [list(map(str, scan.frames)).index(str(n)) for n in numbers]
    named = _PLACES.search(str(row.get("question")))
    if named is None:
        raise Undetermined("two frames are not named")
    if not scan.every:
        raise Undetermined("places of frames need the frame metadata")
    places = [int(text) - 1 for text in named.groups()]
    if not all(0 <= place < len(scan.frames) for place in places):
        raise Undetermined("no pose of a frame")
    return places


def audit_displacements(
    questions: PathLike, meta: PathLike, types: Collection[str] = ()
) -> dict[str, Any]:
    """Compare the camera displacements of a file with both lengths.

    Parameters
    ----------
    questions : path
        A JSON array of rows. Rows of other types are counted.
    meta : path
        As of ``read_poses``.
    types : collection of str
        As of ``audit.of_types``.

    Returns
    -------
    dict
        As ``audit.audit_files``; and ``equal`` ``{name of the length: rows}``. ``ours``
        is the distance of the two positions. ``note`` is set where the answer is the
        other length.

    Raises
    ------
    SpacerError
        If a file cannot be read or has another form.
    """
    rows = read_json(questions)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SpacerError(
            questions,
            kind="questions.no-vsti-rows",
            got=type(rows).__name__,
            expected="a JSON array of rows",
        )
    rows = of_types(rows, types)
    poses, unreadable = read_poses(meta)
    skipped, equal = Counter[str](), Counter[str]({CENTER: 0, ORIGIN: 0})
    wrong, count = [], 0
    for number, row in enumerate(rows, start=1):
        if row.get("question_type") != KIND:
            skipped[f"{row.get('question_type')}: not a camera displacement"] += 1
            continue
        truth = _metres(number, row)
        try:
            lengths = displacements_m(row, poses)
        except Undetermined as why:
            skipped[f"{KIND}: {why}"] += 1
            continue
        slack = _SLACK_M[poses[_scan(row)].every]
        fits = {
            name: truth in map(float, rounded(metres, 1, slack))
            for name, metres in lengths.items()
        }
        equal.update(name for name, fit in fits.items() if fit)
        count += 1
        if not fits[CENTER]:
            wrong.append(
                {
                    "id": row.get("id", number),
                    "scene_name": _scan(row),
                    "question_type": KIND,
                    "question": row.get("question"),
                    "official": row["ground_truth"],
                    "ours": rounded(lengths[CENTER], 1)[0],
                    "note": f"equal to that of {ORIGIN}" if fits[ORIGIN] else None,
                }
            )
    tasks = {KIND: {"rows": count, "exact": equal[CENTER]}} if count else {}
    return {
        "tasks": tasks,
        "skipped": dict(sorted(skipped.items())),
        "disagreements": wrong,
        "unreadable": unreadable,
        "equal": dict(equal),
    }


def _metres(number: int, row: Row) -> float:
    try:
        metres = float(row["ground_truth"])
    except (KeyError, TypeError, ValueError):
        metres = np.nan
    if not np.isfinite(metres):
        raise SpacerError(
            f"row {number}: ground_truth",
            kind="questions.no-vsti-rows",
            got=repr(row.get("ground_truth"))[:40],
            expected="metres",
        )
    return metres
