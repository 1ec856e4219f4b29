"""The base class of the training stages, and the config that all stages share."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from datasets.clips import ClipsConfig, epoch_batches
from datasets.loading import Clips, Loader, make_loader
from datasets.sequences import PreparedData
from models.checkpoints import described_by, read_checkpoint
from models.evaluation.config import EvaluationConfig
from models.generation import GenerationConfig
from models.inference.config import DanceConfig
from models.stages.changes import check_changes, find_changes, fingerprint
from models.vqvae import ChoreographicMemory
from utils.config import ConfigModel, to_plain
from utils.training.checkpoints import load_weights
from utils.training.trainer import Batches, TrainingConfig

log = logging.getLogger(__name__)


class DataConfig(ConfigModel):
    """Data for training and evaluation."""

    root: str = "data/aistpp"
    """Folder of prepared data; prepare_aistpp_data.py makes it."""
    on_device: bool | None = None
    """Keep all clips on the training device if they fit; null does so on a GPU. The actor-critic reads no
    clips."""
    clips: ClipsConfig = ClipsConfig()
    """Training windows; see ClipsConfig."""


class SampleConfig(ConfigModel):
    """Codes that --sample decodes."""

    upper: tuple[int, ...] | None = None
    """Upper codes in order; null draws them at random."""
    lower: tuple[int, ...] | None = None
    """Lower codes in order; null draws them at random."""
    length: PositiveInt = 30
    """Number of random codes."""
    seed: int = 0
    """Seed of the random codes."""


class VisgtConfig(ConfigModel):
    """Real dances that --visgt shows."""

    dances: tuple[str, ...] | None = None
    """Names of the dances; null shows the first evaluation.videos of evaluation.split."""
    seconds: PositiveFloat | None = None
    """Length of a video; null shows whole dances."""


class RunConfig(ConfigModel):
    """Config keys of every stage."""

    stage: str
    """Name of the stage."""
    name: str
    """Name of the run; its folder is <output>/<name>. It equals the config's path below configs/."""
    output: str = "experiments"
    """Folder of all runs."""
    seed: int = 42
    """Seed of everything random."""
    device: str = "auto"
    """Device: auto, cpu, cuda or cuda:N."""
    checkpoint: str | None = None
    """Checkpoint that --eval, --dance, --anl and --sample use; null uses the run's own ckpt/last.pt."""
    data: DataConfig = DataConfig()
    """Data; see DataConfig."""
    training: TrainingConfig
    """Training; see TrainingConfig."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation; see EvaluationConfig."""
    sample: SampleConfig = SampleConfig()
    """Codes that --sample decodes; see SampleConfig."""
    visgt: VisgtConfig = VisgtConfig()
    """Real dances that --visgt shows; see VisgtConfig."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.output) / self.name

    @property
    def checkpoint_path(self) -> Path:
        """Path of the checkpoint that is evaluated."""
        return Path(self.checkpoint) if self.checkpoint else self.folder / "ckpt" / "last.pt"

    def made_by(self, path: Path) -> str:
        """Return the command that makes a checkpoint of a run below the output folder."""
        try:
            name = path.relative_to(self.output).parent.parent.as_posix()
        except ValueError:
            return "python main.py --config CONFIG --train"
        return f"python main.py --config configs/{name}.yaml --train"


class GPTRunConfig(RunConfig):
    """Keys that the stages with a motion GPT share."""

    vqvae: str
    """Checkpoint of stage sep_vqvae_root."""
    generation: GenerationConfig = GenerationConfig()
    """How codes are generated."""
    dance: DanceConfig = DanceConfig()
    """How --dance turns a song into dances and files."""

    @property
    def other_gpt(self) -> Path | None:
        """A file that is used instead of the run's own checkpoint if it is a published one."""
        return None


