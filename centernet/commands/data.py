"""centernet check-data: what is in a data folder, and what is wrong with it."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from centernet import style
from centernet.checkpoint import write_bytes
from centernet.dataset import coco, formats, images
from centernet.dataset.card import SEARCHED, STRIDES
from centernet.dataset.source import Links
from centernet.dataset.split import Problem, Split, check_disjoint, passed_over
from centernet.errors import UserError, counted, one_line
from centernet.presets import load

PAIRS = 5  # near-duplicates that are printed; the JSON has more


def check_data(options: argparse.Namespace) -> int:
    """Print the data card and every defect; exit status 2 if one of them would stop a training."""
    from centernet.card import data_card  # late: matplotlib takes a second

    seen = network(options)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)  # now: it may not be allowed
    kind = formats.detect(options.folder)
    links = options.follow_links or load(options.config).data.follow_links
    splits, problems = read(options.folder, links)
    console = style.console()
    problems += defects(splits, console)
    card, picture = data_card(splits, problems, **seen)
    card = {"folder": str(options.folder), "format": kind, **card}
    console.print(data_table(splits))
    for line in lines(card):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    for problem in problems:
        print(f"{problem.kind}: {problem}")
    notes = [one for one in problems if one.note]
    more = f", and {passed_over(notes)}" if notes else ""
    fatal, count = sum(one.fatal for one in problems), len(problems) - len(notes)
    print(f"{counted(count, 'defect')}, {fatal} of them fatal{more}")
    if options.output:
        keep(card, picture, options.output)
    return 2 if fatal else 0


def network(options: argparse.Namespace) -> dict[str, Any]:
    """The network's input and stride: of the config, where no option says otherwise."""
    names = {"data.height": options.height, "data.width": options.width}
    given = {name: value for name, value in names.items() if value is not None}
    config = load(options.config, given)
    return {
        "height": config.data.height,
        "width": config.data.width,
        "letterbox": config.data.resize == "letterbox",
        "stride": config.model.stride,
    }


def read(folder: Path, links: Links) -> tuple[list[Split], list[Problem]]:
    """The splits that can be read, and why others cannot; UserError where train cannot."""
    train, *others = formats.splits(folder)
    splits, problems = [coco.inspect(folder, train, links)], []
    for name in others:
        try:
            splits.append(coco.inspect(folder, name, links))
        except UserError as error:
            place, _, rule = str(error).partition(": ")
            problems.append(Problem(place, rule))
    return splits, problems


def defects(splits: list[Split], console: Console) -> list[Problem]:
    """What reading found, what splits share, and images that do not decode."""
    problems = [problem for split in splits for problem in split.problems]
    problems += check_disjoint(splits)
    records = [(split, record) for split in splits for record in split.records]
    for split, record in track(records, "decoding", console=console, transient=True):
        try:
            images.load(record.file)
        except UserError as error:
            reason = str(error).removeprefix(f"{record.file}: ")
            problems.append(Problem(split.place(record), reason))
    return problems


def data_table(splits: list[Split]) -> Table:
    """Images, boxes of each class and fingerprint, a column for each split."""
    table = Table("", *(split.name for split in splits), box=None)
    table.add_row("images", *(str(len(split)) for split in splits))
    empty = [sum(not len(record.labels) for record in split.records) for split in splits]
    table.add_row("  without boxes", *map(str, empty))
    table.add_row("boxes", *(str(split.frequencies().sum()) for split in splits))
    for index, name in enumerate(splits[0].classes):
        counts = [split.frequencies()[index] for split in splits if len(split.classes) > index]
        table.add_row(Text(f"  {one_line(name)}"), *map(str, counts))
    crowds = [sum(int(record.crowd.sum()) for record in split.records) for split in splits]
    if any(crowds):
        table.add_row("crowds, not learnt", *map(str, crowds))
    table.add_row("fingerprint", *(split.fingerprint for split in splits))
    return table


def lines(card: dict[str, Any]) -> list[str]:
    """The rest of the card, in words."""
    network, boxes, lost = card["network"], card["boxes"], card["lost"]
    stride, size = network["stride"], f"{network['width']} x {network['height']}"
    first = next(iter(card["splits"].values()))
    better, pairs = card["suggested"], card["duplicates"]
    balance = "a class has no box" if card["imbalance"] is None else f"{card['imbalance']:g} to 1"
    total = boxes["count"]
    found = [
        f"format      {card['format']}; median image {first['median_width']} x "
        f"{first['median_height']}; at most {first['boxes_at_most']} boxes in an image",
        f"balance     most to least frequent class: {balance}",
        f"sizes       sqrt(w*h) at {size} ({network['resize']}), 5/25/50/75/95 %: "
        f"{numbers(boxes['side_pixels'])} px = {numbers(boxes['side_cells'])} cells of {stride} px",
        f"            narrower than a cell: {boxes['below_a_cell']} of {total}; than 4 cells: "
        f"{boxes['below_wanted']}",
        "lost        centres that share a cell with one of their class (with any):",
        *(f"            model.stride {one}: {shared(lost, str(one))}" for one in STRIDES),
        f"suggested   {better['width']} x {better['height']}: {better['rule']}",
    ]
    twice = {name: one["boxes_given_twice"] for name, one in card["splits"].items()}
    if any(twice.values()):
        found.append(
            "repeated    boxes given twice: " + ", ".join(f"{k} {v}" for k, v in twice.items())
        )
    if not pairs["searched"]:
        return [*found, f"duplicates  not searched among more than {SEARCHED} images"]
    found.append(
        f"duplicates  near-duplicate pairs: {pairs['within']} within a split, "
        f"{pairs['across']} across splits (at most {pairs['bits']} of 256 bits differ)"
    )
    for pair in pairs["pairs"][:PAIRS]:
        left, right = (f"{one['split']} {one['id']} ({one['file']})" for one in pair["images"])
        mirrored = ", mirrored" if pair["mirrored"] else ""
        said = one_line(f"{left} and {right}: {pair['bits']} bits{mirrored}")
        found.append(f"            {said}")
    return found


def shared(lost: dict[str, Any], stride: str) -> str:
    """Lost objects of each split at a stride, short."""
    at = {name: one[stride] for name, one in lost.items()}
    return ", ".join(f"{name} {one['of_class']} ({one['of_any']})" for name, one in at.items())


def numbers(values: list[float | None]) -> str:
    """Quantiles, short."""
    return "/".join("-" if value is None else f"{value:.3g}" for value in values)


def keep(card: dict[str, Any], picture: bytes, folder: Path) -> None:
    """Write the card as JSON and as a picture."""
    write_bytes(folder / "card.json", json.dumps(card, indent=1).encode())
    write_bytes(folder / "card.png", picture)
    print(f"{folder / 'card.json'}, {folder / 'card.png'}")
