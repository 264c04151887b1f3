"""Methods of explanation, one file each: ``Sise(mu=0.3, budget=Budget(passes=64))``, ``Rise(masks=4000)``."""

from sise_ort.runtime.methods.ablation_cam import AblationCam
from sise_ort.runtime.methods.budget.limits import Budget
from sise_ort.runtime.methods.call import Call, Progress
from sise_ort.runtime.methods.extremal_perturbation import ExtremalPerturbation
from sise_ort.runtime.methods.full_grad import FullGrad
from sise_ort.runtime.methods.grad_cam import GradCam, GradCamPlusPlus
from sise_ort.runtime.methods.integrated_gradients import IntegratedGradients
from sise_ort.runtime.methods.layer_cam import LayerCam
from sise_ort.runtime.methods.method import Attribution, Attributions, Method, Picture
from sise_ort.runtime.methods.plain_gradient import Gradient
from sise_ort.runtime.methods.refine import Refine
from sise_ort.runtime.methods.registry import DEFAULT, METHODS, method_named, method_of
from sise_ort.runtime.methods.rise import Rise
from sise_ort.runtime.methods.score_cam import ScoreCam
from sise_ort.runtime.methods.sise import Sise

__all__ = [
    "DEFAULT",
    "METHODS",
    "AblationCam",
    "Attribution",
    "Attributions",
    "Budget",
    "Call",
    "ExtremalPerturbation",
    "FullGrad",
    "GradCam",
    "GradCamPlusPlus",
    "Gradient",
    "IntegratedGradients",
    "LayerCam",
    "Method",
    "Picture",
    "Progress",
    "Refine",
    "Rise",
    "ScoreCam",
    "Sise",
    "method_named",
    "method_of",
]
