"""Text to image: stages, who meets which sentence, what held-out captions say, and bad input."""

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from datamodules import CaptionedDigitsDataModule
from gans.callbacks.grid import ImageGrid
from gans.engine.checkpoint import Checkpoint, load_model
from gans.engine.distributed import next_rows
from gans.metrics.extractors import judge
from gans.models import ImageTextEncoder, TextToImage
from gans.models.imagetextencoder import both_ways

WORDS = ["red", "blue", "seven"]
SMALL = {"size": 16, "latent_dim": 4, "width": 2, "features": 4, "text_width": 3, "encoder_width": 2}


def make(**options):
    torch.manual_seed(0)
    return TextToImage(**{**SMALL, "text_steps": 2, "vocabulary": WORDS, **options})


def digits(**options):
    return CaptionedDigitsDataModule(**{"size": 16, "batch_size": 16, **options})


def loader(n=32):
    torch.manual_seed(1)
    tokens = torch.randint(2, 5, (n, 3))
    return DataLoader(TensorDataset(torch.rand(n, 3, 16, 16) * 2 - 1, tokens, torch.full((n,), 3)), batch_size=16)


def weights(model, part):
    return torch.cat([p.detach().flatten().clone() for p in getattr(model, part).parameters()])


def test_encoders_learn_first_and_rest_in_the_game(trainer):
    model = make()
    start = {part: weights(model, part) for part in ("generator", "discriminator", "matcher")}
    run = trainer(2)
    run.fit(model, loader())
    assert torch.equal(weights(model, "generator"), start["generator"])
    assert torch.equal(weights(model, "discriminator"), start["discriminator"])
    assert not torch.equal(weights(model, "matcher"), start["matcher"])
    learnt = weights(model, "matcher")
    run.fit_loop.epoch_loop.max_steps = 4
    run.fit(model, loader())
    assert run.global_step == 4
    assert torch.equal(weights(model, "matcher"), learnt)
    assert not torch.equal(weights(model, "generator"), start["generator"])
    assert not torch.equal(weights(model, "discriminator"), start["discriminator"])


def test_there_is_no_sheet_until_the_generator_learns(trainer, tmp_path):
    """Sentences are learnt first: until then the generator's images are grey."""
    model = TextToImage(**SMALL, text_steps=2)
    logger, data = TensorBoardLogger(tmp_path, "run", 0), digits()
    trainer(4, logger=logger, limit_val_batches=0, callbacks=[ImageGrid(1, samples=4)]).fit(model, datamodule=data)
    sheets = sorted(path.name for path in (tmp_path / "run" / "version_0" / "samples").iterdir())
    assert sheets == ["captions_0000003.png", "captions_0000004.png", "real.png"]


def test_the_critic_meets_each_image_with_its_own_and_the_next_sentence(trainer):
    met = []

    class Spy(TextToImage):
        def critic(self, images, *sentences):
            met.append((images.detach(), *sentences))
            return super().critic(images, *sentences)

    model = make(text_steps=0, penalty_weight=0.0, interpolation_weight=0.5)
    model.__class__ = Spy
    trainer(1).fit(model, loader(16))
    images, tokens, lengths = next(iter(loader(16)))
    own = model.sentence(tokens, lengths)
    (real, first, second), (_, of_fake), (_, of_generator), (_, between) = met
    assert torch.equal(real, images)
    assert torch.equal(first, own)
    assert torch.equal(second, own.roll(-1, 0))
    assert torch.equal(of_fake, own)
    assert torch.equal(of_generator, own)
    assert torch.allclose(between, (own + own.roll(-1, 0)) / 2)
    assert torch.equal(next_rows(own), own.roll(-1, 0))
    assert own.square().mean() == pytest.approx(1 / 1.3)  # of length 1 on a sphere of 4 dimensions, whitened


