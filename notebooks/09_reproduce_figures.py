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
# # 09 · Reproduce figures and tables of the papers
#
# ← [08 · Ablate](08_ablate.ipynb) · [10 · Write GRPO](10_write_grpo.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`published`](../spacer_lib/published), [`pictures`](../spacer_lib/pictures)
#
# **What you'll do.** Draw every figure and table of SpaceR, Spatial-R1 and vsGRPO in one pass: published numbers from CSV files, and our own runs beside them. Every figure is exported.
#
# **What you'll learn.**
# - look any published number up by table, row and column;
# - check printed averages against their own cells;
# - compare a result with a floor that needs no model;
# - judge a gap by an interval that the paper does not print;
# - see which figures have printed numbers and which show a curve only.
#
# **What you'll need.** Nothing from other notebooks; the kept tiny runs are in `papermill_runs`. One CPU core, one minute, 1 GB of memory.
#
# SpaceR Figures 1–8, Tables 1–6; Spatial-R1 Figure 1, Table 1; vsGRPO Figures 1–5, Tables 1–3.

# %% tags=["parameters"]
runs: str = "papermill_runs"  # a folder of results, or a run or study folder
out_dir: str = "figures"  # relative to the project
formats: str = "svg pdf"  # of the exported files
questions_file: str = ""  # rows that answers.jsonl answers; "": the tiny test rooms
seed: int = 0  # of the synthetic rooms

# %%
import os
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

# %%
from spacer_lib import published
from spacer_lib.artifacts import PROJECT_ROOT, commit, read_json, read_jsonl
from spacer_lib.benchmarks.rules import strict
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.consistency import failure_examples
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.selection import keep_informative
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.text import map_to_text
from spacer_lib.pictures import (
    evaluation_plots,
    figures,
    map_plots,
    question_plots,
    room_plots,
    training_plots,
)
from spacer_lib.pictures.style import PALETTE, short_name, use_house_style

# %%
from spacer_lib.questions.build import build_dataset
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.rooms.scans import FIRST_ROOM, read_scenes, synthetic_meta
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import render_frames
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rows import read_questions
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.recipe import load_config

# %%
use_house_style()
pd.set_option("display.max_colwidth", None)
os.environ["TQDM_DISABLE"] = "1"  # too quick for progress bars
run_dir, out = PROJECT_ROOT / runs, PROJECT_ROOT / out_dir
if not run_dir.is_dir():
    raise SpacerError(f"runs {runs}", kind="notebooks.no-runs", got="no such folder",
                      remedy="make demo")
{"commit": commit(), "runs": runs, "tables": len(published.names())}

# %% [markdown]
# ## Where numbers come from
#
# `spacer_lib/published` holds one CSV file per table, with one printed number per line under the printed names. An unknown name is refused with the nearest one.

# %% tags=["nbval-check-output"]
print(published.value("spacer_table1", "SpaceR SG-RLVR", "VSI-Bench"))
try:
    published.value("spacer_table1", "SpaceR SGRLVR", "VSI")
except SpacerError as error:
    print(error)

# %%
exported = {}


def save(figure, name, *sources):
    """Export a figure and note the tables and run files that it shows."""
    for source in sources:
        if source not in published.names() and not (run_dir / source).exists():
            raise SpacerError(f"figure {name}", kind="notebooks.unknown-source",
                              got=source, expected="table or run")
    figures.save(figure, out / name, formats.split())
    exported[name] = ", ".join(sources) or "synthetic rooms"
    figures.show(figure)
    plt.close(figure)


def show(name):
    """Draw and export one table of a paper."""
    save(figures.published_table(name), name, name)


# %%
def inside(paths):
    """Names of the files and folders of the runs that hold these paths."""
    return sorted({path.relative_to(run_dir).parts[0] for path in paths})


def read(name):
    """A result file of the runs, or an empty dictionary."""
    path = run_dir / name
    if not path.exists():
        print(f"{runs}/{name} is missing: published numbers only")
    return read_json(path) if path.exists() else {}


# %% [markdown]
# ### Averages that do not follow
#
# In the tables below a letter marks an odd number. These printed averages differ from the mean of their eight tasks by more than rounding:

# %% tags=["nbval-check-output"]
every = pd.concat([published.table(name) for name in published.names()])
every[every["note"].str.contains("mean of the")].iloc[:, [0, 1, 2, 4, 6]]

