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
# ← [03 · Generate](03_generate_qa.ipynb) · [05 · Train](05_train_grpo.ipynb) → · [all stations](00_one_question.ipynb#The-stations) · library: [`rewards`](../spacer_lib/rewards), [`language`](../spacer_lib/language), [`maps`](../spacer_lib/maps)
#
# **What you'll do.** Build SpaceR's reward from its parts, test it with reward hacks, and turn the rewards of a group into advantages.
#
# **What you'll learn.**
# - read the paper's seven equations beside what the code does;
# - judge a completion's format, its choice, its number and its text, each by a written rule;
# - decide when a map counts, and when a length counts;
# - probe a reward for completions that earn it without solving the task;
# - compute the advantages of a group by hand, and see when they are all zero.
#
# **What you'll need.** Notebook 02 for maps and their scores. Nothing from disk. One CPU core, a few seconds, 1 GB of memory.
#
# [SpaceR](https://arxiv.org/abs/2504.01805) §4.1 (rewards), §4.2 (map reward), Eq. 1 to 7.

# %% tags=["parameters"]
first_room: int = 8000000  # seed of the first room asked about
questions: int = 60  # to choose the examples from
grid_size: int = 10  # M of the maps; SpaceR: 10

# %%
import inspect
import os
from collections import Counter
from dataclasses import asdict

import jiwer
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rouge_score.rouge_scorer import RougeScorer

from spacer_lib.artifacts import commit
from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import read_choice
from spacer_lib.language.numbers import read_number
from spacer_lib.language.tags import read_completion, write_completion
from spacer_lib.maps.boxes import true_boxes
from spacer_lib.maps.grid import rasterize, turned
from spacer_lib.maps.scores import SCORERS
from spacer_lib.maps.scores import score as map_score

# %%
from spacer_lib.pictures import reward_plots
from spacer_lib.pictures.style import INK, PALETTE, use_house_style
from spacer_lib.questions.generators import question_rows
from spacer_lib.rewards.assertions import check_thought
from spacer_lib.rewards.config import ADDED, PRESETS, RewardConfig, get_preset
from spacer_lib.rewards.consistency import consistency, follows
from spacer_lib.rewards.metrics import (
    THRESHOLDS,
    mean_relative_accuracy,
    regression_score,
    word_error_rate,
)
from spacer_lib.rewards.probes import TO_COMPARE, probe_table
from spacer_lib.rewards.score import gate_opens, score
from spacer_lib.rooms.scene import read_meta_file
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import to_scene
from spacer_lib.tiny.curriculum import DEMONSTRATED, draw_rows

# %%
use_house_style()
assert questions >= 12, "questions: at least two of each type"
rows = draw_rows(first_room, questions, DEMONSTRATED)
choice = next(r for r in rows if r["options"])
number = next(r for r in rows if r["question_type"] == "object_counting")
{"commit": commit(), "questions": dict(Counter(r["problem_type"] for r in rows))}

# %% [markdown]
# ## Seven equations, and what the code does
#
# Each equation stands as SpaceR prints it, with what its released code or this project does otherwise. $\hat y$ is the completion or what is read from it, $y$ the ground truth.
#
# $$R_{\text{format}}(\hat{y}) = \begin{cases} 1, & \text{if } \hat{y} \text{ matches format,} \\ 0, & \text{otherwise.} \end{cases} \quad (1)$$
#
# **The code.** Exactly one think block and one answer block, in this order, with nothing outside them but a map.
#
# $$R_{\text{mc}}(\hat{y}, y) = \begin{cases} 1, & \text{if } \hat{y} = y, \\ 0, & \text{otherwise,} \end{cases} \quad (2)$$
#
# **The code.** $\hat y$ is the option that the answer chooses: its letter, the option in full, or its text.
#
# $$R_{\text{num}}(\hat{y}, y) = \frac{1}{N} \sum_{i=1}^N \mathbb{I} \left(\frac{|\hat{y} - y|}{y} \leq 1 - \theta_i \right), \quad \theta_i \in \{0.5, 0.55, \dots, 0.95\} \quad (3)$$
#
# **The code.** $N = 10$. The denominator is $|y|$, a truth of 0 needs an exact 0, and the comparison has a tolerance of $10^{-9}$.
#
# $$R_{map} = \sum_{i=1}^k \frac{n_i}{\sum_{j=1}^k n_j} \left(1 - \frac{\sqrt{(x_{p,i}-x_{g,i})^2+(y_{p,i}-y_{g,i})^2}}{\sqrt{M^2+M^2}} \right) \quad (4)$$
#
# **The code.** The equation has one position for each of $k$ categories, of $n_i$ objects. Several objects have to be paired, and it does not say how: `released` pairs greedily and divides by the larger count, `paper` takes the best pairing and divides by the true count (notebook 02).
#
# $$R_m = \begin{cases} R_{format} + R_{task} + R_{map} + R_l, & \text{if } R_{task} = 1 \\ R_{format} + R_{task} + R_l, & \text{otherwise,} \end{cases} \quad task \in \{mc, num, ocr, free, reg\} \quad (5)$$
#
# **The code.** $R_l$ stands in both lines; the text gives it to right answers alone, as here. The released code opens the gate of $R_{map}$ for numbers above 0.5 too.
#
# $$A_i = \frac{R_m - \text{mean}(\{R_m\})}{\text{std}(\{R_m\})} \quad (6)$$
#
# **The code.** $10^{-4}$ is added to the standard deviation, which divides by $G - 1$. So a group of equal rewards has advantages of 0 and no division by 0.
#
# $$J(\theta) = \mathbb{E}_{q, \{o_i\}} \left[\frac{1}{G} \sum_{i=1}^G \min \left(\frac{\pi_\theta(o_i|q)}{\pi_{\theta_{old}}(o_i|q)} A_i, \text{clip} \left(\frac{\pi_\theta(o_i|q)}{\pi_{\theta_{old}}(o_i|q)}, 1-\epsilon, 1+\epsilon \right) A_i \right) - \beta \mathcal{D}_{KL}(\pi_\theta || \pi_{ref}) \right] \quad (7)$$
#
# **The code.** One ratio for each token, in place of one for each response; a mean over the tokens of a response, then over responses; $\mathcal{D}_{KL}$ is estimated by $r - \log r - 1$ with $r = \pi_{ref} / \pi_\theta$. Notebooks 05 and 10 compute it.
#
# Four of them by hand, beside the library, on numbers small enough to check:

