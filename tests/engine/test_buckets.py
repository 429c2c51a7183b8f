"""Gradients in buckets: when they are sent, in which order, where they lie, and what they are."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
import torch.utils.checkpoint
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from datamodules import DigitsDataModule
from gans.engine import buckets
from gans.engine.buckets import Averages, Buckets
from gans.models import GAN


@pytest.fixture
def small(monkeypatch):
    """A bucket for almost every parameter of a small network."""
    monkeypatch.setattr(buckets, "FIRST", 64)
    monkeypatch.setattr(buckets, "REST", 128)


def process(rank, world, folder, check):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    try:
        torch.manual_seed(0)
        torch.save(check(rank), folder / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.fixture
def together(tmp_path):
    """Return a function that calls `check(rank)` on two processes and returns what each returned."""

    def together(check, world=2):
        (tmp_path / "store").unlink(missing_ok=True)
        multiprocessing.start_processes(process, (world, tmp_path, check), nprocs=world, start_method="fork")
        return [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]

    return together


class Messages:
    """What is sent, in order, while it is in use."""

    def __enter__(self):
        self.events, self.reduce = [], distributed.all_reduce
        distributed.all_reduce = self.counted
        return self

    def counted(self, tensor, *args, **options):
        self.events.append(tensor.nbytes)
        return self.reduce(tensor, *args, **options)

    def __exit__(self, *error):
        distributed.all_reduce = self.reduce


def network():
    layers = [part for width in (8, 12, 16, 20) for part in (nn.Linear(width, width + 4), nn.Tanh())]
    return nn.Sequential(*layers).double()


def averaged(averages, parameters, loss, last=True):
    with averages.averaging(list(parameters), last):
        loss.backward()


def test_sending_begins_before_the_backward_pass_ends(together, small):
    def check(rank):
        net, images = network(), torch.randn(4, 8, dtype=torch.float64)
        with Messages() as messages:
            for parameter in net[0].parameters():  # whose gradients are made last
                parameter.register_hook(lambda gradient: messages.events.append("end"))
            averaged(Buckets(), net.parameters(), net(images).square().mean())
        return messages.events

    for events in together(check):
        sent = [event for event in events if event != "end"]
        assert sum(sent) == sum(p.nbytes + 8 for p in network().parameters())
        assert len(sent) > 3
        assert events[-3:-1] == ["end", "end"]  # only the last follows, all others are on their way


@pytest.mark.parametrize("penalty", ["none", "gradient", "length"])
def test_means_are_the_gradients_of_the_whole_batch(together, small, penalty):
    torch.manual_seed(1)
    images = torch.randn(6, 8, dtype=torch.float64)

    def loss(net, images):
        images = images.clone().requires_grad_()
        output = net(images)
        if penalty == "none":
            return output.square().mean()
        summed = output.sum() if penalty == "gradient" else (output * output.detach().sin()).sum()
        [gradient] = torch.autograd.grad(summed, images, create_graph=True)
        return (gradient.norm(dim=1) - 1).square().mean() + output.mean()

    def check(rank):
        net, averages, found = network(), Buckets(), []
        own = images[3 * rank : 3 * rank + 3]
        for pieces in (1, 3, 1):
            net.zero_grad()
            for number, piece in enumerate(own.chunk(pieces)):
                averaged(averages, net.parameters(), loss(net, piece) / pieces, last=number == pieces - 1)
            found.append([p.grad.clone() for p in net.parameters()])
        return found

    results = together(check)
    torch.manual_seed(0)
    net = network()
    loss(net, images).backward()
    for process in results:
        for found in process:
            for parameter, mean in zip(net.parameters(), found, strict=True):
                torch.testing.assert_close(mean, parameter.grad, rtol=1e-12, atol=1e-12)


class Branches(nn.Module):
    """Layers that are used or not."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2 + i) for i in range(5)).double()

    def forward(self, used):
        return sum((self.layers[i].weight.sum() + self.layers[i].bias.sum()) * (i + 1) for i in used)


def test_processes_that_lack_gradients_send_in_the_same_order(together, small):
    """Layers 3 and 4, sent first, lack gradients on one process; layer 2 on both."""

    def check(rank):
        net, averages = Branches(), Buckets()
        averaged(averages, net.parameters(), net(range(5)))  # which leaves numbers in the buckets
        net.zero_grad()
        with Messages() as messages:
            averaged(averages, net.parameters(), net({0, 1, 3, 4} if rank == 0 else {0, 1}))
        gradients = [None if layer.bias.grad is None else layer.bias.grad.tolist() for layer in net.layers]
        return messages.events, gradients

    one, other = together(check)
    assert one == other
    events, gradients = one
    assert len(set(events)) > 2
    assert gradients == [[1.0] * 2, [2.0] * 3, None, [2.0] * 5, [2.5] * 6]


