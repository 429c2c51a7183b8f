"""Compiled training steps: the same networks, files and numbers, and a fixed number of graphs."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch._dynamo.utils import counters

from datamodules import DigitsDataModule
from gans.callbacks.compile import Compile, check_compiler, without_gradients_if_frozen
from gans.engine.checkpoint import Checkpoint
from gans.models import DCGAN, GAN, WGANGP, StyleGAN2
from gans.terms import ApproximateR1, ApproximateR2, PathLength


def small(kind=GAN, **options):
    torch.manual_seed(0)
    return kind(size=8, channels=1, latent_dim=4, width=4, **options)


def fitted(trainer, model, *callbacks, steps=4, **options):
    run = trainer(steps, callbacks=list(callbacks), **{"limit_val_batches": 0, **options})
    run.fit(model, DigitsDataModule(size=8, batch_size=16, val_size=24))
    return model


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if tolerance:
            assert torch.allclose(tensor, second[name], **tolerance), name
        else:
            assert torch.equal(tensor, second[name]), name


class Count(Callback):
    """Notes how many graphs there are after each batch, and after each validation."""

    def __init__(self, count):
        self.count, self.seen, self.compiled = count, [], []

    def on_train_batch_end(self, trainer, module, *args):
        self.seen.append(self.count())
        module.sample(len(self.seen) + 2)  # each time another number

    def on_validation_end(self, trainer, module):
        self.seen.append(self.count())


def test_a_compiled_run_is_the_eager_run(trainer, graphs, tmp_path):
    backend, count = graphs
    backend("eager")  # the same operations, so the same bits
    limit = torch.compiler.config.recompile_limit
    counting = Count(count)
    options = {"limit_val_batches": 2, "val_check_interval": 2, "enable_checkpointing": True}
    model = fitted(trainer, small(), Compile(), counting, Checkpoint(4, tmp_path / "compiled"), **options)
    assert counting.seen[0] == 4  # each network with and without gradients of its own
    assert len(set(counting.seen)) == 1  # no more for later batches, the validation's smaller one, and samples
    eager = fitted(trainer, small(), Checkpoint(4, tmp_path / "eager"), **options)
    assert_same(eager.state_dict(), model.state_dict())
    kept = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("compiled", "eager")]
    assert kept[0]["hyper_parameters"] == kept[1]["hyper_parameters"]
    assert_same(*(checkpoint["state_dict"] for checkpoint in kept))
    assert torch.compiler.config.recompile_limit == limit
    model.generator(torch.zeros(5, 4))
    assert count() == counting.seen[0]  # the run over, its networks are as before


def test_an_error_leaves_the_networks_as_they_were(trainer, graphs):
    backend, count = graphs
    backend("eager")

    class Fails(Callback):
        def on_validation_start(self, *args):
            raise RuntimeError("on purpose")

    model, limit = small(), torch.compiler.config.recompile_limit
    with pytest.raises(RuntimeError, match="on purpose"):
        fitted(trainer, model, Compile(), Fails(), limit_val_batches=1, val_check_interval=2)
    before = count()
    assert before == 4
    model.generator(torch.zeros(5, 4))
    assert (count(), torch.compiler.config.recompile_limit) == (before, limit)
    torch.compile(torch.sin, backend="eager")(torch.zeros(2))
    assert count() == before + 1  # compilation works again


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (GAN, {"r1": 1.0, "r2": 1.0}),
        (GAN, {"terms": [PathLength(every=1)]}),
        (WGANGP, {"critic_steps": 1}),
        pytest.param(StyleGAN2, {"preset": "small"}, marks=pytest.mark.slow),
    ],
)
def test_what_is_differentiated_twice_runs_eagerly(trainer, graphs, kind, options):
    backend, count = graphs
    backend("aot_eager")  # the part of the compiler that has no double backward
    model = fitted(trainer, small(kind, **options), Compile(), steps=2)
    eager = fitted(trainer, small(kind, **options), steps=2)
    assert count() >= 3
    assert_same(eager.state_dict(), model.state_dict(), rtol=1e-4, atol=1e-6)


def test_an_approximate_penalty_is_compiled(trainer, graphs):
    backend, count = graphs
    backend("aot_eager")  # the part of the compiler that has no double backward
    given = {"terms": [ApproximateR1(1.0), ApproximateR2(1.0)]}
    model = fitted(trainer, small(**given), Compile(), steps=2)
    assert count() == 4  # as without a penalty: each network with and without gradients of its own
    assert_same(fitted(trainer, small(**given), steps=2).state_dict(), model.state_dict(), rtol=1e-4, atol=1e-6)


def test_the_averaged_generator_and_frozen_networks_are_not_compiled(trainer, graphs):
    backend, count = graphs
    backend("eager")

    class Sampled(GAN):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            before = count()
            self.generator_ema(self.latent(7))
            assert count() == before

    fitted(trainer, small(Sampled), Compile(), steps=1)


def test_a_wrong_mode_is_refused():
    with pytest.raises(ValueError, match="compile is fast; expected true, false or one of default, reduce-overhead"):
        Compile("fast")


def test_only_what_needs_gradients_is_traced_with_them():
    network, seen = torch.nn.Linear(2, 2), []
    network._compiled_call_impl = lambda *args, **kwargs: seen.append(torch.is_grad_enabled())
    call = without_gradients_if_frozen(network)
    images = torch.zeros(1, 2)
    call(images)
    network.requires_grad_(False)
    call(images)
    call(images, given=[images.clone().requires_grad_()])
    with torch.no_grad():
        call(images)
    assert seen == [True, False, True, False]


def test_a_machine_without_a_compiler_is_told_what_to_do(monkeypatch):
    def broken(function):
        def fails(*args):
            raise RuntimeError("No working C++ compiler found\nand more")

        return fails

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        ValueError, match=r"\(No working C\+\+ compiler found\): install .* g\+\+, or give --compile false"
    ):
        check_compiler(torch.device("cpu"))


def test_the_flag_compiles_fit_alone(gans, monkeypatch):
    made = []

    class Spy(Callback):
        def __init__(self, mode):
            made.append(mode)

    monkeypatch.setattr("gans.recipes.experiment.Compile", Spy)
    run = "dcgan-digits --model.width 4 --data.size 8 --data.num_workers 0 --trainer.accelerator cpu"
    for value, mode in (("true", "default"), ("reduce-overhead", "reduce-overhead")):
        code, _, err = gans(f"fit {run} --trainer.max_steps 1 --compile {value}")
        assert code == 0, err
        assert made.pop() == mode
    assert gans(f"fit {run} --trainer.max_steps 1 --compile false")[0] == 0
    code, _, err = gans(f"validate {run} --compile true")
    assert code == 0, err
    assert made == []


def test_a_wrong_value_of_the_flag_is_refused(refused):
    assert "compile is fast" in refused("fit dcgan-digits --compile fast")


@pytest.mark.slow
def test_kernels_agree_with_eager_and_a_compiled_run_resumes_bit_for_bit(trainer, tmp_path):
    def run(steps, *callbacks, **options):
        model = small(DCGAN)
        saved = Checkpoint(steps, tmp_path / str(len(list(tmp_path.iterdir()))))
        # In single precision Adam would amplify the rounding of gradients that are 0.
        quiet = {"enable_checkpointing": True, "limit_val_batches": 0, "precision": "64-true"}
        trained = trainer(steps, callbacks=[*callbacks, saved], **quiet)
        trained.fit(model, DigitsDataModule(size=8, batch_size=16, val_size=24), **options)
        return model.state_dict(), saved.last_model_path

    whole, _ = run(6, Compile())
    _, half = run(3, Compile())
    resumed, _ = run(6, Compile(), ckpt_path=half)
    assert_same(whole, resumed)
    eager, _ = run(6)
    assert_same(eager, whole, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_two_compiled_processes_are_two_eager_ones(trainer, graphs, tmp_path):
    backend, _ = graphs
    backend("aot_eager")

    class Counted(Callback):
        def on_train_batch_end(self, run, module, *args):
            assert counters["stats"]["unique_graphs"] == 4  # in each process, none of them split for DDP's buckets

    def run(folder, *callbacks):
        saved = Checkpoint(4, tmp_path / folder)
        fitted(trainer, small(), *callbacks, saved, world=2, precision="64-true", enable_checkpointing=True)
        return torch.load(tmp_path / folder / "last.ckpt", weights_only=True)["state_dict"]

    assert_same(run("eager"), run("compiled", Compile(), Counted()), rtol=1e-6, atol=1e-9)
