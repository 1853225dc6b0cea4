"""A cache is what was produced, whatever a kill, a full disk or another program made of its files and notes."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from basics import cache_file
from basics.cache_file import CacheFile
from basics.launched import Share

TOTAL = 6
WHOLE = b"".join(b"%05d" % number for number in range(TOTAL))


class Stopped(Exception):
    pass


def produce(done: int, stop: int = TOTAL):
    for number in range(done, TOTAL):
        if number == stop:
            raise Stopped
        asked.append(number)
        yield 1, b"%05d" % number


asked: list[int] = []


@pytest.fixture
def cache(tmp_path, monkeypatch) -> CacheFile:
    monkeypatch.setattr(cache_file, "NOTE_EVERY", -1.0)
    asked.clear()
    return CacheFile(tmp_path / "train", {"a": 1})


def make(cache: CacheFile, stop: int = TOTAL) -> dict:
    return cache.make(TOTAL, len(WHOLE), lambda done: produce(done, stop), "making", lambda: {"found": 0.5})


@pytest.fixture
def stopped(cache) -> CacheFile:
    with pytest.raises(Stopped):
        make(cache, stop=4)
    asked.clear()
    return cache


def test_a_stopped_cache_goes_on(stopped):
    assert make(stopped)["found"] == 0.5 and stopped.path.read_bytes() == WHOLE and asked == [4, 5]


@pytest.mark.parametrize("damage", ["short", "empty", "changed", "note"])
def test_a_part_that_is_not_as_its_note_says_is_begun_anew_and_said(stopped, capsys, damage):
    part, note = stopped.path.with_suffix(".part"), stopped.path.with_suffix(".part.json")
    content = part.read_bytes()
    if damage == "note":
        note.write_text(json.dumps(json.loads(note.read_text()) | {"done": 3}))
    else:
        part.write_bytes({"short": content[:7], "empty": b"", "changed": b"x" + content[1:]}[damage])
    make(stopped)
    assert stopped.path.read_bytes() == WHOLE and asked == list(range(TOTAL))
    assert part.name.removesuffix(".part") in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[]", "null", "7", "", "[" * 5000, '{"crc32": "1"}', '{"done": 1}', "\udcff"])
def test_a_note_that_is_none_is_named_and_the_cache_made_anew(cache, capsys, text):
    make(cache)
    for suffix in (".json", ".part.json"):
        cache.path.with_suffix(suffix).write_bytes(text.encode(errors="surrogateescape"))
    cache.path.with_suffix(".part").write_bytes(WHOLE[:7])
    asked.clear()
    assert make(cache)["found"] == 0.5
    assert cache.path.read_bytes() == WHOLE and asked == list(range(TOTAL))
    assert cache.path.with_suffix(".json").name in capsys.readouterr().out


def test_a_note_that_was_changed_is_not_believed(cache, capsys):
    make(cache)
    note = cache.path.with_suffix(".json")
    note.write_text(note.read_text().replace("0.5", "0.7"))
    assert make(cache)["found"] == 0.5 and "wrong checksum" in capsys.readouterr().out


def test_a_cache_from_before_notes_had_checksums_is_used(cache):
    expected = make(cache)
    note = cache.path.with_suffix(".json")
    note.write_text(json.dumps(expected))
    asked.clear()
    assert make(cache) == expected and not asked


class OfThree:
    """Of three processes one, as a thread."""

    def __init__(self, index: int, barrier: threading.Barrier, told: list):
        self.here, self.wait, self.told = Share(index, 3), barrier.wait, told

    @property
    def is_main(self) -> bool:
        return self.here.index == 0

    def from_main(self, value):
        self.wait()
        if self.is_main:
            self.told.append(value)
        self.wait()
        return self.told[-1]


def test_several_processes_make_a_part_each_of_one_file(cache):
    barrier, told = threading.Barrier(3, timeout=30), []

    def produce_some(done, stop):
        return islice(produce(done), stop - done)

    with pytest.raises(Stopped):  # one process alone, before
        make(cache, stop=4)
    asked.clear()
    with ThreadPoolExecutor(3) as pool:
        making = [
            pool.submit(cache.make_together, OfThree(index, barrier, told), TOTAL, len(WHOLE), produce_some, "making")
            for index in range(3)
        ]
    assert [thread.result() for thread in making] == 3 * [making[0].result()]
    assert cache.path.read_bytes() == WHOLE and sorted(asked) == [*range(TOTAL)]
    assert {path.name for path in cache.path.parent.iterdir()} == {
        cache.path.name,
        cache.path.with_suffix(".json").name,
    }
