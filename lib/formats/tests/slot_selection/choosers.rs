//! What happens between a reset and a slot's kernel, for each way to choose.

use formats::Slot;
use formats::boot_state::{BLOB_SIZE, Boot, BootState};
use formats::loader::{self, Board, Started};
use formats::rpi::autoboot::Method;
use formats::rpi::plan::{Found, Then, Write, plan};

use crate::world::{Fate, World};

/// More resets of an initrd than any choice takes.
const MOST_LIVES: usize = 8;

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chooser {
    /// `formats::loader`, whose rules `boot.scr` has as well.
    Loader,
    /// The initrd, `autoboot.txt` behind it.
    RpiPointer,
    /// The same, with the firmware's one-shot flag.
    RpiTryboot,
    /// The loader of version 0.1: five strikes, and no boot of the fallback slot counted.
    Version01,
}

impl Chooser {
    /// Nothing but the initrd chooses.
    pub fn is_rpi(self) -> bool {
        matches!(self, Chooser::RpiPointer | Chooser::RpiTryboot)
    }
}

/// What a Raspberry Pi's firmware remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Firmware {
    pub pointer: Option<Slot>,
    pub flag: bool,
}

impl World {
    /// Goes from a reset to what is started; `None` when nothing is. The power is cut after so many
    /// writes, if given.
    pub fn boot(&mut self, cut_after: Option<usize>) -> Option<(Slot, Boot)> {
        match self.chooser {
            Chooser::Loader => self.by_loader(),
            Chooser::Version01 => self.by_version_0_1(),
            Chooser::RpiPointer => self.by_first_lives(Method::Pointer, cut_after),
            Chooser::RpiTryboot => self.by_first_lives(Method::Tryboot, cut_after),
        }
    }

    fn is_loadable(&self, slot: Slot) -> bool {
        self.content(slot).fate != Fate::Unloadable
    }

    fn by_loader(&mut self) -> Option<(Slot, Boot)> {
        struct Copies<'a> {
            copies: [[u8; BLOB_SIZE]; 2],
            world: &'a World,
        }
        impl Board for Copies<'_> {
            fn read(&mut self, copy: usize) -> Option<[u8; BLOB_SIZE]> {
                Some(self.copies[copy])
            }
            fn write(&mut self, copy: usize, blob: &[u8; BLOB_SIZE]) -> bool {
                self.copies[copy] = *blob;
                true
            }
            fn start(&mut self, slot: Slot, _: Boot) -> Started {
                match self.world.is_loadable(slot) {
                    true => Started::Yes,
                    false => Started::No,
                }
            }
            fn say(&mut self, _: &str) {}
        }
        let spoilt = [0xA5; BLOB_SIZE];
        let ruling = self.state.as_ref().map_or(spoilt, BootState::to_blob);
        let mut copies = Copies { copies: [ruling, spoilt], world: self };
        let started = loader::choose(&mut copies);
        let [a, b] = copies.copies;
        self.state = formats::boot_state::newest([&a, &b]).map(|(_, state)| state);
        self.forget_what_does_not_matter();
        started
    }

    fn by_version_0_1(&mut self) -> Option<(Slot, Boot)> {
        let afresh = || BootState { fallback: Some(Slot::B), ..BootState::fresh() };
        let state = self.state.get_or_insert_with(afresh);
        if let Some(slot) = state.trial.filter(|_| state.tries > 0) {
            state.tries -= 1;
            if self.is_loadable(slot) {
                return Some((slot, Boot::Trial));
            }
        }
        let state = self.state.get_or_insert_with(afresh);
        let active = (state.active, Boot::Active);
        let fallback = state.fallback.map(|slot| (slot, Boot::Fallback));
        let order = match fallback {
            Some(fallback) if state.strikes >= 5 => [Some(fallback), Some(active)],
            _ => [Some(active), fallback],
        };
        let started = order.into_iter().flatten().find(|(slot, _)| self.is_loadable(*slot));
        if let (Some(state), Some((_, Boot::Active))) = (&mut self.state, started) {
            state.strikes = state.strikes.saturating_add(1);
        }
        started
    }

    fn by_first_lives(&mut self, method: Method, cut: Option<usize>) -> Option<(Slot, Boot)> {
        let mut written = 0;
        for _ in 0..MOST_LIVES {
            let flagged = std::mem::take(&mut self.firmware.flag);
            let default = self.firmware.pointer.unwrap_or(Slot::A);
            let asked = if flagged { default.other() } else { default };
            // A partition that cannot be booted is passed over (PARTITION_WALK).
            let running =
                [asked, asked.other()].into_iter().find(|slot| self.is_loadable(*slot))?;
            let found = Found {
                method,
                state: self.state.clone(),
                pointer: self.firmware.pointer,
                running,
                flagged: flagged && running == asked,
            };
            let plan = plan(&found).ok()?;
            for write in plan.writes {
                match write {
                    Write::State(state) => self.state = Some(state),
                    Write::Pointer(slot) => self.firmware.pointer = Some(slot),
                }
                self.forget_what_does_not_matter();
                written += 1;
                if cut == Some(written) {
                    return None;
                }
            }
            match plan.then {
                Then::Boot(boot) => return Some((running, boot)),
                Then::Reset(_) => {}
                Then::ResetOnce(_) => self.firmware.flag = true,
            }
        }
        panic!("no slot goes on after {MOST_LIVES} resets: {self:?}");
    }
}
