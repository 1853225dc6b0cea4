"""Every setting of the project, one constant each: edit a value here, then run `python train.py`.

For one run only: `python train.py --learning-rate 3e-4`, or a preset, `--preset flickr8k` (presets/flickr8k.yaml).
Order: the constants here < the preset < the flags. `python train.py --help` prints this list.
The comment of a constant is its effect, unit and allowed values; None means off unless the comment says otherwise. All
of them are checked before any work starts, against basics/setting_schema.py.
"""

# --- Data ---
DATASET = "shapes"  # drawn; "folder": own; "webdataset"; captions flickr8k, flickr30k, coco; classes cifar10, cifar100
RAW_DIR = None  # folder of the dataset as downloaded (not for shapes); flickr30k, cifar10, cifar100: None downloads it
SHARDS = None  # of DATASET webdataset: a folder, .tar files, train-{000000..000009}.tar, http URLs; several with ::
DATA_DIR = "data"  # prepared data goes to DATA_DIR/<DATASET>/, of TASK classify to DATA_DIR/<DATASET>-classify/
FLICKR30K_REPO_ID = "nlphuji/flickr30k"  # Hub dataset that is downloaded without RAW_DIR
VAL_FRACTION = 0.1  # share of images held out for validation where there is no official split, 0 to 0.5
TEST_FRACTION = 0.1  # share of images held out for test where there is no official split, 0 to 0.5
BAD_IMAGE_LIMIT = 0.01  # share of missing or unreadable images above which preparing stops, 0 to 1
MAX_IMAGE_MEGAPIXELS = 178.0  # larger pictures count as unreadable, WebP from half of it on; JPEG is decoded smaller
SHAPES_NUM_IMAGES = 4000  # pictures drawn for DATASET "shapes", each with five captions or a class

# --- Tokenizer ---
TOKENIZER = "bpe"  # "bpe": trained on the captions, "teacher": TEACHER_MODEL_NAME's own vocabulary
VOCAB_PATH = "{data}/vocab.json"  # BPE vocabulary, trained when absent; {data} is DATA_DIR/<DATASET>
MERGES_PATH = "{data}/merges.txt"  # BPE merges, trained when absent
VOCAB_SIZE = 4000  # largest number of tokens when training, at least 260 (256 bytes and 4 special tokens)
MIN_FREQUENCY = 2  # times a pair must occur in the training captions to be merged, 1 or more
LOWERCASE = True  # lower-case captions before they are cut into tokens
MAX_SEQ_LEN = 40  # tokens a caption may have, <s> and </s> included; longer ones are cut, </s> kept

# --- Loading ---
NUM_WORKERS = 0  # processes that load pictures beside the training process, 0 or more
GROUP_CAPTIONS = False  # keep an image's captions in one batch, where it is encoded once; False mixes all pairs
AUGMENT = False  # random crop (at least 80% of the area) and colour jitter on training pictures
RANDAUGMENT_OPS = 0  # with AUGMENT: operations of RandAugment a picture, 0 for none; they change colours and places
RANDOM_ERASING = 0.0  # with AUGMENT: share of the training pictures that lose a rectangle, 0 to 1
AUGMENT_MIRROR = False  # AUGMENT also mirrors half of them: not where captions say left and right
CACHE_FEATURES = False  # a frozen encoder encodes each picture once, to DATA_DIR/<DATASET>/features/
AUGMENT_VIEWS = 4  # with AUGMENT and CACHE_FEATURES: encoded views of a picture, one an epoch; 1 is the picture

# --- Encoder ---
ENCODER_MODEL_NAME = "scratch"  # Hub id or folder AutoModel loads (ViT, CLIP, timm, ...), "scratch" or "scratch-cnn"
ENCODER_TRAINABLE = "all"  # what is tuned: "none", the last N blocks, or "all"
ENCODER_LEARNING_RATE = None  # peak learning rate of the encoder, > 0; None: LEARNING_RATE
ENCODER_IMAGE_SIZE = None  # whole pictures squashed to this side, pixels; None: as the encoder does it
SCRATCH_IMAGE_SIZE = 96  # side of the picture the "scratch" ViT or CNN sees, pixels, a multiple of the patch size
SCRATCH_PATCH_SIZE = 16  # side of a patch of the "scratch" ViT, pixels; of a cell of the CNN's first convolution
SCRATCH_EMBED_DIM = 128  # width of the "scratch" ViT, a multiple of SCRATCH_HEADS; of the CNN's last stage
SCRATCH_LAYERS = 4  # blocks of the "scratch" ViT; stages of the CNN, each half as high and twice as wide
SCRATCH_HEADS = 4  # attention heads of the "scratch" ViT

