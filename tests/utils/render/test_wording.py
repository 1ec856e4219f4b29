import numpy as np
import pytest

from utils.metrics.physical import METRICS
from utils.metrics.protocols import PROTOCOLS
from utils.render.wording import WORDINGS, meanings, worded

# what --dance puts on its cards
DANCE = (
    "seconds", "tempo", "floor_drift_mm", "music_beats", "BAS", "BAS_F1", "foot_skate", "jitter", "freezing",
    "bone_drift", "fit_error_mm", "fit_error_max_mm", "worst_stretch_mm", "max_turn_deg", "skating_mm_s",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("freezing", 0.5821, "58.2 %"),
        ("foot_skate", np.float32(0.05), "5.00 %"),
        ("foot_float", 0.0123, "12.3 mm"),
        ("jitter", 1234.5, "1234 m/s³"),
        ("jitter", 186_432.0, "186 000 m/s³"),
        ("jitter", 1e9, "1e+09 m/s³"),
        ("seconds", 197.3, "197 s"),
        ("seconds", 3, "3 s"),
        ("max_turn_deg", 11.2, "11.2°"),
        ("floor_drift_mm", 0.0, "0 mm"),
        ("music_beats", 402, "402"),
        ("BAS", 0.4123, "0.412"),
        ("BAS", float("nan"), "–"),
        ("jitter", None, "–"),
        ("jitter", float("inf"), "inf"),
        ("skating_mm_s", "120→30", "120→30 mm/s"),
        ("tempo", "128 BPM", "128 BPM"),
        ("of nobody", 0.5, "0.500"),
        ("of nobody", "text", "text"),
    ],
)
def test_values_have_units(name, value, text):
    assert worded(name, value).replace("\u00a0", " ").replace("\u202f", " ") == text


def test_all_numbers_are_described():
    columns = {"song", "frames", *METRICS, *DANCE}
    for rules in PROTOCOLS.values():
        columns |= {f"{kind}_{suffix}" for kind in ("FID", "Div") for suffix, _ in rules.sets}
    columns |= {"BAS_recall", "BAS_precision", "joint_error_mm", "root_error_mm"}
    assert columns <= set(WORDINGS)
    for name, wording in WORDINGS.items():
        assert wording.meaning.endswith("."), name
        assert wording.meaning[0].isupper(), name
        assert len(wording.label) < 30, name
    told = meanings(["freezing", "of nobody", "freezing"])
    assert list(told) == ["freezing"]
    assert told["freezing"]["meaning"].endswith("Lower is better.")
    assert (told["freezing"]["unit"], told["freezing"]["better"]) == ("%", "lower")