# %% [markdown]
# **What to notice.** Several differ in the last digit only. The averages of the frequency baseline and of Spatial-R1 differ by more, and Spatial-R1's headline gain is computed from its average.
#
# ## SpaceR
#
# ### Figure 1 · Questions about one room
#
# The paper shows rooms of ScanNet, whose licence does not allow us to ship them. Ours are synthetic: a walk through one room, its map, and one question of each type.

# %% tags=["nbval-check-output"]
temporary = tempfile.TemporaryDirectory()
work = Path(temporary.name)
scenes = read_scenes(synthetic_meta(work / "rooms.json", 200, seed))
report = build_dataset(scenes, work / "sr91k", "sr91k", seed=seed)
rows = read_questions(report["paths"]["train"])
of_one = [row for row in rows if row["scene_name"] == scenes[0].scene_id]
len(scenes), len(rows), len(of_one)

# %%
room = draw_room(FIRST_ROOM * (seed + 1), "furnished")
walk = VIEWS["walk"]
indices = np.linspace(0, walk.frames - 1, 5).astype(int)
figure, axes = plt.subplots(1, 5, figsize=(10.8, 1.9))
seconds = [f"{index / scenes[0].fps:.1f} s" for index in indices]
room_plots.frames_strip(render_frames(room, walk, indices, 160), axes, seconds)
save(figure, "spacer_figure1_frames")

# %% tags=["nbval-check-output"]
figure = figures.examples(of_one, work)
save(figure, "spacer_figure1")

# %% [markdown]
# ### Figure 2 · What SpaceR-151k consists of
#
# The text prints the total and the general part; the shares of the tasks are drawn without numbers. Top: published. Bottom: the targets of our recipe `sr91k`.

# %%
total = published.value("spacer_figure2", "SpaceR-151k", "questions")
general = published.value("spacer_figure2", "Video-R1-260k part", "questions")
sources = {"SR-91k": int(total - general), "Video-R1-260k part": int(general)}
tasks = {k: task.target for k, task in load_recipe("sr91k").tasks.items()}
assert sum(tasks.values()) == sources["SR-91k"]

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(2, 1, figsize=(7, 4.6))
question_plots.share_donut(sources, axes[0], "SpaceR-151k, published")
question_plots.share_donut(tasks, axes[1], "SR-91k, our recipe")
save(figure, "spacer_figure2", "spacer_figure2")


# %% [markdown]
# ### Figure 3 · Sample selection
#
# Each question is answered eight times; if all answers are right or all are wrong, GRPO learns nothing from it. The paper draws the distribution, the shares of the tasks and the scores after retraining, without numbers. Ours is the tiny model's, from notebook 06; nothing was retrained on the selection.

# %%
def task_share(some):
    """Per cent of the rows by question type, which their ids name."""
    counts = Counter(short_name(row["id"].split(":")[1]) for row in some)
    return {name: 100 * count / len(some) for name, count in counts.items()}


# %% tags=["nbval-check-output"]
found = sorted(run_dir.rglob("selection.jsonl"))
if found:
    scored = read_jsonl(found[0])
    kept, histogram = keep_informative(scored, [row["scores"] for row in scored])
    _, kept_histogram = keep_informative(kept, [row["scores"] for row in kept])
    figure, axes = plt.subplots(1, 2, figsize=(10.8, 2.8))
    training_plots.selection_histogram(histogram, axes[0], kept_histogram)
    task_shares = {k: (of_all, task_share(kept)[k])
                   for k, of_all in task_share(scored).items()}
    evaluation_plots.paired_dots(task_shares, axes[1], ("all", "kept"))
    axes[1].set(xlabel="share of the questions (%)")
    save(figure, "spacer_figure3", *inside(found[:1]))
else:
    print("No selection.jsonl in the runs, and no printed numbers: nothing to draw.")

# %% [markdown]
# ### Figures 4 and 8 · Success and failure with the drawn map
#
# Squares are true, dots are drawn, lines join the pairs. The answers come from the runs, before and after training.

# %% tags=["nbval-check-output"]
files = [path for name in ("before_own", "after_own", "answers")
         for path in sorted(run_dir.rglob(f"{name}.jsonl"))][:2]
before, after = map(read_jsonl, files) if files[1:] else ([], [])
if questions_file:
    asked = read_questions(PROJECT_ROOT / questions_file)
else:
    asked = draw_rows(SEEDS["test"], max(len(before), 24), load_config("tiny").view)
by_id = {row["id"]: row for row in asked}
both = zip(before, after, strict=True)
pairs = [(by_id[b["id"]], b, a) for b, a in both if b["id"] in by_id]
from_runs = bool(pairs)
print(f"{len(pairs)} answers" if pairs else "NO ANSWERS: drawn from perturbed maps")


