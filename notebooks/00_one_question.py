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
# # 00 · One question, from the room to the score
#
# [01 · Parse](01_parse_scannet.ipynb) → · library: [`rooms`](../spacer_lib/rooms), [`maps`](../spacer_lib/maps), [`questions`](../spacer_lib/questions), [`language`](../spacer_lib/language), [`models`](../spacer_lib/models), [`rewards`](../spacer_lib/rewards), [`training`](../spacer_lib/training), [`evaluation`](../spacer_lib/evaluation)
#
# **What you'll do.** Follow a single question through every station of SpaceR: a room, its map, the question, the model's answer, the reward, the advantage in its group, the score.
#
# **What you'll learn.**
# - name the stations, and the notebook and module of each;
# - see what the model is shown, and what it writes;
# - compute a reward and an advantage from their parts;
# - say how training and evaluation judge the same text differently.
#
# **What you'll need.** Nothing from other notebooks and no download. One CPU core, a minute, 1 GB of memory.
#
# [SpaceR](https://arxiv.org/abs/2504.01805) §3 (data), §4 (rewards, GRPO), §5 (evaluation).

# %% tags=["parameters"]
room_seed: int = 8000008  # of a synthetic room that no training run has seen
task: str = "object_rel_direction_hard"  # the type of the question
recipe: str = "tiny"  # how a model is asked; a file in configs/
checkpoint: str = ""  # the model that answers; "": that the recipe starts from
answers: int = 8  # G, completions in the group
seed: int = 0  # of sampling

# %%
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from transformers.utils.logging import disable_progress_bar

from spacer_lib.artifacts import commit, provenance
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.grid import rasterize

# %%
from spacer_lib.models.generation import generate
from spacer_lib.models.inputs import encode_prompts
from spacer_lib.pictures import map_plots, reward_plots, room_plots
from spacer_lib.pictures.pipeline import pipeline
from spacer_lib.pictures.style import PALETTE, use_house_style
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.rewards.config import get_preset
from spacer_lib.rewards.score import score
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.render import frames_from_uri
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene, video_uri
from spacer_lib.tiny.curriculum import DEMONSTRATED, draw_row, rules_of
from spacer_lib.training import grpo
from spacer_lib.training.recipe import load_config

# %%
use_house_style()
disable_progress_bar()
torch.set_num_threads(1)
assert answers > 1, "answers: a group has at least two"
config = load_config(recipe, {"model_path": checkpoint} if checkpoint else {})
view = DEMONSTRATED
{"commit": commit(), **provenance()["packages"]}

# %% [markdown]
# ## The stations

# %% tags=["nbval-check-output"]
stations = {
    "1 Room": "a scan becomes a scene\nnotebook 01",
    "2 Map": "10 x 10 cells\nnotebook 02",
    "3 Question": "geometry answers it\nnotebook 03",
    "4 Prompt": "video and text tokens\nnotebook 05",
    "5 Completion": "thought, map, answer\nnotebook 05",
    "6 Reward": "a program checks it\nnotebook 04",
    "7 Advantage": "better than its group?\nnotebooks 05, 10",
    "8 Score": "rooms never trained on\nnotebooks 07 to 09",
}
figure, ax = plt.subplots(figsize=(10, 3))
figure.set_label("Eight stations: " + ", ".join(stations))
_ = pipeline(stations, ax)

# %% [markdown]
# | station | notebook | module |
# |---|---|---|
# | 1 Room | [01 · Parse](01_parse_scannet.ipynb) | [`rooms`](../spacer_lib/rooms/scene.py) |
# | 2 Map | [02 · Rasterize](02_rasterize_maps.ipynb) | [`maps`](../spacer_lib/maps/grid.py) |
# | 3 Question | [03 · Generate](03_generate_qa.ipynb) | [`questions`](../spacer_lib/questions/generators.py) |
# | 4 Prompt | [05 · Train](05_train_grpo.ipynb) | [`language`](../spacer_lib/language/prompts.py), [`models`](../spacer_lib/models/inputs.py) |
# | 5 Completion | [05 · Train](05_train_grpo.ipynb) | [`models`](../spacer_lib/models/generation.py) |
# | 6 Reward | [04 · Design](04_design_rewards.ipynb) | [`rewards`](../spacer_lib/rewards/score.py) |
# | 7 Advantage | [05 · Train](05_train_grpo.ipynb), [10 · Write](10_write_grpo.ipynb) | [`training`](../spacer_lib/training/grpo.py) |
# | 8 Score | [07 · Evaluate](07_evaluate.ipynb), [08 · Ablate](08_ablate.ipynb), [09 · Reproduce](09_reproduce_figures.ipynb) | [`evaluation`](../spacer_lib/evaluation/predictions.py) |
#
# The arrows are one step of training. The policy that comes out of station 7 samples the next completions.
#
# ## 1 · A room and its scene
#
# SpaceR starts from ScanNet's scans. Here a room is drawn from a seed. Its scene holds what all later stations need: a box for each object, the floor, the camera.

