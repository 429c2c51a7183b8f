"""Files in the layout of the pix2pix and CycleGAN repository, with random weights, and its networks written out."""

import torch
from torch.nn import functional as F

STATISTICS = ("running_mean", "running_var")


def conv(name, after, before, side, bias):
    found = {f"{name}.weight": torch.randn(after, before, side, side) / (side * before**0.5)}
    return found | ({f"{name}.bias": torch.randn(after) / 4} if bias else {})


def norm(name, width, kind):
    if kind == "old instance":  # as PyTorch 0.3 wrote it
        return {f"{name}.{part}": torch.ones(width) for part in STATISTICS}
    if kind != "batch":
        return {}
    found = {f"{name}.weight": 1 + torch.randn(width) / 4, f"{name}.bias": torch.randn(width) / 4}
    found |= {f"{name}.running_mean": torch.randn(width) / 4, f"{name}.running_var": torch.rand(width) + 0.5}
    return found | {f"{name}.num_batches_tracked": torch.tensor(3)}


def unet(kind, width=2, depth=5, given=1):
    torch.manual_seed(0)
    biased = "instance" in kind
    found = conv("model.model.0", width, given, 4, biased) | conv("model.model.3", 2 * width, 3, 4, False)
    found["model.model.3.bias"] = torch.randn(3) / 4
    place, widths = "model.model.1", [width * min(2**level, 8) for level in range(depth)]
    for level in range(1, depth):
        before, after = widths[level - 1 : level + 1]
        deepest = level == depth - 1
        found |= conv(f"{place}.model.1", after, before, 4, biased)
        up = 3 if deepest else 5
        # Weights of a transposed convolution begin with its inputs.
        found |= conv(f"{place}.model.{up}", after * (2 - deepest), before, 4, False)
        found |= {f"{place}.model.{up}.bias": torch.randn(before)} if biased else {}
        found |= norm(f"{place}.model.{up + 1}", before, kind) | (
            {} if deepest else norm(f"{place}.model.2", after, kind)
        )
        place += ".model.3"
    return found


def residual(kind, width=2, blocks=2, given=1, made=3, dropout=0):
    torch.manual_seed(0)
    biased, found, places = "instance" in kind, {}, []
    places += [("model.1", width, given, 7), ("model.4", 2 * width, width, 3), ("model.7", 4 * width, 2 * width, 3)]
    for block in range(blocks):
        places += [(f"model.{10 + block}.conv_block.{n}", 4 * width, 4 * width, 3) for n in (1, 5 + dropout)]
    end = 10 + blocks
    places += [(f"model.{end}", 4 * width, 2 * width, 3), (f"model.{end + 3}", 2 * width, width, 3)]
    for name, after, before, side in places:
        found |= conv(name, after, before, side, False)
        after = before if name in (f"model.{end}", f"model.{end + 3}") else after
        found |= {f"{name}.bias": torch.randn(after)} if biased else {}
        found |= norm(behind(name), after, kind)
    return found | conv(f"model.{end + 7}", made, width, 7, True)


def critic(kind, channels, width=2):
    torch.manual_seed(1)
    biased, found, before = "instance" in kind, conv("model.0", width, channels, 4, True), width
    for index, after in ((2, 2 * width), (5, 4 * width), (8, 8 * width)):
        found |= conv(f"model.{index}", after, before, 4, biased) | norm(f"model.{index + 1}", after, kind)
        before = after
    return found | conv("model.11", 1, before, 4, True)


def behind(name):
    before, _, number = name.rpartition(".")
    return f"{before}.{int(number) + 1}"


def convolved(held, name, x, stride=1, padding=0, up=False, running=False, last=False):
    """A convolution and the norm behind it, in training mode unless `running`."""
    weight, bias = held[f"{name}.weight"], held.get(f"{name}.bias")
    if up:
        x = F.conv_transpose2d(x, weight, bias, 2, 1, output_padding=weight.shape[-1] % 2)
    else:
        x = F.conv2d(x, weight, bias, stride, padding)
    after = behind(name)
    if last:
        return x
    if f"{after}.weight" not in held:
        return x if bias is None else F.instance_norm(x)
    statistics = [held[f"{after}.{part}"].clone() for part in STATISTICS]
    return F.batch_norm(x, *statistics, held[f"{after}.weight"], held[f"{after}.bias"], training=not running)


def of_unet(held, x, running=False, place="model.model", top=True):
    if f"{place}.0.weight" in held:
        inner = convolved(held, f"{place}.0", x, 2, 1, last=True)
        inner = of_unet(held, inner, running, f"{place}.1.model", False)
        return convolved(held, f"{place}.3", inner.relu(), up=True, last=True).tanh()
    x = F.leaky_relu(x, 0.2)
    if f"{place}.5.weight" not in held:
        inner = convolved(held, f"{place}.1", x, 2, 1, last=True).relu()
        return torch.cat([x, convolved(held, f"{place}.3", inner, up=True, running=running)], 1)
    inner = convolved(held, f"{place}.1", x, 2, 1, running=running)
    inner = of_unet(held, inner, running, f"{place}.3.model", False)
    return torch.cat([x, convolved(held, f"{place}.5", inner.relu(), up=True, running=running)], 1)


def of_residual(held, x, running=False, dropout=0):
    blocks = sum(name.endswith(".conv_block.1.weight") for name in held)
    end = 10 + blocks
    x = convolved(held, "model.1", F.pad(x, [3] * 4, "reflect"), running=running).relu()
    for name in ("model.4", "model.7"):
        x = convolved(held, name, x, 2, 1, running=running).relu()
    for block in range(blocks):
        name = f"model.{10 + block}.conv_block"
        inner = convolved(held, f"{name}.1", F.pad(x, [1] * 4, "reflect"), running=running).relu()
        x = x + convolved(held, f"{name}.{5 + dropout}", F.pad(inner, [1] * 4, "reflect"), running=running)
    for name in (f"model.{end}", f"model.{end + 3}"):
        x = convolved(held, name, x, up=True, running=running).relu()
    return convolved(held, f"model.{end + 7}", F.pad(x, [3] * 4, "reflect"), last=True).tanh()


def of_critic(held, x, running=False):
    for number, index in enumerate((0, 2, 5, 8)):
        x = convolved(held, f"model.{index}", x, 2 if number < 3 else 1, 1, running=running, last=not index)
        x = F.leaky_relu(x, 0.2)
    return convolved(held, "model.11", x, padding=1, last=True)


def write(path, held):
    torch.save(held, path)
    return path


def near(found, wanted):
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
