"""Check of the image's registry: can the next release be pulled?"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ops.network import registry_image
from ops.registry import CheckOutcome, register_check


@register_check(
    "docker.image_pull",
    title="The image can be pulled",
    tags=("network", "container"),
    interval=6 * 3600,
    severity="warning",
    timeout=60,
    opens_after=2,
)
def image_pull() -> CheckOutcome:
    """A HEAD on the manifest of the image that we run from, at its registry and at each mirror in ``SWITCHBOARD_IMAGE_MIRRORS``.

    The name of the image stands in a compose file outside of the container, so another registry is a guide, not a button: it names
    only mirrors whose digest is the same.
    """
    name = str(settings.ENVIRONMENT["SWITCHBOARD_IMAGE"])
    if not name:
        return CheckOutcome("skip", "Switchboard does not run from an image (SWITCHBOARD_IMAGE is not set).")
    image = registry_image.parse(name)
    if image is None:
        return CheckOutcome("skip", f"{name} was built here; no registry is asked for it.")
    own = registry_image.ask(image)
    mirrors = [registry_image.ask(image.at(one)) for one in settings.ENVIRONMENT["SWITCHBOARD_IMAGE_MIRRORS"]]
    evidence: dict[str, Any] = {"registry": own.to_dict(), "mirrors": [one.to_dict() for one in mirrors]}
    if own.ok:
        unlike = [one for one in mirrors if one.ok and own.digest and one.digest != own.digest]
        if unlike:
            text = f"{unlike[0].image.registry} has another image under this name ({unlike[0].digest[:19]}): do not pull from it."
            return CheckOutcome("warn", text, evidence)
        return CheckOutcome("pass", f"{image} can be pulled ({own.digest[:19] or 'no digest told'}).", evidence)
    good = [one for one in mirrors if one.ok]
    if good:
        text = f"{own.sentence} The mirror {good[0].image.registry} has the image: pull {good[0].image}."
        return CheckOutcome("fail", text, {**evidence, "works": str(good[0].image), "digest": good[0].digest})
    more = " No mirror has it either." if mirrors else " Name mirrors in SWITCHBOARD_IMAGE_MIRRORS."
    return CheckOutcome("fail", f"The image cannot be pulled: {own.sentence}{more}", evidence)