# %%
def imagined(row, rng, cells=3):
    """An answer whose map has every object moved by up to ``cells`` cells."""
    def moved(spots):
        shifts = rng.integers(-cells, cells + 1, (len(spots), 2))
        return np.clip(np.add(spots, shifts), 0, 9).tolist()

    drawn = map_to_text({name: moved(spots) for name, spots in row["map"].items()})
    return {"prediction": f"<map>{drawn}</map>", "score": float(cells == 0)}


if not from_runs:
    rng = np.random.default_rng(seed)
    pairs = [(row, imagined(row, rng), imagined(row, rng, 0)) for row in asked]


# %%
def case(row, answer, ax, name):
    """The true map, the drawn one, and the answer given."""
    said = read_completion(answer["prediction"], expect_map=True)
    map_plots.cognitive_map(row["map"], ax, predicted=said.map or {}, labels=False)
    ax.set_title(f"{name}: said {said.answer or '–'}, true {row['ground_truth']}")
    words = " ".join([row["question"], *(row["options"] or ())])
    ax.set(xlabel=textwrap.fill(words, 56))


def mended(row, first, second):
    return first["score"] < 1 and second["score"] == 1


answer_files = inside(files) if from_runs else []

# %% tags=["nbval-check-output"]
repaired = [pair for pair in pairs if mended(*pair)]
chosen = []
for kind in ("rel_distance", "counting"):
    chosen += [pair for pair in repaired if kind in pair[0]["question_type"]][:1]
names = ("imagined, objects moved", "imagined, true map")
if from_runs:
    names = ("before", "after SG-RLVR")
if chosen:
    size = (10.4, 4.1 * len(chosen))
    figure, axes = plt.subplots(len(chosen), 2, figsize=size, squeeze=False)
    for line, (row, first, second) in zip(axes, chosen, strict=True):
        case(row, first, line[0], names[0])
        case(row, second, line[1], names[1])
    save(figure, "spacer_figure4", *answer_files)

# %% [markdown]
# **What to notice.** The paper selects its cases. These are the *first* questions of the same two tasks that were wrong before training and right after it. Single cases prove nothing, so count both directions:

# %% tags=["nbval-check-output"]
fates = {"mended": mended, "broken": lambda row, a, b: mended(row, b, a)}
counts = {name: sum(found(*pair) for pair in pairs) for name, found in fates.items()}
print(f"of {len(pairs)} questions:", counts if from_runs else "none was asked")

# %% [markdown]
# The paper names two kinds of failure. *Perception*: an object is missing from the map. *Localisation*: all objects are drawn, in the wrong places. The classifier of notebook 08 finds the first answer of each kind after training:

# %% tags=["nbval-check-output"]
judged = [record(row, last["prediction"], strict) for row, _, last in pairs]
failed = failure_examples(judged, asked, ("perception", "localisation"))
if failed:
    figure, axes = plt.subplots(1, len(failed), figsize=(10.4, 4.1), squeeze=False)
    for ax, (kind, example) in zip(axes[0], failed.items(), strict=True):
        case(example.row, example.prediction, ax, kind)
    save(figure, "spacer_figure8", *answer_files)
else:
    print("No such failure among the answers.")

# %% [markdown]
# ### Figure 5 · Templates
#
# The wording of our questions, with placeholders instead of objects. It is taken from the questions, not from a list of templates.

# %% tags=["nbval-check-output"]
figure = figures.templates(rows)
save(figure, "spacer_figure5")

# %% [markdown]
# ### Figure 6 · Video durations
#
# The paper draws a histogram and prints no number. Ours are the simulated walks through 200 synthetic rooms, uniform by construction. With real scans this cell shows their durations.

# %%
lengths = read_json(work / "sr91k" / "maps.json")["seconds"].values()
figure, ax = plt.subplots(figsize=(6.4, 2.4))
question_plots.duration_histogram([s for s in lengths if s], ax)
save(figure, "spacer_figure6")

# %% [markdown]
# ### Table 1 · Main results

# %% tags=["nbval-check-output"]
show("spacer_table1")

# %% [markdown]
# Our numbers are from the tiny model on synthetic rooms, before and after SG-RLVR, with two floors. They show the *form* of such a comparison, with an interval for each number; their size does not compare with the table's.

# %%
summary = read("summary.json")


