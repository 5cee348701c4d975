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
# # 03 · Generate questions with checkable answers
#
# ← [02 · Rasterize](02_rasterize_maps.ipynb) · [04 · Design rewards](04_design_rewards.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`questions`](../spacer_lib/questions), [`rooms`](../spacer_lib/rooms)
#
# **What you'll do.** Turn scenes into questions of seven kinds, then of 32 types. Geometry gives each answer. Write training and test files that share no room.
#
# **What you'll learn.**
# - derive each answer from boxes, centroids and frame numbers;
# - see each question type in one room, and why its answer is right;
# - count the reasons why candidates are rejected;
# - flatten a skewed answer distribution;
# - keep benchmark rooms out of training;
# - compare what a recipe wanted with what it got;
# - test what the words give away without the video;
# - audit answers against the official ones.
#
# **What you'll need.** Notebook 01 for scenes, 02 for maps; both are made here if they are missing. One CPU core, under a minute, 1 GB of memory.
#
# SpaceR §3 (QA generation), Figure 5; answers after [VSI-Bench](https://arxiv.org/abs/2412.14171).

# %% tags=["parameters"]
scans_dir: str = ""  # ScanNet's scans/, one folder per scan; "": synthetic rooms
labels: str = ""  # scannetv2-labels.combined.tsv; "": beside scans_dir
meta_file: str = ""  # published metadata; "": $SPACER_REAL_META, if set
questions_file: str = ""  # its official questions; "": $SPACER_REAL_QA, if set
recipe: str = "demo"  # configs/qa, or a YAML file, for the scans above
out_dir: str = ""  # scenes and questions; relative to the project; "": data/demo
rooms: int = 60  # synthetic rooms, metadata only, for the recipe sr91k
workers: int = 1  # processes
seed: int = 0  # of rooms, questions and splits

# %%
import dataclasses
import inspect
import os
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from datasets import disable_progress_bars, load_dataset

from spacer_lib.artifacts import PROJECT_ROOT, provenance, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.blind import prune
from spacer_lib.maps.grid import rasterize

# %%
from spacer_lib.pictures import figures, kind_plots, question_plots, room_plots
from spacer_lib.pictures.style import FAINT, INK, PALETTE, short_name, use_house_style
from spacer_lib.questions import generators
from spacer_lib.questions.audit import audit, audit_files
from spacer_lib.questions.budgets import questions_by_budget
from spacer_lib.questions.build import build_dataset
from spacer_lib.questions.choose import flatten_answers
from spacer_lib.questions.general_sample import synthetic_general

# %%
from spacer_lib.questions.generators import GENERATORS, Draft, question_rows
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.kinds.size import in_strips_m2
from spacer_lib.questions.mixture import (
    convert,
    joint_set,
    read_video_r1,
    sample_uniform,
)
from spacer_lib.questions.recipes import load_recipe

# %%
from spacer_lib.rooms.geometry import (
    box_distance_m,
    closest_distance_m,
    turn_deg,
)
from spacer_lib.rooms.layouts import find_scans
from spacer_lib.rooms.scans import (
    LABELS,
    parse_scans,
    read_scenes,
    synthetic_meta,
    synthetic_scans,
)
from spacer_lib.rooms.scene import BENCHMARK_AREA
from spacer_lib.rooms.shown import Shown
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import Renderer, film
from spacer_lib.rooms.synthetic.views import (
    VIEWS,
    to_scene,
    view_intrinsic,
    view_poses,
)
from spacer_lib.rows import read_questions

# %%
use_house_style()
disable_progress_bars()
if not scans_dir:
    os.environ["TQDM_DISABLE"] = "1"  # the demo is too quick for progress bars
out = PROJECT_ROOT / (out_dir or "data/demo")
{"device": "cpu", **provenance()}

# %% tags=["nbval-check-output"]
if scans_dir:
    root = PROJECT_ROOT / scans_dir
    scan_dirs = [path for _, path in sorted(find_scans(root).items())]
    label_tsv = PROJECT_ROOT / labels if labels else root.parent / LABELS
else:
    scan_dirs, label_tsv = synthetic_scans(out / f"raw_seed{seed}", seed=seed)
scenes = parse_scans(scan_dirs, label_tsv, out, workers=workers)
[scene.scene_id for scene in scenes]

