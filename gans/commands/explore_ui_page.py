"""The page of `gans explore ui`, made of gradio's components: its settings go to `Explorer`, whose images it shows."""

import html
import random
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from gans.commands import labels
from gans.commands.explore_ui_view import Explorer, Found, View, png
from gans.pictures.images import to_uint8

MOST = 64  # pictures
CLIPS = 16  # clips at most
STEPS = (0, 500, 100)  # of an inversion: least, most, by default
FONT = ("system-ui", "sans-serif")
STYLE = """
.gradio-container {max-width: 1500px !important; margin: 0 auto !important}
.gradio-container h2 {margin: 0}
.gradio-container h3 {margin: 0 0 2px 0; font-size: 1.05em}
.gradio-container .told {opacity: .7; font-size: .9em; margin: 0 0 4px 0; line-height: 1.4}
#shown img {width: 100%; max-height: 60vh; object-fit: contain; image-rendering: pixelated; display: block}
#shown .frame {background: #8881; border-radius: 8px; padding: 12px}
#command code {white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85em}
#found .pair {display: flex; gap: 10px; max-width: 320px; margin: 0 auto}
#found .told {text-align: center}
#found figure {margin: 0; flex: 1; min-width: 0}
#found img {width: 100%; image-rendering: pixelated; border-radius: 4px; border: 1px solid #8884}
#found figcaption {font-size: .85em; opacity: .8; text-align: center}
#moves {max-height: 78vh; overflow-y: auto; gap: 8px}
.gradio-container .column {gap: 10px}
.gradio-container .form {background: none; flex-grow: 0}
.gradio-container main {padding: 8px 16px !important}
#another, #reset {font-weight: 500}
#another {align-self: center; flex-grow: 0}
footer {display: none !important}
"""


