"""Grouped convolutions whose second derivative is a few operations.

The double backward of PyTorch's convolution computes the gradient of the weights group by group. These are 96
convolutions for a layer of R3GAN, and 768 for a depthwise one. A gradient penalty needs it in every step.

A convolution C(x, w) is linear in its input x and in its weights w. With T for its transpose and W for the gradient of
the weights, its derivatives are these three again:

- C(x, w) with the gradient g: x gets T(g, w), and w gets W(g, x).
- T(g, w) with the gradient v: g gets C(v, w), and w gets W(g, v).
- W(g, x) with the gradient v: g gets C(x, v), and x gets T(g, v).
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]


class Options(NamedTuple):
    """Arguments of a 2D convolution."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


def plain() -> bool:
    """Return whether PyTorch's own convolution serves: in graphs that it compiles or traces, and without gradients."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return True
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """Return `torch.nn.functional.conv2d` of `x` `(N, C, H, W)`, with derivatives of every order in few operations.

    The weights are `(K, C / groups, h, w)`, the bias `(K,)`.
    """
    if plain():
        return F.conv2d(x, weight, bias, *options)
    # The gradient of the weights has a node of its own, because a penalty needs that of the input alone. Autograd skips
    # nodes whose results are not needed, but not single results of a node.
    of_weights = OfWeights.apply(weight, bias, (x,), options)
    return cast(Tensor, Convolution.apply(x, weight, bias, of_weights, options))


def transposed(g: Tensor, weight: Tensor, options: Options, size: Pair) -> Tensor:
    """Return the transpose of `convolve` of maps of this `size`, `(N, C, H, W)`, for `g` `(N, K, h, w)`."""
    if plain():
        return transpose(g, weight, options, size)
    return cast(Tensor, Transposed.apply(g, weight, options, size))


def transpose(g: Tensor, weight: Tensor, options: Options, size: Pair) -> Tensor:
    """Return what `transposed` does, with PyTorch's derivatives."""
    stride, padding, dilation, groups = options
    left = [
        full - ((small - 1) * step - 2 * border + spread * (kernel - 1) + 1)
        for full, small, kernel, step, border, spread in zip(
            size, g.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return F.conv_transpose2d(g, weight, None, stride, padding, left, groups, dilation)


class Convolution(torch.autograd.Function):
    """C(x, w) plus a bias, and its gradient with respect to x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, of_weights: Tensor, options: Options
    ) -> Tensor:
        """Return the convolution. `of_weights` passes the gradient on to `OfWeights`."""
        ctx.save_for_backward(weight)
        ctx.options, ctx.size = options, tuple(x.shape[2:])
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the arguments."""
        (g,), (weight,) = gradients, ctx.saved_tensors
        of_input = transposed(g, weight, ctx.options, ctx.size) if ctx.needs_input_grad[0] else None
        return of_input, None, None, g, None


class OfWeights(torch.autograd.Function):
    """The gradient of a convolution with respect to weights and bias."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, inputs: tuple[Tensor], options: Options) -> Tensor:
        """Return a tensor without values, of the shape of the convolution.

        The input is in a tuple, so that the gradient with respect to it does not need this node.
        """
        (x,) = inputs
        ctx.save_for_backward(x, weight)
        ctx.options = options
        shape = [
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, padding, dilation in zip(x.shape[2:], weight.shape[2:], *options[:3], strict=True)
        ]
        return x.new_empty(()).expand(len(x), len(weight), *shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the arguments."""
        (g,), (x, weight) = gradients, ctx.saved_tensors
        of_weight = WeightGradient.apply(g, x, (weight,), ctx.options) if ctx.needs_input_grad[0] else None
        return of_weight, g.sum((0, 2, 3)) if ctx.needs_input_grad[1] else None, None, None


class Transposed(torch.autograd.Function):
    """T(g, w)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, options: Options, size: Pair) -> Tensor:
        """Return maps of this `size`."""
        ctx.save_for_backward(g, weight)
        ctx.options = options
        return transpose(g, weight, options, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the arguments."""
        (v,), (g, weight) = gradients, ctx.saved_tensors
        of_g = convolve(v, weight, None, ctx.options) if ctx.needs_input_grad[0] else None
        of_weight = WeightGradient.apply(g, v, (weight,), ctx.options) if ctx.needs_input_grad[1] else None
        return of_g, of_weight, None, None


class WeightGradient(torch.autograd.Function):
    """W(g, x)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, like: tuple[Tensor], options: Options) -> Tensor:
        """Return the gradient of weights `like` these."""
        ctx.save_for_backward(g, x)
        ctx.options, (stride, padding, dilation, groups) = options, options
        mask = [False, True, False]
        gradients = torch.ops.aten.convolution_backward(
            g, x, like[0].detach(), None, stride, padding, dilation, False, [0, 0], groups, mask
        )
        return cast(Tensor, gradients[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to the arguments."""
        (v,), (g, x) = gradients, ctx.saved_tensors
        of_g = convolve(x, v, None, ctx.options) if ctx.needs_input_grad[0] else None
        of_x = transposed(g, v, ctx.options, tuple(x.shape[2:])) if ctx.needs_input_grad[1] else None
        return of_g, of_x, None, None


class GroupedConv2d(nn.Conv2d):
    """`nn.Conv2d` by `convolve`, padded with zeros. Its weights have the same names."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of maps `(N, C, H, W)`."""
        x, weight, bias = input, self.weight, self.bias
        if torch.is_autocast_enabled(x.device.type):  # which does not look inside `convolve`
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        options = (self.stride, self.padding, self.dilation)
        # The type is a string because PyTorch's compiler cannot subscript one.
        return convolve(x, weight, bias, Options(*cast("tuple[Pair, Pair, Pair]", options), self.groups))
