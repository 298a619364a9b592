"""Batches out: pacing, requests, retries, outcomes."""
