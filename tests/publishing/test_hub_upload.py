"""Uploads with the real Hub client against tests/hub_stub.py, in processes of their own."""

import os
import signal
from pathlib import Path

import pytest
from hub_stub import FILES, REPO_ID, HubStub, finish, start

from basics.settings import load_settings
from publishing import hub_upload as hub

UPLOADER = f"""
import signal
from pathlib import Path
from publishing import hub_upload
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
hub_upload.RETRIES, hub_upload.FIRST_DELAY = 2, 0.05
uploader = hub_upload.HubUploader("{REPO_ID}", private=True)
"""
UPLOAD_ONCE = UPLOADER + "uploader.upload(Path('best'), 'Epoch 1')\nprint(uploader.close(), end='')"


@pytest.fixture
def stub():
    with HubStub() as server:
        yield server


def write_best(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    best = folder / "best"
    for name, content in files.items():
        (best / name).parent.mkdir(parents=True, exist_ok=True)
        (best / name).write_bytes(content)
    return best


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in ("best", "hf_home")]


def test_the_folder_arrives_byte_for_byte_in_a_private_repository(stub, tmp_path):
    write_best(tmp_path)
    output, errors = finish(start(UPLOAD_ONCE, stub, tmp_path))
    assert stub.files == FILES and stub.commits == ["Epoch 1"], errors
    assert stub.private == {REPO_ID: True}
    assert output.splitlines()[-1] == f"hub          {stub.endpoint}/{REPO_ID} (1 upload, the last: Epoch 1)"
    assert leftovers(tmp_path) == []


def test_an_answer_of_503_is_tried_again(stub, tmp_path):
    write_best(tmp_path)
    stub.fail_next(2, 503)
    output, errors = finish(start(UPLOAD_ONCE, stub, tmp_path))
    assert stub.files == FILES, output + errors


def test_a_refused_token_is_not_tried_again(stub, tmp_path):
    write_best(tmp_path)
    stub.fail_next(float("inf"), 401)
    output, _ = finish(start(UPLOAD_ONCE, stub, tmp_path))
    assert stub.requests.count("POST /api/repos/create") == 1
    assert "hf auth login" in output and "hf upload" in output


def test_a_dead_server_never_raises_and_the_end_says_what_to_type(stub, tmp_path):
    write_best(tmp_path)
    script = UPLOAD_ONCE + "\nprint('the run ended well')"
    output, errors = finish(start(script, stub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9"))
    assert f"    hf upload {REPO_ID} best . --repo-type model --private\n" in output
    assert "http://127.0.0.1:9 cannot be reached" in output
    assert output.endswith("the run ended well\n")
    assert "Traceback" not in errors and errors.count("upload failed, training goes on") == 1
    assert leftovers(tmp_path) == []


def test_the_command_to_type_is_one_that_the_hub_client_knows(stub, tmp_path):
    write_best(tmp_path)
    lines = closing_lines_after_failure(tmp_path / "best").splitlines()
    command = lines[-1].split()
    assert command[:2] == ["hf", "upload"]
    script = f"import sys; sys.argv = {command!r}; from huggingface_hub.cli.hf import main; main()"
    _, errors = finish(start(script, stub, tmp_path))
    assert stub.files == FILES, errors


def closing_lines_after_failure(folder: Path) -> str:
    uploader = hub.HubUploader(REPO_ID, private=True)
    uploader.folder, uploader.failure = folder, "no network"
    return uploader.close()


def test_a_newer_best_during_an_upload_is_not_lost_and_each_upload_is_its_snapshot(stub, tmp_path):
    """The first is held on its way while best/ is replaced twice: the second gives way, the third follows."""
    stub.gate.clear()
    write_best(tmp_path)
    process = start(
        UPLOADER
        + """
import os, shutil
def replace_best(content):
    shutil.copytree("best", "fresh")
    Path("fresh/config.json").unlink()
    Path("fresh/config.json").write_text(content)
    shutil.rmtree("best")
    os.replace("fresh", "best")
uploader.upload(Path("best"), "first")
replace_best("second"); input()
uploader.upload(Path("best"), "second")
replace_best("third")
uploader.upload(Path("best"), "third")
shutil.rmtree("best")
print("queued")
print(uploader.close(), end="")
""",
        stub,
        tmp_path,
    )
    assert stub.held.wait(20)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "queued\n"
    stub.gate.set()
    output, errors = finish(process)
    assert stub.commits == ["first", "third"], output + errors
    assert stub.versions == [FILES, FILES | {"config.json": b"third"}]
    assert "(2 uploads, the last: third)" in output and leftovers(tmp_path) == []


def test_a_snapshot_keeps_what_the_folder_held(tmp_path):
    best = write_best(tmp_path)
    uploader = hub.HubUploader(REPO_ID, private=True)
    snapshot = uploader.take_snapshot(best)
    write_best(tmp_path / "fresh", {"config.json": b"newer"})
    os.replace(tmp_path / "fresh" / "best" / "config.json", best / "config.json")
    assert (snapshot / "config.json").read_bytes() == FILES["config.json"]
    assert (snapshot / "model.safetensors").samefile(best / "model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process on Windows")
def test_ctrl_c_gives_up_a_hanging_upload(stub, tmp_path):
    stub.gate.clear()
    write_best(tmp_path)
    process = start(UPLOAD_ONCE, stub, tmp_path)
    assert stub.held.wait(20)
    while "waiting" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    output, errors = finish(process)
    assert "interrupted" in output and "hf upload" in output, errors
    assert process.returncode == 0 and leftovers(tmp_path) == []


def test_without_a_repository_nothing_happens(tmp_path):
    uploader = hub.make_uploader(load_settings())
    uploader.upload(tmp_path / "not there", "Epoch 1")
    assert uploader.close() == ""


def test_a_folder_that_cannot_be_read_is_reported_at_the_end(tmp_path):
    uploader = hub.HubUploader(REPO_ID, private=False)
    uploader.upload(tmp_path / "not there", "Epoch 1")
    assert "not uploaded: no snapshot" in uploader.close()
