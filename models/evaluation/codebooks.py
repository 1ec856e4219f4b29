"""Codebook analysis (--anl): usage of the codes, and what they look like as movement.

The claim of Bailando (CVPR 2022), section 3.2, is that codes are interpretable dancing-style poses; the
gallery shows it.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.aistpp.annotations import GENRES
from datasets.clips import usable_frames
from datasets.sequences import PreparedData
from models.stages.sep_vqvae import usage
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import pose_to_joints, without_root
from utils.render.codes import CodeCard, CodeSection, RealClip, write_code_page
from utils.render.gallery import GalleryPanel, HalfName, draw_gallery, draw_usage


def encode_split(memory: ChoreographicMemory, data: PreparedData, split: str) -> dict[str, Codes]:
    """Codes (T',) of every dance of a split, by name."""
    codes = {}
    for name in tqdm(data.names(split), "encoding", leave=False, disable=None):
        sequence = data.sequence(name)
        frames = usable_frames(sequence)
        whole = memory.encode_dance(sequence.joints[:frames])
        codes[name] = Codes(*(half[: frames // memory.frames_per_code] for half in whole))  # without padding
    return codes


@torch.no_grad()
def code_motions(
    memory: ChoreographicMemory, half: str, codes: Tensor, companions: Tensor, around: int = 3
) -> np.ndarray:
    """Joints (N, frames_per_code, 24, 3) of codes (N,), each decoded within repetitions of it.

    Companions (N,) are the codes of the other half beside them; the root stays at the origin.
    """
    device = next(memory.parameters()).device
    first = around * memory.frames_per_code
    motions = []
    for own, other in zip(codes.split(64), companions.split(64), strict=True):
        runs = [part.to(device).unsqueeze(1).expand(-1, 2 * around + 1) for part in (own, other)]
        pose = memory.decode(Codes(runs[1], runs[0]) if half == "lower" else Codes(*runs))
        joints = pose_to_joints(without_root(pose))
        motions.append(joints[:, first : first + memory.frames_per_code].cpu().numpy())
    return np.concatenate(motions)


def analyse(
    memory: ChoreographicMemory,
    data: PreparedData,
    split: str,
    folder: Path,
    most: int = 24,
) -> dict[str, Any]:
    """Write usage, perplexity and galleries of the codebooks into the folder.

    Args:
        memory: the memory.
        data: the prepared dances.
        split: which of them are encoded.
        folder: analysis.json, codes.html, usage.png and a gallery_<half>.png of each half go here.
        most: how many codes each picture shows; the page shows all that are used.

    Returns:
        The content of analysis.json: for each half the size of the codebook, used and dead codes, perplexity,
        and per code its count and the genres in which it is used most.
    """
    memory.eval()
    dances = encode_split(memory, data, split)
    if not dances:
        raise ValueError(f"{data.root} has no sequences of split {split!r} to analyse")
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"split": split, "dances": len(dances)}
    counts, sections = {}, []
    for half, part in memory.halves.items():
        joined = torch.cat([dance.of(half) for dance in dances.values()])
        others = torch.cat([dance.of("lower" if half == "upper" else "upper") for dance in dances.values()])
        counts[half] = np.bincount(joined.numpy(), minlength=part.quantizer.num_codes)
        used = torch.from_numpy(np.flatnonzero(counts[half]))
        companions = torch.stack([_companion(joined, others, int(code)) for code in used])
        motions = dict(zip(used.tolist(), code_motions(memory, half, used, companions), strict=True))
        shares = genre_shares(dances, data, half)
        served = {code: [g for g, share in of.items() if g and share >= 0.2] for code, of in shares.items()}
        facts = usage(counts[half])
        result[half] = {
            "codes": len(counts[half]),
            "used": facts["used_codes"],
            "dead": facts["dead_codes"],
            "perplexity": facts["perplexity"],
            "per_code": {
                code: {"count": int(counts[half][code]), "genres": served[code]} for code in motions
            },
        }
        order = np.argsort(-counts[half], kind="stable")[: min(most, len(used))].tolist()
        panels = [
            GalleryPanel(
                f"{half} {code}  {' '.join(served[code])}".strip(),
                motions[code],
                float(counts[half][code] / counts[half].sum()),
            )
            for code in tqdm(order, f"gallery of {half}", leave=False, disable=None)
        ]
        title = f"The {len(panels)} most used codes, {half}"
        name = cast("HalfName", half)
        draw_gallery(folder / f"gallery_{half}.png", panels, half=name, title=title, skeleton=memory.skeleton)
        clips = nearest_clips(memory, data, dances, half, motions)
        cards = [
            CodeCard(
                code,
                int(counts[half][code]),
                motion,
                {GENRES.get(genre, genre) or "unknown": share for genre, share in shares[code].items()},
                clips[code],
            )
            for code, motion in motions.items()
        ]
        sections.append(CodeSection(half, len(counts[half]), facts["perplexity"], cards))
    draw_usage(folder / "usage.png", counts)
    write_code_page(
        folder / "codes.html",
        f"Codes of {len(dances)} dances",
        sections,
        fps=data.fps,
        skeleton=memory.skeleton,
    )
    (folder / "analysis.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    for half in memory.halves:
        facts = result[half]
        print(
            f"{half}: {facts['used']} of {facts['codes']} codes used, {facts['dead']} dead, "
            f"perplexity {facts['perplexity']:.1f}"
        )
    print(f"the page of all codes is {folder / 'codes.html'}; usage histogram and galleries are beside it")
    return result


def nearest_clips(
    memory: ChoreographicMemory,
    data: PreparedData,
    dances: dict[str, Codes],
    half: str,
    motions: dict[int, np.ndarray],
    most: int = 3,
    around: int = 1,
) -> dict[int, list[RealClip]]:
    """For each code, clips of the real dances that use it and come nearest to its own movement.

    At most one clip of a dance. Distances are means over the half's joints and the code's frames, relative
    to the root.

    Args:
        memory: the memory.
        data: the prepared dances.
        dances: their codes.
        half: `upper`, `lower` or `whole`.
        motions: joints (frames_per_code, J, 3) of each used code.
        most: clips of a code.
        around: codes before and after it that a clip shows.
    """
    step = memory.frames_per_code
    halves = {"upper": memory.skeleton.upper, "lower": memory.skeleton.lower}
    chosen = list(halves.get(half, range(memory.skeleton.num_joints)))
    table = np.zeros((memory.halves[half].quantizer.num_codes, step, len(chosen), 3), np.float32)
    for code, motion in motions.items():
        table[code] = (motion - motion[:, :1])[:, chosen]
    found: dict[int, list[tuple[float, str, int]]] = defaultdict(list)
    for name, dance in tqdm(dances.items(), f"nearest clips, {half}", leave=False, disable=None):
        codes = dance.of(half).numpy()
        joints = np.asarray(data.sequence(name).joints[: len(codes) * step], np.float32)
        real = (joints - joints[:, :1])[:, chosen].reshape(len(codes), step, len(chosen), 3)
        distances = np.linalg.norm(real - table[codes], axis=-1).mean((1, 2))
        best = {}
        for place in np.argsort(-distances, kind="stable"):  # the nearest of a code comes last and stays
            best[int(codes[place])] = (float(distances[place]), name, int(place))
        for code, clip in best.items():
            found[code] = sorted([*found[code], clip])[:most]
    return {
        code: [
            RealClip(name, place * step / data.fps, distance, _cut(data, name, place, step, around))
            for distance, name, place in clips
        ]
        for code, clips in found.items()
    }


def _cut(data: PreparedData, name: str, place: int, step: int, around: int) -> np.ndarray:
    joints = data.sequence(name).joints
    return np.array(joints[max(0, place - around) * step : (place + 1 + around) * step], np.float32)


def _companion(codes: Tensor, others: Tensor, code: int) -> Tensor:
    """The code of the other half that occurs most often together with this one."""
    return torch.bincount(others[codes == code]).argmax()


def genre_shares(dances: dict[str, Codes], data: PreparedData, half: str) -> dict[int, dict[str, float]]:
    """Share of the uses of each used code by genre ('' if the name has none), the largest first."""
    met: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, dance in dances.items():
        for code in dance.of(half).tolist():
            met[code][data.genre(name)] += 1
    return {
        code: {g: n / sum(genres.values()) for g, n in sorted(genres.items(), key=lambda item: -item[1])}
        for code, genres in met.items()
    }
