"""SIGKILLs at random moments: of preparing, caching, training, self-critical training and saving, again and again.

    python tests/attack/kills.py 100        # so many kills; a table by what was going on, and whether all is whole

After each kill what lies on the disk is loaded: the data, every checkpoint, best/. The killed run is then started as a
user would, with `--resume-checkpoint-path latest` once it has a checkpoint, and where it ends its weights are those of
a run that nobody disturbed.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
os.environ["OMP_NUM_THREADS"] = "1"

import finished_run  # noqa: E402
from forks import Forks  # noqa: E402
from tiny import TINY, flags, load_weights, same_weights, save_tiny_vit  # noqa: E402

from basics.checkpoint_file import STEP_FILE, numbered, read_checkpoint  # noqa: E402
from captioner.folder import load_captioner  # noqa: E402
from sources.prepared import is_prepared, read_prepared  # noqa: E402

CACHED = {"CACHE_FEATURES": "true", "ENCODER_TRAINABLE": "none", "AUGMENT_VIEWS": 60}  # a second of encoding
RUN = {**finished_run.RUN, **CACHED, "NUM_EPOCHS": 3}


class KilledRuns:
    """Runs of one recipe, killed until one of them comes to its end."""

    def __init__(self, folder: Path, forks: Forks, rng: random.Random):
        self.folder, self.forks, self.rng = folder, forks, rng
        self.flags = flags(**{**TINY, **RUN, "ENCODER_MODEL_NAME": str(save_tiny_vit(folder / "vit"))})
        self.weights = self.to_its_end(self.fresh("undisturbed"))
        started = time.monotonic()
        assert same_weights(self.to_its_end(self.fresh("again")), self.weights)
        self.seconds = time.monotonic() - started
        self.kills: Counter = Counter()

    def fresh(self, name: str) -> Path:
        (self.folder / name).mkdir()
        return self.folder / name

    def to_its_end(self, folder: Path) -> dict:
        process = self.start(folder)
        assert process.wait() == 0, process.printed()
        return load_weights(numbered(folder / "checkpoints/a", STEP_FILE)[-1])

    def start(self, folder: Path):
        resume = ["--resume-checkpoint-path", "latest"] if numbered(folder / "checkpoints/a", STEP_FILE) else []
        return self.forks.start([*self.flags, *resume], folder)

    def kill_until(self, total: int) -> None:
        """One run after the other, each killed at most 10 times and then left to its end."""
        while self.kills.total() < total:
            folder = self.fresh(f"after {self.kills.total()} kills, {time.monotonic_ns()}")
            for _ in range(min(10, total - self.kills.total())):
                process = self.start(folder)
                time.sleep(self.rng.random() ** 3 * 0.8 * self.seconds)
                process.send_signal(signal.SIGKILL)
                if process.wait() == 0:
                    break  # it had come to its end
                self.kills[going_on(folder)] += 1
                check_whole(folder)
            if not finished(folder):
                assert same_weights(self.to_its_end(folder), self.weights), folder
            check_whole(folder)


def going_on(folder: Path) -> str:
    """What the killed process was at, by what it has left."""
    run, data = folder / "checkpoints/a", folder / "data/shapes"
    if [*folder.rglob("*.tmp")]:
        return "writing a file or folder"
    if not is_prepared(data):
        return "preparing"
    if [*data.glob("features/*.part")]:
        return "caching features"
    steps = numbered(run, STEP_FILE)
    if not steps:
        return "before the first checkpoint"
    epoch = read_checkpoint(steps[-1])["epoch"]
    return "cross-entropy training" if epoch < RUN["NUM_EPOCHS"] else "self-critical training"


def check_whole(folder: Path) -> None:
    """All that counts as made loads; raises otherwise."""
    if is_prepared(folder / "data/shapes"):
        read_prepared(folder / "data/shapes")
    for path in (folder / "checkpoints/a").glob("*.pt"):
        read_checkpoint(path)
    if (folder / "checkpoints/a/best").exists():
        load_captioner(folder / "checkpoints/a/best")


def finished(folder: Path) -> bool:
    return (folder / "checkpoints/a/evaluation.json").exists()


def main() -> None:
    total, seed = int((sys.argv[1:] or ["100"])[0]), int((sys.argv[2:] or [str(time.time_ns() % 10**6)])[0])
    with tempfile.TemporaryDirectory() as folder, Forks() as forks:
        runs = KilledRuns(Path(folder), forks, random.Random(seed))
        runs.kill_until(total)
    print(f"seed {seed}; an undisturbed run takes {runs.seconds:.1f} s\n")
    print("| killed while | kills | damaged or other weights |\n|---|---|---|")
    for name, count in sorted(runs.kills.items()):
        print(f"| {name} | {count} | 0 |")


if __name__ == "__main__":
    main()
