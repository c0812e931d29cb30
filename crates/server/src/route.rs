//! The routes: one table, which requests are matched against and `/v1/api` answers. Those that look after the key store are
//! in it only if the server can do that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use kes_types::wire::ApiRoute;
use kes_types::{BadPattern, ListRequest, Operation, Verb};
use percent_encoding::percent_decode_str;

use crate::error::ApiError;
use crate::settings::RouteSettings;

/// The largest request body in bytes.
pub(crate) const MAX_BODY: usize = 1_000_000;
/// What a route without a body reads and ignores.
pub(crate) const IGNORED_BODY: usize = 64 << 10;

/// One route, as it is compiled in.
#[derive(Clone, Copy, Debug)]
struct Route {
    verb: Verb,
    method: Accepts,
    max_body: usize,
    timeout: Option<Duration>,
    auth: Auth,
}

/// The method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepts {
    Get,
    Delete,
    /// `PUT`, and `POST` since the Go SDK sends that.
    Put,
}

/// What a route wants to know about its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Nothing.
    Open,
    /// Who it is.
    Identity,
    /// That a policy permits it.
    Policy,
    /// That it is the admin.
    Admin,
}

const SHORT: Option<Duration> = Some(Duration::from_secs(10));
const NORMAL: Option<Duration> = Some(Duration::from_secs(15));

#[rustfmt::skip]
const ROUTES: [Route; Verb::ALL.len()] = [
    route(Verb::Version,          Accepts::Get,    0,        SHORT,  Auth::Open),
    route(Verb::Ready,            Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::Status,           Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::Metrics,          Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::Api,              Accepts::Get,    0,        SHORT,  Auth::Policy),
    route(Verb::CreateKey,        Accepts::Put,    0,        NORMAL, Auth::Policy),
    route(Verb::ImportKey,        Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::DescribeKey,      Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::DeleteKey,        Accepts::Delete, 0,        NORMAL, Auth::Policy),
    route(Verb::ListKeys,         Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::GenerateKey,      Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::EncryptKey,       Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::DecryptKey,       Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::BulkDecryptKey,   Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::HmacKey,          Accepts::Put,    MAX_BODY, NORMAL, Auth::Policy),
    route(Verb::DescribePolicy,   Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::ReadPolicy,       Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::ListPolicies,     Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::DescribeIdentity, Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::DescribeSelf,     Accepts::Get,    0,        NORMAL, Auth::Identity),
    route(Verb::ListIdentities,   Accepts::Get,    0,        NORMAL, Auth::Policy),
    route(Verb::ErrorLog,         Accepts::Get,    0,        None,   Auth::Policy),
    route(Verb::AuditLog,         Accepts::Get,    0,        None,   Auth::Policy),
    route(Verb::UndeleteKey,      Accepts::Put,    0,        NORMAL, Auth::Admin),
    route(Verb::StoreInfo,        Accepts::Get,    0,        NORMAL, Auth::Admin),
    route(Verb::StoreBackup,      Accepts::Get,    0,        None,   Auth::Admin),
];

const fn route(verb: Verb, method: Accepts, max_body: usize, timeout: Option<Duration>, auth: Auth) -> Route {
    Route {
        verb,
        method,
        max_body,
        timeout,
        auth,
    }
}

impl Accepts {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::Put => "PUT",
        }
    }

    fn accepts(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET,
            Self::Delete => method == Method::DELETE,
            Self::Put => method == Method::PUT || method == Method::POST,
        }
    }
}

/// A route that a request matches.
#[derive(Debug)]
pub(crate) struct Matched<'a> {
    pub(crate) verb: Verb,
    pub(crate) max_body: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) auth: Auth,
    /// What stands behind the route's path, percent-decoded but unchecked.
    pub(crate) resource: Cow<'a, str>,
}

impl Matched<'_> {
    /// What a policy is asked about, and for a listing what it asks for: a policy is applied to what a pattern or position
    /// stands for.
    pub(crate) fn operation(&self) -> (Operation<'_>, Option<Result<ListRequest, BadPattern>>) {
        let listing = self.verb.is_listing().then(|| ListRequest::parse(&self.resource));
        let canonical: Cow<'_, str> = match &listing {
            Some(Ok(listing)) => listing.prefix().to_owned().into(),
            Some(Err(_)) | None => Cow::Borrowed(&self.resource),
        };
        (Operation::new(self.verb, canonical), listing)
    }

    /// The same, independent of the request's path.
    pub(crate) fn into_owned(self) -> Matched<'static> {
        let Self {
            verb,
            max_body,
            timeout,
            auth,
            resource,
        } = self;
        Matched {
            verb,
            max_body,
            timeout,
            auth,
            resource: Cow::Owned(resource.into_owned()),
        }
    }
}

/// The table with the configuration's overrides.
#[derive(Clone, Debug)]
pub(crate) struct Routes(Box<[Route]>);

