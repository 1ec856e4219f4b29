"""Stages of a GPT with a music transformer: clips with context, frozen parts, what is refused."""

import numpy as np
import pytest
import torch

from datasets.clips import MusicClips, whole_music, with_context
from datasets.sequences import PreparedData
from models.stages.motion_gpt import music_statistics
from models.vqvae import Codes
from tests.models.stages import synthetic

GRPO = {"algorithm": "grpo", "reward": {"context": "dance"}}
REACH = synthetic.MUSIC_TRANSFORMER["reach"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return synthetic.train_all_with_music(tmp_path_factory.mktemp("music"))


def make(name, folder, own=None, data=None):
    own = {**(synthetic.WITH_MUSIC.get(name) or {}), **(own or {})}
    return synthetic.make_stage(name, data or folder / "data", folder / "runs", own=own)


def test_context_of_windows():
    music = torch.arange(1.0, 7.0).unsqueeze(1)
    for start, steps, reach, expected in (
        (0, 6, 0, [1, 2, 3, 4, 5, 6]),
        (0, 2, 2, [0, 0, 1, 2, 3, 4]),
        (3, 3, 2, [2, 3, 4, 5, 6, 0, 0]),
        (2, 1, 1, [2, 3, 4]),
        (7, 1, 1, [0, 0, 0]),
    ):
        assert with_context(music, start, steps, reach).flatten().tolist() == expected


@pytest.mark.parametrize(("frames", "steps"), [(15, 2), (16, 3), (9, 2), (8, 2), (7, 1)])
def test_the_last_frame_comes_once_more(frames, steps):
    """As published: then zeros, also where a song ends with a step."""
    single = np.arange(1, frames + 1, dtype=np.float32)
    stored = np.pad(single, (0, -frames % 8)).reshape(-1, 8)
    music = whole_music(stored, frames, 8)
    assert music.shape == (1, steps, 8)
    expected = np.pad(np.append(single, frames), (0, 8 * steps - frames - 1))
    np.testing.assert_array_equal(music.flatten(), expected)


def test_clips_reach_beyond_the_dance(trained):
    """The window of the song with its context; zeros before its start and after its end."""
    stage = make("motion_gpt", trained)
    clips = stage.clips
    song = stage.data.sequence(clips.name(0)).music
    first = clips[0].music
    assert first.shape == (30 + 2 * REACH, 440)
    assert not first[:REACH].any()
    np.testing.assert_array_equal(first[REACH:], song[: 30 + REACH])
    number = len(clips.poses.places) // 4  # per dance
    start = clips.poses.places[number - 1].start // 8
    last = clips[number - 1].music
    np.testing.assert_array_equal(last[: 60 - start + REACH], song[start - REACH :])
    assert not last[60 - start + REACH :].any()
    plain = MusicClips(stage.data, "train", stage.config.data.clips, 8)
    plain.set_codes(*clips._codes)
    np.testing.assert_array_equal(plain[0].music, song[:30])


def test_training_moves_the_transformer_and_finetuning_does_not(trained):
    runs = trained / "runs"
    before = make("motion_gpt", trained).model.state_dict()
    gpt, finetuned = (
        torch.load(runs / name / "ckpt" / "last.pt", weights_only=True)["model"]
        for name in ("motion_gpt", "actor_critic")
    )
    parts = [key for key in gpt if key.startswith("music.") and "unused" not in key]
    assert len(parts) == 28
    assert all((gpt[key] != before[key]).any() for key in parts if "norm" not in key and "bias" not in key)
    assert all(torch.equal(gpt[key], finetuned[f"gpt.{key}"]) for key in gpt if not key.startswith("head."))
    assert any(not torch.equal(gpt[key], finetuned[f"gpt.{key}"]) for key in gpt if key.startswith("head."))


@torch.no_grad()
def test_policy_and_value_have_windows_of_their_own(trained):
    """The loss of the vectors that are kept is that of two passes over the windows' music."""
    stage = make("actor_critic", trained)
    batch = next(iter(stage.batches(1)))
    rollouts = stage.rollouts[1]
    assert batch.windows.music.shape[1] == 0
    numbers = stage.epoch_batches(sum(len(rollout.windows.mask) for rollout in rollouts), 1)[0]
    places = [(rollout, start) for rollout in rollouts for start in range(len(rollout.windows.mask))]
    for row, (rollout, start) in enumerate(places[number] for number in numbers):
        codes = Codes(*(half[None, start : start + 29] for half in rollout.codes))
        assert torch.equal(batch.windows.upper[row, :-1], codes.upper[0])
        window = with_context(stage.songs[rollout.song].music, start + 1, 29, REACH)[None]
        vectors = [part[row : row + 1] for part in batch.vectors]
        torch.testing.assert_close(vectors[0], stage.model.gpt.music(window))
        torch.testing.assert_close(vectors[1], stage.model.gpt.music(window[:, :-1]))
        given = stage.model.gpt(window, codes).upper
        torch.testing.assert_close(stage.model.gpt(vectors[0], codes).upper, given)


def test_rollouts_have_a_code_for_each_step_of_a_song(trained):
    stage = make("actor_critic", trained)
    song = stage.songs[0]
    assert len(song.music) == synthetic.FRAMES // 8 + 1  # the last frame once more begins a step
    assert len(stage.collector.collect(stage.model.gpt, stage.songs[:1])[0].codes.upper) == len(song.music)


def test_evaluation(trained):
    stage = make("actor_critic", trained)
    assert stage.load() == 1
    stage.evaluate(trained / "eval")
    table = (trained / "eval" / "table.md").read_text()
    assert all(f"| {row} " in table for row in ("GPT", "actor-critic", "memory"))
    dances = list((trained / "eval").rglob("*.npz"))
    assert dances
    assert all(np.isfinite(np.load(path)["joints"]).all() for path in dances)


def test_what_does_not_fit_is_refused(trained, tmp_path):
    plain = synthetic.make_data(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"holds 'standard' features; prepare .* --features frames"):
        make("motion_gpt", trained, data=plain)
    with pytest.raises(ValueError, match=r"null takes.*holds 'frames'.*--features beat_phase"):
        make("motion_gpt", trained, own={"model": synthetic.GPT})
    with pytest.raises(ValueError, match=r"trained on 'frames' music features.*--features frames"):
        make("actor_critic", trained, data=plain)
    how = {"generation": {"window": "hop"}}
    with pytest.raises(ValueError, match=r"needs generation.window exact .* got hop and window"):
        make("actor_critic", trained, own={**GRPO, **how})


def test_statistics_are_those_of_frames(tmp_path):
    """Of 55 columns, over all frames of all steps; the flag of sound alone weighs as much as 20 MFCC."""
    data = PreparedData(synthetic.make_data(tmp_path, "frames"))
    mean, std = music_statistics(data, ("sound",))
    songs = [data.song(f"song{i}").features for i in range(2, 6)]
    frames = np.concatenate(songs).reshape(-1, 55).astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(0))
    np.testing.assert_allclose(std[:20], frames.std(0)[:20] * np.sqrt(20))
    assert std[54] == np.inf