# %%
pairs = {"bed": ((2, 2), (5, 6)), "lamp": ((8, 1), (8, 1))}  # drawn, true
by_eq_4 = np.mean([1 - np.hypot(*np.subtract(*both)) / np.hypot(10, 10)
                   for both in pairs.values()])
drawn, true = ({n: [both[k]] for n, both in pairs.items()} for k in (0, 1))
by_eq_3 = np.mean([abs(12 - 10) / 10 <= 1 - theta + 1e-9 for theta in THRESHOLDS])
asked = {"id": "x", "problem_type": "numerical", "ground_truth": "10", "map": true}
said = {g: write_completion(str(g), "so", drawn) for g in (10, 12)}
plain = RewardConfig(map_scorer="paper", length_window=None)
table = {
    "Eq. 3, 12 for 10": (by_eq_3, mean_relative_accuracy(12, 10)),
    "Eq. 4, two objects": (by_eq_4, map_score(drawn, true, scorer="paper")),
    "Eq. 5, right": (1 + 1 + by_eq_4, score(said[10], asked, plain).total),
    "Eq. 5, not exact": (1 + by_eq_3, score(said[12], asked, plain).total),
}

# %% tags=["nbval-check-output"]
assert all(np.isclose(*both) for both in table.values())
pd.DataFrame(table, index=["by hand", "library"]).T.round(3)

# %% [markdown]
# ## Format: one think block, then one answer block
#
# The format reward (Eq. 1) is 1 for exactly one `<think>…</think>` followed by exactly one `<answer>…</answer>`, with nothing outside but a map. Otherwise it is 0, and the failure has a name.

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

# %% tags=["nbval-check-output"]
pd.DataFrame(
    {
        "format": [float(r.format_ok) for r in readings.values()],
        "answer read": [r.answer or "" for r in readings.values()],
        "failure": [r.failure or "" for r in readings.values()],
        "flags": [" ".join(r.flags) for r in readings.values()],
    },
    index=readings,
)

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(6.4, 2.6))
read = np.array([[r.format_ok, r.answer is not None] for r in readings.values()]).T
ax.barh(list(readings), read[0], color=PALETTE[0], label="format is right")
ax.plot(read[1] * 0.5, list(readings), "o", color=INK, label="answer is read")
ax.invert_yaxis()
ax.set(xlabel="a bar or a dot: yes", xticks=[])
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# **What to notice.** The answer is read from its tag whatever stands around it: a right answer with chatter around it keeps its task reward and loses only the format reward. An empty think block is well-formed, and flagged.
#
# ## Multiple choice: a letter, an option in full, or its text
#
# $R_{task} = 1$ if the chosen option is the right one, else 0 (Eq. 2).

# %% tags=["nbval-check-output"]
options = ["A. table", "B. chair", "C. lamp"]
answers = ["A", "a.", "(A)", "A. table", "table"]
answers += ["Actually B", "A. chair", "A or B", "D"]
pd.DataFrame(
    {"read as": [read_choice(a, options) or "not_an_option" for a in answers]},
    index=answers,
)

