"""A run that starts from the weights of another one, and from nothing else of it."""

import pytest
import torch

from gans.engine.checkpoint import init_from
from gans.models import DCGAN, ImageTextEncoder, ProjectionGAN

SMALL = {"size": 16, "channels": 1, "width": 4}


def made(seed, kind=DCGAN, **options):
    torch.manual_seed(seed)
    model = kind(**{**SMALL, **({} if kind is ImageTextEncoder else {"latent_dim": 4}), **options})
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.startswith("generator_ema.") and value.is_floating_point():
                value.mul_(0.9)  # as an average differs
    return model


def test_weights_and_averages_are_taken_and_the_clock_is_not(saved, tmp_path):
    trained, model = made(0, augment="ada", augment_options={"probability": 0.5}), made(1, augment="ada")
    trained.images_seen = trained.batches_seen = 7
    assert init_from(model, saved(trained, tmp_path)) == []
    held = trained.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, held[name]) == (name != "augment.probability"), name
    assert (model.images_seen, model.batches_seen) == (0, 0)


def test_of_another_number_of_classes_what_fits_is_taken(saved, tmp_path):
    path = saved(made(0, ProjectionGAN, num_classes=3, size=32), tmp_path)
    held = torch.load(path, weights_only=True)["state_dict"]
    model = made(1, ProjectionGAN, num_classes=5, size=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    left = init_from(model, path)
    assert left
    assert all("(3," in text and "here (5," in text for text in left)
    names = {text.split()[0] for text in left}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in names else held[name]), name


def test_of_another_model_and_of_weights_without_an_average(saved, tmp_path):
    path = saved(made(0, ProjectionGAN, num_classes=3, size=32), tmp_path)
    with pytest.raises(ValueError, match=r"last\.ckpt holds no weight of an ImageTextEncoder, by name and shape"):
        init_from(made(1, ImageTextEncoder, vocabulary=["a"]), path)
    held = made(0).state_dict()
    torch.save({"state_dict": {k: v for k, v in held.items() if "ema" not in k} | {"more": torch.ones(1)}}, path)
    model = made(1)
    assert init_from(model, path) == ["more (not in this model)"]
    for name, value in model.generator_ema.state_dict().items():
        assert torch.equal(value, held[f"generator.{name}"])


def test_sentences_of_other_words_are_not_taken(saved, tmp_path):
    path = saved(made(0, ImageTextEncoder, vocabulary=["red", "blue"]), tmp_path)
    same, other = (made(1, ImageTextEncoder, vocabulary=words) for words in (["red", "blue"], ["two", "six"]))
    assert init_from(same, path) == []
    with pytest.raises(ValueError, match="holds no weight"):
        init_from(other, path)


RUN = "fit dcgan-digits --data.size 8 --model.width 2 --model.latent_dim 4 --trainer.limit_val_batches 0"


def test_a_new_run_from_weights_on_the_command_line(gans, tmp_path):
    assert gans(f"{RUN} --trainer.max_steps 3")[0] == 0
    first = tmp_path / "runs" / "dcgan-digits" / "version_0" / "checkpoints" / "last.ckpt"
    still = "--model.lr 1e-30 --model.discriminator_lr 1e-30"
    line = f"{RUN} --init_from {first} {still} --ckpt_path last --trainer.default_root_dir new"
    code, out, err = gans(f"{line} --trainer.max_steps 1")
    assert code == 0, err
    assert f"weights      {first}\n" in out
    path = tmp_path / "new" / first.relative_to(tmp_path / "runs")
    old, new = (torch.load(file, weights_only=True) for file in (first, path))
    assert (new["global_step"], new["adversarial"]["batches_seen"]) == (1, 1)
    for name, value in new["state_dict"].items():
        if "weight" in name and "generator_ema" not in name:
            assert torch.allclose(value, old["state_dict"][name], atol=1e-12), name
    assert gans(f"{RUN} --init_from dcgan-digits --trainer.max_steps 1 --trainer.default_root_dir other")[0] == 0
    assert f"init_from: {first}" in (path.parents[1] / "config.yaml").read_text()
    assert {float(state["step"]) for part in new["optimizer_states"] for state in part["state"].values()} == {1}
    # Queued again, the run goes on, and does not start from there once more.
    code, out, err = gans(f"{line} --trainer.max_steps 2 --model.lr 1e-3")
    assert (code, "weights  " in out) == (0, False), err
    assert torch.load(path, weights_only=True)["global_step"] == 2


def test_what_cannot_be_started_from_is_refused(gans, refused, tmp_path):
    assert gans(f"{RUN} --trainer.max_steps 1")[0] == 0
    last = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"
    (tmp_path / "text").write_text("hello")
    assert refused(f"{RUN} --init_from none.ckpt").startswith("there is no checkpoint none.ckpt")
    assert refused(f"{RUN} --init_from text") == "init_from is text; expected a checkpoint with a state_dict"
    torch.save({"state_dict": {}, "hyper_parameters": [1]}, tmp_path / "odd")
    assert refused(f"{RUN} --init_from odd") == "init_from is odd; expected a checkpoint with a state_dict"
    both = refused(f"{RUN} --init_from {last} --ckpt_path {last}")
    assert both == f"init_from is {last}, ckpt_path {last}; expected one of them: a run resumes, or starts from weights"
    foreign = refused(f"fit vae-mnist --data.class_path DigitsDataModule --data.size 8 --init_from {last}")
    assert foreign == f"{last} holds no weight of a VAE, by name and shape"
