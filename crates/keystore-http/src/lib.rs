//! What key stores behind an HTTP API have in common.