impl Routes {
    /// The routes of a server that can look after its key store, or of one that cannot.
    pub(crate) fn new(overrides: &BTreeMap<Verb, RouteSettings>, has_maintenance: bool) -> Self {
        let configured = |mut route: Route| {
            if let Some(settings) = overrides.get(&route.verb) {
                route.timeout = settings.timeout.or(route.timeout);
                if settings.skip_auth && route.verb.may_skip_auth() {
                    route.auth = Auth::Open;
                }
            }
            route
        };
        let served = |route: &Route| has_maintenance || !route.verb.is_maintenance();
        Self(ROUTES.into_iter().filter(served).map(configured).collect())
    }

    /// Whether some route that the configuration opened needs no certificate, so that handshakes must not insist on one.
    /// `/version` does not count: it is open to those who come as far as a request.
    pub(crate) fn any_opened(&self) -> bool {
        self.0
            .iter()
            .any(|route| route.auth == Auth::Open && route.verb != Verb::Version)
    }

    /// Finds the route of a request by its method and its raw path.
    pub(crate) fn find<'a>(&self, method: &Method, path: &'a str) -> Result<Matched<'a>, ApiError> {
        let path = decode(path).ok_or_else(ApiError::not_found)?;
        let (route, resource) = self
            .0
            .iter()
            .find_map(|route| match_path(route, &path))
            .ok_or_else(ApiError::not_found)?;
        if !route.method.accepts(method) {
            return Err(ApiError::method_not_allowed(route.method.name()));
        }
        let Route {
            verb,
            method: _,
            max_body,
            timeout,
            auth,
        } = *route;
        let resource = match path {
            Cow::Borrowed(path) => Cow::Borrowed(path.get(resource..).unwrap_or_default()),
            Cow::Owned(path) => Cow::Owned(path.get(resource..).unwrap_or_default().to_owned()),
        };
        Ok(Matched {
            verb,
            max_body,
            timeout,
            auth,
            resource,
        })
    }

    /// The table as `/v1/api` answers it.
    pub(crate) fn describe(&self) -> Vec<ApiRoute> {
        let describe = |route: &Route| ApiRoute {
            method: route.method.name().to_owned(),
            path: route.verb.path().to_owned(),
            max_body: route.max_body as u64,
            timeout: route.timeout.map_or(0, |timeout| timeout.as_secs().max(1)),
        };
        self.0.iter().map(describe).collect()
    }
}

/// Where the resource begins, if the path is the route's. Listings and the bulk decryption also go without the final `/`.
fn match_path<'r>(route: &'r Route, path: &str) -> Option<(&'r Route, usize)> {
    let own = route.verb.path();
    if let Some(bare) = own.strip_suffix('/') {
        if path.starts_with(own) {
            return Some((route, own.len()));
        }
        let goes_bare = route.verb.is_listing() || route.verb == Verb::BulkDecryptKey;
        return (goes_bare && path == bare).then_some((route, path.len()));
    }
    (path == own).then_some((route, path.len()))
}

