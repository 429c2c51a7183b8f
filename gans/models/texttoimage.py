"""Text to image with a matching-aware critic: DF-GAN, Tao et al. 2022 (arXiv 2008.05865).

The critic receives real images with their sentence, generated images, and real images with another sentence, as in Reed
et al. 2016 (GAN-INT-CLS, arXiv 1605.05396). Their interpolation of sentences is an option.

The sentence embeddings are trained first, on the same captions, and then frozen. Generator and discriminator receive
whitened embeddings (Su et al. 2021, arXiv 2103.15316). Without whitening, the embeddings of similar sentences are too
close together, and a new sentence is mistaken for a similar one.
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

ROWS = 256  # images per batch of samples, to limit memory
SHOWN, DRAWN = 8, 4  # sentences in a grid, and images of each


class TextToImage(AdversarialModule):
    """Generates images from sentences. Batches are (image, tokens, lengths), see `datamodules.captions`.

    The first `text_steps` steps train the encoders of sentences and images, the others generator and discriminator.
    `translate(tokens, lengths)` returns an image for each sentence. `sample(n, captions=(tokens, lengths))` returns `n`
    images of the sentences in turn.

    With `dfgan`, networks, losses, penalty and learning rates are the paper's. The paper uses DAMSM's text encoder,
    which was trained with image regions of an Inception network. Its embeddings are not whitened, so the gradient
    penalty has a different scale. The paper's images are random 256x256 crops of 304x304 images, cropped around each
    bird.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent.
        width: channels of the generator at the highest resolution, doubled at each lower one, up to 8 times.
        discriminator_width: the same for the critic; None is the same as `width`.
        network: `dfgan`, or `dcgan` with the sentence concatenated to the latent, which trains faster.
        vocabulary: words in the order of their ids, or a tokenizer's JSON; None uses the vocabulary of the data.
        max_length: maximum number of tokens of a sentence, as in the data; longer ones are truncated.
        encoder: checkpoint of an `ImageTextEncoder` of these sizes, loaded at the start of a run, which replaces the
            first stage.
        text_steps: steps of the first stage.
        features: length of a sentence embedding.
        text_width: length of a word embedding, and of the state of each GRU of the text encoder.
        clip: folder of a CLIP text model for `transformers`, which replaces the text encoder, or its configuration.
        encoder_width: `width` of the image encoder, which the first stage and R-precision need.
        text_lr: learning rate of Adam in the first stage.
        objective: adversarial loss.
        mismatch_weight: weight of real images with another sentence in the critic's loss; generated images have
            1 - `mismatch_weight`.
        interpolation_weight: weight of the generator's loss on interpolated sentences, half-way between two.
        matching_weight: weight of the contrastive loss between generated images and their sentences, the sentence loss
            of Xu et al. 2018 (AttnGAN's DAMSM, arXiv 1711.10485).
        mode_seeking_weight: weight of the similarity of images of one sentence, see `gans.penalties.mode_seeking`.
        penalty_weight: weight of the matching-aware gradient penalty; with 0, DCGAN's critic has BatchNorm.
        penalty_power: power of the gradient norm in it.
        lr: learning rate of Adam for the generator.
        discriminator_lr: learning rate of the critic.
        betas: Adam's decay rates for both.
        judges: extractor for each attribute of the data, by which images of held-out sentences are scored.
        engine: options of the training engine, see `AdversarialModule`.
    """

    task = "text"  # the group of its recipes
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
        """Create the encoders for a vocabulary, which is saved in checkpoints from now on."""
        matcher = built(self.hparams, vocabulary, self.hparams["encoder_width"])
        self.matcher = matcher.to(next(self.generator.parameters()))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam each for the generator, the discriminator and the encoders."""
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
            ValueError: if there are none yet, because there is no vocabulary.
        """
        if self.matcher is None:
            raise ValueError("the model has no vocabulary yet; expected --model.vocabulary, or a run on captioned data")
        return self.matcher

    # -- stages -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Use the vocabulary of the data, and load the judges before any file is written."""
        super().setup(stage)
        vocabulary = shared_vocabulary(self, self.hparams["vocabulary"])
        if self.matcher is None:
            with drawn_from(key(self.seed or 0, "matcher")):  # the same weights on all processes
                self.make_matcher(vocabulary)
        if stage != "predict":
            self.held_out.judges(self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint has the vocabulary of the data, and restore it.

        Raises:
            ValueError: if it has another vocabulary, does not fit this model, or its run started with other encoders.
        """
        ours = self.hparams["vocabulary"]
        check_same(checkpoint["hyper_parameters"].get("vocabulary", ours), ours)
        check_begun(self, checkpoint, "encoder")
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        """Load the given encoders at the start of a new run, but not of a resumed one."""
        super().on_fit_start()
        if self.hparams["encoder"] and self.batches_seen == 0:
            self.take(self.hparams["encoder"])

    def take(self, path: str) -> None:
        """Load the encoders of a checkpoint.

        Raises:
            ValueError: if the checkpoint contains none, or encoders of other sizes.
        """
        state = held_encoders(path, self.hparams["vocabulary"], self.device)
        try:
            self.encoders.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"encoder is {path}, of other sizes: {' '.join(str(error).split())}") from error

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the stage for the current step: encoders, or generator and discriminator."""
        self.clock = self.players.index("matcher" if self.trainer.global_step < self.text_steps else "generator")
        super().on_train_batch_start(batch, batch_idx)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update the encoders in the first stage, then the critic and, in its turn, the generator."""
        images, tokens, lengths = captioned(batch)
        if self.players[self.clock] == "matcher":
            self.match(images, tokens, lengths)
            return
        optimizer_g, optimizer_d, _ = self.player_optimizers()
        sentences = self.sentence(tokens, lengths)
        others = next_rows(sentences)  # other images' sentences, which usually do not match
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
        """Update the encoders with a contrastive loss."""
        optimizer = self.player_optimizers()[self.clock]
        with self.toggled_optimizer(optimizer):
            for piece in self.pieces(images, tokens, lengths):
                seen, read = self.encoders(*piece)
                self.encoders.spread.update(read.detach(), self._share, begin=self._piece == 0)
                loss = both_ways(seen, read, self.encoders.scale(), self.global_rank)
                self.record("loss/contrastive", loss)
                self.descend(loss, optimizer)

    def opinion(self, sentences: Tensor) -> Tensor:
        """Return the generator's loss for images of the sentences `(N, features)`."""
        fake = self.generator(self.latent(len(sentences)), sentences)
        return self.loss.generator(None, self.critic(fake, sentences))

    def mismatch(self, fake: Tensor, sentences: Tensor) -> Tensor:
        """Return the contrastive loss between generated images and their sentences `(N, features)`."""
        seen = self.encoders.image(fake)
        read = self.encoders.spread.colour(sentences).to(seen)
        value = both_ways(seen, read, self.encoders.scale(), self.global_rank)
        self.record("loss/matching", value)
        return value

    def record_discriminator(self, loss: Tensor, real: Tensor, fake: Tensor, other: Tensor) -> None:
        """Record the critic's loss, logits and accuracy, and pass its logits to the augmentation."""
        self.record("loss/discriminator", loss)
        for name, logits in (("real", real), ("fake", fake), ("mismatched", other)):
            self.record(f"logits/{name}", logits)
        self.record("accuracy/discriminator", self.loss.right(real, fake))
        self.augment.observe(real.detach(), self.loss.boundary, self.trainer.world_size)

    # -- held-out captions, see `gans.metrics.captions` ---------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score generated images of held-out sentences."""
        self.held_out.add(self, batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Score generated images of test sentences."""
        self.held_out.add(self, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all held-out sentences."""
        self.held_out.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all test sentences."""
        self.held_out.log(self, "test")

    # -- sentences to images ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sentence(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the whitened embeddings `(N, features)` of sentences, given tokens `(N, T)` and lengths `(N,)`."""
        vectors = self.encoders.sentence(tokens, lengths)
        return self.encoders.spread.whiten(vectors)

    def forward(self, z: Tensor, *captions: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` of the averaged generator, given tokens `(N, T)` and lengths `(N,)`."""
        tokens, lengths = captions
        made: Tensor = self.generator_ema(z, self.sentence(tokens, lengths).to(z.dtype))
        return made

    @torch.no_grad()
    def translate(
        self, tokens: Tensor, lengths: Tensor, *, truncation: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return an image of each sentence, `(N, C, H, W)` in [-1, 1].

        Args:
            tokens: tokens `(N, T)`.
            lengths: lengths of the sentences `(N,)`.
            truncation: truncate latents at ± this many standard deviations.
            seed: seed of the latents; None uses torch's global generator.

        Raises:
            ValueError: if there is a truncation and the prior is not normal.
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
        """Return `n` images of the captions in turn, `(n, C, H, W)` in [-1, 1].

        Args:
            n: number of images.
            labels: must be None.
            truncation: truncate latents at ± this many standard deviations.
            seed: seed of the latents; None uses torch's global generator.
            captions: tokens `(K, T)` and lengths `(K,)`.

        Raises:
            ValueError: if there are no captions, or if there are labels.
        """
        if captions is None or labels is not None:
            raise ValueError("TextToImage makes images of sentences; expected captions=(tokens, lengths), no labels")
        rows = torch.arange(n) % len(captions[0])
        return self.translate(*(part.cpu()[rows] for part in captions), truncation=truncation, seed=seed)

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the inputs of `translate` in a batch: tokens and lengths."""
        return captioned(batch)[1:]

    def targets(self, batch: Any) -> Tensor:
        """Return the real images of a batch."""
        return captioned(batch)[0]

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Return a batch of `n` random images with sentences of one word."""
        assert self.image_shape is not None
        images = torch.rand(n, *self.image_shape, device=self.device) * 2 - 1
        count = entries(self.hparams["vocabulary"] or [])
        tokens = torch.arange(n, device=self.device)[:, None] % max(1, count - 1) + 1
        return images, tokens, torch.ones(n, dtype=torch.long, device=self.device)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return an image of each sentence of a batch."""
        return self.translate(*self.inputs(batch), seed=key("predict", batch_idx, self.global_rank))

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return the grid `captions`: for a few sentences of a batch, the real image, generated ones and the text."""
        images, tokens, lengths = (part[:SHOWN] for part in captioned(batch))
        made = self.translate(*(part.repeat_interleave(DRAWN, 0) for part in (tokens, lengths)), seed=key("pictures"))
        rows = torch.cat([images.to(made)[:, None], made.view(-1, DRAWN, *made.shape[1:])], 1).flatten(0, 1)
        words = [spelled(self.hparams["vocabulary"], row) for row in tokens]
        return {"captions": (contact_sheet(rows, words, DRAWN + 1), 2)}
