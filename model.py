"""ImageToTextModel: a vision encoder, a projection, and our own pre-norm Transformer decoder.

Shapes: U images, B captions (several may belong to one image), S image tokens, E encoder width, T caption tokens,
C decoder width, H heads, D = C / H head width, V vocabulary.

One path serves training and decoding: `start()` computes the cross-attention keys and values once an image, `decode()`
reads new tokens and extends the cache. Training is `start()` and `teach()` of whole captions.
Decoder as in Vaswani et al. 2017 (arXiv 1706.03762), with norms first (Xiong et al. 2020, arXiv 2002.04745) and the
output tied to the token embeddings (Press & Wolf 2017, arXiv 1608.05859).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Cache:
    """Keys and values of each decoder layer; `length` caption tokens have been read.

    cross is (U, H, S, D), once an image, own (B, H, T, D); the B / U captions of an image lie side by side.
    """

    cross: list[tuple[Tensor, Tensor]]
    own: list[tuple[Tensor, Tensor] | None]
    length: int = 0

    def select(self, rows: Tensor, images: Tensor | None = None) -> "Cache":
        """Captions go on from the given rows (B,), each a row of the same image; images (U,) are those that stay."""
        cross = self.cross if images is None else [(keys[images], values[images]) for keys, values in self.cross]
        return Cache(cross, [kv and (kv[0][rows], kv[1][rows]) for kv in self.own], self.length)


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


class Attention(nn.Module):
    """Multi-head attention; keys and values are made apart from queries so that a cache can hold them."""

    def __init__(self, embed_dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = Dropout(dropout)
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def split(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        return x.view(B, T, self.heads, C // self.heads).transpose(1, 2)  # (B, H, T, D)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return self.split(keys), self.split(values)  # (B, H, S, D) each

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None = None) -> Tensor:
        """x (B, T, C) over keys and values (U, H, S, D): the captions of an image share them, as one long row.

        allowed: which keys a position may look at, broadcast to (U, H, B / U * T, S); None: all.
        """
        B, T, C = x.shape
        U = len(keys)
        queries = self.split(self.query(x).view(U, B // U * T, C))  # (U, H, B / U * T, D)
        if x.device.type == "cpu" and (torch.is_grad_enabled() or queries.dtype != torch.float32):
            x = self.plain(queries, keys, values, allowed)
        else:
            rate = self.dropout.rate if self.training else 0.0
            x = F.scaled_dot_product_attention(queries, keys, values, allowed, dropout_p=rate)
        return self.out(x.transpose(1, 2).reshape(B, T, C))

    def plain(self, queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """The same in matrix products: on a CPU the fused one is slower backwards, and in 16 bits altogether."""
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

    def forward(self, x: Tensor, own: tuple | None, cross: tuple, allowed: Tensor | None):
        """x (B, T, C) and the layer's cached keys and values -> (new x, extended own keys and values)."""
        normed = self.self_norm(x)
        keys, values = self.self_attention.keys_values(normed)
        if own is not None:
            keys, values = torch.cat([own[0], keys], dim=2), torch.cat([own[1], values], dim=2)
        x = x + self.dropout(self.self_attention(normed, keys, values, allowed))
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), *cross))
        x = x + self.dropout(self.feed_forward(self.ff_norm(x)))
        return x, (keys, values)


