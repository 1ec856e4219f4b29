"""A replayed step equals an eager one; what changes between steps reaches the replay; nothing in it waits."""

import logging
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.models.stages import synthetic
from tests.recording import Recorder, Waits, record
from utils.graphs import WARM_UP, GraphedStep
from utils.training.trainer import Trainer, TrainingConfig, uses_cuda_graph

CPU = torch.device("cpu")


class Batch(NamedTuple):
    """Numbers, and whether they count twice."""

    x: Tensor
    twice: bool


def adding(weight, calls):
    """A step that adds the batch's sum, or twice that, to the weight, in place."""

    def step(batch):
        calls.append(batch.twice)
        weight.add_(batch.x.sum() * (2 if batch.twice else 1))
        return weight * 1, {"negative": -weight}

    return step


def test_replays_follow_the_batch_and_its_plain_values():
    weight, calls = torch.zeros(()), []
    graphed, expected = GraphedStep(adding(weight, calls), CPU, record), 0.0
    results = []
    for number in range(12):
        batch = Batch(torch.full((3,), float(number)), number % 3 == 0)
        expected += 3 * number * (2 if batch.twice else 1)
        results.append((expected, graphed(batch)))
    for value, (loss, metrics) in results:  # a later replay overwrites nothing that was returned
        assert float(loss) == value
        assert float(metrics["negative"]) == -value
    assert calls.count(True) == calls.count(False) == WARM_UP + 1


def test_other_shapes_and_constants_are_recorded_anew():
    weight, calls, rate = torch.zeros(()), [], {"lr": 1.0}

    def step(batch):
        calls.append(len(batch.x))
        weight.add_(batch.x.sum() * rate["lr"])
        return weight * 1, {}

    graphed = GraphedStep(step, CPU, record)

    def run(size, lr):
        rate["lr"] = lr
        weight.zero_()
        return float(graphed(Batch(torch.ones(size), False), lr)[0])

    assert [run(2, 1.0) for _ in range(6)] == [2.0] * 6
    assert [run(5, 1.0) for _ in range(6)] == [5.0] * 6
    assert calls == [2] * (WARM_UP + 1) + [5] * (WARM_UP + 1)
    assert [run(2, 0.5) for _ in range(3)] == [1.0] * 3
    assert calls[2 * (WARM_UP + 1) :] == [2]


def test_a_step_that_waits_stays_eager_and_says_so(caplog):
    weight = torch.zeros(())

    def step(batch):
        weight.add_(batch.x.sum().item())
        return weight * 1, {}

    graphed = GraphedStep(step, CPU, record)
    with caplog.at_level(logging.WARNING):
        losses = [float(graphed(Batch(torch.ones(2), False))[0]) for _ in range(8)]
    assert losses == [2.0 * n for n in range(1, 9)]
    assert len(caplog.records) == 1
    assert "_local_scalar_dense waits" in caplog.text


@pytest.mark.parametrize(
    "waits",
    [lambda x: float(x.sum()), lambda x: bool(x.any()), torch.nonzero, lambda x: x[x > 0], torch.unique,
     lambda x: x + torch.tensor([1.0])],
)  # fmt: skip
def test_the_recorder_notices_what_waits(waits):
    with pytest.raises(Waits), Recorder():
        waits(torch.ones(3))


# The stages -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    synthetic.train_all(synthetic.make_data(folder / "data"), folder / "runs", epochs=1)
    return folder


@pytest.fixture(scope="module")
def trained_with_music(tmp_path_factory):
    """The same with a music transformer in front of the GPT."""
    return synthetic.train_all_with_music(tmp_path_factory.mktemp("graphs_music"))


def train(name, folder, output, graphed, **more):
    """Losses and metrics of each step, and the last checkpoint; dropout and restarts draw random numbers."""
    more = {"before": folder / "runs", "fused": True, "log_every": 1, **more}
    stage = synthetic.make_stage(name, folder / "data", output, **more)
    trainer = Trainer(stage, stage.config.training, stage.config.folder, "this test", stage.config.seed)
    if graphed:
        trainer._graphed = GraphedStep(trainer._update, CPU, record)
    trainer.resume()
    found, step = [], trainer._train_step

    def kept(batch):
        loss, metrics = step(batch)
        found.append({"step loss": float(loss), **{key: float(value) for key, value in metrics.items()}})
        return loss, metrics

    trainer._train_step = kept
    trainer.run()
    if graphed:
        assert trainer._graphed._graphs
        assert not trainer._graphed._fails
    return found, torch.load(trainer.last, weights_only=True)


