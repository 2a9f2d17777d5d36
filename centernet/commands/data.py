"""centernet check-data: what is in a data folder, and what is wrong with it."""

import argparse

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from centernet.dataset import coco, images
from centernet.dataset.split import Problem, Split, check_disjoint
from centernet.errors import UserError, one_line


def check_data(options: argparse.Namespace) -> int:
    """Print every defect; exit status 2 if one of them would stop a training."""
    splits = [
        coco.inspect(options.folder, name)
        for name in coco.SPLITS
        if name != "test" or (options.folder / "test.json").exists()
    ]
    console = Console()
    console.print(data_table(splits))
    problems = [problem for split in splits for problem in split.problems]
    problems += check_disjoint(splits)
    records = [record for split in splits for record in split.records]
    for record in track(records, "decoding", console=console, transient=True):
        try:
            images.load(record.file)
        except UserError as error:
            problems.append(Problem(str(record.file), str(error).partition(": ")[2]))
    for problem in problems:
        print(f"{'fatal' if problem.fatal else 'skipped'}: {problem}")
    fatal = sum(problem.fatal for problem in problems)
    print(f"{len(problems)} defects, {fatal} of them fatal")
    return 2 if fatal else 0


def data_table(splits: list[Split]) -> Table:
    """Images, boxes of each class and fingerprint, a column for each split."""
    table = Table("", *(split.name for split in splits), box=None)
    table.add_row("images", *(str(len(split)) for split in splits))
    table.add_row("boxes", *(str(split.frequencies().sum()) for split in splits))
    for index, name in enumerate(splits[0].classes):
        counts = [split.frequencies()[index] for split in splits if len(split.classes) > index]
        table.add_row(Text(f"  {one_line(name)}"), *map(str, counts))
    table.add_row("fingerprint", *(split.fingerprint for split in splits))
    return table
