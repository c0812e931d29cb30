//! What fails once, for a while, or for ever.

use futures_util::future::join_all as all;

use super::*;

/// Answers that are late are answers, and nobody waits for those of others.
pub async fn latency_is_waited_for(rig: impl Rig) {
    const AT_ONCE: u32 = 32;
    let trial = Trial::new(rig).await;
    let store = trial.connect(PATIENT).await;
    let latency = Duration::from_millis(100);
    trial.proxy().always(Fault::Delay(latency));
    for op in StoreOp::ALL {
        trial.prepare(op, "late").await;
        let asked = ends(op, PATIENT.operation, trial.ask(&store, op, "late")).await;
        assert!(asked.is_ok(), "{op} with a latency: {asked:?}");
    }
    trial.proxy().forget();
    let gets = (0..AT_ONCE).map(|_| trial.ask(&store, StoreOp::Get, ""));
    for got in ends("gets at once", PATIENT.operation, all(gets)).await {
        assert!(got.is_ok(), "{got:?}");
    }
    let at_once = trial.proxy().most_at_once();
    assert!(
        at_once > 1,
        "{AT_ONCE} gets at once were asked one after the other"
    );
}

/// One failure costs an operation one more attempt, and its caller nothing.
pub async fn one_failure_is_survived(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let store = trial.connect(PATIENT).await;
    let faults = [
        ("a reset", Fault::Reset),
        ("a lost answer", Fault::Lose),
        ("half an answer", Fault::Half),
        ("500", Fault::Says(trial.says(Trouble::Broken))),
        ("503", Fault::Says(trial.says(Trouble::Unavailable))),
        (
            "throttling",
            Fault::Says(trial.says(Trouble::Throttled { retry_after: None })),
        ),
    ];
    for (number, (label, fault)) in faults.into_iter().enumerate() {
        for op in StoreOp::ALL {
            let which = number.to_string();
            trial.prepare(op, &which).await;
            trial.proxy().forget();
            trial.proxy().once(trial.requests_of(op), fault.clone());
            let asked = ends(op, PATIENT.operation, trial.ask(&store, op, &which)).await;
            match asked {
                Ok(()) => {}
                // The first attempt had deleted it.
                Err(StoreError::NotFound) if op == StoreOp::Delete => {}
                Err(error) => panic!("{op} fails because of {label} once: {error:?}"),
            }
            let requests = trial.proxy().count_of(trial.requests_of(op));
            assert!(
                (1..=most_attempts(&PATIENT)).contains(&requests),
                "{op} took {requests} requests because of {label} once"
            );
            match op {
                StoreOp::Create => {
                    let new = format!("new-{which}");
                    assert_holds(&trial.direct, &new, &value(&new)).await;
                }
                StoreOp::Delete => {
                    let read = trial.direct.get(&name(&format!("old-{which}"))).await;
                    assert!(matches!(read, Err(StoreError::NotFound)), "not deleted: {read:?}");
                }
                StoreOp::Get | StoreOp::List | StoreOp::Ping => {}
            }
        }
    }
}

/// A failure that lasts is told as what it is, after no more attempts than there may be, and forgotten when it is over.
pub async fn a_failure_that_lasts_is_told_in_time(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let store = trial.connect(PATIENT).await;
    for (number, problem) in trial.problems().iter().enumerate() {
        for op in StoreOp::ALL {
            let which = format!("{number}-while");
            trial.prepare(op, &which).await;
            trial.proxy().forget();
            trial.fail(problem).await;
            let asked = ends(op, PATIENT.operation, trial.ask(&store, op, &which)).await;
            trial.heal();
            let label = problem.label;
            let Err(error) = asked else {
                panic!("{op} succeeds in spite of {label}");
            };
            let class = Class::of(&error);
            // What became of a create may be unknown for more reasons than one.
            let is_backend = class == Class::Backend && op == StoreOp::Create;
            assert!(
                problem.allowed.contains(&class) || is_backend,
                "{op} in spite of {label}: {error:?}"
            );
            let requests = trial.proxy().count_of(trial.requests_of(op));
            assert!(
                requests <= most_attempts(&PATIENT),
                "{op} took {requests} requests because of {label}"
            );
            let all = trial.proxy().count();
            assert!(
                all <= 4 * most_attempts(&PATIENT),
                "{op} took {all} requests of all kinds because of {label}"
            );

            let which = format!("{number}-after");
            trial.prepare(op, &which).await;
            let asked = ends(op, PATIENT.operation, trial.ask(&store, op, &which)).await;
            assert!(asked.is_ok(), "{op} after {label}: {asked:?}");
        }
    }
}

