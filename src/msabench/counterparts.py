"""Which runs are trained with missing data, and which are the same but for that."""

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]


def counterparts(configs: Mapping[str, Config]) -> dict[str, Config]:
    """Return what stands in the tables beside each run that is trained with missing data.

    configs: of runs, by name. settings: its `missing`. counterpart: the first run on whole data
    whose configuration is else the same; None where there is none.
    """
    settings = {name: config.get("schedule", {}).get("missing") for name, config in configs.items()}
    whole = {name: _without(config) for name, config in configs.items() if not settings[name]}
    return {
        name: {
            "settings": own,
            "counterpart": next((n for n in whole if whole[n] == _without(configs[name])), None),
        }
        for name, own in settings.items()
        if own
    }


def _without(config: Config) -> Config:
    """Return a configuration without what is missing in training."""
    schedule = {k: v for k, v in config.get("schedule", {}).items() if k != "missing"}
    return {**config, "schedule": schedule}
