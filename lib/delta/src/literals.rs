//! A group's literals as one zstd frame, for groups that are mostly new: with the new image just
//! before the group as its prefix, so that long repeats cost nothing, and unpacked far faster than
//! the model decodes.

use zstd::zstd_safe::{DCtx, DParameter};

use crate::{Error, Result};

/// 8 MiB: the prefix and the group itself.
const WINDOW_LOG: u32 = 23;

/// Unpacks what [`pack`] made with the same `before`; `out` is as long as what was packed.
///
/// Allocates zstd's context of some 200 KB and nothing by what the frame says.
pub fn unpack(packed: &[u8], before: &[u8], out: &mut [u8]) -> Result<()> {
    let bad = |code| {
        Error::new(format!("delta: a group's literals: {}", zstd::zstd_safe::get_error_name(code)))
    };
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(bad)?;
    context.ref_prefix(before).map_err(bad)?;
    let made = context.decompress(out, packed).map_err(bad)?;
    if made != out.len() {
        return Err(Error::new(format!(
            "delta: {made} literals where there should be {}",
            out.len()
        )));
    }
    Ok(())
}

/// Packs a group's literals; `before` is the new image just before the group.
#[cfg(feature = "make")]
pub fn pack(bytes: &[u8], before: &[u8]) -> Result<Vec<u8>> {
    use zstd::zstd_safe::{CCtx, CParameter, compress_bound};
    let bad = |code| {
        Error::new(format!("delta: packing literals: {}", zstd::zstd_safe::get_error_name(code)))
    };
    let mut context = CCtx::create();
    for parameter in [CParameter::CompressionLevel(19), CParameter::WindowLog(WINDOW_LOG)] {
        context.set_parameter(parameter).map_err(bad)?;
    }
    context.ref_prefix(before).map_err(bad)?;
    let mut packed = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut packed, bytes).map_err(bad)?;
    Ok(packed)
}
