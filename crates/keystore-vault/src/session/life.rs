//! The life of a token: when to renew it, when to log in, which one to offer. No I/O and no clock: times are passed in.
//!
//! A token is renewed at 0.8 of its lease. One that cannot be renewed, or whose renewals no longer prolong it because its
//! longest life ends, is replaced by a login before it ends. The new token is offered a little later than it is known,
//! because other nodes of Vault may not know it yet; earlier if the old one is dead.

use std::collections::BTreeMap;
use std::time::Duration;

use kes_types::Monotonic;

use super::grant::{Grant, LoginError, LoginFailure, Token};

/// What keeps one token at hand.
#[derive(Debug)]
pub(super) struct Life {
    /// The token that is offered, if it has not ended.
    held: Held,
    /// A newer one, and when it is offered instead.
    next: Option<(Held, Monotonic)>,
    /// What is under way, and since when.
    busy: Option<(Work, Monotonic)>,
    /// A login that is to be made whatever the plan says.
    wanted: Option<Urgency>,
    /// How many tokens there have been.
    tokens: u64,
    /// How many logins have ended, whether in success or not.
    logins: u64,
    /// What the last login met, if it failed; how many have failed in a row; and until when none is tried.
    failed: Option<Failed>,
    /// When a refused token last made us log in.
    on_demand: Option<Monotonic>,
    /// For which kinds of requests logins have not helped.
    in_vain: BTreeMap<String, InVain>,
    sealed: bool,
    closed: bool,
}

#[derive(Debug)]
struct Failed {
    error: LoginError,
    in_a_row: u32,
    until: Monotonic,
}

/// How often in a row a login has not helped, and until when no other one is made for the same reason.
#[derive(Debug)]
struct InVain {
    in_a_row: u32,
    until: Monotonic,
}

/// A token, its end, and what is to be done before.
#[derive(Debug)]
struct Held {
    token: Token,
    /// The lease that its login gave.
    first: Duration,
    end: Option<Monotonic>,
    due: Option<(Monotonic, Due)>,
    failed_renewals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Renewal,
    Login,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Renewal,
    Login(Urgency),
}

/// How soon the token of a login is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// When other nodes of Vault know it too, as long as the old one lives.
    Planned,
    /// At once: the old one has been refused.
    Refused,
}

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing before this time, if ever.
    Wait(Option<Monotonic>),
    /// Log in, and tell [`Life::logged_in`].
    Login(Urgency),
    /// Renew this token within this time, and tell [`Life::renewed`].
    Renew(Token, Duration),
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Offer {
    Token(Token),
    /// Ask again when something has changed.
    Wait,
    Failed(LoginError),
}

/// What is to be done about a 403.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Send the request again with this one.
    Repeat(Token),
    /// It is not the token's fault.
    Denied,
    /// Ask again when something has changed, and pass this on then.
    Wait(Waiting),
    Failed(LoginError),
}

/// That somebody waits for a login, which is the one after so many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting(u64);

impl Life {
    /// Starts with what the first login gave, which was asked for at `asked`.
    pub(super) fn new(grant: Grant, asked: Monotonic) -> Self {
        Self {
            held: Held::new(grant, 1, asked),
            next: None,
            busy: None,
            wanted: None,
            tokens: 1,
            logins: 1,
            failed: None,
            on_demand: None,
            in_vain: BTreeMap::new(),
            sealed: false,
            closed: false,
        }
    }

    /// What is to be done at `now`. It counts as begun.
    pub(super) fn step(&mut self, now: Monotonic) -> Step {
        self.settle(now);
        if self.busy.is_some() || self.sealed || self.closed {
            return Step::Wait(None);
        }
        if let Some(urgency) = self.wanted.take() {
            return self.begin_login(urgency, now);
        }
        let newest = self.newest();
        let (at, due) = match (newest.due, newest.end) {
            (_, Some(end)) if end <= now => (now, Due::Login),
            (Some(due), _) => due,
            (None, _) => return Step::Wait(None),
        };
        let at = match (due, &self.failed) {
            (Due::Login, Some(failed)) => at.max(failed.until),
            (Due::Login, None) | (Due::Renewal, _) => at,
        };
        if now < at {
            return Step::Wait(Some(at));
        }
        match due {
            Due::Login => self.begin_login(Urgency::Planned, now),
            Due::Renewal => {
                let left = newest.end.map_or(Duration::MAX, |end| end.since(now));
                let token = newest.token.clone();
                self.busy = Some((Work::Renewal, now));
                Step::Renew(token, (left / 2).max(SHORTEST))
            }
        }
    }

