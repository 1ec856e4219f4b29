"""Generating while the music arrives: equal to the whole song at once, early frames, constant memory."""

import itertools

import pytest
import torch

from models.conv import ConvConfig
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import GPTConfig, MotionGPT
from models.quantizer import CodebookConfig
from models.streaming import DanceStream, PoseStream, stream
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from utils.motion import pose_to_joints

PUBLISHED = ConvConfig(width=6)
SIZES = [
    PUBLISHED,
    ConvConfig(width=6, downsamplings=2, depth=2, dilation_growth=2),
    ConvConfig(width=6, depth=1),
]


def memory_of(conv=PUBLISHED, velocity=True, halves="split"):
    torch.manual_seed(0)
    sizes = {"codes_upper": 7, "codes_lower": 5, "codebook": CodebookConfig(dim=4)}
    memory = ChoreographicMemory(MemoryConfig(conv=conv, halves=halves, **sizes), velocity=velocity).eval()
    for half in memory.halves.values():
        half.quantizer.codebook.normal_()
    return memory


def gpt_of(width=16):
    torch.manual_seed(0)
    gpt = MotionGPT(GPTConfig(width=width, heads=2, base_blocks=1, head_blocks=1, context=9), (7, 5), 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def random_codes(length):
    return Codes(torch.randint(7, (1, length)), torch.randint(5, (1, length)))


def pieces_of(codes, sizes):
    ends = list(itertools.accumulate(sizes))
    return [Codes(*(half[:, end - n : end] for half in codes)) for end, n in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("sizes", [[1] * 60, [3, 40, 0, 17], [60], [1], [0, 2]], ids=len)
@pytest.mark.parametrize("conv", SIZES, ids=["published", "small", "shallow"])
def test_joints_equal_decoding_at_once(conv, sizes):
    for velocity in (True, False):
        memory, codes = memory_of(conv, velocity), random_codes(sum(sizes))
        poses = PoseStream(memory)
        made = [poses.push(piece) for piece in pieces_of(codes, sizes)]
        made.append(poses.push(random_codes(0), last=True))
        with torch.no_grad():
            whole = pose_to_joints(memory.decode(codes))
        torch.testing.assert_close(torch.cat(made, 1), whole, rtol=1e-5, atol=1e-5)


def test_a_memory_of_the_whole_body():
    memory, codes = memory_of(halves="whole"), random_codes(40)
    poses = PoseStream(memory)
    made = [poses.push(codes), poses.push(random_codes(0), last=True)]
    with torch.no_grad():
        whole = pose_to_joints(memory.decode(codes))
    torch.testing.assert_close(torch.cat(made, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("conv", SIZES, ids=["published", "small", "shallow"])
def test_frames_come_as_soon_as_told(conv):
    """`look_ahead` codes after its own every frame of a code is out, and not all of them before."""
    ahead, poses, given = conv.look_ahead, PoseStream(memory_of(conv)), 0
    for n in range(1, ahead + 5):
        given += poses.push(random_codes(1)).shape[1]
        assert max(0, n - ahead) * conv.frames_per_code <= given
        assert given < max(0, n - ahead + 1) * conv.frames_per_code or given == 0
    assert ConvConfig().look_ahead == 26


def test_what_was_given_out_never_changes():
    """A code moves no frame that was out before it came, though it moves ones right behind."""
    memory, codes = memory_of().double(), random_codes(40)  # what the furthest code does is tiny
    changed = Codes(codes.upper.clone(), codes.lower.clone())
    changed.upper[:, 35] = (codes.upper[:, 35] + 1) % 7
    changed.lower[:, 35] = (codes.lower[:, 35] + 1) % 5
    with torch.no_grad():
        before, after = memory.decode(codes), memory.decode(changed)
    out = PoseStream(memory).push(Codes(codes.upper[:, :35], codes.lower[:, :35])).shape[1]
    assert torch.equal(before[:, :out], after[:, :out])
    assert not torch.equal(before[:, out : out + 16], after[:, out : out + 16])


@pytest.mark.parametrize(
    "how",
    [{}, {"window": "hop", "hop": 3}, {"window": "hop", "temperature": 1.0, "top_p": 0.9, "seed": 4}],
    ids=str,
)
def test_a_stream_equals_the_song_at_once(how):
    gpt, memory, config = gpt_of(), memory_of(), GenerationConfig(**how)
    music = torch.randn(70, 6, generator=torch.Generator().manual_seed(1))
    first = Codes(torch.tensor([3, 1]), torch.tensor([2, 4]))
    (whole,) = generate(gpt, [Prompt(music, first)], config, torch.device("cpu"))
    chunks = list(stream(gpt, memory, music.split([1, 30, 0, 5, 34]), first, config))
    assert [len(chunk.codes.upper) for chunk in chunks] == [1, 30, 0, 5, 34, 0]
    assert torch.equal(torch.cat([chunk.codes.upper for chunk in chunks]), whole.upper)
    assert torch.equal(torch.cat([chunk.codes.lower for chunk in chunks]), whole.lower)
    with torch.no_grad():
        joints = pose_to_joints(memory.decode(Codes(*(half[None] for half in whole))))[0]
    torch.testing.assert_close(torch.cat([c.joints for c in chunks]), joints, rtol=1e-5, atol=1e-5)


def test_an_hour_of_music_in_flat_memory():
    """All buffers of the stream have reached their size within the first minutes."""
    gpt, memory, first = gpt_of(4), memory_of(ConvConfig(width=2)), random_codes(1)
    dance = DanceStream(gpt, memory, Codes(*(half[0] for half in first)), GenerationConfig(window="hop"))
    steps, frames, sizes = round(3600 * 7.5), 0, []
    for chunk in torch.randn(steps, 6, generator=torch.Generator().manual_seed(2)).split(300):
        frames += len(dance.push(chunk).joints)
        sizes.append(remembered(dance))
    frames += len(dance.push(torch.zeros(0, 6), last=True).joints)
    assert frames == 8 * steps
    assert max(sizes) == max(sizes[:4]) < 20_000


def remembered(dance):
    """Numbers in all tensors the stream holds beyond the networks."""
    generator, poses = dance.generator, dance.poses
    state = generator.state
    tensors = [state.music, *state.codes, *state.cache.buffers, poses.root]
    for decoder in (poses.upper, poses.lower, poses.velocity):
        for layer in decoder.layers:
            inner = getattr(layer, "inner", layer)
            tensors += [inner.pending, getattr(layer, "skip", None)]
    return sum(t.untyped_storage().nbytes() // 4 for t in tensors if t is not None)


def test_refusals():
    gpt, memory = gpt_of(), memory_of()
    with pytest.raises(ValueError, match="upper code 7 is not in the codebook of 7"):
        DanceStream(gpt, memory, Codes(torch.tensor([7]), torch.tensor([0])))
    dance = DanceStream(gpt, memory, Codes(torch.tensor([0]), torch.tensor([0])))
    with pytest.raises(ValueError, match=r"music must be \(n, 6\), got \(3, 5\)"):
        dance.push(torch.zeros(3, 5))
