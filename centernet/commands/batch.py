"""centernet draw-batch: what the network sees while it trains."""

import argparse
import io
from itertools import islice
from pathlib import Path

import torch

from centernet import draw
from centernet import train as training
from centernet.assemble import make_loader
from centernet.checkpoint import write_bytes
from centernet.commands.given import given_config
from centernet.dataset.coco import read_training
from centernet.errors import UserError, counted


def draw_batch(options: argparse.Namespace) -> int:
    """Draw the first batch of an epoch: augmented images, boxes, target heatmaps."""
    if options.output.suffix.lower() != ".png":
        raise UserError(f"--output {options.output}: the name of a PNG file ends in .png")
    config = given_config(options, {"data.workers": 0})
    training.check(config)
    split, _ = read_training(Path(str(config.data.folder)), config.data.follow_links)
    loader, order = make_loader(config, split, torch.device("cpu"))
    order.epoch = options.epoch
    (batch,) = islice(loader, 1)
    target = training.targets(batch, config, classes=len(split.classes))
    sheet = draw.batch_sheet(
        batch.images.permute(0, 2, 3, 1).numpy(),
        batch.instances,
        target.heatmap.numpy(),
        split.classes,
        caption=f"{options.config}: batch 1 of {len(order)}, epoch {options.epoch}, "
        f"{config.data.width} x {config.data.height}, {counted(len(batch.labels), 'object')}",
    )
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_bytes(options.output, stream.getvalue())
    shown = f"{counted(len(batch.counts), 'image')}, {counted(len(batch.labels), 'object')}"
    print(f"{options.output}: {shown}")
    return 0
