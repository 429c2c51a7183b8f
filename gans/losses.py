"""What each player minimises, on logits: one class an objective, with a `discriminator` and a `generator` side.

Every method takes logits of any shape, real first, and returns the mean over all of them as a scalar. Logits are raw
scores: no sigmoid, which would lose the gradient of a confident discriminator. `Minimax` and `NonSaturating` are from
Goodfellow et al. 2014 (arXiv 1406.2661); the other sources stand at their classes.
"""

from typing import Literal, Protocol

from torch import Tensor
from torch.nn.functional import relu, softplus

Objective = Literal["minimax", "nonsaturating", "least_squares", "hinge", "wasserstein", "relativistic"]


class Loss(Protocol):
    """A two-player objective on logits."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the scalar that the discriminator minimises, given its logits on real and fake images."""
        ...

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the scalar that the generator minimises; `real` is read by relativistic objectives only."""
        ...


class Minimax:
    """The zero-sum game of the first GAN; its generator loss saturates when the discriminator wins."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `-log D(x) - log(1 - D(G(z)))` with `D = sigmoid(logit)`."""
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `log(1 - D(G(z)))`."""
        return -softplus(fake).mean()


class NonSaturating(Minimax):
    """Minimax for the discriminator; the generator maximises `log D(G(z))`, whose gradient does not vanish."""

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-log D(G(z))`."""
        return softplus(-fake).mean()


class LeastSquares:
    """Mao et al. 2017 (arXiv 1611.04076): logits regress to 1 on real and 0 on fake."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `(a - 1)^2 / 2 + b^2 / 2`."""
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `(b - 1)^2 / 2`."""
        return (fake - 1).square().mean() / 2


class Wasserstein:
    """Arjovsky et al. 2017 (arXiv 1701.07875): a critic that must be kept Lipschitz by clipping or a penalty."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `b - a`, the negative of the estimated distance."""
        return fake.mean() - real.mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `-b`."""
        return -fake.mean()


class Hinge(Wasserstein):
    """Lim and Ye 2017 (arXiv 1705.02894): the Wasserstein critic that stops at a margin of 1."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `max(0, 1 - a) + max(0, 1 + b)`."""
        return relu(1 - real).mean() + relu(1 + fake).mean()


class Relativistic:
    """Jolicoeur-Martineau 2018 (arXiv 1807.00734), paired (RpGAN): is this real image more real than that fake one?"""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return `softplus(-(a - b))` over pairs.

        Raises:
            ValueError: if the logits differ in shape: they would broadcast to pairs of everything with everything.
        """
        return softplus(margin(fake, real)).mean()

    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return `softplus(-(b - a))` over pairs.

        Raises:
            ValueError: if `real` is None: this objective compares with the logits of real images; or another shape.
        """
        if real is None:
            raise ValueError("Relativistic.generator compares pairs: give the logits of real images as `real`")
        return softplus(margin(real, fake)).mean()


def margin(first: Tensor, second: Tensor) -> Tensor:
    """Return `first - second`, pair by pair.

    Raises:
        ValueError: if they differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"logits of shapes {tuple(first.shape)} and {tuple(second.shape)}; pairs need one shape")
    return first - second


def objective(name: Objective) -> Loss:
    """Return the loss that a recipe calls `name`.

    Raises:
        ValueError: if there is none of that name.
    """
    losses: dict[str, Loss] = {
        "minimax": Minimax(),
        "nonsaturating": NonSaturating(),
        "least_squares": LeastSquares(),
        "hinge": Hinge(),
        "wasserstein": Wasserstein(),
        "relativistic": Relativistic(),
    }
    if name not in losses:
        raise ValueError(f"objective is {name!r}; expected one of {', '.join(losses)}")
    return losses[name]
