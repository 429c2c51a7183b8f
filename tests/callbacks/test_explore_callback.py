"""What a run that is told to explores at its end."""

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FLAGS = "--data.size 8 --data.batch_size 16 --model.width 2 --model.latent_dim 5 --trainer.accelerator cpu"


def test_a_run_ends_with_its_latent_space(gans, tmp_path):
    more = "--explore.samples 120 --explore.features mnist --trainer.max_steps 2"
    code, shown, err = gans(f"fit dcgan-digits {FLAGS} {more}")
    assert code == 0, err
    run = tmp_path / "runs" / "dcgan-digits" / "version_0"
    assert "explored     runs/dcgan-digits/version_0/explore" in shown
    with Image.open(run / "explore" / "traversal.png") as picture:
        assert picture.size == (9 * 10 + 2, 5 * 10 + 2)
    for name, length in (("latents", 5), ("mnist", 64)):
        rows = (run / "00002" / name / "tensors.tsv").read_text().splitlines()
        assert (len(rows), len(rows[0].split("\t"))) == (120, length)
        with Image.open(run / "00002" / name / "sprite.png") as picture:
            assert picture.size == (11 * 8, 11 * 8)
    assert (run / "projector_config.pbtxt").read_text().count("embeddings {") == 2
    events = EventAccumulator(str(run)).Reload()
    assert {"images/pca", "images/traversal"} <= set(events.Tags()["images"])


def test_classes_are_the_projectors_labels_and_nothing_is_shown_unasked(gans, tmp_path):
    flags = f"{FLAGS} --model ConditionalGAN --trainer.max_steps 1"
    code, _, err = gans(f"fit dcgan-digits {flags} --explore.samples 100")
    assert code == 0, err
    run = tmp_path / "runs" / "dcgan-digits" / "version_0"
    labels = (run / "00001" / "latents" / "metadata.tsv").read_text().split()
    assert labels == [str(i % 10) for i in range(100)]
    code, _, err = gans(f"fit dcgan-digits {flags}")
    assert code == 0, err
    assert not (tmp_path / "runs" / "dcgan-digits" / "version_1" / "explore").exists()


def test_a_style_model_is_shown_in_w(gans, tmp_path):
    flags = f"{FLAGS.replace('--data.size 8', '--data.size 16')} --trainer.max_steps 1 --explore.samples 100"
    code, _, err = gans(f"fit dcgan-digits {flags} --model StyleGAN2 --model.preset small")
    assert code == 0, err
    run = tmp_path / "runs" / "dcgan-digits" / "version_0"
    rows = (run / "00001" / "w" / "tensors.tsv").read_text().splitlines()
    assert (len(rows), len(rows[0].split("\t"))) == (100, 64)
    tags = EventAccumulator(str(run)).Reload().Tags()["images"]
    assert {"images/pca", "images/traversal", "images/truncation", "images/mixing"} <= set(tags)


def test_a_model_without_latents_is_refused_before_it_is_trained(refused):
    line = "fit pix2pix-folder --data DegradedDigitsDataModule --data.size 16 --data.channels 1"
    told = refused(f"{line} --model.width 4 --explore.samples 100 --trainer.accelerator cpu")
    assert told == "explore.samples is 100; expected 0, for Pix2Pix translates and has no latents"


def test_too_few_samples_are_refused(refused):
    assert "samples is 20; expected at least 100" in refused(f"fit dcgan-digits {FLAGS} --explore.samples 20")
    assert "did you mean" in refused(f"fit dcgan-digits {FLAGS} --explore.sample 200")
