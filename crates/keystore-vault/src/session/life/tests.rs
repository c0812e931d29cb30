//! The life of a token, second by second.

use http::HeaderValue;
use zeroize::Zeroizing;

use super::*;

const fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

const fn millis(millis: u64) -> Monotonic {
    Monotonic(Duration::from_millis(millis))
}

fn grant(token: &str, lease: u64, renewable: bool) -> Grant {
    let token = Zeroizing::new(token.as_bytes().to_vec());
    Grant::new(token, Duration::from_secs(lease), renewable).expect("a token")
}

fn no_answer() -> LoginError {
    LoginError::unavailable("no answer")
}

/// A life, told second by second in a test.
struct Story {
    life: Life,
}

impl Story {
    /// Begins at 0 with the token `a`.
    fn of(lease: u64, renewable: bool) -> Self {
        Self {
            life: Life::new(grant("a", lease, renewable), at(0)),
        }
    }

    /// What is begun at `now`: `login`, `renew TOKEN`, or until when nothing is.
    #[track_caller]
    fn step(&mut self, now: Monotonic) -> String {
        match self.life.step(now) {
            Step::Wait(None) => "wait".to_owned(),
            Step::Wait(Some(until)) => format!("wait until {:?}", until.0),
            Step::Login(_) => "login".to_owned(),
            Step::Renew(token, _) => format!("renew {}", name(&token)),
        }
    }

    /// Nothing happens before `then`, and then this does.
    #[track_caller]
    fn next(&mut self, now: Monotonic, then: Monotonic, what: &str) {
        assert_eq!(self.step(now), format!("wait until {:?}", then.0));
        assert_eq!(self.step(then), what);
    }

    #[track_caller]
    fn renewed(&mut self, now: Monotonic, lease: u64) {
        let token = self.life.newest().token.header();
        let mut renewal = grant("a", lease, true);
        renewal.secret = token;
        self.life.renewed(now, Ok(renewal));
    }

    fn logged_in(&mut self, now: Monotonic, token: &str, lease: u64) {
        self.life.logged_in(now, Ok(grant(token, lease, true)));
    }

    fn login_fails(&mut self, now: Monotonic) {
        self.life.logged_in(now, Err(no_answer()));
    }

    /// The token that a request gets.
    fn offer(&mut self, now: Monotonic) -> String {
        match self.life.offer(now) {
            Offer::Token(token) => name(&token),
            Offer::Wait => "wait".to_owned(),
            Offer::Failed(error) => error.to_string(),
        }
    }

