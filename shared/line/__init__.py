"""The line: every change of its state, its keys and its Lua steps. DESIGN.md says why it is so."""
