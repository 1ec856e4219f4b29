"""Scores of each target song's dance before and after finetuning.

The reward was optimised, so it shows whether finetuning worked, not whether dances are good. The published
beat-align score is that of whole dances. The pretrained GPT, which models real dances, measures the cost: the
NLL of the dances under it (`nll`), and the divergence of the policy from it (`kl_to_gpt`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.actor_critic import divergence
from models.gpt import MotionGPT
from models.stages.rollouts import Rollout, RolloutCollector, TargetSong, Windows, mean_rewards
from models.stages.selection import nll
from models.vqvae import ChoreographicMemory, Codes
from utils.files import write_beside
from utils.training import distributed

FILES = ("finetuning.json", "finetuning.md")


class SongScore(NamedTuple):
    """Scores of a dance to a song.

    Attributes:
        reward: mean over its actions; higher is better.
        beat_align: published beat-align score of the dance, 0..1; higher is better; NaN without music beats.
        nll: -log p under the pretrained GPT, nats per code; lower is more like real dances.
        kl_to_gpt: KL(policy || pretrained GPT) over the dance, nats per code; 0 before finetuning.
    """

    reward: float
    beat_align: float
    nll: float
    kl_to_gpt: float


class Judgement(NamedTuple):
    """Outcome of a run of finetuning.

    Attributes:
        summary: facts about the run.
        songs: each song's scores before and after.
        rewards: the mean reward per code and its parts: of the GPT, of the finetuned policy, and of controls.
            A part that random codes get as well as real dances teaches nothing, and one that the GPT gets as
            well as real dances is saturated.
    """

    summary: dict[str, Any]
    songs: dict[str, tuple[SongScore, SongScore]]
    rewards: dict[str, Mapping[str, float]]


@torch.no_grad()
def kl_to_gpt(
    policy: MotionGPT, gpt: MotionGPT, dance: Windows, device: torch.device, batch_size: int
) -> float:
    """Return KL(policy || gpt) in nats per code, the mean over the actions of a dance that count."""
    total = 0.0
    for part in zip(*(field.split(batch_size) for field in dance), strict=True):
        upper, lower, music, _, mask = (x.to(device) for x in part)
        seen = music[:, 1:-1], Codes(upper[:, :-2], lower[:, :-2])
        total += float((divergence(policy(*seen), gpt(*seen)) * mask).sum())
    return total / float(dance.mask.sum())


def beat_align_of(memory: ChoreographicMemory, codes: Codes, beats: Tensor) -> float:
    """Return the published beat-align score of a dance of codes (L,) to music beats (F,)."""
    from utils.metrics.beats import beat_align

    return beat_align(memory.decode_dance(codes).numpy(), beats.numpy())


def judge_songs(
    collector: RolloutCollector,
    before: MotionGPT,
    after: MotionGPT,
    songs: Sequence[TargetSong],
    summary: Mapping[str, Any],
    controls: Mapping[str, Mapping[str, float]],
) -> Judgement:
    """Generate dances to all songs before and after finetuning, and score them.

    All processes must call it: each generates a share of the dances.

    Args:
        collector: generates the dances and computes their rewards.
        before: the pretrained GPT.
        after: the selected policy.
        songs: the target songs.
        summary: facts about the run that the report lists.
        controls: mean reward and its parts of other dances to these songs; see `RolloutCollector.controls`.
    """

    def scores(policy: MotionGPT) -> tuple[list[SongScore], dict[str, float]]:
        rollouts = collector.collect(policy, songs)
        own = [_score(collector, policy, before, rollout, songs) for rollout in rollouts]
        return own, mean_rewards(rollouts)

    (old, rewards_before), (new, rewards_after) = scores(before), scores(after)
    songs_scores = {song.name: (a, b) for song, a, b in zip(songs, old, new, strict=True)}
    rewards = {"GPT": rewards_before, "finetuned": rewards_after, **controls}
    return Judgement(dict(summary), songs_scores, rewards)


def _score(
    collector: RolloutCollector,
    policy: MotionGPT,
    gpt: MotionGPT,
    rollout: Rollout,
    songs: Sequence[TargetSong],
) -> SongScore:
    device, batch_size = collector.device, collector.batch_size
    return SongScore(
        mean_rewards([rollout])["reward"],
        beat_align_of(collector.memory, rollout.codes, songs[rollout.song].beats),
        nll(gpt, [rollout.windows], device, batch_size),
        kl_to_gpt(policy, gpt, rollout.windows, device, batch_size),
    )


def mean_score(scores: Sequence[SongScore]) -> SongScore:
    """Return the mean of each score over the songs that have it."""
    columns = ([x for x in column if not math.isnan(x)] for column in zip(*scores, strict=True))
    return SongScore(*(sum(column) / len(column) if column else math.nan for column in columns))


def markdown(judged: Judgement) -> str:
    """Return the table, before -> after, the parts of the reward, and the summary, as Markdown."""
    pairs = dict(judged.songs)
    pairs[f"mean of {len(pairs)}"] = tuple(map(mean_score, zip(*pairs.values(), strict=True)))  # type: ignore[assignment]
    rows = [["song", "reward", "beat-align score", "NLL (nats)", "KL to GPT (nats)"]]
    for name, (old, new) in pairs.items():
        rows.append([name, *(f"{_text(a)} -> {_text(b)}" for a, b in zip(old, new, strict=True))])
    columns = list(judged.rewards["GPT"])
    parts = [["mean per code", *columns]]
    for name, row in judged.rewards.items():
        parts.append([name, *(_text(row.get(column, math.nan)) for column in columns)])
    facts = [f"* {name}: {value}" for name, value in judged.summary.items()]
    return "\n".join([*_table(rows), "", *_table(parts), "", *facts]) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def report(judged: Judgement, folder: Path) -> None:
    """Print the table and write finetuning.md and finetuning.json, in the main process only.

    The second comes last: where it is, both are.
    """
    if not distributed.is_main():
        return

    def plain(score: SongScore) -> dict[str, float | None]:
        return {name: None if math.isnan(x) else x for name, x in score._asdict().items()}

    songs = {name: {"before": plain(a), "after": plain(b)} for name, (a, b) in judged.songs.items()}
    before, after = (mean_score(side) for side in zip(*judged.songs.values(), strict=True))
    content = {**judged.summary, "songs": songs, "mean": {"before": plain(before), "after": plain(after)}}
    content["rewards"] = judged.rewards
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_beside(folder / FILES[1], markdown(judged).encode())
    write_beside(folder / FILES[0], text.encode())
    print(f"\n# Before -> after finetuning\n\n{markdown(judged)}this is in {folder / FILES[1]}")
