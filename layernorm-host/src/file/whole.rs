//! Output that is written whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{Error, Result};

/// A file that is written whole or not at all: under a name of its own in the same folder until then.
///
/// ```
/// use layernorm_host::file::WholeFile;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("figures.csv");
/// let file = WholeFile::create(&path)?; // fails here if it cannot be written
/// file.finish(b"a,b\n1,2\n")?;
/// assert_eq!(std::fs::read(&path)?, b"a,b\n1,2\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct WholeFile {
    pub(super) path: PathBuf,
    file: NamedTempFile,
}

impl WholeFile {
    /// Makes sure that the file can be written. What stands under `path` stays until
    /// [`finish`](Self::finish) replaces it.
    ///
    /// # Errors
    ///
    /// [`Error::File`] where the folder is not there or cannot be written, or `path` is there and is no file
    /// that can be written.
    pub fn create(path: &Path) -> Result<Self> {
        // Behind a link is the file that is meant.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let failed = |source| Error::File {
            path: path.to_owned(),
            doing: "write",
            source,
        };
        let replaced = match fs::metadata(path) {
            Ok(replaced) => Some(replaced),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // A name that no file can have.
            Err(error) => return Err(failed(error)),
        };
        let end = path.as_os_str().as_encoded_bytes().last();
        let is_folder = end.is_some_and(|end| std::path::is_separator(char::from(*end)));
        if replaced.is_none() && (is_folder || path.file_name().is_none()) {
            let reason = "the path does not end in a file's name";
            return Err(failed(std::io::Error::other(reason)));
        }
        if let Some(replaced) = &replaced {
            if replaced.is_dir() {
                return Err(failed(std::io::ErrorKind::IsADirectory.into()));
            }
            if !replaced.is_file() {
                let reason = "it is no regular file, and would be replaced by one";
                return Err(failed(std::io::Error::other(reason)));
            }
            // A new file takes its name in the end, which asks nothing of the old one: asked here.
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(failed)?;
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".layernorm-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As the file before it, or as any new file: what the user's mask leaves of it.
            let new = || fs::Permissions::from_mode(0o666);
            builder.permissions(replaced.map_or_else(new, |old| old.permissions()));
        }
        Ok(WholeFile {
            path: path.to_owned(),
            file: builder.tempfile_in(folder).map_err(failed)?,
        })
    }

    /// Writes the file and gives it its name. Without this call nothing is left of it.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; the file is as it was before then.
    pub fn finish(mut self, bytes: &[u8]) -> Result<()> {
        let path = &self.path;
        let failed = |source| Error::File {
            path: path.clone(),
            doing: "write",
            source,
        };
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.as_file().sync_all())
            .map_err(failed)?;
        let persisted = self.file.persist(path);
        persisted.map_err(|error| failed(error.error))?;
        Ok(())
    }
}
