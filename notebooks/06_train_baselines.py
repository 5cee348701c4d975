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
# # 06 · Train baselines beside SG-RLVR
#
# ← [05 · Train](05_train_grpo.ipynb) · [07 · Evaluate](07_evaluate.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`training`](../spacer_lib/training), [`study.py`](../spacer_lib/study.py)
#
# **What you'll do.** Train the same small model on the same questions by other methods (SFT, DPO, GRPO without a map reward), and compare them in studies over several seeds.
#
# **What you'll learn.**
# - see which tokens a supervised loss includes, and which it must leave out;
# - build a chosen and a rejected response, and see what DPO's margin does not show;
# - answer every question eight times, and drop those with zero advantage;
# - measure on the same completions what a map reward adds to a group;
# - read a table of arms: equal seconds, KL weights, answer modes, a reward that can be hacked.
#
# **What you'll need.** Notebooks 04 and 05. No downloads: the notebook draws the rooms, and the repository holds the starting checkpoint and the results of the studies. One CPU core, about five minutes, 3 GB of memory.
#
# SpaceR §5 (SFT baseline), §5.2 (sample selection); vsGRPO (DPO, answer modes, β).

# %% tags=["parameters"]
recipe_sft: str = "sft_tiny"  # a file in configs/
recipe_dpo: str = "dpo_tiny"
sft_steps: int = 60  # 0: the recipe's
dpo_steps: int = 40
questions: int = 96  # held-out, one room each
samples: int = 48  # questions answered several times
responses: int = 8  # times each
rerun: bool = False  # train the studies again: hours
out_dir: str = "../runs/06_train_baselines"  # relative to the notebooks' folder
resume: bool = False  # go on from the last checkpoint in out_dir
seed: int = 0

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from transformers.utils.logging import disable_progress_bar

from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json, write_json
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.selection import keep_informative, select_samples
from spacer_lib.evaluation.statistics import compare, summarize, verdict

# %%
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.prompts import TINY_MODES, PromptStyle
from spacer_lib.pictures import evaluation_plots, training_plots
from spacer_lib.pictures.style import short_name, use_house_style
from spacer_lib.rewards.score import score
from spacer_lib.study import load_study, run_study, study_table
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.baselines import ResponseCollator, dpo_responses, sft_responses
from spacer_lib.training.data import training_rows
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.processes.monitor import LiveFigure
from spacer_lib.training.recipe import load_config
from spacer_lib.training.responses import target_text

# %%
disable_progress_bar()
use_house_style()
torch.set_num_threads(1)
{"commit": commit(), **provenance()["packages"]}

# %%
quick = os.environ.get("SPACER_QUICK") == "1"
os.environ["TQDM_DISABLE"] = "1"  # bars would stay in the saved notebook
changes, rerun = {"seed": seed}, rerun and not quick
if quick:
    changes["prompts_per_step"], sft_steps, dpo_steps = 4, 2, 2
    questions, samples, responses = 12, 6, 4
    print("QUICK MODE: two steps a run, few questions. Nothing below is a result.")
folder = PROJECT_ROOT / "notebooks" / (out_dir + "_quick" * quick)


# %%
def recipe(name, steps=0):
    """A recipe with this notebook's changes."""
    return load_config(name, changes | ({"max_steps": steps} if steps else {}))


sft, dpo = recipe(recipe_sft, sft_steps), recipe(recipe_dpo, dpo_steps)
tiny = recipe("tiny")
video = tiny.video_settings
{c.recipe: (c.method, c.max_steps, c.learning_rate) for c in (sft, dpo, tiny)}

# %% [markdown]
# ## Imitate: supervised fine-tuning
#
# SFT makes a given response more likely. Its loss is
#
# $$L_{SFT} = -\frac{1}{|y|}\sum_t \log \pi_\theta(y_t \mid q, y_{<t}),$$
#
# where $q$ is the question with its video and $y$ the response. Here the response is a demonstration that a program computes from the **true** map. SG-RLVR never sees the true map; it only gets the reward of the map that it drew.

# %% tags=["nbval-check-output"]
rows = draw_rows(SEEDS["develop"], questions, tiny.view)
shown = sft_responses(rows, sft.prompt_style)
row, (target,) = next(p for p in shown if p[0]["options"])
print(row["question"], *row["options"], f"(true: {row['ground_truth']})", sep="\n")
print(target)

