"""The gate: a reverse proxy asks it for every request to a protected site. It honours passes; it joins nobody."""
