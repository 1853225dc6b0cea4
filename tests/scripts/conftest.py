"""A finished run, made once for all tests of whole runs."""

import pytest


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with one run that nothing disturbed; the tests only read it."""
    from finished_run import RUN
    from in_process import train

    folder = tmp_path_factory.mktemp("finished")
    assert train(folder, **RUN).returncode == 0
    return folder
