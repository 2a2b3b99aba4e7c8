"""Contracts and golden values of temporal models, and of streams that have one."""

import numpy as np
import pytest
import torch

import featurestore
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError
from tests.train.parts import DIM, LENGTHS, check_half, check_learns, check_saves, frames, garbage, mask_of
from tests.train.test_streams import add_feature
from train.config import TrainConfig
from train.examples.examples import load_examples
from train.models.inference import make_model
from train.numerics.masked import MaskedBatchNorm, backwards, positions
from train.temporal import Temporal
from train.temporal.bilstm import BiLSTM, BothDirections
from train.temporal.chain import Chain
from train.temporal.conformer import Conformer, ConformerBlock
from train.temporal.mel_cnn import MelCNN
from train.temporal.tcn import TCN, GatedBlock
from train.temporal.transformer import Transformer

SMALL = {
    "bilstm": {"hidden": 8, "layers": 2, "dropout": 0.2},
    "transformer": {"width": 8, "hidden": 12},
    "conformer": {"width": 8, "hidden": 12, "kernel": 5},
    "tcn": {"filters": 6, "kernel": 3, "dilations": 3, "stacks": 2},
    "dilated_cnn": {"width": 8},
    "mel_cnn": {"channels": [3, 4], "kernels": [3, 5], "squeeze": 2, "dropout": 0.2},
    "chain": {"steps": [{"name": "mel_cnn", "channels": [3]}, {"name": "bilstm", "hidden": 4}]},
}
"""Settings with which each is quick, and does all that it can; as it is where there are none."""


def settings_of(name):
    return Temporal.kind(name).model_validate({"name": name, **SMALL.get(name, {})})


def built(name):
    torch.manual_seed(0)
    return settings_of(name).build(DIM)


def with_history(module):
    """Let batch normalisation have seen something."""
    for one in module.modules():
        if isinstance(one, MaskedBatchNorm):
            generator = torch.Generator().manual_seed(1)
            one.running_mean.copy_(torch.randn(one.num_features, generator=generator))
            one.running_var.copy_(torch.rand(one.num_features, generator=generator) + 0.5)
    return module


@pytest.fixture
def mask():
    return mask_of(LENGTHS)


@pytest.mark.parametrize("name", Temporal.names())
def test_temporal(name, mask):
    module, values = with_history(built(name)).eval(), frames(mask, DIM)
    found, there = module(values, mask)
    assert torch.equal(there, mask[:, :: settings_of(name).every])
    assert found.shape == (*there.shape, module.dim)
    for row, length in enumerate(LENGTHS):
        alone = module(values[row : row + 1, :length], mask[row : row + 1, :length])
        assert alone.mask.all()
        assert torch.allclose(found[row, : alone.mask.shape[1]], alone.values[0], atol=1e-5)
    check_saves(lambda: built(name), module, values, mask)
    check_half(module, values, mask)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", Temporal.names())
def test_what_padding_holds_changes_nothing(name, training, mask):
    """In training neither, where batch normalisation counts frames, and nor does it reach a gradient."""
    values, found = frames(mask, DIM), []
    for given in (values, garbage(values, mask)):
        module, given = built(name).train(training), given.requires_grad_()
        torch.manual_seed(1)
        out, there = module(given, mask)
        out[there].square().sum().backward()
        assert (given.grad[~mask] == 0).all()
        state = [part for part in module.state_dict().values() if part.is_floating_point()]
        found.append([out[there].detach(), given.grad, *state])
    for first, other in zip(*found, strict=True):
        assert torch.allclose(first, other, atol=1e-5)


@pytest.mark.parametrize("name", Temporal.names())
def test_all_that_a_temporal_model_learns_has_a_gradient(name, mask):
    module = built(name)
    found, there = module(frames(mask, DIM), mask)
    check_learns(module, found[there])


@pytest.mark.parametrize(("name", "most"), [("bilstm", 9), ("tcn", 9), ("conformer", 9), ("transformer", 9)])
def test_each_frame_knows_both_sides(name, most, mask):
    module, values = built(name).eval(), frames(mask, DIM)
    whole = module(values, mask).values
    for changed in (0, most - 1):
        other = values.clone()
        other[0, changed] += 1
        assert not torch.allclose(whole[0, 4], module(other, mask).values[0, 4], atol=1e-7)


