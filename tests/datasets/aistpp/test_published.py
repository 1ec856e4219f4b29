import json
import zipfile

import numpy as np
import pytest

from datasets.aistpp.preparation import prepare
from datasets.aistpp.published import published_plan
from datasets.sequences import PreparedData
from prepare_aistpp_data import main
from tests.datasets.aistpp.fakes import NAMES, published, snapshot


@pytest.fixture
def source(tmp_path):
    return published(tmp_path / "source")


def table(source, folder, name):
    content = json.loads((source / folder / f"{name}.json").read_text())
    return {key: np.array(value) for key, value in content.items() if key != "id"}


def test_the_published_data_come_back_number_by_number(source, tmp_path, capsys):
    assert main(["--published", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    data = PreparedData(tmp_path / "out")
    assert (data.names("train"), data.names("test")) == ([NAMES[1]], [NAMES[2]])
    assert (data.feature_version, data.music_fps) == ("compat", 7.5)
    for folder, name in (("aistpp_train_wav", NAMES[1]), ("aistpp_test_full_wav", NAMES[2])):
        raw, sequence = table(source, folder, name), data.sequence(name)
        np.testing.assert_array_equal(sequence.joints.reshape(-1, 72), raw["dance_array"].astype(np.float32))
        np.testing.assert_array_equal(sequence.beats, raw["music_array"][:, 53] == 1)
        song = table(source, "aistpp_music_feat_7.5fps", sequence.song)
        np.testing.assert_array_equal(sequence.music, song["music_array"].astype(np.float32))
    assert "imported from the published" in capsys.readouterr().out
    before = snapshot(tmp_path / "out")
    assert main(["--published", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "0 made, 4 were there already" in capsys.readouterr().out
    assert snapshot(tmp_path / "out") == before


def test_the_zip_gives_the_same(source, tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        for path in source.rglob("*.json"):
            file.write(path, "data/" + str(path.relative_to(source)))
    prepare(published_plan(source), tmp_path / "a", {}, progress=False)
    prepare(published_plan(tmp_path / "data.zip"), tmp_path / "b", {}, progress=False)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_empty_and_torn_files_of_the_archive_are_left_out(source, tmp_path):
    good = (source / "aistpp_train_wav" / f"{NAMES[1]}.json").read_text()
    folder = source / "aistpp_train_wav"
    texts = ("", good[:-30], "{}", "[[1, 2], [3]]")
    bad = {f"gBR_sBM_cAll_d04_mBR0_ch{i}": text for i, text in enumerate(texts, 10)}
    bad["gBR_sBM_cAll_d04_mBR0_ch20"] = good.replace('"dance_array": [[', '"dance_array": [[NaN, ', 1)
    wrong = {"dance_array": [[0.0] * 66] * 64, "music_array": [[0.0] * 438]}
    bad["gBR_sBM_cAll_d04_mBR0_ch21"] = json.dumps(wrong)
    for name, text in bad.items():
        (folder / f"{name}.json").write_text(text)
    done = prepare(published_plan(source), tmp_path / "out", {}, progress=False)
    left_out = done.manifest["left_out"]
    assert list(left_out) == list(bad)
    assert "is empty (0 bytes)" in left_out["gBR_sBM_cAll_d04_mBR0_ch10"]
    assert "(64, 66)" in left_out["gBR_sBM_cAll_d04_mBR0_ch21"]
    assert list(done.manifest["sequences"]) == sorted(NAMES[1:])


def test_missing_folders_are_named(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="aistpp_train_wav"):
        published_plan(source / "aistpp_music_feat_7.5fps")
    (source / "aistpp_music_feat_7.5fps").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"7\.5fps"):
        published_plan(source)
    prepare(published_plan(source, song_optional=True), tmp_path / "out", {}, progress=False)
    sequence = PreparedData(tmp_path / "out").sequence(NAMES[1])
    assert (len(sequence.music), sequence.beats.sum()) == (0, 4)
