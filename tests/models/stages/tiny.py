"""All stages at a size at which everything takes a second, through the command line that users type."""

from pathlib import Path

import main

SIZES = {
    "sep_vqvae": ["model.codes_upper=24", "model.codes_lower=16", "model.codebook.dim=12",
                  "model.conv.width=8", "data.clips.hop=120", "training.batch_size=4"],
    "sep_vqvae_root": ["data.clips.hop=120", "training.batch_size=4"],
    "cc_motion_gpt": ["model.width=16", "model.heads=2", "model.base_blocks=1", "model.head_blocks=1",
                      "data.clips.hop=120", "training.batch_size=4"],
    "actor_critic": ["value.blocks=1", "training.batch_size=64", "turn=2"],
    "sep_vqvae_root_mix": ["data.clips.hop=120", "training.batch_size=4"],
}  # fmt: skip


def arguments(config: str, data: Path, output: Path, mode: str, *more: str) -> list[str]:
    """The command line of a stage."""
    overrides = [
        f"data.root={data}",
        f"output={output}",
        "evaluation.plots=false",
        "evaluation.videos=1",
        "evaluation.video_height=180",
        "evaluation.players=1",
    ]
    if config != "sep_vqvae":
        overrides.append(
            f"vqvae={checkpoint(output, 'sep_vqvae' if config == 'sep_vqvae_root' else 'sep_vqvae_root')}"
        )
    if config == "actor_critic":
        overrides.append(f"gpt={checkpoint(output, 'cc_motion_gpt')}")
    overrides += [*SIZES[config], "training.milestones=[1]", "training.log_every=1", "device=cpu"]
    return ["--config", f"configs/sample/{config}.yaml", f"--{mode}", *overrides, *more]


def checkpoint(output: Path, config: str) -> Path:
    """Where a run's newest checkpoint is."""
    return output / "sample" / config / "ckpt" / "last.pt"


def run(config: str, data: Path, output: Path, mode: str, *more: str) -> None:
    """Runs it and expects success."""
    assert main.main(arguments(config, data, output, mode, *more)) == 0


def train_all(data: Path, output: Path, epochs: int = 1) -> Path:
    """Trains the stages one after the other."""
    for config in SIZES:
        run(config, data, output, "train", f"training.epochs={epochs}")
    return output
