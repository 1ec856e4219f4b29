"""bf16, compilation and micro-batches are within noise of plain fp32; a loss that is not finite stops."""

import numpy as np
import pytest
import torch
from torch import nn

from datasets.sequences import motion_path, write_array
from models.conv import ConvConfig, Decoder, Encoder, use_channels_last
from models.stages.rollouts import WindowBatch, Windows
from tests.models.stages import synthetic
from utils.config import ConfigError, check, current_keys
from utils.training.precision import default_precision
from utils.training.preemption import PreemptionHandler
from utils.training.trainer import TrainingConfig, micro_batches

EPOCHS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.make_data(tmp_path_factory.mktemp("precision") / "data")


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """All stages in fp32, nothing dropped out, so that what follows differs by rounding alone."""
    output = tmp_path_factory.mktemp("plain")
    return output, train(data, output)


def train(data, output, names=synthetic.ORDER, before=None, **more):
    """Losses per step and the last checkpoint of each stage; earlier stages are those of `before`."""
    found = {}
    for name in names:
        more = {"epochs": EPOCHS, "dropout": 0.0, "before": before, **more}
        trainer, losses = synthetic.make_trainer(name, data, output, **more)
        trainer.run()
        found[name] = losses, torch.load(trainer.last, weights_only=True)
    return found


@pytest.mark.parametrize("name", synthetic.ORDER)
def test_bf16_trains_as_fp32_does(name, data, plain, tmp_path):
    before, found = plain
    losses, content = train(data, tmp_path, [name], before, precision="bf16")[name]
    expected = found[name][0]
    assert losses != expected
    if name != "actor_critic":  # whose next dances are of other codes once a loss differs in the least
        assert np.mean(losses[-6:]) == pytest.approx(np.mean(expected[-6:]), rel=0.05)
        assert np.mean(losses[-6:]) < 0.97 * np.mean(losses[:6])
    else:
        assert losses[:2] == pytest.approx(expected[:2], rel=0.05)
        assert np.isfinite(losses).all()
    for part in (content["model"], *content["optimizer"]["state"].values()):
        for key, value in part.items():
            assert not value.is_floating_point() or value.dtype == torch.float32, key


@pytest.mark.parametrize("name", synthetic.ORDER[:2])
def test_the_layout_changes_the_order_of_sums_alone(name, data, plain, tmp_path):
    before, found = plain
    losses, content = train(data, tmp_path, [name], before, channels_last=True)[name]
    expected, whole = found[name]
    assert losses[:12] == pytest.approx(expected[:12], rel=1e-4)
    assert np.mean(losses[-6:]) == pytest.approx(np.mean(expected[-6:]), rel=0.02)
    for key, value in content["model"].items():
        assert (value.shape, value.stride()) == (whole["model"][key].shape, whole["model"][key].stride())


