"""A comparison as it is printed: captions beside their references, scores and differences, costs."""

from pathlib import Path
from statistics import median

from basics.files import write_atomically
from basics.text import json_text
from basics.timing import median_and_range, number
from captioner.places import members
from scoring.collapse import collapse_warnings, format_collapse
from scoring.comparison import Comparison, Outcome, compare_captioners, comparison_record, owner_of_data
from scoring.costs import measure_costs
from scoring.evaluation_report import format_left_out
from scoring.request import Request
from sources.pictures import spread


def show_comparison(paths: tuple[str, str], request: Request) -> None:
    """Compare, print all of it as it is found, write the JSON file where one is asked for. Raises UserError."""
    comparison = compare_captioners(paths, request)
    if request.num_samples:
        print(format_captions_of_both(comparison, request.num_samples))
    print(format_head(comparison, request.data_dir))
    print(format_scores(comparison))
    print(format_alarm(comparison.outcomes))
    costs, setup = measure_costs(comparison.outcomes, comparison.pictures, request.batch_size)
    print(format_costs(comparison.outcomes, costs, setup))
    if request.output:
        write_atomically(Path(request.output), json_text(comparison_record(comparison, costs, setup)))
        print(f"written      {request.output}")


def format_captions_of_both(comparison: Comparison, count: int) -> str:
    """References, then both captions, each after its own CIDEr-D, for pictures spread over the split."""
    pictures, outcomes = comparison.pictures, comparison.outcomes
    width = max(len("reference"), *(len(outcome.name) for outcome in outcomes))
    lines = [f"    {'':<{width}}  CIDEr-D  of each caption, from 0 to 10"]
    for i in spread(count, len(pictures.paths)):
        lines.append(pictures.paths[i].name)
        lines += [f"    {'reference':<{width}}           {reference}" for reference in pictures.references[i]]
        for outcome in outcomes:
            value = outcome.evaluation.per_image["CIDEr-D"][i]
            lines.append(f"    {outcome.name:<{width}}  {value:7.3f}  {outcome.evaluation.texts[i]}")
    return "\n".join([*lines, ""])


def format_head(comparison: Comparison, data_dir: str | None) -> str:
    """What is compared, on which pictures, with which options, and where the two do not share them."""
    outcomes = comparison.outcomes
    width = max(len(each.name) for each in outcomes)
    lines = [f"{letter:<12} {each.name:<{width}}  {each.captioner.path}" for letter, each in zip("AB", outcomes)]
    lines += whose_pictures(comparison, data_dir)
    lines += format_left_out(comparison.pictures.left_out)
    searches = [each.options.in_words for each in outcomes]
    lines.append(both("decoding", outcomes, searches))
    if searches[0] != searches[1]:
        lines.append("             as each one's settings say; --beam and --length-penalty decode both alike")
    lines.append(both("at most", outcomes, [f"{each.options.max_seq_len} tokens a caption" for each in outcomes]))
    lines.append(both("precision", outcomes, [each.precision for each in outcomes]))
    return "\n".join([*lines, ""])


def whose_pictures(comparison: Comparison, data_dir: str | None) -> list[str]:
    """Where the pictures come from, and which side may have learnt from them unsaid."""
    outcomes, pictures = comparison.outcomes, comparison.pictures
    owner = owner_of_data([each.captioner for each in outcomes])
    source, other = outcomes[owner], outcomes[1 - owner]
    home, elsewhere = source.captioner.settings.data_path, other.captioner.data
    lines = [f"data         {pictures.split} split of {data_dir or home}, {len(pictures.paths)} pictures"]
    if data_dir or elsewhere and elsewhere.resolve() == home.resolve():
        return lines
    whose = f"the data of {source.name if source.captioner.data else 'config.py'}, as no --data-dir is given"
    trained = f"was trained on {elsewhere}" if elsewhere else "does not say what it was trained on"
    lines += [f"             {whose}; {other.name} {trained}"]
    return [*lines, "             and may have been trained on some of these pictures"]


def both(label: str, outcomes: list[Outcome], values: list[str]) -> str:
    """One value where both share it, else each with its side's name."""
    if values[0] == values[1]:
        return f"{label:<12} {values[0]}"
    return f"{label:<12} " + "; ".join(f"{each.name}: {value}" for each, value in zip(outcomes, values))


