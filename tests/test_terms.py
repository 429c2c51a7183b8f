"""Terms against closed forms, and as parts of a run: in recipes, in checkpoints, on several processes."""

import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans import terms
from gans.engine.checkpoint import Checkpoint, load_model
from gans.losses import conditional_contrastive, data_to_data, objective
from gans.models import ACGAN, DCGAN, GAN, SNGAN, WGAN, ContraGAN, FastGAN, InfoGAN, ReACGAN
from gans.networks.conditional import Classified, Embedded
from gans.penalties import mode_seeking, zero_centered
from gans.terms import (
    BCR,
    R1,
    R2,
    ZCR,
    Alignment,
    ClassTerm,
    Clip,
    ConditionalContrastive,
    DataToData,
    LeCam,
    ModeSeeking,
    OneCentered,
    Orthogonal,
    PathLength,
    Step,
    Term,
    Terms,
    TopK,
    built,
)

KINDS = terms.kinds()


class Game:
    """As much of a model as a term uses, with a discriminator and a generator that are linear."""

    accumulate, images_seen, updates, image_shape = 1, 0, 1, (1, 2, 2)

    def __init__(self):
        torch.manual_seed(0)
        self.weights, self.mixing = torch.randn(4, 1).double(), torch.randn(3, 4).double()
        self.loss = objective("hinge")
        self.recorded = {}
        self.discriminator = nn.Module()

    def generator(self, z, *conditions):
        return (z @ self.mixing).view(-1, 1, 2, 2)

    def path(self, z, *conditions, every=1):
        points = z[::every].detach().requires_grad_()
        return points, self.generator(points)

    def critic(self, images, *conditions):
        return (images.flatten(1) @ self.weights)[:, 0]

    def generator_inputs(self, n, *labels):
        return torch.randn(n, 3).double(), *labels

    def logits(self, output):
        return output

    def uniform(self, n, *shape):
        return torch.rand(n, *shape).double()

    def noise_like(self, images):
        self.noise = torch.randn_like(images)
        return self.noise

    def average(self, value):
        return value

    def gather(self, rows):
        return rows

    def record(self, name, value):
        self.recorded[name] = value


@pytest.fixture
def game():
    return Game()


def step_of(game, player="discriminator", n=6):
    z = torch.randn(n, 3).double()
    real, fake = torch.randn(n, 1, 2, 2).double().requires_grad_(), game.generator(z).requires_grad_()
    return Step(player, game, z, real, (), game.critic(real), fake, (), game.critic(fake), n)


# -- mathematics -------------------------------------------------------------------------------------------------------


def test_r1_and_r2_differentiate_the_forward_pass_of_the_loss(game):
    step, passes = step_of(game), []
    game.critic = passes.append  # a second pass would be noted, and fail
    square = float(game.weights.square().sum() / 2)
    assert float(R1()(step)) == pytest.approx(square)
    assert float(R2()(step)) == pytest.approx(square)
    assert not passes


def test_the_total_is_the_weighted_sum_and_records_values_without_weights(game):
    step, given = step_of(game), Terms([R1(3.0), R2(5.0), Clip()])
    value = float(R1()(step))
    assert float(given.total(step, given.of("discriminator"))) == pytest.approx(3 * value + 5 * float(R2()(step)))
    assert {name: float(noted) for name, noted in game.recorded.items()} == pytest.approx(
        {"penalty/r1": value, "penalty/r2": float(R2()(step))}
    )


def test_r1_beside_a_minibatch_standard_deviation_is_that_of_all_logits():
    """StyleGAN2's: a layer mixes samples, and the gradient of the sum of the logits has the mixed terms too."""
    model = SNGAN(size=16, channels=1, latent_dim=4, width=4, minibatch_std=4, r1=1.0).double().eval()
    images = torch.rand(8, 1, 16, 16).double().requires_grad_()
    logits = model.discriminator(images)
    step = Step("discriminator", model, images, images, (), logits, images, (), None, 8)
    torch.testing.assert_close(R1()(step), zero_centered(model.discriminator, images))
    apart = torch.stack([zero_centered(model.discriminator, image[None].expand(4, -1, -1, -1)) for image in images])
    assert not torch.isclose(R1()(step), apart.mean())


