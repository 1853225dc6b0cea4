"""Flickr8k.token.txt and results_20130124.token: the Flickr datasets as their makers ship them."""

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.text_files import lines_of, text_of

SPLIT_LISTS = {"train": "*trainImages.txt", "val": "*devImages.txt", "test": "*testImages.txt"}


def read_flickr_tokens(raw: RawCaptions) -> None:
    """`name.jpg#0<TAB>caption`, with lists of the splits beside it."""
    path = raw.files[0]
    for number, line in lines_of(path):
        key, tab, caption = line.partition("\t")
        if not tab:
            raise UserError(f"{path}, line {number}: expected 'name.jpg#0<TAB>caption', got {line[:60]!r}")
        raw.add(key.rpartition("#")[0] or key, caption)
    for split, pattern in SPLIT_LISTS.items():
        for split_list in sorted(path.parent.glob(pattern)):
            raw.files.append(split_list)
            raw.splits.setdefault(split, []).extend(text_of(split_list).split())
