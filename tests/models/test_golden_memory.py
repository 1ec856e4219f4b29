"""The choreographic memory against the published system's numbers."""

import itertools
from functools import lru_cache

import numpy as np
import pytest
import torch

from models.published.names import memory_table, to_theirs
from models.stages.memory_losses import MotionLossConfig, half_loss, memory_loss, velocity_loss
from models.vqvae import Codes
from tests.golden.select_arrays import CODEBOOK, OUTPUTS, WEIGHTS
from tests.helpers import golden
from tests.models.golden_models import memory_small
from tests.models.rounding import Bounds, Disturbance, in_float64
from tests.packing import sample
from utils.motion import pose_to_joints


def close(ours, theirs, rtol=1e-5, atol=None):
    """Equal to 1e-5 of the size of the numbers: sums of large terms may cancel to a small one."""
    atol = rtol * np.abs(np.asarray(theirs)).max() if atol is None else atol
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["vq_small", "vqr_small"])
def test_encode_decode(name):
    memory, g = memory_small(name).eval(), golden(f"{name}_eval.npz")
    with torch.no_grad():
        x = torch.from_numpy(g["x"])
        upper, lower = memory.split(x)
        close(sample(memory.upper.encoder(upper.transpose(1, 2)).numpy(), OUTPUTS), g["emb_up_sample"])
        close(sample(memory.lower.encoder(lower.transpose(1, 2)).numpy(), OUTPUTS), g["emb_down_sample"])
        codes = memory.encode(x)
        np.testing.assert_array_equal(codes.upper, g["codes_up"])
        np.testing.assert_array_equal(codes.lower, g["codes_down"])
        close(sample(memory.decode(codes).numpy(), OUTPUTS), g["decode_sample"])
        rand = Codes(torch.from_numpy(g["rand_codes_up"]), torch.from_numpy(g["rand_codes_down"]))
        decoded = memory.decode(rand)
        close(sample(decoded.numpy(), OUTPUTS), g["rand_decode_sample"])
        for length in (72, 77):
            codes = memory.encode(torch.from_numpy(g[f"x{length}"]))
            np.testing.assert_array_equal(codes.upper, g[f"codes{length}_up"])
            np.testing.assert_array_equal(codes.lower, g[f"codes{length}_down"])
        if name == "vqr_small":
            world = pose_to_joints(decoded).flatten(-2)
            close(sample(world.numpy(), OUTPUTS), g["rand_world_sample"])


@pytest.mark.parametrize("name", ["vq_small", "vqr_small"])
@torch.no_grad()
def test_encode_decode_and_loss_in_float64(name):
    g, shared = golden("float64_vectors.npz"), golden(f"{name}_eval.npz")
    with in_float64():
        memory = memory_small(name).double().eval()
        x = torch.from_numpy(shared["x"])
        codes = memory.encode(x)
        np.testing.assert_array_equal(codes.upper, g[f"{name}_codes_up"])
        np.testing.assert_array_equal(codes.lower, g[f"{name}_codes_down"])
        decoded = sample(memory.decode(codes).numpy(), OUTPUTS)
        close(decoded, g[f"{name}_decode_sample"], rtol=0, atol=1e-9)
        if name == "vq_small":
            loss, _ = memory_loss(memory(x), x, memory, MotionLossConfig())
        else:
            loss, _ = velocity_loss(memory.decode_velocity(codes.lower), x[..., :3], 1.0)
        close(loss, g[f"{name}_eval_loss"], rtol=1e-9)


def test_losses_in_eval_mode():
    memory, g = memory_small().eval(), golden("vq_small_eval.npz")
    with torch.no_grad():
        x = torch.from_numpy(g["x"])
        loss, logs = memory_loss(memory(x), x, memory, MotionLossConfig())
    close(loss, g["eval_loss"])
    for (half, side), (theirs, ours) in itertools.product(SIDES.items(), PARTS.items()):
        close(logs[f"{ours}_{half}"], g[f"eval_metric_{side}_{theirs}"])


SIDES = {"upper": "up", "lower": "down"}
PARTS = {
    "recons_loss": "reconstruction",
    "velocity_loss": "velocity",
    "acceleration_loss": "acceleration",
    "commit_loss": "commitment",
}


class Replay:
    """Feeds a codebook the draws the published code made."""

    def __init__(self, g, step):
        keys = sorted((k for k in g if k.startswith(f"s{step}_draw")), key=lambda k: int(k.split("_")[1][4:]))
        self.perms = [torch.from_numpy(g[k]) for k in keys if k.endswith("perm")]
        self.noises = [torch.from_numpy(g[k]) for k in keys if k.endswith("noise")]

    def attach(self, memory):
        for half in (memory.upper, memory.lower):
            half.quantizer._draw_permutation = lambda rows: self.perms.pop(0)
            half.quantizer._draw_noise = lambda rows: self.noises.pop(0)


