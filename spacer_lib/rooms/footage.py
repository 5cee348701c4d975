"""What a video shows: the camera of some of its frames, and the objects in them.

Camera convention (ScanNet's): x right, y down, z forward. A pose is the 4x4 matrix
``T_aligned_from_camera``: it moves points from the camera's frame to the aligned one.
Its last column is the camera's position, its third column the direction of view.
Pixel (u, v) has its centre at whole coordinates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.errors import SpacerError
from spacer_lib.rooms.checks import MAX_M, MAX_WHOLE, Field
from spacer_lib.rooms.frames import sample_indices

# Kept are the first frame with a pose, then the next one at least half a second of
# video after the last one kept; and those that a model is shown of 8, 16 or 32 frames.
KEPT_EVERY_S = 0.5
KEPT_COUNTS = (8, 16, 32)

# An object counts as seen if it fills this share of a picture's pixels: 1,255 pixels
# of a 1296x968 frame, a patch of 35x35.
MIN_VISIBLE_FRACTION = 0.001

# Digits after the point, in memory and on disk: 0.1 mm, 0.0006 degrees, a thousandth of
# a pixel, and 0.001 % of a picture.
METRES, ROTATION, PIXELS, SHARE = 4, 5, 3, 5
ORTHONORMAL = 1e-3  # tolerance of a pose's rotation

MAX_PIXELS = 10**6  # side of a picture


class Camera(NamedTuple):
    """(3, 3) pinhole matrix in pixels, for pictures of ``size`` (width, height)."""

    intrinsic: npt.NDArray[np.float64]
    size: tuple[int, int]


def usable_camera(intrinsic: npt.ArrayLike, size: tuple[int, int]) -> Camera | None:
    """A camera that a file states; ``None`` if these are not its pictures.

    So if a focal length is not positive or the axis does not meet the picture.
    """
    K = np.asarray(intrinsic, dtype=np.float64)[:3, :3]
    if not np.isfinite(K).all() or min(K[0, 0], K[1, 1], *size) <= 0:
        return None
    meets = 0 < K[0, 2] < size[0] and 0 < K[1, 2] < size[1]
    return Camera(K, size) if meets and (K[2] == (0, 0, 1)).all() else None


@dataclass(frozen=True, eq=False)
class Footage:
    """The cameras of a video's kept frames, and how much they show of each object.

    Numbers are rounded to what a file holds; shares are rounded down, so that a
    comparison with ``MIN_VISIBLE_FRACTION`` has the outcome that it had before.

    Attributes
    ----------
    frames : (n,) tuple of int
        Indices into the video, ascending. Not every frame is kept; see ``kept_frames``.
    poses : (n, 4, 4) float64
        T_aligned_from_camera of each, metres.
    intrinsic : (3, 3) float64
        Pinhole matrix in pixels, for pictures of ``size``.
    size : (width, height)
        In pixels.
    visible : (n, m) float64
        Share, 0 to 1, of the picture's pixels that show ``Scene.instances[k]``. NaN is
        unknown, and no comparison with it is true.

    Raises
    ------
    SpacerError
        If shapes contradict each other, frames are out of order, a pose is no rigid
        transform, focal lengths are not positive, or a share is outside 0 to 1.
    """

    frames: tuple[int, ...]
    poses: npt.NDArray[np.float64]
    intrinsic: npt.NDArray[np.float64]
    size: tuple[int, int]
    visible: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        frames = tuple(int(frame) for frame in self.frames)
        poses = _poses(self.poses)
        ordered = all(a < b for a, b in zip((-1, *frames), frames, strict=False))
        if not frames or not ordered or len(poses) != len(frames):
            raise _error(
                "frames",
                f"{len(frames)} frames, in order: {ordered}, {len(poses)} poses",
                "one frame or more from 0, ascending, with a pose each",
            )
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "poses", poses)
        object.__setattr__(self, "size", _size(self.size))
        object.__setattr__(self, "intrinsic", _intrinsic(self.intrinsic))
        object.__setattr__(self, "visible", _shares(self.visible, len(frames)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Footage) and (
            (self.frames, self.size) == (other.frames, other.size)
            and np.array_equal(self.poses, other.poses)
            and np.array_equal(self.intrinsic, other.intrinsic)
            and np.array_equal(self.visible, other.visible, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def centers_m(self) -> npt.NDArray[np.float64]:
        """(n, 3) camera positions, metres, aligned frame."""
        return self.poses[:, :3, 3]

    def project(self, points_m: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(n, p, 3): column u, row v and depth of (p, 3) points in each picture.

        u and v are pixels of a picture of ``size``, and NaN for points that are not in
        front of the camera. Depth is metres along the direction of view. A point may be
        outside the picture, or hidden.
        """
        away = np.asarray(points_m, dtype=np.float64) - self.centers_m[:, None]
        # Rows times R is R^T times columns: from the aligned frame to the camera's.
        camera = away @ self.poses[:, :3, :3]
        depth = np.where(camera[..., 2] > 0, camera[..., 2], np.nan)[..., None]
        pixels = (camera / depth) @ self.intrinsic.T
        return np.concatenate([pixels[..., :2], camera[..., 2:]], axis=-1)

    def first_seen(self) -> list[int | None]:
        """Of each object: the first kept frame that shows it; ``None``: none does."""
        seen = self.visible >= MIN_VISIBLE_FRACTION
        return [
            self.frames[int(column.argmax())] if column.any() else None
            for column in seen.T
        ]

    def to_meta(self, instance_ids: Sequence[int]) -> dict[str, Any]:
        """JSON values. Shares are ``{instance id: share}`` a frame, without zeros.

        A share of null, or null in place of a frame's shares, is unknown.
        """
        return {
            "size": list(self.size),
            "intrinsic": self.intrinsic.ravel().tolist(),
            "frames": list(self.frames),
            "poses": self.poses[:, :3].reshape(-1, 12).tolist(),
            "visible": [_row_to_meta(row, instance_ids) for row in self.visible],
        }

    @classmethod
    def from_meta(cls, meta: Field, instance_ids: Sequence[int]) -> "Footage":
        """Read what ``to_meta`` wrote.

        Raises
        ------
        SpacerError
            If a key is missing, or a value has another form or is out of range.
        """
        width, height = meta.key("size").numbers(2, 1, MAX_PIXELS)
        rows = meta.key("poses").table(12, -MAX_M, MAX_M)
        poses = np.tile(np.eye(4), (len(rows), 1, 1))
        poses[:, :3] = rows.reshape(-1, 3, 4)
        K = meta.key("intrinsic").numbers(9, -MAX_PIXELS, MAX_PIXELS)
        return cls(
            tuple(f.whole(0, MAX_WHOLE) for f in meta.key("frames").each()),
            poses,
            np.reshape(K, (3, 3)),
            (int(width), int(height)),
            _shares_from_meta(meta.key("visible"), instance_ids),
        )


