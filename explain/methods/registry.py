# SPDX-License-Identifier: Apache-2.0
"""Methods by name."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from explain.architectures.attention import TappedAttention, resolve_attention
from explain.architectures.resolve import AUTO, resolve_layer
from explain.architectures.tapped import TappedLayer
from explain.errors import InvalidParameterError, UnknownNameError
from explain.methods.cards import METHODS
from explain.methods.method import Method
from explain.parameters import resolved

#: Module and class of each method; imported when it is first asked for.
_CLASSES: dict[str, tuple[str, str]] = {
    "gradcam": ("explain.methods.gradcam", "GradCam"),
    "gradcam_plus_plus": ("explain.methods.gradcam_plus_plus", "GradCamPlusPlus"),
    "hirescam": ("explain.methods.hirescam", "HiResCam"),
    "xgradcam": ("explain.methods.xgradcam", "XGradCam"),
    "layercam": ("explain.methods.layercam", "LayerCam"),
    "eigencam": ("explain.methods.eigencam", "EigenCam"),
    "scorecam": ("explain.methods.scorecam", "ScoreCam"),
    "ablationcam": ("explain.methods.ablationcam", "AblationCam"),
    "cam": ("explain.methods.cam", "Cam"),
    "guided_gradcam": ("explain.methods.guided_gradcam", "GuidedGradCam"),
    "attention_rollout": ("explain.methods.attention_rollout", "AttentionRollout"),
    "generic_attention": ("explain.methods.generic_attention", "GenericAttention"),
    "legrad": ("explain.methods.legrad", "LeGrad"),
    "input_gradient": ("explain.methods.input_gradient", "InputGradient"),
    "gradient_x_input": ("explain.methods.gradient_x_input", "GradientXInput"),
    "smoothgrad": ("explain.methods.smoothgrad", "SmoothGrad"),
    "integrated_gradients": (
        "explain.methods.integrated_gradients",
        "IntegratedGradients",
    ),
    "guided_backprop": ("explain.methods.guided_backprop", "GuidedBackprop"),
    "occlusion": ("explain.methods.occlusion", "Occlusion"),
    "rise": ("explain.methods.rise", "Rise"),
    "lime": ("explain.methods.lime", "Lime"),
    "gnn_explainer": ("explain.graphs.gnn_explainer", "GnnExplainer"),
    "graph_attention": ("explain.graphs.graph_attention", "GraphAttention"),
    "kernelshap": ("explain.methods.kernelshap", "KernelShap"),
    "text_rollout": ("explain.text.rollout", "TextRollout"),
    "text_generic_attention": (
        "explain.text.generic_attention",
        "TextGenericAttention",
    ),
    "text_hierarchy": ("explain.text.hierarchy", "TextHierarchy"),
    "hidden_state_gradient": (
        "explain.sequences.hidden_state",
        "HiddenStateGradient",
    ),
    "hierarchical_occlusion": (
        "explain.sequences.hierarchical_occlusion",
        "HierarchicalOcclusion",
    ),
    "tree_shap": ("explain.tables.tree_shap", "TreeShap"),
    "deeplift": ("explain.tables.deeplift", "DeepLift"),
}


def resolve_tap(
    method: str, model: nn.Module, name: str = AUTO, example: Tensor | None = None
) -> TappedLayer | None:
    """Return what the method taps: a layer, the attention of blocks, or nothing.

    Raises:
        LayerError, UnsupportedModelError: as ``resolve_layer``, ``resolve_attention``.
        UnknownNameError: no such method; says which there are.
    """
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    card = METHODS[method]
    if not card.needs_layer:
        return None
    resolve = resolve_attention if card.needs_attention else resolve_layer
    return resolve(model, name, example)


def create_method(
    name: str, model: nn.Module, layer: TappedLayer | None = None, **parameters: Any
) -> Method:
    """Return the method of that name for the model, tapping the layer.

    Args:
        name: As in ``METHODS``.
        model: The network.
        layer: What ``resolve_tap`` gave; not needed by methods whose card says so.
        parameters: Those of the method's card; None counts as not given.

    Raises:
        UnknownNameError: no such method; says which there are.
        InvalidParameterError: a parameter is unknown or out of range, or a layer is
            missing.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    card = METHODS[name]
    values = resolved(f"method {name!r}", card.parameters, parameters)
    if card.needs_layer and layer is None:
        raise InvalidParameterError(
            f"Method {name!r} taps a layer; pass what resolve_tap returns."
        )
    if card.needs_attention and not isinstance(layer, TappedAttention):
        raise InvalidParameterError(
            f"Method {name!r} reads attention; pass what resolve_tap returns for it."
        )
    module, class_name = _CLASSES[name]
    build = getattr(import_module(module), class_name)
    method: Method = build(model, layer, **values)
    return method
