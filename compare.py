"""Two captioners on the same pictures: captions side by side, scores with intervals of their difference, and cost.

    python evaluate.py --compare checkpoints/teacher/best checkpoints/student/best --split val --output both.json

Either may be a folder of GIT, a student's teacher, or an ensemble, a/best,b/best. Differences are B - A, their
intervals paired: each sample draws the same pictures for both. What each one costs is measured in compare_costs.py.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError
from basics.files import write_atomically
from basics.timing import median_and_range
from evaluate import Pictures, as_record, decoding_options, evaluate_pictures, find_pictures, spread
from scoring.collapse import format_collapse
from scoring.costs import Side, load_side, measure_costs
from scoring.metrics import NAMES, difference_intervals, score_captions

SAME = 1e-9  # CIDEr-D is a sum of floats: what differs by less is equal


@dataclass
class Outcome:
    """A side's captions and what was measured on them; `record` is what a plain evaluation writes to its JSON."""

    name: str
    side: Side
    options: object  # DecodingOptions
    precision: str
    scores: object  # metrics.Scores
    record: dict

    @property
    def captions(self) -> list[str]:
        return [image["caption"] for image in self.record["images"]]


def short_names(a: str, b: str) -> tuple[str, str]:
    """The last parts in which the paths differ, best/ aside: runs/x/best, runs/y/best -> x, y."""
    parts = [parts_of(a), parts_of(b)]
    last = [row[-1] for row in parts]
    while all(parts) and parts[0][-1] == parts[1][-1]:
        for row in parts:
            row.pop()
    return (parts[0][-1], parts[1][-1]) if all(parts) else (f"{last[0]} (A)", f"{last[1]} (B)")


def parts_of(name: str) -> list[str]:
    """A path's parts without best/; an ensemble has one: runs/x/best,runs/y/best -> x+y."""
    from captioner.ensemble import members

    if len(names := members(name)) > 1:
        return ["+".join(parts_of(member)[-1] for member in names)]
    parts = list(Path(name).resolve().parts if Path(name).exists() else Path(name).parts)
    return parts[:-1] if len(parts) > 1 and parts[-1] == "best" else parts


def check_flags(arguments: argparse.Namespace) -> None:
    """What can be told without loading anything. Raises UserError."""
    if arguments.checkpoint:
        raise UserError("--compare names both captioners itself; leave out --checkpoint")
    if arguments.meteor or arguments.spice:
        raise UserError("--compare has no METEOR and SPICE; run evaluate.py --checkpoint for each captioner instead")


