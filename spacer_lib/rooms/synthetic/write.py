"""Write a ``Room`` in ScanNet's file formats, so that one parser reads both.

As in ScanNet, mesh and poses are in a *scan* frame that differs from the aligned one,
colour and depth images differ in size and field of view, and some frames have no pose.
The same room, view and size give the same bytes.

Source: http://www.scan-net.org (data organisation); the ``.sens`` layout in
``scannet.sens``.
"""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spacer_lib.artifacts import PathLike, atomic_folder, listing, write_text
from spacer_lib.errors import SpacerError
from spacer_lib.rooms.frames import FPS
from spacer_lib.rooms.geometry import transform_points
from spacer_lib.rooms.scannet.parse import AGGREGATION, INSTANCES_2D, MESH, SEGMENTS
from spacer_lib.rooms.scannet.sens import (
    COLOR_JPEG,
    DEPTH_ZLIB,
    FRAME,
    HEADER,
    OPENING,
    VERSION,
)
from spacer_lib.rooms.synthetic.layout import KINDS, Room, hides_floor, in_base
from spacer_lib.rooms.synthetic.render import (
    FLOOR,
    WALL,
    LabelledBox,
    Renderer,
    room_boxes,
    room_paint,
)
from spacer_lib.rooms.synthetic.views import View, pinhole, view_intrinsic, view_poses

VERTEX_SPACING_M = 0.05
# Surfaces of scans are never flat: each vertex is moved inwards by up to this much.
# A box's corners stay, so that the hull is the one of `views.to_scene`.
ROUGHNESS_M = 0.001
DEPTH_WIDER_DEG = 4.0
DEPTH_SHIFT = 1000.0
LOST_POSES = 1 / 24  # share of frames without a pose, at least one

LABEL_COLUMNS = (
    "id",
    "raw_category",
    "category",
    "count",
    "nyu40id",
    "eigen13id",
    "nyuClass",
    "nyu40class",
    "eigen13class",
    "ModelNet40",
    "ModelNet10",
    "ShapeNetCore55",
    "synsetoffset",
    "wnsynsetid",
    "wnsynsetkey",
    "mpcat40",
    "mpcat40index",
)
# Its number changes with what the same room's files hold.
SCENE_TYPE = "Synthetic 2"
_SHELL = {FLOOR: ("floor", 2), WALL: ("wall", 1)}
# Ids of the synthetic label table: the shell, then the furniture in order of KINDS.
LABEL_IDS = {
    raw: number
    for number, raw in enumerate(
        [raw for raw, _ in _SHELL.values()] + [k.raw_label for k in KINDS.values()],
        start=1,
    )
}


def write_scan(
    room: Room, root: PathLike, view: View, *, size: tuple[int, int] = (320, 240)
) -> Path:
    """Write ``root/scans/<scene_id>/`` with all files that ScanNet has of a scan.

    Parameters
    ----------
    room : Room
        Its seed also draws the roughness of the mesh and the frames without a pose.
    root : path
    view : View
        One of ``views.VIEWS``: the camera path and the number of frames.
    size : (width, height)
        Of the colour images in pixels, even. Depth images have half of both.

    Returns
    -------
    Path
        The scan's folder, whole; it replaces an older one of that name.

    Raises
    ------
    SpacerError
        If the size is not even, or the folder cannot be written.
    """
    if min(size) < 2 or size[0] % 2 or size[1] % 2:
        raise SpacerError(
            "image size",
            kind="rooms.odd-size",
            got=size,
            expected="even sides, at least 2x2",
        )
    folder = Path(root) / "scans" / room.scene_id
    with atomic_folder(folder) as part:
        _write_text_file(room, view, size, part / f"{room.scene_id}.txt")
        _write_mesh(room, part)
        _write_recording(room, view, size, part)
    return folder


def is_current(folder: Path) -> bool:
    """Whether a scan was written by ``write_scan`` as it is now."""
    text = folder / f"{folder.name}.txt"
    if not text.is_file():
        return False
    return f"sceneType = {SCENE_TYPE}\n" in text.read_text(errors="replace")


