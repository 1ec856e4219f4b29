import json
import logging

import numpy as np
import pytest

import extract_aist_features
from datasets.sequences import PreparedData, beats_path, motion_path, write_array, write_manifest
from tests.utils.metrics.motions import smooth_dance
from utils.metrics import Dance, Reference, dance_features
from utils.metrics.__main__ import main
from utils.metrics.plots import beat_plot, feature_plot, feature_titles, score_plot
from utils.metrics.reference import FILE_NAME, save_features


def prepare(root, num=6, seconds=2.0):
    """A small prepared folder; the last dance has no song."""
    frames, songs, sequences = round(seconds * 60) + 1, {}, {}
    for i in range(2):
        write_array(beats_path(root, f"mBR{i}"), np.arange(200) % (20 + 5 * i) == 3)
        songs[f"mBR{i}"] = {"features": 0, "beats": 200}
    for i in range(num):
        name = f"gBR_sBM_cAll_d{i:02d}_mBR{i % 2 if i < num - 1 else 9}_ch01"
        write_array(motion_path(root, name), smooth_dance(i, seconds).astype(np.float32))
        sequences[name] = {"frames": frames, "song": name.split("_")[4]}
    music = {"version": "standard", "fps": 7.5, "columns": 438}
    write_manifest(
        root,
        {
            "name": "t", "skeleton": "smpl_24", "fps": 60, "music": music, "sequences": sequences,
            "songs": songs, "splits": {"train": [], "test": []}, "left_out": {},
        },
    )  # fmt: skip
    return root


def write_dances(folder, num=3):
    folder.mkdir()
    for i in range(num):
        np.save(
            folder / f"gBR_sBM_cAll_d0{i}_mBR{i % 2}_ch01.npy", smooth_dance(20 + i, 2.5).astype(np.float32)
        )
    return folder


def test_from_prepared_data_to_the_table(tmp_path, capsys):
    data, dances = prepare(tmp_path / "data"), write_dances(tmp_path / "dances")
    (dances / "readme.txt").write_text("x")
    assert main([str(dances), "--reference", str(data)]) == 2
    assert "extract_aist_features.py --data" in capsys.readouterr().err
    assert extract_aist_features.main(["--data", str(data)]) == 0
    assert main([str(dances), "--reference", str(data), "--protocol", "both", "--rl-saw-songs", "no"]) == 0
    out = capsys.readouterr().out
    assert "readme.txt: not a dance" in out
    assert "| real, songs shuffled" in out
    for protocol, column in (("bailando", "FID_k"), ("corrected", "FID_k_corrected")):
        folder = dances / "metrics" / protocol
        content = json.loads((folder / "metrics.json").read_text())
        assert content["metrics"][column] > 0
        assert content["metrics"]["PFC" if protocol == "bailando" else "PFC_fps_free"] > 0
        assert content["settings"]["dances with music"] == 3  # found in the prepared folder by name
        assert "FID_k" in (folder / "table.md").read_text()
        assert len((folder / "dances.csv").read_text().splitlines()) == 4
        assert len(list((folder / "plots").rglob("*.png"))) == (6 if protocol == "bailando" else 8)
    alone = tmp_path / "alone"
    file = data / FILE_NAME
    assert main([str(dances), "--reference", str(file), "--no-plots", "--out", str(alone)]) == 0
    assert sorted(p.name for p in alone.iterdir()) == ["dances.csv", "metrics.json", "table.md"]
    first = json.loads((dances / "metrics" / "bailando" / "metrics.json").read_text())
    again = json.loads((alone / "metrics.json").read_text())
    assert again["settings"]["dances with music"] == 3  # that of the real dances of their names
    of_music = {"BAS": 0, "brake": 0}  # beats of the real dances are known up to their ends only
    assert {**first["metrics"], **of_music} == {**again["metrics"], **of_music}


def test_a_folder_as_reference_and_no_reference(tmp_path, capsys):
    dances = write_dances(tmp_path / "dances")
    real = write_dances(tmp_path / "real", 5)
    assert main([str(dances), "--reference", str(real), "--no-plots", "--max-frames", "0"]) == 0
    content = json.loads((dances / "metrics" / "metrics.json").read_text())
    assert content["settings"]["real dances"] == f"5, whole, from {real}"
    assert content["metrics"]["BAS"] is None
    assert main([str(dances / "gBR_sBM_cAll_d00_mBR0_ch01.npy"), "--out", str(tmp_path / "one")]) == 0
    assert "no real dances were given" in capsys.readouterr().out
    assert len(list((tmp_path / "one" / "plots" / "beats").iterdir())) == 1


def test_messages(tmp_path, capsys):
    assert main([str(tmp_path / "no")]) == 2
    assert "no is missing" in capsys.readouterr().err
    assert main([str(tmp_path), "--max-frames", "1"]) == 2
    assert "--max-frames must be 0 or at least 2, got 1" in capsys.readouterr().err
    np.save(tmp_path / "bad.npy", np.full((9, 24, 3), np.nan))
    assert main([str(tmp_path)]) == 2
    assert "bad.npy: joints must be finite, got nan in frame 0" in capsys.readouterr().err
    assert extract_aist_features.main(["--data", str(tmp_path / "no")]) == 2
    assert "prepare_aistpp_data.py" in capsys.readouterr().err


