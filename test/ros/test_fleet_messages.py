from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from small_fleets import a_keyframe

from vpr_ros.fleet.protocol import BATCH_BYTES, NOTHING, Batch, Offer, Picture, Request, fitting, size_bytes
from vpr_ros.ros.fleet_messages import (
    batch_from_msg,
    batch_msg,
    offer_from_msg,
    offer_msg,
    picture_from_msg,
    picture_msg,
    request_from_msg,
    request_msg,
)
from vpr_ros.types import KeyframeRef, Thumbnail

SESSION = ("r2", "a session")


def over_the_wire(message: object) -> object:
    return deserialize_message(serialize_message(message), type(message))


def some_batch(count: int = 7, after: int = NOTHING, dim: int = 512) -> Batch:
    keyframes = tuple(a_keyframe(*SESSION, id, dim) for id in range(after + 1, after + 1 + count))
    links = ((keyframes[1].ref, KeyframeRef("r1", "older", 2**62)), (keyframes[4].ref, KeyframeRef("r7", "s", 0)))
    return Batch("r3", "f" * 64, SESSION, after, after + count + 3, keyframes, links)


@pytest.mark.parametrize("after", [NOTHING, 0, 41])
def test_a_batch_arrives_as_it_was_sent_but_for_half_precision(after: int) -> None:
    sent = some_batch(after=after)
    arrived = batch_from_msg(over_the_wire(batch_msg(sent)))
    assert vars_of(arrived) == vars_of(sent)
    for one, other in zip(sent.keyframes, arrived.keyframes, strict=True):
        assert (one.ref, one.ref.stamp_ns, one.ref.frame_id, one.ref.camera_name) == (
            other.ref, other.ref.stamp_ns, other.ref.frame_id, other.ref.camera_name
        )  # fmt: skip
        assert (one.camera, one.elapsed_ns, one.travelled_m, one.odometry_segment) == (
            other.camera, other.elapsed_ns, other.travelled_m, other.odometry_segment
        )  # fmt: skip
        np.testing.assert_allclose(other.odom_from_body, one.odom_from_body)
        assert (one.body_from_camera is None) == (other.body_from_camera is None)
        if one.body_from_camera is not None:
            np.testing.assert_allclose(other.body_from_camera, one.body_from_camera)
        assert float(one.descriptor @ other.descriptor) > 1 - 1e-6
        assert np.linalg.norm(other.descriptor) == pytest.approx(1.0, abs=1e-6)


def vars_of(batch: Batch) -> tuple[object, ...]:
    return batch.sender, batch.model_id, batch.session, batch.after, batch.up_to, batch.links


@pytest.mark.parametrize("dim", [8, 64, 512, 4096, 20000])
def test_no_batch_is_larger_on_the_wire_than_it_was_thought_to_be(dim: int) -> None:
    keyframes = fitting([a_keyframe(*SESSION, id, dim) for id in range(100)])
    links = tuple((keyframe.ref, KeyframeRef("another robot", "20260101T120000.000000", 9)) for keyframe in keyframes)
    batch = Batch("r3", "f" * 64, SESSION, NOTHING, 10**6, keyframes, links)
    content = len(serialize_message(batch_msg(batch)))
    assert content <= size_bytes(batch)
    assert size_bytes(batch) <= BATCH_BYTES or len(keyframes) == 1


def test_offers_requests_and_pictures_arrive_as_they_were_sent() -> None:
    offer = Offer("r1", "f" * 64, ((("r1", "a"), 0), (("r2", "b"), 2**63 - 1)))
    assert offer_from_msg(over_the_wire(offer_msg(offer))) == offer
    for request in (
        Request("r1", "r2", SESSION),
        Request("r1", "r2", SESSION, 0),
        Request("r1", "r2", SESSION, 9, tuple(range(16))),
    ):
        assert request_from_msg(over_the_wire(request_msg(request))) == request
    for thumbnail in (Thumbnail(b"jpeg", 0.25), None):
        picture = Picture("r1", KeyframeRef(*SESSION, 3), thumbnail)
        assert picture_from_msg(over_the_wire(picture_msg(picture))) == picture


def test_messages_that_cannot_be_are_refused() -> None:
    message = batch_msg(some_batch())
    message.keyframes[3].camera = 200
    with pytest.raises(ValueError, match="camera 200"):
        batch_from_msg(message)
    message = batch_msg(some_batch())
    message.keyframes[3].stamp = Time(sec=1, nanosec=10**9)
    with pytest.raises(ValueError, match="a stamp"):
        batch_from_msg(message)
    message = batch_msg(some_batch())
    message.keyframes[3].descriptor[0] = 0x7C00  # infinity
    with pytest.raises(ValueError, match="unit length"):
        batch_from_msg(message)
    message = batch_msg(some_batch())
    message.keyframes[1].odom_from_body.orientation.w = float("nan")
    with pytest.raises(ValueError, match="rotation"):
        batch_from_msg(message)
    offer = offer_msg(Offer("r1", "", ((("r1", "a"), 0),)))
    offer.highest = []
    with pytest.raises(ValueError, match="shorter"):
        offer_from_msg(offer)
