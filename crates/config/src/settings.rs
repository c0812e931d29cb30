//! The checked settings of a server. All of them have passed their checks, except those that need the files they name.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use kes_types::{Identity, KeyName, Policy, PolicyName, Verb};

use crate::keystore::KeyStoreSettings;
use crate::level::LogLevel;
use crate::secret::SecretText;

/// Everything a configuration file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the server listens.
    pub address: ListenAddress,
    /// Who may do everything.
    pub admin: Admin,
    /// The server's certificate and what is asked of clients.
    pub tls: Tls,
    /// What differs from the defaults of a route. Paths that the server does not know are not here.
    pub api: BTreeMap<Verb, ApiOverride>,
    /// The policies, in the order of the file. No identity is in two of them, or is also the admin or a proxy.
    pub policies: Vec<PolicyAssignment>,
    /// Keys to create before the first request unless they exist, each once.
    pub keys: Vec<KeyName>,
    /// How long keys are remembered.
    pub cache: Cache,
    /// What goes to the console.
    pub log: Log,
    /// Where probes and scrapers are answered without TLS, if anywhere.
    pub health: Option<Health>,
    /// Bounds on what clients can make the server hold.
    pub limits: Limits,
    /// Where keys are stored.
    pub keystore: KeyStoreSettings,
}

/// What a configuration file says about who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who may do everything; `None` when nobody may, or the file does not say.
    pub admin: Option<Identity>,
    /// TLS proxies, which speak for clients.
    pub proxies: Vec<Identity>,
    /// What differs from the defaults of a route.
    pub api: BTreeMap<Verb, ApiOverride>,
    /// The policies, in the order of the file.
    pub policies: Vec<PolicyAssignment>,
    /// Whether the key store is the embedded one, which has routes of its own.
    pub is_embedded: bool,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    address: Option<SocketAddr>,
    port: u16,
}

/// A text that is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an IP address and a port such as `127.0.0.1:7373` or `[::1]:7373`, or a port alone such as `:7373`"
)]
pub struct BadAddress;

impl ListenAddress {
    /// Port 7373 on all interfaces.
    pub const DEFAULT: Self = Self {
        address: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7373)),
        port: 7373,
    };

    /// Reads `[host]:port`. The host is an IP address; without one the server listens on all interfaces. A leading
    /// `https://` is dropped, since the first releases wanted it.
    ///
    /// # Errors
    /// When it is written differently, a host name included.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        let text = text.strip_prefix("https://").unwrap_or(text);
        if let Some(port) = text.strip_prefix(':') {
            // Numbers with a sign parse, too.
            let port = Some(port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
            let port = port.and_then(|port| port.parse().ok()).ok_or(BadAddress)?;
            return Ok(Self { address: None, port });
        }
        let address: SocketAddr = text.parse().map_err(|_| BadAddress)?;
        Ok(Self {
            address: Some(address),
            port: address.port(),
        })
    }

    /// The port; 0 stands for any free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The addresses to try in turn, of which the first that can be bound is the one. Without a host that is IPv6 and
    /// IPv4 together, and IPv4 alone on a machine without IPv6.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.address {
            Some(address) => vec![address],
            None => vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)),
            ],
        }
    }
}

impl ListenAddress {
    /// Whether the system would refuse to listen on both. Where any free port will do, it would not.
    #[must_use]
    pub fn clashes_with(&self, other: &Self) -> bool {
        self.port != 0 && self.port == other.port && {
            let (own, others) = (self.widest(), other.widest());
            own == others || covers(own, others) || covers(others, own)
        }
    }

    /// Whether only this machine or a private network can reach it: a loopback address, one of RFC 1918 or RFC 4193, or one of a
    /// local link.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self.widest().to_canonical() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        }
    }

    /// The address, or the first that stands for all.
    fn widest(&self) -> IpAddr {
        self.address
            .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |address| address.ip())
    }
}

