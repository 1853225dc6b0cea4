"""Captions from image tokens: greedy, beam search and sampling, small pure functions over a key/value cache.

    options = DecodingOptions(beam_size=3)
    captions = generate(model, image_tokens, tokenizer, options)    # (U, S, C) -> U lists of Caption, best first

model is any decoder.CaptionModel. Shapes: U images, K beams or samples an image, R = U * K rows, T tokens so far,
V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from networks.caption import Caption, to_caption
from networks.decoder import C, CaptionModel
from networks.decoding_options import DecodingOptions

NEVER = float("-inf")
LEAVE = 4  # a batch goes on without its finished images once they are one in LEAVE
Step = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
Choose = Callable[[Tensor, int, Tensor], Tensor]  # logits (R, V), t, images (A,) still there -> tokens (R,)


class Ends(Protocol):
    """What a search needs of a vocabulary: the marks around a caption."""

    @property
    def start_id(self) -> int: ...

    @property
    def end_id(self) -> int: ...


@dataclass(frozen=True)
class Search(Generic[C]):
    """What is searched, for what images (U, S, C), and how; max_seq_len is the most tokens, both ends included."""

    model: CaptionModel[C]
    image_tokens: Tensor
    start_id: int
    end_id: int
    max_seq_len: int
    options: DecodingOptions


@torch.inference_mode()
def generate(
    model: CaptionModel[C], image_tokens: Tensor, tokenizer: Ends, options: DecodingOptions
) -> list[list[Caption]]:
    """Caption image tokens (U, S, C): U lists of options.num_captions captions, best first."""
    if problems := options.problems():
        raise ValueError("; ".join(problems))
    most = min(options.max_seq_len or model.max_seq_len, model.max_seq_len)
    search = Search(model, image_tokens, tokenizer.start_id, tokenizer.end_id, most, options)
    find = sample if options.temperature > 0 else greedy if options.beam_size == 1 else beam
    tokens, scores = find(search)
    return [
        [to_caption(t, s, tokenizer.end_id) for t, s in zip(rows, row_scores)]
        for rows, row_scores in zip(tokens.tolist(), scores.tolist())
    ]


def start_steps(model: CaptionModel[C], image_tokens: Tensor) -> Step:
    """step(tokens (R, T), rows (R,), images (A,)) -> logits (R, V) of the next token.

    rows names the row each row continues and images the images that are still there, both as of the step before; None:
    as they were.
    """
    cache = model.start(image_tokens)  # once an image, whatever the number of its rows

    def step(tokens: Tensor, rows: Tensor | None, images: Tensor | None) -> Tensor:
        nonlocal cache
        if rows is not None:
            cache = cache.select(rows, images)
        logits, cache = model.decode(tokens[:, -1:], cache)
        return logits[:, -1].float()

    return step


class Results:
    """Captions of U images, N each, put in as they are done; `left` (A,) are the images that are not."""

    def __init__(self, images: int, captions: int, length: int, end_id: int, device: torch.device):
        self.tokens = torch.full((images, captions, length), end_id, device=device)
        self.scores = torch.full((images, captions), NEVER, device=device)
        self.left = torch.arange(images, device=device)

    def put(self, done: Tensor, tokens: Tensor, scores: Tensor) -> Tensor:
        """Where done (A,): tokens (A, N, T) and scores (A, N) are final -> places of the other images in (A,)."""
        self.tokens[self.left[done], :, : tokens.shape[2]] = tokens[done]
        self.scores[self.left[done]] = scores[done]
        others = (~done).nonzero()[:, 0]
        self.left = self.left[others]
        return others


def worth_leaving(done: Tensor) -> bool:
    """Whether so many of the images (A,) are done that going on without them saves more than moving the others."""
    return bool(done.sum() * LEAVE >= len(done))


def extend(tokens: Tensor, chosen: Tensor, finished: Tensor, end_id: int) -> tuple[Tensor, Tensor]:
    """Append chosen (R,) to tokens (R, T); rows that have finished get </s> again."""
    chosen = torch.where(finished, end_id, chosen)
    return torch.cat([tokens, chosen[:, None]], dim=1), finished | (chosen == end_id)


def greedy(search: Search[C]) -> tuple[Tensor, Tensor]:
    """The likeliest token each time -> tokens (U, 1, T) after <s>, mean log-probabilities (U, 1)."""
    return pick_tokens(search, 1, lambda logits, t, images: logits.argmax(-1))


def sample(search: Search[C]) -> tuple[Tensor, Tensor]:
    """num_captions samples an image, likeliest first -> tokens (U, K, T) after <s>, mean log-probabilities (U, K).

    With a seed every image meets the same random numbers, so a picture's captions do not depend on its batch.
    """
    options = search.options
    U, K, device = len(search.image_tokens), options.num_captions, search.image_tokens.device
    if options.seed is None:
        uniform = torch.rand(U * K, search.max_seq_len).view(U, K, -1)
    else:
        generator = torch.Generator().manual_seed(options.seed)
        uniform = torch.rand(K, search.max_seq_len, generator=generator).expand(U, -1, -1)
    uniform = uniform.to(device)

    def choose(logits: Tensor, t: int, images: Tensor) -> Tensor:
        likely = keep_likely(logits / options.temperature, options.top_k, options.top_p)
        return draw(likely, uniform[images, :, t].flatten())

    tokens, scores = pick_tokens(search, K, choose)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return tokens.gather(1, order[:, :, None].expand_as(tokens)), scores


def pick_tokens(search: Search[C], K: int, choose: Choose) -> tuple[Tensor, Tensor]:
    """Extend K rows an image by choose() until all have ended -> (U, K, T), (U, K)."""
    U, device, last = len(search.image_tokens), search.image_tokens.device, search.max_seq_len - 1
    step = start_steps(search.model, search.image_tokens)
    results = Results(U, K, last, search.end_id, device)
    tokens = torch.full((U * K, 1), search.start_id, device=device)
    finished = torch.zeros(U * K, dtype=torch.bool, device=device)
    total, length = torch.zeros(U * K, device=device), torch.zeros(U * K, device=device)
    rows = images = None
    for t in range(last):
        logits = step(tokens, rows, images)
        chosen = choose(logits, t, results.left)
        gained = logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        total, length = total + gained.masked_fill(finished, 0), length + ~finished
        tokens, finished = extend(tokens, chosen, finished, search.end_id)

        # images whose rows have all ended leave the batch
        done = finished.view(-1, K).all(1) | (t + 1 == last)
        rows = images = None
        if worth_leaving(done):
            images = results.put(done, tokens[:, 1:].view(len(done), K, -1), (total / length).view(-1, K))
            rows = rows_of(images, K)
            tokens, finished, total, length = (x[rows] for x in (tokens, finished, total, length))
        if len(results.left) == 0:
            break
    return results.tokens, results.scores


def rows_of(images: Tensor, K: int) -> Tensor:
    """The K rows of each image (A,), which lie side by side -> (A * K,)."""
    return (images[:, None] * K + torch.arange(K, device=images.device)).flatten()


def keep_likely(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Mask all but the k likeliest tokens, then all but the smallest set that holds top_p of the probability.

    Nucleus sampling: Holtzman et al. 2020 (arXiv 1904.09751). The likeliest token always stays. logits (R, V).
    """
    if 0 < top_k < logits.shape[-1]:
        weakest = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < weakest, NEVER)
    if top_p < 1:
        sorted_logits, order = logits.sort(dim=-1, descending=True, stable=True)
        probabilities = sorted_logits.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # the mass of likelier tokens
        beyond = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(beyond, NEVER)
    return logits


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """One token a row by inverting the cumulative distribution at uniform (R,) in [0, 1); logits (R, V) -> (R,)."""
    precise = torch.float32 if logits.device.type == "mps" else torch.float64  # mps has no doubles
    cumulative = logits.softmax(-1).to(precise).cumsum(-1)
    target = uniform.to(precise)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def beam(search: Search[C]) -> tuple[Tensor, Tensor]:
    """Batched beam search -> the num_captions best, tokens (U, N, T) after <s> and scores (U, N).

    A beam that ends moves to a pool of the K best ended ones, where only a better one can displace it; the others go
    on until no live beam can still beat the pool's worst. Beams that never end come after all that did.
    """
    options, end_id, last = search.options, search.end_id, search.max_seq_len - 1
    U, K, device = len(search.image_tokens), options.beam_size, search.image_tokens.device
    step = start_steps(search.model, search.image_tokens)
    results = Results(U, options.num_captions, last, end_id, device)
    tokens = torch.full((U, K, 1), search.start_id, device=device)
    live = torch.full((U, K), NEVER, device=device)  # log-probabilities; all beams but one wait, they are alike
    live[:, 0] = 0
    ended, ended_scores = torch.full((U, K, last), end_id, device=device), torch.full((U, K), NEVER, device=device)
    rows = images = None
    for t in range(last):
        logits = step(tokens.flatten(0, 1), rows, images)
        V = logits.shape[-1]
        log_probs = live[:, :, None] + logits.log_softmax(-1).view(-1, K, V)  # (A, K, V), the A images left

        # beams that end here join the pool
        end_scores = log_probs[:, :, end_id] / (t + 1) ** options.length_penalty
        paths = F.pad(tokens[:, :, 1:], (0, last - t), value=end_id)  # (A, K, last), </s> after the caption
        ended_scores, best = torch.cat([ended_scores, end_scores], dim=1).topk(K, dim=1)
        ended = torch.cat([ended, paths], dim=1).gather(1, best[:, :, None].expand(-1, -1, last))

        # the best continuations live on
        log_probs[:, :, end_id] = NEVER
        live, flat = log_probs.view(-1, K * V).topk(K, dim=1)
        parent, chosen = flat // V, flat % V  # (A, K)
        tokens = torch.cat([tokens.gather(1, parent[:, :, None].expand(-1, -1, t + 1)), chosen[:, :, None]], dim=2)
        rows, images = rows_of(torch.arange(len(live), device=device), K).view(-1, K).gather(1, parent), None

        # log-probabilities only fall: a live beam's score cannot rise above this
        reachable = live[:, 0] / last**options.length_penalty
        done = (ended_scores[:, -1] >= reachable) | (t + 1 == last)
        if worth_leaving(done):
            images = results.put(done, *rank(ended, ended_scores, tokens, live, end_id, options))
            rows, tokens, live, ended, ended_scores = (x[images] for x in (rows, tokens, live, ended, ended_scores))
        if len(results.left) == 0:
            break
        rows = rows.flatten()
    return results.tokens, results.scores


def rank(
    ended: Tensor, ended_scores: Tensor, tokens: Tensor, live: Tensor, end_id: int, options: DecodingOptions
) -> tuple[Tensor, Tensor]:
    """The num_captions best of an image's pool, then of the beams that never ended -> (A, N, last), (A, N)."""
    last = ended.shape[2]
    unended = F.pad(tokens[:, :, 1:], (0, last + 1 - tokens.shape[2]), value=end_id)
    scores = torch.cat([ended_scores, live / last**options.length_penalty], dim=1)  # each half best first
    group = torch.cat([2 * ended_scores.isneginf(), torch.ones_like(live)], dim=1)  # 2: places left empty in the pool
    best = group.argsort(dim=1, stable=True)[:, : options.num_captions]
    tokens = torch.cat([ended, unended], dim=1).gather(1, best[:, :, None].expand(-1, -1, last))
    return tokens, scores.gather(1, best)
