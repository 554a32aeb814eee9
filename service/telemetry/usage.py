"""What each API key has used, for Prometheus, by the key's name: never the key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.keys import Used

_REPLICAS = "Replicas that share a database all say the same: take the maximum, not the sum."
_GAUGES = {
    "per_hour": ("quantvggt_key_reconstructions_hour", "Reconstructions started in an hour."),
    "megapixels_per_hour": ("quantvggt_key_megapixels_hour", "Megapixels sent in an hour."),
    "megapixels_per_day": ("quantvggt_key_megapixels_day", "Megapixels sent in a day."),
    "stored_bytes": ("quantvggt_key_stored_bytes", "Bytes of the results that are kept."),
}


class KeyUsage(Collector):
    """Asks `read` for what each key has used, by its name, whenever the metrics are read. They are
    left out while the database can't be asked."""

    def __init__(self, read: Callable[[], Mapping[str, Used]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        try:
            used = self._read()
        except StoreUnavailable:
            return
        for field, (name, meaning) in _GAUGES.items():
            family = GaugeMetricFamily(name, f"{meaning} {_REPLICAS}", labels=["key"])
            for key, of in used.items():
                family.add_metric([key], getattr(of, field))
            yield family
