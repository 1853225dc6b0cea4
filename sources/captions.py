"""Pictures with captions, as preparing sees them (sources/kinds.py).

prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from basics.settings import Settings
from sources.prepared import AnyData, PreparedData
from sources.raw_captions import RawCaptions
from sources.reading import read_captions
from sources.shapes import draw_shapes
from sources.splits import SPLITS

BAR = 40  # characters of the longest bar of a histogram


class EncodesCaptions(Protocol):
    """What the report needs of a tokenizer: the ids of each caption, as long as the model will see them."""

    def encode_each(self, captions: Sequence[str]) -> Iterator[list[int]]: ...


MakeTokenizer = Callable[[Sequence[str]], EncodesCaptions]


@dataclass(frozen=True)
class Captions:
    """make_tokenizer gets the training captions, and is called only when data is made; None counts no cut ones."""

    make_tokenizer: MakeTokenizer | None = None

    text_files = ("txt",)

    def read(self, raw_dir: Path, data_path: Path) -> RawCaptions:
        return read_captions(raw_dir, data_path)

    def draw(self, image_dir: Path, num_images: int, seed: int) -> dict[str, list[str]]:
        return draw_shapes(image_dir, num_images, seed)

    def problem(self, num_texts: int) -> str:
        return ""

    def refuse_useless(self, training_texts: Sequence[str]) -> None:
        pass

    def stays(self, settings: Settings) -> str:
        return f" (the vocabulary stays; delete {settings.vocab_path} and {settings.merges_path} to train it anew)"

    def count(self, data: AnyData, settings: Settings) -> dict:
        tokenizer = self.make_tokenizer and self.make_tokenizer(data.captions_of("train"))
        return count_captions(*all_captions(data), tokenizer, settings.MAX_SEQ_LEN)

    def lines(self, report: dict) -> list[str]:
        per_image = ", ".join(f"{count} for {images:,}" for count, images in report["captions_per_image"].items())
        lines = [
            f"captions     {report['captions']:,}; captions an image: {per_image}",
            *histogram(report["words_per_caption"]),
        ]
        if (cut := report["captions_cut"]) is not None:
            lines.append(f"cut          {cut:,} captions exceed MAX_SEQ_LEN ({report['max_seq_len']} tokens)")
        return lines

    def notes(self, data: AnyData, hashes: dict[str, str]) -> list[str]:
        return []

    def listed(self, data: AnyData) -> dict:
        return {}


def all_captions(data: AnyData) -> tuple[list[Sequence[str]], Iterable[int]]:
    """In parts, and how many each picture has; of a folder those in no split too."""
    if isinstance(data, PreparedData):
        return [[text for texts in data.captions.values() for text in texts]], map(len, data.captions.values())
    splits = [data.split(split) for split in SPLITS]
    return [split.captions for split in splits], (count for split in splits for count in split.counts.tolist())


def count_captions(
    parts: list[Sequence[str]], counts: Iterable[int], tokenizer: EncodesCaptions | None, max_seq_len: int
) -> dict:
    """What captions are like; counts: how many each picture has."""
    per_image = Counter(counts)
    cut = tokenizer and sum(len(ids) > max_seq_len for part in parts for ids in tokenizer.encode_each(part))
    return {
        "images": per_image.total(),
        "captions": sum(map(len, parts)),
        "captions_per_image": dict(sorted(per_image.items())),
        "words_per_caption": dict(sorted(Counter(len(text.split()) for part in parts for text in part).items())),
        "captions_cut": cut,
        "max_seq_len": max_seq_len,
    }


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
