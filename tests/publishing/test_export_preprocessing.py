"""An image processor in plain words: the same pixels without PyTorch, or a refusal."""

import pytest
from coarse_pictures import coarse_pictures
from transformers import BitImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, ViTImageProcessor
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

from basics.errors import UserError
from publishing.export_preprocessing import check_preprocessing, describe_preprocessing


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 48, "width": 40}),
        ViTImageProcessor(do_normalize=False, do_rescale=False),
        CLIPImageProcessor(size={"shortest_edge": 60}, crop_size={"height": 47, "width": 49}),
        BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}, resample=1),
        BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 41, "width": 41}),
        ConvNextImageProcessor(size={"shortest_edge": 64}),
        ConvNextImageProcessor(size={"shortest_edge": 384}),
        TimmWrapperImageProcessor({"input_size": [3, 61, 61], "crop_pct": 0.9, "interpolation": "bicubic"}),
        TimmWrapperImageProcessor({"input_size": [3, 64, 64], "crop_pct": 1.0, "crop_mode": "squash"}),
    ],
    ids=lambda p: type(p).__name__,
)
def test_preprocessing_is_reproduced_without_torch(processor):
    check_preprocessing(processor, describe_preprocessing(processor), coarse_pictures())


class Upside(ViTImageProcessor):
    def resize(self, image, **options):
        return super().resize(image.flip(-2), **options)


@pytest.mark.parametrize(
    "processor",
    [
        Upside(),
        ViTImageProcessor(size={"max_height": 50, "max_width": 50}),
        TimmWrapperImageProcessor({"input_size": [3, 64, 64], "crop_mode": "border"}),
    ],
    ids=["another order", "another size", "another step"],
)
def test_preprocessing_that_cannot_be_reproduced_is_refused(processor):
    with pytest.raises(UserError, match="cannot be"):
        check_preprocessing(processor, describe_preprocessing(processor), coarse_pictures())
