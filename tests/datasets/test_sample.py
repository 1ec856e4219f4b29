import hashlib
import json
import os
import pickle
import subprocess
import sys
import wave

import librosa
import mir_eval
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from datasets.sample import SCALING, make_corpus, plan_corpus
from datasets.sample.arms import ARM_POSES, elbow_axis
from datasets.sample.body import Timeline
from datasets.sample.dances import REPERTOIRE, Dancer, Floor, choose_steps, make_dance
from datasets.sample.songs import all_songs, render_song
from datasets.sample.steps import STEPS, mirrored
from tests.helpers import ROOT
from utils.skeleton import SMPL_24
from utils.smpl import forward_kinematics

FPS = SMPL_24.fps


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    make_corpus(root)
    return root


@pytest.fixture(scope="module")
def motions(corpus):
    """name: (joints, axis-angle poses (T, 24, 3)) of every dance that is not ignored."""
    ignored = names(corpus / "ignore_list.txt")
    loaded = {}
    for path in sorted((corpus / "motions").glob("*.pkl")):
        if path.stem not in ignored:
            motion = pickle.loads(path.read_bytes())
            joints = forward_kinematics(motion["smpl_poses"], motion["smpl_trans"] / motion["smpl_scaling"])
            loaded[path.stem] = joints, motion["smpl_poses"].reshape(-1, 24, 3)
    return loaded


def names(path):
    return path.read_text().split()


def toes(joints):
    return joints[:, [foot[1] for foot in SMPL_24.feet]]


def test_layout_is_that_of_aistpp(corpus):
    train, val, test = (
        names(corpus / f"splits/crossmodal_{split}.txt") for split in ("train", "val", "test")
    )
    ignored = names(corpus / "ignore_list.txt")
    everything = train + val + test
    assert len(val) == len(test) == 20
    assert sum("sBM" in name for name in set(train) - set(ignored)) >= 60
    assert all("sFM" in name for name in val + test)
    assert len(ignored) == 1
    assert ignored[0] in train
    assert len(set(everything)) == len(everything)
    assert {path.stem for path in (corpus / "motions").iterdir()} == set(everything)
    songs = {name.split("_")[4] for name in everything}
    assert {path.stem for path in (corpus / "wav").iterdir()} == songs == set(truth(corpus))
    assert not list(corpus.rglob(".*"))
    for split in (val, test):
        assert {name[1:3] for name in split} == set(REPERTOIRE)


def truth(corpus):
    return json.loads((corpus / "beats.json").read_text())


def test_motion_files_hold_what_aistpp_files_hold(corpus):
    for path in (corpus / "motions").iterdir():
        motion = pickle.loads(path.read_bytes())
        assert set(motion) == {"smpl_poses", "smpl_trans", "smpl_scaling"}
        num = len(motion["smpl_poses"])
        assert motion["smpl_poses"].shape == (num, 72)
        assert motion["smpl_trans"].shape == (num, 3)
        assert motion["smpl_scaling"].tolist() == [SCALING]
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in motion.values())
        assert num == 20 * FPS if "sFM" in path.stem else 8 * FPS <= num <= 12 * FPS


def test_songs_are_as_long_as_their_dances(corpus):
    longest = {}
    for sequence in [sequence for split in plan_corpus().values() for sequence in split]:
        longest[sequence.song.name] = max(longest.get(sequence.song.name, 0), sequence.num_frames / FPS)
    for name, seconds in longest.items():
        with wave.open(str(corpus / f"wav/{name}.wav")) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 22050)
            assert seconds <= file.getnframes() / file.getframerate() <= 21
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert 20000 < np.abs(samples).max() < 32767


