"""Every setting of the project, one constant each: edit a value here, then run `python train.py`.

For one run only: `python train.py --learning-rate 3e-4`, or a preset, `--preset flickr8k` (presets/flickr8k.yaml).
Order: the constants here < the preset < the flags. `python train.py --help` prints this list.
The annotation of a constant is its type, the comment its effect, unit and allowed values; None means off
unless the comment says otherwise. settings.py checks them all before any work starts.
"""

from typing import Literal

# --- Data ---
DATASET: Literal["shapes", "flickr8k", "flickr30k", "coco", "folder"] = "shapes"  # which prepare_*() makes the data
RAW_DIR: str | None = None  # folder of the dataset as downloaded (not for shapes); flickr30k: None downloads it
DATA_DIR: str = "data"  # prepared data goes to DATA_DIR/<DATASET>/
FLICKR30K_REPO_ID: str = "nlphuji/flickr30k"  # Hub dataset that prepare_flickr30k() downloads without RAW_DIR
VAL_FRACTION: float = 0.1  # share of images held out for validation where there is no official split, 0 to 0.5
TEST_FRACTION: float = 0.1  # share of images held out for test where there is no official split, 0 to 0.5
BAD_IMAGE_LIMIT: float = 0.01  # share of missing or unreadable images above which preparing stops, 0 to 1
SHAPES_NUM_IMAGES: int = 4000  # pictures drawn for DATASET "shapes", five captions each

# --- Tokenizer ---
TOKENIZER: Literal["bpe", "teacher"] = "bpe"  # trained on the captions, or TEACHER_MODEL_NAME's own vocabulary
VOCAB_PATH: str = "{data}/vocab.json"  # BPE vocabulary, trained when absent; {data} is DATA_DIR/<DATASET>
MERGES_PATH: str = "{data}/merges.txt"  # BPE merges, trained when absent
VOCAB_SIZE: int = 4000  # largest number of tokens when training, at least 260 (256 bytes and 4 special tokens)
MIN_FREQUENCY: int = 2  # times a pair must occur in the training captions to be merged, 1 or more
LOWERCASE: bool = True  # lower-case captions before they are cut into tokens
MAX_SEQ_LEN: int = 40  # tokens a caption may have, <s> and </s> included; longer ones are cut, </s> kept

# --- Loading ---
NUM_WORKERS: int = 0  # processes that load pictures beside the training process, 0 or more
GROUP_CAPTIONS: bool = False  # keep an image's captions in one batch, where it is encoded once; False mixes all pairs
AUGMENT: bool = False  # random crop (at least 80% of the area) and colour jitter on training pictures
AUGMENT_MIRROR: bool = False  # AUGMENT also mirrors half of them: not where captions say left and right
CACHE_FEATURES: bool = False  # a frozen encoder encodes each picture once, to DATA_DIR/<DATASET>/features/
AUGMENT_VIEWS: int = 4  # with AUGMENT and CACHE_FEATURES: encoded views of a picture, one an epoch; 1 is the picture

# --- Encoder ---
ENCODER_MODEL_NAME: str = "scratch"  # Hub id or local folder AutoModel loads (ViT, CLIP, timm, ...), or "scratch"
ENCODER_TRAINABLE: int | Literal["none", "all"] = "all"  # what is tuned: "none", the last N blocks, or "all"
ENCODER_LEARNING_RATE: float | None = None  # peak learning rate of the encoder, > 0; None: LEARNING_RATE
ENCODER_IMAGE_SIZE: int | None = None  # whole pictures squashed to this side, pixels; None: as the encoder does it
SCRATCH_IMAGE_SIZE: int = 96  # side of the picture the "scratch" ViT sees, pixels, a multiple of the patch size
SCRATCH_PATCH_SIZE: int = 16  # side of a patch of the "scratch" ViT, pixels
SCRATCH_EMBED_DIM: int = 128  # width of the "scratch" ViT, a multiple of SCRATCH_HEADS
SCRATCH_LAYERS: int = 4  # blocks of the "scratch" ViT
SCRATCH_HEADS: int = 4  # attention heads of the "scratch" ViT

# --- Decoder ---
DECODER: str = "transformer"  # which decoder of networks/decoders.py: our Transformer
DECODER_EMBED_DIM: int = 128  # width of the decoder, a multiple of DECODER_HEADS
DECODER_HEADS: int = 4  # attention heads a layer
DECODER_LAYERS: int = 2  # Transformer layers, 1 or more
DECODER_FF_DIM: int = 512  # width of the feed-forward part of a layer
DECODER_DROPOUT: float = 0.0  # dropout in the decoder, 0 up to but not including 1

