# SPDX-License-Identifier: Apache-2.0
"""Which arguments a spec may hand to the code that builds a network.

Builders of torchvision and timm also take the names of files, addresses and hubs
(`checkpoint_path`, `pretrained_cfg`, `cache_dir`, `weights_backbone`) and open them
with loaders of their own, which know neither allowed folders nor digests and may run
code. So names are allowed one by one, and no value can be a path or an address.
"""

import difflib
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.errors import ModelError

Value = str | int | float | bool

#: How a network is shaped; what both libraries call the same comes first.
_SHAPE = frozenset({"num_classes", "drop_rate", "patch_size", "num_heads"})

TORCHVISION = _SHAPE | {
    "alpha",
    "attention_dropout",
    "aux_logits",
    "bn_size",
    "dropout",
    "growth_rate",
    "groups",
    "hidden_dim",
    "image_size",
    "init_weights",
    "layer_scale",
    "memory_efficient",
    "mlp_dim",
    "num_init_features",
    "num_layers",
    "progress",
    "reduced_tail",
    "representation_size",
    "round_nearest",
    "stochastic_depth_prob",
    "transform_input",
    "width_mult",
    "width_per_group",
    "zero_init_residual",
}

TIMM = _SHAPE | {
    "act_layer",
    "aa_layer",
    "attn_drop_rate",
    "avg_down",
    "base_width",
    "block_reduce_first",
    "cardinality",
    "class_token",
    "depth",
    "drop_block_rate",
    "drop_path_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "embed_dim",
    "fc_norm",
    "global_pool",
    "head_init_scale",
    "img_size",
    "in_chans",
    "init_values",
    "ls_init_value",
    "mlp_ratio",
    "no_embed_class",
    "norm_layer",
    "num_features",
    "output_stride",
    "pos_drop_rate",
    "pos_embed",
    "pre_norm",
    "proj_drop_rate",
    "qk_norm",
    "qkv_bias",
    "reg_tokens",
    "stem_type",
    "stem_width",
    "window_size",
    "zero_init_last",
}

#: A word of a library's vocabulary, such as `avg` or `gelu`, or a list of numbers such
#: as `64,32`; no path, no address.
_WORD = re.compile(r"[A-Za-z0-9_+,-]{0,40}", re.ASCII)


def checked_arguments(
    source: str, arguments: Mapping[str, Value], allowed: frozenset[str] | None
) -> dict[str, Any]:
    """Return the arguments, none of which can name a file, an address or a hub.

    Args:
        source: The spec's `model.source`, for the message.
        arguments: The spec's `model.arguments`.
        allowed: The names that may be used; None where the architecture was registered
            and so decides itself.

    Raises:
        ModelError: a name is not on the list, or a value is not plain.
    """
    for name, value in arguments.items():
        if allowed is not None and name not in allowed:
            raise ModelError(_not_allowed(source, name, allowed))
        if not _is_plain(value):
            raise ModelError(
                f"model.arguments.{name}: expected a number, true, false or a word of "
                "at most 40 letters and digits; arguments cannot name files or "
                "addresses, weights go under model.weights."
            )
    return dict(arguments)


def _is_plain(value: Value) -> bool:
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    return isinstance(value, int) or math.isfinite(value)


def _not_allowed(source: str, name: str, allowed: frozenset[str]) -> str:
    near = difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=0.75)
    if near:
        return f"model.arguments: there is no '{name}'; did you mean '{near[0]}'?"
    return (
        f"model.arguments: '{name}' may not be given to {source}; allowed is what "
        "shapes the network, such as num_classes, and weights go under model.weights."
    )
