//! The section `tls`.

use kes_types::Identity;

use crate::load::Overrides;
use crate::reader::{Checked, Context, Section};
use crate::schema::Owners;
use crate::settings::{AuthMode, Proxy, Tls};

/// The header that the samples of the reference name.
const DEFAULT_PROXY_HEADER: &str = "X-Tls-Client-Cert";

pub(crate) fn read(
    cx: &Context<'_>,
    mut section: Section<'_>,
    overrides: &Overrides,
    owners: &mut Owners,
) -> Checked<Tls> {
    let key = section.text(cx, "key").and_then(|text| match &overrides.key {
        Some(path) => Ok(path.clone()),
        None => Ok(cx
            .demand(
                text,
                section.at(),
                "tls.key",
                "set it to the file with the private key",
            )?
            .to_path()),
    });
    let cert = section.text(cx, "cert").and_then(|text| match &overrides.cert {
        Some(path) => Ok(path.clone()),
        None => Ok(cx
            .demand(
                text,
                section.at(),
                "tls.cert",
                "set it to the file with the certificate",
            )?
            .to_path()),
    });
    let password = section.filled(cx, "password");
    let auth = section
        .scalar(cx, "auth")
        .and_then(|text| match (overrides.auth, text) {
            (Some(mode), _) => Ok(mode),
            (None, Some(text)) => text.parse(cx, AuthMode::parse),
            // Not to verify chains weakens nothing: only the public keys that the configuration names may do anything.
            (None, None) => Ok(AuthMode::Off),
        });
    let ca = section.filled(cx, "ca");
    let proxy = section
        .section(cx, "proxy")
        .and_then(|section| proxy(cx, section, owners));
    section.finish(cx);

    Ok(Tls {
        key: key?,
        cert: cert?,
        password: password?.map(crate::reader::Text::into_secret),
        auth: auth?,
        ca: ca?.map(|text| text.to_path()),
        proxy: proxy?,
    })
}

/// The identities of the proxies, whatever else the section says or lacks.
pub(crate) fn proxies_alone(
    cx: &Context<'_>,
    mut section: Section<'_>,
    owners: &mut Owners,
) -> Checked<Vec<Identity>> {
    let proxy = section.section(cx, "proxy")?;
    Ok(self::proxy(cx, proxy, owners)?.map_or_else(Vec::new, |proxy| proxy.identities))
}

fn proxy(cx: &Context<'_>, mut section: Section<'_>, owners: &mut Owners) -> Checked<Option<Proxy>> {
    let identities = section.list(cx, "identities");
    let header = section.section(cx, "header").and_then(|mut section| {
        let header = section.filled(cx, "cert");
        section.finish(cx);
        header
    });
    section.finish(cx);

    let identities: Vec<_> = identities?
        .iter()
        .map(|node| owners.claim(cx, node, "tls.proxy.identities", "is that of a TLS proxy already"))
        .collect();
    let header = header?.map_or(Ok(DEFAULT_PROXY_HEADER.to_owned()), |text| {
        text.parse(cx, |text| {
            if is_header_name(text) {
                Ok(text.to_owned())
            } else {
                Err("must be the name of an HTTP header")
            }
        })
    });
    let identities: Vec<_> = identities.into_iter().collect::<Checked<_>>()?;
    let header = header?;
    Ok(if identities.is_empty() {
        None
    } else {
        Some(Proxy { identities, header })
    })
}

/// Whether `text` is a token of HTTP.
fn is_header_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