    fn begin_login(&mut self, urgency: Urgency, now: Monotonic) -> Step {
        self.busy = Some((Work::Login(urgency), now));
        Step::Login(urgency)
    }

    /// A login has ended.
    pub(super) fn logged_in(&mut self, now: Monotonic, outcome: Result<Grant, LoginError>) {
        let Some((Work::Login(urgency), asked)) = self.busy.take() else {
            return;
        };
        self.logins += 1;
        match outcome {
            Ok(grant) => {
                self.failed = None;
                self.take(grant, urgency, asked, now);
            }
            Err(error) => {
                let in_a_row = self.failed.as_ref().map_or(0, |failed| failed.in_a_row) + 1;
                self.failed = Some(Failed {
                    error,
                    in_a_row,
                    until: later(now, backoff(in_a_row)),
                });
            }
        }
    }

    /// A renewal has ended.
    pub(super) fn renewed(&mut self, now: Monotonic, outcome: Result<Grant, LoginError>) {
        let Some((Work::Renewal, asked)) = self.busy.take() else {
            return;
        };
        match outcome {
            Ok(grant) if self.newest().token.is(&grant.secret) => {
                self.newest_mut().prolong(&grant, asked);
            }
            Ok(grant) => self.take(grant, Urgency::Planned, asked, now),
            Err(error) => self.newest_mut().not_renewed(&error, now),
        }
    }

    /// Takes what a login gave.
    fn take(&mut self, grant: Grant, urgency: Urgency, asked: Monotonic, now: Monotonic) {
        let known = [Some(&self.held), self.next.as_ref().map(|(next, _)| next)]
            .into_iter()
            .flatten()
            .find(|known| known.token.is(&grant.secret))
            .map(|known| known.token.clone());
        if let Some(token) = known {
            // The same token, which somebody else keeps alive: a new lease is all that there is to learn.
            let again = Held::of(token, &grant, asked);
            match &mut self.next {
                Some((next, _)) if next.token.number() == again.token.number() => *next = again,
                _ => {
                    self.held = again;
                    self.next = None;
                }
            }
            return;
        }
        self.tokens += 1;
        let fresh = Held::new(grant, self.tokens, asked);
        if urgency == Urgency::Refused || self.held.has_ended(now) {
            self.held = fresh;
            self.next = None;
        } else {
            let ready = later(now, replication(fresh.first));
            self.next = Some((fresh, ready));
        }
        self.settle(now);
    }

    /// What a request at `now` gets.
    pub(super) fn offer(&mut self, now: Monotonic) -> Offer {
        self.settle(now);
        if self.closed {
            return Offer::Failed(closed());
        }
        if !self.held.has_ended(now) {
            return Offer::Token(self.held.token.clone());
        }
        if self.sealed {
            return Offer::Failed(LoginError::sealed());
        }
        match &self.failed {
            Some(failed) => Offer::Failed(failed.error.clone()),
            None => Offer::Wait,
        }
    }

