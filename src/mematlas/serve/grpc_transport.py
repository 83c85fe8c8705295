"""OTLP over gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2_grpc import (
    ProfilesServiceStub,
)

from mematlas.present.printable import clean, shorten
from mematlas.serve.http_post import LONGEST_REASON, TIMEOUT_S
from mematlas.serve.pusher import PushError

if TYPE_CHECKING:
    from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
        ExportProfilesServiceRequest,
        ExportProfilesServiceResponse,
    )

    from mematlas.serve.destination import Destination

_PASSING = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes after which the specification of OTLP has clients try again."""


class GrpcTransport:
    """A channel to a collector, which connects anew by itself."""

    def __init__(self, destination: Destination, token: str) -> None:
        """Open the channel; nothing is sent yet."""
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        options = (("grpc.enable_http_proxy", 0),) if destination.is_local else ()
        channel = (
            grpc.secure_channel(destination.place, grpc.ssl_channel_credentials(), options)
            if destination.encrypted
            else grpc.insecure_channel(destination.place, options)
        )
        self._stub = ProfilesServiceStub(channel)  # type: ignore[no-untyped-call]

    def export(self, request: ExportProfilesServiceRequest) -> ExportProfilesServiceResponse:
        """Send a request. Raises PushError."""
        try:
            answer: ExportProfilesServiceResponse = self._stub.Export(
                request,
                timeout=TIMEOUT_S,
                metadata=self._metadata,
                compression=grpc.Compression.Gzip,
            )
        except grpc.RpcError as error:
            raise _failure(error) from None
        return answer


def _failure(error: grpc.RpcError) -> PushError:
    code, details = error.code(), clean(str(error.details() or "")).partition("\n")[0]
    text = f"{code.name}: {details}" if details else code.name
    return PushError(shorten(text, LONGEST_REASON), final=code not in _PASSING)
