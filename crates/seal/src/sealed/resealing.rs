//! Replacing seals while the store is in use, one step at a time.

use std::sync::Arc;

use kes_keystore::StoreError;

use super::{HeaderStore, Sealed, failed, load};
use crate::header::{Header, MAX_WRAPPINGS};
use crate::opening::{check, first, parse, unwrap, wrap};
use crate::{OpenError, Seal, SealError, SealId, Seals};

/// What one step of resealing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// Nothing: the root key is wrapped by the first seal, and by none that is not listed.
    Unchanged,
    /// The first seal has wrapped the root key too.
    Added,
    /// The wrappings by seals that are not listed are gone.
    Dropped,
}

impl<S: HeaderStore + ?Sized> Sealed<S> {
    /// One step of resealing: adds the first seal's wrapping if it is missing, else drops the wrappings by seals that are
    /// not listed. Values stay as they are. Whatever happens, and whenever the process ends, the seals of before or those
    /// of after open the store.
    ///
    /// # Errors
    /// When the header is not what this process opened, the first seal does not work, or the header could not be written.
    pub async fn reseal(&self, seals: &Seals) -> Result<Resealed, OpenError> {
        let place = self.store.to_string();
        let first = first(&place, seals)?;
        let _turn = self.resealing.lock().await;
        let mut intended = None;
        for _ in 0..ATTEMPTS {
            let record = load(&*self.store, &place).await?;
            let mut header = parse(&place, &record.header)?;
            check(&place, &self.key, &header, &record)?;

            let step = next_step(&header, seals);
            // After a lost race, the winner's step was ours, or we leave the next one to the next time.
            if step == Resealed::Unchanged || intended.is_some_and(|intended| intended != step) {
                self.remember(&header, seals);
                return Ok(Resealed::Unchanged);
            }
            intended = Some(step);

            if step == Resealed::Added {
                if header.wrappings.len() >= MAX_WRAPPINGS {
                    return Err(OpenError::TooManySeals { store: place });
                }
                header.wrappings.push(wrap(&place, first, &self.key).await?);
            } else {
                // What is kept has to be good for something.
                self.prove(&place, first, &header).await?;
                let listed: Vec<_> = seals.iter().map(|seal| seal.id()).collect();
                header.wrappings.retain(|wrapping| listed.contains(wrapping.id()));
            }
            let not_written = |source| OpenError::Write {
                store: place.clone(),
                source,
            };
            header.generation = header.generation.checked_add(1).ok_or_else(|| {
                not_written(SealError::Unfit {
                    problem: "was replaced too often",
                })
            })?;
            let new = self.key.seal_header(&mut header).map_err(not_written)?;
            match self.store.replace_header(Some(&record), &new).await {
                Ok(()) => {
                    self.remember(&header, seals);
                    tracing::info!(
                        store = %place,
                        generation = header.generation,
                        seals = ?header.wrappings,
                        "{}",
                        match step {
                            Resealed::Added => "the root key is wrapped by the first seal too",
                            Resealed::Dropped => "wrappings by seals that are not listed are gone",
                            Resealed::Unchanged => "unchanged",
                        }
                    );
                    return Ok(step);
                }
                // Somebody was faster.
                Err(StoreError::Exists) => {}
                Err(error) => return Err(failed(&place)(error)),
            }
        }
        Err(OpenError::Raced { store: place })
    }

    /// Makes sure that `seal` unwraps the root key.
    async fn prove(&self, place: &str, seal: &Arc<dyn Seal>, header: &Header) -> Result<(), OpenError> {
        let root = unwrap(place, header, &vec![Arc::clone(seal)]).await?;
        if root.ct_eq(self.key.root()) {
            return Ok(());
        }
        Err(OpenError::Unwrap {
            store: place.to_owned(),
            seal: seal.id(),
            place: seal.to_string(),
            source: SealError::DoesNotOpen,
        })
    }
}

/// What resealing has to do next.
fn next_step(header: &Header, seals: &Seals) -> Resealed {
    let wraps = |id: &SealId| header.wrappings.iter().any(|wrapping| wrapping.id() == id);
    let is_listed = |id: &SealId| seals.iter().any(|seal| seal.id() == *id);
    if !seals.first().is_some_and(|seal| wraps(&seal.id())) {
        Resealed::Added
    } else if header.wrappings.iter().all(|wrapping| is_listed(wrapping.id())) {
        Resealed::Unchanged
    } else {
        Resealed::Dropped
    }
}

/// How often a lost race is run again.
const ATTEMPTS: usize = 8;
