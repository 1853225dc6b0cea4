"""What prepare_dataset.py says about a dataset: counts, and what should make its owner look twice."""

from pathlib import Path

from basics.paths import shown
from basics.settings import Settings
from sources.kinds import Kind
from sources.prepared import PreparedData
from sources.shards.samples import ShardData
from sources.splits import SPLITS, duplicates


def data_report(
    data: PreparedData, hashes: dict[str, str], bad: dict[str, str], kind: Kind, settings: Settings
) -> dict:
    """Plain numbers; hashes and bad as prepare.check_images() gives them."""
    split_of = {name: split for split, names in data.splits.items() for name in names}
    return {
        **kind.count(data, settings),
        "splits": {split: len(names) for split, names in data.splits.items()},
        "bad_images": len(bad),
        "duplicates_across_splits": duplicates(hashes, split_of),
    }


def shard_report(data: ShardData, bad: dict[str, str], kind: Kind, settings: Settings) -> dict:
    """The same of shards, whose pictures nobody compares: they may be millions."""
    return {
        **kind.count(data, settings),
        "splits": {split: len(data.split(split)) for split in SPLITS},
        "bad_images": len(bad),
    }


def format_report(report: dict, source: str, notes: list[str], kind: Kind, data_path: Path) -> str:
    """The report as a person reads it; source and notes are of what it was made from."""
    splits = ", ".join(f"{split} {count:,}" for split, count in report["splits"].items())
    lines = [
        f"data         {source} -> {data_path}",
        f"images       {report['images']:,}: {splits}",
        *kind.lines(report),
        f"bad images   {report['bad_images']:,} missing or unreadable"
        + (f", left out and listed in {data_path / 'bad_images.txt'}" if report["bad_images"] else ""),
    ]
    if (twins := report.get("duplicates_across_splits")) is not None:
        lines.append(
            f"duplicates   {len(twins):,} pictures stand in more than one split"
            + (f", for example {' and '.join(map(shown, twins[0][:2]))}" if twins else "")
        )
    return "\n".join(lines + [f"note         {note}" for note in notes])
