//! Creates whose outcome is in doubt.

use std::sync::Mutex;

use futures_util::future::join_all;

use super::*;
use crate::{Gate, soon};

/// An attempt that hangs ends soon; the others have time enough.
const BRIEF: Patience = Patience {
    attempt: Duration::from_secs(2),
    ..PATIENT
};

/// A create that was applied although its answer never came is a success: the stored value is the caller's.
pub async fn a_create_whose_answer_is_lost_has_succeeded(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let faults = [
        Fault::Lose,
        Fault::Half,
        Fault::Cut,
        Fault::SaysAfter(trial.says(Trouble::Broken)),
        Fault::SaysAfter(trial.says(Trouble::Unavailable)),
        Fault::Swallow,
    ];
    a_fault_is_survived(&trial, &faults).await;
}

/// A create that was not applied is repeated.
pub async fn a_create_that_did_not_arrive_is_repeated(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let throttled = Trouble::Throttled { retry_after: None };
    let faults = [
        Fault::Reset,
        Fault::Says(trial.says(throttled)),
        Fault::Says(trial.says(Trouble::Broken)),
        Fault::Says(trial.says(Trouble::Unavailable)),
        Fault::Hang,
    ];
    a_fault_is_survived(&trial, &faults).await;
}

async fn a_fault_is_survived<R: Rig>(trial: &Trial<R>, faults: &[Fault]) {
    let store = trial.connect(BRIEF).await;
    for (number, fault) in faults.iter().enumerate() {
        let text = format!("in-doubt-{number}");
        trial.proxy().forget();
        let is_create = trial.requests_of(StoreOp::Create);
        trial.proxy().once(is_create, fault.clone());
        let (entry, own) = (name(&text), value(&text));
        let created = ends("a create", BRIEF.operation, store.create(&entry, &own)).await;
        assert!(created.is_ok(), "a create with {fault:?} once: {created:?}");
        assert_holds(&trial.direct, &text, &value(&text)).await;
        let creates = trial.proxy().count_of(trial.requests_of(StoreOp::Create));
        assert!(
            creates <= BRIEF.retries as usize + 1,
            "{creates} creates with {fault:?} once"
        );
    }
}

/// Whatever becomes of the attempts to take it, a name that is taken stays so, with its value, and nobody is told otherwise.
pub async fn a_taken_name_stays_taken(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let store = trial.connect(BRIEF).await;
    let faults = [
        Fault::Pass,
        Fault::Reset,
        Fault::Lose,
        Fault::Half,
        Fault::Swallow,
        Fault::Says(trial.says(Trouble::Broken)),
        Fault::SaysAfter(trial.says(Trouble::Broken)),
        Fault::SaysAfter(trial.says(Trouble::Unavailable)),
    ];
    for fault in faults {
        let is_create = trial.requests_of(StoreOp::Create);
        trial.proxy().once(is_create, fault.clone());
        let (kept, another) = (name("kept"), value("another"));
        let created = ends("a create", BRIEF.operation, store.create(&kept, &another)).await;
        assert!(
            matches!(created, Err(StoreError::Exists)),
            "a create of a taken name with {fault:?}: {created:?}"
        );
        trial.heal();
        assert_holds(&trial.direct, "kept", &value("kept")).await;
    }
}

/// When another server creates the name between two attempts, the second attempt finds another's value and not its own.
pub async fn whoever_comes_first_between_two_attempts_has_the_name(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    // The first attempt waits at the gate for as long as the other server takes.
    let store = trial.connect(PATIENT).await;
    let faults = [
        Fault::Reset,
        Fault::Lose,
        Fault::Says(trial.says(Trouble::Unavailable)),
        Fault::SaysAfter(trial.says(Trouble::Broken)),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let text = format!("contested-{number}");
        let gate = Gate::new();
        trial.proxy().once(
            trial.requests_of(StoreOp::Create),
            Fault::Hold(gate.clone(), Box::new(fault.clone())),
        );
        let creating = tokio::spawn({
            let (store, name) = (Arc::clone(&store), name(&text));
            async move { store.create(&name, &value("the second")).await }
        });
        soon("the create reaches the proxy", gate.reached()).await;
        create(&trial.direct, &text).await;
        gate.open();
        let created = ends("a create", PATIENT.operation, creating).await.unwrap();
        assert!(
            matches!(created, Err(StoreError::Exists)),
            "a create that came second with {fault:?}: {created:?}"
        );
        assert_holds(&trial.direct, &text, &value(&text)).await;
    }
}

/// However many create the same name through however many servers, and whatever fails meanwhile: no more than one is told of
/// success, the stored value is that one's, and whoever has a value stored has not been told that the name is another's.
pub async fn creates_under_random_faults_have_one_winner_who_knows(rig: impl Rig) {
    const ROUNDS: usize = 24;
    const CREATORS: usize = 6;
    let trial = Trial::new(rig).await;
    let quick = Patience {
        attempt: Duration::from_secs(5),
        ..PATIENT
    };
    let stores = [trial.connect(quick).await, trial.connect(quick).await];
    let faults = [
        Fault::Reset,
        Fault::Lose,
        Fault::Half,
        Fault::Says(trial.says(Trouble::Broken)),
        Fault::SaysAfter(trial.says(Trouble::Broken)),
        Fault::Says(trial.says(Trouble::Unavailable)),
        Fault::SaysAfter(trial.says(Trouble::Unavailable)),
    ];
    let dice = Mutex::new(Dice(0x9e37_79b9_7f4a_7c15));
    let rule = move |_: &ProxiedRequest| match dice.lock().unwrap().roll(2 * faults.len()) {
        number if number < faults.len() => faults[number].clone(),
        _ => Fault::Pass,
    };
    let rule = Arc::new(rule);
    for round in 0..ROUNDS {
        let text = format!("random-{round}");
        let own = |creator: usize| value(&format!("creator {creator} of {text}"));
        let rule = Arc::clone(&rule);
        trial.proxy().set(move |request| rule(request));
        let creating = (0..CREATORS).map(async |creator| {
            let store = &stores[creator % stores.len()];
            store.create(&name(&text), &own(creator)).await
        });
        let told = ends("the creates", quick.operation, join_all(creating)).await;
        trial.heal();
        until("nothing is under way any more", async || {
            trial.proxy().under_way() == 0
        })
        .await;

        let winners: Vec<_> = (0..CREATORS).filter(|&creator| told[creator].is_ok()).collect();
        assert!(winners.len() <= 1, "{text} has the winners {winners:?}");
        match trial.direct.get(&name(&text)).await {
            Ok(entry) => {
                let owner = (0..CREATORS).find(|&creator| entry.value.ct_eq(&own(creator)));
                let owner = owner.unwrap_or_else(|| panic!("{text} holds what nobody stored"));
                assert!(
                    winners.first().is_none_or(|&winner| winner == owner),
                    "{text} is creator {owner}'s, and {winners:?} was told of success"
                );
                assert!(
                    !matches!(told[owner], Err(StoreError::Exists)),
                    "{text} is creator {owner}'s, who was told that it is another's: {told:?}"
                );
            }
            Err(StoreError::NotFound) => assert!(
                told.iter()
                    .all(|told| !matches!(told, Ok(()) | Err(StoreError::Exists))),
                "{text} is not there: {told:?}"
            ),
            Err(error) => panic!("reading {text}: {error:?}"),
        }
    }
}

/// Chance that is the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}
