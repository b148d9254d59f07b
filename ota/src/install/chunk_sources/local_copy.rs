//! What costs nothing on the wire: zeros, and chunks that the running slot holds at the same place.

use crate::Result;
use crate::install::progress::Source;

use super::work::Work;

/// Brings them.
pub fn supply(work: &Work<'_>) -> Result<()> {
    let mut buffer = work.buffer();
    for chunk in work.missing() {
        let range = work.table.stream_range(chunk);
        let bytes = &mut buffer.bytes_mut()[..work.chunk_length(chunk)];
        let here = match (work.table.chunks()[chunk].compressed, work.old) {
            (0, _) => {
                bytes.fill(0);
                true
            }
            // A place that cannot be read is one that holds nothing.
            (_, Some(old)) => old.read_as(work.manifest, range, bytes).is_ok(),
            (_, None) => false,
        };
        if here {
            work.put(chunk, &buffer, Source::LocalCopy)?;
        }
        (work.beat)();
    }
    Ok(())
}
