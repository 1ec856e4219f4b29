"""What a choreographic memory has learnt, made visible: usage of its codes, and looks of the most used.

The claim of Bailando (CVPR 2022), section 3.2, is that codes are interpretable dancing-style poses; the
gallery shows it.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.clips import usable_frames, whole_dance
from datasets.sequences import PreparedData
from models.vqvae import ChoreographicMemory, Codes
from utils.motion import pose_to_joints, without_root
from utils.render.gallery import GalleryPanel, draw_gallery, draw_usage


def perplexity(counts: np.ndarray) -> float:
    """Exp of the entropy of the usage: how many codes are in use, were they used alike. In 1..K."""
    share = counts[counts > 0] / counts.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


@torch.no_grad()
def encode_split(
    memory: ChoreographicMemory, data: PreparedData, split: str, device: torch.device
) -> dict[str, Codes]:
    """Codes (T',) of every dance of a split, by name."""
    codes = {}
    for name in tqdm(data.names(split), "encoding", leave=False, disable=None):
        sequence = data.sequence(name)
        upper, lower = memory.encode(whole_dance(sequence, memory.frames_per_code).to(device))
        steps = usable_frames(sequence) // memory.frames_per_code  # without the padding
        codes[name] = Codes(upper[0, :steps].cpu(), lower[0, :steps].cpu())
    return codes


@torch.no_grad()
def code_motion(
    memory: ChoreographicMemory, half: str, code: int, companion: int, around: int = 3
) -> np.ndarray:
    """Joints (frames_per_code, 24, 3) of a code decoded in a run of itself, beside the other's companion."""
    device = next(memory.parameters()).device
    run = torch.full((1, 2 * around + 1), code, device=device)
    other = torch.full_like(run, companion)
    pose = memory.decode(Codes(run, other) if half == "upper" else Codes(other, run))[0]
    first = around * memory.frames_per_code
    return pose_to_joints(without_root(pose))[first : first + memory.frames_per_code].cpu().numpy()


def analyse(
    memory: ChoreographicMemory,
    data: PreparedData,
    split: str,
    folder: Path,
    device: torch.device,
    most: int = 24,
) -> dict[str, Any]:
    """Usage, perplexity and galleries of both codebooks, written into the folder.

    Args:
        memory: the memory.
        data: the prepared dances.
        split: which of them are encoded.
        folder: analysis.json, usage.png, gallery_upper.png, gallery_lower.png go here.
        device: where the memory is.
        most: how many codes each gallery shows.

    Returns:
        What analysis.json holds: for each half perplexity, share of codes used, and per code its count and
        the genres it serves.
    """
    memory.eval()
    codes = encode_split(memory, data, split, device)
    if not codes:
        raise ValueError(f"{data.root} has no sequences of split {split!r} to analyse")
    folder.mkdir(parents=True, exist_ok=True)
    joined = {half: torch.cat([getattr(c, half) for c in codes.values()]) for half in ("upper", "lower")}
    counts = {
        half: np.bincount(joined[half].numpy(), minlength=k)
        for half, k in zip(("upper", "lower"), memory.num_codes, strict=True)
    }
    result: dict[str, Any] = {"split": split, "dances": len(codes)}
    for half, other in (("upper", "lower"), ("lower", "upper")):
        genres = _genres(codes, data, half)
        result[half] = {
            "codes": len(counts[half]),
            "used": int((counts[half] > 0).sum()),
            "perplexity": perplexity(counts[half]),
            "per_code": {
                int(k): {"count": int(n), "genres": genres[k]} for k, n in enumerate(counts[half]) if n
            },
        }
        order = np.argsort(-counts[half], kind="stable")[: min(most, result[half]["used"])]
        panels = []
        for code in tqdm(order.tolist(), f"gallery of the {half} half", leave=False, disable=None):
            strip = code_motion(memory, half, code, _companion(joined[half], joined[other], code))
            share = counts[half][code] / counts[half].sum()
            panels.append(
                GalleryPanel(f"{half} {code}  {' '.join(genres[code])}".strip(), strip, float(share))
            )
        title = f"The {len(panels)} most used codes of the {half} half"
        draw_gallery(folder / f"gallery_{half}.png", panels, half=half, title=title)
    draw_usage(folder / "usage.png", counts["upper"], counts["lower"])
    (folder / "analysis.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    for half in ("upper", "lower"):
        facts = result[half]
        print(f"{half}: {facts['used']} of {facts['codes']} codes used, perplexity {facts['perplexity']:.1f}")
    print(f"usage histogram and galleries are in {folder}")
    return result


def _companion(codes: Tensor, others: Tensor, code: int) -> int:
    """The other half's code that is met most often beside this one."""
    return int(torch.bincount(others[codes == code]).argmax())


def _genres(
    codes: dict[str, Codes], data: PreparedData, half: str, share: float = 0.2
) -> dict[int, list[str]]:
    """Genres that make up at least a fifth of a code's uses."""
    met: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, dance in codes.items():
        for code in getattr(dance, half).tolist():
            met[code][data.genre(name)] += 1
    return {
        code: sorted(
            (g for g, n in genres.items() if g and n >= share * sum(genres.values())),
            key=lambda g: -genres[g],
        )
        for code, genres in met.items()
    }