def state(part, name):
    """Score with its interval in per cent, of `summary.json`."""
    found = summary[part][name]
    return [100 * found[k] for k in ("score", "score_low", "score_high")]


ours = {"strongest floor": ("floors", "strongest"),
        "majority": ("floors", "majority"), "no video": ("floors", "blind"),
        "warm start": ("before", "own"), "SG-RLVR": ("after", "own")}
ours = {k: state(part, name) for k, (part, name) in ours.items()
        if summary and name in summary[part]}

# %% tags=["nbval-check-output"]
if ours:
    figure, ax = plt.subplots(figsize=(7, 2.2))
    evaluation_plots.interval_dots(ours, ax, zero=False)
    title = f"tiny model, n = {summary['questions']} questions"
    ax.set(xlabel="score (%, 95% interval)", title=title)
    save(figure, "spacer_table1_ours", "summary.json")

# %% [markdown]
# ### Three of eight tasks at or under the frequency baseline
#
# The frequency baseline gives a task's most frequent answer and needs no video and no model. VSI-Bench prints its score; Spatial-R1's table repeats it.

# %% tags=["nbval-check-output"]
model = published.wide("spacer_table5").loc["Model-generated"].iloc[1:9]
printed = published.wide("spatial_r1_table1").loc["Chance Level (Frequency)"]
floors = printed.iloc[:8]  # both tables name the tasks in one order
pairs_of = zip(model.index, floors, model, strict=True)
against = {task: (floor, score) for task, floor, score in pairs_of}
pd.DataFrame({"floor's name": floors.index}, index=model.index)

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(8.4, 3.4))
labels = ("always the most frequent answer", "SpaceR SG-RLVR")
evaluation_plots.paired_dots(against, ax, labels, margin=0.5)
ax.set(xlabel="VSI-Bench accuracy (%)")
save(figure, "three_of_eight", "spacer_table5", "spatial_r1_table1")

# %% tags=["nbval-check-output"]
low = [task for task, (floor, score) in against.items() if score <= floor + 0.5]
print(f"{len(low)} of {len(against)} at or under the floor (within half a point):", low)

# %% [markdown]
# **What to notice.** Grey: no difference. Orange: under the floor. The average over eight tasks hides that some of them were not learned at all. The same for our model:

# %% tags=["nbval-check-output"]
if summary:
    kind = "strongest" if "strongest" in summary["floors"] else "majority"
    floor, score = summary["floors"][kind], summary["after"]["own"]
    both = {short_name(k): (100 * floor["per_task"][k], 100 * v)
            for k, v in score["per_task"].items()}
    figure, ax = plt.subplots(figsize=(8.4, 2.8))
    labels = (f"{kind} floor", "tiny model after SG-RLVR")
    evaluation_plots.paired_dots(both, ax, labels)
    ax.set(xlabel=f"score (%), n = {summary['questions'] // len(both)} a task")
    save(figure, "three_of_eight_ours", "summary.json")

# %% [markdown]
# ### Table 2 · Ablations

# %% tags=["nbval-check-output"]
show("spacer_table2")

# %% [markdown]
# The gaps are printed without intervals. How wide is the interval of one score? The shaded bands are the narrowest and the widest half-width of the models in `held_out/scores.csv`: 658 questions about 77 rooms of ours.

# %%
held = "held_out/scores.csv"
has_held = (run_dir / held).exists()
bands = []
if has_held:
    ends = pd.read_csv(run_dir / held).query("level == 'macro' and not floor")
    half_widths = 50 * (ends["score_high"] - ends["score_low"])
    bands = [round(float(width), 1) for width in (half_widths.min(), half_widths.max())]
two = published.wide("spacer_table2")["VSI-Bench"]
gaps = {f"SpaceR less {row}": (two["SpaceR SG-RLVR"] - two[row], None, None)
        for row in two.index[:-1]}
maps = published.wide("spacer_table5")["Overall"]
gain = maps["Ground truth"] - maps["Model-generated"]
gaps["Table 5: true map less own map"] = (gain, None, None)

# %% tags=["nbval-check-output"]
study, hacking = read("study.json"), read("study_hacking.json")
for found in (study, hacking):
    for pair, difference in found.get("differences", {}).items():
        gaps[f"ours: {pair}"] = [100 * value for value in difference["score"]]
