//! The delta from what runs: frames by ranges, for groups of which something is missing.

use std::io;

use delta::Apply;

use crate::fetch::resource::Resource;
use crate::install::progress::Source;
use crate::slot::slot_reader::SlotReader;
use crate::slot::slot_writer::read_frame;

use super::payload;
use super::plan::{self, Delta, Group};
use super::work::{Abort, Work};

/// Makes what the delta has. Chunks of groups that it leaves out come from `payload` before, since
/// later groups may build on them.
pub fn supply(
    work: &Work<'_>,
    old: &SlotReader,
    delta: &Delta<'_>,
    payload: &Resource,
) -> Result<(), Abort> {
    let resource = &delta.companion.resource;
    let range = 0..delta.head_length;
    let head = work.cache.get_or_fetch(resource, range, delta.head_sha256, &work.progress.delta);
    let mut apply = Apply::open(&head.map_err(Abort::next_source)?).map_err(Abort::next_source)?;
    let header = apply.header().clone();
    let fits = u64::from(header.old_size) == old.covered()
        && u64::from(header.new_size) == work.covered()
        && u64::from(header.group_size).is_multiple_of(work.manifest.chunk_size);
    if !fits {
        return Err(Abort::next_source("the delta is for images of other sizes"));
    }
    let missing = |group: usize| -> Vec<usize> {
        let range = header.range(group);
        let chunks = work.chunks_of(u64::from(range.start)..u64::from(range.end));
        chunks.filter(|chunk| work.is_missing(*chunk)).collect()
    };
    let (mut frames, mut elsewhere) = (Vec::new(), Vec::new());
    for group in 0..header.groups.len() {
        let missing = missing(group);
        match plan::group(&header, group, work.table, &missing) {
            Group::Whole => {}
            Group::Frame => frames.push(group),
            Group::Chunks => elsewhere.extend(missing),
        }
    }
    payload::supply(work, &elsewhere, payload)?;

    let place = |group: usize| {
        let start = header.frame_offset(group);
        start..start + u64::from(header.groups[group].length)
    };
    let mut stream = resource
        .read(frames.iter().map(|group| place(*group)), &work.progress.delta)
        .map_err(Abort::next_source)?;
    let (mut frame, mut left) = (Vec::new(), 0);
    let mut out = vec![0; header.group_size as usize];
    let mut buffer = work.buffer();
    for &group in &frames {
        (work.beat)();
        read_frame(&mut stream, &mut frame, header.groups[group].length as usize)
            .map_err(|e| Abort::next_source(resource.error(&e)))?;
        let range = header.range(group);
        let needs = header.needs(group);
        let mut needed = work.chunks_of(u64::from(needs.start)..u64::from(needs.end));
        let ready = needs.is_empty() || !needed.any(|chunk| work.is_missing(chunk));
        let out = &mut out[..range.len()];
        if !ready || apply.group(group, &frame, old, &Made(work), out).is_err() {
            left += 1;
            continue;
        }
        for chunk in missing(group) {
            let part = work.table.stream_range(chunk);
            let start = (part.start - u64::from(range.start)) as usize;
            if part.end > work.covered() {
                work.tail.replace(Some(out[start..].to_vec()));
                continue;
            }
            let bytes = &out[start..start + work.chunk_length(chunk)];
            buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            if !work.put(chunk, &buffer, Source::Delta)? {
                left += 1;
            }
        }
        // A frame that was worked off is not fetched again, whatever happens to the power.
        work.idle.flush(work.beat)?;
    }
    match left {
        0 => Ok(()),
        left => Err(Abort::next_source(format!("{left} groups or chunks did not come out right"))),
    }
}

/// The new stream so far, read from the idle slot at any offset.
struct Made<'a>(&'a Work<'a>);

impl delta::ReadAt for Made<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.idle.read(offset, buffer).map_err(io::Error::other)
    }
}
