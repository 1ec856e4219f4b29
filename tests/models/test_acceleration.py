"""bf16, oneDNN and torch.compile: numbers near or equal to plain ones, whatever the batch; helpful errors."""

import shutil

import pytest
import torch
from torch._inductor import config as inductor

from models.acceleration import AcceleratedGPT, compiled_forward, with_precision
from models.generation import GenerationConfig, Prompt, generate
from models.gpt import GPTConfig, MotionGPT
from models.vqvae import Codes
from tests.recording import record

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler",
)


def lively_gpt(cross_conditional=True, seed=0):
    """Weights large enough that codes depend on everything seen."""
    torch.manual_seed(seed)
    config = GPTConfig(
        width=32, heads=4, base_blocks=1, head_blocks=1, context=7, cross_conditional=cross_conditional
    )
    gpt = MotionGPT(config, (31, 23), 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def dances(gpt, lengths, **how):
    prompts = [
        Prompt(
            torch.randn(n, 6, generator=torch.Generator().manual_seed(n)),
            Codes(torch.arange(k + 1), torch.arange(k + 1)),
        )
        for k, n in enumerate(lengths)
    ]
    return generate(gpt, prompts, GenerationConfig(**how), torch.device("cpu"))


def random_input(steps):
    codes = Codes(torch.randint(31, (1, steps)), torch.randint(23, (1, steps)))
    return torch.randn(1, steps, 6), codes


@torch.no_grad()
def test_bf16_is_close_and_leaves_the_gpt_alone():
    gpt = lively_gpt()
    music, codes = random_input(7)
    exact, rough = gpt(music, codes), with_precision(gpt, "bf16")(music, codes)
    for half in (0, 1):
        assert not torch.equal(rough[half], exact[half])
        assert (rough[half] - exact[half]).abs().max() < 0.05 * exact[half].std()
    assert all(p.dtype == torch.float32 for p in gpt.parameters())
    assert dances(gpt, (30,), precision="bf16", window="hop")[0].upper.shape == (30,)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@torch.no_grad()
def test_onednn_gives_the_same_numbers():
    gpt = lively_gpt()
    music, codes = random_input(7)
    plain, other = (with_precision(gpt, p)(music, codes) for p in ("fp32", "fp32_onednn"))
    for half in (0, 1):
        torch.testing.assert_close(other[half], plain[half], rtol=1e-5, atol=1e-5)
    plain, other = (dances(gpt, (30,), precision=p, window="hop")[0] for p in ("fp32", "fp32_onednn"))
    assert torch.equal(other.upper, plain.upper)


@needs_compiler
@pytest.mark.parametrize(
    "how", [{"window": "exact"}, {"window": "hop", "hop": 3}], ids=["exact window", "hop window"]
)
def test_compiled_dances_are_the_same(how):
    """Songs of several lengths and starts: the batch shrinks from three to one."""
    gpt = lively_gpt()
    plain, compiled = (dances(gpt, (14, 26, 20), **how, compile=c) for c in (False, True))
    for ours, theirs in zip(compiled, plain, strict=True):
        assert len(theirs.upper.unique()) > 3
        assert torch.equal(ours.upper, theirs.upper)
        assert torch.equal(ours.lower, theirs.lower)


@needs_compiler
def test_compiled_logits_equal_plain_ones():
    """Independent halves, a chunk of several codes, a cache that is never full; bf16."""
    for gpt in (lively_gpt(cross_conditional=False), with_precision(lively_gpt(), "bf16")):
        compiled, (music, codes) = compiled_forward(gpt), random_input(6)
        ours, plain = gpt.new_cache(1), gpt.new_cache(1)
        bf16 = gpt.head.to_upper.weight.dtype == torch.bfloat16
        with torch.no_grad():
            for begin, end in ((0, 4), (4, 5), (5, 6)):
                now = slice(begin, end)
                given = music[:, now], Codes(codes.upper[:, now], codes.lower[:, now])
                expected = gpt(*given, plain, last_only=True)
                made = compiled(*given, ours, last_only=True)
                for half in (0, 1):
                    near = 0.05 * expected[half].float().std().item() if bf16 else 1e-4
                    torch.testing.assert_close(made[half], expected[half], rtol=0, atol=near)
        assert int(ours.length) == 6


@needs_compiler
def test_another_gpt_is_compiled_separately():
    """Weights become constants: those of one GPT must not appear in the next one's dances."""
    how = {"window": "hop", "hop": 3}
    for seed in (1, 2):
        gpt = lively_gpt(seed=seed)
        plain, compiled = (dances(gpt, (16,), **how, compile=c)[0] for c in (False, True))
        assert torch.equal(compiled.upper, plain.upper)
    weights = gpt.head.to_upper.weight
    assert weights.requires_grad  # the GPT itself is left alone


def test_no_compiler_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing compiled before
    message = r"torch.compile failed .*no-g\+\+.* needs a C\+\+ compiler .* generation.compile: false"
    no_compiler = inductor.patch({"cpp.cxx": (None, str(tmp_path / "no-g++"))})
    with no_compiler, pytest.raises(ValueError, match=message):
        dances(lively_gpt(seed=9), (16,), compile=True)


def test_onednn_is_not_compiled():
    with pytest.raises(ValueError, match="not with fp32_onednn"):
        GenerationConfig(compile=True, precision="fp32_onednn")


def recording(gpt):
    accelerated = AcceleratedGPT(gpt)
    accelerated.record = record
    return accelerated


def graphed_dances(gpt, lengths, accelerated=None, **how):
    """The dances of a GPT whose passes are replayed, and the number of passes that Python computed."""
    accelerated = accelerated or recording(gpt)
    computed, forward = [], gpt.forward
    gpt.forward = lambda *given, **more: (computed.append(given[0].shape[:2]), forward(*given, **more))[1]
    made = dances(accelerated, lengths, **how)
    del gpt.forward
    return made, computed


@pytest.mark.parametrize(
    "how",
    [{"window": "exact"}, {"window": "hop", "hop": 3}, {"window": "hop", "temperature": 1.0, "top_p": 0.9}],
    ids=["exact window", "hop window", "drawn"],
)
def test_replayed_dances_are_the_same(how):
    """Songs of several lengths and starts: the batch shrinks from five to three to two to one."""
    gpt, lengths = lively_gpt(), (14, 40, 33, 20, 28)
    plain = dances(gpt, lengths, **how)
    replayed, computed = graphed_dances(gpt, lengths, **how)
    for ours, theirs in zip(replayed, plain, strict=True):
        assert torch.equal(ours.upper, theirs.upper)
        assert torch.equal(ours.lower, theirs.lower)
    assert {batch for batch, _ in computed} == {5, 3, 2, 1}
    assert len(computed) < 28  # of 39 codes; eager and recorded once for each of few kinds


def test_graphs_serve_the_next_songs_and_follow_the_weights():
    gpt = lively_gpt()
    accelerated, how = recording(gpt), {"window": "hop", "hop": 3}
    graphed_dances(gpt, (30,), accelerated, **how)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.mul_(1.3)
    (made,), computed = graphed_dances(gpt, (30,), accelerated, **how)
    (expected,) = dances(gpt, (30,), **how)
    assert computed == [(1, 6)]  # the first full window, which a song has once: seen again, it is recorded
    assert torch.equal(made.upper, expected.upper)
    assert torch.equal(made.lower, expected.lower)


def test_graphs_need_a_gpu():
    with pytest.raises(ValueError, match=r"generation\.cuda_graph needs a GPU, got device cpu"):
        dances(lively_gpt(), (4,), cuda_graph=True)