# --- Training ---
TASK: str = "caption"  # what is learned, one of tasks/registry.py
LOSS: str = "cross_entropy"  # criterion of NUM_EPOCHS, one of tasks/criteria.py; DISTILL blends a teacher in
FINETUNE_FROM: str | None = None  # start from this captioner's weights and vocabulary: folder, checkpoint_*.pt, Hub id
NUM_EPOCHS: int = 4  # passes over the training pairs
BATCH_SIZE: int = 64  # image-caption pairs a forward pass
GRADIENT_ACCUMULATION_STEPS: int = 1  # forward passes summed into one optimizer step, 1 or more
LEARNING_RATE: float = 1e-3  # peak learning rate, > 0
LR_SCHEDULE: Literal["linear", "cosine", "constant"] = "linear"  # what follows the warm-up
WARMUP_STEPS: int = 100  # optimizer steps of linear warm-up, 0 for none
WEIGHT_DECAY: float = 0.01  # AdamW weight decay on matrices (not on biases, norms and embeddings)
ADAM_BETA2: float = 0.98  # AdamW second-moment decay, above 0 and below 1
GRADIENT_CLIP_NORM: float | None = 1.0  # largest gradient norm, > 0
EMA_DECAY: float | None = None  # moving average of the weights that is validated and saved, 0.99 to 0.9999; None: off
LABEL_SMOOTHING: float = 0.0  # share of the target spread over the vocabulary, 0 up to but not including 1
PRECISION: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # autocast; auto: 16 bits on cuda and mps, fp32 on cpu
DEVICE: str | None = None  # "cpu", "cuda", "cuda:1", "mps"; None takes the best there is
SEED: int = 42  # seeds weights, order, dropout, augmentation, drawn pictures; hashed splits when first prepared

# --- Self-critical training, after NUM_EPOCHS of cross-entropy ---
SCST_EPOCHS: int = 0  # passes over the pictures that reward sampled captions by their CIDEr-D, 0 for none
SCST_LEARNING_RATE: float = 1e-4  # learning rate at its start, falling linearly to 0
SCST_SAMPLES: int = 5  # captions tried a picture, 2 or more
SCST_SAMPLING: Literal["sample", "beam"] = "sample"  # drawn from the model's distribution, or its beam search's best
SCST_BASELINE: Literal["samples", "greedy"] = "samples"  # what a sample must beat: the other samples, or greedy

# --- Distillation, while cross-entropy is trained ---
DISTILL: Literal["teacher", "momentum"] | None = None  # learn from TEACHER_MODEL_NAME too, or the EMA_DECAY average
TEACHER_MODEL_NAME: str | None = None  # GIT, a captioner of this project, or (captions only) another; folder, Hub id
DISTILL_ALPHA: float = 0.5  # share of the teacher's predictions in the loss, the rest is cross-entropy; 0 to 1
DISTILL_TEMPERATURE: float = 1.0  # softens both predictions, > 0; 1 where the teacher has another vocabulary
DISTILL_TOP_K: int = 64  # likeliest tokens kept of a prediction, the others count as one; below the vocabulary
DISTILL_CACHE: bool = True  # predict once, of whole pictures, to DATA_DIR/<DATASET>/teacher/; False: along, on crops
DISTILL_CAPTIONS: float = 0.0  # share of training captions replaced by the teacher's best beam, 0 to 1
DISTILL_BEAMS: int = 5  # beams of those; the one with the highest CIDEr-D against the references is taken
DISTILL_FEATURES: str | None = None  # "ours=theirs": modules whose outputs are pulled together, on the crops
DISTILL_FEATURE_WEIGHT: float = 1.0  # weight of that loss, > 0

# --- Validation ---
VALIDATION_INTERVAL: int = 1  # epochs between validations, 1 or more; the last epoch is always validated
BEST_METRIC: Literal["val_loss", "cider"] = "val_loss"  # what makes an epoch the best; cider is that of the captions
EARLY_STOPPING_PATIENCE: int | None = None  # validations without a better BEST_METRIC before training stops, 1 or more
NUM_SAMPLE_CAPTIONS: int = 4  # fixed validation pictures captioned and printed at each validation, 0 for none
NUM_VALIDATION_CAPTIONS: int = 500  # pictures captioned at each validation: CIDEr-D, collapse alarm; 0 for none
CLIP_SCORE_MODEL_NAME: str | None = None  # a CLIP that evaluate.py scores captions with: Hub id or folder

# --- Checkpoints ---
CHECKPOINT_DIR: str = "checkpoints"  # a run writes to CHECKPOINT_DIR/<RUN_NAME>/
RUN_NAME: str | None = None  # folder of the run; None: the dataset, date and time
RESUME_CHECKPOINT_PATH: str | None = None  # a checkpoint_*.pt file, or "latest" (of RUN_NAME if set)
CHECKPOINT_EVERY_STEPS: int | None = 500  # optimizer steps between checkpoints within an epoch, 1 or more
KEEP_LAST_N: int = 2  # checkpoint_step_*.pt and checkpoint_epoch_*.pt files kept of each kind, 1 or more

# --- Captions (inference.py has a flag for each) ---
BEAM_SIZE: int = 1  # beams kept in beam search; 1 is greedy
LENGTH_PENALTY: float = 1.0  # a beam's score is its log-probability / length ** this; 0 prefers short captions
TEMPERATURE: float = 0.0  # 0: greedy or beam search; above: sampling, 1.0 from the model's own distribution
TOP_K: int = 0  # sampling: only the k likeliest tokens, 0 for all
TOP_P: float = 1.0  # sampling: only the likeliest tokens that hold this share of the probability, above 0 up to 1

# --- Weights & Biases, Hugging Face Hub ---
WANDB_MODE: Literal["off", "online", "offline"] = "off"  # where setup_wandb() logs
WANDB_PROJECT: str = "image-captioning"  # project the run is logged to
HUB_REPO_ID: str | None = None  # "user/name": each new best is uploaded there; needs a token (`hf auth login`)
HUB_PRIVATE: bool = True  # create HUB_REPO_ID as a private repository
