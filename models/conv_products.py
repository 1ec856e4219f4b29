"""Convolutions along time as matrix products, for the matrix units of a GPU.

cuDNN's 1-D convolutions reorder their operands around every call, and its repeatable algorithms for the
weights' gradients do not use the matrix units. Here a convolution of (B, T, C) is one product over the k
steps that each output depends on, and so are its gradients; a transposed convolution is its adjoint.
Tensors are (B, C, 1, T) in the channels-last layout, which in memory is (B, T, C).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable


def time_major(x: Tensor) -> Tensor:
    """(B, C, 1, T) -> (B, T, C), a view."""
    return x.squeeze(2).transpose(1, 2)


def empty_like(x: Tensor, channels: int, length: int) -> Tensor:
    """A tensor (B, channels, 1, length) in the channels-last layout."""
    shape = (len(x), channels, 1, length)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def unfold(x: Tensor, k: int, stride: int, padding: int, dilation: int) -> Tensor:
    """The columns (B*T', C*k) of a convolution of x (B, T, C): the k steps that each output depends on.

    The k steps of a channel lie together, as in the weights of a convolution (C', C, k), which therefore need
    no reordering.
    """
    batch, length, channels = x.shape
    if k == 1 and stride == 1 and padding == 0:
        return x.reshape(-1, channels)
    outputs = (length + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    x = F.pad(x, (0, 0, padding, padding)).contiguous()
    strides = (x.stride(0), stride * channels, 1, dilation * channels)
    return x.as_strided((batch, outputs, channels, k), strides).reshape(-1, channels * k)


def unfold_backwards(x: Tensor, k: int, padding: int, dilation: int) -> Tensor:
    """The columns (B*T, k*C) of a convolution of x (B, T, C) with its taps in reverse order.

    The channels of a step lie together. padding is that of the convolution whose gradient is computed.
    """
    length, margin = x.shape[1], dilation * (k - 1) - padding
    x = F.pad(x, (0, 0, margin, margin))
    length += 2 * margin - dilation * (k - 1)
    steps = [x[:, dilation * tap : dilation * tap + length] for tap in reversed(range(k))]
    return torch.cat(steps, -1).flatten(0, 1)


def fold(columns: Tensor, batch: int, k: int, stride: int, padding: int) -> Tensor:
    """The adjoint of `unfold` without dilation: columns (B*T', C*k) -> (B, T, C), T = T' * stride.

    k must be 2 * stride and padding stride / 2, as in the convolutions that halve and double time.
    """
    assert k == 2 * stride == 4 * padding, (k, stride, padding)
    pairs = columns.view(batch, -1, columns.shape[1] // k, 2, stride).permute(3, 0, 1, 4, 2)
    early, late = pairs  # (B, T', stride, C) each: the first and the second half of the taps
    sums = F.pad(early, (0, 0, 0, 0, 0, 1))
    sums[:, 1:] += late
    return sums.flatten(1, 2)[:, padding : padding + early.shape[1] * stride]


class ConvProduct(torch.autograd.Function):
    """Convolution of x (B, C, 1, T): weight (C', C, k), bias (C',) -> (B, C', 1, T')."""

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.bfloat16)
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, dilation: int
    ) -> Tensor:
        outputs, inputs, k = weight.shape
        columns = unfold(time_major(x), k, stride, padding, dilation)
        y = empty_like(x, outputs, len(columns) // len(x))
        rows = time_major(y).view(-1, outputs)
        torch.addmm(bias, columns, weight.view(outputs, inputs * k).T, out=rows)
        ctx.save_for_backward(columns, weight)
        ctx.sizes = stride, padding, dilation
        return y

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cuda")
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]  # noqa: D102
        (grad,) = grads
        columns, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.sizes
        outputs, inputs, k = weight.shape
        grad = time_major(grad)
        rows = grad.reshape(-1, outputs)
        grad_weight = (rows.T @ columns).view(outputs, inputs, k)
        grad_x = None
        if ctx.needs_input_grad[0]:
            if stride == 1:
                back = unfold_backwards(grad, k, padding, dilation)
                found = back @ weight.permute(2, 0, 1).reshape(k * outputs, inputs)
                found = found.view(len(grad), -1, inputs)
            else:
                back = rows @ weight.view(outputs, inputs * k)
                found = fold(back, len(grad), k, stride, padding)
            grad_x = found.transpose(1, 2).unsqueeze(2)
        return grad_x, grad_weight, rows.sum(0), None, None, None


class TransposedConvProduct(torch.autograd.Function):
    """Transposed convolution of x (B, C, 1, T): weight (C, C', k), bias (C',) -> (B, C', 1, T * stride)."""

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.bfloat16)
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        inputs, outputs, k = weight.shape
        rows = time_major(x).reshape(-1, inputs)
        columns = rows @ weight.view(inputs, outputs * k)
        y = empty_like(x, outputs, x.shape[-1] * stride)
        torch.add(fold(columns, len(x), k, stride, padding), bias, out=time_major(y))
        ctx.save_for_backward(rows, weight)
        ctx.sizes = stride, padding
        return y

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cuda")
    def backward(ctx: Any, *grads: Any) -> Any:  # type: ignore[override]  # noqa: D102
        (grad,) = grads
        rows, weight = ctx.saved_tensors
        stride, padding = ctx.sizes
        inputs, outputs, k = weight.shape
        columns = unfold(time_major(grad), k, stride, padding, 1)
        grad_weight = (rows.T @ columns).view(inputs, outputs, k)
        found = columns @ weight.view(inputs, outputs * k).T
        grad_x = found.view(len(grad), -1, inputs).transpose(1, 2).unsqueeze(2)
        return grad_x, grad_weight, time_major(grad).sum((0, 1)), None, None
