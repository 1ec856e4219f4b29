"""Dance metrics: the paper's table, a corrected one beside it, physical metrics, controls and uncertainty.

    rows = {"ours": score(dances, Reference.load("data/aistpp"))}
    print(format_table(rows))

`docs/METRICS.md` says what each number is, where it comes from, and which published ones it may be compared
with.
"""

from utils.dance import Dance
from utils.metrics.dances import MAX_FRAMES, DanceFeatures, dance_features
from utils.metrics.protocols import PROTOCOLS, score
from utils.metrics.reference import Reference
from utils.metrics.table import format_table

__all__ = [
    "MAX_FRAMES",
    "PROTOCOLS",
    "Dance",
    "DanceFeatures",
    "Reference",
    "dance_features",
    "format_table",
    "score",
]
