"""Values are like their pattern, or one line says which is not."""

import pytest

from basics.stored import COUNT, Each, Number, check

PATTERN = {"epoch": COUNT, "share?": Number(float, 0, 1), "names": [str], "ids": Each(COUNT), "note": (None, str)}
GOOD = {"epoch": 3, "share": 1, "names": ["a"], "ids": {"a": 1}, "note": None, "of another day": object()}


def test_what_is_like_the_pattern_passes():
    check(GOOD, PATTERN, "file.json")
    check({name: value for name, value in GOOD.items() if name != "share"}, PATTERN, "file.json")


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"epoch": True}, "file.json: epoch must be a whole number from 0 to .*, got True"),
        ({"epoch": 1.5}, "epoch must be a whole number"),
        ({"epoch": 10**400}, "got a very large number"),
        ({"share": float("nan")}, "share must be a number from 0 to 1, got nan"),
        ({"share": float("inf")}, "share must be"),
        ({"names": "abc"}, "names must be a list, got 'abc'"),
        ({"names": ["a", None]}, r"names\[1\] must be text, got None"),
        ({"ids": {"a": "1"}}, "ids: a must be"),
        ({"ids": {1: 1}}, "a name in file.json: ids must be text"),
        ({"note": {}}, "note must be none or text"),
        ({"names": {"a": ["x" * 10**6] * 1000}}, "^.{1,300}$"),
    ],
)
def test_what_is_not_is_one_short_line(changes, line):
    with pytest.raises(ValueError, match=line) as caught:
        check({**GOOD, **changes}, PATTERN, "file.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[], None, "text", 7])
def test_a_file_of_something_else_is_said(value):
    with pytest.raises(ValueError, match="file.json must be a mapping, got"):
        check(value, PATTERN, "file.json")


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="file.json lacks epoch"):
        check({}, PATTERN, "file.json")
