# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Parse a ScanNet scan
#
# ← [00 · One question](00_one_question.ipynb) · [02 · Rasterize](02_rasterize_maps.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`rooms`](../spacer_lib/rooms)
#
# **What you'll do.** Open a scan folder file by file, and turn it into one `Scene` (boxes, floor, room size, first-seen frames) and one video.
#
# **What you'll learn.**
# - read ScanNet's files: colour, depth, poses, mesh, segments, instance images;
# - transform points from the scan frame to the aligned frame;
# - compute a room's size, by two published rules;
# - find the fault of a broken scan from the error message.
#
# **What you'll need.** No earlier notebook and no download: synthetic rooms are written in ScanNet's file formats. One CPU core, under a minute, 1 GB of memory. For real scans, accept ScanNet's terms of use and give their folder as `scans_dir`, or a published metadata file as `meta_file`. Copies of ScanNet with exported frames, or without a recording, work too; cells that need what is absent say so.
#
# SpaceR §3 (Data Collection).

# %% tags=["parameters"]
scans_dir: str = ""  # ScanNet's scans/, one folder per scan; "": synthetic rooms
labels: str = ""  # scannetv2-labels.combined.tsv; "": beside scans_dir
meta_file: str = ""  # published metadata to look at; "": $SPACER_REAL_META, if set
out_dir: str = ""  # videos and scenes; relative to the project; "": data/demo
workers: int = 1  # processes that parse
seed: int = 0  # of the synthetic rooms

# %%
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from spacer_lib.artifacts import PROJECT_ROOT, provenance
from spacer_lib.errors import SpacerError

# %%
from spacer_lib.pictures import room_plots, room_views
from spacer_lib.pictures.style import FAINT, PALETTE, use_house_style
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.geometry import transform_points
from spacer_lib.rooms.layouts import find_scans
from spacer_lib.rooms.scannet import parse
from spacer_lib.rooms.scannet.frames2d import read_instance_frames
from spacer_lib.rooms.scans import (
    LABELS,
    parse_scans,
    read_scenes,
    synthetic_ids,
    synthetic_scans,
)
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.video import (
    frame_times_path,
    probe,
    read_frame_times,
    read_frames,
)

# %%
use_house_style()
if not scans_dir:
    os.environ["TQDM_DISABLE"] = "1"  # no progress bars: the demo is short
out = PROJECT_ROOT / (out_dir or "data/demo")
{"device": "cpu", **provenance()}

# %% [markdown]
# ## The files of a scan
#
# Without `scans_dir`, six furnished rooms are written in ScanNet's formats. The last one is a second scan of the first room. All code below treats them as real scans.

# %% tags=["nbval-check-output"]
if scans_dir:
    root = PROJECT_ROOT / scans_dir
    scan_dirs = [path for _, path in sorted(find_scans(root).items())]
    label_tsv = PROJECT_ROOT / labels if labels else root.parent / LABELS
else:
    scan_dirs, label_tsv = synthetic_scans(out / f"raw_seed{seed}", seed=seed)
[folder.name for folder in scan_dirs]

# %%
scan_dir = scan_dirs[0]
scan = scan_dir.name
sizes = {}
for path in scan_dir.iterdir():  # exported frames are folders of files
    files = path.rglob("*") if path.is_dir() else [path]
    sizes[path.name.removeprefix(scan)] = sum(file.stat().st_size for file in files)
figure, ax = plt.subplots(figsize=(6.4, 2.2))
names = sorted(sizes, key=sizes.get)
ax.barh(names, [sizes[name] / 1e3 for name in names])
_ = ax.set(xscale="log", xlabel="size (kB)", title=f"{scan}/{scan}…")

# %% [markdown]
# ## `.sens`: the recording
#
# A recording is a sequence of frames: a JPEG, a compressed depth image and a camera pose. It is read frame by frame, so memory does not grow with its length. Frames that were exported into folders (`color/`, `depth/`, `pose/`) are read in the same way.

# %% tags=["nbval-check-output"]
recording = parse.open_recording(scan_dir)
some, poses, depth_m = [], [], None
if recording is None:
    print(f"{scan} has no recording: cells that need one are skipped")
else:
    with recording as frames:
        poses = [T for _, T in frames.poses()]
        wanted = {int(k) for k in np.linspace(0, len(poses) - 1, 4)}
        some = [frame for frame in frames if frame.index in wanted]
        depth_m = some[0].depth_m() if frames.has_depth else None
    print(f"{len(poses)} frames, {recording.fps:g} a second of video")