def test_the_heuristic_follows_pixels_and_the_whole_batch(game):
    step = replace(step_of(game, n=8), real=torch.zeros(8, 3, 32, 32))
    assert R1("heuristic").factor(step) == pytest.approx(2e-4 * 32 * 32 / 8)


def test_one_centred_is_the_length_of_the_gradient_between_images(game):
    length = float(game.weights.square().sum().sqrt())
    assert float(OneCentered()(step_of(game))) == pytest.approx((length - 1) ** 2)


def test_alignment_is_one_less_the_cosine_of_class_tokens_and_the_mean_of_patches(game):
    class Output(NamedTuple):
        logits: torch.Tensor
        tokens: torch.Tensor

    turned = torch.tensor([[[0.0, 2], [3, 0], [1, 1]], [[-1, 0], [2, 0], [0, 5]]]).double()  # of two images
    asked = []
    game.guide = lambda pictures: asked.append(pictures) or torch.tensor([1.0, 0]).expand(2, 3, 2)
    pictures = torch.zeros(2, 3, 4, 4)
    step = replace(step_of(game, n=2), real_output=Output(torch.zeros(2), turned), pictures=pictures)
    classes, patches = (1 + 2) / 2, (0 + (1 - 0.5**0.5) + 0 + 1) / 4
    assert float(Alignment(network="folder")(step)) == pytest.approx(classes + patches)
    assert asked == [pictures]
    assert float(game.recorded["loss/alignment_class"]) == pytest.approx(classes)
    assert float(game.recorded["loss/alignment_patches"]) == pytest.approx(patches)


def test_alignment_says_what_it_needs(game):
    with pytest.raises(ValueError, match="Alignment has no network; expected a folder of DINOv2"):
        Alignment()
    with pytest.raises(ValueError, match="Alignment reads tokens of the discriminator, and DCGAN has none"):
        DCGAN(size=8, width=4, terms=[Alignment(network="folder")])
    game.guide = None
    with pytest.raises(ValueError, match="Alignment needs pictures; expected data with images, or codes with"):
        Alignment(network="folder")(step_of(game))


def test_balanced_consistency_is_the_change_of_logits_under_mirroring(game):
    """A mirrored image is the only change: the closed form follows from the two columns of the linear critic."""
    term, step = BCR(real=2.0, fake=3.0, policy="xflip"), step_of(game)
    torch.manual_seed(5)
    value = term(step)
    torch.manual_seed(5)
    changes = term.changes[0]
    expected = 0.0
    for weight, images in ((2.0, step.real), (3.0, step.fake)):
        changed = changes(images.detach(), game.uniform(len(images), changes.draws))
        same = torch.stack([(changed == images).flatten(1).all(1), (changed == images.flip(-1)).flatten(1).all(1)])
        assert same.any(0).all()
        expected += weight * (game.critic(changed) - game.critic(images)).square().mean()
    torch.testing.assert_close(value, expected)
    assert BCR(real=0.0, fake=0.0)(step) == 0


def test_latent_consistency_pulls_logits_together_and_images_apart(game):
    step = step_of(game)
    value = ZCR(sigma=0.1)(step)
    moved = 0.1 * game.noise @ game.mixing
    torch.testing.assert_close(value, (moved @ game.weights).square().mean())
    value = ZCR(sigma=0.1, player="generator")(step)
    torch.testing.assert_close(value, -(0.1 * game.noise @ game.mixing).float().square().mean())


def test_path_lengths_of_a_linear_generator(game):
    term, step = PathLength(shrink=2, decay=0.25), step_of(game, "generator")
    lengths = []
    for _ in range(2):
        value = term(step)
        lengths.append((game.noise[::2].flatten(1) / 2 @ game.mixing.T).norm(dim=1))
    first = 0.25 * lengths[0].mean()
    second = first + 0.25 * (lengths[1].mean() - first)
    torch.testing.assert_close(term.length.double(), second, rtol=1e-6, atol=0)
    torch.testing.assert_close(value, (lengths[1] - second).square().mean(), rtol=1e-6, atol=0)


