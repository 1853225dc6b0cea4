"""Several processes that train one model: PyTorch's own DDP and FSDP2 behind the door of processes.py.

Scalars and Python objects go through gloo, so that each step's counts and stop signals wait for no GPU.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from math import ceil
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from basics.errors import UserError, first_line
from basics.launched import Launch, Share
from basics.settings import Settings
from networks.parameters import TrainableModel
from training.lost_processes import News
from training.meeting import meeting
from training.processes import Item, Number, Result
from training.sharded import shard, shard_like, whole

TO_MEET = timedelta(minutes=10)  # machines start at times of their own
AT_WORK = timedelta(hours=24)  # one may prepare for long; a lost one is known by its closed connection


@contextlib.contextmanager
def several(launch: Launch) -> Iterator["SeveralProcesses"]:
    """The processes of this run, of whose errors the user sees one."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(sys.stdout if launch.speaks else nowhere):
            processes = SeveralProcesses(launch)
            with processes.news.told_once():
                yield processes
    dist.destroy_process_group()


class SeveralProcesses:
    """Processes: all call its methods in the same order, as each waits for the others."""

    def __init__(self, launch: Launch):
        self.sharded = False
        self.share, self.here = Share(launch.index, launch.count), Share(launch.index_here, launch.count_here)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if self.here.index < torch.cuda.device_count():  # else pick_device() says what is missing
            torch.cuda.set_device(self.here.index)
        try:
            with meeting(launch, TO_MEET) as store:
                dist.init_process_group(
                    backend, store=store, rank=launch.index, world_size=launch.count, timeout=AT_WORK
                )
                self.news = News(store, launch.index, self.gather(News.who()))
        except (RuntimeError, ValueError) as error:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise UserError(
                f"{launch.count} processes were to meet at {place}: {first_line(error)}; "
                "start all of them with torchrun, and where no other run has that port"
            ) from error

    @property
    def is_main(self) -> bool:
        return self.share.index == 0

    def check(self, settings: Settings) -> None:
        if settings.BATCH_SIZE < self.share.count:
            raise UserError(
                f"{self.share.count} processes split each batch, but BATCH_SIZE is {settings.BATCH_SIZE}; raise it, or "
                "start fewer"
            )
        if settings.DISTILL_FEATURES and settings.SCST_EPOCHS and settings.PARALLEL == "ddp":
            raise UserError(
                "DISTILL_FEATURES trains what SCST_EPOCHS do not, which DDP cannot follow; give SCST_EPOCHS a run of "
                "their own, with FINETUNE_FROM"
            )

    def wrap(self, model: TrainableModel, settings: Settings) -> nn.Module:
        """DDP, which keeps the model whole in each process, or the model sharded in place."""
        machines = f" on {ceil(self.share.count / self.here.count)} machines" * (self.share.count > self.here.count)
        print(f"processes    {self.share.count}{machines}, {settings.PARALLEL}; they split each batch of examples")
        self.sharded = settings.PARALLEL == "fsdp"
        if self.sharded:
            return shard(model)
        # buffers never change: BatchNorm stays in eval mode; a static graph may have parameters without gradients, as
        # CLIP's last norm, and then needs an exchange with each backward pass (no no_sync())
        parallel = DistributedDataParallel(
            model, forward_sync_buffers=False, gradient_as_bucket_view=True, static_graph=True
        )
        if self.share.count > 2 and next(model.parameters()).device.type == "cpu":
            parallel.register_comm_hook(self.share.count, mean_in_order)
        return parallel

    def sum(self, value: Number) -> Number:
        return sum(self.numbers(value))  # type: ignore[return-value]  # in one order: the same in all processes

    def numbers(self, value: Number) -> list[Number]:
        """That of each process."""
        own = torch.tensor([value], dtype=torch.int64 if isinstance(value, int) else torch.float64)
        found = [torch.empty_like(own) for _ in range(self.share.count)]
        dist.all_gather(found, own)
        return [each.item() for each in found]  # type: ignore[misc]

    def agreed(self, stop: str | None) -> str | None:
        asked = max(self.numbers(int(signal.Signals[stop]) if stop else 0))
        return signal.Signals(asked).name if asked else None

    def wait(self) -> None:
        self.numbers(0)

    def gather(self, value: Item) -> list[Item]:
        found: list[Any] = [None] * self.share.count
        dist.all_gather_object(found, value)
        return found

    def from_main(self, value: Item) -> Item:
        found = [value]
        dist.broadcast_object_list(found)
        return found[0]

    def shared_out(self, items: Sequence[Item], work: Callable[[list[Item]], list[Result]]) -> list[Result]:
        """Each works on as many, so that what they call within is called by all; what is too much is dropped."""
        size = ceil(len(items) / self.share.count)
        filled = [*items, *[items[0]] * (size * self.share.count - len(items))] if items else []
        found = self.gather(work(filled[self.share.index :: self.share.count]))
        return [result for results in zip(*found) for result in results][: len(items)]

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        return whole(state, keep=self.is_main) if self.sharded else state

    def placed(self, tensor: Tensor, like: Tensor) -> Tensor:
        return shard_like(tensor, like)


def mean_in_order(count: int, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The mean of a bucket over processes, added up in their order, so that a run that goes on is the same to the bit.

    gloo adds in an order that depends on a number's place, and DDP arranges its buckets anew after the first step.
    """
    parts = [torch.empty_like(bucket.buffer()) for _ in range(count)]
    gathered = dist.all_gather(parts, bucket.buffer(), async_op=True).get_future()
    return gathered.then(lambda _: sum(parts[1:], parts[0]) / count)
