"""Our decoder: a pre-norm Transformer over caption tokens with cross-attention to the image tokens.

Shapes: U images, B captions (several may belong to one image), S image tokens, T caption tokens, C width, H heads,
D = C / H head width, V vocabulary.

`start()` computes the cross-attention keys and values once an image, `decode()` reads new tokens and extends the cache,
`teach()` reads whole captions. As in Vaswani et al. 2017 (arXiv 1706.03762), with norms first (Xiong et al. 2020, arXiv
2002.04745) and the output tied to the token embeddings (Press & Wolf 2017, arXiv 1608.05859).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basics.settings import Settings
from networks.decoder import Sizes, Vocabulary
from networks.packing import Packing
from networks.parameters import ParameterGroup, parameter_groups

KeysValues = tuple[Tensor, Tensor]
TYPICAL = 12  # tokens of a caption
Layered = tuple[Tensor, list[KeysValues]]  # what all layers make of tokens, own keys and values of each


@dataclass
class Cache:
    """Keys and values of each decoder layer; `length` caption tokens have been read.

    cross is (U, H, S, D), once an image, own (B, H, T, D); the B / U captions of an image lie side by side. Where a
    layer looks at the image tokens themselves, cross is those, (U, S, C).
    """

    cross: Sequence[KeysValues | Tensor]
    own: Sequence[KeysValues | None]
    length: int = 0

    def select(self, rows: Tensor, images: Tensor | None = None) -> "Cache":
        """Captions go on from the given rows (B,), each a row of the same image; images (U,) are those that stay."""
        chosen = Cache(self.cross, [kv and (kv[0][rows], kv[1][rows]) for kv in self.own], self.length)
        return chosen if images is None else chosen.of(images)

    @property
    def num_images(self) -> int:
        return len(self.cross[0] if isinstance(self.cross[0], Tensor) else self.cross[0][0])

    def of(self, images: Tensor) -> "Cache":
        """What is kept of these images alone (U,)."""
        if isinstance(first := self.cross[0], Tensor):
            return replace(self, cross=[first[images]] * len(self.cross))
        return replace(self, cross=[(keys[images], values[images]) for keys, values in self.cross])


class Dropout(nn.Module):
    """Dropout whose rate is rounded to 1/256, so that a random byte decides: on a CPU a seventh of a step is saved."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        dropped = min(round(256 * self.rate), 255)
        if not self.training or dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        longs = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = longs.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


class KeyValue(nn.Linear):
    """Makes keys and values of tokens; its weight is read as matrices too, so it is a class of its own."""


