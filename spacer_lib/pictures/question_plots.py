"""Questions: answers, shares, durations, rejected candidates."""

from collections import Counter

import numpy as np

from spacer_lib.pictures.style import INK, PALETTE, short_name


def answer_histogram(rows, ax, bins=20):
    """How often each answer occurs among question rows of one type.

    Few different answers get one bar each; many numbers are binned.
    """
    answers = [row["ground_truth"] for row in rows]
    kinds = sorted({row["question_type"] for row in rows})
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


def share_donut(counts, ax, title):
    """Shares of a whole, named and counted, largest first.

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
    labels = [f"{short_name(n)}  {c:,} ({c / total:.1%})" for n, c in ranked]
    ax.legend(wedges, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.set_title(f"{title} (n = {total:,})")
    return ax


def duration_histogram(seconds, ax, bins=24):
    """How long the videos are."""
    ax.hist(seconds, bins=bins, color=PALETTE[0], edgecolor="white")
    middle = float(np.median(seconds))
    ax.axvline(middle, color=INK, ls="--", label=f"median {middle:.0f} s")
    ax.set(xlabel="video duration (s)", ylabel="videos")
    ax.set_title(f"durations (n = {len(seconds):,} videos)")
    ax.legend()
    return ax


def rejection_bars(rejections, ax):
    """Why candidates did not become questions, counted, most frequent on top.

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
