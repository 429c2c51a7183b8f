"""The server of `gans explore ui`. It answers at its own address only, and reads only files dropped on the page."""

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from errno import EADDRINUSE
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gans.commands.explore_ui_page import FONT, STYLE, Page, gradio
from gans.commands.explore_ui_view import Explorer

PORTS = range(7860, 7960)  # of which the first free one is taken
# The browser loads nothing from other servers, whatever a version of gradio asks for.
POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
API = "/gradio_api/"
# All that the page needs. Gradio has more routes: a proxy, functions of components, recordings, a code editor.
FILES = ("/assets/", "/static/", "/svelte/")
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
CALLS = {
    "GET": {"theme.css", "queue/data", "upload_progress", "info", "app_id", "startup-events"},
    "POST": {"queue/join", "queue/data", "upload", "cancel", "reset"},
}
MOST = 2**20  # bytes of a call, which holds the values of sliders and the name of an upload
LARGEST = "256mb"  # of a picture
FOLDER, LOCK = "gans-ui-", ".lock"  # how folders of uploads begin; the file in them that a server locks


class Guard:
    """An ASGI application in front of gradio's, which refuses requests that the page does not need.

    Gradio checks paths only after `launch()`, which starts a server of its own. Therefore they are checked here too.

    Args:
        app: gradio's.
        hosts: names that the page may be asked by; see `answers_to`.
        local: whether only this machine can reach the page.
        uploads: folder of the files that may be read.
    """

    def __init__(self, app: Any, hosts: set[str], local: bool, uploads: Path) -> None:
        self.app, self.hosts, self.local, self.uploads = app, hosts, local, uploads.resolve()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on to gradio."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.answer(scope, receive, send)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer an HTTP request, or pass it on to gradio."""
        fault = self.fault(scope)
        if fault is None and scope["path"] == f"{API}queue/join":
            body = await whole(receive)
            fault, body = self.checked(body)
            receive = once(body)
            kept = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"]
            scope = {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}
        if fault is not None:
            status, text = fault
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": text.encode()})
            return

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, told)

    def fault(self, scope: Any) -> tuple[int, str] | None:
        """Return the status and the sentence to refuse a request with, by its headers and path; None accepts it."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        # A page of another site may call this server by its own name, if that resolves to here, or by the right name.
        host, *others = given.get("host", [""])
        if others or not self.answers_to(host):
            return 400, "the page is not known by this name: give it as --host"
        if any(urlsplit(origin).netloc != host for origin in given.get("origin", [])):
            return 403, "pages of other sites may not call this one"
        path, method = str(scope["path"]), scope["method"].replace("HEAD", "GET")
        if path.startswith(f"{API}file=") and method == "GET":
            return None if self.uploaded(path.removeprefix(f"{API}file=")) else (403, "this is no upload")
        if path.startswith(f"{API}heartbeat/") and method == "GET":
            return None
        if path.startswith(API):
            return None if path.removeprefix(API) in CALLS.get(method, ()) else (404, "the page has no such call")
        return None if method == "GET" and (path in PAGES or path.startswith(FILES)) else (404, "there is no such page")

    def answers_to(self, host: str) -> bool:
        """Return whether the host of a request, with or without a port, is one of this page.

        The name of another site can resolve to this machine (DNS rebinding), but an IP address cannot. A page
        that is served to this machine alone accepts only loopback addresses.
        """
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            return ipaddress.ip_address(name).is_loopback or not self.local
        except ValueError:
            return name in self.hosts

    def uploaded(self, name: str) -> bool:
        """Return whether a path, with links resolved, is that of an upload."""
        try:
            path = Path(name).resolve()
        except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links
            return False
        return path.is_relative_to(self.uploads) and path.is_file()

    def checked(self, body: bytes) -> tuple[tuple[int, str] | None, bytes]:
        """Return the fault of a call's JSON or None, and the JSON as it was parsed here.

        Only uploads may be named as files, because gradio copies a file, or fetches a URL, before the page sees it.
        """
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            return (422, "a call is JSON of at most 1 MB"), b""
        waiting = [call]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                if "path" in part and not (isinstance(part["path"], str) and self.uploaded(part["path"])):
                    return (403, "this file was not uploaded"), b""
                waiting += part.values()
            elif isinstance(part, list):
                waiting += part
        return None, json.dumps(call).encode()


async def whole(receive: Any) -> bytes:
    """Return the body of a request; empty if it is too long or the client has disconnected."""
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if message["type"] == "http.disconnect" or len(body) > MOST:
            return b""
        if not message.get("more_body"):
            return body


def once(body: bytes) -> Any:
    """Return an ASGI `receive` that gives a body, and then waits like for a client that stays connected."""
    import anyio

    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await anyio.sleep_forever()
        return messages.pop()

    return receive


def names(host: str, address: str) -> set[str]:
    """Return the host names of a page that is served at an address of this machine."""
    known = {"localhost", host.lower().rstrip(".")}
    return known if loopback(address) else known | {socket.gethostname().lower(), socket.getfqdn().lower()}


def loopback(address: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


@contextlib.contextmanager
def uploads() -> Iterator[Path]:
    """Make a folder for uploads and remove it at the end. First remove folders of servers that were killed."""
    folder = Path(tempfile.mkdtemp(prefix=f"new-{FOLDER}"))
    try:
        with open(folder / LOCK, "wb") as lock:
            if locked(lock):
                folder = folder.rename(folder.with_name(folder.name.removeprefix("new-")))  # not sweepable before
                sweep(folder)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(own: Path) -> None:
    """Remove this user's other folders of uploads next to `own` if their server, which would lock them, is gone."""
    user = own.stat().st_uid
    for folder in own.parent.glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):
            if folder != own and folder.lstat().st_uid == user:  # another's might hold anything
                with open(folder / LOCK, "rb") as lock:
                    if locked(lock):
                        shutil.rmtree(folder)


