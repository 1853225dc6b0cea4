"""Settings that were given and change nothing: said before a run, as nobody gives them for nothing.

for line in without_effect(settings, {"AUGMENT_VIEWS"}): print(line)
"""

from collections.abc import Iterable

from basics.setting_rules import Values

ALONE = "DISTILL is none"


def without_effect(settings: Values, given: Iterable[str]) -> list[str]:
    """A line for each setting of `given` (by flag or preset) that the others leave without effect, and why.

    Of config.py those are known whose default is off.
    """
    switched_on = {
        name
        for name in (
            "TEACHER_MODEL_NAME",
            "DISTILL_CAPTIONS",
            "DISTILL_FEATURES",
            "AUGMENT_MIRROR",
            "ENCODER_LEARNING_RATE",
            "RAW_DIR",
        )
        if getattr(settings, name)
    }
    reasons = {name: reason for names, reason in idle(settings) for name in names}
    return [f"{name} has no effect: {reasons[name]}" for name in sorted({*given} | switched_on) if name in reasons]


def idle(settings: Values) -> list[tuple[tuple[str, ...], str]]:
    """Settings that do nothing as the others are, and why."""
    found: list[tuple[tuple[str, ...], str]] = []
    if settings.DISTILL is None:
        found.append(
            (
                (
                    "DISTILL_ALPHA",
                    "DISTILL_TEMPERATURE",
                    "DISTILL_TOP_K",
                    "DISTILL_CACHE",
                    "DISTILL_CAPTIONS",
                    "DISTILL_BEAMS",
                    "DISTILL_FEATURES",
                    "DISTILL_FEATURE_WEIGHT",
                ),
                ALONE,
            )
        )
        if settings.TOKENIZER != "teacher":
            found.append((("TEACHER_MODEL_NAME",), ALONE))
    if settings.DISTILL == "momentum" and settings.TOKENIZER != "teacher":
        found.append((("TEACHER_MODEL_NAME",), "DISTILL momentum learns from the average of the weights"))
    if not settings.AUGMENT:
        found.append((("AUGMENT_MIRROR",), "AUGMENT is false"))
    if not (settings.AUGMENT and settings.CACHE_FEATURES):
        found.append(
            (("AUGMENT_VIEWS",), "it goes with AUGMENT and CACHE_FEATURES, else each epoch has views of its own")
        )
    if not settings.SCST_EPOCHS:
        found.append((("SCST_LEARNING_RATE", "SCST_SAMPLES", "SCST_SAMPLING", "SCST_BASELINE"), "SCST_EPOCHS is 0"))
    if settings.ENCODER_TRAINABLE == "none":
        found.append((("ENCODER_LEARNING_RATE",), "ENCODER_TRAINABLE is none"))
    if settings.ENCODER_MODEL_NAME == "scratch":
        found.append((("ENCODER_IMAGE_SIZE",), "ENCODER_MODEL_NAME is scratch, whose size is SCRATCH_IMAGE_SIZE"))
    else:
        found.append(
            (
                ("SCRATCH_IMAGE_SIZE", "SCRATCH_PATCH_SIZE", "SCRATCH_EMBED_DIM", "SCRATCH_LAYERS", "SCRATCH_HEADS"),
                "ENCODER_MODEL_NAME is not scratch",
            )
        )
    if settings.DATASET == "shapes":
        found.append((("RAW_DIR",), "DATASET shapes is drawn"))
    else:
        found.append((("SHAPES_NUM_IMAGES",), "DATASET is not shapes"))
    if settings.HUB_REPO_ID is None:
        found.append((("HUB_PRIVATE",), "HUB_REPO_ID is none"))
    if settings.WANDB_MODE == "off":
        found.append((("WANDB_PROJECT",), "WANDB_MODE is off"))
    return found
