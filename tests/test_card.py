"""The model card of a saved model, which the Hub's own package reads."""

import json

import latent_models
import pytest
import torch
import yaml
from PIL import Image

from gans import card
from gans.hub import from_pretrained, save_pretrained
from gans.models import ConditionalGAN, ImageTextEncoder, Pix2Pix
from gans.runs import record


@pytest.fixture
def run(tmp_path):
    """The folder of a run with reports of `gans evaluate` for two of its checkpoints."""
    folder = tmp_path / "runs" / "dcgan-digits" / "version_3"
    folder.mkdir(parents=True)
    held = record.Record("", "", "done", "DCGAN", "ImageFolderDataModule", 16, 8, 5, 2, steps=1200)
    environment = {"torch": "2.14.1", "commit": "c0ffee"}
    settings = {"data.root": "/home/somebody/photos"}
    record.write(folder, record.Record(**{**vars(held), "environment": environment, "settings": settings}))
    for name, seen, fid in (("best.json", 320, 9.0), ("report.json", 640, 4.125)):
        report = {
            "metrics": {"fid": {"value": fid}, "kid": {"value": 0.002, "std": 0.001}},
            "baseline_real": {"fid": {"value": 0.5}},
            "protocol": {"name": "quick", "samples": 5000, "seeds": [0]},
            "extractor": {"name": "mnist", "sha256": "a" * 64, "resize": "28x28"},
            "reference": {"n": 1600, "split": "train", "fingerprint": "f" * 64},
            "generator": {"images_seen": seen, "checkpoint": "/home/somebody/last.ckpt"},
        }
        (folder / name).write_text(json.dumps(report))
    return folder


def metadata(text):
    """The metadata of a card, as YAML."""
    return yaml.safe_load(text.split("---\n")[1])


def trained(model):
    model.images_seen = 640
    return model


def test_a_card_tells_recipe_data_length_scores_with_protocol_and_licence(tmp_path, run):
    model = trained(latent_models.awake(latent_models.MODELS["dcgan"]))
    folder = save_pretrained(model, tmp_path / "digits", run=run, licence="Apache-2.0")
    text = (folder / "README.md").read_text()
    for told in (
        "`DCGAN`, trained on 640 images of ImageFolderDataModule (photos).",
        "| recipe | `dcgan-digits` |",
        "| steps | 1,200 |",
        "| batch | 8 x 2 processes |",
        "| commit | c0ffee |",
        "5,000 samples of seed 0 against 1,600 images of the split train (ffffffff), features mnist (aaaaaaaa, 28x28)",
        "| fid | 4.125 | 0.500 | lower |",
        "| kid | 2.000 ± 1.000 | - | lower |",
        'from_pretrained("digits")',
        "Licence of the weights: Apache-2.0.",
    ):
        assert told in text
    assert "9.000" not in text  # of another checkpoint of the run
    assert "somebody" not in text  # a card is public
    with Image.open(folder / "samples.png") as grid:
        assert grid.size == (4 * 18 + 2, 4 * 18 + 2)
    found = metadata(text)
    assert (found["license"], found["library_name"]) == ("apache-2.0", "lightning-gans")
    assert found["model-index"][0]["results"][0]["metrics"][0]["value"] == 4.125


def test_the_hubs_package_reads_the_card_and_its_scores(tmp_path, run):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: the extra hub")
    model = trained(latent_models.MODELS["dcgan"]())
    folder = save_pretrained(model, tmp_path / "digits", run=str(run), licence="my own terms")
    data = hub.ModelCard.load(folder / "README.md").data
    assert (data.license, data.license_name, data.pipeline_tag) == (
        "other",
        "my own terms",
        "unconditional-image-generation",
    )
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("fid", 4.125),
        ("kid", 0.002),
    ]
    assert "dcgan" in data.tags


def test_a_card_without_a_run_says_what_the_model_knows(tmp_path):
    model = ConditionalGAN(size=8, channels=1, width=2, latent_dim=4, num_classes=3)
    model.origin = {"source": "github.com/somebody/gan", "licence": "MIT"}
    text = (save_pretrained(model, tmp_path / "a") / "README.md").read_text()
    assert "Its weights come from github.com/somebody/gan, under the licence: MIT." in text
    assert metadata(text)["license"] == "mit"
    assert "recipe" not in text
    with Image.open(tmp_path / "a" / "samples.png") as grid:
        assert grid.size == (3 * 10 + 2, 4 * 10 + 2)  # a column for each class


@pytest.mark.parametrize(
    ("build", "task", "line"),
    [
        (lambda: Pix2Pix(size=16, channels=1, width=4), "image-to-image", "model.translate(pictures)"),
        (lambda: ImageTextEncoder(32, width=4, features=8, text_width=4, vocabulary=["one", "word"]), None, None),
    ],
)
def test_models_without_samples_have_a_card_without_a_picture(tmp_path, build, task, line):
    folder = save_pretrained(build(), tmp_path / "a")
    text = (folder / "README.md").read_text()
    assert not (folder / "samples.png").exists()
    assert metadata(text).get("pipeline_tag") == task
    assert (line or "from_pretrained") in text
    assert "sample(" not in text


def test_a_card_of_a_users_own_is_kept_and_ours_is_renewed(tmp_path):
    model = latent_models.MODELS["dcgan"]()
    folder = save_pretrained(model, tmp_path / "a")
    model.images_seen = 64
    assert "trained on 64 images" in (save_pretrained(model, folder) / "README.md").read_text()
    (folder / "README.md").write_text("of my own")
    with pytest.warns(UserWarning, match=r"the card .*README.md is your own and is kept"):
        assert (save_pretrained(model, folder) / "README.md").read_text() == "of my own"
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\n")
    assert metadata((save_pretrained(model, folder) / "README.md").read_text())["license"] == "cc0-1.0"
    assert from_pretrained(folder).images_seen == 64


def test_a_run_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    model = latent_models.MODELS["dcgan"]()
    with pytest.raises(ValueError, match="run is nowhere, which does not exist"):
        save_pretrained(model, tmp_path / "a", run="nowhere")
    assert not (tmp_path / "a").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        save_pretrained(model, tmp_path / "a", run=tmp_path / "empty")
    assert not (tmp_path / "a").exists()


def test_a_model_that_diverged_is_saved_without_a_picture(tmp_path):
    model = latent_models.MODELS["dcgan"]()
    with torch.no_grad():
        next(model.generator_ema.parameters()).fill_(float("nan"))
    folder = save_pretrained(model, tmp_path / "a")
    assert card.OURS in (folder / "README.md").read_text()
    assert not (folder / "samples.png").exists()
