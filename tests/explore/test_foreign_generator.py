"""README's blocks on somebody else's generator, and on a style model."""

import readme_blocks
import torch
from torch import nn


def test_a_generator_of_somebody_else_is_explored():
    [block] = [text for text in readme_blocks.blocks().values() if "gans.explore.sefa" in text]
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    with torch.no_grad():
        theirs[0].weight[:, 0] *= 5
    z = torch.randn(50, 6)
    scope = {"theirs": theirs, "z": z, "torch": torch, "pictures": theirs(z[:2] + 0.1).detach()}
    scope["batches"] = [theirs(z[:30]).detach(), torch.rand(10, 1, 8, 8)]
    exec(block, scope)
    assert scope["images"].shape == (36, 1, 8, 8)
    assert scope["gain"] > 1.5
    assert (theirs(scope["codes"]) - scope["pictures"]).square().mean() < 1e-3
    assert scope["rows"].shape == (36, 5)


def test_a_style_model_is_explored():
    [block] = [text for text in readme_blocks.blocks().values() if "gans.explore.spaces" in text]
    torch.manual_seed(0)
    scope = {"torch": torch}
    exec(block, scope)
    assert scope["mixtures"].shape == (7 * 6, 3, 16, 16)
    assert scope["less"].shape == (8 * 4, 3, 16, 16)
    torch.testing.assert_close(scope["same"], scope["model"](scope["z"]), rtol=1e-3, atol=1e-4)
