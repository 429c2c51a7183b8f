"""The page of results: what it holds of runs, what it refuses, and how it behaves in a real browser."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import latent_models
import numpy as np
import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from gans.commands.report_pictures import slides
from gans.models import Pix2Pix
from gans.runs import record

SCORES = {"fid": {"value": 5.25}, "recall": {"value": 0.75}}


def evaluated(fid, samples=100):
    """A report of `gans evaluate`."""
    return {
        "metrics": {"fid": {"value": fid}, "recall": {"value": fid / 10}},
        "baseline_real": {"fid": {"value": 0.5}},
        "protocol": {"name": "quick", "samples": samples, "seeds": [0]},
        "extractor": {"name": "mnist", "sha256": "a" * 64, "resize": "28x28"},
        "reference": {"n": 1600, "split": "train", "fingerprint": "f" * 64},
        "generator": {"step": 300},
    }


@pytest.fixture
def run(tmp_path):
    """Return a function that writes the folder of a run without training, and returns it."""

    def write(number, steps=(100, 300), recipe="small", fid=5.25, **init):
        folder = tmp_path / "runs" / recipe / f"version_{number}"
        (folder / "samples").mkdir(parents=True)
        for step in steps:
            grey = np.full((20, 30), step % 256, np.uint8)
            Image.fromarray(grey).save(folder / "samples" / f"step_{step:07d}.png")
        Image.fromarray(np.full((20, 30), 7, np.uint8)).save(folder / "samples" / "real.png")
        with SummaryWriter(folder) as writer:
            for step in steps:
                for tag in ("loss/discriminator", "loss/generator", "speed/images_per_second"):
                    writer.add_scalar(tag, step / 100 + number, step)
                writer.add_scalar("score/fid_mnist", 1000 / step, step)
        config = {
            "seed_everything": number,
            "model": {"class_path": "gans.models.DCGAN", "init_args": {"width": 4, **init}},
            "evaluate": {"samples": 50, "reference": 10_000},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "report.json").write_text(json.dumps(evaluated(fid)))
        best = record.Best("fid_mnist", 3.125, 300)
        made = record.Record("", "", "stopped", "DCGAN", "DigitsDataModule", 8, 16, reason="SIGTERM", best=best)
        record.write(folder, replace(made, environment={"torch": "2.14.1", "commit": f"c0ffee{number}"}))
        return folder

    return write


class Page(HTMLParser):
    """What is in a page: its elements, its words, and the numbers of its charts."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.words, self.script = [], "", ""
        self.open = []
        self.feed(Path(path).read_text(encoding="utf-8"))
        self.charts = json.loads(self.script)["charts"]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if attributes.get("id") == "data":
            self.script = data
        elif tag not in ("style", "script"):
            self.words += f" {data.strip()}"

    def of(self, tag, **wanted):
        found = [attributes for name, attributes in self.elements if name == tag]
        return [attributes for attributes in found if wanted.items() <= attributes.items()]


def brightness(uri):
    """The mean of a picture in a data URI."""
    held = re.fullmatch("data:image/webp;base64,(.+)", uri)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(held))).convert("L")).mean()


