"""One synthetic scan in the layouts of other data sets, with a known truth.

Each writer starts from a scan that ``rooms.synthetic.write`` wrote in ScanNet's layout
and takes boxes and poses from there. Formats are those of the data sets' public tools;
nothing here calls the readers under test.
"""

import json
import struct
import zipfile

import cv2
import numpy as np
import plyfile
import pyarrow

from spacer_lib.rooms.geometry import transform_points
from spacer_lib.rooms.scannet.parse import read_alignment, read_groups, read_vertices
from spacer_lib.rooms.scannet.sens import SensReader
from spacer_lib.rooms.video import encode_jpegs

# ARKitScenes: the world is turned about +z, and its floor is not at z = 0.
YAW_DEG, SHIFT_M = 25.0, (1.0, 2.0, -1.2)
START_S, ARKIT_FPS = 6845.706, 10.0
IPHONE_FPS = 60.0
IPHONE_SIZE = (320, 240)


def frames_of(scan):
    """Recording of a ScanNet scan: its frames and the (3, 3) depth intrinsics."""
    with SensReader(scan / f"{scan.name}.sens") as recording:
        return list(recording), recording.depth_intrinsic[:3, :3]


def millimetres(frame):
    return (frame.depth_m() * 1000).round().astype(np.uint16)


def picture(frame, size):
    """A frame's colours as BGR of another size."""
    image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_matrix(path, matrix):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(f"{v:.9g}" for v in row) for row in matrix))


def export_frames(scan, folder, *, step=1, drop=(), digits=0):
    """ScanNet's exported folders of every ``step``-th frame; ``drop`` are missing."""
    frames, K = frames_of(scan)
    square = np.eye(4)
    square[:3, :3] = K
    for kind in ("color", "depth"):
        write_matrix(folder / "intrinsic" / f"intrinsic_{kind}.txt", square)
        write_matrix(folder / "intrinsic" / f"extrinsic_{kind}.txt", np.eye(4))
        (folder / kind).mkdir()
    lost = np.full((4, 4), -np.inf)
    for frame in frames[::step]:
        if frame.index in drop:
            continue
        name = str(frame.index).zfill(digits)
        (folder / "color" / f"{name}.jpg").write_bytes(frame.jpeg)
        cv2.imwrite(str(folder / "depth" / f"{name}.png"), millimetres(frame))
        pose = frame.T_scan_from_camera
        write_matrix(folder / "pose" / f"{name}.txt", lost if pose is None else pose)


