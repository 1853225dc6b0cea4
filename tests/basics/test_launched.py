"""What torchrun says in the environment is read as it is meant, and nothing means one process."""

import pytest

from basics.launched import Launch, launched

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")


@pytest.mark.parametrize(
    "variables, expected, command",
    [
        ({}, Launch(), "python"),
        ({"WORLD_SIZE": "", "RANK": "x"}, Launch(), "python"),
        ({"WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": "2"}, Launch(restarts=2), "python"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, Launch(1, 2, 1, 2), "torchrun --nproc-per-node 2"),
        (
            {"WORLD_SIZE": "16", "RANK": "9", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"},
            Launch(9, 16, 1, 8),
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:PORT --nproc-per-node 8",
        ),
    ],
)
def test_the_environment_says_how_many_and_which(monkeypatch, variables, expected, command):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (launched(), launched().command) == (expected, command)
    assert launched().speaks is (expected.index == 0) and launched().several is (expected.count > 1)
