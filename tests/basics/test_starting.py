"""What a script sets before it imports its libraries."""

import os

import pytest

from basics.starting import wait_briefly


@pytest.mark.parametrize(
    "script, given, spins",
    [
        ("train.py", {}, "2000"),
        ("inference.py", {}, None),
        ("train.py", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("train.py", {"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_of_training_wait_briefly_unless_told_otherwise(monkeypatch, script, given, spins):
    monkeypatch.setattr(os, "environ", dict(given))
    wait_briefly(script)
    assert os.environ.get("GOMP_SPINCOUNT") == spins