# --- Decoder ---
DECODER = "transformer"  # ours, or a language model: "language_model", "language_model_cross" (cross-attention)
DECODER_EMBED_DIM = 128  # width of the decoder, a multiple of DECODER_HEADS
DECODER_HEADS = 4  # attention heads a layer
DECODER_LAYERS = 2  # Transformer layers, 1 or more
DECODER_FF_DIM = 512  # width of the feed-forward part of a layer
DECODER_DROPOUT = 0.0  # dropout in the decoder, 0 up to but not including 1
DECODER_MODEL_NAME = None  # Hub id or local folder of a causal language model (GPT-2, Falcon, Llama, Qwen, SmolLM, ...)
PREFIX_TOKENS = None  # image tokens before the language model's text, averaged from all; None: all
PROMPT = "a photo of"  # text between those and the caption; "" for none
DECODER_TRAINABLE = "all"  # what of the language model is tuned: "none", the last N blocks, or "all"
DECODER_FROZEN_PRECISION = "fp32"  # "bf16" keeps matrices of it that are not tuned in 16 bits; needs PRECISION bf16
GRADIENT_CHECKPOINTING = False  # less memory, more time: its blocks are computed a second time backwards
LORA_RANK = 0  # rank of low-rank adapters, which are tuned in place of the language model; 0: none
LORA_ALPHA = 16  # what they add counts LORA_ALPHA / LORA_RANK times, 1 or more
LORA_MERGE = False  # best/ has what the adapters learned in the model's own weights; best/ alone, not checkpoints
LORA_TARGETS = None  # layers that have them, "q_proj,v_proj"; None: as peft has it for the model's family

# --- Training ---
TASK = "caption"  # what is learned: "caption", "classify" (docs/classification.md), or one of tasks/registry.py
LOSS = "cross_entropy"  # criterion of NUM_EPOCHS, one of tasks/criteria.py; DISTILL blends a teacher in
FINETUNE_FROM = None  # start from this captioner's weights and vocabulary: folder, checkpoint_*.pt, Hub id
NUM_EPOCHS = 4  # passes over the training pairs; "auto": as many as so many pictures want, 40 for 150, 14 for 6,000
BATCH_SIZE = 64  # image-caption pairs a forward pass
GRADIENT_ACCUMULATION_STEPS = 1  # forward passes summed into one optimizer step, 1 or more
LEARNING_RATE = 1e-3  # peak learning rate, > 0
LR_SCHEDULE = "linear"  # what follows the warm-up: "linear", "cosine" or "constant"
WARMUP_STEPS = 100  # optimizer steps of linear warm-up, below 1 a share of all (0.05), 0 for none
WEIGHT_DECAY = 0.01  # AdamW weight decay on matrices (not on biases, norms and embeddings)
ADAM_BETA2 = 0.98  # AdamW second-moment decay, above 0 and below 1
GRADIENT_CLIP_NORM = 1.0  # largest gradient norm, > 0
EMA_DECAY = None  # moving average of the weights that is validated and saved, 0.99 to 0.9999; None: off
LABEL_SMOOTHING = 0.0  # share of the target spread over the vocabulary, 0 up to but not including 1
PRECISION = "auto"  # autocast: "fp32", "bf16", "fp16", or "auto": 16 bits on cuda and mps, fp32 on cpu
DEVICE = None  # "cpu", "cuda", "cuda:1", "mps"; None takes the best there is
PARALLEL = "ddp"  # with torchrun: "ddp", each process has the whole model, "fsdp": each a part, for large decoders
SEED = 42  # seeds weights, order, dropout, augmentation, drawn pictures; hashed splits when first prepared

# --- Classification (TASK classify), beside AUGMENT ---
MIXUP_ALPHA = 0.0  # training pictures are blended in pairs by shares from Beta(alpha, alpha), 0 for none
CUTMIX_ALPHA = 0.0  # or have a rectangle of another one, whose area comes from Beta(alpha, alpha); both: one by one

