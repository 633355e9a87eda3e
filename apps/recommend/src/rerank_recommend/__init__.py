"""Rerank recommendations: conversational, cold-start and multi-interest."""