# %% [markdown]
# The collator joins prompt, video and response, and labels the tokens that the loss includes. A token with label -100 has no loss.

# %% tags=["nbval-check-output"]
model, processor = load(tiny.model_path)
collate = ResponseCollator(processor, [row], [(target,)], sft.prompt_style, video)
batch = collate([{"image": 0}])
ids, labels = batch["input_ids"][0], batch["labels"][0]
shown_to = {**batch, **batch["media"].sequences[0]}
{key: tuple(v.shape) for key, v in shown_to.items() if torch.is_tensor(v)}

# %%
pad = model.config.video_token_id
tokens, taught = [], []
for token, label in zip(ids.tolist(), labels.tolist(), strict=True):
    if token == pad and tokens and tokens[-1].startswith("video"):
        tokens[-1] = f"video x{int((ids == pad).sum())}"
        continue
    text = "video" if token == pad else processor.tokenizer.decode(token)
    tokens.append(text.replace("\n", "↵").replace("<|", "").replace("|>", ""))
    taught.append(label != -100)

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(11, 2.6))
_ = training_plots.label_strip(tokens, taught, ax)

# %% tags=["nbval-check-output"]
counted = int((labels != -100).sum())
pixels = int((ids == pad).sum())
print(f"the loss counts {counted} of {len(ids)} tokens")
print(f"labels on all of them would add {len(ids) - counted}, {pixels} of them video")

# %% [markdown]
# **What to notice.** Blue tokens have a loss: the response and its end token. Grey tokens have none. The model never has to write the question, and video pads stand for pixels. A loss on them teaches the model to predict a constant. SpaceR's released SFT has this fault: its loss includes prompt and video tokens.
#
# Now train. The run uses the same launcher as SG-RLVR, and its folder has the same files.

# %%
live = LiveFigure(folder / "sft", training_plots.sft_curves)
sft_run = launch(sft, folder / "sft", on_line=live, resume=resume)
_ = live.refresh()


# %%
def cost(run):
    """Steps and seconds in words."""
    each = run.seconds / run.steps
    return f"{run.steps} steps in {run.seconds:.0f} s, {each:.2f} s each"


print("SFT:", cost(sft_run))

# %% [markdown]
# **What to notice.** A step costs one forward and one backward pass. SG-RLVR first generates eight completions per question, token by token, so its step costs several times as much (notebook 05 prints its seconds). After equal *steps* SG-RLVR has used much more time; after equal *seconds* SFT has seen many more questions. The study below has both comparisons.
#
# ## Prefer: DPO
#
# DPO needs pairs. vsGRPO takes the right response as *chosen* and the same response with a wrong answer as *rejected*. The reference is the starting model, frozen:
#
# $$L_{DPO} = -\log \sigma\!\left(\beta \log\frac{\pi_\theta(y^+)}{\pi_{ref}(y^+)} - \beta \log\frac{\pi_\theta(y^-)}{\pi_{ref}(y^-)}\right)$$
#
# ([Rafailov et al.](https://arxiv.org/abs/2305.18290)). vsGRPO does not print how it makes the answer wrong. Here it is another option, or a number that is off by at least half.

# %% tags=["nbval-check-output"]
pairs = dpo_responses(rows, dpo.prompt_style, seed)
for pair_row, (chosen, rejected) in pairs[:3]:
    start = len(os.path.commonprefix([chosen, rejected]))
    print(f"{pair_row['question_type']}: … {chosen[max(0, start - 30) : start]}")
    print(f"    chosen   {chosen[start:]}\n    rejected {rejected[start:]}")

# %%
live = LiveFigure(folder / "dpo", training_plots.dpo_curves)
dpo_run = launch(dpo, folder / "dpo", on_line=live, resume=resume)
_ = live.refresh()


# %%
def ends(run, keys, count=5):
    """Means over the first and the last steps."""
    table = pd.DataFrame(run.metrics())
    parts = {"first": table.head(count), "last": table.tail(count)}
    return pd.DataFrame({k: part[keys].mean() for k, part in parts.items()}).round(3)


print("DPO:", cost(dpo_run))
logps = ["logps/chosen", "logps/rejected"]
ends(dpo_run, ["rewards/margins", "rewards/accuracies", *logps])

