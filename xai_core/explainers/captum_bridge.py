"""Captum's methods as explainers: ``captum:NAME`` for any class of ``captum.attr``.

The classes are made from Captum's own signatures when they are first asked for; Captum is
imported no earlier. ``captum_explainer("Deconvolution")`` and an attribute of this module,
``captum_bridge.Deconvolution``, are the same class.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from xai_core.arrays import Float32, Int64
from xai_core.classifier.layers import find_layer, to_channels_first
from xai_core.errors import ClassifierError, MissingExtraError, ParameterError, did_you_mean
from xai_core.explainers.baselines import baseline_images, check_baseline
from xai_core.explainers.explanation import (
    Explainer,
    Explanation,
    Needs,
    Promise,
    Reduction,
    reduce_channels,
)
from xai_core.explainers.inside import private_module
from xai_core.seeding import generator_for

if TYPE_CHECKING:
    from xai_core.classifier import Classifier

PREFIX = "captum:"
_BASELINES = ("baselines", "layer_baselines")
_BATCHES = ("internal_batch_size", "perturbations_per_eval")
_OF_THE_BATCH = ("FeaturePermutation", "LayerFeaturePermutation")
# What the bridge gives itself, and what changes the form of the answer.
_TAKEN = (
    *("self", "inputs", "target", "model", "forward_func", "layer", "device_ids"),
    *("additional_forward_args", "return_convergence_delta", "custom_attribution_func"),
    *("grad_kwargs", "show_progress", "verbose", "return_input_shape", "kwargs"),
    *("attr_dim_summation", "feature_mask", "layer_mask"),
)


@cache
def captum_explainer(name: str) -> type[Explainer]:
    """Return the explainer class of Captum's ``name``, its fields Captum's parameters.

    Beside Captum's own it has ``reduce`` (channels to heatmap), ``seed`` (of torch's generator,
    which Captum draws from), for methods of a layer ``layer`` (None = the classifier's default),
    and ``baselines`` as texts: ``"black"``, or several for a method that takes a distribution.

    Raises:
        ParameterError: Captum has no such class (with the nearest name), or one that explains
            no image by itself.
        MissingExtraError: Captum is not installed.
    """
    try:
        import captum.attr
    except ModuleNotFoundError as error:
        if error.name not in ("captum", "captum.attr"):
            raise
        raise MissingExtraError(f"{PREFIX}{name}", package="captum", extra="captum") from None

    known = [key for key, value in vars(captum.attr).items() if _wants_a_model(value)]
    method = getattr(captum.attr, name, None)
    if method is None or name.startswith("_"):
        msg = f"captum.attr has no {name!r}: {did_you_mean(name, known)}"
        raise ParameterError(msg)
    if name in _OF_THE_BATCH:
        msg = (
            f"{PREFIX}{name} swaps values between the images of a batch, so a map would depend on "
            f"its neighbours; use {PREFIX}{name.replace('Permutation', 'Ablation')}"
        )
        raise ParameterError(msg)
    if not _wants_a_model(method):
        msg = f"{PREFIX}{name} does not explain an image by itself: {did_you_mean(name, known)}"
        raise ParameterError(msg)
    fields: list[tuple[str, Any, Any]] = []
    parameters = {**_parameters(method.__init__), **_parameters(method.attribute)}
    for key, parameter in parameters.items():
        field_type = _field_type(key, parameter.annotation)
        is_required = parameter.default is inspect.Parameter.empty
        if field_type is None and is_required:
            msg = f"{PREFIX}{name} needs {key!r}, which no threshold file can hold"
            raise ParameterError(msg)
        if field_type is not None:
            fields.append((key, field_type, None if key in _BATCHES else parameter.default))
    if "layer" in inspect.signature(method.__init__).parameters:
        fields.append(("layer", str | None, None))
    fields += [("reduce", Reduction, "abs-sum"), ("seed", int, 0)]
    fields.sort(key=lambda field: field[2] is not inspect.Parameter.empty)
    made = dataclasses.make_dataclass(
        name,
        [
            (key, kind) if default is inspect.Parameter.empty else (key, kind, default)
            for key, kind, default in fields
        ],
        bases=(_CaptumExplainer,),
        namespace={
            "kind": f"{PREFIX}{name}",
            "source": f"captum.attr.{name}",
            "__doc__": f"Captum's {name}; its parameters are those of its ``attribute``.",
            "__module__": __name__,
        },
        frozen=True,
    )
    return cast(type[Explainer], made)


def __getattr__(name: str) -> type[Explainer]:
    """Return the class of that name, so that instances can be pickled."""
    try:
        return captum_explainer(name)
    except (ParameterError, MissingExtraError, ImportError) as error:
        raise AttributeError(str(error)) from None


class _CaptumExplainer:
    """What all bridged methods share: how Captum is called, one image at a time."""

    kind: ClassVar[str]
    needs: ClassVar[Needs] = "module"
    source: ClassVar[str]
    promises: ClassVar[frozenset[Promise]] = frozenset()

    reduce: Reduction
    seed: int

    def __post_init__(self) -> None:
        for key in _BASELINES:
            for text in _texts(getattr(self, key, None)):
                check_baseline(text)

    def explain(self, classifier: Classifier, images: Float32, targets: Int64) -> Explanation:
        """Explain ``images`` for ``targets``; see `Explainer.explain`.

        Captum gets one image at a time, so that no image's map depends on another's; it may
        enlarge that to ``internal_batch_size`` or ``perturbations_per_eval`` inputs, by default
        one batch.

        Raises:
            ClassifierError: Captum cannot explain this model.
            LayerError: no such layer, or one without space.
        """
        module = private_module(classifier, self.kind)
        for child in module.modules():
            if getattr(child, "inplace", False) is True:
                child.inplace = False  # type: ignore[assignment]  # Captum hooks into the input
        module.register_forward_hook(lambda *call: _count(classifier, call[-1]))
        maps, attributions = [], []
        for image, target in zip(images, targets, strict=True):
            result = self._attribute(classifier, module, image, int(target))
            if result.shape == (1, *image.shape):
                signed = result.cpu().numpy()
                attributions.append(signed)
                maps.append(reduce_channels(signed, self.reduce))
            else:
                maps.append(self._enlarged(classifier, module, result, image.shape[-2:]))
        heatmaps = np.concatenate(maps) if maps else np.zeros_like(images[:, 0])
        return Explanation(heatmaps, np.concatenate(attributions) if attributions else None)

    def _attribute(
        self, classifier: Classifier, module: nn.Module, image: Float32, target: int
    ) -> Tensor:
        import captum.attr

        method = getattr(captum.attr, self.kind.removeprefix(PREFIX))
        at_construction = self._given(method.__init__)
        if issubclass(method, captum.attr.LRP):
            from captum.attr._utils.lrp_rules import IdentityRule

            # Captum wants a rule for every layer, and forgets it after every call.
            module.get_submodule("normalise").rule = IdentityRule()
        if hasattr(self, "layer"):
            at_construction["layer"] = self._layer(classifier, module)
        options = self._given(method.attribute)
        for key in set(_BASELINES) & set(options):
            options[key] = self._baselines(options[key], classifier, image)
        for key in set(_BATCHES) & set(options):
            if options[key] is None:
                options[key] = classifier.batch_size(*image.shape[-2:])
        if "target" in inspect.signature(method.attribute).parameters:
            options["target"] = target
        inputs = torch.from_numpy(image[None].copy()).to(classifier.device).requires_grad_()
        generator = generator_for(image, seed=self.seed, purpose=self.kind)
        numpy_state = np.random.get_state()
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(int(generator.integers(2**63)))
            np.random.seed(int(generator.integers(2**32)))
            try:
                result = method(module, **at_construction).attribute(inputs, **options)
            except Exception as error:  # Captum raises whatever its hooks run into
                msg = f"{self.kind} cannot explain {classifier.name}: {error}"
                raise ClassifierError(msg) from error
            finally:
                np.random.set_state(numpy_state)
        first = result[0] if isinstance(result, tuple | list) else result
        return cast(Tensor, first).detach().to(torch.float32)

    def _given(self, function: Any) -> dict[str, Any]:
        """Return this explainer's values for the parameters of one of Captum's functions."""
        return {key: getattr(self, key) for key in _parameters(function) if hasattr(self, key)}

    def _layer_name(self, classifier: Classifier) -> str:
        return cast(str | None, getattr(self, "layer", None)) or classifier.default_layer()

    def _layer(self, classifier: Classifier, module: nn.Module) -> nn.Module:
        return find_layer(module.get_submodule("model"), self._layer_name(classifier))

    def _baselines(
        self, value: str | float | tuple[str, ...] | None, classifier: Classifier, image: Float32
    ) -> Any:
        texts = _texts(value)
        if not texts:
            return value
        rows = np.concatenate([baseline_images(text, classifier, image[None]) for text in texts])
        return torch.from_numpy(rows).to(classifier.device)

    def _enlarged(
        self, classifier: Classifier, module: nn.Module, result: Tensor, size: tuple[int, ...]
    ) -> Float32:
        """Return the heatmap of a layer's relevance, enlarged to the image bilinearly."""
        name = self._layer_name(classifier)
        layer = self._layer(classifier, module)
        spatial = to_channels_first(result, layer, module.get_submodule("model"), name)
        reduced = reduce_channels(spatial.cpu().numpy(), self.reduce)
        enlarged = nn.functional.interpolate(
            torch.from_numpy(reduced)[:, None], size=size, mode="bilinear"
        )
        heatmap: Float32 = enlarged[:, 0].numpy()
        return heatmap


def _count(classifier: Classifier, logits: Tensor) -> None:
    if logits.requires_grad:
        classifier.passes.count(gradients=len(logits))
    else:
        classifier.passes.count(forwards=len(logits))


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else ()


def _wants_a_model(value: object) -> bool:
    """Return whether it is a class that is made from a model and has ``attribute``."""
    if not isinstance(value, type) or not hasattr(value, "attribute"):
        return False
    names = list(inspect.signature(value).parameters)
    takes_inputs = "inputs" in inspect.signature(value.attribute).parameters
    return takes_inputs and bool(names) and names[0] in ("model", "forward_func")


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters that are the user's to give, annotations resolved."""
    plain = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(plain)
    except NameError:
        hints = {}
    return {
        key: parameter.replace(annotation=hints.get(key, parameter.annotation))
        for key, parameter in inspect.signature(plain).parameters.items()
        if key not in _TAKEN
    }


def _field_type(key: str, annotation: object) -> Any:
    """Return the part of a parameter's type that a threshold file can hold, or None."""
    if key in _BASELINES:
        return str | float | tuple[str, ...] | None
    if key in _BATCHES:
        return int | None
    members = _members(annotation)
    plain: list[Any] = [kind for kind in (bool, int, float, str, type(None)) if kind in members]
    if not set(plain) - {type(None)} and not any(typing.get_origin(m) is tuple for m in members):
        return None
    if any(typing.get_origin(m) is tuple and int in _inside(m) for m in members):
        plain.append(tuple[int, ...])
    if not plain:
        return None
    return typing.Union[tuple(plain)]  # noqa: UP007 - made at run time


def _members(annotation: object) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _inside(annotation: object) -> set[Any]:
    return {member for argument in typing.get_args(annotation) for member in _members(argument)}
