//! What key stores behind an HTTP API have in common: one HTTP client that bounds everything ([`Http`]), errors that say
//! whether a request may have arrived ([`SendError`]), and how long and how often to try ([`Deadline`], [`Retry`]).

mod answer;
mod deadline;
mod error;
mod http;
mod proxy;
mod request;
mod retry;

pub use answer::{Answer, retry_after};
pub use deadline::Deadline;
pub use error::{Failure, SendError};
pub use http::{BadHttp, Http, HttpSettings};
pub use proxy::Proxies;
pub use request::{ANSWER_LIMIT, LIST_LIMIT, Request, to_json};
pub use retry::{Again, Retry, random_fraction};

pub use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use ::http::{Method, StatusCode};
pub use reqwest::Url;
