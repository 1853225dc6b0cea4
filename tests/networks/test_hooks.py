"""Taps: features inside a model are seen without changing it, and nothing of them stays."""

import gc
import weakref

import pytest
import torch
from tiny import save_tiny_vit
from torch import nn
from transformers import AutoModel
from transformers.modeling_outputs import BaseModelOutput

from basics.errors import UserError
from networks.hooks import ActivationHooks


class Returns(nn.Module):
    """A module whose output is wrapped as some models do it."""

    def __init__(self, wrap):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.linear(x))


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2))


def count_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_features_are_the_modules_outputs_and_the_models_stays_the_same():
    model, x = small_model(), torch.randn(3, 4)
    expected = model(x)
    with ActivationHooks(model, ["0", "1.0", ""]) as features:
        output = model(x)
        assert torch.equal(output, expected)
        assert list(features) == ["0", "1.0", ""] and features[""] is output
        assert torch.equal(features["0"], model[0](x))
        features["1.0"].sum().backward()  # part of the graph
    assert model[0].weight.grad is not None and model[2].weight.grad is None


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_and_activations_are_gone_after_the_end(fails):
    model = small_model()
    model[0].register_forward_hook(lambda *_: None)  # somebody else's
    before = count_hooks(model)
    try:
        with ActivationHooks(model, ["0", "1"]) as features:
            assert count_hooks(model) == before + 2
            model(torch.randn(3, 4))
            captured = weakref.ref(features["1"])
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    gc.collect()
    assert count_hooks(model) == before and features == {} and captured() is None


def test_clear_lets_activations_go_between_steps():
    model = small_model()
    with ActivationHooks(model, ["0"]) as features:
        model(torch.randn(3, 4))
        captured = weakref.ref(features["0"])
        features.clear()
        assert captured() is None and features == {}


def test_taps_nest_and_a_tap_can_be_used_again():
    model, x = small_model(), torch.randn(3, 4)
    outer = ActivationHooks(model, ["0", "1"])
    with outer as first:
        with ActivationHooks(model, ["0"]) as second:
            model(x)
            assert first["0"] is second["0"] and list(second) == ["0"]
        assert second == {} and torch.equal(first["0"], model[0](x))
    with outer as first:
        model(x)
        assert list(first) == ["0", "1"]
    assert count_hooks(model) == 0


@pytest.mark.parametrize(
    "wrap", [lambda x: (x, 1), lambda x: (None, x), lambda x: BaseModelOutput(x), lambda x: {"a": x, "b": x + 1}]
)
def test_the_first_tensor_of_a_tuple_or_model_output(wrap):
    module, x = Returns(wrap), torch.randn(3, 4)
    with ActivationHooks(module, ["", "linear"]) as features:
        module(x)
        assert features[""] is features["linear"]


def test_a_module_without_a_tensor_says_so():
    module = Returns(lambda x: (1, 2))
    with pytest.raises(TypeError, match="tuple without one"), ActivationHooks(module, [""]):
        module(torch.randn(3, 4))
    assert count_hooks(module) == 0


def test_unknown_names_are_answered_with_near_ones(tmp_path):
    model = AutoModel.from_pretrained(save_tiny_vit(tmp_path))
    known = next(name for name, module in model.named_modules() if name.endswith("layers.0"))
    with pytest.raises(UserError) as error:
        ActivationHooks(model, [known, known.replace("layers", "layer")])
    assert repr(known) in str(error.value) and "\n" not in str(error.value)
    with ActivationHooks(model, [known]) as features:
        output = model(torch.randn(2, 3, 32, 32)).last_hidden_state
        assert features[known].shape == output.shape == (2, 5, 24)


def test_torch_compile_keeps_the_features_of_each_call():
    model, graphs = small_model(), []
    torch._dynamo.reset()

    def eager(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with ActivationHooks(model, ["0", "1"]) as features:
        compiled = torch.compile(model, backend=eager, fullgraph=True)
        for _ in range(3):
            x = torch.randn(3, 4)
            output = compiled(x)
            torch.testing.assert_close(features["0"], model[0].forward(x))
            torch.testing.assert_close(model[2](features["1"]), output)
            features["1"].sum().backward()
            features.clear()
        assert len(graphs) == 1
    compiled(x)
    assert features == {}, "the compiled model noticed that the hooks are gone"
