//! A slot's partitions as one stream: [`slot_reader`] reads the slot that runs, [`slot_writer`] writes
//! the idle one and reads back what is on the medium.

pub mod slot_reader;
pub mod slot_writer;
