//! From a file or a text to [`Settings`].

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use zeroize::Zeroizing;

use crate::diagnostic::{Diagnostic, LoadError};
use crate::keystore::KeyStoreSettings;
use crate::reader::{Checked, Context};
use crate::schema;
use crate::settings::{Access, AuthMode, Settings};
use crate::tree::{Kind, Node, SyntaxError};
use crate::{toml, yaml};

/// The largest file. A configuration with a thousand policies is far below it.
const MAX_SIZE: usize = 1 << 20;

const IS_EMPTY: &str = "is empty";

const TOO_LARGE: &str = "is larger than 1 MiB, the most for a configuration";

/// Looks up a variable of the environment. An argument, so that tests need not change the process's own.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// What the command line says in place of the file. It counts before anything is checked, so it can also give what the
/// file lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--addr`, for `address`.
    pub addr: Option<String>,
    /// `--root`, for `admin.identity`.
    pub root: Option<String>,
    /// `--auth`, for `tls.auth`.
    pub auth: Option<AuthMode>,
    /// `--key`, for `tls.key`.
    pub key: Option<PathBuf>,
    /// `--cert`, for `tls.cert`.
    pub cert: Option<PathBuf>,
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is suspicious about it, in the order of the file.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the configuration file `path`.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn load(path: &Path, overrides: &Overrides, environment: &Environment<'_>) -> Result<Loaded, LoadError> {
    let text = read_or_report(path, environment)?;
    parse(&text, &path.to_string_lossy(), overrides, environment)
}

/// Reads the section `keystore` of the configuration file `path`, and nothing else of it, for what needs a key store but
/// no server: the other sections may be wrong or missing. Also gives what is suspicious about it.
///
/// # Errors
/// Everything that is wrong with the section at once.
pub fn load_keystore(
    path: &Path,
    environment: &Environment<'_>,
) -> Result<(KeyStoreSettings, Vec<Diagnostic>), LoadError> {
    let text = read_or_report(path, environment)?;
    parse_keystore(&text, &path.to_string_lossy(), environment)
}

/// Reads what the configuration file `path` says about who may do what: admin, proxies, policies, and paths that need no
/// certificate. The rest may be wrong or missing. Also gives what is suspicious about it.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn load_access(
    path: &Path,
    environment: &Environment<'_>,
) -> Result<(Access, Vec<Diagnostic>), LoadError> {
    let text = read_or_report(path, environment)?;
    let name = path.to_string_lossy();
    let cx = Context::new(&name, environment);
    let access = document(&cx, &text, &name).and_then(|root| schema::access_alone(&cx, &root));
    cx.finish(access)
}

pub(crate) fn read_or_report(
    path: &Path,
    environment: &Environment<'_>,
) -> Result<Zeroizing<String>, LoadError> {
    let cx = Context::new(&path.to_string_lossy(), environment);
    let text = read(path).map_err(|message| cx.error(None, "", message));
    Ok(cx.finish(text)?.0)
}

/// The text of a file. Zeroed, since it may have secrets in it.
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let read = || {
        let file = File::open(path)?;
        // With room for all of it at once, so that growing leaves no copies behind.
        let expected = file.metadata()?.len().min(MAX_SIZE as u64);
        let mut bytes = Zeroizing::new(Vec::with_capacity(
            usize::try_from(expected).unwrap_or(MAX_SIZE) + 1,
        ));
        file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let mut bytes = read().map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > MAX_SIZE {
        return Err(TOO_LARGE.to_owned());
    }
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let bytes = Zeroizing::new(error.into_bytes());
            let line = 1 + bytes.iter().take(good).filter(|&&byte| byte == b'\n').count();
            format!("line {line} is not UTF-8 text")
        })
}

/// Reads the text of a configuration file called `name`. The name is for messages, and its ending for the format.
///
/// # Errors
/// Everything that is wrong with it at once.
pub fn parse(
    text: &str,
    name: &str,
    overrides: &Overrides,
    environment: &Environment<'_>,
) -> Result<Loaded, LoadError> {
    let cx = Context::new(name, environment);
    let settings = document(&cx, text, name).and_then(|root| schema::settings(&cx, &root, overrides));
    let (settings, warnings) = cx.finish(settings)?;
    Ok(Loaded { settings, warnings })
}

/// Reads the section `keystore` of the text of a configuration file, as [`load_keystore`] does.
///
/// # Errors
/// Everything that is wrong with the section at once.
pub fn parse_keystore(
    text: &str,
    name: &str,
    environment: &Environment<'_>,
) -> Result<(KeyStoreSettings, Vec<Diagnostic>), LoadError> {
    let cx = Context::new(name, environment);
    let settings = document(&cx, text, name).and_then(|root| schema::keystore_alone(&cx, &root));
    cx.finish(settings)
}

/// The tree of a text, and whether it is TOML.
pub(crate) struct Tree {
    pub(crate) root: Rc<Node>,
    pub(crate) is_toml: bool,
}

fn document(cx: &Context<'_>, text: &str, name: &str) -> Checked<Rc<Node>> {
    Ok(tree(cx, text, name)?.root)
}

