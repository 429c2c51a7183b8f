"""The HTML page of `gans report`: one file without links, which `report.html` gives its style and its script."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from gans.commands.report_pictures import Picture
from gans.commands.report_run import Explored, Run
from gans.metrics.report import MEANING, cell, protocol
from gans.runs.curves import Curve, thinned

POINTS = 400  # of a curve
PLAYERS = [("loss/discriminator", "loss/generator"), ("logits/real", "logits/fake")]  # two curves in one chart
PREFIXES = ("score/", "loss/", "logits/")  # in this order, then all other curves
AT_ONCE = ("score/fid", "score/kid", "score/precision", "score/recall", *PREFIXES[1:])  # others are in a closed section
STEEP = 20  # a score whose largest value is this many times the smallest begins with a logarithmic axis


def page(runs: Sequence[Run], made_by: Mapping[str, str]) -> str:
    """Return the HTML text of a page.

    Args:
        runs: that are shown, each in a colour.
        made_by: what the page was made with, by key.
    """
    charts: list[dict[str, Any]] = []
    sections = [
        header(runs),
        section("Curves", of_curves(runs, charts)),
        section("Grids through training", of_grids(runs)),
        section("Scores", of_scores(runs)),
        section("Compared with the training images", of_explored(runs, charts)),
        section("Configuration", of_config(runs)),
        section("Environment", of_environment(runs, made_by)),
    ]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    data = json.dumps({"charts": charts}, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = files("gans.commands").joinpath("report.html").read_text(encoding="utf-8")
    head, rest = template.split("{{body}}")
    middle, tail = rest.split("{{data}}")
    return "".join([head.replace("{{title}}", escape(title)), "\n".join(sections), middle, data, tail])


def section(title: str, body: str) -> str:
    """Return a section; nothing if it has no content."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>" if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of cells that are HTML already. `numbers` are the columns aligned at the right."""
    kind = [' class="number"' if i in numbers else "" for i in range(len(head))]
    first = "".join(f"<th{kind[i]}>{name}</th>" for i, name in enumerate(head))
    others = ["".join(f"<td{kind[i]}>{value}</td>" for i, value in enumerate(row)) for row in rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in others)
    return f'<div class="scroll"><table>\n<tr>{first}</tr>\n{body}\n</table></div>'


def swatch(colour: int) -> str:
    """Return a dot of a run's colour."""
    return f'<span class="swatch" style="background: var(--c{colour % 8})"></span>'


def named(runs: Sequence[Run]) -> list[str]:
    """Return the names of runs as HTML, with their colours if there are several."""
    return [(swatch(i) if len(runs) > 1 else "") + escape(run.name) for i, run in enumerate(runs)]


def told(value: Any) -> str:
    """Return a value as HTML; a dash for None."""
    if isinstance(value, tuple | list):
        return escape(" x ".join(map(str, value)))
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def header(runs: Sequence[Run]) -> str:
    """Return the title, and what the records of the runs say."""
    rows = []
    for name, run in zip(named(runs), runs, strict=True):
        held, best = run.record, run.record.best
        batch = told(held.batch_size) + (f" x {held.processes} processes" if (held.processes or 1) > 1 else "")
        steps = told(held.steps) + (f" of {held.max_steps:,}" if held.max_steps not in (None, held.steps) else "")
        state = escape(held.state) + (f": {escape(held.reason)}" if held.reason else "")
        found = f"{escape(best.score)} {best.value:.4g}" if best else "-"
        found += f" at step {best.step:,}" if best and best.step is not None else ""
        about = (told(held.model), told(held.data), told(held.size), batch, told(held.seed))
        rows.append((name, *about, steps, told(held.images), found, state))
    head = ("run", "model", "data", "size", "batch", "seed", "steps", "images seen", "best score", "state")
    title = escape(runs[0].name) if len(runs) == 1 else f"{len(runs)} runs"
    legend = ""
    if len(runs) > 1:
        boxes = [
            f'<label><input type="checkbox" value="{i}" checked> {name}</label>' for i, name in enumerate(named(runs))
        ]
        legend = f'<div class="legend">{"".join(boxes)}</div>'
    return f"<h1>{title}</h1>\n{table(head, rows)}\n{legend}"


