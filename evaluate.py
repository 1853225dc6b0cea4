"""Score a captioner on a split, with 95% intervals and a signature that says when two numbers may be compared:

    python evaluate.py --checkpoint checkpoints/my-run/best --split val --beam 5 --output results.json
    python evaluate.py --checkpoint user/name --split test --data-dir PATH     # a dataset as downloaded, or prepared
    python evaluate.py --compare path/to/git checkpoints/student/best          # two side by side, GIT too: compare.py

Prints captions beside their references, the scores and the collapse alarm; --output holds every caption with its own
scores. Without --checkpoint the newest checkpoints/*/best is taken, without --data-dir the data it was trained on.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import Settings, constants
from scoring.collapse import collapse_warnings, format_collapse, measure_collapse
from scoring.extra_metrics import clip_score, java_score
from scoring.metrics import score_captions
from scoring.penn_treebank import words
from sources.images import ImageError, load_image


@dataclass
class Pictures:
    """What is evaluated: a split's pictures with their references; `left_out` could not be read."""

    split: str
    paths: list[Path]
    references: list[list[str]]
    left_out: list[str]


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python evaluate.py", description="Score a captioner.", allow_abbrev=False)
    parser.add_argument(
        "--checkpoint",
        help="best/ folder, checkpoint_*.pt file or Hub id, or several with "
        "commas: an ensemble; default: the newest best/",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="two captioners, ensembles or folders of GIT: "
        "captions, scores with intervals of their difference, and cost, side by side",
    )
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--data-dir", help="a dataset as downloaded or as prepared; default: what it was trained on")
    parser.add_argument("--beam", type=int, help="beams, 1 is greedy; default: BEAM_SIZE of the checkpoint")
    parser.add_argument("--length-penalty", type=float, help="default: LENGTH_PENALTY of the checkpoint")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures captioned at once")
    parser.add_argument("--num-samples", type=int, default=5, help="pictures whose captions are printed")
    parser.add_argument("--output", help="write all captions and scores to this JSON file")
    parser.add_argument("--meteor", action="store_true", help="METEOR too: needs Java and pip install pycocoevalcap")
    parser.add_argument("--spice", action="store_true", help="SPICE too: needs the same and downloads 385 MB")
    parser.add_argument(
        "--device", default=constants().DEVICE, help="cpu, cuda, cuda:1 or mps; default: the best there is"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def find_pictures(data_dir: str | None, split: str, settings: Settings) -> Pictures:
    """The split of a prepared folder, of a dataset as downloaded, or of what the settings name. Raises UserError."""
    from sources.prepared import is_prepared, read_prepared

    folder = Path(data_dir).expanduser() if data_dir else settings.data_path
    if not folder.is_dir():
        raise UserError(f"there is no data in {folder}; name a dataset with --data-dir")
    prepared = [path for path in (folder, folder / settings.DATASET) if is_prepared(path)]
    if prepared:
        data = read_prepared(prepared[0])
        names, captions, image_dir = data.splits[split], data.captions, data.image_dir
    else:
        names, captions, image_dir = read_raw(folder, split)
    if not names:
        raise UserError(f"the {split} split of {prepared[0] if prepared else folder} is empty; choose another --split")
    return readable(split, [image_dir / name for name in names], [captions[name] for name in names])


def read_raw(folder: Path, split: str) -> tuple[list[str], dict, Path]:
    """A dataset as downloaded; where it has no splits at all, all of it is the split that was asked for."""
    from sources.reading import read_captions

    raw = read_captions(folder, Path(constants().DATA_DIR) / "evaluated")  # archives are unpacked there
    if not raw.splits:
        return [name for name, captions in raw.captions.items() if captions], raw.captions, raw.image_dir
    if split not in raw.splits:
        raise UserError(f"{folder} has the splits {', '.join(raw.splits)}, no {split}; choose another --split")
    return [name for name in raw.splits[split] if raw.captions.get(name)], raw.captions, raw.image_dir


def readable(split: str, paths: list[Path], references: list[list[str]]) -> Pictures:
    """Leave out, and count, what is missing or damaged."""
    good, left_out = [], []
    for path, row in zip(paths, references):
        try:
            load_image(path)
            good.append((path, row))
        except ImageError as error:
            left_out.append(str(error))
    if not good:
        raise UserError(f"none of the {len(paths)} pictures can be read: {left_out[0]}")
    return Pictures(split, [path for path, _ in good], [row for _, row in good], left_out)


def spread(count: int, total: int) -> list[int]:
    """At most count numbers below total, evenly spread and always the same."""
    count = min(count, total)
    return [i * total // count for i in range(count)]


def caption_all(captioner, read: Callable, numbers: list[int], options, batch_size: int = 32) -> list:
    """(text, decoding.Caption) of pictures by number; read(numbers) gives what the model encodes."""
    from tqdm import tqdm

    found = []
    with tqdm(total=len(numbers), desc="captioning", unit=" pictures", leave=False, disable=None, delay=1) as bar:
        for start in range(0, len(numbers), batch_size):
            batch = numbers[start : start + batch_size]
            found += [row[0] for row in captioner.caption_pixels(read(batch), options)]
            bar.update(len(batch))
    return found


def evaluate_pictures(
    captioner, read: Callable, pictures: Pictures, options, precision, checkpoint, batch_size: int = 32
) -> tuple[dict, list]:
    """Caption pictures and score them -> the results with their signature, and (text, decoding.Caption) of each."""
    from basics.devices import autocast

    with autocast(captioner.model.device, precision):
        captions = caption_all(captioner, read, list(range(len(pictures.paths))), options, batch_size)
    results = score(captions, pictures.references)
    name = str(precision).removeprefix("torch.")
    return results | {"signature": signature(pictures, options, name, checkpoint_hash(checkpoint))}, captions


def score(captions: list, references: list[list[str]]) -> dict:
    """Scores with intervals of (text, decoding.Caption) pairs, collapse measures, scores of each picture."""
    texts = [text for text, _ in captions]
    scores = score_captions(texts, references)
    intervals = scores.intervals()
    exact = sum(words(text) in map(words, row) for text, row in zip(texts, references))
    return {
        "scores": {n: {"score": v, "low": intervals[n][0], "high": intervals[n][1]} for n, v in scores.mean.items()},
        "exact": exact,
        "collapse": measure_collapse(texts, [caption.finished for _, caption in captions], references),
        "per_image": {name: values.tolist() for name, values in scores.per_image.items()},
    }


def signature(pictures: Pictures, options, precision: str, checkpoint: str) -> str:
    """All that decides the numbers, in one line: only scores whose lines agree up to the checkpoint compare models."""
    rows = [[path.name, row] for path, row in zip(pictures.paths, pictures.references)]
    data = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]
    decoding = (
        "greedy" if options.beam_size == 1 else f"beam:{options.beam_size},length-penalty:{options.length_penalty:g}"
    )
    references = sum(map(len, pictures.references)) / len(pictures.references)
    return (
        f"tokenizer:ptb-3.4.1|split:{pictures.split}|images:{len(pictures.paths)}|references:{references:g}|data:{data}|"
        f"{decoding},max-len:{options.max_seq_len}|precision:{precision}|checkpoint:{checkpoint}"
    )


def checkpoint_hash(name: str | Path) -> str:
    """The first digits of the SHA-256 of the weights' file, of each one in an ensemble; a Hub id stands for itself."""
    from captioner.ensemble import members

    return ",".join(hash_of_weights(Path(member).expanduser()) for member in members(name))


def hash_of_weights(path: Path) -> str:
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        return str(path)
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]