def test_another_process_makes_the_same_bytes(corpus):
    code = (
        "import datasets.sample as s, hashlib\n"
        "from datasets.sample.songs import render_song\n"
        "plan = s.plan_corpus(0)\n"
        "for q in (plan['train'][7], plan['train'][-1], plan['val'][2]):\n"
        "    print(hashlib.sha256(s._motion_bytes(q, 0)).hexdigest())\n"
        "print(hashlib.sha256(s._wav_bytes(render_song(plan['test'][0].song, 0))).hexdigest())\n"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, check=True, text=True
    )
    plan = plan_corpus(0)
    files = [f"motions/{q.name}.pkl" for q in (plan["train"][7], plan["train"][-1], plan["val"][2])]
    files.append(f"wav/{plan['test'][0].song.name}.wav")
    assert output.stdout.split() == [
        hashlib.sha256((corpus / file).read_bytes()).hexdigest() for file in files
    ]


def test_another_seed_dances_otherwise():
    sequence = plan_corpus()["train"][0]
    first, second = (
        forward_kinematics(*make_dance(sequence.song, sequence.name, sequence.dancer, 480, seed))
        for seed in (0, 1)
    )
    assert np.linalg.norm(first - second, axis=-1).mean() > 0.02


def test_tempi_and_patterns_of_test_songs_are_new():
    train, test = all_songs()
    tempi = [song.bpm for song in train + test]
    assert len(set(tempi)) == len(tempi)
    assert all(80 <= tempo <= 135 for tempo in tempi)
    assert np.diff(sorted(song.bpm for song in test)).min() >= 4
    for genre in REPERTOIRE:
        assert len([song for song in train if song.genre == genre]) == 8
        assert len([song for song in test if song.genre == genre]) == 2
    for part in ("kicks", "roots", "sections"):
        heard = {(song.genre, getattr(song, part)) for song in train}
        assert not heard & {(song.genre, getattr(song, part)) for song in test}, part
    assert len({round(song.lead_in, 3) for song in train + test}) >= 15
    assert min(song.lead_in for song in train + test) > 0.2


@pytest.mark.parametrize("name", ["mBR0", "mWA1", "mJB4"])
def test_a_beat_tracker_finds_the_beats(name):
    song = next(song for group in all_songs() for song in group if song.name == name)
    sound = librosa.resample(render_song(song) / np.float32(32768), orig_sr=22050, target_sr=30720)
    onset = librosa.onset.onset_strength(
        y=librosa.effects.percussive(sound), sr=30720, hop_length=512, aggregate=np.median
    )
    tempo, frames = librosa.beat.beat_track(onset_envelope=onset, sr=30720, hop_length=512)
    assert mir_eval.beat.f_measure(song.beats, frames * 512 / 30720) >= 0.95
    assert tempo.item() == pytest.approx(song.bpm, rel=0.025)


def test_feet_stand_on_the_floor_and_do_not_slide(motions):
    for name, (joints, _) in motions.items():
        toe = toes(joints)
        ankle = joints[:, [foot[0] for foot in SMPL_24.feet]]
        assert toe[..., 1].min() > 0.019, name
        assert ankle[..., 1].min() > 0.075, name
        assert toe[..., 1].min(axis=1).max() < 0.04, name  # one foot always stands
        standing = (toe[1:, :, 1] < 0.0205) & (toe[:-1, :, 1] < 0.0205)
        slide = np.linalg.norm(np.diff(toe[..., [0, 2]], axis=0), axis=-1)
        assert (slide * standing).max() < 0.0012, name
        assert standing.mean() > 0.4, name


def test_joints_stay_within_their_limits(motions):
    knees, elbows = ((4, 5), (18, 19))
    for name, (_, poses) in motions.items():
        angles = np.degrees(np.linalg.norm(poses, axis=-1))
        for side in (0, 1):
            knee = np.degrees(poses[:, knees[side]])
            assert 3 < knee[:, 0].min(), name  # bends backward only
            assert knee[:, 0].max() < 125, name
            assert np.abs(knee[:, 1:]).max() < 25, name
            flexion = np.degrees(poses[:, elbows[side]] @ elbow_axis(side))
            assert 4 < flexion.min(), name
            assert flexion.max() < 155, name
            np.testing.assert_allclose(np.abs(flexion), angles[:, elbows[side]], atol=0.01)
        for joints, limit in (((3, 6, 9), 30), ((12, 15), 40), ((7, 8), 60), ((13, 14), 30), ((1, 2), 110)):
            assert angles[:, joints].max() < limit, (name, joints)


