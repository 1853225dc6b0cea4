"""The plan of the house holds: one direction of imports, no circle, and places for all that is in it."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tiny import ROOT

LAYERS = (  # each imports from those before it; rooms in one layer and on one line do not know each other
    ("config",),
    ("basics",),
    ("sources", "networks"),
    ("tokenizer", "dataset", "model"),
    ("captioner",),
    ("classifier",),
    ("scoring", "losses"),
    ("distillation",),
    ("training",),
    ("publishing",),
    ("tasks",),
)
SCRIPTS = ("train", "inference", "prepare_dataset", "evaluate", "export", "compare", "caption_onnx", "teacher_captions")
SCRIPTS += ("write_shards", "classify_onnx")
STRANGERS = {("sources", "networks"), ("networks", "sources")}
EXCEPTIONS = {("model", "captioner.folder")}  # ImageToTextModel.from_pretrained, where people look for it
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
HEIGHT |= dict.fromkeys(SCRIPTS, len(LAYERS))


def modules() -> dict[str, Path]:
    """Every module of the root and the rooms by its dotted name."""
    files = [*ROOT.glob("*.py"), *(path for name in HEIGHT for path in (ROOT / name).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = modules()


def imports(module: str) -> set[str]:
    """Modules of ours that it imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        found |= {name for name in names if name in MODULES} - {module}
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def allowed(module: str, imported: str) -> bool:
    here, there = room(module), room(imported)
    if (module, imported) in EXCEPTIONS:
        return True
    return HEIGHT[there] <= HEIGHT[here] and (here, there) not in STRANGERS and there not in {*SCRIPTS} - {here}


def test_every_module_has_its_place():
    assert {room(module) for module in MODULES} == set(HEIGHT)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_reaches_up_or_into_a_script(module):
    assert [name for name in imports(module) if not allowed(module, name)] == []


def test_no_imports_run_in_a_circle():
    graph = {module: {name for name in imports(module) if (module, name) not in EXCEPTIONS} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_import_inside_a_function_says_why(module):
    """In the line itself, or in a comment of the block of imports that it stands in."""
    source = MODULES[module].read_text(encoding="utf-8")
    lines, functions = source.splitlines(), [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    for node in (node for function in functions for node in ast.walk(function)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        first, last = node.lineno - 1, node.lineno
        while re.match(r"\s+(from|import|#)", lines[first - 1]):
            first -= 1
        while last < len(lines) and re.match(r"\s+(from|import|#|$)", lines[last]):
            last += 1
        assert any("#" in line for line in lines[first:last]), f"{module}, line {node.lineno}: no reason"


def test_each_room_says_its_purpose_in_one_line():
    for name in (name for names in LAYERS for name in names if (ROOT / name).is_dir()):
        text = (ROOT / name / "__init__.py").read_text(encoding="utf-8")
        assert re.fullmatch(r'"""[^\n]+"""\n', text), name
        assert (ROOT / "tests" / name).is_dir(), f"tests/{name}"


def test_the_root_holds_what_people_type():
    assert {path.stem for path in ROOT.glob("*.py")} == {*SCRIPTS, "config", "tokenizer", "dataset", "model"}


def test_the_rule_finds_an_import_that_reaches_up():
    assert not allowed("basics.files", "training.run") and not allowed("scoring.metrics", "evaluate")
    assert not allowed("sources.images", "networks.encoder") and allowed("training.run", "basics.files")


def test_no_two_rooms_use_a_name_for_two_things():
    """Two functions or classes of one name are looked for in the wrong file half of the time."""
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in ("main", "parse_arguments"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_every_file_that_the_plan_names_is_there():
    plan = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w./]+/|[\w./]+\.(?:py|md|yaml))[`:]", plan)
    assert len(named) > 80 and [name for name in named if not (ROOT / name).exists()] == []
