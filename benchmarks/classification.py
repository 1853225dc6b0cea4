"""What a teacher gives a small classifier: better teachers, teachers of another architecture, speed and memory gained.

    python -m benchmarks.classification --raw-dir CIFAR10 --strong EFFICIENTNET_LITE2 --other VIT --out FOLDER
    python -m benchmarks.classification ... --split val     # while settings are chosen: not on the test split
    python -m benchmarks.classification ... --only cnn-alone cnn-strong --seeds 42

Teachers are a CNN fine-tuned ("strong"), the same one with its head alone trained ("weak") and a ViT fine-tuned
("other"); students are a small CNN and a small ViT from nothing, each alone and with the teachers of TAUGHT_BY, with
each seed. Each run is train.py with one thread, two at a time where there are two cores, in --out/runs/<name>. What is
there and finished is not run again, and a run that was stopped goes on: other settings need another --out. Then all
stand in one table and plot as compare.py has them, and what they say of the three questions.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

from basics.errors import UserError, run_script
from basics.timing import number
from benchmarks.side_by_side import ROOT, command, make_parser, markdown, report
from compare import export_to_onnx
from scoring.comparison_groups import read_groups
from scoring.label_comparison import GroupOutcome, score_changes
from scoring.label_comparison_report import difference, latency_percentiles, mean_and_range, show_label_comparison
from scoring.labels import TOP_1
from scoring.request import Request

BASE = {
    "TASK": "classify",
    "DATASET": "cifar10",
    "PRECISION": "bf16",
    "BATCH_SIZE": 128,
    "LR_SCHEDULE": "cosine",
    "WARMUP_STEPS": 0.05,
    "BEST_METRIC": "top1",
    "NUM_SAMPLE_CAPTIONS": 0,
    "KEEP_LAST_N": 1,
    "DEVICE": "cpu",
}
FINE_TUNED = {"AUGMENT": True, "AUGMENT_MIRROR": True, "BATCH_SIZE": 64, "LABEL_SMOOTHING": 0.1, "NUM_EPOCHS": 3}
TEACHERS = {
    # in float32, as depthwise convolutions of 16 bits are slower backwards on CPUs
    "strong": {
        **FINE_TUNED,
        "PRECISION": "fp32",
        "ENCODER_IMAGE_SIZE": 64,
        "LEARNING_RATE": 2e-3,
        "ENCODER_LEARNING_RATE": 1e-3,
    },
    "weak": {
        "ENCODER_IMAGE_SIZE": 64,
        "ENCODER_TRAINABLE": "none",
        "CACHE_FEATURES": True,
        "LEARNING_RATE": 3e-3,
        "NUM_EPOCHS": 10,
    },
    "other": {
        **FINE_TUNED,
        "ENCODER_IMAGE_SIZE": 56,
        "ENCODER_TRAINABLE": 6,
        "LEARNING_RATE": 1e-3,
        "ENCODER_LEARNING_RATE": 1e-4,
    },
}
STUDENTS = {
    "cnn": {
        "ENCODER_MODEL_NAME": "scratch-cnn",
        "SCRATCH_IMAGE_SIZE": 32,
        "SCRATCH_PATCH_SIZE": 2,
        "SCRATCH_EMBED_DIM": 256,
        "SCRATCH_LAYERS": 4,
        "LEARNING_RATE": 2e-3,
    },
    "vit": {
        "ENCODER_MODEL_NAME": "scratch",
        "SCRATCH_IMAGE_SIZE": 32,
        "SCRATCH_PATCH_SIZE": 4,
        "SCRATCH_EMBED_DIM": 128,
        "SCRATCH_LAYERS": 4,
        "SCRATCH_HEADS": 4,
        "LEARNING_RATE": 1e-3,
    },
}
STUDENT = {"NUM_EPOCHS": 12, "WEIGHT_DECAY": 0.05}  # no crops: what a teacher says is made once for all seeds
TAUGHT = {"DISTILL": "teacher", "DISTILL_ALPHA": 0.9, "DISTILL_TEMPERATURE": 4.0}
ALONE = {"DISTILL": "none"}
TAUGHT_BY = {"cnn": ("weak", "strong", "other"), "vit": ("strong", "other")}
KIN = {"weak": "cnn", "strong": "cnn", "other": "vit"}  # whose architecture a teacher has
AT_ONCE = 2  # runs, where there are as many cores


@dataclass(frozen=True)
class Job:
    """A run of train.py; the group's name, and its seed where it has several."""

    group: str
    seed: int
    settings: tuple[tuple[str, object], ...]

    @property
    def name(self) -> str:
        return f"{self.group}-{self.seed}"


