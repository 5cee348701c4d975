"""How often 95% intervals of a mean over few rooms contain the true mean.

    python -m benches.intervals

Scores are drawn room by room from populations whose mean is known: relative accuracies
in tenths, most of them 0, and right or wrong answers that are mostly wrong or mostly
right. Questions of a room are alike (correlation .2), and rooms have 1 to 10 questions.
``evaluation.bootstrap`` chooses its form by this table: t below 5 rooms, the expanded
percentile form below 60, where it covers most, and percentiles from 60, where all forms
agree. The column ``used`` is that function itself.

Source of the expanded percentile form and its reason: T. Hesterberg, "What teachers
should know about the bootstrap", The American Statistician 69 (2015), 371-386. BCa: B.
Efron, "Better bootstrap confidence intervals", J. Am. Statist. Assoc. 82 (1987).
"""

import argparse
import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, t

from spacer_lib.evaluation.bootstrap import bootstrap_interval

ROOMS = (3, 5, 10, 20, 40, 120)
FORMS = ("percentile", "t", "expanded percentile", "BCa", "used")
LEVEL = 0.95
ALIKE = 0.2  # correlation of the scores of one room
_Floats = npt.NDArray[np.float64]

# {name: (score of an answer that is not 0, share of such answers)}
POPULATIONS = {
    "relative accuracy": ("tenths", 0.4),
    "right, 15%": ("one", 0.15),
    "right, 50%": ("one", 0.5),
    "right, 90%": ("one", 0.9),
}


def draw_rooms(
    population: str, rooms: int, rng: np.random.Generator
) -> tuple[_Floats, _Floats]:
    """(rooms,) sums of scores and (rooms,) numbers of questions."""
    kind, share = POPULATIONS[population]
    strength = 1 / ALIKE - 1
    able = rng.beta(share * strength, (1 - share) * strength, rooms)
    sizes = rng.integers(1, 11, rooms)
    found = rng.binomial(sizes, able)
    if kind == "one":
        return found.astype(float), sizes.astype(float)
    # One to ten tenths with equal chance for each answer that is not 0.
    sums = [rng.integers(1, 11, count).sum() / 10 for count in found]
    return np.array(sums, float), sizes.astype(float)


def true_mean(population: str) -> float:
    """The mean that the intervals should contain."""
    kind, share = POPULATIONS[population]
    return share * (0.55 if kind == "tenths" else 1.0)


def intervals(
    sums: _Floats, sizes: _Floats, rng: np.random.Generator, n: int
) -> dict[str, tuple[float, float]]:
    """The interval of the mean in each form."""
    rooms, mean = len(sums), sums.sum() / sizes.sum()
    drawn = rng.multinomial(rooms, np.full(rooms, 1 / rooms), size=n)
    means = (drawn @ sums) / (drawn @ sizes)
    tail = (1 - LEVEL) / 2
    half = t.ppf(1 - tail, rooms - 1)
    error = math.sqrt(np.square(sums - mean * sizes).sum() * rooms / (rooms - 1))
    error /= sizes.sum()
    wide = norm.cdf(-math.sqrt(rooms / (rooms - 1)) * half)
    found = {
        "percentile": np.quantile(means, [tail, 1 - tail]),
        "t": (mean - half * error, mean + half * error),
        "expanded percentile": np.quantile(means, [wide, 1 - wide]),
        "BCa": np.quantile(means, _bca_levels(means, mean, sums, sizes)),
    }
    # One value per room, with the room's mean repeated for each of its questions.
    values = np.repeat(sums / sizes, sizes.astype(int))
    clusters = np.repeat(np.arange(rooms), sizes.astype(int))
    found["used"] = bootstrap_interval(values, clusters.tolist(), rng, n, LEVEL)[1:]
    return {form: (float(low), float(high)) for form, (low, high) in found.items()}


def _bca_levels(
    means: _Floats, mean: float, sums: _Floats, sizes: _Floats
) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    below = (np.sum(means < mean) + np.sum(means <= mean)) / (2 * len(means))
    bias = norm.ppf(np.clip(below, 1e-6, 1 - 1e-6))
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    off = left_out.mean() - left_out
    spread = np.square(off).sum()
    skew = 0.0 if not spread else float((off**3).sum() / (6 * spread**1.5))
    ends = norm.ppf([tail, 1 - tail]) + bias
    low, high = norm.cdf(bias + ends / (1 - skew * ends))
    return float(low), float(high)


def coverage(
    population: str, rooms: int, trials: int, seed: int = 0, n: int = 1000
) -> pd.DataFrame:
    """One row per form: the share of trials covered, and the mean width."""
    rng, truth = np.random.default_rng([seed, rooms]), true_mean(population)
    inside = dict.fromkeys(FORMS, 0)
    width = dict.fromkeys(FORMS, 0.0)
    for _ in range(trials):
        sums, sizes = draw_rooms(population, rooms, rng)
        for form, (low, high) in intervals(sums, sizes, rng, n).items():
            inside[form] += low - 1e-12 <= truth <= high + 1e-12
            width[form] += high - low
    return pd.DataFrame(
        {
            "population": population,
            "rooms": rooms,
            "form": FORMS,
            "covered": [inside[form] / trials for form in FORMS],
            "width": [width[form] / trials for form in FORMS],
        }
    )


def main() -> None:
    """Print coverage and widths, populations by rooms."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--trials", type=int, default=800)
    trials = parser.parse_args().trials
    parts = [coverage(p, k, trials) for p in POPULATIONS for k in ROOMS]
    table = pd.concat(parts, ignore_index=True)
    for value in ("covered", "width"):
        print(f"\n{value}, {trials} trials")
        shown = table.pivot_table(
            index=["population", "rooms"], columns="form", values=value, sort=False
        )
        print(shown.round(3).to_string())


if __name__ == "__main__":
    main()
