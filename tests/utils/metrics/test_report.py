import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.utils.metrics.motions import REST, made_up, smooth_dance
from utils.metrics import PROTOCOLS, Dance, Reference, dance_features, score
from utils.metrics.controls import (
    SignTest,
    _resampled_distances,
    bootstrap_intervals,
    finite_sample_floor,
    half_a_beat_off,
    other_songs,
    own_controls,
    shuffled_beat_scores,
    sign_tests,
    song_of,
)
from utils.metrics.frechet import diversity, fit_gaussian, frechet_distance, gaussian_distance, normalise
from utils.metrics.protocols import distinct
from utils.metrics.report import evaluate, write_report


def test_score_is_the_definition():
    real = Reference.of([Dance(f"r{i}", smooth_dance(i, 3 + i % 3), np.arange(9, 180, 30)) for i in range(8)])
    own = [Dance(f"g{i}", smooth_dance(50 + i, 4), np.arange(5, 240, 25)) for i in range(4)]
    row = score(own, real)
    features = [dance_features(d, 1200) for d in own]
    kinetic = np.stack([f.kinetic for f in features])
    a, b = (
        normalise(kinetic, real.stacked("kinetic")),
        normalise(real.stacked("kinetic"), real.stacked("kinetic")),
    )
    assert row["FID_k"] == frechet_distance(a, b)
    assert row["Div_k"] == diversity(a)
    assert row["jitter"] == pytest.approx(np.mean([f.physical["jitter"] for f in features]))
    assert score(features, real) == row
    assert score(own, real, max_frames=100)["FID_k"] != row["FID_k"]
    assert not set(score(own, real, "corrected")) & {"FID_k", "FID_g", "Div_k", "Div_g", "BAS", "PFC"}
    with pytest.raises(ValueError, match="protocol 'fact' is unknown; there are: bailando, corrected"):
        score(own, real, "fact")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_edges_of_a_set(protocol):
    real = Reference(tuple(made_up(10)))
    one = [Dance("a", smooth_dance(seconds=1))]
    row = score(one, real, protocol)
    undefined = {c for c, v in row.items() if math.isnan(v)}
    beats = {"brake", "landing_offset", "landing_spread", "loudness_following"}
    assert undefined == beats | {c for c in row if c.startswith(("FID", "Div", "BAS"))}
    two_frames = [
        Dance("a", smooth_dance()[:2]),
        Dance("b", smooth_dance(1)[:2]),
        Dance("c", REST[None].repeat(2, 0)),
    ]
    report = evaluate(two_frames, real, protocol)
    assert all(math.isfinite(v) for c, v in report.rows["generated"].items() if c.startswith(("FID", "Div")))
    assert any("have no music beats" in note for note in report.notes)
    alone = evaluate(one, None, protocol)
    assert list(alone.rows) == ["generated"]
    assert any("no real dances" in note for note in alone.notes)


def test_constant_features_are_reported():
    real = made_up(10)
    flat = [
        replace(d, geometric=d.geometric.copy(), geometric_corrected=d.geometric_corrected.copy())
        for d in real
    ]
    for dance in flat:
        dance.geometric[6] = dance.geometric_corrected[6] = 0.0
    reference, own = Reference(tuple(flat)), made_up(5, 3, "g")
    published, corrected = (evaluate(own, reference, protocol) for protocol in ("bailando", "corrected"))
    assert published.rows["generated"]["FID_g"] < 1e3
    assert any("[6] of geometric are the same" in note and "left out" in note for note in published.notes)
    assert corrected.rows["generated"]["FID_g_corrected"] < 1e3
    assert any("[6] of geometric_corrected" in note and "left out" in note for note in corrected.notes)


def test_other_songs():
    rng = np.random.default_rng(0)
    for songs in (
        ["a", "b"],
        list("aabbccdd"),
        list("aaabcd"),
        list("abcdefghij") * 4,
        ["a"] * 5 + ["b"] * 5,
    ):
        partner = other_songs(songs, rng)
        assert sorted(partner) == list(range(len(songs)))
        assert all(songs[i] != songs[j] for i, j in enumerate(partner))
    most = other_songs(list("aaab"), rng)
    assert sum(j is not None for j in most) == 2
    assert other_songs(["a"], rng) == [None]
    assert other_songs([], rng) == []


def test_shuffled_songs_lower_the_score_of_dances_that_keep_the_beat():
    dances = made_up(20)
    for protocol, column in (("bailando", "BAS"), ("corrected", "BAS_F1")):
        rules = PROTOCOLS[protocol]
        kept = np.mean([rules.beats(d)[column] for d in dances])
        shuffled = shuffled_beat_scores(dances, rules, seed=1)
        assert kept == pytest.approx(1, abs=1e-9)
        assert shuffled[column] < 0.6
        assert shuffled == shuffled_beat_scores(dances, rules, seed=1)
    alone = shuffled_beat_scores(dances[:1], PROTOCOLS["bailando"])
    assert math.isnan(alone["BAS"])


