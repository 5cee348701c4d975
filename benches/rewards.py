"""Rewards of many completions: this library and a plain implementation."""

import ast
import cProfile
import json
import math
import pstats
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benches.timing import BenchRow, compare, main, parser, rows_as_they_come
from spacer_lib.maps.text import map_to_text
from spacer_lib.questions.generators import question_rows
from spacer_lib.questions.mixture import PROBLEM_TYPES
from spacer_lib.rewards.config import get_preset
from spacer_lib.rewards.score import score_batch
from spacer_lib.rooms.scans import synthetic_ids
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, to_scene
from spacer_lib.rows import Question

REWARD_PRESET = "spacer-paper"
GROUP = 8  # completions per question


def reward_row(runs: int, count: int = 10_000) -> BenchRow:
    """Rewards of mixed completions: this library against the plain way."""
    texts, items, tokens = reward_cases(count)
    config = get_preset(REWARD_PRESET)

    def ours() -> list[float]:
        return [b.total for b in score_batch(texts, items, config, tokens)]

    def plain() -> list[float]:
        return list(map(plain_reward, texts, items, tokens))

    return compare(
        "rewards",
        ("this library", ours),
        ("plain, sample by sample", plain),
        runs=runs,
        tolerance=1e-9,
        note=f"{count} mixed completions, {REWARD_PRESET}, same totals; ours also "
        "scores maps behind a shut gate and counts their hits; of its time "
        + profile_shares(lambda: score_batch(texts, items, config, tokens), "_score"),
    )


