"""A comparison of classifiers as it is printed: a line a group with scores and differences, then what each costs.

show_label_comparison(groups, {"taught": "teacher/best"}, request, plot="both.png")
"""

from pathlib import Path
from statistics import mean, median

import numpy as np

from basics.files import write_atomically
from basics.paths import shown
from basics.text import json_text
from basics.timing import number
from scoring.comparison_groups import Group
from scoring.comparison_report import verdict
from scoring.evaluation_report import format_left_out
from scoring.label_comparison import LabelComparison, answers_of, compare_classifiers, label_comparison_record
from scoring.label_comparison_plot import plot_label_comparison
from scoring.label_costs import Exporter, measure_label_costs
from scoring.labels import ECE, NLL, TOP_1
from scoring.request import Request
from sources.pictures import spread


def show_label_comparison(
    groups: list[Group], teachers: dict[str, str], request: Request, plot: str | None, export: Exporter | None = None
) -> tuple[LabelComparison, list[dict]]:
    """Compare, print all of it as it is found, draw and write what is asked for -> it, and the costs.

    Raises UserError.
    """
    comparison = compare_classifiers(groups, teachers, request)
    print(format_label_head(comparison, named_data=request.data_dir is not None))
    if request.num_samples:
        print(format_disagreements(comparison, request.num_samples))
    print(format_group_scores(comparison))
    first_seeds = {each.name: each.group.paths[0] for each in comparison.outcomes}
    costs, setup = measure_label_costs(first_seeds, comparison.pictures, comparison.device, export)
    print(format_label_costs(costs, setup))
    if plot:
        plot_label_comparison(Path(plot), comparison, costs)
        print(f"drawn        {plot}")
    if request.output:
        write_atomically(Path(request.output), json_text(label_comparison_record(comparison, costs, setup)))
        print(f"written      {request.output}")
    return comparison, costs


def format_label_head(comparison: LabelComparison, named_data: bool) -> str:
    """What is compared, on which pictures, against which teachers, and who may have learnt from them unsaid."""
    outcomes, pictures = comparison.outcomes, comparison.pictures
    width = max(len(each.name) for each in outcomes)
    lines = [f"group        {each.name:<{width}}  {', '.join(each.group.paths)}" for each in outcomes]
    teachers = {each.teacher.checkpoint: each.teacher for each in outcomes if each.teacher}
    lines += [f"teacher      {name}, top-1 {each.scores.mean[TOP_1]:.4f}" for name, each in teachers.items()]
    lines.append(f"data         {pictures.split} split of {comparison.data}, {len(pictures.paths):,} pictures")
    elsewhere = [each.name for each in outcomes if str(each.settings.data_path) != comparison.data]
    if elsewhere and not named_data:
        lines.append(
            f"             {', '.join(elsewhere)}: trained on other data, perhaps on some of these pictures too"
        )
    lines += format_left_out(pictures.left_out)
    precisions = {each.name: sorted({*each.precisions}) for each in outcomes}
    if len({tuple(each) for each in precisions.values()}) > 1:
        lines.append("precision    " + "; ".join(f"{name}: {', '.join(each)}" for name, each in precisions.items()))
    else:
        lines.append(f"precision    {', '.join(precisions[outcomes[0].name])}")
    return "\n".join([*lines, ""])


def format_disagreements(comparison: LabelComparison, count: int) -> str:
    """Pictures that not all answer alike, spread over the split, with the answers of each group's first seed."""
    answers = np.stack([answers_of(each.evaluations[0]) for each in comparison.outcomes])
    differ = np.flatnonzero((answers != answers[0]).any(axis=0))
    total = len(comparison.pictures.paths)
    lines = [f"disagree     on {len(differ):,} of {total:,} pictures not all first seeds answer alike"]
    width = max(len("label"), *(len(each.name) for each in comparison.outcomes))
    for i in (differ[place] for place in spread(count, len(differ))):
        lines += [
            shown(comparison.pictures.paths[i].name),
            f"    {'label':<{width}}  {comparison.pictures.references[i][0]}",
        ]
        lines += [f"    {each.name:<{width}}  {shown(str(row[i]))}" for each, row in zip(comparison.outcomes, answers)]
    return "\n".join([*lines, ""])