def write_dataset_files(root: PathLike, val_ids: Iterable[str] = ()) -> None:
    """Write the label table and the split lists into ``root``.

    Parameters
    ----------
    root : path
    val_ids : iterable of str
        All scans of their spaces are listed in ``scannetv2_val.txt``; all others in
        ``root/scans`` in ``scannetv2_train.txt``.
    """
    root = Path(root)
    rows = [list(LABEL_COLUMNS)]
    shell = [(raw, raw, nyu40id) for raw, nyu40id in _SHELL.values()]
    # ScanNet's column `category` has the annotators' word; VSI-Bench renames it.
    furniture = [(k.raw_label, k.raw_label, k.nyu40id) for k in KINDS.values()]
    for raw, category, nyu40id in shell + furniture:
        row: dict[str, Any] = dict.fromkeys(LABEL_COLUMNS, "")
        row |= {"id": LABEL_IDS[raw], "raw_category": raw, "category": category}
        row |= {"count": 1, "nyu40id": nyu40id, "nyu40class": category}
        rows.append([str(row[name]) for name in LABEL_COLUMNS])
    table = "".join("\t".join(row) + "\n" for row in rows)
    write_text(root / "scannetv2-labels.combined.tsv", table)
    held_out = {scan.split("_")[0] for scan in val_ids}
    found = [path.name for path in listing(root / "scans", "scene*_*")]
    val = [scan for scan in found if scan.split("_")[0] in held_out]
    train = [scan for scan in found if scan.split("_")[0] not in held_out]
    for name, scans in (("train", train), ("val", val)):
        write_text(root / f"scannetv2_{name}.txt", "".join(f"{s}\n" for s in scans))


Size = tuple[int, int]  # width, height in pixels


def _cameras(
    room: Room, view: View, size: Size
) -> tuple[Size, np.ndarray, Size, np.ndarray]:
    """Colour and depth (width, height) and (3, 3) intrinsics.

    The depth camera sees ``DEPTH_WIDER_DEG`` more to the sides.
    """
    color = view_intrinsic(room, view, *size)
    depth_size = (size[0] // 2, size[1] // 2)
    fov_deg = 2 * math.degrees(math.atan(size[0] / 2 / color[0, 0]))
    depth = pinhole(*depth_size, round(fov_deg + DEPTH_WIDER_DEG, 6))
    return size, color, depth_size, depth


def _write_text_file(room: Room, view: View, size: Size, path: Path) -> None:
    (cw, ch), color, (dw, dh), depth = _cameras(room, view, size)
    values = {
        "axisAlignment": " ".join(f"{v:.9f}" for v in room.T_aligned_from_scan),
        "colorHeight": ch,
        "colorToDepthExtrinsics": " ".join(f"{v:.6f}" for v in np.eye(4).ravel()),
        "colorWidth": cw,
        "depthHeight": dh,
        "depthWidth": dw,
        "fx_color": f"{color[0, 0]:.6f}",
        "fx_depth": f"{depth[0, 0]:.6f}",
        "fy_color": f"{color[1, 1]:.6f}",
        "fy_depth": f"{depth[1, 1]:.6f}",
        "mx_color": f"{color[0, 2]:.6f}",
        "mx_depth": f"{depth[0, 2]:.6f}",
        "my_color": f"{color[1, 2]:.6f}",
        "my_depth": f"{depth[1, 2]:.6f}",
        "numColorFrames": view.frames,
        "numDepthFrames": view.frames,
        "numIMUmeasurements": 0,
        "sceneType": SCENE_TYPE,
    }
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()))


def _face(
    center: npt.ArrayLike,
    edges: npt.ArrayLike,
    yaw_rad: float,
    axis: int,
    sign: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """One face of a box as a grid: (n, 3) vertices and (t, 3) triangles."""
    size = np.asarray(edges)
    i, j = (k for k in range(3) if k != axis)
    ni, nj = (int(np.ceil(size[k] / VERTEX_SPACING_M)) + 1 for k in (i, j))
    local = np.empty((ni, nj, 3))  # box units, -1 .. 1
    local[..., axis] = sign
    local[..., i] = np.linspace(-1, 1, ni)[:, None]
    local[..., j] = np.linspace(-1, 1, nj)
    inwards = rng.uniform(0.2, 1.0, (ni, nj)) * ROUGHNESS_M
    inwards[np.ix_([0, -1], [0, -1])] = 0
    half = size / 2
    local *= np.maximum(half - inwards[..., None], 0.5 * half)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    vertices = local.reshape(-1, 3) @ rotation.T + np.asarray(center)
    at = np.arange(ni * nj).reshape(ni, nj)
    quads = [at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]]
    a, b, c, d = (corner.ravel() for corner in quads)
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    # (i, j, axis) is an even permutation except for axis 1.
    outwards = (sign > 0) == (axis != 1)
    return vertices, triangles if outwards else triangles[:, ::-1]


def _is_recorded(room: Room, box: LabelledBox, axis: int, sign: int) -> bool:
    """Whether a scanner in the room sees a face: ``axis`` and ``sign`` of its normal.

    It sees the upper side of the floor, the sides of walls that face the room, and all
    of the furniture but the lower side of what hides the floor.
    """
    center, size, label = box.center, box.size, box.label
    if label == FLOOR:
        return (axis, sign) == (2, 1)
    if label == WALL:
        normal = sign * np.eye(3)[axis]
        before = np.asarray(center) + normal * (np.asarray(size) / 2 + 0.01)
        return axis != 2 and bool(room.on_floor(before[:2])[0])
    return (axis, sign) != (2, -1) or not hides_floor(center, size)


