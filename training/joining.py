"""The processes of a run, as the launcher has started them.

with joined() as processes:
    parallel_model = processes.wrap(model, settings)
"""

import contextlib

from basics.launched import launched
from training.processes import OneProcess, Processes


def joined() -> contextlib.AbstractContextManager[Processes]:
    """One process, or those of torchrun: of these the first alone prints, and what goes wrong is told once."""
    if not launched().several:
        return contextlib.nullcontext(OneProcess())
    from training.several_processes import several  # half a second of imports that one process does without

    return several(launched())
