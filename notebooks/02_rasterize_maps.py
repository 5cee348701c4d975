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
# # 02 · Rasterize rooms into cognitive maps
#
# ← [01 · Parse](01_parse_scannet.ipynb) · [03 · Generate](03_generate_qa.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`maps`](../spacer_lib/maps), [`rooms`](../spacer_lib/rooms)
#
# **What you'll do.** Turn a room into a small grid that a language model can write, read such grids back from model output, and measure which maps the published map score distinguishes.
#
# **What you'll learn.**
# - compute the cell of an object by hand, and state the direction of the axes;
# - choose a grid size and see what each size loses;
# - read maps that models write, and name the failures;
# - compare four map scores with the hit rate;
# - describe the rooms of the embedded run and what makes them easy.
#
# **What you'll need.** Notebook 01, which explains scenes. No data: rooms are drawn here. One CPU core, half a minute, 1 GB of memory. Real VSI-Bench metadata is used if `meta_file` or `SPACER_REAL_META` names it.
#
# SpaceR §4.2 (map imagination), Eq. 4.

# %% tags=["parameters"]
room_seed: int = 6  # of the room drawn below
grid_size: int = 10  # M, cells per side; SpaceR: 10
rooms: int = 60  # that each average is taken over
tiny_seed: int = 8000000  # of a dollhouse, and of a room of the embedded run
meta_file: str = ""  # metadata, or 01's scenes/; "": $SPACER_REAL_META, if set
seed: int = 0  # of jitter and random maps

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML

from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.scores import SCORERS, hits, score
from spacer_lib.maps.text import map_to_text, parse_map

# %%
from spacer_lib.pictures import map_plots, reward_plots, room_plots, room_views
from spacer_lib.pictures.style import FAINT, PALETTE, use_house_style
from spacer_lib.rooms.geometry import transform_points
from spacer_lib.rooms.scannet.parse import read_alignment, read_vertices
from spacer_lib.rooms.scene import read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import film, frames_from_uri, render_frames
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.rooms.synthetic.write import write_scan

# %%
use_house_style()
assert grid_size > 0 and rooms > 1, "grid_size and rooms must be positive"
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# ## The floor rectangle becomes a grid
#
# A model cannot measure metres in a video, but it can say in which part of the room an object stands. So the floor rectangle is divided into $M \times M$ cells, and an object is represented by the cell of its centroid:
#
# $$\mathrm{cell} = \left\lfloor M \cdot \frac{c - \mathrm{floor}_{min}}{\mathrm{floor}_{max} - \mathrm{floor}_{min}} \right\rfloor \quad \text{per axis, kept within } [0, M - 1]$$
#
# A map is a dictionary `{category: [(x_col, y_row), …]}`.

# %% tags=["nbval-check-output"]
scene = to_scene(draw_room(room_seed, "furnished"))
cells = rasterize(scene, grid_size)
print("floor (m):", *np.round([scene.floor_min_m, scene.floor_max_m], 2))

# %%
with tempfile.TemporaryDirectory() as folder:
    scan = write_scan(draw_room(room_seed, "furnished"), folder, VIEWS["walk"])
    T_aligned_from_scan = read_alignment(scan)
    vertices, colors = read_vertices(scan)
points = transform_points(T_aligned_from_scan, vertices)  # (n, 3) metres, aligned

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 3, figsize=(11, 4))
room_plots.cloud_from_above(points[::4], colors[::4] / 255, axes[0])
room_plots.floor_plan(scene, axes[1])
for ax in axes[:2]:
    for x, y in np.linspace(scene.floor_min_m, scene.floor_max_m, grid_size + 1):
        ax.axvline(x, color=FAINT, lw=0.5)
        ax.axhline(y, color=FAINT, lw=0.5)
    ax.grid(False)
_ = map_plots.cognitive_map(cells, axes[2], grid_size)

# %% [markdown]
# **What to notice.** Left: a scan's vertices from above. Middle: the boxes around its objects. Right: the map. Left and middle are in metres, the map is in cells, so it is stretched to a square: a cell of a long room is not square. The map has no sizes, no orientations and no room shape. Walls and floors have no cell.
#
# The video shows one object after the other. Press *Play*: an object appears in the map at the frame that first shows it. Below the player are four moments of it.

# %%
walk = VIEWS["walk"]
numbers = tuple(range(0, walk.frames, 4))
filmed = draw_room(room_seed, "furnished")
seen = to_scene(filmed, walk, footage=film(filmed, walk, frames=numbers))
shots = render_frames(filmed, walk, numbers, 160)
HTML(room_views.map_player(seen, shots, numbers, grid_size))

