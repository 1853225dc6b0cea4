"""README.md and docs/ promise nothing that does not run."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
from in_process import call
from tiny import ROOT, TINY, flags

import caption_onnx
import classify_onnx
import compare
import evaluate
import export
import inference
import teacher_captions
import train
import write_shards
from basics.errors import UserError
from basics.setting_schema import SCHEMA
from basics.settings import constants, load_settings

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "checkpoints/README.md"]
LONGEST = 9000  # characters of README: one page, which is read to its end
WITH_FLAGS = {
    f"{module.__name__}.py": module
    for module in (inference, evaluate, compare, export, caption_onnx, classify_onnx, teacher_captions, write_shards)
}
WITH_SETTINGS = ("train.py", "prepare_dataset.py")
FLAG_SOURCES = [*(ROOT / name for name in WITH_FLAGS), ROOT / "scoring/request.py", *(ROOT / "captioner").glob("*.py")]
# what only the machine of a reader has
OF_THE_READER = "does not exist|is no folder here|is not here; expected|needs RAW_DIR|no Hub token"
VARIABLES = {"HF_HUB_OFFLINE", "OMP_NUM_THREADS"}  # of the environment, named as settings are


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> list[str]:
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("#")[0].split("&&") if part.strip()]


def with_page(page: Path, found: list[str]) -> list:
    return [pytest.param(item, id=f"{page.relative_to(ROOT)}: {item}") for item in found]


def scripts_with_arguments(names) -> list:
    """The commands of all pages that call one of these scripts, as [script, argument, ...]."""
    found = []
    for page in PAGES:
        for command in commands_of(page):
            words = shlex.split(command)
            if "python" in words and (call_of := words[words.index("python") + 1 :])[0] in names:
                found += [pytest.param(call_of, id=f"{page.relative_to(ROOT)}: {shlex.join(call_of)}")]
    return found


def named_in_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("words", scripts_with_arguments(WITH_SETTINGS))
def test_the_settings_of_every_command_are_known(words):
    try:
        load_settings(words[1:])
    except UserError as error:
        problems = [line for line in str(error).split("\n  - ") if "problems:" not in line]
        assert all(re.search(OF_THE_READER, problem) for problem in problems), problems


@pytest.mark.parametrize("words", scripts_with_arguments(WITH_FLAGS))
def test_the_flags_of_every_command_are_those_of_its_script(words):
    parse = WITH_FLAGS[words[0]].parse_arguments
    parse(words[1:], *[constants()][: len(inspect.signature(parse).parameters) - 1])


def test_no_page_calls_a_script_that_is_not_checked():
    called = {words.values[0][0] for words in scripts_with_arguments({p.name for p in ROOT.glob("*.py")})}
    assert called == {*WITH_SETTINGS, *WITH_FLAGS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_page_and_heading_that_is_linked_is_there(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        file = page.parent / target if target else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_flag_and_file_that_is_named_exists(page):
    code = named_in_code(page)
    settings = {name for name in code if re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+", name)}
    assert settings <= {*SCHEMA, *VARIABLES}
    sources = "".join(path.read_text(encoding="utf-8") for path in FLAG_SOURCES)
    known = {*flags(**SCHEMA)[::2], *re.findall(r'"(--[a-z0-9-]+)"', sources), "--preset", "--debug", "--help"}
    assert {name.split()[0] for name in code if name.startswith("--")} <= known
    files = {name for name in code if re.fullmatch(r"[a-z_]+/[a-z0-9_/-]+\.(py|yaml|md)", name)}
    assert all((ROOT / name).is_file() for name in files), files


def test_readme_is_one_page_and_leads_to_all_others():
    text = README.read_text(encoding="utf-8")
    assert len(text) <= LONGEST
    links = set(re.findall(r"\]\(([^)#\s]+)", text))
    others = {path.name for path in ROOT.glob("*.md")} - {"README.md"}
    assert {f"docs/{page.name}" for page in DOCS} | others | {"LICENSE"} <= links


def test_readme_names_every_script_and_each_file_of_its_tree_is_there():
    tree = README.read_text(encoding="utf-8").split("## Files")[1].split("##")[0]
    named = set(re.findall(r"\b(\w+\.py)\b", tree))
    assert named == {path.name for path in ROOT.glob("*.py")}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_opens_with_its_purpose_and_ends_with_where_to_go(page):
    title, empty, purpose, *rest = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and not empty and purpose.endswith(".") and not rest[0]
    assert re.match(r"Next: .*\]\(", rest[-1]) and not rest[-2]


@pytest.mark.parametrize("code", [block for page in PAGES for block in blocks(page, "python")])
def test_python_examples_compile_and_import_what_there_is(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def test_both_set_up_commands_install_from_the_requirements_files():
    commands = commands_of(README)
    installs = [command for command in commands if command.startswith("pip install")]
    assert [re.search(r"-r (\S+)", c)[1] for c in installs] == ["requirements.txt", "requirements-dev.txt"]
    assert "python -m pytest" in commands and "python -m pytest" in (ROOT / ".ci/run").read_text()


def test_the_quick_start_runs_as_written(tmp_path):
    section = README.read_text(encoding="utf-8").split("## Quick start")[1].split("\n## ")[0]
    scripts = [shlex.split(c)[1:] for c in commands_of(README) if c in section and re.match(r"python \w+\.py", c)]
    assert [script for script, *_ in scripts] == ["train.py", "inference.py", "inference.py"]
    for script, *arguments in scripts:
        small = flags(**TINY) if script == "train.py" else []
        main = {"train.py": train.main, "inference.py": inference.main}[script]
        assert call(main, *arguments, *small, cwd=tmp_path).returncode == 0
