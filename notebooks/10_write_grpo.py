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
# # 10 · Write GRPO in a hundred lines
#
# ← [09 · Figures](09_reproduce_figures.ipynb) · [11 · Share prompts](11_share_prompts.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`training`](../spacer_lib/training), [`models`](../spacer_lib/models)
#
# **What you'll do.** Write the whole of GRPO for a video model: sample, reward, compare, score, update. Then find the same loss and the same gradient in the trainer of notebook 05.
#
# **What you'll learn.**
# - sample a group of completions and mask what follows their end;
# - score tokens beside their video, which TRL's stock trainer leaves out;
# - write advantages, clipped ratio and KL estimate from their formulas;
# - check an implementation against another one, gradients included.
#
# **What you'll need.** Notebook 04 for the rewards, 05 for the formulas. No downloads. One CPU core, about a minute, 1 GB of memory.
#
# [SpaceR](https://arxiv.org/abs/2504.01805) §4, Eq. 6 and 7; GRPO: [DeepSeekMath](https://arxiv.org/abs/2402.03300).

# %% tags=["parameters"]
steps: int = 3  # of training on this page
questions: int = 4  # in a step
size: int = 8  # G, completions of each question
learning_rate: float = 4e-4  # of AdamW; the recipe's
seed: int = 0  # of sampling

# %%
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

# %%
from spacer_lib.artifacts import commit, provenance
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.pictures.style import PALETTE, use_house_style
from spacer_lib.rewards.score import score
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.assembly import build_trainer
from spacer_lib.training.recipe import load_config

# %%
use_house_style()
disable_progress_bar()
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*")
torch.set_num_threads(1)
if size < 2:
    raise SpacerError("size", got=size, expected="2 or more completions of a question")
config = load_config("tiny", {"beta": 0.04})
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# ## The hundred lines
#
# The cells of this section are all of it. From the library come only the tokens of a prompt, the numbers of its video, and the reward.
#
# First, completions. All of a group share one prompt, so nothing is padded on the left. What follows the first end token is masked.

# %% tags=["in-100-lines"]
import torch
from torch.nn.functional import log_softmax

from spacer_lib.models.inputs import encode_prompts, join_media, token_types


# %% tags=["in-100-lines"]
def sample(model, prompt, media, size, longest, temperature=1.0):
    """(G, t) sampled tokens and their mask, up to and with the first end token."""
    ids = torch.tensor([prompt] * size)
    pads = [model.config.image_token_id, model.config.video_token_id]
    with torch.no_grad():
        whole = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids),
            mm_token_type_ids=token_types(ids, model.config),
            **join_media([media] * size), max_new_tokens=longest, do_sample=True,
            temperature=temperature, top_k=0, top_p=1.0, suppress_tokens=pads,
        )
    made = whole[:, ids.shape[1] :]
    end = torch.isin(made, torch.as_tensor(model.generation_config.eos_token_id))
    return made, (end.cumsum(dim=1) - end.long() == 0).long()


# %% [markdown]
# The log-probability of each sampled token, beside the video. The logits at a place say what comes next, so they are taken one place earlier.

# %% tags=["in-100-lines"]
def log_probs(model, prompt, media, made, mask):
    """(G, t) log-probabilities of the sampled tokens."""
    ids = torch.cat([torch.tensor([prompt] * len(made)), made], dim=1)
    there = torch.cat([torch.ones(len(made), len(prompt), dtype=mask.dtype), mask], 1)
    logits = model(
        input_ids=ids, attention_mask=there,
        mm_token_type_ids=token_types(ids, model.config),
        **join_media([media] * len(made)),
    ).logits[:, len(prompt) - 1 : -1]
    return log_softmax(logits.float(), -1).gather(2, made[..., None])[..., 0]


# %% [markdown]
# Eq. 6 and Eq. 7: rewards to advantages, and log-probabilities to a loss.

# %% tags=["in-100-lines"]
def group_advantages(rewards):
    """(G,) rewards to advantages: SpaceR Eq. 6, with the released code's constant."""
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


# %% tags=["in-100-lines"]
def grpo_loss(logps, old, reference, advantages, mask, epsilon=0.2, beta=0.04):
    """Minus SpaceR Eq. 7, token by token as in the released code."""
    ratio = torch.exp(logps - old)
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    column = advantages[:, None]
    gain = torch.minimum(ratio * column, clipped * column)
    r = reference - logps
    gain = gain - beta * (torch.exp(r) - r - 1)
    return -((gain * mask).sum(dim=1) / mask.sum(dim=1)).mean()


