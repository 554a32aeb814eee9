from __future__ import annotations

from tests.service.conftest import (  # noqa: F401 - fixtures
    artifact,
    certificates,
    log_handlers_of_this_test_only,
    no_settings_in_the_environment,
    one_torch_thread,
    serve,
)