def same(a, b):
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


MEMORY = synthetic.SIZES["sep_vqvae"]["model"]
PUBLISHED = {**synthetic.BOOK, "restarts": "published"}
NORMALISED = {"kl_coef": 0.1, "advantage": "normalised"}
GRPO = {"algorithm": "grpo", "kl_coef": 0.1, "reward": {"context": "dance"}}
VARIANTS = {
    "memory": ("sep_vqvae", {"milestones": [2], "max_grad_norm": 1.0}),
    "memory, fsq": ("sep_vqvae", {"own": {"model": {**MEMORY, "quantizer": "fsq"}}}),
    "memory, published restarts": ("sep_vqvae", {"own": {"model": {**MEMORY, "codebook": PUBLISHED}}}),
    "velocity": ("sep_vqvae_root", {"milestones": [2]}),
    "rotations": ("sep_vqvae_root_mix", {"milestones": [2]}),
    "GPT": ("motion_gpt", {"milestones": [2]}),
    "GPT, micro-batches": ("motion_gpt", {"grad_accum_steps": 2}),
    "actor-critic": ("actor_critic", {}),
    "GRPO": ("actor_critic", {"own": GRPO}),
    "actor-critic, drift": ("actor_critic", {"idle": "drift", "own": NORMALISED}),
}


@pytest.mark.parametrize(("name", "more"), VARIANTS.values(), ids=VARIANTS)
def test_a_replayed_stage_is_the_eager_one(name, more, trained, tmp_path):
    """Losses, metrics and the checkpoint, bit for bit, over changes of the learning rate and of the turn."""
    eager, expected = train(name, trained, tmp_path / "eager", False, **more)
    graphed, content = train(name, trained, tmp_path / "graphed", True, **more)
    assert len(eager) > 2 * (WARM_UP + 1)
    assert graphed == eager
    for part in ("model", "optimizer", "scheduler", "random", "step"):
        assert same(content[part], expected[part]), part


WITH_MUSIC = {
    "GPT": ("motion_gpt", {"own": synthetic.WITH_MUSIC["motion_gpt"]}),
    "actor-critic": ("actor_critic", {}),
    "GRPO": ("actor_critic", {"own": GRPO}),
}


@pytest.mark.parametrize(("name", "more"), WITH_MUSIC.values(), ids=WITH_MUSIC)
def test_a_replayed_stage_with_a_music_transformer(name, more, trained_with_music, tmp_path):
    """The same bits; and a run that stops after an epoch and goes on."""
    eager, expected = train(name, trained_with_music, tmp_path / "eager", False, **more)
    graphed, content = train(name, trained_with_music, tmp_path / "graphed", True, **more)
    assert graphed == eager
    assert same(content["model"], expected["model"])
    first, _ = train(name, trained_with_music, tmp_path / "parts", True, **{**more, "epochs": 1})
    rest, content = train(name, trained_with_music, tmp_path / "parts", True, **more)
    assert first + rest == eager
    assert same(content["model"], expected["model"])


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_a_replayed_stage_resumes_bit_for_bit(name, trained, tmp_path):
    whole, expected = train(name, trained, tmp_path / "whole", True)
    first, _ = train(name, trained, tmp_path / "parts", True, epochs=2)
    rest, content = train(name, trained, tmp_path / "parts", True)
    assert first + rest == whole
    assert same(content["model"], expected["model"])


def test_where_graphs_are_used():
    config = TrainingConfig(epochs=1, batch_size=1, lr=1.0)
    gpu = torch.device("cuda", 0)
    assert uses_cuda_graph(config, gpu)
    assert not uses_cuda_graph(config, CPU)
    assert not uses_cuda_graph(config.model_copy(update={"cuda_graph": False}), gpu)
    with pytest.raises(ValueError, match=r"training\.cuda_graph needs one process on a GPU, got 1 .* cpu"):
        uses_cuda_graph(config.model_copy(update={"cuda_graph": True}), CPU)
