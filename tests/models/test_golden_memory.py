"""The choreographic memory against the published system's numbers."""

import numpy as np
import pytest
import torch

from models.official import memory_from_published
from models.stages.losses import MotionLossConfig, half_loss, memory_loss, velocity_loss
from models.vqvae import Codes
from tests.helpers import golden
from tests.models.golden_models import memory_small, tensors
from utils.motion import pose_to_joints


def close(ours, theirs, rtol=1e-5, atol=None):
    """Equal to 1e-5 of the size of the numbers: sums of large terms may cancel to a small one."""
    atol = rtol * np.abs(theirs).max() if atol is None else atol
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["vq_small", "vqr_small"])
def test_encode_decode(name):
    memory, g = memory_small(name).eval(), golden(f"{name}_eval.npz")
    with torch.no_grad():
        x = torch.from_numpy(g["x"])
        upper, lower = memory.split(x)
        close(memory.upper.encoder(upper.transpose(1, 2)), g["emb_up"])
        close(memory.lower.encoder(lower.transpose(1, 2)), g["emb_down"])
        codes = memory.encode(x)
        np.testing.assert_array_equal(codes.upper, g["codes_up"])
        np.testing.assert_array_equal(codes.lower, g["codes_down"])
        close(memory.decode(codes), g["decode"])
        rand = Codes(torch.from_numpy(g["rand_codes_up"]), torch.from_numpy(g["rand_codes_down"]))
        decoded = memory.decode(rand)
        close(decoded, g["rand_decode"])
        for length in (72, 77):
            codes = memory.encode(torch.from_numpy(g[f"x{length}"]))
            np.testing.assert_array_equal(codes.upper, g[f"codes{length}_up"])
            np.testing.assert_array_equal(codes.lower, g[f"codes{length}_down"])
        if name == "vqr_small":
            close(pose_to_joints(decoded).flatten(-2), g["rand_world"])


def test_encode_decode_float64():
    g, shared = golden("float64_vectors.npz"), golden("vq_small_eval.npz")
    memory = memory_small().double().eval()
    with torch.no_grad():
        x = torch.from_numpy(shared["x"]).double()
        codes = memory.encode(x)
        np.testing.assert_array_equal(codes.upper, g["vq_small_codes_up"])
        close(memory.decode(codes), g["vq_small_decode"], rtol=0, atol=1e-9)


def test_losses_in_eval_mode():
    memory, g = memory_small().eval(), golden("vq_small_eval.npz")
    with torch.no_grad():
        x = torch.from_numpy(g["x"])
        loss, logs = memory_loss(memory(x), x, memory, MotionLossConfig())
    close(loss, g["eval_loss"])
    check_parts(logs, g, "eval_metric")


def check_parts(logs, g, prefix):
    names = {
        "recons_loss": "reconstruction",
        "velocity_loss": "velocity",
        "acceleration_loss": "acceleration",
    }
    names["commit_loss"] = "commitment"
    for theirs, ours in names.items():
        for half, side in (("upper", "up"), ("lower", "down")):
            close(logs[f"{ours}_{half}"], g[f"{prefix}_{side}_{theirs}"])


