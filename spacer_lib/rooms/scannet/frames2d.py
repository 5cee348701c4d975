"""The 2-D instance images that accompany a scan.

``<scan>_2d-instance-filt.zip`` holds one 8-bit PNG per frame. A pixel's value is
``objectId`` + 1; 0 means that no object is there. Values are names: resize with nearest
neighbour only.

Source: http://www.scan-net.org (data organisation, ``_2d-instance-filt.zip``).
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError

_MAX_PNG_BYTES = 64 * 2**20


def read_instance_frames(
    path: PathLike,
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield ``(frame index, (h, w) uint8)`` for each image, in the order of frames.

    Raises
    ------
    SpacerError
        If the archive or one of its images is missing or broken, or an image has not
        one 8-bit channel.
    """
    remedy = f"download {Path(path).name} again"
    with _open(path) as archive:
        for index, member in sorted(_members(archive).items()):
            where = f"{path}, frame {index}"
            if member.file_size > _MAX_PNG_BYTES:
                raise SpacerError(
                    where,
                    kind="rooms.huge-image",
                    got=f"{member.file_size} bytes",
                    expected=f"at most {_MAX_PNG_BYTES}",
                    remedy=remedy,
                )
            try:
                data = archive.read(member)
            except (OSError, zipfile.BadZipFile, zlib.error) as error:
                raise SpacerError(
                    where, kind="rooms.broken-image", got=error, remedy=remedy
                ) from error
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None or image.dtype != np.uint8 or image.ndim != 2:
                got = "no image" if image is None else f"{image.dtype} {image.shape}"
                raise SpacerError(
                    where,
                    kind="rooms.not-an-instance-image",
                    got=got,
                    expected="a one-channel uint8 png",
                    remedy=remedy,
                )
            yield index, image.astype(np.uint8, copy=False)


def read_frame_numbers(path: PathLike) -> list[int]:
    """Frame indices of the archive's images, ascending; no image is decoded.

    Raises
    ------
    SpacerError
        If the archive is missing or broken.
    """
    with _open(path) as archive:
        return sorted(_members(archive))


def _open(path: PathLike) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SpacerError(
            f"{path} cannot be read",
            kind="rooms.broken-archive",
            got=error,
            remedy=f"download {Path(path).name} again",
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[int, zipfile.ZipInfo]:
    """``{frame index: member}``: a frame's image is named by its number."""
    return {
        int(Path(member.filename).stem): member
        for member in archive.infolist()
        if member.filename.endswith(".png") and Path(member.filename).stem.isdecimal()
    }