figure, ax = plt.subplots(figsize=(9.6, 3.2))
evaluation_plots.interval_dots(gaps, ax, bands=bands)
half = " to ".join(f"±{band}" for band in bands) or "nothing"
count = study.get("settings", {}).get("questions", 0)
told = f"shaded: {half}; ours: 95% interval, n = {count}"
ax.set(xlabel=f"gap (percentage points; {told})")
read_from = [f for f in ("study.json", "study_hacking.json") if (run_dir / f).exists()]
read_from += [held] if has_held else []
save(figure, "ablation_gaps", "spacer_table2", "spacer_table5", *read_from)

# %% [markdown]
# **What to notice.** Hollow dots have no interval. `map` is our map reward; `length` is a bonus for longer completions, and its study is of an earlier tiny model (LOG.md). A *paired* comparison of two runs, question by question, would have a narrower interval than the bands, but the answers of the published runs are not published.
#
# SpaceR's text prints its gain by the origin of the rooms:

# %% tags=["nbval-check-output"]
for rooms in ("ScanNet", "not ScanNet"):
    gain = published.value("context", "gain on VSI-Bench", rooms)
    print(f"gain on VSI-Bench, rooms of {rooms}: {gain} points")

# %% [markdown]
# ### Table 3 · Thinking

# %% tags=["nbval-check-output"]
show("spacer_table3")

# %% tags=["nbval-check-output"]
three = published.wide("spacer_table3")
thought = [row for row in three.index if row.endswith("+ think")]
models = [row.removesuffix(" + think") for row in thought]
figure, axes = plt.subplots(1, 2, figsize=(10.8, 2.8), sharey=True)
for ax, column in zip(axes, ("VSI-Bench", "VM"), strict=True):
    shown = {m: [three.loc[f"{m} + {k}", column] for k in ("non-think", "think")]
             for m in models}
    evaluation_plots.paired_dots(shown, ax, ("direct", "thinking"))
    ax.set(xlabel=f"{column} (%)")
save(figure, "spacer_table3_pairs", "spacer_table3")

# %% [markdown]
# **What to notice.** Thinking lowers the scores of models that were not trained to think (left, untrained rows). On general video (right) it lowers all scores except that of the model that started from reasoning traces. In our study each mode is taught by a short SFT first and then trained with SG-RLVR; the tiny model was an earlier one, which saw open rooms from outside (LOG.md).

# %% tags=["nbval-check-output"]
modes = read("study_modes.json")
if modes:
    figure, ax = plt.subplots(figsize=(7.4, 2.2))
    evaluation_plots.study_forest(modes, ax)
    save(figure, "modes_ours", "study_modes.json")

# %% [markdown]
# ### Table 4 · Spatial words

# %% tags=["nbval-check-output"]
show("spacer_table4")

# %% tags=["nbval-check-output"]
four = published.wide("spacer_table4")
figure, ax = plt.subplots(figsize=(6.4, 2.8))
for name in ("VSI-Bench", "STI-Bench", "SPAR-Bench"):
    ax.plot(four[f"{name} Freq"], four[f"{name} Acc"], "o-", label=name)
ax.set(xlabel="spatial words per response", ylabel="accuracy (%)")
ax.legend()
save(figure, "spacer_table4_lines", "spacer_table4")

# %% [markdown]
# **What to notice.** These are four checkpoints of one training run. Words and accuracy both grow with the steps, so the table cannot show that one causes the other. The tiny model reasons in cells, not in words, so we have nothing to count; for a run that writes sentences see notebook 08.
#
# ### Figure 7 · Data scale
#
# The paper draws six subsets and prints the two ends only: the base model and the full set. Right: the tiny model, trained for 60 steps on subsets of the same proportions (study `scale`, three seeds); a small subset is repeated.

# %%
ends = [0, total]
rows_of = ["Qwen2.5-VL-7B-Instruct", "SpaceR SG-RLVR"]
table = published.wide("spacer_table1")
logs = sorted(run_dir.rglob("metrics.jsonl"))
logs = [path for path in logs if "study_beta" in path.parts] or logs
histories = {}
for path in logs:
    arm = path.parent.name.split("_seed")[0]
    histories.setdefault(arm, []).append(read_jsonl(path))
histories = {a: r for a, r in histories.items() if "reward" in r[0][0]}
log_files = inside(logs)

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(10.4, 2.8))
for name in ("VSI-Bench", "SPAR-Bench Single-view", "VM"):
    axes[0].plot(ends, table.loc[rows_of, name], "o:", label=name)
