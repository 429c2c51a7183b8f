"""Loggers of services that cannot begin: their package is missing, or the service refuses the run."""

import sys
from types import ModuleType

from lightning.pytorch.loggers import mlflow, wandb

FIT = "fit dcgan-digits --data.size 8 --model.width 4 --trainer.max_steps 1 --trainer.accelerator cpu --trainer.logger"


class Missing:
    """What Lightning knows of a package that is not installed."""

    def __bool__(self):
        return False

    def __str__(self):
        return "Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`"


def test_a_missing_package_is_named_by_its_extra(refused, monkeypatch):
    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", Missing())
    told = 'trainer.logger is WandbLogger, whose package is not installed: pip install "lightning-gans[wandb]"'
    assert refused(f"{FIT} WandbLogger") == told


def test_a_service_that_refuses_a_run_is_bad_input(refused, monkeypatch):
    def client(address):
        raise Exception("There is no place\nfor runs. See the manual.")  # the base of errors of services

    service = ModuleType("mlflow.tracking")
    service.MlflowClient = client
    monkeypatch.setattr(mlflow, "_MLFLOW_AVAILABLE", True)
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", service)
    told = "the logger mlflow cannot begin: There is no place for runs (--trainer.logger.tracking_uri sqlite:///mlflow"
    assert refused(f"{FIT} MLFlowLogger").startswith(told)
