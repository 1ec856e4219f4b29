"""Config of --dance. It imports no stage, as the config of a stage holds it."""

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from models.body import BodyConfig
from models.generation import GenerationConfig
from utils.config import ConfigModel
from utils.dance_formats import WRITERS

log = logging.getLogger(__name__)
# former keys, one per format -> the format
_FORMER = {"video": "mp4", "player": "html", "bvh": "bvh", "glb": "glb", "smpl": "smpl"}


class DanceConfig(ConfigModel):
    """Settings of --dance: the dances to a song, and their files."""

    start: Literal["first", "beat"] = "first"
    """When the dance begins. `first`: with the first moment of the song; `beat`: the dancer stands still
    until the code step in which the first beat of the song falls."""
    bpm: Annotated[float, Field(ge=20, le=400)] | None = None
    """Tempo of the songs in beats per minute, for songs in which another one is found (`--dance` prints it).
    null: found in each song, also where it changes."""
    beats: str | None = None
    """File of the beats of the song, of which there must be only one: seconds from its start, a line each
    (mir_eval, label tracks of Audacity), or a JSON list. null: found in each song."""
    opening: str | tuple[tuple[NonNegativeInt, NonNegativeInt], ...] | None = None
    """The codes from which a dance continues: pairs [[upper, lower], ...], or a file of a motion (joints or
    SMPL parameters, as `python -m utils.metrics` reads it) that the memory encodes. null is
    generation.first_codes."""
    opening_codes: PositiveInt = 8
    """Number of codes that are taken from such a file."""
    lock_upper: str | tuple[int, ...] | None = None
    """Codes that the upper half is given, counted from the start of the song: a list, or a .npz file that
    holds `codes`. The GPT chooses where they are -1 and after their end. null gives none."""
    lock_lower: str | tuple[int, ...] | None = None
    """Codes that the lower half is given, in the same form."""
    temperature: NonNegativeFloat | None = 1.0
    """Divisor of the logits before a code is drawn, in place of generation.temperature: the most probable
    codes stand still where a song is unlike those of the training. 0 takes the most probable code, as
    published; null is generation.temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    """Draw from the fewest codes that together have this probability; null is generation.top_p."""
    max_hold: PositiveInt | None = 10
    """Number of steps for which a half of the body may hold a code: 10 codes, 1.3 s, are as long as training
    dances of the sample corpus hold one. null is generation.max_hold, where null sets no limit."""
    variants: PositiveInt = 1
    """Number of dances to each song; more than one needs a temperature above 0."""
    formats: tuple[str, ...] = ("bvh", "glb", "smpl", "mp4", "html")
    """Files that are written beside the .npz of each dance: bvh and glb (rotations of a fitted body), smpl
    (SMPL parameters), mp4 (a video with the song), html (a page to turn the dance and play it)."""
    level: bool = True
    """Whether the slow drift of height that integrated velocities gather is removed."""
    ground: bool = True
    """Whether the ground, on which the dancer stands, is at height 0 in all files. If not, the pelvis starts
    at height 0."""
    footlock: bool = False
    """Whether planted feet are held in place, in all files but the .npz."""
    video_height: Annotated[int, Field(ge=64)] = 540
    """Height of the video in pixels."""
    body: BodyConfig = BodyConfig()
    """Body that video and picture show and glb holds."""

    def drawing(self, generation: GenerationConfig) -> GenerationConfig:
        """Return the config of the generation with the keys for drawing that are set here."""
        own = {"temperature": self.temperature, "top_p": self.top_p, "max_hold": self.max_hold}
        return generation.model_copy(update={key: value for key, value in own.items() if value is not None})

    @model_validator(mode="before")
    @classmethod
    def _read_former_keys(cls, content: Any) -> Any:
        """Former keys, one per format, as changes of `formats`."""
        if not isinstance(content, Mapping) or not _FORMER.keys() & content.keys():
            return content
        kept = {key: value for key, value in content.items() if key not in _FORMER}
        formats = list(kept.get("formats", cls.model_fields["formats"].default))
        for key, name in _FORMER.items():
            if not isinstance(content.get(key, True), bool):
                raise ValueError(f"{key} is part of formats now, and must be true or false")
            if key in content:
                formats = [other for other in formats if other != name] + [name] * content[key]
        given = ", ".join(f"dance.{key}" for key in _FORMER if key in content)
        log.info("%s: use dance.formats=[%s] now", given, ",".join(formats))
        return {**kept, "formats": formats}

    @model_validator(mode="after")
    def _check_rhythm(self) -> Self:
        if self.bpm is not None and self.beats is not None:
            raise ValueError("bpm and beats are both given; beats say the tempo, so leave bpm out")
        return self

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        """The formats in the order of the table, each once."""
        unknown = [name for name in formats if name not in WRITERS]
        if unknown:
            raise ValueError(f"unknown format {unknown[0]!r}; there are: {', '.join(WRITERS)}")
        return tuple(name for name in WRITERS if name in formats)
