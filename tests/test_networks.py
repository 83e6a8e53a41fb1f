"""Networks: exact sizes, and refusal of those that do not fit."""

import functools
import math
import threading

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lightning_a3c import A3CModule
from lightning_a3c.rl import networks
from lightning_a3c.rl.image_networks import SmallImageNetwork
from lightning_a3c.rl.networks import MLP, AtariA2C, build_network, orthogonal_init

ATARI = (4, 84, 84)


def convolutions(net):
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d)
    ]


def linears(net):
    return [(layer.in_features, layer.out_features) for layer in net.modules() if isinstance(layer, nn.Linear)]


class ColumnOfValues(MLP):
    """The published bug: values [B, 1]."""

    def forward(self, observations):
        logits, values = super().forward(observations)
        return logits, values.unsqueeze(1)


class FloatsOnly(MLP):
    def forward(self, observations):
        return self.policy(observations), self.value(observations).squeeze(1)


def test_atari_network_has_the_three_convolutions_of_mnih_2015():
    assert convolutions(AtariA2C(ATARI, 6)) == [
        (4, 32, (8, 8), (4, 4), (0, 0)),
        (32, 64, (4, 4), (2, 2), (0, 0)),
        (64, 64, (3, 3), (1, 1), (0, 0)),
    ]


def test_atari_network_has_separate_heads_of_512_over_3136_features():
    net = AtariA2C(ATARI, 6)
    assert linears(net.policy) == [(3136, 512), (512, 6)]
    assert linears(net.value) == [(3136, 512), (512, 1)]
    assert linears(net.features) == []


def test_atari_network_takes_images_with_their_channels_last_too():
    first, last = AtariA2C((3, 96, 64), 6), AtariA2C((96, 64, 3), 6)
    last.load_state_dict(first.state_dict())
    images = torch.randint(256, (5, 3, 96, 64), dtype=torch.uint8)
    for theirs, ours in zip(first(images), last(images.permute(0, 2, 3, 1).contiguous()), strict=True):
        assert_close(ours, theirs)


def test_atari_heads_share_no_parameter():
    net = AtariA2C(ATARI, 6)
    _, values = net(torch.ones(1, *ATARI))
    values.sum().backward()
    assert all(parameter.grad is None for parameter in net.policy.parameters())
    assert all(parameter.grad is not None for parameter in net.value.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_convolutions_get_exact_pixels_in_the_dtype_they_compute_in(dtype):
    observations = torch.arange(256, dtype=torch.uint8).repeat(441).view(4, 4, 84, 84)
    net, seen = AtariA2C(ATARI, 6, background=87), []
    net.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        net(observations)
    assert seen[0].dtype == dtype
    assert torch.equal(seen[0].double(), (observations.double() - 87) / 256)


def test_observations_that_need_no_reordering_stay_as_they_are():
    observations = torch.full((2, *ATARI), 100.0).contiguous(memory_format=torch.channels_last)
    AtariA2C(ATARI, 6, background=87)(observations)
    assert (observations == 100).all()


def test_atari_network_for_pong_has_3293863_parameters():
    # 8,224 + 32,832 + 36,928 convolutions; 1,606,144 + 3,078 policy; 1,606,144 + 513 value
    assert sum(parameter.numel() for parameter in AtariA2C(ATARI, 6).parameters()) == 3_293_863


def test_atari_network_activates_with_relu_after_all_but_the_outputs():
    net = AtariA2C(ATARI, 6)
    layers = [layer for part in (net.features, net.policy, net.value) for layer in part]
    kinds = ["Linear" if isinstance(layer, nn.Linear) else type(layer).__name__ for layer in layers]
    assert kinds == ["Conv2d", "ReLU"] * 3 + ["Flatten"] + ["Linear", "ReLU", "Linear"] * 2


def test_heads_that_leave_their_weights_in_place_compute_the_same(monkeypatch):
    net, observations = AtariA2C(ATARI, 6), torch.randint(256, (5, *ATARI), dtype=torch.uint8)

    def outputs_and_gradients():
        logits, values = net(observations)
        gradients = torch.autograd.grad(logits.logsumexp(dim=1).sum() + values.square().sum(), list(net.parameters()))
        return logits, values, *gradients

    expected = outputs_and_gradients()
    asked = []
    monkeypatch.setattr(networks, "onednn_multiplies", lambda inputs: asked.append(inputs.shape) or True)
    assert_close(outputs_and_gradients(), expected, rtol=1e-4, atol=1e-5)
    assert asked == [(5, 3136)] * 2


def test_atari_network_divides_pixels_by_256():
    net = AtariA2C(ATARI, 6)
    seen = []
    net.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    net(torch.full((1, *ATARI), 255, dtype=torch.uint8))
    assert_close(seen[0], torch.full((1, *ATARI), 255 / 256))


def test_atari_network_can_be_narrower():
    net = AtariA2C(ATARI, 6, widths=(16, 32, 32), hidden_size=256)
    assert convolutions(net) == [
        (4, 16, (8, 8), (4, 4), (0, 0)),
        (16, 32, (4, 4), (2, 2), (0, 0)),
        (32, 32, (3, 3), (1, 1), (0, 0)),
    ]
    assert linears(net.policy) == [(1568, 256), (256, 6)]
    assert linears(net.value) == [(1568, 256), (256, 1)]


def test_atari_network_sees_the_background_as_zeros():
    net = AtariA2C(ATARI, 6, background=87)
    seen = []
    net.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    pixels = torch.full((1, *ATARI), 87, dtype=torch.uint8)
    pixels[0, 0, 0, 0] = 0
    net(pixels)
    assert seen[0][0, 0, 0, 0] == -87 / 256
    assert seen[0].count_nonzero() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (16, 32)}, r"three widths and a hidden_size of at least 1, got \[16, 32\] and 512"),
        ({"widths": (16, 0, 32)}, r"got \[16, 0, 32\]"),
        ({"hidden_size": 0}, r"and 0"),
        ({"background": 256}, r"background must be a grey level in 0 … 255, got 256"),
    ],
)
def test_atari_network_refuses_impossible_sizes_and_greys(arguments, message):
    with pytest.raises(ValueError, match=message):
        AtariA2C(ATARI, 6, **arguments)


