"""The papers' further tables, from the predictions of any runs.

``run_table``        runs side by side: map type (SpaceR Table 5), data scale (Fig. 7),
                     sample selection (Fig. 3), ablations (Table 2)
``map_size_table``   grids of several sizes (Table 6)
``think_vs_direct``  one model asked in two ways (Table 3)
``word_table``       spatial words beside accuracy (Table 4)
``task_shares``      what a selection of questions does to the tasks (Fig. 3)
``ablation_table``   all comparisons of ``spacer study``

Departures: every number has an interval over rooms, and differences are paired.
"""

import functools
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.evaluation.conditions import random_map
from spacer_lib.evaluation.statistics import compare, summarize, verdict
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import hits
from spacer_lib.questions.generators import task_kind
from spacer_lib.rooms.scene import space_of

ONE_CELL = 1.5  # the cell itself and its eight neighbours

# ---------------------------------------------------------------- runs side by side


def map_accuracy(predictions):
    """Share of the true instances drawn within one cell, averaged over maps.

    ``hits`` of a summary has the same instances found (on whole cells, one cell away
    is 1.5 at most) and pools them instead, so that full rooms weigh more. Records
    without a map do not count; maps that cannot be read count 0.
    """
    found = [p["map_hits"] / p["map_total"] for p in predictions if p.get("map_total")]
    return float(np.mean(found)) if found else np.nan


def run_table(runs, *, reference=None, seed=0):
    """Several runs, one row each, as in the papers' tables.

    Parameters
    ----------
    runs : dict
        ``{label: predictions}``.
    reference : str, optional
        A label; the others, asked the same questions, are compared with it.
    seed : int
        Keys the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``n``, ``map_accuracy``, ``hits``, the mean score of each kind of task,
        ``macro`` (VSI-Bench's mean over kinds) with ``macro_low`` and ``macro_high``;
        with a reference also ``delta``, ``low``, ``high`` (of macro, paired) and
        ``verdict``.

    Raises
    ------
    SpacerError
        If there is no such reference, or the questions differ.
    """
    if reference is not None and reference not in runs:
        raise SpacerError("reference run", got=reference, expected=", ".join(runs))
    rows = {}
    for label, predictions in runs.items():
        table = summarize(predictions, seed=seed)
        kinds = table[table["level"] == "kind"]
        rows[label] = {
            "n": len(predictions),
            "map_accuracy": map_accuracy(predictions),
            "hits": table["hits"].iloc[-1] if "hits" in table else np.nan,
            **dict(zip(kinds["name"], kinds["score"], strict=True)),
            **_macro(table),
        }
        if reference is not None and label != reference:
            change = compare(runs[reference], predictions, seed=seed)
            change = change.set_index(["level", "measure"]).loc["macro", "score"]
            rows[label] |= change[["delta", "low", "high", "verdict"]].to_dict()
    return pd.DataFrame.from_dict(rows, orient="index")


def _macro(table):
    whole = table.set_index("level").loc["macro"]
    return {f"macro{end}": whole[f"score{end}"] for end in ("", "_low", "_high")}