def compare(arguments: argparse.Namespace) -> int:
    """What `evaluate.py --compare` does, with its flags -> exit status."""
    check_flags(arguments)
    from basics.devices import pick_device, pick_precision

    device = pick_device(arguments.device)
    names = short_names(*arguments.compare)
    sides = [load_side(path, device) for path in arguments.compare]
    for side, other in zip(sides, reversed(sides)):
        if side.data is None:  # GIT: searched as the captioner beside it
            side.settings = other.settings
    options = [decoding_options(arguments, side.settings, side.max_seq_len) for side in sides]
    precisions = [pick_precision(side.settings, device) for side in sides]
    pictures = find_pictures(arguments.data_dir, arguments.split, sides[owner_of_data(sides)].settings)
    outcomes = [evaluate_side(*each, pictures, arguments) for each in zip(names, sides, options, precisions)]
    if arguments.num_samples:
        print(format_samples(pictures, outcomes, arguments.num_samples))
    differences = score_differences(*outcomes)
    print(format_head(outcomes, pictures, arguments))
    print(format_scores(outcomes, differences))
    print(format_captions(outcomes))
    costs, setup = measure_costs(outcomes, pictures, arguments.batch_size)
    print(format_costs(outcomes, costs, setup))
    if arguments.output:
        content = as_content(outcomes, differences, costs, setup)
        write_atomically(Path(arguments.output), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        print(f"written      {arguments.output}")
    return 0


def evaluate_side(name, side: Side, options, precision, pictures: Pictures, arguments) -> Outcome:
    """Caption and score the pictures just as evaluate.py --checkpoint does."""

    def read(numbers: list[int]):
        return side.read([pictures.paths[i] for i in numbers])

    results, captions = evaluate_pictures(side, read, pictures, options, precision, side.path, arguments.batch_size)
    record = as_record(results, pictures, captions, side.path)
    scores = score_captions([text for text, _ in captions], pictures.references)  # again, for the counts of BLEU
    return Outcome(name, side, options, str(precision).removeprefix("torch."), scores, record)


def score_differences(a: Outcome, b: Outcome) -> dict:
    """B - A of each score with its 95% interval, and on how many pictures B's CIDEr-D is higher, equal and lower."""
    intervals = difference_intervals(a.scores, b.scores)
    first, second = a.scores.mean, b.scores.mean
    gain = b.scores.per_image["CIDEr-D"] - a.scores.per_image["CIDEr-D"]
    higher, lower = int((gain > SAME).sum()), int((gain < -SAME).sum())
    return {
        "scores": {
            name: {"difference": second[name] - first[name], "low": intervals[name][0], "high": intervals[name][1]}
            for name in NAMES
        },
        "pictures_by_cider_d_of_b": {"higher": higher, "equal": len(gain) - higher - lower, "lower": lower},
        "equal_captions": sum(x == y for x, y in zip(a.captions, b.captions)),
    }


def format_samples(pictures: Pictures, outcomes: list[Outcome], count: int) -> str:
    """References, then both captions, each after its own CIDEr-D, for pictures spread over the split."""
    width = max(len("reference"), *(len(outcome.name) for outcome in outcomes))
    lines = [f"    {'':<{width}}  CIDEr-D  of each caption, from 0 to 10"]
    for i in spread(count, len(pictures.paths)):
        lines.append(pictures.paths[i].name)
        lines += [f"    {'reference':<{width}}           {reference}" for reference in pictures.references[i]]
        for outcome in outcomes:
            value = outcome.scores.per_image["CIDEr-D"][i]
            lines.append(f"    {outcome.name:<{width}}  {value:7.3f}  {outcome.captions[i]}")
    return "\n".join([*lines, ""])


def format_head(outcomes: list[Outcome], pictures: Pictures, arguments: argparse.Namespace) -> str:
    """What is compared, on which pictures, with which options, and where the two do not share them."""
    a, b = outcomes
    width = max(len(a.name), len(b.name))
    lines = [f"{letter:<12} {each.name:<{width}}  {each.side.path}" for letter, each in zip("AB", outcomes)]
    lines += describe_data(outcomes, pictures, arguments.data_dir)
    if pictures.left_out:
        lines.append(f"left out     {len(pictures.left_out)} pictures, {pictures.left_out[0]}")
    searches = [describe(each.options) for each in outcomes]
    lines.append(both("decoding", outcomes, searches))
    if searches[0] != searches[1]:
        lines.append("             as each one's settings say; --beam and --length-penalty decode both alike")
    lines.append(both("at most", outcomes, [f"{each.options.max_seq_len} tokens a caption" for each in outcomes]))
    lines.append(both("precision", outcomes, [each.precision for each in outcomes]))
    return "\n".join([*lines, ""])


def owner_of_data(sides: list[Side]) -> int:
    """Whose data is taken without --data-dir: A's; B's where A is GIT, which names none; config.py's where both are."""
    return 1 if sides[0].data is None and sides[1].data is not None else 0


def describe_data(outcomes: list[Outcome], pictures: Pictures, data_dir: str | None) -> list[str]:
    """Where the pictures come from, and which side may have learnt from them unsaid."""
    owner = owner_of_data([each.side for each in outcomes])
    source, other = outcomes[owner], outcomes[1 - owner]
    home = source.side.settings.data_path
    lines = [f"data         {pictures.split} split of {data_dir or home}, {len(pictures.paths)} pictures"]
    if data_dir or other.side.data and other.side.data.resolve() == home.resolve():
        return lines
    whose = f"the data of {source.name if source.side.data else 'config.py'}, as no --data-dir is given"
    trained = f"was trained on {other.side.data}" if other.side.data else "does not say what it was trained on"
    lines += [f"             {whose}; {other.name} {trained}"]
    return [*lines, "             and may have been trained on some of these pictures"]


def both(label: str, outcomes: list[Outcome], values: list[str]) -> str:
    """One value where both share it, else each with its side's name."""
    if values[0] == values[1]:
        return f"{label:<12} {values[0]}"
    return f"{label:<12} " + "; ".join(f"{each.name}: {value}" for each, value in zip(outcomes, values))


def describe(options) -> str:
    beams = f"beam search with {options.beam_size} beams, length penalty {options.length_penalty:g}"
    return beams if options.beam_size > 1 else "greedy"


def format_scores(outcomes: list[Outcome], differences: dict) -> str:
    """The table of scores and differences, and the count of pictures."""
    a, b = (outcome.name for outcome in outcomes)
    difference = f"{b} - {a}"
    widths = [max(8, len(name)) for name in (a, b, difference)]
    lines = [f"{'score':<12} {a:>{widths[0]}}  {b:>{widths[1]}}  {difference:>{widths[2]}}  its 95% interval"]
    for name, value in differences["scores"].items():
        scores = [f"{outcome.scores.mean[name]:.4f}".rjust(width) for outcome, width in zip(outcomes, widths)]
        gain = f"{value['difference']:+.4f}".rjust(widths[2])
        interval = f"{value['low']:+.4f} to {value['high']:+.4f}"
        lines.append(f"{name:<12} {scores[0]}  {scores[1]}  {gain}  {interval}  {verdict(b, value)}")
    if any(line.endswith("unclear") for line in lines):
        lines.append("unclear      the interval holds 0: on other pictures the difference may be the other way round")
    counts, pictures = differences["pictures_by_cider_d_of_b"], len(outcomes[0].captions)
    by_picture = (
        f"by picture   CIDEr-D of {b} is higher on {counts['higher']}, equal on {counts['equal']} and lower on "
        f"{counts['lower']} of {pictures} pictures; {differences['equal_captions']} captions are the same"
    )
    return "\n".join([*lines, "", by_picture])


def verdict(name: str, value: dict) -> str:
    if value["low"] == value["high"] == 0:
        return "equal"
    return f"{name} higher" if value["low"] > 0 else f"{name} lower" if value["high"] < 0 else "unclear"


def format_captions(outcomes: list[Outcome]) -> str:
    """Each side's captions apart from their scores, the collapse alarm, and the signatures."""
    width = max(len(outcome.name) for outcome in outcomes)
    rows = []
    for each in outcomes:
        measures = each.record["collapse"]
        rows += [
            ("exact", each, f"{each.record['exact']} of {measures['pictures']} captions equal a reference"),
            ("captions", each, format_collapse(measures).removeprefix("captions: ")),
            *(("warning", each, warning) for warning in each.record["warnings"]),
            ("signature", each, each.record["signature"]),
        ]
    rows.sort(key=lambda row: ("exact", "captions", "warning", "signature").index(row[0]))
    return "\n".join([*(f"{label:<12} {each.name:<{width}}  {text}" for label, each, text in rows), ""])


def format_costs(outcomes: list[Outcome], costs: list[dict], setup: dict) -> str:
    """The table of costs with B's as a multiple of A's, and what they were measured on."""
    from captioner.ensemble import members

    a, b = (outcome.name for outcome in outcomes)
    rows = [["cost", a, b, f"{b} / {a}"]]
    for label, key, scale in (
        ("parameters, million", "parameters", 1e6),
        ("weights on disk, MB", "weights_bytes", 1e6),
        ("speed, pictures/s", "pictures_per_second", 1),
        ("peak memory, MB", "peak_memory_bytes", 1e6),
    ):
        rows.append([label, *cost_cells([cost[key] for cost in costs], scale)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if any(Path(member).is_file() for outcome in outcomes for member in members(outcome.side.path)):
        lines.append("weights      a checkpoint file holds the optimizer's state too; a best/ folder does not")
    return "\n".join([*lines, measured_on(setup)])


def cost_cells(values: list, scale: float) -> list[str]:
    """A's, B's, and B's divided by A's; of repeats the median and the range, of what is not known a dash."""
    if None in values:
        return ["-", "-", "-"]
    a, b = ([x / scale for x in (value if isinstance(value, list) else [value])] for value in values)
    return [median_and_range(a), median_and_range(b), median_and_range([y / x for x, y in zip(a, b)])]


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


def as_content(outcomes: list[Outcome], differences: dict, costs: list[dict], setup: dict) -> dict:
    """The JSON file: each side as a plain evaluation has it, but for the pictures, which hold both sides' captions."""
    sides, rows = {}, []
    for letter, each, cost in zip("AB", outcomes, costs):
        sides[letter] = {"name": each.name, **each.record, "cost": cost}
        rows.append(sides[letter].pop("images"))
    shared = ("image", "references")
    images = [
        {name: a[name] for name in shared}
        | {letter: {k: v for k, v in row.items() if k not in shared} for letter, row in (("A", a), ("B", b))}
        for a, b in zip(*rows)
    ]
    return {**sides, "differences": differences, "cost_measured_on": setup, "images": images}
