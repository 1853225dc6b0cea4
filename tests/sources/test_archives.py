"""Archives from others: nothing lands outside the folder, and half an archive is no archive."""

import gzip
import io
import os
import tarfile
import zipfile

import pytest

from basics.errors import UserError
from sources import archives
from sources.archives import unpack


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil-absolute.txt", "a/../../evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_path_of_an_archive_leaves_its_folder(tmp_path, kind, name):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, "evil")
    else:
        with tarfile.open(archive, "w") as file:
            file.addfile(info := tarfile.TarInfo(name), io.BytesIO(b""))
            assert info.size == 0
    with pytest.raises(UserError, match="outside"):
        unpack([archive], tmp_path / "in" / "images")
    assert not list(tmp_path.rglob("*evil*")) and not list((tmp_path / "in" / "images").iterdir())


def test_a_link_in_an_archive_cannot_lead_out(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as file:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        file.addfile(link)
    with pytest.raises(UserError):
        unpack([archive], tmp_path / "images")


def test_a_cut_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match="download it again"):
        unpack([tmp_path / "a.zip"], tmp_path / "images")


def tar(size: int) -> bytes:
    """An archive of a file of zeros."""
    with tarfile.open(fileobj=(content := io.BytesIO()), mode="w") as file:
        info = tarfile.TarInfo("a.png")
        info.size = size
        file.addfile(info, io.BytesIO(bytes(size)))
    return content.getvalue()


@pytest.mark.parametrize("place", [-8, -1])  # the checksum, the length
def test_a_gzip_that_does_not_hold_what_it_says_is_refused(tmp_path, place):
    data = bytearray(gzip.compress(tar(50_000)))
    (tmp_path / "good.tar.gz").write_bytes(data)
    data[place] ^= 1
    (tmp_path / "bad.tar.gz").write_bytes(data)
    assert (unpack([tmp_path / "good.tar.gz"], tmp_path / "a") / "a.png").stat().st_size == 50_000
    with pytest.raises(UserError, match="bad.tar.gz cannot be unpacked: .*; download it again"):
        unpack([tmp_path / "bad.tar.gz"], tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_written(tmp_path, monkeypatch, kind):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name in "ab":
                file.writestr(name, bytes(60))
    else:
        archive.write_bytes(tar(120))
    monkeypatch.setattr(archives, "free_bytes", lambda _: 100)
    with pytest.raises(UserError, match=r"0.0 MiB to unpack, 0.0 MiB free"):
        unpack([archive], tmp_path / "images")
    assert not list((tmp_path / "images").iterdir())


def test_a_pipe_for_an_archive_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(UserError, match="is a pipe, expected an archive"):
        unpack([tmp_path / "a.zip"], tmp_path / "images")