def map_size_table(runs, *, draws=4, seed=0):
    """Maps of several sizes, each beside what random cells would reach.

    A cell of a coarse grid is wide, so "within one cell" means another distance on
    each grid and random maps reach more on a coarse one. Both are shown: the published
    measure with its chance level, and the share within the same distance, 1.5 cells of
    a 10 x 10 grid.

    Parameters
    ----------
    runs : dict
        ``{grid size: (predictions, rows)}``; the rows' maps are of that size.
    draws : int
        Random maps per row behind the chance level.

    Returns
    -------
    pandas.DataFrame
        Index: the sizes. ``within_one_cell``, ``by_chance``, ``same_distance``,
        ``same_distance_by_chance`` (shares of all instances), ``macro`` with
        ``macro_low`` and ``macro_high``, and ``n``.
    """
    made = {}
    for size, (predictions, rows) in runs.items():
        by_id = {row["id"]: row["map"] for row in rows}
        true = [by_id[p["id"]] for p in predictions]
        texts = [p["prediction"] for p in predictions]
        drawn = [read_completion(text, grid_size=size).map or {} for text in texts]
        by_chance = [
            random_map({"id": f"{p['id']}/{i}", "map": by_id[p["id"]]}, seed, size)
            for i in range(draws)
            for p in predictions
        ]
        far = ONE_CELL * size / 10
        table = summarize(predictions, seed=seed)
        made[size] = {
            "within_one_cell": _found(drawn, true, ONE_CELL),
            "by_chance": _found(by_chance, true * draws, ONE_CELL),
            "same_distance": _found(drawn, true, far),
            "same_distance_by_chance": _found(by_chance, true * draws, far),
            **_macro(table),
            "n": len(predictions),
        }
    return pd.DataFrame.from_dict(made, orient="index").rename_axis("grid_size")


def _found(maps, true, radius_cells):
    pairs = zip(maps, true, strict=True)
    counts = np.array([hits(m, t, radius_cells) for m, t in pairs])
    return counts[:, 0].sum() / counts[:, 1].sum()


def task_shares(sets):
    """The share of each kind of task in sets of questions.

    Parameters
    ----------
    sets : dict
        ``{label: rows}``, for example before and after ``selection``.

    Returns
    -------
    pandas.DataFrame
        Kinds x labels; a last row ``n``.
    """
    counts = {
        label: Counter(task_kind(row["question_type"]) for row in rows)
        for label, rows in sets.items()
    }
    table = pd.DataFrame(counts).fillna(0).sort_index()
    return pd.concat([table / table.sum(), table.sum().to_frame("n").T])


# ---------------------------------------------------------------- two ways of asking


def think_vs_direct(think, direct, *, count_tokens=None, seed=0):
    """The same questions answered with and without thinking.

    Parameters
    ----------
    think, direct : list of dict
        Predictions.
    count_tokens : callable, optional
        ``text → int``, for example the length of a tokenizer's ids; words by default.

    Returns
    -------
    pandas.DataFrame
        ``level``, ``name``, ``n``, scores ``think`` and ``direct``, ``delta`` (think
        minus direct, paired) with ``low``, ``high`` and ``verdict``, and the mean
        length of the think blocks, maps included (0 without a block), as
        ``think_tokens`` and ``direct_tokens``.

    Raises
    ------
    SpacerError
        If the two do not answer the same questions.
    """
    table = compare(direct, think, seed=seed)
    table = table[table["measure"] == "score"].drop(columns="measure")
    table = table.rename(columns={"before": "direct", "after": "think"})
    count = count_tokens or (lambda text: len(text.split()))
    for label, predictions in (("think", think), ("direct", direct)):
        lengths = pd.DataFrame(
            {
                "question_type": p["question_type"],
                "kind": task_kind(p["question_type"]),
                "length": count(_thought(p["prediction"])),
            }
            for p in predictions
        )
        mean = {
            level: lengths.groupby(level)["length"].mean()
            for level in ("question_type", "kind")
        }
        overall = lengths["length"].mean()
        table[f"{label}_tokens"] = [
            mean[r.level][r.name] if r.level in mean else overall
            for r in table.itertuples(index=False)
        ]
    return table.reset_index(drop=True)


def _thought(text):
    for shape in ("think", "observe"):
        thought = read_completion(text, shape=shape).think
        if thought:
            return thought
    return ""


# ---------------------------------------------------------------- spatial words


@functools.cache
def spatial_words():
    """``{kind: words}`` of ``spatial_words.yaml``."""
    path = Path(__file__).with_name("spatial_words.yaml")
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {kind: tuple(words) for kind, words in listed.items()}


