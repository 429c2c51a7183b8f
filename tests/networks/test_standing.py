"""Standing statistics against BatchNorm in training mode, and that networks stay as they are."""

import copy

import torch
from torch import nn

from gans.networks.standing import standing_statistics, using

torch.set_num_threads(1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()


def test_they_are_the_means_of_the_statistics_of_training_and_the_network_is_unchanged():
    trained = network()
    batches = [torch.randn(5, 2, 6, 6) * scale for scale in (1, 2, 3)]
    learner = copy.deepcopy(trained).train()
    for layer in (learner[1], learner[4]):
        layer.momentum = None  # a plain mean over batches
    for batch in batches:
        learner(batch)
    before = copy.deepcopy(trained.state_dict())
    found = standing_statistics(trained, ((batch,) for batch in batches))
    for layer, features, (mean, variance) in zip((learner[1], learner[4]), (80, 80), found, strict=True):
        torch.testing.assert_close(mean, layer.running_mean)
        torch.testing.assert_close(variance, layer.running_var * (features - 1) / features)
    with torch.no_grad(), using(trained, found):
        expected = copy.deepcopy(trained)
        assert not torch.equal(trained[1].running_var, before["1.running_var"])
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(expected[1].running_mean, found[0][0])
    assert not any(part._forward_pre_hooks for part in trained.modules())


def test_a_batch_normalised_by_its_own_statistics_is_that_of_training_mode():
    trained, batch = network(), torch.randn(7, 2, 6, 6)
    with torch.no_grad(), using(trained, standing_statistics(trained, [(batch,)])):
        standing = trained(batch)
    torch.testing.assert_close(standing, trained.train()(batch), rtol=1e-4, atol=1e-5)
