"""Dropout with cheap draws: its rate, its scale, its gradient, and attention beside PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from models.blocks import Dropout, attend, cheap_dropout
from models.masks import cross_conditional_mask


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_rate_and_scale(rate):
    torch.manual_seed(0)
    x = torch.ones(400, 501)  # an odd number of elements does not divide into words
    y = cheap_dropout(x, rate)
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
    kept = (cheap_dropout(torch.ones(200_000, 8), 0.5) != 0).float()
    between = torch.corrcoef(kept.T) - torch.eye(8)
    assert float(between.abs().max()) < 5 / 200_000**0.5


def test_gradient_goes_where_values_went():
    torch.manual_seed(2)
    x = torch.randn(64, 96, requires_grad=True)
    y = cheap_dropout(x, 0.2)
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
    mask = cross_conditional_mask(7)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.equal(attend(query, key, value, mask), expected)
    monkeypatch.setattr("models.blocks.cheap_dropout", lambda x, rate: x)
    torch.testing.assert_close(attend(query, key, value, mask, 0.2), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        attend(query, key, value, None, 0.2),
        F.scaled_dot_product_attention(query, key, value),
        rtol=0,
        atol=1e-12,
    )


def test_attention_drops_weights_and_keeps_the_mean():
    torch.manual_seed(5)
    query, key, value = torch.randn(3, 1, 1, 6, 4, dtype=torch.float64).unbind()
    expected = F.scaled_dot_product_attention(query, key, value)
    many = attend(*(x.expand(20_000, 1, 6, 4) for x in (query, key, value)), None, 0.2)
    assert not torch.allclose(many[0], many[1])
    spread = many.std(0) / len(many) ** 0.5
    assert float(((many.mean(0) - expected[0]).abs() / spread).max()) < 5