axes[0].set(xlabel="questions in the training set", ylabel="accuracy (%)")
axes[0].set(title="published ends")
axes[0].legend()
scale = read("study_scale.json")
for measure in ("score", "hits") if scale else ():
    sizes = [int(arm.removeprefix("n").replace("all", "960")) for arm in scale["arms"]]
    gains = [100 * np.array(gain[measure]) for gain in scale["arms"].values()]
    mean, low, high = np.transpose(gains)
    axes[1].errorbar(sizes, mean, [mean - low, high - mean], fmt="o-", label=measure)
    axes[1].legend()
count = scale.get("settings", {}).get("questions", 0)
axes[1].set(xscale="log", xlabel="questions in the training set")
title = f"tiny model; 95% interval, n = {count}"
axes[1].set(ylabel="change (percentage points)", title=title)
used = ["study_scale.json"] if scale else []
save(figure, "spacer_figure7", "spacer_table1", "spacer_figure2", *used)

# %% [markdown]
# Recipes for all six subsets of SpaceR-151k are in `configs` (`spacer_7b_data5k` …).
#
# ### Tables 5 and 6 · Maps at inference, and their size

# %% tags=["nbval-check-output"]
show("spacer_table5")
show("spacer_table6")

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 3, figsize=(10.8, 2.8))
for ax, name in zip(axes[:2], ("spacer_table5", "spacer_table6"), strict=True):
    lines = published.wide(name)
    ax.plot(lines["Map accuracy"], lines["Overall"], "o-")
    for label, x, y in lines[["Map accuracy", "Overall"]].itertuples():
        ax.annotate(label, (x, y), (4, -9), textcoords="offset points", fontsize=7)
    ax.set(xlabel="map accuracy (%)", ylabel="VSI-Bench (%)", title=f"Table {name[-1]}")
    ax.margins(0.18)
if summary:
    kinds = {"another room": "other", "own": "own", "true map": "oracle"}
    for label, key in kinds.items():
        found = summary["after"][key]
        spot = 100 * found["hits"], 100 * found["score"]
        axes[2].plot(*spot, "o", color=PALETTE[2])
        axes[2].annotate(label, spot, (4, -9), textcoords="offset points", fontsize=7)
    axes[2].set(xlabel="objects within 1.5 cells (%)", ylabel="score (%)", title="ours")
    axes[2].margins(0.25)
used = ["summary.json"] if summary else []
save(figure, "spacer_tables5_6_lines", "spacer_table5", "spacer_table6", *used)

# %% [markdown]
# **What to notice.** Published: from the drawn map to the true map, map accuracy more than doubles and the score rises by two points. Ours: the score depends strongly on the map, since the tiny model computes its answers from it. The paper does not define its map accuracy; ours is the hit rate, objects within 1.5 cells.
#
# ## Spatial-R1
#
# ### Figure 1 · Examples
#
# Its questions ask for left or right only and its distances use axis-aligned boxes: the recipe `sr`.

# %% tags=["nbval-check-output"]
sibling = build_dataset(scenes[:2], work / "sr", "sr", seed=seed)
asked_sr = read_questions(sibling["paths"]["train"])
of_one = [row for row in asked_sr if row["scene_name"] == scenes[0].scene_id]
figure = figures.examples(of_one, work)
save(figure, "spatial_r1_figure1")

# %% [markdown]
# ### Table 1 · VSI-Bench

# %% tags=["nbval-check-output"]
show("spatial_r1_table1")

# %% tags=["nbval-check-output"]
spatial = published.wide("spatial_r1_table1")
rows_of = ["Qwen2.5-VL-7B (zero-shot)", "Spatial-R1 (Ours)"]
change = spatial.loc[rows_of].diff().iloc[-1]
recomputed = change.iloc[:8].mean()
print(f"printed averages differ by {change.iloc[8]:.1f}")
print(f"means of the eight tasks differ by {recomputed:.1f}")

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(8.4, 3.4))
sides = spatial.loc[rows_of].T.iloc[:8]
pairs_of = {task: tuple(values) for task, values in sides.T.items()}
evaluation_plots.paired_dots(pairs_of, ax, ("Qwen2.5-VL-7B (zero-shot)", "Spatial-R1"))
ax.set(xlabel="VSI-Bench accuracy (%)")
save(figure, "spatial_r1_table1_pairs", "spatial_r1_table1")

# %% [markdown]
# ## vsGRPO
#
# ### Figures 1 to 3 · Examples and VSI-100k
#
# Figures 1 and 3 are transcripts. Ours, one per mode, before and after training:

# %% tags=["nbval-check-output"]
for run in modes.get("runs", []):
    if run["seed"] == 0:
        example = run["examples"][0]
        print(f"{run['arm']}: {example['question']} (true: {example['ground_truth']})")
        print(f"    before {example['before']}\n    after  {example['after']}")

