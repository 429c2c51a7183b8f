"""The same run on one process and on several: weights, averages, buffers, and what is sent."""

import os
import subprocess
import sys

import pytest
import torch
from models_of_users import Penalised
from torch import distributed

from datamodules import DigitsDataModule
from gans.checkpoint import Checkpoint
from gans.models import DCGAN, GAN

GLOBAL_BATCH = 24


class Recorder(Checkpoint):
    """Saves what every process holds when the checkpoint is written, and counts what was reduced."""

    def __init__(self, folder):
        super().__init__(dirpath=str(folder))
        self.folder, self.sent = folder, []

    def on_train_start(self, trainer, pl_module):
        if trainer.world_size > 1:
            self.reduce, distributed.all_reduce = distributed.all_reduce, self.counted

    def counted(self, tensor, *args, **options):
        self.sent.append(tensor.numel() * tensor.element_size())
        return self.reduce(tensor, *args, **options)

    def on_train_batch_end(self, trainer, pl_module, *args):
        sent = list(self.sent)
        super().on_train_batch_end(trainer, pl_module, *args)
        if trainer.global_step == trainer.max_steps:
            held = {"state": pl_module.state_dict(), "sent": sent}
            torch.save(held, self.folder / f"{trainer.world_size}_{trainer.global_rank}.pt")
            if trainer.world_size > 1:
                distributed.all_reduce = self.reduce


@pytest.fixture
def run(trainer, tmp_path):
    def run(kind, world, accumulate=1, steps=5, precision="64-true", size=8, **options):
        torch.manual_seed(0)
        model = kind(**{"size": size, "channels": 1, "latent_dim": 4, "width": 2, "accumulate": accumulate, **options})
        model.seed = 3
        data = DigitsDataModule(size=size, batch_size=GLOBAL_BATCH // world)
        strategy = {"strategy": "ddp_fork", "devices": world} if world > 1 else {}
        loop = trainer(
            steps, precision=precision, callbacks=[Recorder(tmp_path)], enable_checkpointing=True,
            limit_val_batches=0, log_every_n_steps=1000, **strategy,
        )  # fmt: skip
        loop.fit(model, data)
        return [torch.load(tmp_path / f"{world}_{rank}.pt") for rank in range(world)]

    return run


def difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize(("kind", "accumulate", "critic_steps"), [(GAN, 1, 2), (Penalised, 1, 1), (Penalised, 4, 1)])
def test_processes_do_not_change_the_run(run, kind, accumulate, critic_steps):
    [alone] = run(kind, 1, critic_steps=critic_steps)
    for world in (2, 3):
        for process in run(kind, world, accumulate, critic_steps=critic_steps):
            assert difference(alone["state"], process["state"]) < 1e-9
    start = kind(size=8, channels=1, latent_dim=4, width=2).state_dict()
    assert difference(start, alone["state"]) > 1e-3


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_iteration_sends_each_network_once(run, accumulate):
    steps = 5
    for process in run(Penalised, 2, accumulate, steps=steps, precision="32-true"):
        sizes = {
            player: sum(value.numel() * 4 for name, value in process["state"].items() if name.startswith(player + "."))
            for player in ("generator", "discriminator")
        }
        assert process["sent"] == [sizes["discriminator"], sizes["generator"]] * steps


def test_saved_buffers_are_those_of_every_process(run):
    one, other = (process["state"] for process in run(DCGAN, 2, size=16))
    names = [name for name in one if "running" in name]
    assert {name.split(".")[0] for name in names} == {"generator", "discriminator", "generator_ema"}
    assert difference(one, other) == 0


@pytest.mark.skipif(os.name != "posix", reason="needs gloo over loopback")
def test_the_command_line_under_plain_ddp(tmp_path):
    """The recipe's own words, one process and two, launched by Lightning as a user would."""
    for world in (1, 2):
        flags = f"--data.class_path DigitsDataModule --data.size 8 --data.batch_size {GLOBAL_BATCH // world}"
        flags += f" --model.width 2 --trainer.devices {world} --trainer.accelerator cpu --trainer.precision 64-true"
        flags += f" --trainer.max_steps 4 --trainer.default_root_dir {tmp_path / str(world)}"
        command = [sys.executable, "-m", "gans", "fit", "gan-mnist", *flags.split()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
    one, two = (torch.load(next((tmp_path / str(world)).rglob("last.ckpt")))["state_dict"] for world in (1, 2))
    assert difference(one, two) < 1e-9
