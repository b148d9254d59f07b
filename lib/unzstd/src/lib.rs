//! zstd files as [RFC 8878](https://www.rfc-editor.org/rfc/rfc8878) has them: frames one behind the
//! other, skippable frames before, between and behind them, with or without a size and a checksum,
//! and windows of up to 2 GiB. What cannot be read is refused with the true reason.
//!
//! ```
//! use std::io::Read;
//!
//! // A skippable frame of two bytes, as `pzstd` puts in front, and a frame with the letter a.
//! let file = b"\x50\x2a\x4d\x18\x02\0\0\0..\x28\xb5\x2f\xfd\x00\x58\x09\0\0a";
//! assert!(unzstd::is_zstd(file));
//! let mut text = String::new();
//! unzstd::reader(&file[..])?.read_to_string(&mut text)?;
//! assert_eq!(text, "a");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! This is for files on a PC, where memory for a long window is at hand. What a device reads is bounded
//! by its own formats.

use std::io::{self, BufRead, Read};

/// What a frame begins with (section 3.1.1).
const FRAME: u32 = 0xFD2F_B528;
/// What a skippable frame begins with, its last four bits aside (section 3.1.2).
const SKIPPABLE: u32 = 0x184D_2A50;
/// The longest window that zstd can read, `zstd --long=31` (log2 of bytes). The memory for it is only
/// touched as far as what was unpacked reaches.
const WINDOW_LOG: u32 = 31;

/// Whether a file that starts like this is in zstd's form. At least four bytes tell.
pub fn is_zstd(start: &[u8]) -> bool {
    let Some(magic) = start.first_chunk().map(|magic| u32::from_le_bytes(*magic)) else {
        return false;
    };
    magic == FRAME || magic & !0xF == SKIPPABLE
}

/// What is packed in `from`, to its end.
///
/// Fails when there is no memory; what is wrong with the file comes out of [`Read::read`].
pub fn reader<R: BufRead>(from: R) -> io::Result<Reader<R>> {
    let mut decoder = zstd::Decoder::with_buffer(from)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(Reader(decoder))
}

/// See [`reader`].
pub struct Reader<R: BufRead>(zstd::Decoder<'static, R>);

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(explain)
    }
}

/// What zstd's own words (its `error_private.c`, and the binding's for an early end) mean for people.
/// An error of what was read from stays as it is.
fn explain(error: io::Error) -> io::Error {
    let words = match error.to_string().as_str() {
        "Frame requires too much memory for decoding" => {
            "it was packed with a window of more than 2 GiB; pack it again with --long=31 at most"
        }
        "Dictionary mismatch" => {
            "it was packed with a dictionary, which is not in it; pack it again without"
        }
        "Unknown frame descriptor" | "Version not supported" => {
            "something in it is no zstd frame (RFC 8878)"
        }
        "Unsupported frame parameter" => "a frame in it has settings that RFC 8878 does not know",
        "Restored data doesn't match checksum" => "it is damaged: its checksum is another",
        "Data corruption detected" => "it is damaged",
        "incomplete frame" => "it is cut off within a zstd frame",
        _ => return error,
    };
    io::Error::new(io::ErrorKind::InvalidData, words)
}
