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
# # 08 · Ablate what the answers depend on
#
# ← [07 · Evaluate](07_evaluate.ipynb) · [09 · Figures](09_reproduce_figures.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`evaluation`](../spacer_lib/evaluation), [`questions`](../spacer_lib/questions)
#
# **What you'll do.** Show every ablation with its interval. Then analyse one model's answers: exchange the map, let a geometric solver answer from the map alone, and name each failure.
#
# **What you'll learn.**
# - read a table of ablations with the words *not distinguishable* in it;
# - force a true, a drawn or a random map, and see how much of a score each leaves;
# - separate perception from reasoning: is the map wrong, or the conclusion from it?
# - see what a hit rate on a coarser grid means, and what a count of spatial words does not mean;
# - take a quiz on maps yourself, and measure agreement by AC1.
#
# **What you'll need.** Notebook 07. Nothing else from disk: the warm-start checkpoint and the studies' results are in the repository. One CPU core, about two minutes, 1.5 GB of memory.
#
# SpaceR §5.3 (ablations), Appendix C.1 to C.5 and C.7 (Tables 3 to 6, Figure 8).

# %% tags=["parameters"]
runs: str = "papermill_runs"  # folder with study*.json, from the repository's root
recipe: str = "tiny"  # how a model is asked; a file in configs/
checkpoint: str = ""  # "": that the recipe starts from
view: str = ""  # camera; "": that of the warm start's demonstrations
questions: int = 120  # held-out, one room each, per condition
quiz_questions: int = 6
seed: int = 0  # of random maps, the quiz and intervals
out_dir: str = ""  # predictions; "": runs/08_ablate

# %%
import os
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from transformers.utils.logging import disable_progress_bar

# %%
from spacer_lib import published
from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json, write_json

# %%
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.agreement import gwet_ac1, quiz, score_quiz
from spacer_lib.evaluation.analyses import (
    ablation_table,
    map_size_table,
    run_table,
    word_table,
)
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.consistency import (
    FAILURES,
    failure_examples,
    failures,
    shares,
)
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.statistics import compare, summarize
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.text import map_to_text
from spacer_lib.pictures import evaluation_plots, map_plots
from spacer_lib.pictures.style import short_name, use_house_style
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.tiny.curriculum import DEMONSTRATED, SEEDS, draw_rows
from spacer_lib.tiny.thoughts import fifths, sector, sector_digits
from spacer_lib.training.recipe import load_config

# %%
use_house_style()
disable_progress_bar()
torch.set_num_threads(1)
{"commit": commit(), **provenance()["packages"]}

# %%
quick = os.environ.get("SPACER_QUICK") == "1"
os.environ["TQDM_DISABLE"] = "1"  # bars would stay in the saved notebook
config = load_config(recipe, {"model_path": checkpoint} if checkpoint else {})
view = view or DEMONSTRATED
if view not in VIEWS:
    raise SpacerError("view", got=view, expected=sorted(VIEWS))
if quick:
    questions = 24
    print("QUICK MODE: 24 questions a condition. Nothing below is a result.")
folder = Path(out_dir or PROJECT_ROOT / "runs" / ("08_ablate" + "_quick" * quick))

# %% [markdown]
# ## Floors, baselines and ablations on one benchmark
#
# `make evaluation` asks every model that the studies trained the same held-out questions (VSI-Bench's schema, camera `turn`, eight or nine questions to a room), through the harness of notebook 07, and `spacer report` pools the seeds of each arm. Below are its two CSV files: macro means of six tasks (VSI-Bench's rule), 95% intervals over rooms.

# %% tags=["nbval-check-output"]
held = PROJECT_ROOT / runs / "held_out"
has_table = (held / "scores.csv").exists()
if has_table:
    scores, deltas = (pd.read_csv(held / f"{k}.csv") for k in ("scores", "deltas"))
    whole = scores[scores["level"] == "macro"].set_index("run")
    rooms = int(whole["spaces"].max())
    print(f"{int(whole['n'].min())} questions about {rooms} rooms")