# %%
change = np.diff(ends(dpo_run, logps).to_numpy()).ravel()
for side, value in zip(("chosen", "rejected"), change, strict=True):
    print(f"the {side} response became {'likelier' if value > 0 else 'less likely'}")


# %% [markdown]
# **What to notice.** The margin is a *difference*. It grows when the chosen response becomes more likely, and also when both become less likely and the rejected one does so faster: the right panel shows which. The two responses of a pair differ in the answer only. The map, nearly all of the text, is equal in both and so gets no preference.
#
# ## Test on held-out questions
#
# The models before and after training answer held-out questions with greedy decoding. The intervals of the differences resample the rooms.

# %%
def ask(name, checkpoint):
    """Predictions of a checkpoint on the held-out rows."""
    settings = tiny.asking(batch_size=48)
    return evaluate(
        *load(checkpoint), rows, settings, condition="own",
        out_path=folder / f"{name}.jsonl",
    )


answers = {"start": ask("start", tiny.model_path)}
answers["SFT"] = ask("sft_answers", sft_run.model_dir)
answers["DPO"] = ask("dpo_answers", dpo_run.model_dir)

# %%
tables = {name: summarize(found) for name, found in answers.items()}
figure, axes = plt.subplots(1, 2, figsize=(10, 3))
evaluation_plots.accuracy_bars(tables, axes[0], level="overall")
_ = evaluation_plots.accuracy_bars(tables, axes[1], level="overall", measure="hits")

# %%
for name in ("SFT", "DPO"):
    table = compare(answers["start"], answers[name])
    for found in table[table["level"] == "overall"].itertuples():
        if found.measure in ("score", "hits"):
            interval = f"[{found.low:+.3f}, {found.high:+.3f}]"
            print(f"{name} {found.measure:5} {found.delta:+.3f} {interval}")
            print(f"    {found.verdict}")

# %% [markdown]
# **What to notice.** This is one run per method on few questions: not enough for a conclusion. The study at the end repeats it with several seeds.
#
# ## Select: questions with an advantage
#
# If all answers of a group are right, or all are wrong, their rewards are equal and the advantages are zero. SpaceR (§5.2) therefore answers each question eight times with the base model *before* training, and drops both kinds.

