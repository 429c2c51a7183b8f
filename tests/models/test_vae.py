"""VAE and VAE-GAN: their losses against torch's distributions and numbers by hand, schedules, pictures, promises."""

import math

import pytest
import torch
from checkpoints import assert_near, freeze_batch_norm
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule
from gans.engine.checkpoint import Checkpoint
from gans.models import VAE, VAEGAN
from gans.models.vae import active_units, reconstructions, traversal


def make(kind=VAE, **options):
    torch.manual_seed(0)
    small = {"size": 8, "channels": 1, "latent_dim": 4, "width": 2}
    return kind(**{**small, **options})


def images(n=12, size=8, channels=1):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def loader(n=12, batch_size=12, **options):
    return DataLoader(TensorDataset(images(n, **options)), batch_size=batch_size)


class Still:
    """Notes what each player minimises, and lets none of them move; latents are all 0.1."""

    def latent(self, n):
        return torch.full((n, self.latent_dim), 0.1)

    def descend(self, loss, optimizer):
        self.seen = {
            **getattr(self, "seen", {}),
            self.players[self.player_optimizers().index(optimizer)]: loss.detach(),
        }


def losses(trainer, kind, **options):
    """Return what each player minimises in the first batch, and the model."""
    model = make(type("Spy", (Still, kind), {}), **options)
    trainer(-1, max_epochs=1, limit_train_batches=1).fit(model, loader())
    return {player: float(loss) for player, loss in model.seen.items()}, model


# -- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "optimal"])
def test_the_loss_is_the_negative_bound(trainer, network, likelihood):
    found, model = losses(trainer, VAE, network=network, likelihood=likelihood, sigma=0.3, beta=2.0)
    real = images()
    data = (real > 0).float() * 2 - 1 if likelihood == "bernoulli" else real
    mean, log_variance = model.encoder(data).chunk(2, 1)
    posterior = Normal(mean, (log_variance / 2).exp())
    decoded = model.generator(mean + 0.1 * posterior.scale)
    if likelihood == "bernoulli":
        log_density = Bernoulli((decoded + 1) / 2).log_prob((data + 1) / 2)
    else:
        sigma = 0.3 if likelihood == "gaussian" else (decoded - real).square().mean().sqrt()
        log_density = Normal(decoded, sigma).log_prob(real)
    kl = kl_divergence(posterior, Normal(0, 1)).sum(1).mean()
    expected = 2 * kl - log_density.flatten(1).sum(1).mean()
    assert found["autoencoder"] == pytest.approx(expected.item(), rel=1e-5)


def test_free_bits_by_hand():
    model = make(free_bits=0.5, beta=2.0)
    kl = torch.tensor([0.2, 0.7, 1.5], requires_grad=True)
    price = model.price(kl, kl.detach())
    assert price.item() == pytest.approx(2 * (0.5 + 0.7 + 1.5))
    [gradient] = torch.autograd.grad(price, kl)
    assert gradient.tolist() == [0, 2, 2]
    # The first is above here, but not in the whole batch; the second the other way round.
    share = torch.tensor([0.9, 0.1, 1.0])
    assert float(model.price(share, kl.detach())) == pytest.approx(2 * (0.5 + 0.1 + 1.0))


def test_capacity_by_hand():
    model = make(capacity=10.0, capacity_images=100, capacity_weight=3.0)
    model.images_seen = 50
    assert model.weights() == (1, 5)
    for total, expected, slope in ((7.0, 3 * 2, 3), (4.0, 3 * 1, -3)):
        kl = torch.tensor([total - 1, 1.0], requires_grad=True)
        price = model.price(kl, kl.detach())
        assert price.item() == pytest.approx(expected)
        assert torch.autograd.grad(price, kl)[0].tolist() == [slope, slope]
    model.images_seen = 1000
    assert model.weights() == (1, 10)
    assert make(capacity=10.0).weights() == (1, 10)


def test_beta_warms_up_by_the_images_seen():
    model = make(beta=4.0, warmup_images=200)
    for model.images_seen, expected in ((0, 0), (50, 1), (200, 4), (900, 4)):
        assert model.weights() == (expected, 0)
        assert float(model.price(torch.tensor([1.0, 2.0]), torch.zeros(2))) == pytest.approx(3 * expected)


