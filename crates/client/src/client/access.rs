//! Who may do what.

use kes_types::Verb;

use super::Client;
use crate::{Error, IdentityInfo, Listing, PolicyInfo};

/// Policies and identities.
impl Client {
    /// Describes a policy.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{:?}", client.describe_policy("my-app").await?.created_at);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_policy(&self, name: &str) -> Result<PolicyInfo, Error> {
        self.get(Verb::DescribePolicy, name).await
    }

    /// A policy with its rules.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let policy = client.read_policy("my-app").await?;
    /// println!("{} rules allow, {} deny", policy.allow.len(), policy.deny.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_policy(&self, name: &str) -> Result<PolicyInfo, Error> {
        self.get(Verb::ReadPolicy, name).await
    }

    /// The names of all policies that start with `prefix`, one after the other.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut names = client.policies("");
    /// while let Some(name) = names.next().await? {
    ///     println!("{name}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn policies(&self, prefix: &str) -> Listing {
        Listing::new(self.transport.clone(), Verb::ListPolicies, prefix)
    }

    /// The names of all policies that start with `prefix` at once, in byte order.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// assert!(client.list_policies("").await?.contains(&"my-app".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_policies(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.policies(prefix).collect().await
    }

    /// Describes an identity.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client, identity: &str) -> Result<(), kes_client::Error> {
    /// if let Some(policy) = client.describe_identity(identity).await?.policy {
    ///     println!("{}", policy.name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_identity(&self, identity: &str) -> Result<IdentityInfo, Error> {
        self.get(Verb::DescribeIdentity, identity).await
    }

    /// Describes this client's own identity, with its policy. Needs credentials, but no policy.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("I am {}", client.describe_self().await?.identity);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_self(&self) -> Result<IdentityInfo, Error> {
        self.get(Verb::DescribeSelf, "").await
    }

    /// All identities that start with `prefix`, one after the other.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// let mut identities = client.identities("");
    /// while let Some(identity) = identities.next().await? {
    ///     println!("{identity}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn identities(&self, prefix: &str) -> Listing {
        Listing::new(self.transport.clone(), Verb::ListIdentities, prefix)
    }

    /// All identities that start with `prefix` at once, in byte order.
    ///
    /// ```no_run
    /// # async fn example(client: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{} identities", client.list_identities("").await?.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_identities(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.identities(prefix).collect().await
    }
}
