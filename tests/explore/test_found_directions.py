"""SeFa, PCA and boundaries on generators whose strongest directions are known."""

import pytest
import torch
from torch import nn

from gans.explore import directions
from gans.explore.boundary import of_classes, of_scores
from gans.explore.layers import first_activations, first_matrix, first_response
from gans.explore.pca import pca
from gans.explore.sefa import sefa
from gans.networks import concatenated, dcgan, mlp, r3gan, resnet

DIM = 12


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Ranked(nn.Module):
    """Pictures of 6x6 whose first layer answers to known orthogonal directions, each half as much as the one before."""

    def __init__(self):
        super().__init__()
        self.axes = torch.linalg.qr(torch.randn(DIM, DIM)).Q
        self.first, self.second = nn.Linear(DIM, 24), nn.Linear(24, 36)
        answers = torch.linalg.qr(torch.randn(24, DIM)).Q
        strengths = 2.0 ** -torch.arange(DIM)
        self.first.weight.data = answers @ (strengths[:, None] * self.axes.T)

    def forward(self, z):
        return torch.tanh(self.second(torch.tanh(self.first(z)))).view(-1, 1, 6, 6)


def test_sefa_finds_the_known_order():
    network = Ranked()
    found, strengths = sefa(network, torch.zeros(1, DIM), 5)
    assert (found @ network.axes)[:, :5].abs().diagonal().min() > 0.999
    assert strengths.tolist() == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625], rel=1e-4)
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_pca_finds_the_known_order():
    network = Ranked()
    found, shares = pca(network, torch.randn(4000, DIM), 3)
    cosines = (found @ network.axes).abs()
    assert cosines.argmax(1).tolist() == [0, 1, 2]
    assert cosines.max(1).values.min() > 0.95
    assert shares[0] > 2 * shares[1] > 4 * shares[2]


@pytest.mark.parametrize("method", ["sefa", "pca"])
def test_the_first_directions_change_pictures_more_than_random_ones(method):
    network = Ranked()
    z = torch.randn(64, DIM)
    found, _ = sefa(network, z, 1) if method == "sefa" else pca(network, torch.randn(2000, DIM), 1)
    assert directions.effect(network, z, found[0]) > 1.5 * directions.random_effect(network, z)
    weakest = sefa(network, z, DIM)[0][-1]
    assert directions.effect(network, z, weakest) < 0.2 * directions.random_effect(network, z)


def bound(network, labels):
    """Bind a class, as a user of a conditional model does."""

    class Bound(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, z):
            return self.network(z, torch.full((len(z),), 3)) if labels else self.network(z)

    return Bound().eval()


class LabelsFirst(nn.Module):
    """A layer of the labels comes before that of the latents, and after it they are added up."""

    def __init__(self):
        super().__init__()
        self.labels, self.latents, self.images = nn.Linear(5, 9), nn.Linear(DIM, 9), nn.Linear(9, 64)

    def forward(self, z, labels):
        told = self.labels(nn.functional.one_hot(labels, 5).float())
        return self.images(torch.relu(told + self.latents(z))).view(-1, 1, 8, 8)


class LabelsSecond(LabelsFirst):
    """The layer of the labels comes after that of the latents."""

    def forward(self, z, labels):
        read = self.latents(z)
        told = self.labels(nn.functional.one_hot(labels, 5).float())
        return self.images(torch.relu(told + read)).view(-1, 1, 8, 8)