# -- curves ------------------------------------------------------------------------------------------------------------


def of_curves(runs: Sequence[Run], charts: list[dict[str, Any]]) -> str:
    """Return the charts of all curves; their numbers are added to `charts`."""
    tags = sorted({tag for run in runs for tag in run.curves}, key=rank)
    if not tags:
        return '<p class="faint">No logger of these runs wrote curves to a file.</p>'
    groups: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for pair in PLAYERS:
        if set(pair) <= set(tags):
            groups.append(pair)
            seen |= set(pair)
    groups += [(tag,) for tag in tags if tag not in seen]
    groups.sort(key=lambda group: rank(group[0]))
    shown: list[str] = []
    rest: list[str] = []
    for group in groups:
        lines = [
            line(run.curves[tag], name_of(tag, group, run, runs), i, i if len(runs) > 1 else k, k > 0 and len(runs) > 1)
            for k, tag in enumerate(group)
            for i, run in enumerate(runs)
            if tag in run.curves
        ]
        keys = [
            (tag.rpartition("/")[2], k if len(runs) == 1 else None, k > 0 and len(runs) > 1) for k, tag in pairs(group)
        ]
        values = [y for part in lines for _, y in part["points"] if y is not None]
        log = group[0].startswith("score/") and bool(values) and 0 < STEEP * min(values) < max(values)
        made = chart(charts, title_of(group), lines, "step", keys, log)
        (shown if group[0].startswith(AT_ONCE) else rest).append(made)
    text = f'<div class="charts">{"".join(shown)}</div>'
    if rest:
        more = f"{len(rest)} more curve{'s' if len(rest) > 1 else ''}"
        text += f"<details{'' if shown else ' open'}><summary>{more}</summary>"
        text += f'<div class="charts">{"".join(rest)}</div></details>'
    return text


def pairs(group: Sequence[str]) -> list[tuple[int, str]]:
    """Return the numbered curves of a chart with several; nothing for a single one, whose title names it."""
    return list(enumerate(group)) if len(group) > 1 else []


def rank(tag: str) -> tuple[int, int, str]:
    """Return the place of a curve among others: scores in the order of their table, then losses, logits, the rest."""
    first = next((i for i, prefix in enumerate(PREFIXES) if tag.startswith(prefix)), len(PREFIXES))
    name = next((i for i, name in enumerate(MEANING) if tag.startswith(f"score/{name}_")), len(MEANING))
    return first, name, tag


def title_of(group: Sequence[str]) -> str:
    """Return the title of a chart: the tag, for scores with what is better, or what several tags have in common."""
    if len(group) > 1:
        return group[0].partition("/")[0]
    name = group[0].removeprefix("score/")
    better = next((MEANING[score][0] for score in sorted(MEANING, key=len, reverse=True) if name.startswith(score)), "")
    return f"{name} ({better} is better)" if group[0].startswith("score/") and better.isalpha() else name


def name_of(tag: str, group: Sequence[str], run: Run, runs: Sequence[Run]) -> str:
    """Return the name of a line: of the run if there are several, of the curve if the chart has several."""
    of_run = run.name if len(runs) > 1 else ""
    of_tag = tag.rpartition("/")[2] if len(group) > 1 or not of_run else ""
    return f"{of_run} {of_tag}".strip()


def line(curve: Curve, name: str, run: int, colour: int, dash: bool) -> dict[str, Any]:
    """Return a line of a chart. Values that are not finite become gaps."""
    points = [(x, float(f"{y:.5g}") if math.isfinite(y) else None) for x, y in thinned(curve, POINTS)]
    return {"name": name, "run": run, "colour": colour, "dash": dash, "points": points}


