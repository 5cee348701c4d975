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
# # 07 · Evaluate on rooms outside training
#
# ← [06 · Baselines](06_train_baselines.ipynb) · [08 · Ablate](08_ablate.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`evaluation`](../spacer_lib/evaluation), [`benchmarks`](../spacer_lib/benchmarks)
#
# **What you'll do.** Ask the model of notebook 05 questions about new rooms, before and after SG-RLVR. Compare the scores with floors, which are reached without the video, and find out where the answers come from.
#
# **What you'll learn.**
# - place every score between a floor and an interval;
# - compare two models question by question, and say *up*, *down* or *not distinguishable*;
# - test whether an answer comes from the drawn map: exchange the map, or the room;
# - read a benchmark's files, run it so that it resumes, and see how much the reading rule changes;
# - compare hit rates with map scores, and see why some map scores say little.
#
# **What you'll need.** The warm-start checkpoint (in the repository) and the run of notebook 05; without the run this notebook evaluates the warm start alone and says so. One CPU core, about four minutes, 1.5 GB of memory.
#
# SpaceR §5 (evaluation), Table 5 (maps); VSI-Bench for the task averages.

# %% tags=["parameters"]
recipe: str = "tiny"  # that trained the model; a file in configs/
before: str = ""  # checkpoint; "": that the recipe starts from
after: str = ""  # checkpoint; "": runs/05_train_grpo/model
view: str = ""  # camera; "": that the recipe trains on
questions: int = 240  # held-out questions per condition, one room each
seed: int = 0  # of sampled answers
out_dir: str = ""  # predictions and summary; "": runs/07_evaluate

# %%
import os
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from transformers.utils.logging import disable_progress_bar

from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json, write_json
from spacer_lib.benchmarks import BENCHMARKS, held_out, named
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation import gaps
from spacer_lib.evaluation.audit import audit
from spacer_lib.evaluation.backends import LocalModel, load
from spacer_lib.evaluation.floors import floors, strongest
from spacer_lib.evaluation.foreign import Answer
from spacer_lib.evaluation.profiles import differing, profile_table
from spacer_lib.evaluation.report import read_run
from spacer_lib.evaluation.runner import evaluate, run
from spacer_lib.evaluation.statistics import compare, summarize, totals

# %%
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.scores import score as map_score
from spacer_lib.pictures import evaluation_plots, map_plots, room_plots
from spacer_lib.pictures.style import PALETTE, short_name, use_house_style
from spacer_lib.rooms.frames import Sampler
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.video import read_frames
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.training.recipe import load_config

use_house_style()
disable_progress_bar()
torch.set_num_threads(1)
{"commit": commit(), **provenance()["packages"]}

# %%
quick = os.environ.get("SPACER_QUICK") == "1"
os.environ["TQDM_DISABLE"] = "1"  # bars would stay in the saved notebook
config = load_config(recipe)
view = view or config.view
if view not in VIEWS:
    raise SpacerError("view", got=view, expected=sorted(VIEWS))
if quick:
    questions = 24
    print("QUICK MODE: 24 questions a condition. Nothing below is a result.")
folder = Path(out_dir or PROJECT_ROOT / "runs" / ("07_evaluate" + "_quick" * quick))
trained = PROJECT_ROOT / "runs" / ("05_train_grpo" + "_quick" * quick) / "model"
before, after = before or config.model_path, Path(after or trained)
known_view, video = DEMONSTRATED, config.video_settings
has_after = (after / "config.json").exists()
if not has_after:
    print("NO TRAINED MODEL: only the warm start is evaluated. To make one:")
    print("cd notebooks; papermill 05_train_grpo.ipynb ../papermill_runs/05.ipynb")

# %% [markdown]
# ## Rooms outside training
#
# A synthetic room is defined by its seed. Warm start, SG-RLVR and this evaluation draw seeds from separate ranges, and each question has its own room. All tasks are equally frequent.

