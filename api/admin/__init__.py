"""The admin API, for operators."""
