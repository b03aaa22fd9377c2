from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vpr_ros.config import Config, Parameter, markdown, ros_yaml
from vpr_ros.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def values_of(parameter: Parameter) -> st.SearchStrategy[object]:
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if parameter.type is bool:
        return st.booleans()
    if parameter.type is str:
        return st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
    if parameter.type is int:
        return st.integers(int(parameter.low or 0), int(min(parameter.high or 99, 99)))
    return st.floats(parameter.low, parameter.high)


some_values = st.fixed_dictionaries(
    {}, optional={name: values_of(p) for name, p in Config.parameters().items() if not name.startswith("consistency")}
)


def test_shipped_yaml_holds_the_defaults() -> None:
    path = ROOT / "config" / "vpr.yaml"
    assert path.read_text() == ros_yaml(Config()), "run: python -m vpr_ros.config > config/vpr.yaml"
    assert Config.from_yaml(path) == Config()


def test_documented_parameters_are_the_parameters() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text()
    assert text == markdown(), "run: python -m vpr_ros.config --markdown > docs/parameters.md"


@given(some_values)
def test_any_allowed_configuration_survives_yaml(values: dict[str, object]) -> None:
    config = Config.from_flat(values)
    tree = yaml.safe_load(ros_yaml(config))["/**"]["ros__parameters"]
    flat = {f"{stage}.{leaf}": value for stage, leaves in tree.items() for leaf, value in leaves.items()}
    assert Config.from_flat(flat) == config


@given(some_values)
def test_flat_names_every_parameter_and_returns_to_the_same(values: dict[str, object]) -> None:
    config = Config.from_flat(values)
    assert list(config.flat()) == list(Config.parameters())
    assert Config.from_flat(config.flat()) == config


def test_defaults_are_in_their_own_range_and_documented() -> None:
    for parameter in Config.parameters().values():
        assert parameter.check(parameter.default) == parameter.default
        assert parameter.doc


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"match.topk": 3}, "did you mean 'match.top_k'"),
        ({"match.top_k": 0}, "match.top_k must be in [1, 1000], not 0"),
        ({"match.top_k": 2.5}, "match.top_k must be a whole number"),
        ({"match.top_k": True}, "match.top_k must be a whole number"),
        ({"exclusion.time_s": float("nan")}, "exclusion.time_s must be in [0, 86400] s"),
        ({"exclusion.time_s": "ten"}, "exclusion.time_s must be a number"),
        ({"verification.features": "surf"}, "must be one of sift, orb"),
        ({"consistency.min_hits": 4}, "must not be larger than consistency.window"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.from_flat(values)
    assert message in str(error.value)


def test_an_integer_is_a_float_where_a_float_is_wanted() -> None:
    assert Config.from_flat({"exclusion.time_s": 7}).exclusion.time_s == 7.0


def cameras(text: str) -> tuple[str, ...]:
    return Config.from_flat({"node.cameras": text}).node.camera_names


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ("",)), (" ", ("",)), ("front", ("front",)), ("front, rear", ("front", "rear")), ("_1,B2", ("_1", "B2"))],
)
def test_cameras_have_names(text: str, names: tuple[str, ...]) -> None:
    assert cameras(text) == names


@pytest.mark.parametrize("name", ["2nd", "front/left", "a b", "a-b", "~", "", "fr\u00f6nt"])
def test_a_camera_whose_name_is_no_part_of_a_topic_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.cameras: .* is no name for a camera"):
        cameras(f"rear,{name},left")


