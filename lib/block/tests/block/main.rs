//! The driver, without a disk.

mod config;
