"""The table of metrics as text."""

import math
from dataclasses import replace

import pytest

from tests.utils.metrics.motions import made_up
from utils.metrics import PROTOCOLS, Reference, format_table, score
from utils.metrics.controls import (
    shuffled_beat_scores,
)
from utils.metrics.report import evaluate
from utils.metrics.table import WIDTH


def test_several_rows_beside_each_other():
    reference, own = Reference(tuple(made_up(50))), made_up(6, 7)
    other = made_up(4, 8)
    report = evaluate(own, reference, name="ours", beside={"theirs": other})
    assert list(report.rows) == [
        "ours",
        "theirs",
        "ours, other songs",
        "ours, half a beat off",
        "real",
        "real, all 50",
        "real, songs shuffled",
        "floor: 6 real against the rest",
    ]
    alone = evaluate(other, reference, name="theirs")
    assert report.rows["theirs"] == alone.rows["theirs"]
    assert report.intervals["theirs"] == alone.intervals["theirs"]
    assert [line["row"] for line in report.per_dance] == ["ours"] * 6 + ["theirs"] * 4
    same = reference.named([dance.name for dance in own])
    assert report.rows["real"] == score(same, reference)
    assert report.rows["real, songs shuffled"] == shuffled_beat_scores(same, PROTOCOLS["bailando"])
    one_song = [replace(dance, song="s0") for dance in reference.dances[:6]]
    among_all = evaluate(own, Reference((*one_song, *reference.dances[6:])))
    assert not math.isnan(among_all.rows["real, songs shuffled"]["BAS"])
    with pytest.raises(ValueError, match="two rows have one name: ours"):
        evaluate(own, reference, name="ours", beside={"ours": other})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tables_fit_a_terminal(protocol):
    reference = Reference(tuple(made_up(50)))
    report = evaluate(
        made_up(6, 7, "g"), reference, protocol, name="actor-critic", beside={"GPT": made_up(4)}
    )
    report.rows["GPT"]["joint_error_mm"] = 31.25
    tables = report.tables()
    assert all(len(line) <= WIDTH for table in tables for line in table.splitlines())
    columns = [[cell.strip() for cell in table.splitlines()[0].split("|")[2:-1]] for table in tables]
    assert columns[0][:2] == [f"FID_{suffix}" for suffix, _ in PROTOCOLS[protocol].sets]
    known = {c for row in report.rows.values() for c, value in row.items() if not math.isnan(value)}
    assert sorted(c for some in columns for c in some) == sorted(known)
    (beats,) = [some for some in columns if "freezing" in some]
    assert beats[0].startswith("BAS")
    (own,) = [table for table in tables if "joint_error_mm" in table]
    assert own.splitlines()[2:] == ["| GPT |           31.2 |"]
    ends = report.intervals["GPT"][columns[0][0]]
    assert f"{report.rows['GPT'][columns[0][0]]:.2f} ± {(ends.high - ends.low) / 2:.2f}" in tables[0]


def test_table():
    text = format_table(
        {"a": {"BAS": 0.23741, "FID_k": 17.1, "own": "x|y"}, "bb": {"FID_k": math.nan, "jitter": 12.3}}
    )
    assert text.splitlines() == [
        "|     | FID_k |    BAS | jitter |  own |",
        "|-----|------:|-------:|-------:|-----:|",
        "| a   | 17.10 | 0.2374 |      - | x\\|y |",
        "| bb  |     - |      - |     12 |    - |",
    ]
    assert "1.23e+15" in format_table({"a": {"FID_k": 1.2345e15}})
    assert format_table({"a": {"n": 3, "m": 1.0}}, ["m", "z"]).splitlines()[2] == "| a   | 1.00 |   - |"
