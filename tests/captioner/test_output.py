"""Captions are written when they are there, in the form that the file's name says, and kept where work stops."""

import csv
import json
import os
from pathlib import Path

import pytest

from basics.errors import UserError
from captioner.output import LABELS, form_of, output_form, write_answers
from captioner.picture_files import Found
from networks.caption import Caption

ROWS = [
    Found(Path("a.png"), [("a red, small circle", Caption([5], -0.5, True)), ('a "circle"', Caption([6], -1.0, True))]),
    Found(Path("gone.png"), error="cannot read gone.png: there is no such file"),
    Found(Path("b\u2028.png"), [("ein grüner Kreis", Caption([7], -0.25, True))]),
]


def written(rows, output: Path, name: str | None = None) -> str:
    write_answers(rows, output_form(name, str(output), alone=False, overwrite=True), str(output), 3)
    return output.read_text(encoding="utf-8")


def then(error, rows=ROWS):
    yield from rows
    raise error


def test_the_end_of_the_name_says_the_form_and_format_has_the_last_word(tmp_path):
    text = 'a.png\ta red, small circle\na.png\ta "circle"\nb\u2028.png\tein grüner Kreis\n'
    assert written(ROWS, tmp_path / "out.txt") == written(ROWS, tmp_path / "captions") == text
    assert written(ROWS, tmp_path / "x.csv", "text") == text
    content = written(ROWS, tmp_path / "out.JSON")
    assert content == json.dumps(json.loads(content), indent=2, ensure_ascii=False) + "\n"
    assert [row["image"] for row in json.loads(content)] == ["a.png", "b\u2028.png"]
    written(ROWS, tmp_path / "out.csv")
    table = list(csv.DictReader(open(tmp_path / "out.csv", newline="", encoding="utf-8")))
    assert [(row["rank"], row["caption"]) for row in table] == [
        (str(r), c) for r, c in ((1, "a red, small circle"), (2, 'a "circle"'), (1, "ein grüner Kreis"))
    ]


def test_a_file_with_something_in_it_is_written_over_only_where_that_is_said(tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\n")
    with pytest.raises(UserError, match="captions.csv is there already; take another name, or --overwrite"):
        output_form(None, str(tmp_path / "captions.csv"), alone=False)
    (tmp_path / "empty.csv").touch()
    for name, overwrite in (("captions.csv", True), ("empty.csv", False), ("new.csv", False)):
        output_form(None, str(tmp_path / name), alone=False, overwrite=overwrite)


@pytest.mark.parametrize("name, part", [("out.xml", "--format"), (".", "is a folder")])
def test_a_file_that_says_no_form_is_one_clear_line(tmp_path, monkeypatch, name, part):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^--output {name} .*{part}.*$"):
        output_form(None, name, alone=True)


@pytest.mark.parametrize("rows", [ROWS, ROWS[1:2], []])
def test_finished_json_and_csv_are_valid_however_few_there_are(tmp_path, rows):
    good = sum(row.error is None for row in rows)
    assert len(json.loads(written(rows, tmp_path / "out.json"))) == good
    assert written(rows, tmp_path / "out.csv").startswith("image,rank,caption,score\n")


def test_each_caption_is_in_the_file_beside_before_the_next_is_made(tmp_path):
    seen = []

    def rows():
        for row in (ROWS[0], ROWS[2]):
            yield row
            seen.append(next(tmp_path.glob("out.txt.*.tmp")).read_text(encoding="utf-8").count("\n"))

    written(rows(), tmp_path / "out.txt")
    assert seen == [2, 3] and [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("name", ["out.json", "out.csv", "out.txt"])
def test_what_is_there_is_kept_where_work_stops_and_its_number_is_said(tmp_path, capsys, name, error):
    (tmp_path / name).write_text("old")
    with pytest.raises(type(error)):
        written(then(error), tmp_path / name)
    kept = (tmp_path / name).read_text(encoding="utf-8")
    assert kept == written(ROWS, tmp_path / f"whole-{name}")
    assert f"2 of 3 pictures captioned: {tmp_path / name}\n" in capsys.readouterr().err


def test_an_older_file_stays_until_there_is_a_caption(tmp_path):
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        written(then(KeyboardInterrupt(), ROWS[1:2]), tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_the_screen_has_each_caption_at_once_and_a_whole_array_where_work_stops(capsys):
    def rows():
        yield ROWS[0]
        assert '"a.png"' in capsys.readouterr().out
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_answers(rows(), output_form("json", None, alone=False), None, 3)
    assert capsys.readouterr().out == "\n]\n"


def test_names_that_are_no_utf8_or_break_lines_go_out_escaped_and_no_caption_is_lost(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    rows = [Found(Path(name), ROWS[2].answers), Found(Path("a\nb.png"), ROWS[2].answers)]
    written(rows, tmp_path / "out.json")
    assert [row["image"] for row in json.loads((tmp_path / "out.json").read_bytes())] == [name, "a\nb.png"]
    written(rows, tmp_path / "out.csv")
    table = list(csv.DictReader(open(tmp_path / "out.csv", newline="", encoding="utf-8")))
    assert [row["image"] for row in table] == ["caf\\udce9.png", "a\nb.png"]
    write_answers(rows, output_form("text", None, alone=False), str(tmp_path / "out.txt"), 2)
    first, second = (tmp_path / "out.txt").read_bytes().splitlines()
    assert first.startswith(b"caf\xe9.png\t") and second.startswith(b"a\\nb.png\t")


def test_labels_stand_beside_their_probabilities_on_one_line_whatever_they_are_called(capsys):
    found = Found(Path("a.png"), [("red, large", 0.75), ("a\nb", 0.25)])
    outputs = []
    for name, alone in (("text", True), ("text", False), ("csv", False)):
        write_answers([found], form_of(name, alone, LABELS), None, 1)
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == "red, large  0.750\na\\nb        0.250\n"
    assert outputs[1] == "a.png\tred, large\t0.750\na.png\ta\\nb\t0.250\n"
    assert outputs[2] == 'image,rank,label,probability\na.png,1,"red, large",0.75\na.png,2,"a\nb",0.25\n'
