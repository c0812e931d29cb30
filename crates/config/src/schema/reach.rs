//! Which rules can match a request at all. One that cannot is a slip of the pen, and as a deny rule a dangerous one.

use kes_types::{Rule, Verb, is_name};

/// What a rule can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Some request, or it is too hard to say.
    Some,
    /// Only what is the admin's alone.
    Admin,
    /// Only a path that lacks its name.
    NameMissing,
    /// Nothing.
    None,
}

/// Public documents allow this path, which nobody can call without a name.
const CUSTOMARY: &str = "/v1/key/bulk/decrypt";

pub(super) fn of(rule: &Rule) -> Reach {
    let text = rule.as_str();
    let (head, wildcard) = match text.find(['*', '?', '[']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let is_reached = |verb: &Verb| match wildcard {
        "" => is_requested(*verb, text),
        "*" => {
            let path = verb.path();
            path.starts_with(head) || (path.ends_with('/') && head.starts_with(path))
        }
        _ => true,
    };
    let mut reached = Verb::ALL.iter().filter(|verb| is_reached(verb)).peekable();
    let lacks_name = || Verb::from_path(text).is_some_and(|verb| verb.path().ends_with('/'));
    if text == CUSTOMARY {
        Reach::Some
    } else if reached.peek().is_some() {
        // No policy is asked about these.
        if reached.all(|verb| verb.is_maintenance()) {
            Reach::Admin
        } else {
            Reach::Some
        }
    } else if lacks_name() {
        Reach::NameMissing
    } else {
        Reach::None
    }
}

/// Whether a request for `verb` can have this path.
fn is_requested(verb: Verb, path: &str) -> bool {
    let own = verb.path();
    let Some(bare) = own.strip_suffix('/') else {
        return path == own;
    };
    match path.strip_prefix(own) {
        // Both a name and the beginning of one can be listed.
        Some(resource) => verb.is_listing() || is_name(resource),
        None => verb.is_listing() && path == bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(text: &str) -> Reach {
        of(&Rule::parse(text).unwrap())
    }

    #[test]
    fn what_a_request_can_have_is_reached() {
        for text in [
            "/version",
            "/v1/status",
            "/v1/identity/self/describe",
            "/v1/key/list",
            "/v1/key/list/",
            "/v1/key/list/my-",
            "/v1/key/create/my-key",
            "/v1/key/bulk/decrypt",
            "/v1/key/bulk/decrypt/my-key",
            "/v1/identity/describe/3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22",
            "*",
            "/*",
            "/v1/*",
            "/v1/key/*",
            "/v1/key/cre*",
            "/v1/key/create*",
            "/v1/key/create/*",
            "/v1/key/create/my-key*",
            "/v1/status*",
            "/v1/policy/list/*",
            "/v1/key/bulk/decrypt/*",
            // Globs are not looked into.
            "/v2/*/a",
            "/v2/a?*",
        ] {
            assert_eq!(reach(text), Reach::Some, "{text}");
        }
        for verb in Verb::ALL {
            let expected = if verb.is_maintenance() {
                Reach::Admin
            } else {
                Reach::Some
            };
            assert_eq!(reach(&format!("{}*", verb.path())), expected, "{verb}");
        }
    }

    #[test]
    fn what_no_request_has_is_not() {
        for text in [
            "/v1/status/",
            "/v1/status/*",
            "/v1/keys/delete/*",
            "/v1/keys/delete/a",
            "/v1/key/delete/a/b",
            "/v1/key/delete/-a",
            "/v1/KEY/delete/a",
            "/v1/key",
            "/v1/policy/write/*",
            "/",
            "//*",
        ] {
            assert_eq!(reach(text), Reach::None, "{text}");
        }
        for text in ["/v1/key/undelete/my-key", "/v1/store/info", "/v1/store/*"] {
            assert_eq!(reach(text), Reach::Admin, "{text}");
        }
        for text in [
            "/v1/key/delete",
            "/v1/key/delete/",
            "/v1/key/undelete",
            "/v1/key/bulk/decrypt/",
            "/v1/policy/read",
        ] {
            assert_eq!(reach(text), Reach::NameMissing, "{text}");
        }
    }
}