def locked(file: Any) -> bool:
    """Return whether an open file could be locked. The lock ends when the file is closed or the process ends."""
    try:
        fcntl = import_module("fcntl")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # not on Windows, not on every file system
        return False
    return True


@contextlib.contextmanager
def endings() -> Iterator[list[Any]]:
    """Let SIGTERM and SIGHUP end this process like an exit, so that uploads are removed.

    Yields:
        A list for uvicorn's server, which ends first and then raises the signal again.
    """
    servers: list[Any] = []

    def end(number: int, frame: Any) -> None:
        if not servers or servers[0].should_exit:
            raise SystemExit(128 + number)
        servers[0].handle_exit(number, frame)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # ignored under nohup
    try:
        for number in caught:
            signal.signal(number, end)
        yield servers
    finally:
        for number in caught:
            signal.signal(number, before[number])


def bound(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens there, so that nobody else takes the port while the model is read.

    Args:
        host: name or address of this machine.
        port: None takes the first free one from 7860, 0 any.

    Raises:
        ValueError: if the port is in use, or the host no address of this machine.
    """
    if port is not None and not 0 <= port < 65536:
        raise ValueError(f"port is {port}; expected 0 to 65535")
    for number in PORTS if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except (OSError, UnicodeError) as error:
            if getattr(error, "errno", None) == EADDRINUSE:
                continue
            told = getattr(error, "strerror", None) or error
            raise ValueError(f"host is {host}, port is {port}: {told}") from error
    if port is None:
        raise ValueError(f"ports {PORTS[0]} to {PORTS[-1]} of {host} are in use: --port chooses another")
    raise ValueError(f"port is {port}, which is in use on {host}; expected a free one, or 0 for any")


def application(explorer: Explorer, host: str, address: str, folder: Path) -> Guard:
    """Return the ASGI application of the page.

    Args:
        explorer: what is shown.
        host: name of the address that the user gave.
        address: where it is served.
        folder: for uploads.
    """
    gr, fastapi = gradio(), import_module("fastapi")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # where components keep uploads; read when they are made
    theme = gr.themes.Base(primary_hue="indigo", font=FONT, font_mono=("ui-monospace", "monospace"))
    blocks = Page(explorer).blocks
    # `mount_gradio_app` leaves this to `launch()`, and without it gradio copies any file that a call names. To launch
    # would take the port again, by a request that a proxy may catch, and could open a public tunnel.
    blocks.has_launched = True
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        blocks,
        "/",
        theme=theme,
        css=STYLE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=LARGEST,
    )
    return Guard(app, names(host, address), loopback(address), folder)


def serve(explorer: Explorer, host: str, listening: socket.socket) -> None:
    """Serve the page until Ctrl-C, SIGTERM or SIGHUP, and then remove its uploads.

    Args:
        explorer: what is shown.
        host: name of the address that the user gave.
        listening: socket to serve at.
    """
    uvicorn = import_module("uvicorn")
    with endings() as servers, uploads() as folder:
        app = application(explorer, host, listening.getsockname()[0], folder)
        # Pages keep a connection open: without a limit Ctrl-C would wait for them.
        config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        servers.append(uvicorn.Server(config))
        with contextlib.suppress(KeyboardInterrupt):
            servers[0].run(sockets=[listening])
