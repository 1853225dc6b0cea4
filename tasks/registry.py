"""The tasks there are, by their name in TASK: a new one is a file with a builder, and a line here."""

from collections.abc import Callable

from basics.errors import UserError
from basics.settings import Settings
from tasks.captioning import build_captioning
from tasks.classification import build_classification
from training.processes import Processes
from training.resume import Resumed
from training.run import Task

Builder = Callable[[Settings, Resumed | None, Processes], Task]
TASKS: dict[str, Builder] = {"caption": build_captioning, "classify": build_classification}


def build_task(settings: Settings, resumed: Resumed | None, processes: Processes) -> Task:
    """The task of TASK, ready to be trained. Raises UserError."""
    if settings.TASK not in TASKS:
        raise UserError(f"TASK must be one of {', '.join(map(repr, TASKS))}, got {settings.TASK!r}")
    return TASKS[settings.TASK](settings, resumed, processes)
