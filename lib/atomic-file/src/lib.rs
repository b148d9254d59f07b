//! Files that appear under their name only when they are whole: whoever reads meanwhile sees the
//! old file or the new one, and a program that is interrupted leaves nothing half written.
//!
//! - [`NewFile`] is for large files that are written piece by piece; until it is persisted it has no
//!   name at all.
//! - [`replace`] is for a file that others read all the time: it is flushed with its folder, so that
//!   what is written after it is never seen before it.
//! - [`make_folder`] makes the folder for them.
//!
//! ```
//! use atomic_file::NewFile;
//! use std::io::Write;
//!
//! # fn main() -> anyhow::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("image");
//! let mut new = NewFile::new(&path)?;
//! new.file().write_all(b"half of it, ")?;
//! assert!(!path.exists());
//! new.file().write_all(b"and the rest")?;
//! new.finish()?;
//! new.persist()?;
//! assert_eq!(std::fs::read(&path)?, b"half of it, and the rest");
//! # Ok(())
//! # }
//! ```

mod folder;
mod new_file;
mod replace;

pub use folder::make_folder;
pub use new_file::NewFile;
pub use replace::replace;
