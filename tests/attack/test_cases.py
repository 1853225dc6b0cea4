"""Hostile input of every kind ends in a result or in one clear line: a few cases here, ATTACK_CASES for more."""

import os

import pytest
from attack.cases import attack
from attack.kinds import make_kinds

CASES = int(os.environ.get("ATTACK_CASES", "300"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return make_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_no_case_of_any_kind_is_found(kinds, tmp_path):
    for name, kind in kinds.items():
        tried = attack(name, kind, max(CASES // len(kinds), 1), tmp_path)
        assert tried.found == [], name
        assert tried.read + tried.refused > 0
