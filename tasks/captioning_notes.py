"""What a run of captioning says before it begins, beside what preparing its data says."""

from basics.settings import Settings
from model import ImageToTextModel
from networks.encoder import ImageProcessor, token_shape
from networks.language_tokenizer import LanguageTokenizer
from scoring.collapse import too_few
from tokenizer import Tokenizer


def with_epochs(settings: Settings, pictures: int) -> Settings:
    """NUM_EPOCHS "auto" as a number, which is said: few pictures must be seen more often.

    Between what was measured, 40 for 150 pictures and 14 for 6,000, a power of their number.
    """
    if settings.NUM_EPOCHS != "auto":
        return settings
    epochs = max(4, min(60, round(40 * (150 / pictures) ** 0.285)))
    print(f"epochs       {epochs} for {pictures:,} training pictures (NUM_EPOCHS auto)")
    return settings.replace(NUM_EPOCHS=epochs)


def say_long_warm_up(settings: Settings, steps: int) -> None:
    """A rate that is never reached is no mistake of a short try, but it explains what comes out."""
    if settings.WARMUP_STEPS >= max(1, steps):
        print(
            f"note         WARMUP_STEPS {settings.WARMUP_STEPS} is the whole run of {steps:,} steps: LEARNING_RATE is "
            "never reached; a share will do, --warmup-steps 0.1"
        )


def say_validation(settings: Settings, pictures: int) -> None:
    """What the lines after each epoch are about, once."""
    if captioned := min(settings.NUM_VALIDATION_CAPTIONS, pictures):
        few = too_few(captioned)
        print(
            f"validation   {captioned:,} of {pictures:,} pictures are captioned after each epoch, greedily"
            f"{few and f', {few}'}; docs/evaluation.md explains the measures"
        )


def print_model(
    model: ImageToTextModel, image_processor: ImageProcessor, tokenizer: Tokenizer, settings: Settings
) -> None:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - trained
    taken = settings.TEACHER_MODEL_NAME if settings.TOKENIZER == "teacher" else None
    brought = settings.DECODER_MODEL_NAME if isinstance(tokenizer, LanguageTokenizer) else None
    source = settings.FINETUNE_FROM or taken or brought or settings.vocab_path
    print(f"tokenizer    {len(tokenizer):,} tokens, {source} (hash {tokenizer.hash})")
    print(
        f"model        {trained:,} parameters trained, {frozen:,} frozen; encoder {settings.ENCODER_MODEL_NAME}, "
        f"{token_shape(model.encoder, image_processor)[0]} image tokens"
    )
