"""Extractors: frozen whatever happens around them, exact about channels and sizes, and sure of their weights."""

import copy
import io
import os
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from datamodules import CaptionedDigitsDataModule, DigitsDataModule, MNISTDataModule, StackedMNISTDataModule
from datamodules.captioned_digits import ATTRIBUTES
from gans.metrics.classifiers import SHIPPED, WEIGHTS, Classifier, fitted, pack
from gans.metrics.extractors import extractor
from gans.metrics.functional import fid
from gans.metrics.inception import Inception
from gans.metrics.interface import Extractor, Wrapped, digest, with_channels
from gans.networks import classifier
from gans.precision import BACKENDS

torch.set_num_threads(1)
DATA = Path(os.environ.get("GANS_DATA", Path(__file__).parents[3] / "shared" / "data"))
MNIST = WEIGHTS / "mnist.pt"
CAPTIONED = [("captioned-digit", "digit", 10, 0.97), ("captioned-colour", "colour", 8, 0.99)]
SIZES = {"channels": 3, "width": 2, "num_features": 6, "num_classes": 4}


def packed(channels=3, size=(16, 16), unframed=None, seed=0):
    torch.manual_seed(seed)
    sizes = {**SIZES, "channels": channels}
    network = classifier.Classifier(**sizes)
    network(torch.randn(16, channels, *size))  # running statistics that are not 0 and 1
    facts = {"name": "tiny", "size": [*size], "unframed": [*(unframed or size)], "accuracy": 0.5, "data": "noise"}
    return pack(network, sizes, facts)


@pytest.fixture
def stored(tmp_path):
    """Return a function that writes a classifier and returns its path."""

    def make(**options):
        path = tmp_path / "tiny.pt"
        torch.save(packed(**options), path)
        return path

    return make


class Statistics(nn.Module):
    """Batch statistics and channel means: what train mode and autocast would change."""

    num_features, num_classes = 5, 3

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.linear, self.head = (
            nn.BatchNorm2d(3),
            nn.Dropout(),
            nn.Linear(48, 5),
            nn.Linear(5, 3),
        )

    def forward(self, images):
        x = self.drop(self.norm(images / 255)).flatten(1)
        return self.linear(x), self.head(self.linear(x))


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["classifier", "wrapped"])
def any_extractor(request, stored):
    if request.param == "classifier":
        return Classifier(stored(size=(8, 8)))
    torch.manual_seed(1)
    return Wrapped(Statistics())


def described(found):
    return (found.name, found.num_features, found.num_classes, found.resize)


# -- nothing around an extractor changes it ----------------------------------------------------------------------------


def both(found, images):
    features, logits = found(images)
    return torch.cat([features, logits], 1)


