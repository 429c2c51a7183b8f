"""How well images fit the sentences that they were made of: R-precision (Xu et al. 2018, AttnGAN, arXiv 1711.10485)."""

import torch
from torch import Tensor

from gans.latent import key

ROWS = 256  # whose sentences are compared at once


def contradicts(tokens: Tensor, all_tokens: Tensor, said: Tensor | None, all_said: Tensor | None) -> Tensor:
    """Return `(n, N)`: which of all sentences say something else than each of `n`.

    Args:
        tokens: `(n, T)`.
        all_tokens: `(N, T)`; equal ones are the same sentence.
        said: `(n, A)`, what the sentences say of each attribute, -1 for nothing: another contradicts if it says
            something else of the same attribute. None: every other sentence does.
        all_said: `(N, A)`, the same of all.
    """
    if said is None or all_said is None:
        return (tokens[:, None] != all_tokens).any(2)
    return ((said[:, None] != all_said) & (said[:, None] >= 0) & (all_said >= 0)).any(2)


def r_precision(
    images: Tensor, sentences: Tensor, tokens: Tensor, attributes: Tensor | None = None, others: int = 99, seed: int = 0
) -> Tensor:
    """Return for each image `(N,)` whether its sentence is nearer than all of `others` ones that say something else.

    By chance that is 1 in 1 + `others`; where fewer sentences contradict, 1 in those and one. Ties are misses.

    Args:
        images: unit vectors `(N, D)`.
        sentences: unit vectors `(N, D)` of their sentences.
        tokens: of the sentences, `(N, T)`.
        attributes: what they say, `(N, A)`, as in `contradicts`.
        others: number of sentences that each image's own is set beside.
        seed: of the choice of the others.
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
    """Return the columns of `attributes` `(N, A)` that sentences speak of: not whether a combination is held out."""
    return None if attributes is None else attributes[:, [i for i, name in enumerate(names) if name != "held_out"]]


def held_out_shares(parts: dict[str, Tensor], names: tuple[str, ...], judged: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the shares of images that are as their sentences say; of combinations never trained on by themselves.

    `r_precision` is that of the images made, `r_precision_real` of real ones, `swap` the share of sentences that the
    critic finds more fitting than another one, and each judged attribute's the share of images that show it.

    Args:
        parts: a row an image: unit vectors `made`, `real` and `read`, of the sentence, `(N, D)`; its `tokens`; `swap`
            `(N,)`, 1 or 0, and -1 where there was no other sentence; what is `said` of each attribute `(N, A)`, -1 for
            nothing; for those that are judged whether it is so, 1 or 0, and -1 if nothing is said.
        names: of the attributes; `held_out` says of which combination a sentence is.
        judged: those that are judged.
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