/// Whether who listens on `wide` listens on `narrow`, too. All of IPv6 is all of IPv4 as well.
const fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}"),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Who may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// What the configuration says, for people to see.
    pub text: String,
    /// The identity; `None` when the text is no hash of a public key, as in `disabled`, so that nobody is the admin.
    pub identity: Option<Identity>,
}

/// The server's certificate and what is asked of clients. The files have not been opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The private key, PEM.
    pub key: PathBuf,
    /// The certificate and its intermediates, PEM.
    pub cert: PathBuf,
    /// What the private key is encrypted with, if it is.
    pub password: Option<SecretText>,
    /// What is asked of client certificates.
    pub auth: AuthMode,
    /// A file or a folder of CA certificates that client certificates are verified against, beside the system's.
    pub ca: Option<PathBuf>,
    /// Proxies that speak for clients.
    pub proxy: Option<Proxy>,
}

/// What is asked of client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Any certificate will do: the client proves that it has the private key, and its public key is who it is.
    Off,
    /// The certificate must be valid and issued by a known CA.
    On,
}

/// A text that is no authentication mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `on` (verify client certificates) or `off`")]
pub struct BadAuthMode;

impl AuthMode {
    /// Reads `on` or `off`, also in the spellings of older releases: `verify`, `ignore`, `true`, `false`. Empty is off.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, BadAuthMode> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "on" | "verify" | "true" => Self::On,
            "" | "off" | "ignore" | "false" => Self::Off,
            _ => return Err(BadAuthMode),
        })
    }
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
        })
    }
}

/// Proxies that connect on behalf of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The proxies' own identities: at least one, each once.
    pub identities: Vec<Identity>,
    /// The name of the header in which a proxy forwards its client's certificate. It is a valid header name.
    pub header: String,
}

/// What differs from the defaults of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApiOverride {
    /// Whether clients without a certificate are served. Only where [`Verb::may_skip_auth`].
    pub skip_auth: bool,
    /// How long the route may take; `None` for its default.
    pub timeout: Option<Duration>,
}

/// A policy and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyAssignment {
    /// The policy's name.
    pub name: PolicyName,
    /// Its rules.
    pub policy: Policy,
    /// Who has it.
    pub identities: Vec<Identity>,
}

/// How long keys are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// After it was fetched. Never zero.
    pub any: Duration,
    /// After it was last used. Never zero.
    pub unused: Duration,
    /// From the start of an outage of the key store; zero when an outage changes nothing.
    pub offline: Duration,
    /// How many keys. Never zero.
    pub entries: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            // Long enough to spare the key store, short enough for a deletion to be felt everywhere soon.
            any: Duration::from_secs(5 * 60),
            // Keys of a burst stay, keys of a batch job do not.
            unused: Duration::from_secs(30),
            // To serve keys without their store is a decision for the operator.
            offline: Duration::ZERO,
            // About 430 bytes each with long names: below half a gigabyte when full.
            entries: 1_000_000,
        }
    }
}

/// What goes to the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least level of the error log.
    pub error: LogLevel,
    /// Least level of the audit log.
    pub audit: LogLevel,
}

impl Default for Log {
    /// The audit log is off, as one line a request floods a console. Subscribers of the API get it all the same.
    fn default() -> Self {
        Self {
            error: LogLevel::INFO,
            audit: LogLevel::OFF,
        }
    }
}

/// Where probes and scrapers are answered without TLS and without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where the server listens for them. It is not where it listens for clients.
    pub address: ListenAddress,
    /// The place of the key, for who cannot listen there: `FILE:LINE: KEY`.
    pub place: String,
}