def test_the_gradient_of_path_lengths_of_a_linear_generator(game):
    """Of images z M the Jacobian is M, so d/dM (|M y| - a)^2 = 2 (|M y| - a) M y y^T / |M y|."""
    game.mixing.requires_grad_()
    term, step = PathLength(shrink=1), step_of(game, "generator")
    (found,) = torch.autograd.grad(term(step), game.mixing)
    noise = game.noise.flatten(1) / 2
    pushed = noise @ game.mixing.detach().T
    lengths = pushed.norm(dim=1)
    slope = 2 * (lengths - term.length.double()) / lengths / len(noise)
    torch.testing.assert_close(found, torch.einsum("n,nd,np->dp", slope, pushed, noise), rtol=1e-6, atol=1e-9)


def test_path_lengths_of_several_rows_are_root_mean_squares_and_reach_the_map_of_latents(game):
    """Half of the sum of squares of w = z A, each in a pixel: the Jacobian is w itself, of which A is the map."""
    mapping = torch.randn(3, 2, 4).double().requires_grad_()

    def path(z, *conditions, every=1):
        points = torch.einsum("nz,zrd->nrd", z[::every], mapping)
        return points, (points.square().sum(1) / 2).view(-1, 1, 2, 2)

    game.path = path
    term, step = PathLength(shrink=2, decay=0.5), step_of(game, "generator")
    value = term(step)
    points, noise = path(step.latents[::2])[0], game.noise[::2].view(-1, 1, 4) / 2
    lengths = (points * noise).square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(value, (lengths - lengths.mean().detach() / 2).square().mean(), rtol=1e-6, atol=1e-9)
    expected = torch.autograd.grad((lengths - term.length).square().mean(), mapping)[0]
    torch.testing.assert_close(torch.autograd.grad(value, mapping)[0], expected, rtol=1e-6, atol=1e-9)
    assert expected.abs().min() > 0


@pytest.mark.parametrize(("seen", "count"), [(0, 6), (50_000, 3), (10**9, 2)])
def test_top_k_leaves_the_loss_of_the_best(game, seen, count):
    game.images_seen = seen
    step = step_of(game, "generator")
    total = game.loss.generator(None, step.fake_logits) + TopK(share=1 / 3, decay=0.5)(step)
    torch.testing.assert_close(total, -step.fake_logits.topk(count).values.mean())


def test_top_k_ranks_the_batch_of_all_processes(game):
    """One process has all of the best: the mean over both is the loss of the best of all."""
    whole = torch.tensor([4.0, 3.0, 0.0, 1.0]).double()
    game.images_seen, game.gather = 10, lambda rows: whole
    values = []
    for own in whole.split(2):
        step = Step("generator", game, own, own, (), None, own, (), own, 4)
        values.append(game.loss.generator(None, own) + TopK(share=0.5, decay=0.5, images=1)(step))
    assert float(sum(values) / 2) == pytest.approx(-3.5)


def test_mode_seeking_draws_other_latents_of_the_same_conditions(game):
    step, labels = step_of(game, "generator"), torch.arange(6)
    drawn, asked = torch.randn(6, 3).double(), []
    game.generator_inputs = lambda n, *given: asked.append((n, *given)) or (drawn, *given)
    value = ModeSeeking()(replace(step, conditions=(labels,)))
    assert asked == [(6, labels)]
    torch.testing.assert_close(value, mode_seeking(step.fake, game.generator(drawn), step.latents, drawn))


@pytest.mark.parametrize(
    ("term", "loss"), [(ConditionalContrastive, conditional_contrastive), (DataToData, data_to_data)]
)
def test_each_player_compares_embeddings_of_its_own_images(game, term, loss):
    outputs, classes = [], [torch.tensor([0, 1, 0, 2]), torch.tensor([1, 1, 2, 0])]
    for _ in classes:
        outputs.append(Embedded(torch.randn(4), *torch.randn(2, 4, 3).double()))
    step = Step(
        "generator",
        game,
        game.weights,
        game.weights,
        (classes[0],),
        outputs[0],
        game.weights,
        (classes[1],),
        outputs[1],
        4,
    )
    for player, output, labels in zip(("discriminator", "generator"), outputs, classes, strict=True):
        value = term(2.0, 0.3, player=player)(step)
        torch.testing.assert_close(value, loss(output.embeddings, output.proxies, labels, 0.3))


