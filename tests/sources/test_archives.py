"""Archives from others: nothing lands outside the folder, and half an archive is no archive."""

import io
import tarfile
import zipfile

import pytest

from basics.errors import UserError
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
