"""Quality of service: who hears whom."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible


def mismatch(publisher: QoSProfile, subscription: QoSProfile) -> str:
    """Why a subscription hears nothing of a publisher; empty if it can."""
    compatibility, reason = qos_check_compatible(publisher, subscription)
    if compatibility != QoSCompatibility.ERROR:
        return ""
    offered, wanted = publisher.reliability, subscription.reliability
    if (offered, wanted) == (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE):
        return "it is sent best effort and wanted reliable"
    kept, asked = publisher.durability, subscription.durability
    if (kept, asked) == (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL):
        return "it is sent volatile and wanted transient local"
    return reason.strip().rstrip(";")


def qos_text(qos: QoSProfile) -> str:
    """`best effort, volatile`, and the depth where the RMW tells it."""
    words = [qos.reliability.name, qos.durability.name]
    text = ", ".join(word.lower().replace("_", " ") for word in words)
    return f"{text}, depth {qos.depth}" if qos.depth else text
