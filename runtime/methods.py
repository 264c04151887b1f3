"""All methods of explanation by name."""

from __future__ import annotations

import difflib

from sise_ort.errors import ParameterError
from sise_ort.runtime.baselines.ablation_cam import ABLATION_CAM
from sise_ort.runtime.baselines.extremal_perturbation import EXTREMAL_PERTURBATION
from sise_ort.runtime.baselines.full_grad import FULL_GRAD
from sise_ort.runtime.baselines.grad_cam import GRAD_CAM, GRAD_CAM_PLUS_PLUS
from sise_ort.runtime.baselines.integrated_gradients import INTEGRATED_GRADIENTS
from sise_ort.runtime.baselines.plain_gradient import GRADIENT
from sise_ort.runtime.baselines.rise import RISE
from sise_ort.runtime.baselines.score_cam import SCORE_CAM
from sise_ort.runtime.method import Method
from sise_ort.runtime.sise import SISE

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        SISE,
        GRAD_CAM,
        GRAD_CAM_PLUS_PLUS,
        SCORE_CAM,
        ABLATION_CAM,
        RISE,
        GRADIENT,
        INTEGRATED_GRADIENTS,
        FULL_GRAD,
        EXTREMAL_PERTURBATION,
    )
}


def method_named(name: str) -> Method:
    """The method of a name.

    Raises
    ------
    ParameterError : there is none.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(METHODS)}"
        raise ParameterError(f"there is no method '{name}'; {hint}")
    return METHODS[name]
