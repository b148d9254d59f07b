//! A slot's partitions as one stream: [`slot_reader`] of the slot that runs, through the page cache;
//! [`slot_writer`] of the idle one, past it.

pub mod slot_reader;
pub mod slot_writer;
