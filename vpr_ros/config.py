"""Every parameter of vpr_ros, once: default, meaning, unit, range.

YAML files, ROS parameters, `vpr --set` and docs/parameters.md use the dotted path of the field (`match.top_k`) and are
made from these classes or checked against them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import yaml

from vpr_ros.errors import ConfigError
from vpr_ros.parameter_files import Section, flatten, parse_yaml, sections

Scalar = bool | int | float | str
T = TypeVar("T", bound=Scalar)


def parameter(
    default: T,
    doc: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> T:
    """A dataclass field with its documentation and its closed range [low, high] or its choices."""
    metadata = {"doc": doc, "unit": unit, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as a user sees it."""

    name: str
    type: type
    default: Scalar
    doc: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]

    @property
    def range(self) -> str:
        if self.choices:
            return " | ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        return (
            f"[{'-inf' if self.low is None else f'{self.low:g}'}, {'inf' if self.high is None else f'{self.high:g}'}]"
        )

    def check(self, value: Any) -> Any:
        """The value in this parameter's type. Raises ConfigError, naming the parameter and what it allows."""
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ConfigError(f"{self.name}: no number is that large")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (self.type is float or (self.type is int and math.isfinite(value) and value == int(value))):
            value = self.type(value)
        elif is_number and self.type is str:  # a file cannot know that 20240501 is the name of a map
            value = str(value)
        if type(value) is not self.type:
            quotes = "; write it in quotes" if self.type is str and isinstance(value, bool) else ""
            raise ConfigError(f"{self.name} must be {_TYPE_NAMES[self.type]}, not {value!r}{quotes}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}")
        number: Any = value  # compared so that NaN is out of every range
        if not ((self.low is None or number >= self.low) and (self.high is None or number <= self.high)):
            raise ConfigError(
                f"{self.name} must be in {self.range}{f' {self.unit}' if self.unit else ''}, not {value!r}"
            )
        return value


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
REMOVED = {
    "verification.min_attention": "it did not improve verification; delete the line (the mask is on ~/attention/compressed)",
    "node.save_map_at_shutdown": "a named map is recorded as the robot drives; delete the line (map.mode: localization changes nothing)",
}
"""Parameters of earlier versions, and what to do instead."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    path: str = parameter("", "ONNX model file; empty: the model that ships with vpr_ros")


BACKENDS = (
    "onnxruntime",
    "onnxruntime_cuda",
    "onnxruntime_tensorrt",
    "openvino",
    "openvino_gpu",
    "tensorrt",
    "tensorrt_rtx",
)
"""What can run a model, by library and device."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What runs the model. An engine that cannot run here, or describes images too differently, gives way to ONNX Runtime."""

    backend: str = parameter(
        "auto",
        "inference backend; auto measures the installed ones once and keeps the fastest",
        choices=("auto", *BACKENDS),
    )
    precision: str = parameter("fp32", "numeric precision of the engine", choices=PRECISIONS)
    batch: int = parameter(1, "maximum images per inference: cameras that are described together", low=1, high=64)
    threads: int = parameter(0, "CPU threads for inference; 0: the engine's own choice", low=0, high=256)
    cores: str = parameter("", "CPU cores for inference, such as 2,3 or 4-7; empty: no binding")
    images: str = parameter(
        "",
        "folder, bag or video of your camera, on which new engines are checked and int8 is calibrated; empty: the images that ship with vpr_ros",
    )
    min_cosine: float = parameter(
        0.0,
        "minimum cosine between the engine's descriptors and the reference's; 0: the default of the precision",
        low=0.0,
        high=1.0,
    )
    version_compatible: bool = parameter(
        False, "build TensorRT engines that other TensorRT versions can load; larger and slightly slower"
    )
    capabilities: str = parameter(
        "", "GPU architectures that a tensorrt_rtx engine supports, such as sm86,sm89,sm120; empty: this machine's"
    )
    cache: str = parameter("", "folder of built engines; empty: vpr_ros/engines in the user's cache")


