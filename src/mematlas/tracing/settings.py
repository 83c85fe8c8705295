"""How a run is traced."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_BYTES = 512 << 10
INTERVAL_S = 1.0
FAULT_PERIOD = 61  # a prime, so that it keeps in step with no loop


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run records. `sample_bytes` is the mean gap between samples, without use if exact."""

    exact: bool = False
    sample_bytes: int = SAMPLE_BYTES
    interval_s: float = INTERVAL_S
    fault_period: int = FAULT_PERIOD  # one minor page fault in so many is sampled; 0: none
    cold_s: float = 0.0  # tell what nobody used for so long; 0: do not
    seed: int = 0  # 0: another one each time
    budget: float = 0.02  # share of one CPU that residency joins may take

    @property
    def ring_bytes(self) -> int:
        """Size of each thread's ring: room for what comes in while the collector sleeps."""
        return 1 << 20 if self.exact else 256 << 10
