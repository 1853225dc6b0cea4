"""What a search finds, told without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """Token ids without <s> and </s>, the score they were ranked by, and whether </s> was reached."""

    tokens: list[int]
    score: float
    finished: bool


Captioned = tuple[str, Caption]  # a caption as text, and its tokens and score


def to_caption(tokens: list[int], score: float, end_id: int) -> Caption:
    """Tokens after <s> -> Caption, cut at the first </s>."""
    finished = end_id in tokens
    return Caption(tokens[: tokens.index(end_id)] if finished else tokens, score, finished)
