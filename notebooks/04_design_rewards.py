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
# # 04 · Design rewards that can be verified
#
# **What you'll do.** Build SpaceR's reward from its parts, try to cheat it, and turn the rewards of a group into advantages.
#
# **What you'll learn.**
# - judge a completion's form, its choice and its number, each by a written rule;
# - decide when a map may count, and when a length may;
# - probe a reward for answers that are paid without being good;
# - compute the advantages of a group by hand, and see when a group teaches nothing.
#
# **What you'll need.** Notebook 02 for maps and their scores. Nothing from disk. One CPU core, a few seconds, 1 GB of memory.
#
# SpaceR §4.1 (rewards), §4.2 (map reward), Eq. 3 to 5.

# %% tags=["parameters"]
first_room: int = 8000000  # seed of the first room asked about
questions: int = 60  # dollhouse questions to choose the examples from
grid_size: int = 10  # M of the maps; SpaceR: 10

# %%
import os
from collections import Counter
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from spacer_lib.artifacts import commit
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.grid import rasterize, turned
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.scores import score as map_score
from spacer_lib.maps.text import map_to_text

# %%
from spacer_lib.pictures import reward_plots
from spacer_lib.pictures.style import INK, PALETTE, use_house_style
from spacer_lib.questions.generators import question_rows
from spacer_lib.rewards.config import PRESETS, RewardConfig, get_preset
from spacer_lib.rewards.metrics import THRESHOLDS, mean_relative_accuracy
from spacer_lib.rewards.probes import probe_table
from spacer_lib.rewards.score import score
from spacer_lib.rooms.scene import read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene
from spacer_lib.tiny.curriculum import draw_rows

# %%
use_house_style()
assert questions >= 12, "questions: at least two of each type"
rows = draw_rows(first_room, questions, "new", exact_boxes=False)
choice = next(r for r in rows if r["options"])
number = next(r for r in rows if r["question_type"] == "object_counting")
{"commit": commit(), "questions": dict(Counter(r["problem_type"] for r in rows))}

# %% [markdown]
# ## Form: one think block, then one answer block
#
# A rule can only judge what it can find. The format reward is 1 for exactly one `<think>…</think>` followed by exactly one `<answer>…</answer>`, with nothing outside but a map; otherwise 0, with a name.

# %%
forms = {
    "well-formed": "<think>two steps east</think><answer>B</answer>",
    "no tags": "It is B.",
    "no think": "<answer>B</answer>",
    "never closed": "<think>two steps east</think><answer>B",
    "two answers": "<think>a or b</think><answer>A</answer><answer>B</answer>",
    "answer inside": "<think>so <answer>B</answer></think>",
    "chatter outside": "Sure! <think>east</think><answer>B</answer>",
    "empty think": "<think></think><answer>B</answer>",
}
readings = {name: read_completion(text) for name, text in forms.items()}

# %%
pd.DataFrame(
    {
        "format": [float(r.format_ok) for r in readings.values()],
        "answer read": [r.answer or "" for r in readings.values()],
        "failure": [r.failure or "" for r in readings.values()],
        "flags": [" ".join(r.flags) for r in readings.values()],
    },
    index=readings,
)

# %%
figure, ax = plt.subplots(figsize=(6.4, 2.6))
read = np.array([[r.format_ok, r.answer is not None] for r in readings.values()]).T
ax.barh(list(readings), read[0], color=PALETTE[0], label="format is right")
ax.plot(read[1] * 0.5, list(readings), "o", color=INK, label="answer is read")
ax.invert_yaxis()
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# **What to notice.** The answer is read wherever it can be found: a right answer with chatter around it keeps its task reward and loses only the form. An empty think block is well-formed and flagged, not punished: with a map to draw and a length to reach, there are better reasons to write.
#
# ## Multiple choice: a letter, and nothing that looks like one
#
# $R_{task} = 1$ if the chosen option is the right one, else 0.

# %%
options = ["A. table", "B. chair", "C. lamp"]
answers = ["A", "a.", "(A)", "A. table", "table"]
answers += ["Actually B", "A. chair", "A or B", "D"]
pd.DataFrame(
    {"read as": [read_choice(a, options) or "not_an_option" for a in answers]},
    index=answers,
)