@dataclass(frozen=True, slots=True)
class KeyframeConfig:
    """A frame is a keyframe if enough time has passed and anything has changed enough since the last one."""

    min_interval_s: float = parameter(0.2, "minimum time between keyframes", unit="s", low=0.0, high=3600.0)
    max_similarity: float = parameter(
        0.9,
        "a frame becomes a keyframe when its similarity to the last keyframe is below this; 1: every frame",
        low=-1.0,
        high=1.0,
    )
    min_distance_m: float = parameter(
        0.5,
        "a frame becomes a keyframe at this distance from the last one (needs odometry)",
        unit="m",
        low=0.0,
        high=1000.0,
    )
    min_angle_deg: float = parameter(
        15.0,
        "a frame becomes a keyframe at this rotation since the last one (needs odometry)",
        unit="deg",
        low=0.0,
        high=180.0,
    )


@dataclass(frozen=True, slots=True)
class ExclusionConfig:
    """Which keyframes of the running drive are too recent to be a revisit; any one of the rules excludes."""

    time_s: float = parameter(
        10.0, "minimum age of a keyframe before it may be matched", unit="s", low=0.0, high=86400.0
    )
    distance_m: float = parameter(
        3.0,
        "minimum travelled distance before a keyframe may be matched (needs odometry)",
        unit="m",
        low=0.0,
        high=100000.0,
    )
    count: int = parameter(5, "number of the camera's latest keyframes that may not be matched", low=0, high=1000000)
    away_similarity: float = parameter(
        0.5,
        "the robot has left its place when two consecutive keyframes are less similar to the present view than this; "
        "keyframes made since may not be matched; 1 disables",
        low=-1.0,
        high=1.0,
    )


@dataclass(frozen=True, slots=True)
class MatchConfig:
    top_k: int = parameter(20, "number of most similar keyframes retrieved per query", low=1, high=1000)
    min_similarity: float = parameter(0.35, "minimum cosine similarity of a match", low=-1.0, high=1.0)
    island_gap: int = parameter(
        5, "maximum gap in keyframes (of one camera) between candidates of one place (island)", low=0, high=10000
    )
    max_ambiguity: float = parameter(
        0.98, "maximum ratio of second-best to best place similarity; 1 disables", low=0.0, high=1.0
    )
    cooldown_s: float = parameter(0.0, "minimum time between accepted loop closures", unit="s", low=0.0, high=3600.0)


@dataclass(frozen=True, slots=True)
class ConsistencyConfig:
    window: int = parameter(
        3, "number of consecutive queries of a camera that are compared, this one included", low=1, high=100
    )
    min_hits: int = parameter(2, "minimum number of them that agree on the place; 1 disables", low=1, high=100)
    max_gap: int = parameter(
        10, "maximum gap in keyframes (of one camera) between queries that agree", low=0, high=10000
    )


@dataclass(frozen=True, slots=True)
class MapConfig:
    """A named map is a file that is written as the robot drives; without a name the map is in memory."""

    mode: str = parameter(
        "mapping",
        "mapping adds keyframes to the map; localization searches it and changes nothing",
        choices=("mapping", "localization"),
    )
    durability: str = parameter(
        "power",
        "a keyframe that was published survives a loss of power (each batch waits for the disk) or only the end of the process; "
        "the map is whole in either case",
        choices=("power", "process"),
    )
    index: str = parameter(
        "auto",
        "what searches the map: exact compares with every keyframe, auto only up to 20000 and then like ivfpq; what ivfpq and hnsw keep is in "
        "NAME.index beside the map",
        choices=("auto", "exact", "ivfpq", "hnsw"),
    )
    max_keyframes: int = parameter(
        0,
        "a map that has grown past this by a twentieth loses the keyframes that add least, never the last one of a place; 0: no limit",
        low=0,
        high=100000000,
    )
    max_mb: int = parameter(
        0,
        "the same as the size of what the map holds; the index beside it (NAME.index) is not counted; 0: no limit",
        unit="MiB",
        low=0,
        high=100000000,
    )