# %%
rows = draw_rows(SEEDS["test"], questions, view)
seen_rows = draw_rows(SEEDS["test"], questions, known_view)
rooms = [int(row["video"].rsplit("/", 1)[1]) for row in rows]
assert SEEDS["test"] <= min(rooms) and max(rooms) < SEEDS["warmstart"]
print(f"rooms {min(rooms):,} to {max(rooms):,}; parts start at {SEEDS}")

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, video.frames + 1, figsize=(12, 1.8))
example = next(r for r in rows if r["question_type"].startswith("object_rel_dir"))
frames, indices, _, fps = read_frames(example["video"], video.frames, video.size)
titles = [f"{index / fps:.1f} s" for index in indices]
room_plots.frames_strip(frames, axes[:-1], titles)
map_plots.cognitive_map(example["map"], axes[-1])
print(example["question"], *example["options"], f"(true: {example['ground_truth']})")

# %% [markdown]
# **What to notice.** Eight frames of 56 x 56 pixels are all the model sees. The map on the right is the true map, which it has to draw before it answers. Rooms, furniture and pictures are simple enough for a network of 1.2 million weights, so these numbers say nothing about real rooms.
#
# ## Floors: scores without the video
#
# A share of right answers needs something to compare it with. Four floors only count answers in *other* rooms, and are scored by the same rule: `majority` gives the most frequent answer of a task, `constant` the one answer that scores most, `category` the same for the objects that are asked about, `frequency` draws an answer as often as it occurs.

# %%
counted = floors(rows, train_rows=draw_rows(SEEDS["develop"], 240, view))
by_floor = {name: summarize(answers) for name, answers in counted.items()}
level = {k: t[t["level"].isin(("kind", "macro"))] for k, t in by_floor.items()}
pd.DataFrame({k: t.set_index("name")["score"] for k, t in level.items()}).round(3)

# %% [markdown]
# $\text{score}$ is 1 or 0 for a choice and the mean relative accuracy for a number (SpaceR Eq. 3); `exact` counts only scores of 1. Intervals resample rooms, since questions of one room depend on each other. `macro` averages the kinds of task; the three difficulties of direction are one kind (VSI-Bench). `overall` is the mean over questions.
#
# Two more floors use the model itself: the same questions beside **another room's video**, and with **no video**.

# %%
model, processor = load(before)
GREEDY = config.asking(batch_size=48)


def ask(rows, name, condition="own", settings=GREEDY):
    """Predictions of the loaded model; kept in `folder`, and resumed."""
    path = folder / f"{name}_{condition}.jsonl"
    return evaluate(
        model, processor, rows, settings, condition=condition, out_path=path
    )


start = {c: ask(rows, "before", c) for c in ("own", "other", "blind", "oracle")}
start_seen = ask(seen_rows, "before_seen")

# %%
tables = {name: summarize(start[name]) for name in ("own", "other", "blind")}
unseen = {"no video": start["blind"], "another room": start["other"]}
floor = strongest({**counted, **unseen}).table
columns = ["name", "n", "score", "score_low", "score_high", "strongest"]
floor.loc[floor["level"] != "question_type", columns].round(3)

# %%
figure, ax = plt.subplots(figsize=(9, 3.2))
_ = evaluation_plots.accuracy_bars(tables, ax, floors=floor)

# %% [markdown]
# **What to notice.** Grey blocks are the strongest floor of each task; the table names it. It is chosen on these questions, which can only raise it. With another room's video, or none, the score should fall to about that floor. Then the questions alone do not give the answers. A task is answered from the video only where the interval of the score lies above that of the floor, or the paired difference is `up`. The most frequent answer alone is too low a floor where a number is scored by its relative error.
#
# ## The warm start, on its own camera and on the new one
#
# The warm start saw demonstrations from one camera (`turn`: a person turns around at eye height). SG-RLVR trains on another (`raised`: held up above the head), for which no demonstration exists.

# %%
by_view = {f"{known_view} camera": summarize(start_seen)}
by_view[f"{view} camera"] = tables["own"]
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2), width_ratios=(3, 1))
evaluation_plots.accuracy_bars(by_view, axes[0], floors=floor)
_ = evaluation_plots.accuracy_bars(by_view, axes[1], level="overall", measure="hits")

