"""Music features that a GPT ignores (`model.excluded_features`)."""

import pytest
import torch

from datasets.sequences import PreparedData, feature_columns
from models.gpt import GPTConfig, MotionGPT
from models.stages.motion_gpt import music_statistics
from models.vqvae import Codes

SIZES = {"width": 8, "heads": 2, "base_blocks": 1, "head_blocks": 1, "context": 4, "normalise_music": True}


def logits(gpt, music):
    return gpt(music, Codes(torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long))).upper


@pytest.mark.parametrize(
    "excluded", [(), ("tempogram",), ("mfcc", "beat"), ("beat_phase", "beat_time", "tempo")]
)
def test_a_gpt_ignores_excluded_features_and_no_others(excluded, small_data):
    """`tempogram`, which the version of the data lacks, changes nothing."""
    torch.manual_seed(0)
    data = PreparedData(small_data)
    gpt = MotionGPT(GPTConfig(**SIZES, excluded_features=excluded), (6, 5), data.num_features).eval()
    gpt.set_music_statistics(*music_statistics(data, excluded))
    music = torch.randn(1, 4, data.num_features)
    before = logits(gpt, music)
    assert before.isfinite().all()
    for name, columns in feature_columns(data.feature_version).items():
        changed = music.clone()
        changed[..., columns] += 50.0
        assert torch.equal(logits(gpt, changed), before) == (name in excluded), name


def test_excluding_features_needs_normalised_music():
    with pytest.raises(ValueError, match="normalise_music: true"):
        GPTConfig(**{**SIZES, "normalise_music": False}, excluded_features=("tempogram",))
