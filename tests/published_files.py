"""Files in the layouts of published checkpoints, with random weights, and the networks that their authors describe.

The networks are written out from names and weights, so that a map to ours is compared with something independent of it.
"""

import pickle
import sys
import types

import torch
from torch import nn
from torch.nn import functional as F

# -- Mimicry -----------------------------------------------------------------------------------------------------------


def weight(name, *shape, norm=None, bias=True):
    """A layer's tensors by name: without a spectral norm, with PyTorch's, or with Mimicry's own."""
    found = {f"{name}.bias": torch.randn(shape[0]) / 4} if bias else {}
    matrix = torch.randn(shape) / 4
    if norm == "torch":
        vectors = {f"{name}.weight_u": torch.randn(shape[0]), f"{name}.weight_v": torch.randn(matrix[0].numel())}
        return found | {f"{name}.weight_orig": matrix, **{k: F.normalize(v, dim=0) for k, v in vectors.items()}}
    own = {f"{name}.sn_u": F.normalize(torch.randn(1, shape[0])), f"{name}.sn_sigma": torch.ones(1)}
    return found | {f"{name}.weight": matrix, **(own if norm == "own" else {})}


def statistics(name, width):
    count = torch.tensor(3)
    return {
        f"{name}.running_mean": torch.randn(width) / 4,
        f"{name}.running_var": torch.rand(width) + 0.5,
        f"{name}.num_batches_tracked": count,
    }