    fn token(&mut self, now: Monotonic) -> Token {
        match self.life.offer(now) {
            Offer::Token(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// What becomes of a 403 for `token`.
    fn refused(&mut self, now: Monotonic, token: &Token, waiting: &mut Option<Waiting>) -> String {
        match self.life.refused(now, token, "GET kv", *waiting) {
            Verdict::Repeat(token) => format!("repeat with {}", name(&token)),
            Verdict::Denied => "denied".to_owned(),
            Verdict::Failed(error) => error.to_string(),
            Verdict::Wait(again) => {
                *waiting = Some(again);
                "wait".to_owned()
            }
        }
    }
}

fn name(token: &Token) -> String {
    let header: HeaderValue = token.header();
    header.to_str().expect("text").to_owned()
}

#[test]
fn a_token_is_renewed_at_four_fifths_of_its_lease_whatever_that_is() {
    for (lease, renewal) in [
        (1, 1_000),
        (2, 1_600),
        (5, 4_000),
        (10, 8_000),
        (29, 23_200),
        (30, 24_000),
        (300, 240_000),
        (3_600, 2_880_000),
        (2_764_800, 2_211_840_000),
    ] {
        let mut story = Story::of(lease, true);
        let due = if lease == 1 { "login" } else { "renew a" };
        story.next(at(0), millis(renewal), due);
    }
}

#[test]
fn a_lease_counts_from_the_request_and_not_from_its_answer() {
    let mut story = Story::of(100, true);
    story.next(at(0), at(80), "renew a");
    story.renewed(at(85), 100);
    story.next(at(85), at(160), "renew a");
    assert_eq!(story.offer(at(179)), "a");
}

#[test]
fn a_renewed_token_is_the_same_token() {
    let mut story = Story::of(10, true);
    let first = story.token(at(0));
    for round in 1..100 {
        assert_eq!(story.step(at(8 * round)), "renew a");
        story.renewed(at(8 * round), 10);
    }
    let last = story.token(at(800));
    assert_eq!((last.number(), last.since()), (first.number(), first.since()));
}

#[test]
fn a_token_that_never_ends_is_left_alone() {
    let mut story = Story::of(0, true);
    assert_eq!(story.step(at(0)), "wait");
    assert_eq!(story.step(at(1_000_000)), "wait");
    assert_eq!(story.offer(at(1_000_000)), "a");
}

#[test]
fn a_login_that_gives_a_token_without_an_end_stops_the_timer() {
    let mut story = Story::of(10, false);
    assert_eq!(story.step(at(8)), "login");
    story.logged_in(at(8), "b", 0);
    assert_eq!(story.offer(at(8)), "b");
    assert_eq!(story.step(at(8)), "wait");
    assert_eq!(story.step(at(100_000)), "wait");
}

#[test]
fn a_token_that_cannot_be_renewed_is_replaced_at_four_fifths_of_its_lease() {
    for (lease, login) in [(10, 8), (300, 240), (3_600, 2_880)] {
        let mut story = Story::of(lease, false);
        story.next(at(0), at(login), "login");
    }
}

#[test]
fn a_new_token_is_offered_when_other_nodes_know_it_as_well() {
    for (lease, known) in [(10, 1_000), (40, 4_000), (300, 30_000), (100_000, 30_000)] {
        let mut story = Story::of(lease, false);
        let due = millis(lease * 800);
        assert_eq!(story.step(due), "login");
        story.logged_in(due, "b", lease);
        let ready = Monotonic(due.0 + Duration::from_millis(known));
        let before = Monotonic(ready.0 - Duration::from_millis(1));
        assert_eq!(
            (story.offer(before), story.offer(ready)),
            ("a".to_owned(), "b".to_owned())
        );
    }
}

#[test]
fn a_new_token_is_offered_at_once_when_the_old_one_is_dead() {
    let mut story = Story::of(10, false);
    assert_eq!(story.step(at(8)), "login");
    story.logged_in(millis(9_500), "b", 300);
    assert_eq!(story.offer(millis(9_999)), "a");
    assert_eq!(story.offer(at(10)), "b");

    let mut story = Story::of(10, false);
    assert_eq!(story.step(at(8)), "login");
    assert_eq!(story.offer(at(10)), "wait");
    story.logged_in(at(11), "b", 300);
    assert_eq!(story.offer(at(11)), "b");
}

#[test]
fn the_new_token_is_the_one_that_is_renewed() {
    let mut story = Story::of(100, false);
    assert_eq!(story.step(at(80)), "login");
    story.logged_in(at(80), "b", 100);
    story.next(at(81), at(160), "renew b");
}

#[test]
fn a_refused_renewal_is_followed_by_a_login_at_once() {
    let mut story = Story::of(100, true);
    assert_eq!(story.step(at(80)), "renew a");
    story.life.renewed(at(80), Err(LoginError::refused("no")));
    assert_eq!(story.step(at(80)), "login");
    assert_eq!(story.offer(at(80)), "a");
}

#[test]
fn a_renewal_without_an_answer_is_tried_again_and_then_a_login_is() {
    let mut story = Story::of(100, true);
    assert_eq!(story.step(at(80)), "renew a");
    story.life.renewed(at(80), Err(no_answer()));
    story.next(at(80), at(81), "renew a");
    story.life.renewed(at(81), Err(no_answer()));
    story.next(at(81), at(83), "renew a");
    story.life.renewed(at(83), Err(no_answer()));
    assert_eq!(story.step(at(83)), "login");
}

#[test]
fn a_renewal_is_not_tried_again_when_the_lease_ends_before() {
    let mut story = Story::of(5, true);
    assert_eq!(story.step(at(4)), "renew a");
    story.life.renewed(millis(4_500), Err(no_answer()));
    assert_eq!(story.step(millis(4_500)), "login");
}

#[test]
fn a_renewal_that_works_again_starts_the_counting_of_failures_anew() {
    let mut story = Story::of(100, true);
    for round in 0..5 {
        let due = 80 * (round + 1) + round;
        assert_eq!(story.step(at(due)), "renew a");
        story.life.renewed(at(due), Err(no_answer()));
        story.next(at(due), at(due + 1), "renew a");
        story.renewed(at(due + 1), 100);
    }
}

#[test]
fn a_renewal_may_take_half_of_what_is_left_of_the_lease() {
    for (lease, due, limit) in [(100, 80, 10_000), (10, 8, 1_000), (3_600, 2_880, 360_000)] {
        let mut life = Life::new(grant("a", lease, true), at(0));
        let Step::Renew(_, within) = life.step(at(due)) else {
            panic!("a renewal is due");
        };
        assert_eq!(within, Duration::from_millis(limit));
    }
}

#[test]
fn a_login_comes_before_the_longest_life_of_a_token_ends() {
    // 10 seconds at a time, 30 seconds in all.
    let mut story = Story::of(10, true);
    story.next(at(0), at(8), "renew a");
    story.renewed(at(8), 10);
    story.next(at(8), at(16), "renew a");
    story.renewed(at(16), 10);
    story.next(at(16), at(24), "renew a");
    story.renewed(at(24), 6);
    story.next(at(24), at(28), "login");
    story.logged_in(at(28), "b", 10);
    assert_eq!(story.offer(at(28)), "a");
    assert_eq!(story.offer(at(29)), "b");
    story.next(at(29), at(36), "renew b");
}

#[test]
fn whatever_is_left_of_the_longest_life_the_next_token_is_known_before_its_end() {
    for lease in [5u64, 10, 20, 60, 600, 3_600] {
        for left in 1..lease {
            let mut story = Story::of(lease, true);
            let renewal = Monotonic(renewal_point(Duration::from_secs(lease)));
            assert_eq!(story.step(renewal), "renew a");
            story.renewed(renewal, left);
            let end = later(renewal, Duration::from_secs(left));

            // Either another renewal, which prolongs nothing, or a login.
            let mut now = renewal;
            let login = loop {
                match story.life.step(now) {
                    Step::Wait(until) => now = until.expect("something is due"),
                    Step::Login(_) => break now,
                    Step::Renew(..) => story.renewed(now, end.since(now).as_secs()),
                }
            };
            let spare = end.since(login);
            let needed = replication(Duration::from_secs(lease)).min(Duration::from_secs(left));
            assert!(
                spare >= needed,
                "lease {lease}, left {left}: {spare:?} before the end"
            );
        }
    }
}

#[test]
fn a_renewal_for_no_time_at_all_is_followed_by_a_login() {
    let mut story = Story::of(10, true);
    assert_eq!(story.step(at(8)), "renew a");
    story.renewed(at(8), 0);
    assert_eq!(story.step(at(8)), "login");
}

#[test]
fn a_renewal_may_give_another_token() {
    let mut story = Story::of(10, true);
    assert_eq!(story.step(at(8)), "renew a");
    story.life.renewed(at(8), Ok(grant("b", 10, true)));
    assert_eq!(
        (story.offer(at(8)), story.offer(at(9))),
        ("a".to_owned(), "b".to_owned())
    );
    story.next(at(9), at(16), "renew b");
}

#[test]
fn failed_logins_are_tried_again_ever_more_rarely_and_for_ever() {
    let mut story = Story::of(1_000, false);
    assert_eq!(story.step(at(800)), "login");
    let mut now = 800;
    for wait in [1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30] {
        story.login_fails(at(now));
        story.next(at(now), at(now + wait), "login");
        now += wait;
    }
    assert!(now > 1_000, "also after the end of the lease");
    for _ in 0..10_000 {
        story.login_fails(at(now));
        story.next(at(now), at(now + 30), "login");
        now += 30;
    }
    story.logged_in(at(now), "b", 100);
    assert_eq!(story.offer(at(now)), "b");
}

#[test]
fn a_login_that_works_again_starts_the_waits_anew() {
    let mut story = Story::of(100, false);
    for _ in 0..5 {
        assert_eq!(story.step(at(1_000)), "login");
        story.login_fails(at(1_000));
        story.next(at(1_000), at(1_001), "login");
        story.logged_in(at(1_001), "b", 100);
        story = Story::of(100, false);
    }
}

#[test]
fn while_logins_fail_the_old_token_is_offered_as_long_as_it_lives() {
    let mut story = Story::of(100, false);
    assert_eq!(story.step(at(80)), "login");
    story.login_fails(at(80));
    assert_eq!(story.offer(at(99)), "a");
    assert_eq!(story.offer(at(100)), "no answer");
    // Not even while the next one is under way: requests fail at once in an outage.
    assert_eq!(story.step(at(100)), "login");
    assert_eq!(story.offer(at(101)), "no answer");
}

#[test]
fn a_revoked_token_makes_one_login_for_all_who_are_refused() {
    let mut story = Story::of(3_600, true);
    let token = story.token(at(100));
    let mut waiting = [None; 64];
    for caller in &mut waiting {
        assert_eq!(story.refused(at(100), &token, caller), "wait");
    }
    assert_eq!(story.step(at(100)), "login");
    assert_eq!(story.step(at(100)), "wait");
    for caller in &mut waiting {
        assert_eq!(story.refused(at(101), &token, caller), "wait");
    }
    story.logged_in(at(101), "b", 3_600);
    for caller in &mut waiting {
        assert_eq!(story.refused(at(101), &token, caller), "repeat with b");
    }
    // Also who comes late, with the old one.
    assert_eq!(story.refused(at(102), &token, &mut None), "repeat with b");
    assert!(story.step(at(102)).starts_with("wait until"));
}

#[test]
fn a_fresh_token_that_is_refused_lacks_the_permission() {
    let mut story = Story::of(3_600, true);
    let token = story.token(at(4));
    assert_eq!(story.refused(millis(4_999), &token, &mut None), "denied");
    assert_eq!(story.refused(at(5), &token, &mut None), "wait");
}

/// Its end came while the request was on its way.
#[test]
fn a_token_that_is_refused_because_it_has_ended_is_replaced_however_fresh_it_is() {
    let mut story = Story::of(3, false);
    let token = story.token(millis(2_900));
    assert_eq!(story.step(millis(2_900)), "login");
    story.login_fails(millis(2_950));
    assert_eq!(story.refused(at(3), &token, &mut None), "no answer");

    let mut story = Story::of(3, false);
    let mut waiting = None;
    assert_eq!(story.refused(at(3), &token, &mut waiting), "wait");
    assert_eq!(story.step(at(3)), "login");
    story.logged_in(at(3), "b", 3);
    assert_eq!(story.refused(at(3), &token, &mut waiting), "repeat with b");
}

#[test]
fn refused_tokens_make_at_most_one_login_in_ten_seconds() {
    let mut story = Story::of(3_600, true);
    let mut logins = 0;
    let mut token = story.token(at(0));
    for second in 1..=100 {
        let now = at(second);
        if story.refused(now, &token, &mut None) == "wait" {
            assert_eq!(story.step(now), "login");
            logins += 1;
            story.logged_in(now, &format!("t{logins}"), 3_600);
            token = story.token(now);
        }
    }
    assert_eq!(logins, 10);
}

/// Each login leaves a token behind in Vault.
#[test]
fn a_missing_permission_makes_ever_fewer_logins() {
    let mut story = Story::of(100_000, true);
    let mut logins = Vec::new();
    let mut token = story.token(at(0));
    for second in 10..2_000 {
        let now = at(second);
        if story.refused(now, &token, &mut None) == "wait" {
            assert_eq!(story.step(now), "login");
            story.logged_in(now, &format!("t{second}"), 100_000);
            token = story.token(now);
            logins.push(second);
            // Many were refused at once, and the repetition of each is.
            for _ in 0..3 {
                story.life.helped_nothing(now, "GET kv");
            }
        }
    }
    assert_eq!(logins, [10, 70, 190, 430, 730, 1_030, 1_330, 1_630, 1_930]);

    // Meanwhile the token is revoked, which other requests find out.
    let other = story.life.refused(at(2_000), &token, "LIST kv", None);
    assert!(matches!(other, Verdict::Wait(_)), "{other:?}");
    // And after a while without a refusal all begins anew.
    assert_eq!(story.step(at(2_000)), "login");
    story.logged_in(at(2_000), "u", 100_000);
    story.life.helped_nothing(at(3_000), "GET kv");
    assert_eq!(story.life.in_vain["GET kv"].until, at(3_060));
}

#[test]
fn kinds_of_requests_that_logins_do_not_help_are_not_remembered_without_end() {
    let mut story = Story::of(100_000, true);
    for kind in 0..1_000 {
        story.life.helped_nothing(at(10), &format!("GET {kind}"));
    }
    assert_eq!(story.life.in_vain.len(), KINDS);
    story.life.helped_nothing(at(1_000), "GET kv");
    assert_eq!(story.life.in_vain.len(), 1);
}

#[test]
fn who_is_refused_while_a_login_is_under_way_waits_for_that_one() {
    let mut story = Story::of(100, false);
    let token = story.token(at(0));
    assert_eq!(story.step(at(80)), "login");
    let mut waiting = None;
    assert_eq!(story.refused(at(80), &token, &mut waiting), "wait");
    story.logged_in(at(81), "b", 100);
    assert_eq!(story.refused(at(81), &token, &mut waiting), "repeat with b");
    assert!(story.step(at(82)).starts_with("wait until"), "no second login");
}

#[test]
fn a_refused_token_gives_way_to_the_next_one_if_that_is_there() {
    let mut story = Story::of(100, false);
    let token = story.token(at(0));
    assert_eq!(story.step(at(80)), "login");
    story.logged_in(at(80), "b", 100);
    assert_eq!(story.offer(at(81)), "a");
    assert_eq!(story.refused(at(81), &token, &mut None), "repeat with b");
    assert_eq!(story.offer(at(81)), "b");
}

#[test]
fn a_token_that_is_refused_while_it_is_renewed_is_replaced_after_that() {
    let mut story = Story::of(100, true);
    let token = story.token(at(0));
    assert_eq!(story.step(at(80)), "renew a");
    let mut waiting = None;
    assert_eq!(story.refused(at(80), &token, &mut waiting), "wait");
    story
        .life
        .renewed(at(80), Err(LoginError::refused("no such token")));
    assert_eq!(story.refused(at(80), &token, &mut waiting), "wait");
    assert_eq!(story.step(at(80)), "login");
    story.logged_in(at(80), "b", 100);
    assert_eq!(story.refused(at(80), &token, &mut waiting), "repeat with b");
}

#[test]
fn when_the_login_after_a_refusal_fails_that_is_the_error() {
    let mut story = Story::of(3_600, true);
    let token = story.token(at(10));
    let mut waiting = None;
    assert_eq!(story.refused(at(10), &token, &mut waiting), "wait");
    assert_eq!(story.step(at(10)), "login");
    story.login_fails(at(10));
    assert_eq!(story.refused(at(10), &token, &mut waiting), "no answer");
    // Who comes next gets the same, without another try so soon.
    assert_eq!(story.refused(at(12), &token, &mut None), "no answer");
    // The token may be good for other things.
    assert_eq!(story.offer(at(12)), "a");
    assert_eq!(story.refused(at(20), &token, &mut None), "wait");
    assert_eq!(story.step(at(20)), "login");
}

#[test]
fn a_login_that_gives_the_same_token_again_has_not_helped() {
    let mut story = Story::of(3_600, false);
    let token = story.token(at(10));
    let mut waiting = None;
    assert_eq!(story.refused(at(10), &token, &mut waiting), "wait");
    assert_eq!(story.step(at(10)), "login");
    story.life.logged_in(at(10), Ok(grant("a", 3_590, false)));
    assert_eq!(story.refused(at(10), &token, &mut waiting), "denied");
}

#[test]
fn a_token_that_somebody_else_renews_is_looked_at_again_and_stays_the_same() {
    let mut story = Story::of(100, false);
    let first = story.token(at(0));
    story.next(at(0), at(80), "login");
    story.life.logged_in(at(80), Ok(grant("a", 100, false)));
    assert_eq!(story.token(at(150)).number(), first.number());
    story.next(at(150), at(160), "login");
    // Nobody has renewed it since.
    story.life.logged_in(at(160), Ok(grant("a", 20, false)));
    story.next(at(160), at(176), "login");
}

#[test]
fn what_is_logged_in_with_has_changed_so_a_login_is_made_now() {
    let mut story = Story::of(0, false);
    story.life.changed(at(10));
    assert_eq!(story.step(at(10)), "login");
    story.logged_in(at(10), "b", 100);
    // Who wrote it has just got it.
    assert_eq!(
        (story.offer(at(10)), story.offer(at(20))),
        ("a".to_owned(), "b".to_owned())
    );
}

#[test]
fn a_change_that_does_not_work_yet_is_not_tried_at_every_look() {
    let mut story = Story::of(0, false);
    story.life.changed(at(10));
    assert_eq!(story.step(at(10)), "login");
    story.login_fails(at(10));
    story.life.changed(millis(10_500));
    assert_eq!(story.step(millis(10_500)), "wait");
    story.life.changed(at(11));
    assert_eq!(story.step(at(11)), "login");
}

#[test]
fn nothing_is_tried_while_vault_is_sealed() {
    let mut story = Story::of(100, true);
    story.life.set_sealed(true, at(10));
    assert_eq!(story.step(at(80)), "wait");
    assert_eq!(story.offer(at(80)), "a");
    assert_eq!(story.offer(at(100)), "Vault is sealed");
    assert_eq!(story.step(at(1_000)), "wait");
    story.life.set_sealed(false, at(1_000));
    assert_eq!(story.offer(at(1_000)), "wait");
    assert_eq!(story.step(at(1_000)), "login");
}

#[test]
fn a_renewal_that_sealing_has_put_off_is_made_at_once_after_it() {
    let mut story = Story::of(100, true);
    story.life.set_sealed(true, at(10));
    assert_eq!(story.step(at(90)), "wait");
    story.life.set_sealed(false, at(90));
    assert_eq!(story.step(at(90)), "renew a");
}

#[test]
fn nobody_waits_for_a_login_while_vault_is_sealed() {
    let mut story = Story::of(3_600, true);
    let token = story.token(at(10));
    let mut waiting = None;
    assert_eq!(story.refused(at(10), &token, &mut waiting), "wait");
    story.life.set_sealed(true, at(11));
    assert_eq!(story.refused(at(11), &token, &mut waiting), "Vault is sealed");
    assert_eq!(story.refused(at(12), &token, &mut None), "Vault is sealed");
}

#[test]
fn vault_answers_again_so_the_next_login_does_not_wait() {
    for (error, until) in [
        (no_answer(), 131),
        (LoginError::sealed(), 131),
        (LoginError::refused("no such secret id"), 158),
    ] {
        let mut story = Story::of(100, false);
        let mut now = 100;
        for wait in [1, 2, 4, 8, 16] {
            assert_eq!(story.step(at(now)), "login");
            story.life.logged_in(at(now), Err(error.clone()));
            now += wait;
        }
        assert_eq!((now, story.step(at(131))), (131, "login".to_owned()));
        story.life.logged_in(at(128), Err(error));
        story.life.set_sealed(false, at(131));
        if until == 131 {
            assert_eq!(story.step(at(131)), "login");
        } else {
            story.next(at(131), at(until), "login");
        }
    }
}

#[test]
fn a_restart_of_vault_that_has_lost_all_tokens_costs_one_login() {
    let mut story = Story::of(3_600, true);
    let token = story.token(at(50));
    story.life.set_sealed(true, at(60));
    story.life.set_sealed(false, at(75));
    let mut waiting = None;
    assert_eq!(story.refused(at(75), &token, &mut waiting), "wait");
    assert_eq!(story.step(at(75)), "login");
    story.logged_in(at(75), "b", 3_600);
    assert_eq!(story.refused(at(75), &token, &mut waiting), "repeat with b");
}

#[test]
fn after_a_sleep_within_the_lease_the_renewal_is_made_at_once() {
    let mut story = Story::of(3_600, true);
    assert_eq!(story.step(at(3_500)), "renew a");
    story.renewed(at(3_500), 3_600);
    story.next(at(3_500), at(3_500 + 2_880), "renew a");
}

#[test]
fn after_a_sleep_past_the_lease_the_token_is_not_offered_and_a_login_is_made() {
    let mut story = Story::of(3_600, true);
    assert_eq!(story.offer(at(90_000)), "wait");
    assert_eq!(story.step(at(90_000)), "login");
    story.logged_in(at(90_000), "b", 3_600);
    assert_eq!(story.offer(at(90_000)), "b");
}

#[test]
fn after_a_sleep_an_old_failure_says_nothing() {
    let mut story = Story::of(100, false);
    assert_eq!(story.step(at(80)), "login");
    story.login_fails(at(80));
    assert_eq!(story.offer(at(50_000)), "wait");
    assert_eq!(story.step(at(50_000)), "login");
}

#[test]
fn a_sleep_during_a_login_ends_with_what_the_login_gave() {
    let mut story = Story::of(100, false);
    assert_eq!(story.step(at(80)), "login");
    // The lease counts from the request: an hour ago.
    story.logged_in(at(3_680), "b", 300);
    assert_eq!(story.offer(at(3_680)), "wait");
    assert_eq!(story.step(at(3_680)), "login");
}

#[test]
fn a_closed_session_offers_and_does_nothing() {
    let mut story = Story::of(100, true);
    let token = story.token(at(0));
    story.life.close();
    assert_eq!(story.offer(at(1)), "the key store has been closed");
    assert_eq!(
        story.refused(at(10), &token, &mut None),
        "the key store has been closed"
    );
    assert_eq!(story.step(at(80)), "wait");
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut story = Story::of(100, true);
    story.logged_in(at(1), "b", 100);
    story.renewed(at(1), 5);
    assert_eq!(story.offer(at(50)), "a");
    story.next(at(50), at(80), "renew a");
}

/// Vault with leases of 10 seconds and at most 30, and requests at every moment: none meets a dead token.
#[test]
fn short_tokens_with_a_short_longest_life_are_never_offered_dead() {
    for (lease, longest) in [
        (2, 5),
        (3, 7),
        (5, 11),
        (10, 30),
        (10, 25),
        (10, 29),
        (40, 90),
        (60, 61),
    ] {
        let (lease, longest) = (Duration::from_secs(lease), Duration::from_secs(longest));
        let mut now = Monotonic::default();
        let mut born = now;
        let mut life = Life::new(grant("t0", lease.as_secs(), true), now);
        let mut ends = vec![(born, later(born, lease))];
        let mut calls = 0u32;
        while now < at(1_000) {
            let whole = |left: Duration| lease.min(left).as_secs();
            match life.step(now) {
                Step::Login(_) => {
                    calls += 1;
                    born = now;
                    let token = format!("t{}", ends.len());
                    ends.push((born, later(now, lease)));
                    life.logged_in(now, Ok(grant(&token, lease.as_secs(), true)));
                }
                Step::Renew(token, _) => {
                    calls += 1;
                    let index: usize = name(&token)[1..].parse().expect("a number");
                    let left = later(ends[index].0, longest).since(now);
                    let secret = token.header();
                    assert!(now < ends[index].1, "{token:?} is renewed alive");
                    ends[index].1 = later(now, lease.min(left));
                    let mut renewal = grant("x", whole(left), true);
                    renewal.secret = secret;
                    life.renewed(now, Ok(renewal));
                }
                Step::Wait(_) => {}
            }
            match life.offer(now) {
                Offer::Token(token) => {
                    let index: usize = name(&token)[1..].parse().expect("a number");
                    assert!(
                        now < ends[index].1,
                        "{token:?} is dead at {now:?} ({lease:?}, {longest:?})"
                    );
                }
                other => panic!("{other:?} at {now:?} ({lease:?}, {longest:?})"),
            }
            now = later(now, Duration::from_millis(50));
        }
        let most = 1_000.0 / lease.as_secs_f64() * 2.5;
        assert!(
            f64::from(calls) <= most,
            "{calls} calls for tokens of {lease:?}, {longest:?} at most"
        );
    }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Whatever Vault answers, whenever requests come and are refused, and however time jumps: no token is offered after its end,
/// refusals do not make more logins than they may, and there is always a next attempt, soon.
#[test]
fn no_order_of_events_leaves_a_session_stuck_or_with_a_dead_token() {
    for seed in 1..3_000u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let lease = [0, 1, 2, 10, 40, 3_600][usize::try_from(dice.below(6)).expect("small")];
        let mut life = Life::new(grant("t0", lease, dice.below(2) == 0), at(0));
        let mut ends = vec![(lease != 0).then(|| at(lease))];
        let mut now = at(0);
        let mut under_way: Option<(Step, Monotonic)> = None;
        let mut sealed = false;
        let mut on_demand: Vec<Monotonic> = Vec::new();

        for _ in 0..400 {
            now = later(
                now,
                match dice.below(40) {
                    0 => Duration::from_secs(dice.below(10_000)),
                    1..10 => Duration::from_secs(dice.below(20)),
                    _ => Duration::from_millis(dice.below(2_000)),
                },
            );
            match dice.below(10) {
                0 => {
                    sealed = dice.below(2) == 0;
                    life.set_sealed(sealed, now);
                }
                1 => life.changed(now),
                2..4 => {
                    if let Offer::Token(token) = life.offer(now) {
                        let wanted = life.wanted;
                        match life.refused(now, &token, "GET kv", None) {
                            Verdict::Repeat(other) => assert_ne!(other.number(), token.number()),
                            Verdict::Wait(_) if wanted != life.wanted => on_demand.push(now),
                            Verdict::Wait(_) | Verdict::Denied | Verdict::Failed(_) => {}
                        }
                    }
                }
                _ => {}
            }
            if let Offer::Token(token) = life.offer(now) {
                let index: usize = name(&token)[1..].parse().expect("a number");
                let end = ends[index];
                assert!(
                    end.is_none_or(|end| now < end),
                    "seed {seed}: {token:?} at {now:?}"
                );
            }
            match under_way.take() {
                None => match life.step(now) {
                    Step::Wait(until) => {
                        let dead = life.held.has_ended(now);
                        let soon = until.is_some_and(|until| until.since(now) <= LONGEST);
                        assert!(!dead || sealed || soon, "seed {seed}: stuck at {now:?}");
                    }
                    begun => {
                        assert!(!sealed, "seed {seed}: asked while sealed");
                        under_way = Some((begun, now));
                    }
                },
                Some((work, asked)) if dice.below(3) == 0 => {
                    assert!(
                        matches!(life.step(now), Step::Wait(None)),
                        "seed {seed}: two at once"
                    );
                    under_way = Some((work, asked));
                }
                Some((work, asked)) => {
                    let given = if dice.below(4) == 0 {
                        dice.below(lease + 1)
                    } else {
                        lease
                    };
                    let end = (given != 0).then(|| later(asked, Duration::from_secs(given)));
                    let error = match dice.below(6) {
                        0 => Some(no_answer()),
                        1 => Some(LoginError::refused("no")),
                        _ => None,
                    };
                    match (work, error) {
                        (Step::Login(_), Some(error)) => life.logged_in(now, Err(error)),
                        (Step::Login(_), None) => {
                            let token = format!("t{}", ends.len());
                            ends.push(end);
                            life.logged_in(now, Ok(grant(&token, given, dice.below(2) == 0)));
                        }
                        (Step::Renew(_, _), Some(error)) => life.renewed(now, Err(error)),
                        (Step::Renew(token, _), None) => {
                            let index: usize = name(&token)[1..].parse().expect("a number");
                            let mut renewal = grant("x", given, dice.below(4) != 0);
                            renewal.secret = token.header();
                            // For no time at all: it ends within the second.
                            ends[index] = Some(end.unwrap_or(asked));
                            life.renewed(now, Ok(renewal));
                        }
                        (Step::Wait(_), _) => unreachable!("nothing is under way"),
                    }
                }
            }
        }
        for pair in on_demand.windows(2) {
            assert!(pair[1].since(pair[0]) >= APART, "seed {seed}: {pair:?}");
        }
    }
}
