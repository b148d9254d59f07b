//! What a test has the server do wrong.

/// How a request is answered wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a short body.
    Status(u16),
    /// The connection stays open and nothing comes.
    Silence,
    /// Bytes that are not HTTP.
    Garbage,
    /// The right head without a length, and a body that never ends.
    Endless,
    /// A head that announces chunked transfer coding, and a body that has none.
    BadChunks,
    /// One byte a second.
    Trickle,
    /// The right answer, so many bytes a second.
    Paced(u64),
    /// The connection is closed after this many bytes of the body.
    DropAfter(u64),
    /// The file is only this long; the answer itself is complete.
    Truncated(u64),
    /// The byte of the file at this offset has all its bits flipped.
    Altered(u64),
    /// Every byte of the file from this offset on has all its bits flipped.
    AlteredFrom(u64),
    /// `Range` is not understood: the whole file comes with 200.
    NoRange,
    /// Of several ranges none is understood: the whole file comes with 200.
    SingleRangeOnly,
    /// Of several ranges only the first one comes, with 206.
    FirstRangeOnly,
    /// `Content-Range` names the byte behind the one that the body begins with.
    WrongRange,
}

/// A fault, where it strikes, and how often it still does.
#[derive(Debug)]
pub(crate) struct Planned {
    pub path: String,
    pub fault: Fault,
    pub times: Option<usize>,
}

/// The first fault planned for this path, counted down.
pub(crate) fn take(faults: &mut [Planned], path: &str) -> Option<Fault> {
    let planned = faults.iter_mut().find(|p| path.contains(&p.path) && p.times != Some(0))?;
    if let Some(times) = &mut planned.times {
        *times -= 1;
    }
    Some(planned.fault)
}