# %%
print(choice["question"], *choice["options"], f"(true: {choice['ground_truth']})")
said = [f"<think>x</think><answer>{a}</answer>" for a in "ABC"]
figure, ax = plt.subplots(figsize=(5.5, 1.8))
earned = [score(text, choice, RewardConfig(map_gate="off")) for text in said]
_ = reward_plots.reward_bars(earned, ax, [f"answer {a}" for a in "ABC"])
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# **What to notice.** "Actually" begins with an A and is not A; a letter beside another option's text is nothing; two letters are no choice.
#
# ## Numbers: mean relative accuracy
#
# A count or a distance is rarely met exactly. Eq. 3 asks at ten thresholds $\theta$ whether the relative error is small enough:
#
# $$\mathrm{MRA} = \frac{1}{10} \sum_{\theta \in \{0.50, 0.55, \dots, 0.95\}} \mathbb{1}\left[\frac{|\hat y - y|}{|y|} \le 1 - \theta\right]$$
#
# The thresholds are written out, and a tolerance keeps floating point from deciding: 8 against a true 10 passes $\theta = 0.80$, on paper and here.

# %%
error = abs(8 - 10) / 10
passes = {theta: error <= 1 - theta + 1e-9 for theta in THRESHOLDS}
pd.DataFrame({"8 for 10": passes}).T

# %%
assert np.isclose(sum(passes.values()) / 10, mean_relative_accuracy(8, 10))
naive = sum(error <= 1 - theta for theta in THRESHOLDS) / 10
print(f"8 for 10: {mean_relative_accuracy(8, 10)}; without the tolerance: {naive}")

# %%
guesses = np.linspace(0, 20, 801)
figure, ax = plt.subplots(figsize=(6.4, 2.8))
for truth, color in ((10, PALETTE[0]), (4, PALETTE[1])):
    earned = [mean_relative_accuracy(g, truth) for g in guesses]
    ax.step(guesses, earned, where="mid", color=color, label=f"true: {truth}")
ax.set(xlabel="predicted number", ylabel="task reward (MRA)", xticks=range(0, 21, 2))
_ = ax.legend()

# %%
for truth in (2, 4, 10):
    near = {g: mean_relative_accuracy(g, truth) for g in (truth - 1, truth, truth + 1)}
    print(f"true {truth}: {near}")
print("true 0:", {g: mean_relative_accuracy(g, 0) for g in (0, 1)})

# %% [markdown]
# **What to notice.** Being one off costs nearly everything where counts are small and little where they are large. A truth of 0 has no relative error: only an exact 0 counts.
#
# ## Reading a number is half of the reward
#
# A reader that takes the first digits it finds pays wrong answers and misses right ones. Ours reads one number, in digits or words, or says why not.

# %%
texts = [
    "4", "a total of 4", "4 chairs", "twenty one", "1,200", "-3", ".5", "1e2",
    "4 or 5", "between 3 and 4", "1,2,3,4", "two and a half", "many", "1e99",
]  # fmt: skip
numbers = [read_number(text) for text in texts]
table = pd.DataFrame(numbers, index=texts, columns=["number", "failure"])
table.astype({"number": object}).fillna("")

# %%
figure, ax = plt.subplots(figsize=(5.5, 1.6))
counts = Counter(failure or "read" for _, failure in numbers)
bars = ax.barh(list(counts), list(counts.values()), color=PALETTE[2])
ax.bar_label(bars, padding=2)
ax.invert_yaxis()
_ = ax.set(xlabel=f"texts (n = {len(texts)})")


# %% [markdown]
# **What to notice.** "4 or 5" is two answers. Taking either would pay for hedging; so it is ambiguous, and ambiguous is unanswered. A list of numbers is the same hedge.
#
# ## The map, and its gate
#
# The map score of notebook 02 is *added* to the reward, but only where the answer has earned it:
#
# | gate | the map counts where |
# |---|---|
# | `paper` (Eq. 5) | $R_{task} = 1$ |
# | `released` (SpaceR's code) | the choice is right, or MRA > 0.5 |
# | `off` | nowhere (the ablation without maps) |
#
# Without a gate, a drawn room would pay whatever the answer. One number question, and guesses at growing distance, each with the perfect map:

