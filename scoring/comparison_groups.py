"""What compare.py is asked to compare, read without torch: two captioners, or groups of classifiers.

    groups = read_groups(["checkpoints/alone/best", "taught=runs/42/best,runs/43/best"])
    task_of_groups(path for group in groups for path in group.paths)      # "caption" or "classify"; both: UserError
    read_teachers(["taught=teacher/best"], groups)                 # {"taught": "teacher/best"}

A group of classifiers is one recipe, trained with as many seeds as it has paths.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from basics.errors import UserError
from captioner.places import members, task_of


@dataclass(frozen=True)
class Group:
    """`text` is what was typed."""

    name: str
    paths: tuple[str, ...]
    text: str


def read_groups(texts: list[str]) -> list[Group]:
    """Of "path", "path,path" or "NAME=path,path". Raises UserError where two have one name."""
    named = [split_name(text) for text in texts]
    short = iter(short_names(*(rest for name, rest in named if name is None)))
    groups = [Group(name or next(short), tuple(members(rest)), text) for (name, rest), text in zip(named, texts)]
    names = [group.name for group in groups]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two groups are called {twice[0]}; name them otherwise: NAME=path,path")
    return groups


def read_teachers(texts: list[str], groups: list[Group]) -> dict[str, str]:
    """The teacher of each group that has one, by the group's name; one without a name is that of all the others."""
    named = [split_name(text) for text in texts]
    names, own = [group.name for group in groups], {name: path for name, path in named if name is not None}
    if strange := own.keys() - {*names}:
        raise UserError(f"--teacher is for the group {min(strange)}, and there are only {', '.join(names)}")
    everyones = [path for name, path in named if name is None]
    if len(everyones) > 1:
        raise UserError("--teacher was given twice without a group; say whose each one is: --teacher NAME=PATH")
    return dict.fromkeys(names, everyones[0]) | own if everyones else own


def split_name(text: str) -> tuple[str | None, str]:
    """ "NAME=paths" -> both; a path, which may hold a = too, has no name."""
    name, equals, paths = text.partition("=")
    if not equals or not name.strip() or not paths or "/" in name or Path(text).expanduser().exists():
        return None, text
    return name.strip(), paths


def task_of_groups(paths: Iterable[str]) -> str:
    """ "caption" or "classify", which all of them are for. Raises UserError where some are for the other."""
    kinds = {task_of(path): path for path in paths}
    if len(kinds) > 1:
        raise UserError(
            f"{kinds['classify']} is a classifier and {kinds['caption']} is none; compare models of one task"
        )
    return next(iter(kinds))


def short_names(*paths: str) -> tuple[str, ...]:
    """The last parts in which the paths differ, best/ aside: runs/x/best, runs/y/best -> x, y."""
    parts = [parts_of(path) for path in paths]
    last = [row[-1] for row in parts]
    while all(parts) and not apart([row[-1] for row in parts]):
        for row in parts:
            row.pop()
    if all(parts):
        return tuple(row[-1] for row in parts)
    return tuple(f"{name} ({letter})" for name, letter in zip(last, ascii_uppercase * len(last)))


def apart(names: list[str]) -> bool:
    return len({*names}) == len(names)


def parts_of(name: str) -> list[str]:
    """A path's parts without best/; several have one: runs/x/best,runs/y/best -> x+y."""
    if len(names := members(name)) > 1:
        return ["+".join(parts_of(member)[-1] for member in names)]
    parts = list(Path(name).resolve().parts if Path(name).exists() else Path(name).parts)
    return parts[:-1] if len(parts) > 1 and parts[-1] == "best" else parts