def _without(
    hidden: np.ndarray, points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) vertices and (t, 3) triangles of a face less its hidden (n,) vertices."""
    number = np.cumsum(~hidden) - 1
    return points[~hidden], number[faces[~hidden[faces].any(axis=1)]]


def _covered(
    points: np.ndarray, yaw_rad: float, axis: int, sign: int, parts: list[LabelledBox]
) -> npt.NDArray[np.bool_]:
    """(n,) bool: which points of a face have a part of the same piece before them."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    T_world_from_piece = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    before = points @ T_world_from_piece
    before[:, axis] += sign * 2 * ROUGHNESS_M
    centers = np.array([part.center for part in parts]) @ T_world_from_piece
    half = np.array([part.size for part in parts]) / 2
    return np.asarray(
        (np.abs(before[:, None] - centers) < half).all(axis=2).any(axis=1)
    )


def _coloured(
    room: Room,
) -> tuple[list[LabelledBox], Callable[[int, np.ndarray], np.ndarray]]:
    """A room's boxes, and the colours (n, 3) of points on the box of a number."""
    if not room.style.detailed:
        plain = room_boxes(room)
        return plain, lambda number, points: np.tile(
            plain[number].rgb, (len(points), 1)
        )
    boxes, paint = room_paint(room, joined=False)

    def colours(number: int, points: np.ndarray) -> np.ndarray:
        same = np.full(len(points), number)
        return paint.colours(same, points, VERTEX_SPACING_M).clip(0, 1)

    return boxes, colours


