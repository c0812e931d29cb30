use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::bail;
use kes_config::{KeyStoreSettings, Overrides, Settings};
use kes_server::{CertificateSource, ClientAuth, TlsSettings};
use kes_types::{Clock as _, Identity, ManualClock};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;
use crate::environment::Environment;
use crate::output::testing::{self, output};

const STEPS: [Step; 7] = [
    Step::Folder,
    Step::Seal,
    Step::Store,
    Step::PrivateKey,
    Step::Certificate,
    Step::Report,
    Step::Configuration,
];

/// Sets up `wanted` up to `end`, and returns what was printed.
fn up_to(wanted: &Wanted, end: Option<Step>) -> Result<String, String> {
    let (mut output, printed) = output(false);
    let mut context = Context::new(
        Environment::default(),
        Arc::new(ManualClock::default()),
        &mut output,
    );
    let mut before = |step| {
        if Some(step) == end {
            bail!("the end");
        }
        Ok(())
    };
    match set_up_by_steps(wanted, &mut context, &mut before) {
        Ok(()) => Ok(printed.text()),
        Err(Failure::Error(error)) => Err(format!("{error:#}")),
        Err(failure) => panic!("{failure:?}"),
    }
}

fn set_up_whole(wanted: &Wanted) -> String {
    up_to(wanted, None).unwrap()
}

fn wanted(folder: &Path) -> Wanted {
    Wanted::for_server(folder.to_owned(), None).unwrap()
}

/// The SHA-256 of each file of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for name in names(folder) {
        let bytes = fs::read(folder.join(&name)).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        contents.insert(name, digest.as_ref().to_vec());
    }
    contents
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn settings(folder: &Path) -> Settings {
    let loaded = kes_config::load(&config_of(folder), &Overrides::default(), &|_| None).unwrap();
    assert_eq!(loaded.warnings, []);
    loaded.settings
}

/// Makes sure that a server could be started with what is in a folder.
fn assert_serves(folder: &Path) {
    let settings = settings(folder);
    let tls = TlsSettings {
        certificate: CertificateSource::Files {
            cert: settings.tls.cert,
            key: settings.tls.key,
            password: None,
        },
        client_auth: ClientAuth::AnyCertificate,
        ca: None,
    };
    kes_server::tls::load(&tls, false).unwrap();
    let KeyStoreSettings::Embedded(embedded) = &settings.keystore else {
        panic!("another key store")
    };
    let config = connect::embedded_config(embedded).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = EmbeddedStore::open(config, Arc::new(ManualClock::default()))
            .await
            .unwrap();
        store.close().await;
    });
}

#[test]
fn a_folder_has_everything_that_a_server_needs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    let printed = set_up_whole(&wanted(&folder));

    assert_eq!(
        names(&folder),
        ["config.yml", "keys.redb", "seal.key", "server.crt", "server.key"]
    );
    assert_eq!(mode(&folder), 0o700);
    for secret in ["config.yml", "keys.redb", "seal.key", "server.key"] {
        assert_eq!(mode(&folder.join(secret)), 0o600, "{secret}");
    }
    let settings = settings(&folder);
    assert_eq!(settings.address.to_string(), "127.0.0.1:7373");
    assert!(settings.tls.key.is_absolute() && settings.tls.cert.is_absolute());
    assert!(settings.keystore.files().iter().all(|file| file.is_absolute()));
    assert_serves(&folder);

    let line = printed
        .lines()
        .find(|line| line.starts_with("export KES_SERVER="))
        .unwrap();
    let key = line
        .split(' ')
        .find_map(|word| word.strip_prefix("KES_API_KEY="))
        .unwrap();
    assert_eq!(printed.matches(key).count(), 1, "{printed}");
    let identity = ApiKey::parse(key).unwrap().identity().clone();
    assert_eq!(settings.admin.identity.as_ref(), Some(&identity));
    assert!(printed.contains(identity.as_str()));
    let secret = key.strip_prefix("kes:v1:").unwrap().as_bytes();
    for name in names(&folder) {
        let content = fs::read(folder.join(&name)).unwrap();
        assert!(
            !content.windows(secret.len()).any(|part| part == secret),
            "the API key is in {name}"
        );
    }
}

