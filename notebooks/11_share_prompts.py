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
# # 11 · Share a prompt among its completions
#
# ← [10 · Write GRPO](10_write_grpo.ipynb) · [all stations](00_one_question.ipynb#The-stations) · library: [`training/prefix.py`](../spacer_lib/training/prefix.py), [`training/attention.py`](../spacer_lib/training/attention.py)
#
# **What you'll do.** Compute the video prompt of a group once in place of eight times, and show that loss and log-probabilities stay the same.
#
# **What you'll learn.**
# - lay out one prompt and its completions as branches of one row;
# - merge two attentions by the logarithms of their softmax sums;
# - say what is saved for lengths and group sizes, by a formula and by measurements.
#
# **What you'll need.** Notebook 05. No downloads; the timings of the last section are in the repository. One CPU core, a minute, 1.5 GB of memory.
#
# GRPO: [DeepSeekMath](https://arxiv.org/abs/2402.03300); the packing is this project's.

# %% tags=["parameters"]
questions: int = 4  # groups that are scored
repeats: int = 3  # timings of each way
seed: int = 0  # of sampling

# %%
import inspect
import tempfile
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.utils.logging import disable_progress_bar

# %%
from spacer_lib.artifacts import PROJECT_ROOT, commit, provenance, read_json
from spacer_lib.errors import SpacerError
from spacer_lib.pictures import training_plots
from spacer_lib.pictures.style import use_house_style
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.attention import Group, branch_attention, pieces, visible
from spacer_lib.training.recipe import load_config

# %%
use_house_style()
disable_progress_bar()
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
if min(questions, repeats) < 1:
    got = f"{questions} and {repeats}"
    raise SpacerError("questions and repeats", got=got, expected="1 or more")
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# ## A group of rollouts
#
# The trainer of notebook 05 samples eight completions of each question.

# %% tags=["nbval-check-output"]
small = load_config("tiny", {"advanced.num_iterations": 2, "seed": seed, "beta": 0.04})
scratch = tempfile.TemporaryDirectory()
rows = draw_rows(SEEDS["develop"], questions, small.view)
trainer = build_trainer(small, scratch.name, rows=rows)

# %%
batch = trainer.roll_out(list(range(questions)))
tokenizer, G = trainer.processing_class.tokenizer, trainer.num_generations
texts = tokenizer.batch_decode(batch["completion_ids"], skip_special_tokens=True)
print(f"{len(texts)} rollouts, the first: {texts[0]}")

# %% [markdown]
# ## One row with branches
#
# A group is one video prompt of $P$ tokens with $G$ completions of $C$ tokens. With a row for each completion, the prompt and its video are computed $G$ times: in the rollout, and in old, reference and policy scores. Once is enough, because the prompt's keys and values are the same for all completions. So one row holds the prompt once and all completions after it as *branches*. A branch attends to the prompt and to itself, not to another branch. Its positions continue those of the prompt.

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(3.6, 3.4))
ax.imshow(visible((Group(8, (5, 3, 5)),)), cmap="Blues", vmax=1.6)
for place, name in ((4, "prompt"), (10, "A"), (14, "B"), (18, "C")):
    ax.text(place, -1.2, name, ha="center", fontsize=8)
for edge in (7.5, 12.5, 15.5):
    ax.axvline(edge, color="white")
    ax.axhline(edge, color="white")
_ = ax.set(xlabel="looked at", ylabel="looking")

# %% [markdown]
# The full mask is never made. The attention is computed in pieces: the prompt over itself, all branches over the prompt, each branch over itself. A branch's token is in two pieces. Their outputs are merged by the logarithms of their softmax sums, so the prompt's keys are never copied. The result is the same as with the full mask:

# %%
print(inspect.getsource(pieces))

# %%
layout = (Group(before=8, lengths=(5, 3, 5)),)  # P - 1, and each completion's tokens
generator = torch.Generator().manual_seed(0)
size = 3, 1, 2, layout[0].size, 4  # queries, keys, values; row; heads; …
query, key, value = torch.randn(size, generator=generator)
split, _ = branch_attention(None, query, key, value, None, branches=layout)
whole = scaled_dot_product_attention(query, key, value, attn_mask=visible(layout))
np.testing.assert_allclose(split.transpose(1, 2), whole, atol=1e-6)