# %%
def written(cells, answer, working="seen from the door, it stands to the east"):
    """A well-formed completion with a map."""
    drawn = f"<map>{map_to_text(cells)}</map>"
    return f"<think>{drawn}{working}</think><answer>{answer}</answer>"


ten = {**number, "ground_truth": "10"}  # the same room, but asked for more
guesses = range(4, 17)

# %%
figure, ax = plt.subplots(figsize=(6.4, 2.8))
for gate, style in (("paper", "o-"), ("released", "s--"), ("off", "x:")):
    config = RewardConfig(map_gate=gate)
    totals = [score(written(ten["map"], g), ten, config).total for g in guesses]
    ax.plot(guesses, totals, style, label=f"gate: {gate}")
ax.set(xlabel="answer (true: 10), with a perfect map", ylabel="total reward")
_ = ax.legend()

# %% [markdown]
# **What to notice.** `paper` makes one high step at exactly the right number. `released` opens earlier and so makes the step where the answer is already half good: more completions are told something about their map.
#
# ## Length
#
# A right answer within a window of tokens earns 0.2 more; the paper's window is 360 to 512 tokens, the released code's begins at 320. The bonus asks for thought that is long, not for thought that is good, so it is small and for right answers only.

# %%
right, lengths = written(choice["map"], choice["ground_truth"]), range(250, 600)
figure, ax = plt.subplots(figsize=(6.4, 2.4))
for window, style in (((360, 512), "-"), ((320, 512), "--")):
    config = RewardConfig(length_window=window)
    earned = [score(right, choice, config, n).length for n in lengths]
    ax.plot(lengths, earned, style, label=f"{window[0]} to {window[1]} tokens")
ax.set(xlabel="completion (tokens)", ylabel="length reward")
_ = ax.legend()

# %%
wrong = written(choice["map"], "C" if choice["ground_truth"] != "C" else "A")
config = RewardConfig()
for name, text in (("right", right), ("wrong", wrong)):
    edges = (359, 360, 512, 513)
    print(name, {n: score(text, choice, config, n).length for n in edges})

# %% [markdown]
# **What to notice.** Both edges belong to the window. A wrong answer earns nothing for its length.
#
# ## The total, on worked rollouts
#
# $$R = R_{format} + R_{task} + [\text{gate}]\, R_{map} + R_{length} \qquad \text{(Eq. 5)}$$
#
# Seven rollouts of one question, written by hand: each shows one thing the total should get right.

# %%
true_map, letter = choice["map"], choice["ground_truth"]
middle = grid_size // 2
corner = {name: [(0, 0)] * len(spots) for name, spots in true_map.items()}
heap = {name: [(middle, middle)] * len(spots) for name, spots in true_map.items()}
spam = {name: [(x, y) for x in range(grid_size) for y in range(grid_size)]
        for name in true_map}  # fmt: skip
other = "C" if letter != "C" else "A"
rollouts = {
    "good": written(true_map, letter),
    "right, bad map": written(corner, letter),
    "wrong, perfect map": written(true_map, other),
    "broken format": written(true_map, letter).replace("</think>", ""),
    "empty think": written(true_map, letter, working=""),
    "all at the centre": written(heap, letter),
    "count spam": written(spam, letter),
}

# %%
config = RewardConfig(grid_size=grid_size)
paid = {name: score(text, choice, config) for name, text in rollouts.items()}
figure, ax = plt.subplots(figsize=(8, 3))
reward_plots.reward_bars(paid.values(), ax, list(paid))
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
shown = ["format", "task", "map", "total", "gate_open", "map_score", "failure",
         "map_failure"]  # fmt: skip
breakdowns = pd.DataFrame({k: asdict(b) for k, b in paid.items()}).T[shown]
breakdowns.fillna("").map(lambda v: round(v, 2) if isinstance(v, float) else v)

# %%
for b in paid.values():
    assert np.isclose(b.total, b.format + b.task + b.map + b.length)
