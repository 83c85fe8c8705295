"""What a command says where a package that it needs is not installed."""

from __future__ import annotations

NEEDS_NUMPY = "reading a recording needs NumPy: pip install numpy"
_NEEDS = {
    "numpy": NEEDS_NUMPY,
    "rich": "this command needs rich: pip install rich",
    "multi_demangle": "names of C++ and Rust need multi-demangle: pip install multi-demangle",
    "prometheus_client": "metrics need prometheus-client: pip install 'mematlas[serve]'",
    "opentelemetry": "OTLP needs its packages: pip install 'mematlas[push]'",
    "grpc": "OTLP over gRPC needs grpcio: pip install 'mematlas[push]'",
    "_cffi_backend": "mematlas needs cffi: pip install cffi",
}


def describe(error: ModuleNotFoundError) -> str:
    """Return what to install for a package that mematlas needs; "" for any other module."""
    return _NEEDS.get((error.name or "").partition(".")[0], "")
