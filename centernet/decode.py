"""Maps -> Detections: heatmap peaks, the top K of them, no threshold, then NMS."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torchvision.ops import batched_nms

from centernet.structures import Detections, Maps


def peaks(heatmap: Tensor) -> Tensor:
    """heatmap[B, C, h, w] where a cell is the maximum of its 3x3 neighbourhood, 0 elsewhere."""
    return heatmap * (heatmap == max_pool2d(heatmap, 3, stride=1, padding=1))


def top_boxes(maps: Maps, *, stride: int, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """boxes[B, K, 4] xyxy network pixels, scores[B, K], labels[B, K] of the K highest peaks."""
    classes, h, w = maps.heatmap.shape[1:]
    scores, index = (
        peaks(maps.heatmap.float().sigmoid()).flatten(1).topk(min(top_k, classes * h * w))
    )
    labels, cell = index // (h * w), index % (h * w)
    return boxes_at(maps, cell, labels, stride=stride), scores, labels


def boxes_at(maps: Maps, cell: Tensor, labels: Tensor, *, stride: int) -> Tensor:
    """boxes[B, K, 4] xyxy network pixels that cell[B, K] of the maps means for labels[B, K]."""
    w = maps.heatmap.shape[3]
    one_size = maps.size.shape[1] == 2  # for all classes
    size = pair(maps.size, cell, 0 * labels if one_size else 2 * labels).clamp(min=0)
    offset = pair(maps.offset, cell, 0 * labels)
    centre = torch.stack([cell % w, cell // w], 1) + offset
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1) * stride
    return boxes.transpose(1, 2)


def pair(planes: Tensor, cell: Tensor, plane: Tensor) -> Tensor:
    """[B, 2, K]: of planes[B, N, h, w], plane[B, K] and the next one at cell[B, K]."""
    both = plane[:, None] + torch.arange(2, device=plane.device)[:, None]
    index = both * (planes.shape[2] * planes.shape[3]) + cell[:, None]
    return planes.float().flatten(1).gather(1, index.flatten(1)).view(index.shape)


def decode(
    maps: Maps, *, stride: int = 4, top_k: int = 100, nms_iou: float = 0.6
) -> list[Detections]:
    """Detections of each image in pixels of the network input, at most K, best first."""
    found = []
    for boxes, scores, labels in zip(*top_boxes(maps, stride=stride, top_k=top_k), strict=True):
        peak = scores > 0  # fewer peaks than K: the rest of the K are cells that are none
        boxes, scores, labels = boxes[peak], scores[peak], labels[peak]
        if nms_iou < 1:
            keep = batched_nms(boxes, scores, labels, nms_iou)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        found.append(Detections(boxes, scores, labels))
    return found
