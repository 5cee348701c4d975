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
# **What you'll do.** Let a small video model answer the same question eight times, reward what can be checked, and make the better answers more likely: GRPO with SpaceR's map reward, on camera viewpoints for which the model has never seen an answer.
#
# **What you'll learn.**
# - compute the advantage of each answer in a group, and find the same numbers in the trainer;
# - catch a trainer that trains without looking at the video;
# - compute the prompt of a group once, exactly;
# - launch one recipe on a laptop core, on two CPU ranks or on eight GPUs;
# - read the curves: which rewards move, and which groups teach nothing.
#
# **What you'll need.** Notebook 04 for the rewards. Nothing from disk: rooms are made on the spot, and the starting checkpoint is in the repository. One CPU core, about five minutes, 2 GB of memory.
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
import time
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.utils.logging import disable_progress_bar

from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.text import map_to_text

# %%
from spacer_lib.pictures import map_plots, reward_plots, training_plots
from spacer_lib.pictures.style import PALETTE, short_name, use_house_style
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.score import score
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training import grpo
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.prefix import branch_attention, visible
from spacer_lib.training.processes.launch import launch, resolve_workers
from spacer_lib.training.processes.monitor import LiveFigure
from spacer_lib.training.recipe import dump_config, load_config

# %%
disable_progress_bar()
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
use_house_style()
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# The parameters above change the recipe; a misspelt setting is refused here, before training. `SPACER_QUICK=1` in the environment (the test suite sets it) cuts the run to two small steps in a folder of its own.

# %%
given = {"max_steps": max_steps, "model_path": model_path, "data_path": data_dir}
given |= {"gpus": gpus, "advanced.nodes": nodes}
changes = {"seed": seed, **{k: v for k, v in given.items() if v}}
quick = os.environ.get("SPACER_QUICK") == "1"
if quick:
    changes.update(max_steps=2, prompts_per_step=4)
    print("QUICK MODE: 2 steps of 4 prompts. Nothing below is a result.")

# %%
config = load_config(recipe, changes)
run_dir = PROJECT_ROOT / "notebooks" / (out_dir + "_quick" * quick)
workers, device, message = resolve_workers(config)
print(message)

# %%
print(dump_config(config))

# %% [markdown]
# ## A group of answers, and what each is worth
#
# GRPO needs no value network. It asks the same question $G$ times and compares the answers with each other: with rewards $r_1 \dots r_G$, answer $i$ has the advantage
#
# $$A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + 10^{-4}}$$
#
# (SpaceR Eq. 6, after [DeepSeekMath](https://arxiv.org/abs/2402.03300); the small constant is not in Eq. 6, but in SpaceR's code and in TRL). Take one question and four answers written by hand: right with its map, right with a wrong map, wrong but well-formed, and no form at all.

# %%
rows = draw_rows(SEEDS["develop"], 12, "new")
row = next(r for r in rows if r["question_type"] == "object_rel_direction_easy")
right, wrong = ("A", "B") if row["ground_truth"] == "A" else ("B", "A")
print(row["question"], *row["options"], f"(true: {right})", sep="\n")


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
# The function that the trainer calls (`spacer_lib/training/grpo.py`), and Eq. 6 written once more in numpy:

# %%
print(inspect.getsource(grpo.group_advantages))

# %%
four = np.array([5.0, 2.0, 1.0, 0.0])
eq_6 = (four - four.mean()) / (four.std(ddof=1) + 1e-4)
found = grpo.group_advantages(torch.tensor(four[None]))[0]
np.testing.assert_allclose(found, eq_6)
eq_6.round(2)

# %%
eq_5 = RewardConfig(map_scorer="decay", length_window=None)
table = {}
for name, rules in {"Eq. 5": eq_5, f"recipe {recipe}": config.reward}.items():
    earned = [score(text, row, rules) for text in answers.values()]
    totals = [breakdown.total for breakdown in earned]
    advantages = grpo.group_advantages(torch.tensor([totals]))[0]
    table[name, "reward"] = totals
    table[name, "advantage"] = advantages
