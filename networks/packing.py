"""Captions without padding between them: flat for what reads each token alone, in rows of images for attention.

    packing = Packing(mask, images)                     # mask (B, T): the first tokens of each caption
    x = embed(packing.flat(tokens))                     # (1, M, C)
    rows = packing.spread(x)                            # (U, L, C), the captions of an image side by side
    x = packing.collect(attend(rows, packing.allowed()))

U images, B captions, T tokens of the longest, L tokens of an image's captions, M tokens of all, C width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# L and M are rounded up to these: for each size that it has not met, oneDNN makes its products anew and keeps them,
# which takes time and, after hundreds of them, gigabytes
LENGTH_STEP, ROWS_STEP = 16, 256


class Move(torch.autograd.Function):
    """Rows of x by number; `back` says which rows of the result the first `count` of x's have become.

    So gradients are moved too, which is faster than to add them up; the other rows of x have none.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, back: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.count = count
        return x.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        moved = gradient.index_select(0, ctx.saved_tensors[0])
        moved[ctx.count :] = 0
        return moved, None, None, None


class Packing:
    """The tokens of all captions of U images, one after the other, and their places in a row of their image each.

    mask (B, T) is true for the first tokens of each caption. Flat they are (1, M, ...): M is rounded up, and the rows
    after the tokens are nobody's, as the places are that stay empty in (U, L, ...): no gradient comes to them.
    """

    def __init__(self, mask: Tensor, images: int):
        self.mask, self.images = mask, images
        lengths = mask.reshape(images, -1).sum(1)  # (U,)
        self.count, self.length = int(lengths.sum()), rounded_up(int(lengths.max()) or 1, LENGTH_STEP)
        numbers = torch.arange(self.count, device=mask.device)
        image = torch.repeat_interleave(lengths, output_size=self.count)  # of each token
        places = image * self.length + numbers - (lengths.cumsum(0) - lengths)[image]
        self.rows = rounded_up(self.count + 1, ROWS_STEP)
        self.places = F.pad(places, (0, self.rows - self.count))  # (M,) in U * L
        self.numbers = torch.full((images * self.length,), self.rows - 1, device=mask.device)  # of each place, in M
        self.numbers[places] = numbers
        B, T = mask.shape
        self.positions = self.flat(torch.arange(T, device=mask.device).expand(B, T))  # (1, M)

    def flat(self, x: Tensor) -> Tensor:
        """What belongs to the tokens, (B, T) -> (1, M), 0 where there are none."""
        return F.pad(x[self.mask], (0, self.rows - self.count))[None]

    def spread(self, x: Tensor) -> Tensor:
        """(1, M, C) -> (U, L, C)."""
        return Move.apply(x[0], self.numbers, self.places, self.count).view(self.images, self.length, -1)

    def collect(self, x: Tensor) -> Tensor:
        """(U, L, C) -> (1, M, C)."""
        return Move.apply(x.flatten(0, 1), self.places, self.numbers, len(self.numbers))[None]

    def allowed(self) -> Tensor:
        """(U, 1, L, L): each token sees its own caption's past."""
        captions = torch.arange(1, len(self.mask) + 1, device=self.mask.device)[:, None].expand_as(self.mask)
        captions, positions = (
            numbers[0, self.numbers].view(self.images, self.length) for numbers in (self.flat(captions), self.positions)
        )
        same = captions[:, :, None] == captions[:, None]
        return (same & (positions[:, :, None] >= positions[:, None]))[:, None]


def rounded_up(size: int, step: int) -> int:
    return -(-size // step) * step
