"""Convolutions as matrix products: values and gradients are those of PyTorch's convolutions."""

import pytest
import torch
import torch.nn.functional as F

from models import conv
from models.conv import ConvConfig, Decoder, Encoder, use_channels_last
from models.conv_products import ConvProduct, TransposedConvProduct, fold, unfold

# kernel, stride, padding, dilation: all that encoders and decoders have
CONVOLUTIONS = [(1, 1, 0, 1), (3, 1, 1, 1), (3, 1, 3, 3), (3, 1, 9, 9), (4, 2, 1, 1)]


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]


def laid_out(x):
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def same(ours, theirs, leaves):
    torch.testing.assert_close(ours.squeeze(2), theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.autograd.grad((theirs * weights).sum(), leaves)
    found = torch.autograd.grad((ours.squeeze(2) * weights).sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("k", "stride", "padding", "dilation"), CONVOLUTIONS)
@pytest.mark.parametrize("length", [8, 24])
def test_convolutions(k, stride, padding, dilation, length):
    x, weight, bias = leaves = tensors((3, 5, length), (7, 5, k), (7,))
    ours = ConvProduct.apply(laid_out(x), weight, bias, stride, padding, dilation)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    same(ours, F.conv1d(x, weight, bias, stride, padding, dilation), leaves)


@pytest.mark.parametrize("length", [1, 8, 15])
def test_transposed_convolutions(length):
    x, weight, bias = leaves = tensors((3, 5, length), (5, 7, 4), (7,))
    ours = TransposedConvProduct.apply(laid_out(x), weight, bias, 2, 1)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    same(ours, F.conv_transpose1d(x, weight, bias, 2, 1), leaves)


def test_fold_is_the_adjoint_of_unfold():
    x, columns = tensors((2, 12, 3), (2 * 6, 4 * 3))
    torch.testing.assert_close((unfold(x, 4, 2, 1, 1) * columns).sum(), (fold(columns, 2, 4, 2, 1) * x).sum())


def test_gradients_by_differences():
    leaves = tensors((2, 2, 6), (3, 2, 3), (3,))

    def convolved(x, weight, bias):
        return ConvProduct.apply(laid_out(x), weight, bias, 1, 1, 1)

    assert torch.autograd.gradcheck(convolved, leaves)


def test_networks_of_products(monkeypatch):
    """Encoder and decoder as a GPU computes them, in-place activations included."""
    torch.manual_seed(0)
    config = ConvConfig(width=12, downsamplings=2, depth=2)
    model = torch.nn.Sequential(Encoder(9, 6, config), Decoder(9, 6, config)).double().train()
    pose = torch.randn(2, 9, 16, dtype=torch.float64)

    def gradients():
        model.zero_grad()
        made = model(pose)
        made.square().sum().backward()
        return [made.detach(), *(p.grad.clone() for p in model.parameters())]

    expected = gradients()
    use_channels_last(model, True)
    monkeypatch.setattr(conv, "uses_products", lambda x: True)
    for a, b in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