def profile_shares(work: Callable[[], Any], caller: str, most: int = 3) -> str:
    """Where a function's time goes: its costliest callees, in words."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats: dict[Any, Any] = vars(pstats.Stats(profiler))["stats"]
    total = sum(row[3] for (_, _, name), row in stats.items() if name == caller)
    spent = {
        f"{Path(file).stem}.{name}": callers[key][3] / total
        for (file, _, name), (*_, callers) in stats.items()
        for key in callers
        if key[2] == caller
    }
    costliest = sorted(spent, key=spent.__getitem__, reverse=True)[:most]
    return ", ".join(f"{spent[name]:.0%} {name}" for name in costliest)


def reward_cases(
    count: int, seed: int = 0
) -> tuple[list[str], list[Question], list[int]]:
    """Completions of all kinds, in groups of ``GROUP`` to a question.

    Returns
    -------
    texts : list of str
    items : list of dict
        The question of each; one object per group.
    tokens : list of int
    """
    rng = np.random.default_rng(seed)
    questions = _bench_questions(rng)
    texts, items, tokens = [], list[Question](), []
    for group in range(-(-count // GROUP)):
        item = questions[group % len(questions)].copy()
        item["id"] = str(group)
        for _ in range(GROUP):
            texts.append(_bench_completion(item, rng))
            items.append(item)
            tokens.append(int(rng.integers(100, 700)))
    return texts[:count], items[:count], tokens[:count]


def _bench_questions(rng: np.random.Generator, rooms: int = 24) -> list[Question]:
    """Questions mixed as SpaceR-151k is: 91 spatial to 60 general, of five types."""
    rows = []
    for seed, name in synthetic_ids(rooms, 0):
        scene = to_scene(draw_room(seed, "furnished", name), VIEWS["walk"])
        rows += question_rows(scene, 0)[0]
    words = "north lamp seven river door apple stone train quiet running tables".split()
    for number in range(len(rows) * 60 // 91):
        kind = PROBLEM_TYPES[number % len(PROBLEM_TYPES)]
        options, truth = None, " ".join(rng.choice(words, int(rng.integers(3, 31))))
        if kind == "multiple choice":
            options, truth = ["A. red", "B. green", "C. blue"], "B"
        elif kind in ("numerical", "regression"):
            truth = str(rng.integers(1, 400) / 4)
        rows.append(
            {
                "id": str(number),
                "question": "",
                "problem_type": kind,
                "options": options,
                "ground_truth": truth,
            }
        )
    rng.shuffle(rows)
    return rows


def _bench_completion(item: Question, rng: np.random.Generator) -> str:
    answer = _bench_answer(item, rng)
    drawn = ""
    true = item.get("map")
    if true:
        moved = {
            name: np.clip(spots + rng.integers(-2, 3, (len(spots), 2)), 0, 9).tolist()
            for name, spots in true.items()
        }
        written = map_to_text(moved)
        python = written.replace('"', "'")
        off_grid = written.replace("[[", "[[1", 1)
        drawn = rng.choice([written] * 6 + [python, off_grid, "", "{'bed': ["])
        drawn = f"<map>{drawn}</map>" if drawn else ""
    shapes = ["<think>{0} so I look again</think><answer>{1}</answer>"] * 7 + [
        "<think>so I look again</think>\n{0}\n<answer>{1}</answer>\n",
        "<answer>{1}</answer>",
        "<think>{0} and on",
        "<think>{0}</think><answer>{1}</answer><answer>{1}</answer>",
    ]
    return str(rng.choice(shapes)).format(drawn, answer)


def _bench_answer(item: Question, rng: np.random.Generator) -> str:
    kind, truth = item["problem_type"], item["ground_truth"]
    if kind == "multiple choice":
        full = str(rng.choice(item["options"] or []))
        letter, text = full[0], full[3:]
        forms = [truth, truth, letter, f"{letter}.", f"({letter})", full, text]
        return str(rng.choice([*forms, f"Probably {letter}"]))
    if kind in ("numerical", "regression"):
        near = f"{float(truth) * rng.uniform(0.4, 1.6):.2f}"
        forms = [truth, truth, near, near, f"about {near}", "two", f"{near} or 9999"]
        return str(rng.choice([*forms, "none"]))
    words = truth.split()
    dropped = [word for word in words if rng.random() < 0.8]
    return " ".join(rng.choice([truth, " ".join(dropped or words)], 1))


def plain_reward(text: str, item: Question, token_count: int) -> float:
    """SpaceR's reward as one would first write it, for ``REWARD_PRESET``.

    It shares no code with the library: patterns tried in turn, Python's own literal
    reader, loops over pairs and a table of edits. It reads only what ``reward_cases``
    writes.
    """
    answers = re.findall("<answer>(.*?)</answer>", text, re.DOTALL)
    answer = answers[0].strip() if len(answers) == 1 else ""
    pattern = r"\s*<think>.*?</think>\s*(<map>.*?</map>\s*)?<answer>.*?</answer>\s*"
    total = float(len(answers) == 1 and bool(re.fullmatch(pattern, text, re.DOTALL)))
    task = _plain_task(answer, item) if answer else 0.0
    total += task
    if task == 1 and item.get("map"):
        total += _plain_map_score(re.search("<map>(.*?)</map>", text), item["map"])
    if task == 1 and 360 <= token_count <= 512:
        total += 0.2
    return total


def _plain_task(answer: str, item: Question) -> float:
    kind, truth = item["problem_type"], item["ground_truth"]
    if kind == "multiple choice":
        options = item["options"] or []
        letters = [option[0] for option in options]
        for pattern in (r"([A-Z])", r"([A-Z])\.", r"\(([A-Z])\)"):
            found = re.fullmatch(pattern, answer)
            if found:
                return float(found[1] == truth and found[1] in letters)
        for option in options:
            if answer in (option, option[3:]):
                return float(option[0] == truth)
        return 0.0
    if kind in ("numerical", "regression"):
        numbers = [float(n) for n in re.findall(r"\d+\.?\d*", answer)]
        numbers = numbers or [{"two": 2.0}[w] for w in answer.split() if w == "two"]
        if len(numbers) != 1:
            return 0.0
        error = abs(numbers[0] - float(truth)) / abs(float(truth))
        if kind == "regression":
            return 1 - min(1.0, error)
        passed = 0
        for step in range(10):
            if error <= 1 - (0.5 + 0.05 * step) + 1e-9:
                passed += 1
        return passed / 10
    if kind == "ocr":
        return max(0.0, 1 - _plain_edits(truth.split(), answer.split()))
    from rouge_score.rouge_scorer import RougeScorer  # slow to load, as in metrics

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    return sum(part.fmeasure for part in scorer.score(truth, answer).values()) / 3


def _plain_edits(reference: list[str], words: list[str]) -> float:
    """Word edits over the reference's words."""
    table = [
        [i + j if not i * j else 0 for j in range(len(words) + 1)]
        for i in range(len(reference) + 1)
    ]
    for i in range(1, len(reference) + 1):
        for j in range(1, len(words) + 1):
            same = reference[i - 1] == words[j - 1]
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (not same),
            )
    return table[-1][-1] / len(reference)


def _plain_map_score(found: re.Match[str] | None, true: Any) -> float:
    if not found:
        return 0.0
    try:
        drawn = json.loads(found[1])
    except ValueError:
        try:
            drawn = ast.literal_eval(found[1])
        except (ValueError, SyntaxError):
            return 0.0
    if any(not 0 <= v < 10 for spots in drawn.values() for cell in spots for v in cell):
        return 0.0
    earned, count = 0.0, 0
    for name, spots in true.items():
        count += len(spots)
        mine = drawn.get(name, [])
        pairs = []
        for i, cell in enumerate(sorted(mine)):  # of equal distances, the first cells
            for j, spot in enumerate(sorted(spots)):
                pairs.append((math.dist(cell, spot), i, j))
        used_mine, used_true, worth = set(), set(), 0.0
        for distance, i, j in sorted(pairs):
            if i not in used_mine and j not in used_true:
                used_mine.add(i)
                used_true.add(j)
                worth += max(0.0, 1 - distance / (10 * math.sqrt(2)))
        if mine:
            earned += len(spots) * worth / max(len(mine), len(spots))
    return earned / count


if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    sys.exit(main(lambda given: rows_as_they_come([reward_row(given.runs)]), options))
