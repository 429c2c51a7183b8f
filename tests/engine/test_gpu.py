"""What only a CUDA device can show: half precision, NCCL, synchronised BatchNorm, memory, no waiting for the device."""

import pytest
import torch

from datamodules import DigitsDataModule
from gans.models import DCGAN, GAN
from gans.penalties import zero_centered

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def fitted(trainer, model, steps=6, **options):
    run = trainer(steps, accelerator="gpu", limit_val_batches=0, **options)
    run.fit(model, DigitsDataModule(size=16, batch_size=32))
    return run


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("kind", [GAN, DCGAN])
def test_every_precision_trains(trainer, kind, precision):
    model = kind(size=16, channels=1, width=8, gradient_clip=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    fitted(trainer, model, precision=precision)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(not torch.equal(a, b.cpu()) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_penalties_are_float32_under_autocast(dtype):
    critic = DCGAN(size=16, channels=1, width=8, batch_norm=False).discriminator.cuda()
    pictures = torch.rand(8, 1, 16, 16, device="cuda") * 2 - 1
    full = zero_centered(critic, pictures)
    with torch.autocast("cuda", dtype=dtype):
        half = zero_centered(critic, pictures)
    assert float(half) == pytest.approx(float(full), rel=1e-6)


@pytest.mark.parametrize("sync_batchnorm", [False, True])
def test_one_rank_of_nccl(trainer, sync_batchnorm):
    run = fitted(trainer, DCGAN(size=16, channels=1, width=8), strategy="ddp", sync_batchnorm=sync_batchnorm)
    assert run.global_step == 6


def test_a_step_does_not_wait_for_the_device(trainer):
    class Strict(DCGAN):
        def training_step(self, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error")
            try:
                super().training_step(batch, batch_idx)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    fitted(trainer, Strict(size=16, channels=1, width=8), log_every_n_steps=1000)
