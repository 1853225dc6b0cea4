"""Write prepared data as tar shards (webdataset's layout), for large sets, network disks and web servers:

    python write_shards.py --data-dir data/flickr8k --output shards/
    python write_shards.py --data-dir data/flickr8k --output shards/ --pictures-per-shard 1000
    python train.py --dataset webdataset --shards shards/

Pictures keep their very bytes; the same data give the same shards, whose checksums stand in shards/index.json.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import argparse
import re
from pathlib import Path

from basics.disk import size
from basics.errors import UserError, run_script
from sources.prepared import is_prepared, read_prepared
from sources.shards.index_file import INDEX, read_index
from sources.shards.write import ShardLimits, write_shards

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python write_shards.py", description="Write prepared data as tar shards.", allow_abbrev=False
    )
    parser.add_argument("--data-dir", required=True, help="a prepared folder, such as data/flickr8k")
    parser.add_argument("--output", required=True, help="a new folder for the shards and their index.json")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--shard-size", default="500MB", help="largest size of a shard in KB, MB or GB; default: 500MB")
    limits.add_argument("--pictures-per-shard", type=int, help="pictures a shard, in place of a size")
    parser.add_argument("--overwrite", action="store_true", help="replace shards that are there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def limits_of(arguments: argparse.Namespace) -> ShardLimits:
    pictures, found = arguments.pictures_per_shard, re.fullmatch(r"(\d{1,9})\s*([KMG]B)", arguments.shard_size)
    if pictures is not None and pictures < 1:
        raise UserError(f"--pictures-per-shard must be at least 1, got {pictures}")
    if found is None or int(found[1]) == 0:
        raise UserError(f"--shard-size must be a number of KB, MB or GB, such as 500MB, got {arguments.shard_size!r}")
    return ShardLimits(int(found[1]) * UNITS[found[2]], pictures)


def check_output(output: Path, overwrite: bool) -> None:
    """Raises UserError where something would be lost."""
    if (old := output.with_name(output.name + ".old")).exists():  # which a stopped exchange of folders would leave
        raise UserError(f"{old} is in the way; move it, or name another --output")
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output} is there already; name another --output, or replace it with --overwrite")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if INDEX not in names or names - {INDEX} - read_index(output / INDEX).keys():
        raise UserError(f"{output} holds something else than shards with their {INDEX}; name another --output")


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    limits = limits_of(arguments)
    output, data_path = (Path(path).expanduser() for path in (arguments.output, arguments.data_dir))
    check_output(output, arguments.overwrite)
    if not is_prepared(data_path):
        raise UserError(f"{data_path} is no prepared data; python prepare_dataset.py makes it, in data/<dataset>/")
    shards = write_shards(read_prepared(data_path), output, limits)
    pictures, captions = sum(shard["samples"] for shard in shards), sum(shard["captions"] for shard in shards)
    total = size(sum(shard["bytes"] for shard in shards))
    print(f"written      {len(shards):,} shards, {pictures:,} pictures, {captions:,} captions, {total}: {output}")
    print(f"next         python train.py --dataset webdataset --shards {output}")
    return 0


if __name__ == "__main__":
    run_script(main)
