"""Config of --eval. It imports no stage, as the config of a stage holds it."""

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from models.body import BodyConfig
from utils.config import ConfigModel


class EvaluationConfig(ConfigModel):
    """Settings of --eval."""

    split: Literal["train", "test", "all"] = "test"
    """Split whose songs and real dances are used."""
    protocol: Literal["bailando", "corrected", "both"] = "bailando"
    """Form of the metrics. `bailando` compares with published numbers; `corrected` removes their errors;
    `both` writes the tables and files of the second, too, into a folder of that name."""
    reference: str | None = None
    """Features of the real dances: a .npz with `names`, `kinetic` and `geometric`, as published, for example
    those of AIST++ computed by others (protocol `bailando` only), or a reference_features.npz. null is the
    real dances of the data."""
    length: Literal["dance", "song"] = "dance"
    """Length of generated dances: that of the real `dance`, or that of the whole `song`, as published."""
    max_frames: PositiveInt = 1200
    """Number of frames to which generated dances are cut for the metrics, as published."""
    plots: bool = True
    """Whether plots of beats, features and beat scores are drawn."""
    videos: NonNegativeInt = 4
    """Number of dances of which a video is made."""
    video_height: PositiveInt = 540
    """Height of the videos in pixels."""
    body: BodyConfig = BodyConfig()
    """Body that the videos show."""
    players: NonNegativeInt = 40
    """Number of dances that get a page, beside the real ones. If there is any, an index page is written."""

    @property
    def folder_suffix(self) -> str:
        """Suffix of the evaluation's folder: evaluations with other numbers have folders of their own.

        It names each setting that changes the numbers and is not the default: `_train_song` for example.
        """
        default = type(self)()
        changed: list[str] = [self.split] if self.split != default.split else []
        changed += [self.protocol] if self.protocol == "corrected" else []
        changed += [Path(self.reference).stem] if self.reference else []
        changed += [self.length] if self.length != default.length else []
        changed += [f"{self.max_frames}frames"] if self.max_frames != default.max_frames else []
        return "".join(f"_{setting}" for setting in changed)