# %%
overall = {k: t[t["level"] == "overall"].iloc[0] for k, t in by_view.items()}
measures = ["score", "exact", "hits", "failures", "map_failures"]
pd.DataFrame({k: row[measures] for k, row in overall.items()}).astype(float).round(3)

# %% [markdown]
# **What to notice.** `hits` is the hit rate: the share of objects drawn within 1.5 cells of their true cell. `failures` counts answers that could not be read; they stay in the mean, as wrong.
#
# ## After SG-RLVR
#
# The same questions again, answered by the trained model. Each question is compared with itself: the *difference* is resampled, room by room.

# %%
if has_after:
    model, processor = load(after)
    end = {c: ask(rows, "after", c) for c in ("own", "other", "oracle")}
    end_seen = ask(seen_rows, "after_seen")
else:
    end, end_seen = start, start_seen
    print("No trained model: from here on `after` repeats the warm start.")
change = compare(start["own"], end["own"])
change_seen = compare(start_seen, end_seen)

# %%
# Kinds of one type only would repeat it.
shown = change[(change["level"] != "kind") | (change["name"] == "object_rel_direction")]
figure, axes = plt.subplots(1, 2, figsize=(11, 4))
evaluation_plots.delta_forest(shown, axes[0])
_ = evaluation_plots.delta_forest(shown, axes[1], measure="hits")

# %%
whole = change[(change["level"] == "overall") & change["measure"].isin(measures)]
for row in whole.itertuples():
    print(f"{row.measure:6} {row.before:.3f} → {row.after:.3f}: {row.delta:+.3f} "
          f"[{row.low:+.3f}, {row.high:+.3f}], {row.verdict}")
kinds = change[(change["level"] == "kind") & (change["measure"] == "score")]
dict(zip(kinds["name"].map(short_name), kinds["verdict"], strict=True))

# %% [markdown]
# **What to notice.** *Not distinguishable* is a result too. With this many questions the interval of one task is wide, and a difference above zero need not be a gain. The same comparison on the camera of the warm start separates adaptation to the new camera from a general gain:

# %%
known = change_seen[change_seen["level"] == "overall"].set_index("measure")
columns = ["before", "after", "delta", "low", "high"]
known.loc[["score", "exact", "hits"], columns].round(3)

# %% [markdown]
# ### Sampled answers
#
# Greedy decoding shows only the most likely answer. At temperature 1, as in training, single unlikely tokens cause errors too. A large gap between the two columns shows how many of the errors come from sampling.

# %%
sampled = ask(rows, "sampled", settings=replace(GREEDY, temperature=1.0, seed=seed))
pair = {"greedy": summarize(end["own"]), "sampled": summarize(sampled)}
pair = {k: t[t["level"] == "overall"].iloc[0] for k, t in pair.items()}
pd.DataFrame({k: row[measures] for k, row in pair.items()}).astype(float).round(3)

# %% [markdown]
# ## Do the answers come from the map?
#
# Exchange the map. *Oracle*: the response is forced to begin with the true map, and the model continues it. *Other*: the model sees another room. If the answer is computed from the map, the oracle must help and another room must hurt.

# %%
figure, ax = plt.subplots(figsize=(9, 3.2))
by_map = {c: summarize(end[c]) for c in ("oracle", "own", "other")}
_ = evaluation_plots.accuracy_bars(by_map, ax, floors=floor)

# %% [markdown]
# **What to notice.** The gap between *own* and *oracle* is what a better map could gain. The gap between *oracle* and 1 is reasoning. Notebook 08 tests for every answer whether it follows from its map.
#
# ## Hit rate and map scores
#
# Four scores of the same drawings (see notebooks 02 and 04), with two maps that are drawn without the video: every object in the middle, and every object in a random cell.

