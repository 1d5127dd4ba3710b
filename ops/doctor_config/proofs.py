"""Tests that prove what no fault can cause here: it takes a second container, another machine's network, or a registry."""

from __future__ import annotations

from ops.doctor.catalogue import register_proof

_NETWORK = "tests/ops/doctor/network"

register_proof("net.service_to_service", f"{_NETWORK}/test_places.py::test_one_that_does_not_reach_what_others_reach")
register_proof(
    "net.container_network",
    f"{_NETWORK}/test_checks.py::test_networks_are_compared",
    f"{_NETWORK}/test_checks.py::test_without_docker_a_bare_name_that_is_not_known",
)
register_proof("docker.image_pull", f"{_NETWORK}/test_places.py::test_a_mirror_has_it_and_the_guide_names_the_digest")
