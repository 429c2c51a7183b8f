"""Images kept on the device: the same batches as from the cache in main memory, and refusals."""

from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from broken_images import BROKEN
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

import datamodules.reader
import datamodules.resident
from datamodules import CaptionedDataModule, DegradedFolderDataModule, ImageFolderDataModule, PairedFolderDataModule
from datamodules.files import ImageFiles
from datamodules.resident import check_fits

torch.set_num_threads(1)
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


@pytest.fixture
def root(tmp_path):
    """Two classes of 13 images of random pixels each, among which are broken ones."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(13):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    BROKEN["truncated.png"](tmp_path / "images" / "a" / "12.png")  # its successor is the first of b
    BROKEN["text.jpg"](tmp_path / "images" / "b" / "05.png")
    return tmp_path / "images"


def folder(root, cache, **options):
    options = {"size": 8, "batch_size": 4, "num_workers": 0, "val_size": 6, "flip": True} | options
    return ImageFolderDataModule(root, cache=cache, **options)


class Recorder(L.LightningModule):
    """A record of the batches."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen, self.validated, self.devices = [], [], set()

    def training_step(self, batch, batch_idx):
        self.seen.append(tuple(part.cpu().clone() for part in batch))
        self.devices |= {part.device.type for part in batch}
        return self.layer(batch[0].mean().view(1)).sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(tuple(part.cpu().clone() for part in batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)


def fit(path, data, device="cpu", steps=110, **options):
    trainer = L.Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu"}[device],
        devices=1,
        default_root_dir=path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=steps,
        callbacks=[ModelCheckpoint(path, "{step}", every_n_train_steps=7, save_top_k=-1)],
    )
    model = Recorder()
    trainer.fit(model, datamodule=data, **options)
    return model


def same(first, second):
    return len(first) == len(second) > 0 and all(
        torch.equal(a, b) and a.dtype == b.dtype
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.filterwarnings("ignore:skipping")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_those_of_the_cache_in_main_memory(root, tmp_path, device, channels):
    cached = fit(tmp_path / "cached", folder(root, True, channels=channels), device)
    resident = fit(tmp_path / "resident", folder(root, "device", channels=channels), device)
    assert same(cached.seen, resident.seen), "110 steps are more than an epoch"
    assert same(cached.validated, resident.validated)
    assert resident.devices == {device}
    resumed = fit(
        tmp_path / "more",
        folder(root, "device", channels=channels),
        device,
        ckpt_path=tmp_path / "resident" / "step=7.ckpt",
    )
    assert same(resumed.seen, cached.seen[7:])


def attached(data, device="cpu", world=1, rank=0):
    """Set up a datamodule as a process of a run."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=3))
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        world_size=world,
        global_rank=rank,
        lightning_module=None,
    )
    data.setup()
    return data


@pytest.mark.filterwarnings("ignore:skipping")
@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_has_its_share(root, rank):
    cached, resident = (attached(folder(root, cache), world=2, rank=rank) for cache in (True, "device"))
    assert same(list(cached.train_dataloader()), list(resident.train_dataloader()))
    assert same(list(cached.val_dataloader()), list(resident.val_dataloader()))
    assert len(cached.train_dataloader()) == len(resident.train_dataloader())


@pytest.mark.filterwarnings("ignore:skipping")
@pytest.mark.parametrize("workers", [0, 2])
def test_every_file_is_decoded_once_and_training_has_no_workers(root, tmp_path, monkeypatch, workers):
    log, original = tmp_path / "log", ImageFiles.opened

    def counted(files, index, data=None):
        path = files.path(index)
        with open(log, "a") as file:
            file.write(f"{path.parent.name}/{path.name}\n")
        return original(files, index, data)

    monkeypatch.setattr(ImageFiles, "opened", counted)
    data = attached(folder(root, "device", num_workers=workers))
    loader = data.train_dataloader()
    before = log.read_text().split()
    assert sorted(set(before)) == sorted(before), "no file twice"
    assert len(before) == 26
    assert loader.num_workers == 0
    assert len(list(loader)) == 100
    list(data.val_dataloader())
    assert log.read_text().split() == before


@pytest.mark.filterwarnings("ignore:skipping")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bar_of_the_first_process_tells_that_images_are_decoded(root, monkeypatch, capsys, rank):
    monkeypatch.setattr(datamodules.resident.rank_zero_only, "rank", rank)
    for name in ("COLUMNS", "LINES"):  # the bar is cut off at the width of the terminal
        monkeypatch.setenv(name, "400")
    data = attached(folder(root, "device"))
    data.train_dataloader()
    told = capsys.readouterr().err
    assert (f"Decoding 26 images of {root}: " in told) == (rank == 0)
    assert ("26/26" in told) == (rank == 0)
    data.val_dataloader()
    assert "Decoding" not in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:skipping")
def test_images_are_moved_to_the_device_of_another_run(root):
    data = attached(folder(root, "device"))
    data.train_dataloader()
    files = data._sets[0].files
    assert files.resident.device.type == "cpu"
    data.trainer.strategy.root_device = torch.device("meta")
    data.train_dataloader()
    assert files.resident.device.type == "meta"


@pytest.mark.filterwarnings("ignore:skipping")
def test_without_a_trainer_images_are_in_main_memory(root):
    data = folder(root, "device")
    data.setup()
    other = folder(root, True)
    other.setup()
    assert same(list(data.train_dataloader()), list(other.train_dataloader()))
    assert data._sets[0].files.resident is None


@pytest.mark.filterwarnings("ignore:skipping")
def test_data_sets_can_be_read_beside_the_loaders(root):
    data = attached(folder(root, "device"))
    dataset = data.val_dataloader().dataset
    plain = folder(root, False)
    plain.setup()
    assert same([dataset[i] for i in range(6)], [plain._sets[1][i] for i in range(6)])


def test_images_that_do_not_fit_are_refused_with_numbers(root, monkeypatch):
    data = folder(root, "device")
    data.setup()
    files = data._sets[0].files
    assert files.nbytes == 26 * 3 * 8 * 8
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (files.nbytes - 1, 2**33))
    with pytest.raises(
        ValueError, match=r"cache=device needs 4.65e-06 GiB for 26 images of \(3, 8, 8\), but 4.65e-06 of the 8 "
    ):
        check_fits(torch.device("cuda", 0), files)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (files.nbytes, 2**33))
    check_fits(torch.device("cuda", 0), files)
    monkeypatch.setattr(datamodules.reader, "free_memory", lambda shared: 100)
    with pytest.raises(ValueError, match=r"cache=device needs .* of memory are free"):
        folder(root, "device").setup()


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        (CaptionedDataModule, {"templates": ("a {}",)}, "captions are chosen on the CPU"),
        (DegradedFolderDataModule, {}, "images are degraded on the CPU"),
        (PairedFolderDataModule, {}, "pairs are cropped on the CPU"),
    ],
)
def test_what_makes_its_batches_on_the_cpu_is_refused(root, kind, options, reason):
    with pytest.raises(ValueError, match=f"cache is device; expected true or false, because {reason}"):
        kind(root, cache="device", **options)
    with pytest.raises(ValueError, match="cache"):
        kind(root, cache="disk", **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:skipping")
def test_a_batch_does_not_wait_for_the_device(root):
    data = attached(folder(root, "device"), "cuda")
    loader = data.train_dataloader()
    assert data._sets[0].files._pixels is None, "main memory is given back"
    list(loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in loader:
            images, labels = data.on_after_batch_transfer(batch, 0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert images.is_cuda
    assert labels.is_cuda
