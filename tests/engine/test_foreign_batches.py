"""Batches of a user's own loader, and networks that a user replaces or compiles."""

import warnings

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans.models import GAN
from gans.networks import dcgan

BYTES = torch.arange(8 * 64).remainder(256).to(torch.uint8).reshape(8, 1, 8, 8)
FLOATS = BYTES / 127.5 - 1


def tiny(**options):
    torch.manual_seed(0)
    model = GAN(**{"size": 8, "channels": 1, "latent_dim": 4, "width": 4, **options})
    model.seed = 0
    return model


def loader():
    return DataLoader(TensorDataset(FLOATS), batch_size=4)


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (FLOATS, {}),
        (BYTES, {}),
        ([FLOATS, torch.arange(8)], {}),
        ({"image": BYTES, "label": torch.arange(8)}, {}),
        ({"image": (FLOATS + 1) / 2}, {"input_range": (0, 1)}),
        ([BYTES.float()], {"input_range": (0, 255)}),
    ],
)
def test_batches_of_any_loader_train_the_same_model(trainer, batch, options):
    """Bare tensors, bytes, dictionaries and other ranges are the images that a tuple of floats in [-1, 1] has."""
    weights = []
    for given, more in (((FLOATS,), {}), (batch, options)):
        model = tiny(**more)
        with warnings.catch_warnings(record=True) as caught:
            trainer(2, max_epochs=2).fit(model, DataLoader([given], batch_size=None))
        assert not any("expected [" in str(one.message) for one in caught)
        weights.append(nn.utils.parameters_to_vector(model.generator.parameters()))
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [(0, 0), (1, 0), (0, 1, 2), "01", (0, float("nan"))])
def test_a_range_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match=r"input_range is .*; expected \(least, greatest\), such as \(0, 1\)"):
        tiny(input_range=given)


class OwnHook(L.LightningDataModule):
    """A datamodule whose hook replaces the model's."""

    def __init__(self, images):
        super().__init__()
        self.images = images

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.images), batch_size=4)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


@pytest.mark.parametrize(
    ("images", "own", "given", "says"),
    [
        (FLOATS, False, (0, 1), r"\[-1, 1\]; expected \[0, 1\], the input_range of the model"),
        ((FLOATS + 1) / 2, False, (0, 255), r"\[0, 1\]; expected \[0, 255\], the input_range of the model"),
        (BYTES.float(), False, (0, 1), r"\[0, 255\]; expected \[0, 1\], the input_range of the model"),
        ((FLOATS + 1) / 2, True, (0, 1), r"the datamodule's on_after_batch_transfer is used"),
    ],
)
def test_a_wrong_input_range_is_warned_of_once(trainer, images, own, given, says):
    source = OwnHook(images) if own else DataLoader(TensorDataset(images), batch_size=4)
    with pytest.warns(UserWarning, match=says) as caught:
        trainer(3).fit(tiny(input_range=given), source)
    assert len([one for one in caught if "of this run" in str(one.message)]) == 1
    assert not any("You have overridden" in str(one.message) for one in caught)


def test_a_generator_that_replaces_another_is_averaged_instead(trainer):
    model = tiny()
    model.generator = dcgan.Generator(4, 8, 1, 8)
    trainer(2).fit(model, loader())
    shapes = [[p.shape for p in net.parameters()] for net in (model.generator, model.generator_ema)]
    assert shapes[0] == shapes[1]
    assert not any(p.requires_grad for p in model.generator_ema.parameters())
    first = next(model.generator_ema.parameters()).clone()
    trainer(2).fit(model, loader())
    assert not torch.equal(first, next(model.generator_ema.parameters()))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_generator_is_saved_and_loaded_under_the_eager_names(trainer, tmp_path, in_place):
    def compiled(model):
        if in_place:
            model.generator.compile(backend="eager")
        else:
            model.generator = torch.compile(model.generator, backend="eager")
        return model

    model = compiled(tiny())
    run = trainer(2)
    run.fit(model, loader())
    run.save_checkpoint(tmp_path / "a.ckpt")
    eager = GAN.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert model.state_dict().keys() == eager.state_dict().keys()
    assert all(torch.equal(value, eager.state_dict()[name]) for name, value in model.state_dict().items())
    again, resumed = compiled(tiny()), trainer(4)
    resumed.fit(again, loader(), ckpt_path=tmp_path / "a.ckpt")
    assert (resumed.global_step, again.batches_seen) == (4, 4)
    pairs = zip(eager.generator.parameters(), again.generator.parameters(), strict=True)
    assert not all(torch.equal(before, after) for before, after in pairs)
