"""The numbers of the tables: what they are called, how they are written, and which way is good."""

from typing import NamedTuple


class Column(NamedTuple):
    """A number.

    Attributes:
        title: in tables and plots.
        digits: after the point.
        better: `higher`, `lower`, or `real`: near that of the real dances.
    """

    title: str
    digits: int
    better: str


COLUMNS = {
    "FID_k": Column("FID_k", 1, "lower"),
    "FID_g": Column("FID_g", 1, "lower"),
    "Div_k": Column("Div_k", 2, "real"),
    "Div_g": Column("Div_g", 2, "real"),
    "BAS": Column("BAS", 3, "higher"),
    "jitter": Column("jitter (m/s³)", 0, "real"),
    "acceleration": Column("acceleration (m/s²)", 2, "real"),
    "foot_skate": Column("foot skate", 3, "lower"),
    "joint_error_mm": Column("joint error (mm)", 1, "lower"),
    "root_error_mm": Column("root error (mm)", 0, "lower"),
    "root_drift_mm": Column("root error, last second (mm)", 0, "lower"),
    "travel": Column("travel", 2, "real"),
    "combinations": Column("combinations of codes", 0, "higher"),
    "distinct_poses": Column("distinct poses", 0, "higher"),
    "perplexity_upper": Column("perplexity of upper", 0, "higher"),
    "perplexity_lower": Column("perplexity of lower", 0, "higher"),
    "used": Column("codes used", 2, "higher"),
    "test_nats": Column("nats per code of test dances", 3, "lower"),
    "agreement": Column("agreement of halves", 3, "real"),
    "pairs_known": Column("known pairs", 2, "real"),
}