assert paid["wrong, perfect map"].map == 0 < paid["wrong, perfect map"].map_score
assert paid["right, bad map"].task == 1
print("every total is the sum of its parts")

# %% [markdown]
# **What to notice.** A perfect map beside a wrong answer is *scored* (for the log) and *not paid*. A bad map never costs a right answer its reward. A broken format costs the form only, as long as the answer can be read. And the heap in the centre is paid almost like the good map: that is the flat score of notebook 02, now inside a reward.
#
# ## Where the released code does otherwise
#
# | | the released code | the rule here |
# |---|---|---|
# | a right answer with an unreadable map | loses its answer reward too | keeps it; only the map part is 0 |
# | rows of one batch | type and map of the batch's *first* row score all | every row by its own type, options and map |
# | length bonus | task reward above 0.1, in at least two of the group | task reward of 1, each by itself |
#
# The first two, run. Below them a rule of ours: a completion's failure has a name and scores 0, but a malformed *truth* stops the run.

# %%
unreadable = f"<think><map>chair near</map>so</think><answer>{letter}</answer>"
b = score(unreadable, choice, config)
print(f"unreadable map: task {b.task}, map {b.map}, {b.map_failure}")
by_own = score(written(number["map"], number["ground_truth"]), number, config).total
by_first = score(written(number["map"], number["ground_truth"]), choice, config).total
print(f"right count, own row: {by_own:.2f}; by another row's truth: {by_first:.2f}")

# %%
figure, ax = plt.subplots(figsize=(5.5, 1.5))
ax.barh(["own row", "another row"], [by_own, by_first], color=PALETTE[:2])
_ = ax.set(xlabel="total reward of a right count")

# %%
try:
    score(right, {**choice, "ground_truth": "Z"}, config)
except SpacerError as error:
    print(error)

# %% [markdown]
# ## The landscape of a map reward
#
# Take the true map and move *one* object over the whole grid. What does the map score say at each place? A score worth learning from falls off where the object is wrong.

# %%
room_map = {name: [tuple(c) for c in spots] for name, spots in true_map.items()}
mover = min(room_map, key=lambda name: (len(room_map[name]), name))
grid = [(x, y) for x in range(grid_size) for y in range(grid_size)]


def landscape(scorer):
    """(M, M) score of the map with the mover in each cell, rows are y."""
    field = np.zeros((grid_size, grid_size))
    for x, y in grid:
        drawn = room_map | {mover: [(x, y), *room_map[mover][1:]]}
        field[y, x] = map_score(drawn, room_map, grid_size, scorer=scorer)
    return field


# %%
figure, axes = plt.subplots(1, 4, figsize=(13, 3))
for ax, scorer in zip(axes, SCORERS, strict=True):
    shown = ax.imshow(landscape(scorer), origin="lower", vmin=0, vmax=1)
    ax.plot(*room_map[mover][0], "*", color=PALETTE[5], ms=11)
    ax.set(title=scorer, xlabel="x_col", xticks=[0, grid_size - 1], yticks=[])
_ = figure.colorbar(shown, ax=axes, label=f"score as the {mover} moves")

# %% [markdown]
# **What to notice.** Under the published scores one misplaced object hardly matters. `decay` and `aligned` make a peak of the right place (star).
#
# Now whole maps: random, heaped in the centre, jittered by one cell, turned by a quarter, perfect. With `SPACER_REAL_META` set, real rooms stand beside the drawn ones.

# %%
drawn_maps = [rasterize(to_scene(draw_room(s), with_boxes=False)) for s in range(60)]
meta = os.environ.get("SPACER_REAL_META", "")
real_maps = [rasterize(s) for s in read_meta_file(meta)] if meta else []
sets = {"synthetic": drawn_maps} | ({"real": real_maps} if real_maps else {})
rng = np.random.default_rng(0)


# %%
def redrawn(cells, change):
    """Each cell changed, and kept on the grid."""
    return {
        name: [tuple(np.clip(change(*c), 0, 9).astype(int).tolist()) for c in spots]
        for name, spots in cells.items()
    }


