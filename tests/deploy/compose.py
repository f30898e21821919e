"""The Compose file as Compose sees it: parsed, with the defaults of its variables put in."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]


def services() -> dict[str, Any]:
    """Return the services of docker-compose.yml by name."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    parsed: dict[str, Any] = yaml.safe_load(text)
    services: dict[str, Any] = parsed["services"]
    return services


def environment_of(service: str) -> dict[str, str]:
    """Return a service's environment variables; Compose takes strings, and so must the file hold them."""
    values = services()[service]["environment"]
    return {name: value if isinstance(value, str) else str(value) for name, value in values.items()}
