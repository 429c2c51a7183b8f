"""`gans explore ui`: what its settings show, what it refuses, and the page in a real browser where there is one."""

import base64
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import latent_models
import numpy as np
import pytest
import torch
from PIL import Image

from gans.commands import explore_ui_page, explore_ui_server
from gans.commands.explore_subject import subject
from gans.commands.explore_ui_view import Explorer, View, directions_of
from gans.explore import directions
from gans.models import Pix2Pix
from gans.pictures.images import to_float

MODELS = {**latent_models.MODELS, "pix2pix": lambda: Pix2Pix(size=16, channels=1, width=4)}


@pytest.fixture
def checkpoint(saved, tmp_path):
    """Write the checkpoint of a model, whose pictures differ as if it had been trained, and two directions."""

    def write(name, found=True):
        model = latent_models.awake(MODELS[name])
        if found:
            vectors = torch.nn.functional.normalize(torch.randn(2, getattr(model, "w_dim", model.latent_dim)), dim=1)
            space = {"space": "w"} if name == "stylegan2" else {}
            path = tmp_path / name / "directions.safetensors"
            directions.save(path, {"up": 5 * vectors[0], "down": 5 * vectors[1]}, space)
        return saved(model, tmp_path / name)

    return write


@pytest.fixture
def explorer(checkpoint):
    """Return the explorer of a model by its name."""

    def make(name, found=True, file=None):
        path = checkpoint(name, found)
        model = subject(path, None, None, None, "cpu", moved=True, turns=True)
        return Explorer(model, *directions_of(model, file), path, features="none")

    return make


def opened(url):
    """The picture of a data URL."""
    kind, content = re.fullmatch(r"data:image/(png|gif);base64,(.+)", url).groups()
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.format == kind.upper()
    return picture


