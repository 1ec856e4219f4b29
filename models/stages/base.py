"""What a stage is: what learns, from which batches, by which loss, judged how. The Trainer knows no more.

After EDM's `loss_fn(net, batch)`: a stage is a plain object, so frozen helpers stay out of its checkpoint.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.utils.data import Dataset

from datasets.clips import ClipsConfig, epoch_batches
from datasets.loading import Loader, Resident, ResidentLoader, split_batch, stacked
from datasets.sequences import PreparedData
from models.checkpoints import read_checkpoint
from models.evaluation.config import EvaluationConfig
from models.generation import GenerationConfig
from models.inference.config import DanceConfig
from models.stages.changes import Counting, check_changes, find_changes, fingerprint
from models.vqvae import ChoreographicMemory
from utils.config import ConfigModel, to_plain
from utils.training import distributed
from utils.training.checkpoint import load_weights
from utils.training.config import TrainingConfig


class DataConfig(ConfigModel):
    """What is trained and evaluated on."""

    root: str = "data/aistpp"
    """Folder of prepared data; made by prepare_aistpp_data.py."""
    on_device: bool = False
    """Whether all clips are kept on the training device, if they fit. (The actor-critic reads no clips.)"""
    clips: ClipsConfig = ClipsConfig()
    """Which windows are trained on."""


class SampleConfig(ConfigModel):
    """What --sample decodes."""

    upper: tuple[int, ...] | None = None
    """Upper codes, one after the other; random if null."""
    lower: tuple[int, ...] | None = None
    """Lower codes; random if null."""
    length: PositiveInt = 30
    """How many random codes."""
    seed: int = 0
    """Of the random codes."""


class RunConfig(ConfigModel):
    """What every stage's config has."""

    stage: str
    """Which stage this is."""
    name: str
    """Of the run: its folder is <output>/<name>. It equals the config's path below configs/."""
    output: str = "experiments"
    """Folder of all runs."""
    seed: int = 42
    """Decides everything random."""
    device: str = "auto"
    """Auto, cpu, cuda or cuda:N."""
    checkpoint: str | None = None
    """What --eval, --anl and --sample use; the run's own ckpt/last.pt if null."""
    data: DataConfig = DataConfig()
    """See DataConfig."""
    training: TrainingConfig
    """See TrainingConfig."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """See EvaluationConfig."""
    sample: SampleConfig = SampleConfig()
    """See SampleConfig."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.output) / self.name

    @property
    def checkpoint_path(self) -> Path:
        """The checkpoint that is evaluated."""
        return Path(self.checkpoint) if self.checkpoint else self.folder / "ckpt" / "last.pt"

    def made_by(self, path: Path) -> str:
        """The command that makes a checkpoint of a run below the output folder."""
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
    """A step of the method.

    Attributes:
        name: as in STAGES and in checkpoints.
        Config: its config dataclass.
        model: the module whose state is the checkpoint.
        learner: the part of it that learns.
    """

    name: ClassVar[str]
    Config: ClassVar[type[RunConfig]]
    model: nn.Module
    learner: nn.Module

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._resident: Resident | None = None

    @cached_property
    def data(self) -> PreparedData:
        """The prepared data."""
        return PreparedData(Path(self.config.data.root))

    @property
    @abstractmethod
    def memory(self) -> ChoreographicMemory:
        """The choreographic memory of this stage, its own or the frozen one it builds on."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch, counted from 1; a function of seed and epoch."""

    @abstractmethod
    def loss(self, learner: nn.Module, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a batch, and what is logged beside it under the names of the YAML."""

    def evaluation(self) -> Any:
        """An `Evaluation` that makes and scores the dances of the config's split."""
        from models.evaluation.report import Evaluation  # scipy, av, matplotlib: training does without

        return Evaluation(self.data, self.config.evaluation, self.memory, self.config.seed)

    @abstractmethod
    def evaluate(self, folder: Path) -> Mapping[str, Any]:
        """Metrics of the model as it stands; tables, motions and videos are written into the folder.

        All processes must call it: each makes a share of the dances, and the main one judges and writes.
        """

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """What is needed to build the model again."""

    def check_architecture(self, architecture: Mapping[str, Any], path: Path) -> None:
        """Raises ValueError if a checkpoint does not fit the data or, where no shape shows it, the config."""
        return

    def epoch_logs(self) -> Mapping[str, float]:
        """What is logged once per epoch."""
        return {}

    def gauges(self) -> Mapping[str, Tensor]:
        """What is read off the state every `log_every` steps, scalars."""
        return {}

    def kind(self, batch: Any) -> str:
        """Which kind of step this batch is for, where a stage has several."""
        return ""

    @property
    def work(self) -> Mapping[str, float]:
        """What a step of all processes gets done."""
        frames = float(self.config.training.batch_size * self.config.data.clips.frames)
        return {"frames": frames, "codes": frames / self.memory.frames_per_code}

    def split(self, batch: Any, parts: int) -> list[Any]:
        """A batch in equal parts, in order.

        Raises:
            ValueError: if it does not divide.
        """
        return split_batch(batch, parts)

    def begin_step(self, parts: list[Any]) -> None:
        """Before the first part of a batch that is computed in several."""
        return

    def hold(self, held: bool) -> None:
        """Whether what learns in a forward pass (codebooks) waits for later parts of the batch."""
        return

    def batch_names(self, epoch: int, batch: int) -> list[str]:
        """Names of the sequences in one of an epoch's batches, over all processes; both as in `batches`."""
        clips = self.clips  # type: ignore[attr-defined]
        indices = self._indices(len(clips), epoch)[batch]
        return sorted({clips.name(index) for index in indices})

    def epoch_state(self) -> Mapping[str, Any]:
        """What a checkpoint within an epoch must hold to have the rest of its batches again."""
        return {}

    def restore_epoch(self, state: Mapping[str, Any]) -> None:
        """Puts `epoch_state` back; the next call of `batches` is for the same epoch."""
        return

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds besides the state of training."""
        return {
            "stage": self.name,
            "architecture": self.architecture(),
            "model": self.model.state_dict(),
            "config": to_plain(self.config),
            "built_on": dict(self.built_on),
        }

    @cached_property
    def built_on(self) -> Mapping[str, str]:
        """Key of what the config names (data, checkpoints of earlier stages) -> hash of its content."""
        manifest = json.dumps(self.data.manifest, sort_keys=True).encode()
        return {"data.root": hashlib.sha256(manifest).hexdigest(), **self.frozen()}

    def frozen(self) -> Mapping[str, str]:
        """Key of a checkpoint that this stage builds on -> hash of its weights; the part of `built_on`."""
        return {}

    def check_changes(self, content: Mapping[str, Any], path: Path) -> Counting:
        """What of the config changed since a checkpoint, and counts from here.

        Raises:
            ValueError: naming the keys whose change cannot count (see models/stages/changes.py).
        """
        changes = find_changes(content, to_plain(self.config), self.built_on)
        epoch, batch = content["epoch"], content.get("batch", 0)
        return check_changes(changes, str(path), epoch, batch, "choice" in content)

    def restore(self, content: Mapping[str, Any]) -> None:
        """What a checkpoint holds for this stage besides the model, when training is resumed."""
        return

    @property
    def finished(self) -> bool:
        """Whether training is done before its last epoch."""
        return False

    def complete(self, folder: Path, epoch: int, anew: bool) -> None:
        """Tells, in the run's folder, what training came to. All processes must call it.

        Args:
            folder: of the run.
            epoch: how many are done.
            anew: whether it has just been trained; else what has been told before still holds.
        """
        return

    def load(self) -> int:
        """Puts the config's checkpoint into the model, for anything but training; returns its epoch."""
        path = self.config.checkpoint_path
        content = read_checkpoint(path, self.config.made_by(path), (self.name,))
        self.check_architecture(content["architecture"], path)
        load_weights(self.model, content["model"], path)
        self.model.eval()
        return int(content["epoch"])

    def _indices(self, number: int, epoch: int) -> list[list[int]]:
        """Which clips are in the epoch's batches."""
        size, order = self.config.training.batch_size, self.config.data.clips.order
        return epoch_batches(number, size, order, self.config.seed, epoch)

    def loader(self, dataset: Dataset[Any], epoch: int) -> "Loader | ResidentLoader":
        """Batches of a dataset in the epoch's order."""
        batches = self._indices(len(dataset), epoch)  # type: ignore[arg-type]
        batches = [distributed.share(batch) for batch in batches]
        if self.config.data.on_device and self._resident is None:
            self._resident = stacked(dataset, self.device)
        if self._resident is not None:
            return ResidentLoader(self._resident, batches)
        return Loader(dataset, batches, self.config.training.num_workers, self.device.type == "cuda")


def fingerprint_of_memory(memory: ChoreographicMemory) -> str:
    """Hash of a memory's weights without the velocity branch, which does not affect codes.

    Tensors have their former names in it, so that runs of earlier versions can be resumed.
    """
    state = memory.state_dict()
    return fingerprint({memory.former_name(k): v for k, v in state.items() if not k.startswith("velocity.")})
