"""The nouns of place recognition. Frozen; stamps are integer nanoseconds; images are RGB uint8.

Transforms are 4x4 float64 matrices named `a_from_b`: they take a point in frame b to frame a.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""
Descriptor = NDArray[np.float32]
"""(D,) float32, unit length."""
Mask = NDArray[np.float32]
"""(h, w) float32 over the whole image, from 0 (ignored) to 1 (counts)."""
Pose = NDArray[np.float64]
"""(4, 4) float64, a rigid transform."""


class MatchStatus(IntEnum):
    """What became of a query. The values are those of `vpr_msgs/msg/PlaceMatch`."""

    ACCEPTED = 0
    NO_MAP = 1
    RECENT = 2
    LOW_SCORE = 3
    AMBIGUOUS = 4
    INCONSISTENT = 5
    GEOMETRY = 6
    ODOMETRY = 7
    COOLDOWN = 8

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return _REASONS[self]


_REASONS = {
    MatchStatus.ACCEPTED: "a loop closure",
    MatchStatus.NO_MAP: "the map holds no keyframes yet",
    MatchStatus.RECENT: "every keyframe is too recent to be a revisit",
    MatchStatus.LOW_SCORE: "the best keyframe is not similar enough",
    MatchStatus.AMBIGUOUS: "another place in the map looks about as similar",
    MatchStatus.INCONSISTENT: "the queries just before did not point to this place",
    MatchStatus.GEOMETRY: "too few local features agree on one camera motion",
    MatchStatus.ODOMETRY: "odometry rules out that the robot is there",
    MatchStatus.COOLDOWN: "a closure was published moments ago",
}


@dataclass(frozen=True, slots=True)
class Camera:
    """Pinhole intrinsics in pixels of an image of `width` x `height`; `distortion` in OpenCV's order.

    A `fisheye` camera uses OpenCV's equidistant model.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) calibration matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One camera image and what was known when it was taken. `camera_name` is "" where there is one camera.

    `odometry_frame` names the frames of `odom_from_body` ("odom/base_link"): poses of different frames do not compare.
    `received_ns` is when the image was received, on another clock than the stamp's; only differences of it are used.
    `body_from_camera` is where the camera sits on the robot: it takes points of the camera's optical frame to the frame whose
    motion odometry describes. None where one of these is not known.
    """

    stamp_ns: int
    image: Image
    camera: Camera | None = None
    odom_from_body: Pose | None = None
    frame_id: str = ""
    camera_name: str = ""
    odometry_frame: str = ""
    received_ns: int | None = None
    body_from_camera: Pose | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for the camera of another image: `calibration.camera_for_image` judges which one belongs to it."""
        if self.camera is None:
            return
        height, width = self.image.shape[:2]
        if (self.camera.width, self.camera.height) != (width, height):
            size = f"{self.camera.width} x {self.camera.height} px"
            raise ValueError(f"the camera is for images of {size}, and this one is {width} x {height} px")
        if not np.isfinite([*self.camera.matrix.ravel(), *self.camera.distortion]).all():
            raise ValueError("the camera's intrinsics are not finite")


class FrameRef(NamedTuple):
    """Names a frame: a clock may restart, so that a stamp alone is that of several."""

    session: str
    stamp_ns: int


def drive_of(robot: str, session: str) -> tuple[str, str]:
    """The drive that a session belongs to: a jump of the clock begins a session of the same drive, named by a `+`."""
    return robot, session.rstrip("+")


@dataclass(frozen=True, slots=True)
class KeyframeRef:
    """Names a keyframe by (robot, session, id); the other fields find its image and are no part of the name.

    The id is opaque: it is never reused, and no order or position may be read from it.
    """

    robot: str
    session: str
    id: int
    stamp_ns: int = field(default=0, compare=False)
    camera_name: str = field(default="", compare=False)
    frame_id: str = field(default="", compare=False)

    @property
    def frame(self) -> FrameRef:
        """The frame that it was made of."""
        return FrameRef(self.session, self.stamp_ns)

    @property
    def drive(self) -> tuple[str, str]:
        """Robot and drive that it was made in."""
        return drive_of(self.robot, self.session)


