"""What may be added to the loss of a player: one class a regulariser, each a page of mathematics with its source.

A term is a `Term` with a player, a weight and an interval. It reads a `Step`: the images of a player's step, and the
discriminator's outputs on them. `R1` differentiates the forward pass of the loss: the same augmentation, the same
instance noise, no second pass. `ApproximateR1` compares the outputs of that pass with those on images nearby. A term
that is due every so many steps has an optimizer step of its own.

    DCGAN(batch_norm=False, terms=[R1(weight=10, every=16), BCR()])

    model:
      class_path: DCGAN
      init_args:
        batch_norm: false
        terms:
          - {class_path: R1, init_args: {weight: 10, every: 16}}
          - {class_path: BCR}

A new regulariser is one class here and one line in a recipe. A class of your own works in Python, and in a recipe by
its import path. Hyper-parameters and checkpoints hold descriptions (`described`), never objects.
"""

import copy
import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from gans import penalties
from gans.augment import ADA
from gans.checks import at_least, named_in, nearest, positive
from gans.losses import Loss, Relativistic, conditional_contrastive, data_to_data, invariant_information
from gans.precision import require_to_the_end

Player = Literal["generator", "discriminator"]
Side = Literal["real", "fake"]


class Nearby(NamedTuple):
    """Names images near those of a side: `x + sigma n` with noise n of N(0, 1), of which `sample` is the number."""

    side: Side
    sigma: float
    sample: int = 0