def test_shapes_and_kinds(any_extractor):
    features, logits = any_extractor(pixels(7, 3, 4, 4))
    assert features.shape == (7, any_extractor.num_features)
    assert logits.shape == (7, any_extractor.num_classes)
    assert (features.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert len(any_extractor.sha256) == 64


def test_modes_of_a_parent_change_nothing(any_extractor):
    images = pixels(7, 3, 4, 4)
    before, state = both(any_extractor, images), copy.deepcopy(any_extractor.state_dict())
    parent = nn.ModuleDict({"extractor": any_extractor, "other": nn.Dropout()})
    for change in (parent.train, parent.eval, any_extractor.train, lambda: any_extractor.train(mode=False)):
        change()
        assert torch.equal(both(any_extractor, images), before)
        assert not any(module.training for module in any_extractor.modules())
    assert any_extractor.train() is any_extractor
    assert all(torch.equal(state[name], tensor) for name, tensor in any_extractor.state_dict().items())


def test_nothing_has_a_gradient(any_extractor):
    assert list(any_extractor.parameters())
    assert not any(p.requires_grad for p in any_extractor.parameters())
    any_extractor.requires_grad_(True)
    assert not both(any_extractor, pixels(2, 3, 4, 4)).requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(any_extractor, dtype):
    images = pixels(7, 3, 4, 4)
    before = both(any_extractor, images)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(both(any_extractor, images), before)


def test_products_are_full_float32_and_only_inside():
    class Asks(nn.Module):
        num_features = 1

        def forward(self, images):
            self.seen = [backend.fp32_precision for backend in BACKENDS]
            return torch.zeros(len(images), 1)

    found, before = Wrapped(Asks()), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        outside = [backend.fp32_precision for backend in BACKENDS]
        found(pixels(1, 3, 4, 4))
        assert found.network.seen == ["ieee"] * len(BACKENDS)
        assert [backend.fp32_precision for backend in BACKENDS] == outside != found.network.seen
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_random_numbers_are_left_alone(stored):
    path, module = stored(), Statistics()
    before = torch.get_rng_state()
    for found in (extractor(path), extractor("mnist"), extractor(module)):
        found(pixels(2, 3, 4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_callback_that_holds_one_keeps_it_out_of_checkpoints(trainer, tmp_path):
    class Model(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Holder(L.Callback):
        def __init__(self):
            self.extractor = extractor("mnist")

    run = trainer(1, callbacks=[Holder()])
    run.fit(Model(), torch.utils.data.DataLoader(torch.zeros(4, 2), batch_size=2))
    run.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == {"layer.weight", "layer.bias"}
    assert (tmp_path / "a.ckpt").stat().st_size < MNIST.stat().st_size / 10


def test_batches_do_not_matter_and_may_be_empty(any_extractor):
    images = pixels(7, 3, 4, 4)
    parts = torch.cat([both(any_extractor, part) for part in images.split(3)])
    torch.testing.assert_close(parts, both(any_extractor, images), rtol=1e-5, atol=1e-5)
    features, logits = any_extractor(images[:0])
    assert features.shape == (0, any_extractor.num_features)
    assert logits.shape == (0, any_extractor.num_classes)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"images are torch.float32 of shape \(2, 3, 8, 8\); expected uint8 \(N, C, H, W\)"),
        (pixels(3, 8, 8), r"of shape \(3, 8, 8\); expected uint8"),
        (pixels(2, 2, 8, 8), r"images have 2 channels; expected 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"),
    ],
)
def test_other_images_are_refused(stored, images, message):
    with pytest.raises(ValueError, match=message):
        Classifier(stored())(images)


# -- channels and sizes ------------------------------------------------------------------------------------------------


def test_grey_is_repeated_and_colour_weighed_as_itu_r_601():
    grey, colour = pixels(2, 1, 5, 5), pixels(64, 3, 16, 16)
    assert torch.equal(with_channels(grey, 3), torch.cat([grey] * 3, 1))
    assert torch.equal(with_channels(torch.cat([grey] * 3, 1), 1), grey), "grey stays what it was"
    exact = 0.299 * colour[:, :1].double() + 0.587 * colour[:, 1:2].double() + 0.114 * colour[:, 2:].double()
    found = with_channels(colour, 1)
    assert found.dtype == torch.uint8
    assert (found - exact).abs().max() <= 0.5 + 1e-9
    pillow = Image.fromarray(colour[0].permute(1, 2, 0).numpy()).convert("L")
    assert (found[0, 0].int() - torch.from_numpy(np.array(pillow)).int()).abs().max() <= 1


def test_alpha_lies_over_white():
    images = pixels(4, 4, 9, 9)
    images[0, 3], images[1, 3] = 0, 255
    alpha = images[:, 3:].double() / 255
    exact = images[:, :3].double() * alpha + 255 * (1 - alpha)
    found = with_channels(images, 3)
    assert (found - exact).abs().max() <= 0.5 + 1e-9
    assert (found[0] == 255).all()
    assert torch.equal(found[1], images[1, :3])
    assert torch.equal(with_channels(images, 1), with_channels(found, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_the_network(stored, channels):
    found, images = Classifier(stored(channels=channels)), pixels(3, channels, 16, 16)
    network = classifier.Classifier(**{**SIZES, "channels": channels}).eval()
    network.load_state_dict(packed(channels=channels)["weights"])
    with torch.no_grad():
        features, logits = network(images.float() / 127.5 - 1)
    assert torch.equal(found(images)[0], features)
    assert torch.equal(found(images)[1], logits)
    assert features.std() > 0
    assert described(found) == ("tiny", 6, 4, "16x16 bilinear antialias")


@pytest.mark.parametrize("shape", [(40, 48), (11, 9), (16, 30)])
def test_other_sizes_are_resized_as_pillow_does_in_float(shape):
    images = pixels(2, 1, *shape)
    found = fitted(images, (16, 20), (16, 20))
    for image, resized in zip(images, found, strict=True):
        picture = Image.fromarray(image[0].float().numpy()).resize((20, 16), Image.Resampling.BILINEAR)
        torch.testing.assert_close(resized[0], torch.from_numpy(np.array(picture)), rtol=1e-5, atol=1e-3)


def test_a_frame_is_added_to_images_that_lack_it(stored):
    found = Classifier(stored(channels=1, size=(16, 16), unframed=(13, 12)))
    assert found.resize == "13x12 bilinear antialias, black frame to 16x16"
    small = pixels(3, 1, 13, 12)
    framed = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    framed[:, :, 1:14, 2:14] = small
    assert torch.equal(both(found, small), both(found, framed))
    large = small.repeat_interleave(3, 2).repeat_interleave(3, 3)
    resized = fitted(large, (16, 16), (13, 12))
    assert torch.equal(resized[:, :, 1:14, 2:14], fitted(large, (13, 12), (13, 12)))
    assert (resized - framed).abs().mean() < 30
    assert resized[:, :, 0].abs().max() == resized[:, :, :, :2].max() == 0


# -- weights are what they say -----------------------------------------------------------------------------------------


def test_a_digest_is_of_names_shapes_kinds_values_and_words():
    base = {"a": torch.arange(6.0), "b": torch.tensor(3)}
    others = [
        {"a": torch.arange(6.0)},
        {"a": torch.arange(6.0), "c": torch.tensor(3)},
        {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)},
        {"a": torch.arange(6.0).int(), "b": torch.tensor(3)},
        {"a": torch.arange(6.0).nextafter(torch.tensor(9.0)), "b": torch.tensor(3)},
        {"a": torch.arange(6.0), "b": torch.tensor(4)},
    ]
    found = {digest(base), digest(base, "word"), *map(digest, others)}
    assert len(found) == 2 + len(others)
    assert digest(base) == digest({"b": torch.tensor(3), "a": torch.arange(12.0)[:6]}), "order and views do not matter"


def test_a_digest_of_a_module_knows_its_layers_and_hidden_buffers():
    assert digest(nn.Sequential(nn.ReLU())) != digest(nn.Sequential(nn.Tanh()))
    module = nn.Module()
    module.register_buffer("hidden", torch.zeros(2), persistent=False)
    before = digest(module)
    module.hidden += 1
    assert digest(module) != before


def test_digests_of_classifiers_tell_weights_and_protocols_apart(stored):
    options = [{}, {"seed": 1}, {"size": (20, 20)}, {"unframed": (14, 14)}]
    assert len({Classifier(stored(**option)).sha256 for option in options}) == 4
    assert Classifier(stored()).sha256 == packed()["sha256"]


def damaged(content, **changes):
    buffer = io.BytesIO()
    torch.save({**content, **changes}, buffer)
    return buffer.getvalue()


def resigned(content, **changes):
    """A file with other facts, whose sha256 is theirs."""
    held = {**content, **changes}
    sizes = sorted(held["architecture"].items()), tuple(held["size"]), tuple(held["unframed"])
    return damaged(held, sha256=digest(held["weights"], *sizes))


def broken_files():
    content = packed()
    whole = damaged(content)
    weights = {**content["weights"], "head.bias": content["weights"]["head.bias"] + 1e-6}
    less = {name: tensor for name, tensor in content["weights"].items() if name != "head.bias"}
    return {
        "empty": b"",
        "no checkpoint": b"these are no weights" * 100,
        "cut off": whole[: len(whole) // 2],
        "another dictionary": damaged({}, state_dict={}),
        "without a name": damaged({key: value for key, value in content.items() if key != "name"}),
        "another network": damaged(content, architecture={**content["architecture"], "width": 3}),
        "a weight missing": damaged(content, weights=less),
        "a weight changed": damaged(content, weights=weights),
        "another size": damaged(content, size=[32, 32]),
        "code": damaged(content, name=print),
        "sides of letters": resigned(content, size="ab"),
        "one side": resigned(content, unframed=[1]),
        "a negative side": resigned(content, unframed=[-5, 3]),
        "more within the frame": resigned(content, unframed=[17, 16]),
    }


@pytest.mark.parametrize("kind", broken_files())
def test_broken_files_are_refused(tmp_path, kind):
    path = tmp_path / "tiny.pt"
    path.write_bytes(broken_files()[kind])
    with pytest.raises(ValueError, match=r"tiny.pt (was not written by train_features, or )?is damaged") as caught:
        extractor(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_sha256_is_refused(stored):
    path = stored()
    assert Classifier(path, packed()["sha256"]).sha256 == packed()["sha256"]
    with pytest.raises(ValueError, match=r"tiny.pt has sha256 [0-9a-f]{12}...; expected 000000000000..."):
        Classifier(path, "0" * 64)


def test_the_shipped_file_is_the_pinned_one():
    found = extractor("mnist")
    assert found.sha256 == SHIPPED["mnist"] == torch.load(MNIST, weights_only=True)["sha256"]
    assert described(found) == ("mnist", 64, 10, "28x28 bilinear antialias, black frame to 32x32")
    assert MNIST.stat().st_size < 250_000
    assert found.accuracy > 0.985
    digits = pixels(4, 1, 28, 28)
    assert torch.equal(both(found, digits), both(found, nn.functional.pad(digits, (2, 2, 2, 2))))


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason=f"there is no MNIST in {DATA}")
@pytest.mark.parametrize(("size", "channels", "least"), [(28, 1, 0.985), (32, 1, 0.985), (32, 3, 0.985), (64, 1, 0.98)])
def test_the_shipped_file_knows_mnist(size, channels, least):
    _, _, test = MNISTDataModule(DATA, size, channels, val_size=0).splits()
    found = extractor("mnist")
    logits = torch.cat([found(part)[1] for part in test.images.split(500)])
    assert (logits.argmax(1) == test.labels).double().mean() >= least


# -- captioned digits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "label", "classes", "least"), CAPTIONED)
def test_the_judges_of_captioned_digits_know_pairs_that_models_never_saw(name, label, classes, least):
    found = extractor(name)
    assert (found.name, found.num_classes, found.channels) == (name, classes, 3)
    assert found.resize == "32x32 bilinear antialias"
    assert (WEIGHTS / f"{name}.pt").stat().st_size < 250_000
    assert found.accuracy > least
    _, _, test = CaptionedDigitsDataModule().splits()
    images, _, _, attributes = test.__getitems__(range(len(test)))  # which it was not trained on
    right = found(images)[1].argmax(1) == attributes[:, ATTRIBUTES.index(label)]
    held_out = attributes[:, -1] == 1
    assert right[held_out].double().mean() >= least - 0.03
    assert right[~held_out].double().mean() >= least - 0.03


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason=f"there is no MNIST in {DATA}")
@pytest.mark.parametrize(("name", "label", "classes", "least"), CAPTIONED)
def test_the_judges_of_captioned_digits_know_those_of_mnist(name, label, classes, least):
    _, _, test = CaptionedDigitsDataModule("mnist", DATA).splits()
    images, _, _, attributes = test.__getitems__(range(len(test)))
    right = torch.cat([extractor(name)(part)[1] for part in images.split(500)]).argmax(1)
    assert (right == attributes[:, ATTRIBUTES.index(label)]).double().mean() >= least


# -- stacked digits ----------------------------------------------------------------------------------------------------


def test_stacked_digits_are_three_digits():
    found, digits = extractor("stacked"), extractor("mnist")
    images = DigitsDataModule(size=28, val_size=0).splits()[0].images[:60].view(20, 3, 28, 28)
    assert described(found) == ("stacked", 192, 1000, "28x28 bilinear antialias, black frame to 32x32")
    features, logits = found(images)
    channels = [digits(images[:, channel : channel + 1]) for channel in range(3)]
    torch.testing.assert_close(features, torch.cat([each[0] for each in channels], 1))
    red, green, blue = (each[1].double().softmax(1) for each in channels)
    triples = torch.einsum("ni,nj,nk->nijk", red, green, blue).flatten(1)
    torch.testing.assert_close(logits.double().exp(), triples, rtol=1e-3, atol=1e-7)
    hundreds, tens, ones = (each[1].argmax(1) for each in channels)
    assert torch.equal(logits.argmax(1), 100 * hundreds + 10 * tens + ones)
    assert len(logits.argmax(1).unique()) > 10
    assert found.sha256 not in (digits.sha256, digest({}))
    assert extractor("stacked").sha256 == found.sha256


def test_a_grey_digit_is_three_times_the_same():
    features, logits = extractor("stacked")(pixels(4, 1, 32, 32))
    assert torch.equal(features[:, :64], features[:, 128:])
    assert (logits.argmax(1) % 111 == 0).all()
    empty = extractor("stacked")(pixels(4, 3, 28, 28)[:0])
    assert (empty[0].shape, empty[1].shape) == ((0, 192), (0, 1000))


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason=f"there is no MNIST in {DATA}")
def test_stacked_digits_are_known():
    _, _, test = StackedMNISTDataModule(DATA, val_size=0).splits()
    images, labels = test.__getitems__(range(2000))
    found = extractor("stacked")
    logits = torch.cat([found(part)[1] for part in images.split(250)])
    assert (logits.argmax(1) == labels).double().mean() > 0.96  # 0.992 cubed is 0.976


# -- any module --------------------------------------------------------------------------------------------------------


def test_a_wrapped_module_is_copied():
    module = Statistics()
    found, images = extractor(module), pixels(2, 3, 4, 4)
    assert described(found) == ("Statistics", 5, 3, "none")
    assert found.sha256 == digest(module)
    before = both(found, images)
    with torch.no_grad():
        module.linear.weight.add_(1)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert torch.equal(both(found, images), before)
    assert found.sha256 != digest(module)


def test_features_alone_will_do():
    class Means(nn.Module):
        def forward(self, images):
            return images.double().mean((2, 3))

    found, images = Wrapped(Means(), "means", num_features=2), pixels(3, 2, 4, 6)
    features, logits = found(images)
    assert described(found) == ("means", 2, None, "none")
    assert logits is None
    assert found(images[:0])[1] is None
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, images.float().mean((2, 3)))
    with pytest.raises(ValueError, match=r"features of extractor means are of shape \(3, 1\); expected \(3, 2\)"):
        found(images[:, :1])
    with pytest.raises(ValueError, match="num_features of Means is not known"):
        extractor(Means())