def test_a_gradient_in_some_steps_only(together, small):
    def check(rank):
        net, averages = Branches(), Buckets()
        optimizer, moved = torch.optim.Adam(net.parameters()), []
        for used in ({0, 1, 2, 3, 4}, {0}, {0, 4}):
            before = [layer.weight.detach().clone() for layer in net.layers]
            optimizer.zero_grad()
            averaged(averages, net.parameters(), net(used))
            optimizer.step()
            moved.append([not torch.equal(a, layer.weight) for a, layer in zip(before, net.layers, strict=True)])
        return moved

    for moved in together(check):
        assert moved == [[True] * 5, [True] + [False] * 4, [True, False, False, False, True]]


def test_gradients_are_views_with_the_strides_of_the_weights(together):
    def check(rank):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 3, bias=False), nn.Conv2d(5, 1, 1))
        net.to(memory_format=torch.channels_last)
        net.register_parameter("turned", nn.Parameter(torch.randn(4, 6).T))
        net.register_parameter("scale", nn.Parameter(torch.randn((), dtype=torch.float64)))
        averages, before = Buckets(), []
        for _ in range(2):
            net.zero_grad()
            loss = net(torch.randn(2, 3, 8, 8)).mean() + (net.turned * torch.arange(4)).sum() * net.scale
            averaged(averages, net.parameters(), loss)
            before.append([p.grad.data_ptr() for p in net.parameters()])
        assert before[0] == before[1]
        for parameter in net.parameters():
            assert parameter.grad.stride() == parameter.stride()
            if parameter.nbytes % 16 == 0:
                assert parameter.grad.data_ptr() % 16 == 0
        torch.testing.assert_close(net.turned.grad, (torch.arange(4) * net.scale.detach()).float().expand(6, 4))
        held = {p.grad.untyped_storage().data_ptr(): p.grad.untyped_storage().nbytes() for p in net.parameters()}
        assert len(held) == 2  # a bucket for each dtype
        return sum(held.values()), sum(p.nbytes + p.element_size() for p in net.parameters())

    for held, expected in together(check):
        assert held == expected


def test_zeroed_gradients_stay_where_they_are(together, small):
    """A user's optimizer may zero gradients in place; they are summed into the buckets then."""

    def check(rank):
        net, averages = Branches(), Buckets()
        for _ in range(3):
            net.zero_grad(set_to_none=False)
            averaged(averages, net.parameters(), net({0, 1, 4}) * (rank + 1))
        return [None if layer.bias.grad is None else layer.bias.grad.tolist() for layer in net.layers]

    assert together(check) == [[[1.5] * 2, [3.0] * 3, None, None, [7.5] * 6]] * 2


def test_players_share_parameters_and_freeze_them(together, small):
    def check(rank):
        net, averages = Branches(), Averages()
        layers = [list(layer.parameters()) for layer in net.layers]
        groups = [{"params": layers[0]}, {"params": layers[1] + layers[2], "lr": 0.1}]
        one = torch.optim.SGD(groups, lr=1.0)
        two = torch.optim.SGD(layers[2] + layers[3], lr=1.0)
        found = []
        for frozen in (False, True, False):
            net.layers[1].requires_grad_(not frozen)
            for optimizer, used in ((one, {0, 1, 2}), (two, {2, 3})):
                optimizer.zero_grad()
                with averages.during_backward(optimizer, [], last=True):
                    (net(used) * (1 + 2 * rank)).backward()
                owned = [p for group in optimizer.param_groups for p in group["params"]]
                found.append([None if p.grad is None else float(p.grad.mean()) for p in owned])
        return found

    every = [[2.0, 2.0, 4.0, 4.0, 6.0, 6.0], [6.0, 6.0, 8.0, 8.0]]
    some = [[2.0, 2.0, None, None, 6.0, 6.0], [6.0, 6.0, 8.0, 8.0]]
    assert together(check) == [[*every, *some, *every]] * 2


def test_a_scaler_skips_the_step_on_all_processes(together, small):
    def check(rank):
        net, averages = Branches().float(), Buckets()
        optimizer, scaler = torch.optim.SGD(net.parameters(), lr=1.0), torch.amp.GradScaler("cpu", init_scale=8.0)
        scales = []
        for factor in (1.0, torch.inf if rank else 1.0):
            before = [p.detach().clone() for p in net.parameters()]
            optimizer.zero_grad()
            averaged(averages, net.parameters(), scaler.scale(net(range(5)) * factor))
            scaler.step(optimizer)
            scaler.update()
            moved = [float((a - p).mean()) for a, p in zip(before, net.parameters(), strict=True)]
            scales.append((scaler.get_scale(), moved))
        return scales

    for (first, moved), (second, still) in together(check):
        assert (first, second) == (8.0, 4.0)
        assert moved == pytest.approx([1, 1, 2, 2, 3, 3, 4, 4, 5, 5], rel=1e-6)
        assert still == [0.0] * 10