class Replay:
    """Feeds a codebook the draws the published code made."""

    def __init__(self, g, step):
        keys = sorted((k for k in g if k.startswith(f"s{step}_draw")), key=lambda k: int(k.split("_")[1][4:]))
        self.perms = [torch.from_numpy(g[k]) for k in keys if k.endswith("perm")]
        self.noises = [torch.from_numpy(g[k]) for k in keys if k.endswith("noise")]

    def attach(self, memory):
        for half in (memory.upper, memory.lower):
            half.codebook._draw_permutation = lambda rows: self.perms.pop(0)
            half.codebook._draw_noise = lambda rows: self.noises.pop(0)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("vq_small", "train_fresh"),
        ("vq_small", "train_restored"),
        ("vq_small_n", "train_restored_n"),
        ("vq_small_b1", "train_fresh"),
    ],
)
def test_three_updates(name, mode):
    """Loss, its parts, gradients, codebook sums, counts and restarts, and the weights after Adam."""
    g = golden(f"{name}_{mode}.npz")
    memory = memory_small().train()
    for half in (memory.upper, memory.lower):
        codebook = half.codebook
        if mode == "train_fresh":
            codebook.initialised.fill_(False)
        if mode == "train_restored_n":
            codebook.counts.fill_(120 / 64)
            codebook.sums.copy_(codebook.codes * (120 / 64))
    lr, *betas = g["opt"]
    optimizer = torch.optim.Adam(memory.parameters(), lr=float(lr), betas=tuple(map(float, betas)), eps=1e-8)
    steps = 1 + max(int(k[1]) for k in g if k[0] == "s" and k[1].isdigit())
    for step in range(steps):
        Replay(g, step).attach(memory)
        x = torch.from_numpy(g[f"s{step}_x"])
        reconstruction = memory(x)
        loss, logs = memory_loss(reconstruction, x, memory, MotionLossConfig())
        close(loss.detach(), g[f"s{step}_loss"])
        close(reconstruction.pose.detach(), g[f"s{step}_out"])
        check_parts({k: v.detach() for k, v in logs.items()}, g, f"s{step}_metric")
        for half, side in ((memory.upper, "up"), (memory.lower, "down")):
            codebook = half.codebook
            close(codebook.codes, g[f"s{step}_k_{side}"])
            close(codebook.sums, g[f"s{step}_ksum_{side}"])
            close(codebook.counts, g[f"s{step}_kelem_{side}"])
            assert int(codebook.restarted) == int(g[f"s{step}_restarted_{side}"].sum())
        optimizer.zero_grad()
        loss.backward()
        norms = {n: p.grad.norm().item() for n, p in memory.named_parameters() if p.grad is not None}
        theirs = dict(zip(g[f"s{step}_gradnorm_names"].tolist(), g[f"s{step}_gradnorm"], strict=True))
        key = {k: v for k, v in _keys(theirs).items()}
        close([norms[k] for k in key], list(key.values()), rtol=2e-4)
        optimizer.step()
    if steps < 3:  # the selection that comes with the code holds two steps and no weights after them
        return
    weights = tensors(f"{name}_{mode}_weights_after3.npz")
    for key, value in _keys(weights).items():
        # Adam divides by the gradient's size: where that is ~0, rounding alone moves a weight by up to lr.
        difference = (memory.state_dict()[key] - value).abs()
        assert difference.max() < 2 * steps * lr
        assert difference.quantile(0.99) < 2e-5


def _keys(published):
    """Published parameter names -> ours."""
    full = {
        **published,
        **{f"module.vqvae_{h}.bottleneck.level_blocks.0.k": torch.zeros(1) for h in ("up", "down")},
    }
    return {k: v for k, v in memory_from_published(full).items() if "codebook" not in k}


def test_velocity_branch_updates():
    """Only the velocity decoder learns; everything else stays as it is."""
    g = golden("vqr_small_train_fresh.npz")
    memory = memory_small("vqr_small").eval()
    frozen = {k: v.clone() for k, v in memory.state_dict().items() if not k.startswith("velocity")}
    memory.requires_grad_(False)
    memory.velocity.requires_grad_(True)
    lr, *betas = g["opt"]
    optimizer = torch.optim.Adam(memory.velocity.parameters(), lr=float(lr), betas=tuple(map(float, betas)))
    for step in range(3):
        x = torch.from_numpy(g[f"s{step}_x"])
        codes = memory.encode(x)
        loss, logs = velocity_loss(memory.decode_velocity(codes.lower), x[..., :3], 1.0)
        # In the first step one ReLU of the third stage has an input within rounding of 0 and opens here but
        # not there: all gradients above it agree to 1e-7, those below to 1e-3, and Adam carries that into the
        # later steps.
        rtol = 1e-5 if step == 0 else 1e-3
        close(loss.detach(), g[f"s{step}_loss"], rtol=rtol)
        close(logs["velocity"].detach(), g[f"s{step}_metric_down_velocity_loss"], rtol=rtol)
        close(logs["acceleration"].detach(), g[f"s{step}_metric_down_acceleration_loss"], rtol=rtol)
        optimizer.zero_grad()
        loss.backward()
        theirs = dict(zip(g[f"s{step}_gradnorm_names"].tolist(), g[f"s{step}_gradnorm"], strict=True))
        for key, value in _keys(theirs).items():
            close(dict(memory.named_parameters())[key].grad.norm(), value, rtol=1e-3 if step == 0 else 1e-2)
        optimizer.step()
    for key, value in frozen.items():
        assert torch.equal(memory.state_dict()[key], value)
    weights = _keys(tensors("vqr_small_train_fresh_weights_after3.npz"))
    for key in (k for k in weights if k.startswith("velocity")):
        difference = (memory.state_dict()[key] - weights[key]).abs()
        assert difference.max() < 2 * 3 * lr
        assert difference.median() < 2e-5


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
