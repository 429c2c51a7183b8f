"""BigGAN's networks against the paper's layers written out, the authors' parameter counts, every size and refusal."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, softmax

from gans.networks import biggan
from gans.networks.spectral import spectral_layers

torch.set_num_threads(1)

CLASSES = 5


def awake(network):
    """Let no layer be hidden by zeros, and let running statistics be those of no layer."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim < 2 and tensor.is_floating_point() and not name.endswith(("_u", "_v")):
                tensor.copy_(torch.rand_like(tensor) + 0.3)
    return network.eval()


def built(deep, size=8, width=2, **options):
    torch.manual_seed(0)
    given = {"num_classes": CLASSES, "shared_dim": 3, **options}
    both = {"num_classes": given["num_classes"], "deep": deep, "attention": given.get("attention", ())}
    generator = biggan.Generator(13, size, 3, width, **{"deep": deep, **given})
    return awake(generator), awake(biggan.Discriminator(size, 3, width, **both))


def norm(layer, x, c):
    """BatchNorm with gains of 1 and more, from what the class and a part of the latent say."""
    mean, var = (stat[:, None, None] for stat in (layer.norm.running_mean, layer.norm.running_var))
    gain, bias = (c @ part.weight.T for part in (layer.gain, layer.bias))
    return (x - mean) / (var + 1e-5).sqrt() * (1 + gain)[:, :, None, None] + bias[:, :, None, None]


def up(x):
    return interpolate(x, scale_factor=2)


def attend(layer, x):
    """Every pixel asks all pixels, which are pooled over 2x2."""
    if not hasattr(layer, "gamma"):
        return x
    ask, key, value = layer.theta(x), *(torch.max_pool2d(part(x), 2) for part in (layer.phi, layer.g))
    weights = softmax(ask.flatten(2).mT @ key.flatten(2), -1)
    return x + layer.gamma * layer.output((value.flatten(2) @ weights.mT).view(len(x), -1, *x.shape[2:]))


def paper_generator(g, z, labels):
    """Figure 15 (BigGAN) and figure 16 (BigGAN-deep) of the paper: upsampling before the convolutions."""
    y = g.embedding.weight[labels]
    if g.deep:
        first, conditions = torch.cat([y, z], 1), [torch.cat([y, z], 1)] * len(g.blocks)
    else:
        first, *parts = z.tensor_split(len(g.blocks) + 1, dim=1)
        conditions = [torch.cat([y, part], 1) for part in parts]
    h = (first @ g.linear.weight.T + g.linear.bias).view(len(z), *g.base)
    for number, (block, attention, c) in enumerate(zip(g.blocks, g.attentions, conditions, strict=True)):
        x = h
        if g.deep:
            doubled = up if number % 2 else lambda maps: maps
            h = block.conv1(norm(block.norm1, h, c).relu())
            h = block.conv2(doubled(norm(block.norm2, h, c).relu()))
            h = block.conv3(norm(block.norm3, h, c).relu())
            h = block.conv4(norm(block.norm4, h, c).relu())
            h = h + doubled(x[:, : h.shape[1]])
        else:
            h = block.conv1(up(norm(block.norm1, h, c).relu()))
            h = block.conv2(norm(block.norm2, h, c).relu()) + block.shortcut(up(x))
        h = attend(attention, h)
    return torch.tanh(g.image(g.norm(h).relu()))


def paper_discriminator(d, images, labels, halvings, deep):
    h = d.stem(images)
    for number, (block, attention) in enumerate(zip(d.blocks, d.attentions, strict=True)):
        x = h
        stage, second = divmod(number, 2) if deep else (number, 0)
        pooled = (lambda maps: avg_pool2d(maps, 2)) if stage < halvings and not second else (lambda maps: maps)
        if deep:
            h = block.conv3(block.conv2(block.conv1(h.relu()).relu()).relu())
            h = block.conv4(pooled(h.relu()))
            x = pooled(x)
            x = x if x.shape[1] == h.shape[1] else torch.cat([x, block.shortcut(x)], 1)
        else:
            h = pooled(block.conv2(block.conv1(h if number == 0 else h.relu()).relu()))
            x = pooled(block.shortcut(x))
        h = attend(attention, h + x)
    h = h.relu().sum((2, 3))
    return h @ d.head.linear.weight[0] + d.head.linear.bias + (d.head.embedding.weight[labels] * h).sum(1)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("size", "width", "attention", "halvings"), [(32, 2, (), 2), (64, 1, (32,), 4)])
def test_networks_compute_the_papers_layers(deep, size, width, attention, halvings):
    generator, discriminator = (network.double() for network in built(deep, size, width, attention=attention))
    z, labels = torch.randn(2, 13).double(), torch.tensor([4, 0])
    with torch.no_grad():
        images = generator(z, labels)
        torch.testing.assert_close(images, paper_generator(generator, z, labels))
        expected = paper_discriminator(discriminator, images, labels, halvings, deep)
        torch.testing.assert_close(discriminator(images, labels), expected)
    assert images.std() > 0.1


# Of the authors' PyTorch code: pixels, deep, width, classes, latent_dim, shared_dim, and parameters of both networks.
COUNTS = [
    (32, False, 64, 10, 128, 0, (4_304_387, 4_207_361)),  # its script for CIFAR-10
    (128, False, 96, 1000, 120, 128, (70_433_988, 87_982_370)),
    (256, True, 128, 1000, 128, 128, (55_736_708, 38_247_426)),
]


