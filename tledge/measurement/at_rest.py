"""Wait until the threads of this process no longer spin after its last run: what runs next would share cores with them.

onnxruntime's threads look for more work, each on a whole core, for a while before they sleep: 45 ms were seen.
"""

from __future__ import annotations

import time

# Of one core. A look of 5 ms on two busy cores found 0.75 at least while a thread spun, 0.02 at most when none did.
_AT_REST = 0.1


def wait(at_most_s: float, look_s: float) -> None:
    """Return once this process took nearly no processor time for `look_s` seconds, after `at_most_s` whatever it takes.

    Beside a neighbour that keeps a core busy, a spinning thread gets none for a while: a longer look is surer.
    """
    end = time.perf_counter() + at_most_s
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(look_s)
        if time.process_time() - before < _AT_REST * look_s:
            return