pd.DataFrame(table, index=answers).round(2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
reward_plots.reward_bars(earned, axes[0], list(answers))
colors = [PALETTE[2] if a > 0 else PALETTE[5] for a in advantages]
axes[1].barh(list(answers), advantages, color=colors)
axes[1].invert_yaxis()
_ = axes[1].set(xlabel="advantage", yticklabels=[])

# %% [markdown]
# **What to notice.** Advantages of a group sum to zero, so some are negative. Under Eq. 5 a right answer with a bad map still gains, but less than one that drew the room. Under the tiny recipe (the bars) the map counts eightfold and has no gate, so it decides: a wrong answer beside a true map gains, a right one beside a bad map loses. *Launch* says why a small model needs that. If all four earned the same, every advantage would be zero and the group would change nothing; the trainer logs the share of such groups as `frac_reward_zero_std`.
#
# ## The same numbers from the real trainer
#
# Now the real model answers. A small trainer is built in this kernel (always the tiny model: this part is for looking), asked for groups of eight rollouts, and its advantages are compared with Eq. 6.

# %%
look = {"advanced.num_iterations": 2, "seed": seed}
if config.prompt_mode == "tiny":
    look["model_path"] = config.model_path
small = load_config("tiny", look | {"beta": 0.04})
scratch = tempfile.TemporaryDirectory()
trainer = build_trainer(small, scratch.name, rows=rows)

# %%
batch = trainer.roll_out([0, 1, 2, 3])
tokenizer, G = trainer.processing_class.tokenizer, trainer.num_generations
texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
print(f"{len(texts)} rollouts, the first: {texts[0]}")

# %%
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
# **What to notice.** Each stem is one rollout of one question. Groups differ in spread: where answers are all alike there is no stem at all.
#
# ## Does the loss look at the video?
#
# TRL's stock trainer gives the video to `generate`, and then computes log-probabilities, hence the loss, **without** it. Nothing fails: the curves even move. Our trainer carries each row's video into every score. The check is simple: score the same rollouts once beside their own video and once beside another room's. Every run makes it before its first step, with grey frames, and refuses to train blind.

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

# %%
figure, ax = plt.subplots(figsize=(10, 2.8))
ax.plot(own[pick, :count], ".-", label="own video")
ax.plot(swapped[pick, :count], ".-", label="another room's video")
ax.set_xticks(range(count), [tokenizer.decode(i) for i in ids], rotation=90)
ax.tick_params(axis="x", labelsize=6)
ax.set(ylabel="log-probability of token")
_ = ax.legend()

# %% [markdown]
# **What to notice.** The brackets and names are as likely beside either room; what drops is what had to be *seen*, the cells of the map. A blind loss would draw one line, and could only learn to write maps of the average room. `tests/training/test_trainer.py` runs this check on our trainer, where it must pass, and on TRL's own, where it must fail.
#
# Why is the loss beside the own video so close to zero? Because nothing has changed between sampling and scoring: every ratio of Eq. 7 is 1, and the advantages of a group cancel. The *gradient* is not zero. (Beside another room's video it is far from zero mostly through the divergence term below: the reference scores were made beside the own one.)
#
# ## The loss
#
# $$J(\theta) = \frac{1}{G}\sum_i \frac{1}{|o_i|}\sum_t \left[\min\!\big(\rho_{i,t} A_i,\ \operatorname{clip}(\rho_{i,t}, 1-\epsilon, 1+\epsilon)\, A_i\big) - \beta\, D_{i,t}\right], \qquad \rho_{i,t} = \frac{\pi_\theta(o_{i,t} \mid q, o_{i,<t})}{\pi_{\theta_{old}}(o_{i,t} \mid q, o_{i,<t})}$$
#
# (Eq. 7, with GRPO's estimate of the divergence from the reference: $D = r - \log r - 1$, where $r = \pi_{ref}/\pi_\theta$; never negative, and zero where the two agree. Eq. 7 prints one ratio for each response; SpaceR's code uses one for each token, as here.) The trainer calls these functions, one for each part of the equation:

# %%
parts = grpo.log_ratio, grpo.clipped_surrogate, grpo.kl_divergence
for part in (*parts, grpo.mean_over_tokens):
    code = inspect.getsource(part)
    print(re.sub(r'    """.*?"""\n', "", code, flags=re.DOTALL))  # without docstrings

# %% [markdown]
# To see more than zeros, the policy has to move: all weights are shaken a little, and the loss is computed on the same rollouts, by the trainer and step by step.

# %%
with torch.no_grad():
    for weight in trainer.model.parameters():
        weight += 0.02 * weight.std() * torch.randn_like(weight)
loss, logps = trainer.score(batch)

# %%
mask, A = batch["completion_mask"], batch["advantages"]
ratio = grpo.log_ratio(logps, batch["old_per_token_logps"], mask).exp()
kl = grpo.kl_divergence(logps, batch["ref_per_token_logps"])
gain = grpo.clipped_surrogate(ratio, A, small.advanced.epsilon)
J = grpo.mean_over_tokens(gain - small.beta * kl, mask, "grpo")
print(f"step by step {-J:.6f}, the trainer's {loss:.6f}")
assert abs(loss + J) < 1e-6

# %% [markdown]
# One answer in numpy, from the equation:

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

# %%
ratio, kl = ratio[mask == 1], kl[mask == 1]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
axes[0].hist(ratio.numpy(), bins=60, color=PALETTE[0])
for edge in (1 - small.advanced.epsilon, 1 + small.advanced.epsilon):
    axes[0].axvline(edge, color="k", linestyle=":")
axes[0].set(xlabel="ratio of a token", ylabel="tokens", yscale="log")
axes[1].scatter(logps[batch["completion_mask"] == 1].exp(), kl, s=4)
_ = axes[1].set(xlabel="probability of a token", ylabel="KL estimate (nats)")

# %% [markdown]
# **What to notice.** Between the dotted lines the gradient is that of the ratio; outside, on the side that the advantage pushes to, it is cut off. With one update a batch, as published, no token ever gets there. Note too which mean is taken: over tokens of an answer first, then over answers, so that a token of a long answer counts for less. `loss_type` in a recipe selects other means (`dapo`, `bnpo`, `dr_grpo`), `importance_level: sequence` one ratio per answer (GSPO); `tests/training/test_grpo.py` compares each with TRL's own loss and with its formula in numpy.
#
# ## Each prompt once
#
# A group is one video prompt of $P$ tokens with $G$ answers of $C$ tokens. A row for each answer repeats the prompt, video included, $G$ times: in the rollout, and in old, reference and policy scores. None of it has to be: what an answer sees of the prompt is the same for all. So the prompt stands once in a row with all its answers behind it as *branches*; a branch sees the prompt and itself, never a sibling, and counts its positions on from the prompt.

# %%
figure, ax = plt.subplots(figsize=(3.6, 3.4))
ax.imshow(visible((8, 3, 5)), cmap="Blues", vmax=1.6)
for place, name in ((4, "prompt"), (10, "A"), (15, "B"), (20, "C")):
    ax.text(place, -1.2, name, ha="center", fontsize=8)
for edge in (7.5, 12.5, 17.5):
    ax.axvline(edge, color="white")
    ax.axhline(edge, color="white")
_ = ax.set(xlabel="looked at", ylabel="looking")

# %% [markdown]
# No mask of this size is ever made. The attention comes in two pieces, the prompt by itself and each branch behind its own copy of the prompt's keys, both of which causal kernels do; and it gives what the picture says:

# %%
print(inspect.getsource(branch_attention))

# %%
lengths = before, count, width = 8, 3, 5  # P - 1, G, C
generator = torch.Generator().manual_seed(0)
size = 3, 1, 2, before + count * width, 4  # queries, keys, values; row; heads; …
query, key, value = torch.randn(size, generator=generator)
layer = SimpleNamespace(num_key_value_groups=1)  # as many keys as queries
split, _ = branch_attention(layer, query, key, value, None, branches=lengths)
whole = scaled_dot_product_attention(query, key, value, attn_mask=visible(lengths))
np.testing.assert_allclose(split.transpose(1, 2), whole, atol=1e-6)

# %% [markdown]
# Every target is the next token of its own answer, so log-probabilities and gradients are those of separate rows, for $P + GC$ positions in place of $G(P + C)$:

# %%
P = int(batch["prompt_mask"].sum(dim=1)[0])
C = int(batch["completion_mask"].sum() / len(texts))
shapes = {"here": (P, C), "SpaceR": (1100, 400), "short answers": (1100, 100)}
law = {name: (G * (p + c), p + G * c) for name, (p, c) in shapes.items()}
law = pd.DataFrame(law, index=["a row each", "prompt once"]).T
law.assign(ratio=(law["a row each"] / law["prompt once"]).round(2))


# %%
def scored(trainer, batch, shared):
    """Loss, log-probabilities and seconds of one pass, forward and backward."""
    trainer.shared_prefix = shared
    loss, logps = trainer.score(batch)
    start = time.perf_counter()
    trainer._compute_loss(trainer.model, batch).backward()
    return loss, logps, time.perf_counter() - start


passes = {name: [] for name in ("prompt once", "a row each")}
for _ in range(3):
    for name, shared in zip(passes, (G, None), strict=True):
        passes[name].append(scored(trainer, batch, shared))
trainer.shared_prefix = G

# %%
gap = (passes["prompt once"][0][1] - passes["a row each"][0][1]).abs().max()
for name, found in passes.items():
    seconds = np.median([one[2] for one in found])
    print(f"{name:12} loss {found[0][0]:+.7f}, {seconds:.2f} s")
print(f"log-probabilities differ by {gap:.1g} at most")

# %% [markdown]
# **What to notice.** Rounding apart nothing changes but the seconds. `advanced.shared_prefix: auto` (the default) does this wherever it is exact, checks it on real rows before the first step, and says why where it is not (dropout, other model families, groups cut into single answers); `advanced.completions_per_forward` trades it for memory.
#
# If seconds went by tokens, what it gains would be $G(P+C)/(P+GC)$, the curves below. The dots are measured: updates (forward and backward) of a Qwen2.5-VL of hidden size 256 on one CPU core, beside a stock trainer with one row to a forward and one with the whole group, padded, as a batch. One of $P$, $C$ and $G$ changes at a time; the others stay at 600, 100 and 8.

# %%
kept = PROJECT_ROOT / "papermill_runs" / "bench_step"
middle = kept / "600_100_8.json"  # what one dimension at a time departs from
paths = sorted(kept.glob("*.json"), key=lambda path: path != middle)
benches = [read_json(path) for path in paths]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
for ax, vary in zip(axes, ("prompt", "completion", "group"), strict=True):
    training_plots.shared_prefix_ratios(benches, vary, ax)
    ax.get_legend().remove()
    ax.set(ylabel="")
axes[0].set(ylabel="update: stock seconds / shared")
_ = axes[0].legend()

# %% [markdown]
# At SpaceR's proportions ($P=1100$, $C=400$, $G=8$), phase by phase, how many times as long the two stock forms take; and how many times the memory.

# %%
published = read_json(kept / "1100_400_8.json")
phases = pd.DataFrame(published["rows"]).pivot(
    index="name", columns="other", values="ratio"
)
memory = pd.Series(published["peak_memory_gb"])
phases.loc["memory of an update"] = memory / memory["shared"]
phases.round(2)

# %% [markdown]
# **What to notice.** One row to a forward lies a little above the curve, because the vision tower runs once in place of $G$ times and counts no tokens here. The padded batch lies far above it: its activations outgrow the caches, and the mask of its padding slows its attention. Long answers are where little is left to gain. A forward of $k$ completions of a larger group (`completions_per_forward`) is a group of $k$ in the right panel. Decoding gains nothing: each answer still makes its own tokens, one at a time, so generation gains the prefill only. `python -m benches.step` measures any shape, here or on a GPU, with random weights of the published 3B and 7B configurations too; `make bench-step` repeats these.
#
# ## Ways to learn nothing
#
# A published checkpoint brings its own sampling settings, and Qwen2.5-VL's temperature is near zero. A group of equal answers has no advantage; the run would go on, its loss exactly zero. Here is what the trainer says instead.

# %%
greedy = load_config("tiny", look | {"temperature": 1e-4})
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
# The tiny recipe departs from SpaceR in four settings, each found necessary at its size (`LOG.md` has the runs without them):
#
# - the map counts eightfold, and whether or not the answer is right. With the weight of 1 and the gate of Eq. 5, the noise of an answer's 0 or 1 hides what a group of eight can learn about its maps in a few dozen steps, and maps got *worse*;
# - `decay` scores maps steeply, where the published score hardly tells good from bad (notebook 04);
# - only the vision tower learns. What is new is the camera; the language model keeps the reasoning that it was taught. The tower's last layer stays frozen too: its weights are far smaller than the others, and Adam moves all by equal steps;
# - the learning rate is large and falls to zero, so that the last steps leave no noise behind.
#
# The run goes through `accelerate launch` in processes of its own: on one core as one plain process, otherwise through DeepSpeed. This kernel stays free; if it is interrupted, the workers save a checkpoint and end, and `resume=True` goes on from there. Everything the run leaves lies in one folder: recipe, log, metrics, sampled rollouts, checkpoints, the final model.

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
# Means over the first and the last ten steps. Rooms are fresh in every step, so these are sampled answers to questions the model has not trained on; still, a training curve is no evaluation. Notebook 07 asks held-out questions.

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
# **What to notice.** *Format* has little left to gain: the warm start taught it. *Groups without advantage*: compare with the run without the map reward (`-p recipe tiny_no_map`), where right answers are all worth the same, so that a group of right answers has no advantage. *Entropy* says how much the model still tries out; at zero there would be nothing left to compare.
#
# ## Read the rollouts
#
# Rollouts of one question from the first step and of one from the last, as they were sampled; what each earned; and the maps drawn in the last step (squares: the truth, dots: the rollout).

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

# %%
figure, axes = plt.subplots(1, len(late), figsize=(12, 2.8), squeeze=False)
for ax, rollout in zip(axes[0], late.itertuples(), strict=True):
    seen = read_completion(rollout.completion, expect_map=True).map
    map_plots.cognitive_map(rollout.map, ax, predicted=seen or {})
    ax.set(title=f"advantage {rollout.advantage:+.2f}", xlabel="", ylabel="")
    ax.get_legend().remove()

# %% [markdown]
# ## In practice
#
# The cells above are the cells of the real run; parameters select the scale:
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
# - **8 GPUs.** `configs/spacer_7b.yaml` holds the paper's settings (ZeRO-3, 8 completions, 16 frames) and expects questions and videos made by notebooks 01 to 03 from ScanNet. `configs/README.md` lists every recipe with the source of its numbers; `spacer train --config spacer_7b --estimate` runs a few steps and says what all of them will take.
# - **Several machines.** Start the notebook on each with the same `out_dir` on a shared disk: `-p nodes 2 -p node_rank 1 -p main_process_ip 10.0.0.1`. `scripts/train_slurm.sbatch` does it under SLURM, `scripts/train_two_hosts.md` by hand.
# - **No GPU.** Asking for 8 still runs the tiny recipe: two CPU ranks with DeepSpeed ZeRO-2, and the first line says so. With some GPUs, but fewer than asked for, it refuses; so does a 7B recipe without any.
# - **Any number of workers, the same rollouts.** Each completion is sampled with a key made of seed, step and place, so one worker, two under DDP and two under ZeRO-2 or ZeRO-3 learn from the same answers; a test compares their losses and gradients.
# - **Pictures and texts among the videos.** SpaceR-151k mixes them; a batch may hold all three. A file that cannot be read is replaced by the next row, counted (`media_skipped`) and named in the log.
# - **A killed run.** The same command with `-p resume True` goes on from the last complete checkpoint; half-written ones are ignored. With other settings it refuses.
# - **A second run in the same folder** moves the first one to `<out_dir>.old`.
# - **Sampling settings of published checkpoints.** Qwen2.5-VL ships a temperature near zero. Left alone, all rollouts of a group would be the same, and GRPO would learn nothing without failing; the trainer overwrites it, logs `rollouts_identical`, and refuses a first step made of identical groups.
# - **A second pass over the same rollouts** (`advanced.num_iterations` 2) logs `logp_change/max`: exactly 0 on the first pass, or old and new scores have seen different inputs.
#
# ## Summary
#
# A group of answers is its own baseline. The reward decides what is better, the map reward gives every group something to compare, and the loss must see the video it is about. The trained model lies in the run's `model/` folder.
#
# ## Exercises
#
# 1. Give all four hand-written answers the same reward. What do the advantages become, and what would the gradient be?
# 2. Add 10 to every reward of one group. Which number in this notebook changes?
# 3. Train with `-p recipe tiny_no_map` and lay the two curves of zero-advantage groups over each other.
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §4 and §5.1.
# - DeepSeekMath (GRPO): https://arxiv.org/abs/2402.03300
# - TRL, GRPO trainer: https://huggingface.co/docs/trl/grpo_trainer
#
# Next: **06 · Train baselines**: the same rows by SFT, DPO and GRPO without a map.
