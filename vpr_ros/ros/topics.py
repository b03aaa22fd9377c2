"""Names of topics and cameras: a single camera has the name "", which does not appear in them."""

from __future__ import annotations


def topic_of(camera: str, topic: str) -> str:
    """`front/image`; a single camera's is `image`."""
    return f"{camera}/{topic}" if camera else topic


def attention_topic(camera: str) -> str:
    """Named as image_transport names the jpegs of `~/attention`."""
    return f"~/attention/{topic_of(camera, 'compressed')}"


def of_camera(camera: str, text: str) -> str:
    """`front: text`; of a single camera the text alone."""
    return f"{camera}: {text}" if camera else text
