//! What this program is.

/// The release.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, where whoever built it said so.
pub(crate) const COMMIT: &str = match option_env!("KES_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// The compiler.
pub(crate) const COMPILER: &str = env!("KES_RUSTC");
/// The licence.
pub(crate) const LICENSE: &str = "Apache-2.0";

/// Operating system and processor, as Go programs spell them.
pub(crate) fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// The text of `kes --version`.
pub(crate) fn describe() -> String {
    format!(
        "kes {VERSION} (commit={COMMIT})\n\
         Runtime    {COMPILER} {}\n\
         License    {LICENSE}\n",
        platform()
    )
}
