"""Asks spymemcached by SpymemcachedOracle.java, which `java` compiles as it runs it."""

import ipaddress
import os
import subprocess

import oracle

JAR = "/usr/share/java/spymemcached.jar"
DEBIAN_PACKAGE = "libspymemcached-java"
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "SpymemcachedOracle.java")


def server_line(server):
    if "unix" in server:
        oracle.refuse(f"it has no unix sockets: {server}")
    host = server["host"]
    if "ip" in server:
        name, numbers = host, server["ip"]
    else:
        name, numbers = "-", str(ipaddress.ip_address(host))
    return f"server {name} {numbers} {server['port']} {server['weight']}"


def owners(cases, keys):
    lines = [f"key {key.hex()}" for key in keys]
    for case in cases:
        lines.append(f"case {case['rule']}")
        lines += [server_line(server) for server in case["servers"]]
    command = ["java", "-cp", JAR, SOURCE]
    answer = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        oracle.refuse(answer.stderr)
    return [[int(owner) for owner in line.split()] for line in answer.stdout.splitlines()]


def version():
    for needed in (JAR, "/usr/bin/javac"):
        if not os.path.exists(needed):
            oracle.refuse(f"{needed} is missing")
    command = ["dpkg-query", "-W", "-f", "${Version}", DEBIAN_PACKAGE]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


oracle.answer_all(version(), owners)