def pixels(picture):
    return np.asarray(picture.convert("L")).astype(int)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a picture of a user: what a model makes of a latent, or noise."""

    def write(image=None):
        path = tmp_path / "mine.png"
        image = torch.rand(16, 16) * 255 if image is None else (image[0] + 1) * 127.5
        Image.fromarray(image.round().numpy().astype(np.uint8)).save(path)
        return path

    return write


# -- what the settings show --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pix2pix"])
def test_everything_that_is_moved_changes_the_picture_of_every_model(explorer, name):
    shown = explorer(name)
    at_rest = View(count=3, codes=(0.0,) * shown.codes, strengths=(0.0, 0.0))
    moved = [at_rest, View(seed=1, count=3, codes=at_rest.codes), View(count=2, codes=at_rest.codes)]
    moved += [View(count=3, codes=at_rest.codes, strengths=strengths) for strengths in ((2.0, 0.0), (0.0, -2.0))]
    if shown.subject.model.prior == "normal":
        moved.append(View(count=3, truncation=0.3))
    if shown.classes:
        moved += [View(count=3, label=1, codes=at_rest.codes), View(count=3, label=2, codes=at_rest.codes)]
    if shown.codes:
        moved.append(View(count=3, codes=(0.0, 0.9)))
    found = [shown.picture(view) for view in moved]
    assert len(set(found)) == len(found)
    assert found[0] == shown.picture(at_rest)
    picture = opened(found[0])
    assert getattr(picture, "n_frames", 1) == (4 if name == "sequence" else 1)
    assert len(shown.images(at_rest)) == 3
    assert opened(shown.picture(View(codes=at_rest.codes, count=1))).size == (16, 16)


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("dcgan", View(seed=3, count=5, truncation=0.8, strengths=(1.5, -0.5))),
        ("infogan", View(seed=1, count=4, label=2, codes=(-0.5, 0.25), strengths=(0.0, -1.0))),
        ("conditional", View(count=6)),
        ("conditional", View(count=1, label=1)),
        ("stylegan2", View(seed=2, count=4, truncation=-0.5, strengths=(1.5, -0.5))),
        ("stylegan2", View(count=2, label=2)),
        ("sequence", View(count=2, strengths=(0.0, 1.0))),
    ],
)
def test_the_command_below_the_picture_writes_the_same_picture(explorer, gans, tmp_path, name, view):
    shown = explorer(name)
    words = shlex.split(shown.command(view))
    out = tmp_path / ("clips.gif" if name == "sequence" else "alone.png")
    code, _, err = gans("", *words[1:], *([] if name == "sequence" else ["--out", str(out)]))
    assert code == 0, err
    ours, theirs = opened(shown.picture(view)), Image.open(out)
    assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1


def test_a_command_says_which_directions_are_meant_and_there_is_none_for_axes(explorer, tmp_path):
    other = tmp_path / "other.safetensors"
    directions.save(other, {"left": torch.ones(6)})
    shown = explorer("dcgan", file=other)
    assert shown.command(View(strengths=(1.0,))).endswith(f"--direction left=1 --directions {other}")
    assert "direction" not in shown.command(View(strengths=(0.0,)))
    axes = explorer("infogan", found=False)
    (tmp_path / "infogan" / "directions.safetensors").unlink(missing_ok=True)
    assert axes.file is None
    assert set(axes.directions) == {f"axis {axis}" for axis in range(4)}  # the last two are codes
    assert axes.command(View(codes=(0.0, 0.0), strengths=(1.0, 0.0, 0.0, 0.0))) is None
    moved = axes.points(View(count=2, strengths=(1.0, 0.0, 0.0, 0.0))) - axes.points(View(count=2))
    assert moved[:, int(next(iter(axes.directions)).split()[1])].tolist() == pytest.approx([1, 1])


def test_settings_without_a_meaning_are_refused(explorer):
    shown = explorer("dcgan")
    for view, told in (
        (View(seed=-1), "seed is -1"),
        (View(count=0), "count is 0"),
        (View(truncation=-1.0), "truncation"),
    ):
        with pytest.raises(ValueError, match=told):
            shown.picture(view)


# -- inversion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dcgan", "conditional", "sequence"])
def test_a_picture_is_found_again_and_is_where_the_sliders_start(explorer, written, name):
    shown = explorer(name)
    label = 2 if name == "conditional" else None
    mine = shown.images(View(seed=5, count=1, label=label))[0]
    path, heard = written(mine[:, 2] if shown.subject.clips else mine), []
    found = shown.inverted(path, 60, heard.append)
    assert heard == list(range(60))
    assert found.label == label  # of the class whose random pictures are nearest
    assert torch.equal(found.target[0, 0], to_float(torch.from_numpy(np.asarray(Image.open(path)).copy())))
    assert found.decibels > shown.inverted(path, 0).decibels + 1
    made = shown.images(View(seed=9, count=7, label=label, start=found.point))
    assert len(made) == 1  # that picture, whatever the seed
    middle = made[:, :, 2] if shown.subject.clips else made
    assert torch.allclose(middle, found.rebuilt, atol=1e-5)
    assert not torch.equal(made, shown.images(View(label=label, start=found.point, strengths=(1.0, 0.0))))
    assert shown.command(View(start=found.point)) is None


def test_the_encoder_is_where_descent_starts(explorer, written):
    shown, path = explorer("vae"), written()
    found = shown.inverted(path, 0)
    assert torch.allclose(found.point, shown.subject.model.encode(found.target)[0])
    assert shown.inverted(path, 30).decibels > found.decibels


def test_of_a_gan_on_codes_the_latent_behind_the_code_is_found(explorer, written, monkeypatch):
    shown = explorer("manifold")
    model, code = shown.subject.model, torch.randn(1, 6)
    for parameter in model.generator_ema.latent.parameters():
        parameter.data *= 0.5  # nearer to the identity, where training starts
    monkeypatch.setattr(model, "encode", lambda pictures: model.generator_ema.codes.colour(code))
    z = shown.inverted(written(), 0).point
    assert (model.generator_ema.latent(z) - code).norm() < 0.02 * code.norm()
    assert (z - code).norm() > 0.05 * code.norm()


# -- the page, without a browser ---------------------------------------------------------------------------------------


@pytest.fixture
def gradio(monkeypatch, tmp_path):
    """The package, which keeps its files with the test's."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return pytest.importorskip("gradio", reason="gradio is not installed: the extra ui")


