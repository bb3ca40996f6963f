"""Signed tokens, which prove a place in line without asking Redis."""