# %% [markdown]
# On two completions of one token each, all ratios being 1, the loss is 0 and its gradient pushes the better one up:

# %% tags=["nbval-check-output"]
same = torch.full((2, 1), -1.0, requires_grad=True)
ones, better = torch.ones(2, 1), group_advantages(torch.tensor([1.0, 0.0]))
small_loss = grpo_loss(same, same.detach(), same.detach(), better, ones)
small_loss.backward()
print(f"loss {small_loss.item():.2f}, gradient {same.grad.flatten().round(decimals=2)}")


# %% [markdown]
# One question: roll out, reward, and what the loss needs to know. The reward is any function of text and row.

# %% tags=["in-100-lines"]
def roll_out(model, reference, processor, row, config, reward, size):
    """A group of one question: tokens, advantages, and scores before the update."""
    (prompt,), (media,) = encode_prompts(
        processor, [row], config.prompt_style, config.video_settings
    )
    made, mask = sample(model, prompt, media, size, config.max_completion_length)
    decode = processor.tokenizer.decode
    texts = [decode(ids[keep == 1], skip_special_tokens=True)
             for ids, keep in zip(made, mask, strict=True)]
    rewards = torch.tensor([reward(text, row) for text in texts])
    with torch.no_grad():
        old = log_probs(model, prompt, media, made, mask)
        ref = log_probs(reference, prompt, media, made, mask)
    group = dict(prompt=prompt, media=media, made=made, mask=mask)
    return group | dict(old=old, reference=ref, advantages=group_advantages(rewards),
                        rewards=rewards, texts=texts)


# %% tags=["in-100-lines"]
def loss_of(model, group, beta):
    """The loss of one group at the model's weights now."""
    parts = (group[name] for name in ("prompt", "media", "made", "mask"))
    logps = log_probs(model, *parts)
    known = (group[name] for name in ("old", "reference", "advantages", "mask"))
    return grpo_loss(logps, *known, beta=beta)


# %% tags=["in-100-lines"]
def train(model, reference, processor, steps, config, reward, size, rate):
    """Groups of each step; ``steps`` is a list of lists of rows."""
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, history = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0), []
    for rows in steps:
        groups = [
            roll_out(model, reference, processor, row, config, reward, size)
            for row in rows
        ]
        for group in groups:
            (loss_of(model, group, config.beta) / len(groups)).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        history.append(groups)
    return history


# %% [markdown]
# ## It trains
#
# As in notebook 05, only the vision tower learns, and the reward is the tiny recipe's.

# %%
model, processor = load(config.model_path)
reference, _ = load(config.model_path)
for name, weight in model.named_parameters():
    weight.requires_grad = "visual" in name and "merger.mlp.2" not in name
rows = draw_rows(SEEDS["grpo"], steps * questions, config.view)
parts = [rows[i * questions : (i + 1) * questions] for i in range(steps)]


# %%
def reward(text, row):
    """What the tiny recipe pays a completion."""
    return score(text, row, config.reward).total


# %% tags=["nbval-check-output"]
torch.manual_seed(seed)
history = train(model, reference, processor, parts, config, reward, size, learning_rate)
for number, groups in enumerate(history, start=1):
    mean = np.mean([group["rewards"].mean() for group in groups])
    print(f"step {number}: mean reward {mean:.2f}")

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
last = history[-1]
for place, group in enumerate(last):
    spots = place + np.linspace(-0.3, 0.3, size)
    axes[0].plot(spots, group["rewards"], "o", color=PALETTE[0])
    axes[1].bar(spots, group["advantages"], width=0.06, color=PALETTE[2])
axes[0].set(xlabel="question", ylabel="reward", xticks=range(len(last)))
_ = axes[1].set(xlabel="question", ylabel="advantage", xticks=range(len(last)))

# %% [markdown]
# **What to notice.** A few steps of four questions move the mean reward less than chance does: this is no result. Notebook 05 takes 60 steps of 16 questions.
#
# ## The same loss and gradient in the trainer
#
# The trainer of notebook 05 samples. Then both score its rollouts, with weights that have moved a little, so that ratios are not 1 and the KL term is not 0.

