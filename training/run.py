"""A run: what training changes or needs, made fresh; and the door to tasks, which say what is learned.

run = start_run(task, folder, processes)
if resumed: restore(run, resumed)           # checkpoint.py
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from basics.devices import make_scaler
from basics.settings import Settings
from losses.criterion import Criterion
from networks.parameters import TrainableModel
from sources.shards.picture import Picture
from sources.source import Source
from training.ema import WeightAverage
from training.optimizer import make_optimizer, make_scheduler
from training.processes import Processes
from training.progress import Progress
from training.stopping import StopSignal

Sample = tuple[Picture, str, list[str]]  # a picture, what the model says of it, and what people do


@dataclass
class Validation:
    """What a task found on validation data: numbers and "warnings" for the epoch's record, samples, a line to print."""

    record: dict = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    summary: str = ""


class Task(Protocol):
    """The door to tasks: all that train.py knows of what is learned. tasks/registry.py has a builder for each.

    A builder takes the settings, the checkpoint to go on from and the processes that train, and makes the task's
    source, vocabulary, model and loaders in that order; nothing is added to them later.
    """

    @property
    def settings(self) -> Settings:
        """With what a checkpoint or another model decides."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Of autocast."""
        ...

    @property
    def model(self) -> TrainableModel: ...

    @property
    def train(self) -> Source: ...

    @property
    def val(self) -> Source: ...

    @property
    def val_criterion(self) -> Criterion:
        """Validation's loss, whatever is trained with."""
        ...

    @property
    def parts(self) -> dict:
        """Plain types that a checkpoint keeps beside the weights, enough to build the model again."""
        ...

    @property
    def num_epochs(self) -> int: ...

    def schedule(self, step: int, steps_per_epoch: int) -> float:
        """Share of the peak learning rate at an optimizer step."""
        ...

    def criterion(self, run: "Run") -> Criterion:
        """Of the epoch that the run is in, asked at its start and when the run goes on in its middle."""
        ...

    def validate(self, run: "Run", record: dict, stop: StopSignal) -> Validation:
        """What the loss of record["val_loss"] does not show."""
        ...

    def save_best(self, run: "Run", record: dict) -> None:
        """Put the model as it is now into the run's best/, whole."""
        ...

    def finish(self, run: "Run") -> str:
        """Score best/ and complete it, print what was found -> the command to type next."""
        ...


@dataclass
class Run:
    """All that training changes or needs; checkpoint.py saves it and puts it back."""

    task: Task
    folder: Path
    parallel_model: nn.Module  # the model as criteria call it
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    scaler: torch.amp.GradScaler
    average: WeightAverage
    progress: Progress
    processes: Processes

    @property
    def settings(self) -> Settings:
        return self.task.settings

    @property
    def model(self) -> TrainableModel:
        return self.task.model

    @property
    def device(self) -> torch.device:
        return self.task.device

    @property
    def dtype(self) -> torch.dtype:
        return self.task.dtype

    @property
    def best(self) -> Path:
        return self.folder / "best"


def start_run(task: Task, folder: Path, processes: Processes) -> Run:
    """A run that has not begun: fresh optimizer, schedule and average over the task's model."""
    parallel_model = processes.wrap(task.model, task.settings)  # first: it may put others in the place of parameters
    optimizer = make_optimizer(task.model.parameter_groups(), task.settings)
    steps = steps_per_epoch(task.train, task.settings)
    run = Run(
        task,
        folder,
        parallel_model,
        optimizer,
        make_scheduler(optimizer, task.schedule, steps),
        make_scaler(task.device, task.dtype),
        WeightAverage(task.model, task.settings.EMA_DECAY),
        Progress(num_pairs=task.train.num_examples, order=task.train.order),
        processes,
    )
    seed_apart(run)
    return run


def seed_apart(run: Run, step: int = 0) -> None:
    """Random numbers of its own for each process but the first, or all would draw the same dropout."""
    if index := run.processes.share.index:
        state = np.random.SeedSequence((run.settings.SEED, index, step)).generate_state(1)
        torch.manual_seed(int(state[0]))


def steps_per_epoch(source: Source, settings: Settings) -> int:
    """Optimizer steps of an epoch; the last may be smaller."""
    batches = math.ceil(source.num_examples / source.batch_size)
    return math.ceil(batches / settings.GRADIENT_ACCUMULATION_STEPS)