kinds = {
    "random": lambda m: redrawn(m, lambda x, y: rng.integers(0, 10, 2)),
    "centre": lambda m: redrawn(m, lambda x, y: (5, 5)),
    "±1 cell": lambda m: redrawn(m, lambda x, y: (x, y) + rng.integers(-1, 2, 2)),
    "turned": lambda m: turned(m, 1, 10),
    "perfect": lambda m: m,
}

# %%
figure, axes = plt.subplots(len(sets), 3, figsize=(12, 2.8 * len(sets)), squeeze=False)
for row, (where, some) in zip(axes, sets.items(), strict=True):
    for ax, scorer in zip(row, ("released", "paper", "aligned"), strict=True):
        spread = [[map_score(k(m), m, scorer=scorer) for m in some]
                  for k in kinds.values()]  # fmt: skip
        ax.violinplot(spread, showmeans=True, widths=0.8)
        ax.set(title=f"{scorer}, {where} (n = {len(some)})", ylim=(-0.02, 1.05))
        ax.set_xticks(range(1, 6), list(kinds), fontsize=8)

# %% [markdown]
# **What to notice.** Left and middle: no look at the room needed for .6 or .7, and a perfect map from another side of the room falls below the heap. Right: chance earns about nothing, and the turned map is as good as the perfect one.
#
# ## Seven presets, thirteen ways to cheat
#
# Reinforcement learning finds whatever is paid. So ask first: what does a policy earn that does not look? Each probe below plays one trick, and otherwise answers *rightly*, so that every gate is open: beside the honest policy's reward stands what the trick is paid.

# %%
asked = [
    row for seed in range(6)
    for row in question_rows(to_scene(draw_room(seed)), 0, per_task=4)[0]
]  # fmt: skip
table = pd.DataFrame(probe_table(asked))
totals = table.pivot(index="probe", columns="preset", values="total")
totals = totals.loc[table.probe.unique(), list(PRESETS)]

# %%
figure, ax = plt.subplots(figsize=(9, 4.6))
shown = ax.imshow(totals, cmap="cividis", vmin=0, aspect="auto")
ax.set_xticks(range(len(totals.columns)), totals.columns, rotation=30, ha="right")
ax.set_yticks(range(len(totals)), totals.index)
for (y, x), value in np.ndenumerate(totals.to_numpy()):
    ax.text(x, y, f"{value:.2f}", ha="center", va="center", color="white", fontsize=8)
ax.grid(False)
_ = figure.colorbar(shown, label=f"mean total reward (n = {len(asked)} questions)")

# %%
extra = table[["probe", "preset", "map", "length"]]
extra = extra[(extra.probe != "honest") & (extra[["map", "length"]].max(axis=1) > 0)]
extra.round(2)

# %%
assert not (extra.preset == "ours").any(), "ours pays a probe's map or length"
print("under `ours`, no probe earns anything for its map or its length")

# %% [markdown]
# **What to notice.**
# - Empty and template thoughts cost nothing anywhere but under `ours`, which takes the format reward back.
# - SpaceR's presets pay the heap in the centre almost like a map, and padding to the length window.
# - No preset sees a thought that merely restates the answer. And the *answer* may be guessed: the reward cannot tell, a held-out evaluation can (notebook 07).
#
# The presets, as files see them: `spacer extras reward --items … --completions … --preset ours`.
#
# ## From reward to advantage
#
# GRPO compares the rollouts of one question with each other:
#
# $$A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + 10^{-4}}$$

# %%
ours = get_preset("ours")
rollouts["right, one object off"] = written(
    room_map | {mover: [((room_map[mover][0][0] + 4) % grid_size, 0)]}, letter
)
group = [
    "good", "right, one object off", "right, bad map", "all at the centre",
    "count spam", "empty think", "wrong, perfect map", "broken format",
]  # fmt: skip
r = np.array([score(rollouts[name], choice, ours).total for name in group])
advantage = (r - r.mean()) / (r.std(ddof=1) + 1e-4)  # divides by G - 1, as TRL does
pd.DataFrame({"reward": r, "advantage": advantage}, index=group).round(3)