def teacher_jobs(seed: int, models: dict[str, str]) -> list[Job]:
    return [
        Job(name, seed, tuple({**BASE, **settings, "ENCODER_MODEL_NAME": models[name], "SEED": seed}.items()))
        for name, settings in TEACHERS.items()
    ]


def student_jobs(seeds: Iterable[int], best: dict[str, Path]) -> list[Job]:
    """Seed by seed, so that what is stopped early has whole comparisons; best: the teachers' folders."""
    jobs = []
    for seed in seeds:
        for student, own in STUDENTS.items():
            for teacher in (None, *TAUGHT_BY[student]):
                how = ALONE if teacher is None else {**TAUGHT, "TEACHER_MODEL_NAME": best[teacher]}
                settings = {**BASE, **STUDENT, **own, **how, "SEED": seed}
                jobs.append(Job(f"{student}-{teacher or 'alone'}", seed, tuple(settings.items())))
    return jobs


def train(job: Job, out: Path, raw_dir: str, more: list[str]) -> None:
    """The run to its end, what it prints to --out/logs; more flags win. Raises UserError with its last words."""
    folder = out / "runs" / job.name
    if finished(folder):
        return
    settings = {**dict(job.settings), "RAW_DIR": raw_dir, "DATA_DIR": out / "data", "CHECKPOINT_DIR": out / "runs"}
    if list(folder.glob("checkpoint_*.pt")):
        settings["RESUME_CHECKPOINT_PATH"] = "latest"
    settings["RUN_NAME"] = job.name
    flags = [f"--{name.lower().replace('_', '-')}={value}" for name, value in settings.items()] + more
    print(f"training     {job.name}", file=sys.stderr, flush=True)
    log = out / "logs" / f"{job.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, "train.py", *flags], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    if result.returncode or not finished(folder):
        words = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
        raise UserError(f"the run {job.name} ended early: {words[-1].removeprefix('error: ')} (all of it: {log})")


def finished(folder: Path) -> bool:
    return (folder / "best").is_dir() and (folder / "evaluation.json").is_file()


def train_all(jobs: list[Job], out: Path, raw_dir: str, more: list[str]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(min(AT_ONCE, cores)) as pool:
        list(pool.map(partial(train, out=out, raw_dir=raw_dir, more=more), jobs))


def group_texts(jobs: list[Job], runs: Path) -> list[str]:
    """What compare.py would be asked: NAME=path,path, a path a seed, of the runs that are there."""
    paths: dict[str, list[str]] = {}
    for job in jobs:
        if finished(runs / job.name):
            paths.setdefault(job.group, []).append(str(runs / job.name / "best"))
    return [f"{group}={','.join(places)}" for group, places in paths.items()]


def teaching(outcomes: dict[str, GroupOutcome], student: str) -> list[list[str]]:
    """A row for each teacher of a student, the worst teacher first: what the student gains over itself alone."""
    alone, rows = outcomes[f"{student}-alone"], []
    taught = [t for t in TAUGHT_BY[student] if f"{student}-{t}" in outcomes and t in outcomes]
    for teacher in sorted(taught, key=lambda name: top(outcomes[name])):
        own = outcomes[f"{student}-{teacher}"]
        kin = "the same" if KIN[teacher] == student else "another"
        gain = score_changes(alone.scores, own.scores)[TOP_1]
        seeds = [a - b for a, b in zip(own.of_seeds(TOP_1), alone.of_seeds(TOP_1))]
        better = f"{sum(each > 0 for each in seeds)} of {len(seeds)}"
        scores = [f"{top(outcomes[teacher]):.4f}", mean_and_range(own.of_seeds(TOP_1), ".4f")]
        rows.append([student, teacher, kin, *scores, difference(gain), better])
    return rows


def top(outcome: GroupOutcome) -> float:
    return mean(outcome.of_seeds(TOP_1))


def ranks(outcomes: dict[str, GroupOutcome], rows: list[list[str]]) -> str:
    """(1) whether the student of the better teacher is the better one, for each two neighbours of these rows."""
    lines = []
    for worse, better in zip(rows, rows[1:]):
        student = better[0]
        a, b = (outcomes[f"{student}-{row[1]}"].scores for row in (worse, better))
        change = difference(score_changes(a, b)[TOP_1])
        lines.append(f"{student:<12} of {better[1]} minus of {worse[1]}: {change}")
    return "\n".join(lines)


def gained(outcomes: dict[str, GroupOutcome], costs: list[dict]) -> list[list[str]]:
    """A row for each student with a teacher in each form: the teacher's costs as a multiple of the student's."""
    rows = []
    for large in costs:
        for small in (row for row in costs if row["form"] == large["form"]):
            student, _, teacher = small["group"].partition("-")
            if teacher == large["group"]:
                lost = f"{top(outcomes[small['group']]) - top(outcomes[teacher]):+.4f}"
                rows.append([student, teacher, large["form"], lost, *multiples(large, small)])
    return rows


def multiples(large: dict, small: dict) -> list[str]:
    """Of parameters, disk, arithmetic, latency, speed, memory."""
    return [
        *(times(large[name], small[name]) for name in ("parameters", "weights_bytes", "flops")),
        times(latency_percentiles(large)[0], latency_percentiles(small)[0]),
        times(median(small["pictures_per_second"]), median(large["pictures_per_second"])),
        times(large["peak_memory_bytes"], small["peak_memory_bytes"]),
    ]


def times(a: float | None, b: float | None) -> str:
    return f"{number(a / b)} x" if a and b else "-"


def answers_to_questions(outcomes: dict[str, GroupOutcome], costs: list[dict]) -> str:
    """What the runs that are there say of the three questions."""
    rows = {student: teaching(outcomes, student) for student in STUDENTS if f"{student}-alone" in outcomes}
    head = ["student", "teacher", "architecture", "teacher's top-1", "its top-1", "gain over alone", "seeds better"]
    learned = markdown(head, [row for each in rows.values() for row in each])
    order = "\n".join(filter(None, (ranks(outcomes, each) for each in rows.values())))
    head = [
        "student",
        "teacher",
        "form",
        "top-1",
        "parameters",
        "disk",
        "arithmetic",
        "latency",
        "pictures/s",
        "memory",
    ]
    return (
        f"(1) A better teacher, a better student?  (2) Across architectures?\n\n{learned}\n\n{order}\n"
        "gain         of the mean over seeds, with its 95% interval over pictures; seeds better: than alone"
        "\n\n"
        "(3) What is gained in speed and memory: how many times as much the teacher takes, and what is lost in top-1"
        "\n\n"
        f"{markdown(head, gained(outcomes, costs))}"
    )


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = make_parser("classification", __doc__, repeats=None)
    parser.add_argument("--raw-dir", required=True, help="CIFAR-10, as class folders or as downloaded")
    parser.add_argument("--strong", required=True, help="the CNN that is fine-tuned: folder or Hub id")
    parser.add_argument("--other", required=True, help="the ViT that is fine-tuned: folder or Hub id")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs, the table and the plot")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="weak, cnn-alone, vit-strong ...; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44], help="of the students")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="what is scored")
    parser.add_argument("--onnx", action="store_true", help="measure exports to ONNX too")
    parser.add_argument("--flags", nargs="...", default=[], help="what follows goes to train.py, for all runs alike")
    return parser.parse_args(argv)


