"""Everything about settings and the network that can be found, explained and mended. Imported when the app is ready."""

from ops.doctor_config import (  # noqa: F401
    checks_image,
    checks_network,
    checks_packages,
    checks_places,
    checks_settings,
    checks_stream,
    faults_network,
    faults_settings,
    guides_network,
    guides_settings,
    ports_web,
    proofs,
    repair_edit,
    repair_load,
    repair_port,
)
