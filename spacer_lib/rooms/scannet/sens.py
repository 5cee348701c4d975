"""ScanNet's ``.sens`` recordings (version 4), one frame at a time.

A file holds thousands of JPEG colour images and zlib depth images and has gigabytes:
the reader keeps one frame in memory. Each size in the file is checked against its
possible values before memory is allocated.

Layout, little-endian. Header: u32 version, u64 length + sensor name, four f32[16]
matrices (colour intrinsic and extrinsic, depth intrinsic and extrinsic), i32 colour
and depth compression, u32 colour width, height, depth width, height, f32 depth shift,
u64 frame count. A frame: f32[16] pose, u64 colour and depth time, u64 colour and
depth bytes, the two images.

Source: https://github.com/ScanNet/ScanNet (``SensReader/c++/src/sensorData.h``).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.damage import MAX_BROKEN
from spacer_lib.rooms.footage import Camera, usable_camera
from spacer_lib.rooms.frames import FPS

VERSION = 4
COLOR_PNG, COLOR_JPEG, DEPTH_RAW, DEPTH_ZLIB = 1, 2, 0, 1
IMU_BYTES = 128  # of each record behind the frames
OPENING = struct.Struct("<IQ")  # version, length of the sensor's name
HEADER = struct.Struct("<64f2i4IfQ")
FRAME = struct.Struct("<16f4Q")

_MAX_NAME_BYTES = 4096
_MAX_SIDE_PIXELS = 16384


@dataclass(frozen=True)
class SensFrame:
    """One recorded frame.

    Attributes
    ----------
    index : int
        Position in the recording; frames without a pose count.
    T_scan_from_camera : (4, 4) float64 or None
        ``None`` where tracking was lost.
    jpeg : bytes
        The colour image as stored; see ``SensReader.color_format``.
    color_time_us, depth_time_us : int
        Time stamps as stored: often 0, or unrelated to the frame rate.
    """

    index: int
    T_scan_from_camera: np.ndarray | None
    jpeg: bytes = field(repr=False)
    color_time_us: int
    depth_time_us: int
    _depth: bytes = field(repr=False)
    _reader: "SensReader" = field(repr=False)

    @property
    def depth_intrinsic(self) -> np.ndarray:
        """(4, 4) float64, pixels of the depth image."""
        return self._reader.depth_intrinsic

    def depth_m(self) -> npt.NDArray[np.float32]:
        """(h, w) float32 metres along the optical axis; 0 means no reading.

        Each call decodes again.

        Raises
        ------
        SpacerError
            If the bytes do not decode to exactly one image.
        """
        return self._reader.decode_depth(self._depth, self.index)


class SensReader:
    """Context manager and iterator over a ``.sens`` file.

    Attributes
    ----------
    sensor_name : str
    color_intrinsic, depth_intrinsic : (4, 4) float64
    color_extrinsic, depth_extrinsic : (4, 4) float64
    color_size, depth_size : (width, height)
    depth_shift : float
        Depth units per metre.
    frame_count : int
        Frames that are whole.
    stated_count : int
        Frames by the header.
    color_format : int
        ``COLOR_JPEG``, ``COLOR_PNG``, or another one that is not decoded here.
    has_depth : bool
        Whether there are depth images that can be decoded.
    notes : list of str
        What the recording lacks although its header names it.

    Examples
    --------
    >>> with SensReader("scene0000_00.sens") as recording:  # doctest: +SKIP
    ...     for frame in recording:
    ...         depth = frame.depth_m()

    Raises
    ------
    SpacerError
        If the file is missing or corrupt, has another version, or is cut: on opening
        or on reading a frame. Frames are left out with a note if they are at most
        ``MAX_BROKEN`` of those stated, or if the file ends properly without them.
    """

    fps = FPS  # of the video; the time stamps are not used
    has_color = True

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    @property
    def numbers(self) -> range:
        """The frames' numbers: all of them, from 0."""
        return range(self.frame_count)

    @property
    def camera(self) -> Camera | None:
        """Of the colour images; of the depth images if the header has no other."""
        return usable_camera(self.color_intrinsic, self.color_size) or usable_camera(
            self.depth_intrinsic, self.depth_size
        )

    def __enter__(self) -> "SensReader":
        try:
            self._stream: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise SpacerError(
                f"{self.path} cannot be read",
                kind="rooms.no-recording",
                got=error.strerror,
                remedy="download the scan's .sens file",
            ) from error
        try:
            self._size = self.path.stat().st_size
            self._read_header()
        except SpacerError:
            self._stream.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def _error(self, fault: str, where: str, got: str, expected: str) -> SpacerError:
        return SpacerError(
            f"{self.path}, {where}",
            kind=f"rooms.sens-{fault}",
            got=got,
            expected=expected,
            remedy="download the .sens file again",
        )

    def _read(self, count: int, where: str) -> bytes:
        left = self._size - self._stream.tell()
        if count > left:
            raise self._error("truncated", where, f"{left} bytes", f"{count} bytes")
        return self._stream.read(count)

    def _read_header(self) -> None:
        version, name_bytes = OPENING.unpack(self._read(OPENING.size, "header"))
        if version != VERSION:
            raise self._error(
                "version", "header", f"version {version}", f"version {VERSION}"
            )
        if name_bytes > _MAX_NAME_BYTES:
            raise self._error(
                "name",
                "header, sensor name",
                f"{name_bytes} bytes",
                f"at most {_MAX_NAME_BYTES} bytes",
            )
        name = self._read(name_bytes, "header, sensor name")
        self.sensor_name = name.decode("utf-8", errors="replace")
        values = HEADER.unpack(self._read(HEADER.size, "header"))
        matrices = np.array(values[:64]).reshape(4, 4, 4)
        self.color_intrinsic, self.color_extrinsic = matrices[:2]
        self.depth_intrinsic, self.depth_extrinsic = matrices[2:]
        self.color_format, self._depth_format = values[64:66]
        self.color_size, self.depth_size = values[66:68], values[68:70]
        self.depth_shift, self.stated_count = values[70:72]
        self.notes: list[str] = []
        # Recordings of colour alone have no depth: its size is 0 x 0.
        sized = self.depth_size != (0, 0)
        self.has_depth = sized and self._depth_format in (DEPTH_RAW, DEPTH_ZLIB)
        if sized and not self.has_depth:
            self.notes.append(
                f"depth compression {self._depth_format} is unknown: no depth images"
            )
        sides = (*self.color_size, *(self.depth_size if self.has_depth else ()))
        if min(sides) < 1 or max(sides) > _MAX_SIDE_PIXELS:
            raise self._error(
                "sides",
                "header",
                f"image sides {sides}",
                f"1 to {_MAX_SIDE_PIXELS} pixels",
            )
        shifted = np.isfinite(self.depth_shift) and self.depth_shift > 0
        if self.has_depth and not shifted:
            raise self._error(
                "depth-shift", "header", f"depth shift {self.depth_shift}", "above 0"
            )
        self._first_frame_at = self._stream.tell()
        # A compressed image exceeds its pixels' bytes by a small overhead at most.
        self._max_color_bytes = 4 * self.color_size[0] * self.color_size[1] + 65536
        depth_bytes = 2 * self.depth_size[0] * self.depth_size[1]
        self._max_depth_bytes = depth_bytes + depth_bytes // 100 + 1024
        self.frame_count = self.stated_count
        self._leave_out_absent_frames()

    def _leave_out_absent_frames(self) -> None:
        """Set ``frame_count`` to the whole frames, or raise; no image is read."""
        whole, end = 0, self._first_frame_at
        try:
            for index, _, _, sizes in self._records():
                whole, end = index + 1, self._stream.tell() + sum(sizes)
        except SpacerError:
            absent, left = self.stated_count - whole, self._size - end
            if not whole or not (
                absent <= MAX_BROKEN * self.stated_count or self._ends_at(end, left)
            ):
                raise
            self.frame_count = whole
            self.notes.append(
                f"the header states {self.stated_count} frames, {whole} are there: "
                f"{absent} left out"
            )

    def _ends_at(self, end: int, left: int) -> bool:
        """Whether nothing is left there, or just the records of a motion sensor."""
        if left < 8:
            return left == 0
        self._stream.seek(end)
        count = int.from_bytes(self._stream.read(8), "little")
        return left == 8 + IMU_BYTES * count

    def __iter__(self) -> Iterator[SensFrame]:
        """Yield every ``SensFrame`` in order; each call starts at the first."""
        for index, pose, times_us, sizes in self._records():
            jpeg, depth = (self._stream.read(count) for count in sizes)
            yield SensFrame(index, pose, jpeg, *times_us, depth, self)

    def poses(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield ``(frame index, T_scan_from_camera or None)`` without reading images.

        A truncated file is refused here too.
        """
        for index, pose, *_ in self._records():
            yield index, pose

    def _records(
        self,
    ) -> Iterator[tuple[int, np.ndarray | None, tuple[int, int], tuple[int, int]]]:
        """(index, pose, times in us, bytes of images) of each frame.

        At each one the stream stands at the frame's images.
        """
        at = self._first_frame_at
        for index in range(self.frame_count):
            self._stream.seek(at)
            where = f"frame {index} of {self.stated_count}"
            values = FRAME.unpack(self._read(FRAME.size, where))
            at, sizes = at + FRAME.size, values[18:]
            limits = (self._max_color_bytes, self._max_depth_bytes)
            kinds = ("colour", "depth")
            for kind, count, limit in zip(kinds, sizes, limits, strict=True):
                left, what = self._size - at, f"{where}, {kind}"
                if count > limit:
                    raise self._error(
                        "huge-image", what, f"{count} bytes", f"at most {limit} bytes"
                    )
                if count > left:
                    raise self._error(
                        "truncated", what, f"{left} bytes", f"{count} bytes"
                    )
                at += count
            pose = np.array(values[:16]).reshape(4, 4)
            valid = np.isfinite(pose).all() and pose[0, 0] != 0
            times_us = values[16], values[17]
            yield index, pose if valid else None, times_us, sizes

    def decode_depth(self, data: bytes, index: int) -> npt.NDArray[np.float32]:
        """Depth image as stored → (h, w) float32 metres; see ``SensFrame.depth_m``."""
        width, height = self.depth_size
        expected, where = 2 * width * height, f"frame {index}, depth"
        if self._depth_format not in (DEPTH_RAW, DEPTH_ZLIB):
            raise self._error(
                "compression",
                where,
                f"compression {self._depth_format}",
                f"{DEPTH_RAW} (raw) or {DEPTH_ZLIB} (zlib)",
            )
        if self._depth_format == DEPTH_ZLIB:
            try:
                # Limited, so that a hostile stream cannot fill the memory.
                data = zlib.decompressobj().decompress(data, expected + 1)
            except zlib.error as error:
                raise self._error(
                    "depth", where, str(error), f"zlib data of {expected} bytes"
                ) from error
        if len(data) != expected:
            raise self._error("depth", where, f"{len(data)} bytes", f"{expected} bytes")
        depth = np.frombuffer(data, dtype="<u2").reshape(height, width)
        return depth.astype(np.float32) / np.float32(self.depth_shift)
