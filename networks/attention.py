"""Which attention transformers' encoders have on a CPU in 16 bits: plain matrix products, or PyTorch's fused one.

    encoder.attention = measure_attention(encoder, pixels, torch.bfloat16)     # {"AMD EPYC": "eager"}

On one CPU the one takes a third less time, on another the other, so it is measured. What was found is kept with the
captioner and in checkpoints, by processor: captions and a run that goes on are computed as before. A captioner that
comes to another processor measures there each time it is loaded.
"""

import time

import torch
from torch import Tensor

from basics.devices import autocast
from basics.timing import processor
from networks.encoder import FUSED, PLAIN, Encoder

WORTH = 0.95  # of PLAIN's time, which FUSED must not take to be chosen
LARGE = 224 * 224  # pixels that are looked at together
ROUNDS = 3  # whose fastest counts; the first is slow


@torch.no_grad()
def measure_attention(encoder: Encoder, pixels: Tensor, dtype: torch.dtype) -> dict[str, str]:
    """An encoder's, by processor: what is known already, and what is found of this one where there is a choice."""
    known = encoder.attention
    if not encoder.fused or processor() in known or pixels.device.type != "cpu" or dtype == torch.float32:
        return known
    pixels = pixels.repeat(max(1, LARGE // pixels[0, 0].numel()), 1, 1, 1)  # many where they are small, as in batches
    was_training, seconds = encoder.training, {}
    encoder.eval()  # without dropout, whose random numbers are the run's
    for name in (PLAIN, FUSED):
        encoder.attention = {processor(): name}
        seconds[name] = min(seconds_of(encoder, pixels, dtype) for _ in range(ROUNDS))
    encoder.attention = known
    encoder.train(was_training)
    return {**known, processor(): FUSED if seconds[FUSED] < WORTH * seconds[PLAIN] else PLAIN}


def seconds_of(encoder: Encoder, pixels: Tensor, dtype: torch.dtype) -> float:
    started = time.perf_counter()
    with autocast(pixels.device, dtype):
        encoder(pixels)
    return time.perf_counter() - started
