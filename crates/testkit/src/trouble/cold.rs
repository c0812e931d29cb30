//! Many keys that are asked for by many at once, and that nobody has asked for before.

use futures_util::future::join_all;
use kes_crypto::{Algorithm, KeyVersion};
use kes_keyring::CacheSettings;
use kes_types::{Clock as _, SystemClock};

use super::*;

/// However many ask for a key that is not cached, the store is asked once.
pub async fn a_thousand_cold_keys_are_each_fetched_once(rig: impl Rig) {
    const KEYS: usize = 1000;
    const CLIENTS: usize = 64;
    /// How many of the clients ask for the same key.
    const ALIKE: usize = 8;
    let trial = Trial::new(rig).await;
    let keys: Vec<_> = (0..KEYS).map(|key| format!("cold-{key:04}")).collect();
    for some in keys.chunks(32) {
        let created = some.iter().map(async |key| {
            let made = KeyVersion::generate(Algorithm::Aes256, SystemClock.now(), "somebody").unwrap();
            trial.direct.create(&name(key), &made.encode()).await.unwrap();
        });
        join_all(created).await;
    }

    let mut server = server(trial.connect(PATIENT).await);
    // However long it takes, no key leaves the cache meanwhile.
    let day = Duration::from_secs(24 * 3600);
    server.cache = CacheSettings {
        any: day,
        unused: day,
        ..CacheSettings::default()
    };
    let running = server.start().await;
    let connecting = (0..CLIENTS).map(async |_| running.app().connect().await.unwrap());
    let clients = join_all(connecting).await;
    trial.proxy().forget();
    let asked = clients.into_iter().enumerate().map(async |(number, mut client)| {
        let part = number / ALIKE;
        for key in keys.iter().skip(part).step_by(CLIENTS / ALIKE) {
            let path = format!("/v1/key/generate/{key}");
            client.send("PUT", &path, "").await.ok();
        }
    });
    join_all(asked).await;
    let gets = trial.proxy().count_of(trial.requests_of(StoreOp::Get));
    assert_eq!(gets, KEYS, "requests for {KEYS} keys");
}