# %% tags=["nbval-check-output"]
print(choice["question"], *choice["options"], f"(true: {choice['ground_truth']})")
said = [f"<think>x</think><answer>{a}</answer>" for a in "ABC"]
figure, ax = plt.subplots(figsize=(5.5, 1.8))
earned = [score(text, choice, RewardConfig(map_gate="off")) for text in said]
_ = reward_plots.reward_bars(earned, ax, [f"answer {a}" for a in "ABC"])
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% [markdown]
# **What to notice.** "Actually" starts with an A and does not choose A. A letter beside another option's text chooses nothing, and neither do two letters.
#
# ## Numbers: mean relative accuracy
#
# A count or a distance is rarely exact. Eq. 3 asks at ten thresholds $\theta$ whether the relative error is small enough:
#
# $$\mathrm{MRA} = \frac{1}{10} \sum_{\theta \in \{0.50, 0.55, \dots, 0.95\}} \mathbb{1}\left[\frac{|\hat y - y|}{|y|} \le 1 - \theta\right]$$
#
# 8 against a true 10 is exactly 20% off and passes $\theta = 0.80$. Floating point would fail it, so the comparison has a tolerance.

# %% tags=["nbval-check-output"]
error = abs(8 - 10) / 10
passes = {theta: error <= 1 - theta + 1e-9 for theta in THRESHOLDS}
pd.DataFrame({"8 for 10": passes}).T

# %% tags=["nbval-check-output"]
assert np.isclose(sum(passes.values()) / 10, mean_relative_accuracy(8, 10))
naive = sum(error <= 1 - theta for theta in THRESHOLDS) / 10
print(f"8 for 10: {mean_relative_accuracy(8, 10)}; without the tolerance: {naive}")

# %% tags=["nbval-check-output"]
guesses = np.linspace(0, 20, 801)
figure, ax = plt.subplots(figsize=(6.4, 2.8))
for truth, color in ((10, PALETTE[0]), (4, PALETTE[1])):
    earned = [mean_relative_accuracy(g, truth) for g in guesses]
    ax.step(guesses, earned, where="mid", color=color, label=f"true: {truth}")
ax.set(xlabel="predicted number", ylabel="task reward (MRA)", xticks=range(0, 21, 2))
_ = ax.legend()

# %% tags=["nbval-check-output"]
for truth in (2, 4, 10):
    near = {g: mean_relative_accuracy(g, truth) for g in (truth - 1, truth, truth + 1)}
    print(f"true {truth}: {near}")
print("true 0:", {g: mean_relative_accuracy(g, 0) for g in (0, 1)})

# %% [markdown]
# **What to notice.** An error of one costs nearly the whole reward where counts are small, and little where they are large. A truth of 0 has no relative error: only an exact 0 scores.
#
# ## Read one number, or name the failure
#
# A reader that takes the first digits pays wrong answers and misses right ones. `read_number` reads one number, in digits or words, or says why there is none.

# %% tags=["nbval-check-output"]
texts = "4;a total of 4;4 chairs;twenty one;1,200;-3;.5;1e2;4 or 5;between 3 and 4"
texts = [*texts.split(";"), "1,2,3,4", "two and a half", "many", "1e99"]
numbers = [read_number(text) for text in texts]
table = pd.DataFrame(numbers, index=texts, columns=["number", "failure"])
table.astype({"number": object}).fillna("")

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(5.5, 1.6))
counts = Counter(failure or "read" for _, failure in numbers)
bars = ax.barh(list(counts), list(counts.values()), color=PALETTE[2])
ax.bar_label(bars, padding=2)
ax.invert_yaxis()
_ = ax.set(xlabel=f"texts (n = {len(texts)})")

# %% [markdown]
# **What to notice.** "4 or 5" is two answers, and so is a list of numbers. A reader that took one of them would pay for hedging, so both are ambiguous and score 0.

# %% [markdown]
# ## Text and measured values: OCR, free-form, regression
#
# SpaceR-151k adds general questions from Video-R1, with three rewards that Eq. 5 names and no equation defines (§4.1). They need no model as a judge either.
#
# - **OCR**: $1 - \mathrm{WER}$, not below 0. The word error rate is the least number of words to substitute, delete and insert, divided by the words of the truth. [jiwer](https://github.com/jitsi/jiwer) counts them.
# - **Free-form**: the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L: shared words, shared pairs of neighbours, longest common sequence of words. [rouge-score](https://github.com/google-research/google-research/tree/master/rouge) counts them, on word stems.
# - **Regression**: $1 - \min(1, |\hat y - y| / |y|)$. One step of MRA is 5% wide; this has no steps.

# %%
truths = {
    "ocr": "no entry after nine",
    "free-form": "a person puts a red cup on the table",
    "regression": "40",
}
tried = {
    "ocr": ["no entry after nine", "No entry after nine", "no entry at nine",
            "no entry", "nine after entry no", "exit only through the back door"],
    "free-form": ["a person puts a red cup on the table", "someone puts down a cup",
                  "on the table", "table the on cup red a puts person a",
                  "the the the"],
    "regression": ["40", "36", "44", "60", "80", "about forty", "many"],
}