class Attention(nn.Module):
    """Multi-head attention; keys and values are made apart from queries so that a cache can hold them."""

    def __init__(self, embed_dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = KeyValue(embed_dim, 2 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def split(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.view(B, T, self.heads, C // self.heads).transpose(1, 2)  # (B, H, T, D)

    def keys_values(self, x: Tensor, packing: Packing | None = None) -> KeysValues:
        """(B, H, S, D) each, laid out so: a matrix product would copy them into this order each time it reads them."""
        both = self.key_value(x)
        keys, values = (packing.spread(both) if packing else both).chunk(2, dim=-1)
        return self.split(keys).contiguous(), self.split(values).contiguous()

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """x (B, T, C) over keys and values (U, H, S, D): the captions of an image share them, as one long row.

        allowed: which keys a position may look at, broadcast to (U, H, B / U * T, S); None: all. packing: x is flat.
        """
        queries = self.query(x)
        queries = self.split(packing.spread(queries) if packing else queries.view(len(keys), -1, x.shape[2]))
        if x.device.type == "cpu":
            found = self.plain(queries, keys, values, allowed)  # (U, H, B / U * T, D)
        else:
            rate = self.dropout.rate if self.training else 0.0
            found = F.scaled_dot_product_attention(queries, keys, values, allowed, dropout_p=rate)
        found = found.transpose(1, 2).flatten(2)
        return self.out(packing.collect(found) if packing else found.reshape(x.shape))

    def look_at(self, x: Tensor, tokens: Tensor) -> Tensor:
        """The same without keys and values of the image tokens (U, S, C): each query goes back through their weights.

        A key's product with a query q is that of the token with q W, W the keys' weights of its head; the softmax does
        not see the keys' bias, which is the same for all tokens. So an image is read as it is, once for all heads.
        """
        (B, T, C), U, H = x.shape, len(tokens), self.heads
        of_keys, of_values = self.key_value.weight.view(2, H, C // H, C)  # (H, D, C) each
        queries = self.query(x).view(B * T, H, C // H).transpose(0, 1)  # (H, B * T, D)
        asked = (queries @ of_keys).transpose(0, 1).reshape(U, -1, C)  # (U, B / U * T * H, C)
        scores = asked @ tokens.transpose(1, 2) * (C // H) ** -0.5
        found = scores.softmax(-1, dtype=scores.dtype) @ tokens  # (U, B / U * T * H, C)
        values = found.view(B * T, H, C).transpose(0, 1) @ of_values.transpose(1, 2)  # (H, B * T, D)
        return self.out(values.transpose(0, 1).reshape(B, T, C) + self.key_value.bias[C:])

    def plain(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """The same in matrix products: on a CPU the fused one is slower backwards, and with few queries altogether."""
        scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5
        if allowed is not None:
            scores = scores.masked_fill(~allowed, float("-inf"))
        return self.dropout(scores.softmax(-1, dtype=scores.dtype)) @ values


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the image tokens, feed-forward; each normed first and added on."""

    def __init__(self, embed_dim: int, heads: int, ff_dim: int, dropout: float):
        super().__init__()
        self.self_norm = nn.LayerNorm(embed_dim)
        self.self_attention = Attention(embed_dim, heads, dropout)
        self.cross_norm = nn.LayerNorm(embed_dim)
        self.cross_attention = Attention(embed_dim, heads, dropout)
        self.ff_norm = nn.LayerNorm(embed_dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, ff_dim), nn.GELU(), Dropout(dropout), nn.Linear(ff_dim, embed_dim)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        own: KeysValues | None,
        cross: KeysValues | Tensor,
        allowed: Tensor | None,
        packing: Packing | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """x (B, T, C) and what the layer's cache holds -> (new x, extended own keys and values)."""
        normed = self.self_norm(x)
        keys, values = self.self_attention.keys_values(normed, packing)
        if own is not None:
            keys, values = torch.cat([own[0], keys], dim=2), torch.cat([own[1], values], dim=2)
        x = x + self.dropout(self.self_attention(normed, keys, values, allowed, packing))
        x = x + self.dropout(self.cross(self.cross_norm(x), cross, packing))
        x = x + self.dropout(self.feed_forward(self.ff_norm(x)))
        return x, (keys, values)

    def cross(self, x: Tensor, cross: KeysValues | Tensor, packing: Packing | None) -> Tensor:
        if isinstance(cross, Tensor):
            return self.cross_attention.look_at(x, cross)
        return self.cross_attention(x, *cross, packing=packing)


class TransformerDecoder(nn.Module):
    """A decoder.Decoder with learned positions and tied embeddings."""

    layers: Sequence[DecoderLayer]

    def __init__(
        self,
        *,
        vocab_size: int,
        embed_dim: int,
        heads: int,
        layers: int,
        ff_dim: int,
        max_seq_len: int,
        dropout: float,
        pad_idx: int,
    ):
        super().__init__()
        if embed_dim % heads:
            raise ValueError(f"decoder_embed_dim ({embed_dim}) must be a multiple of decoder_heads ({heads})")
        self.vocab_size, self.width, self.heads, self.max_seq_len = vocab_size, embed_dim, heads, max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=pad_idx)
        self.position_embedding = nn.Embedding(max_seq_len, embed_dim)
        self.dropout = Dropout(dropout)
        stack = nn.ModuleList(DecoderLayer(embed_dim, heads, ff_dim, dropout) for _ in range(layers))
        self.layers = stack  # type: ignore[assignment]  # ModuleList's annotations do not say what it holds
        self.norm = nn.LayerNorm(embed_dim)
        self.apply(self.init_weights)

    @classmethod
    def check(cls, settings: Settings) -> None:
        """The rules of settings know all that can be wrong."""

    @staticmethod
    def vocabulary(settings: Settings) -> None:
        """Any will do."""

    def begin(self, settings: Settings, image_tokens: int, pretrained: bool) -> None:
        """All of it trains, from what is drawn."""

    @staticmethod
    def sizes(settings: Settings, vocabulary: Vocabulary) -> Sizes:
        return {
            "embed_dim": settings.DECODER_EMBED_DIM,
            "heads": settings.DECODER_HEADS,
            "layers": settings.DECODER_LAYERS,
            "ff_dim": settings.DECODER_FF_DIM,
            "dropout": settings.DECODER_DROPOUT,
        }

    @staticmethod
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> Cache:
        """The image tokens (U, S, C), or what image_index (B,) deals out of them to B captions."""
        cache = Cache([image_tokens] * len(self.layers), [None] * len(self.layers))
        return cache if image_index is None else self.with_keys(cache).of(image_index)  # (B, H, S, D)

    def with_keys(self, cache: Cache) -> Cache:
        """The same cache with cross-attention keys and values, once an image, where it has the image tokens."""
        if not isinstance(image_tokens := cache.cross[0], Tensor):
            return cache
        return replace(cache, cross=[layer.cross_attention.keys_values(image_tokens) for layer in self.layers])

    def worth_keys(self, captions: int, tokens: int) -> bool:
        """Whether keys and values of an image take less than reading its tokens as they are for so many captions.

        Keys and values cost 4 S C^2 operations a layer, looking without them (H - 1) 4 S C more a caption token, in
        products half as fast.
        """
        return 2 * captions * max(tokens, TYPICAL) * (self.heads - 1) > self.width

    def decode(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Read tokens (B, T) after those in the cache -> logits (B, T, V) and the longer cache."""
        B, T = tokens.shape
        if cache.length == 0 and (self.training or self.worth_keys(B // cache.num_images, T)):
            cache = self.with_keys(cache)
        assert cache.length == 0 or T == 1, f"a cache of {cache.length} tokens takes one more at a time, got {T}"
        assert cache.length + T <= self.max_seq_len, f"{cache.length + T} tokens, at most {self.max_seq_len}"
        positions = torch.arange(cache.length, cache.length + T, device=tokens.device)
        allowed = None if T == 1 else positions[:, None] >= positions  # (T, T)
        x, own = self.read(tokens, positions, cache, allowed)
        return self.logits(x), Cache(cache.cross, own, cache.length + T)

    def read(
        self, tokens: Tensor, positions: Tensor, cache: Cache, allowed: Tensor | None, packing: Packing | None = None
    ) -> Layered:
        """Tokens (B, T) at positions, broadcast to (B, T), through all layers -> (B, T, C), own keys and values."""
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))  # (B, T, C)
        own = []
        for layer, layer_own, layer_cross in zip(self.layers, cache.own, cache.cross):
            x, keys_values = layer(x, layer_own, layer_cross, allowed, packing)
            own.append(keys_values)
        return x, own

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.token_embedding.weight)

    def teach(self, tokens: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """Whole captions (B, T) -> logits (N, V) of the N places where mask (B, T) holds, in their order.

        mask is true for the first tokens of each caption. Products, norms and what is element by element read all
        tokens without padding; attention reads the captions of an image as one row, so its keys and values once.
        """
        cache = self.with_keys(cache)
        assert tokens.shape[1] <= self.max_seq_len, f"{tokens.shape[1]} tokens, at most {self.max_seq_len}"
        packing = Packing(mask, cache.num_images)
        x, _ = self.read(packing.flat(tokens), packing.positions, cache, packing.allowed(), packing)
        return self.logits(x[0])[: packing.count]

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups("decoder", self)

    def parts_that_run_alone(self) -> list[nn.Module]:
        """The keys and values of pictures are made before the layers run."""
        return [*(layer.cross_attention.key_value for layer in self.layers), *self.layers]
