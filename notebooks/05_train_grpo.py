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
# # 05 · Train with verifiable rewards (SG-RLVR)
#
# ← [04 · Design rewards](04_design_rewards.ipynb) · [06 · Baselines](06_train_baselines.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`training`](../spacer_lib/training), [`models`](../spacer_lib/models), [`tiny`](../spacer_lib/tiny)
#
# **What you'll do.** Sample eight completions of each question from a small video model, reward each with a program, and make the better ones more likely. This is GRPO with SpaceR's map reward. The camera of the run is `raised`, held up above the head: the model has seen no demonstrations from there.
#
# **What you'll learn.**
# - compute the advantage of each completion in a group, and find the same numbers in the trainer;
# - detect a trainer whose loss ignores the video;
# - launch one recipe on a laptop core, on two CPU ranks or on eight GPUs;
# - read the training curves: which rewards change, and which groups have zero advantage.
#
# **What you'll need.** Notebook 04 for the rewards. No downloads: the notebook makes the rooms, and the repository holds the starting checkpoint. One CPU core, about five minutes, 2 GB of memory.
#
# SpaceR §4 (SG-RLVR), Eq. 5 and 7; §5.1 (settings).

# %% tags=["parameters"]
recipe: str = "tiny"  # a file in configs/
gpus: int = 0  # workers on each node; 0: the recipe's. Without GPUs at most 2 CPU ranks
nodes: int = 1  # machines; run this notebook on each of them
node_rank: int = 0  # which of them this is
main_process_ip: str = ""  # of node 0, where there are several
max_steps: int = 0  # 0: the recipe's
model_path: str = ""  # "": the recipe's
data_dir: str = ""  # folder of `spacer qa` or `mix`; "": the recipe's, or fresh rooms
out_dir: str = "../runs/05_train_grpo"  # relative to the notebooks' folder
resume: bool = False  # go on from the last checkpoint in out_dir
seed: int = 0  # of sampling and shuffling

# %%
import inspect
import os
import re
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from transformers.utils.logging import disable_progress_bar

from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.text import map_to_text

# %%
from spacer_lib.pictures import (
    figures,
    map_plots,
    reward_plots,
    room_plots,
    training_plots,
)
from spacer_lib.pictures.style import PALETTE, short_name, use_house_style
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.rooms.video import read_frames
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training import grpo
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.processes.launch import launch, resolve_workers
from spacer_lib.training.processes.monitor import LiveFigure
from spacer_lib.training.recipe import dump_config, load_config

# %%
disable_progress_bar()
os.environ["TQDM_DISABLE"] = "1"  # bars would stay in the saved notebook
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
use_house_style()
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# The parameters above change the recipe. A misspelt setting is refused here, before training. `SPACER_QUICK=1` in the environment (the test suite sets it) shortens the run to two small steps in a separate folder.

# %%
given = {"max_steps": max_steps, "model_path": model_path, "data_path": data_dir}
given |= {"gpus": gpus, "advanced.nodes": nodes}
changes = {"seed": seed, **{k: v for k, v in given.items() if v}}
quick = os.environ.get("SPACER_QUICK") == "1"
if quick:
    changes.update(max_steps=2, prompts_per_step=4)
    print("QUICK MODE: 2 steps of 4 prompts. Nothing below is a result.")

# %% tags=["nbval-check-output"]
config = load_config(recipe, changes)
run_dir = PROJECT_ROOT / "notebooks" / (out_dir + "_quick" * quick)
workers, device, message = resolve_workers(config)
print(message)

# %%
print(dump_config(config))

# %% [markdown]
# ## A group of answers, and what each is worth
#
# GRPO needs no value network. It samples $G$ completions of one question and compares their rewards $r_1 \dots r_G$. Completion $i$ has the advantage
#
# $$A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + 10^{-4}}$$
#
# (SpaceR Eq. 6, after [DeepSeekMath](https://arxiv.org/abs/2402.03300)). Eq. 6 has no $10^{-4}$; SpaceR's code and TRL add it. Take one question and four completions written by hand: a right answer with the true map, a right answer with a wrong map, a wrong answer with the true map, and the right letter without tags.

