//! A driver for virtio disks.
//!
//! So far it finds the registers of a disk ([`mod@config`]).

#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod config;
