"""Windows, cache, batches, draws, locked codes: each against the plainest way to the same codes."""

import pytest
import torch

from models.cache import WindowCache
from models.generation import FREE, GenerationConfig, generate, generate_all, window_length
from models.gpt import GPTConfig, MotionGPT
from models.precision import in_precision
from models.sampling import choose
from models.vqvae import Codes


def lively_gpt(context=9, num_codes=(31, 23), seed=0):
    """Weights large enough that codes and their probabilities depend on everything seen."""
    torch.manual_seed(seed)
    gpt = MotionGPT(GPTConfig(width=32, heads=4, base_blocks=2, head_blocks=2, context=context), num_codes, 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def random_music(steps, seed=0, batch=1):
    return torch.randn(batch, steps, 6, generator=torch.Generator().manual_seed(seed))


def start(*pairs):
    return Codes(torch.tensor([[u] for u, _ in pairs]), torch.tensor([[v] for _, v in pairs]))


def plain(gpt, music, first, window, hop=1):
    """The full pass over every window, logits of every position, the last of which count."""
    upper, lower = [first.upper[:, :1]], [first.lower[:, :1]]
    scores = []
    for k in range(music.shape[1] - 1):
        length = window_length(k, window, hop)
        codes = Codes(*(torch.cat(half, 1)[:, -length:] for half in (upper, lower)))
        with torch.no_grad():
            logits = gpt(music[:, k + 2 - length : k + 2], codes)
        scores.append((logits.upper[:, -1], logits.lower[:, -1]))
        upper.append(logits.upper[:, -1:].argmax(-1))
        lower.append(logits.lower[:, -1:].argmax(-1))
    return Codes(torch.cat(upper, 1), torch.cat(lower, 1)), scores


@pytest.mark.parametrize(("window", "hop"), [("exact", 1), ("hop", 1), ("hop", 3), ("hop", 8)])
def test_codes_and_logits_equal_full_passes(window, hop, monkeypatch):
    gpt, music, first = lively_gpt(), random_music(45, batch=2), start((1, 2), (30, 20))
    expected, scores = plain(gpt, music, first, 8, hop)
    seen = []
    next_logits = gpt.next_logits
    monkeypatch.setattr(gpt, "next_logits", lambda *given: seen.append(next_logits(*given)) or seen[-1])
    made = generate(gpt, music, first, GenerationConfig(window=window, hop=hop))
    assert len(expected.upper.unique()) > 5
    assert torch.equal(made.upper, expected.upper)
    assert torch.equal(made.lower, expected.lower)
    for ours, theirs in zip(seen, scores, strict=True):
        for half in (0, 1):
            torch.testing.assert_close(ours[half], theirs[half], rtol=1e-5, atol=1e-5)


def test_the_cache_takes_any_number_of_codes_at_once():
    gpt, music = lively_gpt(), random_music(9)
    codes = Codes(torch.randint(31, (1, 9)), torch.randint(23, (1, 9)))
    whole = gpt(music, codes)
    cache = WindowCache(blocks=4, window=9)
    for begin, end in ((0, 4), (4, 5), (5, 9)):
        now = slice(begin, end)
        logits = gpt.next_logits(music[:, now], Codes(codes.upper[:, now], codes.lower[:, now]), cache)
        torch.testing.assert_close(logits.upper, whole.upper[:, end - 1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(logits.lower, whole.lower[:, end - 1], rtol=1e-5, atol=1e-5)
    assert cache.seen == 9


def test_the_hop_window_computes_little(monkeypatch):
    """Three tokens per code, and the kept part of the window anew once per hop."""
    gpt, counted = lively_gpt(), []
    next_logits = gpt.next_logits
    monkeypatch.setattr(
        gpt, "next_logits", lambda m, *more: counted.append(m.shape[1]) or next_logits(m, *more)
    )
    generate(gpt, random_music(34), start((0, 0)), GenerationConfig(window="hop", hop=4))
    assert counted == [1] * 8 + [8] + ([5] + [1] * 3) * 6


def test_window_lengths():
    assert [window_length(k, 4) for k in range(7)] == [1, 2, 3, 4, 4, 4, 4]
    assert [window_length(k, 4, 2) for k in range(9)] == [1, 2, 3, 4, 4, 3, 4, 3, 4]
    assert [window_length(k, 4, 4) for k in range(10)] == [1, 2, 3, 4, 4, 1, 2, 3, 4, 1]


@pytest.mark.parametrize("how", [{}, {"window": "hop", "hop": 5}, {"temperature": 1.0, "top_p": 0.9}])
def test_a_dance_is_the_same_in_any_company(how):
    """Ragged lengths, starts of several lengths, one locked half: alone, together, in another order."""
    gpt, config = lively_gpt(), GenerationConfig(seed=3, **how)
    music = [random_music(n, seed=n)[0] for n in (12, 40, 1, 25)]
    first = [Codes(torch.arange(n), torch.arange(n) + 1) for n in (1, 7, 1, 2)]
    lower = Codes(torch.full((12,), FREE), torch.arange(12) % 23)
    locked, keys = [lower, None, None, None], ["a", "b", "c", "d"]

    def together(order):
        chosen = ([things[i] for i in order] for things in (music, first, locked, keys))
        songs, starts, locks, names = chosen
        made = generate_all(gpt, songs, starts, config, torch.device("cpu"), locked=locks, keys=names)
        return dict(zip(order, made, strict=True))

    everything, some = together([0, 1, 2, 3]), together([3, 0])
    for i, dance in some.items():
        assert torch.equal(dance.upper, everything[i].upper)
        assert torch.equal(dance.lower, everything[i].lower)
    assert [len(everything[i].upper) for i in range(4)] == [12, 40, 1, 25]
    assert everything[1].upper[:7].tolist() == list(range(7))
    assert everything[0].lower[1:].tolist() == [i % 23 for i in range(1, 12)]
    assert everything[0].upper[1:].min() >= 0


def test_finished_dances_cost_nothing(monkeypatch):
    gpt, sizes = lively_gpt(), []
    next_logits = gpt.next_logits
    monkeypatch.setattr(gpt, "next_logits", lambda m, *more: sizes.append(len(m)) or next_logits(m, *more))
    songs = [random_music(n, seed=n)[0] for n in (3, 6, 2)]
    first = [Codes(torch.tensor([0]), torch.tensor([0]))] * 3
    generate_all(gpt, songs, first, GenerationConfig(window="hop", hop=2), torch.device("cpu"))
    assert sizes == [3, 2, 1, 1, 1]


def test_variants_differ_and_come_back():
    gpt, config = lively_gpt(), GenerationConfig(temperature=1.0)
    music, first = random_music(30).expand(3, -1, -1), start((0, 0), (0, 0), (0, 0))
    made = generate(gpt, music, first, config, keys=["song/0", "song/1", "song/0"])
    assert torch.equal(made.upper[0], made.upper[2])
    assert not torch.equal(made.upper[0], made.upper[1])


def test_locking_what_would_be_danced_anyway_changes_nothing():
    gpt, music, first = lively_gpt(), random_music(30), start((1, 2))
    for how in (GenerationConfig(), GenerationConfig(window="hop", hop=3)):
        free = generate(gpt, music, first, how)
        held = generate(gpt, music, first, how, locked=Codes(torch.full((1, 30), FREE), free.lower))
        assert torch.equal(held.upper, free.upper)
        seeded = generate(gpt, music, Codes(free.upper[:, :13], free.lower[:, :13]), how)
        assert torch.equal(seeded.upper, free.upper)
        assert torch.equal(seeded.lower, free.lower)


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


def test_bf16_is_close_and_leaves_the_gpt_alone():
    gpt, music = lively_gpt(), random_music(9)
    codes = Codes(torch.randint(31, (1, 9)), torch.randint(23, (1, 9)))
    exact, rough = gpt.next_logits(music, codes), in_precision(gpt, "bf16").next_logits(music, codes)
    for half in (0, 1):
        assert rough[half].dtype == torch.float32
        assert not torch.equal(rough[half], exact[half])
        assert (rough[half] - exact[half]).abs().max() < 0.05 * exact[half].std()
    assert all(p.dtype == torch.float32 for p in gpt.parameters())
    made = generate(gpt, random_music(30), start((1, 2)), GenerationConfig(precision="bf16", window="hop"))
    assert made.upper.shape == (1, 30)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_onednn_gives_the_same_numbers():
    gpt, music, first = lively_gpt(), random_music(9), start((1, 2))
    codes = Codes(torch.randint(31, (1, 9)), torch.randint(23, (1, 9)))
    with torch.no_grad():
        plain_, other = (in_precision(gpt, p).next_logits(music, codes) for p in ("fp32", "fp32_onednn"))
    for half in (0, 1):
        torch.testing.assert_close(other[half], plain_[half], rtol=1e-5, atol=1e-5)
    long = random_music(30)
    made = generate(gpt, long, first, GenerationConfig(precision="fp32_onednn", window="hop"))
    assert torch.equal(made.upper, generate(gpt, long, first, GenerationConfig(window="hop")).upper)


@pytest.mark.parametrize(
    ("first", "more", "message"),
    [
        (start((31, 0)), {}, "upper code 31 is not in the codebook of 31 codes"),
        (start((0, FREE)), {}, "must start from at least one lower code"),
        (Codes(*[torch.zeros(1, 6, dtype=torch.long)] * 2), {}, "no more than the song has steps, 5"),
        (start((0, 0)), {"locked": start((0, 0))}, r"locked codes must be \(1, 5\), got \(1, 1\)"),
        (start((0, 0)), {"lengths": [6]}, "lengths from 1 to 5"),
        (start((0, 0)), {"keys": []}, "1 keys"),
    ],
)
def test_refusals(first, more, message):
    with pytest.raises(ValueError, match=message):
        generate(lively_gpt(), random_music(5), first, **more)