# %%
rng, truth = np.random.default_rng(seed), [row["map"] for row in rows]
middle = [{k: [(5, 5)] * len(v) for k, v in cells.items()} for cells in truth]
anywhere = [
    {k: rng.integers(10, size=(len(v), 2)).tolist() for k, v in cells.items()}
    for cells in truth
]
blind_maps = {"all in the middle": middle, "anywhere": anywhere}
scores = {
    name: [
        np.mean([map_score(m, t, scorer=s) for m, t in zip(maps, truth, strict=True)])
        for s in SCORERS
    ]
    for name, maps in blind_maps.items()
}

# %%
drawings = {"own video": end["own"], "another video": end["other"]}
for name, answers in drawings.items():
    total = summarize(answers).set_index("name").loc["overall"]
    scores[name] = [total[f"map_{scorer}"] for scorer in SCORERS]
    print(f"{name}: {total['hits']:.3f} of the objects within 1.5 cells")
figure, ax = plt.subplots(figsize=(8, 2.6))
pd.DataFrame(scores, index=SCORERS).plot.bar(ax=ax, rot=0, color=PALETTE)
_ = ax.set(ylabel="map score", ylim=(0, 1))


# %% [markdown]
# **What to notice.** Under the published scores (`released`, `paper`) a map with everything in the middle scores nearly as much as a good one. `decay` and the hit rate separate the two, and `aligned` gives maps drawn without the video about 0. Read a map score together with the hit rate.
#
# ## Look at the drawings
#
# Squares are true, dots are drawn, lines join the pairs. First three right answers, then three wrong ones, in the order of the questions.

# %%
def gallery(wanted, axes):
    """Draw the first rollouts whose exactness is as wanted."""
    pairs = zip(rows, end["own"], strict=True)
    chosen = [(r, p) for r, p in pairs if (p["score"] == 1) == wanted][: len(axes)]
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for ax, (row, answer) in zip(axes, chosen, strict=False):
        said = read_completion(answer["prediction"], expect_map=True)
        map_plots.cognitive_map(row["map"], ax, predicted=said.map or {})
        why = answer["failure"] or said.map_failure or f"said {said.answer}"
        kind = short_name(row["question_type"])
        ax.set_title(f"{kind}: {why}, true {row['ground_truth']}", fontsize=8)


figure, axes = plt.subplots(2, 3, figsize=(11, 7))
gallery(True, axes[0])
gallery(False, axes[1])

# %%
missed = next((p for p in end["own"] if p["score"] < 1), end["own"][0])
asked = next(row for row in rows if row["id"] == missed["id"])
print(asked["question"], *(asked["options"] or ()), sep="\n")
print(f"true: {asked['ground_truth']}\n{missed['prediction']}")

# %% [markdown]
# **What to notice.** The text after the map is a calculation over cells, which you can check. Where it goes wrong, either a cell was misplaced or a step was miscalculated.
#
# ## A benchmark as it is published
#
# So far the rows were made in this notebook. Public benchmarks come as files, each with its rule and aggregate. `spacer_lib.benchmarks` reads them as published and scores them as their authors do.

# %% tags=["nbval-check-output"]
entries = {
    name: (b.title, b.overall, b.mode, b.source) for name, b in BENCHMARKS.items()
}
columns = ["title", "overall", "asked in mode", "files"]
pd.DataFrame.from_dict(entries, orient="index", columns=columns)

# %% [markdown]
# `macro` is the mean over tasks, `micro` over questions. `held-out` is ours: rooms that no run trains on, in VSI-Bench's schema, eight or nine questions a room.

# %%
bench = named("held-out")
file = held_out.write(folder / "benchmark", rooms=8 if quick else 40)
held = bench.read(file)
keys = ("id", "question_type", "question", "options", "ground_truth", "groups")
print(len(held), "questions about", len({row["scene_name"] for row in held}), "rooms")
{key: held[-1][key] for key in keys}

# %% [markdown]
# `run` asks any backend (a checkpoint here, vLLM, any OpenAI-compatible server, or a floor) and appends each answer to `predictions.jsonl` as it arrives, so that a killed run resumes. `spacer evaluate` is the same from the command line.

