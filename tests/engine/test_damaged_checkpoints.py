"""A damaged, foreign or incomplete checkpoint is refused in a sentence before a run begins; nothing is written."""

import copy
import math

import pytest
import torch

from gans.engine.checkpoint import check_checkpoint, check_resumable
from gans.models import DCGAN

TINY = (
    "--trainer.enable_progress_bar false --trainer.max_steps 3 --trainer.accelerator cpu --grid.samples 4 "
    "--model.width 4 --data.size 8 --data.batch_size 8"
)


def model():
    return DCGAN(size=8, channels=1, width=4, latent_dim=4)


@pytest.fixture(scope="module")
def whole():
    """What a run of two optimizers saves, of an untrained model."""
    made = model()
    state = {"seed": 0, "batches_seen": 1, "images_seen": 8, "images_averaged": 8, "pending": {}}
    progress = {"epoch": 0, "global_step": 1, "pytorch-lightning_version": "2.6", "lr_schedulers": [], "callbacks": {}}
    rest = {"loops": {"fit_loop": {}}, "optimizer_states": [{}, {}], "state_dict": made.state_dict()}
    return {"adversarial": {"model": "gans.models.dcgan.DCGAN", **state}, **progress, **rest}


def test_a_whole_checkpoint_is_accepted(whole):
    check_checkpoint(model(), whole)
    check_resumable(whole)


FIELDS = ["epoch", "global_step", "loops", "optimizer_states", "lr_schedulers", "callbacks"]


@pytest.mark.parametrize("name", FIELDS)
def test_what_a_run_needs_to_resume(whole, name):
    without = {key: value for key, value in whole.items() if key != name}
    with pytest.raises(
        ValueError, match=rf"has no {name}, so no run can resume from it: --init_from takes its weights"
    ):
        check_resumable(without)
    with pytest.raises(ValueError, match=rf"is damaged: {name} is "):
        check_resumable({**whole, name: "x"})


@pytest.mark.parametrize("name", ["seed", "batches_seen", "images_seen", "images_averaged", "pending"])
@pytest.mark.parametrize("value", [7.5, "x", -1, True, [1]])
def test_the_clock_is_of_whole_numbers(whole, name, value):
    state = {**whole["adversarial"], name: value}
    with pytest.raises(ValueError, match=rf"the checkpoint's adversarial is damaged: {name} is "):
        check_checkpoint(model(), {**whole, "adversarial": state})


@pytest.mark.parametrize("name", ["classes", "settings", "length"])
def test_what_older_checkpoints_lack_is_a_list(whole, name):
    for value in (7.5, "x", {"a": 1}, *([[1]] if name == "settings" else [])):
        state = {**whole["adversarial"], name: value}
        with pytest.raises(ValueError, match=rf"the checkpoint's adversarial is damaged: {name} "):
            check_checkpoint(model(), {**whole, "adversarial": state})


@pytest.mark.parametrize("held", [7, [1], torch.zeros(2), {"a": 1}, {"adversarial": 3}, {"adversarial": {"model": 7}}])
def test_what_is_no_checkpoint_of_this_framework(held):
    with pytest.raises(ValueError, match="the checkpoint holds no model of this framework; expected"):
        check_checkpoint(model(), held)


@pytest.mark.parametrize(
    ("weight", "says"),
    [("x", "is str, the model's is"), (torch.zeros(1), "is \\(1,\\), the model's is"), (math.nan, "is not finite")],
)
def test_a_weight_that_is_none(whole, weight, says):
    weights = copy.deepcopy(whole["state_dict"])
    name = "discriminator.layers.0.weight"
    weights[name] = weights[name] * weight if weight is math.nan else weight
    with pytest.raises(ValueError, match=f"the checkpoint's {name} {says}"):
        check_checkpoint(model(), {**whole, "state_dict": weights})


def halved(checkpoint):
    for state in checkpoint["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(1)  # fused Adam would read behind its end


DAMAGE = {
    "an optimizer less": (lambda held: held["optimizer_states"].pop(), "the checkpoint has 1 optimizer states; expect"),
    "moments of another shape": (halved, "the checkpoint's optimizer does not fit: exp_avg is (1,) for a weight of "),
    "a weight more": (
        lambda held: held["state_dict"].update(more=torch.zeros(1)),
        "the checkpoint's more has no place in the model",
    ),
    "state of the data": (lambda held: held.update(DigitsDataModule=7), "{path} cannot be restored: TypeError: "),
    "weights alone": (lambda held: held.pop("loops"), "{path}: the checkpoint has no loops, so no run can resume"),
}


def test_damage_that_only_a_run_finds(gans, tmp_path):
    assert gans(f"fit dcgan-digits {TINY} --trainer.max_steps 1")[0] == 0
    last = tmp_path / "runs" / "dcgan-digits" / "version_0" / "checkpoints" / "last.ckpt"
    before = sorted(tmp_path.rglob("*"))
    for name, (damage, says) in DAMAGE.items():
        held = torch.load(last, weights_only=True)
        damage(held)
        path = tmp_path.parent / "damaged.ckpt"
        torch.save(held, path)
        code, _, err = gans(f"fit dcgan-digits {TINY} --ckpt_path {path}")
        assert code == 2, (name, err)
        assert err.startswith(f"gans: error: {says.format(path=path)}"), (name, err)
        assert err.count("\n") == 1, name
        assert sorted(tmp_path.rglob("*")) == before, name


@pytest.mark.parametrize("recipe", ["dcgan-digits", "imagetextencoder-digits"])
def test_a_file_that_is_no_checkpoint(gans, tmp_path, recipe):
    (tmp_path / "text.ckpt").write_text("hello")
    code, _, err = gans(f"fit {recipe} --trainer.max_steps 1 --trainer.accelerator cpu --ckpt_path text.ckpt")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("gans: error: text.ckpt is not a readable checkpoint (")
    assert [path.name for path in tmp_path.iterdir()] == ["text.ckpt"]