# %% tags=["nbval-check-output"]
moments = [0, 4, 10, len(numbers) - 1]
figure, axes = plt.subplots(2, 4, figsize=(11, 5.4))
titles = [f"frame {numbers[k]}" for k in moments]
room_plots.frames_strip(shots[moments], axes[0], titles)
for ax, k in zip(axes[1], moments, strict=True):
    there = rasterize(seen, grid_size, seen_by=numbers[k])
    look = {"names": cells, "key": k == moments[-1], "labels": False}
    map_plots.cognitive_map(there, ax, grid_size, **look)
    ax.set(title=f"{sum(map(len, there.values()))} objects")

# %% [markdown]
# **What to notice.** At the end the map has all objects that the walk shows. A model must keep places over frames: no frame shows them all.
#
# The formula in five lines, compared with the library:

# %%
low, high = np.array(scene.floor_min_m), np.array(scene.floor_max_m)
by_hand = {}
for category, instances in scene.by_category().items():
    spots = [(np.array(i.centroid_m[:2]) - low) / (high - low) for i in instances]
    found = [np.floor(s * grid_size).clip(0, grid_size - 1) for s in spots]
    by_hand[category] = sorted((int(x), int(y)) for x, y in found)

# %% tags=["nbval-check-output"]
assert by_hand == cells
print(f"{sum(map(len, cells.values()))} objects, same cells by hand and by library")


# %% [markdown]
# ## Which way do the axes run?
#
# `x_col` grows with the aligned +x axis, `y_row` with +y, both from 0. Cell (0, 0) is therefore at the *lower left* of our figures; in an image it would be at the upper left. SpaceR's prompt does not state the axes; ours does (`language/prompts.py`). One object, moved along each axis:

# %%
def cell_at(x, y):
    """The cell of a point: an object of the room is moved there."""
    thing = scene.instances[0]
    moved = type(thing)(**{**vars(thing), "centroid_m": (x, y, 0.5)})
    probe = type(scene)(**{**vars(scene), "instances": (moved,), "object_counts": {}})
    return rasterize(probe, grid_size)[thing.category][0]


# %% tags=["nbval-check-output"]
east = [cell_at(x, low[1]) for x in np.linspace(low[0], high[0], 4)]
north = [cell_at(low[0], y) for y in np.linspace(low[1], high[1], 4)]
print("walking along +x:", east)
print("walking along +y:", north)
assert [c[0] for c in east] == sorted(c[0] for c in east) and east[-1][1] == 0
assert [c[1] for c in north] == sorted(c[1] for c in north) and north[-1][0] == 0
print("two metres outside the floor:", cell_at(low[0] - 2, high[1] + 2))

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(4.6, 3))
map_plots.cognitive_map({"along +x": east, "along +y": north}, ax, grid_size)
ax.annotate("+x", (0.55, 0.12), xycoords="axes fraction")
_ = ax.annotate("+y", (0.12, 0.55), xycoords="axes fraction")

# %% [markdown]
# **What to notice.** A centroid outside the floor (a window in a wall, a scan with a short floor) is put into the nearest border cell, so no object is lost.
#
# ## How many cells?
#
# More cells keep more detail, but the model must place objects more exactly. The same room at four sizes:

# %% tags=["nbval-check-output"]
sizes = (5, 10, 15, 20)
figure, axes = plt.subplots(1, 4, figsize=(11, 3.2))
for ax, size in zip(axes, sizes, strict=True):
    last = size == sizes[-1]
    map_plots.cognitive_map(rasterize(scene, size), ax, size, key=last)
    ax.set(title=f"M = {size}", xticks=[0, size - 1], yticks=[0, size - 1])

# %%
many = [to_scene(draw_room(s, "furnished"), with_boxes=False) for s in range(rooms)]


def crowded(size):
    """Share of objects that share their cell with another one."""
    spots = [[c for v in rasterize(s, size).values() for c in v] for s in many]
    return np.mean([room.count(cell) > 1 for room in spots for cell in room])


# %% tags=["nbval-check-output"]
span = np.mean([np.subtract(s.floor_max_m, s.floor_min_m) for s in many])
pd.DataFrame(
    {
        "cell (m)": [span / m for m in sizes],
        "objects that share a cell (%)": [100 * crowded(m) for m in sizes],
        "characters": [len(map_to_text(rasterize(scene, m))) for m in sizes],
    },
    index=pd.Index(sizes, name="M"),
).round(2)

