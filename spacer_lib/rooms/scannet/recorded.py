"""What a recording tells: where its camera was, and which objects its frames show.

Of a recording with instance images, pixels are counted. Of one with depth images, the
point that a pixel shows belongs to the object of the nearest vertex of the mesh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.damage import MAX_BROKEN, BrokenFrames
from spacer_lib.rooms.footage import (
    MIN_VISIBLE_FRACTION,
    Camera,
    Footage,
    kept_frames,
)
from spacer_lib.rooms.geometry import require_rigid, transform_points
from spacer_lib.rooms.recording import Frame, RecordingReader
from spacer_lib.rooms.scannet.frames2d import read_frame_numbers, read_instance_frames
from spacer_lib.rooms.scene import CameraPosition

MAX_CAMERA_DISTANCE_M = 10.0  # from the mesh's bounds, along each axis

# Without instance images, rays through this many columns of a picture are followed, and
# as many rows as its shape asks for. The mesh's vertices lie 2 to 5 cm apart.
COLUMNS = 80
NEAREST_M = 0.08  # from a point in the depth image to the vertex that names it

# Method that finds visible shares and first frames → what it counts as seen.
VISIBLE = {
    "instance images": f"{MIN_VISIBLE_FRACTION:.1%} of the image's pixels",
    "projection": f"{MIN_VISIBLE_FRACTION:.1%} of the picture, where the depth image "
    f"is within {NEAREST_M} m of a vertex; kept frames only",
}


@dataclass(frozen=True)
class Recording:
    """What a scene takes from its recording.

    ``stated_count`` is the header's number of frames; ``posed`` are the frames with a
    pose; ``poses`` are ``{kept frame: T_aligned_from_camera}``; ``camera`` is the
    reader's.
    """

    reader: RecordingReader
    frame_count: int
    stated_count: int
    posed: tuple[int, ...]
    poses: Mapping[int, npt.NDArray[np.float64]]
    camera: Camera | None

    @property
    def camera_path_m(self) -> tuple[CameraPosition, ...]:
        """Of kept frames; see ``Scene``."""
        return tuple(
            (frame, float(T[0, 3]), float(T[1, 3]), float(T[2, 3]))
            for frame, T in self.poses.items()
        )


@dataclass(frozen=True)
class Seen:
    """What the frames show of m objects.

    ``first_seen`` has their first frames, ``None`` where unknown or never; ``method``
    is a key of ``VISIBLE``, or ``None``; ``footage`` is ``None`` without a camera.
    """

    first_seen: Sequence[int | None]
    method: str | None
    footage: Footage | None


# ---------------------------------------------------------------- poses


def read_poses(
    source: RecordingReader,
    vertices: np.ndarray,
    T_aligned_from_scan: np.ndarray,
    warnings: list[str],
) -> Recording:
    """Poses of a recording; no image is read.

    A wild pose (see ``_pose_fault``) counts as none. If more than ``MAX_BROKEN``
    of them are wild, none is used.
    """
    posed: dict[int, np.ndarray] = {}
    wild: dict[str, list[int]] = {}
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    with source as reader:
        warnings += reader.notes
        for index, T_scan_from_camera in reader.poses():
            if T_scan_from_camera is None:
                continue
            fault = _pose_fault(T_scan_from_camera, low, high)
            if fault:
                wild.setdefault(fault, []).append(index)
            else:
                posed[index] = T_scan_from_camera
        left_out = sum(map(len, wild.values()))
        total = len(posed) + left_out
        few = left_out <= MAX_BROKEN * total
        remedy = "left out" if few else "no pose is used, there is no camera path"
        for fault, frames in wild.items():
            warnings.append(
                f"{len(frames)} of {total} camera poses are {fault} (first: frame "
                f"{frames[0]}): {remedy}"
            )
        if not few:
            posed = {}
        kept = kept_frames(posed, reader.frame_count, reader.fps) if posed else ()
        return Recording(
            source,
            reader.frame_count,
            reader.stated_count,
            tuple(posed),
            {i: _aligned(posed[i], T_aligned_from_scan) for i in kept},
            reader.camera,
        )


def _aligned(
    T_scan_from_camera: np.ndarray, T_aligned_from_scan: np.ndarray
) -> npt.NDArray[np.float64]:
    """(4, 4) T_aligned_from_camera, its rotation made exactly orthonormal."""
    T = np.eye(4)
    T[:3, 3] = transform_points(T_aligned_from_scan, T_scan_from_camera[None, :3, 3])[0]
    U, _, V = np.linalg.svd(T_aligned_from_scan[:3, :3] @ T_scan_from_camera[:3, :3])
    T[:3, :3] = U @ V
    return T


def _pose_fault(T: np.ndarray, low: np.ndarray, high: np.ndarray) -> str | None:
    """What is wrong with a pose (4, 4) of a camera near the mesh's bounds, in words."""
    try:
        require_rigid(T, "pose")
    except SpacerError:
        try:
            require_rigid(T.T, "pose")
        except SpacerError:
            return "no rigid transform"
        return "transposed (stored by columns)"
    reach = MAX_CAMERA_DISTANCE_M

    def near(center: np.ndarray) -> bool:
        return bool(((center >= low - reach) & (center <= high + reach)).all())

    if near(T[:3, 3]):
        return None
    if near(T[:3, 3] / 1000):
        return "in millimetres"
    return f"more than {reach:.0f} m outside the mesh"


