"""Where a run stands: what a checkpoint needs, besides weights, to continue in the middle of an epoch."""

from dataclasses import asdict, dataclass, field


@dataclass
class Progress:
    """Counters and sums; plain types only, so that a checkpoint can hold them."""

    epoch: int = 0  # epochs finished
    global_step: int = 0  # optimizer steps taken
    batches_done: int = 0  # batches of the current epoch trained on: the data position
    num_pairs: int = 0  # examples of an epoch, which give the position its meaning
    order: str = ""  # the fingerprint of these and of their order; older checkpoints have none
    loss_sum: float = 0.0  # nats over them
    num_tokens: int = 0  # targets of the current epoch so far
    seconds: float = 0.0  # spent training in the current epoch
    best_val_loss: float = float("inf")  # of the best epoch, which BEST_METRIC chooses
    best_cider: float = float("-inf")
    best_top1: float = float("-inf")
    best_epoch: int = 0
    validations_since_best: int = 0
    history: list[dict] = field(default_factory=list)  # one record a finished epoch, the lines of log.jsonl

    def count(self, loss_sum: float, num_targets: int, batches: int) -> None:
        """One optimizer step over so many batches."""
        self.global_step += 1
        self.batches_done += batches
        self.loss_sum += loss_sum
        self.num_tokens += num_targets

    def end_epoch(self, record: dict) -> None:
        self.history.append(record)
        self.epoch += 1
        self.batches_done = self.num_tokens = 0
        self.loss_sum = self.seconds = 0.0

    def note_validation(self, record: dict, metric: str) -> bool:
        """Whether the epoch's record is a new best by "val_loss", "cider" or "top1"."""
        if metric == "val_loss":
            is_best = record["val_loss"] < self.best_val_loss
        else:
            is_best = record[metric] > getattr(self, f"best_{metric}")
        if is_best:
            self.best_val_loss, self.best_cider = record["val_loss"], record.get("cider", self.best_cider)
            self.best_top1 = record.get("top1", self.best_top1)
            self.best_epoch = record["epoch"]
        self.validations_since_best = 0 if is_best else self.validations_since_best + 1
        return is_best

    def forget_best(self) -> None:
        self.best_val_loss, self.best_cider, self.best_top1 = float("inf"), float("-inf"), float("-inf")
        self.best_epoch = self.validations_since_best = 0

    def to_dict(self) -> dict:
        return asdict(self)

    def load_dict(self, state: dict) -> None:
        self.__dict__.update(state)
