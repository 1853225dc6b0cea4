"""Many cases of each kind of hostile input, and a table of what came of them.

    python tests/attack/cases.py 10000          # so many in all, by kind; exit status 1 where something was found

A case is found where it ends in anything but a result or one clear line, takes more than 10 seconds, or lets its
process grow by more than 2 GB.
"""

import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from attack.child import MB, MOST, in_child  # noqa: E402
from attack.kinds import Kind, make_kinds  # noqa: E402

LONGEST = 10  # seconds of a case
AT_ONCE = 50  # cases of a process


@dataclass
class Tried:
    """What came of the cases of a kind."""

    read: int = 0
    refused: int = 0
    found: list[str] = field(default_factory=list)


def attack(name: str, kind: Kind, count: int, folder: Path, seed: int = 0) -> Tried:
    """count cases of a kind, in processes whose memory is limited."""
    tried = Tried()
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        work = partial(cases, name, kind, numbers, seed, folder / f"{name} {start}")
        outcomes, grown = in_child(work, folder / "answer")
        tried.read += outcomes.count("read")
        tried.refused += outcomes.count("refused")
        tried.found += [text for text in outcomes if text not in ("read", "refused")]
        if grown > MOST / MB:
            tried.found.append(f"cases {numbers}: {grown:,.0f} MB")
    return tried


def cases(name: str, kind: Kind, numbers: range, seed: int, place: Path) -> list[str]:
    return [case(name, kind, number, seed, place) for number in numbers]


def case(name: str, kind: Kind, number: int, seed: int, place: Path) -> str:
    """ "read", "refused", or what should not have happened, with all that it takes to see it again."""
    folder = place / str(number)
    folder.mkdir(parents=True)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    try:
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with quiet[0], quiet[1], contextlib.chdir(folder):
            return kind(random.Random(f"{seed} {name} {number}"), folder)
    except BaseException:
        return f"seed {seed}, case {number}: {traceback.format_exc()}"
    finally:
        signal.alarm(0)


def too_long(*_) -> None:
    raise TimeoutError(f"more than {LONGEST} seconds")


def main() -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    total, seed = int((sys.argv[1:] or ["1000"])[0]), int((sys.argv[2:] or ["0"])[0])
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            kinds = make_kinds(Path(folder))
        table = {}
        for name, kind in kinds.items():
            table[name] = attack(name, kind, -(-total // len(kinds)), Path(folder) / "cases", seed)
            print("\n".join(table[name].found), file=sys.stderr, end="\n" * bool(table[name].found))
    print(f"seed {seed}\n\n| what is attacked | tried | read | refused in one line | found |\n|---|---|---|---|---|")
    for name, tried in table.items():
        count = tried.read + tried.refused + len(tried.found)
        print(f"| {name} | {count} | {tried.read} | {tried.refused} | {len(tried.found)} |")
    found = sum(len(tried.found) for tried in table.values())
    print(f"| all | {sum(t.read + t.refused + len(t.found) for t in table.values()):,} | | | {found} |")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