class Game(Protocol):
    """What a term may use of the model that trains. `AdversarialModule` and `LatentGAN` provide it."""

    generator: nn.Module
    discriminator: nn.Module
    loss: Loss
    image_shape: tuple[int, ...] | None
    accumulate: int
    images_seen: int

    @property
    def updates(self) -> int:
        """Updates of the generator so far, this one included."""

    def generator_inputs(self, n: int, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return latents and conditions of `n` fresh samples, what the generator takes."""

    def path(self, z: Tensor, *conditions: Tensor, every: int = 1) -> tuple[Tensor, Tensor]:
        """Return points of the space that `PathLength` measures in, and their images, for every n-th row (`every`)."""

    def critic(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return the discriminator's output on images, augmented and noised as in training."""

    def logits(self, output: Any) -> Tensor:
        """Return the logits in the output of the discriminator."""

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return fresh numbers `(n, *shape)` in [0, 1)."""

    def noise_like(self, images: Tensor) -> Tensor:
        """Return fresh N(0, 1) numbers of the shape of `images`."""

    def average(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows `(N, ...)` of all processes; gradients flow into this process's own."""

    def record(self, name: str, value: Tensor) -> None:
        """Note a value for a curve."""


class Guided(Game, Protocol):
    """A game with a frozen image network, for the term `Alignment`. `GAT` provides it."""

    def guide(self, pictures: Tensor) -> Tensor:
        """Return the network's tokens `(N, 1 + patches, length)` for pictures `(N, C, H, W)`."""


@dataclass(frozen=True)
class Step:
    """What the step of one player offers to its terms.

    Args:
        player: whose step it is.
        game: the model.
        latents: `(N, latent_dim)`, of the fake images.
        real: images `(N, C, H, W)` before augmentation; they require a gradient if a term differentiates them.
        labels: classes or other conditions of the real images.
        real_output: what the discriminator returned for `real`; None if nothing reads it.
        fake: generated images, detached in the discriminator's step.
        conditions: classes or other conditions of the fake images.
        fake_output: what the discriminator returned for `fake`; None if nothing reads it.
        batch: images of the whole batch, over all processes and pieces.
        near_outputs: what the discriminator returned for images nearby. They had the augmentation and the instance
            noise of the images that they are near.
        pictures: `(N, C, H, W)` in [-1, 1], of the real images if these are codes; shifted and mirrored as the
            augmentation did with the codes. None if the model gives none.
    """

    player: Player
    game: Game
    latents: Tensor
    real: Tensor
    labels: tuple[Tensor, ...]
    real_output: Any
    fake: Tensor
    conditions: tuple[Tensor, ...]
    fake_output: Any
    batch: int
    near_outputs: Mapping[Nearby, Any] = dataclasses.field(default_factory=dict)
    pictures: Tensor | None = None

    @property
    def real_logits(self) -> Tensor:
        """Logits of the real images."""
        return self.game.logits(self.real_output)

    @property
    def fake_logits(self) -> Tensor:
        """Logits of the fake images."""
        return self.game.logits(self.fake_output)

    def change(self, nearby: Nearby) -> Tensor:
        """Return the logits `(N, ...)` of images nearby less those of the images themselves, differentiable in both.

        Raises:
            ValueError: if the step has no such images.
        """
        if nearby not in self.near_outputs:
            told = f"{type(self.game).__name__} has no images near {nearby.side} ones in its steps"
            raise ValueError(f"{told}; expected a model without ApproximateR1 and ApproximateR2")
        own = self.real_logits if nearby.side == "real" else self.fake_logits
        change: Tensor = self.game.logits(self.near_outputs[nearby]) - own
        if change.requires_grad:
            change.register_hook(require_to_the_end)  # type: ignore[no-untyped-call]
        return change

    def gradient(self, side: Side) -> Tensor:
        """Return the gradient `(N, C, H, W)` of the sum of a side's logits with respect to its images, differentiable.

        It is computed once for all terms, and for both sides at once if terms differentiate both.
        """
        return self._gradients[side]

    @cached_property
    def _gradients(self) -> dict[str, Tensor]:
        images = {"real": self.real, "fake": self.fake}
        outputs = {"real": self.real_output, "fake": self.fake_output}
        sides = [side for side in images if outputs[side] is not None and images[side].requires_grad]
        logits = torch.cat([self.game.logits(outputs[side]).flatten() for side in sides])
        found = penalties.gradients(logits, [images[side] for side in sides])
        return dict(zip(sides, found, strict=True))


class Term(nn.Module):
    """Base of all terms. Buffers of a term are saved in checkpoints.

    Args:
        weight: of the term in the player's loss.
        every: steps of the player from one use to the next. A term with more than 1 is `every` times as strong, in an
            optimizer step of its own, for which the player's Adam is slowed down.
    """

    player: Player = "discriminator"
    reads: tuple[str, ...] = ()  # "real", "fake": outputs of the discriminator that it needs
    differentiates: tuple[str, ...] = ()  # "real", "fake": images whose gradient it takes
    near: tuple[Nearby, ...] = ()  # images whose outputs it compares with those of a side that it reads
    curve = "penalty"  # group of its curve in TensorBoard

    def __init__(self, weight: float = 1.0, every: int = 1) -> None:
        super().__init__()
        at_least(0, weight=weight)
        at_least(1, every=every)
        self.weight, self.every = weight, every

    @property
    def name(self) -> str:
        """Name of its curve, and of its state in checkpoints."""
        return type(self).__name__.lower()

    def check(self, game: Game) -> None:
        """Refuse a model that the term does not go with.

        Raises:
            ValueError: if it does not.
        """

    def forward(self, step: Step) -> Tensor | None:
        """Return the term without its weight, a scalar; None if it has nothing to add in this step."""
        raise NotImplementedError

    def factor(self, step: Step) -> float:
        """Return the factor of the value in the loss."""
        return self.weight

    def after_step(self, game: Game) -> None:
        """Change the player's network after its optimizer step."""

    def described(self) -> dict[str, Any]:
        """Return the import path and the arguments, as a recipe has them.

        Raises:
            ValueError: if an argument is not an attribute.
        """
        kind = type(self)
        names = list(inspect.signature(kind).parameters)
        if missing := [name for name in names if not hasattr(self, name)]:
            raise ValueError(f"{kind.__name__} has no attribute {missing[0]}; expected one for each argument")
        return {
            "class_path": f"{kind.__module__}.{kind.__qualname__}",
            "init_args": {name: getattr(self, name) for name in names},
        }

    def extra_repr(self) -> str:
        """Return the arguments for `print(model)`."""
        return ", ".join(f"{name}={value}" for name, value in self.described()["init_args"].items())


class Terms(nn.ModuleDict):
    """The terms of a game, by their names. The state of a term is `terms.<name>.<buffer>` in checkpoints."""

    def __init__(self, terms: Iterable[Term]) -> None:
        super().__init__()
        for term in terms:
            name, count = term.name, 1
            while name in self:
                count += 1
                name = f"{term.name}_{count}"
            self[name] = term

    def of(self, player: Player) -> list[Term]:
        """Return the terms of a player."""
        return [cast(Term, term) for term in self.values() if term.player == player]

    def constant(self, player: Player) -> list[Term]:
        """Return the terms of a player that are due in each of its steps."""
        return [term for term in self.of(player) if term.every == 1]

    def lazy(self, player: Player, steps: int) -> Iterator[list[Term]]:
        """Yield the terms that are due in an optimizer step of their own after `steps` steps of the player."""
        spaced = [term for term in self.of(player) if term.every > 1]
        for every in sorted({term.every for term in spaced}):
            if steps % every == 0:
                yield [term for term in spaced if term.every == every]

    def share(self, player: Player) -> float:
        """Return the share of a player's optimizer steps that its main loss takes, for Adam's correction.

        With an optimizer step of its own every k steps, a term adds 1/k steps. Adam's learning rate is multiplied by
        this share, and its betas are raised to it, so that the player moves as far and remembers as long as before.

        Source: Karras et al. 2020 (StyleGAN2, arXiv 1912.04958), appendix B.
        """
        spaced = {term.every for term in self.of(player) if term.every > 1}
        return 1 / (1 + sum(1 / every for every in spaced))

    def total(self, step: Step, terms: Sequence[Term], of: str = "") -> Tensor | float:
        """Return the weighted sum of `terms` in a step, and record each value; `of` is put before its curve's name."""
        total: Tensor | float = 0.0
        for name, term in self.items():
            if term not in terms or (value := term(step)) is None:
                continue
            step.game.record(f"{term.curve}/{of}{name}", value)
            total = total + cast(Term, term).factor(step) * value
        return total

    def spaced(self, step: Step, terms: Sequence[Term]) -> Tensor:
        """Return the loss of an optimizer step of terms that are due every so many steps, so many times as strong."""
        return terms[0].every * self.total(step, terms) + torch.zeros((), device=step.fake.device)


def needed(terms: Sequence[Term], kind: Literal["reads", "differentiates"]) -> set[str]:
    """Return which of "real" and "fake" some of `terms` read, or differentiate."""
    return {name for term in terms for name in getattr(term, kind)}


def all_near(terms: Sequence[Term]) -> list[Nearby]:
    """Return what images nearby some of `terms` compare, each once."""
    return list(dict.fromkeys(nearby for term in terms for nearby in term.near))


def kinds() -> list[type[Term]]:
    """Return the classes of this file that may be terms of a model."""
    found = [kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Term)]
    return [kind for kind in found if kind is not Term]