/// Whatever hangs, an attempt ends when it may take no longer, and an operation does with all its attempts.
pub async fn what_never_answers_is_given_up_in_time(rig: impl Rig) {
    const SHORT: Duration = Duration::from_millis(1500);
    const NEVER: Duration = Duration::from_secs(600);
    let trial = Trial::new(rig).await;
    let patiences = [
        // The operation ends, although its attempt would not.
        Patience {
            attempt: NEVER,
            operation: SHORT,
            ..PATIENT
        },
        // Its attempts end.
        Patience {
            attempt: SHORT / 4,
            operation: NEVER,
            ..PATIENT
        },
        // The operation ends, although its attempts would be repeated for long.
        Patience {
            attempt: SHORT / 4,
            operation: SHORT,
            retries: 1_000_000,
            ..PATIENT
        },
    ];
    for (number, patience) in patiences.into_iter().enumerate() {
        for (fault, label) in [(Fault::Hang, "hang"), (Fault::Swallow, "swallow")] {
            let which = format!("{number}-{label}");
            trial.prepare(StoreOp::Delete, &which).await;
            let store = connect_at_last(&trial.rig, patience).await;
            trial.proxy().always(fault);
            let asked = StoreOp::ALL.map(async |op| {
                let label = format!("{op} while requests {label}, with {patience:?}");
                let asked = ends(&label, SHORT, trial.ask(&store, op, &which)).await;
                (op, label, asked)
            });
            for (op, label, asked) in all(asked).await {
                let Err(error) = asked else {
                    panic!("{label} succeeds");
                };
                let class = Class::of(&error);
                let is_backend = class == Class::Backend && op == StoreOp::Create;
                assert!(class == Class::Unreachable || is_backend, "{label}: {error:?}");
            }
            // Nor does a start hang, whether it asks the service for anything or not.
            _ = ends("connecting", SHORT, trial.rig.connect(patience)).await;
            trial.heal();
        }
    }
}

/// With so little patience a slow machine may need to try again.
pub(super) async fn connect_at_last(rig: &impl Rig, patience: Patience) -> Subject {
    let mut connected = None;
    until("the store is connected", async || {
        connected = rig.connect(patience).await.ok();
        connected.is_some()
    })
    .await;
    connected.unwrap()
}

/// When the service wants to be left alone for longer than an operation may take, its caller learns so at once.
pub async fn a_wait_beyond_the_deadline_is_not_begun(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let hour = Duration::from_secs(3600);
    let throttled = Trouble::Throttled {
        retry_after: Some(hour),
    };
    // Not every service can say so.
    let Some(answer) = trial.rig.says(throttled) else {
        return;
    };
    let store = trial.connect(PATIENT).await;
    trial.prepare(StoreOp::Delete, "hour").await;
    trial.proxy().always(Fault::Says(answer));
    for op in StoreOp::ALL {
        trial.proxy().forget();
        // Well below the deadline, which is what a store that waits would take.
        let asked = ends(op, Duration::ZERO, trial.ask(&store, op, "hour")).await;
        match asked {
            Err(StoreError::Throttled { retry_after, .. }) => assert_eq!(retry_after, Some(hour), "{op}"),
            other => panic!("{op} when throttled for an hour: {other:?}"),
        }
        assert_eq!(trial.proxy().count(), 1, "{op} was asked for again");
    }
}

/// When the service says when to come again and there is time, nobody comes earlier.
pub async fn a_wait_within_the_deadline_is_kept(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let second = Duration::from_secs(1);
    let throttled = Trouble::Throttled {
        retry_after: Some(second),
    };
    if let Some(answer) = trial.rig.says(throttled) {
        let store = trial.connect(PATIENT).await;
        trial.proxy().forget();
        trial
            .proxy()
            .once(trial.requests_of(StoreOp::Get), Fault::Says(answer));
        let asked = ends("a get", PATIENT.operation, trial.ask(&store, StoreOp::Get, "")).await;
        assert!(asked.is_ok(), "{asked:?}");
        let is_get = trial.requests_of(StoreOp::Get);
        let requests = trial.proxy().requests();
        let gets: Vec<_> = requests.iter().filter(|request| is_get(request)).collect();
        assert_eq!(gets.len(), 2);
        let waited = gets[1].at.duration_since(gets[0].at);
        // The time is counted from the answer, which comes after the request.
        assert!(waited >= second, "came again after {waited:?}");
    }
}

/// An answer that is not the service's, such as a proxy's error page or a log-in page, says nothing about a key: neither that
/// it was stored, nor that there is none, which would free its name.
pub async fn an_answer_of_something_else_is_an_error(rig: impl Rig) {
    let trial = Trial::new(rig).await;
    let store = trial.connect(PATIENT).await;
    let page = "<html><body>Welcome to the network. Please log in.</body></html>";
    for status in [200, 201, 204, 404, 400, 409, 500, 502] {
        let body = if status == 204 { "" } else { page };
        let answer = Answer::of(status, "text/html", body);
        trial.proxy().always(Fault::Says(answer));
        for op in [StoreOp::Create, StoreOp::Get, StoreOp::List] {
            let asked = ends(
                op,
                PATIENT.operation,
                trial.ask(&store, op, &format!("page-{status}")),
            )
            .await;
            let Err(error) = asked else {
                panic!("{op} takes a page with status {status} for a success");
            };
            let class = Class::of(&error);
            assert!(
                !matches!(class, Class::Exists | Class::NotFound),
                "{op} takes a page with status {status} for an answer: {error:?}"
            );
        }
    }
}

/// How many requests of its kind an operation may take.
const fn most_attempts(patience: &Patience) -> usize {
    patience.retries as usize + 1
}