def test_atari_network_gives_float32_logits_and_flat_values_for_uint8_pixels():
    logits, values = AtariA2C(ATARI, 6)(torch.zeros(3, *ATARI, dtype=torch.uint8))
    assert (logits.shape, logits.dtype) == ((3, 6), torch.float32)
    assert (values.shape, values.dtype) == ((3,), torch.float32)


@pytest.mark.parametrize("shape", [(4,), (4, 35, 84), (84, 84)])
def test_atari_network_refuses_what_is_no_image_and_names_the_mlp(shape):
    with pytest.raises(ValueError, match=r"at least 36 × 36.*use lightning_a3c.rl.networks.MLP"):
        AtariA2C(shape, 6)


def test_mlp_has_separate_towers_of_two_hidden_layers_of_64():
    net = MLP((4,), 2)
    assert linears(net.policy) == [(4, 64), (64, 64), (64, 2)]
    assert linears(net.value) == [(4, 64), (64, 64), (64, 1)]


def test_mlp_flattens_observations_of_any_shape_and_type():
    logits, values = MLP((2, 3), 5, hidden_sizes=(8,))(torch.ones(7, 2, 3, dtype=torch.int64))
    assert logits.shape == (7, 5)
    assert values.shape == (7,)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        *((shape, AtariA2C) for shape in (ATARI, (3, 36, 36), (96, 96, 3), (40, 36, 1))),
        *((shape, SmallImageNetwork) for shape in ((3, 10, 10), (35, 96, 3), (7, 7, 3))),
        *((shape, MLP) for shape in ((4,), (84, 84), (2, 2, 2))),
    ],
)
def test_default_network_follows_from_the_observation_shape(shape, expected):
    assert type(build_network(shape, 6)) is expected


def test_network_can_be_named_by_class_path_with_arguments():
    spec = {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"hidden_sizes": [8]}}
    assert linears(build_network((4,), 2, spec).policy) == [(4, 8), (8, 2)]


def test_ready_network_is_taken_as_it_is():
    net = MLP((4,), 2)
    assert build_network((4,), 2, net) is net


def test_network_with_a_column_of_values_is_refused():
    with pytest.raises(ValueError, match=r"ColumnOfValues gives logits \(2, 3\) and values \(2, 1\).*needs \(2, 3\)"):
        build_network((4,), 3, ColumnOfValues((4,), 3))