# %%
records = run(
    bench, held, LocalModel(model, processor, Path(after).parent.name),
    folder / "held_out", GREEDY, overwrite=True,
)
found = totals(records, bench)
found["tasks"], {key: found[key] for key in ("macro", "micro", "rule", "failures")}

# %% [markdown]
# **What to notice.** Micro and macro differ, because the tasks are not equally frequent. A table should say which of the two it prints. Two or more questions share a room here, and intervals resample rooms.
#
# ## How much a reading rule changes
#
# Two harnesses can give the same model different scores. Part of the difference is how text becomes an answer. Here are the same outputs under ours (`strict`: the answer tag, one letter or one number, or nothing), VSI-Bench's own (`official`: the text up to the first space), the same behind the answer tag, two rules that many scripts use (the first number or letter anywhere; the last), and those of published systems.

# %%
said = [Answer(made["prediction"]) for made in records]
audited = audit(held, said, bench)
figure, ax = plt.subplots(figsize=(8, 2.6))
_ = evaluation_plots.extraction_bars(audited.table, ax)

# %%
for kind in ("first_number", "last_letter"):
    lines = [d for d in audited.disagreements if d["rule"] == kind]
    print(f"{kind}: {len(lines)} of {len(held)} scored otherwise than by strict")
    if lines:
        worst = {key: lines[0][key] for key in lines[0] if key != "groups"}
        print("  ", worst)

# %% [markdown]
# **What to notice.** VSI-Bench's rule was made for bare answers. In the output of a model that thinks it finds only a tag. So scores of two papers can be compared only if they use the same rule. The first number anywhere is a cell of the map. The last one is the answer, because this model writes nothing after it; with another model it may not be.
#
# ## Profiles: how published systems ask, read and average
#
# A reading rule is one of many settings. `configs/profiles` holds what eight published systems set, each value with its source. The table has the settings in which they differ on VSI-Bench. `ours, not theirs` marks a prompt whose words are not repeated here (`--template FILE` takes them), and `not stated` a value that no public source gives.

# %% tags=["nbval-check-output"]
settings_of = profile_table("vsi")
with pd.option_context("display.max_colwidth", 40):
    display(differing(settings_of).T)

# %% [markdown]
# Two scores of one model can be explained by their settings. `explain_gap` splits a difference into shares. Reading and averaging are varied on the saved texts. What is asked differently is asked again: here the tiny model with four frames in place of eight, and with frames from inside the video. Shares add up to the difference.

