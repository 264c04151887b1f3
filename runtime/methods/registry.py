"""All methods of explanation by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from sise_ort.errors import ParameterError, shown
from sise_ort.runtime.methods.ablation_cam import AblationCam
from sise_ort.runtime.methods.extremal_perturbation import ExtremalPerturbation
from sise_ort.runtime.methods.full_grad import FullGrad
from sise_ort.runtime.methods.grad_cam import GradCam, GradCamPlusPlus
from sise_ort.runtime.methods.integrated_gradients import IntegratedGradients
from sise_ort.runtime.methods.layer_cam import LayerCam
from sise_ort.runtime.methods.method import Method
from sise_ort.runtime.methods.plain_gradient import Gradient
from sise_ort.runtime.methods.refine import Refine
from sise_ort.runtime.methods.rise import Rise
from sise_ort.runtime.methods.score_cam import ScoreCam
from sise_ort.runtime.methods.sise import Sise

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Sise,
        GradCam,
        GradCamPlusPlus,
        LayerCam,
        Refine,
        ScoreCam,
        AblationCam,
        Rise,
        Gradient,
        IntegratedGradients,
        FullGrad,
        ExtremalPerturbation,
    )
}
DEFAULT = next(name for name, method in METHODS.items() if method.default)
"""The method that is meant where none is named."""


def method_named(name: str) -> type[Method]:
    """The method of a name.

    Raises
    ------
    ParameterError
        There is none.
    """
    if not isinstance(name, str) or name not in METHODS:
        close = difflib.get_close_matches(str(name)[:100], METHODS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(METHODS)}"
        raise ParameterError(f"there is no method {shown(name)}; {hint}")
    return METHODS[name]


def method_of(method: str | Method, parameters: Mapping[str, Any]) -> Method:
    """The method that a caller means by a name and parameters, or by an object that has them.

    Raises
    ------
    ParameterError
        There is no such method or parameter, a value is out of range, or an object is given parameters beside its own.
    """
    if isinstance(method, Method):
        if parameters:
            names = ", ".join(parameters)
            raise ParameterError(
                f"{names}: the parameters of {type(method).__name__}(…) stand inside its brackets"
            )
        return method
    if not isinstance(method, str):
        raise ParameterError(
            f'method is {shown(method)}; pass a name such as "rise", or an object such as Rise(masks=4000)'
        )
    return method_named(method).of(parameters)