def test_mode_seeking_moves_the_images_of_a_sentence_apart(trainer):
    spread = []
    for weight in (0.0, 5.0):
        torch.manual_seed(0)
        model = make(text_steps=0, penalty_weight=0.0, mode_seeking_weight=weight, lr=0.01)
        trainer(5).fit(model, loader(16))
        tokens, lengths = (part[:1].repeat(16, *[1] * (part.ndim - 1)) for part in next(iter(loader(16)))[1:])
        z = torch.randn(16, model.latent_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            spread.append(model.generator.eval()(z, model.sentence(tokens, lengths)).std(0).mean().item())
    assert spread[1] > 1.2 * spread[0]


@pytest.mark.slow
def test_the_encoders_error_of_generated_images_falls_with_its_weight(trainer):
    errors = []
    for weight in (0.0, 20.0):
        model = make(text_steps=0, penalty_weight=0.0, matching_weight=weight, lr=0.01)
        trainer(60).fit(model, loader(16))
        _, tokens, lengths = next(iter(loader(16)))
        with torch.no_grad():
            own = model.sentence(tokens, lengths)
            fake = model.generator.eval()(torch.zeros(16, model.latent_dim), own)
            seen, read = model.encoders.image(fake), model.encoders.sentence(tokens, lengths)
            errors.append(both_ways(seen, read, model.encoders.scale(), 0).item())
    assert errors[1] < errors[0] - 0.05


def test_a_sentence_that_is_the_same_is_no_swap(trainer):
    model = make(text_steps=0)
    images, tokens, lengths = next(iter(loader(16)))
    model.trainer = trainer(1)
    model.seed = 1
    tokens[1], tokens[0] = tokens[2], tokens[15]  # rows 0 and 2 stand behind their own sentence
    model.on_validation_batch_start(None, 0)
    rows = model.held_out.rows(model, (images, tokens, lengths))
    same = [bool((row == before).all()) for row, before in zip(tokens, tokens.roll(1, 0), strict=True)]
    assert same[0]
    assert same[2]
    assert (rows["swap"] == -1).tolist() == same


def test_the_vocabulary_comes_with_the_data_and_stays_with_the_checkpoint(trainer, tmp_path):
    torch.manual_seed(0)
    data, model = digits(), TextToImage(**SMALL, text_steps=1)
    saver = Checkpoint(2, str(tmp_path))
    trainer(2, callbacks=[saver], enable_checkpointing=True, limit_val_batches=1).fit(model, datamodule=data)
    again = load_model(tmp_path / "last.ckpt")
    assert again.hparams["vocabulary"] == list(data.vocabulary)
    tokens, lengths = data.tokenizer(["a red seven", "a blue two on white"], 16)
    made = again.sample(4, captions=(tokens, lengths), seed=1)
    assert made.shape == (4, 3, 16, 16)
    assert torch.equal(made, model.eval().sample(4, captions=(tokens, lengths), seed=1))
    with pytest.raises(ValueError, match=r"the data's vocabulary .* is not the model's"):
        trainer(1).fit(make(), datamodule=digits())
    with pytest.raises(ValueError, match="the data have no captions"):
        trainer(1).fit(TextToImage(**SMALL), loader())


@pytest.mark.parametrize("kind", [TextToImage, ImageTextEncoder])
def test_a_checkpoint_of_words_in_another_order_is_refused(trainer, tmp_path, kind):
    sizes = SMALL if kind is TextToImage else {"size": 16, "features": 4, "width": 2, "text_width": 3}
    run = trainer(1, limit_val_batches=0)
    run.fit(kind(**sizes, vocabulary=WORDS), loader())
    run.save_checkpoint(tmp_path / "other.ckpt")
    data = digits()
    data.__class__ = type("Other", (type(data),), {"vocabulary": tuple(WORDS[::-1])})
    with pytest.raises(ValueError, match=r"the data's vocabulary .* is not the model's"):
        trainer(1).validate(kind(**sizes), datamodule=data, ckpt_path=tmp_path / "other.ckpt")


def test_a_trained_encoder_takes_the_place_of_the_first_stage(trainer, tmp_path):
    torch.manual_seed(0)
    encoder = ImageTextEncoder(16, 3, features=4, width=2, text_width=3)
    saver = Checkpoint(2, str(tmp_path))
    logger = CSVLogger(tmp_path)
    trainer(2, callbacks=[saver], enable_checkpointing=True, logger=logger).fit(encoder, datamodule=digits())
    model = TextToImage(**SMALL, encoder=str(tmp_path / "last.ckpt"))
    assert model.text_steps == 0
    trainer(1, limit_val_batches=0).fit(model, datamodule=digits())
    assert torch.equal(weights(model, "matcher"), weights(encoder, "matcher"))
    assert model.encoders.spread.batches == 2
    for name, moment in encoder.matcher.spread.named_buffers():
        assert torch.equal(moment, model.encoders.spread.get_buffer(name))
    for wrong, says in (
        ({"encoder": "none.ckpt"}, "is no file"),
        ({"encoder": str(tmp_path / "last.ckpt"), "features": 5}, "of other sizes"),
        ({"encoder": str(tmp_path / "last.ckpt"), "vocabulary": WORDS}, "other"),
    ):
        with pytest.raises(ValueError, match=says):
            trainer(1).fit(
                TextToImage(**{**SMALL, **wrong}),
                *([loader()] if "vocabulary" in wrong else []),
                **({} if "vocabulary" in wrong else {"datamodule": digits()}),
            )


@pytest.mark.slow
def test_encoders_learn_to_find_pairs(trainer):
    torch.manual_seed(0)
    model, losses = ImageTextEncoder(16, 3, features=16, width=8, text_width=16, lr=3e-3), []
    for steps in (1, 100):
        run = trainer(steps, limit_val_batches=0)
        run.fit(model, datamodule=digits(infinite=True, batch_size=32))
        losses.append(float(run.callback_metrics["loss/contrastive"]))
    assert losses[1] < losses[0] - 0.5
    [found] = trainer(1).validate(model, datamodule=digits(), verbose=False)
    assert 0 <= found["val/r_precision"] <= 1


def test_encoders_resume_with_the_seed_of_their_run(gans, tmp_path):
    line = "fit imagetextencoder-digits --data.size 16 --model.width 2 --trainer.accelerator cpu --trainer.max_steps"
    for number, flags in enumerate(("4 --seed_everything 3", "2 --seed_everything 3", "4 --ckpt_path last")):
        code, _, err = gans(f"{line} {flags}")
        assert code == 0, (number, err)
    runs = tmp_path / "runs" / "imagetextencoder-digits"
    whole, halves = (
        torch.load(runs / f"version_{number}" / "checkpoints" / "last.ckpt", weights_only=True) for number in (0, 1)
    )
    assert whole["adversarial"]["seed"] == halves["adversarial"]["seed"] == 3
    assert halves["global_step"] == 4
    assert whole["state_dict"].keys() == halves["state_dict"].keys()
    assert all(torch.equal(value, halves["state_dict"][name]) for name, value in whole["state_dict"].items())
    del halves["adversarial"]["seed"]  # as in checkpoints of earlier versions
    torch.save(halves, runs / "version_1" / "checkpoints" / "last.ckpt")
    code, _, err = gans(f"{line} 5 --ckpt_path last")
    assert code == 0, err


def test_the_players_are_given_whitened_sentences(trainer, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    torch.manual_seed(1)
    model = TextToImage(**{**SMALL, "features": 16, "text_width": 16}, text_steps=60, text_lr=3e-3)
    data = digits(infinite=True, batch_size=64)
    trainer(60, limit_val_batches=0).fit(model, datamodule=data)
    _, tokens, lengths = next(iter(data.train_dataloader()))[:3]
    with torch.no_grad():
        raw = model.encoders.sentence(tokens, lengths)
    told = model.sentence(tokens, lengths)
    before, after = (torch.linalg.eigvalsh(torch.cov(vectors.mT)).flip(0)[:8] for vectors in (raw, told))
    assert before[7] < 0.2 * before[0]
    assert after[7] > 2 * (before[7] / before[0]) * after[0]
    assert after[0] < 3
    assert torch.allclose(model.encoders.spread.colour(told), raw, atol=1e-5)


def test_held_out_captions_are_judged_seen_pairs_and_others_apart(trainer):
    model = TextToImage(**SMALL, text_steps=1)
    run = trainer(2, limit_val_batches=2, limit_test_batches=4)
    run.fit(model, datamodule=digits())
    [found] = run.test(model, datamodule=digits(), verbose=False)
    shares = {"swap", "r_precision", "r_precision_real"}
    assert {name for name in found if name != "step"} == {
        f"test/{prefix}{name}" for name in shares for prefix in ("", "held_out/")
    }
    assert all(0 <= value <= 1 for name, value in found.items() if name != "step")
    assert found["step"] == 2


def test_judges_say_whether_images_show_what_their_sentences_name(trainer):
    class Copies(TextToImage):
        """Makes the held-out images themselves, or those of other sentences."""

        shift = 0

        def test_step(self, batch, batch_idx):
            self.generator_ema.forward = lambda z, sentences: batch[0].roll(self.shift, 0)
            super().test_step(batch, batch_idx)

    judges = {"digit": "captioned-digit", "colour": "captioned-colour"}
    model, data = Copies(**{**SMALL, "size": 32}, text_steps=1, judges=judges), digits(size=32)
    run = trainer(1, limit_test_batches=4)
    [right] = run.test(model, datamodule=data, verbose=False)
    model.shift = 1
    [wrong] = run.test(model, datamodule=data, verbose=False)
    for name in judges:
        assert right[f"test/{name}"] > 0.9
        assert wrong[f"test/{name}"] < 0.5
        assert f"test/held_out/{name}" in right
    assert not any("judge" in name or "held_out" in name for name in model.state_dict())


def test_bad_input_is_one_sentence(trainer):
    for options, says in (
        ({"objective": "relativistic"}, "judges each image by itself"),
        ({"mismatch_weight": 1.0}, "expected a share"),
        ({"lr": 0.0}, "expected a number above 0"),
        ({"matching_weight": -1.0}, "matching_weight is -1.0; expected at least 0"),
    ):
        with pytest.raises(ValueError, match=says):
            make(**options)
    with pytest.raises(ValueError, match="expected an extractor with classes"):
        judge("random")
    with pytest.raises(ValueError, match="makes images of sentences; expected captions"):
        make().sample(2)
    with pytest.raises(ValueError, match="has no vocabulary yet"):
        TextToImage(**SMALL).translate(torch.ones(1, 1).long(), torch.ones(1).long())
    plain = DataLoader(TensorDataset(torch.rand(8, 3, 16, 16), torch.zeros(8, dtype=torch.long)), batch_size=8)
    with pytest.raises(ValueError, match="a batch has no captions"):
        trainer(1).fit(make(), plain)
    model = TextToImage(**SMALL, text_steps=1, judges={"shape": "mnist"})
    with pytest.raises(ValueError, match="expected attributes of the data: digit, colour"):
        trainer(1, limit_val_batches=1, check_val_every_n_epoch=1, limit_train_batches=1).fit(
            model, datamodule=digits()
        )


def test_a_whole_run_is_the_same_when_it_stops_in_between(trainer, tmp_path):
    states = []
    for parts in ((4,), (1, 4), (3, 4)):
        folder = tmp_path / str(parts)
        for steps in parts:
            L.seed_everything(5, verbose=False)
            model = TextToImage(**SMALL, text_steps=2)
            saver = Checkpoint(100, str(folder))
            last = folder / "last.ckpt"
            trainer(steps, callbacks=[saver], enable_checkpointing=True, limit_val_batches=0).fit(
                model, datamodule=digits(), ckpt_path=last if last.exists() else None
            )
        states.append(model.state_dict())
    for state in states[1:]:
        for name, value in states[0].items():
            assert torch.equal(state[name], value), name


@pytest.fixture
def clip_folder(tmp_path):
    """A small CLIP text model that has learnt nothing, and a tokenizer for it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the extra clip")
    from datamodules.text import learn

    folder = tmp_path / "clip"
    data = digits()
    captions = [data._datasets()[1].caption(i) for i in range(100)]
    words = learn(captions, "bpe", 200)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(vocab_size=200, max_position_embeddings=16, eos_token_id=1, **sizes)
    transformers.CLIPTextModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(words.vocabulary)
    return folder


def test_sentences_can_be_read_by_a_clip_from_a_folder(trainer, tmp_path, clip_folder):
    data = digits(tokenizer=str(clip_folder / "tokenizer.json"))
    model = TextToImage(**SMALL, text_steps=1, clip=str(clip_folder))
    saver = Checkpoint(2, str(tmp_path))
    model.setup = lambda stage, setup=model.setup: (
        setup(stage),
        begun.append(weights(model.matcher.sentences, "clip")),
    )
    begun = []
    trainer(2, callbacks=[saver], enable_checkpointing=True, limit_val_batches=0).fit(model, datamodule=data)
    assert torch.equal(weights(model.matcher.sentences, "clip"), begun[0]), "CLIP rests"
    for path in clip_folder.iterdir():
        path.unlink()
    again = load_model(tmp_path / "last.ckpt")  # without the folder
    tokens, lengths = data.tokenizer(["a red seven", "a blue two"], 16)
    assert torch.equal(again.sentence(tokens, lengths), model.eval().sentence(tokens, lengths))
    longer, same = data.tokenizer(["a red seven", "a blue two"], 12)
    assert torch.allclose(again.sentence(longer, same), again.sentence(tokens, lengths), atol=1e-6)
    with pytest.raises(ValueError, match=r"expected a folder with config\.json"):
        trainer(1).fit(TextToImage(**SMALL, clip=str(clip_folder)), datamodule=data)
