"""Windows, cache, batches, draws, given codes: each against the plainest way to the same codes."""

import math

import pytest
import torch

from models.generation import (
    FREE,
    GenerationConfig,
    Prompt,
    attention_window,
    choose,
    generate,
    generate_naively,
)
from models.gpt import GPTConfig, MotionGPT
from models.vqvae import Codes

CPU = torch.device("cpu")


def lively_gpt(context=9, num_codes=(31, 23), seed=0):
    """Weights large enough that codes and their probabilities depend on everything attended to."""
    torch.manual_seed(seed)
    gpt = MotionGPT(GPTConfig(width=32, heads=4, base_blocks=2, head_blocks=2, context=context), num_codes, 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def random_music(steps, seed=0):
    return torch.randn(steps, 6, generator=torch.Generator().manual_seed(seed))


def start(upper, lower):
    return Codes(torch.tensor([upper]), torch.tensor([lower]))


def equal(a, b):
    return torch.equal(a.upper, b.upper) and torch.equal(a.lower, b.lower)


def watched(gpt, monkeypatch, look):
    """Apply a function to the arguments and the logits of each forward pass; the list of its results."""
    seen, forward = [], gpt.forward

    def run(*given, **more):
        logits = forward(*given, **more)
        seen.append(look(given, logits))
        return logits

    monkeypatch.setattr(gpt, "forward", run)
    return seen


WAYS = [
    {"window": "exact"},
    {"window": "hop", "hop": 1},
    {"window": "hop", "hop": 3},
    {"window": "hop", "hop": 8},
    {"window": "exact", "window_codes": 1},
    {"window": "hop", "window_codes": 9, "hop": 4},
    {"temperature": 1.0, "top_p": 0.9, "seed": 3},
    {"window": "hop", "temperature": 0.8, "top_k": 5, "seed": 4},
]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_codes_equal_the_naive_ones(how):
    """Songs of several lengths, several given codes, one given half, a gap: in a batch and one by one."""
    gpt, config = lively_gpt(), GenerationConfig(**how)
    gap = Codes(torch.tensor([3, 4, FREE, FREE, 7, 8]), torch.tensor([1, 2, FREE, 5, 6, 7]))
    lower = Codes(torch.tensor([5] + [FREE] * 29), torch.arange(30) % 23)
    many = Codes(torch.arange(20), torch.arange(20) + 1)
    given = [start(1, 2), start(30, 20), gap, lower, many]
    prompts = [
        Prompt(random_music(n, seed=n), codes, str(n))
        for n, codes in zip((45, 1, 40, 30, 33), given, strict=True)
    ]
    together = generate(gpt, prompts, config, CPU)
    for prompt, dance in zip(prompts, together, strict=True):
        assert len(dance.upper) == len(dance.lower) == len(prompt.music)
        assert equal(dance, generate_naively(gpt, prompt, config))
        assert equal(dance, generate(gpt, [prompt], config, CPU)[0])
        for half, fixed in zip(dance, prompt.given, strict=True):
            kept = fixed != FREE
            assert torch.equal(half[: len(fixed)][kept], fixed[kept])
    assert len(together[0].upper.unique()) > 5


@pytest.mark.parametrize("how", WAYS[:4], ids=str)
def test_logits_equal_those_of_full_passes(how, monkeypatch):
    gpt, prompt, config = lively_gpt(), Prompt(random_music(45), start(1, 2)), GenerationConfig(**how)
    seen = watched(gpt, monkeypatch, lambda _, logits: [half[:, -1] for half in logits])
    generate(gpt, [prompt], config, CPU)
    fast, number = list(seen), len(seen)
    generate_naively(gpt, prompt, config)
    assert number == 44
    for ours, theirs in zip(fast, seen[number:], strict=True):
        for half in (0, 1):
            torch.testing.assert_close(ours[half], theirs[half], rtol=1e-5, atol=1e-5)


def naive_windows(number, window, hop):
    """First code of each window: one that would exceed its length moves, first by one, then by `hop`."""
    starts, first = [], 0
    for code in range(1, number):
        if code - first > window:
            first += 1 if first == 0 else hop
        starts.append(first)
    return starts


SIZES = [(4, 1), (4, 2), (4, 4), (28, 1), (28, 14), (28, 9), (1, 1), (7, 3)]


@pytest.mark.parametrize(("window", "hop"), SIZES)
def test_attention_windows_follow_their_definition(window, hop):
    """The cache is rebuilt exactly where the window moves."""
    starts = naive_windows(200, window, hop)
    for code, first in enumerate(starts, 1):
        found = attention_window(code, window, hop)
        assert (found.start, found.stop) == (first, code)
        assert 1 <= found.stop - found.start <= window
        assert found.rebuild == (code == 1 or first != starts[code - 2])
        if code < len(starts):
            assert found.grows == (starts[code] == first)


def test_the_table_of_the_docstring():
    rows = [
        line.split()
        for line in attention_window.__doc__.splitlines()
        if line.strip().startswith("start, hop")
    ]
    assert len(rows) == 3
    for _, _, hop, *starts in rows:
        assert [attention_window(k, 4, int(hop)).start for k in range(1, 11)] == list(map(int, starts))


def test_the_hop_window_computes_little(monkeypatch):
    """One code per pass, and the kept part of the window once per hop."""
    gpt = lively_gpt()
    counted = watched(gpt, monkeypatch, lambda given, _: given[0].shape[1])
    config = GenerationConfig(window="hop", hop=4)
    generate(gpt, [Prompt(random_music(34), start(0, 0))], config, CPU)
    assert counted == [1] * 8 + [8] + ([5] + [1] * 3) * 6


def test_finished_dances_cost_nothing(monkeypatch):
    gpt = lively_gpt()
    sizes = watched(gpt, monkeypatch, lambda given, _: len(given[0]))
    prompts = [Prompt(random_music(n, seed=n), start(0, 0)) for n in (3, 6, 2)]
    generate(gpt, prompts, GenerationConfig(window="hop", hop=2), CPU)
    assert sizes == [3, 2, 1, 1, 1]


def test_variants_differ_and_come_back():
    gpt, music = lively_gpt(), random_music(30)
    prompts = [Prompt(music, start(0, 0), key) for key in ("song/0", "song/1", "song/0")]
    made = generate(gpt, prompts, GenerationConfig(temperature=1.0), CPU)
    assert equal(made[0], made[2])
    assert not torch.equal(made[0].upper, made[1].upper)
    other = generate(gpt, prompts, GenerationConfig(temperature=1.0, seed=1), CPU)
    assert not torch.equal(made[0].upper, other[0].upper)


@pytest.mark.parametrize("how", [{}, {"window": "hop", "hop": 3}], ids=str)
def test_giving_codes_that_would_be_chosen_changes_nothing(how):
    gpt, music, config = lively_gpt(), random_music(30), GenerationConfig(**how)
    (free,) = generate(gpt, [Prompt(music, start(1, 2))], config, CPU)
    half = Codes(torch.cat([torch.tensor([1]), torch.full((29,), FREE)]), free.lower)
    opening = Codes(free.upper[:13], free.lower[:13])
    for given in (half, opening, free):
        assert equal(generate(gpt, [Prompt(music, given)], config, CPU)[0], free)


def test_draws_follow_the_probabilities():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(40_000, -1)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def shares(*how):
        return torch.bincount(choose(logits, uniform, *how), minlength=4) / 40_000

    near = {"rtol": 0, "atol": 0.01}
    torch.testing.assert_close(shares(1.0), torch.tensor([0.5, 0.3, 0.15, 0.05]), **near)
    torch.testing.assert_close(shares(1.0, 2), torch.tensor([0.625, 0.375, 0, 0]), **near)
    torch.testing.assert_close(shares(1.0, 0, 0.6), torch.tensor([0.625, 0.375, 0, 0]), **near)
    torch.testing.assert_close(shares(1.0, 0, 0.9), torch.tensor([0.5, 0.3, 0.15, 0]) / 0.95, **near)
    torch.testing.assert_close(shares(1.0, 0, 1e-9), torch.tensor([1.0, 0, 0, 0]))
    squared = torch.tensor([0.25, 0.09, 0.0225, 0.0025])
    torch.testing.assert_close(shares(0.5), squared / squared.sum(), **near)
    assert choose(logits[:1], torch.tensor([1 - 1e-16], dtype=torch.float64), 1.0).item() == 3


def longest_hold(half):
    changes = torch.nonzero(half[1:] != half[:-1]).flatten() + 1
    edges = torch.cat([torch.tensor([0]), changes, torch.tensor([len(half)])])
    return int(edges.diff().max())


@pytest.mark.parametrize("window", [{"window": "exact"}, {"window": "hop", "hop": 4}], ids=str)
def test_no_half_holds_a_code_for_longer(window):
    """Dances of a GPT that would hold its first codes for ever, in a batch of several lengths."""
    gpt = lively_gpt()
    for layer in (gpt.head.to_upper, gpt.head.to_lower):  # all codes are equally probable: the first is taken
        layer.weight.data.zero_()
    prompts = [Prompt(random_music(n, seed=n), start(0, 0), f"song {n}") for n in (40, 9, 25)]
    assert longest_hold(generate(gpt, prompts, GenerationConfig(**window), CPU)[0].upper) == 40
    for dance in generate(gpt, prompts, GenerationConfig(**window, max_hold=3), CPU):
        for half in dance:
            assert half.tolist() == ([0, 0, 0, 1] * 10)[: len(half)]


@pytest.mark.parametrize("window", [{"window": "exact"}, {"window": "hop", "hop": 4}], ids=str)
@pytest.mark.parametrize("how", [{}, {"temperature": 0.7, "top_p": 0.9, "seed": 3}], ids=str)
def test_holds_end_as_by_definition(window, how):
    gpt, prompts = lively_gpt(), [Prompt(random_music(n, seed=n), start(0, 0), f"{n}") for n in (40, 9, 25)]
    without = generate(gpt, prompts, GenerationConfig(**window, **how), CPU)
    assert max(longest_hold(half) for dance in without for half in dance) > 1
    config = GenerationConfig(**window, **how, max_hold=1)
    for dance, prompt in zip(generate(gpt, prompts, config, CPU), prompts, strict=True):
        assert equal(dance, generate_naively(gpt, prompt, config))
        assert [longest_hold(half) for half in dance] == [1, 1]


def test_given_codes_are_held_as_given_and_count():
    gpt, music, config = lively_gpt(), random_music(20), GenerationConfig(max_hold=2)
    given = Codes(torch.tensor([5] * 8 + [FREE] * 12), torch.full((20,), 7))
    (dance,) = generate(gpt, [Prompt(music, given)], config, CPU)
    assert equal(dance, generate_naively(gpt, Prompt(music, given), config))
    assert dance.upper[:8].tolist() == [5] * 8
    assert dance.upper[8] != 5
    assert dance.lower.tolist() == [7] * 20


def test_a_barred_code_is_not_chosen():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert choose(logits, None, 0, barred=torch.tensor([0, FREE])).tolist() == [1, 0]
    uniform = torch.rand(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = choose(logits[:1].expand(2000, -1), uniform, 1.0, barred=torch.zeros(2000, dtype=torch.long))
    assert 0 not in drawn
    assert float((drawn == 1).float().mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.03)
    assert choose(torch.zeros(1, 1), None, 0, barred=torch.tensor([0])).tolist() == [0]


@pytest.mark.parametrize(
    ("given", "steps", "message"),
    [
        (start(31, 0), 5, "upper code 31 is not in the codebook of 31 codes"),
        (start(0, FREE), 5, "the first lower code of a dance must be given"),
        (Codes(torch.zeros(0).long(), torch.zeros(0).long()), 5, "the first upper code"),
        (Codes(*[torch.zeros(6).long()] * 2), 5, "6 codes are given for 5 steps of music"),
        (Codes(torch.zeros(2).long(), torch.zeros(1).long()), 5, r"as many upper as lower ones, got \(2,\)"),
        (start(0, 0), 0, r"music must be \(N, 6\) with at least one step"),
    ],
)
def test_refusals(given, steps, message):
    with pytest.raises(ValueError, match=message):
        generate(lively_gpt(), [Prompt(random_music(steps), given)], GenerationConfig(), CPU)


def test_no_prompts_give_no_dances():
    assert generate(lively_gpt(), [], GenerationConfig(), CPU) == []
