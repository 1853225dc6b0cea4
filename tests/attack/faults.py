"""The n-th thing that a disk is asked to do fails, as SQLite's tests have it: open, write, fsync, rename.

with Faults(number=3, error=errno.ENOSPC) as faults:
    save()                      # its third open for writing, write, fsync or rename raises OSError
faults.happened                 # False where there were fewer
"""

import builtins
import contextlib
import io
import os
from unittest import mock

from basics import files

WRITING = set("wax+")


class Faults(contextlib.ExitStack):
    """Counts in this process while it is entered; files are those under a folder, `also` are (module, function)."""

    def __init__(self, number: int, error: int, under, also=()):
        super().__init__()
        self.left, self.error, self.under = number, error, str(under)
        self.places = [(os, "fsync"), (os, "replace"), (os, "rename"), (files, "exchange"), *also]

    @property
    def happened(self) -> bool:
        return self.left <= 0

    def __enter__(self):
        opened = builtins.open
        for place, name in ((builtins, "open"), (io, "open")):
            self.enter_context(mock.patch.object(place, name, self.opening(opened)))
        for place, name in self.places:
            self.enter_context(mock.patch.object(place, name, self.counted(getattr(place, name))))
        return super().__enter__()

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(self.error, os.strerror(self.error))

    def counted(self, function):
        def call(*arguments, **options):
            self.step()
            return function(*arguments, **options)

        return call

    def opening(self, function):
        def call(file, mode="r", *arguments, **options):
            if not (WRITING & set(mode)) or not str(file).startswith(self.under):
                return function(file, mode, *arguments, **options)
            self.step()
            return FailingFile(function(file, mode, *arguments, **options), self)

        return call


class FailingFile:
    """A file whose writes count; a write that fails has written half, as disks do."""

    def __init__(self, file, faults: Faults):
        self.file, self.faults = file, faults

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def write(self, content):
        try:
            self.faults.step()
        except OSError:
            self.file.write(content[: len(content) // 2])
            raise
        return self.file.write(content)