def test_speeds_are_human_and_nothing_pops(motions):
    for name, (joints, _) in motions.items():
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * FPS
        acceleration = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1) * FPS**2
        assert 0.15 < speed.mean() < 1.0, name
        assert speed.max() < 12, name
        assert acceleration.max() < 220, name
        assert np.linalg.norm(joints[:, 0, [0, 2]], axis=-1).max() < 2.5, name


def beat_align(joints, beats):
    """Mean of exp(-d²/18) over the beats within the dance, d frames to the nearest dip in speed."""
    speed = gaussian_filter1d(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=1), 5)
    minima = 1 + np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] < speed[2:]))
    distance = np.abs(beats[beats < len(joints)][:, None] - minima).min(axis=1)
    return np.exp(-(distance**2) / 18).mean()


def test_dances_hit_the_beat_of_their_own_song_only(corpus, motions):
    heard = {name: np.round(np.array(song["beats"]) * FPS + 1) for name, song in truth(corpus).items()}
    learnt = set(names(corpus / "splits/crossmodal_train.txt"))
    train = [
        beat_align(joints, heard[name.split("_")[4]])
        for name, (joints, _) in motions.items()
        if name in learnt
    ]
    assert np.mean(train) > 0.8
    held_out = [
        name for split in ("val", "test") for name in names(corpus / f"splits/crossmodal_{split}.txt")
    ]
    scores = np.array(
        [[beat_align(motions[a][0], heard[b.split("_")[4]]) for b in held_out] for a in held_out]
    )
    own = np.diag(scores)
    others = scores[~np.eye(len(scores), dtype=bool)]
    assert own.min() > 0.6
    assert own.mean() > 0.8
    assert others.mean() < own.mean() / 2


def test_the_ignored_sequence_deserves_it(corpus):
    motion = pickle.loads((corpus / f"motions/{names(corpus / 'ignore_list.txt')[0]}.pkl").read_bytes())
    joints = forward_kinematics(motion["smpl_poses"], motion["smpl_trans"] / motion["smpl_scaling"])
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() * FPS > 30
    assert toes(joints)[..., 1].min(axis=1).max() > 0.3


@pytest.mark.parametrize("name", STEPS)
def test_a_step_ends_at_home_whoever_leads(name):
    for keys in (STEPS[name], mirrored(STEPS[name])):
        floor = Floor(Timeline(), np.zeros(2), 0.3, Dancer(1.0, 1.0, 0.0, 0.0, 0.5))
        for index, key in enumerate(keys):
            floor.key(key, key.at, first=index == 0)
        for side, foot in enumerate(floor.feet):
            np.testing.assert_allclose(foot.toe, floor._placed((), side).toe, atol=1e-9)
        assert keys[0].at == 1
        assert keys[-1].at == 4
        assert keys[0].arms
        assert {pose for key in keys for pose in key.arms or ()} <= set(ARM_POSES)


def test_dances_of_a_song_share_steps_but_are_not_the_same(motions):
    same_song = [name for name in sorted(motions) if "_mBR0_" in name]
    clips = [motions[name][0][:480] - motions[name][0][:480, :1] for name in same_song]
    distances = [np.linalg.norm(a - b, axis=-1).mean() for i, a in enumerate(clips) for b in clips[:i]]
    assert min(distances) > 0.01
    assert max(distances) < 0.5


def test_steps_follow_the_music():
    assert (
        len({step for sections in REPERTOIRE.values() for steps in sections.values() for step in steps}) >= 20
    )
    rng = np.random.default_rng(3)
    for song in all_songs()[0]:
        for _ in range(20):
            plan = choose_steps(song, 24, 0.6, rng)
            for number, (step, _) in enumerate(plan):
                assert step in REPERTOIRE[song.genre][song.section(4 * number)]
