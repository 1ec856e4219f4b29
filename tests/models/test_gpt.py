"""Parts of the motion GPT: cheap dropout, attention beside PyTorch's, masks, KV cache, old config keys."""

import pytest
import torch
import torch.nn.functional as F

from models.gpt import Dropout, GPTConfig, MotionGPT, attend, attention_bias, attention_mask, fast_dropout
from models.vqvae import Codes
from utils.config import ConfigError, check


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_rate_and_scale(rate):
    torch.manual_seed(0)
    x = torch.ones(400, 501)  # an odd number of elements does not divide into words
    y = fast_dropout(x, rate)
    rounded = round(256 * rate) / 256
    kept = y != 0
    deviation = (rate * (1 - rate) / x.numel()) ** 0.5
    assert abs(float((~kept).float().mean()) - rounded) < 5 * deviation
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - rounded)))
    for axis in (0, 1):  # no row or column is treated otherwise
        shares = kept.float().mean(axis)
        assert float(shares.std()) < 1.3 * (rate * (1 - rate) / x.shape[axis]) ** 0.5


def test_bytes_of_a_word_are_independent():
    torch.manual_seed(1)
    kept = (fast_dropout(torch.ones(200_000, 8), 0.5) != 0).float()
    between = torch.corrcoef(kept.T) - torch.eye(8)
    assert float(between.abs().max()) < 5 / 200_000**0.5


def test_gradient_goes_where_values_went():
    torch.manual_seed(2)
    x = torch.randn(64, 96, requires_grad=True)
    y = fast_dropout(x, 0.2)
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)
    assert torch.allclose(x.grad[y != 0], torch.tensor(256 / 205))


def test_only_in_training_and_from_the_global_generator():
    layer = Dropout(0.2)
    x = torch.randn(5, 7)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)


def test_attention_is_pytorchs(monkeypatch):
    torch.manual_seed(4)
    query, key, value = torch.randn(3, 2, 4, 21, 8, dtype=torch.float64).unbind()
    mask = attention_mask(7)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    bias = attention_bias(mask, query)
    assert torch.equal(attend(query, key, value, bias), expected)
    monkeypatch.setattr("models.gpt.fast_dropout", lambda x, rate: x)
    torch.testing.assert_close(attend(query, key, value, bias, 0.2), expected, rtol=0, atol=1e-12)


def test_the_bias_has_the_type_of_products():
    mask = attention_mask(2)
    bias = attention_bias(mask, torch.zeros(1))
    assert bias.dtype == torch.float32
    assert torch.equal(bias == 0, mask)
    assert torch.isneginf(bias[~mask]).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert attention_bias(mask, torch.zeros(1)).dtype == torch.bfloat16


def test_attention_drops_weights_and_keeps_the_mean():
    torch.manual_seed(5)
    query, key, value = torch.randn(3, 1, 1, 6, 4, dtype=torch.float64).unbind()
    expected = F.scaled_dot_product_attention(query, key, value)
    many = attend(*(x.expand(20_000, 1, 6, 4) for x in (query, key, value)), torch.zeros(6, 6), 0.2)
    assert not torch.allclose(many[0], many[1])
    spread = many.std(0) / len(many) ** 0.5
    assert float(((many.mean(0) - expected[0]).abs() / spread).max()) < 5


def lively_gpt(cross_conditional=True, context=9):
    """Large weights, so that logits depend on everything that is attended to."""
    torch.manual_seed(0)
    sizes = {"width": 32, "heads": 4, "base_blocks": 2, "head_blocks": 2, "context": context}
    gpt = MotionGPT(GPTConfig(**sizes, cross_conditional=cross_conditional), (31, 23), 6)
    for parameter in gpt.parameters():
        parameter.data.mul_(6 if parameter.ndim > 1 else 1)
    return gpt.eval()


def random_input(batch, steps):
    codes = Codes(*(torch.randint(size, (batch, steps)) for size in (31, 23)))
    return torch.randn(batch, steps, 6), codes


@pytest.mark.parametrize("crossed", [True, False])
def test_mask_is_that_of_the_paper(crossed):
    """A row attends to its past: of all streams, or of the music and its own stream."""
    mask, t = attention_mask(4, crossed), 4
    for row in range(3 * t):
        for column in range(3 * t):
            visible = column % t <= row % t and (crossed or column // t in (0, row // t))
            assert mask[row, column] == visible, (row, column)


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [4, 1, 1, 3], [2, 7]], ids=str)
@pytest.mark.parametrize("crossed", [True, False])
@torch.no_grad()
def test_cached_logits_equal_those_of_one_pass(crossed, chunks):
    """Chunks of any size give all logits of the whole window, and those of the last step where asked."""
    gpt, (music, codes) = lively_gpt(crossed), random_input(2, 9)
    whole, caches, start = gpt(music, codes), (gpt.new_cache(2), gpt.new_cache(2)), 0
    for chunk in chunks:
        part = slice(start, start + chunk)
        new = music[:, part], Codes(*(half[:, part] for half in codes))
        logits, last = gpt(*new, caches[0]), gpt(*new, caches[1], last_only=True)
        start += chunk
        assert int(caches[0].length) == start
        for made, final, expected in zip(logits, last, whole, strict=True):
            torch.testing.assert_close(made, expected[:, part], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(final, expected[:, start - 1 : start], rtol=1e-4, atol=1e-4)
    last = gpt(music, codes, last_only=True)
    torch.testing.assert_close(last.upper, whole.upper[:, -1:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_cleared_cache_is_as_new_and_a_full_one_refuses():
    gpt, (music, codes) = lively_gpt(), random_input(2, 9)
    cache = gpt.new_cache(2)
    gpt(music + 5, codes, cache)
    with pytest.raises(IndexError):
        gpt(music[:, :1], Codes(codes.upper[:, :1], codes.lower[:, :1]), cache)
    cache.clear()
    cache = cache.first(1)
    short = music[:1, :4], Codes(codes.upper[:1, :4], codes.lower[:1, :4])
    assert torch.equal(gpt(*short, cache).upper, gpt(*short, gpt.new_cache(1)).upper)


def test_too_many_codes_and_unequal_steps_are_refused():
    gpt = lively_gpt(context=5)
    with pytest.raises(ValueError, match="6 codes need 6 music steps and a context of at least 6"):
        gpt(*random_input(1, 6))
    music, codes = random_input(1, 4)
    with pytest.raises(ValueError, match="got 3 music steps"):
        gpt(music[:, :3], codes)


def test_the_former_key_of_excluded_features_is_read(caplog):
    caplog.set_level("INFO")
    content = {"normalise_music": True, "unheard": ["tempogram"]}
    assert check(GPTConfig, content, "old.pt").excluded_features == ("tempogram",)
    assert "old.pt: the key unheard is now excluded_features" in caplog.text
    with pytest.raises(ConfigError, match="excluded_features need normalise_music: true"):
        check(GPTConfig, {"unheard": ["tempogram"]}, "old.pt")
