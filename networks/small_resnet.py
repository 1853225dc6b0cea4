"""A small convolutional network from nothing, as transformers has its models: ENCODER_MODEL_NAME "scratch-cnn".

    model = SmallResNetForImageClassification(SmallResNetConfig(widths=[32, 64, 128, 256], num_labels=10))
    model(images).logits                        # (B, 3, H, W) -> (B, num_labels)

Residual blocks of two 3 x 3 convolutions (He et al. 2016, arXiv 1512.03385), one a stage, each stage at half the side
of the one before. Norms are of groups (Wu & He 2018, arXiv 1803.08494): they need no statistics of batches, which small
batches, several processes and averaged weights (EMA_DECAY) all get wrong.
"""

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ViTImageProcessor,
)
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput

GROUPS = 8


class SmallResNetConfig(PreTrainedConfig):
    """widths: channels of each stage; stride: pixels a side that the first convolution makes one cell of."""

    model_type = "small_resnet"

    widths: list[int] | None = None
    stride: int = 2
    image_size: int = 32

    @property
    def hidden_size(self) -> int:
        return (self.widths or [GROUPS])[-1]


class Block(nn.Module):
    """relu(x + f(x)); x is brought to f's size where that is another one."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            norm(width),
        )
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.convolutions(x) + self.shortcut(x)).relu()  # (B, width, h / stride, w / stride)


def norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS if width % GROUPS == 0 else 1, width)


class SmallResNetPreTrainedModel(PreTrainedModel):
    config_class = SmallResNetConfig
    base_model_prefix = "network"
    main_input_name = "pixel_values"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class SmallResNet(SmallResNetPreTrainedModel):
    """Pictures (B, 3, H, W) -> the last feature map (B, E, h, w)."""

    def __init__(self, config: SmallResNetConfig):
        super().__init__(config)
        widths, stride = config.widths or [GROUPS], config.stride
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], max(3, stride), stride, 1 if stride < 3 else 0, bias=False),
            norm(widths[0]),
            nn.ReLU(),
        )
        before = [widths[0], *widths]
        self.stages = nn.ModuleList(Block(before[i], width, 1 + (i > 0)) for i, width in enumerate(widths))
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        x = self.stem(pixel_values)
        for stage in self.stages:
            x = stage(x)
        return BaseModelOutput(last_hidden_state=x)


class SmallResNetForImageClassification(SmallResNetPreTrainedModel):
    def __init__(self, config: SmallResNetConfig):
        super().__init__(config)
        self.network = SmallResNet(config)
        self.classifier = nn.Linear(config.hidden_size, len(config.id2label or {}))
        self.post_init()

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        pooled = self.network(pixel_values).last_hidden_state.mean((2, 3))  # (B, E)
        return ImageClassifierOutput(logits=self.classifier(pooled))


AutoConfig.register(SmallResNetConfig.model_type, SmallResNetConfig)
AutoModel.register(SmallResNetConfig, SmallResNet)
AutoModelForImageClassification.register(SmallResNetConfig, SmallResNetForImageClassification)
AutoImageProcessor.register(SmallResNetConfig, ViTImageProcessor)
