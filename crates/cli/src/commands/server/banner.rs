//! What a server says when it has started.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anstyle::{AnsiColor, Style};
use kes_server::log::Level;
use kes_server::{ClientAuth, LogSettings};
use kes_types::Identity;
use zeroize::Zeroizing;

use crate::output::Output;
use crate::version;

/// What a server says when it has started.
#[derive(Debug)]
pub(super) struct Banner {
    pub(super) store: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    /// Where probes are answered.
    pub(super) health: Vec<SocketAddr>,
    /// When the server's certificate ends, if that is soon.
    pub(super) certificate: Option<String>,
    pub(super) api_key: Option<Zeroizing<String>>,
    pub(super) admin: Option<Identity>,
    pub(super) client_auth: ClientAuth,
    pub(super) log: LogSettings,
    pub(super) is_locked: bool,
}

impl Banner {
    /// The text, with `ready` as its last line.
    pub(super) fn render(&self, ready: &str, output: &Output) -> String {
        let Self {
            store,
            addresses,
            port,
            health,
            certificate,
            api_key,
            admin,
            client_auth,
            log,
            is_locked,
        } = self;
        let label = Style::new().bold();
        let mut text = String::new();
        // Padded before it is painted, since escape sequences have no width.
        let mut line = |name: &str, value: &str| {
            let name = format!("{name:<12}");
            let name = if name.trim().is_empty() {
                name
            } else {
                output.paint(label, &name)
            };
            let _ = writeln!(text, "{}", format!("{name}{value}").trim_end());
        };
        line(
            "Version",
            &format!("{} (commit={})", version::VERSION, version::COMMIT),
        );
        line(
            "Runtime",
            &format!("{} {}", version::COMPILER, version::platform()),
        );
        line("License", version::LICENSE);
        line("", "");
        line("KMS", store);
        for (at, address) in addresses.iter().enumerate() {
            let address = SocketAddr::new(*address, *port);
            line(if at == 0 { "API" } else { "" }, &format!("· https://{address}"));
        }
        for (at, address) in health.iter().enumerate() {
            line(
                if at == 0 { "Health" } else { "" },
                &format!("· http://{address}"),
            );
        }
        line("", "");
        if let Some(certificate) = certificate {
            line("Certificate", certificate);
        }
        if let Some(api_key) = api_key {
            line("API Key", api_key);
        }
        let admin = admin.as_ref().filter(|admin| admin.is_digest());
        line("Admin", admin.map_or("<disabled>", Identity::as_str));
        line(
            "Auth",
            match client_auth {
                ClientAuth::AnyCertificate => "off",
                ClientAuth::Verified => "on",
            },
        );
        line("Logs", &format!("error=stderr level={}", log.error));
        // An audit event has the level INFO.
        if log.audit <= Level::INFO {
            line("", &format!("audit=stdout level={}", log.audit));
        }
        if *is_locked {
            line("MLock", "enabled");
        }
        line("", "");
        let ready = output.paint(AnsiColor::Green.on_default(), &format!("=> {ready}"));
        text + &ready + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::output;

    fn banner() -> Banner {
        Banner {
            store: "Filesystem: /var/lib/kes".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap(), "10.1.2.3".parse().unwrap()],
            port: 7373,
            health: Vec::new(),
            certificate: None,
            api_key: None,
            admin: Identity::parse(&"ab".repeat(32)).ok(),
            client_auth: ClientAuth::AnyCertificate,
            log: LogSettings {
                error: Level::INFO,
                audit: Level::OFF,
            },
            is_locked: false,
        }
    }

    fn lines(banner: &Banner) -> Vec<String> {
        let text = banner.render("Ready", &output(true).0);
        text.lines().skip(3).map(str::to_owned).collect()
    }

    #[test]
    fn labels_stand_in_front_and_values_in_one_column() {
        assert_eq!(
            lines(&banner()),
            [
                "",
                "KMS         Filesystem: /var/lib/kes",
                "API         · https://127.0.0.1:7373",
                "            · https://10.1.2.3:7373",
                "",
                &format!("Admin       {}", "ab".repeat(32)),
                "Auth        off",
                "Logs        error=stderr level=INFO",
                "",
                "=> Ready",
            ]
        );
        let text = banner().render("Ready", &output(true).0);
        for (line, label) in text.lines().zip(["Version     ", "Runtime     ", "License     "]) {
            assert!(line.starts_with(label), "{line}");
        }
    }

    #[test]
    fn what_is_special_has_lines_of_its_own() {
        let lines = lines(&Banner {
            health: vec![
                "127.0.0.1:7374".parse().unwrap(),
                "[fd00::1]:7374".parse().unwrap(),
            ],
            certificate: Some("expires at 2026-06-30T12:00:00Z, in 30 days".to_owned()),
            api_key: Some("kes:v1:x".to_owned().into()),
            admin: None,
            client_auth: ClientAuth::Verified,
            log: LogSettings {
                error: Level(9),
                audit: Level::INFO,
            },
            is_locked: true,
            ..banner()
        });
        for line in [
            "Health      · http://127.0.0.1:7374",
            "            · http://[fd00::1]:7374",
            "Certificate expires at 2026-06-30T12:00:00Z, in 30 days",
            "API Key     kes:v1:x",
            "Admin       <disabled>",
            "Auth        on",
            "Logs        error=stderr level=ERROR+1",
            "            audit=stdout level=INFO",
            "MLock       enabled",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
        }
    }
}
