"""What every model promises: found by their names in gans.models, each built small."""

import pytest
import torch
from checkpoints import assert_near, freeze_batch_norm
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, TensorDataset

import datamodules
import gans.models
from datamodules import DigitsDataModule
from gans.callbacks.compile import Compile
from gans.engine.checkpoint import Checkpoint, load_model
from gans.engine.interface import made, translates
from gans.engine.module import AdversarialModule
from gans.models import Autoencoder, InfoGAN, Pix2Pix
from gans.networks.conditional import Classified
from gans.networks.text import Matcher
from gans.terms import Step

MODELS = [name for name in gans.models.__all__ if issubclass(getattr(gans.models, name), AdversarialModule)]
# What a small one needs besides size, channels, latent_dim, width and critic_steps, or instead; None takes one away.
SMALL = {
    "ContraGAN": {"embedding_dim": 4},
    "ReACGAN": {"embedding_dim": 4},
    "R3GAN": {"preset": "small", "schedule_images": 1000, "width": 16, "critic_steps": None},
    "StyleGAN2": {"preset": "small", "minibatch_std": 2, "path_length": 2.0},
    "GAT": {"preset": "tiny", "width": 16, "depth": 4},
    "BigGAN": {"width": 1, "shared_dim": 2},
    "InfoGAN": {"num_codes": 2},
    "SequenceGAN": {"frames": 4, "motion_dim": 2, "motion_grid": 2},
    "Autoencoder": {"critic_steps": None},
    "GridAutoencoder": {"latent_dim": None, "critic_steps": None, "kl": 1e-4, "adversarial_weight": 0.5},
    "VAE": {"critic_steps": None},
    "ManifoldGridGAN": {"width": 8, "max_width": 8},
    "ManifoldGAN": {"autoencoder_steps": 1, "latent_steps": 1, "image_steps": 1},
    "Pix2Pix": {"latent_dim": None},
    "NextFrame": {"latent_dim": None, "frames": 4, "given": 2, "rollout": 2},
    "CycleGAN": {"latent_dim": None, "blocks": 1, "pool": 20},
    "CUT": {"latent_dim": None, "blocks": 1, "patches": 20, "patch_dim": 4},
    "Inpainting": {"latent_dim": None},
    "StyleTransfer": {"latent_dim": None},
    "SPADE": {"latent_dim": None, "classes": 3, "hidden": 2},
    "SRGAN": {"latent_dim": None, "scale": 1, "blocks": 1, "content_steps": 1},
    "TextToImage": {
        "vocabulary": ["red", "blue", "seven"],
        "text_steps": 1,
        "features": 4,
        "text_width": 3,
        "encoder_width": 2,
    },
}
CONDITIONAL = {"ConditionalGAN", "ACGAN", "ProjectionGAN", "ContraGAN", "ReACGAN"}
# Conditional where they are asked to be.
CLASSES = {name: {"num_classes": 10} for name in ("BigGAN", "GAT", "SAGAN", "R3GAN", "StyleGAN2", "ManifoldGridGAN")}
CLIPS = {"SequenceGAN", "NextFrame"}
TRANSLATORS = {
    "Pix2Pix",
    "NextFrame",
    "CycleGAN",
    "CUT",
    "Inpainting",
    "SPADE",
    "SRGAN",
    "StyleTransfer",
}  # they make images of images
FILLERS = {"Inpainting"}  # of images with holes
WHOLE = {"ContraGAN", "ReACGAN"}  # they compare all images of a batch
CAPTIONED = {"TextToImage"}  # they make images of sentences
FRAMES = 4
# One of each kind: what multiplies the cost of a promise is tried on these, and on the others where tests may be slow.
KINDS = (
    "CycleGAN",
    "DCGAN",
    "InfoGAN",
    "ManifoldGAN",
    "R3GAN",
    "SRGAN",
    "SequenceGAN",
    "StyleGAN2",
    "TextToImage",
    "VAEGAN",
)


