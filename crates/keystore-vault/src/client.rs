//! Requests with a token: how long they may take, how often they are repeated, and what a refused token leads to.

use std::sync::Arc;

use kes_keystore::Patience;
use kes_keystore_http::{Again, Deadline, HeaderValue, Retry};
use tokio::time::timeout_at;

use crate::api::{Api, ApiError, Call, Problem, Reply};
use crate::session::{LoginError, Refusal, Session, Token};

/// Asks Vault in the name of the session.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) api: Arc<Api>,
    pub(crate) session: Arc<Session>,
    pub(crate) namespace: Option<HeaderValue>,
    /// Where the token is from.
    pub(crate) login_namespace: Option<HeaderValue>,
    pub(crate) patience: Patience,
}

/// Why there is no answer that says yes.
#[derive(Debug)]
pub(crate) enum Failed {
    /// What Vault says, or that it does not.
    Api(ApiError),
    /// There is no token to ask with.
    Login(LoginError),
}

impl Failed {
    /// What is wrong with the request, if it was sent.
    pub(crate) const fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Api(error) => Some(&error.problem),
            Self::Login(_) => None,
        }
    }

    /// Whether the request may have been carried out.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            Self::Api(error) => error.may_have_happened(),
            Self::Login(_) => false,
        }
    }

    /// Whether to try what does no harm when it is done twice again.
    pub(crate) fn again(&self) -> Again {
        match self {
            Self::Api(error) => error.again(),
            // The session has its own pace.
            Self::Login(_) => Again::Stop,
        }
    }
}

impl Client {
    /// A deadline for an operation that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::of(&self.patience)
    }

    /// The token to ask with.
    pub(crate) async fn token(&self, call: &Call<'_>, deadline: &Deadline) -> Result<Token, Failed> {
        let token = timeout_at(deadline.end(), self.session.token()).await;
        match token {
            Ok(token) => token.map_err(Failed::Login),
            Err(_) => Err(Failed::Api(ApiError::new(call, Problem::OutOfTime))),
        }
    }

    /// Asks once with this token.
    pub(crate) async fn with(
        &self,
        call: &mut Call<'_>,
        token: &Token,
        deadline: &Deadline,
    ) -> Result<Reply, Failed> {
        call.token = Some(token.header());
        self.api.call(call, deadline.attempt()).await.map_err(Failed::Api)
    }

    /// Asks once. If the token is refused, it may have been revoked; then asks once more with another one.
    pub(crate) async fn once(&self, call: &mut Call<'_>, deadline: &Deadline) -> Result<Reply, Failed> {
        let token = self.token(call, deadline).await?;
        let denied = match self.with(call, &token, deadline).await {
            Err(Failed::Api(error)) if matches!(error.problem, Problem::Denied { .. }) => error,
            other => return other,
        };
        // What needs the same permission, in most policies.
        let kind = format!("{} {}", call.method, call.path.folder());
        match timeout_at(deadline.end(), self.session.refused(&token, &kind)).await {
            Ok(Refusal::Repeat(token)) => {
                let repeated = self.with(call, &token, deadline).await;
                if let Err(Failed::Api(error)) = &repeated
                    && matches!(error.problem, Problem::Denied { .. })
                {
                    self.session.helped_nothing(&kind);
                }
                repeated
            }
            Ok(Refusal::Denied) => Err(Failed::Api(denied)),
            Ok(Refusal::Failed(error)) => Err(Failed::Login(error)),
            Err(_) => Err(Failed::Api(denied.with(Problem::OutOfTime))),
        }
    }

    /// Asks for what may be done twice, and does so again after failures that may pass.
    pub(crate) async fn ask(&self, call: &mut Call<'_>, deadline: &Deadline) -> Result<Reply, Failed> {
        let mut retry = Retry::new(&self.patience);
        loop {
            let failed = match self.once(call, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            if !retry.pause(deadline, failed.again()).await {
                return Err(failed);
            }
        }
    }
}