def test_a_page_shows_one_run_without_a_link(gans, run):
    folder = run(0, (100, 200, 300))
    code, out, err = gans(f"report {folder} --no_explore")
    assert (code, err) == (0, "")
    assert re.match(rf"report +{folder}/report\.html \(\d+ kB\)\n", out)
    page = Page(folder / "report.html")
    for told in ("small/version_0", "DCGAN", "DigitsDataModule", "fid_mnist 3.125 at step 300", "stopped: SIGTERM"):
        assert told in page.words
    for told in (
        "100 samples of seed 0 against 1,600 images of the split train",
        "5.250",
        "0.500",
        "c0ffee0",
        "model.width",
    ):
        assert told in page.words
    assert "They were left out by --no_explore." in page.words
    shown = [float(attributes["data-step"]) for attributes in page.of("img") if "data-step" in attributes]
    assert shown == [100, 200, 300]
    assert ["hidden" in attributes for attributes in page.of("img")] == [True, True, False, False]
    assert [round(brightness(each["src"])) for each in page.of("img")] == pytest.approx([100, 200, 44, 7], abs=2)
    assert page.of("input", type="range") == [
        {
            "type": "range",
            "min": "0",
            "max": "2",
            "value": "2",
            "data-steps": "100,200,300",
            "aria-label": "step of samples",
        }
    ]
    fid, loss, speed = page.charts
    assert fid["lines"][0]["points"] == [[100, 10.0], [200, 5.0], [300, 3.3333]]
    assert [line["name"] for line in loss["lines"]] == ["discriminator", "generator"]
    assert [line["colour"] for line in loss["lines"]] == [0, 1]
    assert len(speed["lines"]) == 1
    links = [value for _, held in page.elements for name, value in held.items() if name in ("src", "href", "action")]
    assert links
    assert all(value.startswith("data:") for value in links)
    assert "default-src 'none'" in page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]


def test_several_runs_share_charts_and_what_differs_is_marked(gans, run, tmp_path):
    folders = [run(0, (100, 300), lr=0.1), run(1, (150, 300), lr=0.2, fid=2.0), run(2, lr=0.1)]
    (folders[2] / "report.json").write_text(json.dumps(evaluated(1.0, samples=9)))
    code, _, err = gans(f"report {' '.join(map(str, folders))} --no_explore --out {tmp_path}/all.html")
    assert (code, err) == (0, "")
    page = Page(tmp_path / "all.html")
    text = (tmp_path / "all.html").read_text()
    assert page.of("input", type="range")[0]["data-steps"] == "100,150,300"
    loss = next(chart for chart in page.charts if len(chart["lines"]) == 6)
    assert [(line["run"], line["colour"], line["dash"]) for line in loss["lines"]] == [
        *((i, i, False) for i in range(3)),
        *((i, i, True) for i in range(3)),
    ]
    assert loss["lines"][4]["name"] == "small/version_1 generator"
    marked = re.findall(
        r'<tr class="differs"><td class="key">([^<]+)</td><td>([^<]+)</td><td>([^<]+)</td><td>([^<]+)<', text
    )
    assert marked == [
        ("seed_everything", "0", "1", "2"),
        ("model.lr", "0.1", "0.2", "0.1"),
        ("commit", "c0ffee0", "c0ffee1", "c0ffee2"),
    ]
    assert "Scores of different protocols cannot be compared" in page.words
    assert re.findall(r"<b>([\d.]+)</b>", text) == ["2.000", "0.525"]  # the better FID, the better recall
    assert len(page.of("img", alt="real images")) == 1  # all runs show the same ones
    assert [attributes["value"] for attributes in page.of("input", type="checkbox")] == ["0", "1", "2"]


def test_neighbours_and_spectrum_are_those_of_the_newest_checkpoint(gans, run, saved):
    folder = run(0)
    saved(latent_models.awake(latent_models.MODELS["dcgan"]), folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = {"class_path": "datamodules.DigitsDataModule", "init_args": {"size": 16}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"data": data}))
    code, out, err = gans(f"report {folder} --reference 50")
    assert (code, err) == (0, ""), out
    page = Page(folder / "report.html")
    assert "nearest of 50 of 1,600 training images in pixels, then in mnist" in page.words
    spectrum = page.charts[-1]
    assert (spectrum["across"], spectrum["log"]) == ("cycles per pixel", True)
    assert [line["name"] for line in spectrum["lines"]] == ["real images", "generated"]
    assert all(value > 0 for line in spectrum["lines"] for _, value in line["points"])
    assert len(page.of("img", alt="generated images and neighbours")) == 1