else:
    print("NO TABLE HERE: `make studies` and `make evaluation` write held_out/*.csv.")

# %% tags=["nbval-check-output"]
if has_table:
    tasks = scores[scores["level"] == "kind"]
    wide = tasks.pivot(index="run", columns="name", values="score")
    wide = wide.loc[whole.index].rename(columns=short_name)
    ends = (100 * whole[["score_low", "score_high"]]).to_numpy()
    bounds = [f"[{low:.1f}, {high:.1f}]" for low, high in ends]
    wide.insert(0, "macro", whole["score"])
    wide = (100 * wide).round(1)
    wide.insert(1, "95% interval", bounds)
    wide.insert(0, "seeds", whole["seeds"])
    display(wide)

# %% tags=["nbval-check-output"]
if has_table:
    against = deltas[deltas["level"] == "macro"].set_index("run")
    lines = {
        f"{r.Index} ({r.seeds} seed{'s' * (r.seeds > 1)})":
            (100 * r.delta, 100 * r.low, 100 * r.high)
        for r in against.itertuples()
    }
    figure, ax = plt.subplots(figsize=(9, 0.36 * len(lines) + 0.8))
    evaluation_plots.interval_dots(lines, ax)
    words = f"percentage points; 95% interval, n = {against['n'].max()} questions"
    _ = ax.set_xlabel(f"macro score minus warm start ({words})")

# %% tags=["nbval-check-output"]
if has_table:
    display(against[["n", "before", "after", "verdict"]].round(3))

# %% [markdown]
# **What to notice.** Floors first: *no video* and *another room* score no more than the most frequent answer, so a score above them comes from the video. All arms trained on another camera than the one of these questions. SG-RLVR keeps the score of the warm start here, and SFT loses, most of it in room size; notebook 06 has the trained camera. *Object size* stays at its floor in every arm: a macro mean hides that, the columns show it.
#
# ## Every ablation, with its interval
#
# SpaceR's Table 2 takes one part away at a time and prints one number each. `spacer extras study` trained arms over several seeds on the same held-out questions, so each comparison here is a paired difference with an interval over rooms (all seeds of a room together). The studies `beta`, `modes` and `hacking` were run with an earlier tiny model, which saw open rooms from outside (LOG.md); `make studies` repeats them with the present one.

# %% tags=["nbval-check-output"]
found = sorted((PROJECT_ROOT / runs).glob("study*.json"))
studies = {p.stem.removeprefix("study").strip("_") or "map": p for p in found}
studies = {name: read_json(path) for name, path in studies.items()}
if not studies:
    print("NO STUDIES HERE: `make study` and `make studies` write them.")
table = ablation_table(studies)
for name, study in studies.items():
    hours = sum(run["seconds"] for run in study["runs"]) / 3600
    asked = study["settings"]["questions"]
    print(f"{name:9} {len(study['runs'])} runs, {hours:.1f} h, {asked} questions")

# %% tags=["nbval-check-output"]
differences = table[table["level"] == "difference"]
labelled = differences.assign(name=differences["study"] + ": " + differences["name"])
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2))
for ax, measure in zip(axes, ("score", "hits"), strict=True):
    evaluation_plots.delta_forest(labelled, ax, measure)
    ax.set_xlabel(f"{measure}: first minus second (percentage points, 95% interval)")

# %% tags=["nbval-check-output"]
for row in labelled[labelled["measure"] == "score"].itertuples():
    print(f"{row.name:34} {100 * row.delta:+5.1f} [{100 * row.low:+.1f}, "
          f"{100 * row.high:+.1f}], {row.seeds} seed(s): {row.verdict}")

