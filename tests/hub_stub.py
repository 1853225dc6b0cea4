"""A small stand-in for the Hugging Face Hub on 127.0.0.1, enough for the real client to create, upload and download.

    with HubStub() as hub:
        subprocess.run([...], env=hub.client_env(tmp_path))     # HF_ENDPOINT is read when the client is imported
        hub.files                                               # {"model.safetensors": b"...", ...} as committed
        hub.fail_next(2, 503)                                   # the next two requests get a 503

It knows model and dataset repositories with one branch, plain files and LFS files; no xet (client_env() turns it off),
no quotas. start() and finish() run a script of the client in a process of its own.
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".pt")
TOKEN = "hf_test"
ROOT = Path(__file__).parents[1]
REPO_ID = "user/captioner"
FILES = {
    "config.json": b'{"model_type": "image-to-text"}',
    "model.safetensors": bytes(range(256)) * 300,
    "encoder/config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n# A captioner\n",
}


class HubStub:
    """The server, and what it holds: repos[repo_id][path] = bytes, private[repo_id], commits = messages in order."""

    def __init__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []
        self.requests: list[str] = []  # "GET /api/models/..." in the order of arrival
        self.lfs: dict[str, bytes] = {}  # uploaded content by sha256, committed or not
        self.failures, self.failure_status = 0, 503
        self.versions: list[dict[str, bytes]] = []  # the files after each commit
        self.held = threading.Event()  # set while an upload waits at the gate
        self.gate = threading.Event()  # cleared: uploads wait before any content is sent
        self.gate.set()

    def __enter__(self) -> "HubStub":
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the only repository, {} before it exists."""
        assert len(self.repos) <= 1, f"several repositories: {list(self.repos)}; use .repos"
        return next(iter(self.repos.values()), {})

    def fail_next(self, count: float, status: int) -> None:
        """The next count requests are answered with status and change nothing; float("inf") for all."""
        self.failures, self.failure_status = count, status

    def add(self, repo_id: str, files: dict[str, bytes]) -> None:
        """A repository that is already there."""
        self.repos.setdefault(repo_id, {}).update(files)
        self.private.setdefault(repo_id, False)

    def sha(self, repo_id: str) -> str:
        """The commit the branch points at: 40 digits that change with the content."""
        content = [(path, hashlib.sha1(data).hexdigest()) for path, data in sorted(self.repos[repo_id].items())]
        return hashlib.sha1(json.dumps([repo_id, content]).encode()).hexdigest()

    def client_env(self, home: Path, **more: str) -> dict[str, str]:
        """The environment for a client process: this endpoint, a token, a cache of its own."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "NO_PROXY": "127.0.0.1",
            **more,
        }


class Handler(BaseHTTPRequestHandler):
    """One request; hub is bound by HubStub."""

    hub: HubStub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def handle_request(self) -> None:
        body = self.read_body()  # always, or the connection would be out of step
        path = unquote(urlsplit(self.path).path).replace("/api/datasets/", "/api/models/")
        path = path.removeprefix("/datasets")  # models and datasets share one set of names here
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.failures > 0:
            self.hub.failures -= 1
            return self.answer({"error": "told to fail"}, self.hub.failure_status)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/lfs/"):
            return self.answer({"error": "Invalid credentials in Authorization header"}, 401)
        if self.command == "PUT":
            self.hub.lfs[path.removeprefix("/lfs/")] = body
            return self.answer({})
        if self.command == "POST":
            return self.post(path, json_lines(body))
        if path.startswith("/api/models/"):
            return self.describe(*split_repo(path.removeprefix("/api/models/")))
        return self.resolve(*split_repo(path[1:]))

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def post(self, path: str, lines: list[dict]) -> None:
        if path == "/api/repos/create":
            return self.create(lines[0])
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.answer({"transfer": "basic", "objects": [self.lfs_object(o) for o in lines[0]["objects"]]})
        repo_id, action = split_repo(path.removeprefix("/api/models/"))
        if repo_id not in self.hub.repos:
            return self.repo_not_found()
        if action.startswith("preupload/"):
            self.hub.held.set()
            self.hub.gate.wait(30)
            self.hub.held.clear()
            return self.answer({"files": [upload_mode(file["path"]) for file in lines[0]["files"]]})
        if action.startswith("commit/"):
            return self.commit(repo_id, lines)
        return self.answer({"error": f"the stub does not know POST {path}"}, 501)

    def create(self, request: dict) -> None:
        repo_id = f"{request.get('organization') or 'user'}/{request['name']}"
        status = 409 if repo_id in self.hub.repos else 200
        self.hub.repos.setdefault(repo_id, {})
        self.hub.private.setdefault(repo_id, request.get("visibility") == "private" or bool(request.get("private")))
        self.answer({"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id}, status)

    def lfs_object(self, wanted: dict) -> dict:
        """Upload instructions; none for content that is already here."""
        if wanted["oid"] in self.hub.lfs:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}}

    def commit(self, repo_id: str, lines: list[dict]) -> None:
        files = self.hub.repos[repo_id]
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                self.hub.commits.append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"], None)
        self.hub.versions.append(dict(files))
        url = f"{self.hub.endpoint}/{repo_id}/commit/{self.hub.sha(repo_id)}"
        self.answer({"commitUrl": url, "commitOid": self.hub.sha(repo_id), "success": True})

    def describe(self, repo_id: str, rest: str) -> None:
        """Repository info, or with tree/... its files."""
        if repo_id not in self.hub.repos:
            return self.repo_not_found()
        files = self.hub.repos[repo_id]
        if rest.startswith("tree/"):
            return self.answer([tree_entry(path, data) for path, data in sorted(files.items())])
        self.answer(
            {
                "id": repo_id,
                "sha": self.hub.sha(repo_id),
                "private": self.hub.private[repo_id],
                "siblings": [{"rfilename": path} for path in sorted(files)],
            }
        )

    def resolve(self, repo_id: str, rest: str) -> None:
        """GET or HEAD of user/name/resolve/<revision>/<path>."""
        if repo_id not in self.hub.repos:
            return self.repo_not_found()
        _, _, path = (rest.split("/", 2) + ["", ""])[:3]
        data = self.hub.repos[repo_id].get(path)
        if not rest.startswith("resolve/") or data is None:
            return self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{etag(path, data)}"', "X-Repo-Commit": self.hub.sha(repo_id), "Accept-Ranges": "bytes"}
        self.answer(data, 200, {**headers, "Content-Type": "application/octet-stream"})

    def repo_not_found(self) -> None:
        self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def answer(self, content: dict | list | bytes, status: int = 200, headers: dict | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


def json_lines(body: bytes) -> list[dict]:
    return [json.loads(line) for line in body.splitlines() if line.strip()]


def split_repo(path: str) -> tuple[str, str]:
    """ "user/name/tree/main" -> ("user/name", "tree/main")."""
    parts = path.split("/", 2)
    return "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""


def upload_mode(path: str) -> dict:
    return {"path": path, "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular", "shouldIgnore": False}


def git_blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def etag(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if path.endswith(LFS_SUFFIXES) else git_blob_id(data)


def tree_entry(path: str, data: bytes) -> dict:
    entry = {"type": "file", "path": path, "size": len(data), "oid": git_blob_id(data)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def start(script: str, stub: HubStub, folder: Path, **env: str) -> subprocess.Popen:
    env = stub.client_env(folder / "hf_home", PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", **env)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=env,
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen) -> tuple[str, str]:
    """Its stdout and stderr; a process that hangs fails the test."""
    try:
        return process.communicate(timeout=40)
    finally:
        process.kill()