# %% [markdown]
# ## The rules
#
# Thresholds decide which candidates have one clear answer. A recipe (`configs/qa`) states them; the defaults are VSI-Bench's. The synthetic videos last four seconds instead of a minute, so `demo` accepts first appearances a sixth of a second apart.

# %% tags=["nbval-check-output"]
rules = load_recipe(recipe).rules
pd.Series(dataclasses.asdict(rules)).to_frame("value")

# %% tags=["nbval-check-output"]
repeats = [s for s in scenes if max(s.object_counts.values(), default=0) > 1]
scene = (repeats or scenes)[0]
only = {name: group[0] for name, group in scene.by_category().items()
        if len(group) == 1}
figure, ax = plt.subplots(figsize=(5.4, 4))
_ = room_plots.floor_plan(scene, ax).set(title=scene.scene_id)


# %%
def first_question(kind, scene=scene):
    """The first question of a kind about a scene, and its words; ``None``: none."""
    found = GENERATORS[kind](scene, np.random.default_rng(seed), rules)
    question = next((q for q in found if isinstance(q, Draft)), None)
    if question is None:
        print(f"{scene.scene_id} has no question of this kind")
        return None
    print(question.question, *(question.options or ()), sep="\n")
    print("→", question.ground_truth)
    return question


# %%
def plan(title, named):
    """A floor plan to draw an answer on; what the question does not name is grey."""
    figure, ax = plt.subplots(figsize=(4.6, 3.2))
    room_plots.floor_plan(scene, ax, named=named).set(title=title)
    return ax


# %% [markdown]
# ## 1 · Counting
#
# The number of instances of a category, at least two: "how many toilets?" can be answered without the video.

# %% tags=["nbval-check-output"]
question = first_question("object_counting")
if question:
    title = f"{question.ground_truth} x {question.categories[0]}"
    ax = plan(title, question.categories)
    for instance in scene.by_category()[question.categories[0]]:
        ax.plot(*instance.centroid_m[:2], "o", ms=34, mfc="none", mec=INK, mew=2)

# %% [markdown]
# ## 2 · Object size
#
# The longest edge of the oriented box, in whole centimetres: $\operatorname{round}(100 \max(e_1, e_2, e_3))$. Only for categories with a single instance, so that "the chair" names one object.

# %% tags=["nbval-check-output"]
question = first_question("object_size_estimation")
if question:
    instance = only[question.categories[0]]
    longest = int(np.argmax(instance.axes_lengths_m))
    half = instance.axes_matrix[longest] * instance.axes_lengths_m[longest] / 2
    ends = np.array([instance.centroid_m - half, instance.centroid_m + half])
    title = f"{question.categories[0]}: {question.ground_truth} cm"
    ax = plan(title, question.categories)
    _ = ax.plot(*ends[:, :2].T, "|-", color=INK, lw=2, ms=10)
    print("edges (m):", np.round(instance.axes_lengths_m, 2))

# %% [markdown]
# Seen from above, an upright longest edge is a point; its length is printed.
#
# ## 3 · Room size
#
# The alpha-shape area of notebook 01, to a tenth of a square metre. The parser added up triangles. It also kept their outline, from which the area is derived a second time: by strips between its corners.

# %% tags=["nbval-check-output"]
question = first_question("room_size_estimation")
if question:
    figure, ax = plt.subplots(figsize=(4, 3))
    room_plots.floor_plan(scene, ax, named=()).set(title="the outline")
    print(f"triangles: {scene.room_areas_m2[BENCHMARK_AREA]:.2f} m²")
    if scene.outline_m:
        print(f"strips: {in_strips_m2(scene.outline_m):.2f} m²")
    (x0, y0), (x1, y1) = scene.floor_min_m, scene.floor_max_m
    print(f"bounding rectangle: {(x1 - x0) * (y1 - y0):.2f} m²")

# %% [markdown]
# ## 4 · Absolute distance
#
# The closest points of two boxes, $\min_{p \in A,\, q \in B} \lVert p - q \rVert$ over points sampled every 5 cm on the surfaces of the boxes. This reproduces VSI-Bench's published answers exactly.

# %% tags=["nbval-check-output"]
question = first_question("object_abs_distance")
if question:
    pair = [only[name] for name in question.categories]
    title = f"{' to '.join(question.categories)}: surface distance in space"
    ax = plan(title, question.categories)
    _ = room_plots.gap_line(*pair, ax, f"{closest_distance_m(*pair):.2f} m")