def built(given: Sequence[Term | Mapping[str, Any]] | None) -> list[Term]:
    """Return the terms that are given as objects, which are copied, or as descriptions.

    A description may name a class of this file, or one that has been imported before: nothing is imported for it.

    Raises:
        ValueError: if a description names no term, or arguments that the term does not take.
    """
    found = []
    for entry in given or ():
        if isinstance(entry, Term):
            found.append(copy.deepcopy(entry))
            continue
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
            raise ValueError(f"terms holds {entry}; expected an object such as R1(weight=10), or its class_path")
        kind = named_in(
            "terms", entry["class_path"], "gans.terms", Term, "--model with a class of a module that imports"
        )
        words, taken = entry.get("init_args") or {}, list(inspect.signature(kind).parameters)
        if unknown := [word for word in words if word not in taken]:
            raise ValueError(f"terms: {kind.__name__} has no argument {unknown[0]}{nearest(unknown[0], taken)}")
        try:
            found.append(kind(**words))
        except TypeError as error:
            raise ValueError(f"terms: {' '.join(str(error).split())}") from error
    return found


def shorthands(r1: float | str, r2: float | str, lazy: int, lecam: float, lecam_start: int) -> list[Term]:
    """Return the terms that the flags `r1`, `r2`, `lazy`, `lecam` and `lecam_start` of a model stand for.

    Raises:
        ValueError: if a flag is out of range, or `lazy` has nothing to space out.
    """
    for name, weight in (("r1", r1), ("r2", r2)):
        if isinstance(weight, str) and weight != "heuristic":
            raise ValueError(f"{name} is {weight}; expected a number or heuristic")
        at_least(0, **{name: 0 if isinstance(weight, str) else weight})
    at_least(1, lazy=lazy)
    at_least(0, lecam=lecam, lecam_start=lecam_start)
    if lazy > 1 and not (r1 or r2):
        raise ValueError(f"lazy is {lazy}; expected 1 without r1 and r2, the penalties that it spaces out")
    pairs: tuple[tuple[type[R1], Any], ...] = ((R1, r1), (R2, r2))
    terms: list[Term] = [kind(weight, lazy) for kind, weight in pairs if weight]
    return [*terms, *([LeCam(lecam, lecam_start)] if lecam else [])]


# -- the discriminator's gradient ------------------------------------------------------------------------------------


class R1(Term):
    """Zero-centred gradient penalty on real images: `E |grad D(x)|^2 / 2`.

    The gradient is that of the sum of all logits. Where a layer mixes samples, as a minibatch standard deviation does,
    the penalty is that of StyleGAN2. BatchNorm is refused: it removes what moves all samples together.

    Source: Mescheder et al. 2018 (arXiv 1801.04406), equation 9; `heuristic`: Karras et al. 2020 (arXiv 2006.06676).

    Args:
        weight: gamma; `heuristic` is 2e-4 x pixels / batch size.
        every: steps of the discriminator from one use to the next; 16 in StyleGAN2.
    """

    reads: tuple[str, ...] = ("real",)
    differentiates: tuple[str, ...] = ("real",)

    def __init__(self, weight: float | Literal["heuristic"] = 10.0, every: int = 1) -> None:
        super().__init__(0.0 if isinstance(weight, str) else weight, every)
        if isinstance(weight, str) and weight != "heuristic":
            raise ValueError(f"weight is {weight}; expected a number or heuristic")
        self.weight: Any = weight

    def check(self, game: Game) -> None:
        """Refuse BatchNorm in the discriminator, and the heuristic for clips.

        Raises:
            ValueError: if there is one.
        """
        if any(isinstance(part, _BatchNorm) for part in game.discriminator.modules()):
            raise ValueError(f"{self.name} is {self.weight}; expected 0 beside BatchNorm in the discriminator")
        if self.weight == "heuristic" and len(game.image_shape or ()) != 3:
            raise ValueError(f"{self.name} is heuristic; expected a number, for the heuristic is one for images")

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar."""
        return penalties.half_square(step.gradient("real"))

    def factor(self, step: Step) -> float:
        """Return gamma."""
        if self.weight != "heuristic":
            return float(self.weight)
        return penalties.gamma_heuristic((step.real.shape[-2], step.real.shape[-1]), step.batch)


class R2(R1):
    """`R1` on fake images: Mescheder et al. 2018 (arXiv 1801.04406), equation 10."""

    reads = differentiates = ("fake",)

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar."""
        return penalties.half_square(step.gradient("fake"))