def test_sign_tests_by_hand():
    own = [{"BAS": 0.5, "brake": 0.2}, {"BAS": 0.7, "brake": 0.2}, {"BAS": math.nan, "brake": 0.5}]
    other = [{"BAS": 0.4, "brake": 0.3}, {"BAS": 0.7, "brake": 0.1}, {"BAS": 0.1, "brake": 0.6}]
    assert sign_tests(own, other, "c") == [
        SignTest("BAS", "c", 1, 0, 0.5),
        SignTest("brake", "c", 2, 1, 0.5),  # lower is better
    ]
    assert sign_tests(own[2:], [{}], "c") == []


def test_controls_of_dances_on_and_off_the_beat():
    """Dances on the beat are above both controls; unrelated ones are not; one song has no other."""
    rules = PROTOCOLS["bailando"]
    rows, tests = own_controls(made_up(20), rules)
    assert list(rows) == ["other songs", "half a beat off"]
    shuffled = shuffled_beat_scores(made_up(20), rules)
    assert rows["other songs"] == pytest.approx(shuffled, rel=1e-12, nan_ok=True)
    assert rows["half a beat off"]["BAS"] < 0.01
    assert all(test.better == 20 and test.p < 1e-5 for test in tests if test.column == "BAS")
    rng = np.random.default_rng(0)
    unrelated = [replace(d, motion_beats=np.sort(rng.choice(600, 26, False))) for d in made_up(40)]
    _, tests = own_controls(unrelated, rules)
    assert all(test.p > 0.01 for test in tests if test.column == "BAS")
    rows, _ = own_controls([replace(d, song="one") for d in made_up(3)], rules)
    assert list(rows) == ["half a beat off"]
    assert own_controls([replace(d, music_beats=None) for d in made_up(3)], rules) == ({}, [])


def test_half_a_beat_off():
    dance = replace(made_up(1)[0], music_beats=np.array([10, 30, 60]), frames=600)
    assert half_a_beat_off(dance).music_beats.tolist() == [20, 45, 75]
    assert half_a_beat_off(replace(dance, frames=70)).music_beats.tolist() == [20, 45]
    assert half_a_beat_off(replace(dance, music_beats=np.array([4]))).music_beats is None


def test_copies_are_counted_once():
    dances = made_up(5)
    copies = [*dances, *(replace(dance, name=f"copy of {dance.name}") for dance in dances[:2])]
    assert distinct(copies) == score(copies, None)["distinct"] == 5
    nearly = replace(dances[0], kinetic=dances[0].kinetic * (1 + 1e-6))
    assert distinct([dances[0], nearly]) == 1
    assert distinct([dances[0], replace(dances[0], geometric=dances[1].geometric)]) == 2


def test_shuffled_songs_are_cut_to_the_shorter():
    long, short = made_up(2)
    short = replace(
        short,
        frames=100,
        music_beats=short.music_beats[short.music_beats < 100],
        motion_times=short.motion_times[short.motion_times < 100 / 60],
    )
    scores = shuffled_beat_scores([long, short], PROTOCOLS["corrected"])
    cut = replace(
        long, motion_times=long.motion_times[long.motion_times < 100 / 60], music_beats=short.music_beats
    )
    other = replace(short, music_beats=long.music_beats[long.music_beats < 100])
    expected = np.mean([PROTOCOLS["corrected"].beats(d)["BAS_precision"] for d in (cut, other)])
    assert scores["BAS_precision"] == pytest.approx(expected)


def test_song_of():
    dance = made_up(1)[0]
    assert song_of(dance) == "s0"
    assert song_of(replace(dance, song="", name="gBR_sBM_cAll_d04_mBR0_ch01")) == "mBR0"
    assert song_of(replace(dance, song="", name="gBR_sBM_cAll_d04_mBR0")) == "mBR0"
    assert song_of(replace(dance, song="", name="mine")) == "mine"


