//! A key store that the server keeps itself.

use kes_types::Verb;

use super::Client;
use crate::{BackupStream, Error, StoreInfo};

/// The server's own key store. Only the admin may ask, and only where the server keeps its key store itself; elsewhere the answer is
/// the status 404.
impl Client {
    /// What there is to know about the server's key store.
    ///
    /// ```no_run
    /// # async fn example(admin: kes_client::Client) -> Result<(), kes_client::Error> {
    /// println!("{} keys", admin.store_info().await?.keys);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn store_info(&self) -> Result<StoreInfo, Error> {
        self.get(Verb::StoreInfo, "").await
    }

    /// A backup of the server's key store as it is now, encrypted as it is there. While another backup is under way, the answer is
    /// the status 503.
    ///
    /// ```no_run
    /// # async fn example(admin: kes_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write as _;
    ///
    /// let mut file = std::fs::File::create_new("keys.backup.incomplete")?;
    /// let mut backup = admin.store_backup().await?;
    /// while let Some(piece) = backup.next().await? {
    ///     file.write_all(&piece)?;
    /// }
    /// // Only now is it a backup.
    /// file.sync_all()?;
    /// std::fs::rename("keys.backup.incomplete", "keys.backup")?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn store_backup(&self) -> Result<BackupStream, Error> {
        let (endpoint, response) = self.open(Verb::StoreBackup).await?;
        BackupStream::new(endpoint, response)
    }
}