# %%
fewer = replace(video, frames=video.frames // 2, sampler=Sampler("inner"))
few = replace(GREEDY, video=fewer)
tiny = LocalModel(model, processor, "tiny")
run(bench, held, tiny, folder / "few", few, overwrite=True)
sides = {}
for name in ("spacer", "easi", "lmms_eval", "vlmevalkit"):
    part = "held_out" if name in ("spacer", "easi") else "few"
    sides[name] = gaps.make_side(read_run(folder / part, part), profile=name)
gap_of = {
    name: gaps.explain(sides["spacer"], other)
    for name, other in sides.items()
    if name != "spacer"
}
table = {k: g.table.set_index("cause")["share"] for k, g in gap_of.items()}
(100 * pd.DataFrame(table)).round(1).astype(object).fillna("–")

# %%
between = gaps.ask_again(
    sides["spacer"], sides["vlmevalkit"], held, tiny, folder / "between", overwrite=True
)
gap = gaps.explain(sides["spacer"], sides["vlmevalkit"], between=between)
print(gaps.gap_text(gap, sides["spacer"], sides["vlmevalkit"]))
parts = gap.table.set_index("cause")["share"]
assert abs(parts.drop("total").sum() - parts["total"]) < 1e-12
figure, ax = plt.subplots(figsize=(8, 2.8))
evaluation_plots.gap_waterfall(gap, ax)
_ = ax.set(ylabel=f"score (%, 95% interval, n = {len(held)})")

# %% [markdown]
# **What to notice.** The same texts score differently under each profile, and the model is one. Before two systems are compared, the shares of reading and averaging have to be zero. On the command line: `spacer explain-gap RUN_A RUN_B`, or one run with `--profile` twice; `--ask` separates settings that share one number.
#
# ## Three seeds, with and without the map reward
#
# One run is not enough. `make study` trains every arm with several seeds from the same warm start, asks the same fresh rooms, and writes `papermill_runs/study.json`. Large dots pool the seeds of an arm, small ones are single runs.

# %%
path = PROJECT_ROOT / "papermill_runs" / "study.json"
study = read_json(path) if path.exists() else None
if study is None:
    print("NO STUDY YET: `make study` trains the arms and writes it.")
else:
    figure, axes = plt.subplots(1, 2, figsize=(11, 2.8), sharey=True)
    evaluation_plots.study_forest(study, axes[0], measure="exact")
    evaluation_plots.study_forest(study, axes[1], measure="hits")
    seconds = [run["seconds"] for run in study["runs"]]
    print(f"{len(seconds)} runs of {min(seconds):.0f} to {max(seconds):.0f} s each")

# %% tags=["nbval-check-output"]
for name, gain in (study["differences"] if study else {}).items():
    for measure in ("score", "exact", "hits"):
        mean, low, high = gain[measure]
        print(f"{name}, {measure:5}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")


# %% [markdown]
# **What to notice.** Intervals resample rooms, with all seeds of a room together. They hold for *these* runs on other rooms. Three seeds are too few to predict a fourth, so look at the spread of the small dots too.
#
# ## Keep the numbers

# %%
def record(table):
    """The overall row of a summary, and each task's score, as plain numbers."""
    total = table.set_index("name").loc["overall"]
    tasks = table[table["level"] == "question_type"]
    keys = ["score", "score_low", "score_high", "exact", "hits", "failures"]
    per_task = dict(zip(tasks["name"], tasks["score"], strict=True))
    return {**{key: float(total[key]) for key in keys}, "per_task": per_task}


summary = {"questions": questions, "view": view, "quick": quick, "after": None}
summary["floors"] = {"strongest": record(floor)}
summary["floors"] |= {name: record(table) for name, table in by_floor.items()}
summary["floors"] |= {c: record(tables[c]) for c in ("other", "blind")}
summary["before"] = {"own": record(tables["own"])}
summary["before"]["seen"] = record(summarize(start_seen))
if has_after:
    summary["after"] = {c: record(by_map[c]) for c in by_map}
    summary["after"]["seen"] = record(summarize(end_seen))
    summary["change"] = whole.to_dict("records")
write_json(folder / "summary.json", {**summary, "provenance": provenance()})
{k: v and v["own"]["exact"] for k, v in summary.items() if k in ("before", "after")}

# %% [markdown]
# ## In practice
#
# ```bash
# cd notebooks
# papermill 07_evaluate.ipynb ../papermill_runs/07_evaluate__tiny__seed0.ipynb
# papermill 07_evaluate.ipynb ../papermill_runs/07_evaluate__no_map__seed0.ipynb \
#     -p after ../runs/05_no_map/model -p out_dir ../runs/07_no_map -p questions 1000
# ```
#
# Public benchmarks, a server, predictions made elsewhere, tables for a paper:
#
# ```bash
# spacer evaluate --benchmark vsi --data VSI-Bench --model runs/05_train_grpo/model --out runs/vsi
# spacer evaluate --benchmark vsi --data VSI-Bench --endpoint http://localhost:8000/v1 --model-name NAME
# spacer evaluate --benchmark vsi --data VSI-Bench --floor strongest --out runs/vsi_floor
# spacer score --benchmark vsi --data VSI-Bench --predictions LOG.jsonl --extraction official --audit
# spacer evaluate --benchmark vsi --data VSI-Bench --model NAME --profile lmms_eval
# spacer explain-gap runs/vsi runs/vsi_lmms_eval
# spacer report runs/vsi runs/vsi_floor --published spacer_table1 --out runs/report
# ```
#
# - **Resume.** Predictions are appended one by one, with a hash of weights, rows and settings. The same command keeps those with the same hash and asks the rest.
# - **Raw text is kept.** A prediction can be scored by another rule without asking the model again. Harnesses with different rules differ by several points on the same text.
# - **Missing media is a wrong answer.** A row without its video scores 0, and its failure is `missing_media`. It is not skipped.
# - **All decoding settings are given.** Published checkpoints come with sampling settings, which apply where none are given. Here greedy is greedy.
# - **How many questions?** Intervals shrink with the root of the number of *rooms*, not of questions; gaps between ablations in published tables are often smaller than their intervals.
#
# ## Summary
#
# Look at floors first, then at intervals, then at paired differences. A score says whether answers are right. Exchanging the room or the map shows why.
#
# ## Exercises
#
# 1. Evaluate with `-p view turn`. Which of the four conditions changes most, and why?
# 2. Replace the oracle map by the true map turned by 90°. What happens to directions, and what to distances?
# 3. Draw five questions from each room instead of one, and compare the interval of `overall` with the one that treats every question as independent.
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §5 and Table 5.
# - VSI-Bench, *Thinking in Space*: https://arxiv.org/abs/2412.14171
# - Efron and Tibshirani, *An Introduction to the Bootstrap*, chapter 8 (clustered data).
#
# ## Quiz
#
# <details><summary>1. A score of 40 per cent: good or bad?</summary>
#
# It needs a floor and an interval. Under MRA one constant may earn 40 without a look.
#
# </details>
#
# <details><summary>2. The model is given the true map and still fails. What fails?</summary>
#
# Reasoning: the conclusion from the map, not the map.
#
# </details>
#
# <details><summary>3. Why are differences taken question by question?</summary>
#
# Both models meet the same hard questions. Pairing removes that part of the spread, so the interval is narrower.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# *Own* could change most, since on the demonstrated camera the warm start draws better maps (hits above). *Other*, *blind* and *oracle* depend on the view less: what they look at is no help, absent, or replaced. So few questions need not show it.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
model, processor = load(before)
few = seen_rows[:24]
views = {
    c: (np.mean([p["score"] for p in start[c][:24]]),
        np.mean([p["score"] for p in ask(few, "solution_seen", c)]))
    for c in ("own", "other", "blind", "oracle")
}
pd.DataFrame(views, index=[view, known_view]).T.round(2)

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# Directions and distances are relations between objects, so a turned map says the same. If scores fall, the model used more than relations, such as pixels beside the map.
#
# </details>

# %% tags=["solution", "hide-cell"]
from spacer_lib.evaluation.predictions import record as judge
from spacer_lib.evaluation.predictions import reward_rule
from spacer_lib.maps.grid import turned
from spacer_lib.maps.text import map_to_text
from spacer_lib.models.generation import generate

some = rows[:48]
forced = {
    "true map": [row["map"] for row in some],
    "turned by 90°": [turned(row["map"]) for row in some],
}
for name, cells in forced.items():
    starts = [f"<think><map>{map_to_text(m)}</map>" for m in cells]
    texts = generate(model, processor, some, GREEDY, prefixes=starts)
    judged = [judge(r, t, reward_rule()) for r, t in zip(some, texts, strict=True)]
    table = summarize(judged).query("level == 'kind'").set_index("name")["score"]
    print(name, {short_name(k): round(v, 2) for k, v in table.items()})

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Questions of one room succeed and fail together. Treated as independent they look like more evidence than they are, and the interval is too narrow where rooms differ.
#
# </details>

# %% tags=["solution", "hide-cell"]
from spacer_lib.evaluation.bootstrap import bootstrap_interval

values = [made["score"] for made in records]
by_room = [made["scene_name"] for made in records]
for name, groups in {"rooms": by_room, "questions": range(len(values))}.items():
    mean, low, high = bootstrap_interval(values, groups, np.random.default_rng(seed))
    print(f"{name:9} resampled: {mean:.3f} [{low:.3f}, {high:.3f}]")

# %% [markdown]
# The next page exchanges maps and names each failure.
#
# ← [06 · Baselines](06_train_baselines.ipynb) · [08 · Ablate](08_ablate.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
