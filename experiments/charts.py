"""The charts of a report: numbers -> SVG text. Knows nothing of studies or stores."""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from centernet.style import AMBER, BLUE, GREY, INK, RED, STYLE

NAMES, LONGEST = 12, 16  # choices named below an axis; characters of each
OWN = STYLE | {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "centernet",  # the same chart is the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica", "DejaVu Sans"],
    "axes.grid": True,
    "figure.dpi": 100,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A trial, as the charts see it."""

    number: int
    state: str
    value: float | None  # AP, if complete
    curve: dict[int, float]  # AP by epoch
    params: dict[str, Any]


def chart(draw: Callable[..., None]) -> Callable[..., tuple[str, bytes]]:
    """A function that draws on axes, as one that returns the picture as (SVG, PNG)."""

    def drawn(*arguments: Any, size: tuple[float, float] = (6.4, 3.6), **named: Any) -> Any:
        with mpl.rc_context(OWN), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of a choice's name
            figure = Figure(figsize=size, layout="constrained")
            draw(figure, *arguments, **named)
            text, picture = io.StringIO(), io.BytesIO()
            figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
            figure.savefig(picture, format="png", dpi=150, facecolor="white")
        svg = text.getvalue()
        return svg[svg.index("<svg") :], picture.getvalue()

    return drawn


def legend(axes: Axes) -> None:
    """Name what has a label, if anything has."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8, framealpha=0.95)


def whole(axes: Axes, **names: str) -> None:
    """Name axes whose x is counted and whose y is an AP, which is never below 0."""
    axes.set(**names)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 0.0))


@chart
def history(figure: Figure, rows: Sequence[Row], *, noise: float, default: float | None) -> None:
    """AP of each trial, the best so far, and the band around it that a seed alone may move."""
    axes = figure.subplots()
    complete = [row for row in rows if row.value is not None]
    best, steps = 0.0, []
    for row in complete:
        best = max(best, row.value or 0.0)
        steps.append((row.number, best))
    if steps:
        x, y = zip(*steps, strict=True)
        axes.step(x, y, where="post", color=BLUE, label="best so far")
        low, high = [v - noise for v in y], [v + noise for v in y]
        axes.fill_between(x, low, high, step="post", color=BLUE, alpha=0.12, lw=0, label="noise")
    points = [(row.number, row.value or 0.0) for row in complete]
    axes.plot(*zip(*points, strict=True) if points else ((), ()), "o", ms=5, color=BLUE, alpha=0.6)
    pruned = [(r.number, max(r.curve.values())) for r in rows if r.state == "PRUNED" and r.curve]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=AMBER, label="pruned")
    if default is not None:
        axes.axhline(default, color=GREY, ls=":", label="default config")
    whole(axes, xlabel="trial", ylabel="AP")
    legend(axes)


@chart
def curves(figure: Figure, rows: Sequence[Row], *, best: int | None) -> None:
    """AP by epoch of every trial; pruned ones end early."""
    axes = figure.subplots()
    for row in sorted(rows, key=lambda row: row.number == best):
        if not row.curve:
            continue
        x, y = zip(*sorted(row.curve.items()), strict=True)
        colour = BLUE if row.number == best else AMBER if row.state == "PRUNED" else GREY
        width = 2.2 if row.number == best else 0.9
        axes.plot(x, y, color=colour, lw=width, marker="x" if len(x) == 1 else None)
        if row.state == "PRUNED":
            axes.plot(x[-1], y[-1], "x", color=AMBER, ms=5)
    any_pruned = any(row.state == "PRUNED" for row in rows)
    kinds = ((BLUE, "best", True), (GREY, "complete", True), (AMBER, "pruned", any_pruned))
    for colour, label, there in kinds:
        if there:
            axes.plot([], [], color=colour, label=label)
    whole(axes, xlabel="epoch", ylabel="AP")
    legend(axes)