class CaptionDecoder(nn.Module):
    """Transformer decoder over caption tokens with learned positions and tied embeddings."""

    def __init__(self, vocab_size, embed_dim, heads, layers, ff_dim, max_seq_len, dropout, pad_idx):
        super().__init__()
        if embed_dim % heads:
            raise ValueError(f"decoder_embed_dim ({embed_dim}) must be a multiple of decoder_heads ({heads})")
        self.max_seq_len = max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=pad_idx)
        self.position_embedding = nn.Embedding(max_seq_len, embed_dim)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(DecoderLayer(embed_dim, heads, ff_dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> Cache:
        """Cross-attention keys and values of (U, S, C) image tokens; image_index (B,) deals them out to B captions."""
        cross = [layer.cross_attention.keys_values(image_tokens) for layer in self.layers]
        if image_index is not None:
            cross = [(keys[image_index], values[image_index]) for keys, values in cross]  # (B, H, S, D)
        return Cache(cross, [None] * len(self.layers))

    def forward(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Read tokens (B, T) after those in the cache -> logits (B, T, V) and the longer cache."""
        T = tokens.shape[1]
        assert cache.length == 0 or T == 1, f"a cache of {cache.length} tokens takes one more at a time, got {T}"
        assert cache.length + T <= self.max_seq_len, f"{cache.length + T} tokens, at most {self.max_seq_len}"
        positions = torch.arange(cache.length, cache.length + T, device=tokens.device)
        allowed = None if T == 1 else positions[:, None] >= positions  # (T, T)
        x, own = self.read(tokens, positions, cache, allowed)
        return self.logits(x), Cache(cache.cross, own, cache.length + T)

    def read(self, tokens: Tensor, positions: Tensor, cache: Cache, allowed: Tensor | None) -> tuple[Tensor, list]:
        """Tokens (B, T) at positions, broadcast to (B, T), through all layers -> (B, T, C), own keys and values."""
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))  # (B, T, C)
        own = []
        for layer, layer_own, layer_cross in zip(self.layers, cache.own, cache.cross):
            x, keys_values = layer(x, layer_own, layer_cross, allowed)
            own.append(keys_values)
        return x, own

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.token_embedding.weight)

    def teach(self, tokens: Tensor, mask: Tensor, cache: Cache) -> Tensor:
        """Whole captions (B, T) -> logits (N, V) of the N places where mask (B, T) holds, in their order.

        mask is true for the first tokens of each caption. All captions of an image are packed into one row, where each
        token sees its own caption's past: padding all but disappears, and the image's keys and values are read once.
        """
        (B, T), U = tokens.shape, len(cache.cross[0][0])
        assert T <= self.max_seq_len, f"{T} tokens, at most {self.max_seq_len}"
        lengths = mask.view(U, -1).sum(1)
        filled = torch.arange(int(lengths.max()), device=tokens.device) < lengths[:, None]  # (U, L)
        positions = torch.arange(T, device=tokens.device).expand(B, T)
        captions = torch.arange(1, B + 1, device=tokens.device)[:, None].expand(B, T)  # 0 is nobody's
        packed = [
            torch.zeros_like(filled, dtype=torch.long).masked_scatter_(filled, x[mask])
            for x in (tokens, positions, captions)
        ]
        tokens, positions, captions = packed  # (U, L) each
        same = captions[:, :, None] == captions[:, None]
        allowed = same & (positions[:, :, None] >= positions[:, None])  # (U, L, L)
        x, _ = self.read(tokens, positions, cache, allowed[:, None])
        return self.logits(x[filled])


class ImageToTextModel(nn.Module):
    """Encoder -> projection -> decoder; `decoder_architecture` holds the arguments it was made with.

    encoder is any module (U, 3, H, W) -> (U, S, encoder_embed_dim).
    """

    def __init__(
        self,
        encoder: nn.Module,
        encoder_embed_dim: int,
        *,
        decoder_vocab_size: int,
        decoder_embed_dim: int,
        decoder_heads: int,
        decoder_layers: int,
        decoder_ff_dim: int,
        decoder_max_seq_len: int,
        decoder_dropout: float,
        decoder_pad_idx: int,
    ):
        super().__init__()
        self.architecture = {
            "encoder_embed_dim": encoder_embed_dim,
            "decoder_vocab_size": decoder_vocab_size,
            "decoder_embed_dim": decoder_embed_dim,
            "decoder_heads": decoder_heads,
            "decoder_layers": decoder_layers,
            "decoder_ff_dim": decoder_ff_dim,
            "decoder_max_seq_len": decoder_max_seq_len,
            "decoder_dropout": decoder_dropout,
            "decoder_pad_idx": decoder_pad_idx,
        }
        self.encoder = encoder
        # the norm first: the scale of the last feature map differs a hundredfold between encoders
        self.projection = nn.Sequential(
            nn.LayerNorm(encoder_embed_dim), nn.Linear(encoder_embed_dim, decoder_embed_dim)
        )
        self.decoder = CaptionDecoder(
            decoder_vocab_size,
            decoder_embed_dim,
            decoder_heads,
            decoder_layers,
            decoder_ff_dim,
            decoder_max_seq_len,
            decoder_dropout,
            decoder_pad_idx,
        )
        self.training_only = nn.ModuleDict()  # what a loss trains beside the captioner; never saved as a part of it

    @property
    def device(self) -> torch.device:
        return self.decoder.token_embedding.weight.device

    @property
    def max_seq_len(self) -> int:
        """Most tokens a caption can have, <s> and </s> included."""
        return self.decoder.max_seq_len

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (U, 3, H, W), or what the encoder made of them (U, S, E), -> image tokens (U, S, C)."""
        features = self.encoder(images) if images.ndim == 4 else images.float()
        return self.projection(features)

    def start(self, image_tokens: Tensor, image_index: Tensor | None = None) -> Cache:
        """The empty cache of captions over image tokens (U, S, C); image_index (B,) names each caption's image.

        None: every image has the same number of captions, side by side.
        """
        return self.decoder.start(image_tokens, image_index)

    def decode(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return self.decoder(tokens, cache)

    def forward(
        self,
        images: Tensor,
        decoder_input_tokens: Tensor,
        image_index: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: images as in encode(), tokens (B, T), image_index as in start() -> logits (B, T, V).

        target_mask (B, T), true for the first tokens of each caption: logits only there, (N, V), which is faster.
        """
        cache = self.start(self.encode(images), image_index)
        if target_mask is None:
            return self.decode(decoder_input_tokens, cache)[0]
        return self.decoder.teach(decoder_input_tokens, target_mask, cache)

    @classmethod
    def from_pretrained(cls, path_or_repo_id: str) -> "ImageToTextModel":
        """The model of a best/ folder, a checkpoint_*.pt file or a Hub repository, in eval mode. Raises UserError."""
        from captioner.folder import load_captioner

        return load_captioner(path_or_repo_id).model
