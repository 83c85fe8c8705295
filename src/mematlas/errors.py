"""The errors that mematlas raises, and the exit code that the command line gives each.

    MematlasError              1  something failed
    ├── UsageError             2  the request is invalid; also a ValueError
    ├── TargetError            3  the process, program or file does not exist; also a LookupError
    ├── AccessError            4  the kernel refuses access
    └── UnsupportedError       5  this kernel or build lacks the interface

AccessError is not a PermissionError: an OSError promises an errno, and code that handles errors of
system calls would catch it.
"""

__all__ = ["AccessError", "MematlasError", "TargetError", "UnsupportedError", "UsageError"]


class MematlasError(Exception):
    """Base class of all errors that mematlas raises on purpose.

    The message is one line that says what to do. `exit_code` is the status of the command line.

    >>> import mematlas
    >>> try:
    ...     mematlas.open("no-such-file.atlas")
    ... except mematlas.MematlasError as error:
    ...     print(error.exit_code, error)
    3 no-such-file.atlas: no such file
    """

    __module__ = "mematlas"
    exit_code = 1


class UsageError(MematlasError, ValueError):
    """An argument is invalid, or arguments contradict each other.

    >>> import mematlas
    >>> try:
    ...     mematlas.trace(sample_bytes=0)
    ... except ValueError as error:
    ...     print(error)
    sample_bytes must be at least 1; use exact=True to record every allocation
    """

    __module__ = "mematlas"
    exit_code = 2


class TargetError(MematlasError, LookupError):
    """The process, program or file does not exist, or ended while it was read.

    >>> import mematlas
    >>> try:
    ...     mematlas.observe.show(2**22 + 1)
    ... except LookupError as error:
    ...     print(error)
    there is no process 4194305
    """

    __module__ = "mematlas"
    exit_code = 3


class AccessError(MematlasError):
    """The kernel refuses access. The message names the capability or setting that allows it.

    >>> import mematlas
    >>> mematlas.AccessError("run as root").exit_code
    4
    """

    __module__ = "mematlas"
    exit_code = 4


class UnsupportedError(MematlasError):
    """This kernel or this build lacks the interface. The message says which one.

    >>> import mematlas
    >>> mematlas.UnsupportedError("needs kernel 6.11").exit_code
    5
    """

    __module__ = "mematlas"
    exit_code = 5
