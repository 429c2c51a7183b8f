"""WGAN-GP in plain Lightning, on four files copied out: gans/losses, gans/penalties, gans/networks/{dcgan,layers}."""

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from gans.losses import Wasserstein
from gans.networks import dcgan
from gans.penalties import one_centered


class WGANGP(L.LightningModule):
    """Algorithm 1 of Gulrajani et al. 2017 (arXiv 1704.00028)."""

    def __init__(self, size=32, channels=1, latent_dim=16, width=4, critic_steps=2):
        super().__init__()
        self.automatic_optimization = False
        self.latent_dim, self.critic_steps = latent_dim, critic_steps
        self.generator = dcgan.Generator(latent_dim, size, channels, width)
        self.critic = dcgan.Discriminator(size, channels, width, batch_norm=False)
        self.loss = Wasserstein()

    def configure_optimizers(self):
        """Return Adam for the generator and for the critic."""
        return [torch.optim.Adam(part.parameters(), 1e-4, (0.5, 0.9)) for part in (self.generator, self.critic)]

    def training_step(self, batch, batch_idx):
        """One step of the critic; after `critic_steps` of them one of the generator."""
        optimizer_g, optimizer_d = self.optimizers()
        real = batch[0]
        z = torch.randn(len(real), self.latent_dim, device=self.device)
        fake = self.generator(z).detach()
        loss = self.loss.discriminator(self.critic(real), self.critic(fake))
        optimizer_d.zero_grad()
        self.manual_backward(loss + 10 * one_centered(self.critic, real, fake))
        optimizer_d.step()
        if (batch_idx + 1) % self.critic_steps == 0:
            optimizer_g.zero_grad()
            self.manual_backward(self.loss.generator(None, self.critic(self.generator(z))))
            optimizer_g.step()


if __name__ == "__main__":
    torch.manual_seed(0)
    model = WGANGP()
    before = {name: value.clone() for name, value in model.state_dict().items() if name.endswith("weight")}
    images = torch.rand(32, 1, 32, 32) * 2 - 1
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(model, DataLoader(TensorDataset(images), batch_size=8))
    assert all(p.isfinite().all() for p in model.parameters())
    after = model.state_dict()
    assert not any(torch.equal(after[name], value) for name, value in before.items())
    print("trained")
