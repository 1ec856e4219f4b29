"""What TensorBoard is told: names, speeds, FLOPs, a table and a video of an evaluation; telling is free."""

import io
import traceback

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.stages import synthetic
from utils.training.logger import markdown_table
from utils.training.throughput import StepFlops, matrix_peak

ROWS = {"real": {"FID_k": 0.0, "BAS": 0.25}, "GPT": {"FID_k": 12.5, "joint_error_mm": 3.0, "note": "x"}}


OWN = {"actor_critic": {"reward": {"consistency": 1.0}, "choice": {"by": "reward"}}}
HALVES = ("upper", "lower")
LOSSES = ("reconstruction", "velocity", "acceleration", "commitment")  # as in the YAML
HEALTH = ("used_codes", "dead_codes", "perplexity", "restarted_codes")
TOLD: dict[str, dict[str, set[str]]] = {
    "sep_vqvae": {
        "train": {"loss", "lr", "restarted_codes"}
        | {f"{what}_{half}" for what in (*LOSSES, "used_codes", "perplexity") for half in HALVES},
        "epoch": {f"{what}_{half}" for what in HEALTH for half in HALVES},
    },
    "sep_vqvae_root": {"train": {"loss", "lr", "velocity", "acceleration"}, "epoch": set()},
    "motion_gpt": {"train": {"loss", "lr", "cross_entropy_upper", "cross_entropy_lower"}, "epoch": set()},
    "actor_critic": {
        "train": {
            "lr",
            "policy_loss",
            "value_loss",
            "explained_variance",
            "td_error",
            "entropy",
            "kl_to_gpt",
        },
        "epoch": {"reward", "beat_reward", "consistency", "judged_reward", "surprise", "best_epoch"},
    },
}


def events(folder):
    found = EventAccumulator(str(folder / "logs"), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    found.Reload()
    return found


def write_video(path):
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(45):
            picture = np.full((240, 320, 3), 4 * i, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode())


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """All stages trained with everything on, and their losses."""
    root = tmp_path_factory.mktemp("told")
    synthetic.make_data(root / "data")
    losses = {}
    for name in synthetic.ORDER:
        more: dict = {"utilisation": True, "log_every": 1, "eval_every": 1}
        trainer, losses[name] = synthetic.make_trainer(
            name, root / "data", root, epochs=2, own=OWN.get(name), **more
        )

        def evaluate(folder):
            torch.rand(3)
            write_video(folder / "videos" / "dance0.mp4")
            return ROWS

        trainer.stage.evaluate = evaluate
        trainer.run()
    return root, losses


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_everything_has_its_curve(name, told):
    found = events(told[0] / name)
    tags = set(found.Tags()["scalars"])
    expected = {f"speed/{what}_per_second" for what in ("frames", "codes", "steps", "flops")}
    expected |= {"speed/utilisation", "eval/real/FID_k", "eval/GPT/joint_error_mm"}
    assert expected <= tags, expected - tags
    assert [event.step for event in found.Scalars("eval/real/FID_k")] == [1, 2]  # the last epoch too
    for part in ("train", "epoch"):
        assert {tag for tag in tags if tag.startswith(part)} == {f"{part}/{tag}" for tag in TOLD[name][part]}
    assert all(0 < event.value < 5 for event in found.Scalars("speed/utilisation"))
    frames, codes = (found.Scalars(f"speed/{what}_per_second")[3].value for what in ("frames", "codes"))
    assert frames == pytest.approx(8 * codes)


def test_codes_in_use_have_a_perplexity(told):
    found = events(told[0] / "sep_vqvae")
    for half in HALVES:
        curves = (found.Scalars(f"train/{what}_{half}") for what in ("used_codes", "perplexity"))
        for used, perplexity in zip(*curves, strict=True):
            assert 1 <= perplexity.value <= used.value + 1e-3 <= 24.1


def test_telling_changes_no_loss(told, tmp_path):
    root, losses = told
    for name in synthetic.ORDER:
        more: dict = {"before": root, "epochs": 2, "own": OWN.get(name)}
        trainer, plain = synthetic.make_trainer(name, root / "data", tmp_path, **more)
        trainer.run()
        assert plain == losses[name]


def test_an_evaluation_is_shown(told):
    found = events(told[0] / "motion_gpt")
    table = found.Tensors("eval/table/text_summary")[-1]
    assert table.tensor_proto.string_val[0].decode() == markdown_table(ROWS)
    picture = found.Images("eval/dance")[-1]
    image = Image.open(io.BytesIO(picture.encoded_image_string))
    assert (image.format, image.size) == ("GIF", (240, 180))
    assert 14 <= image.n_frames <= 16  # 1.5 s at 10 fps
    assert markdown_table(ROWS).splitlines()[2:] == ["| real | 0 | 0.25 |  |", "| GPT | 12.5 |  | 3 |"]


def test_flops_are_counted_by_hand():
    model, flops = nn.Linear(30, 7), StepFlops()
    with flops.counting(""):
        model(torch.ones(11, 30)).sum().backward()
    assert flops.finish("") == 2 * (2 * 11 * 30 * 7)  # the product, and the gradient of the weight
    with flops.counting(""):
        model(torch.ones(500, 30))
    assert flops.finish("") == 2 * (2 * 11 * 30 * 7)  # once
    assert flops.finish("another") == 0


def test_the_peak_is_a_rate():
    peak = matrix_peak(torch.device("cpu"), "fp32", seconds=0.1)
    assert 1e8 < peak < 1e14


class Fetches(TorchDispatchMode):
    """Notes where a number is fetched from a tensor, which waits for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "masked_select")
        if function.overloadpacket.__name__ in waits:
            lines = [frame.line or "" for frame in traceback.extract_stack()]
            if not any("F.one_hot(" in line for line in lines):  # which looks at its input on processors only
                self.found.append((function, lines[-6:]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_no_step_waits_for_the_device(name, told, tmp_path):
    """Forward and backward fetch nothing; losses and logs stay tensors."""
    root, _ = told
    trainer, _ = synthetic.make_trainer(name, root / "data", tmp_path, before=root, epochs=1, log_every=1000)
    del trainer.stage.loss  # the recording of losses, which fetches them
    plain, fetches, steps = trainer._part, Fetches(), []

    def watched(part, is_last):
        steps.append(part)
        if len(steps) <= 2:  # codebooks ask twice whether they have been put somewhere
            return plain(part, is_last)
        with fetches:
            loss, logs = plain(part, is_last)
        assert all(isinstance(value, torch.Tensor) for value in (loss, *logs.values()))
        return loss, logs

    trainer._part = watched
    trainer.run()
    assert len(steps) >= 6
    assert not fetches.found