def attention_weights(width, norm):
    found = {"attn_block.gamma": torch.tensor(0.7)}
    for name, outputs, inputs in (("theta", 8, 1), ("phi", 8, 1), ("g", 2, 1), ("o", 1, 2)):
        found |= weight(f"attn_block.{name}", width // outputs, width // inputs, 1, 1, norm=norm, bias=False)
    return found


def net_g(classes=0, norm=None, attention=False, width=8, latent_dim=4, levels=3):
    """Weights of a generator for images of 4 x 2^levels pixels, of the same width everywhere."""
    torch.manual_seed(0)
    found = weight("l1", 16 * width, latent_dim, norm=norm)
    for number in range(2, levels + 2):
        for name, side in (("c1", 3), ("c2", 3), ("c_sc", 1)):
            found |= weight(f"block{number}.{name}", width, width, side, side, norm=norm)
        for name in (f"block{number}.b1", f"block{number}.b2"):
            if classes:
                found |= statistics(f"{name}.bn", width) | {f"{name}.embed.weight": torch.randn(classes, 2 * width)}
            else:
                found |= statistics(name, width) | weight(name, width)
    last = levels + 2
    found |= statistics(f"b{last}", width) | weight(f"b{last}", width) | weight(f"c{last}", 3, width, 3, 3, norm=norm)
    return found | (attention_weights(width, norm) if attention else {})


def net_d(classes=0, norm="torch", attention=False, width=8, head="torch"):
    """Weights of a discriminator for images of 32 pixels."""
    torch.manual_seed(1)
    found = weight("l5", 1, width, norm=norm and head)
    found |= weight("l_y", classes, width, norm=head, bias=False) if classes else {}
    for number, inputs in ((1, 3), (2, width), (3, width), (4, width)):
        for name, side, before in (("c1", 3, inputs), ("c2", 3, width), ("c_sc", 1, inputs)):
            if name != "c_sc" or number < 3:
                found |= weight(f"block{number}.{name}", width, before, side, side, norm=norm)
    return found | (attention_weights(width, norm) if attention else {})


def normed(held, name):
    """A layer's weight as its forward pass in evaluation mode uses it."""
    if f"{name}.weight_orig" in held:
        matrix = held[f"{name}.weight_orig"]
        return matrix / (held[f"{name}.weight_u"] @ matrix.flatten(1) @ held[f"{name}.weight_v"])
    matrix = held[f"{name}.weight"]
    if f"{name}.sn_u" not in held:
        return matrix
    flat = matrix.flatten(1)
    v = F.normalize(held[f"{name}.sn_u"] @ flat)
    return matrix / (F.normalize(v @ flat.T) @ flat @ v.T)


def convolved(held, name, x):
    return F.conv2d(x, normed(held, name), held.get(f"{name}.bias"), padding=normed(held, name).shape[-1] // 2)


def batch_normed(held, name, x, y):
    if y is None or f"{name}.embed.weight" not in held:
        return F.batch_norm(x, *(held[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))
    gain, bias = held[f"{name}.embed.weight"][y][:, :, None, None].chunk(2, 1)
    return gain * F.batch_norm(x, held[f"{name}.bn.running_mean"], held[f"{name}.bn.running_var"]) + bias


def attended(held, x):
    theta, phi, g = (convolved(held, f"attn_block.{name}", x) for name in ("theta", "phi", "g"))
    phi, g = F.max_pool2d(phi, 2).flatten(2), F.max_pool2d(g, 2).flatten(2)
    shares = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi, -1)
    mixed = (g @ shares.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
    return x + held["attn_block.gamma"] * convolved(held, "attn_block.o", mixed)


def images_of(held, z, y=None, levels=3):
    """Images of Mimicry's generator: bilinear upsampling, then a convolution, on both paths."""

    def double(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = F.linear(z, normed(held, "l1"), held["l1.bias"]).view(len(z), -1, 4, 4)
    for number in range(2, levels + 2):
        block = f"block{number}"
        h = convolved(held, f"{block}.c1", double(batch_normed(held, f"{block}.b1", x, y).relu()))
        h = convolved(held, f"{block}.c2", batch_normed(held, f"{block}.b2", h, y).relu())
        x = h + convolved(held, f"{block}.c_sc", double(x))
        if "attn_block.gamma" in held and number == 3:
            x = attended(held, x)
    last = levels + 2
    return torch.tanh(convolved(held, f"c{last}", batch_normed(held, f"b{last}", x, None).relu()))


def logits_of(held, x, y=None, pool="sum"):
    """Logits of Mimicry's discriminator: the shortcut of all blocks but the first reads rectified features."""
    for number in range(1, 5):
        block = f"block{number}"
        x = x if number == 1 else x.relu()
        h = convolved(held, f"{block}.c2", convolved(held, f"{block}.c1", x).relu())
        x = F.avg_pool2d(h + convolved(held, f"{block}.c_sc", x), 2) if number < 3 else h + x
        if "attn_block.gamma" in held and number == 2:
            x = attended(held, x)
    features = getattr(x.relu(), pool)((2, 3))
    found = F.linear(features, normed(held, "l5"), held["l5.bias"]).squeeze(1)
    return found if y is None else found + (normed(held, "l_y")[y] * features).sum(1)


def write(path, held):
    """Write weights as Mimicry's trainer does."""
    torch.save({"model_state_dict": held, "optimizer_state_dict": None, "global_step": 7}, path)
    return path


# -- pickles of modules ------------------------------------------------------------------------------------------------


class Tree(nn.Module):
    """A module with the parameters and buffers of a state dict, in submodules by their names."""

    def __init__(self, held, kinds=nn.Module, buffers=()):
        super().__init__()
        names = {name.partition(".")[0] for name in held}
        for name in sorted(names):
            if name in held:
                if name in buffers:
                    self.register_buffer(name, held[name])
                else:
                    self.register_parameter(name, nn.Parameter(held[name]))
            else:
                below = {key.partition(".")[2]: value for key, value in held.items() if key.startswith(f"{name}.")}
                self.add_module(name, type(self)(below, kinds, buffers))


def module_named(monkeypatch, module, name, base=Tree):
    """A class that pickles name as `module.name`, though no such code is installed."""
    parent = module.partition(".")[0]
    for part in {parent, module}:
        monkeypatch.setitem(sys.modules, part, sys.modules.get(part) or types.ModuleType(part))
    kind = type(name, (base,), {"__module__": module, "__qualname__": name})
    monkeypatch.setattr(sys.modules[module], name, kind, raising=False)
    return kind


def write_pickle(path, content, protocol=None):
    path.write_bytes(pickle.dumps(content, protocol))
    return path