def chosen(jobs: list[Job], only: list[str] | None) -> list[Job]:
    """Raises UserError for a group that there is not."""
    groups = {job.group for job in jobs}
    if strange := {*(only or ())} - groups:
        raise UserError(f"--only {min(strange)}: there is no such group; expected {', '.join(sorted(groups))}")
    return [job for job in jobs if only is None or job.group in only]


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    out, raw_dir = arguments.out.expanduser().resolve(), str(Path(arguments.raw_dir).expanduser().resolve())
    models = {"strong": arguments.strong, "weak": arguments.strong, "other": arguments.other}
    models = {name: str(Path(place).resolve()) if Path(place).exists() else place for name, place in models.items()}
    teachers = teacher_jobs(arguments.seeds[0], models)
    best = {job.group: out / "runs" / job.name / "best" for job in teachers}
    students = student_jobs(arguments.seeds, best)
    wanted = chosen([*students, *teachers], arguments.only)
    taught_by = {job.group.partition("-")[2] for job in wanted}
    train_all([job for job in teachers if job in wanted or job.group in taught_by], out, raw_dir, arguments.flags)
    train_all([job for job in students if job in wanted], out, raw_dir, arguments.flags)
    texts = group_texts([*students, *teachers], out / "runs")
    groups = read_groups(texts)
    held = {each.name: str(best[each.name.partition("-")[2]]) for each in groups if each.name.partition("-")[2] in best}
    request = Request(split=arguments.split, num_samples=0, output=str(out / f"{arguments.split}.json"), device="cpu")
    plot, export = str(out / f"{arguments.split}.png"), export_to_onnx if arguments.onnx else None
    comparison, costs = show_label_comparison(groups, held, request, plot, export)
    outcomes = {each.name: each for each in comparison.outcomes}
    rows = [{"group": name, "top-1": each.of_seeds(TOP_1)} for name, each in outcomes.items()]
    print()
    report(rows, answers_to_questions(outcomes, costs), command("classification", argv), arguments.output)


if __name__ == "__main__":
    run_script(main)