def some(*values):
    """Return each model with `values` as the parameters of a test, slow but for `KINDS`."""
    return [pytest.param(name, *values, marks=() if name in KINDS else pytest.mark.slow) for name in MODELS]


# Terms that look at the whole batch, or draw once more, and are off by default.
OPTIONAL = {
    "InfoGAN": {"clustering_weight": 1.0, "mode_seeking_weight": 0.1},
    "TextToImage": {"matching_weight": 0.5, "mode_seeking_weight": 0.1},
}


SIZE = 16


def make(name, **options):
    torch.manual_seed(0)
    small = {"size": SIZE, "channels": 1, "latent_dim": 4, "width": 2, "critic_steps": 1}
    given = {**small, **SMALL.get(name, {}), **options}
    return getattr(gans.models, name)(**{key: value for key, value in given.items() if value is not None})


def loader(name, n=24, size=(SIZE, SIZE), channels=1):
    torch.manual_seed(0)
    frames = (FRAMES,) if name in CLIPS else ()
    images, labels = torch.rand(n, channels, *frames, *size) * 2 - 1, torch.arange(n) % 10
    if name in CAPTIONED:
        return DataLoader(TensorDataset(images, *sentences(n)), batch_size=SIZE)
    second = holes(images) if name in FILLERS else -images if name in TRANSLATORS else labels
    return DataLoader(TensorDataset(images, second), batch_size=SIZE)


def holes(images):
    """Masks whose holes are the brighter half of the pixels."""
    return (images[:, :1] > 0).float()


def sentences(n):
    """Tokens and lengths of n sentences of one to three words."""
    lengths = torch.arange(n) % 3 + 1
    tokens = torch.randint(2, 5, (n, 3), generator=torch.Generator().manual_seed(0))
    return tokens * (torch.arange(3) < lengths[:, None]), lengths


