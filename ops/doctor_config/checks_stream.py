"""Check of streams: what is sent piece by piece has to arrive piece by piece at the address that people use."""

from __future__ import annotations

from ops.network import chunks
from ops.network.places import PUBLIC, public_url
from ops.registry import CheckOutcome, register_check


@register_check(
    "mcp.http_stream",
    title="Answers stream to people word by word",
    tags=("network", "web"),
    interval=300,
    severity="error",
    timeout=20,
    scope="service",
    targets=lambda: [PUBLIC],
    opens_after=2,
    depends_on=("net.dns", "net.firewall", "net.host_unreachable"),
)
def http_stream(name: str) -> CheckOutcome:
    """Reads five timed chunks of a stream of our API through ``PUBLIC_URL`` and looks at when they come."""
    address = public_url()
    found = chunks.measure(address)
    evidence = {"address": address, **found.to_dict()}
    if found.status in (0, 502, 503, 504):
        return CheckOutcome("skip", f"Nothing to measure: {found.problem}", evidence)
    if found.problem:
        return CheckOutcome(
            "fail", f"Streams do not work at {address}: {found.problem} Does the proxy pass /api/v1 on?", evidence
        )
    if found.buffered:
        sent = round(chunks.SPACING * (chunks.CHUNKS - 1) * 1000)
        return CheckOutcome(
            "fail",
            f"Chunks arrive together: sent over {sent} ms, they came within {round(found.spread * 1000)} ms. A proxy in front "
            f"of {address} buffers, so people see answers only when they are complete.",
            evidence,
        )
    return CheckOutcome(
        "pass", f"{chunks.CHUNKS} chunks came as they were sent, over {round(found.spread * 1000)} ms.", evidence
    )
