"""The README promises nothing that does not run."""

import importlib
import re
import shlex

import pytest
from in_process import call
from tiny import ROOT, TINY, flags, run

from basics.errors import UserError
from basics.setting_schema import SCHEMA
from basics.settings import load_settings

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    part.strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    for part in line.split("#")[0].split("&&")
    if part.strip()
]


def test_every_file_of_the_tree_is_there_and_every_script_is_in_the_tree():
    tree = README.split("## Files")[1].split("##")[0]
    named = set(re.findall(r"^\s*([\w./-]+\.(?:py|yaml|txt|md))\s", tree, re.MULTILINE))
    assert named and all((ROOT / name).exists() for name in named)
    assert {path.name for path in ROOT.glob("*.py")} <= named


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.startswith(("python train.py", "python prepare_dataset.py"))]
)
def test_the_settings_of_every_command_are_known(command):
    try:
        load_settings(shlex.split(command)[2:])
    except UserError as error:  # paths of the reader's own machine may be missing here, names and types may not
        problems = [p for p in str(error).split("\n  - ") if "problems:" not in p]
        assert all(re.search("does not exist|is no folder here|needs RAW_DIR|no Hub token", p) for p in problems), (
            problems
        )


def test_both_set_up_commands_install_from_the_requirements_files():
    installs = [c for c in COMMANDS if c.startswith("pip install")]
    assert [re.search(r"-r (\S+)", c)[1] for c in installs[:2]] == ["requirements.txt", "requirements-dev.txt"]
    assert "python -m pytest" in COMMANDS and "python -m pytest" in (ROOT / ".ci/run").read_text()


def test_the_quick_start_runs_as_written(tmp_path):
    section = README.split("## Quick start")[1].split("\n## ")[0]
    scripts = [shlex.split(c)[1:] for c in COMMANDS if c in section and c.startswith("python ") and ".py" in c]
    assert [s[0] for s in scripts][:2] == ["train.py", "inference.py"]
    for number, (script, *arguments) in enumerate(scripts):
        small = flags(**TINY) if script == "train.py" else []
        if number < 2:  # processes: training, then a caption, as one types it
            assert run(script, *arguments, *small, cwd=tmp_path).returncode == 0
        else:
            main = importlib.import_module(script.removesuffix(".py")).main
            assert call(main, *arguments, *small, cwd=tmp_path).returncode == 0


def test_every_setting_the_readme_names_exists():
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", README))
    assert named and named <= set(SCHEMA)