def chart(
    charts: list[dict[str, Any]],
    title: str,
    lines: list[dict[str, Any]],
    across: str,
    keys: Sequence[tuple[str, int | None, bool]] = (),
    log: bool = False,
) -> str:
    """Return the frame of a chart, and add its numbers to `charts`, from which the script of the page draws it.

    Args:
        charts: of the page.
        title: above the chart.
        lines: as `line` returns them.
        across: label of the horizontal axis.
        keys: name, number of the colour or None for that of text, and whether it is dashed, of each kind of line.
        log: whether the vertical axis is logarithmic at first.
    """
    charts.append({"lines": lines, "across": across, "log": log})
    shown = "".join(key(*kind) for kind in keys)
    return (
        f'<div class="chart" data-chart="{len(charts) - 1}"><header><b>{escape(title)}</b>'
        f'<button type="button" title="logarithmic axis">log</button></header>'
        f'<div class="keys">{shown}</div><svg role="img" aria-label="{escape(title)}"></svg>'
        '<div class="tip" hidden></div></div>'
    )


def key(name: str, colour: int | None, dash: bool) -> str:
    """Return a short line as it is in a chart, with its name."""
    stroke = f'stroke="var(--{"faint" if colour is None else f"c{colour}"})" stroke-width="2"'
    dashes = f'stroke-dasharray="{"5 3" if dash else "none"}"'
    return f'<span><svg viewBox="0 0 26 8"><path d="M0 4H26" {stroke} {dashes}/></svg>{escape(name)}</span>'


# -- pictures ----------------------------------------------------------------------------------------------------------


def image(picture: Picture, alt: str, hidden: bool = False) -> str:
    """Return an image. Small ones are enlarged without smoothing."""
    step = f' data-step="{picture.step}"' if picture.step is not None else ""
    kind = ' class="small"' if max(picture.width, picture.height) < 400 else ""
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img{kind}{step} {size} alt="{escape(alt)}" src="{picture.uri}"{" hidden" if hidden else ""}>'


def of_grids(runs: Sequence[Run]) -> str:
    """Return a slider for each kind of grid, which goes through the steps of all runs."""
    text = []
    for kind in dict.fromkeys(kind for run in runs for kind in run.slides):
        steps = sorted({picture.step or 0 for run in runs for picture in run.slides.get(kind, ())})
        figures = []
        for i, (name, run) in enumerate(zip(named(runs), runs, strict=True)):
            if grids := run.slides.get(kind):
                images = "".join(image(grid, f"{kind}, step {grid.step}", grid is not grids[-1]) for grid in grids)
                caption = f'<figcaption>{name}, <span class="step"></span></figcaption>'
                figures.append(f'<figure data-run="{i}">{images}{caption}</figure>')
        for uri, names in real_images(runs).items():
            shown = next(run.real for run in runs if run.real is not None and run.real.uri == uri)
            told = "" if len(runs) == 1 else f" of {escape(', '.join(names))}" if len(names) < len(runs) else ""
            figures.append(f"<figure>{image(shown, 'real images')}<figcaption>real images{told}</figcaption></figure>")
        text.append(
            f'<h3>{escape(kind)}</h3>\n<div class="slide"><input type="range" min="0" max="{len(steps) - 1}" '
            f'value="{len(steps) - 1}" data-steps="{",".join(map(str, steps))}" aria-label="step of {escape(kind)}">'
            f'<output></output></div>\n<div class="grids">{"".join(figures)}</div>'
        )
    return "\n".join(text)


