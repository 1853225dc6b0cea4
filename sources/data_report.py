"""What prepare_dataset.py says about a dataset: counts, lengths, and what should make its owner look twice."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from sources.prepared import PreparedData
from sources.shards.samples import ShardData
from sources.splits import SPLITS

BAR = 40  # characters of the longest bar of the histogram


class EncodesCaptions(Protocol):
    """What the report needs of a tokenizer: the ids of each caption, as long as the model will see them."""

    def encode_each(self, captions: Sequence[str]) -> Iterator[list[int]]: ...


def data_report(
    data: PreparedData, hashes: dict[str, str], bad: dict[str, str], tokenizer: EncodesCaptions, max_seq_len: int
) -> dict:
    """Plain numbers; hashes and bad as prepare.check_images() gives them."""
    captions = [caption for texts in data.captions.values() for caption in texts]
    split_of = {name: split for split, names in data.splits.items() for name in names}
    return {
        **count_captions([captions], map(len, data.captions.values()), tokenizer, max_seq_len),
        "splits": {split: len(names) for split, names in data.splits.items()},
        "bad_images": len(bad),
        "duplicates_across_splits": duplicates(hashes, split_of),
    }


def shard_report(data: ShardData, bad: dict[str, str], tokenizer: EncodesCaptions, max_seq_len: int) -> dict:
    """The same of shards, whose pictures nobody compares: they may be millions."""
    splits = {split: data.split(split) for split in SPLITS}
    counts = (count for split in splits.values() for count in split.counts.tolist())
    return {
        **count_captions([split.captions for split in splits.values()], counts, tokenizer, max_seq_len),
        "splits": {name: len(split) for name, split in splits.items()},
        "bad_images": len(bad),
    }


def count_captions(
    parts: list[Sequence[str]], counts: Iterable[int], tokenizer: EncodesCaptions, max_seq_len: int
) -> dict:
    """What captions are like; counts: how many each picture has."""
    per_image = Counter(counts)
    return {
        "images": per_image.total(),
        "captions": sum(map(len, parts)),
        "captions_per_image": dict(sorted(per_image.items())),
        "words_per_caption": dict(sorted(Counter(len(text.split()) for part in parts for text in part).items())),
        "captions_cut": sum(len(ids) > max_seq_len for part in parts for ids in tokenizer.encode_each(part)),
        "max_seq_len": max_seq_len,
    }


def duplicates(hashes: dict[str, str], split_of: dict[str, str]) -> list[list[str]]:
    """Names of images with the very same file in more than one split: the model would be tested on what it learned."""
    same: dict[str, list[str]] = defaultdict(list)
    for name, digest in hashes.items():
        if name in split_of:
            same[digest].append(name)
    return [names for names in same.values() if len({split_of[name] for name in names}) > 1]


def format_report(report: dict, source: str, notes: list[str], data_path: Path) -> str:
    """The report as a person reads it; source and notes are of what it was made from."""
    per_image = ", ".join(f"{count} for {images:,}" for count, images in report["captions_per_image"].items())
    splits = ", ".join(f"{split} {count:,}" for split, count in report["splits"].items())
    lines = [
        f"data         {source} -> {data_path}",
        f"images       {report['images']:,}: {splits}",
        f"captions     {report['captions']:,}; captions an image: {per_image}",
        *histogram(report["words_per_caption"]),
        f"cut          {report['captions_cut']:,} captions exceed MAX_SEQ_LEN ({report['max_seq_len']} tokens)",
        f"bad images   {report['bad_images']:,} missing or unreadable"
        + (f", left out and listed in {data_path / 'bad_images.txt'}" if report["bad_images"] else ""),
    ]
    if (twins := report.get("duplicates_across_splits")) is not None:
        lines.append(
            f"duplicates   {len(twins):,} pictures stand in more than one split"
            + (f", for example {' and '.join(twins[0][:2])}" if twins else "")
        )
    return "\n".join(lines + [f"note         {note}" for note in notes])


def histogram(lengths: dict[int, int]) -> list[str]:
    """Words a caption, in at most twelve bins."""
    longest = max(lengths)
    width = -(-longest // 12)
    bins: Counter[int] = Counter()
    for length, count in lengths.items():
        bins[(length - 1) // width] += count
    highest, total = max(bins.values()), sum(bins.values())
    lines = []
    for i in range(min(bins), max(bins) + 1):
        label = f"{i * width + 1}-{(i + 1) * width}" if width > 1 else str(i + 1)
        bar = "#" * round(BAR * bins[i] / highest)
        lines.append(f"  {label:>7} words  {bins[i] / total:6.1%}  {bar}".rstrip())
    return lines