def format_scores(comparison: Comparison) -> str:
    """The table of scores and differences, and the count of pictures."""
    outcomes, differences = comparison.outcomes, comparison.differences
    lines = [f"{'score':<12} {'A':>8}  {'B':>8}  {'B - A':>8}  its 95% interval"]
    for name, value in differences["scores"].items():
        a, b = (each.evaluation.scores.mean[name] for each in outcomes)
        interval = f"{value['low']:+.4f} to {value['high']:+.4f}"
        lines.append(f"{name:<12} {a:8.4f}  {b:8.4f}  {value['difference']:+8.4f}  {interval}  {verdict(value)}")
    if any(line.endswith("unclear") for line in lines):
        lines.append("unclear      the interval holds 0: on other pictures the difference may be the other way round")
    counts, total = differences["pictures_by_cider_d_of_b"], len(comparison.pictures.paths)
    by_picture = (
        f"by picture   CIDEr-D of B is higher on {counts['higher']}, equal on {counts['equal']} and lower on "
        f"{counts['lower']} of {total} pictures; {differences['equal_captions']} captions are the same"
    )
    return "\n".join([*lines, "", by_picture])


def verdict(value: dict) -> str:
    if value["low"] == value["high"] == 0:
        return "equal"
    return "B higher" if value["low"] > 0 else "B lower" if value["high"] < 0 else "unclear"


def format_alarm(outcomes: list[Outcome]) -> str:
    """Each side's captions apart from their scores, the collapse alarm, and the signatures."""
    width = max(len(outcome.name) for outcome in outcomes)
    rows = []
    for each in outcomes:
        found = each.evaluation
        rows += [
            ("exact", each, f"{found.exact} of {len(found.captions)} captions equal a reference"),
            ("captions", each, format_collapse(found.collapse).removeprefix("captions: ")),
            *(("warning", each, warning) for warning in collapse_warnings(found.collapse)),
            ("signature", each, found.signature),
        ]
    rows.sort(key=lambda row: ("exact", "captions", "warning", "signature").index(row[0]))
    return "\n".join([*(f"{label:<12} {each.name:<{width}}  {text}" for label, each, text in rows), ""])


def format_costs(outcomes: list[Outcome], costs: list[dict], setup: dict) -> str:
    """The table of costs with B's as a multiple of A's, and what they were measured on."""
    rows = [["cost", "A", "B", "B / A"]]
    for label, key, scale in (
        ("parameters, million", "parameters", 1e6),
        ("weights on disk, MB", "weights_bytes", 1e6),
        ("speed, pictures/s", "pictures_per_second", 1),
        ("peak memory, MB", "peak_memory_bytes", 1e6),
    ):
        rows.append([label, *cost_cells([cost[key] for cost in costs], scale)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if any(Path(member).is_file() for outcome in outcomes for member in members(outcome.captioner.path)):
        lines.append("weights      a checkpoint file holds the optimizer's state too; a best/ folder does not")
    return "\n".join([*lines, measured_on(setup)])


def cost_cells(values: list[list[float] | float | None], scale: float) -> list[str]:
    """A's, B's, and B's divided by A's; of repeats the median and the range, of what is not known a dash.

    The quotient of repeats is that of the two medians shown, its range that of the rounds.
    """
    known = [value if isinstance(value, list) else [value] for value in values if value is not None]
    if len(known) < len(values):
        return ["-", "-", "-"]
    a, b = ([x / scale for x in repeats] for repeats in known)
    quotient, rounds = number(median(b) / median(a)), [y / x for x, y in zip(a, b)]
    if len(set(rounds)) > 1:
        quotient += f" ({number(min(rounds))} to {number(max(rounds))})"
    return [median_and_range(a), median_and_range(b), quotient]


def measured_on(setup: dict) -> str:
    memory = "allocated on the GPU" if setup["device"].startswith("cuda") else "resident set"
    threads = f"{setup['threads']} thread{'s' if setup['threads'] > 1 else ''}"
    return (
        f"measured     {setup['device']} ({setup['device_name']}), {threads}, {setup['pictures']} pictures in "
        f"batches of {setup['batch_size']}\n"
        f"             speed: encoder and decoding, files already read; median (lowest to highest) of "
        f"{setup['repeats']} rounds in turn\n"
        f"             memory: {memory} of a process that loads one side and captions, at its peak"
    )
