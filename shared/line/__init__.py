"""The line: every change of its state, its keys and its Lua steps. shared/line/DESIGN.md gives the reasons."""
