"""Can ROS processes see each other here, and is there room for images between them?"""

from __future__ import annotations

from xml.etree import ElementTree

from vpr_ros.doctor.finding import MIB, Finding, Level, size_text
from vpr_ros.doctor.shared_memory import leftovers, other_users
from vpr_ros.machine import Machine
from vpr_ros.share import shared_files

LARGEST_DOMAIN = 232
LARGEST_SAFE_DOMAIN = 101
"""Ports of higher ones are among those that Linux gives to anybody."""
WANTED_SHARED_MEMORY = 128 * MIB
"""A segment of config/fastdds.xml has 32 MiB, and every process of the robot has one."""
WANTED_RECEIVE_BUFFER = 8 * MIB


def check_discovery(machine: Machine) -> Finding:
    """Whom the environment lets ROS processes see."""
    env = machine.environment
    domain, only = env.get("ROS_DOMAIN_ID", ""), env.get("ROS_LOCALHOST_ONLY", "")
    reach, server = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""), env.get("ROS_DISCOVERY_SERVER", "")
    said = f"ROS_DOMAIN_ID {domain or '0 (default)'}, discovery {reach or 'SUBNET (default)'}"
    said += f", ROS_LOCALHOST_ONLY {only}" if only else ""
    said += f", discovery server {server}" if server else ""
    if domain and not (domain.isdecimal() and int(domain) <= LARGEST_DOMAIN):
        found = f"{said}: a domain is a number from 0 to {LARGEST_DOMAIN}"
        return Finding("discovery", Level.ERROR, found, "export ROS_DOMAIN_ID=0    # the same in every terminal")
    if domain and int(domain) > LARGEST_SAFE_DOMAIN:
        found = f"{said}: above {LARGEST_SAFE_DOMAIN} other programs may have taken its ports"
        return Finding("discovery", Level.WARNING, found, "export ROS_DOMAIN_ID=42    # the same in every terminal")
    if reach not in ("", "SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        return Finding(
            "discovery", Level.ERROR, f"{said}: no such range", "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
        )
    if reach == "OFF":
        found = f"{said}: no process sees another"
        return Finding("discovery", Level.WARNING, found, "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST")
    if only == "1" and reach:
        found = f"{said}: while the older one is 1, the other is ignored"
        return Finding("discovery", Level.WARNING, found, "unset ROS_LOCALHOST_ONLY")
    if server and env.get("ROS_SUPER_CLIENT", "").upper() not in ("TRUE", "1"):
        found = f"{said}: the topics of others stay hidden"
        return Finding("discovery", Level.WARNING, found, "export ROS_SUPER_CLIENT=TRUE")
    return Finding("discovery", Level.OK, said)


def check_dds_profile(machine: Machine) -> Finding:
    """Do the files with DDS settings exist, and does this Fast DDS read them?"""
    env = machine.environment
    new, old, cyclone = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI"
    files = {name: env[name] for name in (new, old) if env.get(name)}
    if env.get(cyclone, "").startswith(("file://", "/")):
        files[cyclone] = env[cyclone].removeprefix("file://")
    for name, file in files.items():
        try:
            ElementTree.parse(file)
        except (OSError, ElementTree.ParseError) as error:
            fix = f"export {name}={fast_dds_profile()}" if name != cyclone else f"unset {cyclone}"
            return Finding("dds profile", Level.ERROR, f"{name}: {file} cannot be read: {error}", fix)
    if new in files and old not in files and env.get("ROS_DISTRO") in ("humble", "iron", "jazzy"):
        found = f"Fast DDS of ROS {env['ROS_DISTRO']} does not look at {new}"
        return Finding("dds profile", Level.WARNING, found, f"export {old}={files[new]}")
    if files:
        return Finding("dds profile", Level.OK, ", ".join(f"{name}={file}" for name, file in files.items()))
    if "cyclone" in env.get("RMW_IMPLEMENTATION", ""):
        return Finding("dds profile", Level.OK, "none, and Cyclone DDS needs none")
    found = f"none: raw images larger than 512 KB need one where they are published, {fast_dds_profile()}"
    return Finding("dds profile", Level.OK, found)


def fast_dds_profile() -> str:
    """The file that lets Fast DDS pass raw images through shared memory."""
    return str(next(iter(shared_files("config/fastdds.xml")), "config/fastdds.xml"))


def check_shared_memory(machine: Machine) -> Finding:
    """Is there room in /dev/shm for DDS to pass images?"""
    folder = machine.at("dev/shm")
    fix = "sudo mount -o remount,size=1G /dev/shm"
    if machine.is_container:
        fix = "docker run --shm-size=1g ...    # or --ipc=host"
    if not folder.is_dir():
        return Finding("shared memory", Level.ERROR, "there is no /dev/shm: images go through the network stack", fix)
    usage = machine.disk_usage(folder)
    said = f"{size_text(usage.free)} free of {size_text(usage.total)} in /dev/shm"
    if usage.total < WANTED_SHARED_MEMORY:
        return Finding("shared memory", Level.WARNING, f"{said}: too little for camera images", fix)
    if others := other_users(machine):
        said += f", and Fast DDS of another user ({', '.join(others)}) runs here, too: "
        said += "nodes of two users see one another, but images do not pass, nor anything that root sends"
        fix = "run all ROS processes as one user    # docker run --user $(id -u):$(id -g), no sudo"
        return Finding("shared memory", Level.WARNING, said, fix)
    if found := leftovers(machine):
        said += f", {size_text(sum(each.size for each in found))} left by processes that died"
        return Finding("shared memory", Level.WARNING, said, "vpr doctor --clear-shared-memory")
    if usage.free < WANTED_SHARED_MEMORY:
        fix = "ls -lS /dev/shm | head    # what fills it; only processes that run map what Fast DDS has there"
        return Finding("shared memory", Level.WARNING, f"{said}: nearly full", fix)
    return Finding("shared memory", Level.OK, said)


def check_receive_buffer(machine: Machine) -> Finding:
    """May a socket buffer a whole image? Cyclone DDS and images from other machines need it."""
    text = machine.read("proc/sys/net/core/rmem_max")
    if not text.isdecimal():
        fix = "sysctl net.core.rmem_max    # want 8388608 or more"
        return Finding("receive buffer", Level.SKIPPED, "net.core.rmem_max cannot be read", fix)
    said = f"net.core.rmem_max {size_text(int(text))}"
    if int(text) >= WANTED_RECEIVE_BUFFER:
        return Finding("receive buffer", Level.OK, said)
    if "cyclone" in machine.environment.get("RMW_IMPLEMENTATION", ""):
        fix = "echo net.core.rmem_max=2147483647 | sudo tee /etc/sysctl.d/60-dds.conf && sudo sysctl --system"
        return Finding("receive buffer", Level.WARNING, f"{said}: Cyclone DDS loses large images with it", fix)
    return Finding("receive buffer", Level.OK, f"{said}: enough on one machine; raw images over a network need more")