# %% [markdown]
# **What to notice.** *Up* means that the first arm is better, *down* the second. An interval that contains zero is *not distinguishable*, whatever its mean. The interval is over rooms, not over seeds: with one seed a narrow interval says nothing about the next seed. And a gap in `hits` (objects drawn within 1.5 cells) need not be a gap in `score`: the map reward raises the hits by far (`map` minus `no_map`), and the scores are not distinguishable.
#
# ### Thinking or answering at once
#
# SpaceR's Table 3 compares accuracy with the length of the thoughts. In the study `modes` one start was taught three forms of an answer and then trained in each.

# %% tags=["nbval-check-output"]
forms = []
for run in studies.get("modes", {}).get("runs", []):
    tokens = run["training"]["completions/mean_length"][1]
    forms.append((run["arm"], tokens, run["after"]["score"]))
forms = pd.DataFrame(forms, columns=["form", "tokens", "score"])
forms.groupby("form", sort=False).mean().round(3)

# %% [markdown]
# **What to notice.** Here the thought contains a calculation, and it helps. `observe` writes the map without the calculation and gains nothing over the bare answer (`vanilla`). So neither the length nor the map alone helps. With predictions on disk, `statistics.compare` makes the paired table of any two runs.
#
# ## The map at inference: drawn, true, random
#
# SpaceR's Table 5 exchanges the map. Two conditions force the start of the response: `oracle` with the true map, `random_map` with the same categories and counts in random cells. With `own` the model draws its map itself; with `blind` it does so without the video.

# %%
rows = draw_rows(SEEDS["develop"], questions, view)
model, processor = load(config.model_path)
by_map = {
    condition: evaluate(
        model, processor, rows, config.asking(seed=seed, batch_size=40),
        condition=condition, out_path=folder / f"{condition}.jsonl",
    )
    for condition in ("oracle", "own", "random_map", "blind")
}

# %%
types = run_table(by_map, reference="own", seed=seed)
columns = ["hits", "macro", "macro_low", "macro_high", "delta", "low", "high"]
types[[*columns, "verdict"]].round(3)

# %%
figure, ax = plt.subplots(figsize=(10, 3.2))
tables = {name: summarize(answers) for name, answers in by_map.items()}
_ = evaluation_plots.accuracy_bars(tables, ax)

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 2.6))
for ax, name in zip(axes, ("oracle", "random_map"), strict=True):
    change = compare(by_map["own"], by_map[name], seed=seed)
    evaluation_plots.delta_forest(change[change["level"].isin(["kind", "macro"])], ax)
    ax.set_xlabel(f"score: {name} minus own (percentage points, 95% interval)")

# %% [markdown]
# **What to notice.** With a random map the score of directions falls, although the video is still shown: the answer is computed from the written map. The score of counting *rises* under `random_map`, because a random map with true counts contains the answer. In one number over all tasks (`macro`) the gain and the loss cancel, so read it by task. In SpaceR's Table 5 counting loses with random maps (next cell), so theirs did not keep the counts.
#
# `hits` is the hit rate (SpaceR: map accuracy), the share of objects drawn within one cell. Random cells reach this by chance:

# %% tags=["nbval-check-output"]
table5 = published.wide("spacer_table5")
print("SpaceR's Table 5, random map less own map (points):")
print((table5.loc["Randomly generated"] - table5.loc["Model-generated"]).round(1))
print("true maps:", table5.loc["Ground truth"].to_dict())
for size in (5, 10, 15, 20):
    print(f"{size:2} x {size:<2} cells: {(3 * size - 2) ** 2 / size**4:.3f} by chance")


# %% [markdown]
# A single object in a grid of $M \times M$ has $(3M-2)^2$ pairs of cells in reach of each other, out of $M^4$. Where a room has several objects of a category, each may pair with any of them, which raises the rate (`random_map` above). SpaceR's Table 5 prints 10.5% for random maps on 10 x 10, so its undefined "map accuracy" may be this one.
#
# ### The same maps on a coarser grid
#
# SpaceR's Table 6 compares map sizes by this accuracy, and 5 x 5 is more accurate than 10 x 10. Here are the maps drawn above on a coarser grid, with two by two cells joined into one:

