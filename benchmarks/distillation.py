"""What distillation buys: one student alone and with each kind of it, several seeds each, beside its teacher.

    python -m benchmarks.distillation --raw-dir PATH --encoder FOLDER_OF_EFFICIENTNET_LITE0 --teacher TEACHER
    python -m benchmarks.distillation ... --kinds alone logits --strong ANOTHER_TEACHER --weak ANOTHER_TEACHER

Each run is train.py with --preset flickr8k-distill and the flags of its kind, in --checkpoint-dir/<kind>-<seed>. What
is there and finished is not run again, and a run that was stopped goes on: another teacher, encoder or flag needs
another --checkpoint-dir. The table has CIDEr-D and BLEU-4 of the dev split (beam 3) and the training time without the
caches, as a multiple of that of the student alone with the same seed. Then --teacher and the best of its students stand
side by side: captions, scores, parameters, bytes on disk, pictures a second, peak memory.
"""

import json
import statistics
import sys
from pathlib import Path

import evaluate
import train
from basics.errors import UserError, run_script
from benchmarks.side_by_side import command, make_parser, markdown, report, set_up

NO_CAPTIONS, HALF = ["--distill-captions", "0"], ["--distill-captions", "0.5"]
KINDS = {  # what the student learns from, and the flags that make it so
    "alone": ("no teacher", ["--distill", "none"]),
    "momentum": ("its own moving average", ["--distill", "momentum", *NO_CAPTIONS]),
    "logits": ("the teacher's predictions", ["--distill", "teacher", *NO_CAPTIONS]),
    "captions": ("half of the captions the teacher's", ["--distill", "teacher", "--distill-alpha", "0", *HALF]),
    "mix": ("its predictions and its captions", ["--distill", "teacher", *HALF]),
    "features": (
        "its image tokens, through hooks",
        [
            "--distill",
            "teacher",
            "--distill-alpha",
            "0",
            *NO_CAPTIONS,
            "--distill-features",
            "projection=git.visual_projection",
        ],
    ),
    "strong": ("mix, from the strong teacher", ["--distill", "teacher", *HALF]),
    "weak": ("mix, from the weak teacher", ["--distill", "teacher", *HALF]),
}
WITH_TEACHER = ("logits", "captions", "mix", "features")  # with --teacher, not another one


def run(kind: str, seed: int, arguments) -> None:
    """One run to its end. Raises UserError where it was stopped."""
    name, parent = f"{kind}-{seed}", Path(arguments.checkpoint_dir)
    if (parent / name / "evaluation.json").is_file():
        return
    teacher = {"strong": arguments.strong, "weak": arguments.weak}.get(kind, arguments.teacher)
    flags = ["--preset", "flickr8k-distill", *KINDS[kind][1], "--raw-dir", arguments.raw_dir, "--seed", str(seed)]
    flags += ["--encoder-model-name", arguments.encoder, "--teacher-model-name", teacher, "--run-name", name]
    flags += ["--checkpoint-dir", str(parent), *arguments.flags]
    if list((parent / name).glob("checkpoint_step_*.pt")):
        flags += ["--resume-checkpoint-path", "latest"]
    print(f"{name}: python train.py {' '.join(flags)}", file=sys.stderr)
    with set_up():
        train.main(flags)
    if not (parent / name / "evaluation.json").is_file():
        raise UserError(f"the run {name} was stopped; the same command goes on with it")


def outcome(kind: str, seed: int, parent: Path) -> dict:
    """Scores of best/ on dev, and the seconds of training."""
    folder = parent / f"{kind}-{seed}"
    result = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    history = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "kind": kind,
        "seed": seed,
        "cider": result["scores"]["CIDEr-D"]["score"],
        "bleu": result["scores"]["BLEU-4"]["score"],
        "distinct": result["collapse"]["distinct"],
        "seconds": sum(record["seconds"] for record in history),
    }


def across(values: list[float], form: str = ".3f") -> str:
    """Mean (smallest to largest)."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


def summary(rows: list[dict], kinds: list[str]) -> str:
    """Markdown: a line a kind, its gain over the student alone seed by seed."""
    alone = {row["seed"]: row for row in rows if row["kind"] == "alone"}
    lines = []
    for kind in kinds:
        own = [row for row in rows if row["kind"] == kind]
        twins = [row for row in own if row["seed"] in alone and kind != "alone"]
        lines.append(
            [
                kind,
                KINDS[kind][0],
                across([row["cider"] for row in own]),
                across([row["bleu"] for row in own]),
                across([row["distinct"] for row in own], ".0%"),
                across([row["cider"] - alone[row["seed"]]["cider"] for row in twins], "+.3f") if twins else "",
                across([row["seconds"] / alone[row["seed"]]["seconds"] for row in twins], ".2f") if twins else "",
            ]
        )
    head = ["", "learns from", "CIDEr-D", "BLEU-4", "distinct", "gain in CIDEr-D, seed by seed", "training time"]
    return markdown(head, lines)


def main(argv: list[str]) -> None:
    parser = make_parser("distillation", __doc__, repeats=None)
    parser.add_argument("--raw-dir", required=True, help="Flickr8k as downloaded")
    parser.add_argument("--encoder", required=True, help="the student's encoder, a folder or Hub id")
    parser.add_argument("--teacher", required=True, help="TEACHER_MODEL_NAME of all kinds but strong and weak")
    parser.add_argument("--strong", help="another teacher, for the kind strong")
    parser.add_argument("--weak", help="another teacher, for the kind weak")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["alone", "momentum", "logits", "captions", "mix"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--checkpoint-dir", default="checkpoints/distillation", help="where the runs are kept")
    parser.add_argument("--flags", nargs="...", default=[], help="what follows goes to train.py, for all runs alike")
    arguments = parser.parse_args(argv)
    for kind in ("strong", "weak"):
        if kind in arguments.kinds and not getattr(arguments, kind):
            raise UserError(f"the kind {kind} needs --{kind}, a teacher of its own")
    rows = []
    for seed in arguments.seeds:
        for kind in arguments.kinds:
            run(kind, seed, arguments)
            rows.append(outcome(kind, seed, Path(arguments.checkpoint_dir)))
    text = summary(rows, arguments.kinds)
    report(
        rows,
        f"{text}\n\nMean (smallest to largest) over seeds {arguments.seeds}.",
        command("distillation", argv),
        arguments.output,
    )
    if taught := [row for row in rows if row["kind"] in WITH_TEACHER]:
        best = max(taught, key=lambda row: row["cider"])
        student = Path(arguments.checkpoint_dir) / f"{best['kind']}-{best['seed']}" / "best"
        try:
            evaluate.main(["--compare", arguments.teacher, str(student)])
        except UserError as error:  # a teacher of captions only
            print(f"not compared: {error}")


if __name__ == "__main__":
    run_script(main)
