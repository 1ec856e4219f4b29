"""Archives that are damaged, locked or hostile."""

import io
import pickle
import re
import zipfile

import pytest

from tests.datasets.aistpp.fakes import NAMES, motion, run

BAD = "gWA_sFM_cAll_d25_mBR0_ch09"
pytestmark = pytest.mark.usefixtures("quick_music")


def test_a_damaged_member_of_a_zip_is_left_out_alone(source, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in source.rglob("*.*"):
            file.write(path, path.relative_to(source))
    content = bytearray(buffer.getvalue())
    victim = (source / "motions" / f"{NAMES[0]}.pkl").read_bytes()
    content[content.index(victim[500:900]) + 50] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(content)
    done = run(tmp_path / "bad.zip", tmp_path / "out")
    assert "Bad CRC-32" in done.manifest["left_out"][NAMES[0]]
    assert len(done.manifest["sequences"]) == 2


def test_a_zip_with_a_password_is_told(source, tmp_path):
    archive = tmp_path / "locked.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in source.rglob("*.*"):
            file.write(path, path.relative_to(source))
    content = archive.read_bytes()
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(mark), content):
            at = found.start() + flags
            content = content[:at] + bytes([content[at] | 1]) + content[at + 1 :]
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read: .*(encrypted|password)"):
        run(archive, tmp_path / "out")


def test_a_zip_with_backslashes_is_read(source, tmp_path):
    """Some programs on Windows write them; zipfile keeps them on other systems."""
    archive = tmp_path / "windows.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("AIST\\motions\\", b"")
        for path in source.rglob("*.*"):
            info = zipfile.ZipInfo("x")
            info.filename = "AIST\\" + str(path.relative_to(source)).replace("/", "\\")
            file.writestr(info, path.read_bytes())
        file.writestr("AIST\\motions\\.hidden.pkl", b"")
    with zipfile.ZipFile(archive) as file:
        assert f"AIST\\motions\\{NAMES[0]}.pkl" in file.namelist()
    from_zip = run(archive, tmp_path / "a").manifest
    from_folder = run(source, tmp_path / "b").manifest
    assert sorted(from_zip["sequences"]) == sorted(from_folder["sequences"]) == sorted(NAMES)
    assert sorted(from_zip["songs"]) == ["mBR0", "mPO1"]
    assert (tmp_path / "a" / "audio" / "mBR0.wav").is_file()


def test_paths_in_a_zip_lead_nowhere_else(source, tmp_path):
    archive, other = tmp_path / "slip.zip", BAD.replace("ch09", "ch08")
    with zipfile.ZipFile(archive, "w") as file:
        for path in source.rglob("*.*"):
            file.write(path, path.relative_to(source))
        file.writestr(f"../../motions/{BAD}.pkl", pickle.dumps(motion()))
        file.writestr(f"/{tmp_path}/motions/{other}.pkl", pickle.dumps(motion()))
    out = tmp_path / "deep" / "out"
    assert BAD not in run(archive, out).manifest["sequences"]
    found = [path for path in tmp_path.rglob("gWA_*") if path.is_file()]
    assert found == [out / "motion" / f"{other}.npy"]
