"""What only a CUDA device can show: precision, NCCL, synchronised BatchNorm, resume, compilation, no waiting for it."""

import pytest
import torch

from datamodules import DigitsDataModule
from gans.callbacks.compile import Compile
from gans.engine.checkpoint import Checkpoint
from gans.models import DCGAN, GAN, SNGAN
from gans.penalties import zero_centered
from gans.precision import allow_tf32

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def fitted(trainer, model, steps=6, ckpt_path=None, **options):
    run = trainer(steps, **{"accelerator": "gpu", "limit_val_batches": 0, **options})
    run.fit(model, DigitsDataModule(size=16, batch_size=32), ckpt_path=ckpt_path)
    return run


def trained(trainer, kind, options, layout=torch.preserve_format, **run):
    """Return a small model that was trained from a fixed seed, which the run takes as its own too."""
    torch.manual_seed(0)
    model = kind(size=16, channels=1, width=8, **options).to(memory_format=layout)
    fitted(trainer, model, **run)
    return model


# To compare rounding, a run is in double precision and short: Adam amplifies the rounding of gradients that are 0, as
# before a BatchNorm, and a unit that ReLU switches off makes a difference at once.
SHORT = {"precision": "64-true", "steps": 3}


def assert_near(first, second, **tolerance):
    for name, tensor in first.state_dict().items():
        other = second.state_dict()[name].to(tensor)
        assert torch.allclose(tensor, other, **tolerance), name


@pytest.fixture
def tf32():
    """Return a function that allows TF32 or forbids it, and restore PyTorch's default."""
    yield allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


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


@pytest.mark.parametrize("kind", [GAN, DCGAN, SNGAN])
def test_a_resumed_run_is_the_run_that_never_stopped(trainer, tmp_path, kind):
    """Augmentations are no part of this promise: the gradient of `gather` is summed in no fixed order on a GPU."""

    def run(steps, folder, ckpt_path=None):
        saved = Checkpoint(steps, tmp_path / folder)
        options = {"enable_checkpointing": True, "callbacks": [saved], "deterministic": "warn"}
        model = trained(trainer, kind, {}, steps=steps, ckpt_path=ckpt_path, **options)
        return model, saved.last_model_path

    whole, _ = run(6, "whole")
    _, half = run(3, "half")
    resumed, _ = run(6, "resumed", half)
    torch.use_deterministic_algorithms(False)
    assert_near(whole, resumed, rtol=0, atol=0)


def test_a_penalty_is_float32_where_tf32_is_allowed(tf32):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs a GPU with TF32")
    torch.manual_seed(0)
    critic = DCGAN(size=32, channels=3, width=32, batch_norm=False).discriminator.cuda()
    pictures, found = torch.rand(8, 3, 32, 32, device="cuda") * 2 - 1, []
    for allowed in (False, True):
        tf32(allowed)
        critic.zero_grad()
        penalty = zero_centered(critic, pictures)
        penalty.backward()
        found.append([penalty.detach(), critic(pictures).detach(), *(p.grad.clone() for p in critic.parameters())])
    (penalty, logits, *slopes), (with_tf32, rounded, *others) = found
    assert not torch.equal(logits, rounded)  # else this test would show nothing
    assert float((logits - rounded).abs().max()) > 1e-5 * float(logits.abs().max())
    torch.testing.assert_close(with_tf32, penalty, rtol=1e-5, atol=0)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(other, slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DCGAN, {}),
        (SNGAN, {"critic_steps": 1}),
        (GAN, {"critic": "conv", "r1": 1.0}),
        (DCGAN, {"augment": "ada", "augment_options": {"probability": 0.5}}),
    ],
)
def test_compiled_steps_agree_with_eager_ones(trainer, kind, options):
    compiled = trained(trainer, kind, options, **SHORT, callbacks=[Compile()])
    assert_near(compiled, trained(trainer, kind, options, **SHORT), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", [DCGAN, SNGAN])
def test_cuda_graphs_agree_with_eager_steps(trainer, kind):
    run = {**SHORT, "steps": 5}  # a graph is recorded in its second step, and replayed from the third on
    replayed = trained(trainer, kind, {"critic_steps": 1}, **run, callbacks=[Compile("reduce-overhead")])
    assert_near(replayed, trained(trainer, kind, {"critic_steps": 1}, **run), rtol=1e-4, atol=1e-7)


def test_compiled_steps_in_bfloat16_train(trainer):
    model = DCGAN(size=16, channels=1, width=8)
    before = [p.detach().clone() for p in model.generator.parameters()]
    fitted(trainer, model, precision="bf16-mixed", callbacks=[Compile()])
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert all(not torch.equal(a, b.cpu()) for a, b in zip(before, model.generator.parameters(), strict=True))


@pytest.mark.parametrize("kind", [DCGAN, SNGAN])
def test_channels_last_stays_on_the_device_and_changes_rounding_only(trainer, kind):
    ours = trained(trainer, kind, {"critic_steps": 1}, **SHORT)
    plain = trained(trainer, kind, {"critic_steps": 1}, torch.contiguous_format, **SHORT)
    kernels = [p for p in ours.discriminator.parameters() if p.ndim == 4 and min(p.shape[1], p.shape[2]) > 1]
    assert kernels  # for others both formats are one
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    assert_near(ours, plain, rtol=1e-4, atol=1e-7)