# %%
def decoded(jpeg):
    """JPEG bytes → (h, w, 3) RGB."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


# %% tags=["nbval-check-output"]
if some:
    figure, axes = plt.subplots(1, len(some), figsize=(9, 2), squeeze=False)
    titles = [f"frame {frame.index}" for frame in some]
    room_plots.frames_strip([decoded(f.jpeg) for f in some], axes[0], titles)

# %% [markdown]
# Depth is the distance along the optical axis, stored as an integer, 1000 per metre; 0 means no reading. Depth and colour images differ in size and field of view.

# %% tags=["nbval-check-output"]
if depth_m is not None:
    figure, ax = plt.subplots(figsize=(4.2, 2.6))
    shown = ax.imshow(np.where(depth_m > 0, depth_m, np.nan), cmap="viridis")
    figure.colorbar(shown, label="depth (m)")
    ax.set(title=f"depth of frame 0, {(depth_m > 0).mean():.0%} valid")
    ax.set_axis_off()

# %% [markdown]
# ## `.txt`: the alignment
#
# The origin of the scan frame is where the recording started. `axisAlignment` is a rigid transform,
#
# $$p_\text{aligned} = R\,p_\text{scan} + t,$$
#
# that moves the floor near $z = 0$ and turns the walls along $x$ and $y$. Floor rectangles and maps are computed in the aligned frame.

# %% tags=["nbval-check-output"]
T_aligned_from_scan = parse.read_alignment(scan_dir)
if T_aligned_from_scan is None:
    T_aligned_from_scan = np.eye(4)
pd.DataFrame(T_aligned_from_scan).round(3)

# %% tags=["nbval-check-output"]
vertices, colors = parse.read_vertices(scan_dir)
aligned = transform_points(T_aligned_from_scan, vertices)  # (n, 3) metres
print(f"{len(vertices)} vertices, height {np.ptp(aligned[:, 2]):.2f} m")

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4))
chosen = np.random.default_rng(0).choice(len(vertices), min(len(vertices), 4_000))
pairs = {"scan": vertices, "aligned": aligned}
for ax, (name, points) in zip(axes, pairs.items(), strict=True):
    room_plots.cloud_from_above(points[chosen], colors[chosen] / 255, ax)
    ax.set(title=f"{name} frame")

# %% [markdown]
# **What to notice.** The same mesh, turned. In the scan frame the cells of a 10 × 10 map would lie diagonally in the room.
#
# ## Poses, and frames without one
#
# Where tracking was lost, the stored pose is $-\infty$ and the reader returns `None`. The frame stays in the video, so that frame numbers keep their meaning.

# %% tags=["nbval-check-output"]
known = [k for k, T in enumerate(poses) if T is not None]
lost = [k for k, T in enumerate(poses) if T is None]
path = np.array([T_aligned_from_scan @ poses[k] for k in known])
print(f"{len(lost)} of {len(poses)} frames without a pose: {lost[:10]}")

# %% tags=["nbval-check-output"]
if len(path):
    gap = [np.searchsorted(known, k).clip(0, len(path) - 1) for k in lost]
    figure, ax = plt.subplots(figsize=(4.8, 3.6))
    room_plots.camera_path(path, ax)
    ax.plot(*path[gap, :2, 3].T, "x", color=PALETTE[5], label="pose lost here")
    ax.legend()

# %% [markdown]
# ## Segments, groups and instance images
#
# The annotation has two steps: each vertex belongs to a segment (`.segs.json`), and each object is a list of segments (`.aggregation.json`). The 2-D archive has the objects in each frame: a pixel's value is the object id + 1; 0 means no object.

# %% tags=["nbval-check-output"]
groups = parse.read_groups(scan_dir, len(vertices))
pd.DataFrame(
    [{"id": g.object_id, "label": g.label, "vertices": len(g.vertices)} for g in groups]
).set_index("id")

# %% tags=["nbval-check-output"]
archive = scan_dir / f"{scan}{parse.INSTANCES_2D}"
if archive.exists():
    _, image = next(read_instance_frames(archive))
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.2))
    color = decoded(some[0].jpeg) if some else np.zeros_like(image)
    room_plots.frames_strip([color], axes[:1], ["colour, frame 0"])
    axes[1].imshow(np.where(image > 0, image, np.nan), cmap="tab20", vmin=0, vmax=20)
    axes[1].set(title="instances, frame 0")
    axes[1].set_axis_off()
else:
    print(f"{scan} has no instance images")

# %% [markdown]
# ## From files to a `Scene`
#
# One call makes boxes, floor, room size, first-seen frames and a 24 fps video of every scan. It keeps a manifest, so a second run only reads the results.

# %%
scenes = parse_scans(scan_dirs, label_tsv, out, workers=workers)
again = parse_scans(scan_dirs, label_tsv, out)
assert scenes == again
scene = scenes[0]
print(scene.provenance["groups"]["note"])

# %% tags=["nbval-check-output"]
pd.DataFrame(
    [
        {"scan": s.scene_id, "objects": len(s.instances), "frames": s.frame_count,
         "room_m2": round(s.room_size_m2, 1), "warnings": len(s.warnings)}
        for s in again
    ]
)

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(5.4, 4))
room_plots.floor_plan(scene, ax)
_ = ax.set(title=f"{scene.scene_id}: {len(scene.instances)} oriented boxes")

# %% [markdown]
# Each box is the smallest one around the object's vertices. Its longest edge answers "how long is …". Walls and floor are structural: no question asks about them. The note above counts every annotated group.
#
# The same boxes in three dimensions, as a picture and, in JupyterLab, to turn: drag the room. The slider shows frames of the video and where each was filmed. A click on a name in the key hides its boxes.

# %% tags=["nbval-check-output"]
figure = plt.figure(figsize=(7, 5))
ax = figure.add_subplot(projection="3d")
few = chosen[::2]
room_plots.room_3d(scene, aligned[few], colors[few] / 255, ax)
_ = ax.view_init(elev=38, azim=-60)

# %%
shots, numbers = (), ()
if scene.video_path:
    shots, numbers, *_ = read_frames(out / scene.video_path, 8)
view = room_views.room_scene(scene, aligned, colors, shots, numbers)
room_views.show_room(view)

# %% [markdown]
# A scene stores two boxes per object: the oriented one, for questions about sizes and distances, and the axis-aligned one. They differ for objects that are turned:

# %% tags=["nbval-check-output"]
pd.DataFrame(
    {
        "category": [i.category for i in scene.instances],
        "oriented (m)": [max(i.axes_lengths_m) for i in scene.instances],
        "aligned (m)": [
            max(np.subtract(i.aabb_max_m, i.aabb_min_m)) for i in scene.instances
        ],
        "vertices": [i.vertex_count for i in scene.instances],
    }
).round(2)

# %% [markdown]
# ## Room size by alpha shape
#
# Which area do the mesh's vertices cover, seen from above? They are triangulated, and the triangles with a small circumscribed circle are kept:
#
# $$A = \sum_{\triangle:\ r_\triangle < \alpha} \operatorname{area}(\triangle)$$
#
# A convex hull would fill the recesses of the room. With a very small α, holes remain. Two rules differ in the vertices that count, in α, and in the holes:
#
# | rule | vertices | α | holes | recipes |
# |---|---|---|---|---|
# | `vsi-bench` | all | 0.2 m | filled | `vsibench`, `vsi100k`, `demo` |
# | `spatial-r1` | up to 0.2 m above the floor | 0.5 m | left out | `sr`, `sr91k` |
#
# VSI-Bench's authors have published their rule. Of Spatial-R1's, only the method is published; height and α are this project's. Vertices that are labelled as floor would not do: furniture hides the floor below it.

# %%
from_above = {"labelled as floor": np.zeros((0, 2))}
labelled = [g.vertices for g in groups if g.label == "floor"]
if labelled:
    from_above["labelled as floor"] = aligned[np.concatenate(labelled), :2]
from_above |= {name: rule.points_xy(aligned) for name, rule in AREA_RULES.items()}

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), sharex=True, sharey=True)
for ax, (name, points) in zip(axes, from_above.items(), strict=True):
    if name in AREA_RULES:
        room_plots.room_area(aligned, ax, name)
    few = np.random.default_rng(0).permutation(points)[:2000]
    ax.plot(*few.T, ".", ms=1, color=PALETTE[0])
    area = scene.room_areas_m2.get(name)
    ax.set(title=name + (f": {area:.1f} m²" if area else ""), aspect="equal")
    ax.set(xlabel="x (m)", ylabel="")
_ = axes[0].set(ylabel="y (m)")

# %% tags=["nbval-check-output"]
true_m2 = None
if not scans_dir:  # the last scan is a second one of the first room
    room_seed, _ = synthetic_ids(len(scan_dirs), seed)[0]
    true_m2 = draw_room(room_seed).floor_area_m2
figure, ax = plt.subplots(figsize=(6.4, 3.2))
_ = room_plots.area_by_alpha(aligned, ax, true_m2)

# %% [markdown]
# **What to notice.** The benchmark's curve is flat: if α is larger than the spacing of the vertices, the area hardly depends on it. With a large α the recess of an L-shaped room is filled. Spatial-R1's rule leaves out what furniture hides, until α is wider than the furniture. A model that learned from one rule is wrong by the other, so each question recipe names its rule (`room_area`), and a scene stores both areas.
#
# ## First-seen frames
#
# An object's first-seen frame is the first one in which it covers 0.1 % of the image. Without instance images, rays of the picture are followed to the depth image's surface: the nearest vertex of the mesh tells whose pixel it is. This is done for the kept frames, two a second and those that a model is shown.

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(6.4, 2.8))
_ = room_plots.first_seen_bars(scene, ax)

# %% tags=["nbval-check-output"]
with tempfile.TemporaryDirectory() as folder:
    copy = shutil.copytree(scan_dir, Path(folder) / scan)
    (copy / f"{scan}{parse.INSTANCES_2D}").unlink(missing_ok=True)
    projected = parse.parse_scene(copy, label_tsv)
print(projected.warnings[-1])

# %%
frames_of = {i.instance_id: i.first_seen_frame for i in projected.instances}
pairs = [(i.first_seen_frame, frames_of[i.instance_id]) for i in scene.instances]
both = np.array([pair for pair in pairs if None not in pair])
if len(both):
    figure, ax = plt.subplots(figsize=(3.4, 3.2))
    ax.plot([0, scene.frame_count], [0, scene.frame_count], color=FAINT)
    ax.plot(*both.T, "o")
    how = scene.provenance["first_seen"]
    ax.set(xlabel=f"frame by {how}", ylabel="frame by projection")

# %% [markdown]
# **What to notice.** Two independent methods mostly give the same frame. Points above the line are large objects whose corner appears first: enough pixels, but less than a tenth of the vertices. The frame depends on a threshold, so questions about order leave out objects that appear nearly together (notebook 03).

# %% [markdown]
# ## The video
#
# The stored JPEGs are encoded as H.264 at 24 fps, the rate in the paper. The number of frames is then checked by reading the file.

# %% tags=["nbval-check-output"]
if scene.video_path:
    video_frames, indices, *_ = read_frames(out / scene.video_path, 4)
    figure, axes = plt.subplots(1, 4, figsize=(9, 2))
    room_plots.frames_strip(video_frames, axes, [f"frame {i}" for i in indices])
probe(out / scene.video_path) if scene.video_path else "no recording, no video"

# %% [markdown]
# A table of frames is written with each video: time in the video, time stamps of the recording, and whether the frame has a pose.

# %% tags=["nbval-check-output"]
table = frame_times_path(out / scene.video_path) if scene.video_path else None
pd.DataFrame(read_frame_times(table)[:4] if table else [])

# %% [markdown]
# ## Old releases
#
# Some copies of ScanNet have only a mesh and its annotation: no recording, no `axisAlignment`. They can be parsed, and warnings say what is missing.

# %%
with tempfile.TemporaryDirectory() as folder:
    copy = Path(folder) / scan
    copy.mkdir()
    for suffix in (parse.MESH, parse.SEGMENTS, parse.AGGREGATION):
        shutil.copy(scan_dir / f"{scan}{suffix}", copy)
    old = parse.parse_scene(copy, label_tsv)
print(old.provenance["groups"]["note"], *old.warnings, sep="\n")

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for ax, room, title in zip(axes, (scene, old), ("aligned", "as scanned"), strict=True):
    _ = room_plots.floor_plan(room, ax).set(title=title)

# %% [markdown]
# ## Published metadata
#
# VSI-Bench publishes metadata of rooms from ScanNet, ScanNet++ and ARKitScenes. It is read into the same class `Scene`. Give it as `meta_file`, or in `SPACER_REAL_META`.

# %%
meta_path = meta_file or os.environ.get("SPACER_REAL_META", "")
published = read_scenes(PROJECT_ROOT / meta_path) if meta_path else []
if published:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    for ax, room in zip(axes, published, strict=False):
        room_plots.floor_plan(room, ax).set(title=room.scene_id)
    print(f"{len(published)} rooms; {published[0].warnings}")
else:
    print("Skipped: no metadata file is named, and real data are not shipped.")


# %% [markdown]
# ## Failure cases
#
# Two broken scans: one without its aggregation, one with a truncated file. The error says what was found, what was expected and what to do. Scans that were parsed before are kept.

# %%
def complaint(damage):
    """Damage a copy of the scan; return what parsing says, without its folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(scan_dir, Path(folder) / scan)
        damage(copy)
        try:
            parse_scans([copy], label_tsv, Path(folder) / "out")
        except SpacerError as error:
            return str(error).replace(f"{folder}/", "")


