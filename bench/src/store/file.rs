//! A store on disk: its file, its seal, and the names of its keys.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kes_crypto::{Algorithm, KeyVersion, SecretBytes};
use kes_keystore::{EntryName, KeyStore as _};
use kes_keystore_embedded::{Config, EmbeddedStore};
use kes_seal::{KeySeal, Seals};
use kes_types::{Clock as _, SystemClock};
use rustix::fs::{Advice, fadvise};

/// The default of `keystore.embedded.undelete`.
const UNDELETE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Clone, Debug)]
pub(super) struct StoreFile {
    pub(super) path: PathBuf,
    pub(super) seal: PathBuf,
}

impl StoreFile {
    /// The name of a store in `folder` that is yet to be made, and a new seal for it.
    pub(super) fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let seal = folder.join(format!("{name}.seal"));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&seal)?
            .write_all(KeySeal::generate_text()?.as_bytes())?;
        Ok(Self {
            path: folder.join(format!("{name}.redb")),
            seal,
        })
    }

    pub(super) fn seals(&self) -> anyhow::Result<Seals> {
        Ok(vec![Arc::new(KeySeal::from_file(&self.seal)?)])
    }

    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config {
            path: self.path.clone(),
            seals: self.seals()?,
            undelete: UNDELETE,
        })
    }

    pub(super) async fn create(&self) -> anyhow::Result<EmbeddedStore> {
        EmbeddedStore::create(self.config()?, Arc::new(SystemClock))
            .await
            .with_context(|| format!("making the store {}", self.path.display()))
    }

    pub(super) async fn open(&self) -> anyhow::Result<EmbeddedStore> {
        EmbeddedStore::open(self.config()?, Arc::new(SystemClock))
            .await
            .with_context(|| format!("opening the store {}", self.path.display()))
    }

    /// What a configuration file says about it.
    pub(super) fn yaml(&self) -> String {
        let Self { path, seal } = self;
        format!("keystore: {{ embedded: {{ path: {path:?}, seal: {{ file: {seal:?} }} }} }}\n")
    }

    pub(super) fn size(&self) -> anyhow::Result<u64> {
        Ok(self.path.metadata()?.len())
    }

    /// Makes the operating system forget what it has read of the file.
    pub(super) fn drop_from_memory(&self) -> anyhow::Result<()> {
        fadvise(File::open(&self.path)?, 0, None, Advice::DontNeed)?;
        Ok(())
    }
}

/// Closes a store and gives its file free.
pub(super) async fn close(store: EmbeddedStore) {
    store.close().await;
}

/// The name of the key with this number. Neighbours in number are not neighbours in name.
pub(super) fn name(number: u64) -> anyhow::Result<EntryName> {
    // Odd, so that no two numbers give the same.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Ok(EntryName::parse(&format!("bench-{mixed:016x}"))?)
}

/// A new key as the server stores it.
pub(super) fn record() -> anyhow::Result<SecretBytes> {
    let created_by = "c84cc9b91ae399b043da7eca616048d4b4200edf2ff418d8af3835911db945b5";
    Ok(KeyVersion::generate(Algorithm::preferred(), SystemClock.now(), created_by)?.encode())
}

/// Numbers without a pattern, the same ones each time.
#[derive(Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next one below `bound`.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*, see Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_differ() {
        let names: BTreeSet<_> = (0..1_000)
            .map(|number| name(number).unwrap().as_str().to_owned())
            .collect();
        assert_eq!(names.len(), 1_000);
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut numbers = Numbers::new(7);
        assert!((0..1_000).all(|_| numbers.below(10) < 10));
    }
}
