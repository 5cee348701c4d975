"""The papers' further tables, from the predictions of any runs.

``run_table``       runs side by side: answer mode (SpaceR Table 3), map type (Table 5),
                    data scale (Fig. 7), sample selection (Fig. 3), ablations (Table 2)
``map_size_table``  grids of several sizes (Table 6)
``word_table``      spatial words beside accuracy (Table 4)
``ablation_table``  all comparisons of ``spacer study``

Reads predictions. Departures: every score has an interval over rooms, and differences
are paired.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.evaluation.conditions import random_map
from spacer_lib.evaluation.statistics import compare, summarize, verdict
from spacer_lib.language.tags import read_completion
from spacer_lib.maps.scores import hits
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import CognitiveMap, Prediction, Question
from spacer_lib.settings import read_yaml

ONE_CELL = 1.5  # the cell itself and its eight neighbours

# ---------------------------------------------------------------- runs side by side


def run_table(
    runs: Mapping[str, Sequence[Prediction]],
    *,
    reference: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Several runs, one row each, as in the papers' tables.

    Parameters
    ----------
    runs : dict
        ``{label: predictions}``.
    reference : str, optional
        The label of the run that the others, asked the same questions, are compared
        with.
    seed : int
        Keys the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``n``, ``hits`` (hit rate; NaN without maps), the mean score of each kind of
        task, ``macro`` (VSI-Bench's mean over kinds) with ``macro_low`` and
        ``macro_high``. With a reference also ``delta``, ``low``, ``high`` (of macro,
        paired) and ``verdict``.

    Raises
    ------
    SpacerError
        If there is no such reference, or the questions differ.
    """
    if reference is not None and reference not in runs:
        raise SpacerError(
            "reference run",
            kind="evaluation.unknown-reference",
            got=reference,
            expected=", ".join(runs),
            remedy=nearest(reference, runs),
        )
    rows: dict[str, dict[str, Any]] = {}
    for label, predictions in runs.items():
        table = summarize(predictions, seed=seed)
        kinds = table[table["level"] == "kind"]
        rows[label] = {
            "n": len(predictions),
            "hits": table["hits"].iloc[-1] if "hits" in table else np.nan,
            **dict(zip(kinds["name"], kinds["score"], strict=True)),
            **_macro(table),
        }
        if reference is not None and label != reference:
            change = compare(runs[reference], predictions, seed=seed)
            change = change.set_index(["level", "measure"]).loc["macro", "score"]
            rows[label] |= change[["delta", "low", "high", "verdict"]].to_dict()
    return pd.DataFrame.from_dict(rows, orient="index")


def _macro(table: pd.DataFrame) -> dict[str, float]:
    whole = table.set_index("level").loc["macro"]
    return {f"macro{end}": whole[f"score{end}"] for end in ("", "_low", "_high")}


def map_size_table(
    runs: Mapping[int, tuple[Sequence[Prediction], Sequence[Question]]],
    *,
    draws: int = 4,
    seed: int = 0,
) -> pd.DataFrame:
    """Maps of several sizes, each beside what random cells would reach.

    A cell of a coarse grid is wide, so "within one cell" is another distance on each
    grid, and random maps reach more on a coarse one. Both are shown: the published
    measure with its chance level, and the share within one distance for all grids, 1.5
    cells of a 10 x 10 grid.

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
        by_id = {row["id"]: row for row in rows}
        true = [by_id[p["id"]]["map"] or {} for p in predictions]
        texts = [p["prediction"] for p in predictions]
        drawn = [read_completion(text, grid_size=size).map or {} for text in texts]
        by_chance = [
            random_map({**by_id[p["id"]], "id": f"{p['id']}/{i}"}, seed, size)
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


def _found(
    maps: Sequence[CognitiveMap], true: Sequence[CognitiveMap], radius_cells: float
) -> float:
    pairs = zip(maps, true, strict=True)
    counts = np.array([hits(m, t, radius_cells) for m, t in pairs])
    return counts[:, 0].sum() / counts[:, 1].sum()


# ---------------------------------------------------------------- spatial words


@functools.cache
def spatial_words() -> dict[str, tuple[str, ...]]:
    """``{kind: words}`` of ``spatial_words.yaml``."""
    path = Path(__file__).with_name("spatial_words.yaml")
    listed = read_yaml(path, path.parent, what="word list")
    return {kind: tuple(words) for kind, words in listed.items()}


@functools.cache
def _pattern() -> tuple[re.Pattern[str], dict[str, str]]:
    kinds = {word: kind for kind, words in spatial_words().items() for word in words}
    longest = sorted(kinds, key=len, reverse=True)
    words = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), kinds


_NO_WORDS = re.compile(r"<(map|answer)>.*?</\1>|</?\w+>", re.DOTALL)


def count_spatial_words(text: str) -> Counter[str]:
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


def word_table(
    runs: Mapping[str, Sequence[Prediction]], *, seed: int = 0
) -> pd.DataFrame:
    """Spatial words per response beside the score, run by run.

    A table of a few runs can show that both grew in training, not that one causes the
    other. ``rho`` compares within a run: of two answers to the same type of question,
    does the one with more spatial words score higher?

    Parameters
    ----------
    runs : dict
        ``{label: predictions}``.

    Returns
    -------
    pandas.DataFrame
        ``n``, ``words`` with ``words_low`` and ``words_high``, the mean of each kind,
        ``score``, and ``rho`` (correlation of count and score, each minus the mean of
        its question type; NaN where one does not vary) with ``rho_low`` and
        ``rho_high``.
    """
    rows: dict[str, dict[str, Any]] = {}
    for label, predictions in runs.items():
        counts = [count_spatial_words(p["prediction"]) for p in predictions]
        table = pd.DataFrame(
            {
                "space": [space_of(p["scene_name"] or "") for p in predictions],
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


def _products(table: pd.DataFrame) -> pd.Series:
    """(n,) values whose mean is the correlation; the spreads are held fixed."""
    parts = []
    for name in ("words", "score"):
        off = table[name] - table.groupby("type")[name].transform("mean")
        spread = off.std(ddof=0)
        parts.append(off / (spread if spread > 1e-12 else np.nan))
    return parts[0] * parts[1]


def _with_interval(
    name: str, values: pd.Series, clusters: pd.Series, seed: int
) -> dict[str, float]:
    found = (np.nan, np.nan, np.nan)
    if values.notna().all():
        found = bootstrap_interval(values, clusters, np.random.default_rng([seed, 41]))
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


# ---------------------------------------------------------------- studies


def ablation_table(
    studies: Mapping[str, Mapping[str, Any]],
    measures: Sequence[str] = ("score", "exact", "hits"),
) -> pd.DataFrame:
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