@dataclass(frozen=True, slots=True)
class VerificationConfig:
    enabled: bool = parameter(True, "verify candidates by local features and epipolar geometry")
    features: str = parameter("sift", "local features; sift is more robust, orb faster", choices=("sift", "orb"))
    max_features: int = parameter(800, "maximum number of local features per image", low=50, high=10000)
    max_size_px: int = parameter(
        400, "maximum image width for local features; larger images are shrunk", unit="px", low=64, high=8192
    )
    ignore: str = parameter(
        "",
        "image regions without local features, such as the robot's own body: rectangles x y width height as fractions of the "
        "image and mask images (black: ignored), separated by commas: 0 0.75 1 0.25, mask.png; for a rig: "
        "front: 0 0.75 1 0.25; rear: mask.png",
    )
    learn_static: bool = parameter(
        True,
        "learn for each camera which image region never changes while the robot moves, and ignore local features there",
    )
    min_motion_px: float = parameter(
        2.0,
        "minimum motion of matched features in the shrunk image; those below count only if the whole image matches; "
        "0 disables",
        unit="px",
        low=0.0,
        high=100.0,
    )
    max_candidates: int = parameter(
        3, "maximum number of candidates of the best place that are verified", low=1, high=100
    )
    max_ratio: float = parameter(
        0.85, "Lowe's ratio test: maximum ratio of nearest to second-nearest descriptor distance", low=0.1, high=1.0
    )
    max_error_px: float = parameter(
        1.5, "maximum distance of an inlier from its epipolar line", unit="px", low=0.1, high=50.0
    )
    min_inliers: int = parameter(30, "minimum number of inliers", low=5, high=10000)
    min_inlier_ratio: float = parameter(0.3, "minimum ratio of inliers to feature matches", low=0.0, high=1.0)
    min_coverage: float = parameter(
        0.2, "minimum fraction of the image's 4 x 4 cells that contain an inlier", low=0.0, high=1.0
    )
    unknown_scale_sigma_m: float = parameter(
        5.0,
        "standard deviation of the distance between the two cameras where the scale is unknown",
        unit="m",
        low=0.01,
        high=1000.0,
    )


@dataclass(frozen=True, slots=True)
class OdometryConfig:
    """A closure that contradicts odometry is rejected, where both frames have odometry of one segment."""

    gate_enabled: bool = parameter(True, "reject closures that contradict odometry")
    drift_per_m: float = parameter(0.1, "odometry error per metre travelled", unit="m/m", low=0.0, high=10.0)
    body_from_camera: str = parameter(
        "",
        "pose of the camera on the body whose motion odometry describes, x y z qx qy qz qw in metres, for example "
        "0.3 0 1.2 -0.5 0.5 -0.5 0.5 (looking forward); for a rig: front: ...; rear: ...; empty: from /tf_static, if it is there",
    )
    max_distance_m: float = parameter(
        10.0, "maximum distance between two cameras that see the same place", unit="m", low=0.0, high=1000.0
    )


