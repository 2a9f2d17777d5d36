"""The charts of an evaluation: numbers -> PNG bytes. Knows nothing of detectors or files."""

import io
import warnings
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from centernet.breakdown import KINDS, Breakdown
from centernet.evaluate import RECALLS, Accumulated, mean
from centernet.style import BLUE, INK, STYLE

NAMED = 10  # classes that a legend can hold, and the colours that can be told apart
LEGIBLE = 30  # classes whose counts can be read in a matrix
LONGEST = 24  # characters of a class name


def precision_recall(found: Accumulated, classes: Sequence[str]) -> bytes:
    """Precision over recall at IoU 0.5, a curve for each class; its area is the class's AP50."""
    curves = found.precision[0, :, :, 0, -1]
    known = [index for index in range(len(classes)) if mean(curves[:, index]) > -1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(visible=True)
        colours = mpl.colormaps["tab10"].resampled(10)
        for place, index in enumerate(known):
            area = 100 * mean(curves[:, index])
            name = f"{label(classes[index])}  {area:.1f}"
            named = len(known) <= NAMED
            axes.plot(
                RECALLS, curves[:, index], color=colours(place % 10), lw=1.6 if named else 0.6,
                label=name if named else None,
            )  # fmt: skip
        if known:
            middle = curves[:, known].mean(1)
            axes.plot(RECALLS, middle, color=INK, lw=2.6, label=f"mean  {100 * middle.mean():.1f}")
            figure.legend(loc="outside right upper", title="AP50")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision (IoU 0.5)")
        return png(figure)


def confusion_matrix(
    counts: NDArray[np.int64], classes: Sequence[str], *, score: float, iou: float
) -> bytes:
    """counts[C + 1, C + 1] as `confusion` gives them; colour: the share of a row."""
    names = [*map(label, classes), "background"]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(len(names) * 0.55 + 2.2, 4.6), 16)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(side, side * 0.92), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=f"detected (score >= {score:g})", ylabel=f"true (IoU >= {iou:g})")
        if len(names) > LEGIBLE:
            axes.tick_params(labelsize=max(200 / len(names), 3))
        else:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    tint = "white" if share[row, column] > 0.5 else INK
                    axes.text(column, row, str(count), ha="center", va="center", color=tint)
        return png(figure)


def error_breakdown(found: Breakdown) -> bytes:
    """By how much AP50 would rise if all errors of a kind were mended, and how many there are."""
    kinds = list(reversed(KINDS))
    values = [found.dap[kind] for kind in kinds]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.barh(kinds, values, color=BLUE, height=0.62)
        texts = [
            f"+{value:.1f}  ({found.errors[kind]})"
            for kind, value in zip(kinds, values, strict=True)
        ]
        axes.bar_label(bars, texts, padding=4)
        axes.set_xlim(0, max(*values, 1.0) * 1.25)
        axes.grid(visible=True, axis="x")
        axes.set_xlabel(
            f"points of AP50 ({found.ap50:.1f}) that mending them would add; "
            f"in brackets: errors scoring >= {found.score:g}"
        )
        return png(figure)


def label(name: str) -> str:
    """A class name that fits, and is no formula."""
    short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a script that the font lacks shows as boxes
        figure.savefig(stream, format="png", dpi=130, facecolor="white")
    return stream.getvalue()
