//! That no key stays in the memory of the process once it is not needed. This is the only test of its process, so that
//! nobody else's keys come and go meanwhile.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests panic as the tests do"
)]

use std::fmt;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, MemoryStore, Page, StoreError};
use kes_seal::{Header, HeaderRecord, HeaderStore, KeySeal, Seal, Sealed, Seals};
use kes_types::{Clock, SystemClock};
use zeroize::{Zeroize as _, Zeroizing};

#[tokio::test]
async fn no_key_stays_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    let text = KeySeal::generate_text().unwrap();
    let raw = Zeroizing::new(STANDARD.decode(text.trim_end()).unwrap());
    let (seal_key, seal_text) = (Needle::new(&raw), Needle::new(text.trim_end().as_bytes()));
    fs::write(&path, &*text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    drop((raw, text));

    let seal = Arc::new(KeySeal::from_file(&path).unwrap());
    let seals: Seals = vec![seal.clone()];
    let store = Arc::new(TestStore::default());
    let sealed = Sealed::initialise(store.clone(), &seals, SystemClock.now())
        .await
        .unwrap();
    let header = store.header.lock().unwrap().clone().unwrap().header;
    let header = Header::parse(&header).unwrap();
    let wrapping = header.wrappings()[0].blob();
    let unwrapped = seal.unwrap(&header.store_id(), wrapping).await.unwrap();
    let root_key = Needle::new(unwrapped.expose_secret());
    drop(unwrapped);

    let other = Arc::new(KeySeal::from_variable("SEAL", &KeySeal::generate_text().unwrap()).unwrap());
    sealed.reseal(&vec![other.clone(), seal.clone()]).await.unwrap();
    let again = Sealed::open(store.clone(), &vec![other as Arc<dyn Seal>])
        .await
        .unwrap();
    let name = EntryName::parse("name").unwrap();
    let value = SecretBytes::copy_of(b"the value, which is as long as it has to be");
    let value_needle = Needle::new(value.expose_secret());
    again.create(&name, &value).await.unwrap();
    assert!(sealed.get(&name).await.unwrap().value.ct_eq(&value));

    // The search finds what is there.
    assert!(root_key.is_in_memory(), "the root key of an open store");
    assert!(seal_key.is_in_memory(), "the key of a seal");

    drop((sealed, again));
    assert!(!root_key.is_in_memory(), "the root key of a closed store");
    assert!(seal_key.is_in_memory(), "the key of a seal");
    assert!(!seal_text.is_in_memory(), "the text of a seal file");

    drop((seals, seal));
    assert!(!seal_key.is_in_memory(), "the key of a seal that is gone");

    let opened = SecretBytes::copy_of(value.expose_secret());
    drop((value, opened));
    assert!(!value_needle.is_in_heap(), "a value");
}

/// What is looked for: the end of a secret, because the allocator writes over the beginning of what is freed. It is kept in a
/// form in which it does not find itself.
struct Needle(Vec<u8>);

impl Needle {
    fn new(secret: &[u8]) -> Self {
        let end = &secret[secret.len() - 16..];
        Self(end.iter().map(|byte| byte ^ MASK).collect())
    }

    /// Whether it is anywhere that this process can write: the heap, the stacks, variables.
    fn is_in_memory(&self) -> bool {
        self.is_in(|_| true)
    }

    /// Whether it is in memory that was allocated.
    fn is_in_heap(&self) -> bool {
        self.is_in(|line| line.ends_with("[heap]"))
    }

    fn is_in(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut piece = vec![0; 1 << 20];
        let found = maps.lines().any(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            if !rest.starts_with("rw") || line.ends_with("[vvar]") || !wanted(line) {
                return false;
            }
            let (from, to) = range.split_once('-').unwrap();
            let (mut from, to) = (
                u64::from_str_radix(from, 16).unwrap(),
                u64::from_str_radix(to, 16).unwrap(),
            );
            while from < to {
                let length = usize::try_from((to - from).min(piece.len() as u64)).unwrap();
                match memory.read_at(&mut piece[..length], from) {
                    Ok(0) | Err(_) => return false,
                    Ok(read) if self.is_within(&piece[..read]) => return true,
                    Ok(read) if from + (read as u64) < to => from += (read - self.0.len()) as u64,
                    Ok(_) => return false,
                }
            }
            false
        });
        // What was found is in here too.
        piece.zeroize();
        found
    }

    fn is_within(&self, piece: &[u8]) -> bool {
        let first = self.0[0] ^ MASK;
        let mut windows = piece.windows(self.0.len());
        windows.any(|window| {
            window[0] == first
                && window
                    .iter()
                    .zip(&self.0)
                    .all(|(byte, masked)| byte ^ MASK == *masked)
        })
    }
}

const MASK: u8 = 0xa5;

/// A store in memory with a place for a header.
#[derive(Debug, Default)]
struct TestStore {
    entries: MemoryStore,
    header: Mutex<Option<HeaderRecord>>,
}

#[async_trait]
impl HeaderStore for TestStore {
    async fn load_header(&self) -> Result<Option<HeaderRecord>, StoreError> {
        Ok(self.header.lock().unwrap().clone())
    }

    async fn replace_header(
        &self,
        expected: Option<&HeaderRecord>,
        new: &HeaderRecord,
    ) -> Result<(), StoreError> {
        let mut header = self.header.lock().unwrap();
        if header.as_ref() != expected {
            return Err(StoreError::Exists);
        }
        *header = Some(new.clone());
        Ok(())
    }
}

#[async_trait]
impl KeyStore for TestStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        self.entries.create(name, value).await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        self.entries.get(name).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        self.entries.delete(name).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        self.entries.list(prefix, after, limit).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.entries.ping().await
    }

    async fn close(&self) {
        self.entries.close().await;
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Test: memory")
    }
}
