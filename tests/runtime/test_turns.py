"""Turns: one thread at a time, first come, first served, wherever a thread is interrupted."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from sise_ort.runtime import turns as module
from sise_ort.runtime.turns import Turns

LOOKING = ("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "POP_JUMP", "BEFORE_WITH", "SETUP_WITH")
"""Instructions after which CPython 3.10 to 3.13 look for interrupts, and some after which they do not."""
PATIENCE = 20
"""Seconds after which a thread that should have had its turn has lost it."""


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def test_turns_come_in_order() -> None:
    """Whoever waits gets its turn before one that comes back for another."""
    turns, order, begun = Turns(), [], threading.Event()

    def greedy() -> None:
        for count in range(3):

            def work(first: bool = count == 0) -> None:
                order.append("greedy")
                begun.set()
                if first:
                    until(lambda: turns.waiting == 2)

            turns.take(work)

    def modest(name: str, others: int) -> None:
        begun.wait(PATIENCE)
        until(lambda: turns.waiting == others)
        turns.take(lambda: order.append(name))

    threads = [threading.Thread(target=greedy)]
    threads += [threading.Thread(target=modest, args=(name, n)) for n, name in enumerate("ab")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["greedy", "a", "b", "greedy", "greedy"]
    assert not turns.contended and turns.waiting == 0


def test_an_answer_and_an_error_end_the_turn() -> None:
    turns = Turns()
    assert turns.take(lambda: turns.contended)
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 // 0)
    assert not turns.contended and turns.take(lambda: 3) == 3


class Interrupted(threading.Thread):
    """Takes a turn, and is interrupted at one of the moments at which Python looks for interrupts.

    These are the begin of a function and the ends of calls and of loops' rounds: never between a `with` block's end and
    the call that leaves it.

    Attributes
    ----------
    steps : int
        Such moments in `Turns`' code that were reached.
    worked : bool
        Whether it had its turn.
    """

    def __init__(self, turns: Turns, step: int, work: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self.turns, self.step, self.work = turns, step, work
        self.steps, self.worked, self.interrupted = 0, False, False

    def run(self) -> None:
        before: dict[FrameType, str] = {}

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            if frame.f_code.co_filename != module.__file__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                looked = before.get(frame, "RESUME").startswith(LOOKING)
                before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
                if looked:
                    self.steps += 1
                    if self.steps == self.step:
                        raise KeyboardInterrupt
            return trace

        def work() -> None:
            self.worked = True
            self.work()

        usual = sys.gettrace()
        try:
            sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it before it begins
            sys.settrace(trace)
            self.turns.take(work)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            sys.settrace(usual)


def steps(occupied: bool) -> int:
    """Number of moments of one turn, with another thread in front or without."""
    turns, release = Turns(), threading.Event()
    front = threading.Thread(target=lambda: turns.take(release.wait), daemon=True)
    if occupied:
        front.start()
        until(lambda: turns.contended)
    thread = Interrupted(turns, 0)
    thread.start()
    if occupied:
        until(lambda: turns.waiting == 1)
        release.set()
        front.join(PATIENCE)
    thread.join(PATIENCE)
    assert thread.worked and not thread.interrupted
    return thread.steps


def test_an_interrupt_anywhere_loses_no_turn() -> None:
    """KeyboardInterrupt at every moment of a turn: the next thread has its turn all the same."""
    turns, interrupted, idle = Turns(), 0, 0
    for step in range(1, steps(occupied=False) + 1):
        thread = Interrupted(turns, step)
        thread.start()
        thread.join(PATIENCE)
        interrupted += thread.interrupted
        idle += thread.interrupted and not thread.worked
        done = threading.Event()
        threading.Thread(target=turns.take, args=(done.set,), daemon=True).start()
        assert done.wait(PATIENCE), f"the turn was lost at moment {step}"
        until(lambda: not turns.contended)
    assert interrupted >= 5 and idle >= 3


def test_an_interrupt_while_waiting_loses_no_turn_and_lets_nobody_in() -> None:
    """One thread works, one that waits is interrupted at every moment, one waits behind: it works after the first."""
    interrupted = 0
    for step in range(1, steps(occupied=True) + 1):
        turns, release, order = Turns(), threading.Event(), []

        def first(turns: Turns = turns, release: threading.Event = release, order: list[str] = order) -> None:
            def work() -> None:
                release.wait(PATIENCE)
                order.append("first")

            turns.take(work)

        threads = [threading.Thread(target=first, daemon=True)]
        threads[0].start()
        until(lambda turns=turns: turns.contended)
        second = Interrupted(turns, step, lambda order=order: order.append("second"))
        second.start()
        until(lambda turns=turns, second=second: turns.waiting == 1 or not second.is_alive())
        waiting = turns.waiting
        third = threading.Thread(
            target=lambda turns=turns, order=order: turns.take(lambda: order.append("third")), daemon=True
        )
        third.start()
        until(lambda turns=turns, waiting=waiting: turns.waiting == waiting + 1)
        release.set()
        for thread in (*threads, second, third):
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"a turn was lost at moment {step}"
        assert order == ["first", "second", "third"] if second.worked else ["first", "third"]
        assert not turns.contended
        interrupted += second.interrupted
    assert interrupted >= 8
