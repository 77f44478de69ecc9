"""Carries out one call: permit, request, response, retry, under one deadline."""
