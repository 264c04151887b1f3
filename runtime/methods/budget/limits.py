"""What an explanation may cost, and what of it is left at a moment."""

from __future__ import annotations

from dataclasses import dataclass

from sise_ort.runtime.methods.call import Call
from sise_ort.runtime.methods.checks import seconds, share, whole_number
from sise_ort.runtime.pace import Pace

FIRST_ROUND = 16
"""Masks that are chosen before the first answer is known."""
ROUND = 16
"""Masks that are chosen at most before the process learns again."""


@dataclass(frozen=True)
class Budget:
    """What an explanation may cost; None means no limit.

    Parameters
    ----------
    passes : int or None
        Score at most N masks and predict the others.
    deadline : float or None
        Answer within N seconds, counted from the call on.
    tolerance : float or None
        Stop where draws of the heat map correlate with their mean by 1 - tolerance or more, in (0, 1): where more
        passes would change the map little.

    Raises
    ------
    ParameterError
        A value is out of range.
    """

    passes: int | None = None
    deadline: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        for name, check in (
            ("passes", lambda name, value: whole_number(name, value, 0)),
            ("deadline", seconds),
            ("tolerance", share),
        ):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, check(name, value))

    @property
    def limited(self) -> bool:
        """Whether anything is limited."""
        return not (self.passes is None and self.deadline is None and self.tolerance is None)

    def covers(self, masks: int) -> bool:
        """Whether N masks will all be scored, whatever they answer."""
        timeless = self.deadline is None and self.tolerance is None
        return timeless and (self.passes is None or self.passes >= masks)


NO_LIMIT = Budget()
"""Everything is scored."""


class Allowance:
    """What a budget still allows.

    Seconds come from `Pace`: of a mask, with what is learnt from it, and of finishing one question, so that a deadline
    covers twenty questions as well as one.

    Parameters
    ----------
    budget : Budget
        The limits.
    call : Call
        The clock, and the moment from which a deadline counts.
    pace : Pace
        What work took lately; what is measured here goes into it.
    masks, questions : int
        How many masks there are, and how many questions.
    """

    def __init__(self, budget: Budget, call: Call, pace: Pace, masks: int, questions: int) -> None:
        self.budget, self._call, self._pace, self._questions = budget, call, pace, questions
        self._all = masks
        self.most = masks if budget.passes is None else min(budget.passes, masks)
        self._prepared = call.elapsed()

    def next_round(self, scored: int, at_once: int | None = None) -> tuple[int, str]:
        """How many masks to score next, and what ends the search after them, "" if nothing does.

        Parameters
        ----------
        scored : int
            Masks scored so far.
        at_once : int or None
            Masks of one batch where other callers wait for their turns: under a deadline a round is no longer then, so that
            the clock is looked at after every turn.
        """
        size, ending = (ROUND if scored else FIRST_ROUND), ""
        left = self.most - scored
        if left <= size:
            size, ending = left, "complete" if self.most == self._all else "passes"
        if self.budget.deadline is None:
            return size, ending
        # before anything is known, a mask may cost what all before the first did
        mask = self._pace.typical("mask", self._prepared)
        spare = self.budget.deadline - self._call.elapsed() - self._afterwards()
        affordable = max(0, int(spare / mask)) if mask > 0 else size
        if affordable < size:  # half of it: a round that takes longer than expected leaves time to notice
            size, ending = -(-affordable // 2), "" if affordable else "deadline"
        if at_once is not None and at_once < size:
            size, ending = at_once, ""
        return size, ending

    def fits(self, masks: int, done: int, began: float) -> bool:
        """Whether a round that has scored some masks since `began` may score more at its own pace."""
        if self.budget.deadline is None:
            return True
        each = (self.now() - began) / done
        return self._call.elapsed() + masks * each + self._afterwards() <= self.budget.deadline

    def _afterwards(self) -> float:
        """Seconds that must be left when a round is over."""
        return self._questions * self._pace.cautious("finish", self._prepared / self._questions)

    def now(self) -> float:
        """Seconds on the clock."""
        return self._call.clock()

    def scored(self, masks: int, began: float) -> None:
        """Remember how long a round of masks took."""
        self._pace.note("mask", (self.now() - began) / masks)

    def finished(self, began: float) -> None:
        """Remember how long finishing took per question."""
        self._pace.note("finish", (self.now() - began) / self._questions)

    def retry(self) -> None:
        """Doubt the longest time of a mask: it was left out for lack of time, and is not measured again by this call."""
        self._pace.forget("mask")