def paid_for(kind, answer):
    """Task reward of an answer, and why it is what it is."""
    row = {"id": kind, "problem_type": kind, "ground_truth": truths[kind]}
    found = score(f"<think>x</think><answer>{answer}</answer>", row, RewardConfig())
    return kind, truths[kind], answer, round(found.task, 2), found.answer_failure or ""


# %% tags=["nbval-check-output"]
lines = [paid_for(kind, answer) for kind, some in tried.items() for answer in some]
columns = ["type", "true", "answer", "task reward", "failure"]
pd.DataFrame(lines, columns=columns).set_index("type")

# %% [markdown]
# Where the word errors are, word by word, and what each ROUGE counts:

# %% tags=["nbval-check-output"]
found = jiwer.process_words(truths["ocr"], "no entry at nine now")
print(jiwer.visualize_alignment(found, show_measures=False))
errors = found.substitutions + found.deletions + found.insertions
assert found.wer == errors / 4 == word_error_rate("no entry at nine now", truths["ocr"])

# %% tags=["nbval-check-output"]
scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
rouge = {answer: {k: v.fmeasure for k, v in
                  scorer.score(truths["free-form"], answer).items()}
         for answer in tried["free-form"]}
rouge = pd.DataFrame(rouge).T
assert np.allclose(rouge.mean(axis=1), [line[3] for line in lines[6:11]], atol=0.005)
rouge.assign(mean=rouge.mean(axis=1)).round(2)

# %% tags=["nbval-check-output"]
guesses = np.linspace(0, 80, 801)
figure, ax = plt.subplots(figsize=(6.4, 2.6))
measures = {"numerical (MRA)": mean_relative_accuracy, "regression": regression_score}
for (name, measure), style in zip(measures.items(), ("-", "--"), strict=True):
    ax.plot(guesses, [measure(g, 40) for g in guesses], style, label=name)
ax.set(xlabel="answer (true: 40)", ylabel="task reward")
_ = ax.legend()

# %% [markdown]
# **What to notice.** Successes and failures stand side by side. One wrong case costs a word of an OCR answer. A reversed sentence keeps its ROUGE-1 and loses the rest; an answer of one repeated common word still earns a little: word overlap is a weak judge of meaning. A regression reward is above 0 up to twice the truth, so a bad number earns something, unlike under MRA. None of these three is ever 1 for a near miss, so under the gate of Eq. 5 only an exact text is *right*.
#
# ## The map, and its gate
#
# The map score of notebook 02 is *added* to the reward, but only where the answer has earned it: `paper` (Eq. 5) asks for a task reward of 1, `released` (SpaceR's code) for a right choice or a mean relative accuracy above 0.5. `off` is the ablation without maps. The whole rule:

# %%
print(inspect.getsource(gate_opens))

# %% [markdown]
# Without a gate, a drawn map would pay for any answer. One number question, and guesses at growing distance, each with the perfect map:

# %%
thought = "seen from the door, it stands to the east"
ten = {**number, "ground_truth": "10"}  # the same room with another truth
perfect = {g: write_completion(str(g), thought, number["map"]) for g in range(4, 17)}

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(6.4, 2.8))
for gate, style in (("paper", "o-"), ("released", "s--"), ("off", "x:")):
    config = RewardConfig(map_gate=gate)
    totals = [score(text, ten, config).total for text in perfect.values()]
    ax.plot(list(perfect), totals, style, label=f"gate: {gate}")
ax.set(xlabel="answer (true: 10), with a perfect map", ylabel="total reward")
_ = ax.legend()

# %% [markdown]
# **What to notice.** `paper` makes one high step at the right number, within 5%. `released` opens earlier, so more completions learn from their map.
#
# ## Length
#
# A right answer within a window of tokens earns 0.2 more. The paper's window is 360 to 512 tokens (§5.1); the released code's begins at 320. The bonus measures how long a thought is, not how good, so it is small and only right answers earn it.

# %% tags=["nbval-check-output"]
right = write_completion(choice["ground_truth"], thought, choice["map"])
lengths = range(250, 600)
figure, ax = plt.subplots(figsize=(6.4, 2.4))
for window, style in (((360, 512), "-"), ((320, 512), "--")):
    config = RewardConfig(length_window=window)
    earned = [score(right, choice, config, n).length for n in lengths]
    ax.plot(lengths, earned, style, label=f"{window[0]} to {window[1]} tokens")
ax.set(xlabel="completion (tokens)", ylabel="length reward")
_ = ax.legend()

# %% tags=["nbval-check-output"]
other = "C" if choice["ground_truth"] != "C" else "A"
wrong = write_completion(other, thought, choice["map"])
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
# Seven rollouts of one question, written by hand. Each tests one property of the total.