# %% [markdown]
# Figure 2 shows one question per task. The text prints the number of questions of each task; our recipe `vsi100k` has the same targets.

# %% tags=["nbval-check-output"]
vsi = published.wide("vsgrpo_vsi100k")["questions"]
tasks = load_recipe("vsi100k").tasks
wanted = {name: task.target / 1000 for name, task in tasks.items() if task.target}
figure, axes = plt.subplots(1, 2, figsize=(10.4, 2.4))
axes[0].barh(vsi.index, vsi, color=PALETTE[0])
axes[1].barh([short_name(k) for k in wanted], wanted.values())
titles = "VSI-100k, published", "our recipe vsi100k"
for ax, title in zip(axes, titles, strict=True):
    ax.bar_label(ax.containers[0], fmt="%.1f", padding=2, fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel="thousand questions", title=title)
save(figure, "vsgrpo_figure2", "vsgrpo_vsi100k")

# %% [markdown]
# ### Table 1 · Prompting alone
#
# Some cells of this table could not be read from the paper's text; they are left empty.

# %% tags=["nbval-check-output"]
show("vsgrpo_table1")

# %% [markdown]
# ### Table 2 · Training

# %% tags=["nbval-check-output"]
show("vsgrpo_table2")

# %%
average = published.wide("vsgrpo_table2")["Avg"]
gains = {
    row: (average[row] - average[base], None, None)
    for base in ("Qwen2-VL-2B (V)", "Qwen2-VL-7B (V)")
    for row in average.index if row.startswith(base[:-4] + " +")
}
for arm, gain in study.get("arms", {}).items():
    gains[f"ours, {arm}"] = [100 * value for value in gain["score"]]

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(8.8, 4.2))
evaluation_plots.interval_dots(gains, ax)
count = study.get("settings", {}).get("questions", 0)
words = f"ours: 95% interval, n = {count}"
ax.set(xlabel=f"gain over the base model (percentage points; {words})")
used = ["study.json"] if study else []
save(figure, "vsgrpo_table2_gains", "vsgrpo_table2", *used)

# %% [markdown]
# **What to notice.** In the paper GRPO gains more than SFT; in our runs SFT gains more, because it learns from demonstrations of true maps (notebook 06). Only ours have intervals.
#
# ### Table 3 · What is forgotten

# %% tags=["nbval-check-output"]
show("vsgrpo_table3")

# %% [markdown]
# ### Figure 4 · Format reward with and without KL
#
# The paper draws a collapse at $\beta = 0$ and none at a small positive $\beta$; it prints no numbers. Ours: an earlier tiny model, which saw open rooms from outside (LOG.md), over a few dozen steps; thin lines are seeds.

# %% tags=["nbval-check-output"]
if histories:
    figure, ax = plt.subplots(figsize=(8, 2.8))
    training_plots.arm_curves(histories, ax, "rewards/format/mean")
    ax.set(ylabel="format reward", ylim=(0, 1.05))
    save(figure, "vsgrpo_figure4", *log_files)
else:
    print("No metrics.jsonl in the runs, and no printed numbers: nothing to draw.")

# %% [markdown]
# **What to notice.** There is no collapse here, but a few dozen steps with most of the model frozen say nothing about thousands. The recipes `vsgrpo_2b_think` and `vsgrpo_2b_think_beta0` are the published pair.
#
# ### Figure 5 · Format, accuracy and total reward
#
# The paper observes that the format is learned within a few steps, and the task slowly and up to a limit.

# %% tags=["nbval-check-output"]
parts = {"format": "rewards/format/mean", "accuracy": "rewards/task/mean"}
if histories:
    arm, logged = next(iter(histories.items()))
    figure, axes = plt.subplots(1, 2, figsize=(10.4, 2.8))
    for color, (label, key) in enumerate(parts.items()):
        training_plots.arm_curves({arm: logged}, axes[0], key, label, first_color=color)
    training_plots.arm_curves({arm: logged}, axes[1], "reward", "total", first_color=3)
    axes[0].set(ylabel="reward", ylim=(0, 1.05), title=f"{arm}, {len(logged)} seeds")
    axes[1].set(ylabel="total reward, map included")
    save(figure, "vsgrpo_figure5", *log_files)

# %% [markdown]
# ## The leaderboard
#
# A public page ranks the released checkpoint on other benchmarks; its VSI-Bench number differs slightly from the paper's. The page mixes shares and per cent.

