"""Scores of held-out pairs against their definitions, and their means over batches of any sizes."""

import pytest
import torch

from gans.metrics.functional import fid
from gans.metrics.pairs import Translations, fidelity
from gans.pictures.images import to_float


def test_fidelity_against_its_definitions():
    generator = torch.Generator().manual_seed(0)
    target = to_float(torch.randint(0, 256, (3, 3, 16, 16), generator=generator, dtype=torch.uint8))
    other = to_float(torch.randint(0, 256, (3, 3, 16, 16), generator=generator, dtype=torch.uint8))
    values = fidelity(torch.cat([target[:1], other[1:]]), target)
    expected = 10 * (4 / (other - target).square().flatten(1).mean(1)).log10()
    assert torch.allclose(values["psnr"][1:], expected[1:], rtol=1e-5)
    assert float(values["psnr"][0]) == 100
    assert float(values["ssim"][0]) == pytest.approx(1)
    assert values["ssim"][1:].abs().max() < 0.2
    assert torch.allclose(values["l1"][1:], (other - target).abs().flatten(1).mean(1)[1:])


class Numbers(Translations):
    """Scores that are the images' own values, and sets of these."""

    def compare(self, model, batch):
        return {"value": batch[:, 0]}, {"fid/numbers": (batch, batch + 1)}


class Logs:
    """Notes what a model logs."""

    def __init__(self):
        self.trainer, self.logged = type("Trainer", (), {"global_step": 7}), []

    def log_dict(self, values, sync_dist):
        self.logged.append(values)


@pytest.mark.parametrize("sizes", [(6,), (1, 5), (2, 2, 2)])
def test_an_image_counts_as_much_in_a_batch_of_any_size(sizes):
    model, held_out = Logs(), Numbers(None)
    held_out.log(model, "val")
    assert model.logged == []  # nothing was seen
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    held_out.add(model, rows + 1, 0)  # of an epoch that was interrupted
    for batch_idx, batch in enumerate(rows.split(sizes)):
        held_out.add(model, batch, batch_idx)
    held_out.log(model, "val")
    held_out.log(model, "val")  # and forgotten
    [found] = model.logged
    assert float(found.pop("val/value")) == pytest.approx(float(rows[:, 0].mean()))
    assert float(found.pop("val/fid/numbers")) == pytest.approx(float(fid(rows, rows + 1)), rel=1e-5)
    assert found == {"step": 7}


def test_sets_without_a_distance_are_left_out():
    """One image has no covariance, and NaN no distance."""
    for batch in (torch.ones(1, 3), torch.full((4, 3), torch.nan)):
        model, held_out = Logs(), Numbers(None)
        held_out.add(model, batch, 0)
        held_out.log(model, "test")
        assert set(model.logged[0]) == {"test/value", "step"}
