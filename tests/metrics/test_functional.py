"""Scores on features against closed forms, sums written out, and other implementations."""

import math

import pytest
import torch

from gans.metrics.functional import (
    authenticity,
    class_fid,
    fid,
    fid_infinity,
    inception_score,
    kid,
    kid_subsets,
    mode_counts,
    one_nn_accuracy,
    prdc,
    vendi,
)
from gans.metrics.moments import Gaussian


def normal(n, d=8, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- KID ---------------------------------------------------------------------------------------------------------------


def test_kid_by_hand():
    # D = 1: kernel (xy + 1)^3. Reals 0, 1: k = 1. Fakes 2, -1: k = -1. Across: 1 1 27 0.
    real, fake = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [-1.0]])
    assert kid(real, fake).item() == pytest.approx(1 - 1 - 2 * 29 / 4, rel=1e-14)


def test_kid_is_the_sum_over_all_pairs_of_different_samples():
    real, fake = normal(7), normal(5, seed=1) + 0.3

    def kernel(x, y):
        return (float(x @ y) / 8 + 1) ** 3

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    expected = (
        mean(kernel(x, y) for i, x in enumerate(real) for j, y in enumerate(real) if i != j)
        + mean(kernel(x, y) for i, x in enumerate(fake) for j, y in enumerate(fake) if i != j)
        - 2 * mean(kernel(x, y) for x in real for y in fake)
    )
    assert kid(real, fake).item() == pytest.approx(expected, rel=1e-12)


def test_kid_of_a_large_set_is_cut_into_blocks(monkeypatch):
    real, fake = normal(300), normal(211, seed=1)
    whole = kid(real, fake).item()
    monkeypatch.setattr("gans.metrics.functional.BLOCK", 1000)
    assert kid(real, fake).item() == pytest.approx(whole, rel=1e-12)


def test_kid_is_unbiased_and_not_scaled():
    values = torch.stack([kid(normal(50, seed=2 * i), normal(50, seed=2 * i + 1)) for i in range(200)])
    assert values.mean().abs() < 4 * values.std() / 200**0.5
    assert values.min() < 0
    assert 0.5 < kid(normal(500), normal(500, seed=1) + 0.5).item() < 2


def test_kid_agrees_with_others_on_all_samples():
    real, fake = normal(150, 64), normal(150, 64, seed=1) * 1.2
    value = kid(real.float(), fake.float()).item()
    fidelity = pytest.importorskip(
        "torch_fidelity.metric_kid", reason="torch_fidelity is not installed: the extra inception"
    )
    theirs = fidelity.kid_features_to_metric(real, fake, kid_subsets=1, kid_subset_size=150, verbose=False)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-5)
    torchmetrics = pytest.importorskip("torchmetrics.image.kid")
    theirs = torchmetrics.poly_mmd(real, fake).item()
    assert value == pytest.approx(theirs, abs=1e-5)


def test_subsets_are_seeded_and_clipped():
    real, fake = normal(60), normal(50, seed=1) + 0.2
    mean, std = kid_subsets(real, fake, subsets=30, subset_size=20, seed=4)
    assert (mean, std) == kid_subsets(real, fake, subsets=30, subset_size=20, seed=4)
    assert (mean, std) == kid_subsets(real, fake, 30, 20, seed=torch.Generator().manual_seed(4))
    assert mean != kid_subsets(real, fake, subsets=30, subset_size=20, seed=5)[0]
    assert 0 < std < 1
    assert mean.item() == pytest.approx(kid(real, fake).item(), abs=4 * std.item() / 30**0.5)
    whole = kid_subsets(real[:50], fake, subsets=3)  # 1000 of 50 are all 50
    assert [value.item() for value in whole] == pytest.approx([kid(real[:50], fake).item(), 0], abs=1e-12)
    assert kid_subsets(real, fake, subsets=1, subset_size=20)[1] == 0
    with pytest.raises(ValueError, match="subsets are 0 of 1000; expected at least 1 of 2"):
        kid_subsets(real, fake, subsets=0)


# -- Inception Score ---------------------------------------------------------------------------------------------------


def test_inception_score_of_certain_and_even_classes_is_their_number():
    for height in (200.0, 1e6):
        logits = height * (2 * torch.eye(3, 4).repeat(10, 1) - 1)  # the fourth class never occurs
        mean, std = inception_score(logits, splits=1)
        assert mean.item() == pytest.approx(3, abs=1e-9)
        assert std.item() == 0
        mean, std = inception_score(logits, splits=10)
        assert [mean.item(), std.item()] == pytest.approx([3, 0], abs=1e-9)


