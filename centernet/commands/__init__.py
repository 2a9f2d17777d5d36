"""What the commands of cli.py do; imported only once one of them runs."""

from centernet.commands.batch import draw_batch
from centernet.commands.configuration import config
from centernet.commands.conversion import convert
from centernet.commands.data import check_data
from centernet.commands.evaluation import evaluate
from centernet.commands.exporting import export
from centernet.commands.prediction import predict
from centernet.commands.training import overfit, train

__all__ = [
    "check_data",
    "config",
    "convert",
    "draw_batch",
    "evaluate",
    "export",
    "overfit",
    "predict",
    "train",
]
