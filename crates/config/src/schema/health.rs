//! The section `health`.

use crate::reader::{Checked, Context, Section};
use crate::settings::{Health, ListenAddress};

/// What everybody can read there.
const EXPOSED: &str = "can be reached from beyond a private network, and anybody there can read the metrics, without TLS and \
                       without a certificate: use a loopback or a private address";

/// Reads the section. `api` is where the server listens for clients, unless something is wrong with that.
pub(crate) fn read(
    cx: &Context<'_>,
    mut section: Section<'_>,
    api: Option<&ListenAddress>,
) -> Checked<Option<Health>> {
    let text = section.filled(cx, "address");
    section.finish(cx);

    let Some(text) = text? else { return Ok(None) };
    let address = text.parse(cx, parse)?;
    if api.is_some_and(|api| address.clashes_with(api)) {
        let message = "is where the server listens for clients already: use another port, such as 7374";
        return Err(cx.error(Some(text.at), &text.key, message));
    }
    if !address.is_private() {
        cx.warn(text.at, &text.key, EXPOSED);
    }
    Ok(Some(Health {
        address,
        place: cx.place(text.at, &text.key),
    }))
}

fn parse(text: &str) -> Result<ListenAddress, &'static str> {
    const BAD: &str = "must be an IP address and a port such as `127.0.0.1:7374`";

    // Which `address` may begin with.
    if text.trim().starts_with("https:") {
        return Err(
            "there is no TLS here: write the IP address and the port alone, such as `127.0.0.1:7374`",
        );
    }
    ListenAddress::parse(text).map_err(|_| BAD)
}