# %% tags=["nbval-check-output"]
style = config if config.prompt_mode == "tiny" else load_config("tiny")
rows = draw_rows(SEEDS["develop"], 12, style.view)
row = next(r for r in rows if r["question_type"] == "object_rel_direction_easy")
right, wrong = ("A", "B") if row["ground_truth"] == "A" else ("B", "A")
print(row["question"], *row["options"], f"(true: {right})", sep="\n")

# %% [markdown]
# The video of this room, as the model sees it: eight small frames of a person who turns around once. The map is the true one; the model must put it together from the frames.

# %% tags=["nbval-check-output"]
frames, numbers, *_ = read_frames(row["video"], style.frames, style.frame_size)
figure, axes = plt.subplots(1, style.frames + 1, figsize=(12, 2))
room_plots.frames_strip(frames, axes[:-1], [f"frame {i}" for i in numbers])
_ = map_plots.cognitive_map(row["map"], axes[-1], labels=False)


# %%
def written(cells, answer):
    """A well-formed completion."""
    return f"<think><map>{map_to_text(cells)}</map></think><answer>{answer}</answer>"


answers = {
    "right, good map": written(row["map"], right),
    "right, bad map": written({name: [[0, 0]] for name in row["map"]}, right),
    "wrong": written(row["map"], wrong),
    "no form": f"I think it is {right}",
}

# %% [markdown]
# Below is the function that the trainer calls (`spacer_lib/training/grpo.py`). The next cell computes Eq. 6 in numpy:

# %%
print(inspect.getsource(grpo.group_advantages))

# %% tags=["nbval-check-output"]
four = np.array([5.0, 2.0, 1.0, 0.0])
eq_6 = (four - four.mean()) / (four.std(ddof=1) + 1e-4)
found = grpo.group_advantages(torch.tensor(four[None]))[0]
np.testing.assert_allclose(found, eq_6)
eq_6.round(2)

# %% tags=["nbval-check-output"]
eq_5 = RewardConfig(map_scorer="decay", length_window=None)
table = {}
for name, rules in {"Eq. 5": eq_5, f"recipe {recipe}": config.reward}.items():
    earned = [score(text, row, rules) for text in answers.values()]
    totals = [breakdown.total for breakdown in earned]
    advantages = grpo.group_advantages(torch.tensor([totals]))[0]
    table[name, "reward"] = totals
    table[name, "advantage"] = advantages
pd.DataFrame(table, index=answers).round(2)

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
reward_plots.reward_bars(earned, axes[0], list(answers))
colors = [PALETTE[2] if a > 0 else PALETTE[5] for a in advantages]
axes[1].barh(list(answers), advantages, color=colors)
axes[1].invert_yaxis()
_ = axes[1].set(xlabel="advantage", yticklabels=[])

# %% [markdown]
# **What to notice.** The advantages of a group sum to zero, so some are negative. Under Eq. 5 a right answer with a bad map still has a positive advantage, but a smaller one than a right answer with a good map. In the tiny recipe (the bars) the map reward has weight 8 and no gate, so the map decides: a wrong answer with the true map has a positive advantage, and a right answer with a bad map has a negative one. *Launch* says what this changes. If all four rewards were equal, every advantage would be zero and the group would change nothing. The trainer logs the share of such groups as `frac_reward_zero_std`.
#
# ## The same numbers from the real trainer
#
# Now the real model answers. This kernel builds a small trainer, with the tiny model for every recipe. The trainer samples groups of eight rollouts. The cells compare its advantages with Eq. 6.

# %% tags=["nbval-check-output"]
look = {"advanced.num_iterations": 2, "seed": seed, "model_path": style.model_path}
small = load_config(style.recipe, look | {"beta": 0.04})
scratch = tempfile.TemporaryDirectory()
trainer = build_trainer(small, scratch.name, rows=rows)

# %%
batch = trainer.roll_out([0, 1, 2, 3])
tokenizer, G = trainer.processing_class.tokenizer, trainer.num_generations
texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
print(f"{len(texts)} rollouts, the first: {texts[0]}")

