"""Finetuning to songs alone: the best epoch counts, and what it did to each song is told."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from models.evaluation import finetuning
from models.evaluation.finetuning import SongScore, judge_songs, kl_to_gpt, mean_score
from models.stages.rollouts import mean_rewards
from models.vqvae import Codes
from tests.models.stages import synthetic

OWN = {
    "songs": "all",
    "selection": {"by": "reward", "max_nll_increase": 1.0},
    "advantage": "normalised",
    "generation": {"first_codes": [3, 2]},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Earlier stages, and a data set of their songs without a dance."""
    root = tmp_path_factory.mktemp("finetuning")
    synthetic.make_data(root / "data")
    for name in synthetic.ORDER[:3]:
        synthetic.make_trainer(name, root / "data", root)[0].run()
    shutil.copytree(root / "data", root / "songs")
    manifest = json.loads((root / "songs" / "manifest.json").read_text())
    manifest |= {"sequences": {}, "splits": {"train": [], "test": []}}
    (root / "songs" / "manifest.json").write_text(json.dumps(manifest))
    return root


def trainer_of(root, output, **own):
    more = {"before": root, "own": {**OWN, **own}, "lr": 1e-2, "epochs": 3}
    return synthetic.make_trainer("actor_critic", root / "songs", output, **more)[0]


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    trainer = trainer_of(root, tmp_path_factory.mktemp("trained"))
    trainer.run()
    return trainer


def content(trainer):
    return json.loads((trainer.folder / "finetuning.json").read_text())


def test_each_song_is_told_of(trained, capsys):
    found = content(trained)
    selected = torch.load(trained.last, weights_only=True)["selection"]
    assert found["selected epoch"] == selected["epoch"]
    assert found["epochs"] == 3
    assert list(found["songs"]) == [f"song{i}" for i in range(synthetic.DANCES)]
    assert found["mean"]["after"]["reward"] == pytest.approx(selected["reward"], abs=1e-4)
    assert found["mean"]["after"]["nll"] <= found["nll at most"] + 1e-4
    for scores in found["songs"].values():
        assert scores["before"]["kl_to_gpt"] == 0
        assert -5 <= scores["before"]["reward"] <= 5
        assert 0 <= scores["after"]["beat_align"] <= 1
    table = (trained.folder / "finetuning.md").read_text()
    assert f"* selected epoch: {selected['epoch']}" in table
    row = next(line for line in table.splitlines() if line.startswith("| song3"))
    before, after = (found["songs"]["song3"][side]["reward"] for side in ("before", "after"))
    assert f"{before:.3f} -> {after:.3f}" in row
    trained.stage.end_training(trained.folder, 3)
    assert table in capsys.readouterr().out


def test_it_is_told_once_and_made_up_for(trained, root):
    """What a stopped run has not told, the next one tells, and the same."""
    path = trained.folder / "finetuning.json"
    before = path.read_text(), path.stat().st_mtime_ns
    again = trainer_of(root, trained.folder.parent)
    assert again.resume()
    again.run()
    assert path.stat().st_mtime_ns == before[1]
    path.unlink()
    again.run()
    assert path.read_text() == before[0]


def test_the_last_epoch_where_that_is_asked_for(root, tmp_path):
    trainer = trainer_of(root, tmp_path, selection={"by": "last"})
    trainer.run()
    found = content(trainer)
    assert (found["selected epoch"], found["selected by"]) == (3, "last")
    stage = trainer.stage
    earned = mean_rewards(stage.collector.collect(stage.model.gpt, stage.songs))
    assert found["mean"]["after"]["reward"] == pytest.approx(earned["reward"], abs=1e-5)
    assert found["mean"]["after"]["kl_to_gpt"] > 0


def test_the_beat_score_is_the_evaluations(trained, tmp_path):
    """Whole songs, judged by --eval from the checkpoint, have the beat scores that were told."""
    stage = trained.stage
    evaluation = stage.config.evaluation.model_copy(update={"split": "all", "max_frames": 10**6, "videos": 0})
    stage.config = stage.config.model_copy(update={"evaluation": evaluation})
    stage.load()
    stage.evaluate(tmp_path)
    with (tmp_path / "dances.csv").open() as file:
        scores = {(line["row"], line["dance"]): float(line["BAS"]) for line in csv.DictReader(file)}
    for song, found in content(trained)["songs"].items():
        assert found["before"]["beat_align"] == pytest.approx(scores["GPT", song], abs=1e-6)
        assert found["after"]["beat_align"] == pytest.approx(scores["actor-critic", song], abs=1e-6)


@torch.no_grad()
def test_the_divergence_by_hand(root, tmp_path):
    """Sum over codes of p log(p / q), state by state, each action's state once."""
    stage = trainer_of(root, tmp_path).stage
    policy, gpt = stage.model.gpt, stage.pretrained
    policy.head.to_upper.weight.mul_(30)
    dance = stage.collector.collect(policy, stage.songs[:1])[0].windows
    total, count = 0.0, 0
    for window in range(len(dance.mask)):
        for step in np.flatnonzero(dance.mask[window]):
            seen = slice(0, step + 1)
            codes = Codes(dance.upper[window, None, seen], dance.lower[window, None, seen])
            music = dance.music[window, None, 1 : step + 2]
            for ours, theirs in zip(policy(music, codes), gpt(music, codes), strict=True):
                p, q = (x[0, -1].double().softmax(0) for x in (ours, theirs))
                total += float((p * (p / q).log()).sum())
            count += 1
    assert total / count > 0.01
    assert kl_to_gpt(policy, gpt, dance, stage.device, 7) == pytest.approx(total / count, rel=1e-4)


def test_songs_without_beats_have_no_beat_score(trained, capsys):
    stage = trained.stage
    silent = [song._replace(beats=torch.zeros_like(song.beats)) for song in stage.songs[:2]]
    judged = judge_songs(
        stage.collector, stage.pretrained, stage.model.gpt, [silent[0], stage.songs[1]], {}, {}
    )
    first, second = (before for before, _ in judged.songs.values())
    assert np.isnan(first.beat_align)
    assert mean_score([first, second]).beat_align == second.beat_align
    assert "| - -> - " in finetuning.markdown(judged)
    assert np.isnan(mean_score([first]).beat_align)
    assert mean_score([SongScore(1, 0, 2, 0), SongScore(2, 1, 4, 0)]) == (1.5, 0.5, 3, 0)