# %% [markdown]
# Every target is the next token of its own completion. So log-probabilities and gradients are those of separate rows, with $P + GC$ positions in place of $G(P + C)$:

# %% tags=["nbval-check-output"]
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


# %%
passes = {name: [] for name in ("prompt once", "a row each")}
for _ in range(repeats):
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
# **What to notice.** The seconds change; loss and log-probabilities stay the same up to rounding. `advanced.shared_prefix: auto` (the default) shares the prompt wherever the result is exact, and checks it on real rows before the first step. Elsewhere (dropout, other model families, groups cut into single completions) it says why it does not. `advanced.completions_per_forward` needs less memory and saves less time.
#
# If the seconds were proportional to the tokens, the ratio of seconds would be $G(P+C)/(P+GC)$: the curves below. The dots are measured: updates (forward and backward) of a Qwen2.5-VL of hidden size 256 on one CPU core. One stock trainer computes one row per forward, the other the whole group as a padded batch. One of $P$, $C$ and $G$ changes at a time; the others stay at 600, 100 and 8.

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
# The table has SpaceR's proportions ($P=1100$, $C=400$, $G=8$). It shows the seconds of the two stock forms divided by ours, for each phase. The last row shows the same ratio for memory.

# %%
published = read_json(kept / "1100_400_8.json")
phases = pd.DataFrame(published["rows"]).pivot(
    index="name", columns="other", values="ratio"
)
memory = pd.Series(published["peak_memory_gb"])
phases.loc["memory of an update"] = memory / memory["shared"]
phases.round(2)

# %% [markdown]
# **What to notice.** One row per forward lies a little above the curve: the vision tower runs once in place of $G$ times, and the formula does not count its tokens. The padded batch lies far above the curve: its activations exceed the caches, and its padding mask slows the attention. The ratio is small for long completions. A forward of $k$ completions of a larger group (`completions_per_forward`) is a group of $k$ in the right panel. Generation saves only the prefill: each completion still decodes its own tokens, one at a time. `python -m benches.step` measures any shape, here or on a GPU, with random weights of the published 3B and 7B configurations too; `make bench-step` repeats these.
#
# **Failure case.** A branch must not see another one. With a mask that only forbids the future, completion B reads A as if it belonged to its prompt:

# %% tags=["nbval-check-output"]
causal = torch.ones(layout[0].size, layout[0].size).tril().bool()
leaky = scaled_dot_product_attention(query, key, value, attn_mask=causal)
apart = (leaky - whole).abs().amax(dim=(0, 1, 3))
branch = np.repeat(["prompt", "A", "B", "C"], [8, 5, 3, 5])
{name: round(float(apart[torch.tensor(branch == name)].max()), 3)
 for name in ("prompt", "A", "B", "C")}

# %%
scratch.cleanup()
del trainer, batch

# %% [markdown]
# ## In practice
#
# ```bash
# python -m benches.step --help
# spacer train --config tiny --set advanced.shared_prefix=off
# ```
#
# `tests/training/test_prefix.py` compares log-probabilities and gradients with those of separate rows, over positions, group sizes and kinds of media.
#
# ## Summary
#
# The keys and values of a prompt are the same for all completions of its group. Computing them once changes no number and saves the more, the longer the prompt and the larger the group.
#
# ## Quiz
#
# <details><summary>1. How many positions has a group of 8 completions of 100 tokens with a prompt of 1,000, in each way?</summary>
#
# 8,800 with a row each, and 1,800 with the prompt once.
#
# </details>
#
# <details><summary>2. Which positions do the tokens of a branch have?</summary>
#
# Those that continue the prompt: the first token of every branch has the same position.
#
# </details>
#
# <details><summary>3. Why does generation save less than the update?</summary>
#
# Only the prefill is shared. Each completion decodes its own tokens, one at a time.
#
# </details>
#
# This is the last page. [GLOSSARY.md](../GLOSSARY.md) explains the words, and [TEACHING.md](TEACHING.md) has lessons.
#
# ← [10 · Write GRPO](10_write_grpo.ipynb) · [all stations](00_one_question.ipynb#The-stations)
