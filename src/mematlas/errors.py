"""The errors mematlas raises, each with the exit code the command line gives it.

MematlasError                 1  something failed
├── UsageError                2  the request makes no sense
├── TargetError               3  the process, program or file is not there, or vanished
├── AccessError               4  the kernel refuses; the message names what would allow it
└── UnsupportedError          5  this kernel cannot answer
"""


class MematlasError(Exception):
    """Something failed. The message is one line that says what to do."""

    exit_code = 1


class UsageError(MematlasError):
    """The request makes no sense."""

    exit_code = 2


class TargetError(MematlasError):
    """The process, program or file is not there, or vanished while it was read."""

    exit_code = 3


class AccessError(MematlasError):
    """The kernel refuses; the message names the capability or setting that would allow it."""

    exit_code = 4


class UnsupportedError(MematlasError):
    """This kernel, or this build, cannot answer; the message says why."""

    exit_code = 5
