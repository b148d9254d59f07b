//! The one call into C: the suffix array.

use crate::{Error, Result};

/// The suffix array of `text`: the starts of its suffixes, in the suffixes' order.
///
/// Fails when `text` is 2 GiB or longer, or memory for 4 bytes each of its bytes is not there.
pub fn suffix_array(text: &[u8]) -> Result<Vec<i32>> {
    let length = i32::try_from(text.len()).map_err(|_| {
        Error::new("delta: the old image is 2 GiB or larger; make no delta from it")
    })?;
    let mut array = vec![0i32; text.len()];
    // SAFETY: `text` and `array` have `length` elements each, no extra space is promised (0), and
    // a null pointer for the frequency table is what the function takes for "none".
    let status = unsafe {
        libsais_sys::libsais::libsais(
            text.as_ptr(),
            array.as_mut_ptr(),
            length,
            0,
            std::ptr::null_mut(),
        )
    };
    if status != 0 {
        return Err(Error::new(format!("delta: no suffix array (libsais says {status})")));
    }
    Ok(array)
}
