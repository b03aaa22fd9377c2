"""Builds vpr_ros for pip and for colcon. Everything about the package is in package.xml; this only translates it."""

import os
import sys
from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

# rosdep key -> what pip calls it. Any other key is a ROS package: std_msgs -> ros-std-msgs.
PYPI_NAMES = {
    "python3-faiss": "faiss-cpu",
    "python3-hypothesis": "hypothesis",
    "python3-jinja2": "Jinja2",
    "python3-matplotlib": "matplotlib",
    "python3-numpy": "numpy",
    "python3-onnxruntime-pip": "onnxruntime",
    "python3-opencv": "opencv-python-headless",
    "python3-pytest": "pytest",
    "python3-pytest-timeout": "pytest-timeout",
    "python3-rosbags-pip": "rosbags",
    "python3-tqdm": "tqdm",
    "python3-yaml": "PyYAML",
    "rclpy": "ros-rclpy[fastrtps]",
    "vpr_msgs": "vpr-msgs",
}
HERE = Path(__file__).resolve().parent
if (HERE / "vpr_msgs").is_dir():  # not on PyPI: `pip install '.[ros]'` builds those of this checkout
    PYPI_NAMES["vpr_msgs"] = f"vpr-msgs @ {(HERE / 'vpr_msgs').as_uri()}"
NOT_ON_PYPI = {"launch", "launch_ros"}  # the packages of these names there are something else

package = ElementTree.parse("package.xml").getroot()
name = package.findtext("name")


def pip_names(tag):
    keys = [depend.text for depend in package.findall(tag)]
    return {key: PYPI_NAMES.get(key, "ros-" + key.replace("_", "-")) for key in keys if key not in NOT_ON_PYPI}


runtime = pip_names("exec_depend")
extras = {
    "ros": [pip for key, pip in runtime.items() if not key.startswith("python3-")],
    "dev": list(pip_names("test_depend").values()),
    "test": list(pip_names("test_depend").values()),
}
pip_only = []
for element in package.findall("export/pip"):
    extra = element.get("extra")
    (extras.setdefault(extra, []) if extra else pip_only).extend(element.text.split())


def require_vpr_msgs():
    """Neither colcon nor rosdep look for packages inside of a package, so vpr_msgs is easily left out of a workspace."""
    is_colcon = "prefix_override" in os.environ.get("PYTHONPATH", "") and {"install", "develop"} & set(sys.argv)
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    if is_colcon and not any(Path(prefix, "share/vpr_msgs/package.xml").is_file() for prefix in prefixes if prefix):
        link = f"ln -s {HERE.name}/vpr_msgs {HERE.parent}/"
        sys.exit(
            f"{name} needs vpr_msgs, which is in its folder, where colcon does not look. Type this, and build again:\n\n    {link}\n"
        )


require_vpr_msgs()
setup(
    name=name,
    version=package.findtext("version"),
    description=package.findtext("description"),
    maintainer=package.findtext("maintainer"),
    maintainer_email=package.find("maintainer").get("email"),
    license=package.findtext("license"),
    python_requires=">=3.10",
    install_requires=[pip for key, pip in runtime.items() if key.startswith("python3-")] + pip_only,
    extras_require=extras,
    packages=find_packages(include=[name, f"{name}.*"]),
    package_data={"vpr_ros.evaluation": ["templates/*.j2"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{name}"]),
        (f"share/{name}", ["package.xml"]),
        (f"share/{name}/environment", glob("resource/environment/*")),  # colcon.pkg names them
        (f"share/{name}/config", glob("config/*.*")),
        (f"share/{name}/config/presets", glob("config/presets/*.yaml")),
        (f"share/{name}/launch", glob("launch/*.py")),
        (f"share/{name}/models", glob("models/*.onnx") + glob("models/*.md")),
        (f"share/{name}/models/parity_images", glob("models/parity_images/*")),
    ],
    entry_points={
        "console_scripts": [
            "vpr = vpr_ros.cli:main",
            "vpr_node = vpr_ros.ros.start:main",
        ]
    },
    zip_safe=True,
)
