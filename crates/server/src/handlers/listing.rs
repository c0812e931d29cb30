//! Listings: pages of JSON, or everything as lines for clients up to 2023.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use http_body::Frame;
use http_body_util::StreamBody;
use kes_keyring::{Keyring, Scope};
use kes_types::wire::{IdentityList, NameList};
use kes_types::{ListRequest, page};

use tracing::warn;

use super::{Permitted, Reply};
use crate::body::Pages;
use crate::error::ApiError;
use crate::log::chain;

/// Names on a page. With the longest names it stays below 512 KiB of JSON, as SDKs read at most 1 MiB; and no page takes long,
/// since its names are written on a thread that others wait for.
pub(crate) const PAGE: NonZeroUsize = NonZeroUsize::new(2500).expect("not zero");

pub(super) async fn keys(mut request: Permitted<'_>) -> Result<Reply, ApiError> {
    let listing = take(&mut request)?;
    let keyring = request.snapshot.lease.keyring();
    let first = keyring.list(&Scope::default(), &listing, PAGE).await?;
    let names: Vec<String> = first.names.iter().map(ToString::to_string).collect();
    if !wants_lines(request.headers, &listing) {
        return Reply::json(&NameList {
            names,
            continue_at: first.continue_at.unwrap_or_default(),
        });
    }
    let rest = Rest {
        keyring: Arc::clone(keyring),
        continue_at: first.continue_at,
    };
    // A page that fails breaks the answer off, so that the client does not take it for complete.
    let pages = stream::try_unfold(
        (VecDeque::from([lines("name", &names)]), rest),
        |(mut ready, mut rest)| async move {
            if let Some(lines) = ready.pop_front() {
                return Ok(Some((Frame::data(lines), (ready, rest))));
            }
            let Some(names) = rest.next().await? else {
                return Ok(None);
            };
            Ok(Some((Frame::data(lines("name", &names)), (ready, rest))))
        },
    );
    Ok(Reply::Lines(Box::pin(StreamBody::new(pages))))
}

/// The pages of a listing that have not been read yet.
struct Rest {
    keyring: Arc<Keyring>,
    continue_at: Option<String>,
}

impl Rest {
    async fn next(&mut self) -> Result<Option<Vec<String>>, kes_keystore::BoxError> {
        let Some(position) = self.continue_at.take() else {
            return Ok(None);
        };
        let page = self
            .keyring
            .list(&Scope::default(), &ListRequest::parse(&position)?, PAGE)
            .await
            .inspect_err(|error| warn!(cause = chain(error), "a listing breaks off: a page of it failed"))?;
        self.continue_at = page.continue_at;
        Ok(Some(page.names.iter().map(ToString::to_string).collect()))
    }
}

pub(super) fn policies(mut request: Permitted<'_>) -> Result<Reply, ApiError> {
    let listing = take(&mut request)?;
    let names = request.snapshot.access.policy_names();
    if wants_lines(request.headers, &listing) {
        return Ok(all_lines("name", names, &listing));
    }
    let (names, next) = page(names, &listing, PAGE.get());
    let names = names.into_iter().map(str::to_owned).collect();
    Reply::json(&NameList {
        names,
        continue_at: next.unwrap_or_default(),
    })
}

pub(super) fn identities(mut request: Permitted<'_>) -> Result<Reply, ApiError> {
    let listing = take(&mut request)?;
    let identities = request.snapshot.access.identities();
    if wants_lines(request.headers, &listing) {
        return Ok(all_lines("identity", identities, &listing));
    }
    let (identities, next) = page(identities, &listing, PAGE.get());
    let identities = identities.into_iter().map(str::to_owned).collect();
    Reply::json(&IdentityList {
        identities,
        continue_at: next.unwrap_or_default(),
    })
}

fn take(request: &mut Permitted<'_>) -> Result<ListRequest, ApiError> {
    let listing = request
        .listing
        .take()
        .unwrap_or_else(|| ListRequest::parse(request.resource));
    Ok(listing?)
}

/// Whether the client is of the line up to 2023, which reads lines only: it asks for them, or it is a Go program that says
/// nothing and sends a `*`, which that line required and the current one does not send.
fn wants_lines(headers: &HeaderMap, listing: &ListRequest) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if accept.contains("application/x-ndjson") {
        return true;
    }
    let says_nothing = accept.is_empty() || accept == "*/*";
    let is_go = headers
        .get(USER_AGENT)
        .is_some_and(|agent| agent.as_bytes().starts_with(b"Go-http-client/"));
    says_nothing && is_go && listing.is_starred()
}

fn all_lines(field: &str, names: Vec<&str>, listing: &ListRequest) -> Reply {
    let (names, _) = page(names, listing, usize::MAX);
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let pages: Pages = Box::pin(http_body_util::BodyExt::map_err(
        http_body_util::Full::new(lines(field, &names)),
        |never| match never {},
    ));
    Reply::Lines(pages)
}

/// One object a line. Names need no escaping.
fn lines(field: &str, names: &[String]) -> Bytes {
    names
        .iter()
        .map(|name| format!("{{\"{field}\":\"{name}\"}}\n"))
        .collect::<String>()
        .into()
}
