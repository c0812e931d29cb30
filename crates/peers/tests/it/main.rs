//! Each peer starts, answers as the key stores' tests expect of it, and ends with its owner.

mod commands;
mod kubernetes;
mod moto;
mod owner;
mod vault;
