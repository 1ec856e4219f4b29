"""Dances of a trained stage -> a table with control rows, metrics.json, motions as .npz, videos with sound.

Every table holds the real dances, the real dances with their songs shuffled, and, where the memory can decode
on its own, dances of uniformly random codes: without them nobody can tell what a number means.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor
from tqdm import tqdm

from datasets.clips import usable_frames, whole_dance
from datasets.sequences import PreparedData
from datasets.sequences import Sequence as RealSequence
from models.generation import GenerationConfig, generate_all
from models.gpt import MotionGPT
from models.stages.pieces import pieces
from models.vqvae import ChoreographicMemory, Codes
from utils.config import config
from utils.metrics import Dance, DanceFeatures, Reference, dance_features, format_table, score
from utils.metrics.controls import bootstrap_intervals, finite_sample_floor, shuffled_beat_scores
from utils.metrics.protocols import Protocol, protocol_named
from utils.metrics.reference import FILE_NAME, data_key
from utils.metrics.report import constant_notes
from utils.motion import pose_to_joints, with_root
from utils.render.video import render_video

log = logging.getLogger(__name__)


@config
class EvaluationConfig:
    """How a stage is judged.

    Attributes:
        split: whose dances and songs.
        protocol: of the metrics: `bailando` compares with published numbers, `corrected` mends their slips.
        length: of generated dances: that of the real `dance`, or of the whole `song`, as released.
        max_frames: generated dances are cut to this for the metrics, as published.
        videos: how many dances are rendered.
        video_height: in pixels.
    """

    split: Literal["train", "test", "all"] = "test"
    protocol: Literal["bailando", "corrected"] = "bailando"
    length: Literal["dance", "song"] = "dance"
    max_frames: PositiveInt = 1200
    videos: NonNegativeInt = 4
    video_height: PositiveInt = 540


class MadeDance(NamedTuple):
    """A dance as joints (T, 24, 3), metres, and the codes (T', 2), upper and lower, it was decoded from."""

    name: str
    song: str
    joints: np.ndarray
    codes: np.ndarray | None


class Evaluation:
    """Makes dances of a split and judges them."""

    def __init__(
        self, data: PreparedData, config: EvaluationConfig, memory: ChoreographicMemory, seed: int
    ) -> None:
        self.data, self.config, self.memory, self.seed = data, config, memory.eval(), seed
        self.sequences = [data.sequence(name) for name in data.names(config.split)]
        self.only_songs = not data.names("all")
        if not self.sequences and not self.only_songs:
            raise ValueError(f"{data.root} has no sequences of split {config.split!r} to evaluate")
        self.device = next(memory.parameters()).device

    @cached_property
    def real(self) -> list[MadeDance]:
        """The real dances."""
        return [
            MadeDance(
                s.name, s.song, np.array(s.joints[: usable_frames(s)], dtype=np.float32), self._codes(s)
            )
            for s in self.sequences
        ]

    @torch.no_grad()
    def _codes(self, sequence: RealSequence) -> np.ndarray:
        pose = whole_dance(sequence, self.memory.frames_per_code).to(self.device)
        codes = self.memory.encode(pose)
        return torch.stack([codes.upper[0], codes.lower[0]], dim=1).cpu().numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray, root: Tensor | None = None) -> np.ndarray:
        """Joints (T, 24, 3) of codes (T', 2); the root as the velocity branch has it, or as given (T, 3)."""
        upper, lower = torch.from_numpy(codes).to(self.device).T[:, None]
        pose = self.memory.decode(Codes(upper, lower))[0]
        if root is None:
            return pose_to_joints(pose).cpu().numpy()
        joints = pose_to_joints(with_root(pose, torch.zeros_like(pose[:, :3]))).cpu()
        return (joints + root.unsqueeze(1)).numpy()

    def reconstructions(self, real_root: bool = False) -> list[MadeDance]:
        """The real dances through the memory, at their own length."""
        dances = []
        for real in self.real:
            assert real.codes is not None
            frames = len(real.joints)
            root = None
            if real_root:
                root = torch.from_numpy(real.joints[:, 0])
                root = torch.cat(
                    [root, root[-1:].expand(len(real.codes) * self.memory.frames_per_code - frames, 3)]
                )
            dances.append(real._replace(joints=self.decode(real.codes, root)[:frames]))
        return dances

    def random_codes(self) -> list[MadeDance]:
        """Dances of uniformly random codes, as long as the real ones."""
        generator = np.random.default_rng(self.seed)
        dances = []
        for real in self.real:
            assert real.codes is not None
            codes = np.stack(
                [generator.integers(k, size=len(real.codes)) for k in self.memory.num_codes], axis=1
            )
            dances.append(real._replace(joints=self.decode(codes)[: len(real.joints)], codes=codes))
        return dances

    def generated(self, gpt: MotionGPT, how: GenerationConfig) -> list[MadeDance]:
        """The GPT's dances to the split's songs, each from its real dance's first codes where it has one."""
        found = pieces(self.data, self.config.split, self.memory, how.first_codes, self.device)
        whole = self.config.length == "song"
        music = [p.music if whole or not p.frames else p.music[: len(p.codes.upper)] for p in found]
        first, names = [p.first for p in found], [p.name for p in found]
        codes = generate_all(gpt.eval(), music, first, how, self.device, progress=True, keys=names)
        dances = []
        for piece, dance in zip(found, codes, strict=True):
            both = torch.stack([dance.upper, dance.lower], dim=1).numpy()
            frames = len(both) * self.memory.frames_per_code if whole or not piece.frames else piece.frames
            dances.append(MadeDance(piece.name, piece.song, self.decode(both)[:frames], both))
        return dances

    def report(
        self, folder: Path, rows: Mapping[str, Sequence[MadeDance]], shown: str, title: str
    ) -> dict[str, dict[str, Any]]:
        """Scores the rows beside the control rows, and writes everything into the folder.

        Args:
            folder: metrics.json, table.txt, motions/, videos/ go here.
            rows: dances under the name of their row.
            shown: the row whose dances are rendered.
            title: of the table and the videos.

        Returns:
            Row name -> metric name -> value.
        """
        reference, most = None if self.only_songs else self.reference, self.config.max_frames
        rules = protocol_named(self.config.protocol)
        rows = {name: dances for name, dances in rows.items() if dances}
        table: dict[str, dict[str, Any]] = {} if reference is None else self._controls(reference, rules)
        intervals = {}
        for name, dances in tqdm(rows.items(), "scoring", leave=False, disable=None):
            features = [dance_features(self._dance(dance), most) for dance in dances]
            table[name] = score(features, reference, rules.name)
            intervals[name] = bootstrap_intervals(features, reference, rules, self.seed)
            if name.startswith("memory"):
                table[name] |= self._reconstruction(dances)
        folder.mkdir(parents=True, exist_ok=True)
        text = format_table(table, _columns(table))
        (folder / "table.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
        facts = {
            "run": title,
            "protocol": rules.name,
            "data": str(self.data.root),
            "split": self.config.split,
        }
        facts |= {"dances": len(rows[shown]), "frames_at_most": most}
        facts |= {"reference_dances": 0 if reference is None else len(reference.dances)}
        notes = [] if reference is None else constant_notes(reference, rules)
        facts |= {"notes": notes, "rows": table, "intervals_95": intervals}
        _write_json(folder / "metrics.json", facts)
        for name, dances in rows.items():
            self._write_motions(folder / "motions" / name.replace(" ", "_"), dances)
        self.render(folder / "videos", rows[shown][: self.config.videos], shown)
        print(
            f"\n{title}: {len(rows[shown])} dances of split {self.config.split!r}, "
            f"protocol {rules.name!r}\n{text}"
        )
        for note in notes:
            print(f"note: {note}")
        print(f"metrics, motions and videos are in {folder}")
        return table

    def _controls(self, reference: Reference, rules: Protocol) -> dict[str, dict[str, Any]]:
        """Rows of the real dances: as they are, with songs shuffled, and the floor of FID at this size."""
        real = reference.named([dance.name for dance in self.real])
        floor = finite_sample_floor(reference, rules, len(real), self.seed)
        return {
            "real": score(real, reference, rules.name),
            "real, songs shuffled": shuffled_beat_scores(real, rules, self.seed),
            f"floor: {len(real)} real dances": {column: interval.mean for column, interval in floor.items()},
        }

    @cached_property
    def reference(self) -> Reference:
        """Features of all real dances, as extract_aist_features.py leaves them; else computed and kept."""
        path, key = self.data.root / FILE_NAME, data_key(self.data.root)
        if path.is_file():
            try:
                return Reference.load(path, key)
            except ValueError as error:
                log.warning("%s", error)
        features: list[DanceFeatures] = []
        for name in tqdm(self.data.names("all"), "features of the real dances", leave=False, disable=None):
            sequence = self.data.sequence(name)
            joints = np.asarray(sequence.joints[: usable_frames(sequence)])
            features.append(dance_features(Dance(name, joints, sequence.beats, song=sequence.song)))
        reference = Reference.of(features, str(path), key)
        reference.save(path)
        return reference

    def _dance(self, dance: MadeDance) -> Dance:
        beats = self.data.song(dance.song).beats if dance.song in self.data.songs else None
        return Dance(dance.name, dance.joints, beats, song=dance.song)

    def _reconstruction(self, dances: Sequence[MadeDance]) -> dict[str, float]:
        """How well the memory reconstructs: errors in mm, and the share of each codebook these dances use."""
        local, roots = [], []
        for real, made in zip(self.real, dances, strict=True):
            relative = [d.joints - d.joints[:, :1] for d in (real, made)]
            local.append(np.linalg.norm(relative[0] - relative[1], axis=-1)[:, 1:].mean())
            start = [d.joints[:, 0] - d.joints[:1, 0] for d in (real, made)]
            roots.append(np.linalg.norm(start[0] - start[1], axis=-1).mean())
        codes = np.concatenate([dance.codes for dance in dances if dance.codes is not None])
        used = [len(np.unique(codes[:, half])) / k for half, k in enumerate(self.memory.num_codes)]
        errors = {
            "joint_error_mm": 1000 * float(np.mean(local)),
            "root_error_mm": 1000 * float(np.mean(roots)),
        }
        return errors | {"codes_used_upper": used[0], "codes_used_lower": used[1]}

    def _write_motions(self, folder: Path, dances: Sequence[MadeDance]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for dance in dances:
            codes = np.zeros((0, 2), np.int64) if dance.codes is None else dance.codes
            joints = dance.joints.astype(np.float32)
            np.savez(
                folder / f"{dance.name}.npz", joints=joints, codes=codes, fps=self.data.fps, song=dance.song
            )

    def render(self, folder: Path, dances: Sequence[MadeDance], label: str) -> None:
        """One video per dance, with its song where that is at hand."""
        for dance in tqdm(dances, "videos", leave=False, disable=None):
            song = self.data.song(dance.song) if dance.song in self.data.songs else None
            render_video(
                folder / f"{dance.name}.mp4",
                dance.joints,
                codes=dance.codes,
                frames_per_code=self.memory.frames_per_code,
                music_beats=None if song is None else song.beats,
                song=None if song is None else song.audio,
                title=f"{label}  {dance.name}",
                height=self.config.video_height,
            )


_COLUMNS = (
    "FID_k",
    "FID_g",
    "Div_k",
    "Div_g",
    "BAS",
    "joint_error_mm",
    "codes_used_upper",
    "codes_used_lower",
)


def _columns(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name in _COLUMNS if any(name in row for row in table.values())]


def _write_json(path: Path, content: Any) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, tuple):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and math.isnan(value) else value  # JSON knows no NaN

    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(plain(content), indent=2), encoding="utf-8")
    beside.replace(path)