    /// What is to be done about a 403 at `now` for `token` and a request of this `kind`. `waiting` is what an earlier call for
    /// the same request gave.
    pub(super) fn refused(
        &mut self,
        now: Monotonic,
        token: &Token,
        kind: &str,
        waiting: Option<Waiting>,
    ) -> Verdict {
        self.settle(now);
        if self.closed {
            return Verdict::Failed(closed());
        }
        if self.held.token.number() == token.number() && self.next.is_some() {
            self.promote();
        }
        if self.held.token.number() != token.number() || self.held.has_ended(now) {
            return match self.offer(now) {
                Offer::Token(other) => Verdict::Repeat(other),
                Offer::Wait => Verdict::Wait(waiting.unwrap_or(Waiting(self.logins))),
                Offer::Failed(error) => Verdict::Failed(error),
            };
        }
        let begun = matches!(self.busy, Some((Work::Login(_), _)));
        let under_way = begun || (self.wanted.is_some() && !self.sealed);
        match waiting {
            Some(Waiting(logins)) if logins < self.logins => return self.no_other_token(),
            Some(waiting) if under_way => return Verdict::Wait(waiting),
            None if under_way => return Verdict::Wait(Waiting(self.logins)),
            Some(_) | None => {}
        }
        if now.since(token.since()) < FRESH {
            return Verdict::Denied;
        }
        if self.sealed {
            return Verdict::Failed(LoginError::sealed());
        }
        let recent = self.on_demand.is_some_and(|last| now.since(last) < APART);
        let in_vain = self.in_vain.get(kind).is_some_and(|vain| now < vain.until);
        if recent || in_vain {
            return self.no_other_token();
        }
        self.on_demand = Some(now);
        self.wanted = Some(Urgency::Refused);
        Verdict::Wait(Waiting(self.logins))
    }

    /// A request of this `kind` was refused with the token of a new login, too: what is missing is a permission. Each login
    /// leaves a token behind, so the next one for such a request is not made soon.
    pub(super) fn helped_nothing(&mut self, now: Monotonic, kind: &str) {
        self.in_vain
            .retain(|_, vain| now.since(vain.until) < VAIN_LONGEST);
        if let Some(vain) = self.in_vain.get_mut(kind) {
            // Others who were refused together with it say the same.
            if vain.until <= now {
                vain.in_a_row += 1;
                vain.until = later(now, vain_for(vain.in_a_row));
            }
        } else if self.in_vain.len() < KINDS {
            let until = later(now, vain_for(1));
            self.in_vain
                .insert(kind.to_owned(), InVain { in_a_row: 1, until });
        }
    }

    /// Whatever was under way has ended without an outcome.
    pub(super) fn interrupted(&mut self, now: Monotonic) {
        let error = || LoginError::unavailable("it was broken off by an error of this program");
        match self.busy {
            Some((Work::Login(_), _)) => self.logged_in(now, Err(error())),
            Some((Work::Renewal, _)) => self.renewed(now, Err(error())),
            None => {}
        }
    }

    /// There has just been a login, and this token is what there is.
    fn no_other_token(&self) -> Verdict {
        match &self.failed {
            Some(failed) => Verdict::Failed(failed.error.clone()),
            None => Verdict::Denied,
        }
    }

    /// What is logged in with has changed: a login is due, now.
    pub(super) fn changed(&mut self, now: Monotonic) {
        if self.failed.as_ref().is_none_or(|failed| failed.until <= now) {
            self.wanted = self.wanted.or(Some(Urgency::Planned));
        }
    }

    /// Vault has said whether it is sealed.
    pub(super) fn set_sealed(&mut self, sealed: bool, now: Monotonic) {
        self.sealed = sealed;
        if let Some(failed) = &mut self.failed
            && !sealed
        {
            // It answers again, so what failed for want of an answer need not wait.
            match failed.error.kind() {
                LoginFailure::Unavailable | LoginFailure::Sealed => failed.until = failed.until.min(now),
                LoginFailure::Refused => {}
            }
        }
    }

    /// Nothing is done and nothing offered from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Lets go what time has overtaken.
    fn settle(&mut self, now: Monotonic) {
        let ready = self.next.as_ref().is_some_and(|(_, ready)| *ready <= now);
        if ready || self.held.has_ended(now) {
            self.promote();
        }
        // The machine has slept through what it should have tried long ago: that failure says nothing about now.
        if let (Some(failed), None) = (&self.failed, &self.busy)
            && now.since(failed.until) > SLEPT
        {
            self.failed = None;
        }
    }

    fn promote(&mut self) {
        if let Some((next, _)) = self.next.take() {
            self.held = next;
        }
    }

    fn newest(&self) -> &Held {
        self.next.as_ref().map_or(&self.held, |(next, _)| next)
    }