def test_embeddings_are_compared_with_those_of_all_processes(game):
    """Each of two processes has one class, so that alone it would have nothing to compare."""
    rows, labels = torch.randn(2, 4, 3).double(), torch.tensor([0, 0, 1, 1])
    whole = {2: torch.cat([*rows], 1), 1: labels}
    for own in (slice(0, 2), slice(2, 4)):
        asked = []
        game.gather = lambda part, asked=asked: asked.append(part) or whole[part.ndim]
        output = Embedded(torch.zeros(2), rows[0, own], rows[1, own])
        step = Step("discriminator", game, rows, rows, (labels[own],), output, rows, (), None, 4)
        torch.testing.assert_close(DataToData()(step), data_to_data(*rows, labels))
        assert [part.tolist() for part in asked] == [whole[2][own].tolist(), labels[own].tolist()]


def test_a_discriminator_of_ones_own_may_return_logits_and_guesses_without_names(game):
    labels, guesses = torch.tensor([0, 1, 2, 0, 1, 2]), torch.randn(6, 3)
    game.record = lambda name, value: None
    named, plain = (
        ClassTerm()(replace(step_of(game), labels=(labels,), real_output=output))
        for output in (Classified(torch.zeros(6), guesses), (torch.zeros(6), guesses))
    )
    assert torch.equal(named, plain)


def test_a_model_trains_with_a_discriminator_whose_outputs_have_no_names(trainer, monkeypatch):
    kind = type(ACGAN(size=32, channels=1, num_classes=3, width=4).discriminator)
    forward = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *args: tuple(forward(self, *args)))
    model = ACGAN(size=32, channels=1, num_classes=3, width=4, terms=[R1(every=1)])
    images, labels = torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 2, 0])
    before = model.discriminator.head.classifier.bias.clone()
    trainer(2).fit(model, DataLoader(TensorDataset(images, labels), batch_size=4))
    assert not torch.equal(model.discriminator.head.classifier.bias, before)


def test_a_term_says_which_output_it_lacks(game):
    step = replace(step_of(game), labels=(torch.arange(6),))
    with pytest.raises(ValueError, match="ClassTerm reads guesses of the discriminator's output, which has none"):
        ClassTerm()(step)
    classified = replace(step, real_output=Classified(torch.zeros(6), torch.zeros(6, 3)))
    with pytest.raises(ValueError, match="DataToData reads embeddings of the discriminator's output"):
        DataToData()(classified)


def test_clipping_follows_the_step():
    model = WGAN(size=16, channels=1, latent_dim=4, width=2, clip=0.003)
    model.terms["clip"].after_step(model)
    assert max(float(weight.abs().max()) for weight in model.discriminator.parameters()) == pytest.approx(0.003)


# -- in a game ---------------------------------------------------------------------------------------------------------


def digits(n=16, size=16):
    images = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.arange(n) % 10), batch_size=8)


def small(kind=DCGAN, **options):
    torch.manual_seed(0)
    batch_norm = {"batch_norm": False} if issubclass(kind, DCGAN | InfoGAN) else {}
    model = kind(size=16, channels=1, latent_dim=4, width=2, **{**batch_norm, **options})
    model.seed = 1
    return model


class Counting(DCGAN):
    """Counts the discriminator's forward passes."""

    def discriminate(self, images, *conditions):
        self.passes = getattr(self, "passes", 0) + 1
        return super().discriminate(images, *conditions)


def test_penalties_share_the_forward_pass(trainer):
    counts = {}
    for name, options in {"none": {}, "both": {"r1": 1.0, "r2": 1.0, "lecam": 1.0}}.items():
        model = small(Counting, **options)
        trainer(2).fit(model, digits())
        counts[name] = model.passes
    assert counts == {"none": 4, "both": 4}  # real and fake in the discriminator's step, fake in the generator's


