"""Istio's resources, read into typed values. Law: what is read is understood; anything else is refused by name."""