def test_the_layout_is_for_training_alone():
    """Codes do not depend on it; gradients do in their last bits."""
    torch.manual_seed(0)
    encoder = Encoder(45, 24, ConvConfig(width=40))
    decoder = Decoder(27, 24, ConvConfig(width=40))
    pose, found = torch.randn(3, 45, 48), []
    for used in (False, True):
        model = nn.Sequential(encoder, decoder)
        use_channels_last(model, used)
        assert encoder.channels_last == used
        model.zero_grad()
        moved = model.train()(pose)
        moved.square().sum().backward()
        assert moved.shape == (3, 27, 48)
        still = model.eval()(pose).detach()
        found.append((still, moved.detach(), *(p.grad.clone() for p in model.parameters())))
    plain, laid = found
    assert torch.equal(plain[0], laid[0])
    for a, b in zip(plain[1:], laid[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


@pytest.mark.parametrize("name", ["sep_vqvae_root", "motion_gpt"])
def test_two_micro_batches_are_the_whole_batch(name, data, plain, tmp_path):
    """Where the loss is a mean over samples, the mean of the micro-batches' gradients is the gradient."""
    before, found = plain
    losses, content = train(data, tmp_path, [name], before, grad_accum_steps=2)[name]
    whole, expected = found[name]
    pairs = np.array(losses).reshape(-1, 2).mean(1)
    assert pairs[:12] == pytest.approx(whole[:12], rel=2e-3)
    assert content["step"] == expected["step"]


def test_codebooks_are_updated_per_micro_batch(data, tmp_path):
    trainer, losses = synthetic.make_trainer("sep_vqvae", data, tmp_path, grad_accum_steps=2, epochs=1)
    book, updates = trainer.stage.memory.upper.quantizer, []
    plain = book._update
    book._update = lambda rows, *more: (updates.append(len(rows)), plain(rows, *more))
    trainer.run()
    assert len(updates) == len(losses) == 2 * trainer.step
    assert set(updates) == {2 * 30}  # the latents of two clips of 240 frames


def test_advantages_are_normalised_per_micro_batch(data, plain, tmp_path):
    before, _ = plain
    more: dict = {"before": before, "own": {"advantage": "normalised", "turn": 1}, "epochs": 1}
    trainer, losses = synthetic.make_trainer("actor_critic", data, tmp_path, grad_accum_steps=4, **more)
    sizes, loss = set(), trainer.stage.loss
    trainer.stage.loss = lambda batch: (sizes.add(len(batch.reward)), loss(batch))[1]
    trainer.run()
    assert sizes == {8 // 4}
    assert len(losses) == 4 * trainer.step
    assert np.isfinite(losses).all()


def test_micro_batches_keep_order_and_structure():
    windows = Windows(*(torch.arange(6.0).view(6, 1) + i for i in range(5)))
    parts = micro_batches(WindowBatch(windows, torch.arange(6), True), 3)
    assert [part.reward.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert all(isinstance(part.windows, Windows) and part.updates_policy for part in parts)
    assert torch.equal(torch.cat([part.windows.mask for part in parts]), windows.mask)


def test_micro_batches_must_divide_the_batch(data, tmp_path):
    trainer, _ = synthetic.make_trainer("sep_vqvae", data, tmp_path, grad_accum_steps=3)
    with pytest.raises(ValueError, match=r"4 per process does not divide into 3 micro-batches"):
        trainer.run()


@pytest.mark.slow
@pytest.mark.parametrize("name", synthetic.ORDER)
def test_compiled(name, data, plain, tmp_path):
    before, found = plain
    losses, _ = train(data, tmp_path, [name], before, compile=True)[name]
    number = 4 if name == "actor_critic" else 12  # then rounding has chosen another code somewhere
    assert losses[:number] == pytest.approx(found[name][0][:number], rel=2e-3)
    if name != "actor_critic":
        assert np.mean(losses[-6:]) == pytest.approx(np.mean(found[name][0][-6:]), rel=0.02)


def tf32_allowed():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_holds_in_steps_alone_and_never_in_distances(precision, allowed, data, tmp_path):
    """Forward and backward pass round their factors; nearest codes, evaluations and dances do not."""
    trainer, _ = synthetic.make_trainer("sep_vqvae", data, tmp_path, precision=precision, epochs=1)
    stage, seen = trainer.stage, {"step": [], "backward": [], "distances": []}
    loss, book = stage.loss, stage.memory.upper.quantizer
    nearest = book.nearest

    def watched_loss(batch):
        seen["step"].append(tf32_allowed())
        result, metrics = loss(batch)
        result.register_hook(lambda _: seen["backward"].append(tf32_allowed()))
        return result, metrics

    stage.loss = watched_loss
    book.nearest = lambda rows: (seen["distances"].append(tf32_allowed()), nearest(rows))[1]
    trainer.run()
    assert set(seen["step"]) == set(seen["backward"]) == {(allowed, allowed)}
    assert set(seen["distances"]) == {(False, False)}
    assert tf32_allowed() == (False, False)


def test_the_default_precision_is_the_devices(monkeypatch):
    assert default_precision(torch.device("cpu")) == "fp32"
    for capability, expected in (((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert default_precision(torch.device("cuda", 0)) == expected


def test_the_former_key_of_tf32(data, tmp_path):
    """Configs are told what replaces it; runs that were trained with it stay readable."""
    former = {"epochs": 1, "batch_size": 1, "lr": 1.0, "tf32": True}
    with pytest.raises(ConfigError, match=r"the key tf32 is gone.*got True; set precision: tf32 instead"):
        check(TrainingConfig, former, "old.yaml")
    assert check(TrainingConfig, {**former, "tf32": False}, "old.yaml").precision is None
    assert "tf32" not in current_keys(TrainingConfig, former)


@pytest.fixture
def broken(tmp_path):
    """Data in which one dance has a joint that is no number."""
    root = synthetic.make_data(tmp_path / "data")
    path = motion_path(root, "dance5")
    joints = np.load(path)
    joints[100:110, 5] = np.nan
    write_array(path, joints)
    return root


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_no_number(log_every, broken, tmp_path):
    """The step and the batch are named even where the loss is looked at only later."""
    options = {"log_every": log_every, "batch_size": 1, "save_steps": 1 if log_every == 1 else 0}
    trainer, losses = synthetic.make_trainer("sep_vqvae", broken, tmp_path, **options)
    with pytest.raises(ValueError, match="is nan; its batch: dance5; last good checkpoint: ") as error:
        trainer.run()
    first = next(i for i, loss in enumerate(losses, 1) if not np.isfinite(loss))
    assert first > 2
    message = str(error.value)
    assert f"the loss of step {first} (epoch 1)" in message
    assert "\n" not in message
    if log_every == 1:
        assert f"last.pt (step {first - 1})" in message
        assert torch.load(trainer.last, weights_only=True)["step"] == first - 1
    else:
        assert not trainer.last.exists()


def test_weights_that_are_no_numbers_are_not_saved(data, tmp_path):
    trainer, losses = synthetic.make_trainer("sep_vqvae", data, tmp_path, lr=1e38, log_every=1, save_steps=1)
    with pytest.raises(ValueError, match=r"not finite after step|the loss of step"):
        trainer.run()
    if trainer.last.exists():
        state = torch.load(trainer.last, weights_only=True)["model"]
        learnt = dict(trainer.stage.model.named_parameters())
        assert all(state[key].isfinite().all() for key in learnt)
    assert losses
    assert isinstance(trainer.preemption, PreemptionHandler)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (None, 2)])
def test_training_computes_on_as_many_threads_as_the_config_says(threads, expected, data, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        trainer, _ = synthetic.make_trainer("sep_vqvae", data, tmp_path, epochs=1, threads=threads)
        loss, seen = trainer.stage.loss, set()

        def noted(batch):
            seen.add(torch.get_num_threads())
            return loss(batch)

        trainer.stage.loss = noted
        trainer.run()
        assert seen == {expected}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
