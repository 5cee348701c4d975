"""ScanNet's files on disk → ``Scene``.

``labels`` reads the label table, ``splits`` the lists of scans, ``sens`` streams a
recording, ``frames2d`` its label images, and ``parse`` puts them together.
"""

from spacer_lib.rooms.scannet.frames2d import (
    instance_label_agreement,
    read_frame_numbers,
    read_instance_frames,
    read_label_frames,
)
from spacer_lib.rooms.scannet.labels import Label, normalise_category, read_labels
from spacer_lib.rooms.scannet.parse import (
    FPS,
    MIN_VISIBLE_FRACTION,
    Group,
    parse_scene,
    read_alignment,
    read_groups,
    read_vertices,
)
from spacer_lib.rooms.scannet.sens import SensFrame, SensReader
from spacer_lib.rooms.scannet.splits import read_split, read_splits

__all__ = [
    "FPS",
    "MIN_VISIBLE_FRACTION",
    "Group",
    "Label",
    "SensFrame",
    "SensReader",
    "instance_label_agreement",
    "normalise_category",
    "parse_scene",
    "read_alignment",
    "read_frame_numbers",
    "read_groups",
    "read_instance_frames",
    "read_label_frames",
    "read_labels",
    "read_split",
    "read_splits",
    "read_vertices",
]