# %%
needed = -(-samples // tiny.prompts_per_step)  # steps that draw so many rows
asked = training_rows(recipe("tiny", needed))[:samples]
sampling = AskSettings(
    tiny.prompt_style, video, tiny.max_completion_length, temperature=1.0, seed=seed,
    batch_size=6,
)
sampled = select_samples(
    model, processor, asked, folder / "selection.jsonl", sampling, k=responses,
    rewards=tiny.reward,
)
right = [record["scores"] for record in sampled]

# %%
kept, histogram = keep_informative(asked, right)
names = {kept_row["id"] for kept_row in kept}
pairs_kept = [(r, s) for r, s in zip(asked, right, strict=True) if r["id"] in names]
_, kept_histogram = keep_informative(kept, [s for _, s in pairs_kept])
figure, ax = plt.subplots(figsize=(6, 2.6))
_ = training_plots.selection_histogram(histogram, ax, kept_histogram)
print(f"{len(kept)} of {len(asked)} questions are kept")

# %%
labels = [short_name(asked_row["question_type"]) for asked_row in asked]
fate = ["kept" if r["id"] in names else "dropped" for r in asked]
pd.crosstab(pd.Series(labels, name="task"), pd.Series(fate, name="fate"))

# %%
gone = [(r, s) for r, s in zip(asked, sampled, strict=True) if r["id"] not in names]
for gone_row, record in gone[:2]:
    print(gone_row["question"], f"(true: {gone_row['ground_truth']})")
    print(f"    scores {record['scores']}\n    {record['responses'][0]}")


# %% [markdown]
# **What to notice.** The selection is valid for *this* model only: after some training other questions have zero-advantage groups. So the trainer can also replace such groups during training (`advanced.refill`). A question whose answers are partly right numbers is kept: their mean relative accuracies differ.
#
# ## Without a map: the same answers, another reward
#
# Whether a group has zero advantage depends on the reward. Score the same completions twice, with the recipe's map reward and without it (`tiny_no_map`), and count the groups whose rewards are all equal.

# %%
def silent(rules):
    """Share of groups without advantage, and the mean spread of a group's rewards."""
    spreads = [
        np.std([score(text, asked_row, rules).total for text in record["responses"]])
        for asked_row, record in zip(asked, sampled, strict=True)
    ]
    quiet = np.mean(np.array(spreads) < 1e-9)
    return {"silent groups": quiet, "spread": np.mean(spreads)}


with_map, without = recipe("tiny").reward, recipe("tiny_no_map").reward
pd.DataFrame({"with map": silent(with_map), "without": silent(without)}).round(3)

# %% [markdown]
# **What to notice.** Completions with the same answer have different maps, so with the map reward nearly every group has different rewards. This does not show that the map reward helps: the differences could be noise. The first study below tests it.
#
# ## Answer in another form
#
# vsGRPO compares three answer modes: *think* (reason, then answer), *observe* (describe the video, then answer) and *vanilla* (answer). For the tiny model, *think* writes the map, a computation and the answer; *observe* the map and the answer; *vanilla* the answer alone:

# %% tags=["nbval-check-output"]
for mode in TINY_MODES:
    print(f"{mode:13} {target_text(row, PromptStyle(mode))}")

# %% [markdown]
# The tiny prompt does not describe the form. So the study first teaches each form by a short SFT with the demonstrated camera and separate rooms. Then GRPO starts with the new camera; it rewards the answer and, except in vanilla, the format.
#
# ## What the studies show
#
# Each study is a YAML file in `configs/study`: arms, seeds, held-out questions. Training takes hours, so the results below are read from `papermill_runs/`; `-p rerun True` trains again. The studies `beta`, `modes` and `hacking` were run with an earlier tiny model, which saw open rooms from outside (LOG.md); `make studies` repeats them with the present one.

# %%
studies = {}
for name in ("map", "beta", "modes", "hacking"):
    part = "study" if name == "map" else f"study_{name}"
    path = PROJECT_ROOT / "papermill_runs" / f"{part}.json"
    if rerun:
        made = run_study(PROJECT_ROOT / "runs" / part, load_study(name))
        write_json(path, made)
    if path.exists():
        studies[name] = read_json(path)
    else:
        print(f"NOT RUN YET: `spacer extras study --config {name}`")


# %%
def show(name):
    """Forests of both measures, the verdicts in words, and the table."""
    if name not in studies:
        return print(f"study {name}: no results here")
    study = studies[name]
    size = (11, 1 + 0.5 * len(study["arms"]))
    figure, axes = plt.subplots(1, 2, figsize=size, sharey=True)
    for ax, measure in zip(axes, ("score", "hits"), strict=True):
        evaluation_plots.study_forest(study, ax, measure)
    for pair, gain in study["differences"].items():
        for measure in ("score", "hits"):
            mean, low, high = gain[measure]
            found = f"[{low:+.3f}, {high:+.3f}], {verdict(low, high)}"
            print(f"{pair}, {measure:5}: {mean:+.3f} {found}")
    return study_table(study).round(3)


# %% [markdown]
# ### SG-RLVR, GRPO without map, SFT
#
# All arms start from the shipped warm start and use the raised camera. `paper_map` pays the map with weight 1 and the gate of Eq. 5, `random` pays at random. `sft` trains for about as many CPU-seconds as `map` on demonstrations made from true maps; the others see none. `--arms dpo` runs one more. In a line, `up` means that the first arm is better.

# %% tags=["nbval-check-output"]
show("map")

# %% [markdown]
# **What to notice.** The map reward raises the hits of maps over `no_map`; scores are not distinguishable. Random rewards lower the score, and move the hits by -3 to +15 points with the seed, so a single run of any arm says little. If SFT is better, consider its data: for real videos there are no demonstrations from true maps for every question, while the reward needs the true map only to *score*. The comparison shows what such supervision is worth where it exists.
#
# SpaceR says that SFT memorises and RL generalises. So every model was also asked about cameras that it was not trained on here: `turn`, which the warm start has demonstrations of, `level`, which does not look down, and `part`, a turn without its last eighth.

# %% tags=["nbval-check-output"]
if "map" in studies:
    cameras = {"raised (trained)": studies["map"], **studies["map"].get("views", {})}
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True, sharey=True)
    for ax, (camera, part) in zip(axes.flat, cameras.items(), strict=False):
        evaluation_plots.study_forest(part, ax)
        ax.set_title(f"{camera}, n = {studies['map']['settings']['questions']}")
    for ax in axes[0]:
        ax.set_xlabel("")