# %%
mean = sum(r.tolist()) / 8
spread = (sum((x - mean) ** 2 for x in r.tolist()) / 7) ** 0.5
by_hand = [(x - mean) / (spread + 1e-4) for x in r.tolist()]
assert np.allclose(by_hand, advantage) and abs(advantage.sum()) < 1e-9
print(f"mean {mean:.3f}, std {spread:.3f}, sum {abs(advantage.sum()):.0f}")

# %%
silent = {
    "all right, no map reward": [2.0] * 8,
    "all right, map reward": [*r[:5], *r[:3]],
    "all wrong": [1.0] * 8,
}  # fmt: skip
figure, axes = plt.subplots(1, 4, figsize=(12, 2.4), sharey=True)
for ax, (name, rewards) in zip(axes, {"mixed": r, **silent}.items(), strict=True):
    rewards = np.array(rewards)
    a = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    ax.bar(range(8), a, color=np.where(a > 0, PALETTE[2], PALETTE[5]))
    ax.set(title=name, xlabel="rollout", xticks=range(8))
    print(f"{name:26} std {rewards.std(ddof=1):.2f}  advantages {a.round(2) + 0.0}")
_ = axes[0].set(ylabel="advantage")

# %% [markdown]
# **What to notice.** Where all rewards are equal, all advantages are zero: the group costs its rollouts and teaches nothing. This is where the map reward works: among right answers it still tells better from worse. Mind the other side of it: dividing by a small spread blows small differences up, so a noisy map score among right answers becomes full-sized noise in the gradient. A map score should be steep where maps are good.

# %%
noise = np.random.default_rng(1).normal(0, 1, 8)
noise = (noise - noise.mean()) / noise.std(ddof=1)
sizes = np.geomspace(1e-6, 1, 60)
figure, ax = plt.subplots(figsize=(5.6, 2.6))
ax.semilogx(sizes, sizes * noise.max() / (sizes + 1e-4))
ax.axvline(1e-4, color=INK, ls="--", label="the constant in the formula")
ax.set(xlabel="standard deviation of the group's rewards", ylabel="largest advantage")
_ = ax.legend()

# %% [markdown]
# **What to notice.** Down to a spread of $10^{-3}$ the size of a difference does not matter at all; only below the constant does a group fall silent. A group of equal rewards is lost; one of nearly equal rewards is noise at full size.
#
# ## In practice
#
# In a recipe the reward is one block, and each part is logged by itself (`rewards/format/mean`, `rewards/map/mean`, …):
#
# ```yaml
# reward:
#   map_gate: released     # paper | released | off | always
#   map_scorer: aligned    # paper | released | decay | aligned
#   length_window: [320, 512]
# ```
#
# - Read ten rollouts before believing a curve: a rising mean is also what a hack looks like.
# - Watch `map_hit_rate` beside the map reward: it is not rewarded, and so it is not gamed.
# - `require_map: true` takes the format reward from a completion without a readable map.
#
# ## Summary
#
# Form, answer, map and length are each judged by a rule that fits in a sentence; failures have names; the total is their sum, with a gate before the map. A flat score pays for not looking, an undivided one for spam. Only differences *within* a group teach.
#
# Length is counted in tokens of the model's own tokenizer, never in characters or words.
#
# ## Exercises
#
# 1. A completion of 300 *words*: may it earn the length bonus? What do you need to know, in tokens?
# 2. Find an answer text that `read_number` reads as a number and a person would not.
# 3. Give `always` as the gate. Which rollout of the seven gains, and what would a policy learn from it?
# 4. Add one to every reward of the group. What happens to the advantages? And if you double them?
#
# ## References
#
# - SpaceR: *Reinforcing MLLMs in Video Spatial Reasoning*, §4.1, §4.2, Eq. 3 to 5.
# - VSI-Bench (mean relative accuracy): https://arxiv.org/abs/2412.14171
# - DeepSeekMath (GRPO, group advantages): https://arxiv.org/abs/2402.03300
# - TRL, custom reward functions: https://huggingface.co/docs/trl/grpo_trainer
#
# Next: **05 · Train** lets a model be paid by these rules.