def test_extraction(tmp_path, caplog):
    data = prepare(tmp_path / "data")
    (data / FILE_NAME).write_bytes(b"half")  # a damaged file is made again
    path = extract_aist_features.extract(data)

    reference, prepared = Reference.load(data), PreparedData(data)
    assert list(reference.names) == prepared.names("all")
    for dance in reference.dances:
        sequence = prepared.sequence(dance.name)
        beats = sequence.beats if len(sequence.beats) else None
        expected = dance_features(Dance(dance.name, sequence.joints, beats, song=sequence.song))
        np.testing.assert_array_equal(dance.kinetic, expected.kinetic)
        assert (dance.music_beats is None) == (expected.music_beats is None)
    assert sum(d.music_beats is None for d in reference.dances) == 1

    before = path.read_bytes()
    with caplog.at_level(logging.INFO):
        extract_aist_features.extract(data)
    assert "is up to date" in caplog.text
    assert path.read_bytes() == before
    (data / "manifest.json").write_text((data / "manifest.json").read_text() + "\n")
    with pytest.raises(ValueError, match="of other data"):
        Reference.load(data)
    extract_aist_features.extract(data)
    Reference.load(data)


def test_plots_show_what_they_should(tmp_path):
    dance = Dance("a", smooth_dance(seconds=4), np.arange(10, 240, 30))
    axes = beat_plot(dance).axes[0]
    beats = dance_features(dance)
    dots = next(line for line in axes.lines if line.get_label() == "motion beat")
    np.testing.assert_allclose(dots.get_xdata(), beats.motion_beats / 60)
    vertical = [line[0, 0] for lines in axes.collections for line in lines.get_segments()]
    np.testing.assert_allclose(vertical, beats.music_beats / 60)
    assert "BAS 0." in axes.get_title()
    axes = beat_plot(dance, protocol="corrected").axes[0]
    dots = next(line for line in axes.lines if line.get_label() == "motion beat")
    np.testing.assert_allclose(dots.get_xdata(), beats.motion_times)
    assert "BAS_F1 0." in axes.get_title()
    assert "BAS 0." not in axes.get_title()
    beat_plot(Dance("two", smooth_dance()[:2]))
    beat_plot(Dance("two", smooth_dance()[:2]), protocol="corrected")
    beat_plot(Dance("still", np.repeat(smooth_dance()[:1], 30, 0), np.zeros(0, int)))

    for seconds, rows, each in ((0.5, 1, 0.5), (20.8, 1, 20.8), (47.0, 2, 23.5), (300.0, 12, 25.0)):
        long = Dance("long", smooth_dance(0, seconds), np.arange(0, 60 * int(seconds), 30))
        parts = beat_plot(long).axes
        limits = [axes.get_xlim() for axes in parts]
        np.testing.assert_allclose(limits, [(each * row, each * (row + 1)) for row in range(rows)], atol=0.02)
        drawn = [len(lines.get_segments()) for axes in parts for lines in axes.collections]
        assert sum(drawn) == len(long.music_beats)  # each beat once, to the end
        dots = [line.get_xdata() for axes in parts for line in axes.lines if line.get_marker() == "o"]
        assert set(np.concatenate(dots)) == set(dance_features(long).motion_beats / 60)
        assert parts[-1].get_xlim()[1] >= seconds - 0.5

    features = [dance_features(Dance(f"{i}", smooth_dance(i, 1))) for i in range(3)]
    reference = Reference(tuple(features))
    assert len(feature_titles("kinetic")) == 72
    assert len(feature_titles("geometric_corrected")) == 32
    figure = feature_plot(features, reference, "geometric")
    assert [len(axes.patches) for axes in figure.axes] == [2] * 32
    figure = score_plot([0.2, np.nan], [0.3, 0.25], 0.24)
    assert "real, songs shuffled 0.2400" in [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    score_plot([np.nan], [], np.nan)


def test_saved_features_of_nothing_known(tmp_path):
    features = [dance_features(Dance("a", smooth_dance(seconds=1)))]
    save_features(features, tmp_path / "f.npz", "")
    assert Reference.load(tmp_path / "f.npz").dances[0].music_beats is None


def test_beats_that_match_no_dance_are_named_and_frames_follow_the_rate(tmp_path, capsys):
    dances = write_dances(tmp_path / "dances", 1)
    beats = np.arange(20, 140, 17)
    table = {"mBR0": beats.tolist(), "mXX1": [3, 40], "mXX0": [4, 60]}
    (tmp_path / "beats.json").write_text(json.dumps(table))
    scores = {}
    for fps in (30, 60):
        np.save(dances / "gBR_sBM_cAll_d00_mBR0_ch01.npy", smooth_dance(20, 5.0, fps))
        frames = np.round(beats * fps / 60).astype(int)
        (tmp_path / "beats.json").write_text(json.dumps(table | {"mBR0": frames.tolist()}))
        options = ["--music", str(tmp_path / "beats.json"), "--no-plots", "--fps", str(fps)]
        assert main([str(dances), *options]) == 0
        assert "beats that match no dance: mXX0, mXX1" in capsys.readouterr().err
        scores[fps] = json.loads((dances / "metrics" / "metrics.json").read_text())["metrics"]["BAS"]
    assert scores[30] == pytest.approx(scores[60], abs=0.05)