# ---------------------------------------------------------------- objects


def what_is_seen(
    recording: Recording | None,
    instance_images: Path | None,
    ids: Sequence[tuple[int, ...]],
    vertices: npt.NDArray[np.float64],
    owned: Sequence[npt.NDArray[np.int64]],
    warnings: list[str],
) -> Seen:
    """Visible shares and first frames of m objects.

    Parameters
    ----------
    recording : Recording or None
    instance_images : path or None
        Archive of ScanNet's 2-D instance images.
    ids : (m,) sequence of tuple of int
        Under which each object is in these images.
    vertices : (n, 3) float64
        Of the mesh, metres, scan frame.
    owned : (m,) sequence of arrays of int
        Each object's vertices.
    warnings : list of str
        What is missing is added.
    """
    frames = list(recording.poses) if recording else []
    shares, first, method = np.full((len(frames), len(ids)), np.nan), None, None
    camera = recording.camera if recording else None
    if frames and camera is None:
        warnings.append("no intrinsics of the camera: what a frame shows is unknown")
    if instance_images is not None:
        method = "instance images"
        first = _count_pixels(instance_images, recording, ids, shares, warnings)
    elif recording is None:
        warnings.append("no instance images either: first frames are unknown")
    elif not (recording.reader.has_depth and frames):
        what = "poses" if recording.reader.has_depth else "depth images"
        warnings.append(f"no instance images and no {what}: first frames are unknown")
    elif camera is not None:
        method = "projection"
        warnings.append("no instance images: first frames by projection")
        names = _Names(vertices, owned)
        _follow_rays(recording, camera, names, shares, warnings)
    footage = None
    if camera is not None and recording is not None and frames:
        poses = np.array(list(recording.poses.values()))
        footage = Footage(tuple(frames), poses, *camera, shares)
    if first is None:
        first = footage.first_seen() if footage else [None] * len(ids)
    return Seen(first, method, footage)


def _require_whole(zip_path: Path, recording: Recording | None) -> dict[int, int]:
    """``{number of an image: frame}``; refuse an archive of another recording.

    A frame without a pose may lack its image, which ScanNet makes by projecting the
    mesh. Without a recording the numbers must run from 0 without a gap. Of a recording
    of which only some frames were kept, the other images are not used.
    """
    held = set(read_frame_numbers(zip_path))
    count = recording.stated_count if recording else max(held, default=0) + 1
    frames: Sequence[int] = range(count)
    if recording is not None and recording.stated_count == recording.frame_count:
        with recording.reader as reader:
            frames = reader.numbers
    thinned = list(frames) != list(range(count))
    posed = recording.posed if recording else range(count)
    absent = sorted({frames[i] for i in posed} - held)
    foreign = [] if thinned else sorted(held - set(frames))
    if absent or foreign:
        parts = [
            f"{len(numbers)} frames {what} (first: {numbers[0]})"
            for what, numbers in (("missing", absent), ("too many", foreign))
            if numbers
        ]
        raise SpacerError(
            f"{zip_path}: the images are not the recording's",
            kind="rooms.other-frames",
            got=" and ".join(parts),
            expected=f"frames 0 to {frames[-1]}",
            remedy=f"download {zip_path.name} again, or remove it: first frames are "
            "then found by projection",
        )
    end = recording.frame_count if recording else count  # the recording may be cut
    return {number: index for index, number in enumerate(frames) if index < end}


