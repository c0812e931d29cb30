//! TLS as a client: whom to believe, and who we are.
