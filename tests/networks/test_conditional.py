"""What classes do: BatchNorm class by class, heads against their formulas, labels that are none."""

import pytest
import torch
from torch import nn

from gans.networks.conditional import (
    AuxiliaryHead,
    ConditionalBatchNorm2d,
    EmbeddingHead,
    PlainHead,
    ProjectionHead,
    make_head,
)
from gans.networks.conditional import check_labels as check

torch.set_num_threads(1)
LABELS = torch.tensor([2, 0, 2, 1, 0])


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_scales_and_shifts_by_class(training):
    torch.manual_seed(0)
    norm = ConditionalBatchNorm2d(3, 4).train(training)
    nn.init.normal_(norm.bias.weight)
    norm.norm.running_mean.normal_()
    norm.norm.running_var.uniform_(0.5, 2)
    features = torch.randn(5, 3, 4, 4) * 3 + 1
    mean, variance = norm.norm.running_mean.clone(), norm.norm.running_var.clone()
    if training:
        mean, variance = features.mean((0, 2, 3)), features.var((0, 2, 3), correction=0)
    expected = torch.empty_like(features)
    for n, label in enumerate(LABELS.tolist()):
        for c in range(3):
            whitened = (features[n, c] - mean[c]) / (variance[c] + 1e-5).sqrt()
            expected[n, c] = norm.gain.weight[label, c] * whitened + norm.bias.weight[label, c]
    torch.testing.assert_close(norm(features, LABELS), expected)


def test_batch_norm_starts_around_the_identity_and_learns_the_classes_it_sees():
    torch.manual_seed(0)
    norm = ConditionalBatchNorm2d(200, 10)
    assert norm.gain.weight.mean().item() == pytest.approx(1, abs=0.002)
    assert norm.gain.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert norm.bias.weight.abs().sum() == 0
    norm(torch.randn(5, 200, 2, 2), LABELS).square().sum().backward()
    for table in (norm.gain, norm.bias):
        assert (table.weight.grad.abs().sum(1) > 0).tolist() == 3 * [True] + 7 * [False]


def test_batch_norm_becomes_synchronised_as_any_other():
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(ConditionalBatchNorm2d(3, 2))
    assert isinstance(converted.norm, nn.SyncBatchNorm)


def test_batch_norm_keeps_half_precision():
    features = torch.randn(5, 3, 4, 4, dtype=torch.bfloat16)
    assert ConditionalBatchNorm2d(3, 4)(features, LABELS).dtype == torch.bfloat16


def test_plain_head_is_linear():
    head, features = PlainHead(6), torch.randn(5, 6)
    torch.testing.assert_close(head(features), (features * head.linear.weight[0]).sum(1) + head.linear.bias[0])
    assert head.linear.bias == 0


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_projection_adds_the_inner_product_with_the_class(spectral_norm):
    torch.manual_seed(0)
    head = ProjectionHead(6, 4, spectral_norm).eval()
    nn.init.normal_(head.linear.bias)
    features = torch.randn(5, 6)
    logits = head(features, LABELS)
    assert logits.shape == (5,)
    for n, label in enumerate(LABELS.tolist()):
        expected = (
            head.linear.weight[0] @ features[n] + head.linear.bias[0] + head.embedding.weight[label] @ features[n]
        )
        torch.testing.assert_close(logits[n], expected)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_auxiliary_head_guesses_the_class_besides(spectral_norm):
    head, features = AuxiliaryHead(6, 4, spectral_norm).eval(), torch.randn(5, 6)
    logits, classes = head(features)
    torch.testing.assert_close(logits, features @ head.linear.weight[0] + head.linear.bias)
    torch.testing.assert_close(classes, features @ head.classifier.weight.T + head.classifier.bias)
    assert classes.shape == (5, 4)
    assert torch.equal(head(features, LABELS)[0], logits)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_embedding_head_embeds_images_and_their_classes(spectral_norm):
    head, features = EmbeddingHead(6, 4, 3, spectral_norm).eval(), torch.randn(5, 6)
    output = head(features, LABELS)
    torch.testing.assert_close(output.logits, features @ head.linear.weight[0] + head.linear.bias)
    torch.testing.assert_close(output.embeddings, features @ head.embed.weight.T + head.embed.bias)
    assert torch.equal(output.proxies, head.proxies.weight[LABELS])
    assert torch.equal(head(features, LABELS.roll(1)).logits, output.logits)
    with pytest.raises(ValueError, match="labels are missing"):
        head(features, None)


@pytest.mark.parametrize(("kind", "count"), [("projection", 2), ("auxiliary", 2), ("embedding", 3)])
def test_spectral_norm_covers_every_layer_of_a_head(kind, count):
    torch.manual_seed(0)
    head = make_head(64, 10, kind, spectral_norm=True)
    for _ in range(50):
        head(torch.randn(5, 64), LABELS)
    layers = [module for module in head.modules() if isinstance(module, nn.Linear | nn.Embedding)]
    assert len(layers) == count
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_heads_by_name():
    assert isinstance(make_head(6, 4, "projection", False), ProjectionHead)
    assert isinstance(make_head(6, 4, "auxiliary", False), AuxiliaryHead)
    assert isinstance(make_head(6, 0, "auxiliary", False), PlainHead)
    assert make_head(6, 4, "embedding", False, 7).embed.out_features == 7
    assert isinstance(make_head(6, 0, "embedding", False), PlainHead)
    with pytest.raises(ValueError, match="head is 'concat'; expected projection, auxiliary or embedding"):
        make_head(6, 4, "concat", False)


def test_labels_that_are_right_pass():
    check(None, 5, 0)
    check(LABELS, 5, 3)
    check(LABELS.int(), 5, 3)
    check(LABELS[:0], 0, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels are missing; expected a class from 0 to 2 for each sample"),
        (torch.tensor([0, 1, 3]), "labels are 0 to 3; expected classes from 0 to 2"),
        (torch.tensor([0, -1, 2]), "labels are -1 to 2; expected classes from 0 to 2"),
        (torch.tensor([0.0, 1.0, 2.0]), r"labels are torch.float32 of shape \(3,\); expected integers"),
        (torch.tensor([True, False, True]), "labels are torch.bool"),
        (torch.tensor([0, 1]), r"labels are torch.int64 of shape \(2,\); .* of shape \(3,\)"),
        (torch.tensor([[0], [1], [2]]), r"labels are torch.int64 of shape \(3, 1\)"),
    ],
)
def test_labels_that_are_wrong_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check(labels, 3, 3)
    with pytest.raises(ValueError, match=message):
        ProjectionHead(6, 3)(torch.randn(3, 6), labels)


def test_a_network_without_classes_refuses_labels():
    with pytest.raises(ValueError, match="labels were given to a network without classes; expected None"):
        PlainHead(6)(torch.randn(5, 6), LABELS)


def test_the_range_is_not_looked_at_on_other_devices():
    check(torch.zeros(3, dtype=torch.int64, device="meta"), 3, 3)  # whose values cannot be read at all