STEPS = 3
MODES = {
    "train_fresh": "vq_small_train_fresh",
    "train_restored": "vq_small_train_restored",
    "train_restored_n": "vq_small_n_train_restored_n",
}


def updates(mode, disturbance, betas=None, decay=None, loss=None):
    """Loss, its parts, gradients, codebook and output of three steps, and the weights after the last one.

    Names and samples are those of the golden file; `betas`, `decay` and `loss` replace the published ones.
    """
    g, found = golden(f"{MODES[mode]}.npz"), {}
    memory = memory_small().to(torch.get_default_dtype()).train()
    for half in (memory.upper, memory.lower):
        quantizer = half.quantizer
        quantizer.config = quantizer.config.model_copy(update={"decay": decay or quantizer.config.decay})
        if mode == "train_fresh":
            quantizer.initialised.fill_(False)
        if mode == "train_restored_n":
            quantizer.ema_count.fill_(120 / 64)
            quantizer.ema_sum.copy_(quantizer.codebook * (120 / 64))
    lr, *published = map(float, g["opt"])
    optimizer = torch.optim.Adam(memory.parameters(), lr=lr, betas=betas or published, eps=1e-8)
    for step in range(STEPS):
        Replay(g, step).attach(memory)
        x, prefix = torch.from_numpy(g[f"s{step}_x"]), f"s{step}"
        optimizer.zero_grad()
        with disturbance.step(memory):
            reconstruction = memory(x)
            total, logs = memory_loss(reconstruction, x, memory, loss or MotionLossConfig())
            total.backward()
        found[f"{prefix}_loss"] = total.detach().numpy()
        found[f"{prefix}_out_sample"] = sample(reconstruction.pose.detach().numpy(), OUTPUTS)
        for (half, side), (theirs, ours) in itertools.product(SIDES.items(), PARTS.items()):
            found[f"{prefix}_metric_{side}_{theirs}"] = logs[f"{ours}_{half}"].detach().numpy()
        for half, side in SIDES.items():
            quantizer = getattr(memory, half).quantizer
            found[f"{prefix}_k_{side}"] = quantizer.codebook.numpy().copy()
            found[f"{prefix}_ksum_{side}_sample"] = sample(quantizer.ema_sum.numpy(), CODEBOOK)
            found[f"{prefix}_kelem_{side}"] = quantizer.ema_count.numpy().copy()
            found[f"{prefix}_restarted_{side}"] = quantizer.restarted.numpy().copy()
        named = dict(memory.named_parameters())
        names = _keys(memory, g["s0_gradnorm_names"].tolist())
        found[f"{prefix}_gradnorm"] = np.array([float(named[ours].grad.norm()) for ours in names])
        optimizer.step()
    state = to_theirs(memory_table(memory.config, False), memory.state_dict())
    return found | {f"after_{key}": sample(value.numpy(), WEIGHTS) for key, value in state.items()}


def recorded_updates(mode):
    g = golden(f"{MODES[mode]}.npz")
    for key in [key for key in g if "_restarted_" in key]:
        g[key] = g[key].sum()
    for key in [key for key in g if key.endswith(("_x", "_perm", "_noise", "names", "opt"))]:
        del g[key]
    after = golden(f"{MODES[mode]}_weights_after3.npz")
    return g | {f"after_{key}": value for key, value in after.items()}


@lru_cache
def update_bounds(mode):
    return Bounds(lambda disturbance: updates(mode, disturbance))


@pytest.mark.parametrize("mode", MODES)
def test_three_updates(mode):
    """Loss, its parts, gradients, codebook sums, counts and restarts, and the weights after Adam."""
    recorded, bounds = recorded_updates(mode), update_bounds(mode)
    assert len([key for key in recorded if key.startswith("after_")]) == 180
    bounds.check(recorded)
    bounds.check(updates(mode, Disturbance()))  # in float32, as on any other processor


@pytest.mark.parametrize(
    "mistake",
    [
        {"betas": (0.9, 0.999)},
        {"betas": (0.5, 0.99)},
        {"decay": 0.989},
        {"loss": MotionLossConfig(velocity=0.999)},
        {"loss": MotionLossConfig().model_copy(update={"acceleration": -1.0})},
        {"loss": MotionLossConfig(commitment=0.0201)},
    ],
    ids=lambda mistake: "-".join(mistake),
)
def test_a_mistake_is_further_off_than_rounding(mistake):
    """What the bounds of `test_three_updates` are worth."""
    with pytest.raises(AssertionError, match="rounding allows"):
        update_bounds("train_restored_n").check(updates("train_restored_n", Disturbance(), **mistake))