# %% [markdown]
# ## 5 · Relative distance
#
# Which of four categories is closest to a unique target: the least distance between oriented boxes, over all instances of the option. If two of these distances differ by less than 15 cm, the candidate is rejected.

# %% tags=["nbval-check-output"]
question = first_question("object_rel_distance")
if question:
    target, *options = question.categories
    ax = plan(f"closest to the {target}: {question.ground_truth}", question.categories)
    for letter, option in zip("ABCD", options, strict=True):
        group = scene.by_category()[option]
        instance = min(group, key=lambda i: box_distance_m(only[target], i))
        right = letter == question.ground_truth
        print(f"{letter}: {box_distance_m(only[target], instance):.2f} m")
        room_plots.gap_line(only[target], instance, ax, bold=right)

# %% [markdown]
# ## 6 · Relative direction
#
# Stand at $p$ and face $f$: where is $q$? With $u = f - p$ and $v = q - p$ in the floor plane, the signed turn is
#
# $$\theta = \operatorname{atan2}(u_x v_y - u_y v_x,\; u \cdot v),$$
#
# positive to the left. The three difficulties divide the circle into two, three or four answers.

# %%
print(inspect.getsource(generators.direction_answer))

# %% tags=["nbval-check-output"]
question = first_question("object_rel_direction_hard")
if question:
    spots = [np.array(only[name].centroid_m[:2]) for name in question.categories]
    ax = plan(f"turn {turn_deg(*spots):+.0f}°", question.categories)
    for spot, color in zip(spots[1:], (INK, PALETTE[5]), strict=True):
        style = {"arrowstyle": "->", "color": color, "lw": 2}
        ax.annotate("", spot, spots[0], arrowprops=style)
    _ = ax.plot(*spots[0], "o", color=INK, ms=8)

# %% [markdown]
# **Try to break it.** "Standing by the bed, facing the bed" appears in released training data. Here the three objects are of three different unique categories, and `turn_deg` refuses equal points (in metres):

# %% tags=["nbval-check-output"]
try:
    turn_deg((1.0, 2.0), (1.0, 2.0), (3.0, 1.0))
except SpacerError as error:
    print(error)

# %% [markdown]
# ## 7 · Appearance order
#
# The order in which categories first appear: by the first frame of their earliest instance.

# %% tags=["nbval-check-output"]
can_order = (
    s for s in scenes
    if any(isinstance(q, Draft) for q in GENERATORS["obj_appearance_order"](
        s, np.random.default_rng(seed), rules))
)
ordered = next(can_order, scene)  # without a recording nothing is seen first
question = first_question("obj_appearance_order", ordered)

# %% tags=["nbval-check-output"]
if question:
    figure, ax = plt.subplots(figsize=(6.4, 1.8))
    for name in question.categories:
        frames = [i.first_seen_frame for i in ordered.by_category()[name]]
        seen = min(frame for frame in frames if frame is not None)
        ax.plot(seen / ordered.fps, name, "o", color=PALETTE[0], ms=8)
    ax.set(xlabel="first seen (s)", xlim=(-0.1, None), title=ordered.scene_id)

# %% [markdown]
# ## Each type in one room, each answer derived twice
#
# A question type registers its words, its generator and an *oracle*, which reads the names off the question and derives the answer in a second way. The two call nothing in common but the scene. An error in one is a disagreement. Here every registered type asks about one room, whose video lasts 20 s; what the question does not name is grey.

# %% tags=["nbval-check-output"]
room, view = draw_room(seed + 5), dataclasses.replace(VIEWS["walk"], frames=480)
filmed = to_scene(room, view, footage=film(room, view))
drafts = {}
for number, (name, kind) in enumerate(QUESTION_TYPES.items()):
    found = kind.generator(filmed, np.random.default_rng([seed, number]), rules)
    draft = next((q for q in found if isinstance(q, Draft)), None)
    drafts |= {name: draft} if draft else {}
print(f"{len(drafts)} of {len(QUESTION_TYPES)} question types ask about this room")

# %%
renderer, lens = Renderer(room), view_intrinsic(room, view, 120, 90)


def picture(frame):
    """(90, 120, 3) uint8: a frame of the synthetic video."""
    pose = view_poses(room, view, [frame])[0]
    return renderer.render(pose, lens, 120, 90)[0]


