"""Text to image with a matching-aware critic: DF-GAN, Tao et al. 2022 (arXiv 2008.05865).

The critic is shown real images with their sentence, generated ones, and real ones with another sentence, as in Reed et
al. 2016 (GAN-INT-CLS, arXiv 1605.05396), whose interpolated sentences are an option. The sentences' vectors are learnt
first, from the same captions, and then rest. Both players are given them whitened, as Su et al. 2021 (arXiv 2103.15316)
do to compare sentences: as they are learnt, sentences of what looks alike lie close together, and one that never
occurred is taken for its neighbour.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from gans.checks import at_least, positive
from gans.engine.batch import captioned
from gans.engine.checkpoint import check_begun
from gans.engine.distributed import next_rows
from gans.engine.draws import drawn_from
from gans.engine.module import AdversarialModule
from gans.latent import Labels, draw, key, truncate
from gans.losses import Objective, Relativistic
from gans.losses import objective as loss_named
from gans.metrics.captions import Captions
from gans.models.imagetextencoder import both_ways, built, check_same, held_encoders, shared_vocabulary
from gans.networks import dfgan, textdcgan
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.text import Matcher, Vocabulary, entries
from gans.pictures.captions import contact_sheet, spelled
from gans.terms import MatchingAware, ModeSeeking, Step, Terms, needed

ROWS = 256  # that go through the generator at once
SHOWN, DRAWN = 8, 4  # sentences of a picture, and images of each


class TextToImage(AdversarialModule):
    """Makes images of sentences; batches are (image, tokens, lengths), see `datamodules.captions`.

    The first `text_steps` steps train the encoders of sentences and images, the rest the game. `translate(tokens,
    lengths)` makes an image of each sentence, `sample(n, captions=(tokens, lengths))` `n` images of them in turn.

    With `dfgan`, networks, losses, penalty and rates are the paper's. The paper's sentences come from DAMSM's encoder,
    which was trained against regions of an Inception network; they are not whitened, so the gradient penalty weighs
    them otherwise. The paper's images are random 256x256 crops of 304 pixels, which were cropped around each bird.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: of the generator: channels next to the image, twice as many further in, up to 8 times.
        discriminator_width: the same of the critic; None is `width`.
        network: of both players: DF-GAN's, or DCGAN's with a sentence beside the latent, which learn faster and less.
        vocabulary: words in the order of their numbers, or a tokenizer's JSON; None takes that of the data.
        max_length: most tokens of a sentence, as the data have; longer ones are cut.
        encoder: checkpoint of an `ImageTextEncoder` of these sizes, read when a run begins, instead of the first stage.
        text_steps: of the first stage.
        features: length of a sentence's vector.
        text_width: of a word's vector, and of each of the sentences' two recurrences.
        clip: folder of a CLIP text model for `transformers`, to read sentences with instead; or its description.
        encoder_width: of the encoder of images, which the first stage and R-precision need.
        text_lr: learning rate of Adam in the first stage.
        objective: what the players minimise.
        mismatch_weight: share of another sentence in what the critic learns to be false; the generated images' is
            1 less that.
        interpolation_weight: weight of the critic's opinion of images of sentences half-way between two.
        matching_weight: of the error of the encoders about which generated image is of which sentence, the loss for
            whole sentences of Xu et al. 2018 (AttnGAN's DAMSM, arXiv 1711.10485).
        mode_seeking_weight: of how alike images of one sentence are, see `gans.penalties.mode_seeking`.
        penalty_weight: of the matching-aware gradient penalty; without it DCGAN's critic has BatchNorm.
        penalty_power: of the gradient's length in it.
        lr: learning rate of Adam, of the generator.
        discriminator_lr: of the critic.
        betas: Adam's decay rates, of both.
        judges: extractor for each attribute of the data that held-out sentences' images are judged by.
        engine: options of the training engine, see `AdversarialModule`.
    """

    players: tuple[str, ...] = ("generator", "discriminator", "matcher")
    usage = "`gans sample CKPT --text 'a sentence'`"
    matcher: Matcher | None

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 100,
        width: int = 32,
        discriminator_width: int | None = None,
        network: Literal["dfgan", "dcgan"] = "dfgan",
        vocabulary: list[str] | str | None = None,
        max_length: int = 16,
        encoder: str | None = None,
        text_steps: int = 1000,
        features: int = 128,
        text_width: int = 64,
        clip: str | dict[str, Any] | None = None,
        encoder_width: int = 32,
        text_lr: float = 1e-3,
        objective: Objective = "hinge",
        mismatch_weight: float = 0.5,
        interpolation_weight: float = 0.0,
        matching_weight: float = 0.0,
        mode_seeking_weight: float = 0.0,
        penalty_weight: float = 2.0,
        penalty_power: float = 6.0,
        lr: float = 1e-4,
        discriminator_lr: float = 4e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        judges: dict[str, str] | None = None,
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim, **engine)
        at_least(0, text_steps=text_steps, interpolation_weight=interpolation_weight, penalty_weight=penalty_weight)
        at_least(0, matching_weight=matching_weight, mode_seeking_weight=mode_seeking_weight)
        at_least(1, features=features, text_width=text_width, encoder_width=encoder_width, max_length=max_length)
        at_least(1, penalty_power=penalty_power)
        if not 0 <= mismatch_weight < 1:
            raise ValueError(f"mismatch_weight is {mismatch_weight}; expected a share from 0 to below 1")
        positive(lr=lr, discriminator_lr=discriminator_lr, text_lr=text_lr)
        self.loss = loss_named(objective)
        if isinstance(self.loss, Relativistic):
            raise ValueError(f"objective is {objective}; expected one that judges each image by itself, such as hinge")
        self.augment.check_objective(objective, self.loss.boundary)
        self.image_shape = (image_channels(channels), *image_size(size))
        self.text_steps = 0 if encoder else text_steps
        breadth = width if discriminator_width is None else discriminator_width
        if network not in ("dfgan", "dcgan"):
            raise ValueError(f"network is {network}; expected dfgan or dcgan")
        players: Any = dfgan if network == "dfgan" else textdcgan
        batch_norm = {} if network == "dfgan" else {"batch_norm": not penalty_weight}
        self.generator = players.Generator(latent_dim, features, size, channels, width)
        self.discriminator = players.Discriminator(features, size, channels, breadth, **batch_norm)
        self.average_generator()
        self.held_out = Captions(judges or {})
        penalty = [MatchingAware(penalty_weight, penalty_power)] if penalty_weight else []
        self.terms = Terms([*penalty, *([ModeSeeking(mode_seeking_weight)] if mode_seeking_weight else [])])
        self.matcher = None
        if vocabulary is not None:
            self.make_matcher(vocabulary)

    def make_matcher(self, vocabulary: Vocabulary) -> None:
        """Build the encoders for a vocabulary, which belongs to the checkpoint from now on."""
        matcher = built(self.hparams, vocabulary, self.hparams["encoder_width"])
        self.matcher = matcher.to(next(self.generator.parameters()))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator, for the discriminator and for the encoders."""
        given, matcher = self.hparams, self.encoders
        return [
            self.adam(self.generator, given["lr"], given["betas"]),
            self.adam(self.discriminator, given["discriminator_lr"], given["betas"]),
            self.adam(matcher, given["text_lr"], (0.9, 0.999)),
        ]

    @property
    def encoders(self) -> Matcher:
        """The encoders of sentences and images.

        Raises:
            ValueError: if there are none yet, for there is no vocabulary.
        """
        if self.matcher is None:
            raise ValueError("the model has no vocabulary yet; expected --model.vocabulary, or a run on captioned data")
        return self.matcher

    # -- stages -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the vocabulary of the data, and read the judges before anything is written."""
        super().setup(stage)
        vocabulary = shared_vocabulary(self, self.hparams["vocabulary"])
        if self.matcher is None:
            with drawn_from(key(self.seed or 0, "matcher")):  # every process draws the same, however many there are
                self.make_matcher(vocabulary)
        if stage != "predict":
            self.held_out.judges(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other words than the data's, which `setup` took before it was read.

        Raises:
            ValueError: if it is, does not fit this model, or its run began with other encoders.
        """
        check_same(checkpoint["hyper_parameters"]["vocabulary"], self.hparams["vocabulary"])
        check_begun(self, checkpoint, "encoder")
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        """Begin a new run, not one that goes on, with the encoders that were given."""
        super().on_fit_start()
        if self.hparams["encoder"] and self.batches_seen == 0:
            self.take(self.hparams["encoder"])

    def take(self, path: str) -> None:
        """Take over the encoders of a checkpoint.

        Raises:
            ValueError: if it holds none, or others.
        """
        state = held_encoders(path, self.hparams["vocabulary"], self.device)
        try:
            self.encoders.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"encoder is {path}, of other sizes: {' '.join(str(error).split())}") from error

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Look at the clock whose turn it is: the encoders', or the players'."""
        self.clock = self.players.index("matcher" if self.trainer.global_step < self.text_steps else "generator")
        super().on_train_batch_start(batch, batch_idx)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Let images and sentences find each other; later, one step of the critic and, in its turn, the generator's."""
        images, tokens, lengths = captioned(batch)
        if self.players[self.clock] == "matcher":
            self.match(images, tokens, lengths)
            return
        optimizer_g, optimizer_d, _ = self.player_optimizers()
        sentences = self.sentence(tokens, lengths)
        others = next_rows(sentences)  # most likely they say something else
        share: float = self.hparams["mismatch_weight"]
        with self.toggled_optimizer(optimizer_d):
            for real, own, other in self.pieces(images, sentences, others):
                z = self.latent(len(real))
                fake = self.generator(z, own).detach()
                slopes = needed(self.terms.of("discriminator"), "differentiates")
                seen, (read, _), both = self.forward_critic(real, (own, other), "real" in slopes)
                real_logits, other_logits = both
                fake_logits = self.critic(fake, own)
                loss = (1 - share) * self.loss.discriminator(real_logits, fake_logits)
                loss = loss + share * self.loss.discriminator(real_logits, other_logits)
                self.record_discriminator(loss, real_logits, fake_logits, other_logits)
                sides = (seen, (read,), real_logits, fake, (own,), fake_logits)
                step = Step("discriminator", self, z, *sides, self.batch_size(len(real)))
                self.descend(loss + self.terms.total(step, self.terms.of("discriminator")), optimizer_d)
        if self.generator_turn():
            matching, between = (self.hparams[f"{name}_weight"] for name in ("matching", "interpolation"))
            with self.toggled_optimizer(optimizer_g):
                for real, own, other in self.pieces(images, sentences, others):
                    z = self.latent(len(own))
                    fake = self.generator(z, own)
                    fake_logits = self.critic(fake, own)
                    loss = self.loss.generator(None, fake_logits)
                    self.record("loss/generator", loss)
                    if matching:
                        loss = loss + matching * self.mismatch(fake, own)
                    sides = (real, (own,), None, fake, (own,), fake_logits)
                    step = Step("generator", self, z, *sides, self.batch_size(len(real)))
                    loss = loss + self.terms.total(step, self.terms.of("generator"))
                    if between:
                        loss = loss + between * self.opinion((own + other) / 2)
                    self.descend(loss, optimizer_g)

    def match(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> None:
        """One step of the encoders."""
        optimizer = self.player_optimizers()[self.clock]
        with self.toggled_optimizer(optimizer):
            for piece in self.pieces(images, tokens, lengths):
                seen, read = self.encoders(*piece)
                self.encoders.spread.update(read.detach(), self._share, begin=self._piece == 0)
                loss = both_ways(seen, read, self.encoders.scale(), self.global_rank)
                self.record("loss/contrastive", loss)
                self.descend(loss, optimizer)

    def opinion(self, sentences: Tensor) -> Tensor:
        """Return how well the critic sees that images of the sentences `(N, features)` are generated."""
        fake = self.generator(self.latent(len(sentences)), sentences)
        return self.loss.generator(None, self.critic(fake, sentences))

    def mismatch(self, fake: Tensor, sentences: Tensor) -> Tensor:
        """Return the encoders' error about which image is of which sentence `(N, features)`."""
        seen = self.encoders.image(fake)
        read = self.encoders.spread.colour(sentences).to(seen)
        value = both_ways(seen, read, self.encoders.scale(), self.global_rank)
        self.record("loss/matching", value)
        return value

    def record_discriminator(self, loss: Tensor, real: Tensor, fake: Tensor, other: Tensor) -> None:
        """Note how the critic does, and let the augmentation know."""
        self.record("loss/discriminator", loss)
        for name, logits in (("real", real), ("fake", fake), ("mismatched", other)):
            self.record(f"logits/{name}", logits)
        self.record("accuracy/discriminator", self.loss.right(real, fake))
        self.augment.observe(real.detach(), self.loss.boundary, self.trainer.world_size)

    # -- held-out captions, see `gans.metrics.captions` ---------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score images of held-out sentences."""
        self.held_out.add(self, batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Score images of the test sentences."""
        self.held_out.add(self, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all held-out sentences."""
        self.held_out.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all test sentences."""
        self.held_out.log(self, "test")

    # -- sentences to images ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sentence(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the whitened vectors `(N, features)` of sentences."""
        vectors = self.encoders.sentence(tokens, lengths)
        return self.encoders.spread.whiten(vectors)

    def forward(self, z: Tensor, *captions: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of the averaged generator: of tokens `(N, T)` and lengths `(N,)`."""
        tokens, lengths = captions
        made: Tensor = self.generator_ema(z, self.sentence(tokens, lengths).to(z.dtype))
        return made

    @torch.no_grad()
    def translate(
        self, tokens: Tensor, lengths: Tensor, *, truncation: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return an image of each sentence, `(N, C, H, W)` in [-1, 1]: tokens `(N, T)` and lengths `(N,)`.

        `truncation` and `seed` as in `sample`.
        """
        shape, dtype = (len(tokens), self.latent_dim), next(self.generator.parameters()).dtype
        z = draw(shape, None if seed is None else key(seed), self.prior, self.device, dtype)
        if truncation is not None:
            if self.prior != "normal":
                raise ValueError(f"truncation needs a normal prior; this model's is {self.prior}")
            z = truncate(z, truncation)
        given = (z, tokens.to(self.device), lengths.to(self.device))
        return torch.cat([self(*part) for part in zip(*(torch.split(part, ROWS) for part in given), strict=True)])

    def sample(
        self,
        n: int,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        seed: int | None = None,
        captions: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return `n` images of `captions`, tokens `(K, T)` and lengths `(K,)`, in turn; other words as in the base.

        Raises:
            ValueError: without captions, or with labels.
        """
        if captions is None or labels is not None:
            raise ValueError("TextToImage makes images of sentences; expected captions=(tokens, lengths), no labels")
        rows = torch.arange(n) % len(captions[0])
        return self.translate(*(part.cpu()[rows] for part in captions), truncation=truncation, seed=seed)

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return what `translate` is given of a batch: tokens and lengths."""
        return captioned(batch)[1:]

    def targets(self, batch: Any) -> Tensor:
        """Return images of the kind that shall be made: the batch's."""
        return captioned(batch)[0]

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Return a batch of `n` random images and sentences of one word."""
        assert self.image_shape is not None
        images = torch.rand(n, *self.image_shape, device=self.device) * 2 - 1
        count = entries(self.hparams["vocabulary"] or [])
        tokens = torch.arange(n, device=self.device)[:, None] % max(1, count - 1) + 1
        return images, tokens, torch.ones(n, dtype=torch.long, device=self.device)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return an image of each sentence of a batch."""
        return self.translate(*self.inputs(batch), seed=key("predict", batch_idx, self.global_rank))

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return a sheet of a few sentences of a batch: the image that each is of, images made of it, and its words."""
        images, tokens, lengths = (part[:SHOWN] for part in captioned(batch))
        made = self.translate(*(part.repeat_interleave(DRAWN, 0) for part in (tokens, lengths)))
        rows = torch.cat([images.to(made)[:, None], made.view(-1, DRAWN, *made.shape[1:])], 1).flatten(0, 1)
        words = [spelled(self.hparams["vocabulary"], row) for row in tokens]
        return {"captions": (contact_sheet(rows, words, DRAWN + 1), 2)}
