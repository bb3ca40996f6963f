"""The ingress: an HTTP application, without a framework, that batches requests into few Redis round trips."""