def show(family):
    """The questions of a family, drawn; their answers, and why these are right."""
    asked = [drafts[name] for name in kind_plots.FAMILIES[family] if name in drafts]
    rows = -(-len(asked) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(8.2, 1.8 * rows), squeeze=False)
    why = kind_plots.question_panels(asked, filmed, [*axes.flat], picture, rules)
    for q in asked:
        again = QUESTION_TYPES[q.question_type].oracle(vars(q), filmed, rules)
        print(f"{q.question_type}: {q.question}", *q.options or ())
        print(f"→ {q.ground_truth}, again {', '.join(again)}: {why[q.question_type]}")


# %% [markdown]
# ### Counts and sizes

# %% tags=["nbval-check-output"]
show("counts and sizes")

# %% [markdown]
# ### Distances and routes
#
# A route joins objects along legs that no box blocks and that stay inside the room's outline. The oracle walks each option in steps of 5 cm; only the right one ends at the goal.

# %% tags=["nbval-check-output"]
show("distances and routes")

# %% [markdown]
# ### Directions
#
# Black is the view, red the way to the object that is asked for.

# %% tags=["nbval-check-output"]
show("directions")

# %% [markdown]
# ### Order of appearance

# %% tags=["nbval-check-output"]
show("order of appearance")

# %% [markdown]
# ### The camera
#
# Its path is the grey line; the key names the seconds that are asked about.

# %% tags=["nbval-check-output"]
show("the camera")

# %% [markdown]
# ### Single pictures
#
# Letters are at the centers of the objects, which other objects may hide.

# %% tags=["nbval-check-output"]
show("single pictures")

# %% [markdown]
# ## The number of frames decides the answer
#
# A model that is shown 4 frames cannot count a chair that only 32 frames show. `questions_by_budget` asks what the largest budget allows, and gives each budget's answer: here an object counts if it fills 2 % of a shown frame. If one is in a shown frame and smaller, nobody can say whether it counts, and there is no answer. Twelve rooms:

# %%
budgets = [Shown(frames, least_share=0.02) for frames in (2, 4, 8, 16, 32)]
tasks = ("object_counting", "object_counting_multiple", "object_existence",
         "appearance_before_after")
found = {task: [] for task in tasks}
for number in range(12):
    other = draw_room(seed + number)
    seen = to_scene(other, view, footage=film(other, view))
    for task in tasks:
        rng = np.random.default_rng([seed, number])
        found[task] += questions_by_budget(seen, task, rng, budgets, rules)

# %% tags=["nbval-check-output"]
why = {name: Counter(r for one in group for r in one.rejections.values())
       for name, group in found.items()}
table = pd.DataFrame(why).T.fillna(0).astype(int)
table.insert(0, "questions", [len(found[name]) for name in table.index])
differ = [sum(q.differ for q in found[name]) for name in table.index]
table.insert(1, "answers differ", differ)
table.rename(index=short_name)

# %% tags=["nbval-check-output"]
some = [q for task in tasks for q in [q for q in found[task] if q.differ][:4]]
if some:
    figure, ax = plt.subplots(figsize=(6.4, 0.5 + 0.2 * len(some)))
    question_plots.budget_answers(some, ax)

# %% [markdown]
# **What to notice.** Counts grow with the frames, and "no" becomes "yes". Of two objects the same one is first for every budget that shows both clearly and apart; fewer frames leave more pairs without an answer.

# %% [markdown]
# ## Where is the camera?
#
# A pose moves points from the camera's frame to the room's: $x = R\,c + t$. The camera itself is at $c = 0$, so its position is $t$, the last column. $-R^\top t$ is the room's origin seen from the camera: another quantity, with other differences.

# %% tags=["nbval-check-output"]
poses = filmed.footage.poses
position = poses[:, :3, 3]
origin_seen = -np.einsum("nji,nj->ni", poses[:, :3, :3], position)
{name: f"{np.linalg.norm(path[8] - path[0]):.2f} m from the first frame to the ninth"
 for name, path in (("t", position), ("-Rᵀt", origin_seen))}

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(7, 2.6))
paths = {"t": position, "$-R^T t$": origin_seen}
for ax, (name, path) in zip(axes, paths.items(), strict=True):
    room_plots.floor_plan(filmed, ax, named=()).set(title=f"camera at {name}")
    ax.plot(*path[:, :2].T, ".-", color=PALETTE[5])