@chart
def importances(figure: Figure, found: dict[str, tuple[float, float, float]]) -> None:
    """Share of the variance of AP that each field explains: (low, middle, high)."""
    axes = figure.subplots()
    names = sorted(found, key=lambda name: found[name][1])
    middle = [found[name][1] for name in names]
    low = [found[name][1] - found[name][0] for name in names]
    high = [found[name][2] - found[name][1] for name in names]
    axes.barh(names, middle, color=BLUE, alpha=0.75, height=0.6)
    axes.errorbar(middle, names, xerr=[low, high], fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    axes.set(xlabel="share of the variance of AP", xlim=(0, 1))
    axes.grid(axis="y", visible=False)


@dataclass(frozen=True, slots=True)
class Axis:
    """A field that varies: a range of numbers, or names of choices, one place each."""

    log: bool = False
    names: Sequence[str] = ()  # of the choices
    place: Callable[[Any], float] = float  # of a value on the axis


@chart
def slices(
    figure: Figure, rows: Sequence[Row], fields: dict[str, Axis], *, best: int | None
) -> None:
    """AP against each field alone."""
    complete = [row for row in rows if row.value is not None]
    columns = min(len(fields), 3)
    grid = figure.subplots(-(-len(fields) // columns), columns, sharey=True, squeeze=False)
    for axes, (path, field) in zip(grid.flat, fields.items(), strict=False):
        varied = [row for row in complete if path in row.params]
        x = [field.place(row.params[path]) for row in varied]
        axes.plot(x, [row.value for row in varied], "o", ms=4, alpha=0.6)
        for place, row in zip(x, varied, strict=True):
            if row.number == best:
                axes.plot(place, row.value, "o", ms=8, mfc="none", mec=RED, mew=1.6)
        axes.set_xlabel(path.rpartition(".")[2])
        if field.names:
            name_places(axes, field.names)
        if field.log:
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            narrow = high < 10 * low  # then it may have one power of ten, or none
            axes.xaxis.set_major_locator(MaxNLocator(5) if narrow else LogLocator())
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
    for axes in list(grid.flat)[len(fields) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("AP")


def name_places(axes: Axes, names: Sequence[str]) -> None:
    """The choices below an axis, each as it is written; of many, only some."""
    shown = range(0, len(names), -(-len(names) // NAMES))
    short = [names[i] if len(names[i]) <= LONGEST else f"{names[i][:LONGEST]}..." for i in shown]
    axes.set_xticks(list(shown), short, parse_math=False, rotation=20 if len(names) > 3 else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)


@chart
def parallel(
    figure: Figure, rows: Sequence[Row], paths: Sequence[str], place: Callable[[str, Any], float]
) -> None:
    """One line a trial across all fields, each from its low to its high; the colour is the AP."""
    axes = figure.subplots()
    complete = sorted(
        (row for row in rows if row.value is not None), key=lambda row: row.value or 0
    )
    values = [row.value or 0.0 for row in complete] or [0.0]
    scale = mpl.colors.Normalize(min(values), max(values) or 1.0)
    map_ = mpl.colormaps["viridis"]
    for row in complete:
        points = [(i, place(p, row.params[p])) for i, p in enumerate(paths) if p in row.params]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, color=map_(scale(row.value or 0.0)), lw=1.4, alpha=0.8)
    axes.set_xticks(range(len(paths)), [path.rpartition(".")[2] for path in paths], rotation=20,
                    ha="right", rotation_mode="anchor")  # fmt: skip
    axes.set(yticks=[0, 1], ylim=(-0.05, 1.05))
    axes.set_yticklabels(["low", "high"])
    axes.grid(axis="y", visible=False)
    figure.colorbar(mpl.cm.ScalarMappable(scale, map_), ax=axes, label="AP", pad=0.01)


@chart
def front(figure: Figure, points: Sequence[tuple[int, float, float, bool]], *, cost: str) -> None:
    """AP against a cost: (trial, cost, AP, feasible); the line joins what nothing else beats."""
    axes = figure.subplots()
    for feasible, colour, label in ((True, BLUE, "feasible"), (False, GREY, "over a limit")):
        own = [(x, y) for _, x, y, ok in points if ok == feasible]
        if own:
            axes.plot(*zip(*own, strict=True), "o", ms=5, color=colour, alpha=0.7, label=label)
    best = pareto([(x, y) for _, x, y, ok in points if ok])
    if best:
        axes.step(*zip(*best, strict=True), where="post", color=RED, lw=1.4, label="front")
    for number, x, y, ok in points:
        if ok and (x, y) in best:
            axes.annotate(f" {number}", (x, y), fontsize=8)
    axes.set(xlabel=cost, ylabel="AP")
    legend(axes)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, AP) that no other beats in both, by rising cost."""
    found: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or value > found[-1][1]:
            found.append((cost, value))
    return found


@chart
def comparison(figure: Figure, found: Any, own: Any, *, margin: float) -> None:
    """Test AP of challenger and champion with their bounds; the differences of drawn images.

    found: a gate.Comparison, or nothing where `own`, a gate.Estimate, stands alone.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    rows = [("challenger", own, BLUE)]
    rows += [("champion", found.champion, GREY)] if found else []
    for place, (_, one, colour) in enumerate(rows[::-1]):
        spread = [[one.value - one.low], [one.high - one.value]]
        left.errorbar([one.value], [place], xerr=spread, fmt="o", color=colour, capsize=4)
    left.set(xlabel="test AP", yticks=range(len(rows)), ylim=(-0.6, len(rows) - 0.4))
    left.set_yticklabels([name for name, _, _ in rows[::-1]])
    if not found:
        right.set_visible(False)
        return
    right.hist(found.drawn, bins=40, color=BLUE, alpha=0.35)
    right.axvline(found.difference.value, color=BLUE, label="difference")
    right.axvline(found.difference.low, color=RED, ls="--", label="its lower bound")
    right.axvline(margin, color=INK, lw=1, label="the gate's margin")
    right.set(xlabel="difference in test AP on drawn images", yticks=[])
    right.legend(fontsize=8, loc="upper left", framealpha=0.95)
