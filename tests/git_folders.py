"""A tiny GIT in transformers' own format, for the tests of teachers."""

import torch
from transformers import BertTokenizer, CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a there is of left large small red blue circle square".split()


def make_plain(folder, dtype=torch.float32):
    """A random GIT in transformers' format."""
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32)
    config = GitConfig(
        vision_config={**vision, "patch_size": 16},
        vocab_size=len(tokenizer),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        initializer_range=0.2,
    )
    torch.manual_seed(0)
    GitForCausalLM(config).to(dtype).save_pretrained(folder)
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    GitProcessor(processor, tokenizer).save_pretrained(folder)
    return folder
