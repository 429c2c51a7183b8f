"""The line of the progress bar of a run: what matters most is seen in a narrow terminal too."""

from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

LEAST = 5  # columns of the bar itself, below which parts of the line are left out
SPEED = "images_per_second"  # a metric with a place of its own


class Bar(tqdm):  # type: ignore[misc]
    """A bar that shows percent, steps/s, images/s and the time left, and what else fits: steps done, then losses."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.metrics: dict[str, str] = {}
        super().__init__(*args, **options)

    @property
    def format_dict(self) -> Any:
        """What tqdm formats, with the line in place of its own layout."""
        held = super().format_dict
        return held | {"bar_format": line(held, self.metrics)}


def line(state: Mapping[str, Any], metrics: Mapping[str, str]) -> str:
    """Return the layout of the line, with `{bar}` where the bar is, in the columns of the terminal.

    Args:
        state: of tqdm: `n`, `total`, `initial`, `elapsed` in seconds, `rate`, `unit`, `ncols` (None without a limit).
        metrics: text of the newest ones by their names.
    """
    done, total = state["n"], state["total"]
    rate = state["rate"] or ((done - state["initial"]) / state["elapsed"] if state["elapsed"] else 0)
    speed = f"{rate:.3g} {state['unit']}s/s" if rate else f"? {state['unit']}s/s"
    known = [speed, *([f"{metrics[SPEED]} images/s"] if SPEED in metrics else [])]
    if total:
        left = tqdm.format_interval((total - done) / rate) if rate else "?"
        head, known = f"{state['prefix']} {done / total:4.0%}|{{bar}}| ", [*known, f"{left} left"]
    else:
        head, known = f"{state['prefix']} ", [*known, f"{tqdm.format_interval(state['elapsed'])} passed"]
    count = f"{done:,}/{total:,}" if total else f"{done:,} {state['unit']}s"
    losses = [f"{name} {text}" for name, text in metrics.items() if name != SPEED]
    for parts in ([count, *known, *losses], [count, *known], known):
        whole = head + ", ".join(parts)
        room = None if state["ncols"] is None else state["ncols"] - len(whole.replace("{bar}", ""))
        if room is None or room >= LEAST:
            break
    return whole
