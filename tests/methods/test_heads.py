"""Starting weights, and layers against torch's own modules."""

import math

import pytest
import torch
from factories.tasks import made_heads, random_task, small_method

from unimos_pipe.base.method_config import HeadSpec
from unimos_pipe.methods.unimos.heads import initial_parameters, reset_tensor
from unimos_pipe.methods.unimos.manual_backward import bottleneck, classify, discriminate

# float64: 1e-12 is some thousand epsilons, 1e-9 some million; every formula here is a few sums of 16 terms.
pytestmark = pytest.mark.numerical


def test_starting_weights_follow_the_method():
    params = initial_parameters(64, 7, HeadSpec(), torch.Generator().manual_seed(0))
    assert {name: tuple(tensor.shape) for name, tensor in params.items()} == {
        "vision_separator.weight": (64, 64),
        "vision_separator.bias": (64,),
        "text_separator.weight": (64, 64),
        "text_separator.bias": (64,),
        "bottleneck_linear.weight": (256, 64),
        "bottleneck_linear.bias": (256,),
        "bottleneck_bn.weight": (256,),
        "bottleneck_bn.bias": (256,),
        "classifier.bias": (7,),
        "classifier.weight_v": (7, 256),
        "classifier.weight_g": (7, 1),
        "weight_fc1.weight": (256, 64),
        "weight_fc1.bias": (256,),
        "weight_fc2.weight": (1, 256),
        "weight_fc2.bias": (1,),
        "disc_fc1.weight": (256, 64),
        "disc_fc1.bias": (256,),
        "disc_fc2.weight": (1, 256),
        "disc_fc2.bias": (1,),
    }
    for name, fan_in in (("vision_separator", 64), ("text_separator", 64), ("weight_fc2", 256), ("disc_fc1", 64)):
        weight = params[f"{name}.weight"]
        bound = 1 / math.sqrt(fan_in)
        assert 0.98 * bound < weight.abs().max() <= bound or name == "weight_fc2"
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    xavier = math.sqrt(2 / (64 + 256))
    assert params["bottleneck_linear.weight"].std() == pytest.approx(xavier, rel=0.03)
    assert params["bottleneck_linear.bias"].abs().max() == 0 and params["classifier.bias"].abs().max() == 0
    assert (params["bottleneck_bn.weight"] == 1).all()
    assert torch.allclose(params["classifier.weight_g"], params["classifier.weight_v"].norm(dim=1, keepdim=True))


def test_resets_are_xavier_uniform_for_weights_and_zero_for_biases():
    fresh = reset_tensor(torch.empty(256, 64), torch.Generator().manual_seed(0))
    bound = math.sqrt(6 / 320)
    assert 0.99 * bound < fresh.abs().max() <= bound
    assert reset_tensor(torch.ones(256), torch.Generator()).abs().max() == 0


def test_layers_equal_torchs_modules():
    """Bottleneck with BatchNorm in both modes, and the weight-normalised classifier, for two different runs."""
    method = small_method()
    heads = made_heads(method, runs=2)
    x = torch.stack([random_task(seed=seed).source.features for seed in (1, 2)])
    found = bottleneck(heads, x)[0]
    logits = classify(heads, found)[0]
    assert torch.allclose(heads.classify(found), logits, rtol=1e-12)
    for run in range(2):
        linear, norm = torch.nn.Linear(16, 12).double(), torch.nn.BatchNorm1d(12).double()
        linear.weight.data = heads.params["bottleneck_linear.weight"][run].detach()
        linear.bias.data = heads.params["bottleneck_linear.bias"][run].detach()
        wanted = norm(linear(x[run]))
        assert torch.allclose(found[run], wanted, rtol=1e-9, atol=1e-12)
        assert torch.allclose(heads.running_mean[run], norm.running_mean, rtol=1e-9)
        assert torch.allclose(heads.running_var[run], norm.running_var, rtol=1e-9)
        classifier = torch.nn.Linear(12, 5).double()
        classifier.weight.data = heads.params["classifier.weight_v"][run].detach()
        classifier.bias.data.zero_()
        classifier = torch.nn.utils.parametrizations.weight_norm(classifier, dim=0)
        assert torch.allclose(logits[run], classifier(wanted), rtol=1e-5)  # weight_g is drawn in float32
        evaluated = heads.runs(run, run + 1, training=False).bottleneck(x[run : run + 1])[0]
        assert torch.allclose(evaluated, norm.eval()(linear(x[run])), rtol=1e-9, atol=1e-12)


def test_dropout_doubles_the_hidden_units_it_keeps_and_drops_the_others():
    heads = made_heads(small_method())
    x = random_task().source.features.unsqueeze(0)
    keep = torch.zeros(1, 40, 9, dtype=torch.float64)
    assert discriminate(heads, x, keep, 40)[0].eq(heads.params["disc_fc2.bias"].item()).all()
    keep[..., 2:5] = 1
    first, second = (heads.params[f"disc_fc{layer}.weight"][0] for layer in (1, 2))
    hidden = 2 * (x[0] @ first.T + heads.params["disc_fc1.bias"]).relu()[:, 2:5]
    wanted = hidden @ second[0, 2:5] + heads.params["disc_fc2.bias"]
    assert torch.allclose(discriminate(heads, x, keep, 40)[0], wanted, rtol=1e-12)
