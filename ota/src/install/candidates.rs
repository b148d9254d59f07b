//! One update out of several: the newest that this device takes. What is refused (a signature, the
//! board, the name, the size, the floor, a failed trial) is one version, and those behind it may be
//! good: the release that brings the next key is often not the newest.

use tuf::FerriteTarget;

use crate::context::Context;
use crate::device::Device;
use crate::init::boot;
use crate::install::{UpdateSource, install};
use crate::state::{State, VersionId};
use crate::{Error, Result};

/// An update that the repository offers and this device may take.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What the repository says of it.
    pub ferrite: FerriteTarget,
    /// Its length in bytes.
    pub length: u64,
    /// Where it lies in the repository.
    pub path: String,
}

/// What came of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This one is installed, and its trial armed.
    Installed(VersionId),
    /// This one was, before, and waits for its trial.
    Armed(String),
}

/// Installs the first of `offers`, which come with the newest first, that is not refused. `told` is
/// given each one before it is begun with, and each refusal once another one is. Gives what came of
/// it, `None` when there are no offers, and the refusal of the newest, if that was refused.
///
/// Fails with the first refusal when all are refused, and with everything that is not about one
/// version.
pub fn install_first<'a>(
    context: &Context,
    offers: impl IntoIterator<Item = (&'a Candidate, &'a UpdateSource)>,
    tries: u8,
    beat: &dyn Fn(),
    told: &mut dyn FnMut(std::result::Result<&Candidate, &Error>),
) -> Result<(Option<Outcome>, Option<Error>)> {
    let mut refused: Vec<Error> = Vec::new();
    for (candidate, offer) in offers {
        let found = &candidate.ferrite;
        if is_armed(&context.device, &found.header_sha256)? {
            let armed = Outcome::Armed(found.version.clone());
            return Ok((Some(armed), refused.into_iter().next()));
        }
        refused.last().into_iter().for_each(|error| told(Err(error)));
        told(Ok(candidate));
        match install(context, offer, tries, beat) {
            Ok(installed) => {
                return Ok((Some(Outcome::Installed(installed)), refused.into_iter().next()));
            }
            Err(error @ Error::Refused { .. }) => refused.push(error),
            Err(error) => return Err(error),
        }
    }
    match refused.into_iter().next() {
        Some(error) => Err(error),
        None => Ok((None, None)),
    }
}

/// Whether this version waits for its trial. What was written down is a plan, the boot state is what
/// becomes of it.
///
/// Fails while its trial is over and nobody has settled what follows from that.
fn is_armed(device: &Device, header_sha256: &str) -> Result<bool> {
    let pending = State::load(device).pending.filter(|p| p.header_sha256 == header_sha256);
    let Some(pending) = pending else { return Ok(false) };
    let boot = boot::state(device)?;
    match boot.trial.is_some_and(|slot| slot.letter() == pending.slot) {
        false => Ok(false),
        true if boot.tries > 0 => Ok(true),
        true => Err(Error::failed(format!(
            "the trial of {} is over, and what follows from that is not settled yet",
            pending.version
        ))),
    }
}