# %%
true_map, letter = choice["map"], choice["ground_truth"]
middle = grid_size // 2
cells = [(x, y) for x in range(grid_size) for y in range(grid_size)]
corner = {name: [(0, 0)] * len(spots) for name, spots in true_map.items()}
centre = {name: [(middle, middle)] * len(spots) for name, spots in true_map.items()}
everywhere = dict.fromkeys(true_map, cells)
rollouts = {
    "good": right,
    "right, bad map": write_completion(letter, thought, corner),
    "wrong, perfect map": wrong,
    "broken format": right.replace("</think>", ""),
    "empty think": write_completion(letter, cells=true_map),
    "all at the centre": write_completion(letter, thought, centre),
    "every cell": write_completion(letter, thought, everywhere),
}

# %% tags=["nbval-check-output"]
config = RewardConfig(grid_size=grid_size)
paid = {name: score(text, choice, config) for name, text in rollouts.items()}
figure, ax = plt.subplots(figsize=(8, 3))
reward_plots.reward_bars(paid.values(), ax, list(paid))
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% tags=["nbval-check-output"]
shown = "format task map total gate_open map_score failure map_failure".split()
breakdowns = pd.DataFrame({k: asdict(b) for k, b in paid.items()}).T[shown]
breakdowns.fillna("").map(lambda v: round(v, 2) if isinstance(v, float) else v)

# %% tags=["nbval-check-output"]
for b in paid.values():
    assert np.isclose(b.total, b.format + b.task + b.map + b.length)
assert paid["wrong, perfect map"].map == 0 < paid["wrong, perfect map"].map_score
assert paid["right, bad map"].task == 1
print("every total is the sum of its parts")

# %% [markdown]
# **What to notice.** A perfect map beside a wrong answer is *scored* (for the log) and *not paid*. A bad map never costs a right answer its reward. A broken format costs only the format reward, as long as the answer can be read. The map with everything at the centre earns almost as much as the good one: the flat score of notebook 02, now inside a reward.
#
# ## Where the released code differs
#
# | | the released code | the rule here |
# |---|---|---|
# | a right answer with an unreadable map | loses its answer reward too | keeps it; only the map part is 0 |
# | rows of one batch | all scored by the type and map of the batch's *first* row | each by its own type, options and map |
# | length bonus | task reward above 0.1, in at least two of the group | task reward of 1, each by itself |
#
# The cells below run the first two. After them, a rule of ours: a malformed *completion* scores 0 and its failure has a name, but a malformed *ground truth* raises.

# %% tags=["nbval-check-output"]
unreadable = f"<think><map>chair near</map>so</think><answer>{letter}</answer>"
b = score(unreadable, choice, config)
print(f"unreadable map: task {b.task}, map {b.map}, {b.map_failure}")
counted = write_completion(number["ground_truth"], thought, number["map"])
by_own = score(counted, number, config).total
by_first = score(counted, choice, config).total
print(f"right count, own row: {by_own:.2f}; by another row's truth: {by_first:.2f}")

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(5.5, 1.5))
ax.barh(["own row", "another row"], [by_own, by_first], color=PALETTE[:2])
_ = ax.set(xlabel="total reward of a right count")

# %% tags=["nbval-check-output"]
try:
    score(right, {**choice, "ground_truth": "Z"}, config)
except SpacerError as error:
    print(error)

# %% [markdown]
# ## The landscape of a map reward
#
# Take the true map and move *one* object over the whole grid. A model can learn from a map score that falls where the object is in a wrong cell.

# %%
room_map = {name: [tuple(c) for c in spots] for name, spots in true_map.items()}
mover = min(room_map, key=lambda name: (len(room_map[name]), name))


def landscape(scorer):
    """(M, M) score of the map with one object in each cell; rows are y."""
    field = np.zeros((grid_size, grid_size))
    for x, y in cells:
        drawn = room_map | {mover: [(x, y), *room_map[mover][1:]]}
        field[y, x] = map_score(drawn, room_map, grid_size, scorer=scorer)
    return field


# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 4, figsize=(11, 3))
for ax, scorer in zip(axes, SCORERS, strict=True):
    shown = ax.imshow(landscape(scorer), origin="lower", vmin=0, vmax=1)
    ax.plot(*room_map[mover][0], "*", color=PALETTE[5], ms=11)
    ax.set(title=scorer, xlabel="x_col", xticks=[0, grid_size - 1], yticks=[])
_ = figure.colorbar(shown, ax=axes, label=f"score as the {mover} moves")

# %% [markdown]
# **What to notice.** Under the published scores one misplaced object hardly matters. Under `decay` and `aligned` the right cell (star) is a peak.
#
# Now whole maps: random, all at the centre, jittered by one cell, turned by a quarter, perfect. With `SPACER_REAL_META` set, real rooms are shown beside the drawn ones.

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

