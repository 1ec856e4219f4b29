"""What is danced to: whole songs, each from its real dance's first codes, else from a fixed pair."""

from typing import NamedTuple

import torch
from torch import Tensor

from datasets.clips import usable_frames, whole_music
from datasets.sequences import PreparedData
from models.vqvae import ChoreographicMemory, Codes


class Piece(NamedTuple):
    """A song to dance to.

    Attributes:
        name: of the real dance, or of the song where it has none.
        song: the song's name.
        music: (N, D) features of the whole song, the last step repeated once, as released.
        beats: (F,) bool, music beats per frame of the whole song.
        codes: of the real dance, (T',) each; the fixed pair, (1,) each, where it has none.
        frames: length of the real dance; 0 where it has none.
    """

    name: str
    song: str
    music: Tensor
    beats: Tensor
    codes: Codes
    frames: int

    @property
    def first(self) -> Codes:
        """The code pair a dance starts from, (1,) each."""
        return Codes(self.codes.upper[:1], self.codes.lower[:1])


def pieces(
    data: PreparedData, split: str, memory: ChoreographicMemory, fixed: tuple[int, int]
) -> list[Piece]:
    """The pieces of a split; of data that holds songs only, all songs.

    Raises:
        ValueError: if there is none, if one has no music, or if the fixed pair is not in the codebooks.
    """
    if not data.names("all"):
        if fixed[0] >= memory.num_codes[0] or fixed[1] >= memory.num_codes[1]:
            raise ValueError(
                f"generation.first_codes {list(fixed)} must be below "
                f"the codebooks' sizes {list(memory.num_codes)}"
            )
        codes = Codes(torch.tensor(fixed[:1]), torch.tensor(fixed[1:]))
        songs = [data.song(name) for name in data.songs]
        found = [
            Piece(s.name, s.name, whole_music(s.features)[0], torch.from_numpy(s.beats.copy()), codes, 0)
            for s in songs
        ]
    else:
        found = []
        for name in data.names(split):
            sequence = data.sequence(name)
            if not len(sequence.music):
                raise ValueError(f"sequence {name} in {data.root} has no music; prepare it with its song")
            frames = usable_frames(sequence)
            found.append(
                Piece(
                    name,
                    sequence.song,
                    whole_music(sequence.music)[0],
                    torch.from_numpy(sequence.beats.copy()),
                    memory.encode_dance(sequence.joints[:frames]),
                    frames,
                )
            )
    if not found:
        raise ValueError(f"{data.root} has nothing of split {split!r} to dance to")
    return found
