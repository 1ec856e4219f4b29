"""Before and after finetuning, song by song: what dances earn, keep of the beat, and depart from the GPT.

The reward is what was optimised, so it says whether finetuning worked, not whether dances are good; the
published beat-align score is of whole dances; and the pretrained GPT, which knows how people dance, says
what it cost: how unlikely it finds the dances (`surprise`), how far the policy went from it (`kl_to_gpt`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datasets.rollouts import Windows
from models.actor_critic import divergence
from models.gpt import MotionGPT
from models.stages.choice import surprise
from models.stages.performer import Performer
from models.stages.pieces import Piece
from models.stages.rollouts import Composed, mean_earned
from models.vqvae import ChoreographicMemory, Codes
from utils.files import write_beside
from utils.training import distributed

FILES = ("finetuning.json", "finetuning.md")


class SongScore(NamedTuple):
    """A dance to a song.

    Attributes:
        reward: mean over its actions; higher is better.
        beat_align: published beat-align score of the whole dance, 0..1; not a number without music beats.
        surprise: nats per code by which it surprises the pretrained GPT.
        kl_to_gpt: nats per code by which its policy departs from that GPT in it, KL(policy || GPT).
    """

    reward: float
    beat_align: float
    surprise: float
    kl_to_gpt: float


class Judgement(NamedTuple):
    """What finetuning did: which epoch counts, and each song's dance before and after."""

    facts: dict[str, Any]
    songs: dict[str, tuple[SongScore, SongScore]]


@torch.no_grad()
def kl_to_gpt(
    policy: MotionGPT, gpt: MotionGPT, dance: Windows, device: torch.device, batch_size: int
) -> float:
    """Nats per code by which a policy departs from a GPT in a dance, mean over the actions that count."""
    total = 0.0
    for part in zip(*(field.split(batch_size) for field in dance), strict=True):
        upper, lower, music, _, mask = (x.to(device) for x in part)
        steps = mask.shape[1]
        seen = music[:, 1 : 1 + steps], Codes(upper[:, :steps], lower[:, :steps])
        total += float((divergence(policy(*seen), gpt(*seen)) * mask).sum())
    return total / float(dance.mask.sum())


def beat_align_of(memory: ChoreographicMemory, codes: Codes, beats: Tensor) -> float:
    """Published beat-align score of a dance of codes (L,) to music beats (F,)."""
    from utils.metrics.beats import beat_align

    return beat_align(memory.decode_dance(codes).numpy(), beats.numpy())


def judge_songs(
    performer: Performer,
    before: MotionGPT,
    after: MotionGPT,
    found: Sequence[Piece],
    facts: Mapping[str, Any],
) -> Judgement:
    """Composes dances to all songs before and after finetuning, and scores them.

    All processes must call it: each composes a share of the songs.

    Args:
        performer: composes.
        before: the pretrained GPT.
        after: the policy whose weights count.
        found: the songs.
        facts: what else the report shall say.
    """

    def scores(policy: MotionGPT) -> list[SongScore]:
        return [_score(performer, policy, before, d, found) for d in performer.compose(policy, found)]

    both = zip(scores(before), scores(after), strict=True)
    return Judgement(dict(facts), {piece.name: pair for piece, pair in zip(found, both, strict=True)})


def _score(
    performer: Performer, policy: MotionGPT, gpt: MotionGPT, composed: Composed, found: Sequence[Piece]
) -> SongScore:
    (dance,) = performer.danced([composed], found)
    device, batch_size = performer.device, performer.batch_size
    return SongScore(
        mean_earned([dance])["reward"],
        beat_align_of(performer.memory, composed.codes, found[composed.piece].beats),
        surprise(gpt, [dance[0]], device, batch_size),
        kl_to_gpt(policy, gpt, dance[0], device, batch_size),
    )


def mean_score(scores: Sequence[SongScore]) -> SongScore:
    """Mean of each column over the songs that have it."""
    columns = ([x for x in column if not math.isnan(x)] for column in zip(*scores, strict=True))
    return SongScore(*(sum(column) / len(column) if column else math.nan for column in columns))


def markdown(judged: Judgement) -> str:
    """The table, before -> after, and what it was made from."""
    pairs = dict(judged.songs)
    pairs[f"mean of {len(pairs)}"] = tuple(map(mean_score, zip(*pairs.values(), strict=True)))  # type: ignore[assignment]
    rows = [["song", "reward", "beat-align score", "surprise (nats)", "KL to GPT (nats)"]]
    for name, (old, new) in pairs.items():
        rows.append([name, *(f"{_text(a)} -> {_text(b)}" for a, b in zip(old, new, strict=True))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    facts = [f"* {name}: {value}" for name, value in judged.facts.items()]
    return "\n".join([*lines, "", *facts]) + "\n"


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def report(judged: Judgement, folder: Path) -> None:
    """Prints the table and writes finetuning.md and finetuning.json, in the main process only.

    The second comes last: where it is, both are.
    """
    if not distributed.is_main():
        return

    def plain(score: SongScore) -> dict[str, float | None]:
        return {name: None if math.isnan(x) else x for name, x in score._asdict().items()}

    songs = {name: {"before": plain(a), "after": plain(b)} for name, (a, b) in judged.songs.items()}
    before, after = (mean_score(side) for side in zip(*judged.songs.values(), strict=True))
    content = {**judged.facts, "songs": songs, "mean": {"before": plain(before), "after": plain(after)}}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_beside(folder / FILES[1], markdown(judged).encode())
    write_beside(folder / FILES[0], text.encode())
    print(f"\n# Before -> after finetuning\n\n{markdown(judged)}this is in {folder / FILES[1]}")
