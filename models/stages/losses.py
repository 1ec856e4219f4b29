"""The losses of the choreographic memory and of its velocity branch, as pure functions.

Source: Bailando (CVPR 2022), equations 1 to 4. All distances are L1 means.
"""

from pydantic import NonNegativeFloat
from torch import Tensor

from models.vqvae import ChoreographicMemory, Reconstruction
from utils.config import ConfigModel
from utils.motion import difference


class MotionLossConfig(ConfigModel):
    """Weights of the memory's loss; the reconstruction's is 1."""

    velocity: NonNegativeFloat = 1.0
    """Of the first difference along time."""
    acceleration: NonNegativeFloat = 1.0
    """Of the second difference along time."""
    commitment: NonNegativeFloat = 0.02
    """Of the squared distance from latent to code. The paper prints 0.1; released is 0.02."""


def half_loss(
    prediction: Tensor, target: Tensor, commitment: Tensor, config: MotionLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one half and its parts; prediction and target are (B, T, channels)."""
    error = (prediction - target).float()
    velocity = difference(error)
    parts = {
        "reconstruction": error.abs().mean(),
        "velocity": velocity.abs().mean(),
        "acceleration": difference(velocity).abs().mean(),
        "commitment": commitment,
    }
    loss = parts["reconstruction"] + config.commitment * commitment
    return loss + config.velocity * parts["velocity"] + config.acceleration * parts["acceleration"], parts


def memory_loss(
    reconstruction: Reconstruction, pose: Tensor, memory: ChoreographicMemory, config: MotionLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean of the halves' losses and their parts, for a pose (B, T, J*3) and what the memory made of it."""
    targets, predictions = memory.split(pose), memory.channels(reconstruction.pose)
    losses, logs = [], {}
    for half, quantized in reconstruction.quantized.items():
        side = 0 if half == "upper" else 1  # the whole body's are in the lower place
        loss, parts = half_loss(predictions[side], targets[side], quantized.commitment, config)
        losses.append(loss)
        logs |= {f"{name}_{half}": value for name, value in parts.items()}
    loss = sum(losses[1:], losses[0]) / len(losses)
    return loss, {"loss": loss, **logs}


def velocity_loss(
    prediction: Tensor, target: Tensor, acceleration: float, position: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the root velocity (B, T, 3) and its parts: |v̂-v| + acceleration·|Δv̂-Δv| + position·|Σv̂-Σv|.

    The last part, the error of the integrated root in metres, is not in the paper: a small bias of the
    velocity hardly shows in the others, and takes the dancer away over a song.
    """
    error = (prediction - target).float()
    parts = {"velocity": error.abs().mean(), "acceleration": difference(error).abs().mean()}
    loss = parts["velocity"] + acceleration * parts["acceleration"]
    if position:
        parts["position"] = error.cumsum(1).abs().mean()
        loss = loss + position * parts["position"]
    return loss, {"loss": loss, **parts}
