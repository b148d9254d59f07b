//! The device's own id, by which rollouts and its reports know it.

use std::io;

use crate::device::Device;
use crate::state::explain;
use crate::{Error, Result, random};

/// The file with the device's id: 32 hexadecimal digits, made once.
const ID: &str = "device-id";

/// The device's id. One that is damaged is made anew: it costs a place in the queue.
pub fn device_id(device: &Device) -> Result<String> {
    let path = device.data().join(ID);
    let is_id = |id: &str| formats::hex::decode::<16>(id).is_ok();
    match device.data_folder().read(ID, 64) {
        Ok(bytes) => {
            if let Some(id) = std::str::from_utf8(&bytes).ok().map(str::trim).filter(|id| is_id(id))
            {
                return Ok(id.into());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::at(&path, error)),
    }
    let bytes: [u8; 16] = random::bytes().map_err(|e| Error::at(&path, e))?;
    let id = formats::hex::encode(&bytes);
    std::fs::create_dir_all(device.data()).map_err(|e| explain(device.data(), &e))?;
    let text = format!("{id}\n");
    device.data_folder().replace(ID, text.as_bytes()).map_err(|e| explain(&path, &e))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once_and_again_when_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let device = Device::below(dir.path());
        let id = device_id(&device).unwrap();
        assert_eq!(device_id(&device).unwrap(), id);
        std::fs::write(device.data().join(ID), "short").unwrap();
        let other = device_id(&device).unwrap();
        assert!(other != id && other.len() == 32);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(device_id(&Device::below(elsewhere.path())).unwrap(), other);
    }
}
