"""`cross_conditional: false`: neither half hears of the other, whatever way the codes are composed."""

import pytest
import torch

import main
from models.cache import WindowCache
from models.generation import GenerationConfig, generate
from models.gpt import GPTConfig, MotionGPT
from models.masks import cross_conditional_mask, independent_mask
from models.streaming import DanceStream
from models.vqvae import ChoreographicMemory, Codes, MemoryConfig
from tests.models.stages import tiny
from tests.models.test_streaming import memory_of

CODES = (31, 23)


def gpt_of(crossed, context=9):
    """Large weights, so that what is seen shows."""
    torch.manual_seed(0)
    sizes = {"width": 32, "heads": 4, "base_blocks": 2, "head_blocks": 2, "context": context}
    gpt = MotionGPT(GPTConfig(**sizes, cross_conditional=crossed), CODES, 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def random_codes(batch=2, length=9):
    return Codes(*(torch.randint(k, (batch, length)) for k in CODES))


def test_mask():
    """Rows see their own stream and the music up to their own time; earlier pieces come stream by stream."""
    mask, pieces, t = independent_mask(2, earlier=(3, 1)), (3, 1, 2), 2
    columns, start = [], 0
    for piece in pieces:
        columns += [(stream, start + step) for stream in range(3) for step in range(piece)]
        start += piece
    rows = [(stream, start - t + step) for stream in range(3) for step in range(t)]
    for r, (stream, time) in enumerate(rows):
        for c, (other, then) in enumerate(columns):
            assert mask[r, c] == (then <= time and other in (0, stream)), (rows[r], columns[c])
    assert (independent_mask(4) & ~cross_conditional_mask(4)).sum() == 0


@pytest.mark.parametrize("half", ["upper", "lower"])
@pytest.mark.parametrize("crossed", [False, True])
@torch.no_grad()
def test_other_codes_change_nothing(half, crossed):
    gpt, codes, music = gpt_of(crossed), random_codes(), torch.randn(2, 9, 6)
    other = {"upper": "lower", "lower": "upper"}[half]
    size = CODES[0 if other == "upper" else 1]
    changed = codes._replace(**{other: (getattr(codes, other) + 1) % size})
    before, after = gpt(music, codes), gpt(music, changed)
    assert torch.equal(getattr(before, half), getattr(after, half)) == (not crossed)
    assert not torch.allclose(getattr(before, other), getattr(after, other))
    louder = gpt(music + 1, codes)
    assert not torch.allclose(getattr(before, half), getattr(louder, half))


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 1, 1, 3], [2, 7]], ids=str)
@torch.no_grad()
def test_cached_equals_uncached(pieces):
    gpt, codes, music = gpt_of(False), random_codes(), torch.randn(2, 9, 6)
    whole, cache, seen = gpt(music, codes), WindowCache(4, 9), 0
    for piece in pieces:
        part = slice(seen, seen + piece)
        made = gpt.next_logits(music[:, part], Codes(*(c[:, part] for c in codes)), cache)
        seen += piece
        for ours, theirs in zip(made, whole, strict=True):
            torch.testing.assert_close(ours, theirs[:, seen - 1], rtol=1e-4, atol=1e-4)
    alone = gpt.next_logits(music, codes)
    torch.testing.assert_close(alone.upper, whole.upper[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("window", "hop"), [("exact", None), ("hop", 3)])
def test_composing_and_streaming(window, hop):
    """A dance whose lower codes are dictated has the same upper codes; a stream makes the same dance."""
    gpt, music = gpt_of(False), torch.randn(1, 40, 6)
    how = GenerationConfig(window=window, hop=hop)
    first = Codes(torch.tensor([[3]]), torch.tensor([[5]]))
    dance = generate(gpt, music, first, how)
    assert len(dance.upper.unique()) > 5
    other = generate(gpt, music, Codes(first.upper, first.lower + 1), how)
    assert torch.equal(dance.upper, other.upper)
    assert not torch.equal(dance.lower, other.lower)
    memory = memory_of()
    config = MemoryConfig(**{**vars(memory.config), "codes_upper": CODES[0], "codes_lower": CODES[1]})
    memory = ChoreographicMemory(config, velocity=True).eval()
    stream = DanceStream(gpt, memory, Codes(first.upper[0], first.lower[0]), how)
    made = [stream.push(piece).codes for piece in music[0].split(7)]
    for half in (0, 1):
        assert torch.equal(torch.cat([codes[half] for codes in made]), dance[half][0])


def test_a_checkpoint_of_the_other_kind_is_refused(trained, small_data, capsys):
    more = tiny.arguments("cc_motion_gpt", small_data, trained, "eval", "model.cross_conditional=false")
    assert main.main(more) == 2
    assert "was trained with model.cross_conditional true, the config says false" in capsys.readouterr().err
