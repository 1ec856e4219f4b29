"""Sound files -> samples -> onsets -> beats: the only audio reader and the only beat tracker."""

from typing import Literal

FeatureVersion = Literal["standard", "compat"]