@dataclass(frozen=True, slots=True)
class SessionConfig:
    clock_jump_s: float = parameter(
        1.0,
        "a frame this far older than its camera's last one, or behind the other cameras of the rig, is dropped; three "
        "consecutive ones that agree start a new session",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    max_gap_s: float = parameter(
        60.0,
        "maximum lead of a stamp over the time that has passed by the clock of reception; frames beyond are dropped like "
        "those of session.clock_jump_s",
        unit="s",
        low=1.0,
        high=86400.0,
    )


@dataclass(frozen=True, slots=True)
class RelocalizationConfig:
    """Where the robot is in a map that an earlier drive made; matches with keyframes of the running drive take no part."""

    frame: str = parameter(
        "map",
        "frame_id of the map: that of the odometry with which its first drive was recorded (a SLAM's map frame, if its poses were the odometry)",
    )
    shared_frame: bool = parameter(
        False,
        "the poses of all drives of the map are in one frame, such as those of a SLAM system; false: odometry begins anew with each drive, and "
        "poses are known for places of the first one",
    )
    min_matches: int = parameter(
        3, "minimum number of matches that agree on where the robot is before it is found", low=1, high=100
    )
    max_distance_m: float = parameter(
        5.0, "maximum distance between the positions of two matches that agree", unit="m", low=0.0, high=1000.0
    )
    max_angle_deg: float = parameter(
        20.0, "maximum rotation between the poses of two matches that agree", unit="deg", low=0.0, high=180.0
    )
    lost_after_m: float = parameter(
        50.0,
        "travelled distance without a match that agrees after which the robot is lost (needs odometry)",
        unit="m",
        low=0.0,
        high=100000.0,
    )
    lost_after_s: float = parameter(
        60.0, "the same as time, where there is no odometry", unit="s", low=0.0, high=86400.0
    )
    initialpose: bool = parameter(
        False,
        "publish the pose on initialpose (AMCL, RTAB-Map, slam_toolbox) each time that the robot is found: at the start, after it was lost or "
        "carried; false: only when ~/relocalize asks for it",
    )


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Robots that exchange keyframes; only the ROS node reads these."""

    namespace: str = parameter(
        "",
        "namespace of the topics on which robots exchange keyframes, the same for all of them, such as /vpr_fleet; needs node.robot; "
        "empty: nothing is exchanged",
    )
    max_kb_per_s: float = parameter(
        250.0, "maximum rate at which keyframes and pictures are sent", unit="kB/s", low=1.0, high=1000000.0
    )

    def check(self, robot: str) -> None:
        """Raises ConfigError for a namespace that topics cannot have, and where a robot without a name is to exchange."""
        if not self.namespace:
            return
        if not re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", self.namespace):
            raise ConfigError(f"fleet.namespace must be like /vpr_fleet, not {self.namespace!r}")
        if not robot:
            raise ConfigError(
                "fleet.namespace needs node.robot: keyframes are exchanged under the names of their robots"
            )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Only the ROS node reads these."""

    autostart: bool = parameter(True, "configure and activate at start; false: a lifecycle manager does it")
    robot: str = parameter(
        "", "name of this robot; part of the name of each keyframe, unique among the robots of a fleet"
    )
    cameras: str = parameter(
        "",
        "cameras of a rig, such as front,rear: topics front/image, front/camera_info, ...; empty: one camera on image and "
        "camera_info. Parameters that count keyframes count those of a rig as those of one camera",
    )
    image_transport: str = parameter("raw", "subscribe to image or to image/compressed", choices=("raw", "compressed"))
    image_decoder: str = parameter(
        "auto",
        "what decodes raw 8-bit images: cv_bridge, own (vpr_ros, which decodes all others in any case), or auto: cv_bridge where it works",
        choices=("auto", "cv_bridge", "own"),
    )
    use_odometry: bool = parameter(True, "subscribe to odom; recognition works without it")
    max_odometry_age_s: float = parameter(
        0.2, "maximum time between an image and the odometry that is used for it", unit="s", low=0.0, high=10.0
    )
    maps_directory: str = parameter("~/.ros/vpr_maps", "folder of all maps that save_map and load_map access")
    map: str = parameter(
        "", "name of the map, which is made if there is none and recorded as the robot drives; empty: a map in memory"
    )
    no_data_s: float = parameter(
        5.0, "time without images after which /diagnostics reports an error", unit="s", low=0.1, high=3600.0
    )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras in order; ("",) where there is one. Raises ConfigError for what cannot be part of a topic's name."""
        if not self.cameras.strip():
            return ("",)
        names = tuple(name.strip() for name in self.cameras.split(","))
        for name in names:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ConfigError(
                    f"node.cameras: {name!r} is no name for a camera: letters, digits and _, not a digit first; "
                    "several are separated by commas, like front,rear"
                )
        if len(set(names)) < len(names):
            raise ConfigError(f"node.cameras names a camera twice: {self.cameras}")
        return names


def per_camera(name: str, text: str, cameras: Collection[str]) -> Iterator[tuple[str, str]]:
    """The parts of a parameter's text like `front: ...; rear: ...`, or of one for all cameras, "".

    Raises ConfigError for the name of a camera that is not among `cameras`.
    """
    for part in filter(str.strip, text.split(";")):
        named = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*:(.*)", part, re.DOTALL)
        camera, rest = ("", part) if named is None else named.groups()
        known = sorted(filter(None, cameras))
        if camera and camera not in known:
            found = ", ".join(known) or "none: leave the name out"
            raise ConfigError(f"{name}: there is no camera {camera!r}; node.cameras names {found}")
        yield camera, rest


@dataclass(frozen=True, slots=True)
class Config:
    """All stages. `Config()` is the default configuration."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    keyframe: KeyframeConfig = field(default_factory=KeyframeConfig)
    exclusion: ExclusionConfig = field(default_factory=ExclusionConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    map: MapConfig = field(default_factory=MapConfig)
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    odometry: OdometryConfig = field(default_factory=OdometryConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    relocalization: RelocalizationConfig = field(default_factory=RelocalizationConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    node: NodeConfig = field(default_factory=NodeConfig)

    @staticmethod
    def parameters() -> dict[str, Parameter]:
        """Every parameter by its dotted name, in the order of the file."""
        return {p.name: p for stage, kind in _stages() for p in _parameters_of(stage, kind)}

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Config:
        """From `{"match.top_k": 10, ...}`; what is not named keeps its default.

        Raises ConfigError for an unknown name (with the nearest known one), a wrong type, a value out of range, or a
        consistency window smaller than the hits it asks for.
        """
        known = cls.parameters()
        stages: dict[str, dict[str, Scalar]] = {}
        for name, value in values.items():
            if name not in known:
                if name in REMOVED:
                    raise ConfigError(f"there is no {name} any more: {REMOVED[name]}")
                near = cls.nearest(name)
                raise ConfigError(f"unknown parameter {name!r}" + (f"; did you mean {near!r}?" if near else ""))
            stage, _, leaf = name.partition(".")
            stages.setdefault(stage, {})[leaf] = known[name].check(value)
        kinds = dict(_stages())
        config = cls(**{stage: kinds[stage](**leaves) for stage, leaves in stages.items()})
        if config.consistency.min_hits > config.consistency.window:
            raise ConfigError("consistency.min_hits must not be larger than consistency.window")
        return config

    @classmethod
    def nearest(cls, name: str) -> str:
        """The parameter that an unknown name may have meant; empty if none is like it."""
        near = difflib.get_close_matches(name, cls.parameters(), 1)
        return near[0] if near else ""

    @classmethod
    def from_yaml(cls, path: str | Path) -> Config:
        """From a ROS parameter file, or names and values alone: see `parameter_files.sections`.

        ROS's own parameters are left out, and of sections for several nodes (`/**`) what no parameter of ours is like. Raises ConfigError.
        """
        try:
            tree = parse_yaml(Path(path).read_bytes())
        except (OSError, ValueError, ConfigError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} holds no parameters")
        try:
            return cls.from_flat({name: value for section in sections(tree) for name, value in cls._of(section)})
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, section: Section) -> Iterator[tuple[str, Any]]:
        known = {*cls.parameters(), *REMOVED}
        for name, value in section.values.items():
            if name in known or not section.is_shared or cls.nearest(name):
                yield name, value

    def flat(self) -> dict[str, Scalar]:
        """`{"match.top_k": 10, ...}` with every parameter."""
        return dict(flatten(dataclasses.asdict(self)))

    def with_values(self, values: Mapping[str, Any]) -> Config:
        """A copy with some parameters changed; raises like `from_flat`."""
        return Config.from_flat(self.flat() | dict(values))


def _stages() -> list[tuple[str, type]]:
    return list(get_type_hints(Config).items())


def _parameters_of(stage: str, kind: type) -> Iterator[Parameter]:
    hints = get_type_hints(kind)
    for f in dataclasses.fields(kind):
        yield Parameter(f"{stage}.{f.name}", hints[f.name], cast(Scalar, f.default), **f.metadata)


def ros_yaml(config: Config) -> str:
    """A commented ROS parameter file with every parameter: what config/vpr.yaml holds."""
    lines = [
        "# Every parameter at its default. Made by `python -m vpr_ros.config > config/vpr.yaml`; a test compares them.",
        "/**:",
        "  ros__parameters:",
    ]
    stage = ""
    for name, p in Config.parameters().items():
        head, _, leaf = name.partition(".")
        if head != stage:
            lines.append(f"    {head}:")
            stage = head
        value = yaml.safe_dump(config.flat()[name]).removesuffix("...\n").strip()
        note = ", ".join(part for part in (p.unit, p.range) if part)
        lines.append(f"      {leaf}: {value}  # {p.doc}{f' ({note})' if note else ''}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """A table of every parameter: what docs/parameters.md holds."""
    lines = [
        "# Parameters",
        "",
        "Made by `python -m vpr_ros.config --markdown > docs/parameters.md`; a test compares them. The names are the same in",
        "YAML, as ROS parameters and in `vpr replay --set NAME=VALUE`.",
        "",
        "| name | default | unit | allowed | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, p in Config.parameters().items():
        default = f"`{p.default}`" if p.default != "" else "empty"
        allowed = p.range.replace("|", "\\|")
        lines.append(f"| `{name}` | {default} | {p.unit} | {allowed} | {p.doc} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown() if "--markdown" in sys.argv[1:] else ros_yaml(Config()), end="")