# %% tags=["nbval-check-output"]
asked = [rows[number] for number in range(4) for _ in range(G)]
totals = [score(t, r, small.reward).total for t, r in zip(texts, asked, strict=True)]
groups = np.reshape(totals, (-1, G))
spread = groups.std(axis=1, ddof=1, keepdims=True) + 1e-4
eq_6 = (groups - groups.mean(axis=1, keepdims=True)) / spread
np.testing.assert_allclose(eq_6.flatten(), batch["advantages"], atol=1e-3)
print(f"{len(texts)} advantages are those of Eq. 6")

# %%
figure, ax = plt.subplots(figsize=(7, 2.4))
for group, values in enumerate(batch["advantages"].view(-1, G)):
    ax.stem(group + np.linspace(-0.3, 0.3, G), values, basefmt="k-")
ticks = [short_name(r["question_type"]) for r in rows[:4]]
_ = ax.set(xticks=range(4), xticklabels=ticks, ylabel="advantage")

# %% [markdown]
# **What to notice.** Each stem is one rollout of one question. The groups differ in spread. A group whose rewards are all equal has no stems.
#
# ## Does the loss look at the video?
#
# TRL's stock trainer gives the video to `generate`, but computes the log-probabilities, and so the loss, **without** it. Nothing fails, and the training curves still change. Our trainer gives each row's video to every score. The visibility check scores the same rollouts twice: with their own video and with another room's. Every run makes this check before its first step, with grey frames in place of the other room, and refuses to start if the loss ignores the video.

# %%
other = batch["media"][G:] + batch["media"][:G]  # the next question's room
own_loss, own = trainer.score(batch)
other_loss, swapped = trainer.score(batch, other)
print(f"loss beside the own video      {own_loss:+.4f}")
print(f"loss beside another room's     {other_loss:+.4f}")
assert not torch.allclose(own, swapped, atol=1e-3)

# %%
pick = int((own - swapped).abs().sum(dim=1).argmax())  # the most telling rollout
count = int(batch["completion_mask"][pick].sum())
ids = batch["completion_ids"][pick, :count]
few = min(count, 40)  # tokens shown: those that differ most
gaps = (own - swapped)[pick, :count].abs()
start = int(gaps.unfold(0, few, 1).sum(dim=1).argmax())
part = slice(start, start + few)

# %%
figure, ax = plt.subplots(figsize=(10, 2.8))
ax.plot(own[pick, part], ".-", label="own video")
ax.plot(swapped[pick, part], ".-", label="another room's video")
ax.set_xticks(range(few), [tokenizer.decode(i) for i in ids[part]], rotation=90)
ax.tick_params(axis="x", labelsize=8)
ax.set(ylabel="log-probability of token", xlabel=f"{few} of {count} tokens")
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# **What to notice.** Brackets and names have about the same log-probability with either video. The log-probability drops for the cells of the map, which the model must *see*. If the loss ignored the video, the two lines would be the same, and the model could only learn to write maps of the average room. `tests/training/test_trainer.py` runs this check on our trainer, where it must pass, and on TRL's own, where it must fail.
#
# The loss with the own video is close to zero, because nothing has changed between sampling and scoring: every ratio of Eq. 7 is 1, and the advantages of a group sum to zero. The *gradient* is not zero. With another room's video the loss is far from zero, mostly because of the KL term below: the reference scores were made with the own video.
#
# ## The loss
#
# $$J(\theta) = \frac{1}{G}\sum_i \frac{1}{|o_i|}\sum_t \left[\min\!\big(\rho_{i,t} A_i,\ \operatorname{clip}(\rho_{i,t}, 1-\epsilon, 1+\epsilon)\, A_i\big) - \beta\, D_{i,t}\right], \qquad \rho_{i,t} = \frac{\pi_\theta(o_{i,t} \mid q, o_{i,<t})}{\pi_{\theta_{old}}(o_{i,t} \mid q, o_{i,<t})}$$
#
# This is Eq. 7 as SpaceR's released code computes it. The published Eq. 7 has one ratio for each response and no mean over tokens; the released code has one ratio for each token and a mean over tokens, as here. $D = r - \log r - 1$, where $r = \pi_{ref}/\pi_\theta$, is GRPO's estimate of the KL divergence from the reference. It is never negative, and zero where the two agree. The trainer calls these functions, one for each part of the equation:

