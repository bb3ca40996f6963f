"""Every DAEGI_ setting; ``python -m shared.settings`` prints them."""

from shared.settings.model import DEVELOPMENT_SECRET, Settings, SettingsError, load_settings

__all__ = ["DEVELOPMENT_SECRET", "Settings", "SettingsError", "load_settings"]
