"""Which data set a folder is from, and how it is read: decided here only.

Three layouts become scenes: ScanNet's (its recording as ``.sens`` or as exported
frames), ScanNet++'s and ARKitScenes'. Folders of other data sets are refused by name.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from spacer_lib.artifacts import PathLike, listing
from spacer_lib.errors import SpacerError
from spacer_lib.rooms import arkitscenes, scannetpp
from spacer_lib.rooms.recording import RecordingReader, is_leftover
from spacer_lib.rooms.scannet import parse
from spacer_lib.rooms.scannet.exported import find_frames
from spacer_lib.rooms.scene import Scene

# Folders in which releases keep their scans.
INSIDE = ("scans", "data", "3dod", "raw", "Training", "Validation")
# Any of these names, or patterns of names, tells the data set.
_FOREIGN = {
    "Matterport3D": (
        "house_segmentations",
        "region_segmentations",
        "matterport_*_images",
        "undistorted_*_images",
    ),
    "3RScan": ("mesh.refined*.obj", "labels.instances.annotated*.ply", "semseg*.json"),
    "HM3D or another set of textured meshes": ("*.glb", "*.semantic.txt"),
}
_VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_CONVERT = (
    "read are ScanNet, ScanNet++ and ARKitScenes; write the scans in ScanNet's layout, "
    "or give metadata of VSI-Bench's form to `spacer qa --meta`"
)
# Files of one folder are compared one by one up to this number.
_MANY_FILES = 100


def layout_of(scan_dir: PathLike) -> str | None:
    """``scannet``, ``scannetpp`` or ``arkitscenes``; ``None`` if it is none of them."""
    scan_dir = Path(scan_dir)
    names, scan = _names(scan_dir), scan_dir.resolve().name
    if any(
        (scan_dir / name).is_file() for name in (scannetpp.MESH, scannetpp.ANNOTATION)
    ):
        return scannetpp.DATASET
    own = {name.removeprefix(scan) for name in names if name.startswith(scan)}
    if own & {arkitscenes.MESH, arkitscenes.ANNOTATION, arkitscenes.FRAMES}:
        return arkitscenes.DATASET
    if arkitscenes.COLOR in names and arkitscenes.TRAJECTORY in names:
        return arkitscenes.DATASET
    if any(name.endswith(parse.AGGREGATION) for name in own):
        return "scannet"
    if own & {parse.MESH, parse.SEGMENTS, parse.RECORDING} or find_frames(scan_dir):
        return "scannet"
    return None


def parse_scene(
    scan_dir: PathLike, label_tsv: PathLike, *, video_path: PathLike | None = None
) -> Scene:
    """The scene of one scan's folder, in whichever layout.

    Parameters
    ----------
    scan_dir : path
    label_tsv : path
        ``scannetv2-labels.combined.tsv``. Only scans of ScanNet need it.
    video_path : path, optional
        Written into the scene unchanged, if there is a recording.

    Raises
    ------
    SpacerError
        If the folder is of another kind, or as the layout's reader.
    """
    layout = layout_of(scan_dir)
    if layout == scannetpp.DATASET:
        return scannetpp.parse_scannetpp(scan_dir, video_path=video_path)
    if layout == arkitscenes.DATASET:
        return arkitscenes.parse_arkitscenes(scan_dir, video_path=video_path)
    if layout is None:
        require_known(scan_dir)
    return parse.parse_scene(scan_dir, label_tsv, video_path=video_path)


def open_recording(scan_dir: PathLike) -> RecordingReader | None:
    """The scan's recording, to be entered; ``None`` without one."""
    layout = layout_of(scan_dir)
    if layout == scannetpp.DATASET:
        return scannetpp.open_recording(scan_dir)
    if layout == arkitscenes.DATASET:
        return arkitscenes.open_recording(scan_dir)
    return parse.open_recording(scan_dir)


def own_video(scan_dir: PathLike) -> Path | None:
    """The video that is part of the scan and is used as it is (ScanNet++)."""
    if layout_of(scan_dir) != scannetpp.DATASET:
        return None
    return scannetpp.find_video(scan_dir)


