"""HTTP without a word about queues: requests, responses, errors, routing, and the two protocols that servers speak."""
