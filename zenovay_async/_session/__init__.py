"""Carries out one call: check, acquire, send, parse, settle and retry, under one deadline."""