def real_images(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the grids of real images that differ, as data URIs, with the names of their runs."""
    found: dict[str, list[str]] = {}
    for run in runs:
        if run.real is not None:
            found.setdefault(run.real.uri, []).append(run.name)
    return found


# -- scores ------------------------------------------------------------------------------------------------------------


def of_scores(runs: Sequence[Run]) -> str:
    """Return the reports of `gans evaluate`, a table for each protocol, and the last and best scores of the curves."""
    by_protocol: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
    for i, run in enumerate(runs):
        for name, report in run.scores.items():
            by_protocol.setdefault(protocol(report), []).append((i, name, report))
    text = []
    for words, reports in by_protocol.items():
        text.append(f"<h3>{escape(words)}</h3>\n{of_protocol(runs, reports)}")
    if len(by_protocol) > 1:
        text.insert(0, "<p>Scores of different protocols cannot be compared.</p>")
    while_training = of_training(runs)
    if not text and while_training:
        text.append(
            '<p class="faint">There is no report in the folders of the runs: '
            "<code>gans evaluate CKPT --out RUN/report.json</code> writes one.</p>"
        )
    return "\n".join([*text, while_training]).strip()


def of_protocol(runs: Sequence[Run], reports: Sequence[tuple[int, str, dict[str, Any]]]) -> str:
    """Return the table of reports with one protocol, with real images beside them. The best score is bold."""
    head = [
        f"{named(runs)[i]}<br>{escape(name)}, step {told(report['generator'].get('step'))}"
        for i, name, report in reports
    ]
    rows = []
    for score, (better, meaning) in MEANING.items():
        if not any(score in report["metrics"] for _, _, report in reports):
            continue
        values = {
            k: held["metrics"][score]["value"] for k, (_, _, held) in enumerate(reports) if score in held["metrics"]
        }
        best = {"lower": min, "higher": max}.get(better, lambda values, key: None)(values, key=values.__getitem__)
        cells = [cell(score, report["metrics"].get(score)) for _, _, report in reports]
        if len(reports) > 1 and best is not None:
            cells[best] = f"<b>{cells[best]}</b>"
        real = cell(score, reports[0][2].get("baseline_real", {}).get(score))
        rows.append((score, *cells, real, better, escape(meaning)))
    return table(("score", *head, "real images", "better", "meaning"), rows, range(1, len(reports) + 2))


def of_training(runs: Sequence[Run]) -> str:
    """Return the last and the best value of each score that was computed in training."""
    with_scores = [run for run in runs if any(tag.startswith("score/") for tag in run.curves)]
    tags = sorted({tag for run in with_scores for tag in run.curves if tag.startswith("score/")}, key=rank)
    if not tags:
        return ""
    rows = [
        (escape(tag.removeprefix("score/")), *(last_and_best(run.curves.get(tag, []), tag) for run in runs))
        for tag in tags
    ]
    asked = [(run.config.get("evaluate.samples"), run.config.get("evaluate.reference")) for run in with_scores]
    protocols = {f"{samples} samples against at most {reference} training images" for samples, reference in asked}
    words = (
        f"The last value, and the best one with its step. Protocol: {'; '.join(sorted(protocols))}. Such scores show "
        "the course of a run and choose its best.ckpt; a final number needs other latents and more samples."
    )
    opened = "" if any(run.scores for run in runs) else " open"
    shown = table(("score", *named(runs)), rows, range(1, len(runs) + 1))
    return f"<details{opened}><summary>Scores during training</summary><p>{escape(words)}</p>{shown}</details>"


def last_and_best(curve: Curve, tag: str) -> str:
    """Return the last value of a score, and the best one with its step if it is known what is better."""
    if not curve:
        return "-"
    score = next((score for score in MEANING if tag.startswith(f"score/{score}_")), None)
    choose = {"lower": min, "higher": max}.get(MEANING[score][0] if score else "")
    sound = [point for point in curve if math.isfinite(point[1])]
    best = choose(sound, key=lambda point: point[1]) if choose and sound else None
    return f"{curve[-1][1]:.4g}" + (f" ({best[1]:.4g} at {best[0]:,})" if best else "")


# -- neighbours and spectrum -------------------------------------------------------------------------------------------


def of_explored(runs: Sequence[Run], charts: list[dict[str, Any]]) -> str:
    """Return neighbours of generated images, and a chart with the spectra of all runs."""
    blocks, lines, reals = [], [], set()
    for i, (name, run) in enumerate(zip(named(runs), runs, strict=True)):
        found = run.explored
        if isinstance(found, str):
            blocks.append(f'<div data-run="{i}"><h3>{name}</h3><p class="faint">{escape(found)}</p></div>')
            continue
        blocks.append(f'<div data-run="{i}"><h3>{name}, step {found.step:,}</h3>{of_neighbours(found)}</div>')
        across = [float(f"{x:.4g}") for x in found.spectra.frequencies.tolist()]
        real = list(zip(across, found.spectra.real.tolist(), strict=True))
        if tuple(real) not in reals:  # the same data set gives one line
            reals.add(tuple(real))
            lines.append(line(real, "real images" if len(reals) == 1 else f"real images of {run.name}", i, 7, True))
        made = list(zip(across, found.spectra.generated.tolist(), strict=True))
        lines.append(line(made, f"generated by {run.name}" if len(runs) > 1 else "generated", i, i, False))
    text = f'<div class="compared">{"".join(blocks)}</div>'
    if lines:
        keys = [("real images", 7, True), ("generated", None if len(runs) > 1 else 0, False)]
        shown = chart(charts, "power spectrum", lines, "cycles per pixel", keys, log=True)
        text = f'<div class="charts">{shown}</div>{text}'
    return text


def of_neighbours(found: Explored) -> str:
    """Return the picture of neighbours, and how near the nearest are."""
    where = f"{found.compared:,} training images"
    if found.compared < found.there:
        where = f"{found.compared:,} of {found.there:,} training images"
    near = ", ".join(f"{value:.1f}" for value in found.copies)
    words = (
        f"The first column is generated, the others are the nearest of {where} in {', then in '.join(found.measures)}. "
        f"Distances to the nearest in pixels: {near}, root mean square on the scale 0 to 255; 0 is a copy."
    )
    return (
        f"<figure>{image(found.neighbours, 'generated images and neighbours')}<figcaption>{words}</figcaption></figure>"
    )


# -- configuration and environment -------------------------------------------------------------------------------------


def of_config(runs: Sequence[Run]) -> str:
    """Return the configurations: what differs between the runs is marked, and comes first."""
    return compared([run.config for run in runs], named(runs), "all {} values of config.yaml")


def of_environment(runs: Sequence[Run], made_by: Mapping[str, str]) -> str:
    """Return versions, machine and commits of the runs, and what the page was made with."""
    held = [{key: told(value) for key, value in (run.record.environment or {}).items()} for run in runs]
    missing = [run.name for run, values in zip(runs, held, strict=True) if not values]
    known = [(values, name) for values, name in zip(held, named(runs), strict=True) if values]
    text = compared([values for values, _ in known], [name for _, name in known], "all {} values", opened=True)
    if missing:
        text += f'<p class="faint">{escape(", ".join(missing))}: the run did not record its environment.</p>'
    made = table(("this page", ""), [(escape(key), escape(value)) for key, value in made_by.items()])
    return f"{text}\n{made}"


def compared(several: Sequence[Mapping[str, str]], names: Sequence[str], title: str, opened: bool = False) -> str:
    """Return tables of values by key: those that differ are marked and stand first, the others in a section to open.

    Args:
        several: values of each run, as text.
        names: of the runs, as HTML.
        title: of the section, with {} for the number of values.
        opened: whether the section is open.
    """
    keys = list(dict.fromkeys(key for values in several for key in values))
    differ = [key for key in keys if len({values.get(key) for values in several}) > 1]
    text = ""
    if differ:
        text = "<p>What differs between the runs:</p>" + values_of(several, differ, names, ' class="differs"')
    same = [key for key in keys if key not in differ]
    if not same:
        return text
    one = [{key: next(values[key] for values in several if key in values) for key in same}]
    summary = title.format(len(same)) if not differ else f"{len(same)} values that are the same"
    shown = values_of(one, same, ["value"], "")
    return f"{text}<details{' open' if opened else ''}><summary>{summary}</summary>{shown}</details>"


def values_of(several: Sequence[Mapping[str, str]], keys: Sequence[str], names: Sequence[str], mark: str) -> str:
    """Return a table with a row for each key."""
    rows = "\n".join(
        f'<tr{mark}><td class="key">{escape(key)}</td>'
        + "".join(f"<td>{escape(values.get(key, '-'))}</td>" for values in several)
        + "</tr>"
        for key in keys
    )
    head = "".join(f"<th>{name}</th>" for name in ("key", *names))
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'
