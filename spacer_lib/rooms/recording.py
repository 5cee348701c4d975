"""A recording in any layout: ``.sens`` files and folders of image files look alike.

Three layouts of image files become a ``FrameFolder``: frames exported from ``.sens``
(``scannet.exported``), ScanNet++ and ARKitScenes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.footage import Camera
from spacer_lib.rooms.scannet.sens import COLOR_JPEG

JPEG_QUALITY = 95  # of colour images that are stored as PNG
DEPTH_UNITS_PER_M = 1000.0
_LEFTOVERS = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "lost+found", "$")


class Frame(Protocol):
    """One frame; see ``scannet.sens.SensFrame`` for the attributes."""

    @property
    def index(self) -> int: ...
    @property
    def T_scan_from_camera(self) -> np.ndarray | None: ...
    @property
    def jpeg(self) -> bytes: ...
    @property
    def color_time_us(self) -> int: ...
    @property
    def depth_time_us(self) -> int: ...
    @property
    def depth_intrinsic(self) -> np.ndarray: ...
    def depth_m(self) -> npt.NDArray[np.float32]: ...


class RecordingReader(Protocol):
    """Context manager and iterator over the frames of one recording.

    ``numbers`` are the frames' numbers in the original recording: 0, 20, 40 … of a
    recording of which every twentieth frame was kept. ``stated_count`` is the number of
    frames that its header states, ``notes`` say what was left out on opening, and
    ``color_format`` is one of ``scannet.sens``. ``camera`` is that of the colour
    images, ``None`` if it is unknown.
    """

    @property
    def path(self) -> Path: ...
    @property
    def fps(self) -> float: ...
    @property
    def frame_count(self) -> int: ...
    @property
    def has_depth(self) -> bool: ...
    @property
    def has_color(self) -> bool: ...
    @property
    def numbers(self) -> Sequence[int]: ...
    @property
    def stated_count(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def color_format(self) -> int: ...
    @property
    def camera(self) -> Camera | None: ...
    def __enter__(self) -> "RecordingReader": ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def __iter__(self) -> Iterator[Frame]: ...
    def poses(self) -> Iterator[tuple[int, np.ndarray | None]]: ...


@dataclass(frozen=True)
class StoredFrame:
    """One frame whose images are files, or parts of one; read on request.

    ``jpeg`` is empty if the colour image is missing or broken. ``depth_m`` raises
    ``SpacerError`` if the depth image is. ``depth_intrinsic`` (3, 3) is in pixels of
    the depth image.
    """

    index: int
    T_scan_from_camera: np.ndarray | None
    depth_intrinsic: np.ndarray
    color_time_us: int = 0
    depth_time_us: int = 0
    color: Path | None = field(default=None, repr=False)
    depth: Callable[[], npt.NDArray[np.float32]] | None = field(
        default=None, repr=False
    )

    @property
    def jpeg(self) -> bytes:
        return b"" if self.color is None else read_jpeg(self.color)

    def depth_m(self) -> npt.NDArray[np.float32]:
        if self.depth is None:
            raise SpacerError(
                f"frame {self.index}",
                kind="rooms.no-depth-image",
                got="no depth image",
                expected="one per frame",
            )
        return self.depth()


@dataclass(frozen=True)
class FrameFolder:
    """A recording of image files: the frames in the order of the video."""

    path: Path
    fps: float
    frames: tuple[StoredFrame, ...]
    numbers: tuple[int, ...]
    camera: Camera | None = None

    @property
    def frame_count(self) -> int:
        return len(self.frames)

    @property
    def stated_count(self) -> int:
        return self.frame_count

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def color_format(self) -> int:
        return COLOR_JPEG

    @property
    def has_depth(self) -> bool:
        return any(frame.depth is not None for frame in self.frames)

    @property
    def has_color(self) -> bool:
        return any(frame.color is not None for frame in self.frames)

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    def __iter__(self) -> Iterator[StoredFrame]:
        return iter(self.frames)

    def poses(self) -> Iterator[tuple[int, np.ndarray | None]]:
        return ((frame.index, frame.T_scan_from_camera) for frame in self.frames)


def is_leftover(name: str) -> bool:
    """Whether a file or folder is what a computer left there, and not data.

    Examples
    --------
    >>> [is_leftover(n) for n in ("._0.jpg", ".DS_Store", "@eaDir", "scene0000_00")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.casefold().startswith(_LEFTOVERS)


def read_jpeg(path: PathLike) -> bytes:
    """A colour image as JPEG bytes; another format is encoded again.

    Empty if the file is missing or no image: the encoder then shows the image before.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        return b""
    if data.startswith(b"\xff\xd8") or not data:
        return data
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return b""
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()


def read_depth_image(
    path: PathLike, units_per_m: float = DEPTH_UNITS_PER_M
) -> npt.NDArray[np.float32]:
    """(h, w) float32 metres of a 16-bit image; 0 means no reading.

    Raises
    ------
    SpacerError
        If the file is missing or is no image of one 16-bit channel.
    """
    try:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        data, why = np.empty(0, np.uint8), str(error.strerror)
    else:
        why = "no image"
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise SpacerError(
            f"{path}: depth image",
            kind="rooms.depth-image",
            got=why if image is None else f"{image.dtype} {image.shape}",
            expected="one channel of 16 bits",
            remedy="export the recording again",
        )
    return image.astype(np.float32) / np.float32(units_per_m)