class ApproximateR1(R1):
    """`R1` without a gradient: `E |(D(T(x + sigma n)) - D(T(x))) / sigma|^2 / 2` with noise n of N(0, 1).

    T is the augmentation and the instance noise of the loss's pass. The noise n is in the images before T. In the mean
    over n, this is R1 up to terms in sigma^2, and exactly R1 for a linear D. The gradient flows through both outputs.
    There is no double backward, so D may be compiled, or use kernels that have none. The images nearby share the
    forward pass of the loss, unless a layer mixes samples.

    The change of the logits is small beside the logits. In bfloat16 its rounding error is larger than itself for a
    sigma below .1. So the forward pass is in float32, unless the model's `penalty_precision` is mixed. Measured errors
    are in gans/benchmarks/README.md.

    Source: Lin et al. 2025 (arXiv 2501.08316), equation 2.

    Args:
        weight: gamma; `heuristic` is 2e-4 x pixels / batch size.
        every: steps of the discriminator from one use to the next.
        sigma: standard deviation of the noise, for images in [-1, 1]; .01 to .1 in the paper.
        samples: draws of n for each image. The variance falls with their number, the cost grows with it.
    """

    differentiates = ()
    side: Side = "real"

    def __init__(
        self,
        weight: float | Literal["heuristic"] = 10.0,
        every: int = 1,
        sigma: float = 0.01,
        samples: int = 1,
    ) -> None:
        super().__init__(weight, every)
        positive(sigma=sigma)
        at_least(1, samples=samples)
        self.sigma, self.samples = sigma, samples
        self.near = tuple(Nearby(self.side, sigma, sample) for sample in range(samples))

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "approximate_r1"

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar."""
        changes = torch.cat([step.change(nearby) for nearby in self.near])
        # Of all logits of an image, as in R1.
        return penalties.half_square(changes.view(len(changes), -1).sum(1, keepdim=True) / self.sigma)


class ApproximateR2(ApproximateR1):
    """`ApproximateR1` on fake images: `R2` without a gradient."""

    reads = ("fake",)
    side: Side = "fake"

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "approximate_r2"


class OneCentered(Term):
    """Gradient penalty of WGAN-GP, `E (|grad D(x)| - 1)^2`, at points between real and fake images.

    These points need a forward pass of their own.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), equation 3.
    """

    def __init__(self, weight: float = 10.0, every: int = 1) -> None:
        super().__init__(weight, every)

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "gradient"

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar."""
        game = step.game

        def critic(images: Tensor) -> Tensor:
            return game.logits(game.critic(images, *step.labels))

        return penalties.one_centered(critic, step.real, step.fake, game.uniform(len(step.real)))