# %% [markdown]
# ## Every rejection has a reason
#
# For each candidate a generator yields a draft of a question, or a rejection with its reason. Which reasons are common, over all scenes?

# %% tags=["nbval-check-output"]
demo_report = build_dataset(scenes, out, recipe, seed=seed, workers=workers)


def counted(report):
    """A report's rejections as the plot takes them."""
    rows = report["rejections"]
    return {(r["question_type"], r["reason"]): r["count"] for r in rows}


figure, ax = plt.subplots(figsize=(8, 4))
_ = question_plots.rejection_bars(counted(demo_report), ax)

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(8, 3))
counts = pd.DataFrame(demo_report["counts"]).rename(index=short_name)
counts.plot.barh(stacked=True, ax=ax)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
_ = ax.set(xlabel="questions", title="what was written")

# %% [markdown]
# ## Flat answers
#
# Most counts are 2, so "2" is a good guess without the video. Training rows are thinned out: an answer keeps at most the mean number of rows per answer. 150 rooms, drawn without rendering, show the effect.

# %%
drawn = [to_scene(draw_room(1000 + n), with_boxes=False) for n in range(150)]
many = [
    row for room in drawn for row in question_rows(
        room, seed, per_task=9, tasks=["object_counting"])[0]
]
flat = flatten_answers(many, "object_counting", np.random.default_rng(seed))

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
question_plots.answer_histogram(many, axes[0])
_ = question_plots.answer_histogram(flat, axes[1])


# %% tags=["nbval-check-output"]
def best_guess(rows):
    """The accuracy of always giving the most frequent answer."""
    return max(Counter(r["ground_truth"] for r in rows).values()) / len(rows)


print(f"always the same answer: {best_guess(many):.0%} right → {best_guess(flat):.0%}")

# %% [markdown]
# ## No room in two parts
#
# Rescans share a room: `scene0000_00` and `scene0000_01` are one space. A split assigns whole spaces to parts, and training parts refuse rooms of the benchmark.

# %% tags=["nbval-check-output"]
parts = demo_report["scenes"]
pd.Series({part: ", ".join(ids) for part, ids in parts.items()})

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(6.4, 2))
for row, ids in enumerate(parts.values()):
    ax.plot([s.split("_")[0] for s in ids], [row] * len(ids), "s", ms=12)
ax.set(yticks=range(len(parts)), yticklabels=parts)
_ = ax.set(xlabel="physical space", ylim=(-0.5, len(parts) - 0.5))

# %% [markdown]
# **Failure case.** Plant a leak: a held-out rescan of a training room, under an id that no training file contains.

# %% tags=["nbval-check-output"]
trained = [s for part in ("train", "grpo") for s in parts.get(part, ())]
planted = (trained or [scene.scene_id])[0].split("_")[0] + "_07"
try:
    build_dataset(scenes, out / "leak", recipe, seed=seed, held_out_ids=[planted])
except SpacerError as error:
    print(error)
print("written:", (out / "leak").exists())

# %% [markdown]
# ## The file
#
# One JSON object per line: the question, the checkable answer, the true map for the map reward, and the video relative to the file.

# %% tags=["nbval-check-output"]
part = next(p for p, counts in demo_report["counts"].items() if any(counts.values()))
rows = read_questions(demo_report["paths"][part])
pd.Series(rows[0]).astype(str).str.slice(0, 90).to_frame("first row")

# %% [markdown]
# ## A recipe at scale
#
# SpaceR's SR-91k holds 91,310 questions about 1,201 scans. The recipe `sr91k` says how many of each kind, how many from one video at most, and which answers to even out. Fewer scenes have smaller targets, in proportion. Here it runs on rooms that are metadata only, without meshes and videos.

# %% tags=["nbval-check-output"]
made_from = read_scenes(synthetic_meta(out / f"rooms_seed{seed}.json", rooms, seed))
big = out / "sr91k"
report = build_dataset(made_from, big, "sr91k", seed=seed, workers=workers)
tasks = pd.DataFrame(report["tasks"]["train"]).T.rename(index=short_name)
tasks

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(7.5, 3.4))
tasks[["wanted", "kept"]].plot.barh(ax=ax, width=0.75)
ax.invert_yaxis()
_ = ax.set(xlabel="questions", title=f"{len(made_from)} scenes")

