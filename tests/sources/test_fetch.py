"""Shards of a server: what was cut goes on, what is another file by now begins anew, and the disk is asked before."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from basics import disk
from basics.errors import UserError
from sources.shards import fetch as fetching
from sources.shards.fetch import announce, fetch, fetch_index

CONTENT = bytes(range(256)) * 40


class Stub:
    """A server of one shard that cuts, fails or changes as told, and notes what it was asked."""

    def __init__(self):
        self.content, self.etag, self.cuts, self.failures, self.ranges, self.asked = CONTENT, '"1"', 0, [], True, []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(stub.content)))
                self.end_headers()

            def do_GET(self):
                stub.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/train-000000.tar"

    def answer(self, request):
        wanted, version = request.headers.get("Range"), request.headers.get("If-Range")
        self.asked.append(wanted)
        if self.failures:
            request.send_error(self.failures.pop())
            return
        if request.path.endswith("index.json"):
            request.send_response(200)
            request.end_headers()
            request.wfile.write(b'{"format": 1, "shards": []}')
            return
        start = int(wanted[6:-1]) if wanted and version == self.etag and self.ranges else 0
        if start >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(self.content) - start))
        if self.etag:
            request.send_header("ETag", self.etag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        end = (start + len(self.content)) // 2 if self.cuts else len(self.content)
        self.cuts = max(0, self.cuts - 1)
        request.wfile.write(self.content[start:end])


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0))
    stub = Stub()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()


@pytest.fixture
def cut(stub, tmp_path, monkeypatch):
    """After one try that was cut at half."""
    with monkeypatch.context() as once:
        once.setattr(fetching, "PAUSES", ())
        stub.cuts = 1
        with pytest.raises(UserError, match="cut after 5,120 of 10,240 bytes.*start again to go on"):
            fetch(stub.url, tmp_path, None)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".part", ".of"]
    return stub


def listed(content=CONTENT):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_what_was_cut_goes_on_with_the_rest_alone(cut, tmp_path):
    assert fetch(cut.url, tmp_path, listed()).read_bytes() == CONTENT
    assert cut.asked == [None, "bytes=5120-"] and [path.suffix for path in tmp_path.iterdir()] == [".tar"]


def test_a_connection_that_breaks_twice_is_tried_again(stub, tmp_path):
    stub.cuts = 2
    assert fetch(stub.url, tmp_path, None).read_bytes() == CONTENT
    assert stub.asked == [None, "bytes=5120-", "bytes=7680-"]


@pytest.mark.parametrize("change", ["version", "no ranges", "no version"])
def test_what_cannot_go_on_begins_anew(cut, tmp_path, change):
    if change == "version":
        cut.content, cut.etag = CONTENT[::-1], '"2"'
    elif change == "no ranges":
        cut.ranges = False
    else:
        (part,) = tmp_path.glob("*.of")
        part.write_text("")
    assert fetch(cut.url, tmp_path, None).read_bytes() == cut.content


def test_a_part_that_is_longer_than_the_shard_begins_anew(cut, tmp_path):
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(bytes(2 * len(CONTENT)))
    assert fetch(cut.url, tmp_path, listed()).read_bytes() == CONTENT


def test_a_part_that_goes_on_as_something_else_is_refused_and_fetched_anew(cut, tmp_path):
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(bytes(part.stat().st_size))
    with pytest.raises(UserError, match="another checksum"):
        fetch(cut.url, tmp_path, listed())
    assert fetch(cut.url, tmp_path, listed()).read_bytes() == CONTENT


def test_a_server_that_fails_for_a_moment_is_asked_again_one_that_has_nothing_is_not(stub, tmp_path):
    stub.failures = [503, 500]
    assert fetch(stub.url, tmp_path, None).read_bytes() == CONTENT
    stub.failures = [404, 404]
    with pytest.raises(UserError, match="404"):
        fetch(stub.url + "?again", tmp_path, None)
    assert stub.failures == [404]


def test_the_index_of_shards_that_are_not_here_yet_is_asked_for_again(stub):
    stub.failures = [503, 503]
    assert fetch_index(stub.url, patient=True) == {}
    stub.failures = [503]
    with pytest.raises(UserError, match="503"):
        fetch_index(stub.url, patient=False)


@pytest.mark.parametrize("rest", [" a/b.tar", "/b.tar"])
def test_a_server_that_is_none_is_one_line(monkeypatch, tmp_path, rest):
    monkeypatch.setattr(fetching, "PAUSES", (0.0,))
    with pytest.raises(UserError, match="cannot fetch"):
        announce([(f"http://127.0.0.1:1{rest}", None)], tmp_path)


def test_a_shard_of_another_size_than_its_index_says_is_refused_before_it_comes(stub, tmp_path):
    with pytest.raises(UserError, match="has 10,240 bytes, its index.json says 10,241"):
        fetch(stub.url, tmp_path, listed(CONTENT + b"1"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [None, listed()])
def test_how_much_all_will_take_is_said_and_refused_before_the_first_byte(stub, tmp_path, monkeypatch, capsys, line):
    shards = [(f"{stub.url}?{number}", line) for number in range(3)]
    announce(shards, tmp_path)
    assert "3 shards, 0.0 MiB" in capsys.readouterr().out
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * len(CONTENT)))
    with pytest.raises(UserError, match="the shards take 0.0 MiB more"):
        announce(shards, tmp_path)
    fetch(*shards[0][:1], tmp_path, line)
    announce(shards, tmp_path)  # for the two that are missing there is room
    assert len(stub.asked) == 1
