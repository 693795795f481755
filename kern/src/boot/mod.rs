//! From the boot loader to the first program.

pub mod command_line;
pub mod first_program;
pub mod kernel_map;
pub mod patch;
pub mod processors;
pub mod pvh;