# %% [markdown]
# **What to notice.** Few categories occur twice in these rooms, so counting has too few candidates; other kinds are asked more often, and the sum is reached. Two biases are removed. The first is in letters: afterwards each is right equally often.

# %% tags=["nbval-check-output"]
letters = pd.DataFrame(report["letters"]["train"]).rename(columns=short_name)
ax = letters.T.plot.barh(stacked=True, figsize=(7, 2.6))
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
_ = ax.set(xlabel="questions", title="the right option's letter")

# %% [markdown]
# The second is in numbers: absolute distances before and after. Before, a guess of the most frequent distance is often right.

# %% tags=["nbval-check-output"]
files = [big / "candidates" / f"{s.scene_id}.json" for s in made_from]
before = [row for file in files for row in read_json(file)["rows"]]
after = read_questions(report["paths"]["train"])
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
for ax, some in zip(axes, (before, after), strict=True):
    mine = [r for r in some if r["question_type"] == "object_abs_distance"]
    question_plots.answer_histogram(mine, ax)
axes[0].set(title=f"candidates: {axes[0].get_title()}")
_ = axes[1].set(title=f"kept: {axes[1].get_title()}")

# %% [markdown]
# ## What the words give away
#
# Flat answers are not enough: a category may have a usual size, and words of a question may favour an option. A forest is trained on the questions of four fifths of the rooms and answers those of the others from their words alone. Its score should be near chance: that of any option, or of the one best number. `prune` leaves out the rows that it answers most surely, a few at a time, each time with new folds; at most half of a kind.
#
# The set is small, 120 to 160 questions of each of four kinds, and only a score more than two standard errors above chance counts.

# %% tags=["nbval-check-output"]
tested = []
for kind in ("object_size_estimation", "object_abs_distance",
             "object_rel_direction_hard", "object_rel_distance"):
    mine = [row for row in after if row["question_type"] == kind]
    tested += mine[:: len(mine) // 120 or 1]  # spread over the rooms
kept, told = prune(tested, seed=seed)
blind = pd.DataFrame(told["types"]).T.rename(index=short_name)
blind

# %%
figure, ax = plt.subplots(figsize=(7, 2.8))
scores = blind[["before", "after"]].astype(float)
scores.plot.barh(ax=ax, color=[FAINT, PALETTE[0]], width=0.7)
for place, value in enumerate(blind["chance"]):
    ax.plot([value] * 2, [place - 0.4, place + 0.4], color=INK, ls="--")
ax.invert_yaxis()
title = f"{len(tested)} questions, {len(kept)} kept; dashed: chance"
_ = ax.set(xlabel="blind score, on other rooms", title=title)

# %% [markdown]
# **What to notice.** A size follows from the category: pruning gives up at half of the rows, and what remains is still known without looking. So such a kind says little about seeing, whichever model answers.

# %% [markdown]
# ## Two siblings
#
# Spatial-R1's `sr` measures axis-aligned boxes and asks for left and right only. vsGRPO's `vsi100k` measures from centre to centre and gives no options: the answer is a word.

# %% tags=["nbval-check-output"]
for name in ("sr", "vsi100k"):
    sibling = build_dataset(made_from[:10], out / name, name, seed=seed)
    asked = read_questions(sibling["paths"]["train"])
    row = next(r for r in asked if "direction_easy" in r["question_type"])
    print(f"{name}, {row['problem_type']}: {row['question']}", *(row["options"] or ()))
    print("→", row["ground_truth"])

# %% [markdown]
# ## The general part
#
# SpaceR-151k adds 60,000 general questions from Video-R1: text to read, values to estimate, free answers. The reader counts every row that it cannot use, by reason. Without the download, a small drawn set in the same raw format replaces it.

# %% tags=["nbval-check-output"]
listing = synthetic_general(40, out / "general", seed)
general, refused = read_video_r1(listing, listing.parent)
planted, why_not = convert([{"problem_id": 1.0, "problem": None}, {"problem": "x"}])
print(len(general), "read,", dict(refused), "refused; planted:", dict(why_not))

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 5, figsize=(11, 2.4))
for ax, row in zip(axes, general[:5], strict=True):
    ax.imshow(plt.imread(row["image"]))
    ax.set(title=f"{row['problem_type']}: {row['ground_truth'][:18]}", xlabel="")
    ax.set_axis_off()