# %% [markdown]
# **What to notice.** SFT gains most on `raised` and `level`, and loses on `turn` and `part`, which stand at the height of the demonstrations. SG-RLVR gains less on the first two, and its scores on the others are not distinguishable from before. So here SFT forgets more. It does not only memorise: on `level`, which no arm trained on, it gains nearly as much.
#
# The change on the trained camera by type of question, in percentage points:

# %% tags=["nbval-check-output"]
if "map" in studies:
    by_type = {
        arm: {kind: 100 * gain[0] for kind, gain in found["per_task"].items()}
        for arm, found in studies["map"]["arms"].items()
    }
    display(pd.DataFrame(by_type).rename(short_name).round(1))

# %% [markdown]
# **What to notice.** SG-RLVR answers better what a map can answer: orders, counts, directions, distances in metres of objects whose cells were wrong before. Room sizes get worse, as under random rewards and not under `no_map`. A map in cells has no metres, and at weight 8 it outweighs the answers, so little keeps the scale: in seed 0 the stated sizes follow the true ones more closely than before (correlation .43 before, .72 after) but are 0.63 of them at the median. The demonstrations of SFT state metres.
#
# ### How much KL
#
# $\beta$ keeps the policy close to its start. vsGRPO reports a collapse at 0 and uses $10^{-4}$; SpaceR's script has 0.04.

# %% tags=["nbval-check-output"]
show("beta")


# %% tags=["nbval-check-output"]
def training(name, keys):
    """Means over the first and the last ten steps of the log, over seeds."""
    found = {}
    for run in studies.get(name, {"runs": []})["runs"]:
        for key in set(keys) & set(run["training"]):
            found.setdefault((run["arm"], key), []).append(run["training"][key])
    table = {pair: np.mean(values, axis=0) for pair, values in found.items()}
    return pd.DataFrame(table, index=["first 10", "last 10"]).T.sort_index().round(3)


training("beta", ["reward", "kl", "entropy"])

# %% [markdown]
# **What to notice.** In a collapse the reward falls, and the entropy goes to zero or grows without bound. A collapse is unlikely in a few dozen steps with a frozen language model: these runs say nothing about thousands of steps.
#
# ### Think, observe, vanilla

# %% tags=["nbval-check-output"]
show("modes")

# %% tags=["nbval-check-output"]
for run in studies.get("modes", {"runs": []})["runs"]:
    if run["seed"] == 0:
        example = run["examples"][0]
        print(f"{run['arm']}: {example['question']} (true: {example['ground_truth']})")
        print(f"    before {example['before']}\n    after  {example['after']}")

# %% [markdown]
# **What to notice.** Compare each arm with its *own* start. The starts differ, because a model of this size cannot compute a direction without writing the steps. `vanilla` draws no map, so it has no hits.
#
# ### A reward that can be hacked
#
# SpaceR gives right answers a bonus if their number of tokens lies in a window, so that reasoning becomes longer; vsGRPO tried such a reward and dropped it. In this study the window starts just above the usual length of the warm start's completions, the bonus is large, no layer is frozen, and the map earns nothing; `plain` is the same without the bonus. The training log shows the reward, and the held-out questions show what the model learned.

# %% tags=["nbval-check-output"]
show("hacking")

# %% tags=["nbval-check-output"]
paid = ["reward", "rewards/task/mean", "rewards/length/mean"]
training("hacking", [*paid, "completions/mean_length", "map_hit_rate"])

