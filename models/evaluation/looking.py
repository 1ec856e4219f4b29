"""The modes that look: videos of real dances, of given or random codes, and the analysis of the codebooks."""

from pathlib import Path

import numpy as np
import torch

from datasets.clips import usable_frames
from datasets.sequences import PreparedData
from models.evaluation.codebooks import analyse
from models.evaluation.judging import file_names
from models.stages.base import RunConfig, Stage
from models.vqvae import Codes
from utils.files import write_npz
from utils.render.video import render_video


def show_real(config: RunConfig) -> list[Path]:
    """Videos of the evaluated split's first real dances, with their songs. Needs data, but no training."""
    data = PreparedData(Path(config.data.root))
    names = data.names(config.evaluation.split)[: config.evaluation.videos]
    if not names:
        raise ValueError(f"{data.root} has no sequences of split {config.evaluation.split!r} to show")
    made, files = [], file_names(data)
    for name in names:
        sequence = data.sequence(name)
        song = data.song(sequence.song) if sequence.song in data.songs else None
        path = config.folder / "visgt" / f"{files[name]}.mp4"
        render_video(
            path,
            np.asarray(sequence.joints[: usable_frames(sequence)]),
            music_beats=None if song is None else song.beats,
            song=None if song is None else song.audio,
            title=f"real  {name}",
            skeleton=data.skeleton,
            height=config.evaluation.video_height,
            progress=True,
        )
        made.append(path)
    print(f"{len(made)} videos of real dances are in {config.folder / 'visgt'}")
    return made


def analyse_codes(stage: Stage, folder: Path) -> None:
    """Usage, perplexity and galleries of the stage's memory, on the training dances."""
    analyse(stage.memory, stage.data, "train", folder)


def decode_codes(stage: Stage, folder: Path) -> Path:
    """A video of the config's codes, or of random ones.

    Raises:
        ValueError: if codes are not in the codebooks, or the halves differ in length.
    """
    wanted, memory = stage.config.sample, stage.memory
    generator = np.random.default_rng(wanted.seed)
    given = {"upper": wanted.upper, "lower": wanted.lower}
    lengths = {len(codes) for codes in given.values() if codes is not None}
    if len(lengths) > 1:
        raise ValueError(
            f"sample.upper has {len(wanted.upper or ())} codes, sample.lower {len(wanted.lower or ())}"
        )
    length = lengths.pop() if lengths else wanted.length
    if length == 0:
        raise ValueError("sample.upper and sample.lower must not be empty; null means random codes")
    halves = []
    for (half, codes), k in zip(given.items(), memory.num_codes, strict=True):
        chosen = generator.integers(k, size=length) if codes is None else np.array(codes)
        if chosen.min() < 0 or chosen.max() >= k:
            raise ValueError(
                f"sample.{half} holds {chosen.min()}..{chosen.max()}; the codebook has codes 0..{k - 1}"
            )
        halves.append(torch.from_numpy(chosen))
    joints = memory.decode_dance(Codes(*halves)).numpy()
    both = torch.stack(halves, dim=1).numpy()
    write_npz(folder / "codes.npz", joints=joints, codes=both, fps=memory.skeleton.fps)
    path = folder / "codes.mp4"
    render_video(
        path,
        joints,
        codes=both,
        frames_per_code=memory.frames_per_code,
        skeleton=memory.skeleton,
        title="given codes" if lengths or wanted.upper or wanted.lower else "random codes",
        height=stage.config.evaluation.video_height,
        progress=True,
    )
    print(f"{length} codes are danced in {path}")
    return path