def test_logits_that_were_not_announced_are_refused():
    with pytest.raises(ValueError, match=r"logits of extractor Statistics are of shape \(2, 3\); expected \(2, 7\)"):
        Wrapped(Statistics(), num_classes=7)(pixels(2, 3, 4, 4))


# -- by name -----------------------------------------------------------------------------------------------------------


def test_an_extractor_stays_itself(stored):
    found = Classifier(stored())
    assert extractor(found) is found
    assert isinstance(extractor(str(stored())), Extractor)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "mnits",
            r"extractor is mnits \(did you mean mnist\?\); expected mnist, stacked, moving, captioned-digit, ",
        ),
        ("stakced", r"did you mean stacked\?"),
        (
            "qqq",
            "extractor is qqq; expected mnist, stacked, moving, captioned-digit, ",
        ),
        ("none.pt", "there is no file none.pt"),
        (Path("no") / "such", "there is no file no/such"),
    ],
)
def test_what_there_is_not_is_refused(given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        extractor(given)


@pytest.mark.parametrize("given", ["mnist", nn.Identity()])
def test_only_inception_takes_weights(given, tmp_path):
    with pytest.raises(ValueError, match=r"weights is .*; expected none, for only inception reads them"):
        extractor(given, tmp_path / "w.pth")


# -- Inception ---------------------------------------------------------------------------------------------------------


def test_missing_weights_are_named_with_address_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name, address = "weights-inception-2015-12-05-6726825d.pth", "https://github.com/toshas/torch-fidelity/releases/"
    with pytest.raises(FileNotFoundError) as caught:
        extractor("inception")
    said = str(caught.value)
    assert said.startswith(f"{name} is not in {tmp_path / 'hub' / 'checkpoints'}: ")
    assert address in said
    assert "\n" not in said
    with pytest.raises(FileNotFoundError, match=f"mine.pth is not in {tmp_path}: .*{address}"):
        extractor("inception", tmp_path / "mine.pth")


def test_without_torch_fidelity_the_pip_line_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    (tmp_path / "w.pth").touch()
    with pytest.raises(ValueError, match=r'pip install "lightning-gans\[inception\]"'):
        Inception(tmp_path / "w.pth")


def test_other_weights_are_no_inception(tmp_path):
    pytest.importorskip("torch_fidelity", reason="torch_fidelity is not installed: the extra inception")
    (tmp_path / "bytes.pth").write_bytes(b"no weights" * 100)
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save({"conv.weight": print}, tmp_path / "code.pth")
    for name in ("bytes.pth", "other.pth", "code.pth"):
        with pytest.raises(ValueError, match=rf"{name} does not hold Inception's weights \(\w+\)"):
            Inception(tmp_path / name)


def blocks(count, side, seed):
    """Pictures of 32x32 pixels in coarse blocks: unlike noise, they differ from each other in deep layers, too."""
    return pixels(count, 3, side, side, seed=seed).repeat_interleave(32 // side, 2).repeat_interleave(32 // side, 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights, with running statistics under which features vary."""
    fidelity = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch_fidelity is not installed: the extra inception"
    )
    folder = tmp_path_factory.mktemp("inception")

    class Unloaded(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            pass

    torch.save({}, folder / "none.pth")
    torch.manual_seed(0)
    network = Unloaded("inception", ["2048"], str(folder / "none.pth")).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network(blocks(8, 4, seed=1))
    torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"


@pytest.mark.slow
def test_inception_is_that_of_torchmetrics(weights):
    from torchmetrics.image.fid import NoTrainInceptionV3

    before = torch.get_rng_state()
    found = extractor("inception", weights)
    assert torch.equal(torch.get_rng_state(), before)
    assert described(found) == ("inception", 2048, 1008, "tf1 299")
    images = pixels(8, 3, 32, 32)
    names = ["2048", "logits_unbiased"]
    reference = NoTrainInceptionV3("inception", names, str(weights), antialias=False)
    nn.ModuleDict({"extractor": found}).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, logits = found(images)
    expected, scores = reference._torch_fidelity_forward(images)  # what its forward keeps the first of
    assert torch.equal(features, expected)
    assert torch.equal(logits, scores)
    assert features.std(0).mean() > 0.01
    grey = pixels(2, 1, 32, 32)
    torch.testing.assert_close(found(grey)[0], found(grey.repeat(1, 3, 1, 1))[0])


class Pictures(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.slow
def test_fid_is_that_of_torch_fidelity(weights):
    from torch_fidelity import calculate_metrics

    found = extractor("inception", weights)
    real, fake = blocks(20, 4, seed=0), blocks(20, 8, seed=3)
    options = {"cuda": False, "cache": False, "verbose": False, "save_cpu_ram": True, "fid": True}
    theirs = calculate_metrics(
        input1=Pictures(fake), input2=Pictures(real), feature_extractor_weights_path=str(weights), **options
    )["frechet_inception_distance"]
    features = found(real)[0], found(fake)[0]
    assert (features[0].mean(0) - features[1].mean(0)).square().sum() < 0.9 * theirs, "covariances matter"
    assert float(fid(*features)) == pytest.approx(theirs, rel=5e-5)
