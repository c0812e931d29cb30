//! How a server is, and what happens at it.

use bytes::Bytes;
use http::Method;
use kes_types::Verb;

use super::{Client, Form};
use crate::transport::{Call, Kind, Repeat, path_of};
use crate::{AuditEvent, Error, ErrorEvent, EventStream, Measurements, Route, Status, Version};

/// The server itself.
impl Client {
    /// Version of the server. Needs no credentials.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{}", client.version().await?.version);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn version(&self) -> Result<Version, Error> {
        self.get(Verb::Version, "").await
    }

    /// Succeeds when a server and its key store work.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) {
    /// if let Err(error) = client.ready().await {
    ///     eprintln!("not ready: {error}");
    /// }
    /// # }
    /// ```
    pub async fn ready(&self) -> Result<(), Error> {
        self.order(Method::GET, Verb::Ready, "", Bytes::new(), Repeat::Freely)
            .await
    }

    /// State of the server.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("up for {} seconds", client.status().await?.uptime);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status(&self) -> Result<Status, Error> {
        self.get(Verb::Status, "").await
    }

    /// The routes of the server.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// for route in client.api().await? {
    ///     println!("{} {}", route.method, route.path);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn api(&self) -> Result<Vec<Route>, Error> {
        self.json(Method::GET, Verb::Api, "", Bytes::new(), Form::Array)
            .await
    }

    /// Metrics of the server, in the text format of Prometheus.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// print!("{}", client.metrics().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn metrics(&self) -> Result<String, Error> {
        let call = Call {
            method: Method::GET,
            path: &path_of(Verb::Metrics, ""),
            body: Bytes::new(),
            repeat: Repeat::Freely,
        };
        let answer = self.whole(&call, Kind::Text).await?;
        String::from_utf8(answer.to_vec()).map_err(|_| Error::malformed("it is not UTF-8"))
    }

    /// What of [`Self::metrics`] servers of all years measure.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{} requests", client.measurements().await?.response_time_count);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn measurements(&self) -> Result<Measurements, Error> {
        Measurements::parse(&self.metrics().await?)
            .ok_or_else(|| Error::malformed("there are no metrics of a KES server in it"))
    }

    /// The server's audit log, from now on.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut log = client.audit_log().await?;
    /// while let Some(event) = log.next().await? {
    ///     println!("{} {}", event.request.path, event.response.code);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn audit_log(&self) -> Result<EventStream<AuditEvent>, Error> {
        self.follow(Verb::AuditLog).await
    }

    /// The server's error log, from now on.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut log = client.error_log().await?;
    /// while let Some(event) = log.next().await? {
    ///     println!("{}", event.message);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn error_log(&self) -> Result<EventStream<ErrorEvent>, Error> {
        self.follow(Verb::ErrorLog).await
    }
}