class Stage(ABC):
    """Common part of the stages; `utils.training.trainer.Trainable` is the contract with the training loop.

    A stage is a plain object, as EDM's `loss_fn(net, batch)`, so frozen modules are not in its checkpoint.

    Attributes:
        name: key in STAGES and in checkpoints.
        Config: config model of the stage.
        model: the module whose state is the checkpoint; it is evaluated.
        trainable: the module that is trained, `model` or a part of it.
    """

    name: ClassVar[str]
    Config: ClassVar[type[RunConfig]]
    model: nn.Module
    trainable: nn.Module
    finished = False

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._loader: Loader | None = None

    @cached_property
    def data(self) -> PreparedData:
        """The prepared data."""
        return PreparedData(Path(self.config.data.root))

    @property
    @abstractmethod
    def memory(self) -> ChoreographicMemory:
        """The choreographic memory of this stage: its model, or the frozen one that it builds on."""

    @abstractmethod
    def batches(self, epoch: int) -> Batches: ...  # noqa: D102

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]: ...  # noqa: D102

    def evaluation_folder(self, epoch: int) -> Path:
        """Return eval/epoch_NNNN of the run, with a suffix if settings change the numbers."""
        suffix = self.config.evaluation.folder_suffix
        return self.config.folder / "eval" / f"epoch_{epoch:04d}{suffix}"

    @abstractmethod
    def evaluate(self, folder: Path) -> Mapping[str, Any]: ...  # noqa: D102

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """Return the sizes that are needed to build the model again."""

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:  # noqa: B027
        """Check what tensor shapes do not show.

        Raises:
            ValueError: if a checkpoint does not fit the data or the config.
        """

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Hashes of the data and earlier checkpoints that the config names, by config key."""
        manifest = json.dumps(self.data.manifest, sort_keys=True).encode()
        return {"data.root": hashlib.sha256(manifest).hexdigest()}

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        content = {
            "stage": self.name,
            "architecture": self.architecture(),
            "model": self.model.state_dict(),
            "config": to_plain(self.config),
            "built_on": dict(self.built_on),
        }
        if isinstance(self.config, GPTRunConfig):
            content["codes"] = self._codes
        return content

    @cached_property
    def _codes(self) -> str:
        return fingerprint_of_codes(self.memory)

    def load_state_dict(self, content: Mapping[str, Any], path: Path) -> None:  # noqa: D102
        with described_by(path):
            self.check_architecture(content["architecture"], path)
        found = find_changes(content, self.config, self.built_on)
        epoch, batch = content["epoch"], content.get("batch", 0)
        changes = check_changes(found, str(path), epoch, batch, "selection" in content)
        for when, some in (("now", changes.at_once), ("from the next epoch", changes.next_epoch)):
            if some:
                log.warning("changed keys that take effect %s: %s", when, ", ".join(map(str, some)))
        load_weights(self.model, content["model"], path)

    def end_epoch(self, epoch: int) -> Mapping[str, float]:  # noqa: D102
        return {}

    def end_training(self, folder: Path, epoch: int) -> None:  # noqa: D102
        return

    def evaluation(self) -> Any:
        """Return an `Evaluation` of the config's split."""
        # Imports scipy, av and matplotlib, which training does not need.
        from models.evaluation.report import Evaluation

        return Evaluation(self.data, self.config.evaluation, self.memory, self.config.seed)

    def load(self) -> int:
        """Load the config's checkpoint into the model, for evaluation; return its epoch."""
        path = self.config.checkpoint_path
        content = read_checkpoint(path, self.config.made_by(path), (self.name,))
        with described_by(path):
            self.check_architecture(content["architecture"], path)
            load_weights(self.model, content["model"], path)
            epoch = int(content["epoch"])
        if isinstance(self.config, GPTRunConfig):
            check_codes(content.get("codes", ""), self.memory, path, self.config.vqvae)
        self.model.eval()
        return epoch

    def epoch_batches(self, number: int, epoch: int) -> list[list[int]]:
        """Return the indices of the samples, 0..number-1, in each batch of an epoch, over all processes."""
        size, order = self.config.training.batch_size, self.config.data.clips.order
        return epoch_batches(number, size, order, self.config.seed, epoch)

    def loader(self, clips: Clips, epoch: int) -> Batches:
        """Return the batches of a dataset in the order of the epoch."""
        if self._loader is None:
            on_device, workers = self.config.data.on_device, self.config.training.num_workers
            self._loader = make_loader(clips, self.device, on_device, workers)
        return self._loader.begin(self.epoch_batches(len(clips), epoch))


def check_codes(codes: str, memory: ChoreographicMemory, path: Path, vqvae: str) -> None:
    """Check that a motion GPT was trained on the codes of a memory.

    Args:
        codes: `fingerprint_of_codes` of its memory; '' in published files and older checkpoints.
        memory: the memory that is to decode its codes.
        path: of the GPT, for the message.
        vqvae: file of the memory, likewise.

    Raises:
        ValueError: if it was trained on those of another one.
    """
    if codes and codes != fingerprint_of_codes(memory):
        raise ValueError(
            f"{path} was trained on the codes of another memory than that of {vqvae}, whose codes mean other "
            "motion; name the memory that it was trained with, or one with its codes (key vqvae)"
        )


def fingerprint_of_codes(memory: ChoreographicMemory) -> str:
    """Return a hash of what a memory's codes mean: its code vectors and position decoders, in float32.

    A memory that was written as a published file and read again has the same one.
    """
    upper, lower = memory.code_vectors
    state = {"upper": upper, "lower": lower}
    for name, half in memory.halves.items():
        state |= {f"{name}.{key}": value for key, value in half.decoder.state_dict().items()}
    return fingerprint({key: value.to(torch.float32) for key, value in state.items()})


def fingerprint_of_memory(memory: ChoreographicMemory) -> str:
    """Return a hash of a memory's weights without velocity branch and rotation decoders.

    These do not affect codes. The hash covers the former names of tensors, so that runs of earlier versions
    can be resumed.
    """
    codes = {k: v for k, v in memory.state_dict().items() if not k.startswith(("velocity.", "rotations."))}
    return fingerprint({memory.former_name(k): v for k, v in codes.items()})
