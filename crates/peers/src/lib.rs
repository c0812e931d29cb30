//! The real programs that tests talk to: fetched or built once, started on loopback, stopped with their owner.
