//! The configuration file of a server: text in, checked [`Settings`] out, or everything that is wrong with it at once.
//!
//! ```
//! let text = "
//! admin:
//!   identity: disabled
//! tls:
//!   key:  private.key
//!   cert: public.crt
//! keystore:
//!   fs:
//!     path: ${KEY_FOLDER}
//! ";
//! let environment = |name: &str| (name == "KEY_FOLDER").then(|| "/var/lib/kes".to_owned());
//! let loaded = kes_config::parse(text, "kes.yml", &kes_config::Overrides::default(), &environment)?;
//! assert_eq!(loaded.settings.keystore.kind(), "fs");
//! assert!(loaded.warnings.is_empty());
//!
//! let errors = kes_config::parse("tls: {key: a}", "kes.yml", &Default::default(), &environment).unwrap_err();
//! assert!(errors.to_string().contains("kes.yml:1: tls.cert: is missing"));
//! # Ok::<(), kes_config::LoadError>(())
//! ```
//!
//! The text is a tree first, with its order, its duplicates and its positions (`yaml`, `toml`). What older releases called
//! otherwise is brought to its current place (`legacy`), and the tree is then read section by section (`schema`), or
//! written anew (`convert`). Nothing here opens a file that the configuration names, and nothing it says about a
//! configuration quotes a value of it.

mod convert;
mod diagnostic;
pub mod duration;
pub mod keystore;
mod legacy;
mod level;
mod lines;
mod load;
mod reader;
pub mod reference;
mod schema;
mod secret;
mod settings;
mod toml;
mod tree;
mod yaml;

pub use convert::{Converted, convert, convert_file};
pub use diagnostic::{Diagnostic, LoadError};
pub use keystore::KeyStoreSettings;
pub use level::{BadLevel, LogLevel};
pub use lines::Lines;
pub use load::{Environment, Loaded, Overrides, load, load_access, load_keystore, parse, parse_keystore};
pub use secret::SecretText;
pub use settings::{
    Access, Admin, ApiOverride, AuthMode, BadAddress, BadAuthMode, Cache, Health, Limits, ListenAddress, Log,
    PolicyAssignment, Proxy, Settings, Tls,
};
