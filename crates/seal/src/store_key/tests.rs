use proptest::prelude::*;

use super::*;
use crate::vectors::{Inputs, of_document};

fn inputs() -> Inputs {
    Inputs::read(&of_document())
}

#[test]
fn every_flipped_bit_of_a_sealed_value_is_refused() {
    let inputs = inputs();
    let sealed = inputs.sealed_value();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match inputs.key.open_value(inputs.name, &flipped) {
            Err(SealError::DoesNotOpen) => assert!(bit >= 8),
            Err(SealError::UnknownVersion { .. }) => assert!(bit < 8),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn a_sealed_value_of_any_other_length_is_refused() {
    let inputs = inputs();
    let mut sealed = inputs.sealed_value();
    for length in 0..sealed.len() {
        assert!(
            matches!(
                inputs.key.open_value(inputs.name, &sealed[..length]),
                Err(SealError::DoesNotOpen)
            ),
            "{length} bytes"
        );
    }
    sealed.push(0);
    assert!(inputs.key.open_value(inputs.name, &sealed).is_err());
}

/// What is sealed for one purpose is good for no other, though all are sealed with the same key.
#[test]
fn a_box_for_one_purpose_does_not_open_for_another() {
    let Inputs { key, digest, .. } = inputs();
    let (header, record) = inputs().record(1);
    let tag = key.authenticate_backup(&digest).unwrap();
    let value = key.seal_value("", &SecretBytes::new(vec![])).unwrap();
    assert_eq!((value.len(), tag.len()), (OVERHEAD, OVERHEAD));

    assert!(key.open_value("", &tag).is_err());
    assert!(key.open_value("", &header.tag).is_err());
    assert!(key.open_value("", &record.generation).is_err());
    assert!(key.verify_backup(&digest, &value).is_err());
    assert!(key.verify_backup(&digest, &header.tag).is_err());
    let mut other = header.clone();
    other.tag = tag.try_into().unwrap();
    assert!(key.verify_header(&other).is_err());
    let forty = key.seal_value("", &SecretBytes::new(vec![0; 40])).unwrap();
    assert!(key.open_generation(&forty).is_err());
}

#[test]
fn the_tag_of_a_backup_is_good_for_its_digest_and_its_store() {
    let Inputs { key, digest, .. } = inputs();
    let tag = key.authenticate_backup(&digest).unwrap();
    key.verify_backup(&digest, &tag).unwrap();

    let mut other = digest;
    other[31] ^= 1;
    assert!(key.verify_backup(&other, &tag).is_err());
    assert!(
        StoreKey::generate()
            .unwrap()
            .verify_backup(&digest, &tag)
            .is_err()
    );
    for length in 0..tag.len() {
        assert!(key.verify_backup(&digest, &tag[..length]).is_err());
    }
    assert!(key.verify_backup(&digest, &[&*tag, &[0]].concat()).is_err());
    for bit in 0..tag.len() * 8 {
        let mut flipped = tag.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(key.verify_backup(&digest, &flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_root_key_has_32_bytes() {
    for length in [0, 16, 31, 33, 64] {
        let root = SecretBytes::new(vec![1; length]);
        assert!(matches!(
            StoreKey::new([0; 16], root),
            Err(SealError::DoesNotOpen)
        ));
    }
}

#[test]
fn two_stores_have_nothing_in_common() {
    let (one, two) = (StoreKey::generate().unwrap(), StoreKey::generate().unwrap());
    assert_ne!(one.store_id(), two.store_id());
    assert!(!one.root().ct_eq(two.root()));
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened_under_its_name_only(
        value in proptest::collection::vec(any::<u8>(), 0..300),
        name in "\\PC{0,40}",
        other in "\\PC{0,40}",
    ) {
        let key = inputs().key;
        let value = SecretBytes::new(value);
        let sealed = key.seal_value(&name, &value).unwrap();
        prop_assert_eq!(sealed.len(), value.len() + OVERHEAD);
        prop_assert!(key.open_value(&name, &sealed).unwrap().ct_eq(&value));
        prop_assert_eq!(key.open_value(&other, &sealed).is_ok(), name == other);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let Inputs { key, digest, .. } = inputs();
        prop_assert!(key.open_value("name", &bytes).is_err());
        prop_assert!(key.verify_backup(&digest, &bytes).is_err());
        prop_assert!(key.open_generation(&bytes).is_err());
    }
}
