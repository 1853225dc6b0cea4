"""How captions are chosen, as numbers that can be checked before torch is imported.

options = DecodingOptions(beam_size=3)
options.problems()                      # [] or what is wrong with them, a line each
DecodingFlags(beam=5).over(options)     # what flags say, and else what a captioner's own options do
"""

from dataclasses import dataclass
from math import inf
from typing import TypeVar

T = TypeVar("T")
MOST_AT_ONCE = 1000  # beams or captions of a picture
LARGEST_SEED = 2**63 - 1  # that PyTorch takes


@dataclass(frozen=True)
class DecodingOptions:
    """How captions are chosen; temperature 0 is greedy (beam_size 1) or beam search, above it sampling."""

    max_seq_len: int | None = None  # tokens with <s> and </s>; None: as many as the model reads, and never more
    beam_size: int = 1
    num_captions: int = 1  # captions an image
    length_penalty: float = 1.0  # score = log-probability / length ** length_penalty
    temperature: float = 0.0
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0
    seed: int | None = None  # None: different samples each time

    @property
    def in_words(self) -> str:
        if self.temperature > 0:
            return f"sampling at temperature {self.temperature:g}"
        if self.beam_size > 1:
            return f"beam search with {self.beam_size} beams, length penalty {self.length_penalty:g}"
        return "greedy decoding"

    def problems(self) -> list[str]:
        problems = []
        if not 0 <= self.temperature < inf:
            problems.append(f"temperature must be 0 or above, got {self.temperature}")
        if self.temperature > 0 and self.beam_size > 1:
            problems.append("sampling (temperature above 0) and beam search (beam above 1) exclude each other")
        if self.temperature == 0 and self.num_captions > self.beam_size:
            problems.append(
                f"{self.num_captions} captions need a beam of at least {self.num_captions} or a temperature above 0"
            )
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            problems.append(f"top-p must be above 0 and at most 1, top-k 0 or more, got {self.top_p} and {self.top_k}")
        if not 0 <= self.length_penalty < inf:
            problems.append(f"length penalty must be 0 or above, got {self.length_penalty}")
        if not (1 <= self.beam_size <= MOST_AT_ONCE and 1 <= self.num_captions <= MOST_AT_ONCE):
            problems.append(f"beam and number of captions must be 1 to {MOST_AT_ONCE:,}")
        if self.seed is not None and not 0 <= self.seed <= LARGEST_SEED:
            problems.append(f"the seed must be 0 to {LARGEST_SEED:,}, got {self.seed}")
        return problems


@dataclass(frozen=True)
class DecodingFlags:
    """How captions are to be chosen as far as somebody says; None: as the captioner's own settings do."""

    beam: int | None = None
    length_penalty: float | None = None
    num_captions: int = 1
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def over(self, own: DecodingOptions) -> DecodingOptions:
        """What is said, else the captioner's own; where the two exclude each other, its own gives way."""
        beams_are_said = self.beam is not None and self.beam > 1
        temperature = said(self.temperature, 0.0 if beams_are_said else own.temperature)
        most_beams = 1 if temperature > 0 else max(own.beam_size, self.num_captions)
        return DecodingOptions(
            max_seq_len=own.max_seq_len,
            beam_size=said(self.beam, most_beams),
            num_captions=self.num_captions,
            length_penalty=said(self.length_penalty, own.length_penalty),
            temperature=temperature,
            top_k=said(self.top_k, own.top_k),
            top_p=said(self.top_p, own.top_p),
            seed=self.seed,
        )


def said(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
