//! Where a command's output goes: a file that is written whole or not at all, or stdout by the name `-`.

use std::path::Path;

use layernorm_host::Result;
use layernorm_host::file::WholeFile;

/// The name that means stdin or stdout.
pub const DASH: &str = "-";

/// A place for output, known to be writable.
pub enum Sink {
    Stdout,
    File(WholeFile),
}

impl Sink {
    pub fn create(path: &Path) -> Result<Self> {
        if path.as_os_str() == DASH {
            return Ok(Sink::Stdout);
        }
        WholeFile::create(path).map(Sink::File)
    }

    pub fn is_stdout(&self) -> bool {
        matches!(self, Sink::Stdout)
    }

    /// Writes the file and gives it its name; to stdout, which `Arguments::run` writes to, nothing.
    pub fn finish(self, bytes: &[u8]) -> Result<()> {
        match self {
            Sink::Stdout => Ok(()),
            Sink::File(file) => file.finish(bytes),
        }
    }
}
