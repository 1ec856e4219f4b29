"""The questions, as variants of the sample configs and the numbers that answer them.

Values come from the shipped configs wherever they exist there, so that a change of those is followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.ablations.columns import COLUMNS
from tests.benchmarks.ablations.runs import Run, chain, config_path
from tests.helpers import ROOT
from utils.config import read_merged

# Where the sample's recipe differs; of these, what should steady the published one; epochs judged by others.
RECIPE = ("reward.beats", "reward.context", "advantage", "selection.by", "kl_coef")
STEADYING = ("advantage", "kl_coef")
ON_TARGETS = {"selection.songs": "test"}  # epochs are compared on the songs that are judged
FEATURES = "standard", "compat"  # older versions
RELEASED, PAPER = "published recipe", "sample recipe"


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: of the row.
        stage: which stage is judged.
        overrides: by stage; what is not named is the sample config's.
        trained_by: see `Run`, of the judged stage.
        against: the row it is compared with; empty: the question's first.
    """

    name: str
    stage: str
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trained_by: str = ""
    against: str = ""

    def run(self, seed: int) -> Run:
        """What is to be trained."""
        return chain(self.stage, self.overrides, seed, self.trained_by)


@dataclass(frozen=True)
class Question:
    """A table: rows, columns, and what they can tell.

    Attributes:
        name: as in --only.
        asks: the question.
        variants: the rows, the one to compare with first.
        columns: names in COLUMNS.
        notes: what the sample corpus cannot tell.
    """

    name: str
    asks: str
    variants: tuple[Variant, ...]
    columns: tuple[str, ...]
    notes: str

    def __post_init__(self) -> None:
        assert set(self.columns) <= set(COLUMNS), set(self.columns) - set(COLUMNS)


def value(config: Mapping[str, Any], key: str) -> Any:
    """A dotted key's value."""
    for part in key.split("."):
        config = config[part]
    return config


def setting(key: str, to: Any) -> str:
    """An override."""
    return f"{key}={'null' if to is None else to}"


def _memory(name: str, *overrides: str) -> Variant:
    return Variant(name, "memory", {"memory": overrides})


def _pipeline() -> Question:
    return Question(
        "pipeline",
        "What does the sample's pipeline give, from nothing, over seeds?",
        (
            Variant("memory", "root"),
            Variant("GPT", "gpt"),
            Variant("actor-critic", "critic", against="GPT"),
        ),
        ("FID_k", "FID_g", "Div_k", "Div_g", "BAS", "joint_error_mm", "used"),
        "With `--scale full` these are the shipped settings, and the README's numbers. Random codes are "
        "decoded by the same memory; the floor is that of as many real dances.",
    )


def _halves(sizes: Mapping[str, Any]) -> Question:
    upper, lower = sizes["codes_upper"], sizes["codes_lower"]
    whole = "model.halves=whole"
    return Question(
        "halves",
        "Two codebooks, one per half of the body, or one for the whole body?",
        (
            _memory(f"two halves, {upper} + {lower} codes"),
            _memory(f"whole body, {lower} codes", whole, f"model.codes_lower={lower}"),
            _memory(f"whole body, {upper + lower} codes", whole, f"model.codes_lower={upper + lower}"),
        ),
        ("combinations", "distinct_poses", "joint_error_mm", "perplexity_upper", "perplexity_lower", "used"),
        "The whole-body memory has one encoder and decoder of the same width: about half of the parameters. "
        "Distinct poses: each code is decoded by itself, held for 8 codes, and poses closer than 5 cm (mean "
        "over a half's joints) count once; halves multiply. Of a whole body, upper and lower are the same "
        "codebook. Every dance of the corpus moves its halves in step, which favours one codebook.",
    )


def _motion_losses() -> Question:
    off = ("loss.velocity=0", "loss.acceleration=0")
    return Question(
        "motion_losses",
        "What do the velocity and acceleration losses of the memory do?",
        (_memory("both"), _memory("neither", *off), _memory("velocity only", off[1])),
        ("jitter", "acceleration", "joint_error_mm", "FID_k"),
        "Synthetic dances have no capture noise: their own jitter is low and smooth.",
    )


def _root() -> Question:
    def row(name: str, *overrides: str, trained_by: str = "") -> Variant:
        return Variant(name, "root", {"root": overrides}, trained_by)

    return Question(
        "root",
        "A branch for the global velocity, or a decoder of where the root is?",
        (
            row("velocity branch"),
            row("velocity branch, as in the paper", "position=0.0"),
            row("absolute root", trained_by="absolute_root"),
        ),
        ("root_error_mm", "root_drift_mm", "travel", "foot_skate", "jitter", "FID_k"),
        "Same decoder, clips and schedule; the absolute root's target is the root's place in the room, in "
        "metres from the training mean, and its first difference. Decoded, it is set to the dance's start. "
        "Travel is the length of the root's path along the floor over the real one. Dances of the corpus "
        "stay near the middle of the room, which favours an absolute root.",
    )


def _cross_conditional() -> Question:
    off = {"gpt": ("model.cross_conditional=false",)}
    return Question(
        "cross_conditional",
        "Does each half of the GPT need to see the other half's codes?",
        (Variant("cross-conditional", "gpt"), Variant("independent halves", "gpt", off)),
        ("test_nats", "FID_k", "FID_g", "BAS", "agreement", "pairs_known"),
        "Agreement is the reward's consistency of the halves' facing, 1 at best. Known pairs: the share of "
        "code pairs (upper with lower at the same time) that occur in a training dance. Both halves of the "
        "corpus follow the beat of one song, so music alone keeps independent ones in step; in real dances "
        "much less.",
    )


