"""Token ids in a file: the batches that ids in memory make, encoded once, never of another vocabulary or caption."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from tiny import CAPTIONS, tiny_settings, tiny_tokenizer
from transformers import ViTImageProcessor

from basics import cache_file
from basics.mapped import Held, Mapped
from dataset import ImageTextDataset, PairLoader, SplitPictures
from sources.prepared import PreparedData
from tokenizer import CaptionTokenizer, cut, train_tokenizer
from training import token_cache
from training.processes import OneProcess
from training.token_cache import cached_pairs

MORE = ["a large blue square"] * 5
LONGEST = 6


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The pictures of a split, and the settings; pieces of four rows."""
    for module in ("basics.mapped", "tokenizer"):
        monkeypatch.setattr(f"{module}.ROWS_A_PIECE", 4)
    return make(tmp_path, CAPTIONS)


def make(folder, texts, **changes):
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        Image.new("RGB", (20, 20), (40 * i, 10, 10)).save(folder / name)
    data = PreparedData({name: texts[i : i + 1 + i % 3] for i, name in enumerate(names)}, {"train": names}, folder)
    settings = tiny_settings(DATA_DIR=str(folder / "data"), MAX_SEQ_LEN=LONGEST, BATCH_SIZE=4, **changes)
    return SplitPictures(data, "train", ViTImageProcessor(size={"height": 16, "width": 16}), settings), settings


def pairs(made, tokenizer=None, processes=None, mixed_in=None):
    return cached_pairs(made[0], tokenizer or tiny_tokenizer(), made[1], processes or OneProcess(), mixed_in=mixed_in)


def rows_of(tokens):
    return [row.tolist() for row in tokens]


@pytest.fixture
def encoded(monkeypatch):
    """How many captions were encoded in each call."""
    sizes, encode_each = [], CaptionTokenizer.encode_each

    def counted(self, captions):
        sizes.append(len(captions))
        return encode_each(self, captions)

    monkeypatch.setattr(CaptionTokenizer, "encode_each", counted)
    return sizes


def batches(dataset, settings):
    return [*PairLoader(dataset, settings, 0, shuffle=True).batches(epoch=2)]


@pytest.mark.parametrize("mixed_in", [None, MORE])
def test_batches_are_those_of_ids_in_memory(made, mixed_in):
    pictures, settings = made[0], made[1].replace(DISTILL_CAPTIONS=0.5)
    dataset = pairs((pictures, settings), mixed_in=mixed_in)
    held = ImageTextDataset(pictures, tiny_tokenizer(), settings, mixed_in=mixed_in)
    assert isinstance(dataset.tokens.content, Mapped) and isinstance(held.tokens.content, Held)
    expected = [cut(tiny_tokenizer().encode(text), LONGEST) for text in held.captions]
    assert rows_of(dataset.tokens) == expected and max(map(len, expected)) == LONGEST
    for found, other in zip(batches(dataset, settings), batches(held, settings), strict=True):
        assert found.keys() == other.keys() and all(torch.equal(found[name], other[name]) for name in found)


def test_a_second_start_reads_the_file_and_encodes_nothing(made, encoded):
    first = pairs(made)
    assert sum(encoded) == len(first)
    encoded.clear()
    assert rows_of(pairs(made).tokens) == rows_of(first.tokens) and not encoded


def other_vocabulary(folder):
    return pairs(make(folder, CAPTIONS), train_tokenizer(CAPTIONS, 290, 1, lowercase=True))


def other_length(folder):
    pictures, settings = make(folder, CAPTIONS)
    return pairs((pictures, settings.replace(MAX_SEQ_LEN=LONGEST + 1)))


def other_captions(folder):
    return pairs(make(folder, CAPTIONS[::-1]))


def more_captions(folder):
    return pairs(make(folder, CAPTIONS), mixed_in=MORE)


@pytest.mark.parametrize("change", [other_vocabulary, other_length, other_captions, more_captions])
def test_another_vocabulary_length_or_caption_makes_another_file(made, tmp_path, change):
    first, second = pairs(made).tokens, change(tmp_path).tokens
    assert first.content.path != second.content.path and rows_of(first) != rows_of(second)


def test_a_stopped_build_goes_on_where_it_was(made, encoded, monkeypatch):
    tokens = pairs(made).tokens
    whole = rows_of(tokens)
    tokens.content.path.unlink()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cache_file, "NOTE_EVERY", -1.0)
        patched.setattr(token_cache, "token_ids", stopping(token_cache.token_ids, 6, KeyboardInterrupt()))
        pairs(made)
    encoded.clear()
    assert rows_of(pairs(made).tokens) == whole and sum(encoded) == len(whole) - 4


def stopping(token_ids, after, error):
    def some(*arguments):
        for number, row in enumerate(token_ids(*arguments)):
            if number == after:
                raise error
            yield row

    return some


def test_a_damaged_file_is_named_and_made_anew(made, capsys):
    tokens = pairs(made).tokens
    path, whole = tokens.content.path, rows_of(tokens)
    path.write_bytes(path.read_bytes()[:-2] + b"\1\0")
    assert rows_of(pairs(made).tokens) == whole and "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("why", ["no folder can be made", "the disk is full", "the disk fills up"])
def test_where_the_disk_takes_no_file_the_ids_are_held_in_memory_which_is_said(made, monkeypatch, capsys, why):
    pictures, settings = made
    if why == "the disk is full":
        monkeypatch.setattr(cache_file, "free_bytes", lambda _: 10)
    elif why == "the disk fills up":
        full = OSError(errno.ENOSPC, "no space left on device")
        monkeypatch.setattr(token_cache, "token_ids", stopping(token_cache.token_ids, 6, full))
    else:
        settings.data_path.mkdir(parents=True)
        (settings.data_path / "tokens").touch()
    dataset = pairs(made)
    said = capsys.readouterr().out
    assert isinstance(dataset.tokens.content, Held) and said.count("\n") == 1 and "stay in memory" in said
    assert not [*settings.data_path.glob("tokens/*.part*")]
    assert rows_of(dataset.tokens)[:1] == [cut(tiny_tokenizer().encode(CAPTIONS[0]), LONGEST)]


class OneOfTwo(OneProcess):
    """Of two processes one, as a thread."""

    def __init__(self, is_main, barrier):
        self.is_main, self.wait = is_main, barrier.wait


def test_of_several_processes_the_first_encodes_and_all_read_its_file(made, encoded):
    barrier = threading.Barrier(2, timeout=30)
    with ThreadPoolExecutor(2) as pool:
        making = [pool.submit(pairs, made, processes=OneOfTwo(is_main, barrier)) for is_main in (False, True)]
    first, second = (future.result() for future in making)
    assert first.tokens.content.path == second.tokens.content.path and sum(encoded) == len(first)