class MatchingAware(Term):
    """Gradient penalty at real images with their own sentences, `E |grad D(x, s)|^power`.

    Source: Tao et al. 2022 (DF-GAN, arXiv 2008.05865), equation 2.

    Args:
        weight: of the penalty.
        power: of the gradient's length.
        every: steps of the discriminator from one use to the next.
    """

    reads = differentiates = ("real",)

    def __init__(self, weight: float = 2.0, power: float = 6.0, every: int = 1) -> None:
        super().__init__(weight, every)
        at_least(1, power=power)
        self.power = power

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "matching_aware"

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar."""
        return penalties.power_of_length(penalties.gradients(step.real_logits, [step.real, *step.labels]), self.power)


class Clip(Term):
    """Weight clipping of the first WGAN: all weights of the discriminator stay in [-limit, limit]. It adds no loss.

    Source: Arjovsky et al. 2017 (arXiv 1701.07875), algorithm 1.
    """

    def __init__(self, limit: float = 0.01) -> None:
        super().__init__()
        if not 0 < limit < float("inf"):
            raise ValueError(f"limit is {limit}; expected a finite number above 0")
        self.limit = limit

    def forward(self, step: Step) -> None:
        """Add nothing."""

    def after_step(self, game: Game) -> None:
        """Clamp the weights."""
        penalties.clip_weights(game.discriminator.parameters(), self.limit)


# -- logits ------------------------------------------------------------------------------------------------------------


class LeCam(Term):
    """Distance of logits from running averages of the other side's logits, for training on few images.

    The averages are means over all processes. As in the authors' code they are the last batch's means until `start`,
    and keep .99 of themselves from then on.

    Source: Tseng et al. 2021 (arXiv 2104.03310).

    Args:
        weight: of the distance.
        start: updates of the generator before the distance counts; 1,000 in the authors' code.
    """

    averages: Tensor
    reads = ("real", "fake")

    def __init__(self, weight: float = 0.3, start: int = 1000) -> None:
        super().__init__(weight)
        at_least(0, start=start)
        self.start = start
        self.register_buffer("averages", torch.zeros(2))  # of real and fake logits

    def check(self, game: Game) -> None:
        """Refuse a batch in pieces.

        Raises:
            ValueError: if it is in pieces, each of which would move the averages.
        """
        if game.accumulate > 1:
            raise ValueError(
                f"lecam is {self.weight}; expected 0 with accumulate, whose pieces would move its averages"
            )

    def forward(self, step: Step) -> Tensor | None:
        """Return the distance, a scalar, after moving the averages; None up to `start`."""
        update = step.game.updates
        if update < self.start - 1:  # nothing of these batches is left when the averages begin
            return None
        now = torch.stack([step.real_logits.mean(), step.fake_logits.mean()]).detach().to(self.averages)
        now = step.game.average(now)
        moved = now if update < self.start else torch.lerp(self.averages, now, 0.01)
        # They are 0 before their first batch: of a run without a start, or of one that adds LeCam when it resumes.
        self.averages = torch.where(self.averages.any(), moved, now)
        if update <= self.start:
            return None
        return penalties.lecam(step.real_logits, step.fake_logits, *self.averages)


class TopK(Term):
    """The generator learns from its best fakes only: those of a batch with the largest logits.

    The value is the loss of the best fakes less that of all, so that the generator's loss becomes that of the best.
    They are the best of the batch of all processes. Their share falls as `decay ** (images seen / images)`.

    Source: Sinha et al. 2020 (arXiv 2002.06224), algorithm 1.

    Args:
        share: smallest share of the fakes that count.
        decay: factor of the share.
        images: images seen for one factor; an epoch in the paper.
    """

    player: Player = "generator"
    reads = ("fake",)

    def __init__(self, share: float = 0.5, decay: float = 0.99, images: float = 50_000) -> None:
        super().__init__()
        at_least(1, images=images)
        for name, value in (("share", share), ("decay", decay)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; expected a number above 0, up to 1")
        self.share, self.decay, self.images = share, decay, images

    def check(self, game: Game) -> None:
        """Refuse objectives that compare pairs, and a batch in pieces.

        Raises:
            ValueError: if there is one.
        """
        if isinstance(game.loss, Relativistic):
            raise ValueError("TopK needs an objective of single images, such as hinge; relativistic compares pairs")
        if game.accumulate > 1:
            raise ValueError(f"accumulate is {game.accumulate}; expected 1 with TopK, which ranks the whole batch")

    def forward(self, step: Step) -> Tensor:
        """Return the difference of the losses, a scalar."""
        game, logits = step.game, step.fake_logits.flatten()
        everyone = game.gather(logits.detach())
        count = max(1, round(len(everyone) * max(self.share, self.decay ** (game.images_seen / self.images))))
        best = logits[logits.detach() >= everyone.topk(count).values[-1]]
        # The mean over processes of this is the mean over the best of all: the share of this process may be any.
        scale = len(best) * len(everyone) / (count * len(logits))
        own = game.loss.generator(None, best) * scale if len(best) else logits.sum() * 0
        return own - game.loss.generator(None, step.fake_logits)


# -- consistency -------------------------------------------------------------------------------------------------------


class BCR(Term):
    """Balanced consistency: the discriminator says the same of an image and of an augmented copy, real and fake.

    `real E |D(x) - D(T(x))|^2 + fake E |D(G(z)) - D(T(G(z)))|^2`

    Source: Zhao et al. 2020 (arXiv 2002.04724), algorithm 1.

    Args:
        real: weight for real images.
        fake: weight for fake images.
        policy: T, operations of `gans.augment.ADA`; the paper's are mirroring and shifting.
    """

    reads = ("real", "fake")

    def __init__(self, real: float = 10.0, fake: float = 10.0, policy: str = "xflip,xint") -> None:
        super().__init__()
        at_least(0, real=real, fake=fake)
        self.real, self.fake, self.policy = real, fake, policy
        self.changes = (ADA(policy, target=None, probability=1.0),)  # in a tuple: no part of checkpoints

    def forward(self, step: Step) -> Tensor:
        """Return the weighted sum of both distances, a scalar."""
        total = step.real.new_zeros(())
        real = self.real, step.real, step.labels, step.real_logits
        fake = self.fake, step.fake, step.conditions, step.fake_logits
        for weight, images, conditions, logits in (real, fake):
            if weight:
                changed = augmented(step.game, images.detach(), self.changes[0])
                total = total + weight * mse_loss(step.game.logits(step.game.critic(changed, *conditions)), logits)
        return total


class ZCR(Term):
    """Latent consistency: nearby latents get equal logits from the discriminator and unequal images from the generator.

    For the discriminator `weight E |D(G(z)) - D(G(z + noise))|^2`, for the generator
    `-weight E |G(z) - G(z + noise)|^2`, the mean over pixels.

    Source: Zhao et al. 2020 (arXiv 2002.04724), algorithm 2.

    Args:
        weight: of the term.
        sigma: standard deviation of the noise.
        player: whose loss it is part of.
    """

    reads = ("fake",)

    def __init__(self, weight: float = 5.0, sigma: float = 0.03, player: Player = "discriminator") -> None:
        super().__init__(weight)
        if player not in ("generator", "discriminator"):
            raise ValueError(f"player is {player}; expected generator or discriminator")
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma is {sigma}; expected a finite number above 0")
        self.sigma, self.player = sigma, player

    def forward(self, step: Step) -> Tensor:
        """Return the distance, a scalar."""
        game, near = step.game, step.latents + self.sigma * step.game.noise_like(step.latents)
        if self.player == "generator":
            return -mse_loss(game.generator(near, *step.conditions).float(), step.fake.float())
        with torch.no_grad():
            images = game.generator(near, *step.conditions)
        return mse_loss(game.logits(game.critic(images, *step.conditions)), step.fake_logits)


class Reconstruction(Term):
    """Error of the reconstructions that the discriminator's decoders make of real images, its second output `(N,)`.

    Maps that suffice to reconstruct an image cannot look at a detail of it alone.

    Source: Liu et al. 2021 (FastGAN, arXiv 2101.04775), equation 4.

    Args:
        weight: of the term.
    """

    reads = ("real",)
    curve = "loss"

    def check(self, game: Game) -> None:
        """Refuse a discriminator without decoders.

        Raises:
            ValueError: if it has none.
        """
        if not hasattr(game.discriminator, "decoders"):
            raise ValueError("Reconstruction needs a discriminator with decoders, such as FastGAN's")

    def forward(self, step: Step) -> Tensor:
        """Return the mean error, a scalar."""
        errors: Tensor = step.real_output[1]
        return errors.mean()


# -- the generator's map -----------------------------------------------------------------------------------------------


class PathLength(Term):
    """Path length regularisation: a step in the latent space changes the image by the same amount everywhere.

    `E (|J^T y| - a)^2` with J the Jacobian of images with respect to points of a latent space, y noise of variance
    1 / pixels, and a the moving average of the lengths. The model says which space that is (`path`): that of its
    latents, or the w of each layer of a style-based generator, whose mapping network is then regularised too. Of a
    point with several rows the length is the root of the mean of their squares, as in the authors' code. Noise is drawn
    for each image, whatever the number of processes.

    Source: Karras et al. 2020 (StyleGAN2, arXiv 1912.04958), section 3.2 and appendix B.

    Args:
        weight: of the term.
        every: steps of the generator from one use to the next.
        decay: share of the last step in the moving average.
        shrink: n, if the term takes every n-th image of the batch, to save memory.
    """

    length: Tensor
    player: Player = "generator"

    def __init__(self, weight: float = 2.0, every: int = 4, decay: float = 0.01, shrink: int = 2) -> None:
        super().__init__(weight, every)
        at_least(1, shrink=shrink)
        if not 0 < decay <= 1:
            raise ValueError(f"decay is {decay}; expected a number above 0, up to 1")
        self.decay, self.shrink = decay, shrink
        self.register_buffer("length", torch.zeros(()))

    def check(self, game: Game) -> None:
        """Refuse a batch in pieces.

        Raises:
            ValueError: if it is in pieces, each of which would move the average.
        """
        if game.accumulate > 1:
            raise ValueError(f"accumulate is {game.accumulate}; expected 1 with PathLength, which averages the batch")

    def forward(self, step: Step) -> Tensor:
        """Return the penalty, a scalar, after moving the average."""
        game = step.game
        noise = game.noise_like(step.fake)[:: self.shrink]
        with penalties.twice_differentiable(step.latents.device):
            points, images = game.path(step.latents, *step.conditions, every=self.shrink)
            pixels = images[0, 0].numel()
            slope = penalties.gradient(images * noise.to(images) / pixels**0.5, points)
            squares = slope.square().sum(-1)  # (N,), or (N, rows)
            lengths = squares.view(len(squares), -1).mean(1).sqrt()
        now = game.average(lengths.detach().mean().to(self.length))
        self.length = torch.lerp(self.length, now, self.decay)
        return (lengths - self.length.to(lengths)).square().mean()


class Orthogonal(Term):
    """The filters of each layer of the generator stay orthogonal: `sum |W W^T * (1 - I)|^2`, off the diagonal alone.

    A weight W is a matrix with a row for each output, before spectral normalisation. Linear layers and convolutions are
    regularised, embeddings are not. The authors' PyTorch code adds half of this gradient: its strength of 1e-4 is a
    weight of 5e-5 here.

    Source: Brock et al. 2018 (BigGAN, arXiv 1809.11096), equation 3, with their weight of 1e-4.

    Args:
        weight: beta of the paper.
        every: steps of the generator from one use to the next.
    """

    player: Player = "generator"

    def __init__(self, weight: float = 1e-4, every: int = 1) -> None:
        super().__init__(weight, every)

    def check(self, game: Game) -> None:
        """Refuse a generator without linear layers and convolutions.

        Raises:
            ValueError: if it has none.
        """
        if not matrices(game.generator):
            raise ValueError("Orthogonal needs linear layers or convolutions in the generator, which has none")

    def forward(self, step: Step) -> Tensor:
        """Return the sum over all layers, a scalar."""
        return penalties.off_diagonal(matrices(step.game.generator))


def matrices(network: nn.Module) -> list[Tensor]:
    """Return the weights of linear layers and convolutions as matrices with a row for each output."""
    found = []
    for layer in network.modules():
        if not isinstance(layer, nn.Linear | _ConvNd):
            continue
        parametrized: Any = getattr(layer, "parametrizations", None)
        rows: Tensor = parametrized.weight.original if parametrize.is_parametrized(layer, "weight") else layer.weight
        if isinstance(layer, _ConvTransposeNd) and layer.groups == 1:  # inputs come first
            rows = rows.transpose(0, 1)
        found.append(rows.movedim(1, -1).flatten(1))  # columns in any order: this one copies no channels_last weight
    return found


class ModeSeeking(Term):
    """Two images of one condition differ as their latents do: `E |z - z'| / |G(z) - G(z')|`.

    Source: Mao et al. 2019 (MSGAN, arXiv 1903.05628), see `gans.penalties.mode_seeking`.
    """

    player: Player = "generator"
    curve = "loss"

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "mode_seeking"

    def forward(self, step: Step) -> Tensor:
        """Return the ratio, a scalar."""
        other, *_ = step.game.generator_inputs(len(step.latents), *step.conditions)
        images = step.game.generator(other, *step.conditions)
        return penalties.mode_seeking(step.fake, images, step.latents, other)


# -- codes and classes -------------------------------------------------------------------------------------------------


class ClassTerm(Term):
    """Cross-entropy of the guess of the class, the field `guesses` `(N, num_classes)` of the discriminator's output.

    The discriminator learns classes of real images, the generator makes images that are recognised.

    Source: Odena et al. 2017 (ACGAN, arXiv 1610.09585), equation 3.

    Args:
        weight: of the term.
        player: whose loss it is part of.
    """

    curve = "loss"

    def __init__(self, weight: float = 1.0, player: Player = "discriminator") -> None:
        super().__init__(weight)
        self.player = player
        self.reads = ("real",) if player == "discriminator" else ("fake",)

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "class_real" if self.player == "discriminator" else "class_fake"

    def forward(self, step: Step) -> Tensor:
        """Return the cross-entropy, a scalar."""
        output, labels = self.own(step)
        guesses = field(self, output, "guesses")
        if self.player == "discriminator":
            step.game.record("accuracy/class_real", guesses.argmax(1) == labels)
        return cross_entropy(guesses, labels)

    def own(self, step: Step) -> tuple[Any, Tensor]:
        """Return the discriminator's output on the images that the player learns from, and their classes `(N,)`."""
        real = self.player == "discriminator"
        (labels,) = step.labels if real else step.conditions
        return step.real_output if real else step.fake_output, labels


