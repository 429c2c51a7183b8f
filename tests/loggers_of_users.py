"""Loggers as a user would write them."""

from lightning.pytorch.loggers import Logger


class Elsewhere(Logger):
    """Has a folder, and a name of its own for each run, as loggers of services have."""

    name, version, save_dir = "project", "a1b2", "logs"

    def log_metrics(self, metrics, step=None):
        """Send them."""

    def log_hyperparams(self, params, *args, **kwargs):
        """Send them."""


class Shows(Elsewhere):
    """Shows pictures, clips and tables by the methods that Lightning's `WandbLogger` has."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def log_image(self, key, images, step=None, **options):
        """Show them."""
        self.shown.append((key, images, step, options))

    def log_video(self, key, videos, step=None, **options):
        """Show them."""
        self.shown.append((key, videos, step, options))

    def log_table(self, key, columns=None, data=None, step=None):
        """Show it."""
        self.shown.append((key, columns, data))