def test_a_camera_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="names a camera twice: front,rear,front"):
        cameras("front,rear,front")


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "just words"])
def test_a_file_without_parameters_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml|unknown parameter"):
        Config.from_yaml(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Config.from_yaml(tmp_path / "none.yaml")


def test_a_plain_tree_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("match: {top_k: 3}\nkeyframe: {min_interval_s: 1}\n")
    config = Config.from_yaml(path)
    assert (config.match.top_k, config.keyframe.min_interval_s) == (3, 1.0)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("keyframe.min_distance_m", 2, 2.0),
        ("match.top_k", 20.0, 20),
        ("node.map", 20240501, "20240501"),
        ("node.map", 1.5, "1.5"),
        ("engine.cores", 2, "2"),
    ],
)
def test_values_that_yaml_takes_for_another_type(name: str, given: object, value: object) -> None:
    found = Config().with_values({name: given}).flat()[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"node.map": True}, "node.map must be text, not True; write it in quotes"),
        ({"node.autostart": 1}, "node.autostart must be true or false, not 1"),
        ({"match.top_k": 2.5}, "match.top_k must be a whole number, not 2.5"),
        ({"match.top_k": float("inf")}, "match.top_k must be a whole number"),
        ({"exclusion.time_s": 10**400}, "exclusion.time_s: no number is that large"),
        ({"match.top_k": 60**20000}, "match.top_k: no number is that large"),
        ({"node.map": -(10**5000)}, "node.map: no number is that large"),
        ({"exclusion.time_s": float("nan")}, "must be in"),
    ],
)
def test_values_that_are_of_no_such_type(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Config().with_values(values)


def of_node(*keys: str) -> str:
    """A file whose nested keys lead to one parameter."""
    lines = [f"{'  ' * depth}{key}:" for depth, key in enumerate((*keys, "ros__parameters", "match"))]
    return "\n".join([*lines, f"{'  ' * (len(keys) + 2)}min_similarity: 0.4", ""])


OTHERS = """camera:
  ros__parameters:
    fps: 30
"""


@pytest.mark.parametrize(
    "text",
    [
        of_node("/**"),
        of_node("vpr"),
        of_node("/robot1/vpr"),
        of_node("robot1", "vpr"),
        of_node("/**/vpr"),
        of_node("front_vpr"),
        "vpr:\n  ros__parameters:\n    match.min_similarity: 0.4\n",
        "match:\n  min_similarity: 0.4\n",
        OTHERS + of_node("vpr"),
        OTHERS + of_node("/**"),
        of_node("/**") + "    use_sim_time: true\n    start_type_description_service: true\n",
        of_node("/vpr")
        + "    qos_overrides:\n      /image:\n        subscription: {reliability: reliable, depth: 1}\n",
        of_node("/**") + "    fps: 30\n    frame_rate:\n      value: 3\n",
    ],
)
def test_files_as_robots_have_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert Config.from_yaml(path) == Config().with_values({"match.min_similarity": 0.4})


def test_of_several_sections_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(of_node("/**") + of_node("vpr").replace("0.4", "0.5"))
    assert Config.from_yaml(path).match.min_similarity == 0.5


def test_a_section_without_parameters(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("/**:\n  ros__parameters:\n")
    assert Config.from_yaml(path) == Config()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OTHERS + OTHERS.replace("camera", "lidar"), "/camera, /lidar, and none of /vpr"),
        (of_node("/**").replace("min_similarity", "min_similarty"), "did you mean 'match.min_similarity'"),
        (of_node("/**").replace("match", "verification").replace("min_similarity", "min_attention"), "delete the line"),
        ("vpr:\n  ros__parameters:\n    fps: 30\n", "unknown parameter 'fps'"),
        ("vpr:\n  ros__parameters: 7\n", "no names with values"),
    ],
)
def test_files_that_are_not_for_us_or_misspelt(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason) as refused:
        Config.from_yaml(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("namespace", "robot", "reason"),
    [
        ("", "", ""),
        ("", "r1", ""),
        ("/vpr_fleet", "r1", ""),
        ("/site/vpr_fleet", "r1", ""),
        ("/vpr_fleet", "", "needs node.robot"),
        ("vpr_fleet", "r1", "like /vpr_fleet"),
        ("/", "r1", "like /vpr_fleet"),
        ("/vpr fleet", "r1", "like /vpr_fleet"),
        ("/vpr_fleet/", "r1", "like /vpr_fleet"),
    ],
)
def test_a_fleet_needs_a_namespace_and_robots_with_names(namespace: str, robot: str, reason: str) -> None:
    config = Config().with_values({"fleet.namespace": namespace, "node.robot": robot})
    if not reason:
        config.fleet.check(config.node.robot)
        return
    with pytest.raises(ConfigError, match=reason):
        config.fleet.check(config.node.robot)
