"""How good explanations are: methods × pictures × metrics, resumable, with intervals."""

from sise_ort.runtime.evaluation.judge import METRICS
from sise_ort.runtime.evaluation.plan import Plan, Variant
from sise_ort.runtime.evaluation.recommend import recommend
from sise_ort.runtime.evaluation.run import Evaluation, evaluate
from sise_ort.runtime.evaluation.summary import Summary, summarise

__all__ = ["METRICS", "Evaluation", "Plan", "Summary", "Variant", "evaluate", "recommend", "summarise"]
