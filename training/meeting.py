"""Where the processes of one start meet: a part of the launcher's store that no earlier start has written to.

    with meeting(launch, timeout) as store:
        dist.init_process_group(store=store, ...)

torchrun keeps its store when it starts all again, with what lost processes have left in it, and of several machines
only that of the lost one counts the restart. So the first process names the new part, and tells everyone who asks.
"""

import contextlib
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta

from torch.distributed import PrefixStore, Store, rendezvous

from basics.launched import Launch

QUESTIONS = "questions"  # how many have been asked, of all starts
PAUSE = 0.05  # seconds between two looks for questions


@contextlib.contextmanager
def meeting(launch: Launch, timeout: timedelta) -> Iterator[Store]:
    """Within, all processes come to the same new store. Raises RuntimeError where they do not."""
    store, own = connect(timeout), uuid.uuid4().hex
    if launch.index:
        store.set(f"question {store.add(QUESTIONS, 1)}", own)
        yield PrefixStore(store.get(f"answer {own}").decode(), store)  # waits for it
        return
    met = threading.Event()  # a connection of its own: one that waits lets no other question through
    thread = threading.Thread(target=answer, args=[store, own, met])
    thread.start()
    try:
        yield PrefixStore(own, connect(timeout))
    finally:
        met.set()
        thread.join()


def answer(store: Store, name: str, met: threading.Event) -> None:
    """Give everyone the name until all have met; those of earlier starts too, whose answers nobody reads."""
    answered = 0
    while not met.wait(PAUSE):
        for number in range(answered + 1, store.add(QUESTIONS, 0) + 1):
            store.set(f"answer {store.get(f'question {number}').decode()}", name)
            answered = number


def connect(timeout: timedelta) -> Store:
    store, _, _ = next(iter(rendezvous("env://", timeout=timeout)))
    return store
