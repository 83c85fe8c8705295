"""`mematlas.serve()`: this program is traced, and its figures are served over HTTP."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from mematlas.api.in_process import Trace
from mematlas.errors import MematlasError, UsageError
from mematlas.serve.address import DEFAULT
from mematlas.serve.child import ServingProcess
from mematlas.serve.destination import check_publication
from mematlas.serve.publication import PUSH_S, Publication
from mematlas.tracing.child import inherited_environment
from mematlas.tracing.settings import (
    INTERVAL_S,
    KEEP_S,
    LEAST_DISK_BYTES,
    SAMPLE_BYTES,
    TraceSettings,
    checked_labels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DISK_BYTES = 64 << 20  # of the folder for temporary files, which may be memory


class Service:
    """This program, traced and served, as `mematlas.serve` returns it.

    `url` is where the pages are, such as "http://127.0.0.1:9464"; of a Unix socket "unix:PATH". `path` is the folder of the recording. A
    context manager: the end of the block is `stop()`. Without either it ends with the program.

    >>> import mematlas
    >>> with mematlas.serve("127.0.0.1:0") as service:
    ...     print(service.url.rpartition(":")[0])
    http://127.0.0.1
    """

    __module__ = "mematlas"

    def __init__(self, publication: Publication, settings: TraceSettings) -> None:
        """Start the server, then the tracing."""
        self.path = publication.path
        self._owner: int | None = os.getpid()
        self._server = ServingProcess(publication, inherited_environment())
        if publication.push:
            settings = replace(settings, reader=self._server.pid)
        self._trace = Trace(publication.path, settings)
        self.url = self._server.said[0].rpartition(" on ")[2] if publication.listen else ""
        try:
            self._trace.start()
        except BaseException:
            self._server.end()
            raise

    def __repr__(self) -> str:
        state = "" if self._owner else ", stopped"
        return f"<Service of {self.path!r} at {self.url or 'no address'}{state}>"

    def stop(self) -> None:
        """End the server and the tracing. A second call does nothing, nor does one in a forked child.

        Raises:
            MematlasError: the recording at `output` is cut short.

        >>> import mematlas
        >>> service = mematlas.serve("127.0.0.1:0")
        >>> service.stop()
        """
        if self._owner != os.getpid():
            return
        self._owner = None
        try:
            self._trace.stop()
        finally:
            self._server.end()

    def __enter__(self) -> Self:
        """Return the service, which has begun."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Do as `stop()`. An exception of the block takes precedence."""
        try:
            self.stop()
        except MematlasError:
            if kind is None:
                raise


class TemporaryService(Service):
    """A service whose recording goes with it: nobody waits for its end, and no error is of use."""

    def stop(self) -> None:
        """End the server and the tracing, and remove the folder, also where the recorder was killed."""
        if self._owner == os.getpid():
            with suppress(MematlasError):
                super().stop()
            shutil.rmtree(self.path, ignore_errors=True)


def serve(  # noqa: PLR0913 - one argument a fact
    address: str = DEFAULT,
    *,
    token_file: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    push: Sequence[str] = (),
    push_interval_s: float = PUSH_S,
    output: str | os.PathLike[str] | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    interval_s: float = INTERVAL_S,
    keep_s: float = KEEP_S,
    disk_bytes: int = _DISK_BYTES,
    labels: Mapping[str, str] | None = None,
) -> Service:
    """Trace this program from now on, by a sample, and serve what owns its memory over HTTP.

    The pages are those of `mematlas run --serve`: /metrics for Prometheus (`pip install 'mematlas[serve]'`),
    /debug/pprof/heap and /debug/pprof/allocs for go tool pprof, Parca and Pyroscope, /report, /recording and /healthz.
    Recorder and server are processes of their own. Forked children are traced too.

    Arguments:
        address: HOST:PORT or unix:PATH; port 0 takes a free one. "": no pages, where `push` is given.
        token_file: file whose first line is the token that each request must have, of at least 16 letters.
        tls_cert, tls_key: certificate and private key, PEM. An address that other machines reach needs them and a token.
        push: collectors to push to, as `mematlas run --push` takes them. The environment variable MEMATLAS_PUSH_TOKEN has their token.
        push_interval_s: seconds between two pushes; default 15.
        output: folder for the recording, which stays; default one among the temporary files, which goes.
        sample_bytes: mean number of allocated bytes between two samples; default 512 KiB.
        interval_s: seconds between two snapshots of residency; default 1.
        keep_s: seconds that the recording keeps; default a day.
        disk_bytes: what it may take of the disk, at least 4 MiB; default 64 MiB.
        labels: names and values for the rows of exports; "service" is the name of the service at collectors.

    Returns:
        The service, which has begun: a context manager with `url`, `path` and `stop()`.

    Raises:
        UsageError: an argument is invalid, other machines would reach it without token or TLS, or this process is traced already.
        MematlasError: the address cannot be bound, or the recording cannot be written.

    >>> import mematlas, urllib.request
    >>> with mematlas.serve("127.0.0.1:0") as service:
    ...     page = urllib.request.urlopen(service.url).read()
    >>> b"/debug/pprof/heap" in page
    True
    """
    if sample_bytes < 1:
        raise UsageError("sample_bytes must be at least 1")
    if not all(0 < each < math.inf for each in (keep_s, interval_s, push_interval_s)):
        raise UsageError("keep_s, interval_s and push_interval_s must be above 0 and finite")
    if disk_bytes < LEAST_DISK_BYTES:
        raise UsageError("disk_bytes must be at least 4 MiB")
    if not address and not push:
        raise UsageError(f"give an address, such as {DEFAULT}, or a collector to push to")
    settings = TraceSettings(
        sample_bytes=sample_bytes,
        interval_s=interval_s,
        fault_period=0,
        labels=checked_labels(labels or {}),
        keep_s=keep_s,
        disk_bytes=disk_bytes,
        temporary=output is None,
    )
    publication = Publication(
        "",
        address,
        os.fspath(token_file or ""),
        os.fspath(tls_cert or ""),
        os.fspath(tls_key or ""),
        (push,) if isinstance(push, str) else tuple(push),
        push_interval_s,
    )
    check_publication(publication)
    if output:
        return Service(publication._replace(path=os.path.abspath(output)), settings)  # noqa: PTH100
    path = tempfile.mkdtemp(prefix=f"mematlas-{os.getpid()}-")
    try:
        return TemporaryService(publication._replace(path=path), settings)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


serve.__module__ = "mematlas"