def _count_pixels(
    zip_path: Path,
    recording: Recording | None,
    ids: Sequence[tuple[int, ...]],
    shares: npt.NDArray[np.float64],
    warnings: list[str],
) -> list[int | None]:
    """First frames, by counting pixels of value ``objectId`` + 1; fills ``shares``.

    Images are read until every object is seen, and those of kept frames. Broken ones
    are left out; see ``BrokenFrames``.
    """
    place = _require_whole(zip_path, recording)
    row = {frame: k for k, frame in enumerate(recording.poses if recording else ())}
    column = {i: k for k, mine in enumerate(ids) for i in mine if 0 <= i < 2**16 - 1}
    values = np.array(list(column), dtype=np.int64) + 1
    first: list[int | None] = [None] * len(ids)
    waiting, bits = set(column.values()), 8

    def wanted(number: int) -> bool:
        return number in place and (bool(waiting) or place[number] in row)

    broken = BrokenFrames(str(zip_path), "instance images", len(place))
    for number, image in read_instance_frames(zip_path, broken, wanted):
        frame, bits = place[number], max(bits, 8 * image.itemsize)
        pixels = np.bincount(image.ravel(), minlength=max(values, default=0) + 1)
        mine = np.zeros(len(ids))
        np.add.at(mine, list(column.values()), pixels[values] / image.size)
        for k in [k for k in waiting if mine[k] >= MIN_VISIBLE_FRACTION]:
            first[k] = frame
            waiting.remove(k)
        if frame in row:
            shares[row[frame]] = mine
    if broken.frames:
        warnings.append(broken.note("left out"))
    beyond = sorted(i for mine in ids for i in mine if i + 1 >= 2**bits)
    if beyond:
        shares[:, [k for k, mine in enumerate(ids) if min(mine) + 1 >= 2**bits]] = (
            np.nan
        )
        warnings.append(
            f"{len(beyond)} objects have ids that images of {bits} bits cannot hold "
            f"(first: {beyond[0]}): their first frames are unknown"
        )
    return first


class _Names:
    """Which object a point of a scan belongs to, by the nearest vertex of the mesh.

    Of the objects that share a vertex, the one with the fewest has it.
    """

    def __init__(
        self,
        vertices: npt.NDArray[np.float64],
        owned: Sequence[npt.NDArray[np.int64]],
    ) -> None:
        self.tree = cKDTree(vertices)
        self.count = len(owned)
        # One more than there are vertices: where no vertex is near.
        self.owner = np.full(len(vertices) + 1, self.count)
        for k in sorted(range(self.count), key=lambda k: -len(owned[k])):
            self.owner[owned[k]] = k

    def shares(self, points: npt.NDArray[np.float64], total: int) -> np.ndarray:
        """(m,) shares of ``total`` points that belong to each object; (n, 3) metres."""
        _, nearest = self.tree.query(points, distance_upper_bound=NEAREST_M)
        counts = np.bincount(self.owner[nearest], minlength=self.count + 1)
        return counts[: self.count] / total


def _follow_rays(
    recording: Recording,
    camera: Camera,
    names: _Names,
    shares: npt.NDArray[np.float64],
    warnings: list[str],
) -> None:
    """Fill ``shares`` by depth images: one ray for each of a grid of pixels.

    Broken depth images are left out; see ``BrokenFrames``.
    """
    row = {frame: k for k, frame in enumerate(recording.poses)}
    rays, read = _grid_rays(camera), False
    with recording.reader as reader:
        broken = BrokenFrames(str(reader.path), "depth images", len(row))
        for frame in reader:
            if frame.index not in row:
                continue
            try:
                depth_m = frame.depth_m()
            except SpacerError as error:
                broken.add(frame.index, error.got)
                continue
            read = read or bool(depth_m.any())
            points = _points(frame, depth_m, rays)
            shares[row[frame.index]] = names.shares(points, len(rays))
    if broken.frames:
        warnings.append(broken.note("projection leaves them out"))
    if not read:
        warnings.append("the depth images hold no reading: first frames are unknown")
        shares[:] = np.nan


def _grid_rays(camera: Camera) -> np.ndarray:
    """(r, 3) directions with z = 1, camera frame: a grid over the picture."""
    width, height = camera.size
    step = max(1, width // COLUMNS)
    u, v = np.meshgrid(
        np.arange(step // 2, width, step), np.arange(step // 2, height, step)
    )
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(u.size)], axis=1)
    return pixels @ np.linalg.inv(camera.intrinsic).T


def _points(
    frame: Frame, depth_m: npt.NDArray[np.float32], rays: np.ndarray
) -> npt.NDArray[np.float64]:
    """(n, 3) points, scan frame, that rays with a reading of depth meet."""
    T = frame.T_scan_from_camera
    assert T is not None  # of a kept frame
    height, width = depth_m.shape
    u, v, _ = np.rint(rays @ frame.depth_intrinsic[:3, :3].T).T.astype(int)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    depth = np.zeros(len(rays))
    depth[inside] = depth_m[v[inside], u[inside]]
    met = depth > 0
    return (rays[met] * depth[met, None]) @ T[:3, :3].T + T[:3, 3]
