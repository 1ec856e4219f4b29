"""`python -m models.inference.live` as its users run it: files and pipes, pace, summary, errors, endings."""

import io
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from datasets.live import windowed_features
from models.generation import GenerationConfig, Prompt, generate
from models.inference import live
from models.inference.config import DanceConfig
from models.vqvae import Codes
from tests.helpers import ROOT
from tests.models.inference.songs import CONFIG, RATE, sound
from utils.motion import pose_to_joints
from utils.music.audio import decode_audio, resample

SUMMARY = (
    r"(\d+\.\d) s of music, (\d+) poses; latency P50 [\d.]+ s, P95 [\d.]+ s, P99 [\d.]+ s; "
    r"(?:missed deadlines (\d+) of \d+; )?real-time factor ([\d.]+)"
)


@pytest.fixture
def command(files):
    """The command line; untrained weights of a size that takes milliseconds."""

    def line(*more):
        given = [f"vqvae={files['memory']}", f"checkpoint={files['gpt']}", "device=cpu"]
        arguments = ["--config", CONFIG, *map(str, more), *given]
        return [sys.executable, "-m", "models.inference.live", *arguments]

    return line


def run(line, **more):
    return subprocess.run(line, cwd=ROOT, capture_output=True, timeout=600, **more)


def poses(output):
    return [json.loads(line) for line in output.decode().splitlines()]


def test_a_file_as_fast_as_possible(command, songs, networks):
    """Codes and joints equal those of the whole song's live features; numbers and times are right."""
    ended = run(command(songs / "one.wav", "--fast", "generation.first_codes=[3,2]", "dance.level=false"))
    assert ended.returncode == 0, ended.stderr
    lines, (memory, gpt) = poses(ended.stdout), networks
    assert [line["frame"] for line in lines] == list(range(1 + int(3.0 * 60)))
    assert lines[90]["time"] == 1.5
    features = torch.from_numpy(windowed_features(resample(*decode_audio(songs / "one.wav"), 3840)))
    prompt = Prompt(features, Codes(torch.tensor([3]), torch.tensor([2])), "one")
    (codes,) = generate(gpt, [prompt], DanceConfig().drawing(GenerationConfig()), torch.device("cpu"))
    assert [tuple(line["codes"]) for line in lines[::8]] == list(
        zip(codes.upper.tolist(), codes.lower.tolist(), strict=True)
    )[: len(lines[::8])]
    with torch.no_grad():
        joints = pose_to_joints(memory.decode(Codes(*(half[None] for half in codes))))[0].numpy()
    np.testing.assert_allclose([line["joints"] for line in lines], joints[: len(lines)], atol=1e-4)
    told = ended.stderr.decode()
    assert re.search(r"look-ahead [\d.]+ s: 2\.13 s of the features, \d+ codes", told)
    seconds, number, missed, factor = re.search(SUMMARY, told).groups()
    assert (float(seconds), int(number), missed) == (3.0, len(lines), None)
    assert float(factor) > 1


def test_standard_input_at_the_pace_of_the_music(command, files):
    """Raw 16-bit samples: a pose is out at its time plus the delay that is told, not before."""
    samples = (sound(3.0) * 32767).astype("<i2").tobytes()
    line = command("-", "--rate", RATE, "--format", "s16", "--margin", 2)
    with subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        told = ""
        while "look-ahead" not in told:
            told = process.stderr.readline().decode()
            assert told, f"it ended with {process.wait()} before it said its look-ahead"
        process.stdin.write(samples)
        process.stdin.close()
        begin, times = time.perf_counter(), []
        for _ in process.stdout:
            times.append(time.perf_counter() - begin)
        summary = process.stderr.read().decode()
        assert process.wait(300) == 0, summary
    delay = float(re.search(r"follow the music by ([\d.]+) s", told)[1])
    late = np.array(times) - delay - np.arange(len(times)) / 60
    assert len(times) == 1 + 3 * 60
    assert late.min() > -0.3  # the clock starts with the first sample, here with the pipe
    assert int(re.search(SUMMARY, summary)[2]) == len(times)


def test_control_c_ends_with_the_summary(command):
    """Sound that stops but does not end: the command waits for more until it is interrupted."""
    with subprocess.Popen(
        command("-", "--rate", RATE),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    ) as process:
        process.stdin.write(sound(4.0).astype("<f4").tobytes())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    summary = errors.decode().splitlines()[-1]
    assert int(re.fullmatch(SUMMARY, summary)[2]) > 0, errors
    assert b"Traceback" not in errors


def test_a_closed_pipe_ends_quietly(command, songs):
    line = command(songs / "two.mp3", "--fast")
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.stdout.close()
        assert process.wait(300) == 0
        errors = process.stderr.read().decode()
    assert "look-ahead" in errors
    assert not re.search("error|Traceback|Exception|poses;", errors), errors


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nowhere.wav"], "there is no sound file nowhere.wav"),
        (["README.md", "dance.start=beat"], "dance.start beat needs the whole song"),
        (["README.md", "dance.bpm=120"], "dance.bpm belongs to a whole song, .* use main.py --dance"),
        (["README.md", "dance.beats=x.txt"], "dance.beats belongs to a whole song, .* leave it out"),
        (["README.md", "vqvae=nowhere.pt"], "nowhere.pt"),
        (["README.md", "generation.windw=hop"], "did you mean 'window'"),
        (["README.md"], "README.md is no sound file"),
    ],
    ids=str,
)
def test_errors_take_a_line(files, more, message, capfd):
    given = [f"vqvae={files['memory']}", f"checkpoint={files['gpt']}", "device=cpu"]
    assert live.main(["--config", CONFIG, *more[:1], *given, *more[1:]]) == 2
    output, errors = capfd.readouterr()
    assert re.search(f"^error: (.|\n  )*{message}", errors, re.MULTILINE), errors
    assert not output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-"], "raw samples from standard input need their --rate"),
        (["song.wav", "--rate", "44100"], "--rate goes with raw samples"),
        (["song.wav", "--margin", "-1"], "--margin must not be negative"),
    ],
    ids=str,
)
def test_wrong_command_lines(more, message, capsys):
    with pytest.raises(SystemExit) as ended:
        live.main(["--config", CONFIG, *more])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_stage_without_a_gpt(capsys):
    assert live.main(["--config", "configs/sample/sep_vqvae.yaml", "-", "--rate", "44100"]) == 2
    assert "has no motion GPT" in capsys.readouterr().err


def test_too_short_a_song(files, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(np.zeros(RATE, "<f4").tobytes())))
    given = [f"vqvae={files['memory']}", f"checkpoint={files['gpt']}", "device=cpu"]
    assert live.main(["--config", CONFIG, "-", "--rate", str(RATE), *given]) == 2
    output, errors = capsys.readouterr()
    assert "error: 1.00 s of music are too short; at least 2 s are needed" in errors
    assert not output