# %%
parts = grpo.log_ratio, grpo.clipped_surrogate, grpo.kl_divergence
for part in (*parts, grpo.mean_over_tokens):
    code = inspect.getsource(part)
    print(re.sub(r'    """.*?"""\n', "", code, flags=re.DOTALL))  # without docstrings

# %% [markdown]
# All ratios are 1 and the KL term is 0 until the policy changes. The next cell adds a little noise to all weights. Then the trainer computes the loss on the same rollouts, and a cell computes it step by step.

# %%
with torch.no_grad():
    for weight in trainer.model.parameters():
        weight += 0.02 * weight.std() * torch.randn_like(weight)
loss, logps = trainer.score(batch)

# %% tags=["nbval-check-output"]
mask, A = batch["completion_mask"], batch["advantages"]
ratio = grpo.log_ratio(logps, batch["old_per_token_logps"], mask).exp()
kl = grpo.kl_divergence(logps, batch["ref_per_token_logps"])
gain = grpo.clipped_surrogate(ratio, A, small.advanced.epsilon)
J = grpo.mean_over_tokens(gain - small.beta * kl, mask, "grpo")
print(f"step by step {-J:.6f}, the trainer's {loss:.6f}")
assert abs(loss + J) < 1e-6

# %% [markdown]
# One completion in numpy, from the equation:

# %%
there = mask[0].bool().numpy()
lp, old, ref = (
    values[0].numpy()[there]
    for values in (logps, batch["old_per_token_logps"], batch["ref_per_token_logps"])
)
rho, r, a = np.exp(lp - old), np.exp(ref - lp), float(A[0])
clipped = np.clip(rho, 1 - small.advanced.epsilon, 1 + small.advanced.epsilon)
eq_7 = np.minimum(rho * a, clipped * a) - small.beta * (r - np.log(r) - 1)
first = grpo.mean_over_tokens((gain - small.beta * kl)[:1], mask[:1], "grpo")
np.testing.assert_allclose(first, eq_7.mean(), atol=1e-6)

# %% tags=["nbval-check-output"]
ratio, kl = ratio[mask == 1], kl[mask == 1]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
axes[0].hist(ratio.numpy(), bins=60, color=PALETTE[0])
for edge in (1 - small.advanced.epsilon, 1 + small.advanced.epsilon):
    axes[0].axvline(edge, color="k", linestyle=":")
axes[0].set(xlabel="ratio of a token", ylabel="tokens", yscale="log")
axes[1].scatter(logps[batch["completion_mask"] == 1].exp(), kl, s=4)
_ = axes[1].set(xlabel="probability of a token", ylabel="KL estimate (nats)")

# %% [markdown]
# **What to notice.** Between the dotted lines the gradient is that of the ratio. It is zero above the upper line for a positive advantage, and below the lower line for a negative one. With one update a batch, as published, no token gets there. The loss takes the mean over the tokens of a completion first, then over completions, so a token of a long completion has less weight. `loss_type` in a recipe selects other means (`dapo`, `bnpo`, `dr_grpo`). `importance_level: sequence` selects one ratio per completion (GSPO). `tests/training/test_grpo.py` compares each with TRL's own loss and with its formula in numpy.
#
# ## Ways to learn nothing
#
# A published checkpoint brings its own sampling settings, and Qwen2.5-VL's temperature is near zero. Then the completions of a group are equal, and their advantages are zero. Without a check the run would continue with a loss of exactly zero. The trainer stops with this error:

# %%
greedy = load_config(style.recipe, look | {"temperature": 1e-4})
with tempfile.TemporaryDirectory() as folder:
    careful = build_trainer(greedy, folder, rows=rows)
    try:
        careful.roll_out([0, 1, 2, 3])
    except SpacerError as error:
        print(error)
del careful

# %%
scratch.cleanup()
del trainer, batch

# %% [markdown]
# ## Launch
#
# The tiny recipe differs from SpaceR in four settings (`LOG.md` has runs without them):
#
# - the map reward has weight 8 and no gate: it counts for wrong answers too. With weight 1 and the gate of Eq. 5 maps improve less, and scores are not distinguishable (notebook 06);
# - `decay` scores maps steeply. The published score differs little between good and bad maps (notebook 04);
# - only the vision tower learns, below its last layer. Only the camera is new; the language model keeps the reasoning that it was taught. When all weights learned, maps got better and answers worse;
# - the learning rate is large and falls to zero, so the last steps add little noise.
#
# `accelerate launch` starts the run in separate processes: one plain process on one core, otherwise DeepSpeed. This kernel stays free. If it is interrupted, the workers save a checkpoint and end; `resume=True` continues from there. One folder holds all files of the run: recipe, log, metrics, sampled rollouts, checkpoints, the final model.

