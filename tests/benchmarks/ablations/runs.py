"""Runs: a stage's config with overrides, the runs it builds on, and a folder that tells it from all others.

A folder's name holds a digest of all that decides its content (configs, overrides, the runs below it, the
data): a run is reused where nothing of that changed, and never where something did.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.sequences import MANIFEST
from models.stages.base import RunConfig
from models.stages.registry import read_config
from tests.helpers import ROOT
from utils.config import read_merged, to_plain

CONFIGS = {"memory": "sep_vqvae", "root": "sep_vqvae_root", "gpt": "cc_motion_gpt", "critic": "actor_critic"}
NEEDS = {"memory": (), "root": ("memory",), "gpt": ("root",), "critic": ("root", "gpt")}
EPOCHS = {  # of each scale; `full` is as the configs say
    "tiny": {"memory": 1, "root": 1, "gpt": 1, "critic": 1},
    "short": {"memory": 8, "root": 8, "gpt": 5, "critic": 6},
}
_ELSEWHERE = ("name", "output", "device", "checkpoint", "vqvae", "gpt", "evaluation", "sample")


@dataclass(frozen=True)
class Run:
    """A stage trained one way.

    Attributes:
        stage: `memory`, `root`, `gpt` or `critic`.
        overrides: of the stage's sample config.
        needs: the runs it builds on.
        seed: of everything random in it.
        trained_by: name of a stage of this benchmark's own; empty: the shipped one.
    """

    stage: str
    overrides: tuple[str, ...]
    needs: tuple["Run", ...]
    seed: int
    trained_by: str = ""


@dataclass(frozen=True)
class Place:
    """Where runs are, and how long they train.

    Attributes:
        out: folder of the ablations.
        scale: `tiny` (to try the benchmark), `short` or `full`.
        data: digest of the prepared sample corpus.
    """

    out: Path
    scale: str
    data: str

    @property
    def output(self) -> Path:
        """Folder of all runs of this scale."""
        return self.out / "runs" / self.scale

    def name(self, run: Run) -> str:
        """Of the run, below the output folder."""
        return f"seed{run.seed}/{run.stage}-{_digest(run, self.scale, self.data)}"

    def folder(self, run: Run) -> Path:
        """Of the run."""
        return self.output / self.name(run)

    def checkpoint(self, run: Run) -> Path:
        """The run's newest checkpoint."""
        return self.folder(run) / "ckpt" / "last.pt"

    def overrides(self, run: Run) -> list[str]:
        """All overrides of the run's config."""
        needed = {need.stage: self.checkpoint(need) for need in run.needs}
        keys = {"memory": "vqvae", "root": "vqvae", "gpt": "gpt"}
        return [
            *_settings(run, self.scale),
            f"name={self.name(run)}",
            f"output={self.output}",
            "device=cpu",
            "evaluation.videos=0",
            "evaluation.plots=false",
            "evaluation.players=0",
            *(f"{keys[stage]}={path}" for stage, path in needed.items()),
        ]

    def config(self, run: Run) -> RunConfig:
        """The run's config, checked.

        Raises:
            ConfigError: naming every wrong key.
        """
        return read_config(config_path(run.stage), self.overrides(run))


def _settings(run: Run, scale: str) -> list[str]:
    return [*schedule(run.stage, scale), *run.overrides, f"seed={run.seed}"]


@functools.cache
def _digest(run: Run, scale: str, data: str) -> str:
    content = to_plain(read_config(config_path(run.stage), _settings(run, scale)))
    content = {key: value for key, value in content.items() if key not in _ELSEWHERE}
    content["data"] = {key: value for key, value in content["data"].items() if key != "root"}
    roots = [setting for setting in run.overrides if setting.startswith("data.root=")]
    features = [Path(root).name for root in roots]  # of another version, wherever they are
    below = [_digest(need, scale, data) for need in run.needs]
    whole = [content, below, run.trained_by, features, data]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:8]


def config_path(stage: str) -> Path:
    """The sample config of a stage."""
    return ROOT / "configs" / "sample" / f"{CONFIGS[stage]}.yaml"


@functools.cache
def shipped(stage: str) -> dict[str, Any]:
    """What the sample config of a stage says."""
    return read_merged(config_path(stage))


def schedule(stage: str, scale: str) -> list[str]:
    """Overrides that shorten training to a scale; milestones keep their share of the epochs."""
    if scale == "full":
        return []
    epochs, training = EPOCHS[scale][stage], shipped(stage)["training"]
    places = {round(m * epochs / training["epochs"]) for m in training["milestones"]}
    milestones = sorted(place for place in places if 0 < place < epochs)
    settings = [f"training.epochs={epochs}", f"training.milestones={milestones}"]
    settings.append(f"training.save_every={epochs}")
    if scale == "tiny" and stage != "critic":
        settings += ["data.clips.hop=240"]
    return settings


def chain(stage: str, overrides: Mapping[str, Sequence[str]], seed: int, trained_by: str = "") -> Run:
    """The run of a stage and, below it, those it needs, each with its own overrides (by stage)."""
    needs = tuple(chain(need, overrides, seed) for need in NEEDS[stage])
    return Run(stage, tuple(overrides.get(stage, ())), needs, seed, trained_by)


def in_order(runs: Iterable[Run]) -> list[Run]:
    """The runs and all they need, each once, what is needed first."""
    found: dict[Run, None] = {}
    for run in runs:
        for each in (*in_order(run.needs), run):
            found[each] = None
    return list(found)


def data_digest(root: Path) -> str:
    """Of a folder of prepared data; empty if it is not there yet."""
    path = root / MANIFEST
    if not path.is_file():
        return ""
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    told = {key: manifest[key] for key in ("music", "splits", "songs", "sequences")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
