"""Losses of the choreographic memory, of its velocity branch and its rotation decoders, as pure functions.

Source: Bailando (CVPR 2022), equations 1 to 4; Bailando++ (TPAMI 2023) for rotations. All distances are L1
means.
"""

from collections.abc import Mapping

from pydantic import NonNegativeFloat
from torch import Tensor

from models.vqvae import ChoreographicMemory, Reconstruction
from utils.config import ConfigModel
from utils.motion import difference


class MotionLossConfig(ConfigModel):
    """Weights of the memory's loss; that of the reconstruction is 1."""

    velocity: NonNegativeFloat = 1.0
    """Weight of the first difference along time."""
    acceleration: NonNegativeFloat = 1.0
    """Weight of the second difference along time."""
    commitment: NonNegativeFloat = 0.02
    """Weight of the squared distance from latent to code. The paper has 0.1, the published code 0.02."""


class RotationLossConfig(ConfigModel):
    """Weights of the rotation decoders' loss; that of the matrices themselves is 1."""

    velocity: NonNegativeFloat = 1.0
    """Weight of the first difference along time."""
    acceleration: NonNegativeFloat = 1.0
    """Weight of the second difference along time."""


def _distances(prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """L1 distances of motion (B, T, channels), and of its first and second difference along time."""
    error = (prediction - target).float()
    velocity = difference(error)
    return {
        "reconstruction": error.abs().mean(),
        "velocity": velocity.abs().mean(),
        "acceleration": difference(velocity).abs().mean(),
    }


def half_loss(
    prediction: Tensor, target: Tensor, commitment: Tensor, config: MotionLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one half and its parts; prediction and target are (B, T, channels)."""
    parts = {**_distances(prediction, target), "commitment": commitment}
    loss = parts["reconstruction"] + config.commitment * commitment
    return loss + config.velocity * parts["velocity"] + config.acceleration * parts["acceleration"], parts


def memory_loss(
    reconstruction: Reconstruction, pose: Tensor, memory: ChoreographicMemory, config: MotionLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean of the halves' losses, and their parts; pose is (B, T, J*3)."""
    targets, predictions = memory.split(pose), memory.channels(reconstruction.pose)
    losses: list[Tensor] = []
    logs: dict[str, Tensor] = {}
    for half, quantized in reconstruction.quantized.items():
        side = 0 if half == "upper" else 1  # the whole body takes the place of the lower half
        loss, parts = half_loss(predictions[side], targets[side], quantized.commitment, config)
        losses.append(loss)
        logs |= {f"{name}_{half}": value for name, value in parts.items()}
    loss = sum(losses[1:], losses[0]) / len(losses)
    return loss, {"loss": loss, **logs}


def rotation_loss(
    predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor], config: RotationLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean of the halves' losses, and their parts.

    The loss of a half is |R̂-R| + velocity·|ΔR̂-ΔR| + acceleration·|Δ²R̂-Δ²R| on raw matrix entries.

    Args:
        predictions: half -> raw matrices (B, T, 9 n) of its n joints.
        targets: half -> rotation matrices (B, T, 9 n), likewise.
        config: weights.
    """
    losses: list[Tensor] = []
    logs: dict[str, Tensor] = {}
    for half, prediction in predictions.items():
        parts = _distances(prediction, targets[half])
        loss = parts["reconstruction"] + config.velocity * parts["velocity"]
        losses.append(loss + config.acceleration * parts["acceleration"])
        logs |= {f"{name}_{half}": value for name, value in parts.items()}
    loss = sum(losses[1:], losses[0]) / len(losses)
    return loss, {"loss": loss, **logs}


def velocity_loss(
    prediction: Tensor, target: Tensor, acceleration: float, position: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of the root velocity (B, T, 3) and its parts.

    The loss is |v̂-v| + acceleration·|Δv̂-Δv| + position·|Σv̂-Σv|.

    Differs from the paper: the last part, the error of the integrated root position in metres. A small bias
    of the velocity hardly changes the other parts, but accumulates over a song.
    """
    error = (prediction - target).float()
    parts = {"velocity": error.abs().mean(), "acceleration": difference(error).abs().mean()}
    loss = parts["velocity"] + acceleration * parts["acceleration"]
    if position:
        parts["position"] = error.cumsum(1).abs().mean()
        loss = loss + position * parts["position"]
    return loss, {"loss": loss, **parts}