# %% [markdown]
# **What to notice.** In large cells, neighbours share a cell and their relation is lost. Small cells require a precision that a video hardly allows. SpaceR uses $M = 10$.
#
# ## Map, text, and back
#
# The model writes a map as one line of JSON. Reading the text gives the same map.

# %% tags=["nbval-check-output"]
text = map_to_text(cells)
print(text)
reading = parse_map(text, grid_size)
assert reading.failure is None and reading.map == cells
print("map → text → map: equal")

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(5.6, 3))
_ = map_plots.cognitive_map(cells, ax, grid_size, predicted=reading.map)

# %% [markdown]
# **What to notice.** Squares are the true map, dots the map that was read. Each dot is in its square.
#
# Models also write other forms. Those with a clear meaning are read: Python's quotes and tuples, plurals, a single pair. All others count as no map, and the failure has a *name*. The text is never evaluated, and no text raises an error.

# %%
written = {
    "strict JSON": '{"chair":[[2,5],[4,4]]}',
    "Python's spelling": "{'Chairs': [(2, 5), (4, 4),]}",
    "a single pair": "{'chair': [2, 5]}",
    "a repeated key": '{"chair":[[2,5]],"chair":[[4,4]]}',
    "off the grid": f'{{"chair":[[2,5],[{grid_size},4]]}}',
    "half cells": '{"chair":[[2.5,5]]}',
    "three numbers": '{"chair":[[2,5,0]]}',
    "cut short": '{"chair":[[2,5],[4,',
    "prose": "a chair stands by the window",
    "code": "__import__('os').getcwd()",
    "endless": '{"chair":[' + "[2,5]," * 5000,
}
readings = {name: parse_map(text, grid_size) for name, text in written.items()}

# %% tags=["nbval-check-output"]
pd.DataFrame(
    {
        "written": [t[:36] + "…" * (len(t) > 36) for t in written.values()],
        "read as": [str(r.map or "") for r in readings.values()],
        "failure": [r.failure or "" for r in readings.values()],
    },
    index=readings,
)

# %% tags=["nbval-check-output"]
drawn = {k: r.map for k, r in readings.items() if r.map}
truth = {"chair": [(2, 5), (4, 4)]}
figure, axes = plt.subplots(1, len(drawn), figsize=(2.7 * len(drawn), 2.6))
for ax, (name, predicted) in zip(axes, drawn.items(), strict=True):
    look = {"predicted": predicted, "key": False, "labels": False}
    map_plots.cognitive_map(truth, ax, grid_size, **look).set(title=name)

# %% [markdown]
# **What to notice.** If one cell is off the grid, the whole map is refused: moving the cell to the border would reward a guess. A single pair is one instance, so the second chair is not found (dashed).
#
# ## Four scores
#
# Drawn and true cells of a category are paired. A pair at distance $d$ (cells) earns $w(d)$:
#
# | scorer | $w(d)$ | pairing | divided by |
# |---|---|---|---|
# | `released` (SpaceR's code) | $\max(0, 1 - d / (M\sqrt 2))$ | greedy, closest first | max(#drawn, #true) |
# | `paper` (Eq. 4) | the same | best sum | #true |
# | `decay` (ours) | $e^{-d/1.5}$ | best sum | max(#drawn, #true) |
# | `aligned` (ours) | $e^{-(d/1.5)^2/2}$ | best sum, best of four turns | max(#drawn, #true) |
#
# `aligned` then subtracts the room's chance level $c$ from the agreement $a$: $s = \max(0, (a - c) / (1 - c))$. $c$ is the agreement of the best constant map or the mean of random maps, whichever is greater. Objects that are not in the room count as errors.
#
# Categories are averaged, weighted by their true instances. The *hit rate* is simpler: the share of true objects that have a drawn cell of their category within 1.5 cells. First one pair alone, then all objects of many rooms, moved at random.

# %% tags=["nbval-check-output"]
gaps = np.arange(grid_size)
figure, ax = plt.subplots(figsize=(6, 2.8))
for scorer in ("released", "decay"):  # aligned: from a room, not from a pair
    worth = [
        score({"x": [(g, 0)]}, {"x": [(0, 0)]}, grid_size, scorer=scorer) for g in gaps
    ]
    ax.plot(gaps, worth, "o-", label=scorer)
assert np.isclose(worth[1], np.exp(-1 / 1.5))
ax.set(xlabel="distance (cells)", ylabel="worth of a pair", ylim=(0, 1.02))
_ = ax.legend()

