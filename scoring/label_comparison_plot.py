"""A comparison of classifiers as a picture: accuracy of each group, and accuracy against the latency of one picture.

plot_label_comparison(Path("both.png"), comparison, costs)
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from basics.files import write_atomically
from scoring.label_comparison import LabelComparison
from scoring.labels import TOP_1

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = [f"C{i}" for i in range(10)]  # matplotlib's own, in its order


def plot_label_comparison(path: Path, comparison: LabelComparison, costs: list[dict]) -> None:
    """Left a line a group: its seeds, their mean and its 95% interval over pictures; right the means by latency."""
    from matplotlib.figure import Figure  # it takes its time to import; without pyplot: no display, no global state

    groups = len(comparison.outcomes)
    figure = Figure(figsize=(12, max(3.2, 1.4 + 0.42 * groups)), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_accuracies(left, comparison)
    draw_by_latency(right, comparison, costs)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    pictures = comparison.pictures
    figure.suptitle(f"{len(pictures.paths):,} pictures of the {pictures.split} split", fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())


def draw_accuracies(axes: "Axes", comparison: LabelComparison) -> None:
    outcomes = comparison.outcomes
    for place, outcome in enumerate(outcomes):
        seeds, color = 100 * np.array(outcome.of_seeds(TOP_1)), COLORS[place % len(COLORS)]
        low, high = (100 * value for value in outcome.scores.intervals()[TOP_1])
        axes.plot([low, high], [place, place], color=color, linewidth=2, alpha=0.5)
        axes.plot(seeds.mean(), place, "|", color=color, markersize=14, markeredgewidth=2)
        if len(seeds) > 1:
            axes.plot(seeds, np.full(len(seeds), place), "o", color=color, markersize=5, alpha=0.7)
    axes.set_yticks(range(len(outcomes)), [outcome.name for outcome in outcomes])
    axes.set_ylim(len(outcomes) - 0.5, -0.5)
    several = any(len(outcome.evaluations) > 1 for outcome in outcomes)
    axes.set_xlabel("top-1, %: mean" + " (bar), seeds (points)" * several + " and 95% interval over pictures")


def draw_by_latency(axes: "Axes", comparison: LabelComparison, costs: list[dict]) -> None:
    """A point a group, its name beside it."""
    form = costs[0]["form"]
    latency = {row["group"]: float(np.median(row["latency_ms"])) for row in costs if row["form"] == form}
    tops = [100 * outcome.scores.mean[TOP_1] for outcome in comparison.outcomes]
    for outcome, top, height, color in zip(comparison.outcomes, tops, heights(tops), COLORS * len(tops)):
        x = latency[outcome.name]
        axes.plot(x, top, "o", color=color, markersize=8)
        line = {"arrowstyle": "-", "color": color, "alpha": 0.5}
        axes.annotate(
            outcome.name, (x, top), (18, height), xycoords="data", textcoords=("offset points", "axes fraction"),
            arrowprops=line, va="center", fontsize=8,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(min(latency.values()) / 1.5, max(latency.values()) * 4)  # room for names
    axes.set_ylim(*limits(tops))
    axes.set(xlabel=f"latency of one picture, ms, {form} (median)", ylabel="top-1, %: mean of the seeds")


def limits(values: list[float]) -> tuple[float, float]:
    room = 0.1 * (max(values) - min(values)) or 1.0
    return min(values) - room, max(values) + room


def heights(values: list[float]) -> list[float]:
    """Where their names stand, as shares of the height of the axes: as near as can be, and no two on one another."""
    low, high = limits(values)
    order, gap = sorted(range(len(values)), key=values.__getitem__), min(0.07, 0.9 / len(values))
    found, below, above = [0.0] * len(values), -1.0, 0.98 + gap
    for place in order:
        below = found[place] = max((values[place] - low) / (high - low), below + gap)
    for place in reversed(order):
        above = found[place] = min(found[place], above - gap)
    return found