#[test]
fn the_certificate_is_for_this_machine_and_what_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    let wanted = Wanted {
        address: ListenAddress::parse("[fd00::1]:7373").unwrap(),
        ip: vec!["10.1.2.3".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        dns: vec!["kes.example.com".to_owned(), "localhost".to_owned()],
        ..wanted(&folder)
    };
    set_up_whole(&wanted);
    let pem = fs::read(folder.join("server.crt")).unwrap();
    let der = kes_crypto::pem::certificates(&pem).unwrap().remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();

    assert!(!certificate.is_ca());
    let validity = certificate.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert_eq!(days, 825);
    let made = ManualClock::default().now().unix_timestamp();
    assert_eq!(
        made - validity.not_before.timestamp(),
        3600,
        "for clients whose clock is behind"
    );
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let (mut dns, mut ip) = (Vec::new(), Vec::new());
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => ip.push(match <[u8; 4]>::try_from(*bytes) {
                Ok(bytes) => IpAddr::from(bytes),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(*bytes).unwrap()),
            }),
            other => panic!("{other:?}"),
        }
    }
    let expected = ["127.0.0.1", "::1", "fd00::1", "10.1.2.3"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(ip, expected);
    assert_eq!(dns.first().map(String::as_str), Some("localhost"));
    assert_eq!(dns.last().map(String::as_str), Some("kes.example.com"));
    assert_eq!(dns.iter().filter(|name| *name == "localhost").count(), 1);
}

#[test]
fn after_a_crash_at_any_step_the_next_attempt_goes_on_with_the_same_keys() {
    for (at, step) in STEPS.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kes");
        assert_eq!(up_to(&wanted(&folder), Some(step)), Err("the end".to_owned()));
        if at == 0 {
            assert_eq!(Contents::of(&folder).unwrap(), Contents::Absent);
            continue;
        }
        // What a crash in the middle of writing leaves.
        for half in [".kes-aB3dEf", ".keys.redb.tmp-0123456789abcdef0123456789abcdef"] {
            fs::write(folder.join(half), "half").unwrap();
        }
        assert_eq!(Contents::of(&folder).unwrap(), Contents::Unfinished, "{step:?}");
        let error = require_complete(&folder).unwrap_err().to_string();
        assert!(
            error.contains("is not finished") && error.contains("--init"),
            "{error}"
        );
        let before = contents(&folder);

        set_up_whole(&wanted(&folder));
        assert_eq!(Contents::of(&folder).unwrap(), Contents::Complete);
        let after = contents(&folder);
        for kept in ["seal.key", "keys.redb", "server.key"] {
            assert!(
                before.get(kept).is_none_or(|before| after[kept] == *before),
                "{step:?}: {kept}"
            );
        }
        // The store removes what it has left itself.
        assert_serves(&folder);
        assert_eq!(names(&folder).len(), 5, "{step:?}: {:?}", names(&folder));
    }
}

#[test]
fn after_a_crash_at_any_step_of_a_replacement_the_old_configuration_still_serves() {
    for step in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kes");
        set_up_whole(&wanted(&folder));
        let before = contents(&folder);
        let forced = Wanted {
            force: true,
            ..wanted(&folder)
        };
        assert_eq!(up_to(&forced, Some(step)), Err("the end".to_owned()));
        let crashed = contents(&folder);
        for kept in ["config.yml", "seal.key", "keys.redb", "server.key"] {
            assert_eq!(before[kept], crashed[kept], "{step:?}: {kept}");
        }
        assert_serves(&folder);

        set_up_whole(&forced);
        let after = contents(&folder);
        assert_ne!(
            before["config.yml"], after["config.yml"],
            "it has another identity"
        );
        assert_ne!(before["server.crt"], after["server.crt"]);
        for kept in ["seal.key", "server.key"] {
            assert_eq!(before[kept], after[kept], "{kept}");
        }
        assert_serves(&folder);
    }
}