def test_finite_sample_floor():
    reference = Reference(tuple(made_up(120)))
    rules = PROTOCOLS["bailando"]
    small, large = (finite_sample_floor(reference, rules, n, samples=20) for n in (10, 40))
    assert 5 < large["FID_g"].mean < small["FID_g"].mean  # one distribution, and still far above 0
    assert small["FID_g"].low < small["FID_g"].mean < small["FID_g"].high
    assert small == finite_sample_floor(reference, rules, 10, samples=20)
    assert small != finite_sample_floor(reference, rules, 10, samples=20, seed=1)
    fresh = score(made_up(40, 9, "g"), reference)["FID_g"]
    assert large["FID_g"].low * 0.8 < fresh < large["FID_g"].high * 1.2
    order = np.random.default_rng(5).permutation(120)  # the first draw of seed 5
    features = rules.normalised(reference.dances, reference, "kinetic")
    direct = frechet_distance(features[order[:10]], features[order[10:]])
    assert finite_sample_floor(reference, rules, 10, seed=5, samples=1)["FID_k"].mean == pytest.approx(
        direct, rel=1e-6
    )
    assert math.isnan(finite_sample_floor(Reference(tuple(made_up(3))), rules, 2)["FID_k"].mean)


def test_bootstrap_intervals_hold_the_estimate_and_narrow():
    reference, rules = Reference(tuple(made_up(100))), PROTOCOLS["bailando"]
    width = {}
    for num in (10, 80):
        own = [
            replace(d, physical={**d.physical, "jitter": float(i)})
            for i, d in enumerate(made_up(num, 5, "g"))
        ]
        row = score(own, reference)
        found = bootstrap_intervals(own, reference, rules, samples=200)
        for column, interval in found.items():
            assert interval.mean == pytest.approx(row[column], rel=1e-6, abs=1e-12)
            assert interval.low - 1e-9 <= interval.mean <= interval.high + 1e-9
        width[num] = found["Div_g"].high - found["Div_g"].low
        error = np.std(np.arange(num)) / math.sqrt(num)
        assert found["jitter"].high - found["jitter"].low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert width[80] < width[10]
    signed = [replace(d, physical={**d.physical, "jitter": i - 6.0}) for i, d in enumerate(made_up(10, 5))]
    low, high = bootstrap_intervals(signed, None, rules)["jitter"][1:]
    assert low == pytest.approx(-3.0, abs=0.3)  # -1.5 - 1.96 * 2.87 / sqrt(10)
    assert high == pytest.approx(0.2, abs=0.4)
    assert bootstrap_intervals(made_up(1), reference, rules) == {}


@pytest.mark.parametrize("num", [2, 10, 60])
def test_resampled_distances_are_the_distances(num):
    rng = np.random.default_rng(num)
    own, real = rng.normal(size=(num, 20)) * 2, fit_gaussian(rng.normal(size=(50, 20)))
    drawn = rng.integers(num, size=(7, num))
    direct = [gaussian_distance(fit_gaussian(own[row]), real) for row in drawn]
    np.testing.assert_allclose(_resampled_distances(own, drawn, real), direct, rtol=1e-6)


def test_report_and_its_files(tmp_path):
    reference = Reference(tuple(made_up(50)), source="made up")
    own = [replace(d, name="r3" if i == 0 else d.name) for i, d in enumerate(made_up(6, 7, "g"))]
    own[1] = replace(own[1], music_beats=None)
    report = evaluate(own, reference, rl_saw_songs=True, first_code="real", skipped={"x.txt": "not a dance"})
    assert list(report.rows) == [
        "generated",
        "generated, other songs",
        "generated, half a beat off",
        "real, same 1 names",
        "real, all 50",
        "real, songs shuffled",
        "floor: 6 real against the rest",
    ]
    assert report.settings["reinforcement learning saw these songs"] == "yes"
    text = report.markdown()
    for said in (
        "made up",
        "half the 95 % interval",
        "first code: real",
        "1 of 6 dances have no music",
        "x.txt: not a dance",
    ):
        assert said in text
    paths = write_report(report, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in paths)
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert content["metrics"]["FID_k"] == report.rows["generated"]["FID_k"]
    assert content["rows"]["real, same 1 names"]["FID_k"] is None
    tests = [SignTest(**test) for test in content["sign_tests"]]
    assert {test.control for test in tests} == {"other songs", "half a beat off"}
    (best,) = [test for test in tests if test[:2] == ("BAS", "half a beat off")]
    assert (best.better, best.worse, best.p) == (5, 0, 0.5**5)  # the sixth has no music
    assert "5 of 5, p 0.03" in text
    assert content["metrics"]["distinct"] == 6
    assert content["intervals"]["generated"]["BAS"]["low"] <= content["metrics"]["BAS"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "dances.csv").read_text())))
    assert [line["dance"] for line in lines] == [d.name for d in own]
    assert {line["row"] for line in lines} == {"generated"}
    assert lines[1]["BAS"] == ""
    assert float(lines[2]["BAS"]) == PROTOCOLS["bailando"].beats(own[2])["BAS"]
