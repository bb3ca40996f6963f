"""The queue API, for waiting people and for the protected backend."""