#[test]
fn what_is_there_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    set_up_whole(&wanted(&folder));
    let before = contents(&folder);
    let error = up_to(&wanted(&folder), None).unwrap_err();
    assert!(error.contains("config.yml exists already"), "{error}");
    assert_eq!(contents(&folder), before);

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("photo.jpg"), "x").unwrap();
    let error = up_to(&wanted(&other), None).unwrap_err();
    assert!(error.contains("other content (\"photo.jpg\")"), "{error}");
    assert_eq!(names(&other), ["photo.jpg"]);
    assert_eq!(mode(&other), mode(&other) | 0o700);

    let file = other.join("photo.jpg");
    let error = up_to(&wanted(&file), None).unwrap_err();
    assert!(error.contains("is not a folder"), "{error}");
    let error = up_to(&wanted(&dir.path().join("a/b")), None).unwrap_err();
    assert!(
        error.contains("the folder that it is to be in does not exist"),
        "{error}"
    );
    assert!(!dir.path().join("a").exists());
}

#[test]
fn a_seal_and_a_store_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, other) = (dir.path().join("kes"), dir.path().join("other"));
    set_up_whole(&wanted(&folder));
    set_up_whole(&wanted(&other));
    let forced = Wanted {
        force: true,
        ..wanted(&folder)
    };

    // Another's seal opens nothing here.
    let seal = fs::read(folder.join("seal.key")).unwrap();
    fs::copy(other.join("seal.key"), folder.join("seal.key")).unwrap();
    let before = contents(&folder);
    up_to(&forced, None).unwrap_err();
    assert_eq!(contents(&folder), before);

    // Without one, none is made up.
    fs::remove_file(folder.join("seal.key")).unwrap();
    let error = up_to(&forced, None).unwrap_err();
    assert!(error.contains("seal.key, which opens it, is not"), "{error}");
    assert!(!folder.join("seal.key").exists());

    fs::write(folder.join("seal.key"), "garbage").unwrap();
    fs::set_permissions(folder.join("seal.key"), fs::Permissions::from_mode(0o600)).unwrap();
    up_to(&forced, None).unwrap_err();
    assert_eq!(fs::read(folder.join("seal.key")).unwrap(), b"garbage");

    fs::write(folder.join("seal.key"), seal).unwrap();
    assert_serves(&folder);
}

#[test]
fn a_folder_of_a_new_file_system_is_empty_and_gets_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    fs::create_dir_all(folder.join("lost+found")).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Contents::of(&folder).unwrap(), Contents::Empty);
    set_up_whole(&wanted(&folder));
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn a_name_that_no_client_asks_for_is_refused() {
    let names = |text: &str| host_names(&[text.to_owned()]).map_err(|error| error.to_string());
    assert_eq!(
        names("kes.example.com,*.kes.local,kes").unwrap(),
        ["kes.example.com", "*.kes.local", "kes"]
    );
    for wrong in ["a b", "b\u{fc}ro", "10.0.0.1", "https://kes", "*", "a.*.b", "-a"] {
        let error = names(&format!("kes,{wrong}")).unwrap_err();
        assert_eq!(
            error,
            format!("invalid value '{wrong}' for '--dns': want a DNS name")
        );
    }
}