@pytest.mark.parametrize("layers", [1, 3])
def test_an_lstm_reads_padded_frames_as_packed_ones(layers, mask):
    """The latter is torch's own way, taken on a GPU: the frames, and the gradients of all that has one."""
    module, found = BiLSTM(hidden=5, layers=layers).build(DIM), []
    for way in (BothDirections.packed, BothDirections.without_packing):
        module.zero_grad()
        given = frames(mask, DIM).requires_grad_()
        out = way(module, given, mask)
        (out * frames(mask, module.dim, seed=1)).sum().backward()
        found.append([out, given.grad, *(one.grad for one in module.parameters())])
    for first, other in zip(*found, strict=True):
        assert torch.allclose(first, other, atol=1e-5)


def test_masked_batch_norm_is_that_of_the_frames_that_are_there(mask):
    values = frames(mask, DIM)
    masked, plain = MaskedBatchNorm(DIM), torch.nn.BatchNorm1d(DIM)
    found = masked(values, mask)
    there = values[mask]
    expected = (there - there.mean(dim=0)) / (there.var(dim=0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(found[mask], expected, atol=1e-5)
    assert (found[~mask] == 0).all()
    plain(there)
    assert torch.equal(masked.running_var, plain.running_var)
    whole = torch.ones_like(mask)
    assert torch.allclose(masked(values, whole).flatten(0, 1), plain(values.flatten(0, 1)), atol=1e-6)
    images = torch.stack([values] * 2, dim=-2)
    assert torch.allclose(MaskedBatchNorm(DIM)(images, mask)[mask][..., 0, :], expected, atol=1e-4)


@pytest.mark.parametrize("bands", [(), (3,)])
@pytest.mark.parametrize("training", [True, False])
def test_masked_batch_norm_is_the_same_where_no_frame_is_picked(training, bands, mask):
    """As on a GPU: the frames, what is learned, the running statistics, and the gradients of all of them."""
    found = []
    values = torch.randn(*mask.shape, *bands, DIM, generator=torch.Generator().manual_seed(3)) * 3 + 2
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(4))
    for way in (MaskedBatchNorm.forward, MaskedBatchNorm.without_picking):
        module, given = with_history(MaskedBatchNorm(DIM)).train(training), values.clone().requires_grad_()
        out = way(module, given, mask)
        (out * weights).sum().backward()
        found.append([out, given.grad, module.weight.grad, module.bias.grad, *module.state_dict().values()])
    for first, other in zip(*found, strict=True):
        assert torch.allclose(first, other, atol=2e-5)
    assert (found[1][0][~mask] == 0).all()
    assert (found[1][1][~mask] == 0).all()


def test_backwards_turns_what_is_there(mask):
    values = torch.arange(27.0).view(3, 9, 1) + 1
    assert backwards(values, mask)[..., 0].tolist() == [
        [9, 8, 7, 6, 5, 4, 3, 2, 1],
        [13, 12, 11, 10, 0, 0, 0, 0, 0],
        [19, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_positions_by_hand():
    found = positions(3, 4, torch.zeros(()))
    expected = [[np.sin(t), np.sin(t / 100), np.cos(t), np.cos(t / 100)] for t in range(3)]
    assert np.allclose(found, expected, atol=1e-6)
    assert positions(3, 5, torch.zeros(())).shape == (3, 5)


def as_float64(*tensors):
    return [tensor.detach().double().numpy() for tensor in tensors]


def test_the_block_of_the_tcn_by_hand():
    """Frames times the sigmoid of twice (causal convolution, batch norm, ReLU), in numpy, sum by sum."""
    torch.manual_seed(0)
    block = with_history(GatedBlock(TCN(filters=2, kernel=3, dropout=0.5), dilation=2)).eval()
    values = torch.randn(1, 7, 2)
    (hidden,) = as_float64(values[0])
    for convolution, norm in zip(block.convolutions, block.norms, strict=True):
        weight, bias = as_float64(convolution.weight, convolution.bias)
        mean, variance, scale, shift = as_float64(norm.running_mean, norm.running_var, norm.weight, norm.bias)
        summed = np.zeros((7, 2))
        for time in range(7):
            for tap in range(3):
                before = time - 2 * (2 - tap)  # the last tap is now, each one before it two frames earlier
                if before >= 0:
                    summed[time] += weight[:, :, tap] @ hidden[before]
        hidden = np.maximum((summed + bias - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0)
    expected = values[0].numpy() / (1 + np.exp(-hidden))
    assert np.allclose(block(values, torch.ones(1, 7, dtype=torch.bool))[0].detach(), expected, atol=1e-6)


def test_the_mean_of_the_tcn_is_the_weighted_sum_of_the_means_of_its_blocks():
    """As TIM-Net has it: each block of both ends is averaged over time, whatever the order of its frames."""
    module = with_history(built("tcn")).eval()
    with torch.no_grad():
        module.shares.copy_(torch.tensor([0.1, -0.2, 0.3, 0.4, -0.5, 0.6]))
    values, mask = frames(mask_of((9,)), DIM), mask_of((9,))
    forth, back = module.forth(values, mask), module.back(values.flip(1), mask)
    means = [(one + other).mean(dim=1) for one, other in zip(forth, back, strict=True)]
    expected = sum(share * mean for share, mean in zip(module.shares, means, strict=True))
    assert torch.allclose(module(values, mask).values.mean(dim=1), expected, atol=1e-5)


def test_the_conformer_block_is_that_of_transformers():
    """The same weights give the same numbers in both; without padding, which theirs would count."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    from transformers import Wav2Vec2ConformerConfig
    from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoderLayer

    torch.manual_seed(0)
    settings = Conformer(width=8, heads=2, hidden=12, kernel=5)
    ours = with_history(ConformerBlock(settings)).eval()
    theirs = Wav2Vec2ConformerEncoderLayer(
        Wav2Vec2ConformerConfig(
            hidden_size=8,
            num_attention_heads=2,
            intermediate_size=12,
            conv_depthwise_kernel_size=5,
            position_embeddings_type=None,
            hidden_act="swish",
            attn_implementation="eager",
        )
    ).eval()
    theirs.load_state_dict(as_theirs(ours.state_dict()))
    values = torch.randn(2, 6, 8)
    whole = torch.ones(2, 6, dtype=torch.bool)
    assert torch.allclose(ours(values, whole), theirs(values), atol=1e-6)


def as_theirs(state):
    """Return the weights of a block by the names of transformers."""
    names = {
        "first.0": "ffn1_layer_norm",
        "first.1": "ffn1.intermediate_dense",
        "first.4": "ffn1.output_dense",
        "second.0": "ffn2_layer_norm",
        "second.1": "ffn2.intermediate_dense",
        "second.4": "ffn2.output_dense",
        "before_attention": "self_attn_layer_norm",
        "last": "final_layer_norm",
        "attention.out_proj": "self_attn.linear_out",
        "convolution.norm": "conv_module.layer_norm",
        "convolution.batch_norm": "conv_module.batch_norm",
        "convolution.depthwise": "conv_module.depthwise_conv",
        "convolution.gated": "conv_module.pointwise_conv1",
        "convolution.out": "conv_module.pointwise_conv2",
    }
    found = {}
    for name, value in state.items():
        part, _, kind = name.rpartition(".")
        if part == "attention":
            for which, rows in zip("qkv", value.chunk(3), strict=True):
                found[f"self_attn.linear_{which}.{kind.removeprefix('in_proj_')}"] = rows
        else:
            pointwise = part in ("convolution.gated", "convolution.out")
            found[f"{names[part]}.{kind}"] = value[..., None] if pointwise else value
    return found


def test_the_cnn_on_spectrograms_by_hand():
    """One block: a convolution, batch norm, ReLU, and the maximum over two frames and two bands."""
    module = with_history(MelCNN(channels=(2,)).build(5)).eval()
    values = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    (block,) = module.blocks
    convolved = torch.nn.functional.conv2d(
        values[:, None], block.convolutions[0].weight, block.convolutions[0].bias, padding=1
    )
    norm = block.norm
    scaled = (convolved - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
    expected = scaled.relu()[0]
    found = module(values, torch.ones(1, 3, dtype=torch.bool)).values[0].unflatten(1, (2, 3))
    for time, band in np.ndindex(2, 3):
        window = expected[:, 2 * time : 2 * time + 2, 2 * band : 2 * band + 2].amax(dim=(1, 2))
        assert torch.allclose(found[time, :, band], window, atol=1e-6)


def test_layers_of_the_transformer_begin_differently():
    first, second = Transformer(width=8, layers=2).build(8).encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("streams.s.temporal={name: conformer, kernel: 4}", "expected an odd number"),
        ("streams.s.temporal={name: dilated_cnn, kernel: 4}", "expected an odd number"),
        ("streams.s.temporal={name: mel_cnn, kernels: [4]}", "expected 1 to 8 odd numbers"),
        ("streams.s.temporal={name: mel_cnn, channels: []}", "expected 1 to 8 numbers"),
        ("streams.s.temporal={name: chain, steps: []}", "expected 1 to 8 temporal models"),
        ("streams.s.temporal={name: chain, steps: [bilstn]}", "did you mean 'bilstm'"),
        ("streams.s.temporal=bilsmt", "no temporal 'bilsmt'; did you mean 'bilstm'"),
        ("streams.s.temporal={name: bilstm, hidden: 1000000}", "less than or equal to"),
    ],
)
def test_settings_that_cannot_be(setting, message):
    with pytest.raises(ConfigError, match=message):
        load(TrainConfig, [], [setting])


@pytest.mark.parametrize("kind", [Transformer, Conformer])
def test_heads_that_do_not_divide_the_width(kind):
    with pytest.raises(SerError, match=r"temporal=.*: heads \(3\) must divide the width \(8\)"):
        kind(heads=3, width=8).build(4)


def examples_of(store, *overrides):
    config = load(TrainConfig, [], ["width=16", "targets=[V]", *overrides])
    return load_examples(store, config), config


OWN_CLOCKS = "{name: attention, clocks: own}"
WITH_FUSION = [(fusion, name) for fusion in ("none", "concat") for name in Temporal.names()]


@pytest.mark.parametrize(("fusion", "name"), [*WITH_FUSION, (OWN_CLOCKS, "none"), (OWN_CLOCKS, "bilstm")])
def test_an_utterance_alone_is_predicted_as_in_a_batch(fusion, name, store):
    """Whether the frames of the model go on as they are, or are brought onto the clock of the first stream."""
    temporal = str({"name": name, **SMALL.get(name, {})}).replace("'", "")
    stream = "speech" if fusion == "none" else "pitch"
    streams = "streams={speech: {}}" if fusion == "none" else "streams={speech: {}, pitch: {}}"
    wide = ["streams.pitch.width=16"] if fusion == "concat" else []
    examples, config = examples_of(
        store, f"fusion={fusion}", "fusion.heads=1" if "own" in fusion else "seed=0", streams, *wide,
        f"streams.{stream}.temporal={temporal}",
    )  # fmt: skip
    model = make_model(examples, config, 0).eval()
    model.fit(examples, examples.names)
    rows = np.array([4, 7, 50])
    together = model(examples.batch(rows))["regression"]
    for place, row in enumerate(rows):
        assert torch.allclose(model(examples.batch(np.array([row])))["regression"][0], together[place], atol=1e-5)


@pytest.mark.parametrize("name", ["tcn", "chain"])
def test_what_is_fused_may_have_a_model_over_time(name, store):
    temporal = str({"name": name, **SMALL[name]}).replace("'", "")
    examples, config = examples_of(store, "fusion=concat", f"temporal={temporal}", "pooling=attentive_statistics")
    model = make_model(examples, config, 0).eval()
    assert model.pooling.dim == 2 * built(name).dim
    rows = np.array([4, 7, 50])
    together = model(examples.batch(rows))["regression"]
    for place, row in enumerate(rows):
        assert torch.allclose(model(examples.batch(np.array([row])))["regression"][0], together[place], atol=1e-5)


def test_a_model_over_time_is_on_the_clock_of_its_feature(copied):
    """A chain that halves the frames of a feature with a hop of its own still meets the first stream by time."""
    store = add_feature(copied, "ramp", 0.007, first=0.003, value=lambda _, times: np.stack([times, times], axis=1))
    store = featurestore.open(store.path)
    examples, config = examples_of(
        store,
        "fusion=concat",
        "streams={speech: {}, ramp: {front: {name: standardize, normalize: none}, embedding: none}}",
        "streams.ramp.temporal={name: mel_cnn, channels: [1]}",
    )
    stream = make_model(examples, config, 0).eval().streams[1]
    with torch.no_grad():  # the maximum of two neighbours: the later of them
        (block,) = stream.temporal.blocks
        block.convolutions[0].weight.zero_()[..., 1, 1] = 1
        block.convolutions[0].bias.zero_()
    found = stream(examples.batch(np.array([0, 5])).streams["ramp"])
    for row, place in ((0, 0), (5, 1)):
        clock = store.feature("states").times(examples.names[row])
        ramp = found.values[place, : len(clock), 0].detach().numpy()
        assert np.abs(ramp - clock)[clock < clock[-1] - 0.02].max() < 0.0035 + 0.007 + 1e-4


def test_a_stream_is_as_wide_as_its_model_over_time(store):
    examples, config = examples_of(
        store, "fusion=concat", "streams={speech: {temporal: {name: bilstm, hidden: 5}}, pitch: {embedding: none}}"
    )
    model = make_model(examples, config, 0)
    assert [stream.dim for stream in model.streams] == [10, 2]
    assert model.fusion.dim == 12


def test_a_chain_has_the_pace_of_all_its_steps():
    chain = Chain.model_validate({"steps": ["mel_cnn", {"name": "mel_cnn", "channels": [2]}, "bilstm"]})
    assert chain.every == 16
    assert chain.build(16)(torch.ones(1, 17, 16), torch.ones(1, 17, dtype=torch.bool)).mask.shape == (1, 2)