@pytest.mark.parametrize("name", ["infogan", "sequence"])
@pytest.mark.usefixtures("gradio")
def test_the_page_has_a_slider_for_everything_and_reads_it(explorer, written, name):
    shown = explorer(name)
    page = explore_ui_page.Page(shown)
    expected = {"start", "seed", "count", "move 0", "move 1"}
    expected |= {"code 0", "code 1", "label"} if name == "infogan" else {"truncation"}
    assert set(page.inputs) == expected
    values = {"start": None, "seed": 4, "count": 2, "truncation": 3.0, "label": -1, "code 0": 0.5, "code 1": 0.0}
    values |= {"move 0": 1.5, "move 1": 0.0}
    view = page.view([values[key] for key in page.inputs])
    codes = (0.5, 0.0) if name == "infogan" else ()
    assert view == View(seed=4, count=2, codes=codes, strengths=(1.5, 0.0))
    values |= {"seed": None, "truncation": 0.5, "label": 2}
    view = page.view([values[key] for key in page.inputs])
    assert (view.seed, view.truncation, view.label) == ((0, None, 2) if name == "infogan" else (0, 0.5, None))
    picture, command = page.show(*[values[key] for key in page.inputs])
    assert shown.picture(view) in picture
    assert "gans sample" in command
    changed = page.invert(str(written()), 1, lambda *told, **more: None)
    start, beside, moves = changed[0], changed[-3 - len(codes)], changed[-2 - len(codes) :]
    assert moves[len(codes) :] == [0.0, 0.0]
    assert moves[: len(codes)] == pytest.approx(start[0, -2:].tolist()[: len(codes)], abs=0.005)
    assert beside.count("<img") == 2
    assert start.shape == (1, shown.subject.dim)
    assert len(page.invert(None, 1, None)) == len(page.invert(str(written()), 1, lambda *told, **more: None))
    assert page.invert(None, 1, None)[0] is None


@pytest.mark.usefixtures("gradio")
def test_names_in_a_checkpoint_are_no_html(explorer, written):
    shown = explorer("conditional")
    shown.subject.model.class_names = ["<img src=x onerror=alert(1)>"] * 3
    changed = explore_ui_page.Page(shown).invert(str(written()), 1, lambda *told, **more: None)
    [beside] = [part for part in changed if isinstance(part, str)]
    assert "onerror" in beside
    assert beside.count("<img") == 2