# %%
maps = [rasterize(s, grid_size) for s in many]
rng = np.random.default_rng(seed)


def moved(cells, change):
    """The map with every cell changed and kept on the grid."""
    return {
        name: [tuple(np.clip(change(*c), 0, grid_size - 1).astype(int)) for c in spots]
        for name, spots in cells.items()
    }


def jittered(cells, spread):
    """Each cell moved by a rounded normal error of ``spread`` cells."""
    return moved(cells, lambda *c: np.rint(c + rng.normal(0, spread, 2)))


# %%
measures = {
    s: lambda p, t, s=s: score(p, t, grid_size, scorer=s) for s in SCORERS
}
measures["hit rate"] = lambda p, t: np.divide(*hits(p, t))
spreads = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
worse = {s: [jittered(m, s) for m in maps] for s in spreads}

# %%
curves = {name: [] for name in measures}
for name, measure in measures.items():
    for spread, predicted in worse.items():
        values = [measure(p, t) for p, t in zip(predicted, maps, strict=True)]
        curves[name].append((spread, *bootstrap_interval(values, range(rooms), rng)))

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(6.4, 3))
label = f"jitter (standard deviation, cells); n = {rooms} rooms, 95% intervals"
_ = reward_plots.reward_vs_error(curves, ax, x_label=label).set(ylim=(0, 1.02))

# %% tags=["nbval-check-output"]
pd.DataFrame({k: dict(r[:2] for r in rows) for k, rows in curves.items()}).round(2)

# %% [markdown]
# **What to notice.** The hit rate falls steeply with the error; the published scores fall only a little. `decay` is steep near the true map.
#
# ## How much does a useless map earn?
#
# A score is useful if good maps earn much more than maps drawn without seeing the room. Eight ways to draw a map: perfect; one cell off; all objects at the centre (a constant map); random; the perfect map mirrored or turned; and *every* cell filled.

# %%
last, middle = grid_size - 1, grid_size // 2
everywhere = [(x, y) for x in range(grid_size) for y in range(grid_size)]
draw = {
    "perfect": lambda m: m,
    "one cell off": lambda m: moved(m, lambda x, y: (x + (1 if x < last else -1), y)),
    "all at the centre": lambda m: moved(m, lambda x, y: (middle, middle)),
    "random": lambda m: moved(m, lambda x, y: rng.integers(0, grid_size, 2)),
    "mirrored": lambda m: moved(m, lambda x, y: (last - x, y)),
    "rotated by 90°": lambda m: moved(m, lambda x, y: (last - y, x)),
    "rotated by 180°": lambda m: moved(m, lambda x, y: (last - x, last - y)),
    "every cell": lambda m: dict.fromkeys(m, everywhere),
}
earned = pd.DataFrame(
    {
        name: {k: np.mean([f(way(m), m) for m in maps]) for k, f in measures.items()}
        for name, way in draw.items()
    }
).T

# %% tags=["nbval-check-output"]
ax = earned.plot.barh(figsize=(7.5, 4.6), width=0.82, color=list(PALETTE[:5]))
ax.invert_yaxis()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
_ = ax.set(xlabel=f"mean over n = {rooms} rooms", xlim=(0, 1))

# %% tags=["nbval-check-output"]
earned.round(3)

# %% tags=["nbval-check-output"]
assert np.isclose(earned.loc["rotated by 90°", "aligned"], 1)
assert earned.loc["all at the centre", "aligned"] == 0
assert earned.loc["mirrored", "aligned"] < 0.5
print("aligned, random maps:", round(earned.loc["random", "aligned"], 3))

# %% tags=["nbval-check-output"]
turned, centre = draw["rotated by 90°"], draw["all at the centre"]
for scorer in ("released", "paper", "decay"):
    f = measures[scorer]
    lost = np.mean([f(turned(m), m) < f(centre(m), m) for m in maps])
    print(f"{scorer:9} turned by 90°, earns less than a constant map: {lost:.0%}")
assert earned.loc["all at the centre", "released"] > earned.loc["random", "released"]

# %% [markdown]
# **What to notice.**
# - By the published score, a constant map at the centre earns most of what a perfect map earns. A policy that writes it gains little by watching the video.
# - A correct layout in another frame earns less than that constant map. So the prompt must state the frame, or the video must show it; otherwise the score means little.
# - `paper`, as printed, does not count surplus cells: a filled grid scores 1. The hit rate does not count them either, so it is reported but never rewarded.
# - `decay` gives a constant map little. It still needs the frame.
# - `aligned` gives nothing to a constant map or a filled grid, and accepts a layout from any of the four sides. A *mirrored* layout is another room and earns little.
#
# Notebook 04 builds a reward from these scores.
#
# ## From outside and from inside
#
# The same task can be easy or hard for a small model. Below are four frames of a *dollhouse*: few objects, low walls, a camera that orbits above, in two views, `seen` and `new`. One frame shows the whole map, only tilted.

