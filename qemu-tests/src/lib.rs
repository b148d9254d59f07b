//! Boots real images in QEMU and breaks them.
