"""Questions: answers, shares, durations, rejected candidates."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from spacer_lib.pictures.style import ALERT, HATCHES, INK, PALETTE, short_name
from spacer_lib.questions.budgets import BudgetAnswers
from spacer_lib.rows import Question


def answer_histogram(rows: Sequence[Question], ax: Axes, bins: int = 20) -> Axes:
    """How often each answer occurs among questions of one type.

    Each answer has a bar; more than twelve different numbers are binned.
    """
    answers = [row["ground_truth"] for row in rows]
    kinds = sorted({str(row["question_type"]) for row in rows})
    numbers = all(row["problem_type"] == "numerical" for row in rows)
    counts = Counter(answers)
    if numbers and len(counts) > 12:
        ax.hist([float(a) for a in answers], bins=bins, color=PALETTE[0])
    else:
        labels = sorted(counts, key=float) if numbers else sorted(counts)
        ax.bar(labels, [counts[a] for a in labels], color=PALETTE[0])
    ax.set(
        title=f"{', '.join(map(short_name, kinds))} (n = {len(rows)})",
        xlabel="answer",
        ylabel="questions",
    )
    return ax


def share_donut(counts: Mapping[str, int], ax: Axes, title: str) -> Axes:
    """Shares of a whole with names and counts, largest first.

    Parameters
    ----------
    counts : dict
        ``{name: count}``; names of question types are shortened.
    """
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values())
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(ranked))]
    wedges, _ = ax.pie(
        [count for _, count in ranked],
        colors=colors,
        startangle=90,
        counterclock=False,
        wedgeprops={"width": 0.42, "edgecolor": "white"},
    )
    for i, wedge in enumerate(wedges):
        wedge.set_hatch(HATCHES[i // len(PALETTE) % len(HATCHES)])
    labels = [f"{short_name(n)}  {c:,} ({c / total:.1%})" for n, c in ranked]
    ax.legend(wedges, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_title(f"{title} (n = {total:,})")
    return ax


def duration_histogram(seconds: Sequence[float], ax: Axes, bins: int = 24) -> Axes:
    """Durations of videos and their median."""
    ax.hist(seconds, bins=bins, color=PALETTE[0], edgecolor="white")
    middle = float(np.median(seconds))
    ax.axvline(middle, color=INK, ls="--", gid="median")
    ax.set(xlabel="video duration (s)", ylabel="videos")
    ax.set_title(f"n = {len(seconds):,} videos, median {middle:.0f} s (dashed)")
    return ax


def rejection_bars(rejections: Mapping[tuple[str, str], int], ax: Axes) -> Axes:
    """Why candidates did not become questions; the most frequent reason on top.

    Parameters
    ----------
    rejections : dict
        ``{(question_type, reason): count}``.
    """
    ranked = sorted(rejections.items(), key=lambda item: (item[1], item[0]))
    labels = [f"{short_name(kind)}: {reason}" for (kind, reason), _ in ranked]
    bars = ax.barh(labels, [count for _, count in ranked], color=PALETTE[1])
    ax.bar_label(bars, padding=2, fontsize=7)
    ax.set(xlabel="candidates rejected")
    ax.grid(False, axis="y")
    return ax


def budget_answers(found: Sequence[BudgetAnswers], ax: Axes) -> Axes:
    """A row for each question, a column for each frame budget, the answers in it.

    Short options are written out, others have their letter. An answer that is not the
    largest budget's is red and bold; a dash is a rejection.
    """
    budgets = sorted({*found[0].answers, *found[0].rejections})
    for row, one in enumerate(found):
        for column, budget in enumerate(budgets):
            answer = one.answers.get(budget, "-")
            other = answer not in ("-", one.draft.ground_truth)
            color, weight = (ALERT, "bold") if other else (INK, "normal")
            for option in one.draft.options or ():
                if option[0] == answer and len(option) < 10:
                    answer = option[3:]
                    break
            place = ax.text(column, row, answer, ha="center", va="center")
            place.set(color=color, weight=weight)
    names = [
        f"{short_name(one.draft.question_type)}: {', '.join(one.draft.categories)}"
        for one in found
    ]
    ax.set(yticks=range(len(found)), yticklabels=names, xlabel="frames shown")
    ax.set(xticks=range(len(budgets)), xticklabels=[str(n) for n in budgets])
    ax.set(xlim=(-0.5, len(budgets) - 0.5), ylim=(len(found) - 0.5, -0.5))
    ax.grid(False)
    return ax