# %% tags=["nbval-check-output"]
even = sample_uniform(general, 20, seed)
joint, summary = joint_set(after, even, seed)
figure, ax = plt.subplots(figsize=(7, 2.8))
_ = question_plots.share_donut(summary["problem_type"], ax, "joint set")

# %% [markdown]
# ## Are the answers right? An audit
#
# The answers above are ours. VSI-Bench publishes metadata *and* official answers for the same rooms: `spacer extras audit` recomputes each answer from the metadata with the generators' formulas. Without the two files, the audit reads questions that our recipe `vsibench` asks about the rooms above: wording, parser of names and formulas must agree. (`sr91k` follows other rules of room area and distance, so its rows are not audited by these.)

# %%
meta_path = meta_file or os.environ.get("SPACER_REAL_META", "")
rows_path = questions_file or os.environ.get("SPACER_REAL_QA", "")
if meta_path and rows_path:
    checked = audit_files(PROJECT_ROOT / meta_path, PROJECT_ROOT / rows_path)
else:
    print("No published files are named, and real data are not shipped: our own rows.")
    own = build_dataset(made_from, out / "audited", "vsibench", seed=seed)
    checked = audit(made_from, read_questions(own["paths"]["test"]))

# %% tags=["nbval-check-output"]
table = pd.DataFrame(checked["tasks"]).T.rename(index=short_name)
figure, ax = plt.subplots(figsize=(6.4, 2.8))
table.plot.barh(ax=ax, color=[FAINT, PALETTE[2]])
ax.invert_yaxis()
title = f"{len(checked['disagreements'])} disagreements"
_ = ax.set(xlabel="rows", title=title)

# %% tags=["nbval-check-output"]
print("skipped:", checked["skipped"])
pd.DataFrame(checked["disagreements"]).head()

# %% [markdown]
# **Failure case.** An audit must find errors. One wrong official answer, planted:

# %% tags=["nbval-check-output"]
wrong = dict(after[0], ground_truth="99", question_type="object_counting")
wrong["question"] = f"How many {after[0]['categories'][0]}(s) are in this room?"
audit(made_from, [wrong])["disagreements"][0]

# %% [markdown]
# ## The published rooms
#
# With `meta_file` (or `SPACER_REAL_META`) the recipe `vsibench` asks about the benchmark's own rooms, for tests only. The training recipes refuse them.

# %% tags=["nbval-check-output"]
real = read_scenes(PROJECT_ROOT / meta_path) if meta_path else []
if real:
    asked = build_dataset(real, out / "published", "vsibench", seed=seed)
    print(f"{len(real)} scenes, {sum(asked['counts']['test'].values())} questions")
    try:
        build_dataset(real, out / "leak", "sr91k", seed=seed)
    except SpacerError as error:
        print(error)
else:
    print("Skipped: no metadata file is named, and real data are not shipped.")

# %%
if real:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1, 1.4))
    axes[0].bar(*zip(*Counter(len(rasterize(r)) for r in real).items(), strict=True))
    axes[0].set(xlabel="categories on the map", ylabel="scenes")
    question_plots.rejection_bars(counted(asked), axes[1])

# %% [markdown]
# ## The paper's data figures
#
# Figures 1, 2, 5 and 6, redrawn from the folder's files (`spacer qa` writes them as SVG). Figure 5 is made from the questions: placeholders replace the objects.

# %% tags=["nbval-check-output"]
shown = read_questions(report["paths"]["train"])
_ = figures.statistics(shown)

# %% tags=["nbval-check-output"]
_ = figures.templates(shown)

# %% tags=["nbval-check-output"]
files = [path for part, path in demo_report["paths"].items() if parts[part]]
demo_rows = [row for path in files for row in read_questions(path)]
_ = figures.examples(demo_rows, out)

# %%
seconds = [s for s in read_json(big / "maps.json")["seconds"].values() if s]
figure, ax = plt.subplots(figsize=(5.6, 2.6))
_ = question_plots.duration_histogram(seconds, ax)

# %% [markdown]
# ## The folder opens with `datasets`
#
# The folder holds JSON lines, Parquet and a card that names the files.