# %%
def coarser(cells):
    """The map on a grid of half the size."""
    return {name: [(x // 2, y // 2) for x, y in spots] for name, spots in cells.items()}


half = []
for answer in by_map["own"]:
    drawn = read_completion(answer["prediction"]).map or {}
    text = f"<map>{map_to_text(coarser(drawn))}</map>"
    half.append({**answer, "prediction": text})
half_rows = [{**row, "map": coarser(row["map"])} for row in rows]
sizes = map_size_table({5: (half, half_rows), 10: (by_map["own"], rows)}, seed=seed)
sizes[["within_one_cell", "by_chance", "same_distance", "same_distance_by_chance"]]

# %% [markdown]
# **What to notice.** The maps are the same, and the share within one cell rises, as it does for random maps. A fair comparison keeps the *distance* fixed (`same_distance`: 1.5 cells of the 10 x 10 grid, which on 5 x 5 is the cell itself) and looks at the answers.
#
# ## Does the answer follow from the map?
#
# `solver.answer_from_map` answers from a map and nothing else: it counts cells, takes bearings between cells, and finds the nearest. It says what it cannot answer and why: metres need a scale, sizes and orders are not in a map, and a tie has no answer.
#
# Three shares for each task: the model's answer *follows* from its own map; the *drawn* map gives the right answer; the *true* map gives it, so that a perfect map would suffice.

# %%
judged = {name: failures(answers, rows) for name, answers in by_map.items()}
own = shares(judged["own"], seed=seed)
figure, ax = plt.subplots(figsize=(9, 3.4))
_ = evaluation_plots.share_dots(own, ax)

# %%
measures = ["right", "right_if_drawn_suffices", "right_if_drawn_fails"]
given = own[own["measure"].isin(measures)]
given.pivot(index="name", columns="measure", values="value")[measures].round(2)

# %%
counts = given.pivot(index="name", columns="measure", values="n")[measures[1:]]
counts.rename(columns=lambda name: name.replace("right_if_", "n: "))

# %% [markdown]
# **What to notice.** Directions and counts are mostly right where the drawn map holds the answer, and less often where it does not. Relative distance is right about as often with a sufficient map as without one: its working loses the answer (the steps below show where), so better maps alone would not help there. (Resampling gives a share of 100% an interval of width 0, even with only twenty questions.)
#
# ## What failed, question by question
#
# SpaceR's Figure 8 shows two failures, of perception and of localisation. With the solver every wrong answer gets a label:

# %% tags=["nbval-check-output"]
for label, meaning in FAILURES.items():
    print(f"{label:12} {meaning}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.2))
for ax, name in zip(axes, ("own", "random_map"), strict=True):
    evaluation_plots.failure_bars(judged[name], ax)
    ax.set_xlabel(f"{name}: questions (%)")

# %% [markdown]
# **What to notice.** With random maps nearly all errors become *localisation*, as they should: there the places are wrong by construction. Absolute distance stays *undetermined*, since a map has no metres. `cell_sizes` adds them, but the questions ask for the gap between surfaces, and a map has only centres.
#
# One drawing for each kind of failure; squares are true, dots are drawn:

# %%
chosen = failure_examples(by_map["own"], rows)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
for ax, label in zip(axes, ("perception", "localisation", "reasoning"), strict=True):
    ax.set_title(label if label in chosen else f"{label}: none")
    if label in chosen:
        drawn = read_completion(chosen[label].prediction["prediction"]).map
        map_plots.cognitive_map(chosen[label].row["map"], ax, predicted=drawn)
    else:
        ax.set_axis_off()

# %%
for label, (row, answer, judgement) in chosen.items():
    print(f"{label}: {row['question']}", *(row["options"] or ()))
    print("  ", answer["prediction"].split("</map>")[-1])
    reason, follows = judgement["model_map_reason"], judgement["from_model_map"]
    follows = f"nothing ({reason})" if follows is None else follows
    truth = row["ground_truth"]
    print(f"   said {judgement['answer']}, its map says {follows}, true: {truth}")

# %% [markdown]
# ### Where the reasoning breaks
#
# The model writes its calculation down, `bed75:sofa31-4-4=28`: the cell that it starts from, each further object with its cell, the offset in cells, and what follows from it. That is a length in fifths of a cell, or a direction as quarter turns and sixths of one. So each step can be checked against the one before.

# %%
STEP = re.compile(r"([a-z ]+)(\d)(\d)([+-]\d)([+-]\d)=(\d\d)")


def steps(row, prediction):
    """For each step that was written: do cell, offset and result follow?"""
    drawn = read_completion(prediction["prediction"]).map or {}
    thought = prediction["prediction"].split("</map>")[-1]
    start = re.search(r"([a-z ]+)(\d)(\d):", thought)
    if not start:
        return []
    cells = {name: [list(map(int, c)) for c in spots] for name, spots in drawn.items()}
    name, *origin = start[1], int(start[2]), int(start[3])
    found = [("cell", origin in cells.get(name, []))]
    for name, *digits, result in STEP.findall(thought):
        x, y, dx, dy = map(int, digits)
        turned = "direction" in row["question_type"]
        due = sector_digits(sector(dx, dy)) if turned else fifths(dx, dy)
        offset = [dx, dy] == [x - origin[0], y - origin[1]]
        found += [("cell", [x, y] in cells.get(name, []))]
        found += [("offset", offset), ("result", result == due)]
    return found


# %%
told = []
for name in ("own", "oracle"):
    for row, answer in zip(rows, by_map[name], strict=True):
        kind = short_name(re.sub("_(easy|medium|hard)$", "", row["question_type"]))
        told += [(kind, f"{name} map", *step) for step in steps(row, answer)]
told = pd.DataFrame(told, columns=["kind", "map", "step", "follows"])
told.pivot_table("follows", ["kind", "map"], "step", aggfunc=["mean", "count"]).round(2)

# %% [markdown]
# **What to notice.** *cell*: is it a cell of the map that was written before? *offset*: is it the difference of the two cells? *result*: does it follow from the offset? The weak step is the result of distances, a length: one of some fifty numbers, where a direction is one of 24. A score says that an answer is wrong; comparing map and thought shows where.
#
# ## Spatial words
#
# SpaceR's Table 4 counts spatial words per response over four checkpoints and finds that they rise together with accuracy. The list here is our own (`spatial_words.yaml`), matched as whole words outside map and answer.

# %%
words = word_table(by_map, seed=seed)
words[["n", "words", "words_low", "words_high", "direction", "score", "rho"]].round(3)

# %%
figure, ax = plt.subplots(figsize=(6, 2.4))
_ = evaluation_plots.words_against_score(words, ax)

# %% [markdown]
# **What to notice.** This model learned a calculation and not prose. It writes such a word only where its working ends in a direction, in as many responses under a true map, its own or a random one, whatever the score. So here the count explains nothing (`rho`, the correlation within a type of question, is undefined where the count does not vary). Over a few checkpoints any two quantities that grow in training correlate. `word_table` therefore compares within each run.
#
# ## A quiz: could you answer from the map?
#
# SpaceR gave three people 50 rightly answered questions with the drawn map and without the video: 41 could be solved. Now you: write letters or numbers into `my_answers` and run the rest again.

# %%
asked = quiz(rows, quiz_questions, seed, predictions=by_map["own"])
figure, axes = plt.subplots(2, 3, figsize=(11, 6.6))
for number, (ax, question) in enumerate(zip(axes.flat, asked, strict=False), start=1):
    map_plots.cognitive_map(question["map"], ax)
    ax.set_title(f"question {number}")
for ax in axes.flat[len(asked) :]:
    ax.set_axis_off()

# %%
for number, question in enumerate(asked, start=1):
    text = " ".join([question["row"]["question"], *(question["row"]["options"] or ())])
    print(f"{number}. {text}\n")

# %%
my_answers = {}  # for example {1: "A", 2: "3"}
by_hand = bool(my_answers)
if not by_hand:
    print("NO ANSWERS BY HAND: the solver's stand in for a reader's.")
    my_answers = {i: q["solved"].answer for i, q in enumerate(asked, start=1)}
mine = {asked[i - 1]["row"]["id"]: answer for i, answer in my_answers.items()}
result = score_quiz(asked, mine, seed=seed)
{key: result[key] for key in ("n", "answered", "right", "solver_right")}

# %%
for other in ("with_truth", "with_solver"):
    found = result[other]
    if found is not None:
        interval = f"[{found.low:.2f}, {found.high:.2f}], {found.items} questions"
        print(f"AC1 {other.replace('_', ' ')}: {found.coefficient:.2f} {interval}")

# %% [markdown]
# Agreement is corrected for chance by Gwet's AC1, $(p_a - p_e) / (1 - p_e)$ with $p_e = \frac{1}{q-1}\sum_k \pi_k (1 - \pi_k)$: $p_a$ is the share of agreeing pairs, $\pi_k$ how often category $k$ of $q$ is given. Without answers by hand the second line is 1 by construction. AC1 was made for cases like this one: two raters agree on 95 of 100, nearly always on *yes*.

# %% tags=["nbval-check-output"]
ratings = [["yes", "yes"]] * 95 + [["yes", "no"]] * 3 + [["no", "yes"]] * 2
ac1, yes = gwet_ac1(ratings), (0.98, 0.97)
chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
kappa = (ac1.observed - chance) / (1 - chance)
print(f"observed {ac1.observed:.2f}: AC1 {ac1.coefficient:.2f}, Cohen's κ {kappa:.2f}")

# %% [markdown]
# ### The whole quiz, by the solver
#
# All questions that the run answered rightly, like SpaceR's 50, with the solver as the only reader:

# %%
every = quiz(rows, len(rows), seed, predictions=by_map["own"])
solver = {q["row"]["id"]: q["solved"].answer for q in every}
whole = score_quiz(every, solver, seed=seed)
share, low, high = whole["right"]
print(f"{share:.2f} [{low:.2f}, {high:.2f}] of {whole['n']} can be had from the map")

# %% [markdown]
# ## Keep the numbers

# %%
kept = {
    "questions": questions, "view": view, "quick": quick, "quiz_by_hand": by_hand,
    "ablations": table.to_dict("records"),
    "map_types": types.astype(object).where(types.notna(), None).to_dict("index"),
    "shares": own.to_dict("records"),
    "failures": {k: t["label"].value_counts().to_dict() for k, t in judged.items()},
}
write_json(folder / "summary.json", {**kept, "provenance": provenance()})
kept["failures"]

# %% [markdown]
# ## In practice
#
# ```bash
# cd notebooks
# papermill 08_ablate.ipynb ../papermill_runs/08_ablate__raised__seed0.ipynb -p view raised
# papermill 08_ablate.ipynb ../papermill_runs/08_ablate__trained__seed0.ipynb \
#     -p checkpoint runs/05_train_grpo/model -p view raised -p questions 480
# ```
#
# - **Any run.** All functions take predictions and questions, those of a public benchmark too. Objects of VSI-Bench's questions are read from their words. Its true maps come from `Scene.from_meta` and `rasterize`; without them, measures that need the true map are left out.
# - **Real rooms.** On the 44 published ScanNet rooms true 10 x 10 maps answer nearly all direction questions (LOG.md), where SpaceR's score with true maps is far lower (Table 5, printed above): there, too, the map is not the limit.
# - **Data scale and sample selection** (Figures 3 and 7): `run_table({size: predictions, …}, reference=…)` for the scores.
# - **Random maps with true counts** raise the score of counting; for a map without information use condition `blind` or another room's video (`other`).
#
# ## Summary
#
# Give every difference an interval and every hit rate its chance level. A wrong answer with a right map is another failure than a wrong map.
#
# ## Exercises
#
# 1. Run with `-p view raised`. Which failures grow: perception and localisation, or reasoning?
# 2. Force the true map turned by 90° (`maps.grid.turned`). For which tasks does the solver still agree with the truth?
# 3. Give the solver `cell_sizes` and find how far from the truth the centre distance lies. Why is it mostly too long?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §5.3, Appendix C.
# - VSI-Bench, *Thinking in Space*: https://arxiv.org/abs/2412.14171
# - Gwet, *Computing inter-rater reliability and its variance in the presence of high agreement*, 2008.
#
# ## Quiz
#
# <details><summary>1. An interval of a difference is [-1.2, 3.4]. Which arm is better?</summary>
#
# Not distinguishable. That is a result, whatever the mean.
#
# </details>
#
# <details><summary>2. The hit rate on 5 x 5 is higher than on 10 x 10. Are the maps better?</summary>
#
# No: a larger cell forgives more, random maps included. Compare at the same distance.
#
# </details>
#
# <details><summary>3. The drawn map gives the right option and the answer is wrong. Which failure is it?</summary>
#
# Reasoning.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# On the camera without demonstrations maps get worse: perception and localisation grow. Few questions are asked here; `-p view raised` asks all.
#
# </details>

# %% tags=["solution", "hide-cell"]
known_view = DEMONSTRATED
other_view = config.view if view == known_view else known_view
other_rows = draw_rows(SEEDS["develop"], 24, other_view)
answers = evaluate(
    model, processor, other_rows, config.asking(seed=seed, batch_size=24),
    condition="own", out_path=folder / "solution_view.jsonl",
)
kinds = {view: judged["own"], other_view: failures(answers, other_rows)}
pd.DataFrame({
    name: found["label"].value_counts(normalize=True) for name, found in kinds.items()
}).fillna(0).round(2)

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# All of them: counts, bearings between objects and distances between cells do not change when the room is turned.
#
# </details>

# %% tags=["solution", "hide-cell"]
from spacer_lib.maps.grid import turned
from spacer_lib.questions.solver import answer_from_map

agree = {}
for row in rows:
    same = [answer_from_map(row, m) for m in (row["map"], turned(row["map"]))]
    agree.setdefault(short_name(row["question_type"]), []).append(same[0] == same[1])
{kind: f"{sum(found)} of {len(found)}" for kind, found in agree.items()}

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Centres lie inside their boxes, so the way between centres is longer than the gap between surfaces by about half of each box.
#
# </details>

# %% tags=["solution", "hide-cell"]
from spacer_lib.questions.solver import answer_from_map, cell_size_m
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene

errors = []
for row in (r for r in rows if r["question_type"] == "object_abs_distance"):
    room = to_scene(draw_room(int(row["video"].rsplit("/", 1)[1]), VIEWS[view].style))
    solved = answer_from_map(row, row["map"], cell_size_m(room))
    if solved.answer is not None:
        errors.append(float(solved.answer) - float(row["ground_truth"]))
too_long = np.mean(np.array(errors) > 0)
print(f"n = {len(errors)}: centres are {np.mean(errors):+.2f} m from the gap, "
      f"too long in {too_long:.0%}")

# %% [markdown]
# The next page draws the papers' figures beside ours.
#
# ← [07 · Evaluate](07_evaluate.ipynb) · [09 · Figures](09_reproduce_figures.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