# %% tags=["nbval-check-output"]
room = draw_room(room_seed, VIEWS[view].style)
scene = to_scene(room, VIEWS[view])
uri = video_uri(view, room_seed)
frames, indices, *_ = frames_from_uri(uri, config.frames, 168)
widths = [1] * config.frames + [1.3]
figure, axes = plt.subplots(1, len(widths), figsize=(12, 2.6), width_ratios=widths)
room_plots.frames_strip(frames, axes[:-1], [f"frame {i}" for i in indices])
_ = room_plots.floor_plan(scene, axes[-1]).set(title="boxes, from above")

# %% [markdown]
# A scene is written as JSON in the form of VSI-Bench's metadata, and reads back equal.

# %% tags=["nbval-check-output"]
meta = scene.to_meta()
assert Scene.from_meta(scene.scene_id, meta).to_meta() == meta
{name: json.dumps(value)[:70] for name, value in list(meta.items())[:8]}

# %% [markdown]
# ## 2 · The map
#
# The floor is divided into 10 x 10 cells, and each object is in the cell of its centroid: `[x_col, y_row]`. The true map is not shown to the model. It is kept for the reward.

# %% tags=["nbval-check-output"]
true_map = rasterize(scene)
figure, ax = plt.subplots(figsize=(5.2, 3))
map_plots.cognitive_map(true_map, ax)
true_map

# %% [markdown]
# ## 3 · The question and its true answer
#
# A generator asks about objects of the scene and computes the answer from their boxes. An oracle reads the words of the question and derives the answer a second time.

# %% tags=["nbval-check-output"]
row = draw_row(room_seed, view, task)
if row is None:
    raise SpacerError(f"task {task}", got="no such question about this room",
                      remedy="another room_seed")
print(row["question"], *(row["options"] or ()), sep="\n")
print("true:", row["ground_truth"])
assert row["ground_truth"] in QUESTION_TYPES[task].oracle(row, scene, rules_of(view))

# %% [markdown]
# ## 4 · The prompt, as tokens
#
# The model reads one sequence. Each pad token of the video stands for a patch that the vision tower encodes: here eight frames, each of 4 x 4 merged patches.

# %%
model, processor = load(config.model_path)
(prompt,), (media,) = encode_prompts(
    processor, [row], config.prompt_style, config.video_settings
)
seen = np.array(prompt) == model.config.video_token_id
text = processor.tokenizer.decode(np.array(prompt)[~seen].tolist())

# %% tags=["nbval-check-output"]
times, height, width = media["video_grid_thw"][0].tolist()
print(f"{len(prompt)} tokens, {seen.sum()} of them video")
print(f"video grid: {times} x {height} x {width} patches, merged two by two")
print(text)

# %% [markdown]
# ## 5 · A completion: thought, map, answer
#
# The most likely completion of the shipped model. It says in which view each object comes first (`@3backpack`), draws the map, computes over its cells, and answers.

# %%
asked = config.asking(batch_size=answers)
(completion,) = generate(model, processor, [row], asked)
reading = read_completion(completion, expect_map=True)

# %% tags=["nbval-check-output"]
print(completion)
print("read as:", reading.answer, "| format:", reading.failure or "right")

# %% tags=["nbval-check-output"]
figure, ax = plt.subplots(figsize=(5.6, 3))
_ = map_plots.cognitive_map(true_map, ax, predicted=reading.map or {})

# %% [markdown]
# **What to notice.** Squares are true, dots are drawn. The model was given pixels and a question. It placed the objects itself, and not all dots lie in their squares.
#
# ## 6 · The reward, part by part
#
# $R = R_{format} + R_{task} + R_{map} + R_{length}$, where the map counts only if the answer is right (SpaceR Eq. 5). Below are the paper's reward and that of the tiny recipe, with weight 8 and no gate, of the same completion.

# %% tags=["nbval-check-output"]
rules = {"SpaceR's paper": get_preset("spacer-paper"), "tiny recipe": config.reward}
earned = {name: score(completion, row, rule, 40) for name, rule in rules.items()}
parts = ["format", "task", "map", "length", "total"]
pd.DataFrame({k: {p: getattr(b, p) for p in parts} for k, b in earned.items()}).round(2)

