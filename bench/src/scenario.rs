//! What is measured: the operations, how they are asked for, and how much they may cost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// Of 64 characters: a long name costs more to route, to authorise and to look up.
pub(crate) const KEY: &str = "bench-0123456789-0123456789-0123456789-0123456789-0123456789-key";

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// For `--only`.
    pub(crate) name: &'static str,
    /// What the table says.
    pub(crate) title: &'static str,
    pub(crate) operation: Operation,
    pub(crate) shape: Shape,
    /// Whether audit events are written to a file.
    pub(crate) audit: bool,
    /// Most CPU time per request, as a multiple of the null server's.
    pub(crate) target: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Version,
    Generate,
    Decrypt,
}

impl Operation {
    pub(crate) fn path(self) -> String {
        match self {
            Self::Version => "/version".to_owned(),
            Self::Generate => format!("/v1/key/generate/{KEY}"),
            Self::Decrypt => format!("/v1/key/decrypt/{KEY}"),
        }
    }
}

/// How the load generator connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Connections that stay.
    Http1 { connections: u32 },
    /// Connections that stay, with that many requests at once on each.
    Http2 { connections: u32, streams: u32 },
    /// A connection for each request, so many at once.
    Handshake { connections: u32 },
}

impl Shape {
    /// Most requests at once.
    pub(crate) fn parallel(self) -> u64 {
        match self {
            Self::Http1 { connections } | Self::Handshake { connections } => connections.into(),
            Self::Http2 { connections, streams } => u64::from(connections) * u64::from(streams),
        }
    }

    pub(crate) const fn connections(self) -> u32 {
        match self {
            Self::Http1 { connections }
            | Self::Http2 { connections, .. }
            | Self::Handshake { connections } => connections,
        }
    }
}

pub(crate) const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "version",
        title: "`GET /version`, HTTP/1.1, 64 connections",
        operation: Operation::Version,
        shape: Shape::Http1 { connections: 64 },
        audit: false,
        target: 1.10,
    },
    Scenario {
        name: "generate",
        title: "generate, HTTP/1.1, 64 connections",
        operation: Operation::Generate,
        shape: Shape::Http1 { connections: 64 },
        audit: false,
        target: 1.25,
    },
    Scenario {
        name: "decrypt",
        title: "decrypt, HTTP/1.1, 64 connections",
        operation: Operation::Decrypt,
        shape: Shape::Http1 { connections: 64 },
        audit: false,
        target: 1.25,
    },
    Scenario {
        name: "generate-h2",
        title: "generate, HTTP/2, 4 connections of 16 streams",
        operation: Operation::Generate,
        shape: Shape::Http2 {
            connections: 4,
            streams: 16,
        },
        audit: false,
        target: 1.25,
    },
    Scenario {
        name: "generate-audit",
        title: "generate, HTTP/1.1, 64 connections, audit output to a file",
        operation: Operation::Generate,
        shape: Shape::Http1 { connections: 64 },
        audit: true,
        target: 1.40,
    },
    Scenario {
        name: "handshake",
        title: "full TLS 1.3 handshake with a client certificate and `GET /version`",
        operation: Operation::Version,
        shape: Shape::Handshake { connections: 64 },
        audit: false,
        target: 1.05,
    },
];

/// All that `--only` takes.
pub(crate) fn names() -> String {
    let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    names.push(crate::memory::NAME);
    names.join(", ")
}

/// The encryption context, of the kind that MinIO sends: which object a key is for.
pub(crate) fn context() -> String {
    STANDARD.encode(json!({ "bench-bucket": "bench-bucket/some/folder/object-000001" }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_longest_name_of_the_targets() {
        assert_eq!(KEY.len(), 64);
        assert!(KEY.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }

    #[test]
    fn every_measurement_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        assert!(!names.contains(crate::memory::NAME));
    }

    #[test]
    fn streams_count_as_requests_at_once() {
        let shape = Shape::Http2 {
            connections: 4,
            streams: 16,
        };
        assert_eq!((shape.connections(), shape.parallel()), (4, 64));
    }
}