# %% tags=["nbval-check-output"]
size = {"figsize": (11, 2.8 * len(sets)), "squeeze": False, "sharey": True}
figure, axes = plt.subplots(len(sets), 3, **size)
for row, (where, some) in zip(axes, sets.items(), strict=True):
    for ax, scorer in zip(row, ("released", "paper", "aligned"), strict=True):
        spread = [
            [map_score(k(m), m, scorer=scorer) for m in some] for k in kinds.values()
        ]
        ax.violinplot(spread, showmeans=True, widths=0.8)
        ax.set(title=f"{scorer}, {where} (n = {len(some)})", ylim=(-0.02, 1.05))
        ax.set_xticks(range(1, 6), list(kinds), fontsize=8)
    row[0].set(ylabel="map score")

# %% [markdown]
# **What to notice.** Left and middle: a map drawn without the video earns 0.6 or 0.7, and a perfect map turned by a quarter earns less than all objects at the centre. Right: chance maps earn about 0, and the turned map scores as well as the perfect one.
#
# ## Does the answer follow from the map?
#
# The map reward pays the map, and the task reward the answer. Neither pays a thought that leads from one to the other. Four components of ours do. None needs a model as a judge: each compares a text with the room.
#
# | component | score in [0, 1] |
# |---|---|
# | consistency | the solver (notebook 08) reads this answer from the drawn map *and* it is the true one; times `aligned` |
# | assertions | relations stated outside the map, right minus wrong, over at least four |
# | boxes | `{"chair": [[x, y, w, h], …]}` in metres from the middle of the floor: intersection over union, best of four sides, corrected for chance |
# | relations | offsets between all pairs of categories, after the best turn, corrected for chance |
#
# An answer that only *follows* is no merit: a map can be drawn after the guess. So consistency is never paid for a map that is wrong where the question looks. It is for right answers; the other three stand behind the gate of the map.

# %%
turning = next(r for r in rows if "direction" in r["question_type"])
letter_there = turning["ground_truth"]
guess = next(o[0] for o in turning["options"] if o[0] != letter_there)
names, cells_there = turning["categories"], turning["map"]
alone = {names[0]: [[4, 4]], names[1]: [[6, 4]]}
room = {**cells_there, names[1]: [[6, 4]], names[0]: [[4, 4]]}

# %% tags=["nbval-check-output"]
third = [[[x, y]] for x in range(grid_size) for y in range(grid_size)]
fits = {
    answer: next(t for t in third if follows(answer, {**alone, names[2]: t}, turning))
    for answer in (letter_there, guess)
}
cases = {
    "true map, its answer": (letter_there, cells_there),
    "true map, another answer": (guess, cells_there),
    "asked objects alone": (letter_there, {**alone, names[2]: fits[letter_there]}),
    "redrawn to fit a guess": (guess, {**room, names[2]: fits[guess]}),
    "all in one cell": (letter_there, {n: [[5, 5]] for n in cells_there}),
}
pd.DataFrame(
    {
        name: {
            "follows": follows(answer, drawn, turning),
            "paid": round(consistency(answer, drawn, turning).score, 2),
            "why": consistency(answer, drawn, turning).reason,
        }
        for name, (answer, drawn) in cases.items()
    }
).T

# %% [markdown]
# **What to notice.** Two maps that show nothing of the room are consistent with the answer beside them. Paid by itself, consistency would teach a model to draw them.
#
# Statements are read by a small grammar, and checked one by one.

# %% tags=["nbval-check-output"]
lone = [name for name, spots in cells_there.items() if len(spots) == 1][:2]
a, b = lone
stated = {
    "that there is one": f"There is 1 {a}.",
    "a side": f"The {a} is left of the {b}.",
    "the same, turned round": (
        f"The {a} is left of the {b}. The {b} is right of the {a}."
    ),
    "both sides": f"The {a} is left of the {b}. The {a} is right of the {b}.",
    "beside itself": f"The {a} is left of the {a}.",
    "a working": f"{names[1]}+9+9=3",
    "no relation": f"The {a} is lovely.",
}
checked = {n: check_thought(t, turning, cells_there) for n, t in stated.items()}
pd.DataFrame(
    {n: {"says": c.reason, "score": c.score} for n, c in checked.items()}
).T.assign(thought=stated.values())

# %% [markdown]
# **What to notice.** A statement counts once, whichever way round; made in two ways it is wrong. Trivial ones and good guesses do not count, and fewer than four earn a part. A blind statement is right at most every other time, so stuffing earns little.
#
# ## Twelve presets, twenty-three probes
#
# Reinforcement learning finds whatever is paid. So first ask what a policy earns that ignores the video. Each probe below plays one trick and otherwise answers *rightly*, so that every gate is open. The honest policy's reward is there to compare.

# %%
scenes = [to_scene(draw_room(seed)) for seed in range(6)]
asked = [
    {**row, "boxes": true_boxes(scene)}
    for scene in scenes
    for row in question_rows(scene, 0, per_task=2)[0]
]
table = pd.DataFrame(probe_table(asked))
totals = table.pivot(index="probe", columns="preset", values="total")
totals = totals.loc[table.probe.unique(), list(PRESETS)]

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(11, 7))
label = f"mean total reward (n = {len(asked)} questions)"
_ = reward_plots.reward_table(totals, ax, label)