def test_other_backward_passes_are_left_alone(together, small):
    def check(rank):
        net, averages = Branches(), Buckets()
        averaged(averages, net.parameters(), net(range(5)))
        net.zero_grad()
        with Messages() as messages:
            (net(range(5)) * (1 + rank)).backward()
        assert messages.events == []
        copied = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
        averages.remove()
        hooks = [len(p._post_accumulate_grad_hooks or ()) for part in (net, *copied) for p in part.parameters()]
        return sum(hooks), float(net.layers[0].bias.grad[0])

    assert together(check) == [(0, 1.0), (0, 2.0)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pass_that_fails_leaves_nothing_behind(together, small, error):
    """Its first messages are on their way. They must not reach the gradients of the next pass."""

    def check(rank):
        net, averages = Branches(), Buckets()
        averaged(averages, net.parameters(), net(range(5)))

        def fail(gradient):
            raise error

        hook = net.layers[1].weight.register_hook(fail)
        with Messages() as messages, pytest.raises(error):
            averaged(averages, net.parameters(), net(range(5)))
        hook.remove()
        assert 0 < len(messages.events) < 5
        assert not any(p._post_accumulate_grad_hooks for p in net.parameters())
        sent = [p.grad.untyped_storage() for p in net.layers[4].parameters()]  # held, so that nothing else lies there
        net.zero_grad()
        averaged(averages, net.parameters(), net({0, 1, 4}) * (rank + 1))
        fresh = {p.grad.untyped_storage().data_ptr() for p in net.parameters() if p.grad is not None}
        assert not fresh & {storage.data_ptr() for storage in sent}
        return [None if layer.bias.grad is None else layer.bias.grad.tolist() for layer in net.layers]

    assert together(check) == [[[1.5] * 2, [3.0] * 3, None, None, [7.5] * 6]] * 2


def test_parameters_that_join_an_optimizer_are_averaged(together, small):
    def check(rank):
        net, averages = Branches(), Averages()
        optimizer, found = torch.optim.SGD(net.layers[0].parameters(), lr=1.0), []
        for added in (1, 4, None):
            optimizer.zero_grad()
            with averages.during_backward(optimizer, [], last=True):
                (net(range(5)) * (1 + 2 * rank)).backward()
            found.append([float(layer.bias.grad[0]) for layer in net.layers[:2]])
            if added:
                optimizer.add_param_group({"params": [*net.layers[added].parameters()]})
            for parameter in net.parameters():
                parameter.grad = None
        return found

    one, other = together(check)
    assert one == [[2.0, 2.0], [2.0, 4.0], [2.0, 4.0]]
    assert other == [[2.0, 6.0], [2.0, 4.0], [2.0, 4.0]]


def test_a_gradient_that_arrives_twice_is_refused(together):
    """As from reentrant checkpointing of a layer that is used twice: the first would have been sent already."""

    def check(rank):
        layer = nn.Linear(2, 2)
        output = torch.ones(1, 2, requires_grad=True)
        for _ in range(2):
            output = torch.utils.checkpoint.checkpoint(layer, output, use_reentrant=True)
        with pytest.raises(RuntimeError, match=r"shape \(2, 2\) arrived twice.*use_reentrant=False"):
            averaged(Buckets(), [layer.weight], output.sum())
        return True

    assert together(check) == [True, True]


class Watched(GAN):
    """Notes what a run holds besides weights."""

    def on_fit_start(self):
        wrapper = weakref.ref(self.trainer.strategy.model)
        assert (type(wrapper()) is DistributedDataParallel) == (self.trainer.world_size > 1)
        super().on_fit_start()
        gc.collect()
        assert wrapper() in (None, self)

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        copied = copy.deepcopy(self.discriminator), pickle.loads(pickle.dumps(self._averages))
        assert not copied[1]._buckets
        hooks = [len(p._post_accumulate_grad_hooks or ()) for p in self.parameters()]
        players = [*self.generator.parameters(), *self.discriminator.parameters()]
        assert sum(hooks) == (len(players) if self.trainer.world_size > 1 else 0)
        stored = {p.grad.untyped_storage().data_ptr(): p.grad.untyped_storage().nbytes() for p in players}
        assert sum(stored.values()) == sum(p.nbytes + (4 if self.trainer.world_size > 1 else 0) for p in players)


@pytest.mark.parametrize("world", [1, 2])
def test_a_run_holds_each_gradient_once(trainer, world):
    model = Watched(size=8, channels=1, latent_dim=4, width=2)
    for _ in range(2):  # a second run of the same module
        trainer(2, world, limit_val_batches=0).fit(model, DigitsDataModule(size=8, batch_size=12))
        assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    pickle.loads(pickle.dumps(model.discriminator))