@functools.cache
def _pattern():
    kinds = {word: kind for kind, words in spatial_words().items() for word in words}
    longest = sorted(kinds, key=len, reverse=True)
    words = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), kinds


_NO_WORDS = re.compile(r"<(map|answer)>.*?</\1>|</?\w+>", re.DOTALL)


def count_spatial_words(text):
    """Spatial words of a response, by kind; map, answer and tags do not count.

    Returns
    -------
    Counter
        ``{kind: number}``.

    Examples
    --------
    >>> dict(count_spatial_words("<think>Next to the bed, front-left.</think>"))
    {'position': 1, 'direction': 2}
    """
    pattern, kinds = _pattern()
    found = pattern.findall(_NO_WORDS.sub(" ", text))
    return Counter(kinds[" ".join(word.lower().split())] for word in found)


def word_table(runs, *, seed=0):
    """Spatial words per response beside the score, run by run.

    A table of a few runs shows that both grew in training, not that one makes the
    other. ``rho`` asks within a run: of two answers to the same type of question, is
    the one with more spatial words the better one?

    Parameters
    ----------
    runs : dict
        ``{label: predictions}``.

    Returns
    -------
    pandas.DataFrame
        ``n``, ``words`` with ``words_low`` and ``words_high``, the mean of each kind,
        ``score``, and ``rho`` (correlation of count and score, both less their
        question type's mean; NaN where one does not vary) with ``rho_low`` and
        ``rho_high``.
    """
    rows = {}
    for label, predictions in runs.items():
        counts = [count_spatial_words(p["prediction"]) for p in predictions]
        table = pd.DataFrame(
            {
                "space": [space_of(p["scene_name"]) for p in predictions],
                "type": [p["question_type"] for p in predictions],
                "words": [float(sum(count.values())) for count in counts],
                "score": [float(p["score"]) for p in predictions],
            }
        )
        kinds = {
            kind: float(np.mean([count[kind] for count in counts]))
            for kind in spatial_words()
        }
        rows[label] = {
            "n": len(table),
            **_with_interval("words", table["words"], table["space"], seed),
            **kinds,
            "score": table["score"].mean(),
            **_with_interval("rho", _products(table), table["space"], seed),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _products(table):
    """(n,) values whose mean is the correlation; the spreads are held fixed."""
    parts = []
    for name in ("words", "score"):
        off = table[name] - table.groupby("type")[name].transform("mean")
        spread = off.std(ddof=0)
        parts.append(off / (spread if spread > 1e-12 else np.nan))
    return parts[0] * parts[1]


def _with_interval(name, values, clusters, seed):
    found = (np.nan, np.nan, np.nan)
    if values.notna().all():
        found = bootstrap_interval(values, clusters, np.random.default_rng([seed, 41]))
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


# ---------------------------------------------------------------- studies


def ablation_table(studies, measures=("score", "exact", "hits")):
    """Every arm's gain and every difference between arms, from study files.

    Parameters
    ----------
    studies : dict
        ``{name: content of a study.json}``.
    measures : sequence of str

    Returns
    -------
    pandas.DataFrame
        ``study``, ``level`` (``gain`` of an arm over its start, or ``difference``),
        ``name``, ``measure``, ``n`` (questions), ``seeds``, ``delta``, ``low``,
        ``high`` and ``verdict``.
    """
    records = []
    for study, content in studies.items():
        n, seeds = content["settings"]["questions"], len(content["settings"]["seeds"])
        parts = {"gain": content["arms"], "difference": content["differences"]}
        for level, found in parts.items():
            for name, gain in found.items():
                for measure in measures:
                    delta, low, high = np.array(gain[measure], float)  # None: NaN
                    numbers = n, seeds, delta, low, high, verdict(low, high)
                    records.append((study, level, name, measure, *numbers))
    columns = "study level name measure n seeds delta low high verdict".split()
    return pd.DataFrame(records, columns=columns)
