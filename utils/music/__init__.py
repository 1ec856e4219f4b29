"""Sound files -> samples -> onsets -> beats: the only audio reader and the only beat tracker."""

from typing import Literal, get_args

FeatureVersion = Literal["standard", "compat", "beat_phase", "frames", "frames_beat_phase"]
NEWEST: FeatureVersion = "beat_phase"  # of data that is prepared without another choice


def check_version(version: str) -> FeatureVersion:
    """The version of the music features, checked.

    Raises:
        ValueError: if there is none of that name.
    """
    for known in get_args(FeatureVersion):
        if version == known:
            return known
    raise ValueError(
        f"feature version {version!r} is unknown; expected one of {', '.join(get_args(FeatureVersion))}"
    )