@pytest.mark.parametrize("every", [2, 16])
def test_a_lazy_term_slows_its_players_adam_down(every):
    """Karras et al. 2020, appendix B: with k steps of the loss and one of the term, c = k / (k + 1)."""
    model = small(terms=[R1(10.0, every), PathLength(every=4)], betas=(0.5, 0.99), lr=1e-3)
    generator, discriminator = (optimizer.param_groups[0] for optimizer in model.configure_optimizers())
    for group, share in ((generator, 4 / 5), (discriminator, every / (every + 1))):
        assert group["lr"] == pytest.approx(share * 1e-3)
        assert group["betas"] == pytest.approx((0.5**share, 0.99**share))


def test_a_lazy_term_slows_rmsprop_down_too():
    generator, critic = (optimizer.param_groups[0] for optimizer in small(WGAN, r1=1.0, lazy=4).configure_optimizers())
    assert (generator["lr"], generator["alpha"]) == (5e-5, 0.99)
    assert (critic["lr"], critic["alpha"]) == pytest.approx((0.8 * 5e-5, 0.99**0.8))


def test_a_lazy_term_has_a_step_of_its_own(trainer):
    steps, ahead = [], []

    class Spy(GAN):
        def descend(self, loss, optimizer, **options):
            steps.append((self.batches_seen, self.player_optimizers().index(optimizer)))
            super().descend(loss, optimizer, **options)

        def on_train_batch_end(self, *_):
            pairs = zip(self.generator.parameters(), self.generator_ema.parameters(), strict=True)
            ahead.append(any(not torch.equal(*pair) for pair in pairs))

    model = small(Spy, terms=[R1(10.0, 2), PathLength(every=3)], ema_halflife=0)
    trainer(6).fit(model, digits(48))
    assert [steps.count((batch, 1)) for batch in range(1, 7)] == [1, 2, 1, 2, 1, 2]
    assert [steps.count((batch, 0)) for batch in range(1, 7)] == [1, 1, 2, 1, 1, 2]
    assert model.trainer.global_step == 6
    assert ahead == [False] * 6  # the averaged weights follow the last step of a batch


def test_a_lazy_step_asks_the_discriminator_for_what_its_terms_read(trainer):
    model = small(Counting, terms=[R1(1.0, 2), PathLength(every=2)])
    trainer(2).fit(model, digits())
    assert model.passes == 4 + 1  # those of the losses, and real images for R1


GAMES = {"ClassTerm": ACGAN, "Information": InfoGAN, "Clustering": InfoGAN, "MatchingAware": None, "Alignment": None}
GAMES |= {"Reconstruction": FastGAN, "ConditionalContrastive": ContraGAN, "DataToData": ReACGAN}


def test_orthogonal_counts_what_lies_off_the_diagonal_and_its_gradient_is_that_of_the_definition(game):
    game.generator = nn.Sequential(
        nn.Linear(3, 2),
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 5)),
        nn.Conv2d(2, 3, 3),
        nn.ConvTranspose2d(4, 2, 3),
        nn.Embedding(4, 6),
        nn.BatchNorm2d(2),
    ).double()
    first, normed, conv, up = game.generator[0].weight, *(part for part in list(game.generator)[1:4])
    raw = normed.parametrizations.weight.original
    parameters = [first, raw, conv.weight, up.weight]
    matrices = [first, raw, conv.weight.flatten(1), up.weight.transpose(0, 1).flatten(1)]
    products = [(w @ w.T) * (1 - torch.eye(len(w))) for w in matrices]
    expected = sum(product.square().sum() for product in products)
    value = Orthogonal()(Step("generator", game, None, None, (), None, None, (), None, 1))
    torch.testing.assert_close(value, expected)
    for mine, right in zip(
        torch.autograd.grad(3 * value, parameters), torch.autograd.grad(3 * expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, right)


def test_orthogonal_leaves_orthogonal_filters_of_any_length_alone(game):
    game.generator = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        game.generator[0].weight.copy_(torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0]]))
    assert Orthogonal()(Step("generator", game, None, None, (), None, None, (), None, 1)) == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_term_trains_saves_and_resumes(kind, trainer, tmp_path):
    """Bit for bit: what a term keeps beside the networks is in the checkpoint."""
    game = GAMES.get(kind.__name__, DCGAN)
    if game is None:
        return  # terms of other models: tests/models/test_texttoimage.py and tests/models/test_aligned.py
    options = {"start": 1} if kind is LeCam else {}
    terms = {} if game is not DCGAN and kind.__name__ != "Clustering" else {"terms": [kind(**options)]}
    saved = {}
    for name, steps, start in (("whole", 4, None), ("half", 2, None), ("resumed", 4, tmp_path / "half" / "last.ckpt")):
        saver = Checkpoint(2, str(tmp_path / name))
        trainer(steps, callbacks=[saver], enable_checkpointing=True).fit(
            small(game, **terms), digits(), ckpt_path=start
        )
        saved[name] = torch.load(tmp_path / name / "last.ckpt", weights_only=True)
    for name, value in saved["whole"]["state_dict"].items():
        assert value.isfinite().all(), name
        assert torch.equal(value, saved["resumed"]["state_dict"][name]), name