# %% tags=["nbval-check-output"]
extra = table[["probe", "preset", "map", "length"]]
paid_more = extra[["map", "length"]].max(axis=1) > 0.01
extra = extra[~extra.probe.isin(TO_COMPARE) & paid_more]
extra.round(2)

# %% tags=["nbval-check-output"]
assert not (extra.preset == "ours").any(), "ours pays a probe's map or length"
print("under `ours`, no probe earns 0.01 for its map or its length")

# %% tags=["nbval-check-output"]
paid_added = table[table.preset.str.contains("+", regex=False)]
paid_added = paid_added.set_index(["probe", "preset"])[list(ADDED)].max(axis=1)
paid_added = paid_added.unstack().loc[table.probe.unique()]
figure, ax = plt.subplots(figsize=(7, 6))
paid_added.plot.barh(ax=ax, width=0.8, color=PALETTE)
ax.invert_yaxis()
ax.set(xlabel=f"mean added component (n = {len(asked)} questions)", ylabel="")
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %% tags=["nbval-check-output"]
best = {p: totals.loc["honest", p] for p in PRESETS if p.startswith("ours")}
best["ours+boxes"] = totals.loc["honest, in boxes", "ours+boxes"]
for preset, most in best.items():
    assert (totals[preset].dropna() <= most + 1e-9).all(), preset
print("no preset of ours pays a probe more than an honest right answer")

# %% [markdown]
# **What to notice.**
# - Empty and template thoughts cost the format reward under `ours`, and nothing under the other presets.
# - SpaceR's presets pay all objects at the centre almost like a true map, and pay padding to the length window.
# - The added components pay the honest policy, and the tricks hardly anything. In these rooms stuffed statements are wrong more often than right; over 40 rooms each blind form earns less than 0.25 (`tests/unit/test_added_rewards.py`). A side of 0 spoils the whole map of boxes, and a box as large as the room is worth what chance is.
# - No preset detects a thought that only restates the answer, or an *answer* that is guessed. A held-out evaluation detects guesses (notebook 07).
#
# The presets, as files see them: `spacer extras reward --items … --completions … --preset ours`.
#
# ## From reward to advantage
#
# GRPO compares the rollouts of one question with each other (Eq. 6; the small constant is the implementation's):
#
# $$A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + 10^{-4}}$$

# %% tags=["nbval-check-output"]
ours = get_preset("ours")
misplaced = room_map | {mover: [((room_map[mover][0][0] + 4) % grid_size, 0)]}
rollouts["right, one object off"] = write_completion(letter, thought, misplaced)
r = np.array([score(text, choice, ours).total for text in rollouts.values()])
advantage = (r - r.mean()) / (r.std(ddof=1) + 1e-4)  # divides by G - 1, as TRL does
pd.DataFrame({"reward": r, "advantage": advantage}, index=rollouts).round(3)

# %% tags=["nbval-check-output"]
mean = sum(r.tolist()) / 8
spread = (sum((x - mean) ** 2 for x in r.tolist()) / 7) ** 0.5
by_hand = [(x - mean) / (spread + 1e-4) for x in r.tolist()]
assert np.allclose(by_hand, advantage) and abs(advantage.sum()) < 1e-9
print(f"mean {mean:.3f}, std {spread:.3f}, sum {abs(advantage.sum()):.0f}")

# %% tags=["nbval-check-output"]
best = sorted(r.tolist(), reverse=True)[:5]  # the right answers
examples = {
    "all right, no map reward": [2.0] * 8,
    "all right, map reward": [*best, *best[:3]],
    "all wrong": [1.0] * 8,
}
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), sharey=True)
for ax, (name, rewards) in zip(axes, {"mixed": r, **examples}.items(), strict=True):
    rewards = np.array(rewards)
    a = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
    ax.bar(range(8), a, color=np.where(a > 0, PALETTE[2], PALETTE[5]))
    ax.set(title=name, xlabel="rollout", xticks=range(8))
    print(f"{name:26} std {rewards.std(ddof=1):.2f}  advantages {a.round(2) + 0.0}")
_ = axes[0].set(ylabel="advantage")

