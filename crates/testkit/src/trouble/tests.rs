//! A decent key store keeps every promise, and one that breaks one is found out.

mod service;
mod store;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;

use self::service::ServiceRig;
use self::store::Bad;
use super::secrecy::forms;
use super::*;

mod kept {
    use super::*;

    async fn rig() -> ServiceRig {
        ServiceRig::new(None)
    }

    crate::trouble_tests!(rig);
}

/// That the store is found out by the promise.
macro_rules! found_out {
    ($($bad:ident: $($promise:ident),+;)*) => {$(
        #[tokio::test]
        #[expect(non_snake_case, reason = "called after the fault")]
        async fn $bad() {
            $(assert_found(Bad::$bad, stringify!($promise), |rig| Box::pin($promise(rig))).await;)+
        }
    )*};
}

mod found {
    use super::*;

    found_out! {
        AsksOneAtATime: latency_is_waited_for;
        NeverRetries: one_failure_is_survived, a_create_that_did_not_arrive_is_repeated;
        RetriesTenTimes: a_failure_that_lasts_is_told_in_time;
        StaysDown: a_failure_that_lasts_is_told_in_time;
        CallsHalfAnswersCorrupt: a_failure_that_lasts_is_told_in_time;
        PingsWithoutAsking: a_failure_that_lasts_is_told_in_time;
        HasNoDeadline: what_never_answers_is_given_up_in_time;
        HasNoTimeOut: what_never_answers_is_given_up_in_time;
        WaitsAsItIsTold: a_wait_beyond_the_deadline_is_not_begun;
        ComesBackAtOnce: a_wait_within_the_deadline_is_kept;
        TakesAnyAnswer: an_answer_of_something_else_is_an_error;
        SaysItsOwnIsAnothers: a_create_whose_answer_is_lost_has_succeeded,
            creates_under_random_faults_have_one_winner_who_knows;
        TakesAnothersForItsOwn: a_taken_name_stays_taken,
            whoever_comes_first_between_two_attempts_has_the_name,
            creates_under_random_faults_have_one_winner_who_knows;
        GoesOnWhenCancelled: what_is_cancelled_stops_its_requests;
        KeepsWhatFailed: ten_thousand_failures_leave_nothing_behind;
        CallsOutagesFailures: the_server_says_what_is_going_on,
            ten_minutes_of_outage_cost_no_cached_key,
            without_an_offline_time_errors_come_at_once,
            a_short_outage_under_load_fails_nobody;
        ReadsTwice: a_thousand_cold_keys_are_each_fetched_once;
        TellsItsToken: no_secret_is_told_whatever_happens;
        LogsItsToken: no_secret_is_told_whatever_happens;
        ShowsItsToken: no_secret_is_told_whatever_happens;
        QuotesAnswers: no_secret_is_told_whatever_happens;
    }
}

type Examined = Pin<Box<dyn Future<Output = ()>>>;

async fn assert_found(bad: Bad, promise: &str, examine: impl Fn(ServiceRig) -> Examined) {
    let examined = AssertUnwindSafe(examine(ServiceRig::new(Some(bad)))).catch_unwind();
    assert!(examined.await.is_err(), "{bad:?} was not found by {promise}");
}

#[test]
fn a_secret_is_found_in_whatever_form() {
    let secret = b"s3cret \"token\"";
    let forms = forms(secret);
    for text in [
        "a s3cret \"token\"!".to_owned(),
        format!("{:?}", "a s3cret \"token\"!"),
        format!("{secret:?}"),
        format!("{:?}", b"a s3cret \"token\"!"),
        "s3cret%20%22token%22".to_owned(),
        "7333637265742022746f6b656e22".to_owned(),
        "eyJhIjoiczNjcmV0IFwidG9rZW5cIiJ9 czNjcmV0ICJ0b2tlbiI=".to_owned(),
        // "x", "xy" and "xyz" before it
        "eHMzY3JldCAidG9rZW4i".to_owned(),
        "eHlzM2NyZXQgInRva2VuIg==".to_owned(),
        "eHl6czNjcmV0ICJ0b2tlbiI=".to_owned(),
    ] {
        assert!(forms.iter().any(|form| text.contains(form)), "{text}");
    }
    assert!(!forms.iter().any(|form| "a secret \"token\"".contains(form)));
}