def test_a_checkpoint_describes_its_terms(trainer, tmp_path):
    saver = Checkpoint(1, str(tmp_path))
    given = [R1(weight=5.0, every=2), BCR(policy="xflip"), Clip(0.5)]
    trainer(1, callbacks=[saver], enable_checkpointing=True).fit(small(terms=given), digits())
    held = torch.load(tmp_path / "last.ckpt", weights_only=True)["hyper_parameters"]["terms"]
    assert held[0] == {"class_path": "gans.terms.R1", "init_args": {"weight": 5.0, "every": 2}}
    model = load_model(tmp_path / "last.ckpt")
    assert list(model.terms) == ["r1", "bcr", "clip"]
    assert [term.described() for term in model.terms.values()] == held == model.hparams["terms"]


def test_two_models_do_not_share_the_state_of_a_term():
    lecam = LeCam()
    one, other = small(terms=[lecam]), small(terms=[lecam, R1(1.0), R1(2.0)])
    one.terms["lecam"].averages.fill_(3)
    assert other.terms["lecam"].averages.sum() == lecam.averages.sum() == 0
    assert list(other.terms) == ["lecam", "r1", "r1_2"]


class Forgetful(Term):
    """Does not keep its argument by name."""

    def __init__(self, strength=1.0):
        super().__init__(strength)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DCGAN(size=16, terms=[R1(3.0)]), "r1 is 3.0; expected 0 beside BatchNorm"),
        (lambda: small(terms=[LeCam(0.5)], accumulate=2), "lecam is 0.5; expected 0 with accumulate"),
        (lambda: small(terms=[TopK()], objective="relativistic"), "relativistic compares pairs"),
        (lambda: small(terms=[TopK()], accumulate=2), "accumulate is 2; expected 1 with TopK"),
        (lambda: small(terms=[PathLength()], accumulate=2), "accumulate is 2; expected 1 with PathLength"),
        (lambda: small(terms=[{"class_path": "os.system", "init_args": {}}]), "names os.system"),
        (lambda: small(terms=[{"class_path": "gans.terms.R3"}]), "has no R3"),
        (lambda: small(terms=[{"class_path": "R1", "init_args": {"gamma": 1}}]), "terms: R1 has no argument gamma"),
        (lambda: small(terms=[{"class_path": "R1", "init_args": {"wieght": 1}}]), r"wieght \(did you mean weight\?\)"),
        (lambda: small(terms=[Forgetful(2.0)]), "Forgetful has no attribute strength; expected one for each argument"),
        (lambda: small(terms=["R1"]), "terms holds R1; expected an object"),
        (lambda: R1(-1.0), "weight is -1.0; expected at least 0"),
        (lambda: R1("auto"), "weight is auto; expected a number or heuristic"),
        (lambda: R1(1.0, every=0), "every is 0; expected at least 1"),
        (lambda: ZCR(sigma=0.0), "sigma is 0.0; expected a finite number above 0"),
        (lambda: ZCR(player="critic"), "player is critic; expected generator or discriminator"),
        (lambda: PathLength(decay=math.nan), "decay is nan"),
        (lambda: TopK(share=0.0), "share is 0.0"),
        (lambda: small(ReACGAN, accumulate=2), "accumulate is 2; expected 1 with DataToData"),
        (lambda: small(ContraGAN, accumulate=2), "accumulate is 2; expected 1 with ConditionalContrastive"),
        (lambda: small(ContraGAN, num_classes=1), "num_classes is 1; expected at least 2"),
        (lambda: small(ContraGAN, embedding_dim=0), "embedding_dim is 0; expected at least 1"),
        (lambda: small(ReACGAN, class_weight=-1.0), "class_weight is -1.0; expected at least 0"),
        (lambda: small(ReACGAN, temperature=0.0), "temperature is 0.0; expected a number above 0"),
        (lambda: DataToData(positive_margin=1.5), "positive_margin is 1.5; expected a cosine"),
        (lambda: small(ReACGAN, negative_margin=math.nan), "negative_margin is nan; expected a cosine"),
        (lambda: small(ReACGAN, network="mlp"), "network is mlp; expected resnet or biggan"),
        (lambda: Clip(math.inf), "limit is inf"),
        (lambda: small(objective="wasserstein", augment="ada"), "objective"),
        (lambda: small(lazy=4), "lazy is 4; expected 1 without r1 and r2"),
    ],
)
def test_pairs_and_values_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_flags_append_terms():
    model = small(r1=2.0, r2="heuristic", lazy=4, lecam=0.1, lecam_start=7, terms=[BCR()])
    held = {name: term.described()["init_args"] for name, term in model.terms.items()}
    assert held["r1"] == {"weight": 2.0, "every": 4}
    assert held["r2"] == {"weight": "heuristic", "every": 4}
    assert held["lecam"] == {"weight": 0.1, "start": 7}
    assert list(held) == ["r1", "r2", "lecam", "bcr"]


