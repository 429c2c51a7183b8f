"""Contextual attention: the equations position by position, copies from known parts alone, and half precision."""

import torch

from gans.networks.contextual import attended, fused, subsampled


def maps(n, channels, height, width):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def hole(n, height, width, top=0.25, bottom=0.75):
    mask = torch.zeros(n, 1, height, width)
    mask[..., int(top * height) : int(bottom * height), width // 3 : width // 2] = 1
    return mask


def by_hand(given, masks):
    """Equations 3 to 5 of Yu et al. 2018, pair by pair, for one image `(C, h, w)` of even sides."""
    small, unknown = subsampled(given[None], 2)[0], subsampled(masks[None], 2)[0, 0]
    height, width = small.shape[-2:]
    framed = torch.nn.functional.pad(small, (1, 1, 1, 1))
    holes = torch.nn.functional.pad(unknown, (1, 1, 1, 1))
    places = [(row, column) for row in range(height) for column in range(width)]
    patch = {at: framed[:, at[0] : at[0] + 3, at[1] : at[1] + 3] for at in places}
    score = {(a, b): float((patch[a] * patch[b]).sum() / patch[b].norm()) for a in places for b in places}
    for order in (places, sorted(places, key=lambda at: at[::-1])):  # neighbours in rows, then in columns
        after = {at: order[i + 1] if i + 1 < len(order) else None for i, at in enumerate(order)}
        before = {b: a for a, b in after.items()}
        score = {
            (a, b): value + score.get((after.get(a), after.get(b)), 0) + score.get((before.get(a), before.get(b)), 0)
            for (a, b), value in score.items()
        }
    made = torch.zeros(given.shape[0], 2 * height + 2, 2 * width + 2)
    source = torch.nn.functional.pad(given, (1, 1, 1, 1))
    for a in places:
        known = torch.tensor([float(not holes[b[0] : b[0] + 3, b[1] : b[1] + 3].any()) for b in places])
        weights = (10 * torch.tensor([score[a, b] for b in places]) * known).softmax(0) * known
        for weight, (row, column) in zip(weights, places, strict=True):
            copied = source[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            made[:, 2 * a[0] : 2 * a[0] + 4, 2 * a[1] : 2 * a[1] + 4] += weight * copied / 4
    return made[:, 1:-1, 1:-1]


def test_it_is_the_papers_equations():
    given, masks = 0.1 * maps(2, 3, 8, 12), hole(2, 8, 12)
    masks[1] = masks[1].flip(1)  # each image has its own mask
    found = attended(given, masks)
    for image, mask, made in zip(given, masks, found, strict=True):
        assert torch.allclose(made, by_hand(image, mask), atol=1e-5)


def test_a_texture_is_continued_with_patches_of_the_known_part():
    tile = maps(1, 4, 8, 8).repeat(1, 1, 4, 4)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 12:20, 12:20] = 1
    seen = subsampled(torch.arange(32.0).view(1, 1, 1, 32).expand(1, 1, 32, 32), 2)
    assert seen[0, 0, 0].tolist() == [*range(0, 16, 2), *range(17, 32, 2)]  # TensorFlow's align_corners
    near = attended(100 * tile, mask)[..., 4:8, 4:8] / 100
    assert torch.allclose(
        near, tile[..., 4:8, 4:8], atol=1e-3
    )  # sharp scores: a patch is copied from itself or an equal


def test_what_is_in_a_hole_is_not_copied():
    given, mask = maps(1, 3, 16, 16), hole(1, 16, 16)
    given = torch.where(mask > 0, 1000.0, given)
    with torch.no_grad():
        assert attended(given, mask)[..., 10:, 10:].abs().max() < 10
    assert not attended(given, torch.ones_like(mask)).any()


def test_half_precision_comes_back_as_it_was_given():
    given, mask = maps(1, 3, 8, 8), hole(1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        made = attended(given.bfloat16(), mask)
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, attended(given.bfloat16().float(), mask).bfloat16())


def test_fused_scores_are_sums_of_nine():
    scores = torch.ones(1, 6, 6)
    assert float(fused(scores, 2, 3).max()) == 9
    assert float(fused(scores, 2, 3)[0, 0, 0]) == 2 + 3  # without a neighbour before it in either order
