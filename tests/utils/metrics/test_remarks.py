"""The report names dances in other units, along other axes, and with motion that no body makes."""

import json

import numpy as np
import pytest

from tests.datasets.aistpp.fakes import body
from utils.metrics.__main__ import main
from utils.recording import to_y_up


@pytest.fixture
def dances(tmp_path):
    folder = tmp_path / "dances"
    folder.mkdir()
    for seed, name in enumerate(("clean", "cm", "jump", "zup")):
        joints = body(seed=seed)
        if name == "jump":
            joints[150:] += [5, 0, 0]
        joints = {"cm": 100 * joints, "zup": to_y_up(joints, "-z")}.get(name, joints)
        np.save(folder / f"{name}.npy", joints)
    return folder


def test_remarks_are_printed_and_stored(dances, capsys):
    assert main([str(dances), "--no-plots"]) == 0
    notes = json.loads((dances / "metrics" / "metrics.json").read_text())["notes"]
    remarks = [note for note in notes if note.split(":")[0] in ("clean", "cm", "jump", "zup")]
    size = np.median(np.ptp(100 * body(seed=1), axis=1).max(1))
    assert remarks[0].startswith(f"cm: the body measures {size:.3g}; in metres it would be about 1.5 (centi")
    assert remarks[1].startswith("jump: no body moves like this: frames 149-150: ")
    assert remarks[2].startswith(
        "zup: the head is above the toes along z, not y (100 % of frames against 0 %)"
    )
    assert len(remarks) == 3
    assert f"* Note: {remarks[2]}" in capsys.readouterr().out


def test_remarks_on_the_reference(dances, capsys):
    (dances / "cm.npy").unlink()
    (dances / "jump.npy").unlink()
    assert main([str(dances / "clean.npy"), "--reference", str(dances), "--no-plots"]) == 0
    assert "in the reference: zup: the head is above the toes along z" in capsys.readouterr().err