def test_active_units_vary_over_images():
    codes = torch.zeros(100, 4)
    codes[:, 0] = torch.linspace(-1, 1, 100)  # variance 1/3
    codes[::2, 1], codes[1::2, 1] = 0.09, -0.09  # .0081
    codes[::2, 2], codes[1::2, 2] = 5.11, 4.89  # .0121
    codes[:, 3] = 7  # far from the prior, and the same for all
    assert int(active_units(codes)) == 2
    assert int(active_units(codes[:1])) == 0


class Constructed(nn.Module):
    """An encoder whose first code follows the brightness; the others say nothing; all are without noise."""

    def forward(self, images):
        mean = torch.zeros(len(images), 4)
        mean[:, 0] = 3 * images.mean((1, 2, 3))
        return torch.cat([mean, torch.full_like(mean, -40.0)], 1)


def test_held_out_images_are_scored_by_the_bound_alone(trainer):
    model = make(likelihood="gaussian", sigma=0.5, beta=7.0, free_bits=3.0)
    model.encoder = Constructed()
    bright = torch.linspace(-1, 1, 12).view(12, 1, 1, 1).expand(12, 1, 8, 8)
    for verb, stage in (("validate", "val"), ("test", "test")):
        [logged] = getattr(trainer(1), verb)(model, DataLoader(TensorDataset(bright), batch_size=12), verbose=False)
        with torch.no_grad():
            mean, log_variance = model.encode(bright)
            kl = float(kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0, 1)).sum(1).mean())
            density = Normal(model.generator(mean), 0.5).log_prob(bright).sum((1, 2, 3)).mean()
        assert logged[f"{stage}/elbo/kl"] == pytest.approx(kl, rel=1e-5)
        assert logged[f"{stage}/elbo/reconstruction"] == pytest.approx(-float(density), rel=1e-4)
        assert logged[f"{stage}/elbo/negative"] == pytest.approx(kl - float(density), rel=1e-4)
        assert logged[f"{stage}/elbo/active_units"] == 1


def test_curves_of_a_run(trainer, tmp_path):
    logger = CSVLogger(tmp_path, "run", 0)
    given = {"likelihood": "optimal", "beta": 4.0, "warmup_images": 48}
    points = []
    logger.log_metrics = lambda metrics, step=None: points.append(metrics)
    trainer(4, logger=logger, log_every_n_steps=2).fit(make(**given), loader(48))
    assert len(points) == 2
    assert [point["elbo/beta"] for point in points] == [1.5, 3.5]  # means of 1, 2 and of 3, 4
    for point in points:
        negative = point["elbo/reconstruction"] + point["elbo/kl"]
        assert point["elbo/negative"] == pytest.approx(negative, rel=1e-5)
        assert point["loss/autoencoder"] != point["elbo/negative"]
        assert 0.4 < point["elbo/sigma"] < 0.8  # of U(-1, 1) around 0 it is 1 / sqrt(3)
        assert {"elbo/active_units", "grad_norm/autoencoder", "lr/autoencoder"} <= point.keys()


@pytest.mark.slow
def test_more_beta_means_shorter_codes_and_worse_images(trainer):
    bound = {}
    for beta in (1.0, 4.0):
        model = make(beta=beta, width=32, latent_dim=8)
        data = DigitsDataModule(size=8, batch_size=64)
        trainer(150, limit_val_batches=0).fit(model, data)
        [bound[beta]] = trainer(1).validate(model, data, verbose=False)
    assert bound[4.0]["val/elbo/kl"] < 0.7 * bound[1.0]["val/elbo/kl"]
    assert bound[4.0]["val/elbo/reconstruction"] > bound[1.0]["val/elbo/reconstruction"] + 1
    assert bound[1.0]["val/elbo/negative"] < bound[4.0]["val/elbo/negative"] < 64 * math.log(2)


