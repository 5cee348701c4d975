"""The 2-D label and instance images that accompany a scan.

``<scan>_2d-label-filt.zip`` holds 16-bit PNGs (value = the label table's ``id``),
``<scan>_2d-instance-filt.zip`` 8-bit ones (value = ``objectId`` + 1, 0 = nothing).
Resize either with nearest neighbour only: values are names.
"""

import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from spacer_lib.artifacts import read_json
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.scannet.labels import read_labels

_MAX_PNG_BYTES = 64 * 2**20


def read_label_frames(path):
    """Yield ``(frame index, (h, w) uint16)`` of a ``*_2d-label-filt.zip``, in order.

    Raises
    ------
    SpacerError
        If the archive or one of its images is missing, broken or of another depth.
    """
    yield from _read_frames(path, np.uint16)


def read_instance_frames(path):
    """Yield ``(frame index, (h, w) uint8)`` of a ``*_2d-instance-filt.zip``, in order.

    Raises
    ------
    SpacerError
        If the archive or one of its images is missing, broken or of another depth.
    """
    yield from _read_frames(path, np.uint8)


def read_frame_numbers(path):
    """Frame indices of the images in either archive, ascending; decodes none.

    Raises
    ------
    SpacerError
        If the archive is missing or broken.
    """
    with _open(path) as archive:
        return sorted(_members(archive))


def _open(path):
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SpacerError(
            f"{path} cannot be read",
            got=error,
            remedy=f"download {Path(path).name} again",
        ) from error


def _members(archive):
    """``{frame index: ZipInfo}`` of the images, named by their number."""
    return {
        int(Path(member.filename).stem): member
        for member in archive.infolist()
        if member.filename.endswith(".png") and Path(member.filename).stem.isdecimal()
    }


def _read_frames(path, dtype):
    remedy = f"download {Path(path).name} again"
    with _open(path) as archive:
        for index, member in sorted(_members(archive).items()):
            where = f"{path}, frame {index}"
            if member.file_size > _MAX_PNG_BYTES:
                raise SpacerError(
                    where,
                    got=f"{member.file_size} bytes",
                    expected=f"at most {_MAX_PNG_BYTES}",
                    remedy=remedy,
                )
            try:
                data = archive.read(member)
            except (OSError, zipfile.BadZipFile, zlib.error) as error:
                raise SpacerError(where, got=error, remedy=remedy) from error
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None or image.dtype != dtype or image.ndim != 2:
                got = "no image" if image is None else f"{image.dtype} {image.shape}"
                raise SpacerError(
                    where,
                    got=got,
                    expected=f"a one-channel {np.dtype(dtype).name} png",
                    remedy=remedy,
                )
            yield index, image


def instance_label_agreement(scan_dir, label_tsv, *, offset=1, stride=10):
    """How well ``value = objectId + offset`` explains the label images.

    Parameters
    ----------
    scan_dir : path
        Holds both archives and ``<scan>.aggregation.json``.
    label_tsv : path
    offset : int
        The convention under test; ScanNet's is 1.
    stride : int
        Every how many frames to look.

    Returns
    -------
    float
        Share of the pixels marked in both images where the instance's label has the
        id that the label image shows; 1 if the convention holds.

    Raises
    ------
    SpacerError
        Also if no pixel is marked in both.
    """
    scan_dir = Path(scan_dir)
    scan = scan_dir.name
    labels = read_labels(label_tsv)
    groups = read_json(scan_dir / f"{scan}.aggregation.json").get("segGroups", ())
    expected = np.zeros(256, dtype=np.int64)
    for group in groups:
        value = group["objectId"] + offset
        if group.get("label") in labels and 0 < value < 256:
            expected[value] = labels[group["label"]].id
    right = marked = 0
    pairs = zip(
        read_instance_frames(scan_dir / f"{scan}_2d-instance-filt.zip"),
        read_label_frames(scan_dir / f"{scan}_2d-label-filt.zip"),
        strict=False,
    )
    for number, ((index, instances), (other, classes)) in enumerate(pairs):
        if index != other or instances.shape != classes.shape:
            raise SpacerError(
                f"{scan_dir}: the two 2-D archives hold different images",
                got=f"frame {index} {instances.shape}, {other} {classes.shape}",
                remedy="download both archives again",
            )
        if number % stride == 0:
            both = (instances > 0) & (classes > 0)
            marked += int(both.sum())
            right += int((expected[instances[both]] == classes[both]).sum())
    if not marked:
        raise SpacerError(f"{scan}: no pixel carries both an instance and a label")
    return right / marked
