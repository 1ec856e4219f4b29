"""The command that checks a GPU: what it writes, a wrong check, a failing part; on a processor here."""

import json

import pytest
import torch

from tests.benchmarks import gpu


@pytest.fixture
def on_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_goldens_are_checked_and_written(on_processor, tmp_path, capsys):
    assert gpu.main(["--quick", "--only", "goldens", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["goldens"]
    assert len(rows) == 6
    assert all(row["right"] == "yes" for row in rows)
    table = (tmp_path / "gpu.md").read_text()
    assert table.startswith("## goldens")
    assert "| golden dances b, replayed | yes |" in table
    assert "0 wrong or failed" in capsys.readouterr().out


def test_wrong_and_failing_parts_are_reported_and_the_rest_goes_on(
    on_processor, tmp_path, monkeypatch, capsys
):
    def wrong(context):
        yield gpu.check("one", True)
        yield gpu.check("two", False, off=0.5)
        raise RuntimeError("no kernel image\nsecond line")

    monkeypatch.setitem(gpu.PARTS, "machine", wrong)
    monkeypatch.setitem(gpu.PARTS, "graphs", lambda context: iter([gpu.check("three", True)]))
    assert gpu.main(["--only", "machine", "graphs", "--out", str(tmp_path)]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [row.get("right") for row in found["machine"]] == ["yes", "NO", None]
    assert found["machine"][2]["message"] == ["no kernel image"]
    assert found["graphs"][0]["check"] == "three"
    assert "2 wrong or failed" in capsys.readouterr().out
