"""The 2-D instance images that accompany a scan.

``<scan>_2d-instance-filt.zip`` holds one PNG per frame, of 8 bits, or of 16 where a
scan has more objects. A pixel's value is ``objectId`` + 1; 0 means that no object is
there. Values are names: resize with nearest neighbour only.

Source: http://www.scan-net.org (data organisation, ``_2d-instance-filt.zip``).
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.damage import BrokenFrames, decoded

_MAX_PNG_BYTES = 64 * 2**20
# What ``zipfile`` raises for a damaged archive. RuntimeError: an encrypted member, or a
# version or compression that it does not know.
_ZIP_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)

InstanceImage = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def read_instance_frames(
    path: PathLike,
    broken: BrokenFrames | None = None,
    wanted: Callable[[int], bool] = lambda index: True,
) -> Iterator[tuple[int, InstanceImage]]:
    """Yield ``(frame index, (h, w) image)`` for each image, in the order of frames.

    Parameters
    ----------
    path : path
    broken : BrokenFrames, optional
        Counts the broken images, which are left out then.
    wanted : callable
        Whether the image of a frame index is read; asked before each.

    Raises
    ------
    SpacerError
        If the archive cannot be read, or an image is broken or has not one channel of
        8 or 16 bits and ``broken`` is not given or is full.
    """
    with _open(path) as archive:
        for index, member in sorted(_members(archive).items()):
            if not wanted(index):
                continue
            try:
                image = _image(archive, member, f"{path}, frame {index}")
            except SpacerError as error:
                if broken is None:
                    raise
                broken.add(index, error.got)
                continue
            yield index, image


def _image(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str
) -> InstanceImage:
    remedy = f"download {Path(str(archive.filename)).name} again"
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
    except _ZIP_ERRORS as error:
        raise SpacerError(
            where,
            kind="rooms.broken-image",
            got=f"{error}" or "a member cut short",
            remedy=remedy,
        ) from error
    image = decoded(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype not in (np.uint8, np.uint16) or image.ndim != 2:
        got = "no image" if image is None else f"{image.dtype} {image.shape}"
        raise SpacerError(
            where,
            kind="rooms.not-an-instance-image",
            got=got,
            expected="a png with one channel of 8 or 16 bits",
            remedy=remedy,
        )
    return image


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
    except _ZIP_ERRORS as error:
        raise SpacerError(
            f"{path} cannot be read",
            kind="rooms.broken-archive",
            got=f"{error}" or "an archive cut short",
            remedy=f"download {Path(path).name} again",
        ) from error


def _members(archive: zipfile.ZipFile) -> dict[int, zipfile.ZipInfo]:
    """``{frame index: member}``: a frame's image is named by its number."""
    return {
        int(Path(member.filename).stem): member
        for member in archive.infolist()
        if member.filename.endswith(".png") and Path(member.filename).stem.isdecimal()
    }
