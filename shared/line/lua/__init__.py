"""The Lua steps that change a line, one file each; lib/ holds what several of them include."""