def test_a_file_that_is_no_picture_is_one_sentence_on_the_page(explorer, gradio, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(gradio.Error, match="cannot be read"):
        explore_ui_page.Page(explorer("dcgan")).invert(str(tmp_path / "text.png"), 1, lambda *told, **more: None)


# -- what the server gives away ----------------------------------------------------------------------------------------


class Client:
    """A page's calls without a browser, of an application that is served at an address of this machine."""

    def __init__(self, app, page):
        from fastapi.testclient import TestClient

        self.http = TestClient(app, base_url="http://127.0.0.1:7860")
        self.page = page

    def upload(self, path):
        """Upload a file as the page does, and return its path on the server."""
        with path.open("rb") as file:
            return self.http.post("/gradio_api/upload", files={"files": (path.name, file)}).json()[0]

    def dropped(self, path):
        """Say that a file has been dropped, wait, and return what the server says in the end."""
        calls = [call for call in self.page.blocks.fns.values() if self.page.drop in call.inputs]
        data = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        body = {"data": [data, 0], "fn_index": calls[0]._id, "session_hash": "abc", "event_data": None}
        answer = self.http.post("/gradio_api/queue/join", json=body)
        if answer.status_code != 200:
            return answer
        with self.http.stream("GET", "/gradio_api/queue/data?session_hash=abc") as stream:
            for line in stream.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line else {}
                if told.get("msg") == "process_completed":
                    return told


@pytest.fixture
def client(explorer, gradio, tmp_path, monkeypatch):
    """The page of a model, with the folder of what is dropped on it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uploads").mkdir()
    pages = []
    monkeypatch.setattr(
        explore_ui_server, "Page", lambda explorer: pages.append(explore_ui_page.Page(explorer)) or pages[0]
    )
    app = explore_ui_server.application(explorer("dcgan"), "127.0.0.1", "127.0.0.1", tmp_path / "uploads")
    found = Client(app, pages[0])
    with found.http:
        yield found


def copies(folder, content):
    """Files of a folder that hold a content."""
    return [path for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def test_only_what_was_uploaded_is_read_and_served(client, tmp_path, written):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"nobody's business")
    (tmp_path / "uploads" / "link.png").symlink_to(secret)
    outside = [secret, "secret.png", tmp_path / "uploads/../secret.png", tmp_path / "uploads/link.png", "/etc/passwd"]
    for path in [*outside, "http://127.0.0.1:1/a.png", tmp_path / "uploads", "\0"]:
        answer = client.dropped(path)
        assert (answer.status_code, answer.text) == (403, "this file was not uploaded"), path
        answer = client.http.get(f"/gradio_api/file={str(path).replace(chr(0), '%00')}")
        assert (answer.status_code, answer.text) == (403, "this is no upload"), path
    assert [path.name for path in copies(tmp_path / "uploads", b"nobody")] == ["link.png"]
    picture = written()
    mine = client.upload(picture)
    told = client.dropped(mine)
    assert told["success"], told
    assert "dB after 0 steps" in str(told["output"])
    assert client.http.get(f"/gradio_api/file={mine}").content == picture.read_bytes()


def test_gradio_itself_refuses_a_path_too(client, tmp_path, monkeypatch):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"nobody's business")
    monkeypatch.setattr(explore_ui_server.Guard, "uploaded", lambda self, name: True)
    assert not client.dropped(secret)["success"]
    assert copies(tmp_path / "uploads", b"nobody") == []
    assert client.http.get(f"/gradio_api/file={secret}").status_code == 403


def test_gradios_other_routes_are_closed(client):
    for path in (
        "/gradio_api/proxy=https://huggingface.co/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/custom_component/1/client/component/../../../etc/passwd",
        "/gradio_api/deep_link",
        "/gradio_api/runs",
        "/monitoring/summary",
        "/openapi.json",
        "/docs",
        "//gradio_api/file=/etc/passwd",
        "/gradio_api/file=https://huggingface.co/",
    ):
        assert client.http.get(path).status_code in (403, 404), path
    for path in ("component_server", "run/predict", "api/invert", "call/invert", "process_recording", "vibe-edit"):
        assert client.http.post(f"/gradio_api/{path}", json={"data": []}).status_code == 404, path
    for path in ("/", "/config", "/theme.css", "/gradio_api/info"):
        answer = client.http.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_a_page_of_another_site_is_refused(client):
    def status(**headers):
        return client.http.get("/", headers=headers).status_code

    for host in ("127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860"):
        assert status(host=host) == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example:7860", "192.0.2.7", "localhost@evil.example", "[", ""):
        assert status(host=host) == 400, host
    assert status(origin="http://127.0.0.1:7860") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8000"):
        assert status(origin=origin) == 403, origin


def test_a_page_for_others_answers_to_addresses_and_its_names(tmp_path):
    guard = explore_ui_server.Guard(
        None, explore_ui_server.names("Gpu.example.", "0.0.0.0"), explore_ui_server.loopback("0.0.0.0"), tmp_path
    )
    asked = ["gpu.example:7860", "192.0.2.7:7860", "[2001:db8::1]", socket.gethostname(), "evil.example"]
    assert [guard.answers_to(host) for host in asked] == [True, True, True, True, False]


def test_what_a_killed_server_has_left_is_removed_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(explore_ui_server.tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "gans-ui-left"
    left.mkdir()
    (left / ".lock").touch()
    (tmp_path / "gans-ui-link").symlink_to(tmp_path / "mine")
    for name in ("mine", "gans-ui-of-somebody"):  # without a lock
        (tmp_path / name).mkdir()
    with explore_ui_server.uploads() as first, explore_ui_server.uploads() as second:
        kept = {first.name, second.name, "mine", "gans-ui-of-somebody", "gans-ui-link"}
        assert {path.name for path in tmp_path.iterdir()} == kept
        (second / "picture.png").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "gans-ui-of-somebody", "gans-ui-link"}


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_without_gradio_the_extra_is_named(refused, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert refused(f"explore ui {checkpoint('dcgan')}") == 'the page needs gradio: pip install "lightning-gans[ui]"'


@pytest.fixture
def there(monkeypatch):
    """Let gradio seem to be installed: what is refused here does not come so far."""
    monkeypatch.setattr(explore_ui_page, "gradio", lambda: None)


@pytest.mark.usefixtures("there")
def test_a_port_in_use_is_refused(refused, checkpoint):
    path = checkpoint("dcgan")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port is {port}, which is in use on 127.0.0.1" in refused(f"explore ui {path} --port {port}")
    assert "port is 70000; expected 0 to 65535" in refused(f"explore ui {path} --port 70000")
    assert "host is 192.0.2.1" in refused(f"explore ui {path} --host 192.0.2.1")
    assert "host is no such host" in refused(f"explore ui {path}", "--host", "no such host")


@pytest.mark.usefixtures("there")
def test_what_is_no_model_with_latents_is_refused(refused, checkpoint, tmp_path):
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    assert "text.ckpt is not a checkpoint" in refused("explore ui text.ckpt --port 0")
    assert "there is no" in refused("explore ui nothing.ckpt --port 0")
    path = checkpoint("dcgan")
    assert "there is no file nothing.safetensors" in refused(f"explore ui {path} --directions nothing.safetensors")
    directions.save(tmp_path / "short.safetensors", {"up": torch.ones(3)})
    told = refused(f"explore ui {path} --port 0 --directions short.safetensors")
    assert "the direction up of short.safetensors has 3 numbers; expected 6" in told


def test_a_model_of_images_from_images_is_refused(explorer):
    with pytest.raises(ValueError, match="holds a Pix2Pix, which makes images of what it is given"):
        explorer("pix2pix")


def test_the_first_free_port_is_taken_of_this_machine_alone():
    with explore_ui_server.bound("127.0.0.1", None) as first, explore_ui_server.bound("127.0.0.1", None) as second:
        assert first.getsockname()[1] < second.getsockname()[1]
        assert second.getsockname()[1] in explore_ui_server.PORTS


# -- the page, served --------------------------------------------------------------------------------------------------


@pytest.fixture
def served(checkpoint, tmp_path):
    """Serve the page of a model in a process of its own; return the process and the address."""
    pytest.importorskip("gradio", reason="gradio is not installed: the extra ui")
    running = []

    def serve(name):
        line = [sys.executable, "-m", "gans", "explore", "ui", str(checkpoint(name)), "--port", "0"]
        pipe = subprocess.PIPE
        (tmp_path / "temporary").mkdir()
        options = {"cwd": Path(__file__).parents[2], "env": {**os.environ, "TMPDIR": str(tmp_path / "temporary")}}
        running.append(subprocess.Popen([*line, "--features", "none"], **options, stdout=pipe, stderr=pipe, text=True))
        address = running[-1].stdout.readline()
        assert address.startswith("page         http://127.0.0.1:"), running[-1].stderr.read()
        assert running[-1].stdout.readline() == "stop         Ctrl-C\n"
        return running[-1], address.split()[1]

    yield serve
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_page_loads_nothing_from_elsewhere_and_ends_with_ctrl_c(served):
    process, address = served("dcgan")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(address, timeout=120) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        text = answer.read().decode()
    assert "fonts.googleapis" not in text
    assert "cdnjs" not in text
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_what_was_dropped(served, written, tmp_path, number):
    httpx = pytest.importorskip("httpx", reason="httpx is not installed: the extra ui")
    process, address = served("dcgan")
    with written().open("rb") as file, httpx.Client(trust_env=False, timeout=120) as client:
        assert client.post(f"{address}/gradio_api/upload", files={"files": ("a.png", file)}).status_code == 200
    assert len(list((tmp_path / "temporary").rglob("*.png"))) == 1
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "stopped\n", "")
    assert list((tmp_path / "temporary").glob("gans-ui-*")) == []


CHANGED = "before => document.querySelector('#shown img').src !== before"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["infogan", "sequence"])
def test_in_a_browser_sliders_move_the_picture_and_a_dropped_one_is_inverted(served, browser, written, tmp_path, name):
    process, address = served(name)
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    page.set_default_timeout(120_000)
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#shown img")

    def shown():
        return page.get_attribute("#shown img", "src")

    def after(act):
        before = shown()
        act()
        page.wait_for_function(CHANGED, arg=before)
        return before

    first = after(lambda: page.locator("#move-0 input[type=range]").fill("1"))
    assert "--direction up=1" in page.inner_text("#command")
    after(lambda: page.locator("#seed input").fill("7"))
    after(lambda: page.click("#another"))
    after(lambda: page.locator("#count input[type=range]").fill("2"))
    if name == "infogan":
        after(lambda: page.locator("#code-0 input[type=range]").fill("0.5"))
    after(lambda: page.click("#reset"))
    before = after(lambda: page.set_input_files("#drop input[type=file]", written()))
    page.wait_for_selector("#found img >> nth=1")
    assert "dB after 100 steps" in page.inner_text("#found")
    assert len(list((tmp_path / "temporary").rglob("*.png"))) == 1  # what is dropped, until the end
    page.wait_for_timeout(500)  # codes and class that were found are drawn too
    inverted = after(lambda: page.locator("#move-1 input[type=range]").fill("-1"))
    assert len({first, before, inverted, shown()}) == 4
    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    after(lambda: page.click("#drop button[aria-label='Remove Image']"))
    page.wait_for_function("() => !document.querySelector('#found img')")
    assert "gans sample" in page.inner_text("#command")
    assert faults == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    page.close()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert list((tmp_path / "temporary").rglob("*.png")) == []


def test_a_style_model_is_moved_in_w_and_truncated_towards_its_mean(explorer, tmp_path):
    shown = explorer("stylegan2", found=False)
    assert (shown.subject.space, shown.file, shown.truncations) == ("w", None, (-1.0, 1.0))
    assert list(shown.directions) == [f"component {i}" for i in range(1, 9)]
    rest = (0.0,) * 8
    mean = shown.images(View(count=3, truncation=0.0, strengths=rest))
    assert torch.allclose(mean[0], mean[1], atol=1e-5)
    assert not torch.allclose(mean, shown.images(View(count=3, truncation=-1.0, strengths=rest)))
    assert not torch.allclose(mean, shown.images(View(count=3, truncation=0.0, strengths=(2.0, *rest[1:]))))
    assert not shown.start(torch.zeros(1, 1, 16, 16))[1].any()  # the mean
    latents = directions.save(tmp_path / "stylegan2" / "directions.safetensors", {"flat": torch.ones(6)})
    assert directions_of(shown.subject, None)[1] is None  # which are of another space
    with pytest.raises(ValueError, match="holds no directions of the space w; expected some"):
        directions_of(shown.subject, latents)