def _keys(memory, published):
    """Our names of published parameters."""
    table = memory_table(memory.config, memory.velocity is not None)
    return [table[key.removeprefix("module.")].ours for key in published]


def velocity_updates(disturbance, acceleration=1.0, betas=None):
    """As `updates`, of the velocity branch, the only part that learns."""
    g, found = golden("vqr_small_train_fresh.npz"), {}
    memory = memory_small("vqr_small").to(torch.get_default_dtype()).eval()
    frozen = {k: v.clone() for k, v in memory.state_dict().items() if not k.startswith("velocity")}
    memory.requires_grad_(False)
    memory.velocity.requires_grad_(True)
    lr, *published = map(float, g["opt"])
    optimizer = torch.optim.Adam(memory.velocity.parameters(), lr=lr, betas=betas or published)
    for step in range(STEPS):
        x, prefix = torch.from_numpy(g[f"s{step}_x"]), f"s{step}"
        codes = memory.encode(x)
        optimizer.zero_grad()
        with disturbance.step(memory.velocity):
            loss, logs = velocity_loss(memory.decode_velocity(codes.lower), x[..., :3], acceleration)
            loss.backward()
        found[f"{prefix}_loss"] = loss.detach().numpy()
        for part in ("velocity", "acceleration"):
            found[f"{prefix}_metric_down_{part}_loss"] = logs[part].detach().numpy()
        named = dict(memory.named_parameters())
        names = _keys(memory, g["s0_gradnorm_names"].tolist())
        found[f"{prefix}_gradnorm"] = np.array([float(named[ours].grad.norm()) for ours in names])
        optimizer.step()
    for key, value in frozen.items():
        assert torch.equal(memory.state_dict()[key], value)
    state = to_theirs(memory_table(memory.config, True), memory.state_dict())
    return found | {f"after_{key}": sample(value.numpy(), WEIGHTS) for key, value in state.items()}


def recorded_velocity_updates():
    g, after = golden("vqr_small_train_fresh.npz"), golden("vqr_small_train_fresh_weights_after3.npz")
    kept = {k: v for k, v in g.items() if k.endswith(("_loss", "_gradnorm")) and "_up_" not in k}
    kept = {k: v for k, v in kept.items() if "recons" not in k and "commit" not in k}
    return kept | {f"after_{key}": value for key, value in after.items()}


@lru_cache
def velocity_bounds():
    return Bounds(velocity_updates)


def test_velocity_branch_updates():
    """Only the velocity decoder learns; everything else stays as it is."""
    recorded = recorded_velocity_updates()
    assert len(recorded) == 3 * 4 + len(golden("vqr_small_train_fresh_weights_after3.npz"))
    velocity_bounds().check(recorded)
    velocity_bounds().check(velocity_updates(Disturbance()))


@pytest.mark.parametrize("mistake", [{"acceleration": 0.99}, {"betas": (0.95, 0.999)}])
def test_a_mistake_in_the_velocity_branch_is_further_off(mistake):
    with pytest.raises(AssertionError, match="rounding allows"):
        velocity_bounds().check(velocity_updates(Disturbance(), **mistake))


def test_half_loss_is_the_stated_formula():
    """|x̂-x| + a|Δx̂-Δx| + b|Δ²x̂-Δ²x| + c·commitment, spelled out frame by frame."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, 6, 4))
    expected = np.mean([abs(y[0, t] - x[0, t]) for t in range(6)])
    expected += 0.5 * np.mean([abs((y[0, t + 1] - y[0, t]) - (x[0, t + 1] - x[0, t])) for t in range(5)])
    second = [
        abs((y[0, t + 2] - 2 * y[0, t + 1] + y[0, t]) - (x[0, t + 2] - 2 * x[0, t + 1] + x[0, t]))
        for t in range(4)
    ]
    expected += 0.25 * np.mean(second) + 0.1 * 3.0
    config = MotionLossConfig(velocity=0.5, acceleration=0.25, commitment=0.1)
    loss, _ = half_loss(torch.from_numpy(y), torch.from_numpy(x), torch.tensor(3.0), config)
    close(loss, expected)


def test_position_loss_sees_a_bias():
    """A constant bias b is b·(T+1)/2 off on average when integrated, and nothing else changes."""
    target = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    plain, _ = velocity_loss(target + 0.01, target, 1.0)
    loss, logs = velocity_loss(target + 0.01, target, 1.0, position=0.5)
    close(logs["position"], 0.01 * 5, rtol=1e-4)
    close(loss - plain, 0.5 * logs["position"], rtol=1e-4)
