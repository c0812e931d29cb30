//! What each route does, once a request is permitted.

mod answer;
mod keys;
mod listing;
mod logs;
mod policies;
mod store;
pub(crate) mod system;

use http::HeaderMap;
use kes_keyring::service::{Caller, Failure as _};
use kes_types::{BadPattern, ListRequest, Verb};

pub(crate) use answer::Reply;

use crate::body::{self, Reserved};
use crate::error::ApiError;
use crate::route::IGNORED_BODY;
use crate::state::{Shared, Snapshot};

/// A request that is permitted.
pub(crate) struct Permitted<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) caller: Caller,
    pub(crate) verb: Verb,
    /// What stands behind the route's path, still unchecked.
    pub(crate) resource: &'a str,
    /// The resource of a listing.
    pub(crate) listing: Option<Result<ListRequest, BadPattern>>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a mut hyper::body::Incoming,
    pub(crate) max_body: usize,
}

/// Runs a request. One line a verb; those that are rare or slow are boxed, so that the others' future stays small.
pub(crate) async fn run(mut request: Permitted<'_>) -> Result<Reply, ApiError> {
    if request.max_body == 0 {
        request.ignore_body().await?;
    }
    match request.verb {
        Verb::Version => system::version(request.snapshot),
        Verb::Ready => Box::pin(system::ready(request.snapshot)).await,
        Verb::Status => Box::pin(system::status(&mut request)).await,
        Verb::Metrics => Ok(system::metrics(request.shared, request.snapshot)),
        Verb::Api => system::api(&request),
        Verb::CreateKey => Box::pin(keys::create(&mut request)).await,
        Verb::ImportKey => Box::pin(keys::import(&mut request)).await,
        Verb::DescribeKey => keys::describe(&mut request).await,
        Verb::DeleteKey => Box::pin(keys::delete(&mut request)).await,
        Verb::ListKeys => Box::pin(listing::keys(request)).await,
        Verb::GenerateKey => keys::generate(&mut request).await,
        Verb::EncryptKey => keys::encrypt(&mut request).await,
        Verb::DecryptKey => keys::decrypt(&mut request).await,
        Verb::BulkDecryptKey => Box::pin(keys::decrypt_bulk(&mut request)).await,
        Verb::HmacKey => keys::hmac(&mut request).await,
        Verb::DescribePolicy => policies::describe(&request),
        Verb::ReadPolicy => policies::read(&request),
        Verb::ListPolicies => listing::policies(request),
        Verb::DescribeIdentity => policies::describe_identity(&request),
        Verb::DescribeSelf => policies::describe_self(&request),
        Verb::ListIdentities => listing::identities(request),
        Verb::ErrorLog => logs::error(&request),
        Verb::AuditLog => logs::audit(&request),
        Verb::UndeleteKey => Box::pin(store::undelete(&mut request)).await,
        Verb::StoreInfo => Box::pin(store::info(&mut request)).await,
        Verb::StoreBackup => Box::pin(store::backup(&mut request)).await,
    }
}

impl<'a> Permitted<'a> {
    /// The body, within the route's bound. The guard holds its share of the memory for bodies.
    async fn body(&mut self) -> Result<(bytes::Bytes, Reserved<'a>), ApiError> {
        let limit = self.snapshot.limits.body_memory;
        body::read(self.body, self.max_body, &self.shared.body_memory, limit).await
    }

    /// Reads and ignores the body that some clients send where none is wanted.
    async fn ignore_body(&mut self) -> Result<(), ApiError> {
        if http_body::Body::is_end_stream(self.body) {
            Ok(())
        } else {
            // Some routes have no timeout of their own.
            let discarded = body::discard(self.body, IGNORED_BODY);
            let limit = self.snapshot.limits.header_timeout;
            tokio::time::timeout(limit, discarded)
                .await
                .unwrap_or_else(|_| Err(ApiError::timed_out()))
        }
    }
}