/// Percent-decodes a path, all but slashes: an encoded slash separates nothing, so it must not become one that does.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let kept = path.replace("%2f", "%252F").replace("%2F", "%252F");
    let decoded = percent_decode_str(&kept).decode_utf8().ok()?;
    Some(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> Result<(Verb, String), u16> {
        let routes = Routes::new(&BTreeMap::new(), true);
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let found = routes.find(&method, path);
        found
            .map(|matched| (matched.verb, matched.resource.into_owned()))
            .map_err(|error| error.status.as_u16())
    }

    #[test]
    fn the_table_has_every_verb_once_in_order() {
        assert_eq!(ROUTES.map(|route| route.verb), Verb::ALL);
    }

    #[test]
    fn paths_find_their_route_and_resource() {
        for (method, path, verb, resource) in [
            ("GET", "/version", Verb::Version, ""),
            ("PUT", "/v1/key/create/a", Verb::CreateKey, "a"),
            ("POST", "/v1/key/create/a", Verb::CreateKey, "a"),
            ("POST", "/v1/key/create/", Verb::CreateKey, ""),
            ("POST", "/v1/key/%63reate/%61", Verb::CreateKey, "a"),
            ("POST", "/v1/key/create/a%2Fb", Verb::CreateKey, "a%2Fb"),
            ("POST", "/v1/key/create/a%2fb", Verb::CreateKey, "a%2Fb"),
            (
                "POST",
                "/v1/key/create/../delete/a",
                Verb::CreateKey,
                "../delete/a",
            ),
            ("POST", "/v1/key/create/a%00", Verb::CreateKey, "a\0"),
            ("GET", "/v1/key/list", Verb::ListKeys, ""),
            ("GET", "/v1/key/list/", Verb::ListKeys, ""),
            ("GET", "/v1/key/list/a*", Verb::ListKeys, "a*"),
            ("GET", "/v1/policy/list", Verb::ListPolicies, ""),
            ("GET", "/v1/identity/list", Verb::ListIdentities, ""),
            ("PUT", "/v1/key/bulk/decrypt", Verb::BulkDecryptKey, ""),
            ("PUT", "/v1/key/bulk/decrypt/a", Verb::BulkDecryptKey, "a"),
            ("GET", "/v1/identity/self/describe", Verb::DescribeSelf, ""),
            ("DELETE", "/v1/key/delete/a", Verb::DeleteKey, "a"),
            ("PUT", "/v1/key/undelete/a", Verb::UndeleteKey, "a"),
            ("POST", "/v1/key/undelete/", Verb::UndeleteKey, ""),
            ("GET", "/v1/store/info", Verb::StoreInfo, ""),
            ("GET", "/v1/store/backup", Verb::StoreBackup, ""),
        ] {
            assert_eq!(
                find(method, path),
                Ok((verb, resource.to_owned())),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn nothing_is_normalised_into_a_route() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1//key/create/a",
            "//v1/key/create/a",
            "/v1/./key/create/a",
            "/v1/key/../key/create/a",
            "/v1%2Fkey/create/a",
            "/v1/key%2fcreate/a",
            "/v1/key/create",
            "/v1/key/undelete",
            "/v1/store",
            "/v1/store/info/",
            "/v1/store/backup/a",
            "/v1/status/",
            "/version/",
            "/V1/status",
            "/v1/key/nothing/a",
            "/v1/key/create%ff/a",
            "v1/status",
            "*",
        ] {
            assert_eq!(find("GET", path), Err(404), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_says_which_is_right() {
        assert_eq!(find("GET", "/v1/key/create/a"), Err(405));
        assert_eq!(find("HEAD", "/version"), Err(405));
        assert_eq!(find("POST", "/v1/key/list/"), Err(405));
        assert_eq!(find("DELETE", "/v1/key/undelete/a"), Err(405));
        assert_eq!(find("POST", "/v1/store/backup"), Err(405));
        let routes = Routes::new(&BTreeMap::new(), false);
        assert_eq!(
            routes.find(&Method::GET, "/v1/key/delete/a").unwrap_err().allow,
            Some("DELETE")
        );
    }

    #[test]
    fn the_configuration_changes_times_and_opens_harmless_routes_only() {
        let settings = RouteSettings {
            skip_auth: true,
            timeout: Some(Duration::from_millis(300)),
        };
        let closed = [
            Verb::DecryptKey,
            Verb::UndeleteKey,
            Verb::StoreInfo,
            Verb::StoreBackup,
        ];
        let overrides = closed.into_iter().chain([Verb::Status]);
        let routes = Routes::new(&overrides.map(|verb| (verb, settings)).collect(), true);
        assert!(routes.any_opened());
        let status = routes.find(&Method::GET, "/v1/status").unwrap();
        assert_eq!(
            (status.auth, status.timeout),
            (Auth::Open, Some(Duration::from_millis(300)))
        );
        assert_eq!(
            routes.find(&Method::PUT, "/v1/key/decrypt/a").unwrap().auth,
            Auth::Policy
        );
        let api = routes.describe();
        assert!(
            api.iter()
                .any(|route| route.path == "/v1/status" && route.timeout == 1)
        );
        for (method, path) in [
            (Method::PUT, "/v1/key/undelete/a"),
            (Method::GET, "/v1/store/info"),
            (Method::GET, "/v1/store/backup"),
        ] {
            let found = routes.find(&method, path).unwrap();
            assert_eq!(
                (found.auth, found.timeout),
                (Auth::Admin, settings.timeout),
                "{path}"
            );
        }
        assert!(!Routes::new(&BTreeMap::new(), true).any_opened());
    }

    #[test]
    fn what_looks_after_a_key_store_is_the_admins_and_not_there_without_one() {
        for route in ROUTES {
            assert_eq!(
                route.auth == Auth::Admin,
                route.verb.is_maintenance(),
                "{}",
                route.verb
            );
        }
        let routes = Routes::new(&BTreeMap::new(), false);
        for (method, path) in [
            (Method::PUT, "/v1/key/undelete/a"),
            (Method::DELETE, "/v1/key/undelete/a"),
            (Method::GET, "/v1/store/info"),
            (Method::GET, "/v1/store/backup"),
            (Method::PUT, "/v1/store/backup"),
        ] {
            assert_eq!(routes.find(&method, path).unwrap_err().status, 404, "{path}");
        }
        assert!(
            !routes
                .describe()
                .iter()
                .any(|route| route.path.contains("store") || route.path.contains("undelete"))
        );
    }
}