def test_network_with_the_wrong_number_of_actions_is_refused():
    with pytest.raises(ValueError, match=r"MLP gives logits \(2, 5\).*needs \(2, 3\) and \(2,\)"):
        build_network((4,), 3, MLP((4,), 5))


def test_network_that_does_not_take_the_observations_is_refused():
    with pytest.raises(ValueError, match=r"MLP does not turn float32 observations \[B, 4\] into \(logits, values\)"):
        build_network((4,), 3, MLP((7,), 3))


def test_network_that_takes_floats_only_is_refused_where_observations_are_bytes():
    message = r"FloatsOnly does not turn uint8 observations \[B, 4\] into .*; convert them with observations.float\(\)"
    with pytest.raises(ValueError, match=message):
        A3CModule((4,), 3, task={"observation_dtype": "uint8"}, network=FloatsOnly((4,), 3))


def test_network_that_cannot_be_copied_is_refused():
    net = MLP((4,), 3)
    net.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"MLP cannot be copied for the workers: cannot pickle '_thread.lock'"):
        build_network((4,), 3, net)


def test_network_that_gives_something_else_than_tensors_is_refused():
    class Distribution(MLP):
        def forward(self, observations):
            logits, values = super().forward(observations)
            return torch.distributions.Categorical(logits=logits), values

    with pytest.raises(ValueError, match=r"Distribution does not turn .*'Categorical' object has no attribute 'shape'"):
        build_network((4,), 3, Distribution((4,), 3))


def test_network_with_a_single_output_is_refused():
    with pytest.raises(ValueError, match="network Linear"):
        build_network((4,), 3, nn.Linear(4, 3))


@pytest.mark.parametrize("class_path", ["lightning_a3c.rl.networks.MPL", "no_such_package.Net", "Net", None])
def test_unknown_class_path_is_refused(class_path):
    with pytest.raises(ValueError, match=r"class_path .*cannot be imported"):
        build_network((4,), 3, {"class_path": class_path})


def test_unknown_argument_of_a_class_path_is_refused():
    with pytest.raises(ValueError, match=r"MLP cannot be built with init_args {'width': 3}"):
        build_network((4,), 3, {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"width": 3}})


@pytest.fixture(scope="module")
def orthogonal():
    torch.manual_seed(0)
    net = AtariA2C(ATARI, 6)
    orthogonal_init(net)
    return net


def test_orthogonal_hidden_layers_have_gain_sqrt_2(orthogonal):
    weight = orthogonal.features[0].weight.flatten(1)
    assert_close(weight @ weight.T, 2 * torch.eye(32), atol=1e-5, rtol=0)


def test_orthogonal_policy_output_has_gain_a_hundredth(orthogonal):
    weight = orthogonal.policy[-1].weight
    assert_close(weight @ weight.T, 1e-4 * torch.eye(6), atol=1e-9, rtol=0)


def test_orthogonal_value_output_has_gain_one(orthogonal):
    assert_close(orthogonal.value[-1].weight.norm(), torch.tensor(1.0))


def test_orthogonal_biases_are_zero(orthogonal):
    biases = [parameter for name, parameter in orthogonal.named_parameters() if name.endswith("bias")]
    assert len(biases) == 7
    assert not any(bias.any() for bias in biases)