@dataclass(frozen=True, slots=True, eq=False)
class OdometryFix:
    """What odometry is worth at a frame: its running segment, within which poses compare, and the path travelled in that.

    `odom_from_body` is the frame's own pose, None where it has none that can be used; `latest` that or the last one before it.
    """

    segment: int
    travelled_m: float
    odom_from_body: Pose | None
    latest: Pose


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """Local features of one image: `points` (N, 2) float32 in px, `descriptors` (N, D) uint8 or float32.

    `size_px` is width and height of the image, None where that is not known.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8] | NDArray[np.float32]
    size_px: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A grey jpeg of a keyframe, `scale` times the size of its image: what it can be verified by later."""

    jpeg: bytes
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Keyframe:
    """A frame that the map remembers, with its name `ref`.

    `elapsed_ns` is the time since its drive began, whatever the stamps did.
    `travelled_m` is the path length since its segment of odometry began, or None where no odometry could be used; poses and
    paths of different segments do not compare.
    """

    ref: KeyframeRef
    descriptor: Descriptor
    thumbnail: Thumbnail | None = None
    camera: Camera | None = None
    body_from_camera: Pose | None = None
    odom_from_body: Pose | None = None
    travelled_m: float | None = None
    elapsed_ns: int = 0
    odometry_segment: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A keyframe of the map and its cosine similarity with the query, in [-1, 1]."""

    keyframe: KeyframeRef
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Unit rays (N, 3) of matched features in the two cameras' frames, those (N,) that agree with the essential matrix (3, 3)
    if one was found, and the angle that a pixel spans."""

    query_rays: NDArray[np.float64]
    match_rays: NDArray[np.float64]
    inlier: NDArray[np.bool_]
    essential: NDArray[np.float64] | None
    rad_per_px: float


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What local geometry says of a pair of images.

    `coverage` is the share of the query image's 4 x 4 cells that hold an inlier.
    `match_from_query` takes points of the query camera to the match camera, which may be two cameras of a rig. It is None
    without intrinsics, and where the inliers leave the rotation open. Where not `scale_known` its translation has unit length (one
    camera cannot see scale) or is the zero vector, which means no direction: the views show no parallax, or not which way. `covariance` is
    (6, 6): x y z in m, then rotation in rad; without a direction it is 1 + unknown_scale_sigma_m^2 along each of x y z.
    `still` counts the feature matches that were left out because they stay at their pixel while the rest of the picture
    differs: the robot's own body. `agreement` is what the pose is estimated from, until that is done.
    """

    inliers: int
    inlier_ratio: float
    coverage: float
    match_from_query: Pose | None = None
    covariance: NDArray[np.float64] | None = None
    scale_known: bool = False
    still: int = 0
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Two keyframes that an accepted loop closure found to be one place.

    `first_from_second` takes points of the second one's camera to the first one's, like `Verification.match_from_query`; it is None
    where no pose was found, and for closures of keyframes that were pruned. `covariance` and `scale_known` as there.
    """

    first: KeyframeRef
    second: KeyframeRef
    first_from_second: Pose | None = None
    covariance: NDArray[np.float64] | None = None
    scale_known: bool = False

    @property
    def verification(self) -> Verification:
        """What a map keeps of it: the counts of features are not kept, and 0."""
        return Verification(0, 0.0, 0.0, self.first_from_second, self.covariance, self.scale_known)


@dataclass(frozen=True, slots=True, eq=False)
class PlaceMatch:
    """The answer to one query, accepted or not, with the numbers behind it.

    `match` and the numbers about it are None where the search never got that far.
    """

    stamp_ns: int
    status: MatchStatus
    frame_id: str = ""
    keyframe_id: int | None = None
    """The id under which the query itself was added to the map, if it was."""
    match: KeyframeRef | None = None
    """The best keyframe, accepted or not."""
    similarity: float | None = None
    runner_up: float | None = None
    """Similarity of the best keyframe that belongs to another place (island)."""
    probability: float | None = None
    """That the match is correct, in [0, 1]; None while nothing is calibrated."""
    consistent_count: int = 0
    verification: Verification | None = None
    candidates: tuple[Candidate, ...] = field(default=())
    """Best first; what recall@k is computed from."""
    mask: Mask | None = None
    """What the model attended to, where that was asked for."""
    session: str = ""
    """The drive that the query belongs to."""
    robot: str = ""
    camera_name: str = ""
    odometry: OdometryFix | None = None
    """What was known by odometry when the query was taken."""
    body_from_camera: Pose | None = None
    """Where the query's camera sits."""

    @classmethod
    def without_map(cls, frame: Frame, robot: str, session: str) -> PlaceMatch:
        """The answer to a frame where nothing is known yet: NO_MAP."""
        return cls(
            frame.stamp_ns,
            MatchStatus.NO_MAP,
            frame_id=frame.frame_id,
            session=session,
            robot=robot,
            camera_name=frame.camera_name,
            body_from_camera=frame.body_from_camera,
        )

    @property
    def accepted(self) -> bool:
        return self.status is MatchStatus.ACCEPTED

    @property
    def drive(self) -> tuple[str, str]:
        """Robot and drive that the query belongs to."""
        return drive_of(self.robot, self.session)

    @property
    def frame(self) -> FrameRef:
        """The frame that was the query."""
        return FrameRef(self.session, self.stamp_ns)

    @property
    def match_frame(self) -> FrameRef | None:
        """The frame of the keyframe that it was matched with."""
        return None if self.match is None else self.match.frame

    @property
    def query(self) -> KeyframeRef | None:
        """The keyframe that the query became, if it did."""
        if self.keyframe_id is None:
            return None
        return KeyframeRef(self.robot, self.session, self.keyframe_id, self.stamp_ns, self.camera_name, self.frame_id)
