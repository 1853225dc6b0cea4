"""Losses between the features of a student and a teacher whose widths, grids and families may differ.

    criterion = FeatureLoss(student_width=24, teacher_width=768)  # its projector is trained with the student
    loss = criterion(student_features, teacher_features)          # maps or tokens, as taps.Tap gives them -> ()

Shapes: U images, S tokens of a ViT, C channels, (h, w) the grid of positions. Maps are (U, C, h, w), tokens (U, S, C).
Only positions are compared: CLS and register tokens are dropped.
"""

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINDS = ("cosine", "attention")
LEADING = (0, 1, 2, 5)  # CLS, CLS and a distillation token, CLS and four registers (arXiv 2309.16588)
DEAD = 1e-2  # a normed token has length sqrt(C); one far below has no direction, only a huge gradient


class FeatureLoss(nn.Module):
    """How far a student's features are from its teacher's, position by position: a scalar in float32, 0 where equal.

    kind "cosine": the student's channels go through a linear projector to the teacher's width (FitNets, Romero et al.
    2014, arXiv 1412.6550); then 1 - cosine of both after LayerNorm without weights, meaned over positions, so that
    one weight suits any layer. A channel that is huge everywhere, as some ViTs have them, hides the others: tap such a
    teacher after its final norm.
    kind "attention": attention_transfer(), which needs no projector and no equal widths.
    project=False leaves the projector out where both widths are the same. The teacher gets no gradient.
    """

    def __init__(self, student_width: int, teacher_width: int, kind: str = "cosine", project: bool = True):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
        if kind == "cosine" and not project and student_width != teacher_width:
            raise ValueError(f"widths {student_width} and {teacher_width} differ: the student needs project=True")
        self.kind = kind
        self.widths = (student_width, teacher_width)
        projected = kind == "cosine" and project
        self.projector = nn.Linear(student_width, teacher_width) if projected else nn.Identity()

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """Maps (U, C, h, w) or tokens (U, S, C), of widths, grids and precisions of their own -> ()."""
        if self.kind == "attention":
            return attention_transfer(student_features, teacher_features)
        with torch.autocast(student_features.device.type, enabled=False):
            student, teacher = paired_grids(student_features, teacher_features)
            if (student.shape[1], teacher.shape[1]) != self.widths:
                found = f"{student.shape[1]} and {teacher.shape[1]}"
                raise ValueError(f"student and teacher have {found} channels, expected {self.widths} in (U, C, h, w)")
            student = resize(student, teacher.shape[2:])
            return cosine_distance(self.projector(rows(student)), rows(teacher))


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of (..., C) after LayerNorm without weights: 1 - correlation of the channels, in [0, 2], meaned."""
    student, teacher = (F.layer_norm(x, x.shape[-1:]) for x in (student, teacher))
    return 1 - F.cosine_similarity(student, teacher, dim=-1, eps=DEAD).mean()


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Where the energy of the features lies (Zagoruyko & Komodakis 2017, arXiv 1612.03928): any widths, no parameters.

    Maps (U, C, h, w) or tokens (U, S, C) -> (). Each image's map of mean squares over channels is scaled to length 1;
    squared distance between the two, in [0, 2], meaned over images. The authors' code divides it by h * w as well,
    which would make the weight of the loss depend on the grid.
    """
    with torch.autocast(student.device.type, enabled=False):
        student, teacher = (x.square().mean(1, keepdim=True) for x in paired_grids(student, teacher))  # (U, 1, h, w)
        student = resize(student, teacher.shape[2:])
        student, teacher = (F.normalize(x.flatten(1)) for x in (student, teacher))  # (U, h * w)
        return (student - teacher).square().sum(1).mean()


def paired_grids(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as grids in float32, the teacher cut off from its graph."""
    if len(student) != len(teacher):
        raise ValueError(f"features of {len(student)} images for the student, {len(teacher)} for the teacher")
    return as_grid(student).float(), as_grid(teacher.detach()).float()


def as_grid(features: Tensor, leading: int | None = None) -> Tensor:
    """Map (U, C, h, w) as it is, or ViT tokens (U, S, C), row by row -> grid (U, C, h, w) of its positions alone.

    leading: how many tokens before the positions (CLS, registers) to drop; None: the fewest of LEADING that leave a
    square. Give the number where that may be wrong: 9 tokens are 3 x 3, or CLS and four registers before 2 x 2.
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise ValueError(f"features are {tuple(features.shape)}; expected (U, C, h, w) or (U, S, C)")
    S = features.shape[1]
    leading = count_leading(S) if leading is None else leading
    side = isqrt(max(0, S - leading))
    if side == 0 or side**2 != S - leading:
        raise ValueError(f"{S} tokens less {leading} leading ones are no square grid; pass a map (U, C, h, w)")
    return features[:, leading:].transpose(1, 2).unflatten(2, (side, side))


def count_leading(S: int) -> int:
    """The fewest tokens before a square grid of S in all."""
    for leading in LEADING:
        if S > leading and isqrt(S - leading) ** 2 == S - leading:
            return leading
    raise ValueError(f"{S} tokens are no square grid after 0, 1, 2 or 5 leading ones; pass a map (U, C, h, w)")


def rows(grid: Tensor) -> Tensor:
    return grid.flatten(2).transpose(1, 2)  # (U, h * w, C)


def resize(grid: Tensor, size: tuple[int, int]) -> Tensor:
    if grid.shape[2:] == size:
        return grid
    return F.interpolate(grid, tuple(size), mode="bilinear", antialias=True)