# %% [markdown]
# **What to notice.** Where all rewards are equal, all advantages are zero: a zero-advantage group costs its rollouts and changes nothing. The map reward helps here: it separates right answers by their maps. It has a cost too. Dividing by a small spread enlarges small differences, so a noisy map score among right answers becomes noise of full size in the gradient. A map score should be steep where maps are good.

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
# **What to notice.** Down to a spread of $10^{-3}$ the size of a difference does not matter. Only below the constant do advantages shrink. A group of nearly equal rewards still has advantages of full size.
#
# ## In practice
#
# In a recipe the reward is one block, and each part is logged by itself (`rewards/format/mean`, `rewards/map/mean`, …):
#
# ```yaml
# reward:
#   map_gate: released     # paper | released | off | always
#   map_scorer: aligned    # paper | released | decay | aligned
#   consistency_weight: 1  # and assertions_weight, boxes_weight, relations_weight
#   length_window: [320, 512]
# ```
#
# - Read ten rollouts before you believe a curve: a reward hack raises the mean too.
# - Watch `map_hit_rate` beside the map reward: nothing rewards it, so no policy learns to raise it alone.
# - `require_map: true` takes the format reward from a completion without a readable map.
#
# ## Summary
#
# Format, answer, map and length, and what we add to them, are each judged by a rule that fits in a sentence. Failures have names. The total is the sum of the parts, with a gate before the map. A flat map score pays maps drawn without the video; a score without a price on surplus cells pays a map with every cell. Only differences *within* a group change the policy.
#
# Length is counted in tokens of the model's own tokenizer, never in characters or words.
#
# ## Exercises
#
# 1. A completion of 300 *words*: may it earn the length bonus? What do you need to know, in tokens?
# 2. Find a text that `read_number` reads as a number and a person would not.
# 3. Give `always` as the gate. Which rollout of the seven gains, and what would a policy learn from it?
# 4. Add one to every reward of the group. What happens to the advantages? And if you double them?
#
# ## References
#
# - *SpaceR: Reinforcing MLLMs in Video Spatial Reasoning*, §4.1, §4.2, Eq. 1 to 7: https://arxiv.org/abs/2504.01805
# - vsGRPO (other shapes, reward hacks): https://arxiv.org/abs/2504.00883
# - VSI-Bench (mean relative accuracy): https://arxiv.org/abs/2412.14171
# - DeepSeekMath (GRPO, group advantages): https://arxiv.org/abs/2402.03300
# - TRL, custom reward functions: https://huggingface.co/docs/trl/grpo_trainer
#
# ## Quiz
#
# <details><summary>1. A right answer with an unreadable map: what does it earn here, and in the released code?</summary>
#
# Here format and task; only the map part is 0. The released code takes the answer's reward too.
#
# </details>
#
# <details><summary>2. What is the regression reward of 15 where 10 is true?</summary>
#
# 0.5: one minus the relative error.
#
# </details>
#
# <details><summary>3. Why does a reward of equal totals teach nothing, however high they are?</summary>
#
# Advantages are differences from the group's mean, and these are all zero.
#
# </details>

# %% [markdown]
# ## Solutions
#
# The code of each solution is closed here and on the site: click on it to open it. What it prints is checked like every other output.
#
# <details><summary>Solution 1</summary>
#
# It depends on the tokenizer: tokens are counted, not words. With 1.2 to 1.7 tokens a word, 300 words are 360 to 510 tokens and earn it; with one token a word they do not.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
for each in (1.0, 1.2, 1.5, 1.7, 2.0):
    tokens = round(300 * each)
    bonus = score(right, choice, RewardConfig(), tokens).length
    print(f"{each} tokens a word: {tokens} tokens, bonus {bonus}")

# %% [markdown]
# <details><summary>Solution 2</summary>
#
# *Room 4*, *the 4th chair* and *no 4* are read as 4: a name, a rank and a refusal. *Not 4*, *fewer than 4* and a subtraction are caught. A rule that reads a number cannot know what a sentence means.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
odd = ["room 4", "the 4th chair", "not 4", "fewer than 4", "4 minus 1", "no 4", "A4"]
table = pd.DataFrame(map(read_number, odd), index=odd, columns=["number", "failure"])
table.astype({"number": object}).fillna("")

# %% [markdown]
# <details><summary>Solution 3</summary>
#
# *Wrong, perfect map* gains its whole map score. A policy would learn to draw well and to guess: the map is paid whether or not the answer follows.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
always = RewardConfig(grid_size=grid_size, map_gate="always")
gain = {name: score(text, choice, always).total - score(text, choice, config).total
        for name, text in rollouts.items()}
pd.Series({name: round(value, 2) for name, value in gain.items() if value > 1e-9})


# %% [markdown]
# <details><summary>Solution 4</summary>
#
# Added: nothing, the mean moves along. Doubled: nothing but the constant's share, since the standard deviation doubles too.
#
# </details>

# %% tags=["solution", "hide-cell", "nbval-check-output"]
def advantages_of(values):
    """Eq. 6 of one group."""
    return (values - values.mean()) / (values.std(ddof=1) + 1e-4)


for name, values in {"plus one": r + 1, "doubled": 2 * r}.items():
    change = np.abs(advantages_of(values) - advantages_of(r)).max()
    print(f"{name:9} advantages change by {change:.4f} at most")

# %% [markdown]
# The next page trains a model with these rewards.
#
# ← [03 · Generate](03_generate_qa.ipynb) · [05 · Train](05_train_grpo.ipynb) → · [all stations](00_one_question.ipynb#The-stations)
