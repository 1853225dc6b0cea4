"""Downloads with the real Hub client against tests/hub_stub.py, in processes of their own."""

import contextlib
import socket
import threading
from pathlib import Path

import pytest
from hub_stub import FILES, REPO_ID, HubStub, finish, start

from basics.errors import UserError
from basics.hub_files import download, is_path, may_be_hub_id

DOWNLOAD = f"""
from basics.hub_files import download
from basics.errors import run_script
run_script(lambda argv: print(download("{REPO_ID}")))
"""


@pytest.fixture
def stub():
    with HubStub() as server:
        yield server


@pytest.mark.parametrize("name", ["./best", "../best", "/runs/best", "~/best", "runs/a/best"])
def test_a_path_is_never_looked_up_on_the_hub(name):
    assert is_path(name) and not may_be_hub_id(name)


def test_two_words_may_be_a_repository_and_one_may_not():
    assert may_be_hub_id("user/name") and not may_be_hub_id("name")


def test_download_brings_back_what_was_uploaded_and_no_pickles(stub, tmp_path):
    stub.add(REPO_ID, FILES | {"pytorch_model.bin": b"pickle", "old/checkpoint.pt": b"pickle"})
    output, errors = finish(start(DOWNLOAD, stub, tmp_path))
    folder = Path(output.strip())
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == FILES, errors
    assert not [line for line in stub.requests if line.endswith((".bin", ".pt"))]


def test_download_works_offline_from_the_cache(stub, tmp_path):
    stub.add(REPO_ID, FILES)
    first, _ = finish(start(DOWNLOAD, stub, tmp_path))
    again, errors = finish(start(DOWNLOAD, stub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))
    assert again.strip() == first.strip() != "", errors


@pytest.mark.parametrize(
    "endpoint, reason", [(None, "no such repository"), ("http://127.0.0.1:9", "cannot be reached")]
)
def test_download_refuses_with_one_line(stub, tmp_path, endpoint, reason):
    env = {"HF_ENDPOINT": endpoint} if endpoint else {}
    _, errors = finish(start(DOWNLOAD, stub, tmp_path, **env))
    assert errors.startswith(f"error: cannot load {REPO_ID} from the Hugging Face Hub: ") and reason in errors
    assert errors.count("\n") == 1


def test_download_refuses_what_is_no_repository_name():
    with pytest.raises(UserError, match="expected user/name"):
        download("../../a b")


@pytest.mark.parametrize(
    "kind, said, reason",
    [
        ("page", "", "answered, but not as the Hub does; is there a proxy or a log-in page in between?"),
        ("silence", "hub          {place} has not answered for 0.2 seconds\n", "cannot be reached"),
    ],
)
def test_a_hub_that_answers_a_page_or_nothing_is_one_line(stub, tmp_path, kind, said, reason):
    script = f"""
from basics import hub_files
hub_files.SAY_AFTER, hub_files.GIVE_UP_AFTER = 0.2, 0.5
{DOWNLOAD}"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
        if kind == "page":
            threading.Thread(target=answer_with_a_page, args=(server,), daemon=True).start()
        _, errors = finish(start(script, stub, tmp_path, HF_ENDPOINT=place))
    expected = f"error: cannot load {REPO_ID} from the Hugging Face Hub: {place} {reason}\n"
    assert errors == said.format(place=place) + expected


def answer_with_a_page(server: socket.socket) -> None:
    page = b"<html>log in</html>"
    with contextlib.suppress(OSError):  # closed at the end
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