# %% tags=["nbval-check-output"]
print(*earned["SpaceR's paper"].reasons, sep="\n")

# %% [markdown]
# **Failure case.** The same completion with another answer: the map is as good as before, and under the paper's rule it earns nothing.

# %% tags=["nbval-check-output"]
others = [option[0] for option in row["options"] or () if option[0] != reading.answer]
wrong = completion.replace(f"<answer>{reading.answer}<", f"<answer>{others[0]}<")
both = [score(text, row, rules["SpaceR's paper"]) for text in (completion, wrong)]
figure, ax = plt.subplots(figsize=(6, 1.6))
labels = [f"answer {reading.answer}", f"answer {others[0]}"]
_ = reward_plots.reward_bars(both, ax, labels)

# %% [markdown]
# ## 7 · A group, and its advantages
#
# GRPO samples several completions of the same question and compares each reward with the group's mean: $A_i = (r_i - \operatorname{mean}(r)) / (\operatorname{std}(r) + 10^{-4})$, SpaceR Eq. 6 with the constant that its code adds.

# %%
sampling = config.asking(temperature=1.0, seed=seed, batch_size=answers)
group = generate(model, processor, [row] * answers, sampling)
rewards = np.array([score(text, row, config.reward).total for text in group])
advantages = grpo.group_advantages(torch.tensor(rewards)[None])[0].numpy()

# %% tags=["nbval-check-output"]
by_hand = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-4)
assert np.allclose(by_hand, advantages)
said = [read_completion(text, expect_map=True) for text in group]
table = {"answer": [s.answer for s in said], "reward": rewards, "advantage": advantages}
pd.DataFrame(table).round(2)

# %% tags=["nbval-check-output"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), width_ratios=(1, 1.1, 1.5))
axes[0].bar(range(answers), advantages, color=np.where(advantages > 0, *PALETTE[2:6:3]))
axes[0].set(xlabel="completion", ylabel="advantage", xticks=range(answers))
ends = {"best": int(advantages.argmax()), "worst": int(advantages.argmin())}
for ax, (name, place) in zip(axes[1:], ends.items(), strict=True):
    drawn = said[place].map or {}
    map_plots.cognitive_map(true_map, ax, predicted=drawn, key=name == "worst")
    ax.set(title=f"{name}: {advantages[place]:+.2f}")

# %% [markdown]
# **What to notice.** The step makes every token of a completion above zero more likely, and of one below zero less likely. Nothing says which token was good. If all eight rewards were equal, all advantages would be zero and the question would teach nothing.
#
# The update itself, on one page: [10 · Write GRPO in a hundred lines](10_write_grpo.ipynb).
#
# ## 8 · How evaluation scores the same text
#
# Evaluation asks once, with greedy decoding, and scores the answer alone: 1 or 0 for a choice, mean relative accuracy for a number. The map is measured beside it and earns nothing.

# %% tags=["nbval-check-output"]
judged = record(row, completion, reward_rule())
shown = ("extracted", "answer", "score", "failure", "map_hits", "map_total")
{key: judged[key] for key in shown}

# %% [markdown]
# **What to notice.** `map_hits` counts objects drawn within 1.5 cells of their place. One question says nothing: notebook 07 asks hundreds, in other rooms, and gives every score an interval and a floor.
#
# ## In practice
#
# ```bash
# cd notebooks
# papermill 00_one_question.ipynb out.ipynb -p room_seed 8000003
# papermill 00_one_question.ipynb out.ipynb -p checkpoint runs/05_train_grpo/model
# ```
#
# With ScanNet and a 7B model every station has the same code: `spacer parse`, `spacer qa`, `spacer train`, `spacer evaluate`.
#
# ## Summary
#
# A room gives a map and a question with a known answer. A model sees frames and writes a thought, a map and an answer. A program rewards them, and a group of completions says which to make more likely. Evaluation scores answers in rooms outside training.
#
# ## Quiz
#
# <details><summary>1. Who sees the true map: the model, the reward, or both?</summary>
#
# The reward alone. It compares the drawn map with the true one; the prompt holds pixels and the question.
#
# </details>
#
# <details><summary>2. The eight rewards of a group are 2, 2, 2, 2, 2, 2, 2, 2. What does the question teach?</summary>
#
# Nothing: all advantages are zero.
#
# </details>
#
# <details><summary>3. A right answer with a bad map: what does evaluation say?</summary>
#
# The score is 1. The map is measured beside it (`map_hits`) and changes no score.
#
# </details>
#
# The next pages take the stations one by one.
#
# [01 · Parse](01_parse_scannet.ipynb) →
