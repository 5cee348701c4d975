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
# **What you'll do.** Open a scan folder file by file, and turn it into one `Scene` (boxes, floor, room size, first appearances) and one video.
#
# **What you'll learn.**
# - read what ScanNet stores: colour, depth, poses, mesh, segments, instance images;
# - move points from the scan's frame into the aligned one;
# - estimate a room's size from its floor;
# - recognise a broken scan by its message.
#
# **What you'll need.** No earlier notebook and no download: rooms are made in ScanNet's own file layout. One CPU core, under a minute, 1 GB of memory. Real scans need ScanNet's terms of use; give their folder as `scans_dir`.
#
# SpaceR §3 (Data Collection).

# %% tags=["parameters"]
scans_dir: str = ""  # the folder that holds scans/ and the label table; "": demo
out_dir: str = ""  # videos and scenes; relative to the project; "": data/demo
seed: int = 0  # of the demo's rooms

# %%
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

# %%
from spacer_lib import plots
from spacer_lib.artifacts import PROJECT_ROOT, provenance
from spacer_lib.errors import SpacerError
from spacer_lib.geometry import alpha_shape_area_m2, transform_points
from spacer_lib.qa.build import LABELS, demo_scans, parse_scans
from spacer_lib.scannet import parse
from spacer_lib.scannet.frames2d import read_instance_frames
from spacer_lib.scannet.sens import SensReader
from spacer_lib.video import probe, read_frames

# %%
plots.use_house_style()
if not scans_dir:
    os.environ["TQDM_DISABLE"] = "1"  # the demo is too quick for progress bars
out = PROJECT_ROOT / (out_dir or "data/demo")
{"device": "cpu", **provenance()}

# %% [markdown]
# ## What lies in a scan folder
#
# With no `scans_dir`, six furnished rooms are written exactly as ScanNet would have stored them; the last is a second visit to the first room. Everything below treats them as real scans.

# %%
if scans_dir:
    root = PROJECT_ROOT / scans_dir
    scan_dirs = sorted(p for p in (root / "scans").iterdir() if p.is_dir())
    label_tsv = root / LABELS
else:
    scan_dirs, label_tsv = demo_scans(out / f"raw_seed{seed}", seed=seed)
[folder.name for folder in scan_dirs]

# %%
scan_dir = scan_dirs[0]
scan = scan_dir.name
sizes = {p.name.removeprefix(scan): p.stat().st_size for p in scan_dir.iterdir()}
figure, ax = plt.subplots(figsize=(6.4, 2.2))
names = sorted(sizes, key=sizes.get)
ax.barh(names, [sizes[name] / 1e3 for name in names])
_ = ax.set(xscale="log", xlabel="size (kB)", title=f"{scan}/{scan}…")

# %% [markdown]
# ## `.sens`: the recording
#
# One stream of frames: a JPEG, a compressed depth image, a camera pose. It is read frame by frame, so memory does not grow with its length.

# %%
with SensReader(scan_dir / f"{scan}.sens") as recording:
    frames = list(recording)
    depth_m = frames[0].depth_m()
    color_size, depth_size = recording.color_size, recording.depth_size
print(f"{len(frames)} frames, colour {color_size}, depth {depth_size} pixels")