# --- Self-critical training, after NUM_EPOCHS of cross-entropy ---
SCST_EPOCHS = 0  # passes over the pictures that reward sampled captions by their CIDEr-D, 0 for none
SCST_LEARNING_RATE = 1e-4  # learning rate at its start, falling linearly to 0
SCST_SAMPLES = 5  # captions tried a picture, 2 or more
SCST_SAMPLING = "sample"  # "sample": drawn from the model's distribution, "beam": the best of its beam search
SCST_BASELINE = "samples"  # what a sample must beat: the other "samples", or the "greedy" caption

# --- Distillation, while cross-entropy is trained ---
DISTILL = None  # "teacher": learn from TEACHER_MODEL_NAME too, "momentum": from the EMA_DECAY average
TEACHER_MODEL_NAME = None  # GIT, our captioner, (captions only) another; of classes any classifier; folder, Hub id
DISTILL_ALPHA = 0.5  # share of the teacher's predictions in the loss, the rest is cross-entropy; 0 to 1
DISTILL_TEMPERATURE = 1.0  # softens both predictions, > 0; 1 where the teacher has another vocabulary
DISTILL_TOP_K = 64  # likeliest tokens kept of a prediction, the others count as one; below the vocabulary
DISTILL_CACHE = True  # predict once, of whole pictures, to DATA_DIR/<DATASET>/teacher/; False: along, on crops
DISTILL_CAPTIONS = 0.0  # share of training captions replaced by the teacher's best beam, 0 to 1
DISTILL_BEAMS = 5  # beams of those; the one with the highest CIDEr-D against the references is taken
DISTILL_LOSS = "kl"  # TASK classify: "kl", "decoupled" (Zhao et al. 2022), or "hard": the teacher's labels (DeiT)
DISTILL_BETA = 8.0  # "decoupled": weight of how the classes that are wrong compare, 0 or more
DISTILL_STANDARDIZE = False  # TASK classify: the KL of logits with mean 0 and deviation 1 (Sun et al. 2024)
DISTILL_FEATURES = None  # "ours=theirs": modules whose outputs are pulled together, on the crops
DISTILL_FEATURE_WEIGHT = 1.0  # weight of that loss, > 0

# --- Validation ---
VALIDATION_INTERVAL = 1  # epochs between validations, 1 or more; the last epoch is always validated
BEST_METRIC = "val_loss"  # what makes an epoch the best: "val_loss", "cider" (CIDEr-D of captions), "top1" (classes)
EARLY_STOPPING_PATIENCE = None  # validations without a better BEST_METRIC before training stops, 1 or more
NUM_SAMPLE_CAPTIONS = 2  # fixed validation pictures captioned and printed at each validation, 0 for none
NUM_VALIDATION_CAPTIONS = 500  # pictures captioned at each validation: CIDEr-D, collapse alarm; 0 for none
REPORT_UTILISATION = False  # at the end measure what share of the machine's matrix products training used
CLIP_SCORE_MODEL_NAME = None  # a CLIP that evaluate.py scores captions with: Hub id or folder

# --- Checkpoints ---
CHECKPOINT_DIR = "checkpoints"  # a run writes to CHECKPOINT_DIR/<RUN_NAME>/
RUN_NAME = None  # folder of the run; None: the dataset, date and time
RESUME_CHECKPOINT_PATH = None  # a checkpoint_*.pt file, or "latest" (of RUN_NAME if set)
CHECKPOINT_EVERY_STEPS = 500  # optimizer steps between checkpoints within an epoch, 1 or more
KEEP_LAST_N = 2  # checkpoint_step_*.pt and checkpoint_epoch_*.pt files kept of each kind, 1 or more

# --- Captions (a captioner keeps these of its training; inference.py has a flag for each) ---
BEAM_SIZE = 1  # beams kept in beam search; 1 is greedy
LENGTH_PENALTY = 1.0  # a beam's score is its log-probability / length ** this; 0 prefers short captions
TEMPERATURE = 0.0  # 0: greedy or beam search; above: sampling, 1.0 from the model's own distribution
TOP_K = 0  # sampling: only the k likeliest tokens, 0 for all
TOP_P = 1.0  # sampling: only the likeliest tokens that hold this share of the probability, above 0 up to 1

# --- Weights & Biases, Hugging Face Hub ---
WANDB_MODE = "off"  # "off", "online" or "offline" (kept in the run's folder, to be sent by hand)
WANDB_PROJECT = "image-captioning"  # project the run is logged to
HUB_REPO_ID = None  # "user/name": each new best is uploaded there; needs a token (`hf auth login`)
HUB_PRIVATE = True  # create HUB_REPO_ID as a private repository