def leave_leftovers(folder):
    """What macOS, Windows and a network disk leave in folders."""
    (folder / "__MACOSX").mkdir()
    (folder / "@eaDir").mkdir()
    for name in (".DS_Store", "Thumbs.db", f"._{folder.name}"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")


def write_ply(path, points, *, faces=((0, 1, 2),), text=False, order="<", colors=True):
    """A mesh with faces of any number of corners."""
    names = ("red", "green", "blue")
    vertex = np.zeros(
        len(points),
        [(k, "f4") for k in "xyz"] + [(k, "u1") for k in names if colors],
    )
    for axis, name in enumerate("xyz"):
        vertex[name] = points[:, axis]
    face = np.empty(len(faces), dtype=[("vertex_indices", "O")])
    face["vertex_indices"] = [np.array(corners, "i4") for corners in faces]
    elements = [plyfile.PlyElement.describe(vertex, "vertex")]
    elements.append(
        plyfile.PlyElement.describe(
            face,
            "face",
            len_types={"vertex_indices": "u1"},
            val_types={"vertex_indices": "i4"},
        )
    )
    plyfile.PlyData(elements, text=text, byte_order=order).write(str(path))


def boxes_of(truth):
    """``{instance id: annotated box}`` of a scene, as the data sets write boxes."""
    return {
        i.instance_id: {
            "centroid": list(i.centroid_m),
            "axesLengths": list(i.axes_lengths_m),
            "normalizedAxes": list(i.axes),
        }
        for i in truth.instances
    }


def write_scannetpp(scan, truth, root, scene_id, *, extension="mp4"):
    """``data/<id>`` of ScanNet++. ``truth``: the scene of the scan."""
    folder = root / "data" / scene_id
    (folder / "scans").mkdir(parents=True)
    (folder / "iphone").mkdir()
    T = read_alignment(scan)
    vertices, _ = read_vertices(scan)
    points = transform_points(T, vertices)
    write_ply(folder / "scans" / "mesh_aligned_0.05.ply", points)
    boxes = boxes_of(truth)
    # As in the data set, a segment is a vertex.
    segments = {"segIndices": list(range(len(points)))}
    (folder / "scans" / "segments.json").write_text(json.dumps(segments))
    groups = [
        {
            "id": g.object_id,
            "objectId": g.object_id,
            "label": {"couch": "sofa"}.get(g.label, g.label),
            "segments": g.vertices.tolist(),
            **({"obb": boxes[g.object_id]} if g.object_id in boxes else {}),
        }
        for g in read_groups(scan, len(points))
    ]
    content = {"sceneId": scene_id, "segGroups": groups}
    (folder / "scans" / "segments_anno.json").write_text(json.dumps(content))

    frames, K = frames_of(scan)
    width, height = IPHONE_SIZE
    scale = np.diag([width / 256, height / 192, 1.0])
    entries, depth = {}, b""
    for frame in frames:
        entry = {
            "timestamp": 100 + frame.index / IPHONE_FPS,
            "intrinsic": (scale @ K).tolist(),
            "pose": np.eye(4).tolist(),  # in the phone's own frame: not used
        }
        if frame.T_scan_from_camera is not None:
            entry["aligned_pose"] = (T @ frame.T_scan_from_camera).tolist()
        entries[f"frame_{frame.index:06d}"] = entry
        packed = pyarrow.compress(
            millimetres(frame).tobytes(), codec="lz4_raw", asbytes=True
        )
        depth += struct.pack("<I", len(packed)) + packed
    (folder / "iphone" / "pose_intrinsic_imu.json").write_text(json.dumps(entries))
    (folder / "iphone" / "depth.bin").write_bytes(depth)
    jpegs = (cv2.imencode(".jpg", picture(f, IPHONE_SIZE))[1].tobytes() for f in frames)
    encode_jpegs(jpegs, folder / "iphone" / "rgb.mp4", IPHONE_FPS)
    (folder / "iphone" / "rgb.mp4").rename(folder / "iphone" / f"rgb.{extension}")
    return folder


def arkit_world():
    """(4, 4) T_world_from_aligned of ``write_arkitscenes``."""
    c, s = np.cos(np.radians(YAW_DEG)), np.sin(np.radians(YAW_DEG))
    T = np.eye(4)
    T[:2, :2] = [[c, -s], [s, c]]
    T[:3, 3] = SHIFT_M
    return T


def write_arkitscenes(scan, truth, root, video_id, *, raw=False):
    """``Training/<video id>`` of ARKitScenes. ``truth``: the scene of the scan."""
    folder = root / "Training" / video_id
    inner = folder if raw else folder / f"{video_id}_frames"
    for name in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics"):
        (inner / name).mkdir(parents=True)
    T_world_from_aligned, T = arkit_world(), read_alignment(scan)
    vertices, _ = read_vertices(scan)
    points = transform_points(T_world_from_aligned @ T, vertices)
    write_ply(folder / f"{video_id}_3dod_mesh.ply", points)
    R, shift = T_world_from_aligned[:3, :3], T_world_from_aligned[:3, 3]
    data = []
    for i in truth.instances:
        box = {
            "centroid": (R @ i.centroid_m + shift).tolist(),
            "axesLengths": list(i.axes_lengths_m),
            # Rows are axes: each is turned by R.
            "normalizedAxes": (R @ i.axes_matrix.T).T.ravel().tolist(),
        }
        label = {"sofa": "sofa", "nightstand": "cabinet"}.get(i.category, i.category)
        entry = {"uid": f"u{i.instance_id}", "label": label}
        data.append(entry | {"segments": {"obbAligned": box, "obb": {}}})
    content = {"data": data, "skipped": False, "stats": {}, "comment": ""}
    (folder / f"{video_id}_3dod_annotation.json").write_text(json.dumps(content))

    frames, K = frames_of(scan)
    lines = []
    for frame in frames:
        time = START_S + frame.index / ARKIT_FPS
        name = f"{video_id}_{time:.3f}"
        cv2.imwrite(
            str(inner / "lowres_wide" / f"{name}.png"), picture(frame, (256, 192))
        )
        cv2.imwrite(str(inner / "lowres_depth" / f"{name}.png"), millimetres(frame))
        # The time of the intrinsics is off by a millisecond, as in the data set.
        camera = (
            inner / "lowres_wide_intrinsics" / f"{video_id}_{time + 0.001:.3f}.pincam"
        )
        camera.write_text(f"256 192 {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n")
        if frame.T_scan_from_camera is None:
            continue
        T_world_from_camera = T_world_from_aligned @ T @ frame.T_scan_from_camera
        T_camera_from_world = np.linalg.inv(T_world_from_camera)
        axis_angle, _ = cv2.Rodrigues(T_camera_from_world[:3, :3])
        numbers = (time + 0.0004, *axis_angle.ravel(), *T_camera_from_world[:3, 3])
        lines.append(" ".join(f"{v:.9f}" for v in numbers))
    (inner / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
    return folder


def keep_images(path, numbers):
    """Keep only some frames of an archive of instance images."""
    with zipfile.ZipFile(path) as archive:
        images = {n: archive.read(f"instance-filt/{n}.png") for n in numbers}
    with zipfile.ZipFile(path, "w") as archive:
        for n, data in images.items():
            archive.writestr(f"instance-filt/{n}.png", data)
