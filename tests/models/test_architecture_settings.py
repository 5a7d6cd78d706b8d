"""Settings of each architecture: sizes, what would change the vectors, and damage."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bert_tokemb.errors import ModelError
from support.architectures import CASES, feeds, model, run, start, weights

Json = dict[str, Any]


def refusal(name: str, changes: Json) -> str:
    """Return the message with which a changed configuration is refused; ``...`` removes."""
    config = {**CASES[name].config, **changes}
    kept = {key: value for key, value in config.items() if value is not ...}
    with pytest.raises(ModelError) as caught:
        model(kept, weights(CASES[name].config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


SIZES = {
    "distilbert": ("dim", "hidden_dim", "n_layers", "n_heads", "max_position_embeddings"),
    "electra": ("hidden_size", "embedding_size", "type_vocab_size", "num_hidden_layers"),
    "roberta": ("hidden_size", "type_vocab_size", "max_position_embeddings"),
    "mpnet": ("hidden_size", "max_position_embeddings"),
    "albert": ("hidden_size", "embedding_size", "num_attention_heads"),
    "modernbert": ("hidden_size", "intermediate_size", "max_position_embeddings"),
    "deberta-v2": ("hidden_size", "intermediate_size", "max_position_embeddings"),
}


@pytest.mark.parametrize(("name", "size"), [(n, size) for n in SIZES for size in SIZES[n]])
def test_sizes_must_be_positive_integers(name: str, size: str) -> None:
    assert refusal(name, {size: 0}) == (
        f"config.json is damaged: {size} is 0, not a positive integer"
    )
    assert refusal(name, {size: ...}) == f"config.json has no {size}"


UNSUPPORTED: list[tuple[str, Json]] = [
    ("distilbert", {"activation": "swish"}),
    ("distilbert", {"pruned_heads": {"0": [1]}}),
    ("electra", {"position_embedding_type": "relative_key"}),
    ("roberta", {"position_embedding_type": "relative_key_query"}),
    ("roberta", {"pruned_heads": {"0": [1]}}),
    ("mpnet", {"relative_attention_num_buckets": 64}),
    ("albert", {"hidden_act": "mish"}),
    ("modernbert", {"norm_bias": True}),
    ("modernbert", {"attention_bias": True}),
    ("modernbert", {"mlp_bias": True}),
    ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    ("modernbert", {"head_dim": 16}),
    ("modernbert", {"causal_mask": True}),
    ("modernbert", {"hidden_activation": "silu"}),
    ("modernbert", {"layer_types": ["full_attention", "chunked_attention", "full_attention"]}),
    ("deberta-v2", {"conv_kernel_size": 3}),
    ("deberta-v2", {"embedding_size": 16}),
    ("deberta-v2", {"attention_head_size": 4}),
    ("deberta-v2", {"relative_attention": False}),
    ("deberta-v2", {"norm_rel_ebd": "batch_norm"}),
    ("deberta-v2", {"pos_att_type": "p2c|p2p"}),
]


@pytest.mark.parametrize(("name", "changes"), UNSUPPORTED)
def test_settings_that_change_the_vectors_are_refused_by_name(name: str, changes: Json) -> None:
    (setting,) = changes
    pattern = rf"config\.json has {setting} .*, which is not supported( \(supported: .*\))?"
    message = refusal(name, changes)
    assert re.fullmatch(pattern, message), message


def test_rope_type_is_refused_by_name() -> None:
    rope = {"full_attention": {"rope_type": "yarn", "rope_theta": 10.0}}
    assert refusal("modernbert", {"rope_parameters": rope}) == (
        "config.json has rope_type 'yarn', which is not supported (supported: default)"
    )


@pytest.mark.parametrize("name", ["electra", "roberta", "mpnet", "albert", "modernbert"])
@pytest.mark.parametrize("setting", ["is_decoder", "add_cross_attention"])
def test_decoders_are_refused(name: str, setting: str) -> None:
    assert refusal(name, {setting: True}) == (
        f"config.json has {setting}: only encoders are supported"
    )


DAMAGED: list[tuple[str, Json, str]] = [
    ("roberta", {"pad_token_id": None}, "pad_token_id is None, not a piece"),
    ("roberta", {"pad_token_id": 60}, "pad_token_id is 60, not a piece"),
    (
        "roberta",
        {"max_position_embeddings": 2},
        "max_position_embeddings is 2, but positions begin at 2",
    ),
    (
        "mpnet",
        {"max_position_embeddings": 2},
        "max_position_embeddings is 2, but positions begin at 2",
    ),
    ("distilbert", {"n_heads": 5}, "dim 32 is not a multiple of n_heads 5"),
    ("modernbert", {"num_attention_heads": 32}, "attention heads of odd size cannot be rotated"),
    ("modernbert", {"layer_types": ["full_attention"]}, "layer_types does not list 3 layers"),
    (
        "modernbert",
        {"global_rope_theta": "x"},
        "global_rope_theta is 'x', not a number from 1",
    ),
    ("modernbert", {"rope_parameters": [1]}, "rope_parameters is [1], not an object"),
    ("deberta-v2", {"position_buckets": 0.5}, "position_buckets is 0.5, not an integer"),
    ("deberta-v2", {"position_buckets": 1}, "position_buckets is 1"),
    ("deberta-v2", {"share_att_key": "yes"}, "share_att_key is 'yes', not true or false"),
    ("deberta-v2", {"pos_att_type": 3}, "pos_att_type is 3, not a list"),
]


@pytest.mark.parametrize(("name", "changes", "message"), DAMAGED)
def test_damaged_settings_are_refused(name: str, changes: Json, message: str) -> None:
    assert refusal(name, changes) == f"config.json is damaged: {message}"


LAYERS: list[tuple[str, Json, str]] = [
    ("distilbert", {"n_layers": 4}, "3 layers, but its configuration says 4"),
    ("roberta", {"num_hidden_layers": 4}, "3 layers, but its configuration says 4"),
    ("mpnet", {"num_hidden_layers": 4}, "3 layers, but its configuration says 4"),
    ("modernbert", {"num_hidden_layers": 4}, "3 layers, but its configuration says 4"),
    ("albert", {"num_hidden_groups": 2}, "1 groups of layers, but its configuration says 2"),
]


@pytest.mark.parametrize(("name", "changes", "message"), LAYERS)
def test_number_of_layers_must_fit_the_weights(name: str, changes: Json, message: str) -> None:
    assert refusal(name, changes) == f"model.safetensors holds {message}"


@pytest.mark.parametrize("name", CASES)
def test_missing_tensor_is_refused(name: str) -> None:
    config = CASES[name].config
    values = weights(config)
    missing = next(tensor for tensor in values if tensor.endswith(("norm.weight", "Norm.weight")))
    loaded = model(config, {key: value for key, value in values.items() if key != missing})
    with pytest.raises(ModelError) as caught:
        list(
            loaded.architecture.parameters(
                loaded.weights, loaded.config, 1, position_embeddings=True
            )
        )
    assert str(caught.value) == f"model.safetensors has no tensor {missing}"


@pytest.mark.parametrize(
    ("name", "max_pieces", "pad_token_id"),
    [
        ("bert", 40, 0),
        ("bert, other settings", 40, 7),
        ("roberta", 38, 1),
        ("xlm-roberta", 39, 0),
        ("camembert", 33, 6),
        ("mpnet, other settings", 300, 1),
        ("modernbert", 1200, 0),
    ],
)
def test_most_pieces_and_padding(name: str, max_pieces: int, pad_token_id: int) -> None:
    config = model(CASES[name].config).config
    assert (config.max_pieces, config.pad_token_id) == (max_pieces, pad_token_id)


# --- Old and new names of ModernBERT's settings -----------------------------------------------


def test_rotation_may_be_given_for_each_kind_of_layer() -> None:
    case = CASES["modernbert"]
    old = {**case.config, "global_rope_theta": 500.0, "local_rope_theta": 70.0}
    names = ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers")
    new = {name: value for name, value in case.config.items() if name not in names}
    new["layer_types"] = ["full_attention", "sliding_attention", "sliding_attention"]
    new["rope_parameters"] = {
        "full_attention": {"rope_type": "default", "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
    }
    inputs = feeds(case, 16)
    np.testing.assert_array_equal(run(start(old), *inputs), run(start(new), *inputs))


def test_local_rotation_is_the_global_one_if_null() -> None:
    case = CASES["modernbert"]
    inputs = feeds(case, 16)
    null, same, other = (
        run(start({**case.config, "local_rope_theta": theta}), *inputs)
        for theta in (None, 160_000.0, 10_000.0)
    )
    np.testing.assert_array_equal(null, same)
    assert not np.array_equal(null, other)
