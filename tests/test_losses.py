"""Objectives against closed forms in float64 numpy, written here from the papers and not from the code."""

import numpy as np
import pytest
import torch

from gans.losses import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
    conditional_contrastive,
    data_to_data,
    info_nce,
    objective,
)

NAMES = {
    "minimax": Minimax,
    "nonsaturating": NonSaturating,
    "least_squares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic": Relativistic,
    "relativistic_average": RelativisticAverage,
}
LOSSES = list(NAMES.values())


def log_sigmoid(x):
    """log(1 / (1 + exp(-x))), exact for any x: the exponent is never positive."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


DISCRIMINATOR = {
    Minimax: lambda a, b: -log_sigmoid(a).mean() - log_sigmoid(-b).mean(),
    NonSaturating: lambda a, b: -log_sigmoid(a).mean() - log_sigmoid(-b).mean(),
    LeastSquares: lambda a, b: ((a - 1) ** 2).mean() / 2 + (b**2).mean() / 2,
    Hinge: lambda a, b: np.maximum(0, 1 - a).mean() + np.maximum(0, 1 + b).mean(),
    Wasserstein: lambda a, b: b.mean() - a.mean(),
    Relativistic: lambda a, b: -log_sigmoid(a - b).mean(),
    RelativisticAverage: lambda a, b: -(log_sigmoid(a - b.mean()).mean() + log_sigmoid(a.mean() - b).mean()) / 2,
}
GENERATOR = {
    Minimax: lambda a, b: log_sigmoid(-b).mean(),
    NonSaturating: lambda a, b: -log_sigmoid(b).mean(),
    LeastSquares: lambda a, b: ((b - 1) ** 2).mean() / 2,
    Hinge: lambda a, b: -b.mean(),
    Wasserstein: lambda a, b: -b.mean(),
    Relativistic: lambda a, b: -log_sigmoid(b - a).mean(),
    RelativisticAverage: lambda a, b: -(log_sigmoid(b - a.mean()).mean() + log_sigmoid(b.mean() - a).mean()) / 2,
}


def logits(scale=3.0, shape=(37,), dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale for _ in range(2))
    return (real + 0.5).to(dtype), (fake - 0.5).to(dtype)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("shape", [(37,), (1,), (5, 1, 3, 3)])
def test_both_sides_are_the_closed_form(loss, scale, shape):
    real, fake = logits(scale, shape)
    for value, reference in [
        (loss().discriminator(real, fake), DISCRIMINATOR[loss](real.numpy(), fake.numpy())),
        (loss().generator(real, fake), GENERATOR[loss](real.numpy(), fake.numpy())),
    ]:
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(reference, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_closed_form(loss):
    real, fake = logits()
    # Central differences; no logit lies within 1e-6 of the hinge's corners.
    for side, reference in [("discriminator", DISCRIMINATOR[loss]), ("generator", GENERATOR[loss])]:
        a, b = real.clone().requires_grad_(), fake.clone().requires_grad_()
        gradients = torch.autograd.grad(getattr(loss(), side)(a, b), [a, b], allow_unused=True)
        for which, gradient in enumerate(gradients):
            slope = np.zeros(len(real))
            for row in range(len(real)):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = [real.numpy().copy(), fake.numpy().copy()]
                    moved[which][row] += step
                    ends.append(reference(*moved))
                slope[row] = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(slope, 0 if gradient is None else gradient.numpy(), atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [20.0, 200.0, 1e6])
def test_big_logits_of_either_sign_stay_finite(loss, sign, size):
    real = torch.full((4,), sign * size, requires_grad=True)
    fake = torch.full((4,), -sign * size, requires_grad=True)
    for value, reference in [
        (loss().discriminator(real, fake), DISCRIMINATOR[loss]),
        (loss().generator(real, fake), GENERATOR[loss]),
    ]:
        gradients = torch.autograd.grad(value, [real, fake], allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
        exact = reference(real.detach().double().numpy(), fake.detach().double().numpy())
        assert value.item() == pytest.approx(exact, rel=1e-6, abs=1e-7)


def test_the_minimax_generator_loses_its_gradient_where_the_non_saturating_one_does_not():
    fake = torch.full((8,), -30.0, requires_grad=True)  # the discriminator is sure
    saturated, kept = (
        torch.autograd.grad(loss.generator(None, fake), fake)[0] for loss in (Minimax(), NonSaturating())
    )
    assert saturated.abs().max() < 1e-12
    torch.testing.assert_close(kept, torch.full((8,), -1 / 8))
    # Both still push the logit upwards where the game is even, and equally hard.
    even = torch.zeros(8, requires_grad=True)
    first, second = (torch.autograd.grad(loss.generator(None, even), even)[0] for loss in (Minimax(), NonSaturating()))
    torch.testing.assert_close(first, second)
    assert (first < 0).all()


def test_at_zero_logits_the_discriminator_pays_two_log_two():
    zero = torch.zeros(5, dtype=torch.float64)
    assert Minimax().discriminator(zero, zero).item() == pytest.approx(2 * np.log(2), rel=1e-15)
    assert Relativistic().discriminator(zero, zero).item() == pytest.approx(np.log(2), rel=1e-15)


def test_the_zero_sum_games_sum_to_zero_in_the_fake_logits():
    real, fake = logits()
    real = torch.zeros_like(real)
    for loss, constant in [(Minimax(), np.log(2)), (Wasserstein(), 0.0)]:
        total = loss.discriminator(real, fake) + loss.generator(real, fake)
        assert total.item() == pytest.approx(constant, abs=1e-12)


def test_the_hinge_stops_beyond_its_margin_and_its_generator_does_not():
    real = torch.tensor([1.5, 0.5], requires_grad=True)
    fake = torch.tensor([-1.5, -0.5], requires_grad=True)
    gradients = torch.autograd.grad(Hinge().discriminator(real, fake), [real, fake])
    assert [gradient.tolist() for gradient in gradients] == [[0, -0.5], [0, 0.5]]
    assert torch.autograd.grad(Hinge().generator(None, fake), fake)[0].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not issubclass(loss, Relativistic)])
def test_only_relativistic_generators_look_at_real_logits(loss):
    real, fake = logits()
    assert loss().generator(None, fake) == loss().generator(real, fake)


def test_relativistic_compares_pairs_and_nothing_but_their_difference():
    real, fake = logits()
    loss = Relativistic()
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake))
    assert loss.generator(fake, real) == loss.discriminator(real, fake)
    assert loss.discriminator(real, fake.flip(0)) != loss.discriminator(real, fake)


def test_the_relativistic_average_takes_any_two_batches_and_their_difference():
    real, fake = logits()
    loss = RelativisticAverage()
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake))
    torch.testing.assert_close(loss.discriminator(real, fake.flip(0)), loss.discriminator(real, fake))
    assert loss.discriminator(real, fake[:5]).isfinite()


def test_relativistic_needs_real_logits_of_the_same_shape():
    real, fake = logits()
    for loss in (Relativistic(), RelativisticAverage()):
        with pytest.raises(ValueError, match="give the logits of real images"):
            loss.generator(None, fake)
    for side in ("discriminator", "generator"):
        with pytest.raises(ValueError, match=r"\(37,\).*pairs need one shape|\(37, 1\).*pairs need one shape"):
            getattr(Relativistic(), side)(real.unsqueeze(1), fake)  # would broadcast to 37 x 37 pairs


@pytest.mark.parametrize("loss", [Minimax, NonSaturating])
@pytest.mark.parametrize("smoothing", [0.1, 0.3])
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_smoothing_is_cross_entropy_with_a_smaller_target(loss, smoothing, scale):
    real, fake = logits(scale)
    a, b = real.numpy(), fake.numpy()
    expected = -((1 - smoothing) * log_sigmoid(a) + smoothing * log_sigmoid(-a)).mean() - log_sigmoid(-b).mean()
    assert loss(smoothing).discriminator(real, fake).item() == pytest.approx(expected, rel=1e-12)
    targets = torch.full_like(real, 1 - smoothing)
    reference = torch.nn.functional.binary_cross_entropy_with_logits(real, targets)
    reference += torch.nn.functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    assert loss(smoothing).discriminator(real, fake).item() == pytest.approx(reference.item(), rel=1e-12)


@pytest.mark.parametrize("loss", [Minimax, NonSaturating, LeastSquares])
def test_smoothing_is_one_sided(loss):
    real, fake = logits()
    assert loss(0.2).generator(None, fake) == loss().generator(None, fake)
    plain, smooth = (
        torch.autograd.grad(loss(s).discriminator(real, x), x)[0]
        for s in (0.0, 0.2)
        for x in [fake.clone().requires_grad_()]
    )
    assert torch.equal(plain, smooth)
    assert torch.equal(loss(0.0).discriminator(real, fake), loss().discriminator(real, fake))
    big = torch.full((4,), 1e6)  # now certainty costs
    assert loss(0.2).discriminator(big, -big) > loss().discriminator(big, -big)


@pytest.mark.parametrize(("loss", "best"), [(Minimax, np.log(9)), (NonSaturating, np.log(9)), (LeastSquares, 0.9)])
def test_smoothing_has_its_best_real_logit_at_the_target(loss, best):
    real = torch.tensor([best], dtype=torch.float64, requires_grad=True)  # log 9: where the sigmoid is 0.9
    value = loss(0.1).discriminator(real, torch.zeros(1, dtype=torch.float64))
    assert torch.autograd.grad(value, real)[0].item() == pytest.approx(0, abs=1e-12)
    for step in (-0.1, 0.1):
        assert loss(0.1).discriminator(real + step, torch.zeros(1, dtype=torch.float64)) > value


def test_smoothed_least_squares_is_the_closed_form():
    real, fake = logits()
    expected = ((real.numpy() - 0.7) ** 2).mean() / 2 + (fake.numpy() ** 2).mean() / 2
    assert LeastSquares(0.3).discriminator(real, fake).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_lies_between_nothing_and_all(smoothing):
    for name in ("minimax", "nonsaturating", "least_squares"):
        with pytest.raises(ValueError, match=f"smoothing is {smoothing}; expected a number from 0 to below 1"):
            objective(name, smoothing)


def test_recipes_smooth_only_what_has_a_target():
    for name in ("minimax", "nonsaturating", "least_squares"):
        assert objective(name, smoothing=0.1).smoothing == 0.1
        assert objective(name).smoothing == 0
    for name in ("hinge", "wasserstein", "relativistic", "relativistic_average"):
        objective(name, smoothing=0.0)
        with pytest.raises(ValueError, match=f"smoothing is 0.1; expected 0, because {name} has no target"):
            objective(name, smoothing=0.1)


@pytest.mark.parametrize(("name", "loss"), NAMES.items())
def test_every_objective_has_its_name(name, loss):
    assert type(objective(name)) is loss


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(ValueError, match="objective is 'hing'; expected one of ") as error:
        objective("hing")
    assert all(name in str(error.value) for name in NAMES)


@pytest.mark.parametrize(
    ("loss", "right"),
    [
        (Minimax(), [True, False, False, True]),
        (NonSaturating(), [True, False, False, True]),
        (LeastSquares(), [False, False, True, True]),  # between 0 for fake and 1 for real
        (Hinge(), [True, False, False, True]),
        (LeastSquares(0.8), [True, False, False, True]),  # between 0 and 0.2
        (NonSaturating(0.3), [True, True, False, False]),  # 0.7 / (2 - 0.7) is exp(-0.62)
        (Wasserstein(), [True, False]),  # by pairs
        (Relativistic(), [True, False]),
        (RelativisticAverage(), [True, False, False, True]),  # averages are 0.05 on both sides
    ],
)
def test_which_logits_are_on_the_right_side(loss, right):
    assert loss.right(torch.tensor([0.4, -0.3]), torch.tensor([0.2, -0.1])).tolist() == right


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("loss", [Minimax, NonSaturating, LeastSquares])
def test_the_boundary_is_the_best_logit_where_real_and_fake_are_as_likely(loss, smoothing):
    loss = loss(smoothing)
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], lr=0.5, max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        value = loss.discriminator(logit, logit)
        value.backward()
        return value

    optimizer.step(closure)
    assert logit.item() == pytest.approx(loss.boundary, abs=1e-6)


def test_objectives_of_differences_have_no_boundary():
    for loss in (Wasserstein(), Relativistic(), RelativisticAverage()):
        assert loss.boundary is None
        real, fake = logits()
        assert torch.equal(loss.right(real + 30, fake + 30), loss.right(real, fake))
    assert Hinge().boundary == 0


def test_info_nce_is_the_cross_entropy_of_finding_the_own_key():
    random = np.random.default_rng(0)
    queries, keys = random.standard_normal((3, 4)), random.standard_normal((5, 4))
    scores = 7.0 * queries @ keys.T
    wanted = np.mean([np.log(np.exp(scores[i]).sum()) - scores[i, i + 2] for i in range(3)])
    assert info_nce(torch.tensor(queries), torch.tensor(keys), 7.0, 2).item() == pytest.approx(wanted, rel=1e-12)
    same = torch.eye(4)
    assert info_nce(same, same, 50.0).item() == pytest.approx(0, abs=1e-6)


# -- classes, by angles ------------------------------------------------------------------------------------------------


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def two_c(embeddings, proxies, labels, temperature):
    """Equation 8 of ContraGAN, term by term."""
    e, p, total = unit(embeddings), unit(proxies), 0.0
    for i in range(len(e)):
        others = [j for j in range(len(e)) if j != i]
        own = np.exp(e[i] @ p[i] / temperature)
        above = own + sum(np.exp(e[i] @ e[j] / temperature) for j in others if labels[j] == labels[i])
        total -= np.log(above / (own + sum(np.exp(e[i] @ e[j] / temperature) for j in others)))
    return total / len(e)


def d2d_ce(embeddings, proxies, labels, temperature, m_p=0.98, m_n=0.02):
    """Equation of ReACGAN, term by term."""
    e, p, total = unit(embeddings), unit(proxies), 0.0
    for i in range(len(e)):
        own = np.exp(min(e[i] @ p[i] - m_p, 0) / temperature)
        negatives = [j for j in range(len(e)) if labels[j] != labels[i]]
        total -= np.log(own / (own + sum(np.exp(max(e[i] @ e[j] - m_n, 0) / temperature) for j in negatives)))
    return total / len(e)


CONTRASTS = [(conditional_contrastive, two_c), (data_to_data, d2d_ce)]


@pytest.mark.parametrize(("ours", "closed"), CONTRASTS)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrastive_losses_of_classes(ours, closed, temperature):
    random, labels = np.random.default_rng(0), np.array([0, 2, 0, 1, 2, 0, 1])
    embeddings, proxies = random.standard_normal((7, 5)) * 3, random.standard_normal((3, 5))[labels]
    given = [torch.tensor(part) for part in (embeddings, proxies, labels)]
    value = ours(*given, temperature)
    assert value.item() == pytest.approx(closed(embeddings, proxies, labels, temperature), rel=1e-12)
    halves = ours(given[0].bfloat16(), given[1].bfloat16(), given[2], temperature)
    assert halves.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(given[0].float(), given[1].float(), given[2], temperature).item() == pytest.approx(
            value.item(), rel=1e-5
        )


@pytest.mark.parametrize("loss", [conditional_contrastive, data_to_data])
@pytest.mark.parametrize("rows", [1, 4])
def test_a_batch_of_one_class_has_no_contrast(loss, rows):
    embeddings = torch.randn(rows, 3, requires_grad=True)
    value = loss(embeddings, torch.randn(rows, 3), torch.ones(rows, dtype=torch.long))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert embeddings.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", [conditional_contrastive, data_to_data])
def test_embeddings_of_zeros_have_a_finite_gradient(loss):
    embeddings = torch.zeros(3, 4, requires_grad=True)
    loss(embeddings, torch.ones(3, 4), torch.arange(3)).backward()
    assert embeddings.grad.isfinite().all()


def test_pairs_beyond_their_margins_have_no_gradient():
    """Image and proxy are 0.995 alike, classes 0: both are easy. With tighter margins neither is."""
    embeddings = torch.tensor([[1.0, 0.1, 0.0], [0.0, 0.1, 1.0]], dtype=torch.float64)
    proxies = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    for margins, moves in (((0.98, 0.02), False), ((1.0, 0.02), True), ((0.98, -0.1), True)):
        given = embeddings.clone().requires_grad_()
        data_to_data(given, proxies, torch.arange(2), 0.5, *margins).backward()
        assert bool(given.grad.abs().max() > 1e-6) == moves
