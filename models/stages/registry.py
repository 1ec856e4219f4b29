"""The training stages by name. A new stage is a file, a line here, and a YAML."""

from pathlib import Path

from models.stages.actor_critic import ActorCriticStage
from models.stages.base import RunConfig, Stage
from models.stages.motion_gpt import MotionGPTStage
from models.stages.sep_vqvae import SepVQVAE
from models.stages.sep_vqvae_root import SepVQVAERoot
from models.stages.sep_vqvae_root_mix import SepVQVAERootMix
from utils.config import ConfigError, check, current_keys, merge, read_layers, read_overrides

_ALL: tuple[type[Stage], ...] = (
    SepVQVAE,
    SepVQVAERoot,
    SepVQVAERootMix,
    MotionGPTStage,
    ActorCriticStage,
)
STAGES = {stage.name: stage for stage in _ALL}


def read_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Return the config of a run, checked.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: naming every wrong key.
    """
    layers = [*read_layers(path), *read_overrides(overrides)]
    stage = merge(layers).get("stage")
    if stage not in STAGES:
        raise ConfigError(f"{path}: stage must be one of {', '.join(STAGES)}, got {stage!r}")
    config = STAGES[stage].Config
    return check(config, merge([current_keys(config, layer, str(path)) for layer in layers]), str(path))
