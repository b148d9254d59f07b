//! U-Boot: `boot.scr` on the firmware partition counts and chooses, `slot.scr` on a slot's boot
//! partition starts its kernel. docs/choosers/uboot.md explains them.

mod script;

use anyhow::{Context, Result};
use formats::gpt;

use super::method::{
    BootKeys, BootMethod, Files, FirmwareParts, INITRD, KERNEL, PartitionTypes, SlotParts,
};
use super::target::Target;
use crate::config::board::loader::BootMemory;

/// Boards whose loader is U-Boot.
#[derive(Debug)]
pub struct Uboot;

impl BootMethod for Uboot {
    fn name(&self) -> &'static str {
        "uboot"
    }

    fn keys(&self) -> BootKeys {
        BootKeys { memory: true, ..BootKeys::default() }
    }

    fn partition_types(&self) -> PartitionTypes {
        PartitionTypes { firmware: gpt::EFI_SYSTEM, boot: gpt::LINUX_DATA }
    }

    fn firmware_files(&self, target: &Target, _: &FirmwareParts) -> Result<Files> {
        let script = script::boot_script(memory(target)?, target.watchdog)?;
        Ok(vec![(script::BOOT_SCRIPT.to_owned(), script::script_image(&script))])
    }

    fn slot_files(&self, target: &Target, parts: SlotParts) -> Result<Files> {
        let tree = parts.device_trees.first();
        let script = script::slot_script(
            memory(target)?,
            target.kernel_arguments,
            script::SlotFile { name: KERNEL, bytes: &parts.kernel },
            script::SlotFile { name: INITRD, bytes: &parts.initrd },
            tree.map(|(name, bytes)| script::SlotFile { name, bytes }),
        )?;
        let mut files = vec![
            (KERNEL.to_owned(), parts.kernel),
            (INITRD.to_owned(), parts.initrd),
            (script::SLOT_SCRIPT.to_owned(), script::script_image(&script)),
        ];
        files.extend(parts.device_trees);
        Ok(files)
    }
}

fn memory<'a>(target: &Target<'a>) -> Result<&'a BootMemory> {
    target.memory.with_context(|| {
        format!(
            "board {}: the uboot chooser needs [boot.memory] with `scratch` and `kernel`: addresses of free memory under this board's U-Boot",
            target.board
        )
    })
}
