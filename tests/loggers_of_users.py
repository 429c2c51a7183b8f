"""Loggers as a user would write them."""

from lightning.pytorch.loggers import Logger


class Elsewhere(Logger):
    """Has a folder, and a name of its own for each run, as loggers of services have."""

    name, version, save_dir = "project", "a1b2", "logs"

    def log_metrics(self, metrics, step=None):
        """Send them."""

    def log_hyperparams(self, params, *args, **kwargs):
        """Send them."""