NETWORKS = {
    "labels second": (LabelsSecond, True),
    "labels first": (LabelsFirst, True),
    "mlp": (lambda: mlp.Generator(DIM, 8, 1, 4), False),
    "dcgan": (lambda: dcgan.Generator(DIM, 16, 1, 4), False),
    "resnet": (lambda: resnet.Generator(DIM, 16, 1, 4), False),
    "resnet of classes": (lambda: resnet.Generator(DIM, 16, 1, 4, num_classes=5), True),
    "r3gan": (lambda: r3gan.Generator(DIM, 16, 1, **r3gan.SMALL), False),
    "r3gan of classes": (lambda: r3gan.Generator(DIM, 16, 1, **r3gan.SMALL, num_classes=5), True),
    "concatenated": (lambda: concatenated.Generator(DIM, 16, 1, 4, 5), True),
    "unit vectors": (lambda: concatenated.UnitVectors(dcgan.Generator(DIM + 5, 16, 1, 4), 5), True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_first_layers_of_every_architecture_are_found(name):
    make, labels = NETWORKS[name]
    network = bound(make(), labels)
    z = torch.randn(7, DIM)
    response, hidden = first_response(network, z), first_activations(network, z)
    assert len(response) == len(hidden) == 7
    assert hidden.std(0).max() > 0
    matrix = first_matrix(network, z[:1])
    assert matrix.shape == (response.shape[1], DIM)
    assert matrix.norm(dim=0).min() > 0
    torch.testing.assert_close(response[1:] - response[:1], (z[1:] - z[:1]) @ matrix.T, rtol=1e-3, atol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    for found, _ in (sefa(network, z, 2), pca(network, torch.randn(40, DIM), 2)):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_what_has_no_such_layer_is_refused():
    class Normalised(Ranked):
        def forward(self, z):
            return super().forward(z / z.norm(dim=1, keepdim=True).clamp(min=1e-3))

    class Bare(nn.Module):
        def forward(self, z):
            return z[:, :, None, None].sin()

    with pytest.raises(ValueError, match="is not linear in the latent"):
        sefa(Normalised(), torch.zeros(1, DIM), 1)
    with pytest.raises(ValueError, match="no linear or convolutional layer"):
        sefa(Bare(), torch.zeros(1, DIM), 1)
    with pytest.raises(ValueError, match=r"expected an nn\.Module"):
        sefa(torch.sin, torch.zeros(1, DIM), 1)
    for count in (0, DIM + 1):
        with pytest.raises(ValueError, match=f"count is {count}"):
            sefa(Ranked(), torch.zeros(1, DIM), count)
        with pytest.raises(ValueError, match=f"count is {count}"):
            pca(Ranked(), torch.randn(50, DIM), count)


def test_a_boundary_is_found_and_moves_another_classifier():
    z = torch.randn(3000, DIM)
    true = torch.zeros(DIM)
    true[0], true[4] = 0.6, -0.8
    found = of_scores(z, torch.tanh(z @ true + 0.1 * torch.randn(3000)))
    assert found.accuracy > 0.97
    assert found.normal @ true > 0.97
    assert found.normal.norm() == pytest.approx(1, abs=1e-5)
    weight = torch.randn(36, DIM) + torch.randn(DIM)

    def network(z):
        return torch.tanh(z @ weight.T / 4)

    brightness = of_scores(z, network(z).mean(1))
    # Another judge than the one that it was learnt from: the share of pixels that are light.
    shares = [float((network(z + step * brightness.normal) > 0.3).float().mean()) for step in range(-3, 4)]
    assert shares == sorted(shares)
    assert shares[-1] > shares[0] + 0.3


def test_rare_attributes_weigh_as_much_and_scales_of_latents_do_not_matter():
    z = torch.randn(2000, DIM) * 10 ** torch.linspace(-1, 1, DIM) + 5
    true = torch.eye(DIM)[2]
    found = of_classes(z, z[:, 2] > z[:, 2].quantile(0.95))
    assert found.accuracy > 0.9
    assert found.normal @ true > 0.9
    oblique = torch.zeros(DIM)
    oblique[1], oblique[3] = 0.8, 0.6
    assert of_classes(z, (z - 5) @ oblique > 0).normal @ oblique > 0.97
    with pytest.raises(ValueError, match="9 latents have the attribute"):
        of_classes(z, torch.arange(2000) < 9)
    with pytest.raises(ValueError, match="expected at least 10"):
        of_scores(z[:50], z[:50, 0])