def kept_frames(posed: Iterable[int], total: int, fps: float) -> tuple[int, ...]:
    """Which of the frames that have a pose are kept, of a video of ``total`` frames.

    Examples
    --------
    >>> kept_frames(range(3, 100), 100, 24.0)[:5]
    (3, 6, 7, 10, 13)
    """
    shown = {i for count in KEPT_COUNTS for i in sample_indices(total, count)}
    every, kept, last = KEPT_EVERY_S * fps, [], None
    for frame in posed:
        due = last is None or frame - last >= round(every)
        if due:
            last = frame
        if due or frame in shown:
            kept.append(frame)
    return tuple(kept)


def _error(what: str, got: str, expected: str) -> SpacerError:
    return SpacerError(
        f"footage: {what}",
        kind="rooms.footage",
        got=got,
        expected=expected,
        remedy="parse the scan again",
    )


def _poses(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(n, 4, 4), rounded."""
    poses = np.array(values, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not np.isfinite(poses).all():
        got = f"an array {poses.shape}, finite: {np.isfinite(poses).all()}"
        raise _error("poses", got, "(frames, 4, 4) finite numbers")
    R = poses[:, :3, :3]
    square = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    rigid = (square <= ORTHONORMAL) & (np.linalg.det(R) > 0)
    rigid &= (poses[:, 3] == (0, 0, 0, 1)).all(axis=1)
    if not rigid.all():
        number = int((~rigid).argmax())
        got = np.array2string(poses[number], precision=4).replace("\n", "")
        expected = "a rotation, a translation and the last row 0 0 0 1"
        raise _error(f"pose {number} is not a rigid transform", got, expected)
    poses[:, :3, :3] = R.round(ROTATION)
    poses[:, :3, 3] = poses[:, :3, 3].round(METRES)
    return poses + 0.0  # no minus before a zero


def _intrinsic(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(3, 3), rounded."""
    K = np.array(values, dtype=np.float64)
    usable = K.shape == (3, 3) and bool(np.isfinite(K).all())
    if not usable or min(K[0, 0], K[1, 1]) <= 0 or (K[2] != (0, 0, 1)).any():
        got = np.array2string(K, precision=4).replace("\n", "")
        expected = "a 3x3 matrix with positive focal lengths and the last row 0 0 1"
        raise _error("intrinsics", got, expected)
    return K.round(PIXELS) + 0.0


def _size(values: Sequence[int]) -> tuple[int, int]:
    width, height = (int(side) for side in values)
    if min(width, height) < 1:
        raise _error("size of the pictures", f"{width}x{height}", "1 pixel or more")
    return width, height


def _shares(values: npt.ArrayLike, frames: int) -> npt.NDArray[np.float64]:
    """(frames, m), rounded down; a share above 1 by a rounding error is 1."""
    shares = np.array(values, dtype=np.float64)
    known = shares[~np.isnan(shares)]
    usable = bool(((known >= 0) & (known <= 1 + 1e-9)).all())
    if shares.ndim != 2 or len(shares) != frames or not usable:
        got = f"an array {shares.shape}, all from 0 to 1: {usable}"
        raise _error("visible shares", got, f"({frames}, objects) shares from 0 to 1")
    unit = 10.0**SHARE
    # A stored share is a hair below or above its whole number of units.
    return np.floor(shares.clip(0, 1) * unit + 1e-6) / unit


def _row_to_meta(
    row: npt.NDArray[np.float64], instance_ids: Sequence[int]
) -> dict[str, float | None] | None:
    if len(row) and np.isnan(row).all():
        return None
    pairs = zip(instance_ids, row.tolist(), strict=True)
    return {str(i): None if v != v else v for i, v in pairs if v != 0}


def _shares_from_meta(
    meta: Field, instance_ids: Sequence[int]
) -> npt.NDArray[np.float64]:
    """(n, m) shares, in the order of ``instance_ids``."""
    column = {str(name): k for k, name in enumerate(instance_ids)}
    if len(column) < len(instance_ids):
        raise meta.refuse("rooms.footage", "objects with an instance_id of their own")
    rows = meta.each()
    shares = np.zeros((len(rows), len(column)))
    for row, shown in zip(shares, rows, strict=True):
        if shown.value is None:
            row[:] = np.nan
            continue
        for name, share in shown.mapping().items():
            if name not in column:
                raise shown.refuse("rooms.footage", "instance ids of the scene's boxes")
            if share is None:
                share = np.nan
            elif type(share) is not float or not 0 <= share <= 1:
                share = Field(f"{shown.where}.{name}", share).number(0, 1)
            row[column[name]] = share
    return shares
