"""The look of every chart and table: colours, what matplotlib is told, how wide a screen is."""

from typing import Any

from rich.console import Console

BLUE, AMBER, GREEN, RED = "#2563eb", "#d97706", "#059669", "#dc2626"
INK, GREY, FAINT = "#1f2937", "#9ca3af", "#e5e7eb"
STYLE: Any = {  # matplotlib types its keys one by one
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
WIDE = 200  # characters


def console() -> Console:
    """Where tables are printed: as wide as a terminal; wide enough for them in a file or a pipe."""
    usual = Console()
    return usual if usual.is_terminal else Console(width=WIDE)
