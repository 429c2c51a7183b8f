"""Models as a user of the engine would write them, for tests of the engine itself."""

from gans.models import GAN
from gans.penalties import one_centered, zero_centered


class Penalised(GAN):
    """GAN whose critic has both gradient penalties, each with its double backward, and whose fakes get noise."""

    def training_step(self, batch, batch_idx):
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                fake = self.generator(self.latent(len(real))).detach()
                loss = self.loss.discriminator(self.discriminator(real), self.discriminator(fake))
                loss = loss + 0.1 * zero_centered(self.discriminator, real)
                loss = loss + one_centered(self.discriminator, real, fake, self.uniform(len(real)))
                self.record("loss/discriminator", loss)
                self.descend(loss, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(batch[0]):
                    fake = self.generator(self.latent(len(real)))
                    loss = self.loss.generator(None, self.discriminator(fake + 0.01 * self.noise_like(fake)))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)
