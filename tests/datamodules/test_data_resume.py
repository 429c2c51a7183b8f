"""A run that stops at a checkpoint and one that does not see the same images, wherever the checkpoint was saved."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.base import ImageDataModule
from datamodules.order import mix

torch.set_num_threads(1)


class Numbered(torch.utils.data.Dataset):
    """Images whose two pixels are the row and a hash of the transform key."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitems__(self, keys):
        pixels = [(key, 0) if isinstance(key, int) else (key[0], mix(key[1]) & 255) for key in keys]
        return torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 2), torch.zeros(len(keys), dtype=torch.int64)


class NumberedDataModule(ImageDataModule):
    num_classes = 1

    def __init__(self, num_workers=0, seed=0):
        super().__init__((1, 2), 1, 8, num_workers, seed)

    def splits(self):
        return Numbered(43), Numbered(9), Numbered(9)


class Recorder(L.LightningModule):
    """Two steps of an optimizer a batch in manual optimization, and a list of the batches seen."""

    def __init__(self, manual=True):
        super().__init__()
        self.automatic_optimization = not manual
        self.layer = torch.nn.Linear(2, 1)
        self.seen, self.validated = [], 0

    def training_step(self, batch, batch_idx):
        images, _ = batch
        assert images.dtype == torch.float32
        self.seen.append(((images + 1) * 127.5).round().int().view(-1, 2).tolist())
        loss = self.layer(images.flatten(1)).square().mean()
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss)
        self.optimizers().step()
        return None

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


def fit(folder, *, ckpt_path=None, workers=0, manual=True, checkpoint=None, **options):
    """Train and return the model."""
    options = {"max_epochs": 4, "limit_val_batches": 0} | options
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[checkpoint or ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)],
        **options,
    )
    model = Recorder(manual)
    trainer.fit(model, datamodule=NumberedDataModule(workers), ckpt_path=ckpt_path)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 4 epochs of 5 batches, with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder).seen


def test_every_epoch_is_shuffled_anew_and_has_every_image_at_most_once(whole):
    _, seen = whole
    epochs = [[row for batch in seen[i : i + 5] for row, _ in batch] for i in range(0, 20, 5)]
    assert all(len(set(epoch)) == 40 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize(("step", "workers"), [(1, 0), (4, 0), (5, 0), (6, 0), (10, 0), (13, 0), (7, 2), (10, 2)])
def test_resume_from_a_step_checkpoint(whole, tmp_path, step, workers):
    folder, seen = whole
    assert fit(tmp_path, ckpt_path=folder / f"step={step}.ckpt", workers=workers).seen == seen[step:]


def test_resume_with_workers_of_an_uninterrupted_run_with_workers(whole, tmp_path):
    assert fit(tmp_path, workers=2).seen == whole[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_epochs": -1, "max_steps": 10}])
def test_resume_from_an_epoch_end(whole, tmp_path, workers, manual, limit):
    fit(tmp_path, manual=manual, checkpoint=ModelCheckpoint(tmp_path, "end", save_on_train_epoch_end=True), **limit)
    limit = {"max_epochs": 4} if "max_steps" not in limit else {"max_epochs": -1, "max_steps": 20}
    assert fit(tmp_path, manual=manual, ckpt_path=tmp_path / "end.ckpt", workers=workers, **limit).seen == whole[1][10:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("every", "step"), [(2, 4), (2, 7), (5, 5), (5, 10)])
def test_resume_after_a_validation(whole, tmp_path, workers, every, step):
    validation = {"limit_val_batches": 1.0, "val_check_interval": every, "num_sanity_val_steps": 1}
    checkpoint = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=False)
    model = fit(tmp_path, checkpoint=checkpoint, **validation)
    assert model.seen == whole[1]
    assert model.validated > 9
    resumed = fit(tmp_path / "new", ckpt_path=tmp_path / f"step={step}.ckpt", workers=workers, **validation)
    assert resumed.seen == whole[1][step:]


def test_an_interrupted_batch_is_seen_again(whole, tmp_path):
    seen = whole[1]

    class Stop(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 7:
                trainer.save_checkpoint(tmp_path / "stop.ckpt")
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, checkpoint=Stop())
    resumed = fit(tmp_path, ckpt_path=tmp_path / "stop.ckpt")
    assert resumed.seen == seen[7:]


def test_short_epochs_go_on_through_the_stream(whole, tmp_path):
    assert fit(tmp_path, limit_train_batches=3).seen == whole[1][:12]


def test_a_resumed_run_keeps_the_seed_of_the_run(whole, tmp_path, monkeypatch):
    folder, seen = whole
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")
    assert fit(tmp_path, ckpt_path=folder / "step=7.ckpt").seen == seen[7:]
    assert fit(tmp_path).seen != seen


def test_lightning_does_not_doubt_that_the_loader_is_resumable(whole, tmp_path, recwarn):
    fit(tmp_path, ckpt_path=whole[0] / "step=7.ckpt")
    assert not [str(warning.message) for warning in recwarn if "not resumable" in str(warning.message)]


def test_predict_gives_the_validation_images(tmp_path):
    class Predict(Recorder):
        def predict_step(self, batch, batch_idx):
            return batch[0]

    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    images = torch.cat(trainer.predict(Predict(), datamodule=NumberedDataModule()))
    assert ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist() == list(range(9))