def gradio() -> Any:
    """Return the package gradio, which only the page needs.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ValueError('the page needs gradio: pip install "lightning-gans[ui]"') from error


class Page:
    """The components of the page, and their events.

    Args:
        explorer: what is shown.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.gr = explorer, gradio()
        self.inputs: dict[str, Any] = {}  # components by their names, as `view` reads them
        with self.gr.Blocks(title="gans explore ui", analytics_enabled=False, fill_width=True) as self.blocks:
            self.inputs["start"] = self.gr.State(None)
            self.gr.HTML(self.heading())
            with self.gr.Row():
                with self.gr.Column(scale=3, min_width=260):
                    self.add_start()
                with self.gr.Column(scale=5, min_width=320):
                    self.shown = self.gr.HTML(elem_id="shown")
                    self.told = self.gr.HTML(elem_id="command")
                    self.found = self.gr.HTML(elem_id="found", min_height=70)
                with self.gr.Column(scale=3, min_width=260):
                    self.add_moves()
            self.connect()

    def heading(self) -> str:
        """Return the page's first lines."""
        model = self.explorer.subject.model
        channels, height, width = self.explorer.subject.shape
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
        frames = f", {model.image_shape[1]} frames" if self.explorer.subject.clips else ""
        told = f"{width} x {height} {kind}{frames} &middot; latents of {model.latent_dim} numbers, {model.prior}"
        if self.explorer.subject.network.layers:
            told += f" &middot; {self.explorer.subject.space} of {model.w_dim} numbers, {model.num_ws} layers"
        name = html.escape(str(self.explorer.checkpoint))
        return f"<h2>{type(model).__name__}</h2><p class='told'>{told} &middot; <code>{name}</code></p>"

    def title(self, text: str, told: str) -> None:
        """Add the title of a column, and a sentence below it."""
        self.gr.HTML(f"<h3>{text}</h3><p class='told'>{told}</p>")

    def add_start(self) -> None:
        """Add the components that choose the point that the sliders move."""
        gr, explorer = self.gr, self.explorer
        self.title("1. Where to start", "Random points of a seed &hellip;")
        with gr.Row():
            self.inputs["seed"] = gr.Number(0, label="seed", precision=0, minimum=0, min_width=90, elem_id="seed")
            self.another = gr.Button("another", size="sm", min_width=90, elem_id="another")
        chosen = explorer.subject.network.label
        label = -1 if chosen is None else chosen
        rows = min(4, MOST // (explorer.classes or 1)) * explorer.classes if label < 0 else 0
        most, usual = (CLIPS, 4) if explorer.subject.clips else (MOST, rows or 16)
        self.inputs["count"] = gr.Slider(1, most, usual, step=1, label="pictures", elem_id="count")
        if explorer.truncations is not None:
            low, high = explorer.truncations
            given = explorer.subject.truncation
            begin = high if given is None else min(max(given, low), high)
            info = f"near 0 all are alike; {high:g} is none"
            self.inputs["truncation"] = gr.Slider(low, high, begin, step=0.1, label="truncation", info=info)
        if explorer.classes:
            names = [labels.shown(explorer.subject.model, kind) for kind in range(explorer.classes)]
            kinds = [("all in turn", -1), *((name, kind) for kind, name in enumerate(names))]
            self.inputs["label"] = gr.Dropdown(kinds, value=label, label="class", elem_id="class")
        way = "the encoder and gradient descent" if explorer.subject.encodes else "gradient descent"
        self.title(
            "&hellip; or your own picture",
            f"The latent is found by {way}. Remove the picture to return to random samples.",
        )
        self.drop = gr.Image(
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=150,
            show_label=False,
            elem_id="drop",
            placeholder="Drop a picture here",
        )
        least, most, usual = STEPS
        self.steps = gr.Slider(least, most, usual, step=10, label="steps of descent")

    def add_moves(self) -> None:
        """Add the sliders."""
        gr, explorer = self.gr, self.explorer
        found = "principal components of W" if explorer.subject.network.layers else "axes that change most"
        told = (
            f"Along the directions of <code>{html.escape(explorer.file.name)}</code>; all pictures move alike."
            if explorer.file
            else f"Along the {found}: <code>gans explore directions</code> finds what means more."
        )
        self.title("2. Where to go", told)
        self.reset = gr.Button("all back to 0", size="sm", elem_id="reset")
        with gr.Column(elem_id="moves"):
            for i in range(explorer.codes):
                self.inputs[f"code {i}"] = gr.Slider(-1, 1, 0, step=0.01, label=f"code {i + 1}", elem_id=f"code-{i}")
            far = explorer.subject.reach
            for i, name in enumerate(explorer.directions):
                self.inputs[f"move {i}"] = gr.Slider(-far, far, 0, step=0.05, label=name, elem_id=f"move-{i}")

    def named(self, word: str) -> list[Any]:
        """Return the components whose names begin with a word."""
        return [part for name, part in self.inputs.items() if name.startswith(word)]

    def connect(self) -> None:
        """Connect the events of the components."""
        gr, inputs, moves = self.gr, list(self.inputs.values()), self.named("code ") + self.named("move ")
        bar = gr.Progress()

        def invert(path: str | None, steps: int, progress: Any = bar) -> list[Any]:  # gradio looks for such a default
            return self.invert(path, steps, progress)

        show = {"fn": self.show, "inputs": inputs, "outputs": [self.shown, self.told], "show_progress": "hidden"}
        # While a picture is drawn, only the last of the moves waits.
        moved = [part.change for part in inputs[1:]]
        gr.on([self.blocks.load, *moved], **show, trigger_mode="always_last", api_visibility="private")
        self.another.click(lambda: random.randrange(100_000), None, self.inputs["seed"], api_visibility="private")
        self.reset.click(self.rested, self.inputs["start"], moves, api_visibility="private")
        chosen = [
            self.inputs[name] for name in ("start", "seed", "count", "truncation", "label") if name in self.inputs
        ]
        gr.on(
            [self.drop.change, self.steps.release],
            invert,
            [self.drop, self.steps],
            [*chosen, self.another, self.found, *moves],
            trigger_mode="always_last",
            show_progress_on=self.found,
            api_visibility="private",
        ).then(**show, api_visibility="private")

    def view(self, values: Sequence[Any]) -> View:
        """Return the settings for the values of all inputs; an empty field is 0."""
        given = dict(zip(self.inputs, values, strict=True))
        most, label = self.explorer.truncations, given.get("label", -1)
        truncation = given["truncation"] if most is not None and given["truncation"] < most[1] else None
        return View(
            seed=int(given["seed"] or 0),
            count=int(given["count"]),
            truncation=truncation,
            label=None if label < 0 else label,
            codes=tuple(value for name, value in given.items() if name.startswith("code ")),
            strengths=tuple(value for name, value in given.items() if name.startswith("move ")),
            start=given["start"],
        )

    def show(self, *values: Any) -> tuple[str, str]:
        """Return the HTML of the picture, and of the command below it."""
        view = self.view(values)
        try:
            picture, command = self.explorer.picture(view), self.explorer.command(view)
        except ValueError as error:
            raise self.gr.Error(str(error), print_exception=False) from error
        told = f"The same pictures: <code>{html.escape(command)}</code>" if command else ""
        return f"<div class='frame'><img src='{picture}' alt='generated'></div>", f"<p class='told'>{told}</p>"

    def rested(self, start: torch.Tensor | None) -> Any:
        """Return the initial values of all sliders: 0, and for codes those of an inverted picture."""
        codes = [0.0] * self.explorer.codes
        if start is not None and codes:
            codes = [round(code, 2) for code in start[0, -len(codes) :].tolist()]
        values = [*codes, *[0.0] * len(self.explorer.directions)]
        return values if len(values) > 1 else values[0]

    def invert(self, path: str | None, steps: int, progress: Any) -> list[Any]:
        """Invert a picture. Return the start, updates of the other choices, HTML of the result, and all sliders."""
        gr, found = self.gr, None
        if path:
            try:
                progress(0, desc="looking for a start")
                found = self.explorer.inverted(
                    Path(path), int(steps), lambda step: progress((step + 1, int(steps)), desc="descent", unit="steps")
                )
            except ValueError as error:
                raise gr.Error(str(error), print_exception=False) from error
        start = found.point if found else None
        choosers = [gr.update(interactive=not found) for name in ("seed", "count", "truncation") if name in self.inputs]
        if "label" in self.inputs:
            choosers.append(gr.update() if found is None or found.label is None else gr.update(value=found.label))
        rested = self.rested(start)
        moves = rested if isinstance(rested, list) else [rested]
        return [start, *choosers, gr.update(interactive=not found), self.beside(found, int(steps)), *moves]

    def beside(self, found: Found | None, steps: int) -> str:
        """Return the HTML of a picture and its reconstruction."""
        if found is None:
            return ""
        figures = "".join(
            f"<figure><img src='{png(to_uint8(pixels[0]))}' alt='{name}'><figcaption>{name}</figcaption></figure>"
            for pixels, name in ((found.target, "yours"), (found.rebuilt, "reconstruction"))
        )
        kind = ""
        if found.label is not None:  # its name comes from the checkpoint
            kind = f", class {html.escape(labels.shown(self.explorer.subject.model, found.label))}"
        told = f"{found.decibels:.1f} dB after {steps} steps{kind}. The sliders now move from here."
        return f"<div class='pair'>{figures}</div><p class='told'>{told}</p>"
