"""Work on every image, or every block of them, by one thread a core."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def in_threads(work: Callable[[int], T], count: int, title: str, unit: str = "image") -> Iterator[T]:
    """`work(0), work(1), ...` in order, computed by one thread a core, a bounded number of results ahead.

    Threads suffice: Pillow, zlib and hashlib release the interpreter's lock while they work.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        interval = 1.0 if sys.stderr.isatty() else 30.0
        with tqdm(total=count, desc=title, unit=unit, mininterval=interval, delay=2.0) as bar:
            for i in range(count):
                ahead.append(pool.submit(work, i))
                if len(ahead) >= 4 * workers:
                    yield ahead.popleft().result()
                    bar.update()
            while ahead:
                yield ahead.popleft().result()
                bar.update()
