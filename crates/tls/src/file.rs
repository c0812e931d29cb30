//! Files that people name: never more of one than a certificate or a key could be.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use zeroize::Zeroizing;

/// Larger than any certificate chain and than the certificates of a whole operating system. A device or a wrong file is not read to its end.
pub const MAX_FILE: u64 = 4 << 20;

/// The content of the file, or what comes out of the pipe, at `path`. Zeroed, since it may be a private key.
///
/// # Errors
/// When it cannot be read, or is larger than [`MAX_FILE`].
pub fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read(File::open(path)?)
}

/// The content of the file at `path`, for a program that must not wait: who opens a pipe could do so for ever.
///
/// # Errors
/// When it cannot be read, is larger than [`MAX_FILE`], or is no file.
pub fn read_regular_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // To open a pipe takes somebody at its other end, unless one says not to wait. Of a file this changes nothing.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty())?;
    let other = |what: &str| Err(io::Error::other(format!("it is a {what}, not a file")));
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => read(file.into()),
        FileType::Directory => other("folder"),
        FileType::Fifo => other("pipe"),
        _ => other("device"),
    }
}

fn read(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let expected = file.metadata()?.len();
    let too_large = || io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20));
    if expected > MAX_FILE {
        return Err(too_large());
    }
    // With room for all of it at once, so that growing leaves no copies behind, and for one byte that would be too much.
    let room = usize::try_from(expected + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, mknodat};

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for read in [read_file, read_regular_file] {
            for content in [&b""[..], &[7; 2048]] {
                fs::write(&path, content).unwrap();
                assert_eq!(read(&path).unwrap().as_slice(), content);
            }
            File::create(&path).unwrap().set_len(MAX_FILE).unwrap();
            assert_eq!(read(&path).unwrap().len() as u64, MAX_FILE);
            File::create(&path).unwrap().set_len(1 << 40).unwrap();
            assert_eq!(read(&path).unwrap_err().to_string(), "it is larger than 4 MiB");
        }
        // What has no size before it is read.
        assert!(read_file(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn what_is_no_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
        for (path, reason) in [
            (dir.path(), "it is a folder"),
            (&pipe, "it is a pipe"),
            (&socket, "No such device"),
            (Path::new("/dev/zero"), "it is a device"),
            (&dangling, "No such file"),
        ] {
            let error = read_regular_file(path).unwrap_err();
            assert!(error.to_string().contains(reason), "{}: {error}", path.display());
        }
    }
}
