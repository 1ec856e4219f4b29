"""Training a GPT on dances without the features of their songs: one line with cause and cure, no warnings."""

import warnings

import pytest

from datasets.sequences import read_manifest, write_manifest
from tests.models.stages.synthetic import make_config, make_data, make_trainer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data, and a folder with a memory trained on it."""
    root = tmp_path_factory.mktemp("songless")
    trainer, _ = make_trainer("sep_vqvae", make_data(root / "data"), root / "runs", epochs=1)
    trainer.run()
    before = root / "runs" / "sep_vqvae_root" / "ckpt"
    before.mkdir(parents=True)
    (root / "runs" / "sep_vqvae" / "ckpt" / "last.pt").rename(before / "last.pt")
    return root


@pytest.mark.parametrize("songs", ["missing", "without features"])
@pytest.mark.parametrize("normalise", [True, False])
def test_it_names_cause_and_cure(prepared, songs, normalise):
    manifest = read_manifest(make_data(prepared / "data"))
    for facts in manifest["songs"].values():
        facts["features"] = 0
    write_manifest(prepared / "data", manifest | ({"songs": {}} if songs == "missing" else {}))
    config = make_config("motion_gpt", prepared / "data", prepared / "runs")
    own = {"model": config.model_dump(mode="json")["model"] | {"normalise_music": normalise}}

    def train():
        make_trainer("motion_gpt", prepared / "data", prepared / "runs", own=own)[0].run()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"prepare the data with their songs \(--songs DIR\)") as error:
            train()
    assert str(prepared / "data") in str(error.value)
    assert f"{'none' if normalise else '0'} of " in str(error.value)