#[test]
fn a_folder_with_another_purpose_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("photo.jpg"), "x").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let forced = Wanted {
        force: true,
        ..wanted(&folder)
    };
    for _ in 0..2 {
        set_up_whole(&forced);
        assert_eq!(mode(&folder), 0o755);
        assert_eq!(mode(&folder.join("seal.key")), 0o600);
    }

    fs::remove_file(folder.join("photo.jpg")).unwrap();
    set_up_whole(&forced);
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn two_at_a_time_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    fs::create_dir(&folder).unwrap();
    let other = fs::File::open(&folder).unwrap();
    other.lock().unwrap();
    let error = up_to(&wanted(&folder), None).unwrap_err();
    assert!(error.contains("another process sets up"), "{error}");
    assert!(names(&folder).is_empty());
}

#[test]
fn a_folder_may_have_any_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "a b",
        "it's \"quoted\" #1: {x}",
        "$HOME `x` \\n",
        "two\nlines",
        "ADMIN",
        "ä\u{2028}€",
        "-x",
    ] {
        let folder = dir.path().join(name);
        let printed = set_up_whole(&wanted(&folder));
        assert_eq!(settings(&folder).tls.key, folder.join("server.key"));
        assert_serves(&folder);
        let capath = pasted(&printed, "MINIO_KMS_KES_CAPATH");
        assert_eq!(Path::new(&capath), folder.join("server.crt"));
    }
}

#[test]
fn a_path_with_parents_is_written_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    set_up_whole(&wanted(&dir.path().join("a/../kes")));
    let root = dir.path().canonicalize().unwrap();
    assert_eq!(settings(&root.join("kes")).tls.key, root.join("kes/server.key"));
}

/// The value of a variable in a shell that what was `printed` is pasted into.
fn pasted(printed: &str, variable: &str) -> String {
    let script = printed
        .split_once("keep it:\n\n")
        .map(|(_, after)| after.split("\n\n").filter(|part| part.starts_with("export ")))
        .unwrap()
        .collect::<Vec<_>>()
        .join("\n");
    let script = format!("{script}\nprintf %s \"${variable}\"");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_shell_takes_what_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    let printed = set_up_whole(&wanted(&folder));
    let certificate = folder.join("server.crt").to_string_lossy().into_owned();
    for (variable, value) in [
        ("KES_SERVER", "https://127.0.0.1:7373"),
        ("MINIO_KMS_KES_ENDPOINT", "https://127.0.0.1:7373"),
        ("MINIO_KMS_KES_CAPATH", &certificate),
        ("MINIO_KMS_KES_KEY_NAME", "minio-default-key"),
        ("MINIO_KMS_AUTO_ENCRYPTION", "on"),
    ] {
        assert_eq!(pasted(&printed, variable), value, "{variable}");
    }
    let key = pasted(&printed, "KES_API_KEY");
    assert_eq!(pasted(&printed, "MINIO_KMS_KES_API_KEY"), key);
    let identity: Identity = ApiKey::parse(&key).unwrap().identity().clone();
    assert_eq!(settings(&folder).admin.identity, Some(identity));
}

#[test]
fn an_endpoint_is_where_clients_here_reach_the_server() {
    for (address, reached) in [
        ("127.0.0.1:7373", "https://127.0.0.1:7373"),
        ("0.0.0.0:443", "https://127.0.0.1:443"),
        (":7373", "https://127.0.0.1:7373"),
        ("[::]:7373", "https://127.0.0.1:7373"),
        ("[fd00::1]:7373", "https://[fd00::1]:7373"),
    ] {
        assert_eq!(endpoint(ListenAddress::parse(address).unwrap()), reached);
    }
}

#[test]
fn an_output_that_nobody_reads_finishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("kes");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut output = testing::to(writer, false);
    let mut context = Context::new(
        Environment::default(),
        Arc::new(ManualClock::default()),
        &mut output,
    );
    let failure = set_up(&wanted(&folder), &mut context).unwrap_err();
    let Failure::Error(error) = failure else {
        panic!("{failure:?}")
    };
    assert!(error.to_string().contains("nobody reads the output"), "{error}");
    assert_eq!(Contents::of(&folder).unwrap(), Contents::Unfinished);
}