def test_pixels_are_white_as_often_as_they_are_bright(trainer):
    """Draws are functions of (seed, batch, row): anew in each batch, the same again for the same batch."""
    model, seen = make(binarise="sample"), []
    brightness = torch.linspace(-1, 1, 64).view(1, 1, 8, 8).expand(400, 1, 8, 8)
    model.coded = lambda images, noise: (seen.append(images), VAE.coded(model, images, noise))[1]
    for verb in ("fit", "fit", "validate", "validate"):
        getattr(trainer(-1, max_epochs=1), verb)(model, DataLoader(TensorDataset(brightness), batch_size=200))
        model.batches_seen = model.images_seen = 0
    first, second, again, _, held, other, held_again, _ = seen
    assert first.unique().tolist() == [-1, 1]
    share = (torch.cat([first, second, held, other]) > 0).float().mean(0).flatten()
    assert torch.allclose(share, torch.linspace(0, 1, 64), atol=0.09)
    assert share[[0, -1]].tolist() == [0, 1]
    assert torch.equal(first, again)
    assert torch.equal(held, held_again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, held)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 200
    assert torch.equal(model.data(first), first)
    assert torch.equal(make().observed(brightness), brightness)


def test_the_bound_of_drawn_pixels_is_on_the_draws(trainer):
    """A decoder that knows the brightness pays its entropy; of thresholded pixels it would pay less."""
    grey = torch.full((400, 1, 8, 8), 0.5)  # white three times in four
    found = {}
    for binarise in ("sample", "threshold"):
        model = make(binarise=binarise)
        model.encoder = Constructed()
        model.generator.logits = lambda codes: torch.full((len(codes), 1, 8, 8), math.log(3) / 2)
        [logged] = trainer(1).validate(model, DataLoader(TensorDataset(grey), batch_size=400), verbose=False)
        found[binarise] = logged["val/elbo/reconstruction"]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["sample"] == pytest.approx(64 * entropy, rel=0.02)
    assert found["threshold"] == pytest.approx(-64 * math.log(0.75), rel=1e-4)


class Linear(torch.nn.Module):
    """Codes of a linear Gaussian model x = W z + s n: the posterior is Gaussian, with `spread` times its deviation."""

    def __init__(self, factors, sigma, spread):
        super().__init__()
        precision = factors.T @ factors / sigma**2 + torch.eye(factors.shape[1])
        assert torch.equal(precision, precision.diag().diag())
        self.map = factors.T / sigma**2 / precision.diag()[:, None]
        self.log_variance = -precision.diag().log() + 2 * math.log(spread)

    def forward(self, images):
        return torch.cat([images.flatten(1) @ self.map.T, self.log_variance.expand(len(images), -1)], 1)


def test_the_weighted_bound_is_the_likelihood_or_near_it(trainer):
    factors, sigma = torch.zeros(64, 4), 0.1
    factors[torch.arange(4), torch.arange(4)] = torch.tensor([0.05, 0.1, 0.15, 0.2])
    torch.manual_seed(0)
    images = (torch.randn(40, 4) @ factors.T + sigma * torch.randn(40, 64)).view(40, 1, 8, 8)
    exact = MultivariateNormal(torch.zeros(64), factors @ factors.T + sigma**2 * torch.eye(64))
    likelihood = float(exact.log_prob(images.flatten(1)).mean())
    batches = DataLoader(TensorDataset(images), batch_size=20)
    found = {}
    for spread, codes in ((1.0, 1), (1.0, 3), (1.5, 1), (1.5, 50), (1.5, 0)):
        model = make(likelihood="gaussian", sigma=sigma, test_codes=codes)
        model.encoder = Linear(factors, sigma, spread)
        model.generator.logits = lambda z: (z @ factors.T).view(-1, 1, 8, 8).clamp(-0.99, 0.99).atanh()
        [found[spread, codes]] = trainer(1).test(model, batches, verbose=False)
    for codes in (1, 3):  # with the true posterior all weights are the likelihood
        assert found[1.0, codes]["test/elbo/negative_weighted"] == pytest.approx(-likelihood, rel=1e-4)
    one, many = (found[1.5, codes]["test/elbo/negative_weighted"] for codes in (1, 50))
    assert one > -likelihood + 0.5
    assert -likelihood - 0.05 < many < -likelihood + 0.15
    assert "test/elbo/negative_weighted" not in found[1.5, 0]


def test_optimal_sigma_has_no_weighted_bound(trainer):
    [found] = trainer(1).test(make(likelihood="optimal"), loader(12), verbose=False)
    assert "test/elbo/negative" in found
    assert "test/elbo/negative_weighted" not in found


# -- promises where the loss is not linear in the batch ----------------------------------------------------------------

JOINT = [
    {"likelihood": "optimal", "free_bits": 0.02},
    {"likelihood": "optimal", "network": "conv", "beta": 2.0},
    {"capacity": 3.0, "capacity_images": 60},
]


