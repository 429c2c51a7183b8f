"""`gans explore ui`: a page in the browser with sliders for the directions of a model.

It is served to this machine alone unless --host says otherwise. A picture that is dropped on the page becomes the point
that the sliders move.
"""

import os
import sys
import webbrowser

from gans.commands import explore_ui_page, explore_ui_server
from gans.commands.explore_flags import add_directions, add_features, add_space, parser_of
from gans.commands.explore_subject import subject
from gans.commands.explore_ui_view import Explorer, directions_of
from gans.explore import directions


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    flags = parser_of("ui", __doc__)
    add_space(flags)
    add_directions(flags)
    flags.add_argument("--host", type=str, default="127.0.0.1", help="address to serve at")
    flags.add_argument("--port", type=int, help="by default the first free one from 7860; 0 is any")
    flags.add_argument("--open", action="store_true", help="open the page in the browser")
    add_features(flags)
    options = flags.parse_args(args)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
    explore_ui_page.gradio()  # before the model is read
    with explore_ui_server.bound(options.host, options.port) as listening:
        if options.directions:
            directions.load(options.directions)  # before the checkpoint, which takes longer
        model = subject(
            options.checkpoint,
            options.model,
            options.label,
            options.truncation,
            options.device,
            space=options.space,
            moved=True,
            turns=True,
        )
        vectors, file = directions_of(model, options.directions)
        shown = Explorer(model, vectors, file, options.checkpoint, options.model, options.features)
        host, port = listening.getsockname()[:2]
        if not host.startswith("127.") and host != "::1":
            print(f"host is {options.host}: whoever reaches this machine sees the page", file=sys.stderr)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"page         {address}\nstop         Ctrl-C", flush=True)
        if options.open:
            webbrowser.open(address)  # which waits until the page is served: the socket listens already
        try:
            explore_ui_server.serve(shown, options.host, listening)
        finally:
            print("stopped")
