"""Protocol buffers decoded by Google's library, which is independent of the encoder under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    Definitions = Mapping[str, Mapping[str, tuple[int, str, bool]]]
    """Messages and their fields by name: number, type, repeated."""


def decode_message(data: bytes, name: str, definitions: Definitions, *, syntax: str) -> Any:
    """Decode a message by its definition; skip if protobuf is not installed."""
    reason = "protobuf is not installed"
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2", reason=reason)
    descriptor_pool = pytest.importorskip("google.protobuf.descriptor_pool", reason=reason)
    message_factory = pytest.importorskip("google.protobuf.message_factory", reason=reason)
    file = descriptor_pb2.FileDescriptorProto(name="tests.proto", package="t", syntax=syntax)
    for each, fields in definitions.items():
        message = file.message_type.add(name=each)
        for field, (number, kind, repeated) in fields.items():
            found = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind in definitions:
                found.type, found.type_name = found.TYPE_MESSAGE, f".t.{kind}"
            else:
                found.type = getattr(found, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    decoded = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))()
    decoded.ParseFromString(data)
    return decoded
