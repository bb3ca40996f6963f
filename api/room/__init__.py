"""The waiting room: the page on which people wait."""
