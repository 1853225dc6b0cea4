"""Mutants of what is read from files: of JSON-like values and of bytes. Pure: the same random.Random, the same mutants.

path, mutant = mutate_value(rng, json.loads(text))      # another type, a huge number, a lost or a strange name
how, mutant = mutate_bytes(rng, file.read_bytes())      # flipped, cut, inserted, repeated, zeroed
"""

import random
from typing import Any

WRONG = (None, True, "", "x", "none", -1, 0, 0.5, float("nan"), float("-inf"), [], {}, [None], {"x": []}, "\ud800")
HUGE = (40_000, 100_000, 20_000_000, 10**9, 2**63, 10**400, 1e308, "9" * 5000, [10**9] * 3)
FIRST = 3  # items of a list that are places; the rest is like them

Place = tuple[Any, ...]  # the names and numbers that lead to a value


def places(value: Any, place: Place = ()) -> list[Place]:
    """Of all values in mappings and lists, the outermost first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:FIRST]) if isinstance(value, list) else ()
    return [place] + [found for name, item in inner for found in places(item, (*place, name))]


def with_value(value: Any, place: Place, new: Any) -> Any:
    """A copy with another value at the place; all beside the way there is shared."""
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = with_value(value[place[0]], place[1:], new)
    return copy


def without(value: Any, place: Place) -> Any:
    """A copy that lacks the place."""
    copy = value.copy()
    if len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = without(value[place[0]], place[1:])
    return copy


def mutate_value(rng: random.Random, value: Any, place: Place | None = None) -> tuple[Place, Any]:
    """The place that was mutated, any unless one is given, and the mutant."""
    place = rng.choice(places(value)) if place is None else place
    kind = rng.random()
    if kind < 0.1 and place:
        return place, without(value, place)
    return place, with_value(value, place, rng.choice(WRONG if kind < 0.55 else HUGE))


def mutate_bytes(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    """What was done and the mutant, which differs from the content."""
    how = rng.choice((flip, flip, cut, insert, repeat, zero)) if content else insert
    mutant = how(rng, content)
    return (how.__name__, mutant) if mutant != content else ("flip", flip(rng, content))


def flip(rng: random.Random, content: bytes) -> bytes:
    """Another value in one byte, or one bit."""
    place, change = rng.randrange(len(content)), rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    return content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def insert(rng: random.Random, content: bytes) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + rng.randbytes(rng.randint(1, 8)) + content[place:]


def repeat(rng: random.Random, content: bytes) -> bytes:
    """A part comes twice."""
    start = rng.randrange(len(content))
    end = rng.randint(start + 1, min(len(content), start + 1000))
    return content[:end] + content[start:]


def zero(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice((1, 16, 512)))
    return content[:start] + bytes(end - start) + content[end:]
