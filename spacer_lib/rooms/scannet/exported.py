"""Frames exported from a ``.sens`` recording into folders of files.

ScanNet's own exporter writes ``color/<n>.jpg``, ``depth/<n>.png`` (16 bits, 1000 per
metre), ``pose/<n>.txt`` (4x4, camera to scan), ``intrinsic/intrinsic_depth.txt`` and
``intrinsic_color.txt``. The archive ``scannet_frames_25k`` has every hundredth frame,
numbers with leading zeros, and ``intrinsics_depth.txt`` in the scan's folder. Both are
read.

Source: https://github.com/ScanNet/ScanNet (``SensReader/python``, and the data
organisation of ``scannet_frames_25k``).
"""

import functools
import itertools
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, listing
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import Camera, usable_camera
from spacer_lib.rooms.frames import FPS
from spacer_lib.rooms.recording import (
    FrameFolder,
    StoredFrame,
    is_leftover,
    read_depth_image,
)
from spacer_lib.rooms.scannet.text import read_text

# Where people put the four folders inside a scan's folder.
PLACES = (".", "frames", "exported", "sens")
INTRINSICS = (
    "intrinsic/intrinsic_depth.txt",
    "intrinsics/intrinsic_depth.txt",
    "intrinsic_depth.txt",
    "intrinsics_depth.txt",
)


def find_frames(scan_dir: PathLike) -> Path | None:
    """The folder that holds ``pose/``, and ``color/`` or ``depth/``; else ``None``."""
    for place in PLACES:
        folder = Path(scan_dir) / place
        images = (folder / "color").is_dir() or (folder / "depth").is_dir()
        if images and (folder / "pose").is_dir():
            return folder
    return None


def read_exported(folder: PathLike, warnings: list[str]) -> FrameFolder:
    """The recording in ``folder``; see ``find_frames``.

    A frame's place in the video is its place among the colour images. If only every
    n-th frame was kept, the video has 24 / n frames a second, so that it lasts as long
    as the whole recording. What is missing is added to ``warnings``.

    Raises
    ------
    SpacerError
        If there is no frame, or the intrinsics are no matrix.
    """
    folder = Path(folder)
    color = _numbered(folder / "color", (".jpg", ".jpeg", ".png"))
    depth = _numbered(folder / "depth", (".png",))
    poses = _numbered(folder / "pose", (".txt",))
    numbers = sorted(color or depth)
    if not numbers:
        raise SpacerError(
            f"{folder}: color/ and depth/ hold no frame",
            kind="rooms.no-exported-frames",
            expected="images named by their number, such as color/0.jpg",
            remedy="export the recording again",
        )
    if not color:
        warnings.append("no colour images: no video")
    step = max(1, int(np.median(np.diff(numbers)))) if len(numbers) > 1 else 1
    _warn(numbers, step, poses, warnings)
    intrinsic = _depth_intrinsic(folder)
    if depth and intrinsic is None:
        warnings.append(f"no {INTRINSICS[0]}: the depth images are not used")
        depth = {}
    frames = tuple(
        StoredFrame(
            index=index,
            T_scan_from_camera=_pose(poses[n]) if n in poses else None,
            depth_intrinsic=np.eye(3) if intrinsic is None else intrinsic,
            color=color.get(n),
            depth=functools.partial(read_depth_image, depth[n]) if n in depth else None,
        )
        for index, n in enumerate(numbers)
    )
    camera = _camera(folder, "color", color) or _camera(folder, "depth", depth)
    return FrameFolder(folder, FPS / step, frames, tuple(numbers), camera)


def _warn(
    numbers: list[int], step: int, poses: Iterable[int], warnings: list[str]
) -> None:
    if step > 1:
        warnings.append(f"every {step}th frame was exported: {FPS / step:.3g} a second")
    absent = len(range(numbers[0], numbers[-1] + 1, step)) - len(numbers)
    if absent > 0:
        warnings.append(f"{absent} frames are missing between the exported ones")
    unposed = set(numbers) - set(poses)
    if unposed:
        warnings.append(f"{len(unposed)} of {len(numbers)} frames have no pose file")


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """``{number: file}``: ``7.jpg``, ``000007.jpg`` and ``frame-000007.color.jpg``."""
    if not folder.is_dir():
        return {}
    found = {}
    for path in listing(folder):
        name = path.name.split(".")[0].removeprefix("frame-")
        if (
            name.isdecimal()
            and path.suffix.lower() in suffixes
            and not is_leftover(path.name)
        ):
            found[int(name)] = path
    return found


def _pose(path: Path) -> npt.NDArray[np.float64] | None:
    """(4, 4) T_scan_from_camera; ``None`` if it is lost (-inf), or no matrix."""
    matrix = _matrix(path)
    return None if matrix is None or not np.isfinite(matrix).all() else matrix


def _intrinsics(folder: Path, kind: str) -> Path | None:
    """The file with the intrinsics of ``color`` or ``depth`` images."""
    files = (folder / name.replace("depth", kind) for name in INTRINSICS)
    return next((path for path in files if path.is_file()), None)


def _camera(folder: Path, kind: str, images: dict[int, Path]) -> Camera | None:
    """Of the colour or depth images; none if the file is no matrix or not theirs."""
    path = _intrinsics(folder, kind)
    K = None if path is None else _matrix(path)
    if K is None:
        return None
    for file in itertools.islice(images.values(), 10):  # the first one may be broken
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if image is not None:
            return usable_camera(K, (image.shape[1], image.shape[0]))
    return None


def _depth_intrinsic(folder: Path) -> npt.NDArray[np.float64] | None:
    path = _intrinsics(folder, "depth")
    if path is None:
        return None
    K = _matrix(path)
    if K is None or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
        raise SpacerError(
            f"{path}: intrinsics of the depth images",
            kind="rooms.intrinsics",
            got=read_text(path).strip()[:80] or "nothing",
            expected="a 4x4 or 3x3 matrix with positive focal lengths in pixels",
            remedy="export the recording again",
        )
    return K[:3, :3]


def _matrix(path: Path) -> npt.NDArray[np.float64] | None:
    """The square matrix in a text file, 3x3 or 4x4, or ``None``."""
    try:
        numbers = [float(word) for word in read_text(path).replace(",", " ").split()]
    except (ValueError, OSError):
        return None
    side = {9: 3, 16: 4}.get(len(numbers))
    return np.array(numbers).reshape(side, side) if side else None
