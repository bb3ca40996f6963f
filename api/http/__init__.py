"""HTTP without a word about queues: requests, responses, errors, and the servers' protocols."""