# %% tags=["nbval-check-output"]
dollhouse = to_scene(draw_room(tiny_seed, "dollhouse"), with_boxes=False)
figure, axes = plt.subplots(2, 5, figsize=(11, 5))
for row, view in zip(axes, ("seen", "new"), strict=True):
    uri = video_uri(view, tiny_seed)
    frames, indices, *_ = frames_from_uri(uri, 4, 128)
    room_plots.frames_strip(frames, row[:4], [f"{view}, frame {i}" for i in indices])
    map_plots.cognitive_map(rasterize(dollhouse, 10), row[4], labels=False)
print(video_uri("seen", tiny_seed), "and", video_uri("new", tiny_seed))

# %% [markdown]
# **What to notice.** Both views show the *same* room and have the same map: a map does not depend on the camera.
#
# **A shortcut.** The dollhouse's floor is tinted: its colour encodes the position, so a model can tell where an object stands from the colour around it. A real floor has no such colours. Only the style `dollhouse` is tinted. It is used in this example and in quick tests, and no shipped model is trained on it.
#
# The embedded run (notebook 05) stands *inside* a room. A person turns once on the spot, and the model gets eight frames of the turn. Floor and walls are plain. Each frame shows a part of the room, so the map has to be put together from the frames *and their order*.

# %% tags=["nbval-check-output"]
home = to_scene(draw_room(tiny_seed, "home"), with_boxes=False)
uri = video_uri("turn", tiny_seed)
frames, indices, *_ = frames_from_uri(uri, 8, 128)
figure, axes = plt.subplots(2, 5, figsize=(11, 5))
places = [*axes[0, :4], *axes[1, :4]]
room_plots.frames_strip(frames, places, [f"turn, frame {i}" for i in indices])
map_plots.cognitive_map(rasterize(home, 10), axes[0, 4], labels=False)
axes[1, 4].set_axis_off()
for shown in (draw_room(tiny_seed, name).style for name in ("dollhouse", "home")):
    print(f"{shown.name}: tinted floor {shown.tinted_floor}")

# %% [markdown]
# **What to notice.** The first frame looks along +y, upwards on the map, and the person turns to the left. An object at the right edge of one frame was at the left edge of an earlier one, or comes later, depending on the side to which the camera turns. With the frames in another order the same pictures mean another map.

# %% [markdown]
# ## Real rooms
#
# VSI-Bench publishes metadata of real ScanNet scenes. It has no floor rectangle: the bounds of all boxes are used instead, and the scene has a warning.

# %%
meta = meta_file or os.environ.get("SPACER_REAL_META", "")
real = read_meta_file(PROJECT_ROOT / meta) if meta else []
real_maps = {s.scene_id: rasterize(s, grid_size) for s in real if s.by_category()}
if real:
    print(f"{len(real_maps)} of {len(real)} scenes mapped", *real[0].warnings[:1])
else:
    print("Skipped: no metadata file is named, and real data are not shipped.")

# %%
if real_maps:
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.4))
    for ax in axes[len(real_maps):]:
        ax.set_axis_off()
    for ax, (name, cells_there) in zip(axes, real_maps.items(), strict=False):
        map_plots.cognitive_map(cells_there, ax, grid_size)
        ax.set(title=f"{name}: {sum(map(len, cells_there.values()))} objects")

# %%
if real_maps:
    for name, way in draw.items():
        got = [np.mean([measures[s](way(m), m) for m in real_maps.values()])
               for s in ("released", "aligned")]
        print(f"{name:20} released {got[0]:.3f}, aligned {got[1]:.3f}")
    for name, some in (("real", real_maps.values()), ("synthetic", maps)):
        mean = np.mean([sum(map(len, m.values())) for m in some])
        print(f"{name}: {mean:.1f} objects per room")