class ConditionalContrastive(ClassTerm):
    """ContraGAN's 2C loss: images attract the proxy of their class and images of their class, and repel other images.

    The discriminator learns it on real images, the generator on its own. It is taken over the batch of all processes.
    The discriminator's output has the fields `embeddings` and `proxies`, as that of `conditional.EmbeddingHead` has.

    Source: Kang and Park 2020 (ContraGAN, arXiv 2006.12681), see `gans.losses.conditional_contrastive`.

    Args:
        weight: of the term.
        temperature: of the cosines.
        player: whose loss it is part of.
    """

    def __init__(self, weight: float = 1.0, temperature: float = 1.0, player: Player = "discriminator") -> None:
        super().__init__(weight, player)
        positive(temperature=temperature)
        self.temperature = temperature

    def check(self, game: Game) -> None:
        """Refuse a batch in pieces.

        Raises:
            ValueError: if it is in pieces.
        """
        if game.accumulate > 1:
            told = f"accumulate is {game.accumulate}; expected 1"
            raise ValueError(f"{told} with {type(self).__name__}, which compares all images of the batch")

    def forward(self, step: Step) -> Tensor:
        """Return the loss, a scalar."""
        output, labels = self.own(step)
        rows = torch.cat([field(self, output, name) for name in ("embeddings", "proxies")], 1)  # one message for both
        embeddings, proxies = step.game.gather(rows).chunk(2, 1)
        return self.compare(embeddings, proxies, step.game.gather(labels))

    def compare(self, embeddings: Tensor, proxies: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the whole batch."""
        return conditional_contrastive(embeddings, proxies, labels, self.temperature)


class DataToData(ConditionalContrastive):
    """ReACGAN's D2D-CE: the proxy of an image's class against images of other classes, without pairs that are easy.

    The players and the batch are those of `ConditionalContrastive`.

    Source: Kang et al. 2021 (ReACGAN, arXiv 2111.01118), see `gans.losses.data_to_data`.

    Args:
        weight: of the term.
        temperature: of the cosines.
        positive_margin: cosine of image and proxy from which they are near enough.
        negative_margin: cosine of images of two classes up to which they are far enough.
        player: whose loss it is part of.
    """

    def __init__(
        self,
        weight: float = 1.0,
        temperature: float = 0.5,
        positive_margin: float = 0.98,
        negative_margin: float = 0.02,
        player: Player = "discriminator",
    ) -> None:
        super().__init__(weight, temperature, player)
        for name, value in (("positive_margin", positive_margin), ("negative_margin", negative_margin)):
            if not -1 <= value <= 1:
                raise ValueError(f"{name} is {value}; expected a cosine, from -1 to 1")
        self.positive_margin, self.negative_margin = positive_margin, negative_margin

    def compare(self, embeddings: Tensor, proxies: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the whole batch."""
        margins = self.positive_margin, self.negative_margin
        return data_to_data(embeddings, proxies, labels, self.temperature, *margins)


class Information(Term):
    """Error of the guesses of a fake image's codes, a bound on their mutual information with the image, negated.

    The guesses are the field `guesses` `(N, categories + codes)` of the discriminator's output. The categories are the
    condition of the fake images, the codes the last numbers of their latents.

    Source: Chen et al. 2016 (InfoGAN, arXiv 1606.03657), equation 5.

    Args:
        categories: number of categories.
        codes: number of continuous codes.
        category_weight: of the cross-entropy of the category.
        code_weight: of the negative log-likelihood of the codes, a normal distribution with variance 1.
        player: whose loss it is part of.
    """

    curve = "loss"
    reads = ("fake",)

    def __init__(
        self,
        categories: int = 10,
        codes: int = 2,
        category_weight: float = 1.0,
        code_weight: float = 0.1,
        player: Player = "discriminator",
    ) -> None:
        super().__init__()
        at_least(0, category_weight=category_weight, code_weight=code_weight)
        self.categories, self.codes = categories, codes
        self.category_weight, self.code_weight, self.player = category_weight, code_weight, player

    def forward(self, step: Step) -> Tensor:
        """Return the weighted sum of both errors, a scalar."""
        guesses = field(self, step.fake_output, "guesses")
        (category,) = step.conditions
        of_category = cross_entropy(guesses[:, : self.categories], category)
        step.game.record("loss/category", of_category)
        total: Tensor = self.category_weight * of_category
        if self.codes:
            codes = step.latents[:, step.latents.shape[1] - self.codes :]
            codes = codes.to(torch.promote_types(codes.dtype, torch.float32))
            of_codes = (guesses[:, self.categories :] - codes).square().mean() / 2
            step.game.record("loss/codes", of_codes)
            total = total + self.code_weight * of_codes
        return total


class Clustering(Term):
    """Information that the guess of a real image's category shares with the guess of an augmented copy, maximised.

    It is taken over the batch of all processes.

    Source: Ji et al. 2019 (IIC, arXiv 1807.06653), see `gans.losses.invariant_information`.

    Args:
        weight: of the information.
        categories: number of categories, the first numbers of the guesses.
        policy: operations of `gans.augment.ADA` that leave the category unchanged.
    """

    curve = "information"
    reads = ("real",)

    def __init__(self, weight: float = 1.0, categories: int = 10, policy: str = "xint,scale,aniso") -> None:
        super().__init__(weight)
        self.categories, self.policy = categories, policy
        self.changes = (ADA(policy, target=None, probability=1.0),)  # in a tuple: no part of checkpoints

    @property
    def name(self) -> str:
        """Name of its curve."""
        return "real"

    def factor(self, step: Step) -> float:
        """Return the weight, negated: the information is maximised."""
        return -self.weight

    def forward(self, step: Step) -> Tensor:
        """Return the information in nats, a scalar."""
        game = step.game
        changed = game.critic(augmented(game, step.real.detach(), self.changes[0]), *step.labels)
        guesses = (field(self, output, "guesses") for output in (step.real_output, changed))
        return invariant_information(*(game.gather(part[:, : self.categories]) for part in guesses))


class Alignment(Term):
    """The critic's tokens of real images resemble those of a frozen image network: 1 - cosine, of class and patches.

    The discriminator's output has the field `tokens` `(N, 1 + patches, length)`, the class token first. The value is
    the distance of class tokens, plus the mean distance of patch tokens. The model makes the network's tokens
    (`guide`) from pictures that are shifted and mirrored as the critic's input is.

    Source: Hyun et al. 2025 (GAT, arXiv 2509.24935), after REPA (Yu et al. 2024, arXiv 2410.06940).

    Args:
        weight: of the term.
        network: folder of a DINOv2 for `transformers`, or file of a classifier by `scripts/train_features.py`. In a
            checkpoint it is what identifies the network: its path, digest and length of a token.
    """

    curve = "loss"
    reads = ("real",)

    def __init__(self, weight: float = 1.0, network: str | dict[str, Any] = "") -> None:
        super().__init__(weight)
        if not network:
            raise ValueError("Alignment has no network; expected a folder of DINOv2, or a file of a classifier")
        self.network = network

    def check(self, game: Game) -> None:
        """Refuse a model without such tokens.

        Raises:
            ValueError: if it has none.
        """
        if not callable(getattr(game, "guide", None)):
            told = f"Alignment reads tokens of the discriminator, and {type(game).__name__} has none"
            raise ValueError(f"{told}; expected a model such as GAT, or none of this term")

    def forward(self, step: Step) -> Tensor:
        """Return the distance, a scalar.

        Raises:
            ValueError: if the step has no pictures.
        """
        if step.pictures is None:
            raise ValueError("Alignment needs pictures; expected data with images, or codes with `pictures: true`")
        tokens = field(self, step.real_output, "tokens")
        guide = cast(Guided, step.game).guide(step.pictures).to(tokens)
        distance = 1 - cosine_similarity(tokens, guide, dim=2)
        classes, patches = distance[:, 0].mean(), distance[:, 1:].mean()
        step.game.record("loss/alignment_class", classes)
        step.game.record("loss/alignment_patches", patches)
        return classes + patches


def field(term: Term, output: Any, name: str) -> Tensor:
    """Return a field of the discriminator's output that a term needs.

    In a tuple without names, `guesses` come after the logits.

    Raises:
        ValueError: if the output has no such field.
    """
    if name == "guesses" and type(output) is tuple and len(output) == 2:
        return cast(Tensor, output[1])
    if not hasattr(output, name):
        told = f"{type(term).__name__} reads {name} of the discriminator's output"
        raise ValueError(f"{told}, which has none: expected another discriminator, or a model without this term")
    return cast(Tensor, getattr(output, name))


def augmented(game: Game, images: Tensor, changes: ADA) -> Tensor:
    """Return images `(N, C, H, W)` with all of the changes, drawn anew."""
    drawn = game.uniform(len(images), changes.numbers(*images.shape[1:]))
    return cast(Tensor, changes.to(images.device)(images, drawn))