def format_results(results: dict) -> str:
    """The table, the alarm and the signature, as printed here and at the end of training."""
    lines = ["             score    95% interval"]
    for name, value in results["scores"].items():
        lines.append(f"{name:<12} {value['score']:.4f}   {value['low']:.4f} to {value['high']:.4f}")
    lines += [f"{name:<12} {value}" for name, value in results.get("not_computed", {}).items()]
    lines.append(f"exact        {results['exact']} of {results['collapse']['pictures']} captions equal a reference")
    lines.append(format_collapse(results["collapse"]))
    lines += [f"warning      {warning}" for warning in collapse_warnings(results["collapse"])]
    return "\n".join([*lines, f"signature    {results['signature']}"])


def format_samples(pictures: Pictures, captions: list, count: int) -> str:
    """Captions above all their references, for pictures spread over the split."""
    lines = []
    for number in spread(count, len(captions)):
        lines += [pictures.paths[number].name, f"    caption    {captions[number][0]}"]
        lines += [f"    reference  {reference}" for reference in pictures.references[number]]
    return "\n".join(lines)


def add_extra_scores(results: dict, arguments, pictures: Pictures, texts: list[str], device) -> None:
    """METEOR, SPICE and CLIPScore where asked for and possible; what is not computed says why."""
    wanted = {"METEOR": arguments.meteor, "SPICE": arguments.spice}
    computed = {
        name: java_score(name, texts, pictures.references) if asked else f"not computed (--{name.lower()}; needs Java)"
        for name, asked in wanted.items()
    }
    if name := constants().CLIP_SCORE_MODEL_NAME:
        computed["CLIPScore"] = clip_score(name, pictures.paths, texts, device)
    results["not_computed"] = {name: value for name, value in computed.items() if isinstance(value, str)}
    for name, values in computed.items():
        if not isinstance(values, str):
            results["scores"][name] = values.summary
            results["per_image"][name] = values.per_image


