"""Image classifiers: any network of transformers or timm, cut before its head, described and built again."""

import json
import shutil

import pytest
import torch
from tiny import save_tiny_vit, tiny_settings
from transformers import AutoConfig, AutoModelForImageClassification, TimmWrapperConfig

from basics.errors import UserError
from classifier.folder import Classifier, load_classifier, save_classifier, training_config
from networks.classifier import describe_classifier, find_head, labels_of, read_classifier
from networks.classifiers import build_classifier, load_network
from networks.encoder import example_pixels

CLASSES = ["cat", "dog", "red circle"]
SMALL = {"SCRATCH_IMAGE_SIZE": 32, "SCRATCH_PATCH_SIZE": 4, "SCRATCH_EMBED_DIM": 32, "SCRATCH_LAYERS": 2}


def made(**changes):
    torch.manual_seed(0)
    return build_classifier(tiny_settings(**changes), CLASSES)


@pytest.fixture(params=["scratch", "scratch-cnn"])
def scratch(request):
    return made(ENCODER_MODEL_NAME=request.param, **SMALL)


def test_features_are_what_the_head_reads(scratch):
    model, image_processor = scratch
    model.eval()
    pixels = example_pixels(image_processor)
    features = model.features(pixels)
    assert features.shape == (1, 32) and model(pixels).shape == (1, 3)
    assert torch.equal(model(features), model(pixels))


def test_a_described_classifier_is_built_again_with_its_classes(scratch):
    model, image_processor = scratch
    make, again, classes = read_classifier(describe_classifier(model, image_processor), model.head_name)
    other = make()
    other.load_state_dict(model.state_dict())
    pixels = example_pixels(image_processor)
    assert classes == CLASSES and torch.equal(pixels, example_pixels(again))
    assert torch.equal(other.eval()(pixels), model.eval()(pixels))


def test_a_bare_encoder_gets_a_head_and_trains_what_is_asked(tmp_path):
    name = str(save_tiny_vit(tmp_path / "vit"))
    model, _ = made(ENCODER_MODEL_NAME=name, ENCODER_TRAINABLE="none")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"head.weight", "head.bias"}
    groups = made(ENCODER_MODEL_NAME=name)[0].parameter_groups()
    assert [(group.part, group.decayed) for group in groups][:2] == [("classifier", False), ("classifier", True)]
    assert sum(len(group.parameters) for group in groups) == len([*made(ENCODER_MODEL_NAME=name)[0].parameters()])


def test_a_head_is_kept_for_the_same_classes_alone(tmp_path):
    model, image_processor = made(ENCODER_MODEL_NAME="scratch", **SMALL)
    config = training_config(model.head_name, {}, 0)
    save_classifier(Classifier(model, CLASSES, image_processor, config), tmp_path / "best", 1, {})
    settings = tiny_settings(ENCODER_MODEL_NAME=str(tmp_path / "best"))
    same, _ = build_classifier(settings, CLASSES)
    turned, _ = build_classifier(settings, CLASSES[::-1])
    more, _ = build_classifier(settings, [*CLASSES, "more"])
    assert torch.equal(same.head.weight, model.head.weight) and more.head.weight.shape == (4, 32)
    assert not torch.equal(turned.head.weight, model.head.weight)
    assert torch.equal(
        turned.network_weights()["vit.layernorm.weight"], model.network_weights()["vit.layernorm.weight"]
    )


def test_what_is_no_classifier_is_refused_in_one_line(tmp_path):
    name = str(save_tiny_vit(tmp_path / "vit"))
    with pytest.raises(UserError, match="has no weights for classifier: it is an encoder"):
        load_network(name, "the teacher")
    with pytest.raises(UserError, match="cannot load the encoder"):
        made(ENCODER_MODEL_NAME=str(tmp_path))
    model, _ = made(ENCODER_MODEL_NAME="scratch", **SMALL)
    with pytest.raises(UserError, match="ENCODER_IMAGE_SIZE that it takes"):
        find_head(model.encoder.backbone, torch.zeros(1, 3, 48, 48))


def test_a_file_that_is_not_of_its_config_is_refused(tmp_path):
    name = save_tiny_vit(tmp_path / "vit")
    config = json.loads((name / "config.json").read_text())
    (name / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(UserError, match="lack 3 tensors, or have them in another shape"):
        made(ENCODER_MODEL_NAME=str(name))
    (name / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1000}))
    with pytest.raises(UserError, match="more tensors than the"):  # before it takes memory
        made(ENCODER_MODEL_NAME=str(name))


def test_code_that_a_folder_brings_is_never_run(tmp_path):
    (tmp_path / "theirs.py").write_text("raise SystemExit('it was run')")
    auto_map = {"AutoConfig": "theirs.C", "AutoModelForImageClassification": "theirs.M"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "theirs", "auto_map": auto_map}))
    with pytest.raises(UserError, match="cannot load the teacher"):
        load_network(str(tmp_path), "the teacher")


def test_a_timm_classifier_that_starts_from_another_has_its_own_classes(tmp_path):
    size = {"input_size": [3, 32, 32]}
    config = TimmWrapperConfig(architecture="test_resnet", pretrained_cfg=size, **labels_of(["x", "y"]))
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    for classes in (["p", "q"], ["q", "p"], ["p", "q", "r"]):
        model, image_processor = build_classifier(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path)), classes)
        saved = Classifier(model, classes, image_processor, training_config(model.head_name, {}, 0))
        save_classifier(saved, tmp_path / "best", 1, {})
        assert load_classifier(tmp_path / "best").classes == classes
        assert [*AutoConfig.from_pretrained(tmp_path / "best").id2label.values()] == classes
        shutil.copytree(tmp_path / "best", tmp_path, dirs_exist_ok=True)  # the next starts from it
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({k: config[k] for k in ("architecture", "num_classes", "pretrained_cfg")})
    )
    model, _ = build_classifier(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path)), ["a", "b"])  # as timm itself has it
    assert model.head.out_features == 2
