"""How well images fit the sentences that they were made of: R-precision (Xu et al. 2018, AttnGAN, arXiv 1711.10485)."""

import torch
from torch import Tensor

from gans.latent import key

ROWS = 256  # images whose sentences are compared at once


def contradicts(tokens: Tensor, all_tokens: Tensor, said: Tensor | None, all_said: Tensor | None) -> Tensor:
    """Return for each of `n` sentences which of all `N` sentences contradict it, bool `(n, N)`.

    A sentence contradicts another if both name the same attribute with different values. If attributes are not known,
    all sentences of other tokens do.

    Args:
        tokens: of the sentences, `(n, T)`.
        all_tokens: of all sentences, `(N, T)`.
        said: value of each attribute `(n, A)`, -1 where a sentence does not name it; None if not known.
        all_said: the same of all sentences, `(N, A)`.
    """
    if said is None or all_said is None:
        return (tokens[:, None] != all_tokens).any(2)
    return ((said[:, None] != all_said) & (said[:, None] >= 0) & (all_said >= 0)).any(2)


def r_precision(
    images: Tensor, sentences: Tensor, tokens: Tensor, attributes: Tensor | None = None, others: int = 99, seed: int = 0
) -> Tensor:
    """Return for each image, bool `(N,)`, whether its sentence is nearer than `others` sentences that contradict it.

    Chance is 1 in 1 + `others`, and higher if fewer sentences contradict. Ties are misses.

    Args:
        images: unit vectors `(N, D)`.
        sentences: unit vectors `(N, D)` of their sentences.
        tokens: of the sentences, `(N, T)`.
        attributes: values `(N, A)` of the attributes that sentences name, as in `contradicts`.
        others: number of contradicting sentences that are drawn for each image.
        seed: of these draws.
    """
    generator = torch.Generator().manual_seed(key("r_precision", seed))
    found = []
    for start in range(0, len(images), ROWS):
        rows = slice(start, start + ROWS)
        near = images[rows] @ sentences.T
        said = (None, None) if attributes is None else (attributes[rows], attributes)
        allowed = contradicts(tokens[rows], tokens, *said)
        lots = torch.rand(near.shape, generator=generator).to(near.device).masked_fill(~allowed, -1)
        drawn = lots.topk(min(others, lots.shape[1]), 1)
        rivals = near.gather(1, drawn.indices).masked_fill(drawn.values < 0, -torch.inf)
        own = near.gather(1, torch.arange(start, start + len(near), device=near.device)[:, None])
        found.append((own > rivals).all(1))
    return torch.cat(found)


def statements(attributes: Tensor | None, names: tuple[str, ...]) -> Tensor | None:
    """Return the columns of `attributes` `(N, A)` that sentences can name: all but `held_out`."""
    return None if attributes is None else attributes[:, [i for i, name in enumerate(names) if name != "held_out"]]


def held_out_shares(parts: dict[str, Tensor], names: tuple[str, ...], judged: tuple[str, ...]) -> dict[str, Tensor]:
    """Return shares of images by name; combinations that training never saw have their own, as `held_out/swap`.

    - `r_precision`, `r_precision_real`: R-precision of generated and of real images.
    - `swap`: real images for which the critic prefers their own sentence to another one.
    - the name of a judged attribute: generated images that show its value.

    Args:
        parts: a row for each image. `made`, `real` and `read` are unit vectors `(N, D)` of the generated image, the
            real one and the sentence; `tokens` are `(N, T)`; `swap` `(N,)` is 1 or 0, or -1 without another sentence;
            `said` is the value of each attribute `(N, A)`, or -1; a judged attribute `(N,)` is 1 if the image shows
            the value, 0 if not, and -1 if the sentence does not name it.
        names: of the attributes. In the column `held_out` 1 marks a combination that training never saw.
        judged: the attributes that are judged.
    """
    said = parts.get("said")
    apart = said[:, names.index("held_out")] > 0 if said is not None and "held_out" in names else None
    said = statements(said, names)
    hits = {"swap": parts["swap"]}
    for name, of in (("r_precision", "made"), ("r_precision_real", "real")):
        hits[name] = r_precision(parts[of], parts["read"], parts["tokens"], said)
    hits |= {name: parts[name] for name in judged if name in parts}
    found = {}
    for prefix, rows in (("", None if apart is None else ~apart), ("held_out/", apart)):
        for name, hit in hits.items():
            kept = hit if rows is None else hit[rows]
            kept = kept[kept >= 0].float()
            if len(kept) and (rows is not None or not prefix):
                found[f"{prefix}{name}"] = kept.mean()
    return found