def as_record(results: dict, pictures: Pictures, captions: list, checkpoint: str) -> dict:
    """All of an evaluation as the JSON file has it."""
    images = [
        {
            "image": path.name,
            "caption": text,
            "references": row,
            "log_probability": round(caption.score, 4),
            "finished": caption.finished,
            "scores": {name: round(values[i], 6) for name, values in results["per_image"].items()},
        }
        for i, (path, row, (text, caption)) in enumerate(zip(pictures.paths, pictures.references, captions))
    ]
    head = {name: value for name, value in results.items() if name != "per_image"}
    warnings = collapse_warnings(results["collapse"])
    return {"checkpoint": checkpoint, **head, "warnings": warnings, "left_out": pictures.left_out, "images": images}


def as_json(results: dict, pictures: Pictures, captions: list, checkpoint: str) -> str:
    return json.dumps(as_record(results, pictures, captions, checkpoint), indent=2, ensure_ascii=False) + "\n"


def decoding_options(arguments: argparse.Namespace, settings: Settings, max_seq_len: int):
    """DecodingOptions as the flags say, else as the captioner's settings do. Raises UserError."""
    from networks.search import DecodingOptions

    options = DecodingOptions(
        max_seq_len=max_seq_len,
        beam_size=settings.BEAM_SIZE if arguments.beam is None else arguments.beam,
        length_penalty=settings.LENGTH_PENALTY if arguments.length_penalty is None else arguments.length_penalty,
    )
    if problems := options.problems() + ["--batch-size must be 1 or more"] * (arguments.batch_size < 1):
        raise UserError("; ".join(problems))
    return options


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    if arguments.compare:
        from compare import compare

        return compare(arguments)
    from inference import newest_best

    checkpoint = arguments.checkpoint or str(newest_best(constants().CHECKPOINT_DIR))
    from basics.devices import pick_device, pick_precision
    from captioner.ensemble import load_captioners  # torch and transformers take seconds
    from networks.encoder import prepare_pixels

    device = pick_device(arguments.device)
    captioner = load_captioners(checkpoint, device)
    settings = constants().replace(**captioner.config["settings"])
    options = decoding_options(arguments, settings, captioner.model.max_seq_len)
    pictures = find_pictures(arguments.data_dir, arguments.split, settings)

    def read(numbers: list[int]):
        return prepare_pixels(captioner.image_processor, [load_image(pictures.paths[i]) for i in numbers])

    precision = pick_precision(settings, device)
    results, captions = evaluate_pictures(
        captioner, read, pictures, options, precision, checkpoint, arguments.batch_size
    )
    add_extra_scores(results, arguments, pictures, [text for text, _ in captions], device)
    if arguments.num_samples:
        print(format_samples(pictures, captions, arguments.num_samples))
    if pictures.left_out:
        print(f"left out     {len(pictures.left_out)} pictures, {pictures.left_out[0]}")
    print(format_results(results))
    if arguments.output:
        write_atomically(Path(arguments.output), as_json(results, pictures, captions, checkpoint))
        print(f"written      {arguments.output}")
    return 0


if __name__ == "__main__":
    run_script(main)