def test_orthogonal_network_starts_near_the_uniform_policy(orthogonal):
    pixels = torch.randint(0, 256, (8, *ATARI), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probabilities = orthogonal(pixels)[0].softmax(dim=1)
    assert_close(probabilities, torch.full((8, 6), 1 / 6), atol=0.01, rtol=0)


def test_orthogonal_init_accepts_a_network_without_heads():
    net = nn.Sequential(nn.Linear(4, 3, bias=False))
    orthogonal_init(net)
    assert_close(net[0].weight @ net[0].weight.T, 2 * torch.eye(3))


UNBOUNDED = (-math.inf, math.inf)


def first_inputs(net, observations):
    """What the first layer with weights sees, [B, elements]."""
    seen = []
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(observations)
    hook.remove()
    return seen[0].flatten(1)


@pytest.mark.parametrize("shape", [(3, 40, 40), (7,)])
@pytest.mark.parametrize(
    ("bounds", "observation", "expected"),
    [
        ((0, 255), torch.tensor(255, dtype=torch.uint8), 255 / 256),
        ((0.0, 255.0), torch.tensor(128.0), 0.5),
        ((0.0, 1.0), torch.tensor(0.75), 0.75),
        ((-1.0, 1.0), torch.tensor(-0.75), -0.75),
        ((0, 1), torch.tensor(1, dtype=torch.uint8), 1.0),
        ((-128, 127), torch.tensor(-64, dtype=torch.int8), -0.5),
        ((0, 1000), torch.tensor(500), 0.5),
        ((0.0, 0.5), torch.tensor(0.25, dtype=torch.float16), 0.5),
        ((0.0, 0.0), torch.tensor(0.0), 0.0),
        (UNBOUNDED, torch.tensor(3.0), 3.0),
    ],
)
def test_default_networks_divide_by_the_largest_magnitude_that_the_bounds_allow(shape, bounds, observation, expected):
    net = build_network(shape, 2, observation_dtype=observation.dtype, observation_bounds=bounds)
    inputs = first_inputs(net, observation.expand(2, *shape))
    assert_close(inputs, torch.full_like(inputs, expected))


def test_without_known_bounds_images_are_bytes_and_vectors_stay_as_they_are():
    assert first_inputs(build_network((3, 40, 40), 2), torch.full((1, 3, 40, 40), 128.0)).unique() == 0.5
    assert first_inputs(build_network((7,), 2), torch.full((1, 7), 128.0)).unique() == 128


def test_the_background_is_in_the_observations_own_units():
    net = AtariA2C((3, 40, 40), 2, background=-0.25, observation_bounds=(-2.0, 1.0))
    assert not first_inputs(net, torch.full((1, 3, 40, 40), -0.25)).any()
    with pytest.raises(ValueError, match=r"background must be a grey level in -2 … 1, got 87"):
        AtariA2C((3, 40, 40), 2, background=87, observation_bounds=(-2.0, 1.0))


def test_bounds_reach_class_paths_classes_and_functions_that_take_them():
    def wide(observation_shape, num_actions, observation_bounds=None):
        return MLP(observation_shape, num_actions, (8,), observation_bounds)

    def plain(observation_shape, num_actions):
        return MLP(observation_shape, num_actions)

    path = {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"observation_bounds": None}}  # as jsonargparse
    for network in (path, MLP, wide, functools.partial(MLP, hidden_sizes=(8,))):
        assert build_network((4,), 2, network, observation_bounds=(0, 10)).scale == 0.1
    assert build_network((4,), 2, plain, observation_bounds=(0, 10)).scale == 1


@pytest.mark.parametrize(
    "network",
    [
        {"class_path": "lightning_a3c.rl.networks.MLP", "init_args": {"observation_bounds": [-2, 2]}},
        functools.partial(MLP, observation_bounds=(-2, 2)),
    ],
)
def test_bounds_that_were_chosen_are_kept(network):
    assert build_network((4,), 2, network, observation_bounds=(0, 10)).scale == 0.5


def test_a_class_of_networks_is_built_and_kept_as_its_class_path():
    module = A3CModule((4,), 2, network=MLP)
    assert type(module.net) is MLP
    assert module.hparams["network"] == {"class_path": "lightning_a3c.rl.networks.MLP"}


def test_a_function_that_cannot_be_imported_is_called_and_not_kept():
    module = A3CModule((4,), 2, network=lambda shape, num_actions: MLP(shape, num_actions, (8,)))
    assert linears(module.net.policy) == [(4, 8), (8, 2)]
    assert "network" not in module.hparams


@pytest.mark.parametrize("network", ["MLP", 3, [MLP]])
def test_what_makes_no_network_is_refused(network):
    with pytest.raises(ValueError, match=r"network must be None, a torch.nn.Module, a class or function .*, got "):
        A3CModule((4,), 2, network=network)


def test_a_function_that_makes_something_else_is_refused():
    with pytest.raises(ValueError, match=r"network .*<lambda> must make a torch.nn.Module, got tuple"):
        build_network((4,), 2, lambda *spaces: spaces)


def test_a_class_that_takes_other_arguments_is_refused():
    message = r"torch.nn.modules.flatten.Unflatten cannot be built with init_args {}: "
    with pytest.raises(ValueError, match=message):
        A3CModule((4,), 2, network=nn.Unflatten)