# %% [markdown]
# **What to notice.** If the file is given, the cells above print how many objects real rooms have, and what a constant map earns in them. The published score is as flat on real rooms as on synthetic ones.
#
# ## In practice
#
# ```bash
# cd notebooks
# papermill 02_rasterize_maps.ipynb ../papermill_runs/02_rasterize_maps__m20.ipynb -p grid_size 20
# SPACER_REAL_META=<scannet meta json> papermill 02_rasterize_maps.ipynb ../papermill_runs/02_rasterize_maps__real.ipynb
# ```
#
# - The true map of a question is computed when the question is made (notebook 03) and stored in its row.
# - Maps are compared by *normalised* category: `chairs` in a completion matches `chair` in the true map.
# - Change `grid_size` in the recipe and in the data together. Cells of another grid size are off the grid, or wrong.
#
# ## Summary
#
# A map has one cell per object; its axes run along +x and +y from the floor's smallest x and y. Text is read strictly, and failures have names. The published score is nearly flat and depends on the frame. `decay` is steep near the true map. `aligned` needs no frame and subtracts chance. The hit rate is the share of objects in the right place.
#
# ## Exercises
#
# 1. Every object stands in a corner. What do a map turned by 180° and a constant map earn? Answer before you compute it.
# 2. Run with `-p grid_size 20`. Which of the four measures changes most for *one cell off*, and why?
# 3. Find a map that earns more than the constant map under `released`, without using the room.
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §4.2, Eq. 4.
# - VSI-Bench (*Thinking in Space*), where models are asked for cognitive maps: https://arxiv.org/abs/2412.14171
# - The assignment behind the best pairing: https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.linear_sum_assignment.html
#
# ## Quiz
#
# <details><summary>1. In which cell is an object at the floor's smallest x and largest y?</summary>
#
# `[0, M - 1]`: the first number grows with +x, the second with +y.
#
# </details>
#
# <details><summary>2. Which of the four scores pays a filled grid fully, and why?</summary>
#
# `paper`: Eq. 4 as printed divides by the true objects and does not count surplus cells.
#
# </details>
#
# <details><summary>3. Why does `aligned` accept a turned map but not a mirrored one?</summary>
#
# From another side of the room the same layout is turned. A mirrored layout is another room.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# Turned by 180°, each object is in the opposite corner: nine cells off along both axes, so the published score is 0.1. All at the centre are about half a diagonal off: about 0.5. `aligned` pays the turned map fully and the constant map nothing.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
corners = {"bed": [(0, 0)], "table": [(last, 0)],
           "sofa": [(0, last)], "lamp": [(last, last)]}
pd.DataFrame({
    name: {s: f(draw[name](corners), corners) for s, f in measures.items()}
    for name in ("rotated by 180°", "all at the centre")
}).round(3)


# %% [markdown]
# <details><summary>Solution 2</summary>
#
# The published scores divide by the diagonal: one cell of 20 is half as far, so they rise. `decay` and the hit rate count cells and stay. `aligned` subtracts chance, which is lower on a finer grid, and changes with it.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
def off_by_one(cells, size):
    """Each cell one to the right, or to the left at the edge."""
    return {name: [(x + (1 if x < size - 1 else -1), y) for x, y in spots]
            for name, spots in cells.items()}


found = {}
for size in (10, 20):
    there = [rasterize(s, size) for s in many]
    pairs = [(off_by_one(m, size), m) for m in there]
    found[size] = {s: np.mean([score(p, t, size, scorer=s) for p, t in pairs])
                   for s in SCORERS}
    found[size]["hit rate"] = np.mean([np.divide(*hits(p, t)) for p, t in pairs])
pd.DataFrame(found).round(3)


# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Two chairs do not stand in one cell: draw the objects of a category apart, around the middle. The pairing then finds shorter ways. Neither map uses the room, only the number of its objects, and a score should pay neither.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
def apart(cells):
    """Objects of one category around the middle, two steps from each other."""
    step = grid_size // 5
    ring = [(-step, -step), (step, -step), (-step, step), (step, step)]
    found = {}
    for name, spots in cells.items():
        gaps = {1: [(0, 0)], 2: [(-step, 0), (step, 0)]}.get(len(spots), ring)
        gaps = [gaps[i % len(gaps)] for i in range(len(spots))]
        found[name] = [(middle + x, middle + y) for x, y in gaps]
    return found


ways = {"all at the centre": draw["all at the centre"], "spread by count": apart}
earned_by = {n: [measures["released"](way(m), m) for m in maps]
             for n, way in ways.items()}
{name: round(np.mean(values), 3) for name, values in earned_by.items()}

# %% [markdown]
# The next page asks questions about these rooms.
#
# ← [01 · Parse](01_parse_scannet.ipynb) · [03 · Generate](03_generate_qa.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