def test_a_model_without_latents_and_a_run_without_pictures_have_a_page_too(gans, run, saved):
    folder = run(0)
    for path in (folder / "samples").iterdir():
        path.unlink()
    saved(Pix2Pix(size=16, channels=1, width=4), folder)
    data = {"data": {"class_path": "datamodules.DigitsDataModule", "init_args": {"size": 16}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    (folder / "report.json").unlink()
    code, out, err = gans(f"report {folder}")
    assert (code, err) == (0, "")
    assert "small/version_0: neighbours and spectrum: They could not be computed: " in out
    page = Page(folder / "report.html")
    assert "holds a Pix2Pix, which makes images of what it is given" in page.words
    assert "Grids through training" not in page.words
    assert "There is no report in the folders of the runs" in page.words


def test_words_of_a_user_are_text_and_not_markup(gans, run):
    folder = run(0, recipe="a<b>&c", name="</script><script>alert(1)</script>")
    assert gans("report", str(folder), "--no_explore")[0] == 0
    page = Page(folder / "report.html")
    assert "a<b>&c/version_0" in page.words
    assert "</script><script>alert(1)</script>" in page.words
    assert page.of("b") == [{}] * len(page.charts)  # the titles of charts
    assert len(page.of("script")) == 2


def test_pictures_stay_within_their_bytes_and_keep_the_first_and_the_last(tmp_path):
    def written(count, *size):
        for step in range(count):
            Image.fromarray(noise.integers(0, 255, size, np.uint8)).save(tmp_path / f"{step}.png")
        return [(step, tmp_path / f"{step}.png") for step in range(count)]

    noise = np.random.default_rng(0)
    assert len(slides(written(40, 4, 4), 10**9)) == 32
    files = written(9, 200, 200)
    for budget, count in ((10**9, 9), (200_000, 6), (80_000, 6)):
        found = slides(files, budget)
        assert sum(len(picture.uri) for picture in found) <= budget
        assert (found[0].step, found[-1].step, len(found)) == (0, 8, count)
    assert found[0].width < 200
    [picture] = slides(written(1, 100, 2000), 10**6)
    assert (picture.width, picture.height) == (640, 32)


def test_bad_input_is_one_sentence(refused, run, tmp_path):
    folder = run(0)
    assert refused("report nowhere") == "there is no checkpoint nowhere"
    assert "expected a name that ends with .html" in refused(f"report {folder} --out page.pdf")
    assert "reference is 0" in refused(f"report {folder} --reference 0")
    (folder / record.FILE).write_text("{")
    assert f"{folder}/run.json is damaged" in refused(f"report {folder} --no_explore")
    (tmp_path / "empty").mkdir()
    assert "holds no last.ckpt" in refused("report empty")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_the_slider_shows_the_grids_of_a_step_and_runs_are_switched_off(
    gans, run, browser, tmp_path, scheme
):
    folders = [run(0, (100, 200, 300)), run(1, (150, 300))]
    assert gans(f"report {folders[0]} {folders[1]} --no_explore --out {tmp_path}/two.html")[0] == 0
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(f"file://{tmp_path}/two.html")

    def steps():
        return [
            int(image.get_attribute("data-step")) for image in page.query_selector_all("img[data-step]:not([hidden])")
        ]

    def strokes(chart):
        return page.locator(f".chart >> nth={chart} >> css=path").count()

    page.wait_for_selector(".chart > svg > path")
    assert steps() == [300, 300]
    slider = page.locator("input[type=range]")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert steps() == [100, 150]
    assert page.inner_text(".slide output") == "step 150"
    slider.press("Home")
    assert steps() == [100, 150]  # the first grid of a run that has none yet
    assert page.inner_text("figcaption .step >> nth=1") == "step 150"
    # A chart: its axis, its values under the pointer, and a run that is switched off.
    before = strokes(0)
    button = page.locator(".chart button >> nth=0")
    pressed = button.get_attribute("aria-pressed")
    button.click()
    assert button.get_attribute("aria-pressed") != pressed
    page.hover(".chart > svg >> nth=0")
    told = page.inner_text(".chart .tip >> nth=0")
    assert "small/version_0: " in told
    page.uncheck(".legend input >> nth=0")
    assert strokes(0) == before - 1
    assert not page.is_visible("figure[data-run='0']")
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") == width  # wide tables scroll by themselves
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert faults == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
