"""Names, units, direction and meaning of the numbers that pages show.

A number without an entry is shown under its own name and without a unit.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from utils.render.player_page import format_fact


class Wording(NamedTuple):
    """Label, meaning and unit of a number.

    Attributes:
        label: a short name.
        meaning: one sentence.
        unit: of the number as shown.
        better: which direction is better, empty where neither is.
        scale: what the number is multiplied by to be shown, for example 100 where the unit is %.
    """

    label: str
    meaning: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    scale: float = 1.0

    @property
    def sentences(self) -> str:
        """Meaning, range or unit, and direction, in full sentences."""
        return f"{self.meaning} {self.better.capitalize()} is better." if self.better else self.meaning


_DISTRIBUTIONS: dict[str, tuple[str, Literal["lower", ""]]] = {
    "FID": ("Fréchet distance between the {} of these dances and of all real ones.", "lower"),
    "Div": ("Diversity: mean distance between these dances in their {}; good is near real.", ""),
}


WORDINGS: Mapping[str, Wording] = {
    "seconds": Wording("length", "Length of the dance.", "s"),
    "frames": Wording("length", "Length of the dance that is scored.", "frames"),
    "song": Wording("song", "The song of the dance."),
    "tempo": Wording(
        "tempo",
        "Beats per minute of the song; unsteady where the beat intervals vary by more than 10 %.",
    ),
    "beats_from": Wording("tempo given by", "The key or the file that gives the tempo or the beats."),
    "music_beats": Wording("music beats", "Number of beats of the song."),
    "BAS": Wording(
        "beat alignment (BAS)",
        "Share of the music's beats, 0 to 1, at which the movement comes to a short rest, as published; "
        "movement unrelated to the music reaches 0.1 to 0.5.",
        "",
        "higher",
    ),
    "BAS_recall": Wording(
        "beat alignment, recall",
        "Share of the music's beats, 0 to 1, that a motion beat meets.",
        "",
        "higher",
    ),
    "BAS_precision": Wording(
        "beat alignment, precision",
        "Share of the motion beats, 0 to 1, that a beat of the music meets.",
        "",
        "higher",
    ),
    "BAS_F1": Wording(
        "beat alignment (F1)",
        "Harmonic mean, 0 to 1, of the shares of music beats and of motion beats that meet each other.",
        "",
        "higher",
    ),
    "brake": Wording(
        "braking on the beat",
        "Slowest speed near a beat over the fastest between its neighbours, 0 to 1; 1 is no change of speed.",
        "",
        "lower",
    ),
    "landing_offset": Wording(
        "landings after the beat",
        "Median place of landing feet relative to the nearest beat, in beats; negative is early.",
    ),
    "landing_spread": Wording(
        "spread of landings",
        "Interquartile range of the places of landing feet, in beats; landings at random have 0.5.",
        "",
        "lower",
    ),
    "loudness_following": Wording(
        "following the loudness",
        "Rank correlation, -1 to 1, of the loudness of the music and the speed of the dance, bar by bar.",
        "",
        "higher",
    ),
    "distinct": Wording("different dances", "Number of dances among these that differ from each other."),
    "PFC": Wording(
        "foot contact (PFC)",
        "Physical foot contact score of EDGE: how much the body accelerates while neither foot stands still.",
        "",
        "lower",
    ),
    "PFC_fps_free": Wording(
        "foot contact (PFC, any rate)",
        "Physical foot contact score of EDGE in a form that does not depend on the frame rate.",
        "",
        "lower",
    ),
    "foot_skate": Wording(
        "foot sliding",
        "Share of frames in which a foot that touches the floor slides along it.",
        "%",
        "lower",
        100,
    ),
    "foot_penetration": Wording(
        "feet below floor",
        "How far the lowest foot is below the floor, averaged over the dance.",
        "mm",
        "lower",
        1000,
    ),
    "foot_float": Wording(
        "feet above floor",
        "How far the lowest foot is above the floor on average; jumps count, so real dances are not 0.",
        "mm",
        "lower",
        1000,
    ),
    "jitter": Wording(
        "jitter",
        "Mean jerk of the joints, which shows shaking; good is as low as that of real dances.",
        "m/s³",
        "lower",
    ),
    "freezing": Wording(
        "standing still",
        "Share of the time in which the whole body moves slower than 5 cm/s over a second.",
        "%",
        "lower",
        100,
    ),
    "bone_drift": Wording(
        "bone length variation",
        "How much the bones' lengths vary around their usual length, on average; 0 in a real body.",
        "%",
        "lower",
        100,
    ),
    "mean_speed": Wording(
        "mean speed", "Speed of the joints, averaged over all joints and the dance.", "m/s"
    ),
    "floor_drift_mm": Wording(
        "height drift, removed",
        "How far the dance had slowly risen and sunk before it was corrected; it has been removed from all "
        "files, so the floor is level and nothing is left to do.",
        "mm",
    ),
    "fit_error_mm": Wording(
        "fit error, mean",
        "Distance between the joints of the dance and those of the exported skeleton, averaged over all.",
        "mm",
        "lower",
    ),
    "fit_error_max_mm": Wording(
        "fit error, worst",
        "Largest distance, in any frame, between a joint of the dance and of the exported skeleton.",
        "mm",
        "lower",
    ),
    "worst_stretch_mm": Wording(
        "bone stretch, worst",
        "Largest difference, in any frame, between a bone's length and its usual length; exports are rigid.",
        "mm",
        "lower",
    ),
    "worst_stretch_bone": Wording("stretched most", "The bone whose length varies most, by its two joints."),
    "max_turn_deg": Wording(
        "turn per frame, worst",
        "Largest angle by which a joint of the exported skeleton turns from one frame to the next.",
        "°",
        "lower",
    ),
    "skating_mm_s": Wording(
        "planted feet slide",
        "Mean speed of planted feet along the floor, before and after dance.footlock held them.",
        "mm/s",
        "lower",
    ),
    "joint_error_mm": Wording(
        "joint error",
        "Mean distance of the joints, relative to the root, from those of the real dance.",
        "mm",
        "lower",
    ),
    "root_error_mm": Wording(
        "root error", "Mean distance of the root's path from that of the real dance.", "mm", "lower"
    ),
    "codes_used_upper": Wording(
        "upper codes used", "Share of the upper half's codebook, 0 to 1, that these dances use.", "", "higher"
    ),
    "codes_used_lower": Wording(
        "lower codes used", "Share of the lower half's codebook, 0 to 1, that these dances use.", "", "higher"
    ),
    **{
        f"{kind}_{suffix}{form}": Wording(f"{kind}_{suffix}{form}", meaning.format(of + note), "", better)
        for kind, (meaning, better) in _DISTRIBUTIONS.items()
        for suffix, of in (("k", "kinetic features"), ("g", "geometric features"))
        for form, note in (("", ""), ("_corrected", " (corrected protocol)"))
    },
}


def worded(name: str, value: Any) -> str:
    """A number or text with its unit; a dash if the number is not known.

    Args:
        name: of the metric.
        value: as the metric is defined; numbers are scaled to the unit shown.
    """
    value = value.item() if isinstance(value, np.generic) else value
    wording = WORDINGS.get(name)
    missing = value is None or (isinstance(value, float) and not np.isfinite(value))
    if wording is None or missing or (isinstance(value, str) and not wording.unit):
        return format_fact(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = _number(value * wording.scale) if isinstance(value, float) else format_fact(value)
    else:
        text = format_fact(value)
    space = "" if wording.unit == "°" else "\u00a0"
    return f"{text}{space}{wording.unit}" if wording.unit else text


def _number(value: float) -> str:
    """Three significant digits: 0.412, 3.14, 58.3, 412, 186 000; whole numbers up to four digits."""
    if 0.1 <= abs(value) < 1:
        return format_fact(float(value))
    if 1 <= abs(value) < 1000:
        return f"{value:.{2 - int(np.floor(np.log10(abs(value))))}f}".replace("-", "−")
    if 1000 <= abs(value) < 1e7:
        whole = f"{int(float(f'{value:.3g}')):,}" if abs(value) >= 10_000 else f"{value:.0f}"
        return whole.replace(",", "\u202f").replace("-", "−")
    return format_fact(float(f"{value:.3g}") if value else 0.0)


def meanings(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Explanations of numbers for a page: name -> label, unit, better, meaning; known ones only."""
    return {
        name: {
            "label": WORDINGS[name].label,
            "unit": WORDINGS[name].unit,
            "better": WORDINGS[name].better,
            "meaning": WORDINGS[name].sentences,
        }
        for name in dict.fromkeys(names)
        if name in WORDINGS
    }