def find_scans(folder: PathLike) -> dict[str, Path]:
    """``{name: folder}`` of the scans in a folder, or of the one that it is.

    A release's own folders are looked into (``scans``, ``data``, ``Training`` …).
    What computers leave behind is left out (``__MACOSX``, ``@eaDir``, names with a
    leading point). A folder without any known scan gives all its folders: parsing says
    of each what is missing.

    Raises
    ------
    SpacerError
        If the folder is missing, is an archive, or is of another kind.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        what = "an archive" if folder.suffix in _ARCHIVES else "not a folder"
        raise SpacerError(
            f"{folder} is {what}" if folder.exists() else f"{folder} is missing",
            kind="rooms.no-scans",
            expected="a folder of scans, such as ScanNet's scans/",
            remedy="unpack it" if what == "an archive" else "fix the path",
        )
    if layout_of(folder):
        return {folder.name: folder}
    inner = [folder / name for name in INSIDE if (folder / name).is_dir()]
    found: dict[str, Path] = {}
    for place in inner:
        found |= find_scans(place)
    if found:
        return found
    found = {
        name: folder / name
        for name in _names(folder)
        if (folder / name).is_dir() and not is_leftover(name)
    }
    if not any(layout_of(path) for path in found.values()):
        for path in (folder, *found.values()):
            require_known(path)
    return found


def require_known(folder: PathLike) -> None:
    """Refuse a folder that is recognisably of another kind.

    Raises
    ------
    SpacerError
        Naming the kind: a data set that is not read, videos, or archives.
    """
    folder = Path(folder)
    kind, remedy, example = _kind(folder)
    if kind:
        raise SpacerError(
            f"{folder} is {kind}",
            kind="rooms.another-kind",
            got=example,
            expected="a scan of ScanNet, ScanNet++ or ARKitScenes",
            remedy=remedy,
        )


def _kind(folder: Path) -> tuple[str, str, str]:
    """(what the folder is, remedy, a name in it); "" if it is not known."""
    for dataset, patterns in _FOREIGN.items():
        for pattern in patterns:
            held = listing(folder, pattern)
            if held:
                return f"a scan of {dataset}", _CONVERT, held[0].name
    names = [name for name in _names(folder) if not is_leftover(name)]
    if len(names) != sum((folder / name).is_file() for name in names):
        return "", "", ""
    for kind, suffixes, remedy in (
        (
            "a folder of videos",
            _VIDEOS,
            "videos have no annotation: give their metadata to `spacer qa --meta`",
        ),
        ("a folder of archives", _ARCHIVES, "unpack them"),
        ("a folder of metadata", (".json",), "give it to `spacer qa --meta`"),
    ):
        if names and all(name.lower().endswith(suffixes) for name in names):
            return kind, remedy, names[0]
    return "", "", ""


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in listing(folder)]
    except OSError:
        return []


def input_files(scan_dir: PathLike) -> list[tuple[str, int, int]]:
    """(name, bytes, time of change in ns) of all that a parse may read.

    Of a folder with many files (exported frames) only their number and the folder's
    own time are taken, so that thousands of scans are compared quickly.
    """
    rows: list[tuple[str, int, int]] = []
    for place, folders, files in os.walk(scan_dir):
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        files = sorted(name for name in files if not is_leftover(name))
        relative = os.path.relpath(place, scan_dir)
        if len(files) > _MANY_FILES:
            time_ns = os.stat(place).st_mtime_ns
            rows.append((f"{relative}/", len(files), time_ns))
        else:
            rows += _stamps(Path(place), relative, files)
    return rows


def _stamps(
    place: Path, relative: str, files: Iterable[str]
) -> list[tuple[str, int, int]]:
    rows = []
    for name in files:
        path = place / name
        if path.is_file():
            stat = path.stat()
            shown = name if relative == "." else f"{relative}/{name}"
            rows.append((shown, stat.st_size, stat.st_mtime_ns))
    return rows