class Captioned(DigitsDataModule):
    """Digits with a sentence each, which depends on the place in a batch of the global batch's rows."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        tokens = torch.stack([labels % 3 + 2, labels // 3 % 3 + 2, labels * 0], 1)
        return images, tokens, torch.full_like(labels, 2)


def draw(model, n, seed, size=(SIZE, SIZE), channels=1):
    """What a model makes of a seed, or of images that depend on it."""
    if not translates(model):
        return model.sample(n, seed=seed)
    if type(model).__name__ in CAPTIONED:
        return model.translate(*sentences(n), seed=seed)
    shape = (n, channels, *((FRAMES,) if type(model).__name__ in CLIPS else ()), *size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return model.translate(*model.inputs((images, holes(images) if type(model).__name__ in FILLERS else images)))


def digits(name, batch_size):
    if name in CLIPS:
        return datamodules.MovingDigitsDataModule(
            source="digits", size=SIZE, frames=FRAMES, clips=100, batch_size=batch_size
        )
    if name in TRANSLATORS:
        degrade = "mask brush" if name in FILLERS else "noise 40"
        return datamodules.DegradedDigitsDataModule(degrade, size=SIZE, batch_size=batch_size)
    return (Captioned if name in CAPTIONED else DigitsDataModule)(size=SIZE, batch_size=batch_size)


@pytest.mark.parametrize(("name", "precision"), [*((name, "32-true") for name in MODELS), *some("bf16-mixed")])
def test_each_player_moves_in_its_own_step_alone(trainer, name, precision):
    kind, seen = getattr(gans.models, name), []

    class Spy(kind):
        def descend(self, loss, optimizer):
            mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
            before = {name: p.detach().clone() for name, p in self.named_parameters()}
            super().descend(loss, optimizer)
            moved = {id(p) for name, p in self.named_parameters() if not torch.equal(p, before[name])}
            averages = {id(p) for p in self.generator_ema.parameters()}
            assert moved
            assert moved <= mine | averages
            assert loss.isfinite()
            seen.append(self.players[self.player_optimizers().index(optimizer)])

    model = make(name)
    model.__class__ = Spy
    run = trainer(3, precision=precision)
    run.fit(model, loader(name))
    assert set(seen) == set(model.players)
    assert run.global_step == model.batches_seen == 3


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_any_size_and_channels_gives_the_same_samples(trainer, tmp_path, name):
    shape = {"size": (20, 28), "channels": 3}
    steps = {} if SMALL.get(name, {}).get("critic_steps", 1) is None else {"critic_steps": 2}
    model = make(name, **shape, **steps)
    run = trainer(2, callbacks=[Checkpoint(1, str(tmp_path))], enable_checkpointing=True, limit_val_batches=1)
    run.fit(model, loader(name, **shape), loader(name, **shape))
    again = load_model(tmp_path / "last.ckpt")
    assert type(again) is type(model)
    drawn = draw(again, 5, 3, **shape)
    assert torch.equal(drawn, draw(model.eval(), 5, 3, **shape))
    assert drawn.shape == (5, 3, *((FRAMES,) if name in CLIPS - TRANSLATORS else ()), 20, 28)
    batch = next(iter(loader(name, **shape)))
    assert torch.equal(made(again, batch, 4, 1), made(model, batch, 4, 1))


@pytest.mark.parametrize("name", some())
def test_two_processes_are_one(trained_by, name):
    states = []
    for world in (1, 2):
        model = make(name, **without_batch_norm(name), **OPTIONAL.get(name, {}))
        freeze_batch_norm(model)
        model.seed = 3
        states.append(trained_by(world, model, digits(name, 12 // world), 2)["state_dict"])
    start = make(name, **without_batch_norm(name)).generator.state_dict()
    assert max(float((states[0][f"generator.{key}"] - value).abs().max()) for key, value in start.items()) > 1e-5
    assert_near(*states)


def without_batch_norm(name):
    if name in ("SequenceGAN", "Inpainting", "SPADE", "StyleTransfer"):  # they have none, but power iterations
        return {"spectral_norm": False}
    if name == "StyleGAN2":  # nor here, but path lengths are averaged over a batch
        return {"path_length": 0.0}
    if name == "Pix2Pix":  # nor here, but dropout
        return {"dropout": 0.0}
    return {"batch_norm": False} if name in ("DCGAN", "WGAN", "ConditionalGAN", "InfoGAN") else {}


@pytest.mark.parametrize("name", MODELS)
def test_accumulation_is_the_whole_batch(trainer, name):
    if name in WHOLE:
        with pytest.raises(ValueError, match="accumulate is 4; expected 1 with"):
            make(name, accumulate=4)
        return
    states = []
    for accumulate in (1, 4):
        # Images and sentences of other pieces are no rivals in the contrastive stage.
        stage = {"text_steps": 0} if name in CAPTIONED else {}
        model = make(name, accumulate=accumulate, **without_batch_norm(name), **stage)
        freeze_batch_norm(model)
        model.seed = 3
        trainer(1, precision="64-true").fit(model, loader(name))
        states.append(model.state_dict())
    for key, value in states[0].items():
        assert torch.allclose(value.double(), states[1][key].double(), atol=1e-9), key


@pytest.mark.parametrize("name", MODELS)
def test_a_model_reads_like_its_paper(name):
    kind = getattr(gans.models, name)
    depth = kind.__mro__.index(AdversarialModule)
    assert depth <= 3  # a model, one that it is a kind of, and the base of its family
    assert is_overridden("training_step", kind.__new__(kind), AdversarialModule)
    assert "arXiv" in __import__(kind.__module__, fromlist=["x"]).__doc__


# -- classes -----------------------------------------------------------------------------------------------------------


def awake(model):
    """`model` with noise on its averaged generator, some of whose layers start at 0."""
    for parameter in model.generator_ema.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("name", sorted(set(MODELS) - TRANSLATORS - CAPTIONED))
def test_labels_are_refused_where_there_are_no_classes(name):
    if name in CONDITIONAL | {"InfoGAN"}:
        return
    with pytest.raises(ValueError, match=f"{name} is not conditional"):
        make(name).eval().sample(2, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("name", sorted(CONDITIONAL | CLASSES.keys() | {"InfoGAN"}))
def test_labels_choose_classes_where_there_are_some(name):
    model = awake(make(name, **CLASSES.get(name, {})).eval())
    labels = torch.tensor([3, 3, 7])
    three = model.sample(3, labels=labels, seed=0)
    other = model.sample(3, labels=torch.tensor([3, 4, 7]), seed=0)
    assert torch.equal(three[0], other[0])
    assert not torch.equal(three[1], other[1])
    in_turn = model.sample(12, seed=0)
    assert torch.equal(in_turn, model.sample(12, labels=torch.arange(12) % 10, seed=0))
    assert torch.equal(three, model.sample(3, labels=[3, 3, 7], seed=0))
    assert torch.equal(model.sample(3, labels=3, seed=0), model.sample(3, labels=torch.tensor([3] * 3), seed=0))
    assert torch.equal(model.sample(3, labels=range(3), seed=0), model.sample(3, seed=0))
    wrong_ones = [10, -1, [0, 10], [1], [0.5, 1], "3", [[0, 1]], True]
    for wrong in (torch.tensor([10, 0]), torch.tensor([-1, 0]), torch.tensor([1]), *wrong_ones):
        with pytest.raises(ValueError, match=r"labels are .*; expected a class, or 2 of them, from 0 to 9"):
            model.sample(2, labels=wrong)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_that_are_asked_for_reach_both_players(trainer, tmp_path, name):
    model = make(name, **CLASSES[name])
    saver = Checkpoint(1, str(tmp_path))
    trainer(2, callbacks=[saver], enable_checkpointing=True).fit(model, loader(name))
    again = load_model(tmp_path / "last.ckpt")
    labels = torch.tensor([1, 2, 1])
    assert torch.equal(again.sample(3, labels=labels, seed=0), model.eval().sample(3, labels=labels, seed=0))
    images = torch.rand(2, 1, SIZE, SIZE) * 2 - 1
    first, second = (model.discriminate(images, torch.tensor(given)) for given in ([0, 0], [0, 1]))
    assert (first == second).tolist() == [True, False]


@pytest.mark.parametrize("name", sorted(CONDITIONAL | CLASSES.keys()))
def test_data_without_fitting_classes_are_refused(trainer, name):
    images = torch.rand(16, 1, SIZE, SIZE) * 2 - 1

    def make(name, **options):
        return globals()["make"](name, **{**CLASSES.get(name, {}), **options})

    with pytest.raises(ValueError, match="a batch has no labels"):
        trainer(1).fit(make(name), DataLoader(TensorDataset(images), batch_size=SIZE))
    with pytest.raises(ValueError, match="num_classes is 5; expected at least 10, as many as the data have"):
        trainer(1).fit(make(name, num_classes=5), DigitsDataModule(size=SIZE, batch_size=SIZE))

    class Flat(DigitsDataModule):
        num_classes = 1

    with pytest.raises(ValueError, match="the data have no classes"):
        trainer(1).fit(make(name), Flat(size=SIZE, batch_size=SIZE))


@pytest.mark.parametrize("name", MODELS)
def test_who_makes_images_of_images_says_so(name):
    assert translates(make(name)) == (name in TRANSLATORS | CAPTIONED)
    if name in TRANSLATORS:
        with pytest.raises(ValueError, match=f"{name} makes images of images"):
            make(name).sample(2)


def test_every_model_is_here():
    kinds = {kind.__name__ for kind in AdversarialModule.__subclasses__()[0].__subclasses__()}
    assert len(MODELS) >= 11
    assert set(MODELS) >= {kind for kind in kinds if kind in MODELS}


def test_a_code_changes_along_the_rows_of_its_picture_and_the_category_down_them():
    model = make("InfoGAN").eval()
    with torch.no_grad():
        shown = model.pictures(())
    assert [columns for _, columns in shown.values()] == [10, 10]
    for images, _ in shown.values():
        rows = images.view(10, 10, -1)
        assert (rows[:, 1:] - rows[:, :-1]).abs().amax(2).min() > 0
        assert (rows[1:] - rows[:-1]).abs().amax(2).min() > 0
    (first, _), (second, _) = shown.values()
    assert not torch.equal(first, second)


def test_a_model_in_double_precision_rounds_nothing_to_single():
    codes = torch.rand(2, 4, dtype=torch.float64)
    assert Autoencoder(size=16, width=2, latent_dim=4).double().decode(codes).dtype == torch.float64
    lightness = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    colours = Pix2Pix(size=16, width=2, space="lab").double().pictured(lightness.expand(-1, 2, -1, -1), lightness)
    assert colours.dtype == torch.float64
    model = InfoGAN(size=16, channels=1, width=2, num_categories=2, num_codes=4, latent_dim=6).double()
    guesses = torch.cat([codes.new_zeros(2, 2), codes], 1)
    recorded = {}
    model.record = recorded.__setitem__
    z = torch.cat([codes.new_zeros(2, model.latent_dim - 4), codes], 1)
    outputs = Classified(guesses[:, 0], guesses)
    model.terms["information"](Step("generator", model, z, z, (), outputs, z, (torch.zeros(2).long(),), outputs, 2))
    assert float(recorded["loss/codes"]) == 0
    matcher = Matcher(5, 16, 3, 4, 2, 3).double()
    vectors = matcher(torch.rand(2, 3, 16, 16).double(), torch.ones(2, 2).long(), torch.full((2,), 2))
    assert [vector.dtype for vector in vectors] == [torch.float64] * 2


AUGMENTATIONS = {"diffaugment": {}, "ada": {"probability": 0.5, "interval": 2}}
# Where spectral normalisation, another generator or an augmentation is not on by itself.
COMPILED = [
    *((name, {}) for name in MODELS),
    *((name, {"spectral_norm": True}) for name in ("CUT", "CycleGAN", "Inpainting", "Pix2Pix")),
    ("Inpainting", {"network": "deepfill"}),
    ("Inpainting", {"network": "lama", "norm": "none", "blocks": 1, "base": "pull_push"}),
    *(("DCGAN", {"augment": kind, "augment_options": options}) for kind, options in AUGMENTATIONS.items()),
    ("SNGAN", {"accumulate": 3}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), COMPILED)
def test_it_compiles_once_and_learns_the_same(trainer, graphs, name, options):
    backend, count = graphs
    backend("aot_eager")
    seen = []

    class Count(Callback):
        def on_train_batch_end(self, *args):
            seen.append(count())

    class LargeEpsilon(Callback):
        """Keeps Adam from amplifying the rounding of gradients that are 0, as before a BatchNorm."""

        def on_train_start(self, run, model):
            for optimizer in run.optimizers:
                for group in optimizer.param_groups:
                    group["eps"] = 1e-3

    def fitted(*callbacks):
        model = make(name, **options)
        # 24 held-out images are a batch of 16 and one of 8; the first three steps are of different stages.
        run = trainer(6, callbacks=[LargeEpsilon(), *callbacks], val_check_interval=3, precision="64-true")
        run.fit(model, loader(name, 96), loader(name, 24))
        return model.state_dict()

    compiled, eager = fitted(Compile(), Count()), fitted()
    assert seen[0] > 0
    assert seen[2:] == seen[2:3] * 4
    for key, tensor in compiled.items():
        assert torch.allclose(tensor, eager[key], rtol=1e-6, atol=1e-9), key