# %%
live = LiveFigure(run_dir, training_plots.training_curves)
where = {"node_rank": node_rank, "main_process_ip": main_process_ip or None}
result = launch(config, run_dir, on_line=live, resume=resume, **where)
_ = live.refresh()

# %%
print(f"{result.steps} steps, {result.seconds:.0f} s, {result.peak_memory_gb} GB")
print(message + ", finished earlier" * result.skipped)

# %% [markdown]
# ## What moved
#
# The table shows means over the first and the last ten steps. Rooms are new in every step, so the model has not trained on these questions before it answers them. Still, a training curve is not an evaluation. Notebook 07 asks held-out questions.

# %%
metrics = pd.DataFrame(result.metrics())
shown = {
    "reward": "reward",
    "rewards/format/mean": "format",
    "rewards/task/mean": "task",
    "rewards/map/mean": "map, weighted",
    "map_hit_rate": "objects drawn within 1.5 cells",
    "frac_reward_zero_std": "groups without advantage",
    "rollouts_identical": "groups of identical rollouts",
    "entropy": "entropy (nats per token)",
    "completions/mean_length": "tokens",
}

# %%
ends = {"first 10": metrics.head(10), "last 10": metrics.tail(10)}
pd.DataFrame({k: part[list(shown)].mean() for k, part in ends.items()}).rename(
    index=shown
).round(3)

# %% [markdown]
# **What to notice.** *Format* can improve little: the warm start taught it. *Groups without advantage*: compare with the run without the map reward (`-p recipe tiny_no_map`). There all right answers have the same reward, so a group of right answers has zero advantage. *Entropy* measures how much the model's completions vary; at zero, all completions of a group are equal.
#
# ## Read the rollouts
#
# The next cells show the rollouts of one question from the first step and of one from the last, as sampled. The bars show their rewards (squares: the true map, dots: the rollout). `spacer browse` writes all kept rollouts of a run into one page, with frames, maps and filters: see *In practice*.

# %%
rollouts = pd.DataFrame(result.rollouts())
early = rollouts[rollouts["step"] == rollouts["step"].min()]
late = rollouts[rollouts["step"] == rollouts["step"].max()]

