//! Names, as many as there are.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::try_unfold;
use http::{Method, Response, header};
use hyper::body::Incoming;
use kes_types::Verb;
use serde::Deserialize;

use crate::stream::Lines;
use crate::transport::{Call, Kind, Receive, Repeat, Transport, Whole, path_of};
use crate::{Endpoint, Error};

/// The longest page of a listing. Those of KES are much shorter.
const MAX_PAGE: usize = 4 << 20;
/// The longest line of a listing that is one name a line.
const MAX_LINE: usize = 64 << 10;

/// The names of keys, policies or identities, in the order of the server, which is byte order.
///
/// Pages are asked for as they are needed and one at a time, so the memory it takes does not depend on how many names there are.
/// Dropping it ends the listing. Names that come or go meanwhile may be in it or not. After an error there are no more names.
///
/// ```no_run
/// use futures_util::TryStreamExt as _;
///
/// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
/// // It is a `Stream`, too.
/// let names: Vec<String> = client.keys("minio-").try_collect().await?;
/// # Ok(())
/// # }
/// ```
pub struct Listing {
    names: Pin<Box<dyn Stream<Item = Result<String, Error>> + Send>>,
    is_over: bool,
}

impl Listing {
    pub(crate) fn new(transport: Transport, verb: Verb, prefix: &str) -> Self {
        let progress = Progress {
            transport,
            verb,
            next: Some(prefix.to_owned()),
            page: Vec::new().into_iter(),
            previous: None,
            lines: None,
        };
        let names = try_unfold(progress, |mut progress| async move {
            let name = progress.next_name().await?;
            Ok(name.map(|name| (name, progress)))
        });
        Self {
            names: Box::pin(names),
            is_over: false,
        }
    }

    /// Waits for the next name; `None` after the last one.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut names = client.keys("");
    /// while let Some(name) = names.next().await? {
    ///     println!("{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As every request.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        std::future::poll_fn(|cx| self.poll_name(cx)).await.transpose()
    }

    /// All names that are still to come, sorted, each once.
    pub(crate) async fn collect(mut self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        while let Some(name) = self.next().await? {
            names.push(name);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn poll_name(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<String, Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.names.as_mut().poll_next(cx);
        if let Poll::Ready(name) = &polled {
            self.is_over = !matches!(name, Some(Ok(_)));
        }
        polled
    }
}

impl Stream for Listing {
    type Item = Result<String, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_name(cx)
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").finish_non_exhaustive()
    }
}

/// How far a listing has come.
struct Progress {
    transport: Transport,
    verb: Verb,
    /// The pattern of the next page, if there is one.
    next: Option<String>,
    /// What is left of this page.
    page: vec::IntoIter<String>,
    /// The first and the last name of the page before, by which a server that cannot page is known.
    previous: Option<(String, String)>,
    /// What is left of a listing that has no pages.
    lines: Option<Lines>,
}

impl Progress {
    async fn next_name(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(name) = self.page.next() {
                return Ok(Some(name));
            }
            if let Some(lines) = &mut self.lines {
                let limit = self.transport.limits.timeout;
                let line = tokio::time::timeout(limit, lines.next::<Named>()).await;
                let line = line.unwrap_or_else(|_| Err(lines.timed_out(limit)))?;
                return Ok(line.map(|line| line.name));
            }
            let Some(pattern) = self.next.take() else {
                return Ok(None);
            };
            self.turn_to(pattern).await?;
        }
    }

    async fn turn_to(&mut self, pattern: String) -> Result<(), Error> {
        let call = Call {
            method: Method::GET,
            path: &path_of(self.verb, &pattern),
            body: Bytes::new(),
            repeat: Repeat::Freely,
        };
        let body = match self.transport.call(&call, &Page).await? {
            Body::Lines(lines) => {
                self.lines = Some(lines);
                return Ok(());
            }
            Body::Page(body) => body,
        };
        let Names { names, continue_at } =
            serde_json::from_slice(&body).map_err(|error| Error::malformed_json(&error))?;
        let ends = names.first().cloned().zip(names.last().cloned());
        // A server that does not page answers the same names again, or the same position.
        if self.previous.is_some() && self.previous == ends {
            return Ok(());
        }
        self.next = Some(continue_at).filter(|next| !next.is_empty() && *next != pattern);
        self.previous = ends;
        self.page = names.into_iter();
        Ok(())
    }
}

/// A page, or the beginning of a listing without pages.
struct Page;

enum Body {
    Page(zeroize::Zeroizing<Vec<u8>>),
    Lines(Lines),
}

impl Receive for Page {
    type Output = Body;

    async fn receive(&self, endpoint: &Endpoint, response: Response<Incoming>) -> Result<Body, Error> {
        let content_type = response.headers().get(header::CONTENT_TYPE);
        if content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson")) {
            return Ok(Body::Lines(Lines::new(endpoint.clone(), response, MAX_LINE)));
        }
        let whole = Whole {
            kind: Kind::Json,
            limit: MAX_PAGE,
        };
        Ok(Body::Page(whole.receive(endpoint, response).await?))
    }
}

/// A page in one of the forms that servers of all years have.
#[derive(Deserialize)]
#[serde(from = "NamesReply")]
struct Names {
    names: Vec<String>,
    continue_at: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamesReply {
    Page {
        #[serde(alias = "identities")]
        names: Option<Vec<String>>,
        continue_at: Option<String>,
    },
    Array(Vec<Name>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Bare(String),
    Named(Named),
}

/// A line of the listings that servers up to 2023 send.
#[derive(Deserialize)]
struct Named {
    #[serde(alias = "identity")]
    name: String,
}

impl From<NamesReply> for Names {
    fn from(reply: NamesReply) -> Self {
        match reply {
            NamesReply::Page { names, continue_at } => Self {
                names: names.unwrap_or_default(),
                continue_at: continue_at.unwrap_or_default(),
            },
            NamesReply::Array(names) => Self {
                names: names
                    .into_iter()
                    .map(|name| match name {
                        Name::Bare(name) | Name::Named(Named { name }) => name,
                    })
                    .collect(),
                continue_at: String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_in_every_form() {
        for (json, want, next) in [
            (r#"{"names":["a","b"],"continue_at":"~x"}"#, &["a", "b"][..], "~x"),
            (r#"{"names":["a"],"continue_at":null}"#, &["a"], ""),
            (r#"{"names":null}"#, &[], ""),
            (r#"{"identities":["a"]}"#, &["a"], ""),
            ("{}", &[], ""),
            (r#"["a","b"]"#, &["a", "b"], ""),
            (
                r#"[{"name":"a","created_at":"x"},{"identity":"b"}]"#,
                &["a", "b"],
                "",
            ),
            ("[]", &[], ""),
        ] {
            let Names { names, continue_at } = serde_json::from_str(json).unwrap();
            assert_eq!(
                (names.as_slice(), continue_at.as_str()),
                (
                    want.iter()
                        .map(|name| (*name).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    next
                ),
                "{json}"
            );
        }
        for json in ["7", r#"{"names":[7]}"#, r#"[[]]"#, ""] {
            assert!(serde_json::from_str::<Names>(json).is_err(), "{json}");
        }
    }
}
