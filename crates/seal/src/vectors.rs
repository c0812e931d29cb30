//! The vectors of `docs/embedded-format.md`: that we write these bytes, and read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kes_crypto::SecretBytes;
use kes_types::Timestamp;

use crate::aead::{NONCE, OVERHEAD, Purpose};
use crate::{Header, HeaderRecord, KeySeal, Seal, Seals, StoreKey, Wrapping, open_header};

const DOCUMENT: &str = include_str!("../../../docs/embedded-format.md");

/// The lines `name = value` of all blocks that say that they are vectors.
pub(crate) fn of_document() -> BTreeMap<&'static str, &'static str> {
    let mut vectors = BTreeMap::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        if line != "```text vectors" {
            continue;
        }
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let (name, value) = line.split_once(" = ").expect("name = value");
            assert!(
                vectors.insert(name.trim(), value).is_none(),
                "{name} stands twice"
            );
        }
    }
    vectors
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect()
}

/// What the vectors are made of.
pub(crate) struct Inputs {
    pub(crate) seals: [Arc<KeySeal>; 2],
    pub(crate) key: StoreKey,
    pub(crate) created: Timestamp,
    pub(crate) name: &'static str,
    pub(crate) value: SecretBytes,
    pub(crate) digest: [u8; 32],
    nonces: BTreeMap<&'static str, [u8; NONCE]>,
}

impl Inputs {
    pub(crate) fn read(vectors: &BTreeMap<&'static str, &'static str>) -> Self {
        let bytes = |name: &str| unhex(vectors[name]);
        let seal = |name| Arc::new(KeySeal::from_variable("SEAL", vectors[name]).unwrap());
        let root = SecretBytes::new(bytes("root key"));
        Self {
            seals: [seal("seal key 1 as text"), seal("seal key 2 as text")],
            key: StoreKey::new(bytes("store id").try_into().unwrap(), root).unwrap(),
            created: Timestamp::from_unix_timestamp(vectors["created as text"].parse().unwrap()).unwrap(),
            name: vectors["name as text"],
            value: SecretBytes::copy_of(vectors["value as text"].as_bytes()),
            digest: bytes("digest of a backup").try_into().unwrap(),
            nonces: vectors
                .iter()
                .filter(|(name, _)| name.starts_with("nonce of"))
                .map(|(name, value)| (*name, unhex(value).try_into().unwrap()))
                .collect(),
        }
    }

    /// The header at generation 1, with one wrapping, or 2, with two.
    pub(crate) fn record(&self, generation: u64) -> (Header, HeaderRecord) {
        let wrappings = ["nonce of wrapping 1", "nonce of wrapping 2"]
            .iter()
            .zip(&self.seals)
            .take(usize::try_from(generation).unwrap())
            .map(|(nonce, seal)| {
                let blob = seal
                    .wrap_with(self.nonces[nonce], &self.key.store_id(), self.key.root())
                    .unwrap();
                Wrapping::new(seal.id(), blob).unwrap()
            });
        let mut header = Header {
            store_id: self.key.store_id(),
            generation,
            created: self.created,
            wrappings: wrappings.collect(),
            tag: [0; OVERHEAD],
        };
        let nonces = ["header", "generation record"]
            .map(|what| self.nonces[&*format!("nonce of {what} {generation}")]);
        let record = self.key.seal_header_with(nonces, &mut header).unwrap();
        (header, record)
    }

    pub(crate) fn sealed_value(&self) -> Vec<u8> {
        let nonce = self.nonces["nonce of the value"];
        self.key.seal_value_with(nonce, self.name, &self.value).unwrap()
    }

    fn tag(&self) -> Vec<u8> {
        let nonce = self.nonces["nonce of the backup's tag"];
        self.key.authenticate_backup_with(nonce, &self.digest).unwrap()
    }
}

fn check_value(seal: &KeySeal) -> String {
    hex(&seal.id().check)
}

fn associated_data(purpose: &Purpose) -> String {
    hex(purpose.bytes())
}

#[test]
fn the_document_has_the_bytes_that_are_written() {
    let vectors = of_document();
    let inputs = Inputs::read(&vectors);
    let Inputs { seals, key, .. } = &inputs;
    let ((header_1, record_1), (header_2, record_2)) = (inputs.record(1), inputs.record(2));

    let written = [
        ("check value 1", check_value(&seals[0])),
        ("check value 2", check_value(&seals[1])),
        (
            "associated data of wrapping 1",
            associated_data(&seals[0].purpose(&key.store_id())),
        ),
        ("wrapping 1", hex(header_2.wrappings()[0].blob())),
        ("wrapping 2", hex(header_2.wrappings()[1].blob())),
        (
            "associated data of header 1",
            associated_data(&key.header_purpose(&header_1.authenticated())),
        ),
        ("header 1", hex(&record_1.header)),
        ("header 2", hex(&record_2.header)),
        (
            "associated data of the generation records",
            associated_data(&key.generation_purpose()),
        ),
        ("generation record 1", hex(&record_1.generation)),
        ("generation record 2", hex(&record_2.generation)),
        (
            "associated data of the value",
            associated_data(&key.value_purpose(inputs.name)),
        ),
        ("sealed value", hex(&inputs.sealed_value())),
        (
            "associated data of the backup's tag",
            associated_data(&key.backup_purpose(&inputs.digest)),
        ),
        ("backup's tag", hex(&inputs.tag())),
    ];
    let differing: Vec<_> = written
        .iter()
        .filter(|(name, value)| vectors.get(name) != Some(&value.as_str()))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    assert!(
        differing.is_empty(),
        "the document should have\n{}",
        differing.join("\n")
    );
}

#[tokio::test]
async fn what_the_document_has_is_read() {
    let vectors = of_document();
    let bytes = |name: &str| unhex(vectors[name]);
    let inputs = Inputs::read(&vectors);
    for generation in [1_u64, 2] {
        let record = HeaderRecord {
            header: bytes(&format!("header {generation}")),
            generation: bytes(&format!("generation record {generation}")),
        };
        for seal in inputs.seals.iter().take(usize::try_from(generation).unwrap()) {
            let seals: Seals = vec![Arc::clone(seal) as Arc<dyn Seal>];
            let opened = open_header("the document", &record, &seals).await.unwrap();
            assert_eq!(opened.header.generation(), generation);
            assert_eq!(opened.header.created(), inputs.created);
            assert_eq!(opened.header.wrappings().len() as u64, generation);
            assert_eq!(opened.header.encode(), record.header);
            assert_eq!(hex(opened.key.root().expose_secret()), vectors["root key"]);

            let value = opened
                .key
                .open_value(inputs.name, &bytes("sealed value"))
                .unwrap();
            assert!(value.ct_eq(&inputs.value));
            opened
                .key
                .verify_backup(&inputs.digest, &bytes("backup's tag"))
                .unwrap();
        }
    }
}
