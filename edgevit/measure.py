"""The measuring verbs: latency, cold start, throughput, accuracy and parity. Each lives in the file named here."""

from __future__ import annotations

from edgevit.accuracy import AccuracyMeter, measure_accuracy
from edgevit.devices.cold_start import measure_cold_start
from edgevit.embedding_accuracy import EmbeddingMeter, measure_embeddings
from edgevit.feature_accuracy import FeatureMeter, measure_features
from edgevit.latency import LatencyComparison, measure_latency, measure_session_throughput, measure_throughput
from edgevit.parity import (
    GRAPH_TOLERANCE,
    PARITY_TOLERANCES,
    ParityTolerance,
    check_output_parity,
    check_parity,
)

__all__ = [
    "GRAPH_TOLERANCE",
    "PARITY_TOLERANCES",
    "AccuracyMeter",
    "EmbeddingMeter",
    "FeatureMeter",
    "LatencyComparison",
    "ParityTolerance",
    "check_output_parity",
    "check_parity",
    "measure_accuracy",
    "measure_cold_start",
    "measure_embeddings",
    "measure_features",
    "measure_latency",
    "measure_session_throughput",
    "measure_throughput",
]
