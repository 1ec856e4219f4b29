"""Videos of real dances (--visgt), and of given or random codes (--sample)."""

from pathlib import Path

import numpy as np
import torch

from datasets.clips import usable_frames
from datasets.sequences import PreparedData
from models.evaluation.report import file_names
from models.stages.base import RunConfig, Stage
from models.vqvae import Codes
from utils.dance import Dance, save_dance
from utils.dance_formats import WriterInput, WriterOptions, write_mp4


def show_real(config: RunConfig) -> list[Path]:
    """Make videos of real dances, those of section `visgt` of the config, with their songs; without weights.

    Raises:
        ValueError: if there is no dance to show, or none of a name.
    """
    data, wanted = PreparedData(Path(config.data.root)), config.visgt
    if wanted.dances is None:
        names = data.names(config.evaluation.split)[: config.evaluation.videos]
    else:
        names = list(dict.fromkeys(wanted.dances))
    if not names:
        raise ValueError(
            f"{data.root} has no sequences to show (keys visgt.dances, evaluation.split "
            f"{config.evaluation.split}, evaluation.videos {config.evaluation.videos})"
        )
    body_model = config.evaluation.body.load(data.skeleton)
    made, files = [], file_names(data)
    for sequence in [data.sequence(name) for name in names]:
        name = sequence.name
        song = data.song(sequence.song) if sequence.song in data.songs else None
        path = config.folder / "visgt" / f"{files[name]}.mp4"
        frames = usable_frames(sequence)
        if wanted.seconds is not None:
            frames = min(frames, max(1, round(wanted.seconds * data.fps)))
        joints = np.asarray(sequence.joints[:frames])
        beats, audio = (None, None) if song is None else (song.beats, song.audio)
        dance = Dance(name, joints, beats, data.fps, sequence.song, skeleton=data.skeleton)
        height = config.evaluation.video_height
        how = WriterOptions(title=f"real  {name}", height=height, progress=True)
        write_mp4(path, WriterInput(dance, audio, how, body_model=body_model))
        made.append(path)
    print(f"{len(made)} videos of real dances are in {config.folder / 'visgt'}")
    return made


def show_codes(stage: Stage, folder: Path) -> Path:
    """Make a video of the config's codes (section `sample`), or of random ones.

    Raises:
        ValueError: if codes are not in the codebooks, or the halves differ in length.
    """
    wanted, memory = stage.config.sample, stage.memory
    body_model = stage.config.evaluation.body.load(memory.skeleton)
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
    motion = memory.decode_motion(Codes(*halves))
    both = torch.stack(halves, dim=1).numpy()
    dance = Dance(
        "codes",
        motion.joints.numpy(),
        codes=both,
        fps=memory.skeleton.fps,
        frames_per_code=memory.frames_per_code,
        skeleton=memory.skeleton,
        rotations=None if motion.rotations is None else motion.rotations.numpy(),
    )
    save_dance(folder / "codes.npz", dance)
    path = folder / "codes.mp4"
    how = WriterOptions(
        title="given codes" if lengths or wanted.upper or wanted.lower else "random codes",
        height=stage.config.evaluation.video_height,
        progress=True,
    )
    write_mp4(path, WriterInput(dance, options=how, body_model=body_model))
    print(f"the video of {length} codes is {path}")
    return path
