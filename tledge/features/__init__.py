"""Dataset × Backbone → Features: run the backbone once per picture, and keep what it computed."""

from tledge.features.extract import extract, space_of
from tledge.features.store import FeatureStore

__all__ = ["FeatureStore", "extract", "space_of"]
