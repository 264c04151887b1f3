"""SISE on a bundle: extract -> select -> score masks -> weigh -> fuse."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sise_ort.errors import FrameError, ParameterError, shown
from sise_ort.formulas.selection import check_mu
from sise_ort.readouts import Question
from sise_ort.runtime.methods.budget.limits import NO_LIMIT, Budget
from sise_ort.runtime.methods.budget.search import Search
from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.method import Attributions, Method, Picture, parameter
from sise_ort.runtime.methods.scoring import Job, score, score_one
from sise_ort.runtime.methods.selection import Selection

if TYPE_CHECKING:
    from sise_ort.runtime.model import BundleModel
    from sise_ort.runtime.providers import Tensor


ADVISED = 64
"""Passes of a budget whose heat maps are as good as all masks' (docs/budget.md)."""


@dataclass(frozen=True)
class Sise(Method):
    """Fusion of masks from feature maps, weighted by the network's confidence when it sees the picture through each.

    In every block, the feature maps whose pooled gradient speaks for the class become masks. The network scores the
    picture through each mask. Per block, masks are added with their scores as weights; blocks are fused from shallow to
    deep.

    Parameters
    ----------
    mu : float or "adaptive"
        Keep maps whose pooled gradient exceeds mu times the block's largest, in [0, 1); "adaptive" takes Otsu's threshold
        in every block (Ada-SISE).
    budget : Budget
        What an explanation may cost (docs/budget.md).
    """

    name = "sise"
    title = "SISE"
    source = (
        "Sattarzadeh et al., AAAI-21, arXiv 2010.00672; mu=adaptive: Sudhakar et al., Ada-SISE, ICASSP-21, "
        "arXiv 2102.07799"
    )
    price = (
        "one forward and one backward pass, and a forward pass per mask (hundreds; fewer with a higher mu)"
    )
    default = True
    unit = "masks"

    mu: float | str = parameter(0.0, symbol="μ", always=True)
    budget: Budget = NO_LIMIT

    def __post_init__(self) -> None:
        self._set(mu=check_mu(self.mu))
        if not isinstance(self.budget, Budget):
            raise ParameterError(f"budget is {shown(self.budget)}; a Budget(passes=…) is needed")

    @property
    def heading(self) -> str:
        """Title and parameters as in `Method.heading`; Ada-SISE has a title of its own."""
        return "Ada-SISE" if self == Sise("adaptive") else super().heading

    @property
    def foreseeable(self) -> bool:
        """Whether its passes alone say when it ends."""
        return self.budget.deadline is None and self.budget.tolerance is None

    @property
    def shorter(self) -> int:
        """Passes of the budget that users are told of; 0 where there is a budget."""
        return 0 if self.budget.limited else ADVISED

    def rehearsal(self, model: BundleModel) -> Method:
        """SISE with a budget of two batches, which times all steps that a deadline must estimate."""
        return replace(self, budget=Budget(passes=2 * model.batch_size))

    def explain(
        self, model: BundleModel, image: Tensor, questions: Sequence[Question], call: Call
    ) -> Attributions:
        """Answer all questions on one picture; they share their masks."""
        selection = Selection(model, image, questions, self.mu)
        count = len(selection.masks.block)
        if not count or self.budget.covers(count):
            call.begin(count)
            return selection.scored(score_one(model, selection.job(call.report)))
        search = Search(selection, self.budget, call)
        began = call.clock()
        search.run()
        scored_at = call.clock()
        outcome = search.finish()
        answers = selection.answers(
            outcome.visualization_maps, outcome.heatmaps, outcome.counts, outcome.facts, outcome.notes
        )
        timings = {"score": scored_at - began, "fuse": call.clock() - scored_at}
        return selection.attributions(answers, len(outcome.scored), timings)

    def explain_many(
        self, model: BundleModel, pictures: Iterable[Picture], call: Call
    ) -> Iterator[Attributions | FrameError]:
        """Answer for many pictures, whose masks share batches; with a budget, one picture after the other."""
        if self.budget.limited:
            yield from super().explain_many(model, pictures, call)
            return
        begun: deque[tuple[Selection, Call]] = deque()

        def jobs() -> Iterator[Job | FrameError]:
            for picture in pictures:
                own = call.picture(picture.seconds)
                try:
                    selection = Selection(model, picture.image, picture.questions, self.mu)
                except FrameError as error:
                    yield error
                    continue
                begun.append((selection, own))
                own.begin(len(selection.masks.block))
                yield selection.job(own.report)

        for job in score(model, jobs()):
            if isinstance(job, FrameError):
                yield job
                continue
            selection, own = begun.popleft()
            try:
                yield replace(selection.scored(job), estimate=own.estimate)
            except FrameError as error:
                yield error