    fn newest_mut(&mut self) -> &mut Held {
        self.next.as_mut().map_or(&mut self.held, |(next, _)| next)
    }
}

impl Held {
    fn new(grant: Grant, number: u64, asked: Monotonic) -> Self {
        let token = Token::new(grant.secret.clone(), number, asked);
        Self::of(token, &grant, asked)
    }

    fn of(token: Token, grant: &Grant, asked: Monotonic) -> Self {
        let lease = grant.lease;
        let due = if grant.renewable { Due::Renewal } else { Due::Login };
        Self {
            token,
            first: lease,
            end: (!lease.is_zero()).then(|| later(asked, lease)),
            due: (!lease.is_zero()).then(|| (later(asked, renewal_point(lease)), due)),
            failed_renewals: 0,
        }
    }

    /// A renewal that was asked for at `asked` gave `grant`.
    fn prolong(&mut self, grant: &Grant, asked: Monotonic) {
        let lease = grant.lease;
        self.failed_renewals = 0;
        self.end = Some(later(asked, lease));
        self.due = Some(if lease.is_zero() {
            // Less than a second is left, which Vault rounds down.
            (asked, Due::Login)
        } else if lease < self.first.mul_f64(0.9) || !grant.renewable {
            // Its longest life ends then. The next one needs time to become known before.
            let spare = replication(self.first) * 2;
            let by = lease.saturating_sub(spare).min(renewal_point(lease));
            (later(asked, by), Due::Login)
        } else {
            (later(asked, renewal_point(lease)), Due::Renewal)
        });
    }

    fn not_renewed(&mut self, error: &LoginError, now: Monotonic) {
        self.failed_renewals += 1;
        let again = later(now, backoff(self.failed_renewals));
        let in_time = self.end.is_none_or(|end| again < end);
        let answered = error.kind() == LoginFailure::Refused;
        self.due = Some(if answered || self.failed_renewals >= RENEWALS || !in_time {
            (now, Due::Login)
        } else {
            (again, Due::Renewal)
        });
    }

    fn has_ended(&self, now: Monotonic) -> bool {
        self.end.is_some_and(|end| end <= now)
    }
}

fn later(from: Monotonic, by: Duration) -> Monotonic {
    Monotonic(from.0.saturating_add(by))
}

/// When a token of this lease is renewed or replaced.
fn renewal_point(lease: Duration) -> Duration {
    lease.mul_f64(0.8).max(SHORTEST)
}

/// For how long a new token of this lease may be unknown to other nodes of Vault.
fn replication(lease: Duration) -> Duration {
    (lease / 10).min(LONGEST)
}

/// How long to wait after so many failures in a row.
fn backoff(in_a_row: u32) -> Duration {
    let doubled = 2u32.saturating_pow(in_a_row.saturating_sub(1));
    SHORTEST.saturating_mul(doubled).min(LONGEST)
}

/// How long no login is made for a kind of requests that so many have not helped.
fn vain_for(in_a_row: u32) -> Duration {
    let doubled = 2u32.saturating_pow(in_a_row.saturating_sub(1));
    VAIN_SHORTEST.saturating_mul(doubled).min(VAIN_LONGEST)
}

fn closed() -> LoginError {
    LoginError::unavailable("the key store has been closed")
}

/// No renewal, and no other try after a failure, follows sooner.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest wait between two tries, and for a token to become known.
const LONGEST: Duration = Duration::from_secs(30);

/// A token as young as this has not been revoked: whoever is refused with it lacks the permission.
const FRESH: Duration = Duration::from_secs(5);

/// How far apart logins are that refused tokens ask for.
const APART: Duration = Duration::from_secs(10);

/// How long no login is made again for what a login has not helped; at most so long, so that a role that was given another
/// policy is noticed.
const VAIN_SHORTEST: Duration = Duration::from_secs(60);
const VAIN_LONGEST: Duration = Duration::from_secs(300);

/// How many kinds of requests are told apart. There are fewer.
const KINDS: usize = 32;

/// How often a renewal is tried before a login is.
const RENEWALS: u32 = 3;

/// Who is this late has slept.
const SLEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
