"""`cross_conditional: false`: neither half depends on the other, however the codes are generated."""

import pytest
import torch

import main
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import GPTConfig, MotionGPT
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


@pytest.mark.parametrize(("window", "hop"), [("exact", None), ("hop", 3)])
def test_generating_and_streaming(window, hop):
    """A dance from another lower code has the same upper codes; a stream gives the same dance."""
    gpt, music = gpt_of(False), torch.randn(40, 6)
    how = GenerationConfig(window=window, hop=hop)
    first = Codes(torch.tensor([3]), torch.tensor([5]))
    prompts = [Prompt(music, first), Prompt(music, Codes(first.upper, first.lower + 1))]
    dance, other = generate(gpt, prompts, how, torch.device("cpu"))
    assert len(dance.upper.unique()) > 5
    assert torch.equal(dance.upper, other.upper)
    assert not torch.equal(dance.lower, other.lower)
    memory = memory_of()
    config = MemoryConfig(**{**vars(memory.config), "codes_upper": CODES[0], "codes_lower": CODES[1]})
    memory = ChoreographicMemory(config, velocity=True).eval()
    stream = DanceStream(gpt, memory, first, how)
    made = [stream.push(piece).codes for piece in music.split(7)]
    for half in (0, 1):
        assert torch.equal(torch.cat([codes[half] for codes in made]), dance[half])


def test_a_checkpoint_of_the_other_kind_is_refused(trained, small_data, capsys):
    more = tiny.arguments("cc_motion_gpt", small_data, trained, "eval", "model.cross_conditional=false")
    assert main.main(more) == 2
    assert "was trained with model.cross_conditional true, the config says false" in capsys.readouterr().err