def format_group_scores(comparison: LabelComparison) -> str:
    """A line a group: mean over seeds, lowest to highest, and what it has more than the first group."""
    first = comparison.outcomes[0].name
    head = ["group", "seeds", "top-1", f"minus {first}, its 95% interval", "NLL", "ECE", "as its teacher"]
    rows = [head]
    for outcome, change in zip(comparison.outcomes, comparison.differences()):
        rows.append(
            [
                outcome.name,
                str(len(outcome.evaluations)),
                mean_and_range(outcome.of_seeds(TOP_1), ".4f"),
                "" if outcome.name == first else difference(change[TOP_1]),
                f"{outcome.scores.mean[NLL]:.3f}",
                f"{outcome.scores.mean[ECE]:.3f}",
                mean_and_range(outcome.agreement, ".3f") if outcome.agreement else "-",
            ]
        )
    if not any(outcome.teacher for outcome in comparison.outcomes):
        rows = [row[:-1] for row in rows]
    lines = in_columns(rows)
    if any(" unclear" in line for line in lines):
        lines.append("unclear      the interval holds 0: on other pictures the difference may be the other way round")
    if any(len(outcome.evaluations) > 1 for outcome in comparison.outcomes):
        lines.append("seeds        values are means over them (lowest to highest); the interval is over pictures alone")
    return "\n".join([*lines, ""])


def difference(value: dict[str, float]) -> str:
    interval = f"{value['low']:+.4f} to {value['high']:+.4f}"
    return f"{value['difference']:+.4f}  {interval}  {verdict(value).removeprefix('B ')}"


def mean_and_range(values: list[float], form: str) -> str:
    """Mean (lowest to highest); one value stands alone."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def in_columns(rows: list[list[str]]) -> list[str]:
    """A line a row, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def format_label_costs(costs: list[dict], setup: dict) -> str:
    """A line a group and form, and what was measured."""
    rows = [
        ["cost", "form", "parameters", "MB on disk", "GFLOP", "latency p50, p95 ms", "pictures/s", "peak MB", "top-1"]
    ]
    for row in costs:
        p50, p95 = latency_percentiles(row)
        memory = row["peak_memory_bytes"]
        rows.append(
            [
                row["group"],
                row["form"],
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['weights_bytes'] / 1e6:.1f}",
                f"{row['flops'] / 1e9:.3f}",
                f"{p50:.2f}, {p95:.2f}",
                number(median(row["pictures_per_second"])),
                f"{memory / 1e6:.0f}" if memory else "-",
                f"{row['top-1']:.4f}" if "top-1" in row else "",
            ]
        )
    if all("top-1" not in row for row in costs):
        rows = [row[:-1] for row in rows]
    lines = [*in_columns(rows), label_costs_measured_on(setup)]
    if "top-1" in costs[0]:
        lines.append("             top-1: of the first seed in that form; exports compute on the CPU")
    return "\n".join(lines)


def latency_percentiles(row: dict) -> tuple[float, float]:
    low, high = np.percentile(row["latency_ms"], (50, 95)).tolist()
    return low, high


def label_costs_measured_on(setup: dict) -> str:
    memory = "allocated on the GPU" if setup["device"].startswith("cuda") else "resident set"
    threads = f"{setup['threads']} thread{'s' if setup['threads'] > 1 else ''}"
    return (
        f"measured     {setup['device']} ({setup['device_name']}), {threads}; of each group the first seed\n"
        "             GFLOP: matrix products and convolutions of one picture, a product and its addition count as 2\n"
        f"             latency: the model alone with 1 picture, of {setup['calls']} calls; pictures/s: "
        f"{setup['batch_size']} at once, median of {setup['repeats']}; all in turn\n"
        f"             memory: {memory} of a process that loads the model and classifies {setup['batch_size']} at once"
    )