def state(trained_by, options, world=1, accumulate=1):
    model = make(**options, accumulate=accumulate)
    freeze_batch_norm(model)
    model.seed = 3
    return trained_by(world, model, DigitsDataModule(size=8, batch_size=24 // world), 4)["state_dict"]


@pytest.mark.parametrize("options", [JOINT[0], *(pytest.param(more, marks=pytest.mark.slow) for more in JOINT[1:])])
def test_neither_processes_nor_pieces_change_the_run(trained_by, options):
    whole = state(trained_by, options)
    for other in ({"accumulate": 5}, {"world": 2}, {"world": 2, "accumulate": 3}):
        assert_near(whole, state(trained_by, options, **other))


def test_neither_processes_nor_pieces_change_drawn_pixels(trained_by):
    options = {"binarise": "sample"}
    assert_near(state(trained_by, options), state(trained_by, options, world=2, accumulate=3))


@pytest.mark.parametrize("options", JOINT)
def test_both_halves_learn_in_half_precision(trainer, options):
    """What looks ahead without gradients must not leave its half-precision weights to the pass that needs some."""
    model = make(**options, accumulate=2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer(1, precision="bf16-mixed", log_every_n_steps=1).fit(model, loader())
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert not [name for name in still if name.endswith("weight")]


@pytest.mark.parametrize("kind", [VAE, VAEGAN])
def test_resume_is_exact(trainer, tmp_path, kind):
    states = []
    for stops in ([6], [3, 6]):
        path = tmp_path / str(len(stops)) / "last.ckpt"
        for stop in stops:
            saver = Checkpoint(dirpath=str(path.parent))
            model = make(kind, **({"likelihood": "optimal", "warmup_images": 200} if kind is VAE else {}))
            model.seed = 3 if not path.exists() else None
            run = trainer(stop, callbacks=[saver], enable_checkpointing=True, limit_val_batches=1, val_check_interval=2)
            run.fit(model, DigitsDataModule(size=8, batch_size=24), ckpt_path=path if path.exists() else None)
        states.append(torch.load(path, weights_only=True))
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name
    pending = [saved["adversarial"]["pending"] for saved in states]
    assert pending[0].keys() == pending[1].keys()
    assert all(torch.equal(value, pending[1][name]) for name, value in pending[0].items())


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_reconstructions_stand_below_their_originals():
    numbers = torch.arange(30.0).view(30, 1, 1, 1)
    grid, columns = reconstructions(numbers, -numbers)
    rows = grid.flatten().view(-1, columns).tolist()
    assert columns == 8
    assert rows == [
        [sign * (8 * row + column) for column in range(8)] for row in range(3) for sign in (1, -1)
    ]  # 6 are left over
    grid, columns = reconstructions(numbers[:3], -numbers[:3])
    assert (grid.flatten().tolist(), columns) == ([0, 1, 2, 0, -1, -2], 3)


def test_a_traversal_walks_along_what_tells_most():
    mean = torch.tensor([[0.5, 0.0, 2.0, -1.0], [0.5, 0.0, -2.0, 1.0]])
    decoder = nn.Identity()
    codes, columns = traversal(decoder, mean, torch.zeros(2, 4), rows=3)
    codes = codes.view(3, columns, 4)
    assert columns == 10
    for row, dimension in enumerate([2, 3, 0]):  # KL 2, .5, .125, 0
        assert torch.allclose(codes[row, :, dimension], torch.linspace(-3, 3, 10))
        others = [other for other in range(4) if other != dimension]
        assert torch.equal(codes[row][:, others], mean[0, others].expand(10, 3))


@pytest.mark.parametrize("kind", [VAE, VAEGAN])
def test_pictures(kind):
    model = make(kind, size=(20, 28), channels=3, latent_dim=12).eval()
    real = torch.rand(20, 3, 20, 28) * 2 - 1
    with torch.no_grad():
        shown = model.pictures((real, torch.zeros(20)))
    rebuilt, columns = shown["reconstructions"]
    assert (rebuilt.shape, columns) == ((32, 3, 20, 28), 8)
    assert torch.equal(rebuilt[8:16], model.reconstruct(real)[:8])
    walks, columns = shown["traversal"]
    assert (walks.shape, columns) == ((100, 3, 20, 28), 10)
    mean, log_variance = model.encode(real)
    assert mean.shape == log_variance.shape == (20, 12)
    assert torch.equal(model.reconstruct(real), model.generator(mean))


def test_black_and_white_is_what_a_bernoulli_model_sees():
    model = make().eval()
    real = images()
    assert torch.equal(model.reconstruct(real), model.reconstruct(real.sign()))
    assert not torch.equal(model.generator(model.encoder(real)[:, :4]), model.reconstruct(real))
    with torch.no_grad():
        grid, _ = model.pictures((real,))["reconstructions"]
    assert torch.equal(grid[:8], real[:8].sign())
    other = make(likelihood="gaussian").eval()
    assert torch.equal(other.generator(other.encoder(real)[:, :4]), other.reconstruct(real))


# -- VAE-GAN -----------------------------------------------------------------------------------------------------------


def test_the_three_players_of_a_vae_gan(trainer):
    found, model = losses(trainer, VAEGAN, gamma=0.25, beta=3.0, batch_norm=True)
    model.train()
    real = images()
    mean, log_variance = model.encoder(real).chunk(2, 1)
    posterior = Normal(mean, (log_variance / 2).exp())
    rebuilt, fake = model.generator(mean + 0.1 * posterior.scale), model.generator(torch.full((12, 4), 0.1))
    (a, seen), (b, seen_again), (c, _) = (model.discriminator(part) for part in (real, rebuilt, fake))
    features = (seen - seen_again).square().sum(1).mean() / 2
    kl = kl_divergence(posterior, Normal(0, 1)).sum(1).mean()
    expected = {
        "discriminator": softplus(-a).mean() + (softplus(b).mean() + softplus(c).mean()) / 2,
        "encoder": 3 * kl + features,
        "generator": 0.25 * features + (softplus(-b).mean() + softplus(-c).mean()) / 2,
    }
    assert features > 1e-3
    assert found == {name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()}


def test_a_vae_gan_waits_for_its_critic(trainer):
    model = make(VAEGAN, critic_steps=3, objective="relativistic", batch_norm=False)
    run = trainer(2)
    run.fit(model, loader(96))
    assert (run.global_step, model.batches_seen) == (2, 6)
    [logged] = trainer(1).validate(model, loader(), verbose=False)
    assert {"val/elbo/kl", "val/loss/features", "val/logits/real"} <= logged.keys()


# -- errors ------------------------------------------------------------------------------------------------------------

WRONG = [
    ("vae", "capacity=5 --model.free_bits=0.1", "model.capacity is 5.0 and free_bits 0.1; expected only one of them"),
    ("vae", "capacity=5 --model.beta=4", "model.capacity is 5.0 and beta 4.0; expected only one of them"),
    ("vae", "likelihood=poisson", "model.likelihood is poisson; expected one of 'bernoulli', 'gaussian', 'optimal'"),
    ("vae", "network=convs", "model.network is convs (did you mean conv?); expected one of 'mlp', 'conv'"),
    ("vae", "sigma=0", "model.sigma is 0.0; expected a number above 0"),
    ("vae", "lr=-1", "model.lr is -1.0; expected a number above 0"),
    ("vae", "lr=.inf", "model.lr is inf; expected a finite number above 0"),
    ("vae", "betas=[0.5,1]", "model.betas is (0.5, 1.0); expected two numbers from 0 to below 1"),
    ("vae", "free_bits=-1", "model.free_bits is -1.0; expected at least 0"),
    ("vae", "warmup_images=-1", "model.warmup_images is -1.0; expected at least 0"),
    ("vae", "critic_steps=2", "there is no key model.critic_steps"),
    ("vae", "prior=uniform", "there is no key model.prior"),
    ("vaegan", "gamma=-1", "model.gamma is -1.0; expected at least 0"),
    ("vaegan", "encoder_lr=0", "model.encoder_lr is 0.0; expected a number above 0"),
    ("vaegan", "r1=1", "there is no key model.r1"),
]


@pytest.mark.parametrize(("recipe", "flag", "says"), WRONG)
def test_a_wrong_flag(refused, recipe, flag, says):
    assert refused(f"fit {recipe}-mnist --data.root none --model.{flag}").startswith(says)


def test_half_precision_throughout_is_refused(trainer):
    with pytest.raises(ValueError, match=r"trainer.precision is bf16-true; expected 32-true"):
        trainer(1, precision="bf16-true").fit(make(), loader())