def _actor_critic(sample: Mapping[str, Any], published: Mapping[str, Any]) -> Question:
    recipes = {
        PAPER: {key: value(sample, key) for key in RECIPE},
        RELEASED: {key: value(published, key) for key in RECIPE},
    }
    rows = [Variant("GPT, not finetuned", "gpt")]

    def row(name: str, settings: Mapping[str, Any], against: str) -> Variant:
        own = tuple(setting(key, to) for key, to in settings.items())
        return Variant(name, "critic", {"critic": own}, against=against)

    for mine, theirs, keys in ((PAPER, RELEASED, RECIPE), (RELEASED, PAPER, STEADYING)):
        rows.append(row(mine, recipes[mine], "GPT, not finetuned"))
        for key in keys:
            to = recipes[theirs][key]
            rows.append(row(f"{mine}, but {key}: {to}", {**recipes[mine], key: to}, mine))
    told = ", ".join(f"{key}: {to}" for key, to in ON_TARGETS.items())
    rows.append(row(f"{PAPER}, and {told}", {**recipes[PAPER], **ON_TARGETS}, PAPER))
    return Question(
        "actor_critic",
        "What does actor-critic finetuning do, and what does each of its options?",
        tuple(rows),
        ("BAS", "FID_k", "FID_g", "Div_k", "agreement", "pairs_known"),
        "Finetuning uses the music of the test songs, as in the paper. Recipes differ in "
        + ", ".join(f"{key} ({recipes[PAPER][key]} / {recipes[RELEASED][key]})" for key in RECIPE)
        + "; all else, learning rate included, is as in the sample config. "
        "FID of few dances is rough: see its floor.",
    )


def _starts() -> Question:
    published = {"gpt": ("data.clips.starts=published",)}
    return Question(
        "starts",
        "Does the GPT need clips from everywhere in a dance, or do the published first eighths suffice?",
        (Variant("all starts", "gpt"), Variant("first eighth, as published", "gpt", published)),
        ("test_nats", "BAS", "FID_k", "FID_g"),
        "Both see the same number of epochs, so the published starts see about an eighth of the steps. The "
        "corpus repeats its steps throughout a dance; a real one develops.",
    )


def _features(out: Path) -> Question:
    flags_alone = {"gpt": ("model.excluded_features=[beat_phase,beat_time,tempo]",)}
    older = [
        Variant(f"{version} features", "gpt", {"gpt": (f"data.root={features_root(out, version)}",)})
        for version in FEATURES
    ]
    return Question(
        "features",
        "What does the place within the beat buy, and what do flags that are on the beat?",
        (
            Variant("beat_phase features", "gpt"),
            Variant("flags and onsets of beat_phase alone", "gpt", flags_alone),
            *older,
        ),
        ("test_nats", "BAS", "FID_k", "FID_g"),
        "Songs of the corpus have one clear tempo; the rhythm columns of compat are zero.",
    )


def _quantizer(sizes: Mapping[str, Any]) -> Question:
    fsq = "model.quantizer=fsq"
    coarser = ("model.fsq.levels_upper=[5,5,5]", "model.fsq.levels_lower=[5,5,5]")
    shipped = sizes["fsq"]["levels_upper"]
    return Question(
        "quantizer",
        "Codebook restarts reset or as published, or finite scalar quantization?",
        (
            _memory("moving averages, restarts reset", "model.codebook.restarts=reset"),
            _memory("moving averages, restarts as published", "model.codebook.restarts=published"),
            _memory(f"FSQ {shipped}", fsq),
            _memory("FSQ [5, 5, 5]", fsq, *coarser),
        ),
        ("used", "perplexity_upper", "perplexity_lower", "joint_error_mm", "jitter"),
        "FSQ's authors find it as good as a learned codebook from about 1000 codes on; there are fewer here.",
    )


def _precision() -> Question:
    ways = {
        "fp32": (),
        "bf16": ("training.precision=bf16",),
        "compiled": ("training.compile=true",),
    }
    rows = []
    for stage, name in (("root", "memory"), ("gpt", "GPT"), ("critic", "actor-critic")):
        for way, settings in ways.items():
            everywhere = dict.fromkeys(("memory", "root", "gpt", "critic"), settings)
            overrides = everywhere if settings else {}
            rows.append(Variant(f"{name}, {way}", stage, overrides, against=f"{name}, fp32"))
    return Question(
        "precision",
        "Do bf16 and torch.compile train as well as plain fp32?",
        tuple(rows),
        ("joint_error_mm", "root_error_mm", "test_nats", "BAS", "FID_k", "FID_g"),
        "All four stages are trained the row's way, each on what the one before made.",
    )


def questions(out: Path) -> tuple[Question, ...]:
    """All questions; `out` is the benchmark's folder, where further copies of the corpus are."""
    sizes = read_merged(config_path("memory"))["model"]
    sample, published = (
        read_merged(ROOT / "configs" / folder / "actor_critic.yaml") for folder in ("sample", "")
    )
    return (
        _pipeline(),
        _halves(sizes),
        _motion_losses(),
        _root(),
        _cross_conditional(),
        _actor_critic(sample, published),
        _starts(),
        _features(out),
        _quantizer(sizes),
        _precision(),
    )


def features_root(out: Path, version: str) -> Path:
    """Where the corpus with the features of an older version is prepared."""
    return out / "data" / version
