"""What ARCHITECTURE.md says one adds with a file and a line is added so, all of it in one run of train.py."""

import json
import re

import pytest
from taught import train
from tiny import ROOT

from networks import decoders, encoders
from scoring import metrics
from sources import images, reading, shapes
from sources.forms import registry as forms
from tasks import criteria
from tasks import registry as tasks

REGISTRIES = {
    "sources/forms/registry.py, FORMS": (forms, "FORMS"),
    "networks/encoders.py, ENCODERS": (encoders, "ENCODERS"),
    "networks/decoders.py, DECODERS": (decoders, "DECODERS"),
    "tasks/criteria.py, LOSSES": (criteria, "LOSSES"),
    "scoring/metrics.py, METRICS": (metrics, "METRICS"),
    "tasks/registry.py, TASKS": (tasks, "TASKS"),
}
BLOCKS = re.findall(
    r"```python\n# \S+\n(.+?)\n\n# (\S+, [A-Z]+)\n(.+?)\n```", (ROOT / "ARCHITECTURE.md").read_text(), re.S
)


@pytest.fixture
def added(monkeypatch):
    """Every example's file read, and its line in the registry."""
    assert {place for _, place, _ in BLOCKS} == set(REGISTRIES)
    for code, place, line in BLOCKS:
        assert len([row for row in code.splitlines() if row.strip()]) <= 12, place
        module, name = REGISTRIES[place]
        names = dict(vars(module))
        exec(compile(code, place, "exec"), names)
        there = getattr(module, name)
        if isinstance(there, dict):
            for key, value in eval(f"{{{line}}}", names).items():
                monkeypatch.setitem(there, key, value)
            continue
        for holder in (module, reading):  # reading has FORMS by name
            if hasattr(holder, name):
                monkeypatch.setattr(holder, name, (eval(line, names), *there))


def test_each_kind_of_thing_is_added_with_a_file_and_a_line(added, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    captions = shapes.draw_shapes(tmp_path / "mine", 40, seed=1)
    used, focal = [], criteria.LOSSES["focal"]
    monkeypatch.setitem(criteria.LOSSES, "focal", lambda *given: used.append(given) or focal(*given))
    lines = [f"{name};{caption}\n" for name, row in captions.items() for caption in row]
    (tmp_path / "mine/captions.ssv").write_text("".join(lines))
    train(
        DATASET="folder",
        RAW_DIR="mine",
        ENCODER_MODEL_NAME="small-convnext",
        DECODER="nope",
        LOSS="focal",
        TASK="steady",
        RUN_NAME="a",
        NUM_EPOCHS=1,
    )
    out = capsys.readouterr().out
    assert (
        "semicolons -> data/folder" in out and "encoder small-convnext" in out and re.search(r"^words +\d", out, re.M)
    )
    log = json.loads((tmp_path / "checkpoints/a/log.jsonl").read_text())
    assert log["learning_rate"] == 1e-3 and len(used) == 1
    config = json.loads((tmp_path / "checkpoints/a/best/config.json").read_text())
    assert config["architecture"]["decoder"] == "nope"


@pytest.mark.parametrize("name", ["DECODER", "LOSS", "TASK"])
def test_a_name_that_no_registry_has_is_one_line_with_those_it_has(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(images.UserError, match=f"{name} must be one of '"):
        train(**{name: "nowhere"})
