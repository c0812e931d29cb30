//! The checked settings of a key store, one type a service. They can be compared, so that a reload can keep a
//! connected key store whose settings did not change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::SecretText;

/// Where keys are stored. There is always exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStoreSettings {
    /// One encrypted file.
    Embedded(Embedded),
    /// A folder.
    Fs(Fs),
    /// `HashiCorp` Vault or `OpenBao`.
    Vault(Box<Vault>),
    /// Fortanix SDKMS.
    Fortanix(Fortanix),
    /// Gemalto `KeySecure`, now Thales `CipherTrust` Manager.
    Gemalto(Gemalto),
    /// Google Cloud Secret Manager.
    Gcp(Gcp),
    /// AWS Secrets Manager.
    Aws(Aws),
    /// Azure Key Vault.
    Azure(Azure),
    /// Entrust `KeyControl`.
    Entrust(Entrust),
}

impl KeyStoreSettings {
    /// Where it stands below `keystore` in the file, such as `aws.secretsmanager`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::Fs(_) => "fs",
            Self::Vault(_) => "vault",
            Self::Fortanix(_) => "fortanix.sdkms",
            Self::Gemalto(_) => "gemalto.keysecure",
            Self::Gcp(_) => "gcp.secretmanager",
            Self::Aws(_) => "aws.secretsmanager",
            Self::Azure(_) => "azure.keyvault",
            Self::Entrust(_) => "entrust.keycontrol",
        }
    }

    /// The files and folders that the settings name and that a connection is made from. A reload connects anew when
    /// one of them changed. What holds the keys itself is not one of them.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&PathBuf> = Vec::new();
        match self {
            Self::Embedded(Embedded {
                path: _,
                seals,
                undelete: _,
            }) => files.extend(seals.iter().filter_map(|seal| match seal {
                SealSettings::File(file) => Some(file),
                SealSettings::Variable { .. } => None,
            })),
            Self::Fs(Fs { path: _ }) => {}
            Self::Vault(vault) => {
                files.extend(&vault.tls.ca);
                if let Some(client) = &vault.tls.client {
                    files.extend([&client.key, &client.cert]);
                }
                match &vault.login {
                    VaultLogin::Kubernetes {
                        jwt: Jwt::File(file), ..
                    }
                    | VaultLogin::Token { file } => files.push(file),
                    VaultLogin::Kubernetes {
                        jwt: Jwt::Token(_), ..
                    }
                    | VaultLogin::AppRole { .. }
                    | VaultLogin::Cert { .. } => {}
                }
            }
            Self::Fortanix(Fortanix { ca, .. })
            | Self::Gemalto(Gemalto { ca, .. })
            | Self::Aws(Aws { ca, .. })
            | Self::Entrust(Entrust { ca, .. }) => files.extend(ca),
            Self::Gcp(_) | Self::Azure(_) => {}
        }
        files.into_iter().map(PathBuf::as_path).collect()
    }
}

/// One encrypted file, which this program keeps itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The file. It need not exist; its folder must.
    pub path: PathBuf,
    /// What the store's root key is wrapped with: the first one wraps, any one unwraps. Never empty.
    pub seals: Vec<SealSettings>,
    /// How long a deleted key can be brought back. Zero: it is gone at once.
    pub undelete: Duration,
}

impl Embedded {
    /// The default of `undelete`: a mistake is most often noticed within a working week.
    pub const UNDELETE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
}

/// Where the key of a seal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealSettings {
    /// In a file, which has not been opened.
    File(PathBuf),
    /// In an environment variable, which has been read, but not decoded.
    Variable {
        /// Name of the variable.
        name: String,
        /// What it holds.
        value: SecretText,
    },
}

/// A folder with one file a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fs {
    /// The folder. It need not exist.
    pub path: PathBuf,
}

/// `HashiCorp` Vault or `OpenBao`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vault {
    /// URL of the server.
    pub endpoint: String,
    /// Mount path of the K/V engine.
    pub engine: String,
    /// Version of the K/V engine.
    pub version: KvVersion,
    /// Namespace of the engines.
    pub namespace: Option<String>,
    /// Folder inside the K/V engine.
    pub prefix: Option<String>,
    /// What keys are encrypted with before they are stored.
    pub transit: Option<Transit>,
    /// How the server proves who it is.
    pub login: VaultLogin,
    /// TLS towards Vault.
    pub tls: ClientTls,
    /// How often Vault's health is asked for. Never zero.
    pub ping: Duration,
}