def test_inception_score_of_equal_predictions_is_one():
    mean, _ = inception_score(normal(1, 10).expand(20, -1), splits=4)
    assert mean.item() == pytest.approx(1, abs=1e-12)


def test_inception_score_is_the_exponential_of_mutual_information():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    q = p.mean(0)
    information = sum(float(p[i, c] * (p[i, c] / q[c]).log()) for i in range(3) for c in range(2)) / 3
    assert inception_score(p.log(), splits=1)[0].item() == pytest.approx(math.exp(information), rel=1e-12)


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score_equals_torch_fidelity(splits):
    fidelity = pytest.importorskip(
        "torch_fidelity.metric_isc", reason="torch_fidelity is not installed: the extra inception"
    )
    logits = 3 * normal(1003, 12)
    theirs = fidelity.isc_features_to_metric(logits, splits=splits, shuffle=False)
    mean, std = inception_score(logits, splits)
    assert mean.item() == pytest.approx(theirs["inception_score_mean"], abs=1e-9)
    assert std.item() == pytest.approx(theirs["inception_score_std"], abs=1e-9)


def test_inception_score_refuses_what_it_cannot_split():
    with pytest.raises(ValueError, match="splits is 10; expected 1 to 9, the number of samples"):
        inception_score(normal(9))
    with pytest.raises(ValueError, match="logits contain NaN or infinity at row 2"):
        inception_score(normal(9).index_fill(0, torch.tensor(2), torch.inf), 1)


# -- FID extrapolated and by class -------------------------------------------------------------------------------------


def test_fid_infinity_removes_the_bias_of_few_fakes():
    """Fakes of the same distribution: their FID is bias alone, the intercept is near 0."""
    real = Gaussian(10**9, torch.zeros(16), torch.eye(16))
    fake = normal(2000, 16)
    biased, value = fid(real, fake).item(), fid_infinity(real, fake).item()
    assert biased > 0.04
    assert abs(value) < 0.25 * biased
    assert fid_infinity(real, fake, seed=1).item() not in (value, biased)
    assert fid_infinity(real, fake, seed=0).item() == value
    assert fid_infinity(normal(3000, 16, 5), fake).item() == pytest.approx(0.04, abs=0.03)  # the bias of the reals


def test_fid_infinity_is_the_intercept_of_a_line(monkeypatch):
    sizes = []

    def linear(real, fake):
        sizes.append(len(fake))
        return torch.tensor(2.5 + 30 / len(fake), dtype=torch.float64)

    monkeypatch.setattr("gans.metrics.functional.fid", linear)
    assert fid_infinity(normal(100), normal(1000), points=4).item() == pytest.approx(2.5, rel=1e-12)
    assert sizes == [100, 400, 700, 1000]


def test_fid_infinity_needs_a_line():
    with pytest.raises(ValueError, match="points is 1; a line needs at least 2"):
        fid_infinity(normal(100), normal(100), points=1)
    with pytest.raises(ValueError, match="fake features have 19 rows; expected at least 20"):
        fid_infinity(normal(100), normal(19))


def test_class_fid_sees_mixed_up_labels():
    real, labels = normal(300), torch.arange(300) % 3
    real = real + 5 * labels[:, None]
    same = class_fid(real, labels, real, labels)
    swapped = class_fid(real, labels, real, (labels + 1) % 3)
    assert same.mean < 1e-6
    assert fid(real, real) < 1e-6
    assert swapped.mean > 100
    expected = {c: fid(real[labels == c], real[labels == (c + 2) % 3]).item() for c in range(3)}
    assert {label: value.item() for label, value in swapped.classes.items()} == pytest.approx(expected)
    assert swapped.mean.item() == pytest.approx(sum(expected.values()) / 3)


def test_class_fid_names_the_class_that_lacks_samples():
    labels = torch.tensor([0, 0, 0, 4, 4])
    with pytest.raises(ValueError, match="class 4 has 2 real and 1 fake samples; expected at least 2 of each"):
        class_fid(normal(5), labels, normal(5), torch.tensor([0, 0, 0, 0, 4]))
    with pytest.raises(ValueError, match="class 7 has 0 real and 2 fake samples"):
        class_fid(normal(5), labels, normal(7), torch.tensor([0, 0, 7, 7, 0, 4, 4]))
    with pytest.raises(ValueError, match=r"fake labels have shape \(4,\); expected \(5,\)"):
        class_fid(normal(5), labels, normal(5), labels[:4])


# -- diversity ---------------------------------------------------------------------------------------------------------