# %% tags=["nbval-check-output"]
opened = load_dataset(str(big), cache_dir=str(out / "cache"))["train"]
print(opened)
print((big / "README.md").read_text()[:620])


# %% [markdown]
# ## In practice
#
# ```bash
# cd notebooks
# papermill 03_generate_qa.ipynb ../papermill_runs/03_generate_qa__scannet.ipynb \
#     -p scans_dir data/scannet/scans -p recipe sr91k -p out_dir data/parsed -p workers 16
# spacer qa --meta data/parsed/scenes --recipe sr91k --out data/sr91k --workers 16
# spacer extras audit --meta scannet_meta.json --questions vsibench.jsonl
# spacer extras audit --blind --questions data/sr91k/train.jsonl --prune train_pruned
# spacer extras audit --meta scannet_frame_metadata_val.json --questions vstibench.json \
#     --kind camera_displacement
# ```
#
# - **Leaks.** Training parts refuse the rooms of VSI-Bench, among them all of ScanNet's validation list. `--held-out` adds lists of your own; `--drop-held-out` leaves such scans out instead.
# - **Interrupted?** Run it again: candidates are kept scene by scene. Random choices depend on seed, scene and question type only, so one worker, many, or a Dask cluster (`--scheduler`) write the same bytes.
# - **Videos.** Rows name their video relative to the output folder.
#
# ## Summary
#
# Each answer follows from a formula, each rejection has a reason, and each room is in one part.
#
# ## Exercises
#
# 1. Set `direction_border_deg` to 40. Which difficulty loses most questions, and why?
# 2. Replace the box distance of kind 5 by the distance of centroids. In how many questions does the answer change?
# 3. After flattening, which kind can a model answer best without the video?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §3 and Figure 5.
# - VSI-Bench, *Thinking in Space*: https://arxiv.org/abs/2412.14171
#
# ## Quiz
#
# <details><summary>1. Why is no question asked about a category with one instance in counting?</summary>
#
# *How many toilets?* is one in nearly every room: the words give the answer away.
#
# </details>
#
# <details><summary>2. What does the oracle share with the generator?</summary>
#
# The scene, and nothing else: it reads the words of the question and derives the answer a second way.
#
# </details>
#
# <details><summary>3. A held-out room was scanned twice. Which scans may be trained on?</summary>
#
# Neither: both are one space, and splits assign whole spaces.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# *Hard* loses most: it has four borders, at 0°, 90°, 180° and 270°, and a direction within 40° of one is refused. *Medium* has three, *easy* two.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
def asked_with(kind, border):
    """How many questions of a kind are left under another border."""
    changed = dataclasses.replace(rules, direction_border_deg=border)
    return sum(isinstance(q, Draft) for s in drawn[:8]
               for q in GENERATORS[kind](s, np.random.default_rng(seed), changed))


levels = [f"object_rel_direction_{name}" for name in ("easy", "medium", "hard")]
pd.DataFrame({
    border: {short_name(k): asked_with(k, border) for k in levels}
    for border in (rules.direction_border_deg, 40.0)
})

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# Some: a large option that reaches close to the target has its centre far away. The questions ask for the closest points, so centres would give other letters.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
same = []
for s in made_from[:12]:
    group = s.by_category()
    drafts = GENERATORS["object_rel_distance"](s, np.random.default_rng(seed), rules)
    for q in (d for d in drafts if isinstance(d, Draft)):
        here, *others = q.categories
        spot = group[here][0].centroid_m
        gaps = [min(np.linalg.norm(np.subtract(i.centroid_m, spot)) for i in group[n])
                for n in others]
        same.append("ABCD"[int(np.argmin(gaps))] == q.ground_truth)
print(f"another answer in {same.count(False)} of {len(same)} questions")

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# By the most frequent answer, the kinds with the fewest answers. The blind forest above says more: sizes follow from the category, which no flattening removes.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
by_kind = {}
for r in after:
    by_kind.setdefault(short_name(r["question_type"]), []).append(r)
guessed = {kind: (best_guess(some), len(some)) for kind, some in by_kind.items()}
table = pd.DataFrame(guessed, index=["always the same", "questions"]).T.round(2)
table.sort_values("always the same", ascending=False).head(4)

# %% [markdown]
# The next page decides the reward of a right answer and a right map.
#
# ← [02 · Rasterize](02_rasterize_maps.ipynb) · [04 · Design rewards](04_design_rewards.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