def test_descriptions_are_built_and_objects_copied():
    r1 = R1(2.0)
    again, same = built([r1, r1.described()])
    assert again is not r1
    assert again.described() == same.described() == r1.described()
    assert Terms([]).total(None, []) == 0.0


RECIPE = """# least squares with R1 and balanced consistency
model:
  class_path: DCGAN
  init_args:
    objective: least_squares
    batch_norm: false
    width: 2
    latent_dim: 4
    terms:
      - {class_path: R1, init_args: {weight: 1, every: 2}}
      - {class_path: BCR, init_args: {policy: xint}}
data:
  class_path: DigitsDataModule
  init_args: {size: 16, batch_size: 16, num_workers: 0}
trainer: {max_steps: 4, log_every_n_steps: 1}
"""


def test_a_recipe_alone_adds_terms(gans, tmp_path):
    (tmp_path / "my-digits.yaml").write_text(RECIPE)
    code, _, err = gans("fit my-digits.yaml --trainer.accelerator cpu")
    assert code == 0, err
    run = tmp_path / "runs" / "my-digits" / "version_0"
    held = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    kinds = [entry["class_path"] for entry in held["terms"]]
    assert kinds == ["gans.terms.R1", "gans.terms.BCR"]
    assert (
        yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["terms"][0]["init_args"]["every"] == 2
    )
    code, _, err = gans("sample runs/my-digits/version_0 --num 4")
    assert code == 0, err


def test_a_term_that_does_not_fit_is_one_sentence(refused, tmp_path):
    (tmp_path / "my-digits.yaml").write_text(RECIPE.replace("batch_norm: false", "batch_norm: true"))
    assert "expected 0 beside BatchNorm" in refused("fit my-digits.yaml --trainer.accelerator cpu")
    (tmp_path / "my-digits.yaml").write_text(
        RECIPE.replace("class_path: BCR, init_args: {policy: xint}", "class_path: Lecam")
    )
    told = "model.terms has no Lecam (did you mean LeCam?); expected R1, R2, ApproximateR1, ApproximateR2"
    assert told in refused("fit my-digits.yaml --trainer.accelerator cpu")
    (tmp_path / "my-digits.yaml").write_text(RECIPE.replace("weight: 1", "wieght: 1"))
    told = "there is no key model.terms.wieght (did you mean model.terms.weight?)"
    assert told in refused("fit my-digits.yaml --trainer.accelerator cpu")
