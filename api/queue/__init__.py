"""What people ask for, and the backend that they are let into."""