# %%
warm = load_config("tiny", {"beta": 0.04, "advanced.num_iterations": 2, "seed": seed})
scratch = tempfile.TemporaryDirectory()
trainer = build_trainer(warm, scratch.name, rows=rows[:2])
batch = trainer.roll_out([0, 1])

# %%
generator = torch.Generator().manual_seed(seed)
with torch.no_grad():
    for weight in trainer.model.parameters():
        weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=generator)


# %%
def groups_of(batch, size):
    """The trainer's batch as the groups of this page."""
    names = {"made": "completion_ids", "mask": "completion_mask",
             "advantages": "advantages", "old": "old_per_token_logps",
             "reference": "ref_per_token_logps"}
    for start in range(0, len(batch["prompt_ids"]), size):
        part = slice(start, start + size)
        real = batch["prompt_mask"][start].bool()
        group = {ours: batch[theirs][part] for ours, theirs in names.items()}
        group["prompt"] = batch["prompt_ids"][start][real].tolist()
        yield group | {"media": batch["media"][start]}


# %%
trainer.model.train()
trainer.current_gradient_accumulation_steps = 1
trainer._compute_loss(trainer.model, batch).backward()
theirs = {n: w.grad.clone() for n, w in trainer.model.named_parameters()
          if w.grad is not None}
trainer.model.zero_grad()
their_loss, _ = trainer.score(batch)

# %%
groups = list(groups_of(batch, trainer.num_generations))
our_loss = sum(loss_of(trainer.model, g, warm.beta) for g in groups) / len(groups)
our_loss.backward()
ours = {n: w.grad for n, w in trainer.model.named_parameters() if w.grad is not None}
assert ours.keys() == theirs.keys()
gaps = [(ours[n] - theirs[n]).norm() / theirs[n].norm().clamp(min=1e-8) for n in theirs]

# %% tags=["nbval-check-output"]
assert abs(our_loss.item() - their_loss) < 1e-5 and max(gaps) < 1e-2
print(f"loss: equal within 1e-5; gradients of {len(gaps)} tensors: within 1%")

# %%
print(f"loss {our_loss.item():+.6f} here, {their_loss:+.6f} in the trainer")
print(f"gradients differ by {max(gaps):.1e} of their length at most")
scratch.cleanup()

# %% [markdown]
# **Failure case.** The same rollouts without their video, as TRL's stock trainer scores them: a loss comes out and nothing fails, but it is the loss of another model.

# %% tags=["nbval-check-output"]
blind = [g | {"media": {k: torch.zeros_like(v) if "pixel" in k else v
                        for k, v in g["media"].items()}} for g in groups]
with torch.no_grad():
    unseen = sum(loss_of(trainer.model, g, warm.beta) for g in blind) / len(blind)
print(f"with the video {our_loss.item():+.4f}, with a black one {unseen.item():+.4f}")
assert abs(unseen - our_loss) > 1e-3

# %% [markdown]
# ## In practice
#
# What a trainer adds to these lines, and where to read it:
#
# - several processes, ZeRO, mixed precision, resumption: [`training`](../spacer_lib/training/trainer.py);
# - a prompt computed once for its group: [`prefix`](../spacer_lib/training/prefix.py), and [11 · Share a prompt](11_share_prompts.ipynb);
# - rollouts by vLLM, other means of the loss, checks that refuse a run which cannot learn: [`step`](../spacer_lib/training/step.py), [`grpo`](../spacer_lib/training/grpo.py).
#
# `tests/training/test_hundred_lines.py` runs the tagged cells against the trainer, on an untrained model too, and counts their lines.
#
# ## Summary
#
# GRPO is a sampler, a scorer and thirty lines of arithmetic. The old policy's scores come from the weights that sampled, and the reference's from the start. Both need the video.
#
# ## Quiz
#
# <details><summary>1. Why is the mask of a completion needed?</summary>
#
# Batches are as wide as the longest completion. What follows an end token was never chosen by the policy.
#
# </details>
#
# <details><summary>2. What changes if `old` is left out and `logps.detach()` taken?</summary>
#
# Nothing for a single update a batch: every ratio is 1, with the same gradient.
#
# </details>
#
# <details><summary>3. Which term keeps the policy near its start, and what is it where they agree?</summary>
#
# The KL estimate `exp(r) - r - 1`: zero.
#
# </details>
#
# The next page computes a group's prompt once.
#
# ← [09 · Figures](09_reproduce_figures.ipynb) · [11 · Share prompts](11_share_prompts.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