# %% tags=["nbval-check-output"]
published.wide("leaderboard")

# %% [markdown]
# ## Everything exported
#
# Each figure with the tables and run files that it shows. `save` refuses a source that does not exist.

# %% tags=["nbval-check-output"]
pd.Series(exported, name="drawn from").to_frame()

# %% tags=["nbval-check-output"]
written = sorted(path.name for path in out.iterdir() if path.stem in exported)
print(f"{len(exported)} figures, {len(written)} files in {out_dir}/")
drawn_from = " ".join(exported.values())
[name for name in published.names() if name not in drawn_from]

# %% [markdown]
# Only the leaderboard, shown as text above, has no figure.
#
# ## In practice
#
# ```bash
# cd notebooks
# papermill 09_reproduce_figures.ipynb ../papermill_runs/09.ipynb -p runs runs/study_beta
# papermill 09_reproduce_figures.ipynb out.ipynb -p runs runs/05_train_grpo -p formats "pdf"
# python scripts/keep_run.py runs/study_beta papermill_runs/study_beta
# ```
#
# - **Your runs.** `runs` is searched for `summary.json`, `study*.json`, `metrics.jsonl`, `answers.jsonl` and `selection.jsonl`; missing files are named, and the published numbers are drawn without ours.
# - **The same bytes.** Exported files have no date, so a file changes only if its data change.
# - **A wrong number?** Correct the CSV row; tests recompute averages, gains and repeated rows.
#
# ## Summary
#
# All tables of the three papers are data with a source. Where a paper prints no numbers, only ours are drawn. Three of eight tasks are not above a floor, and most ablation gaps are printed without the interval that they would need.
#
# ## Exercises
#
# 1. Which single task contributes most to SpaceR's gain over its base model? (Spatial-R1's table has the base.)
# 2. Find the two tables whose average is furthest from its cells. Does the ranking of models change when you recompute it?
# 3. Notebook 07 has run with another seed, and its folder is passed as `runs`. Which figures of this page can change?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*.
# - Spatial-R1: *Enhancing MLLMs in Video Spatial Reasoning*.
# - vsGRPO: *Improved Visual-Spatial Reasoning via R1-Zero-Like Training*.
# - VSI-Bench, *Thinking in Space*: https://arxiv.org/abs/2412.14171
#
# ## Quiz
#
# <details><summary>1. Where does a published number come from on this page?</summary>
#
# From a CSV file with paper, table, row and column: `published.value` finds it or refuses.
#
# </details>
#
# <details><summary>2. When may a curve of a paper not be redrawn?</summary>
#
# When its numbers are not printed. Then only our own runs are drawn.
#
# </details>
#
# <details><summary>3. A printed average differs from the mean of its cells. What does this page do?</summary>
#
# It marks the number and keeps the printed one.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# Per task, SpaceR's own row of Table 5 less the base model's row of Spatial-R1's table. Both papers print one model, base and benchmark, but not one evaluation, so a gap mixes training with settings.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
base = published.wide("spatial_r1_table1").loc["Qwen2.5-VL-7B (zero-shot)"].iloc[:8]
reached = published.wide("spacer_table5").loc["Model-generated", list(against)]
gained = pd.Series(reached.to_numpy() - base.to_numpy(), index=reached.index)
gained.sort_values(ascending=False).round(1)

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# Spatial-R1's own average differs most from its cells, and its table's ranking changes when averages are recomputed. vsGRPO's differ by rounding, and its ranking stays.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
tables = {}
for name in ("spatial_r1_table1", "vsgrpo_table2"):
    printed_table = published.wide(name)
    column = "Avg" if "Avg" in printed_table else "Overall Acc (Avg.)"
    mean = printed_table.drop(columns=column).mean(axis=1, skipna=False)
    both = pd.DataFrame({"printed": printed_table[column], "mean": mean}).dropna()
    order = [list(both[k].sort_values().index) for k in both]
    gap = (both["printed"] - both["mean"]).abs()
    tables[name] = {"largest difference": gap.max().round(2), "of": gap.idxmax(),
                    "ranking changes": order[0] != order[1]}
pd.DataFrame(tables)

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Those that are drawn from `summary.json`, which notebook 07 writes.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
[name for name, drawn in exported.items() if "summary.json" in drawn]

# %% [markdown]
# `README.md` says what is not reproduced.
#
# ← [08 · Ablate](08_ablate.ipynb) · [10 · Write GRPO](10_write_grpo.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
