"""Signed tokens: who stands where, provable without asking Redis."""