/// Reads the text of a file called `name`, whose ending says what the format is. Of another name it may be either one.
pub(crate) fn tree(cx: &Context<'_>, text: &str, name: &str) -> Checked<Tree> {
    let ends_in = |ending: &str| {
        Path::new(name)
            .extension()
            .is_some_and(|own| own.eq_ignore_ascii_case(ending))
    };
    if text.len() > MAX_SIZE {
        return Err(cx.error(None, "", TOO_LARGE));
    }
    let report = |error: SyntaxError| cx.error(error.at, "", error.message);
    let read = |document| match document {
        Some(root) => {
            cx.is_toml();
            Ok(Tree {
                root: Rc::new(root),
                is_toml: true,
            })
        }
        None => Err(cx.error(None, "", IS_EMPTY)),
    };
    if ends_in("toml") {
        return toml::parse(text).map_err(report).and_then(read);
    }
    let yaml_error = match yaml_tree(cx, text) {
        Ok(Some(root)) => return Ok(Tree { root, is_toml: false }),
        Ok(None) => return Err(cx.error(None, "", IS_EMPTY)),
        Err(error) => error,
    };
    if ends_in("yaml") || ends_in("yml") {
        return Err(report(yaml_error));
    }
    match toml::parse(text) {
        Ok(document) => read(document),
        Err(toml_error) => {
            report(yaml_error);
            Err(report(toml_error))
        }
    }
}

/// The mapping that a YAML text is, unless there is nothing in it.
fn yaml_tree(cx: &Context<'_>, text: &str) -> Result<Option<Rc<Node>>, SyntaxError> {
    let Some(document) = yaml::parse(text)? else {
        return Ok(None);
    };
    match &document.root.kind {
        Kind::Map(_) => {}
        Kind::Null => return Ok(None),
        Kind::Scalar(_) | Kind::List(_) => {
            let message = "must consist of `key: value` lines and sections";
            return Err(SyntaxError::new(document.root.at, message));
        }
    }
    if let Some(second) = document.second {
        cx.warn(
            second,
            "",
            "a second document begins here; only the first is read",
        );
    }
    Ok(Some(document.root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_bytes(bytes: &[u8], name: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        load(&path, &Overrides::default(), &|_| None)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("kes.yml");
        let error = load(&missing, &Overrides::default(), &|_| None)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&*missing.to_string_lossy()) && error.contains("cannot be read"),
            "{error}"
        );
        let error = load(folder.path(), &Overrides::default(), &|_| None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_by_its_line() {
        let error = load_bytes(b"address: 0.0.0.0:7373\ntls:\n  key: \xff\n", "kes.yml");
        assert!(error.ends_with("line 3 is not UTF-8 text"), "{error}");
    }

    #[test]
    fn a_file_of_endless_size_is_refused() {
        let error = load_bytes("# comment\n".repeat(1 << 18).as_bytes(), "kes.yml");
        assert!(error.contains("larger than 1 MiB"), "{error}");
        // The cut is in the middle of a character.
        let error = load_bytes("ä".repeat(1 << 20).as_bytes(), "kes.yml");
        assert!(error.contains("larger than 1 MiB"), "{error}");
    }

    #[test]
    fn the_ending_says_what_the_format_is_and_without_one_both_are_tried() {
        let toml = b"root = \"disabled\"\n[tls]\nkey = \"a\"\ncert = \"b\"\n[keystore.fs]\npath = \"c\"\n";
        let yaml = b"root: disabled\ntls: {key: a, cert: b}\nkeystore: {fs: {path: c}}\n";
        let load_named = |bytes: &[u8], name: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            load(&path, &Overrides::default(), &|_| None).map(|loaded| loaded.settings)
        };
        let settings = load_named(yaml, "kes.yaml").unwrap();
        for name in ["kes.toml", "KES.TOML", "kes", "kes.conf"] {
            assert_eq!(load_named(toml, name).as_ref(), Ok(&settings), "{name}");
        }
        for name in ["kes.yml", "KES.YAML", "kes", "kes.conf"] {
            assert_eq!(load_named(yaml, name).as_ref(), Ok(&settings), "{name}");
        }
        assert!(load_bytes(toml, "kes.yml").contains("must consist of `key: value` lines"));
        assert!(load_bytes(yaml, "kes.toml").contains("kes.toml:1: is not valid TOML"));
        for name in ["kes.toml", "kes.yml", "kes"] {
            assert!(load_bytes(b"", name).ends_with(": is empty"));
            assert!(load_bytes(b"# nothing\n", name).ends_with(": is empty"));
        }
    }

    #[test]
    fn a_text_in_no_format_is_told_what_is_wrong_with_it_in_both() {
        let error = load_bytes(b"just words", "kes.conf");
        assert!(
            error.contains("must consist of `key: value` lines") && error.contains("is not valid TOML"),
            "{error}"
        );
    }

    #[test]
    fn a_good_file_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kes.yml");
        std::fs::write(
            &path,
            "root: disabled\ntls: {key: a, cert: b}\nkeystore: {fs: {path: c}}\n",
        )
        .unwrap();
        let loaded = load(&path, &Overrides::default(), &|_| None).unwrap();
        assert_eq!(loaded.settings.tls.cert, Path::new("b"));
    }
}