/// Version of Vault's K/V engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVersion {
    /// Without versions of its entries.
    V1,
    /// With versions.
    V2,
}

/// Encryption by Vault's transit engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transit {
    /// Mount path of the engine.
    pub engine: String,
    /// Name of its key.
    pub key: String,
}

/// How the server proves to Vault who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultLogin {
    /// By an `AppRole`.
    AppRole {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// Role id.
        id: SecretText,
        /// Secret id.
        secret: SecretText,
    },
    /// By a service account of Kubernetes.
    Kubernetes {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// The role.
        role: String,
        /// The service account's token.
        jwt: Jwt,
    },
    /// By a token that somebody else renews.
    Token {
        /// The file with the token, which is read again when it changes.
        file: PathBuf,
    },
    /// By the client certificate of [`ClientTls::client`], which is then there.
    Cert {
        /// Mount path of the method.
        engine: String,
        /// Where to log in.
        namespace: LoginNamespace,
        /// The role; without one Vault chooses.
        role: Option<String>,
    },
}

/// In which namespace of Vault to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginNamespace {
    /// That of the engines.
    Inherit,
    /// None.
    Root,
    /// Another one.
    Named(String),
}

/// The token of a Kubernetes service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwt {
    /// A file with the token, which is read at each login.
    File(PathBuf),
    /// The token itself.
    Token(SecretText),
}

/// TLS towards a key store. The files have not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The client's certificate, where one is wanted.
    pub client: Option<ClientCertificate>,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// A client's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate, PEM.
    pub cert: PathBuf,
}

/// Fortanix SDKMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fortanix {
    /// URL of the service.
    pub endpoint: String,
    /// Group of new objects; without one the application's own.
    pub group_id: Option<String>,
    /// API key of the application.
    pub key: SecretText,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// Gemalto `KeySecure`, now Thales `CipherTrust` Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gemalto {
    /// URL of the service.
    pub endpoint: String,
    /// Refresh token.
    pub token: SecretText,
    /// Domain; without one the root domain.
    pub domain: Option<String>,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// Google Cloud Secret Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcp {
    /// Project of the secrets.
    pub project_id: String,
    /// Host, host and port, or URL.
    pub endpoint: String,
    /// OAuth scopes; when empty the service's default.
    pub scopes: Vec<String>,
    /// Service account; without one the environment's.
    pub credentials: Option<GcpCredentials>,
}

/// A Google service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcpCredentials {
    /// Its address.
    pub client_email: String,
    /// Its id.
    pub client_id: String,
    /// Id of the key.
    pub private_key_id: SecretText,
    /// The key, PEM. It may have `\n` in two characters for its line breaks.
    pub private_key: SecretText,
}

/// AWS Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// Host or URL; without one that of the region.
    pub endpoint: Option<String>,
    /// Region.
    pub region: String,
    /// The AWS-KMS key that secrets are encrypted with; without one the default key.
    pub kmskey: Option<String>,
    /// Static credentials; without any the environment's.
    pub credentials: Option<AwsCredentials>,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// Static AWS credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCredentials {
    /// Access key id.
    pub accesskey: SecretText,
    /// Secret access key.
    pub secretkey: SecretText,
    /// Session token of temporary credentials.
    pub token: Option<SecretText>,
}

/// Azure Key Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// URL of the vault.
    pub endpoint: String,
    /// How the server proves who it is.
    pub login: AzureLogin,
}

/// How the server proves to Azure who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AzureLogin {
    /// As an application.
    ClientSecret {
        /// Its tenant.
        tenant_id: String,
        /// Its id.
        client_id: String,
        /// Its secret.
        client_secret: SecretText,
    },
    /// As the identity of the machine.
    ManagedIdentity {
        /// Which of the machine's identities.
        client_id: String,
    },
    /// By whatever the environment has.
    Ambient,
}

/// Entrust `KeyControl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrust {
    /// URL of the service.
    pub endpoint: String,
    /// The vault.
    pub vault_id: String,
    /// The box in the vault.
    pub box_id: String,
    /// Name to log in with.
    pub username: String,
    /// Password to log in with.
    pub password: SecretText,
    /// A file or folder of CA certificates, instead of the system's.
    pub ca: Option<PathBuf>,
}
