"""Settings that were given and change nothing: said before a run, as nobody gives them for nothing.

for line in without_effect(settings, {"AUGMENT_VIEWS"}): print(line)
"""

from collections.abc import Iterable

from basics.setting_rules import FROM_NOTHING, LANGUAGE_MODELS, Values

OFF_BY_DEFAULT = (  # a value of these in config.py was put there by somebody
    "TEACHER_MODEL_NAME",
    "DISTILL_CAPTIONS",
    "DISTILL_FEATURES",
    "AUGMENT_MIRROR",
    "RANDAUGMENT_OPS",
    "RANDOM_ERASING",
    "MIXUP_ALPHA",
    "CUTMIX_ALPHA",
    "ENCODER_LEARNING_RATE",
    "RAW_DIR",
    "SHARDS",
    "DECODER_MODEL_NAME",
    "PREFIX_TOKENS",
    "LORA_RANK",
    "GRADIENT_CHECKPOINTING",
)
OF_A_TEACHER = (
    "DISTILL_ALPHA DISTILL_TEMPERATURE DISTILL_TOP_K DISTILL_CACHE DISTILL_CAPTIONS DISTILL_BEAMS DISTILL_FEATURES "
    "DISTILL_FEATURE_WEIGHT DISTILL_LOSS DISTILL_BETA DISTILL_STANDARDIZE"
)
OF_CAPTIONS = (
    "TOKENIZER LOWERCASE MAX_SEQ_LEN GROUP_CAPTIONS DECODER LOSS DISTILL_TOP_K DISTILL_BEAMS NUM_VALIDATION_CAPTIONS "
    "CLIP_SCORE_MODEL_NAME BEAM_SIZE LENGTH_PENALTY TEMPERATURE TOP_K TOP_P"
)
OF_CLASSES = "MIXUP_ALPHA CUTMIX_ALPHA DISTILL_LOSS DISTILL_BETA DISTILL_STANDARDIZE"
OF_OURS = "DECODER_EMBED_DIM DECODER_HEADS DECODER_LAYERS DECODER_FF_DIM DECODER_DROPOUT"
OF_OUR_VOCABULARY = "VOCAB_PATH MERGES_PATH VOCAB_SIZE MIN_FREQUENCY"
OF_A_LANGUAGE_MODEL = (
    "PREFIX_TOKENS PROMPT DECODER_TRAINABLE DECODER_FROZEN_PRECISION GRADIENT_CHECKPOINTING LORA_RANK LORA_ALPHA "
    "LORA_MERGE LORA_TARGETS"
)
OF_SCRATCH = "SCRATCH_IMAGE_SIZE SCRATCH_PATCH_SIZE SCRATCH_EMBED_DIM SCRATCH_LAYERS SCRATCH_HEADS"


def without_effect(settings: Values, given: Iterable[str]) -> list[str]:
    """A line for the settings of `given` (by flag or preset) that the others leave without effect for one reason.

    Those whose default is off are said wherever they were switched on, and nowhere where they are off.
    """
    asked = {name for name in OFF_BY_DEFAULT if getattr(settings, name)} | {*given} - {*OFF_BY_DEFAULT}
    reasons = {name: why for unused, names, why in conditions(settings) if unused for name in names.split()}
    idle: dict[str, list[str]] = {}
    for name in sorted(asked & reasons.keys()):
        idle.setdefault(reasons[name], []).append(name)
    return [f"{', '.join(names)} {'have' if names[1:] else 'has'} no effect: {why}" for why, names in idle.items()]


def conditions(settings: Values) -> tuple[tuple[bool, str, str], ...]:
    """Whether settings do nothing as the others are, which, and why."""
    alone, scratch = settings.DISTILL is None, settings.ENCODER_MODEL_NAME in FROM_NOTHING
    classes = settings.TASK == "classify"
    drawn, borrowed = settings.DATASET == "shapes", settings.TOKENIZER == "teacher"
    ours, brought = settings.DECODER == "transformer", settings.DECODER in LANGUAGE_MODELS
    views = settings.AUGMENT and settings.CACHE_FEATURES
    average = "DISTILL momentum learns from the average of the weights"
    return (
        (alone, OF_A_TEACHER, "DISTILL is none"),
        (alone and not borrowed, "TEACHER_MODEL_NAME", "DISTILL is none"),
        (settings.DISTILL == "momentum" and not borrowed, "TEACHER_MODEL_NAME", average),
        (not settings.AUGMENT, "AUGMENT_MIRROR RANDAUGMENT_OPS RANDOM_ERASING", "AUGMENT is false"),
        (settings.DISTILL_LOSS != "decoupled", "DISTILL_BETA", f"DISTILL_LOSS is {settings.DISTILL_LOSS}"),
        (settings.DISTILL_LOSS == "hard", "DISTILL_TEMPERATURE DISTILL_STANDARDIZE", "DISTILL_LOSS is hard"),
        (classes, f"{OF_CAPTIONS} {OF_OURS} {OF_OUR_VOCABULARY} {OF_A_LANGUAGE_MODEL}", "TASK is classify"),
        (settings.TASK == "caption", OF_CLASSES, "TASK is caption"),
        (not views, "AUGMENT_VIEWS", "it goes with AUGMENT and CACHE_FEATURES, else each epoch has views of its own"),
        (not settings.SCST_EPOCHS, "SCST_LEARNING_RATE SCST_SAMPLES SCST_SAMPLING SCST_BASELINE", "SCST_EPOCHS is 0"),
        (settings.ENCODER_TRAINABLE == "none", "ENCODER_LEARNING_RATE", "ENCODER_TRAINABLE is none"),
        (
            scratch,
            "ENCODER_IMAGE_SIZE",
            f"ENCODER_MODEL_NAME is {settings.ENCODER_MODEL_NAME}, whose size is SCRATCH_IMAGE_SIZE",
        ),
        (not scratch, OF_SCRATCH, "ENCODER_MODEL_NAME is not scratch"),
        (settings.ENCODER_MODEL_NAME == "scratch-cnn", "SCRATCH_HEADS", "ENCODER_MODEL_NAME is scratch-cnn"),
        (ours, f"DECODER_MODEL_NAME {OF_A_LANGUAGE_MODEL}", "DECODER is transformer"),
        (brought, f"{OF_OURS} {OF_OUR_VOCABULARY}", f"DECODER is {settings.DECODER}, which brings its own"),
        (brought and not settings.LORA_RANK, "LORA_ALPHA LORA_MERGE LORA_TARGETS", "LORA_RANK is 0"),
        (brought and settings.LORA_RANK > 0, "DECODER_TRAINABLE", "LORA_RANK tunes adapters in the model's place"),
        (drawn, "RAW_DIR", "DATASET shapes is drawn"),
        (settings.DATASET != "webdataset", "SHARDS", "DATASET is not webdataset"),
        (not drawn, "SHAPES_NUM_IMAGES", "DATASET is not shapes"),
        (settings.HUB_REPO_ID is None, "HUB_PRIVATE", "HUB_REPO_ID is none"),
        (settings.WANDB_MODE == "off", "WANDB_PROJECT", "WANDB_MODE is off"),
    )