/// Bounds on what clients can make the server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections; `None` for a share of the file descriptors that the process may open.
    pub connections: Option<usize>,
    /// Bytes of request bodies in flight. Enough for at least one request of the largest size.
    pub body_memory: u64,
    /// Log and audit streams.
    pub log_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            // Some 250 requests of the largest size, many thousand of the usual one.
            body_memory: 256 << 20,
            // Streams live for ever and are for people and log collectors, which are few.
            log_streams: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_with_a_port_or_a_port() {
        for (text, shown, candidates) in [
            ("0.0.0.0:7373", "0.0.0.0:7373", "0.0.0.0:7373"),
            ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"),
            (" [::1]:7373 ", "[::1]:7373", "[::1]:7373"),
            ("https://10.1.2.3:443", "10.1.2.3:443", "10.1.2.3:443"),
            (":7373", ":7373", "[::]:7373 0.0.0.0:7373"),
            ("https://:1", ":1", "[::]:1 0.0.0.0:1"),
        ] {
            let address = ListenAddress::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(address.to_string(), shown);
            let tried: Vec<_> = address.candidates().iter().map(ToString::to_string).collect();
            assert_eq!(tried.join(" "), candidates);
        }
        assert_eq!(
            ListenAddress::DEFAULT,
            ListenAddress::parse("0.0.0.0:7373").unwrap()
        );
    }

    #[test]
    fn other_texts_are_no_addresses() {
        for bad in [
            "",
            ":",
            "7373",
            "0.0.0.0",
            "localhost:7373",
            "::1:7373",
            "1.2.3.4:70000",
            ":+1",
            ":-1",
            "http://:1",
            "1.2.3.4:7373/",
        ] {
            assert_eq!(ListenAddress::parse(bad), Err(BadAddress), "{bad}");
        }
    }

    #[test]
    fn two_addresses_clash_when_one_of_them_is_the_other_or_stands_for_it() {
        let parse = |text| ListenAddress::parse(text).unwrap();
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::]:1", "0.0.0.0:1"),
            ("[::]:1", "[::1]:1"),
            (":1", ":1"),
            (":1", "10.0.0.1:1"),
        ] {
            assert!(parse(one).clashes_with(&parse(other)), "{one} {other}");
            assert!(parse(other).clashes_with(&parse(one)), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:2"),
            ("127.0.0.1:1", "127.0.0.2:1"),
            ("0.0.0.0:1", "[::1]:1"),
            (":1", ":2"),
            (":0", ":0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert!(!parse(one).clashes_with(&parse(other)), "{one} {other}");
            assert!(!parse(other).clashes_with(&parse(one)), "{one} {other}");
        }
    }

    #[test]
    fn an_address_is_private_when_the_internet_cannot_reach_it() {
        for (text, is_private) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("10.255.0.1:1", true),
            ("172.16.0.1:1", true),
            ("172.31.255.255:1", true),
            ("192.168.1.1:1", true),
            ("169.254.1.1:1", true),
            ("[fd00::1]:1", true),
            ("[fe80::1]:1", true),
            ("[::ffff:10.0.0.1]:1", true),
            ("172.32.0.1:1", false),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            (":1", false),
            ("192.0.2.7:1", false),
            ("100.64.0.1:1", false),
            ("[2001:db8::1]:1", false),
            ("[::ffff:8.8.8.8]:1", false),
        ] {
            let address = ListenAddress::parse(text).unwrap();
            assert_eq!(address.is_private(), is_private, "{text}");
        }
    }

    #[test]
    fn authentication_modes_read_in_all_spellings() {
        for (text, mode) in [
            ("on", AuthMode::On),
            ("ON", AuthMode::On),
            ("verify", AuthMode::On),
            ("true", AuthMode::On),
            ("off", AuthMode::Off),
            ("", AuthMode::Off),
            ("Ignore", AuthMode::Off),
            ("false", AuthMode::Off),
        ] {
            assert_eq!(AuthMode::parse(text), Ok(mode), "{text}");
        }
        for bad in ["yes", "1", "no", "on off"] {
            assert_eq!(AuthMode::parse(bad), Err(BadAuthMode), "{bad}");
        }
    }
}