# %%
for group in (early, late):
    first = group.iloc[0]
    print(f"step {first['step']}: {first['question']} (true: {first['ground_truth']})")
    for rollout in group.itertuples():
        print(f"  advantage {rollout.advantage:+.2f}  {rollout.completion[:300]}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.4))
for ax, group in zip(axes, (early, late), strict=True):
    group = group.to_dict("records")
    earned = [score(r["completion"], r, config.reward) for r in group]
    labels = [f"rollout {i + 1}" for i in range(len(group))]
    reward_plots.reward_bars(earned, ax, labels)
    ax.set(title=f"step {group[0]['step']}")

# %% [markdown]
# The maps of the last step:

# %%
figure, axes = plt.subplots(1, len(late), figsize=(11, 2.8), squeeze=False)
drawn = [read_completion(t, expect_map=True).map or {} for t in late.completion]
names = {name for seen in (*late["map"], *drawn) for name in seen}
for ax, rollout, seen in zip(axes[0], late.itertuples(), drawn, strict=True):
    drawing = {"names": names, "key": ax is axes[0, -1], "labels": False}
    map_plots.cognitive_map(rollout.map, ax, predicted=seen, **drawing)
    ax.set(title=f"advantage {rollout.advantage:+.2f}")

# %% [markdown]
# ## The same questions, before and after
#
# Steps have different questions, so their rollouts cannot be compared one by one. The rollouts near the top of this page are of four questions that the run never trained on, by the starting checkpoint. The trained model now answers the same questions, with the same random numbers.

# %%
after = None
if config.prompt_mode == "tiny":
    trained = load_config(style.recipe, look | {"model_path": str(result.model_dir)})
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(trained, folder, rows=rows)
        batch = trainer.roll_out([0, 1, 2, 3])
    ids = batch["completion_ids"]
    after = tokenizer.batch_decode(ids, skip_special_tokens=True)
    del trainer, batch
else:
    print("Skipped: this kernel loads the tiny model only. Notebook 07 asks any model.")

# %%
if after:
    both = {"before": texts, "after": after}
    table = {}
    for name, written_by in both.items():
        pairs = zip(written_by, asked, strict=True)
        earned = [score(text, r, RewardConfig()) for text, r in pairs]
        table[name, "task"] = np.reshape([b.task for b in earned], (-1, G)).mean(axis=1)
        hits = np.reshape([b.map_hits for b in earned], (-1, G)).sum(axis=1)
        total = np.reshape([b.map_total for b in earned], (-1, G)).sum(axis=1)
        table[name, "map hits"] = hits / total
    kinds = [short_name(r["question_type"]) for r in rows[:4]]
    display(pd.DataFrame(table, index=kinds).round(2))

# %% [markdown]
# **What to notice.** *Map hits* are the share of objects drawn within 1.5 cells. Four questions are an illustration; notebook 07 measures.
#
# ## Three rooms at a glance
#
# Greedy answers of the trained model about rooms that it never trained on: the first two right choices and the first wrong one. Frames from left to right; squares are true, dots are drawn.

# %%
if after:
    few = draw_rows(SEEDS["develop"] + 1000, 18, config.view)
    model, processor = load(result.model_dir, None)
    with tempfile.TemporaryDirectory() as folder:
        made = evaluate(
            model, processor, few, config.asking(), condition="own",
            out_path=os.path.join(folder, "answers.jsonl"),
        )
    asked = [pair for pair in zip(few, made, strict=True) if pair[0]["options"]]
    right = [pair for pair in asked if pair[1]["score"] == 1][:2]
    chosen = right + [pair for pair in asked if pair[1]["score"] == 0][:1]
    figure = figures.at_a_glance(*map(list, zip(*chosen, strict=True)))

# %% [markdown]
# **What to notice.** *Sees* says in which view each category appears first; the view's number times 45 degrees is roughly where to look for it. Compare the working with the drawn map: the cells in it are those of the map, so an object that is drawn in a wrong cell misleads the answer.
#
# ## In practice
#
# A full-size run uses the same cells; parameters select the scale:
#
# ```bash
# cd notebooks
# papermill 05_train_grpo.ipynb ../papermill_runs/05_train_grpo__tiny__seed1.ipynb -p seed 1
# papermill 05_train_grpo.ipynb ../papermill_runs/05_train_grpo__tiny_no_map__seed0.ipynb \
#     -p recipe tiny_no_map -p out_dir ../runs/05_no_map
# papermill 05_train_grpo.ipynb ../papermill_runs/05_train_grpo__spacer_7b__seed0.ipynb \
#     -p recipe spacer_7b -p gpus 8 -p out_dir ../runs/05_spacer_7b --log-output
# ```
#
# - **Every kept rollout.** `spacer browse runs/05_train_grpo` writes one HTML page: frames, completion, drawn and true map, rewards, and filters by question type and failure. It needs no server and loads nothing.
# - **8 GPUs.** `configs/spacer_7b.yaml` holds the paper's settings (ZeRO-3, 8 completions, 16 frames). It expects questions and videos that notebooks 01 to 03 make from ScanNet. `configs/README.md` lists every recipe with the source of its numbers. `spacer train --config spacer_7b --estimate` runs a few steps and estimates the time of the whole run.
# - **One GPU of 16 to 24 GB.** The middle tier trains Qwen2.5-VL-3B by LoRA on 5,000 of SpaceR's questions, with the same cells: `papermill 05_train_grpo.ipynb out.ipynb -p recipe spacer_3b_lora -p data_dir ../data/spacer151k -p out_dir ../runs/05_spacer_3b_lora`. On any machine `spacer train --config spacer_3b_lora --estimate` predicts the GPU memory, disk and hours from the sizes of the model alone; with a GPU it measures them too. A start warns if the GPU has less memory than predicted, and refuses if weights and optimiser alone do not fit.
# - **Several machines.** Start the notebook on each with the same `out_dir` on a shared disk: `-p nodes 2 -p node_rank 1 -p main_process_ip 10.0.0.1`. `scripts/train_slurm.sbatch` does this under SLURM; `scripts/train_two_hosts.md` shows the commands without SLURM.
# - **No GPU.** With `gpus` 8 the tiny recipe still runs, on two CPU ranks with DeepSpeed ZeRO-2, and the first line says so. With some GPUs, but fewer than `gpus`, it refuses. A 7B recipe refuses to start without a GPU.
# - **Any number of workers, the same rollouts.** Each completion is sampled with a key made of seed, step and place. So one worker, two under DDP and two under ZeRO-2 or ZeRO-3 learn from the same completions; a test compares their losses and gradients.
# - **Pictures and texts among the videos.** SpaceR-151k mixes them; a batch may hold all three. If a file cannot be read, the next row replaces it. The trainer counts such files (`media_skipped`) and logs their names.
# - **A killed run.** The same command with `-p resume True` continues from the last complete checkpoint and ignores incomplete ones. With other settings it refuses.
# - **A second run in the same folder** moves the first one to `<out_dir>.old`.
# - **Sampling settings of published checkpoints.** Qwen2.5-VL ships a temperature near zero. With it all rollouts of a group would be the same, and GRPO would learn nothing and raise no error. The trainer overwrites the temperature, logs `rollouts_identical`, and refuses a first step made of identical groups.
# - **A second pass over the same rollouts** (`advanced.num_iterations` 2) logs `logp_change/max`. It must be exactly 0 on the first pass; otherwise old and new scores had different inputs.
#
# ## Summary
#
# The mean reward of a group is its baseline. The reward decides which completions are better. The map reward makes the rewards of nearly every group differ. The loss must depend on the video. The trained model is in the run's `model/` folder.
#
# ## Exercises
#
# 1. Give all four hand-written answers the same reward. What do the advantages become, and what would the gradient be?
# 2. Add 10 to every reward of one group. Which number in this notebook changes?
# 3. Train with `-p recipe tiny_no_map` and compare the shares of zero-advantage groups. (The study of notebook 06 has three seeds of each.)
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §4 and §5.1.
# - DeepSeekMath (GRPO): https://arxiv.org/abs/2402.03300
# - TRL, GRPO trainer: https://huggingface.co/docs/trl/grpo_trainer
#
# ## Quiz
#
# <details><summary>1. Why is the loss close to 0 on fresh rollouts while its gradient is not?</summary>
#
# Every ratio is 1 and the advantages of a group sum to zero, so the values cancel. The gradients of the log-probabilities do not.
#
# </details>
#
# <details><summary>2. What would a loss without the video teach?</summary>
#
# To write the map of the average room: nothing that depends on what is seen.
#
# </details>
#
# <details><summary>3. Which tokens does the clip of Eq. 7 stop?</summary>
#
# Those whose ratio is above 1 + ε with a positive advantage, or below 1 - ε with a negative one.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# All zero, and so is the gradient of the surrogate: each token's gradient is multiplied by its completion's advantage. Only the KL term is left.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
print(grpo.group_advantages(torch.full((1, 4), 5.0)).tolist())

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# The logged mean reward. Advantages, loss and gradient stay: only differences within a group count.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
plain, more = (grpo.group_advantages(torch.tensor([[5.0, 2.0, 1.0, 0.0]]) + extra)
               for extra in (0.0, 10.0))
print(f"largest change of an advantage: {(plain - more).abs().max():.0e}")

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# With the map reward hardly any group is silent. Without it a part of them is, and it changes little in 60 steps.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
arms = read_json(PROJECT_ROOT / "papermill_runs" / "study.json")["runs"]
silent = {f"{run['arm']}, seed {run['seed']}": run["training"]["frac_reward_zero_std"]
          for run in arms if run["arm"] in ("map", "no_map")}
pd.DataFrame(silent, index=["first 10 steps", "last 10"]).T.round(3)

# %% [markdown]
# The next page trains the same model by SFT, DPO and GRPO without a map.
#
# ← [04 · Design rewards](04_design_rewards.ipynb) · [06 · Baselines](06_train_baselines.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