def _write_mesh(room: Room, folder: Path) -> None:
    """Write the mesh, its segments (one per face) and their groups."""
    rng = np.random.default_rng([room.seed, 19])
    vertices, triangles, colors, segments = [], [], [], []
    owned: dict[int, list[int]] = {}
    total = 0
    boxes, colours = _coloured(room)
    hiding = [box[:3] for box in boxes if box.label >= 0 and hides_floor(*box[:2])]
    pieces: dict[int, list[LabelledBox]] = {}
    for box in boxes if room.style.detailed else ():
        if box.label >= 0:
            pieces.setdefault(box.label, []).append(box)
    for number, box in enumerate(boxes):
        center, size, yaw, _, label, _ = box
        for axis in range(3):
            for sign in (-1, 1):
                if label == FLOOR and (axis, sign) != (2, 1):
                    continue
                # Drawn for hidden faces too: they are no part of the roughness.
                points, faces = _face(center, size, yaw, axis, sign, rng)
                if not _is_recorded(room, box, axis, sign):
                    continue
                hidden = np.zeros(len(points), dtype=bool)
                if label == FLOOR:
                    for other in hiding:
                        hidden |= in_base(points[:, :2], *other)
                elif label in pieces:
                    hidden = _covered(points, yaw, axis, sign, pieces[label])
                points, faces = _without(hidden, points, faces)
                if not len(points):
                    continue
                vertices.append(points)
                triangles.append(faces + total)
                colors.append(255 * colours(number, points))
                # A segment's id is that of its first vertex.
                segments.append(np.full(len(points), total))
                owned.setdefault(label, []).append(total)
                total += len(points)
    T_scan_from_aligned = np.linalg.inv(_alignment(room))
    points = transform_points(T_scan_from_aligned, np.concatenate(vertices))
    vertex = np.zeros(total, [("xyz", "<f4", 3), ("rgba", "u1", 4)])
    vertex["xyz"] = points
    vertex["rgba"][:, :3] = np.concatenate(colors).round()
    vertex["rgba"][:, 3] = 255
    faces = np.concatenate(triangles)
    face = np.zeros(len(faces), [("n", "u1"), ("v", "<i4", 3)])
    face["n"], face["v"] = 3, faces
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {total}"]
    header += [f"property float {k}" for k in "xyz"]
    header += [f"property uchar {k}" for k in ("red", "green", "blue", "alpha")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header\n"])
    scan = room.scene_id
    with (folder / f"{scan}{MESH}").open("wb") as stream:
        stream.write(text.encode() + vertex.tobytes() + face.tobytes())

    indices = np.concatenate(segments).tolist()
    content: dict[str, Any] = {
        "params": {"kThresh": "0.0001", "segMinVerts": "20", "minPoints": "750"},
        "sceneId": scan,
        "segIndices": indices,
    }
    (folder / f"{scan}{SEGMENTS}").write_text(json.dumps(content))
    names = {piece.instance_id: piece.kind.raw_label for piece in room.furniture}
    groups = [
        {"id": number, "objectId": number, "segments": owned[label], "label": name}
        for label, number, name in _objects(names)
    ]
    content = {
        "sceneId": f"scannet.{scan}",
        "appId": "synthetic",
        "segGroups": groups,
        "segmentsFile": f"scannet.{scan}{SEGMENTS}",
    }
    (folder / f"{scan}{AGGREGATION}").write_text(json.dumps(content))


def _objects(names: dict[int, str]) -> list[tuple[int, int, str]]:
    """[(renderer's label, objectId, raw label)]: furniture first, then the shell."""
    free = max(names, default=-1) + 1
    shell = [(label, free + k, _SHELL[label][0]) for k, label in enumerate(_SHELL)]
    return [(number, number, name) for number, name in names.items()] + shell


def _alignment(room: Room) -> np.ndarray:
    return np.array(room.T_aligned_from_scan, dtype=np.float64).reshape(4, 4)


def _write_recording(room: Room, view: View, size: Size, folder: Path) -> None:
    """Write ``.sens`` and the two 2-D archives in one pass over the frames."""
    scan, renderer = room.scene_id, Renderer(room)
    (cw, ch), color_K, (dw, dh), depth_K = _cameras(room, view, size)
    names = {piece.instance_id: piece.kind.raw_label for piece in room.furniture}
    # The renderer's labels start at NOTHING = -3: 3 is added for the look-up tables.
    instance_of = np.zeros(max(names, default=-1) + 4, dtype=np.uint8)
    class_of = np.zeros(len(instance_of), dtype=np.uint16)
    for label, number, name in _objects(names):
        instance_of[label + 3] = number + 1
        class_of[label + 3] = LABEL_IDS[name]
    T_aligned_from_camera = view_poses(room, view)
    T_scan_from_aligned = np.linalg.inv(_alignment(room))
    rng = np.random.default_rng([room.seed, sum(map(ord, view.name)), 23])
    lost_count = max(1, round(LOST_POSES * view.frames))
    lost = set(rng.choice(view.frames, lost_count, replace=False).tolist())

    def render(index: int) -> tuple[bytes, bytes, bytes, bytes]:
        pose = T_aligned_from_camera[index]
        rgb, _, labels = renderer.render(pose, color_K, cw, ch)
        depth, _ = renderer.measure(pose, depth_K, dw, dh)
        millimetres = (depth * DEPTH_SHIFT).round().clip(0, 65535).astype("<u2")
        # ScanNet projects the mesh into these images: without a pose they are empty.
        labels = np.full_like(labels, -3) if index in lost else labels
        return (
            _encode(".jpg", rgb[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, 95),
            zlib.compress(millimetres.tobytes(), 1),
            _encode(".png", instance_of[labels + 3], cv2.IMWRITE_PNG_COMPRESSION, 1),
            _encode(".png", class_of[labels + 3], cv2.IMWRITE_PNG_COMPRESSION, 1),
        )

    sensor = b"Synthetic"
    header = OPENING.pack(VERSION, len(sensor)) + sensor
    matrices = [_square(color_K), np.eye(4), _square(depth_K), np.eye(4)]
    header += HEADER.pack(
        *np.concatenate(matrices).ravel(),
        COLOR_JPEG,
        DEPTH_ZLIB,
        cw,
        ch,
        dw,
        dh,
        DEPTH_SHIFT,
        view.frames,
    )
    with (
        (folder / f"{scan}.sens").open("wb") as sens,
        zipfile.ZipFile(folder / f"{scan}{INSTANCES_2D}", "w") as instances,
        zipfile.ZipFile(folder / f"{scan}_2d-label-filt.zip", "w") as classes,
        ThreadPoolExecutor(2) as pool,
    ):
        sens.write(header)
        for index, (jpeg, depth, instance_png, class_png) in enumerate(
            pool.map(render, range(view.frames))
        ):
            pose = T_scan_from_aligned @ T_aligned_from_camera[index]
            pose = np.full((4, 4), -np.inf) if index in lost else pose
            time_us = round(index * 1e6 / FPS)
            sens.write(
                FRAME.pack(*pose.ravel(), time_us, time_us, len(jpeg), len(depth))
            )
            sens.write(jpeg + depth)
            for archive, name, data in (
                (instances, f"instance-filt/{index}.png", instance_png),
                (classes, f"label-filt/{index}.png", class_png),
            ):
                # With a fixed date the bytes depend on the seed only.
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
        sens.write((0).to_bytes(8, "little"))  # inertial measurements


def _square(K: np.ndarray) -> np.ndarray:
    """(4, 4) form of a (3, 3) intrinsic."""
    matrix = np.eye(4)
    matrix[:3, :3] = K
    return matrix


def _encode(suffix: str, image: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(image), options)
    if not done:
        raise SpacerError(
            f"cannot encode an image as {suffix}",
            kind="rooms.unencodable",
            got=f"{image.dtype} {image.shape}",
        )
    return data.tobytes()