# %%
def decoded(jpeg):
    """JPEG bytes → (h, w, 3) RGB."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


# %%
some = frames[:: max(1, len(frames) // 5)][:5]
figure, axes = plt.subplots(1, 5, figsize=(11, 2))
titles = [f"frame {frame.index}" for frame in some]
_ = plots.frames_strip([decoded(f.jpeg) for f in some], axes, titles)

# %% [markdown]
# Depth is stored as whole units (1000 per metre) of the distance along the optical axis; 0 means no reading. Depth and colour cameras differ in size and field of view.

# %%
figure, ax = plt.subplots(figsize=(4.2, 2.6))
shown = ax.imshow(np.where(depth_m > 0, depth_m, np.nan), cmap="viridis")
figure.colorbar(shown, label="depth (m)")
_ = ax.set(title=f"depth of frame 0, {(depth_m > 0).mean():.0%} valid")
ax.set_axis_off()

# %% [markdown]
# ## `.txt`: the alignment
#
# A scan starts wherever the camera was switched on. `axisAlignment` is a rigid transform,
#
# $$p_\text{aligned} = R\,p_\text{scan} + t,$$
#
# that puts the floor near $z = 0$ and the walls along $x$ and $y$. Room sizes and maps are only meaningful afterwards.

# %%
T_aligned_from_scan = parse.read_alignment(scan_dir)
if T_aligned_from_scan is None:
    T_aligned_from_scan = np.eye(4)
pd.DataFrame(T_aligned_from_scan).round(3)

# %%
vertices, colors = parse.read_vertices(scan_dir)
aligned = transform_points(T_aligned_from_scan, vertices)  # (n, 3) metres
print(f"{len(vertices)} vertices, height {np.ptp(aligned[:, 2]):.2f} m")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
some = np.random.default_rng(0).choice(len(vertices), min(len(vertices), 20_000))
some = some[np.argsort(aligned[some, 2])]  # low points first, as seen from above
pairs = {"scan": vertices, "aligned": aligned}
for ax, (name, points) in zip(axes, pairs.items(), strict=True):
    ax.scatter(*points[some, :2].T, c=colors[some] / 255, s=1.5)
    ax.set(title=f"{name} frame", xlabel="x (m)", ylabel="y (m)", aspect="equal")

# %% [markdown]
# **What to notice.** The same mesh, turned. In the left frame a 10 × 10 map would cut the room diagonally.
#
# ## Poses, and frames without one
#
# Where tracking was lost, the stored pose holds $-\infty$. The reader gives `None`; the frame stays in the video, so that frame numbers keep their meaning.

# %%
poses = [f.T_scan_from_camera for f in frames]
lost = [f.index for f in frames if f.T_scan_from_camera is None]
path = np.array([T_aligned_from_scan @ T for T in poses if T is not None])
print(f"{len(lost)} of {len(frames)} frames without a pose: {lost[:10]}")

# %%
known = [f.index for f in frames if f.T_scan_from_camera is not None]
gap = [np.searchsorted(known, index).clip(0, len(path) - 1) for index in lost]
figure, ax = plt.subplots(figsize=(4.8, 3.6))
plots.camera_path(path, ax)
ax.plot(*path[gap, :2, 3].T, "x", color=plots.PALETTE[5], label="pose lost here")
_ = ax.legend()

# %% [markdown]
# ## Segments, groups and instance images
#
# Annotation is stored in two steps: each vertex belongs to a segment (`.segs.json`), each object is a list of segments (`.aggregation.json`). The 2-D archive repeats it per frame: pixel value = object id + 1, 0 = nothing.

# %%
groups = parse.read_groups(scan_dir, len(vertices))
pd.DataFrame(
    [{"id": g.object_id, "label": g.label, "vertices": len(g.vertices)} for g in groups]
).set_index("id")

# %%
archive = scan_dir / f"{scan}{parse.INSTANCES_2D}"
if archive.exists():
    _, image = next(read_instance_frames(archive))
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8))
    plots.frames_strip([decoded(frames[0].jpeg)], axes[:1], ["colour, frame 0"])
    axes[1].imshow(np.where(image > 0, image, np.nan), cmap="tab20", vmin=0, vmax=20)
    axes[1].set(title="instances, frame 0")
    axes[1].set_axis_off()
else:
    print(f"{scan} has no instance images: first frames come from projection")

# %% [markdown]
# ## From files to a `Scene`
#
# One call does all scans: boxes, floor, room size, first-seen frames, and a 24 fps video. It keeps a manifest; run it twice and the second run only reads.

# %%
scenes = parse_scans(scan_dirs, label_tsv, out)
again = parse_scans(scan_dirs, label_tsv, out)
scene = scenes[0]

# %%
pd.DataFrame(
    [
        {"scan": s.scene_id, "objects": len(s.instances), "frames": s.frame_count,
         "room_m2": round(s.room_size_m2, 1), "warnings": len(s.warnings)}
        for s in again
    ]
)  # fmt: skip

# %%
figure, ax = plt.subplots(figsize=(5.4, 4))
plots.floor_plan(scene, ax)
_ = ax.set(title=f"{scene.scene_id}: {len(scene.instances)} oriented boxes")

# %% [markdown]
# Each box is the smallest one around the object's vertices; its longest edge will be the answer to "how long is …". Walls and floor are no objects: they shape the room, but never enter a question.
#
# ## Room size by alpha shape
#
# Which area do floor points cover? Triangulate them and keep the triangles whose circumscribed circle is small:
#
# $$A = \sum_{\triangle:\ r_\triangle < \alpha} \operatorname{area}(\triangle), \qquad \alpha = 0.5\ \text{m}$$
#
# A convex hull would fill every recess; too small an α leaves holes.

# %%
labelled = [g.vertices for g in groups if g.label == "floor"]
low = np.flatnonzero(np.abs(aligned[:, 2]) <= parse.FLOOR_BAND_M)
chosen = np.concatenate(labelled) if labelled else low
floor_xy = aligned[chosen, :2]
step = max(1, len(floor_xy) // 5000)

# %%
alphas = np.geomspace(0.03, 5, 25)
areas = [alpha_shape_area_m2(floor_xy[::step], alpha) for alpha in alphas]

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
axes[0].plot(*floor_xy[::step].T, ".", ms=1.5)
axes[0].set(xlabel="x (m)", ylabel="y (m)", aspect="equal", title="floor vertices")
axes[1].semilogx(alphas, areas, "o-", ms=3)
axes[1].axvline(0.5, color=plots.INK, ls="--", label="α = 0.5 m")
axes[1].axhline(scene.room_size_m2, color=plots.FAINT, label="the scene's value")
axes[1].set(xlabel="α (m)", ylabel="area (m²)")
_ = axes[1].legend()

# %% [markdown]
# **What to notice.** A plateau: once α exceeds the spacing of the vertices, the answer hardly depends on it.
#
# ## When is what first seen?
#
# An object counts as seen from the first frame in which it covers 0.1 % of the image.

# %%
timed = [i for i in scene.instances if i.first_seen_frame is not None]
timed.sort(key=lambda i: i.first_seen_frame)
styles = plots.category_styles(i.category for i in timed)
figure, ax = plt.subplots(figsize=(6.4, 2.6))
for row, i in enumerate(timed):
    color = styles[i.category][0]
    ax.barh(row, scene.frame_count - i.first_seen_frame, left=i.first_seen_frame,
            color=color)  # fmt: skip
ax.set(yticks=range(len(timed)), yticklabels=[i.category for i in timed])
ax.invert_yaxis()
_ = ax.set(xlabel="frame (24 per second)", title="seen for the first time")

# %% [markdown]
# ## The video
#
# The stored JPEGs go straight into an H.264 file; the paper trains on 24 fps. The file is read back before it counts as written.

# %%
info = probe(out / scene.video_path)
video_frames, indices, *_ = read_frames(out / scene.video_path, 5)
figure, axes = plt.subplots(1, 5, figsize=(11, 2))
plots.frames_strip(video_frames, axes, [f"frame {i}" for i in indices])
info

# %% [markdown]
# ## Failure cases: one clear message
#
# A scan without its aggregation, and a recording whose download broke off. Each stops with what was found, what was expected and what to do; scans parsed before stay done.


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


# %%
print(complaint(lambda copy: (copy / f"{scan}{parse.AGGREGATION}").unlink()))


# %%
def truncate(copy):
    """Keep the first 60 % of the recording."""
    path = copy / f"{scan}.sens"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 6 // 10)


print(complaint(truncate))

# %% [markdown]
# ## In practice
#
# With ScanNet on disk (`scannet/scans/<id>/…` and `scannet/scannetv2-labels.combined.tsv`):
#
# ```bash
# cd notebooks
# papermill 01_parse_scannet.ipynb ../papermill_runs/01_parse_scannet__scannet.ipynb \
#     -p scans_dir data/scannet_raw -p out_dir data/scannet
# ```
#
# - **Interrupted?** Run it again: finished scans are recognised by the sizes and times of their files.
# - **No instance images?** First appearances are found by projecting vertices into the depth images; the scene carries a warning.
# - **No axisAlignment?** The scan's own axes are kept, with a warning; maps of such scenes are turned.
# - **Demo against ScanNet.** The demo's videos last four seconds, real ones a minute or more.
#
# ## Summary
#
# A scan is a mesh with names, a recording with poses, and a transform between them. After parsing, a `Scene` holds everything a question can ask about.
#
# ## Exercises
#
# 1. Replace the alignment by the identity. By how much does the floor rectangle grow, and does the room size change?
# 2. Raise the visibility threshold to 1 %. Which objects are seen later?
# 3. Cut the recording at another place. Which messages can you provoke?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §3.
# - ScanNet: https://github.com/ScanNet/ScanNet
# - Alpha shapes: https://en.wikipedia.org/wiki/Alpha_shape
#
# Next: **02 · Rasterize maps** turns a scene into the grid a model can write down.