# %% tags=["nbval-check-output"]
print(complaint(lambda copy: (copy / f"{scan}{parse.AGGREGATION}").unlink()))


# %%
def truncate(copy):
    """Keep the first 60 % of the recording; of the mesh, if there is none."""
    path = copy / f"{scan}.sens"
    path = path if path.exists() else copy / f"{scan}{parse.MESH}"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 6 // 10)


print(complaint(truncate))

# %% [markdown]
# ## In practice
#
# With ScanNet on disk (`scans/<id>/…` and `scannetv2-labels.combined.tsv`), look at some scans here, then parse all of them from the command line, on one machine or a Dask cluster:
#
# ```bash
# cd notebooks
# papermill 01_parse_scannet.ipynb ../papermill_runs/01_parse_scannet__scannet.ipynb \
#     -p scans_dir data/scannet/scans -p labels data/scannet/scannetv2-labels.combined.tsv \
#     -p out_dir data/parsed
# spacer parse data/scannet/scans --labels data/scannet/scannetv2-labels.combined.tsv \
#     --out data/parsed --workers 16
# ```
#
# - **Interrupted?** Run it again: finished scans are recognised by the sizes and times of their files.
# - **A broken scan** does not stop the others. All scans that failed are named at the end.
# - **No instance images?** First-seen frames are found by projection, and the scene has a warning.
# - **Another data set?** Folders of ScanNet++ and ARKitScenes are parsed by the same command; others are refused by name.
# - **No axisAlignment?** The scan's own axes are kept, and the scene has a warning. Maps of such scenes are turned.
# - **Demo and ScanNet.** The demo's videos last four seconds, real ones a minute or more.
#
# ## Summary
#
# A scan has an annotated mesh, a recording with poses, and a transform to the aligned frame. Parsing turns it into a `Scene`, from which all questions are made.
#
# ## Exercises
#
# 1. Replace the alignment by the identity. By how much does the floor rectangle grow, and does the room size change?
# 2. Raise the visibility threshold to 1 %. Which objects are seen later?
# 3. Truncate the recording at other lengths. Which different messages are there?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §3.
# - ScanNet: https://github.com/ScanNet/ScanNet
# - Alpha shapes: https://en.wikipedia.org/wiki/Alpha_shape
#
# ## Quiz
#
# <details><summary>1. Why are floor rectangles computed in the aligned frame?</summary>
#
# There the walls run along the axes. In the scan frame a rectangle around a turned room is too large, and map cells lie diagonally.
#
# </details>
#
# <details><summary>2. A frame has no pose. Is it left out of the video?</summary>
#
# No. Frame numbers would lose their meaning. Only its pose is `None`.
#
# </details>
#
# <details><summary>3. Why do two published rules give one room two areas?</summary>
#
# They count other vertices (all, or those near the floor), another α, and holes or not. A question recipe names its rule.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# The rectangle of a turned room is larger than the room's own. The area stays the same up to rounding under `vsi-bench`: an alpha shape turns with its points.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
rule = AREA_RULES["vsi-bench"]
for name, points in {"aligned": aligned, "as scanned": vertices}.items():
    rectangle = np.prod(np.ptp(points[:, :2], axis=0))
    print(f"{name:10} rectangle {rectangle:.1f} m², area {rule.area_m2(points):.1f} m²")

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# The higher the share, the later the frame. Small and far objects change most; an object that never fills 1 % has no frame any more, and no order question names it.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
first = {0.001: {}, 0.01: {}}
for index, image in read_instance_frames(archive) if archive.exists() else ():
    ids, counts = np.unique(image[image > 0], return_counts=True)
    for share, seen in first.items():
        for number in ids[counts >= share * image.size]:
            seen.setdefault(int(number) - 1, index)
for thing in scene.instances:
    low, high = (seen.get(thing.instance_id) for seen in first.values())
    if low != high:
        print(f"{thing.category:14} 0.1 %: frame {low}, 1 %: {high}")


# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Where the file ends decides what the reader was reading: its header, or one of its frames. Each message names the place.
#
# </details>

# %% tags=["solution", "hide-cell"]
def cut(copy, share):
    """Keep a share of the recording; of the mesh, if there is none."""
    path = copy / f"{scan}.sens"
    path = path if path.exists() else copy / f"{scan}{parse.MESH}"
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * share))


for share in (0.0, 0.00001, 0.3):
    print(complaint(lambda copy, share=share: cut(copy, share)))

# %% [markdown]
# The next page turns a scene into a grid that a model can write.
#
# ← [00 · One question](00_one_question.ipynb) · [02 · Rasterize](02_rasterize_maps.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
