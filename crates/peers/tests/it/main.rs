//! Each peer starts, answers as the key stores' tests expect of it, and ends with its owner.

mod moto;
mod owner;
mod vault;
