"""How long a cluster takes to explain many pictures, by a simulation of its workers, its store and Ray's head.

    python benchmarks/cluster_simulation.py                      # the tables of docs/scale.md
    python benchmarks/cluster_simulation.py --write              # into docs/scale.md
    python benchmarks/cluster_simulation.py --pace 20 --gigabits 10 --picture-kb 500

Tasks go out one after the other through Ray's head, which takes a fixed time for each. A worker fetches a task's pictures in
groups over a link that all workers share, some ahead of the group that it explains, and writes the task's Parquet file over
the same store's link in the other direction. Every worker first loads the bundle. Times are fixed, so that the only chance
left is the order in which workers find the link and the head free.
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
START, END = "<!-- written by benchmarks/cluster_simulation.py -->", "<!-- until here: cluster_simulation -->"
WORKERS = (1, 8, 64, 256, 1024)


@dataclass(frozen=True)
class Cluster:
    """What is simulated; seconds and bytes.

    Attributes
    ----------
    workers : int
    pace : float
        Explanations a second of a worker.
    head : float
        Seconds of Ray's head for each task, start and end together.
    link : float
        Bytes a second of the store, shared by all workers, each way.
    latency : float
        Seconds from asking the store to its first byte.
    picture, result : float
        Bytes of a picture, and of a result's row.
    task : int
        Pictures of a task.
    load : float
        Seconds that a worker takes to start and load the bundle.
    """

    workers: int = 8
    pace: float = 2.2
    head: float = 0.01
    link: float = 10e9 / 8
    latency: float = 0.03
    picture: float = 100e3
    result: float = 30e3
    task: int = 64
    load: float = 20.0


@dataclass(frozen=True)
class Found:
    """What a simulation gave.

    Attributes
    ----------
    seconds : float
        Until the last result is written.
    explaining, link, head : float
        Shares of that time in which workers explain (mean), the store sends, and Ray's head is at work.
    """

    seconds: float
    explaining: float
    link: float
    head: float

    @property
    def limit(self) -> str:
        """What is busiest."""
        return max(
            (self.explaining, "the workers"), (self.link, "the store's link"), (self.head, "Ray's head")
        )[1]


def simulate(cluster: Cluster, pictures: int, group: int = 16) -> Found:
    """Simulate explaining `pictures` pictures, of which workers fetch and explain `group` at a time."""
    each = 1 / cluster.pace
    head_free = link_free = back_free = 0.0
    head_busy = link_busy = work_busy = last = 0.0
    left = pictures
    # when a worker asks for its next group of pictures, or has explained its task
    events = [(cluster.load, worker) for worker in range(cluster.workers)]
    groups: list[deque[int]] = [deque() for _ in range(cluster.workers)]
    done = [0.0] * cluster.workers  # when the worker has explained what it was given so far
    sizes = [0] * cluster.workers
    heapq.heapify(events)
    while events:
        now, worker = heapq.heappop(events)
        if not groups[worker]:  # the task is explained: write it, then ask for another
            if sizes[worker]:
                back_free = max(back_free, now) + sizes[worker] * cluster.result / cluster.link
                now = back_free + cluster.latency
                last, sizes[worker] = max(last, now), 0
            if not left:
                continue
            size = min(cluster.task, left)
            left -= size
            head_free = max(head_free, now) + cluster.head
            head_busy += cluster.head
            sizes[worker] = size
            groups[worker].extend(min(group, size - first) for first in range(0, size, group))
            heapq.heappush(events, (head_free, worker))
            continue
        size = groups[worker].popleft()
        sending = size * cluster.picture / cluster.link
        link_free, link_busy = max(link_free, now) + sending, link_busy + sending
        came = link_free + cluster.latency
        start = max(done[worker], came)
        done[worker], work_busy = start + size * each, work_busy + size * each
        # the next group is asked for when this one begins; the task's end waits for what is explained
        heapq.heappush(events, (start if groups[worker] else done[worker], worker))
    return Found(last, work_busy / cluster.workers / last, link_busy / last, head_busy / last)


def at_least(cluster: Cluster, pictures: int) -> float:
    """Seconds that no order of the work can fall below."""
    tasks = -(-pictures // cluster.task)
    return cluster.load + max(
        pictures / cluster.pace / cluster.workers,
        pictures * cluster.picture / cluster.link,
        tasks * cluster.head,
    )


def words(seconds: float) -> str:
    """Seconds as days, hours or minutes."""
    for length, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def table(cluster: Cluster, paces: list[float], pictures: int) -> str:
    """Rows of workers, columns of paces: time, speed-up over one worker, what is busiest."""
    lines = ["| workers | " + " | ".join(f"{pace:g} a second each" for pace in paces) + " |"]
    lines.append("|---:|" + "---|" * len(paces))
    alone = {pace: pictures / pace for pace in paces}
    for workers in WORKERS:
        cells = []
        for pace in paces:
            found = simulate(replace(cluster, workers=workers, pace=pace), pictures)
            cells.append(f"{words(found.seconds)} · {alone[pace] / found.seconds:.0f} × · {found.limit}")
        lines.append(f"| {workers} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pace", type=float, nargs="+", default=[2.2, 20.0, 200.0])
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--gigabits", type=float, default=10.0)
    parser.add_argument("--picture-kb", type=float, default=100.0)
    parser.add_argument("--result-kb", type=float, default=30.0)
    parser.add_argument("--head-ms", type=float, default=10.0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    cluster = Cluster(
        link=options.gigabits * 1e9 / 8,
        picture=options.picture_kb * 1e3,
        result=options.result_kb * 1e3,
        head=options.head_ms / 1e3,
    )
    text = table(cluster, options.pace, options.pictures)
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(START)
        PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