def test_vendi_counts_directions():
    for n, d in [(12, 4), (12, 30)]:
        basis = torch.eye(d)[:4].repeat(n // 4, 1) * torch.arange(1, n + 1)[:, None]  # lengths do not count
        assert vendi(basis).item() == pytest.approx(4, rel=1e-10)
    assert vendi(torch.ones(5, 3)).item() == pytest.approx(1, rel=1e-10)
    # Two thirds in one direction, one third in another: the exponential entropy of (2/3, 1/3).
    expected = math.exp(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3))
    assert vendi(torch.tensor([[1.0, 0], [2.0, 0], [0, 1]])).item() == pytest.approx(expected, rel=1e-10)
    with pytest.raises(ValueError, match="features are all zero at row 1"):
        vendi(torch.tensor([[1.0], [0.0]]))


def test_vendi_is_the_same_by_samples_and_by_features():
    features = normal(20, 30)
    unit = features / features.norm(dim=1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(unit @ unit.T / 20)
    expected = (-(eigenvalues * eigenvalues.log()).sum()).exp().item()
    assert vendi(features).item() == pytest.approx(expected, rel=1e-9)
    padded = torch.cat([features, torch.zeros(20, 30)], 1)
    assert vendi(padded).item() == pytest.approx(expected, rel=1e-9)


def test_modes_are_counted_and_compared():
    labels = torch.tensor([0, 0, 1, 3])
    found = mode_counts(labels, 4)
    assert found.modes == 3
    assert found.kl.item() == pytest.approx(math.log(4) - 1.5 * math.log(2), rel=1e-12)  # log K - entropy
    assert mode_counts(torch.arange(40) % 4, 4) == (4, 0)
    assert mode_counts(labels, 4, reference=torch.tensor([4, 2, 0, 2])).kl.item() == pytest.approx(0, abs=1e-15)
    assert mode_counts(labels, 4, reference=torch.tensor([1.0, 0, 0, 0])).kl == math.inf
    logits = torch.nn.functional.one_hot(labels, 4).float() - 0.5
    assert mode_counts(logits, 4) == found


@pytest.mark.parametrize(
    ("predictions", "reference", "sentence"),
    [
        (torch.tensor([0, 4]), None, "labels reach from 0 to 4; expected 0 to 3"),
        (torch.tensor([0.0, 1.0]), None, r"predictions have shape \(2,\); expected logits \(N, 4\) or integers"),
        (torch.zeros(3, 5), None, r"predictions have shape \(3, 5\)"),
        (torch.tensor([0]), torch.ones(3), r"reference has shape \(3,\) or bad values; expected 4 counts"),
        (torch.tensor([0]), -torch.ones(4), "bad values"),
    ],
)
def test_bad_predictions_are_refused(predictions, reference, sentence):
    with pytest.raises(ValueError, match=sentence):
        mode_counts(predictions, 4, reference)


# -- all of them -------------------------------------------------------------------------------------------------------

SCORES = {
    "fid": fid,
    "fid_infinity": fid_infinity,
    "kid": kid,
    "kid_subsets": lambda real, fake: kid_subsets(real, fake, 3, 30)[0],
    "inception_score": lambda real, fake: inception_score(fake)[0],
    "prdc": lambda real, fake: prdc(real, fake).density,
    "vendi": lambda real, fake: vendi(fake),
    "authenticity": authenticity,
    "one_nn_accuracy": one_nn_accuracy,
}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_scores_are_float64_scalars_of_any_float_and_leave_everything_alone(score):
    real, fake = normal(60, dtype=torch.float32).half().requires_grad_(), normal(60, seed=1, dtype=torch.bfloat16)
    kept = fake.clone()
    before = torch.get_rng_state()
    value = score(real, fake)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(kept, fake)
    assert (value.dtype, value.shape, value.requires_grad) == (torch.float64, (), False)
    assert value.isfinite()
    assert score(real.double(), fake.double()) == value


@pytest.mark.parametrize("score", [fid, kid, kid_subsets, authenticity, one_nn_accuracy, prdc])
def test_bad_features_are_refused(score):
    good = normal(20)
    broken = good.clone()
    broken[3, 2] = torch.nan
    for real, fake, sentence in [
        (good, broken, "fake features contain NaN or infinity at row 3"),
        (broken, good, "real features contain NaN or infinity at row 3"),
        (good, normal(20, 5), "real features have 8 columns and fake features 5; expected the same"),
        (good[:1], good[:1], "real features have 1 rows; expected at least 2"),
        (good.unflatten(1, (2, 4)), good, r"real features have shape \(20, 2, 4\); expected \(N, D\)"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            score(real, fake)