@pytest.mark.parametrize(("size", "deep", "width", "classes", "latent_dim", "shared_dim", "counts"), COUNTS)
def test_parameter_counts_are_the_authors(monkeypatch, size, deep, width, classes, latent_dim, shared_dim, counts):
    monkeypatch.setattr(biggan, "normalise", lambda *_: None)  # it adds no parameter, and needs memory
    attention = biggan.attention_sides(size)
    with torch.device("meta"):
        options = {"num_classes": classes, "deep": deep, "attention": attention, "init": "normal"}
        generator = biggan.Generator(latent_dim, size, 3, width, shared_dim=shared_dim, split=shared_dim > 0, **options)
        discriminator = biggan.Discriminator(size, 3, width, **options)
    assert tuple(sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)) == counts


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("size", "channels"), [(2, 1), (30, 4), ((8, 20), 3)])
def test_any_size_and_channels(deep, size, channels):
    shape = (size, size) if isinstance(size, int) else size
    generator = biggan.Generator(9, size, channels, 1, deep=deep, init="normal")
    discriminator = biggan.Discriminator(size, channels, 1, deep=deep, init="normal")
    images = generator(torch.randn(2, 9))
    assert images.shape == (2, channels, *shape)
    assert discriminator(images).shape == (2,)


def test_each_block_has_its_part_of_the_latent():
    generator, _ = built(deep=False, size=32, width=1)
    assert generator.parts == [4, 3, 3, 3]
    inputs = [generator.linear.in_features, *(block.norm1.gain.in_features for block in generator.blocks)]
    assert inputs == [4, 6, 6, 6]
    z = torch.randn(1, 13)
    first, conditions = generator.inputs(z, torch.tensor([2]))
    assert torch.equal(torch.cat([first, *(condition[0][:, 3:] for condition in conditions)], 1), z)


def test_without_a_shared_embedding_each_layer_has_a_table_of_gains():
    generator, _ = built(deep=False, shared_dim=0, split=False)
    table = generator.blocks[0].norm1.gain.weight
    assert table.shape == (CLASSES, 8)
    z, labels = torch.randn(2, 13), torch.tensor([1, 1])
    before = generator(z, labels)
    with torch.no_grad():
        table[0] += 1
        assert torch.equal(generator(z, labels), before)
        table[1] += 1
        assert not torch.equal(generator(z, labels), before)


def test_without_classes_gains_depend_on_the_latent_alone_or_on_nothing():
    generator, _ = built(deep=False, num_classes=0)
    assert generator.embedding is None
    assert generator.blocks[0].norm1.gain.in_features == 6
    plain, _ = built(deep=False, num_classes=0, split=False)
    assert isinstance(plain.blocks[0].norm1, torch.nn.BatchNorm2d)
    assert plain.linear.in_features == 13


def test_weights_begin_orthogonal_and_all_layers_but_the_embedding_are_normed():
    generator, discriminator = (
        biggan.Generator(13, 8, 3, 2, 5, 3),
        biggan.Discriminator(8, 3, 2, num_classes=5),
    )
    for network, spectral in ((generator, 7 + 2), (discriminator, 4 * 2 + 1 + 2)):
        assert len(spectral_layers(network)) == spectral
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding):
                matrix = module.weight.flatten(1)
                matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
                torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)), rtol=0, atol=1e-4)
    assert not hasattr(generator.embedding, "parametrizations")
    assert hasattr(discriminator.head.embedding, "parametrizations")
    normal = biggan.Generator(13, 8, 3, 8, 5, 3, init="normal")
    assert normal.blocks[0].conv1.parametrizations.weight.original.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "size is 1x1; expected a shorter side from 2 to 1023"),
        ({"size": 1024}, "size is 1024x1024; expected a shorter side from 2 to 1023"),
        ({"channels": 2}, "channels is 2; expected 1"),
        ({"width": 0}, "width is 0; expected at least 1"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"init": "xavier"}, "init is 'xavier'; expected one of orthogonal, normal"),
        ({"attention": (32,)}, "attention is 32; expected a side from"),
    ],
)
def test_bad_values_are_refused_by_both_networks(options, message):
    given = {"size": 8, "channels": 3, "width": 2, **options}
    with pytest.raises(ValueError, match=message):
        biggan.Generator(13, **given)
    with pytest.raises(ValueError, match=message):
        biggan.Discriminator(**given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 1}, "latent_dim is 1; expected at least 2, a number for each part"),
        ({"num_classes": 4, "shared_dim": 0}, "shared_dim is 0; expected more with classes"),
        ({"deep": True, "split": False}, "split is false; expected true with BigGAN-deep"),
        ({"shared_dim": -1}, "shared_dim -1; expected 0 or more"),
    ],
)
def test_bad_values_are_refused_by_the_generator(options, message):
    with pytest.raises(ValueError, match=message):
        biggan.Generator(**{"latent_dim": 13, "size": 8, "channels": 3, "width": 2, **options})


def test_labels_and_images_that_are_wrong_are_refused():
    generator, discriminator = built(deep=False)
    with pytest.raises(ValueError, match="labels are missing"):
        generator(torch.randn(2, 13))
    with pytest.raises(ValueError, match="labels are 0 to 5; expected classes from 0 to 4"):
        discriminator(torch.randn(2, 3, 8, 8), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="images are 16x16; expected 8x8"):
        discriminator(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
