"""What is said of classes: how many pictures each has, and what should make their owner look twice."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable

from basics.paths import shown, shown_short
from sources.prepared import AnyData, PreparedData
from sources.splits import SPLITS, duplicates

LONG_TAIL = 10  # times as many pictures as the smallest class has
MOST_LISTED = 20  # classes; of more, the ENDS largest and smallest
ENDS = 5
BAR_OF_CLASS = 24  # characters of the longest

PerClass = dict[str, dict[str, int]]  # pictures of each class in each split


def count_classes(data: AnyData) -> dict:
    counts = {split: Counter(data.split(split).captions) for split in SPLITS}
    labels = sorted({label for count in counts.values() for label in count})
    per_class = {label: {split: counts[split][label] for split in SPLITS} for label in labels}
    return {"images": sum(count.total() for count in counts.values()), "pictures_of_class": per_class}


def class_lines(per_class: PerClass) -> list[str]:
    """The classes from the one with the most training pictures down, with a bar each."""
    ordered = sorted(per_class, key=lambda label: (-per_class[label]["train"], label))
    listed = ordered if len(ordered) <= MOST_LISTED else [*ordered[:ENDS], *ordered[-ENDS:]]
    width = max(len(shown_short(label)) for label in listed)
    most = max(per_class[ordered[0]]["train"], 1)
    lines = [f"classes      {len(ordered):,}; pictures of each in {', '.join(SPLITS)}"]
    for label in listed:
        counts = " ".join(f"{per_class[label][split]:>7,}" for split in SPLITS)
        bar = "#" * round(BAR_OF_CLASS * per_class[label]["train"] / most)
        lines.append(f"    {shown_short(label):<{width}} {counts}  {bar}".rstrip())
    if len(listed) < len(ordered):
        lines.insert(1 + ENDS, f"    ... {len(ordered) - len(listed):,} more")
    return lines


def class_notes(data: AnyData, hashes: dict[str, str]) -> list[str]:
    per_class: PerClass = count_classes(data)["pictures_of_class"]
    unlearned = [label for label, counts in per_class.items() if not counts["train"]]
    unseen = [label for label, counts in per_class.items() if counts["train"] and not counts["val"]]
    notes = []
    if unlearned:
        notes.append(f"{len(unlearned):,} classes have no training pictures and cannot be learned: {some(unlearned)}")
    if unseen:
        notes.append(f"{len(unseen):,} classes have no validation pictures: {some(unseen)}")
    return [*notes, *tail_notes(per_class), *alike_notes(per_class), *twin_notes(data, hashes)]


def tail_notes(per_class: PerClass) -> list[str]:
    sizes = {label: counts["train"] for label, counts in per_class.items() if counts["train"]}
    most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[most] <= LONG_TAIL * sizes[least]:
        return []
    return [
        f"a long tail: {shown(most)} has {sizes[most]:,} training pictures, {shown(least)} {sizes[least]:,}; look at "
        "each class's score, not at accuracy alone"
    ]


def alike_notes(per_class: PerClass) -> list[str]:
    alike = defaultdict(list)
    for label in per_class:
        folded = unicodedata.normalize("NFKC", label).casefold()
        alike[re.sub(r"[\s_-]+", "", folded)].append(label)
    return [
        f"{', '.join(repr(shown(label)) for label in labels)} differ only by case or spaces; give one name to "
        "what is one class"
        for labels in alike.values()
        if len(labels) > 1
    ]


def twin_notes(data: AnyData, hashes: dict[str, str]) -> list[str]:
    """The very same file under two classes; of shards nobody compares the pictures."""
    if not isinstance(data, PreparedData):
        return []
    twins = duplicates(hashes, {name: labels[0] for name, labels in data.captions.items()})
    if not twins:
        return []
    return [
        f"{len(twins):,} pictures stand under more than one class, for example "
        f"{' and '.join(map(shown, twins[0][:2]))}; keep one of them"
    ]


def some(labels: Iterable[str]) -> str:
    names = [shown(label) for label in labels]
    return ", ".join(names[:ENDS]) + (f" and {len(names) - ENDS:,} more" if len(names) > ENDS else "")