# %% [markdown]
# **What to notice.** Rewards of different arms cannot be compared: compare each arm with its own first steps, and the arms by the held-out measures. If the reward rises and score and hits do not, the model has found a reward hack. Here it makes completions longer by drawing more into its map. The reward alone would not have shown this.
#
# ## In practice
#
# ```bash
# spacer train --config sft_tiny                       # a baseline without a notebook
# spacer train --config dpo_tiny --set beta=0.3
# spacer extras select --config tiny --out runs/kept.jsonl --k 8 --rows 400   # resumes
# spacer train --config tiny --set data_path=runs/kept.jsonl
# spacer extras study --config map --seeds 0 1 2              # resumes; one folder per run
# spacer extras study --config modes --set max_steps=2 --questions 12 --out runs/trial
# ```
#
# - **Own studies.** Copy a file of `configs/study`, change its arms, and pass its path. An arm may use another recipe, change settings, and start from a model that another run trains. A misspelt setting in any arm is refused before the first run starts.
# - **Selection at scale.** Eight responses to 91,000 questions cost more than many epochs of SFT. The answers are kept in a file, so another selection rule needs no second run.
# - **Reasoning to imitate.** SFT in a think mode needs rows with a `reasoning` and refuses others: an empty think block would teach a known reward hack. `direct` and `vanilla` need the answer alone.
#
# ## Summary
#
# SFT is cheap if the responses exist. DPO needs pairs, and its margin can grow for the wrong reason. A verifiable reward needs only a scorer, and a group changes the policy only if its rewards differ. The choice depends on the supervision that exists; arms, seeds and intervals show what it contributes.
#
# ## Exercises
#
# 1. Corrupt the *map* instead of the answer in DPO's rejected response (`training/responses.py`). Which tokens does the preference reach then?
# 2. Select by the first two responses, then by all. Which questions are kept in one case and dropped in the other, and why?
# 3. Write a study with SFT on 60, 150, 300 and 600 steps. After how many steps does more training no longer help?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §5.
# - vsGRPO: *Improved Visual-Spatial Reasoning via R1-Zero-Like Training*, §4.
# - Rafailov et al., *Direct Preference Optimization*: https://arxiv.org/abs/2305.18290
#
# ## Quiz
#
# <details><summary>1. DPO's margin grows. Has the chosen response become likelier?</summary>
#
# Not necessarily: both may become less likely, the rejected one faster.
#
# </details>
#
# <details><summary>2. Which tokens may a supervised loss not include here?</summary>
#
# Those of prompt and video: the model never has to write them.
#
# </details>
#
# <details><summary>3. Why is a question dropped that the model answers rightly eight times?</summary>
#
# Its group has equal rewards under the task reward alone, so it gives no gradient.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# With a wrong answer the two responses differ in the last tokens only. With a wrong map they differ in most cells, so the preference speaks about places, which hits measure.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
from spacer_lib.maps.grid import turned
from spacer_lib.maps.text import map_to_text

read = processor.tokenizer
twin = next(p for p in pairs if p[0]["options"])
good, bad_answer = twin[1]
start, end = good.index("<map>") + 5, good.index("</map>")
bad_map = good[:start] + map_to_text(turned(twin[0]["map"])) + good[end:]
for name, text in {"wrong answer": bad_answer, "wrong map": bad_map}.items():
    both = [read(t, add_special_tokens=False)["input_ids"] for t in (good, text)]
    differ = sum(a != b for a, b in zip(*both, strict=False))
    print(f"{name:12} {differ} of {len(both[0])} tokens differ")

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# Two equal responses say little: a question that is answered rightly half of the time has equal pairs every other time. More responses keep more questions, and cost more.
#
# </details>

# %% tags=["solution", "hide-cell"]
few = {r["id"] for r in keep_informative(asked, [s[:2] for s in right])[0]}
print(f"by two: {len(few)} kept, by {responses}: {len(names)}")
print(f"kept by {responses} and dropped by two: {len(names - few)}; other way: "
      f"{len(few - names)}")

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# Four arms of one file. `load_study` checks every setting before anything trains; the run itself takes half an hour on a core.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
from spacer_lib.artifacts import write_text

arms = [f"  sft_{n}: {{recipe: sft_tiny, set: {{max_steps: {n}}}}}"
        for n in (60, 150, 300, 600)]
path = folder / "sft_steps.yaml"
lines = ["recipe: tiny", "reference: sft_60", "arms:", *arms, ""]
write_text(path, "\n".join(lines))
study = load_study(path, seeds=[0])
print(f"{len(study.arms)} arms, {len(study.seeds)} seed:", *study.arms)
print("spacer extras study --config sft_steps.yaml --seeds 0")

# %% [markdown]
# The next page asks held-out questions before and after SG-RLVR.
#
# ← [05 · Train](05_train_grpo.ipynb) · [07 · Evaluate](07_evaluate.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
